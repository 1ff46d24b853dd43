//! The header of a GGUF file, written: version 3, little-endian (`docs/gguf.md` of ggml). [`super::transfer`] writes what
//! follows it.

use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// Tensors lie at multiples of this many bytes, the format's default.
pub const ALIGNMENT: u64 = 32;
/// Longest name of a tensor in bytes: `GGML_MAX_NAME` with its terminating zero.
const MAX_NAME: usize = 63;
/// Most dimensions (`GGML_MAX_DIMS`).
const MAX_DIMS: usize = 4;

/// A metadata value in the type that it has in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// `uint32`.
    Count(u32),
    /// `float32`.
    Number(f32),
    /// `bool`.
    Flag(bool),
    /// An array of `bool`.
    Flags(Vec<bool>),
    /// `string`.
    Text(String),
    /// An array of `int32`.
    Ints(Vec<i32>),
    /// An array of `float32`.
    Numbers(Vec<f32>),
    /// An array of `string`.
    Texts(Vec<String>),
    /// Type and value as another file has them ([`super::gguf::Gguf::places`]).
    Raw(Vec<u8>),
}

impl Entry {
    fn put(&self, out: &mut Vec<u8>) {
        let array = |out: &mut Vec<u8>, kind: u32, count: usize| {
            out.extend(9u32.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend((count as u64).to_le_bytes());
        };
        match self {
            Entry::Count(n) => out.extend([4u32.to_le_bytes(), n.to_le_bytes()].concat()),
            Entry::Number(x) => out.extend([6u32.to_le_bytes(), x.to_le_bytes()].concat()),
            Entry::Flag(on) => {
                out.extend(7u32.to_le_bytes());
                out.push(u8::from(*on));
            }
            Entry::Text(text) => {
                out.extend(8u32.to_le_bytes());
                put_text(text, out);
            }
            Entry::Ints(values) => {
                array(out, 5, values.len());
                values.iter().for_each(|n| out.extend(n.to_le_bytes()));
            }
            Entry::Flags(flags) => {
                array(out, 7, flags.len());
                out.extend(flags.iter().map(|on| u8::from(*on)));
            }
            Entry::Numbers(values) => {
                array(out, 6, values.len());
                values.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
            Entry::Texts(texts) => {
                array(out, 8, texts.len());
                texts.iter().for_each(|text| put_text(text, out));
            }
            Entry::Raw(bytes) => out.extend(bytes),
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// What the header says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first, as everywhere here; the file has them innermost first.
    pub shape: Vec<u64>,
}

impl Head {
    /// Bytes of the tensor, padding left out.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name or shape that the format does not hold, or rows that are no whole blocks.
    pub fn bytes(&self) -> Result<u64> {
        let refuse = |expected: String, found: String| Err(Error::invalid(&self.name, expected, found));
        if !(1..=MAX_NAME).contains(&self.name.len()) || !(1..=MAX_DIMS).contains(&self.shape.len()) {
            let expected = format!("a name of 1 to {MAX_NAME} bytes and 1 to {MAX_DIMS} dimensions");
            return refuse(expected, format!("{} bytes and {:?}", self.name.len(), self.shape));
        }
        let row = self.shape.last().copied().unwrap_or(0);
        let elements = self.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).filter(|n| *n > 0);
        match elements.and_then(|n| self.dtype.bytes_of(n)).filter(|_| row.is_multiple_of(self.dtype.block())) {
            Some(bytes) if bytes < 1 << 62 => Ok(bytes),
            _ => refuse(format!("rows of whole blocks of {}", self.dtype), format!("{:?}", self.shape)),
        }
    }
}

/// Bytes that follow `length` bytes of a file before the next tensor.
pub fn padding(length: u64) -> u64 {
    length.next_multiple_of(ALIGNMENT) - length
}

/// Everything before the data, up to where it begins. Tensors follow in this order, each padded to [`ALIGNMENT`].
///
/// # Errors
/// [`Error::Invalid`] as [`Head::bytes`].
pub fn header<'a>(
    entries: &[(String, Entry)],
    tensors: impl ExactSizeIterator<Item = &'a Head> + Clone,
) -> Result<Vec<u8>> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    for (key, entry) in entries {
        put_text(key, &mut out);
        entry.put(&mut out);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        put_text(&tensor.name, &mut out);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|d| out.extend(d.to_le_bytes()));
        out.extend(tensor.dtype.ggml_type().to_le_bytes());
        out.extend(offset.to_le_bytes());
        let end = offset.saturating_add(tensor.bytes()?);
        offset = end.saturating_add(padding(end.min(u64::MAX - ALIGNMENT)));
    }
    out.resize(out.len() + padding(out.len() as u64) as usize, 0);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dtype::Element;
    use crate::weights::gguf::{Value, parse};

    #[test]
    fn what_is_written_is_read() {
        let text = |s: &str| s.to_owned();
        let entries = [
            (text("b"), Entry::Text(text("é"))),
            (text("a"), Entry::Count(u32::MAX)),
            (text("c"), Entry::Number(0.25)),
            (text("d"), Entry::Flag(true)),
            (text("e"), Entry::Ints(vec![-1, 7])),
            (text("f"), Entry::Numbers(vec![0.5])),
            (text("g"), Entry::Texts(vec![String::new(), text("x")])),
            (text("h"), Entry::Raw(vec![0, 0, 0, 0, 9])),
        ];
        let head = |name: &str, dtype, shape: &[u64]| Head { name: text(name), dtype, shape: shape.to_vec() };
        let heads = [head("t", Dtype::F32, &[3]), head("u", Dtype::Q8_0, &[2, 64]), head("v", Dtype::F16, &[2, 3, 1])];
        let bytes = header(&entries, heads.iter()).unwrap();
        assert!(bytes.len().is_multiple_of(32));
        let size = bytes.len() as u64 + 32 + 160 + 12;
        let gguf = parse("f", &bytes, size).unwrap().unwrap();
        let expected = [
            ("a", Value::Int(u32::MAX.into())),
            ("b", Value::Text(text("é"))),
            ("c", Value::Float(0.25)),
            ("d", Value::Bool(true)),
            ("e", Value::Ints(vec![-1, 7])),
            ("f", Value::Floats(vec![0.5])),
            ("g", Value::Texts(vec![String::new(), text("x")])),
            ("h", Value::Int(9)),
        ];
        assert_eq!(gguf.metadata, BTreeMap::from(expected.map(|(key, value)| (text(key), value))));
        for (read, written) in gguf.tensors.iter().zip(&heads) {
            assert_eq!((&read.name, &read.shape), (&written.name, &written.shape));
            assert_eq!(read.dtype, Element::Known(written.dtype));
            assert_eq!(read.range.end - read.range.start, written.bytes().unwrap());
        }
        assert_eq!(gguf.tensors[2].range.end, size);
        // The places are those of the values.
        for ((key, place), (written, entry)) in gguf.places.iter().zip(&entries) {
            let mut value = Vec::new();
            entry.put(&mut value);
            assert_eq!((key, &bytes[place.start as usize..place.end as usize]), (written, &value[..]));
        }
        for bad in [
            head("", Dtype::F32, &[1]),
            head(&"n".repeat(64), Dtype::F32, &[1]),
            head("t", Dtype::F32, &[]),
            head("t", Dtype::F32, &[1; 5]),
            head("t", Dtype::F32, &[0]),
            head("t", Dtype::Q8_0, &[64, 16]),
            head("t", Dtype::F32, &[1 << 40, 1 << 40]),
        ] {
            assert!(header(&[], [&bad].into_iter()).is_err(), "{bad:?}");
        }
    }
}
