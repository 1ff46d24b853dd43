//! The objects and fields of a `config.json`: each is checked and bounded as it is read, and an error says which one it was.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::sizes::{MAX_LAYERS, MAX_PATCH};

/// The file's name.
pub const FILE: &str = "config.json";

/// Longest file, in bytes (the hub's are about 1.5 KB).
pub const MAX_FILE: usize = 4 << 20;

/// The file's bytes as JSON.
///
/// # Errors
/// [`Error::Malformed`] for anything else, or for more than [`MAX_FILE`] of them.
pub fn json(bytes: &[u8]) -> Result<Value> {
    if bytes.len() > MAX_FILE {
        let found = format!("{} bytes", bytes.len());
        return Err(Error::malformed(FILE, format!("at most {MAX_FILE} bytes"), found));
    }
    serde_json::from_slice(bytes).map_err(|e| Error::malformed(FILE, "a JSON object", e.to_string()))
}

/// A field of the file that is not as it has to be.
pub fn bad(field: impl AsRef<str>, expected: impl Into<String>, found: impl ToString) -> Error {
    Error::malformed(format!("{FILE}: {}", field.as_ref()), expected, found.to_string())
}

/// Something that is valid in the file and that no graph here computes.
pub fn unsupported(found: impl Into<String>, expected: impl Into<String>) -> Error {
    Error::UnsupportedModel { found: found.into(), expected: expected.into() }
}

/// A value as text, cut off if it is long.
pub(super) fn kind(value: &Value) -> String {
    clip(&value.to_string())
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// An object of the file and the way to it, for messages. `null` members count as absent; each reader gives [`Error::Malformed`]
/// naming the field where it holds something else.
pub struct Section<'a> {
    pub(super) path: String,
    pub(super) map: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    pub(super) fn new(path: &str, value: &'a Value) -> Result<Self> {
        match value.as_object() {
            Some(map) if path.is_empty() => Ok(Section { path: String::new(), map }),
            Some(map) => Ok(Section { path: format!("{path}."), map }),
            None => Err(bad(path, "an object", kind(value))),
        }
    }

    /// The field's name behind those of the objects that it lies in, for messages.
    pub fn at(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// The field's value, unless it is absent or `null`.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn section(&self, name: &str) -> Result<Option<Section<'a>>> {
        self.get(name).map(|value| Section::new(&self.at(name), value)).transpose()
    }

    /// A whole number from 0 to `most`.
    pub fn natural(&self, name: &str, default: usize, most: usize) -> Result<usize> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= most);
        number.ok_or_else(|| bad(self.at(name), format!("a whole number up to {most}"), kind(value)))
    }

    /// A whole number from 1 to `most`.
    pub fn count(&self, name: &str, default: usize, most: usize) -> Result<usize> {
        match self.natural(name, default, most)? {
            0 => Err(bad(self.at(name), format!("a number from 1 to {most}"), 0)),
            n => Ok(n),
        }
    }

    /// A patch side: a number, or a list that repeats one.
    pub(super) fn side(&self, name: &str, default: usize) -> Result<usize> {
        if let Some(value @ Value::Array(list)) = self.get(name) {
            let side = list.first().and_then(Value::as_u64).filter(|_| list.iter().all(|v| v == &list[0]));
            return side
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| (1..=MAX_PATCH).contains(n))
                .ok_or_else(|| bad(self.at(name), "equal sides", kind(value)));
        }
        self.count(name, default, MAX_PATCH)
    }

    /// A number from `least` to `most`.
    pub fn number(&self, name: &str, default: f64, least: f64, most: f64) -> Result<f64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.as_f64().filter(|n| (least..=most).contains(n));
        number.ok_or_else(|| bad(self.at(name), format!("a number from {least} to {most}"), kind(value)))
    }

    /// True or false.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| bad(self.at(name), "true or false", kind(value)))
    }

    /// A string, cut off if it is long.
    pub fn text(&self, name: &str, default: &str) -> Result<String> {
        let Some(value) = self.get(name) else { return Ok(default.to_owned()) };
        value.as_str().map(clip).ok_or_else(|| bad(self.at(name), "a string", kind(value)))
    }

    pub(super) fn id(&self, name: &str, default: u32) -> Result<u32> {
        self.get(name).map_or(Ok(default), |value| self.as_id(name, value))
    }

    pub(super) fn as_id(&self, name: &str, value: &Value) -> Result<u32> {
        let id = value.as_u64().and_then(|n| u32::try_from(n).ok());
        id.ok_or_else(|| bad(self.at(name), "a token id", kind(value)))
    }

    pub(super) fn divides(&self, name: &str, divisor: usize, of: &str, number: usize) -> Result<()> {
        if number.is_multiple_of(divisor) {
            return Ok(());
        }
        Err(bad(self.at(name), format!("a divisor of {of} {number}"), divisor))
    }

    /// Refuses another activation than the one that the family's graph has.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`].
    pub fn activation(&self, expected: &str) -> Result<()> {
        let act = self.text("hidden_act", expected)?;
        if act == expected { Ok(()) } else { Err(unsupported(format!("{}hidden_act {act}", self.path), expected)) }
    }

    /// A list of numbers of blocks below `depth`, in the file's order.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn blocks(&self, name: &str, default: &[usize]) -> Result<Vec<usize>> {
        let Some(value) = self.get(name) else { return Ok(default.to_vec()) };
        let list = value.as_array().filter(|list| list.len() <= MAX_LAYERS);
        let blocks = list.and_then(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>());
        let blocks = blocks.ok_or_else(|| bad(self.at(name), "a list of block numbers", kind(value)))?;
        Ok(blocks.into_iter().map(|i| usize::try_from(i).unwrap_or(usize::MAX)).collect())
    }
}
