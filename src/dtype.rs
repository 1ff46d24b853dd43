//! Element types: what a checkpoint stores, how many bytes it takes, which WGSL fragment loads it.

use std::fmt;

use half::{bf16, f16};

use crate::error::{Error, Result};

/// An element type that weights can have on the device.
///
/// The device keeps the checkpoint's own type: bf16 stays bf16, so loading never rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
}

impl Dtype {
    /// All of them, for test tables.
    pub const ALL: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

    /// The name in a safetensors header: `F32`, `F16`, `BF16`.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
        }
    }

    /// The type with this safetensors name, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        Dtype::ALL.into_iter().find(|d| d.name() == name)
    }

    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
        }
    }

    /// Elements in 16 bytes (one `vec4<u32>`): the padding unit of a row on the device.
    pub fn lanes(self) -> u64 {
        16 / self.bytes()
    }

    /// Base name of the fragment under `shaders/weight/` that loads this type.
    pub fn fragment(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::BF16 => "bf16",
        }
    }

    /// Widens little-endian `bytes` to f32; exact for all three types.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `bytes` is not a whole number of elements.
    pub fn to_f32(self, bytes: &[u8]) -> Result<Vec<f32>> {
        let size = self.bytes() as usize;
        if !bytes.len().is_multiple_of(size) {
            let expected = format!("a multiple of {size} bytes");
            return Err(Error::invalid(format!("{self} data"), expected, format!("{} bytes", bytes.len())));
        }
        Ok(match self {
            Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Rounds to f16 (nearest, ties to even; beyond ±65504 gives ±inf) as little-endian bytes.
pub fn f32_to_f16_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
}

/// The element type that a safetensors header names: one of ours, or anything else.
///
/// A checkpoint may hold tensors that nobody asks for (masks, packed integers), so a foreign type is an error only
/// when a plan uses the tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// A type that weights can have.
    Float(Dtype),
    /// Another type, by its name in the header.
    Other(String),
}

impl Element {
    /// Reads a header's name; never fails.
    pub fn parse(name: &str) -> Self {
        Dtype::from_name(name).map_or_else(|| Element::Other(name.to_owned()), Element::Float)
    }

    /// The name in the header.
    pub fn name(&self) -> &str {
        match self {
            Element::Float(dtype) => dtype.name(),
            Element::Other(name) => name,
        }
    }

    /// Bits of one element (safetensors 0.8, `Dtype::bitsize`), or `None` for a name that this list lacks.
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

    /// The weight type, or [`Error::Dtype`] naming `tensor`.
    ///
    /// # Errors
    /// [`Error::Dtype`] for every type that is not F32, F16 or BF16.
    pub fn float(&self, tensor: &str) -> Result<Dtype> {
        match self {
            Element::Float(dtype) => Ok(*dtype),
            Element::Other(name) => Err(Error::Dtype {
                what: tensor.to_owned(),
                expected: "F32, F16 or BF16".to_owned(),
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
        for d in Dtype::ALL {
            assert_eq!(Dtype::from_name(d.name()), Some(d));
            assert_eq!(Element::parse(d.name()), Element::Float(d));
            assert_eq!(Element::Float(d).bits(), Some(d.bytes() * 8));
            assert_eq!(d.lanes() * d.bytes(), 16);
        }
        let i4 = Element::parse("I4");
        assert_eq!((i4.name(), i4.bits()), ("I4", None));
        assert_eq!(Element::parse("I64").bits(), Some(64));
        assert!(matches!(Element::parse("I32").float("x"), Err(Error::Dtype { found, .. }) if found == "I32"));
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

    #[test]
    fn f16_rounds_to_nearest_even() {
        // 2049 lies between 2048 and 2050 (both f16): even mantissa wins; 65520 is the first value that overflows.
        let bytes = f32_to_f16_bytes(&[1.0, 2049.0, 2051.0, 65519.0, 65520.0]);
        let back = Dtype::F16.to_f32(&bytes).unwrap();
        assert_eq!(back, [1.0, 2048.0, 2052.0, 65504.0, f32::INFINITY]);
    }
}
