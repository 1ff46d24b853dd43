//! Attention of a single query, the keys split over workgroups: `shaders/attention_decode.wgsl`.

use super::attention_merge;
use super::rope::Heads;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Lease, Recorder, Rehearsal, Tensor, Variant};

/// Parts: attention_decode.
pub static KERNEL: Kernel = Kernel {
    name: "attention_decode",
    source: include_str!("../../shaders/attention_decode.wgsl"),
    shared: &[],
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
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    keys: u32,
    splits: u32,
    group: u32,
    capacity: u32,
    scale: f32,
    pad: [u32; 3],
}

/// Keys of a workgroup.
pub const CHUNK: usize = 128;

/// The parts that are merged, on paper.
pub(super) fn rehearse(pool: &Rehearsal, heads: Heads, keys: usize) -> Lease {
    pool.scratch("attention parts", heads.q * keys.div_ceil(CHUNK), heads.dim + 4)
}

/// q `[heads.q, dim]` over the first `keys` of k, v `[heads.kv * capacity, dim]`; returns `[1, heads.q * dim]`.
/// Shapes are checked by [`super::attention::attention`].
#[expect(clippy::too_many_arguments, reason = "called by `attention` alone")]
pub(super) fn attention_decode(
    rec: &mut Recorder,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    keys: usize,
    capacity: usize,
    scale: f32,
) -> Result<Tensor> {
    let splits = keys.div_ceil(CHUNK);
    let part = rec.scratch("attention parts", heads.q * splits, heads.dim + 4)?;
    let params = Params {
        keys: keys as u32,
        splits: splits as u32,
        group: (heads.q / heads.kv) as u32,
        capacity: capacity as u32,
        scale,
        pad: [0; 3],
    };
    let variant = Variant::with(&[("D", heads.dim as f64), ("WG", 64.0), ("CHUNK", CHUNK as f64)]);
    rec.dispatch(&KERNEL, variant, &params, &[q, k, v, &part], [splits as u32, heads.q as u32, 1]);
    attention_merge::attention_merge(rec, &part, heads, splits)
}
