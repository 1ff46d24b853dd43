//! Attention of a single query, the keys split over workgroups: `shaders/attention_decode.wgsl`.

use super::attention::{CACHE_F32, CACHE_Q8, Segment};
use super::attention_merge;
use super::rope::Heads;
use crate::dtype::CacheFormat;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Lease, Recorder, Rehearsal, Tensor, Variant};

/// Parts: cache/*, attention_decode.
pub static KERNEL: Kernel = kernel("attention_decode", CACHE_F32);
/// The same kernel for a q8 cache.
pub static KERNEL_Q8: Kernel = kernel("attention_decode/q8", CACHE_Q8);

const fn kernel(name: &'static str, cache: &'static [&'static str]) -> Kernel {
    Kernel {
        name,
        source: include_str!("../../shaders/attention_decode.wgsl"),
        shared: cache,
        entry: "split",
        weight: false,
        storage: &[Read, Read, Read, Write],
        params_bytes: size_of::<Params>(),
        variants: &[
            &[("D", 128.0), ("WG", 128.0), ("CHUNK", 128.0), ("HEADS", 8.0)],
            &[("D", 16.0), ("WG", 64.0), ("CHUNK", 128.0), ("HEADS", 8.0)],
            &[("D", 20.0), ("WG", 32.0), ("CHUNK", 16.0), ("HEADS", 4.0)],
            &[("D", 256.0), ("WG", 128.0), ("CHUNK", 64.0), ("HEADS", 2.0)],
        ],
    }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    keys: u32,
    splits: u32,
    group: u32,
    capacity: u32,
    scale: f32,
    first: u32,
    steps: u32,
    pad: u32,
}

/// The number of keys that a workgroup takes at a time. The capacity of every cache segment but the last is a multiple of it.
pub const CHUNK: usize = 128;

/// Threads of a workgroup.
const THREADS: usize = 128;

/// Keys are cut into no more parts than this, but that every segment has at least one: where a workgroup would get fewer keys than
/// that makes, it takes CHUNK of them several times.
const MOST_PARTS: usize = 32;

/// Parts that there is room for: it depends on the number of keys alone, however many segments they are in.
fn room(keys: usize) -> usize {
    match keys.div_ceil(CHUNK) {
        chunks if chunks > MOST_PARTS => 2 * MOST_PARTS,
        chunks => chunks,
    }
}

/// The rehearsal of the parts that are merged, of which a single chunk has none.
pub(super) fn rehearse(pool: &Rehearsal, heads: Heads, keys: usize) -> Option<Lease> {
    (keys > CHUNK).then(|| pool.scratch("attention parts", heads.q * room(keys), heads.dim + 4))
}

/// How many query heads of a key head a workgroup takes: all of them, up to what fits its memory.
fn heads_at_once(group: usize, dim: usize) -> usize {
    match group {
        0..=2 => 2,
        3..=4 => 4,
        _ if dim > 128 => 4,
        _ => 8,
    }
}

/// Attention of q `[heads.q, dim]` over the given number of keys of each segment; returns `[1, heads.q * dim]`.
/// Shapes are checked by [`super::attention::attend`].
pub(super) fn attention_decode(
    rec: &mut Recorder,
    q: &Tensor,
    pieces: &[(&Segment, usize)],
    heads: Heads,
    scale: f32,
) -> Result<Tensor> {
    let chunks: usize = pieces.iter().map(|(_, keys)| keys.div_ceil(CHUNK)).sum();
    let steps = chunks.div_ceil(MOST_PARTS).max(1);
    let parts = |keys: usize| keys.div_ceil(CHUNK * steps);
    let splits: usize = pieces.iter().map(|(_, keys)| parts(*keys)).sum();
    let keys: usize = pieces.iter().map(|(_, keys)| keys).sum();
    let part = match splits {
        1 => rec.scratch("attention", 1, heads.q * heads.dim)?,
        _ => rec.scratch("attention parts", heads.q * splits.max(room(keys)), heads.dim + 4)?,
    };
    let group = heads.q / heads.kv;
    let at_once = heads_at_once(group, heads.dim);
    let variant = Variant::with(&[
        ("D", heads.dim as f64),
        ("WG", THREADS as f64),
        ("CHUNK", CHUNK as f64),
        ("HEADS", at_once as f64),
    ]);
    let y = (heads.kv * group.div_ceil(at_once)) as u32;
    let mut first = 0;
    for &(segment, keys) in pieces {
        let params = Params {
            keys: keys as u32,
            splits: splits as u32,
            group: group as u32,
            capacity: segment.capacity as u32,
            scale,
            first,
            steps: steps as u32,
            pad: 0,
        };
        let kernel = match segment.format {
            CacheFormat::F32 => &KERNEL,
            CacheFormat::Q8 => &KERNEL_Q8,
        };
        let here = parts(keys) as u32;
        rec.dispatch(kernel, variant.clone(), &params, &[q, &segment.k, &segment.v, &part], [here, y, 1]);
        first += here;
    }
    if splits == 1 {
        return Ok(part);
    }
    attention_merge::attention_merge(rec, &part, heads, splits)
}
