//! What somebody wants of a model: formats, context, size of pictures, and how much memory there is for all of it.

use std::fmt;
use std::str::FromStr;

use crate::dtype::CacheFormat;
use crate::error::{Error, Result};
use crate::weights::quantize::Formats;

/// In which formats floats are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// The first of [`Formats::LADDER`] that fits the memory.
    Auto,
    /// These. Then nothing else is changed either.
    Fixed(Formats),
}

/// `auto`, or what [`Formats`] are written as.
impl FromStr for Weights {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" { Ok(Weights::Auto) } else { text.parse().map(Weights::Fixed) }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weights::Auto => f.write_str("auto"),
            Weights::Fixed(formats) => formats.fmt(f),
        }
    }
}

/// What is wanted. With [`Weights::Auto`] context and max_pixels are the most that is wanted, and a cache that is left open
/// is chosen too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Formats of the weights.
    pub weights: Weights,
    /// Format of keys and values; `None` for f32, which `auto` may lower.
    pub cache: Option<CacheFormat>,
    /// Tokens of the longest conversation.
    pub context: usize,
    /// Pixels of the largest picture; `None` for what the checkpoint's preprocessor says.
    pub max_pixels: Option<u64>,
    /// Bytes that may be used. WebGPU does not say how many there are, so `None` means that nothing is known.
    pub memory: Option<u64>,
}

/// Reads a number of bytes: `4GiB`, `512MiB`, `1.5GB`, `800000000`.
///
/// # Errors
/// [`Error::Invalid`].
pub fn parse_bytes(text: &str) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1048576.0,
        "gib" => 1073741824.0,
        _ => f64::NAN,
    };
    let bytes = number.parse::<f64>().map_or(f64::NAN, |n| n * scale);
    if bytes >= 1.0 && bytes < 2f64.powi(53) {
        return Ok(bytes as u64);
    }
    Err(Error::invalid("memory size", "bytes such as 4GiB, 512MiB or 800000000", text))
}
