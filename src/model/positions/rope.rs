//! Rotary tables of the decoder and of the vision tower.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::model::positions::grid::{Grid, block_order};

/// YaRN (arXiv 2309.00071): low frequencies are divided by `factor`, high ones kept, with a ramp between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// How much longer than the trained context.
    pub factor: f64,
    /// The trained context, in tokens.
    pub original_max_position_embeddings: usize,
    /// Rotations over the trained context from which on a frequency is kept.
    pub beta_fast: f64,
    /// Rotations up to which a frequency is divided.
    pub beta_slow: f64,
    /// What cos and sin are multiplied by.
    pub attention_factor: f64,
    /// Whether the ramp's ends are rounded to whole indices, outwards.
    pub truncate: bool,
}

/// The decoder's rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Size of a head; frequency i rotates elements i and i + `head_dim`/2.
    pub head_dim: usize,
    /// The base θ.
    pub theta: f64,
    /// How many frequencies follow time, height and width; sums to `head_dim`/2.
    pub mrope_section: [usize; 3],
    /// Whether the three take turns (T, H, W, T, H, W, …) for as long as height and width have any left, and time has the
    /// rest (Qwen3-VL, arXiv 2511.21631); else each has a run of frequencies of its own.
    pub interleaved: bool,
    /// Context extension, if any.
    pub yarn: Option<Yarn>,
}

impl Rope {
    /// Which axis frequency `i` follows: 0 time, 1 height, 2 width.
    fn axis(&self, i: usize) -> usize {
        let [t, h, w] = self.mrope_section;
        match (self.interleaved, i % 3) {
            (true, 1) if i < 3 * h => 1,
            (true, 2) if i < 3 * w => 2,
            (true, _) => 0,
            (false, _) => usize::from(i >= t) + usize::from(i >= t + h),
        }
    }

    /// The `head_dim`/2 inverse frequencies θ^(−2i/head_dim), rounded to f32 at each step as torch does.
    pub fn inv_freq(&self) -> Vec<f32> {
        let periods = periods(self.theta, self.head_dim);
        let Some(yarn) = self.yarn else { return periods.iter().map(|p| 1.0 / p).collect() };
        let dim = self.head_dim as f64;
        let length = yarn.original_max_position_embeddings as f64;
        let correction =
            |rotations: f64| dim * (length / (rotations * 2.0 * std::f64::consts::PI)).ln() / (2.0 * self.theta.ln());
        let (mut low, mut high) = (correction(yarn.beta_fast), correction(yarn.beta_slow));
        if yarn.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let factor = yarn.factor as f32;
        let blend = periods.iter().enumerate().map(|(i, &period)| {
            let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let keep = 1.0 - ramp;
            1.0 / (factor * period) * (1.0 - keep) + 1.0 / period * keep
        });
        blend.collect()
    }
}

/// θ^(2i/dim) for i < dim/2, in f32 from an f32 exponent. By way of f64, so that native and wasm agree bit for bit.
fn periods(theta: f64, dim: usize) -> Vec<f32> {
    // torch takes θ as an f32 base.
    let theta = f64::from(theta as f32);
    (0..dim / 2).map(|i| theta.powf(f64::from((2 * i) as f32 / dim as f32)) as f32).collect()
}

/// cos and sin of an f32 angle, computed in f64 and rounded once.
fn cos_sin(position: i32, inv_freq: f32) -> (f32, f32) {
    let angle = f64::from(position as f32 * inv_freq);
    (angle.cos() as f32, angle.sin() as f32)
}

