//! Element types: what a checkpoint stores, how many bytes it takes, and how it is laid out on the device.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

use crate::error::{Error, Result};

/// An element type that the weights of a checkpoint can have: a float, or a block of quantized numbers as GGUF defines it
/// (`ggml-common.h`; `gguf/quants.py` of the Python package).
///
/// The device keeps the checkpoint's own precision: bf16 stays bf16 and a quantized block keeps its codes and scales, so
/// loading never rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// 32 signed bytes and a scale.
    Q8_0,
    /// 32 numbers of 4 bits and a scale.
    Q4_0,
    /// 32 numbers of 4 bits, a scale and a minimum.
    Q4_1,
    /// 32 numbers of 5 bits and a scale.
    Q5_0,
    /// 32 numbers of 5 bits, a scale and a minimum.
    Q5_1,
    /// 256 numbers of 2 bits, with a 4-bit scale and minimum for every 16.
    Q2K,
    /// 256 numbers of 3 bits, with a 6-bit scale for every 16.
    Q3K,
    /// 256 numbers of 4 bits, with a 6-bit scale and minimum for every 32.
    Q4K,
    /// 256 numbers of 5 bits, with a 6-bit scale and minimum for every 32.
    Q5K,
    /// 256 numbers of 6 bits, with an 8-bit scale for every 16.
    Q6K,
    /// 32 indices of 4 bits into a table, and a scale.
    Iq4Nl,
    /// 256 indices of 4 bits into a table, with a 6-bit scale for every 32.
    Iq4Xs,
}

impl Dtype {
    /// All element types, for test tables.
    pub const ALL: [Dtype; 15] = [
        Dtype::F32,
        Dtype::F16,
        Dtype::BF16,
        Dtype::Q8_0,
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q5_0,
        Dtype::Q5_1,
        Dtype::Q2K,
        Dtype::Q3K,
        Dtype::Q4K,
        Dtype::Q5K,
        Dtype::Q6K,
        Dtype::Iq4Nl,
        Dtype::Iq4Xs,
    ];

    /// The float types, which are the ones that a safetensors file can hold.
    pub const FLOATS: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

