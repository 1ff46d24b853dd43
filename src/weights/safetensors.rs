//! The safetensors container: 8 bytes of header length N (u64, little-endian), N bytes of JSON, then the data.
//!
//! Parsed here in u64, because the `safetensors` crate computes sizes in *bits* in `usize`: on wasm32 it refuses every
//! tensor of 512 MiB and every offset of 4 GiB. Natively it is the oracle of `tests/weights/headers.rs`. We are stricter where
//! its leniency could hide something: no duplicate keys, and caps on names, ranks and tensor counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::source::{Source, read_exact};
use crate::dtype::Element;
use crate::error::{Error, Result, brief};

/// Longest header, in bytes; the format's own limit.
pub const MAX_HEADER: u64 = 100_000_000;
/// Most tensors in one file, and in one checkpoint (the 72B model has about 1,400).
pub const MAX_TENSORS: usize = 200_000;
/// Most dimensions of one tensor.
pub const MAX_RANK: usize = 16;
/// Longest tensor name, in bytes.
pub const MAX_NAME: usize = 512;

/// One tensor of a file: what it is and where its bytes lie. Row-major ("C order"), little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the header.
    pub name: String,
    /// The element type.
    pub dtype: Element,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
    /// The file's name inside the checkpoint.
    pub file: String,
    /// Its bytes, counted from the start of the file.
    pub range: Range<u64>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: [u64; 2],
}

struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dims;
        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if dims.len() == MAX_RANK {
                        return Err(A::Error::custom("too many dimensions"));
                    }
                    dims.push(dim);
                }
                Ok(Shape(dims))
            }
        }
        deserializer.deserialize_seq(Dims)
    }
}

/// A JSON object's members with unique names, at most `MAX_TENSORS` of them.
pub(super) struct Unique<V>(pub BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Members<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    insert_unique(&mut members, name, map.next_value()?)?;
                }
                Ok(Unique(members))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

fn insert_unique<V, E: serde::de::Error>(members: &mut BTreeMap<String, V>, name: String, value: V) -> Result<(), E> {
    if name.len() > MAX_NAME {
        return Err(E::custom(format!("a name of {} bytes (at most {MAX_NAME})", name.len())));
    }
    if members.len() == MAX_TENSORS {
        return Err(E::custom(format!("more than {MAX_TENSORS} entries")));
    }
    // BTreeMap::insert would drop the first value; look before.
    if members.contains_key(&name) {
        return Err(E::custom(format!("duplicate key {name:?}")));
    }
    members.insert(name, value);
    Ok(())
}

/// `__metadata__`: strings to strings. Nobody here needs it, so it is checked and dropped.
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                while map.next_entry::<String, String>()?.is_some() {}
                Ok(Metadata)
            }
        }
        deserializer.deserialize_map(Strings)
    }
}

struct Table(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Table;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
                let mut tensors = BTreeMap::new();
                let mut metadata = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        if std::mem::replace(&mut metadata, true) {
                            return Err(A::Error::custom("duplicate key \"__metadata__\""));
                        }
                        map.next_value::<Option<Metadata>>()?;
                    } else {
                        insert_unique(&mut tensors, name, map.next_value()?)?;
                    }
                }
                Ok(Table(tensors))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

/// Parses the JSON of a file's header (without the 8 bytes before it) and checks it against the file's length.
///
/// The tensors come back in the order of their data. They cover the data without holes or overlaps, each exactly as
/// long as its shape and type say, and end where the file ends. The length of a tensor of a type that this version
/// does not know cannot be checked; such a tensor cannot be used either.
///
/// # Errors
/// [`Error::Malformed`] naming the file and the tensor.
pub fn parse(file: &str, header: &[u8], file_len: u64) -> Result<Vec<TensorInfo>> {
    let place = format!("{file} (header)");
    if header.first() != Some(&b'{') {
        let found = header.first().map_or("nothing".to_owned(), |b| format!("byte {b:#04x}"));
        return Err(Error::malformed(place, "JSON that starts with {", found));
    }
    let data_start = (header.len() as u64).checked_add(8).filter(|&start| start <= file_len);
    let data_start = data_start
        .ok_or_else(|| Error::malformed(file, "a file longer than its header", format!("{file_len} bytes")))?;
    let text = std::str::from_utf8(header).map_err(|e| Error::malformed(&place, "UTF-8", e.to_string()))?;
    let Table(entries) = serde_json::from_str(text)
        .map_err(|e| Error::malformed(&place, "a safetensors header", brief(&e.to_string())))?;

    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut at = 0u64;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let what = || format!("{place}, tensor {}", brief(&name));
        let [begin, end] = entry.data_offsets;
        if begin != at || end < begin || end > file_len - data_start {
            let expected = format!("data from {at} to at most {}", file_len - data_start);
            return Err(Error::malformed(what(), expected, format!("{begin}..{end}")));
        }
        at = end;
        let dtype = Element::parse(&entry.dtype);
        if let Some(bits) = dtype.bits() {
            let total = entry.shape.0.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).and_then(|n| n.checked_mul(bits));
            if total.is_none_or(|total| total % 8 != 0 || total / 8 != end - begin) {
                let expected = format!("as many bytes as {} {:?} has", brief(dtype.name()), entry.shape.0);
                return Err(Error::malformed(what(), expected, format!("{} bytes", end - begin)));
            }
        }
        // Cannot overflow: both ends were checked against file_len − data_start.
        let range = data_start + begin..data_start + end;
        tensors.push(TensorInfo { name, dtype, shape: entry.shape.0, file: file.to_owned(), range });
    }
    if at != file_len - data_start {
        let expected = format!("{at} bytes of data, as the header says");
        return Err(Error::malformed(file, expected, format!("{} bytes", file_len - data_start)));
    }
    Ok(tensors)
}

