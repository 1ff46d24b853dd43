//! The header of a GGUF file: metadata and the table of tensors, versions 2 and 3 (`docs/gguf.md` of ggml).
//!
//! Every length comes from a file that somebody else wrote. So each is compared, in u64, with what is left of the file before
//! anything is allocated.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::safetensors::{MAX_TENSORS, TensorInfo};
use super::source::{Source, read_exact};
use crate::dtype::{Dtype, Element};
use crate::error::{Error, Result, brief};

/// Longest header, in bytes: a vocabulary of 250,000 tokens with its merges takes about 15 MB.
const MAX_HEADER: u64 = 256 << 20;
/// Bytes that are read first. If the header is longer, four times as many are read.
const FIRST_READ: u64 = 1 << 20;
/// Most metadata entries (released files have about 30).
const MAX_ENTRIES: u64 = 1 << 16;
/// Most values of an array of integers of one or two bytes.
const MAX_SMALL: u64 = 1 << 20;
/// Longest key or tensor name; ggml itself allows 64 bytes for a tensor.
const MAX_NAME: u64 = 255;
/// Most dimensions (`GGML_MAX_DIMS`).
const MAX_DIMS: u32 = 4;
/// Largest alignment of the tensors' data.
const MAX_ALIGNMENT: u64 = 1 << 20;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any of the integer types.
    Int(i128),
    /// Either of the float types.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A string.
    Text(String),
    /// An array of integers or booleans (0 and 1).
    Ints(Vec<i64>),
    /// An array of floats.
    Floats(Vec<f64>),
    /// An array of strings.
    Texts(Vec<String>),
}

/// What a GGUF file says before its data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gguf {
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// Keys in the file's order, and which bytes of the file have their values (the type before a value included).
    pub places: Vec<(String, Range<u64>)>,
    /// The tensors, in the file's order; shapes are outermost first, as everywhere here (GGUF writes them innermost
    /// first). A tensor of a type that is not a [`Dtype`] has an empty range.
    pub tensors: Vec<TensorInfo>,
}

impl Gguf {
    /// Reads the header of `file`.
    ///
    /// # Errors
    /// [`Error::Missing`] or another error of the source, [`Error::Malformed`] as [`parse`].
    pub async fn read(source: &dyn Source, file: &str) -> Result<Self> {
        let size = source.size(file).await?.ok_or_else(|| Error::missing(file, source.place()))?;
        let mut length = FIRST_READ.min(size);
        loop {
            let bytes = read_exact(source, file, 0..length).await?;
            match parse(file, &bytes, size)? {
                Some(gguf) => return Ok(gguf),
                None if length == size => {
                    return Err(Error::malformed(file, "a whole GGUF header", "a file that ends inside it"));
                }
                None if length >= MAX_HEADER => {
                    return Err(Error::malformed(
                        file,
                        format!("a header of at most {MAX_HEADER} bytes"),
                        "a longer one",
                    ));
                }
                None => length = (4 * length).min(size).min(MAX_HEADER),
            }
        }
    }

    /// A whole number that must be there.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is absent, negative or of another type.
    pub fn count(&self, key: &str) -> Result<u64> {
        match self.metadata.get(key) {
            Some(Value::Int(n)) if u64::try_from(*n).is_ok() => Ok(*n as u64),
            other => Err(wrong(key, "a whole number", other)),
        }
    }

    /// A number, if it is there.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is of another type.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(x)) => Ok(Some(*x)),
            Some(Value::Int(n)) => Ok(Some(*n as f64)),
            other => Err(wrong(key, "a number", other)),
        }
    }

    /// A string, if it is there.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is of another type.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            other => Err(wrong(key, "a string", other)),
        }
    }

    /// Strings that must be there.
    ///
    /// # Errors
    /// [`Error::Malformed`] if they are absent or of another type.
    pub fn texts(&self, key: &str) -> Result<&[String]> {
        match self.metadata.get(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            other => Err(wrong(key, "an array of strings", other)),
        }
    }

    /// Integers, if they are there.
    ///
    /// # Errors
    /// [`Error::Malformed`] if they are of another type.
    pub fn ints(&self, key: &str) -> Result<Option<&[i64]>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Ints(ints)) => Ok(Some(ints)),
            other => Err(wrong(key, "an array of integers", other)),
        }
    }
}

fn wrong(key: &str, expected: &str, found: Option<&Value>) -> Error {
    let found = match found {
        None => "nothing",
        Some(Value::Int(_)) => "a negative or too large integer",
        Some(Value::Float(_)) => "a float",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Text(_)) => "a string",
        Some(Value::Ints(_)) => "an array of integers",
        Some(Value::Floats(_)) => "an array of floats",
        Some(Value::Texts(_)) => "an array of strings",
    };
    Error::malformed(format!("GGUF metadata {}", brief(key)), expected, found)
}

/// Why parsing stopped.
enum Stop {
    /// The header goes on after the bytes that have been read.
    More,
    Bad(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Bad(error)
    }
}

type Step<T> = std::result::Result<T, Stop>;

