//! Combines the parts of a split attention: `shaders/attention_merge.wgsl`.

use super::rope::Heads;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: attention_merge.
pub static KERNEL: Kernel = Kernel {
    name: "attention_merge",
    source: include_str!("../../shaders/attention_merge.wgsl"),
    shared: &[],
    entry: "merge",
    weight: false,
    storage: &[Read, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("D", 16.0), ("WG", 64.0)], &[("D", 128.0), ("WG", 64.0)]],
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    splits: u32,
    pad: [u32; 3],
}

pub(super) fn attention_merge(rec: &mut Recorder, part: &Tensor, heads: Heads, splits: usize) -> Result<Tensor> {
    let o = rec.scratch("attention", 1, heads.q * heads.dim)?;
    let variant = Variant::with(&[("D", heads.dim as f64), ("WG", 64.0)]);
    let params = Params { splits: splits as u32, pad: [0; 3] };
    rec.dispatch(&KERNEL, variant, &params, &[part, &o], [heads.q as u32, 1, 1]);
    Ok(o)
}