    /// The name in a safetensors header (`F32`, `F16`, `BF16`), or the name in GGML (`Q4_K`).
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::Q8_0 => "Q8_0",
            Dtype::Q4_0 => "Q4_0",
            Dtype::Q4_1 => "Q4_1",
            Dtype::Q5_0 => "Q5_0",
            Dtype::Q5_1 => "Q5_1",
            Dtype::Q2K => "Q2_K",
            Dtype::Q3K => "Q3_K",
            Dtype::Q4K => "Q4_K",
            Dtype::Q5K => "Q5_K",
            Dtype::Q6K => "Q6_K",
            Dtype::Iq4Nl => "IQ4_NL",
            Dtype::Iq4Xs => "IQ4_XS",
        }
    }

    /// The number of this type in a GGUF file (`enum ggml_type`).
    pub fn ggml_type(self) -> u32 {
        match self {
            Dtype::F32 => 0,
            Dtype::F16 => 1,
            Dtype::Q4_0 => 2,
            Dtype::Q4_1 => 3,
            Dtype::Q5_0 => 6,
            Dtype::Q5_1 => 7,
            Dtype::Q8_0 => 8,
            Dtype::Q2K => 10,
            Dtype::Q3K => 11,
            Dtype::Q4K => 12,
            Dtype::Q5K => 13,
            Dtype::Q6K => 14,
            Dtype::Iq4Nl => 20,
            Dtype::Iq4Xs => 23,
            Dtype::BF16 => 30,
        }
    }

    /// The type with this number in a GGUF file, if it is supported.
    pub fn from_ggml_type(number: u32) -> Option<Self> {
        Dtype::ALL.into_iter().find(|d| d.ggml_type() == number)
    }

    /// The number of elements of a block: 1 for floats, otherwise 32 or 256. A row is a whole number of blocks.
    pub fn block(self) -> u64 {
        match self {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => 1,
            Dtype::Q8_0 | Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q5_0 | Dtype::Q5_1 | Dtype::Iq4Nl => 32,
            Dtype::Q2K | Dtype::Q3K | Dtype::Q4K | Dtype::Q5K | Dtype::Q6K | Dtype::Iq4Xs => 256,
        }
    }

    /// Bytes of one block in a file.
    pub fn block_bytes(self) -> u64 {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::Q8_0 => 34,
            Dtype::Q4_0 | Dtype::Iq4Nl => 18,
            Dtype::Q4_1 => 20,
            Dtype::Q5_0 => 22,
            Dtype::Q5_1 => 24,
            Dtype::Q2K => 84,
            Dtype::Q3K => 110,
            Dtype::Q4K => 144,
            Dtype::Q5K => 176,
            Dtype::Q6K => 210,
            Dtype::Iq4Xs => 136,
        }
    }

    /// Bytes of `elements` elements in a file; `None` if they are not a whole number of blocks or overflow.
    pub fn bytes_of(self, elements: u64) -> Option<u64> {
        if !elements.is_multiple_of(self.block()) {
            return None;
        }
        (elements / self.block()).checked_mul(self.block_bytes())
    }

    /// The layout of this type on the device.
    pub fn layout(self) -> Layout {
        match self {
            Dtype::F32 => Layout::F32,
            Dtype::F16 => Layout::F16,
            Dtype::BF16 => Layout::Bf16,
            Dtype::Q8_0 => Layout::Q8,
            Dtype::Q4_0 | Dtype::Q4_1 => Layout::Q4,
            Dtype::Q5_0 | Dtype::Q5_1 => Layout::Q5,
            Dtype::Q2K => Layout::Q2K,
            Dtype::Q3K => Layout::Q3K,
            Dtype::Q4K => Layout::Q4K,
            Dtype::Q5K => Layout::Q5K,
            Dtype::Q6K => Layout::Q6K,
            Dtype::Iq4Nl => Layout::Iq4Nl,
            Dtype::Iq4Xs => Layout::Iq4Xs,
        }
    }

    /// Widens little-endian floats to f32, which is exact for all three types. For quantized blocks, see
    /// [`crate::weights::repack`].
    ///
    /// # Errors
    /// [`Error::Invalid`] if `bytes` is not a whole number of elements, or the type is not a float.
    pub fn to_f32(self, bytes: &[u8]) -> Result<Vec<f32>> {
        let size = self.block_bytes() as usize;
        if !bytes.len().is_multiple_of(size) {
            let expected = format!("a multiple of {size} bytes");
            return Err(Error::invalid(format!("{self} data"), expected, format!("{} bytes", bytes.len())));
        }
        Ok(match self {
            Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            _ => return Err(Error::invalid("elements to widen", "F32, F16 or BF16", self.name())),
        })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The layout of a row of a weight matrix on the device. A row consists of planes (all elements, then all scales, and so on) in
/// whole words, so that a kernel can compute the place of each item with a shift. `shaders/weight/` has a fragment for each
/// layout, whose comment lists the planes and says in which order high bits lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper halves of 32-bit floats.
    Bf16,
    /// Signed bytes, with a scale for every 32.
    Q8,
    /// 4 bits, with a scale and a minimum for every 32.
    Q4,
    /// 5 bits, with a scale and a minimum for every 32.
    Q5,
    /// 2 bits, with scales and minima for every 16, which are scaled by those for 256.
    Q2K,
    /// 3 bits, with scales for every 16, which are scaled by one for 256.
    Q3K,
    /// 4 bits, with scales and minima for every 32, which are scaled by those for 256.
    Q4K,
    /// 5 bits, with scales and minima for every 32, which are scaled by those for 256.
    Q5K,
    /// 6 bits, with scales for every 16, which are scaled by one for 256.
    Q6K,
    /// Indices of 4 bits into a table, with a scale for every 32.
    Iq4Nl,
    /// Indices of 4 bits into a table, with scales for every 32, which are scaled by one for 256.
    Iq4Xs,
    /// 4 bits, with a scale and a zero point for each group, for AWQ and GPTQ.
    G4 {
        /// The number of elements in a group: 32, 64 or 128.
        group: u16,
    },
    /// Unsigned bytes, with a scale and a zero point for each group, for GPTQ.
    G8 {
        /// The number of elements in a group: 32, 64 or 128.
        group: u16,
    },
}

/// How many bytes 16 elements take in each plane of a row, see [`Layout::planes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planes {
    /// Bytes of the elements, or of their low bits.
    pub low: u64,
    /// Bytes of the elements' high bits.
    pub high: u64,
    /// Half bytes of the scales of sub-blocks, since 32 elements may share one byte.
    pub sub_halves: u64,
    /// Whether every 256 elements have another word for their scale.
    pub super_block: bool,
}

impl Layout {
    /// All layouts, for test tables. Those with groups occur with one group size.
    pub const ALL: [Layout; 15] = [
        Layout::F32,
        Layout::F16,
        Layout::Bf16,
        Layout::Q8,
        Layout::Q4,
        Layout::Q5,
        Layout::Q2K,
        Layout::Q3K,
        Layout::Q4K,
        Layout::Q5K,
        Layout::Q6K,
        Layout::Iq4Nl,
        Layout::Iq4Xs,
        Layout::G4 { group: 128 },
        Layout::G8 { group: 32 },
    ];