/// Reads and parses the header of `file`: two small reads.
///
/// # Errors
/// [`Error::Missing`] if there is no such file, [`Error::Malformed`] as in [`parse`], and the source's own errors.
pub async fn read_header(source: &dyn Source, file: &str) -> Result<Vec<TensorInfo>> {
    super::source::check_name(file)?;
    let file_len = source.size(file).await?.ok_or_else(|| Error::missing(file, "the checkpoint"))?;
    if file_len < 8 {
        return Err(Error::malformed(file, "at least 8 bytes", format!("{file_len} bytes")));
    }
    let prefix = read_exact(source, file, 0..8).await?;
    // read_exact checked that these are 8 bytes.
    let header_len = prefix.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
    if header_len > MAX_HEADER.min(file_len - 8) {
        let expected = format!("a header of at most {} bytes", MAX_HEADER.min(file_len - 8));
        return Err(Error::malformed(file, expected, format!("{header_len} bytes")));
    }
    let header = read_exact(source, file, 8..8 + header_len).await?;
    parse(file, &header, file_len)
}

/// A safetensors file of `(name, dtype, shape, little-endian bytes)`, for traces (`F32`, `I32`, …).
///
/// Elements of wider types come first and equal ones by name, as the `safetensors` crate lays them out, and the header
/// is padded to a multiple of 8, so every tensor is aligned in a mapped file.
///
/// # Errors
/// [`Error::Invalid`] on a repeated or reserved name, an unknown type, or bytes that do not fill the shape.
pub fn write(tensors: &[(&str, &str, &[u64], &[u8])]) -> Result<Vec<u8>> {
    let mut order: Vec<_> = tensors.iter().map(|t| (Element::parse(t.1).bits(), t)).collect();
    order.sort_by(|(a_bits, a), (b_bits, b)| b_bits.cmp(a_bits).then(a.0.cmp(b.0)));
    let mut header = String::from("{");
    let mut at = 0u64;
    let mut seen = BTreeSet::new();
    for (i, &(bits, &(name, dtype, shape, bytes))) in order.iter().enumerate() {
        if name == "__metadata__" || name.len() > MAX_NAME || shape.len() > MAX_RANK {
            return Err(Error::invalid("tensor", "a usable name and shape", brief(name)));
        }
        if !seen.insert(name) {
            return Err(Error::invalid("tensor name", "unique names", name));
        }
        let bits = bits.ok_or_else(|| Error::invalid(name, "a safetensors type", dtype))?;
        let total = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).and_then(|n| n.checked_mul(bits));
        if total != Some(bytes.len() as u64 * 8) {
            let expected = format!("the bytes of {dtype} {shape:?}");
            return Err(Error::invalid(name, expected, format!("{} bytes", bytes.len())));
        }
        let end = at + bytes.len() as u64;
        let comma = if i > 0 { "," } else { "" };
        let key = serde_json::Value::from(name);
        header += &format!(r#"{comma}{key}:{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{end}]}}"#);
        at = end;
    }
    header.push('}');
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    for (_, (_, _, _, bytes)) in order {
        out.extend_from_slice(bytes);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(header: &str, data: u64) -> Result<Vec<String>> {
        let tensors = parse("f", header.as_bytes(), 8 + header.len() as u64 + data)?;
        Ok(tensors.into_iter().map(|t| t.name).collect())
    }

    #[test]
    fn order_and_ranges() {
        let header = r#"{"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},"__metadata__":{"format":"pt"},
            "a":{"data_offsets":[0,4],"dtype":"BF16","shape":[2],"extra":[{}]}}"#;
        let tensors = parse("f", header.as_bytes(), 8 + header.len() as u64 + 28).unwrap();
        let start = 8 + header.len() as u64;
        assert_eq!(tensors[0].name, "a");
        assert_eq!(tensors[1].range, start + 4..start + 28);
        assert_eq!(tensors[1].shape, [2, 3]);
        assert_eq!(tensors[1].file, "f");
    }

    #[test]
    fn beyond_32_bits() {
        // The 3B embedding alone is 622 MB; a second tensor starts beyond 4 GiB.
        let gib5 = 5u64 << 30;
        let header = format!(
            r#"{{"e":{{"dtype":"BF16","shape":[{},2],"data_offsets":[0,{gib5}]}},"z":{{"dtype":"F32","shape":[1],"data_offsets":[{gib5},{}]}}}}"#,
            gib5 / 4,
            gib5 + 4
        );
        let tensors = parse("f", header.as_bytes(), 8 + header.len() as u64 + gib5 + 4).unwrap();
        assert_eq!(tensors[1].range.start, 8 + header.len() as u64 + gib5);
    }

    #[test]
    fn hostile_headers() {
        let ok = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        assert_eq!(names(ok, 4).unwrap(), ["a"]);
        assert!(names(ok, 3).is_err() && names(ok, 5).is_err() && names(ok, 0).is_err());
        assert_eq!(names("{}", 0).unwrap(), [""; 0]);
        assert!(names("{}", 1).is_err());
        let nul = r#"{"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},"__metadata__":null}"#;
        assert_eq!(names(nul, 0).unwrap(), ["a"]);
        for (bad, data) in [
            ("", 0),
            (" {}", 0),
            ("[]", 0),
            ("{", 0),
            ("{} x", 0),
            (r#"{"a":null}"#, 0),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4),
            (r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#, 1),
            (r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 0),
            (r#"{"a":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807],"data_offsets":[0,4]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[1]}}"#, 4),
            (r#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4),
            (r#"{"__metadata__":{"x":1},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4),
            (r#"{"__metadata__":{},"__metadata__":{}}"#, 0),
            // a hole, an overlap, a duplicate
            (
                r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#,
                3,
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
                3,
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
                2,
            ),
        ] {
            let error = names(bad, data).expect_err(bad);
            assert!(matches!(error, Error::Malformed { .. }), "{bad}: {error}");
        }
        // Twice the same entry would describe the file well if the second won.
        let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        assert!(names(twice, 1).unwrap_err().to_string().contains("duplicate key"));
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(names(&deep, 0).is_err());
        let flat = format!(r#"{{"a":{{"dtype":"U8","shape":[{}1],"data_offsets":[0,1]}}}}"#, "1,".repeat(1000));
        assert!(names(&flat, 1).is_err());
        let long = format!(r#"{{"{}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#, "x".repeat(100_000));
        let message = names(&long, 1).unwrap_err().to_string();
        assert!(message.len() < 500, "{}", message.len());
    }

    #[test]
    fn unknown_types_do_not_fail_until_used() {
        let header = r#"{"a":{"dtype":"F3","shape":[5],"data_offsets":[0,2]}}"#;
        let tensors = parse("f", header.as_bytes(), 8 + header.len() as u64 + 2).unwrap();
        assert_eq!(tensors[0].dtype, Element::Other("F3".into()));
        assert!(tensors[0].dtype.known("a").is_err());
    }

    #[test]
    fn written_files_parse() {
        let file = write(&[
            ("ids", "I32", &[2], &[1, 0, 0, 0, 2, 0, 0, 0]),
            ("half \"quoted\"\n", "F16", &[1], &[0, 0x3c]),
            ("empty", "F32", &[0, 3], &[]),
        ])
        .unwrap();
        let n = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        assert_eq!(n % 8, 0);
        let tensors = parse("t", &file[8..8 + n], file.len() as u64).unwrap();
        let half = tensors.iter().find(|t| t.name == "half \"quoted\"\n").unwrap();
        assert_eq!(file[half.range.start as usize..half.range.end as usize], [0, 0x3c]);
        assert_eq!(tensors.iter().filter(|t| t.name == "ids").count(), 1);
        assert!(write(&[("a", "F32", &[1], &[0; 3])]).is_err());
        assert!(write(&[("a", "F32", &[1], &[0; 4]), ("a", "I32", &[1], &[0; 4])]).is_err());
        assert!(write(&[("a", "F32", &[1], &[0; 4]), ("b", "U8", &[1], &[0]), ("a", "U8", &[1], &[0])]).is_err());
        assert!(write(&[("__metadata__", "F32", &[1], &[0; 4])]).is_err());
        assert!(write(&[("a", "Q", &[1], &[0; 4])]).is_err());
        assert!(write(&[]).is_ok());
    }
}