/// The bytes of a header that have been read, and the length of the whole file.
struct Cursor<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
    size: u64,
}

impl<'a> Cursor<'a> {
    fn bad<T>(&self, expected: impl Into<String>, found: impl Into<String>) -> Step<T> {
        Err(Stop::Bad(Error::malformed(self.file, expected, found)))
    }

    fn take(&mut self, count: u64) -> Step<&'a [u8]> {
        if count > self.size - self.at as u64 {
            let left = self.size - self.at as u64;
            return self.bad(format!("{count} more bytes at {}", self.at), format!("{left} to the end of the file"));
        }
        // Cannot overflow: the file is at least this long.
        let end = self.at as u64 + count;
        if end > self.bytes.len() as u64 {
            return Err(Stop::More);
        }
        let taken = &self.bytes[self.at..end as usize];
        self.at = end as usize;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    fn u32(&mut self) -> Step<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Step<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn string(&mut self) -> Step<String> {
        let length = self.u64()?;
        let at = self.at;
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => self.bad("strings of UTF-8", format!("other bytes at {at}")),
        }
    }

    fn name(&mut self) -> Step<String> {
        let name = self.string()?;
        if name.is_empty() || name.len() as u64 > MAX_NAME {
            return self.bad(format!("names of 1 to {MAX_NAME} bytes"), format!("{} bytes", name.len()));
        }
        Ok(name)
    }

    /// Room for `count` values that take at least `least` bytes each, if the file can hold them.
    fn room<T>(&self, count: u64, least: u64) -> Step<Vec<T>> {
        if count > (self.size - self.at as u64) / least {
            return self.bad("arrays that the file can hold", format!("one of {count} values at {}", self.at));
        }
        // Nothing is allocated for values that have not been read: parsing starts again once they have.
        if count > (self.bytes.len() - self.at) as u64 / least {
            return Err(Stop::More);
        }
        let count =
            usize::try_from(count).map_err(|_| Error::NoMemory { what: "a GGUF header".into(), bytes: count })?;
        Ok(crate::error::room(count, "a GGUF header")?)
    }

    fn integer(&mut self, kind: u32) -> Step<i128> {
        Ok(match kind {
            0 => i128::from(u8::from_le_bytes(self.array()?)),
            1 => i128::from(i8::from_le_bytes(self.array()?)),
            2 => i128::from(u16::from_le_bytes(self.array()?)),
            3 => i128::from(i16::from_le_bytes(self.array()?)),
            4 => i128::from(self.u32()?),
            5 => i128::from(i32::from_le_bytes(self.array()?)),
            7 => match self.array::<1>()?[0] {
                byte @ (0 | 1) => i128::from(byte),
                byte => return self.bad("booleans of 0 or 1", byte.to_string()),
            },
            10 => i128::from(self.u64()?),
            11 => i128::from(i64::from_le_bytes(self.array()?)),
            other => return self.bad("value types 0 to 12", other.to_string()),
        })
    }

    fn float(&mut self, kind: u32) -> Step<f64> {
        if kind == 6 {
            self.array().map(f32::from_le_bytes).map(f64::from)
        } else {
            self.array().map(f64::from_le_bytes)
        }
    }

    fn value(&mut self) -> Step<Value> {
        const BYTES: [u64; 13] = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];
        match self.u32()? {
            8 => self.string().map(Value::Text),
            7 => self.integer(7).map(|n| Value::Bool(n == 1)),
            kind @ (6 | 12) => self.float(kind).map(Value::Float),
            9 => {
                let (kind, count) = (self.u32()?, self.u64()?);
                let Some(&least) = BYTES.get(kind as usize).filter(|_| kind != 9) else {
                    return self.bad("arrays of plain values", format!("an array of type {kind}"));
                };
                match kind {
                    8 => {
                        let mut texts = self.room(count, least)?;
                        for _ in 0..count {
                            texts.push(self.string()?);
                        }
                        Ok(Value::Texts(texts))
                    }
                    6 | 12 => {
                        let mut floats = self.room(count, least)?;
                        for _ in 0..count {
                            floats.push(self.float(kind)?);
                        }
                        Ok(Value::Floats(floats))
                    }
                    _ => {
                        // They are held in eight bytes each. No array of bytes that is of use here is long.
                        if least < 4 && count > MAX_SMALL {
                            return self
                                .bad(format!("arrays of at most {MAX_SMALL} small integers"), count.to_string());
                        }
                        let mut ints = self.room(count, least)?;
                        for _ in 0..count {
                            let n = self.integer(kind)?;
                            match i64::try_from(n) {
                                Ok(n) => ints.push(n),
                                Err(_) => return self.bad("array integers below 2^63", n.to_string()),
                            }
                        }
                        Ok(Value::Ints(ints))
                    }
                }
            }
            kind => self.integer(kind).map(Value::Int),
        }
    }

    /// One entry of the tensor table; the range still counts from the start of the data.
    fn tensor(&mut self) -> Step<TensorInfo> {
        let name = self.name()?;
        let dims = self.u32()?;
        if dims > MAX_DIMS {
            return self.bad(format!("at most {MAX_DIMS} dimensions"), format!("{dims} in tensor {}", brief(&name)));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            shape.push(self.u64()?);
        }
        let (number, offset) = (self.u32()?, self.u64()?);
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).filter(|n| *n <= i64::MAX as u64);
        let Some(elements) = elements.filter(|n| *n > 0) else {
            return self.bad("1 to 2^63 elements in a tensor", format!("tensor {} of {shape:?}", brief(&name)));
        };
        let (dtype, bytes) = match Dtype::from_ggml_type(number) {
            None => (Element::Other(format!("GGML type {number}")), 0),
            Some(dtype) => {
                let row = shape.first().copied().unwrap_or(1);
                let Some(bytes) = dtype.bytes_of(elements).filter(|_| row.is_multiple_of(dtype.block())) else {
                    let expected = format!("rows of a multiple of {} elements", dtype.block());
                    return self.bad(expected, format!("tensor {} of {dtype} {shape:?}", brief(&name)));
                };
                (Element::Known(dtype), bytes)
            }
        };
        let Some(end) = offset.checked_add(bytes) else {
            return self.bad("offsets below 2^64", format!("{offset} for tensor {}", brief(&name)));
        };
        shape.reverse();
        Ok(TensorInfo { name, dtype, shape, file: self.file.to_owned(), range: offset..end })
    }

    fn header(&mut self) -> Step<Gguf> {
        if self.size < 24 || self.take(4)? != b"GGUF" {
            return self.bad("a GGUF file", "one that does not begin with GGUF");
        }
        match self.u32()? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 2 | 3) => {
                return self.bad("little-endian numbers", "a GGUF file for big-endian machines");
            }
            version => return self.bad("GGUF version 2 or 3", version.to_string()),
        }
        let (tensor_count, entries) = (self.u64()?, self.u64()?);
        if tensor_count > MAX_TENSORS as u64 || entries > MAX_ENTRIES {
            let expected = format!("at most {MAX_TENSORS} tensors and {MAX_ENTRIES} metadata entries");
            return self.bad(expected, format!("{tensor_count} and {entries}"));
        }
        let (mut metadata, mut places) = (BTreeMap::new(), Vec::new());
        for _ in 0..entries {
            let key = self.name()?;
            let start = self.at as u64;
            let value = self.value()?;
            if metadata.contains_key(&key) {
                return self.bad("metadata keys that occur once", brief(&key));
            }
            places.push((key.clone(), start..self.at as u64));
            metadata.insert(key, value);
        }
        let mut tensors = self.room(tensor_count, 24)?;
        let mut names = BTreeSet::new();
        for _ in 0..tensor_count {
            let tensor = self.tensor()?;
            if !names.insert(tensor.name.clone()) {
                return self.bad("tensor names that occur once", brief(&tensor.name));
            }
            tensors.push(tensor);
        }
        let mut gguf = Gguf { metadata, places, tensors };
        self.place(&mut gguf)?;
        Ok(gguf)
    }

    /// Makes all ranges count from the start of the file, and checks that they lie in it and do not overlap.
    fn place(&self, gguf: &mut Gguf) -> Step<()> {
        let alignment = match gguf.metadata.get("general.alignment") {
            None => 32,
            Some(_) => gguf.count("general.alignment")?,
        };
        if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
            return self.bad("an alignment that is a power of two", alignment.to_string());
        }
        let start = (self.at as u64).next_multiple_of(alignment);
        for tensor in &mut gguf.tensors {
            let Range { start: offset, end } = tensor.range;
            let end = end.checked_add(start).filter(|end| *end <= self.size);
            let (Some(end), true) = (end, offset.is_multiple_of(alignment)) else {
                let expected = format!("tensors at multiples of {alignment} within {} bytes", self.size);
                return self.bad(expected, format!("tensor {} at {offset}", brief(&tensor.name)));
            };
            tensor.range = start + offset..end;
        }
        let mut ranges: Vec<_> = gguf.tensors.iter().filter(|t| !t.range.is_empty()).collect();
        ranges.sort_by_key(|t| t.range.start);
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].range.end > pair[1].range.start) {
            let found = format!("tensor {} inside tensor {}", brief(&pair[1].name), brief(&pair[0].name));
            return self.bad("tensors that do not overlap", found);
        }
        Ok(())
    }
}

/// The header in `bytes`, the beginning of a file of `size` bytes; `None` if the header is longer than these.
///
/// # Errors
/// [`Error::Malformed`] for anything but a GGUF header of version 2 or 3 whose tensors lie in the file.
pub fn parse(file: &str, bytes: &[u8], size: u64) -> Result<Option<Gguf>> {
    let mut cursor = Cursor { file, bytes, at: 0, size };
    match cursor.header() {
        Ok(gguf) => Ok(Some(gguf)),
        Err(Stop::More) => Ok(None),
        Err(Stop::Bad(error)) => Err(error),
    }
}
