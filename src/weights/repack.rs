//! Rows of a checkpoint become rows of the device: the same numbers, in planes that a kernel can address.
//!
//! A GGUF block keeps scales and codes together in 18 to 210 bytes, which no GPU can load well. Here each row's codes,
//! high bits, scales and super-block scales move to planes of their own ([`Layout::planes`]). No code and no scale changes; only
//! high bits lie in another order.
//!
//! Block formats: `ggml-common.h` and `gguf/quants.py`.

use half::f16;

use crate::dtype::{Dtype, Layout};
use crate::error::{Error, Result};

/// Values that the codes of `IQ4_NL` and `IQ4_XS` stand for (`kvalues_iq4nl`).
pub const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// A block taken apart. Only the first [`Dtype::block`] codes count.
struct Block {
    /// One code for each element, in order; a signed byte for [`Layout::Q8`].
    codes: [u8; 256],
    /// The block's part of the plane of sub-block scales.
    sub: [u8; 16],
    /// Scale and minimum: of the block of 32, or of the super-block.
    pair: [u16; 2],
}

/// The 6-bit scale and minimum of sub-block `j` (`get_scale_min_k4`).
fn scale_min(scales: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        (scales[j + 4] & 15 | scales[j - 4] >> 6 << 4, scales[j + 4] >> 4 | scales[j] >> 6 << 4)
    }
}