/// The decoder's `(cos, sin)`, each `[positions, head_dim/2]` row-major f32: column i is the angle
/// `position[axis(i)] · inv_freq[i]`, with axes as [`Rope::mrope_section`] and [`Rope::interleaved`] say.
/// transformers stores the same columns twice (`[angles, angles]`).
///
/// # Errors
/// [`Error::Invalid`] if the sections do not sum to `head_dim`/2.
pub fn mrope_table(positions: &[[i32; 3]], rope: &Rope) -> Result<(Vec<f32>, Vec<f32>)> {
    let half = rope.head_dim / 2;
    let [t, h, w] = rope.mrope_section;
    if t.checked_add(h).and_then(|n| n.checked_add(w)) != Some(half) {
        return Err(Error::invalid("mrope_section", format!("a sum of {half}"), format!("{:?}", rope.mrope_section)));
    }
    let inv_freq = rope.inv_freq();
    let scale = rope.yarn.map_or(1.0, |yarn| yarn.attention_factor as f32);
    let entry = |position: i32, i: usize| {
        let (cos, sin) = cos_sin(position, inv_freq[i]);
        (cos * scale, sin * scale)
    };
    // Images repeat few positions many times: look them up if the table of all of them is the smaller one.
    let flat = || positions.iter().flatten().copied();
    let span: Range<i64> = flat().min().map_or(0, i64::from)..flat().max().map_or(0, |p| i64::from(p) + 1);
    let known: Vec<(f32, f32)> = if span.end - span.start <= positions.len() as i64 {
        span.clone().flat_map(|p| (0..half).map(move |i| (p as i32, i))).map(|(p, i)| entry(p, i)).collect()
    } else {
        Vec::new()
    };
    let mut cos = Vec::with_capacity(positions.len().saturating_mul(half));
    let mut sin = Vec::with_capacity(cos.capacity());
    for position in positions {
        for i in 0..half {
            let position = position[rope.axis(i)];
            let row = (i64::from(position) - span.start) as usize;
            let (c, s) = if known.is_empty() { entry(position, i) } else { known[row * half + i] };
            cos.push(c);
            sin.push(s);
        }
    }
    Ok((cos, sin))
}

/// The vision tower's `(cos, sin)`, each `[patches, head_dim/2]` row-major f32, in block-merged patch order. The first
/// quarter of a head's dimensions turns by the patch's row, the second by its column, both with the inverse frequencies
/// θ^(−4i/head_dim), i < head_dim/4; every frame has the same angles.
///
/// # Errors
/// [`Error::Invalid`] as in [`Grid::merged`], or if 4 does not divide `head_dim`.
pub fn vision_rope_table(grid: Grid, merge: u32, head_dim: usize, theta: f64) -> Result<(Vec<f32>, Vec<f32>)> {
    if head_dim == 0 || !head_dim.is_multiple_of(4) || head_dim > 1 << 12 {
        return Err(Error::invalid("vision head_dim", "a multiple of 4 up to 4096", head_dim.to_string()));
    }
    let merged = grid.merged(merge)?;
    let quarter = head_dim / 4;
    let inv_freq: Vec<f32> = periods(theta, head_dim / 2).iter().map(|p| 1.0 / p).collect();
    let axis: Vec<(f32, f32)> =
        (0..grid.h.max(grid.w) as i32).flat_map(|p| inv_freq.iter().map(move |&f| cos_sin(p, f))).collect();
    let mut cos = Vec::with_capacity(grid.count().saturating_mul(2 * quarter));
    let mut sin = Vec::with_capacity(cos.capacity());
    for _ in 0..grid.t {
        for (row, col) in block_order(merged, merge) {
            for at in [row, col] {
                for &(c, s) in &axis[at as usize * quarter..][..quarter] {
                    cos.push(c);
                    sin.push(s);
                }
            }
        }
    }
    Ok((cos, sin))
}

