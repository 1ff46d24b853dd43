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
            &[("D", 16.0), ("WG", 64.0), ("CHUNK", 128.0)],
            &[("D", 20.0), ("WG", 32.0), ("CHUNK", 16.0)],
            &[("D", 128.0), ("WG", 64.0), ("CHUNK", 128.0)],
            &[("D", 256.0), ("WG", 128.0), ("CHUNK", 256.0)],
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
    pad: [u32; 2],
}

/// The number of keys of a workgroup. The capacity of every cache segment but the last is a multiple of it.
pub const CHUNK: usize = 128;

/// The rehearsal of the parts that are merged.
pub(super) fn rehearse(pool: &Rehearsal, heads: Heads, keys: usize) -> Lease {
    pool.scratch("attention parts", heads.q * keys.div_ceil(CHUNK), heads.dim + 4)
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
    let splits: usize = pieces.iter().map(|(_, keys)| keys.div_ceil(CHUNK)).sum();
    let part = rec.scratch("attention parts", heads.q * splits, heads.dim + 4)?;
    let variant = Variant::with(&[("D", heads.dim as f64), ("WG", 64.0), ("CHUNK", CHUNK as f64)]);
    let mut first = 0;
    for &(segment, keys) in pieces {
        let params = Params {
            keys: keys as u32,
            splits: splits as u32,
            group: (heads.q / heads.kv) as u32,
            capacity: segment.capacity as u32,
            scale,
            first,
            pad: [0; 2],
        };
        let kernel = match segment.format {
            CacheFormat::F32 => &KERNEL,
            CacheFormat::Q8 => &KERNEL_Q8,
        };
        let here = keys.div_ceil(CHUNK) as u32;
        rec.dispatch(kernel, variant.clone(), &params, &[q, &segment.k, &segment.v, &part], [here, heads.q as u32, 1]);
        first += here;
    }
    attention_merge::attention_merge(rec, &part, heads, splits)
}