impl Block {
    /// `src` is one block of `dtype`, of exactly its length.
    fn read(dtype: Dtype, src: &[u8], out: &mut Block) -> Result<()> {
        let half = |at: usize| u16::from_le_bytes([src[at], src[at + 1]]);
        let Block { codes, sub, pair } = out;
        // Blocks of 32: the low nibbles are the first sixteen elements, the high ones the others.
        let mut nibbles = |at: usize, fifth: u32| {
            for (j, byte) in src[at..at + 16].iter().enumerate() {
                codes[j] = byte & 15 | ((fifth >> j & 1) << 4) as u8;
                codes[j + 16] = byte >> 4 | ((fifth >> (j + 16) & 1) << 4) as u8;
            }
        };
        let word = |at: usize| u32::from_le_bytes([src[at], src[at + 1], src[at + 2], src[at + 3]]);
        match dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
                return Err(Error::invalid("block", "a quantized type", dtype.name()));
            }
            Dtype::Q8_0 => {
                *pair = [half(0), 0];
                codes[..32].copy_from_slice(&src[2..34]);
            }
            Dtype::Q4_0 => {
                *pair = [half(0), centred(half(0), 8)?];
                nibbles(2, 0);
            }
            Dtype::Q4_1 => {
                *pair = [half(0), half(2)];
                nibbles(4, 0);
            }
            Dtype::Q5_0 => {
                *pair = [half(0), centred(half(0), 16)?];
                nibbles(6, word(2));
            }
            Dtype::Q5_1 => {
                *pair = [half(0), half(2)];
                nibbles(8, word(4));
            }
            Dtype::Iq4Nl => {
                *pair = [half(0), 0];
                nibbles(2, 0);
            }
            Dtype::Q2K => {
                // scales [16] | q [64] | d, dmin
                sub.copy_from_slice(&src[..16]);
                for (i, code) in codes.iter_mut().enumerate() {
                    *code = src[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
                }
                *pair = [half(80), half(82)];
            }
            Dtype::Q3K => {
                // high bits [32] | q [64] | scales [12] | d
                for (i, code) in codes.iter_mut().enumerate() {
                    let low = src[32 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
                    *code = low | (src[i % 32] >> (i / 32) & 1) << 2;
                }
                let scales = &src[96..108];
                for (i, scale) in sub.iter_mut().enumerate() {
                    let low = if i < 8 { scales[i] & 15 } else { scales[i - 8] >> 4 };
                    let high = scales[8 + i % 4] >> (i / 4 * 2) & 3;
                    *scale = (low | high << 4).wrapping_sub(32);
                }
                *pair = [half(108), 0];
            }
            Dtype::Q4K | Dtype::Q5K => {
                // d, dmin | scales and minima [12] | (fifth bits [32]) | q [128]
                *pair = [half(0), half(2)];
                for j in 0..8 {
                    (sub[2 * j], sub[2 * j + 1]) = scale_min(&src[4..16], j);
                }
                let q = if dtype == Dtype::Q5K { 48 } else { 16 };
                for (i, code) in codes.iter_mut().enumerate() {
                    *code = src[q + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
                    if dtype == Dtype::Q5K {
                        *code |= (src[16 + i % 32] >> (i / 32) & 1) << 4;
                    }
                }
            }
            Dtype::Q6K => {
                // low nibbles [128] | upper two bits [64] | scales [16] | d
                for (i, code) in codes.iter_mut().enumerate() {
                    let (n, t, l) = (i / 128, i / 32 % 4, i % 32);
                    let low = src[64 * n + t % 2 * 32 + l] >> (t / 2 * 4) & 15;
                    *code = low | (src[128 + 32 * n + l] >> (2 * t) & 3) << 4;
                }
                sub.copy_from_slice(&src[192..208]);
                *pair = [half(208), 0];
            }
            Dtype::Iq4Xs => {
                // d | high bits of the scales | their low nibbles [4] | q [128]
                let high = half(2);
                for j in 0..8 {
                    let low = src[4 + j / 2] >> (j % 2 * 4) & 15;
                    sub[j] = (low | ((high >> (2 * j) & 3) << 4) as u8).wrapping_sub(32);
                }
                for (i, code) in codes.iter_mut().enumerate() {
                    *code = src[8 + i / 32 * 16 + i % 16] >> (i / 16 % 2 * 4) & 15;
                }
                *pair = [half(0), 0];
            }
        }
        Ok(())
    }

    /// What element `i` is worth: the formulas of `shaders/weight/`.
    fn value(&self, layout: Layout, i: usize) -> f32 {
        let [d, m] = self.pair.map(|bits| f16::from_bits(bits).to_f32());
        let code = f32::from(self.codes[i]);
        let signed = |at: usize| f32::from(self.sub[at] as i8);
        let iq4 = || f32::from(IQ4_VALUES[usize::from(self.codes[i] & 15)]);
        match layout {
            // read() refused floats, and no file has blocks of these.
            Layout::F32 | Layout::F16 | Layout::Bf16 | Layout::G4 { .. } | Layout::G8 { .. } => f32::NAN,
            Layout::Q8 => d * f32::from(self.codes[i] as i8),
            Layout::Q4 | Layout::Q5 => d * code + m,
            Layout::Q2K => d * f32::from(self.sub[i / 16] & 15) * code - m * f32::from(self.sub[i / 16] >> 4),
            Layout::Q3K => d * signed(i / 16) * (code - 4.0),
            Layout::Q4K | Layout::Q5K => {
                d * f32::from(self.sub[i / 32 * 2]) * code - m * f32::from(self.sub[i / 32 * 2 + 1])
            }
            Layout::Q6K => d * signed(i / 16) * (code - 32.0),
            Layout::Iq4Nl => d * iq4(),
            Layout::Iq4Xs => d * signed(i / 32) * iq4(),
        }
    }
}

/// `-zero * d` as binary16: exact unless it overflows.
fn centred(d: u16, zero: u8) -> Result<u16> {
    let m = f16::from_f32(-f16::from_bits(d).to_f32() * f32::from(zero));
    if m.is_infinite() {
        let found = format!("{}", f16::from_bits(d));
        return Err(Error::malformed("scale of a block", format!("a magnitude below 65504 / {zero}"), found));
    }
    Ok(m.to_bits())
}

/// Appends one row as it lies on the device: [`Layout::row_words`] words.
///
/// `src` holds the row as a file has it: [`Dtype::bytes_of`] `cols` bytes. Elements that pad the row are zeros.
///
/// # Errors
/// [`Error::Invalid`] if `src` is not one such row, [`Error::Malformed`] for a scale that the device cannot hold.
pub fn repack_row(dtype: Dtype, src: &[u8], cols: usize, out: &mut Vec<u8>) -> Result<()> {
    let layout = dtype.layout();
    let (groups, words) = (layout.groups(cols as u64), layout.row_words(cols as u64));
    let (Some(groups), Some(words), true) = (groups, words, dtype.bytes_of(cols as u64) == Some(src.len() as u64))
    else {
        let expected = format!("{} bytes for {cols} elements of {dtype}", dtype.bytes_of(cols as u64).unwrap_or(0));
        return Err(Error::invalid("row", expected, format!("{} bytes", src.len())));
    };
    let (groups, start) = (groups as usize, out.len());
    out.resize(start + 4 * words as usize, 0);
    let row = &mut out[start..];
    if dtype.block() == 1 {
        row[..src.len()].copy_from_slice(src);
        return Ok(());
    }
    let p = layout.planes();
    let (low_bytes, high_bytes) = (p.low as usize, p.high as usize);
    let (low, rest) = row.split_at_mut(groups * low_bytes);
    let (high, rest) = rest.split_at_mut(groups * high_bytes);
    let (sub, pairs) = rest.split_at_mut((groups * p.sub_halves as usize / 2).next_multiple_of(4));
    let block_len = dtype.block() as usize;
    let (sub_bytes, low_bits) = (block_len / 16 * p.sub_halves as usize / 2, 8 * low_bytes / 16);
    let mut block = Block { codes: [0; 256], sub: [0; 16], pair: [0; 2] };
    for (n, bytes) in src.chunks_exact(dtype.block_bytes() as usize).enumerate() {
        Block::read(dtype, bytes, &mut block)?;
        let codes = &block.codes[..block_len];
        let low = &mut low[n * block_len * low_bits / 8..][..block_len * low_bits / 8];
        pack(codes, low_bits, low);
        if high_bytes > 0 {
            let run = 2 * high_bytes;
            let high = &mut high[n * block_len / 32 * run..][..block_len / 32 * run];
            for (codes, high) in codes.chunks_exact(32).zip(high.chunks_exact_mut(run)) {
                pack_high(layout, low_bits, codes, high);
            }
        }
        let pair = [block.pair[0].to_le_bytes(), block.pair[1].to_le_bytes()].concat();
        let sub = &mut sub[n * sub_bytes..][..sub_bytes];
        if p.super_block {
            sub.copy_from_slice(&block.sub[..sub_bytes]);
            pairs[4 * n..][..4].copy_from_slice(&pair);
        } else {
            sub.copy_from_slice(&pair[..sub_bytes]); // the scale alone, or scale and minimum
        }
    }
    Ok(())
}

/// The low `bits` (8, 4, 2 or 1) of each code, the first one lowest.
fn pack(codes: &[u8], bits: usize, out: &mut [u8]) {
    let mask = ((1u32 << bits) - 1) as u8;
    for (byte, codes) in out.iter_mut().zip(codes.chunks_exact(8 / bits)) {
        *byte = codes.iter().enumerate().fold(0, |byte, (i, code)| byte | (code & mask) << (i * bits));
    }
}

/// The bits above the low ones of 32 codes, in the order in which kernels take them: those that belong to four codes that are
/// neighbouring bytes once the low bits are masked lie at the same place of four bytes. `shaders/weight/` describes it.
fn pack_high(layout: Layout, low_bits: usize, codes: &[u8], out: &mut [u8]) {
    for (e, code) in codes.iter().enumerate() {
        let (byte, bit) = match layout {
            Layout::Q3K => (e % 16 / 4, 4 * (e / 16) + e % 4),
            Layout::Q6K => (4 * (e / 16) + e % 8 / 2, (4 + 4 * (e % 16 / 8) + 2 * (e % 2)) % 8),
            _ => (e % 8 / 2, 2 * (e / 8) + e % 2),
        };
        out[byte] |= code >> low_bits << bit;
    }
}

/// The numbers that blocks of a file stand for. Any whole number of blocks.
///
/// # Errors
/// [`Error::Invalid`] if `src` is not a whole number of blocks.
pub fn dequantize(dtype: Dtype, src: &[u8]) -> Result<Vec<f32>> {
    if dtype.block() == 1 {
        return dtype.to_f32(src);
    }
    let size = dtype.block_bytes() as usize;
    if !src.len().is_multiple_of(size) {
        let expected = format!("a multiple of {size} bytes");
        return Err(Error::invalid(format!("{dtype} data"), expected, format!("{} bytes", src.len())));
    }
    let (layout, len) = (dtype.layout(), dtype.block() as usize);
    let mut block = Block { codes: [0; 256], sub: [0; 16], pair: [0; 2] };
    let mut out = Vec::with_capacity(src.len() / size * len);
    for bytes in src.chunks_exact(size) {
        Block::read(dtype, bytes, &mut block)?;
        out.extend((0..len).map(|i| block.value(layout, i)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Words of the reference sheet: nibbles 0 to 7 in order are 0x76543210.
    #[test]
    fn nibbles_lie_in_order() {
        let mut src = vec![0, 0x3c]; // 1.0
        src.extend((0..16).map(|j| j | j << 4));
        let mut row = Vec::new();
        repack_row(Dtype::Q4_0, &src, 32, &mut row).unwrap();
        assert_eq!(row.len(), 32);
        assert_eq!(&row[..16], &[0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe].repeat(2)[..]);
        assert_eq!(row[16..20], [0, 0x3c, 0, 0xc8], "1.0 and -8.0");
        assert!(row[20..].iter().all(|b| *b == 0));
        let values = dequantize(Dtype::Q4_0, &src).unwrap();
        assert_eq!(values[..16], (-8..8).map(|v| v as f32).collect::<Vec<_>>());
        assert_eq!(values[..16], values[16..]);
    }

    /// The comments of the fragments, bit by bit: one element of 32 has all its high bits set, the others none.
    #[test]
    fn high_bits_lie_where_the_fragments_look_for_them() {
        let word = |layout, low_bits, e: usize| {
            let (mut codes, mut out) = ([0; 32], [0; 8]);
            codes[e] = if layout == Layout::Q6K { 3u8 } else { 1 } << low_bits;
            pack_high(layout, low_bits, &codes, &mut out);
            u64::from_le_bytes(out)
        };
        let q5 = [(0, 0), (1, 1), (2, 8), (7, 25), (8, 2), (9, 3), (23, 29), (31, 31)];
        let q3_k = [(0, 0), (1, 1), (3, 3), (4, 8), (15, 27), (16, 4), (19, 7), (31, 31)];
        let q6_k = [(0, 4), (1, 6), (2, 12), (7, 30), (8, 0), (9, 2), (15, 26), (16, 36), (31, 58)];
        for (layout, low_bits, high, places) in [
            (Layout::Q5, 4, 1, &q5[..]),
            (Layout::Q5K, 4, 1, &q5),
            (Layout::Q3K, 2, 1, &q3_k),
            (Layout::Q6K, 4, 3, &q6_k),
        ] {
            for &(e, bit) in places {
                assert_eq!(word(layout, low_bits, e), high << bit, "{layout} {e}");
            }
            let all = (0..32).fold(0, |all, e| all | word(layout, low_bits, e));
            assert_eq!(
                all,
                if layout == Layout::Q6K { u64::MAX } else { u32::MAX.into() },
                "{layout}: none twice, none lost"
            );
        }
    }

    #[test]
    fn rows_of_a_wrong_length_and_scales_too_large_are_refused() {
        let mut out = Vec::new();
        assert_eq!(repack_row(Dtype::Q8_0, &[0; 33], 32, &mut out).unwrap_err().code(), "bad_request");
        assert_eq!(repack_row(Dtype::Q8_0, &[0; 34], 33, &mut out).unwrap_err().code(), "bad_request");
        assert_eq!(repack_row(Dtype::F32, &[0; 5], 1, &mut out).unwrap_err().code(), "bad_request");
        assert!(dequantize(Dtype::Q6K, &[0; 211]).is_err());
        assert!(out.is_empty());
        let mut large = vec![0xff, 0x7b]; // 65504
        large.extend([0; 16]);
        assert_eq!(repack_row(Dtype::Q4_0, &large, 32, &mut out).unwrap_err().code(), "bad_model");
    }

    #[test]
    fn floats_are_padded_with_zeros() {
        let mut out = vec![9];
        repack_row(Dtype::BF16, &[1, 2, 3, 4, 5, 6], 3, &mut out).unwrap();
        assert_eq!(out.len(), 1 + 32);
        assert_eq!(out[1..8], [1, 2, 3, 4, 5, 6, 0]);
    }
}