/// Rows `[cos | sin]` of `2 half` values each, as the rope kernel takes them, from tables `[n, half]`.
pub fn rope_rows(cos: &[f32], sin: &[f32], half: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(cos.len() + sin.len());
    for (c, s) in cos.chunks_exact(half).zip(sin.chunks_exact(half)) {
        rows.extend_from_slice(c);
        rows.extend_from_slice(s);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qwen(yarn: Option<Yarn>) -> Rope {
        Rope { head_dim: 128, theta: 1e6, mrope_section: [16, 24, 24], interleaved: false, yarn }
    }

    /// Equal, or neighbours: torch's vectorised pow rounds a few of them the other way.
    fn assert_neighbours(ours: &[f32], torch: &[u32; 64]) {
        let apart: Vec<u32> = ours.iter().zip(torch).map(|(f, &bits)| f.to_bits().abs_diff(bits)).collect();
        assert_eq!(ours.len(), 64);
        assert!(apart.iter().all(|&ulp| ulp <= 1) && apart.iter().sum::<u32>() <= 3, "{apart:?}");
    }

    // By torch 2.15 on a CPU and transformers 5.23 (`compute_default_rope_parameters`, `_compute_yarn_parameters`).
    #[test]
    fn inverse_frequencies_are_torchs() {
        assert_neighbours(&qwen(None).inv_freq(), &TORCH_INV_FREQ);
        let yarn = Yarn {
            factor: 4.0,
            original_max_position_embeddings: 32768,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: 0.1 * 4f64.ln() + 1.0,
            truncate: true,
        };
        assert_neighbours(&qwen(Some(yarn)).inv_freq(), &TORCH_YARN_INV_FREQ);
        // §14: kept up to index 23, divided by 4 from index 40 on.
        let (plain, yarned) = (qwen(None).inv_freq(), qwen(Some(yarn)).inv_freq());
        assert_eq!(plain[..24], yarned[..24]);
        assert!((40..64).all(|i| (yarned[i] * 4.0 / plain[i] - 1.0).abs() < 1e-6));
        let (cos, _) = mrope_table(&[[0; 3]], &qwen(Some(yarn))).unwrap();
        assert_eq!(cos, [1.138_629_4; 64]);
    }

    #[rustfmt::skip]
    const TORCH_INV_FREQ: [u32; 64] = [
        0x3f800000, 0x3f4e4bad, 0x3f263de0, 0x3f05f6ef, 0x3ed7e89b, 0x3eadfcff, 0x3e8c3504, 0x3e61f835,
        0x3e361887, 0x3e12bd91, 0x3dec7fd6, 0x3dbe94c6, 0x3d99940d, 0x3d778513, 0x3d47763f, 0x3d20bc1d,
        0x3d0186e3, 0x3cd0c1a8, 0x3ca8398b, 0x3c879008, 0x3c5a7bf2, 0x3c301052, 0x3c0de12d, 0x3be4aa46,
        0x3bb8449c, 0x3b947dae, 0x3b6f520e, 0x3b40dac5, 0x3b1b690d, 0x3afa78f0, 0x3ac9d75c, 0x3aa2a6f7,
        0x3a83126f, 0x3a533f28, 0x3a2a3b44, 0x3a092e02, 0x39dd1725, 0x39b229fb, 0x398f9272, 0x39676492,
        0x393a7753, 0x39164324, 0x38f22ce2, 0x38c327b5, 0x389d43a4, 0x387d75d4, 0x384c3fbe, 0x382497ab,
        0x3804a2b2, 0x37d5c441, 0x37ac431d, 0x378ad0ed, 0x375fba4f, 0x37344a0e, 0x371148e3, 0x36ea2732,
        0x36bcb0c1, 0x36980e02, 0x36751070, 0x36457bab, 0x361f23e4, 0x36003dec, 0x35ceaf79, 0x35a68e4c,
    ];
    #[rustfmt::skip]
    const TORCH_YARN_INV_FREQ: [u32; 64] = [
        0x3f800000, 0x3f4e4bad, 0x3f263de0, 0x3f05f6ef, 0x3ed7e89b, 0x3eadfcff, 0x3e8c3504, 0x3e61f835,
        0x3e361887, 0x3e12bd91, 0x3dec7fd6, 0x3dbe94c6, 0x3d99940d, 0x3d778513, 0x3d47763f, 0x3d20bc1d,
        0x3d0186e3, 0x3cd0c1a8, 0x3ca8398b, 0x3c879008, 0x3c5a7bf2, 0x3c301052, 0x3c0de12d, 0x3be4aa46,
        0x3bb02377, 0x3b876388, 0x3b4fa550, 0x3b1ed248, 0x3af241df, 0x3ab82bc0, 0x3a8b8207, 0x3a527db8,
        0x3a1e0eb2, 0x39ec1968, 0x39af3d02, 0x39811c3e, 0x393c93be, 0x39083e38, 0x38c23e9a, 0x38881d0a,
        0x383a7753, 0x38164324, 0x37f22ce2, 0x37c327b5, 0x379d43a4, 0x377d75d4, 0x374c3fbe, 0x372497ab,
        0x3704a2b2, 0x36d5c441, 0x36ac431d, 0x368ad0ed, 0x365fba4f, 0x36344a0e, 0x361148e3, 0x35ea2732,
        0x35bcb0c1, 0x35980e02, 0x35751070, 0x35457bab, 0x351f23e4, 0x35003dec, 0x34ceaf79, 0x34a68e4c,
    ];

    #[test]
    fn sections_choose_the_axis() {
        let positions = [[3, 700, 11], [4, 5, 4], [100_000, 0, 1]];
        let rope = qwen(None);
        let (cos, sin) = mrope_table(&positions, &rope).unwrap();
        let inv_freq = rope.inv_freq();
        for (n, p) in positions.iter().enumerate() {
            for i in 0..64 {
                let axis = if i < 16 {
                    0
                } else if i < 40 {
                    1
                } else {
                    2
                };
                let angle = f64::from(p[axis] as f32 * inv_freq[i]);
                assert_eq!(cos[n * 64 + i], angle.cos() as f32, "{n} {i}");
                assert_eq!(sin[n * 64 + i], angle.sin() as f32, "{n} {i}");
            }
        }
        // The lookup table gives the same as computing directly.
        let many: Vec<[i32; 3]> = (0..40).map(|i| [i % 7, i % 5 + 2, i % 3]).collect();
        let (cos, sin) = mrope_table(&many, &rope).unwrap();
        for (n, p) in many.iter().enumerate() {
            let (c, s) = mrope_table(&[*p], &rope).unwrap();
            assert_eq!((&cos[n * 64..][..64], &sin[n * 64..][..64]), (&c[..], &s[..]), "{n}");
        }
        assert_eq!(mrope_table(&[], &rope).unwrap(), (vec![], vec![]));
        assert!(mrope_table(&[], &Rope { mrope_section: [16, 24, 23], ..rope.clone() }).is_err());
        assert!(mrope_table(&[], &Rope { mrope_section: [usize::MAX, 1, 64], ..rope }).is_err());
    }

    #[test]
    fn vision_angles_follow_the_block_order() {
        // head_dim 8: two frequencies, 1 and 10000^(-1/2) = 0.01.
        let (cos, sin) = vision_rope_table(Grid::new(2, 2, 4), 2, 8, 10_000.0).unwrap();
        let order = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)];
        for (n, &(r, c)) in order.iter().chain(&order).enumerate() {
            let angles = [r as f32, r as f32 * 0.01, c as f32, c as f32 * 0.01];
            for (i, angle) in angles.iter().enumerate() {
                assert!((cos[n * 4 + i] - angle.cos()).abs() < 1e-6, "{n} {i}");
                assert!((sin[n * 4 + i] - angle.sin()).abs() < 1e-6, "{n} {i}");
            }
        }
        assert_eq!(cos.len(), 16 * 4);
        assert!(vision_rope_table(Grid::new(1, 2, 2), 2, 6, 1e4).is_err());
        assert!(vision_rope_table(Grid::new(1, 2, 3), 2, 8, 1e4).is_err());
    }
}
