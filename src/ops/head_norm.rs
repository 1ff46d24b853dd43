//! RMSNorm of query and key heads (Henry et al. 2020, in the form that Qwen3 uses): `shaders/head_norm.wgsl`.

use super::check;
use super::rope::Heads;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: shared/grid, shared/total, head_norm.
pub static KERNEL: Kernel = Kernel {
    name: "head_norm",
    source: include_str!("../../shaders/head_norm.wgsl"),
    shared: &[include_str!("../../shaders/shared/grid.wgsl"), include_str!("../../shaders/shared/total.wgsl")],
    entry: "head_norm",
    weight: false,
    storage: &[Read, Read, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("WG", 32.0)], &[("WG", 64.0)]],
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    q_heads: u32,
    kv_heads: u32,
    dim4: u32,
    eps: f32,
    pad: [u32; 3],
}

/// Normalises the query and key heads of `qkv` `[n, (q + 2 kv) * dim]` in place, with gains `[dim]`.
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes do not match.
pub fn head_norm(
    rec: &mut Recorder,
    qkv: &Tensor,
    q_gain: &Tensor,
    k_gain: &Tensor,
    heads: Heads,
    eps: f32,
) -> Result<()> {
    let (n, cols) = (qkv.rows, (heads.q + 2 * heads.kv) * heads.dim);
    check("head_norm qkv", &[n, cols], &[n, qkv.cols], qkv.cols == cols && heads.dim.is_multiple_of(4))?;
    let widths = q_gain.len() == heads.dim && k_gain.len() == heads.dim;
    check("head_norm gains", &[heads.dim, heads.dim], &[q_gain.len(), k_gain.len()], widths)?;
    let params = Params {
        n: n as u32,
        q_heads: heads.q as u32,
        kv_heads: heads.kv as u32,
        dim4: heads.dim as u32 / 4,
        eps,
        pad: [0; 3],
    };
    let groups = rec.grid(n * (heads.q + heads.kv));
    rec.dispatch(&KERNEL, Variant::with(&[("WG", 32.0)]), &params, &[q_gain, k_gain, qkv], groups);
    Ok(())
}
