//! Rotary positions (Su et al. 2021), splitting fused q, k, v by head: `shaders/rope.wgsl`.

use super::check;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: shared/grid, rope.
pub static KERNEL: Kernel = Kernel {
    name: "rope",
    source: include_str!("../../shaders/rope.wgsl"),
    shared: &[include_str!("../../shaders/shared/grid.wgsl")],
    entry: "rope",
    weight: false,
    storage: &[Read, Read, Write, Write, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("WG", 64.0)], &[("WG", 256.0)]],
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    q_heads: u32,
    kv_heads: u32,
    half: u32,
    past: u32,
    capacity: u32,
    pad: [u32; 2],
}

/// Where heads are and how many there are.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub q: usize,
    /// Key and value heads; `q` is a multiple of it.
    pub kv: usize,
    /// Elements of a head.
    pub dim: usize,
}

/// Rotates q and k of `qkv` `[n, (q + 2 kv) * dim]` by `table` `[n, dim]` (cosines, then sines). Returns q
/// `[q * n, dim]`; keys and values go to `k`, `v` `[kv * capacity, dim]` at positions `past ..`.
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes do not meet.
#[expect(clippy::too_many_arguments, reason = "one launch with three outputs")]
pub fn rope(
    rec: &mut Recorder,
    qkv: &Tensor,
    table: &Tensor,
    heads: Heads,
    k: &Tensor,
    v: &Tensor,
    past: usize,
    capacity: usize,
) -> Result<Tensor> {
    let n = qkv.rows;
    let all = heads.q + 2 * heads.kv;
    check("rope qkv", &[n, all * heads.dim], &[n, qkv.cols], qkv.cols == all * heads.dim)?;
    check("rope table", &[n, heads.dim], &[table.rows, table.cols], table.rows == n && table.cols == heads.dim)?;
    check("rope cache", &[past + n], &[capacity], past + n <= capacity)?;
    let words = heads.kv * capacity * heads.dim;
    check("rope k, v", &[words, words], &[k.len(), v.len()], k.len() >= words && v.len() >= words)?;
    let q = rec.scratch("q", heads.q * n, heads.dim)?;
    let half = heads.dim / 2;
    let params = Params {
        n: n as u32,
        q_heads: heads.q as u32,
        kv_heads: heads.kv as u32,
        half: half as u32,
        past: past as u32,
        capacity: capacity as u32,
        pad: [0; 2],
    };
    let groups = rec.grid((n * all * half).div_ceil(64));
    rec.dispatch(&KERNEL, Variant::with(&[("WG", 64.0)]), &params, &[qkv, table, &q, k, v], groups);
    Ok(q)
}