    /// The planes of a row.
    pub fn planes(self) -> Planes {
        let planes = |low, high, sub_halves, super_block| Planes { low, high, sub_halves, super_block };
        match self {
            Layout::F32 => planes(64, 0, 0, false),
            Layout::F16 | Layout::Bf16 => planes(32, 0, 0, false),
            Layout::Q8 => planes(16, 0, 2, false),
            Layout::Q4 => planes(8, 0, 4, false),
            Layout::Q5 => planes(8, 2, 4, false),
            Layout::Q2K => planes(4, 0, 2, true),
            Layout::Q3K => planes(4, 2, 2, true),
            Layout::Q4K => planes(8, 0, 2, true),
            Layout::Q5K => planes(8, 2, 2, true),
            Layout::Q6K => planes(8, 4, 2, true),
            Layout::Iq4Nl => planes(8, 0, 2, false),
            Layout::Iq4Xs => planes(8, 0, 1, true),
            // The scale and zero point of a group take four bytes.
            Layout::G4 { group } => planes(8, 0, 128 / u64::from(group), false),
            Layout::G8 { group } => planes(16, 0, 128 / u64::from(group), false),
        }
    }

    /// The columns of a row are padded to a multiple of this many elements.
    pub fn unit(self) -> u64 {
        match self {
            Layout::F32 | Layout::F16 | Layout::Bf16 => 16,
            Layout::G4 { group } | Layout::G8 { group } => group.into(),
            _ if self.planes().super_block => 256,
            _ => 32,
        }
    }

    /// The number of groups of 16 elements in a row of `cols` elements, padding included. `None` on overflow.
    pub fn groups(self, cols: u64) -> Option<u64> {
        Some(cols.checked_next_multiple_of(self.unit())? / 16)
    }

    /// The number of words of a row of `cols` elements. It is a multiple of 4, so that every row is aligned to 16 bytes. `None`
    /// on overflow.
    pub fn row_words(self, cols: u64) -> Option<u64> {
        let groups = self.groups(cols)?;
        let p = self.planes();
        let per_group = p.low + p.high;
        let bytes = groups.checked_mul(per_group)?;
        let bytes = bytes.checked_add((groups * p.sub_halves / 2).next_multiple_of(4))?;
        let bytes = bytes.checked_add(if p.super_block { groups / 4 } else { 0 })?;
        Some(bytes.checked_next_multiple_of(16)? / 4)
    }

    /// The name in messages and reports.
    pub fn name(self) -> &'static str {
        match self {
            Layout::F32 => "f32",
            Layout::F16 => "f16",
            Layout::Bf16 => "bf16",
            Layout::Q8 => "q8",
            Layout::Q4 => "q4",
            Layout::Q5 => "q5",
            Layout::Q2K => "q2_k",
            Layout::Q3K => "q3_k",
            Layout::Q4K => "q4_k",
            Layout::Q5K => "q5_k",
            Layout::Q6K => "q6_k",
            Layout::Iq4Nl => "iq4_nl",
            Layout::Iq4Xs => "iq4_xs",
            Layout::G4 { .. } => "g4",
            Layout::G8 { .. } => "g8",
        }
    }

    /// The number of elements that share a scale. Only the layouts with groups need it.
    pub fn group(self) -> u64 {
        match self {
            Layout::G4 { group } | Layout::G8 { group } => group.into(),
            _ => 32,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The format of keys and values in a KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheFormat {
    /// f32, as they are computed.
    #[default]
    F32,
    /// 8 bits, with an f32 scale for every 16 numbers of a row (fewer at its end): `shaders/cache/q8.wgsl`.
    Q8,
}

impl CacheFormat {
    /// All formats, from the largest to the smallest.
    pub const ALL: [CacheFormat; 2] = [CacheFormat::F32, CacheFormat::Q8];

    /// The name: `f32` or `q8`.
    pub fn name(self) -> &'static str {
        match self {
            CacheFormat::F32 => "f32",
            CacheFormat::Q8 => "q8",
        }
    }

    /// The number of 4-byte words of one head's key or value, which has `dim` numbers, a multiple of 4.
    pub fn row_words(self, dim: usize) -> usize {
        match self {
            CacheFormat::F32 => dim,
            CacheFormat::Q8 => dim / 4 + dim.div_ceil(16),
        }
    }
}

impl fmt::Display for CacheFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CacheFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = CacheFormat::ALL.into_iter().find(|format| format.name() == text);
        known.ok_or_else(|| Error::invalid("KV cache format", "f32 or q8", text))
    }
}

