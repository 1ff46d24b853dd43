//! Looks up rows of the embedding matrix by token id: `shaders/embed.wgsl`.

use super::{Weight, check};
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: weight/*, shared/grid, embed.
pub static KERNEL: Kernel = Kernel {
    name: "embed",
    source: include_str!("../../shaders/embed.wgsl"),
    shared: &[include_str!("../../shaders/shared/grid.wgsl")],
    entry: "embed",
    weight: true,
    storage: &[Read, Read, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("WG", 64.0)]],
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    cols4: u32,
    stride: u32,
    groups: u32,
    row_start: u32,
    rows: u32,
    per: u32,
    pad: u32,
}

/// Embeddings `[n, cols]` of the token ids `ids` `[1, n]` or `[n, 1]`. Every id must be below `weight.rows`.
///
/// # Errors
/// [`crate::Error::DeviceTooSmall`] if the result does not fit one binding.
pub fn embed(rec: &mut Recorder, ids: &Tensor, weight: &Weight) -> Result<Tensor> {
    let n = ids.len();
    check("embed columns", &[weight.cols.next_multiple_of(4)], &[weight.cols], weight.cols.is_multiple_of(4))?;
    let y = rec.scratch("embeddings", n, weight.cols)?;
    for shard in &weight.shards {
        let params = Params {
            n: n as u32,
            cols4: weight.cols as u32 / 4,
            stride: shard.stride as u32,
            groups: shard.groups as u32,
            row_start: shard.row_start as u32,
            rows: shard.rows as u32,
            per: shard.per(),
            pad: 0,
        };
        let groups = rec.grid((n * weight.cols.div_ceil(16)).div_ceil(64));
        let variant = Variant::weighted(shard.format, &[("WG", 64.0)]);
        rec.dispatch(&KERNEL, variant, &params, &[&shard.tensor, ids, &y], groups);
    }
    Ok(y)
}
