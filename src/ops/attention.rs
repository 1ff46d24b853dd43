//! Attention with a range of keys per query: `shaders/attention.wgsl`.

use super::rope::Heads;
use super::{attention_decode, check};
use crate::dtype::CacheFormat;
use crate::error::{Error, Result};
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Lease, Recorder, Rehearsal, Tensor, Variant};

/// Parts: cache/*, attention.
pub static KERNEL: Kernel = kernel("attention", CACHE_F32);
/// The same kernel for a q8 cache.
pub static KERNEL_Q8: Kernel = kernel("attention/q8", CACHE_Q8);

/// The fragment of `shaders/cache/` by which a kernel reads an f32 cache.
pub(super) const CACHE_F32: &[&str] = &[include_str!("../../shaders/cache/f32.wgsl")];
/// The fragment of `shaders/cache/` by which a kernel reads a q8 cache.
pub(super) const CACHE_Q8: &[&str] = &[include_str!("../../shaders/cache/q8.wgsl")];

const fn kernel(name: &'static str, cache: &'static [&'static str]) -> Kernel {
    Kernel {
        name,
        source: include_str!("../../shaders/attention.wgsl"),
        shared: cache,
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
    }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    group: u32,
    capacity: u32,
    scale: f32,
    start: u32,
    keys: u32,
    carry: u32,
    pad: u32,
}

/// The queries and keys of a tile: as many as fit into 16 KiB of shared memory at this head size. 4 KiB of it hold partial
/// scores.
pub fn tile(dim: usize) -> (usize, usize) {
    match dim {
        0..=96 => (16, 16),
        97..=128 => (16, 8),
        _ => (8, 4),
    }
}

/// Extra rows of the result that carry the maxima and totals of `n` queries from one segment's launch to the next.
fn state_rows(n: usize, dim: usize) -> usize {
    (2 * n.next_multiple_of(4)).div_ceil(dim)
}

/// The rehearsal of [`attend`] for `n` queries over `keys` keys, which may be in several segments.
pub fn rehearse(pool: &Rehearsal, n: usize, heads: Heads, keys: usize) -> Lease {
    let _parts = if n == 1 { attention_decode::rehearse(pool, heads, keys) } else { None };
    let state = if n > 1 { state_rows(n, heads.dim) } else { 0 };
    pool.scratch("attention", n + state, heads.q * heads.dim)
}

/// Keys and values of consecutive positions: one segment of a KV cache, or the whole cache.
#[derive(Clone)]
pub struct Segment {
    /// Rotated keys `[kv heads, capacity]`, in rows of [`CacheFormat::row_words`].
    pub k: Tensor,
    /// Values, laid out as `k`.
    pub v: Tensor,
    /// The number of positions that it has room for.
    pub capacity: usize,
    /// The format of the rows.
    pub format: CacheFormat,
}

impl Segment {
    /// The number of words of its keys.
    pub(super) fn words(&self, kv_heads: usize, dim: usize) -> usize {
        kv_heads * self.capacity * self.format.row_words(dim)
    }
}

/// Which keys a query sees.
pub enum Mask<'a> {
    /// Query `i` of `n` sees keys `0 ..= past + i`.
    Causal {
        /// The number of keys before the first query.
        past: usize,
        /// Per query (first, end) as u32 pairs, `[n, 2]`, for more than one query.
        ranges: Option<&'a Tensor>,
    },
    /// Query `i` sees keys `ranges[i].0 .. ranges[i].1`.
    Ranges(&'a Tensor),
}

/// [`attend`] over k, v `[heads.kv * capacity, dim]` in f32.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not match.
pub fn attention(
    rec: &mut Recorder,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: &Mask<'_>,
    heads: Heads,
    capacity: usize,
) -> Result<Tensor> {
    attend(rec, q, &[Segment { k: k.clone(), v: v.clone(), capacity, format: CacheFormat::F32 }], mask, heads)
}

/// Attention of q `[heads.q * n, dim]` over the keys and values of all segments, one after the other and of one format;
/// returns `[n, heads.q * dim]`. The scale is `1 / sqrt(dim)`.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not match.
pub fn attend(rec: &mut Recorder, q: &Tensor, segments: &[Segment], mask: &Mask<'_>, heads: Heads) -> Result<Tensor> {
    let dim = heads.dim;
    let divide = heads.q > 0 && heads.kv > 0 && heads.q.is_multiple_of(heads.kv);
    let fits = divide && dim.is_multiple_of(4) && dim <= 256;
    check("attention heads", &[heads.q, heads.kv, 256], &[heads.q, heads.kv, dim], fits)?;
    let n = q.rows / heads.q;
    check("attention q", &[heads.q * n, dim], &[q.rows, q.cols], q.rows == heads.q * n && q.cols == dim)?;
    let mut room = 0;
    for segment in segments {
        let words = segment.words(heads.kv, dim);
        let (k, v) = (segment.k.len(), segment.v.len());
        check("attention k, v", &[words, words], &[k, v], k >= words && v >= words)?;
        room += segment.capacity;
    }
    let format = segments.first().map_or(CacheFormat::F32, |segment| segment.format);
    let same = segments.iter().filter(|segment| segment.format == format).count();
    check("attention segments", &[segments.len().max(1)], &[same], same == segments.len() && same > 0)?;
    let scale = (1.0 / (dim as f64).sqrt()) as f32;
    let mut keys = room;
    if let Mask::Causal { past, .. } = mask {
        keys = past + n;
        check("attention keys", &[room], &[keys], keys <= room)?;
    }
    let ranges = match mask {
        Mask::Causal { .. } if n == 1 => {
            return attention_decode::attention_decode(rec, q, &used(segments, keys), heads, scale);
        }
        Mask::Causal { ranges: Some(ranges), .. } | Mask::Ranges(ranges) => *ranges,
        Mask::Causal { ranges: None, .. } => {
            return Err(Error::invalid("attention", "ranges for more than one query", "none"));
        }
    };
    check("attention ranges", &[n, 2], &[ranges.rows, ranges.cols], ranges.rows >= n && ranges.cols == 2)?;
    let pieces = used(segments, keys);
    let state = if pieces.len() > 1 { state_rows(n, dim) } else { 0 };
    let o = rec.scratch("attention", n + state, heads.q * dim)?;
    let (bq, bk) = tile(dim);
    let variant = Variant::with(&[("D", dim as f64), ("BQ", bq as f64), ("BK", bk as f64)]);
    let groups = [n.div_ceil(bq) as u32, heads.q as u32, 1];
    let kernel = match format {
        CacheFormat::F32 => &KERNEL,
        CacheFormat::Q8 => &KERNEL_Q8,
    };
    let mut start = 0;
    for (i, &(segment, keys)) in pieces.iter().enumerate() {
        let params = Params {
            n: n as u32,
            group: (heads.q / heads.kv) as u32,
            capacity: segment.capacity as u32,
            scale,
            start,
            keys: keys as u32,
            carry: u32::from(i > 0) | u32::from(i + 1 < pieces.len()) << 1,
            pad: 0,
        };
        start += keys as u32;
        rec.dispatch(kernel, variant.clone(), &params, &[q, &segment.k, &segment.v, ranges, &o], groups);
    }
    o.reshape(n, heads.q * dim)
}

/// The segments that hold the first `keys` keys, and how many of these keys each one holds.
fn used(segments: &[Segment], mut keys: usize) -> Vec<(&Segment, usize)> {
    let mut pieces = Vec::new();
    for segment in segments {
        let here = keys.min(segment.capacity);
        keys -= here;
        if here > 0 {
            pieces.push((segment, here));
        }
    }
    pieces
}