/// The element type that the header of a checkpoint names, supported or not.
///
/// A checkpoint may hold tensors that are not used (masks, packed integers), so an unsupported type is an error only if a plan
/// uses the tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// A type that weights can have.
    Known(Dtype),
    /// Any other type, by its name in the header.
    Other(String),
}

impl Element {
    /// Reads the name in a safetensors header. This never fails.
    pub fn parse(name: &str) -> Self {
        let float = Dtype::FLOATS.into_iter().find(|d| d.name() == name);
        float.map_or_else(|| Element::Other(name.to_owned()), Element::Known)
    }

    /// The name in the header.
    pub fn name(&self) -> &str {
        match self {
            Element::Known(dtype) => dtype.name(),
            Element::Other(name) => name,
        }
    }

    /// The number of bits of one element (safetensors 0.8, `Dtype::bitsize`). `None` for a name that is not listed here, or for
    /// blocks.
    pub fn bits(&self) -> Option<u64> {
        Some(match self.name() {
            "F4" => 4,
            "F6_E2M3" | "F6_E3M2" => 6,
            "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
            "U16" | "I16" | "F16" | "BF16" => 16,
            "U32" | "I32" | "F32" => 32,
            "U64" | "I64" | "F64" | "C64" => 64,
            _ => return None,
        })
    }

    /// The supported type. `tensor` is the name for errors.
    ///
    /// # Errors
    /// [`Error::Dtype`] for every type that is not a [`Dtype`].
    pub fn known(&self, tensor: &str) -> Result<Dtype> {
        match self {
            Element::Known(dtype) => Ok(*dtype),
            Element::Other(name) => Err(Error::Dtype {
                what: tensor.to_owned(),
                expected: Dtype::ALL.map(Dtype::name).join(", "),
                found: name.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_foreign_ones_survive() {
        for d in Dtype::FLOATS {
            assert_eq!(Element::parse(d.name()), Element::Known(d));
            assert_eq!(Element::Known(d).bits(), Some(d.block_bytes() * 8));
        }
        for d in Dtype::ALL {
            assert_eq!(Dtype::from_ggml_type(d.ggml_type()), Some(d));
        }
        let i4 = Element::parse("I4");
        assert_eq!((i4.name(), i4.bits()), ("I4", None));
        assert_eq!(Element::parse("Q4_0"), Element::Other("Q4_0".into()), "no such type in safetensors");
        assert_eq!(Element::parse("I64").bits(), Some(64));
        assert!(matches!(Element::parse("I32").known("x"), Err(Error::Dtype { found, .. }) if found == "I32"));
        assert_eq!(Dtype::from_ggml_type(9), None, "Q8_1 is for activations");
    }

    // Bits for each weight of a long row: a file's block, and at most 6 % more on the device except for the pairs of f16
    // that Q4_0 and Q5_0 get for one.
    #[test]
    fn layouts_are_tight() {
        for d in Dtype::ALL {
            let file = d.bytes_of(8192).unwrap() as f64;
            let device = 4.0 * d.layout().row_words(8192).unwrap() as f64;
            let limit = if matches!(d, Dtype::Q4_0 | Dtype::Q5_0) { 1.12 } else { 1.06 };
            assert!(device >= file && device <= limit * file, "{d}: {file} bytes in the file, {device} on the device");
            assert_eq!(d.layout().unit() % d.block(), 0);
        }
        assert_eq!(Layout::Q4.row_words(32), Some(8), "4 words of nibbles, one of scale and minimum, padding");
        assert_eq!(Layout::Q6K.row_words(256), Some(32 + 16 + 4 + 4), "with 3 words of padding");
        assert_eq!(Layout::F16.row_words(1), Some(8));
        assert_eq!(Layout::F32.row_words(u64::MAX), None);
    }

    #[test]
    fn widening_is_exact() {
        // 1.0, -2.5 and the largest finite value of each type, written by hand.
        let f32s: Vec<u8> = [1.0f32, -2.5, f32::MAX].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(Dtype::F32.to_f32(&f32s).unwrap(), [1.0, -2.5, f32::MAX]);
        assert_eq!(Dtype::F16.to_f32(&[0, 0x3c, 0, 0xc1, 0xff, 0x7b]).unwrap(), [1.0, -2.5, 65504.0]);
        assert_eq!(Dtype::BF16.to_f32(&[0x80, 0x3f, 0x20, 0xc0]).unwrap(), [1.0, -2.5]);
        assert!(Dtype::BF16.to_f32(&[0x7f, 0x80, 0]).is_err());
        assert!(Dtype::F16.to_f32(&[]).unwrap().is_empty());
    }
}
