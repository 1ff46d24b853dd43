//! Attention with a range of keys per query: `shaders/attention.wgsl`.

use super::rope::Heads;
use super::{attention_decode, check};
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Lease, Recorder, Rehearsal, Tensor, Variant};

/// Parts: attention.
pub static KERNEL: Kernel = Kernel {
    name: "attention",
    source: include_str!("../../shaders/attention.wgsl"),
    shared: &[],
    entry: "attention",
    weight: false,
    storage: &[Read, Read, Read, Read, Write],
    params_bytes: size_of::<Params>(),
    variants: &[
        &[("D", 16.0), ("BQ", 16.0), ("BK", 16.0)],
        &[("D", 20.0), ("BQ", 16.0), ("BK", 16.0)],
        &[("D", 80.0), ("BQ", 16.0), ("BK", 16.0)],
        &[("D", 128.0), ("BQ", 16.0), ("BK", 8.0)],
        &[("D", 256.0), ("BQ", 8.0), ("BK", 4.0)],
    ],
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    group: u32,
    capacity: u32,
    scale: f32,
}

/// Queries and keys of a tile: as many as 16 KiB of shared memory hold at this head size, 4 of them partial scores.
pub fn tile(dim: usize) -> (usize, usize) {
    match dim {
        0..=96 => (16, 16),
        97..=128 => (16, 8),
        _ => (8, 4),
    }
}

/// [`attention`] on paper: `n` queries, causal where `n` is 1 and then of `keys` keys.
pub fn rehearse(pool: &Rehearsal, n: usize, heads: Heads, keys: usize) -> Lease {
    let _parts = (n == 1).then(|| attention_decode::rehearse(pool, heads, keys));
    pool.scratch("attention", n, heads.q * heads.dim)
}

/// Keys that a query sees.
pub enum Mask<'a> {
    /// Query `i` of `n` sees keys `0 ..= past + i`.
    Causal {
        /// Keys before the first query.
        past: usize,
        /// Per query (first, end) as u32 pairs, `[n, 2]`, for more than one query.
        ranges: Option<&'a Tensor>,
    },
    /// Query `i` sees keys `ranges[i].0 .. ranges[i].1`.
    Ranges(&'a Tensor),
}

/// Attention of q `[heads.q * n, dim]` over k, v `[heads.kv * capacity, dim]`; returns `[n, heads.q * dim]`.
/// The scale is `1 / sqrt(dim)`.
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes do not meet.
pub fn attention(
    rec: &mut Recorder,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: &Mask<'_>,
    heads: Heads,
    capacity: usize,
) -> Result<Tensor> {
    let dim = heads.dim;
    let divide = heads.q > 0 && heads.kv > 0 && heads.q.is_multiple_of(heads.kv);
    let fits = divide && dim.is_multiple_of(4) && dim <= 256;
    check("attention heads", &[heads.q, heads.kv, 256], &[heads.q, heads.kv, dim], fits)?;
    let n = q.rows / heads.q;
    check("attention q", &[heads.q * n, dim], &[q.rows, q.cols], q.rows == heads.q * n && q.cols == dim)?;
    let words = heads.kv * capacity * dim;
    check("attention k, v", &[words, words], &[k.len(), v.len()], k.len() >= words && v.len() >= words)?;
    let scale = (1.0 / (dim as f64).sqrt()) as f32;
    if let Mask::Causal { past, .. } = mask {
        check("attention keys", &[capacity], &[past + n], past + n <= capacity)?;
    }
    let ranges = match mask {
        Mask::Causal { past, .. } if n == 1 => {
            return attention_decode::attention_decode(rec, q, k, v, heads, past + 1, capacity, scale);
        }
        Mask::Causal { ranges: Some(ranges), .. } | Mask::Ranges(ranges) => *ranges,
        Mask::Causal { ranges: None, .. } => {
            return Err(crate::error::Error::invalid("attention", "ranges for more than one query", "none"));
        }
    };
    check("attention ranges", &[n, 2], &[ranges.rows, ranges.cols], ranges.rows >= n && ranges.cols == 2)?;
    let o = rec.scratch("attention", n, heads.q * dim)?;
    let (bq, bk) = tile(dim);
    let variant = Variant::with(&[("D", dim as f64), ("BQ", bq as f64), ("BK", bk as f64)]);
    let params = Params { n: n as u32, group: (heads.q / heads.kv) as u32, capacity: capacity as u32, scale };
    let groups = [n.div_ceil(bq) as u32, heads.q as u32, 1];
    rec.dispatch(&KERNEL, variant, &params, &[q, k, v, ranges, &o], groups);
    Ok(o)
}
