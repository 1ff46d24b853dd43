//! Applies rotary positions (Su et al. 2021), after the norm of query and key heads where there is one (Henry et al. 2020, in the
//! form that Qwen3 uses), and splits fused q, k, v by head: `shaders/rope.wgsl`.

use super::check;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: shared/grid, shared/total, rope.
pub static KERNEL: Kernel = Kernel {
    name: "rope",
    source: include_str!("../../shaders/rope.wgsl"),
    shared: &[include_str!("../../shaders/shared/grid.wgsl"), include_str!("../../shaders/shared/total.wgsl")],
    entry: "rope",
    weight: false,
    storage: &[Read, Read, Read, Read, Write, Write, Write],
    params_bytes: size_of::<Params>(),
    variants: &[
        &[("WG", 64.0), ("NORM", 0.0)],
        &[("WG", 256.0), ("NORM", 0.0)],
        &[("WG", 64.0), ("NORM", 1.0)],
        &[("WG", 32.0), ("NORM", 1.0)],
    ],
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
    q_capacity: u32,
    row: u32,
    table_row: u32,
    eps: f32,
    pad: [u32; 2],
}

/// How many heads there are, and their size.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub q: usize,
    /// Key and value heads; `q` is a multiple of it.
    pub kv: usize,
    /// Elements of a head.
    pub dim: usize,
}

/// The norm of query and key heads.
#[derive(Clone, Copy)]
pub struct HeadNorm<'a> {
    /// Gains of query heads `[dim]`.
    pub q_gain: &'a Tensor,
    /// Gains of key heads `[dim]`.
    pub k_gain: &'a Tensor,
    /// What is added to the mean of squares.
    pub eps: f32,
}

/// Where rotated heads go.
#[derive(Clone, Copy)]
pub struct RopeTarget<'a> {
    /// Queries `[q heads * q_capacity, dim]`.
    pub q: &'a Tensor,
    /// Rows that `q` has room for, per head.
    pub q_capacity: usize,
    /// Row of `q` that the first row of `qkv` goes to.
    pub row: usize,
    /// Row of the table that the first row of `qkv` belongs to.
    pub table_row: usize,
    /// Keys `[kv heads * capacity, dim]`.
    pub k: &'a Tensor,
    /// Values, laid out as `k`.
    pub v: &'a Tensor,
    /// Rows that `k` and `v` have room for, per head.
    pub capacity: usize,
    /// Row of `k` and `v` that the first row of `qkv` goes to.
    pub past: usize,
}

/// Normalises q and k if there is a `norm`, rotates q and k of `qkv` `[n, (q + 2 kv) * dim]` by rows of `table` `[.., dim]` (cosines, then sines) and stores q, k and
/// v by head.
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes do not match.
pub fn rope(
    rec: &mut Recorder,
    qkv: &Tensor,
    norm: Option<HeadNorm<'_>>,
    table: &Tensor,
    heads: Heads,
    to: RopeTarget<'_>,
) -> Result<()> {
    let n = qkv.rows;
    let all = heads.q + 2 * heads.kv;
    let rows_fit = to.table_row + n <= table.rows && to.row + n <= to.q_capacity && to.past + n <= to.capacity;
    check("rope heads", &[heads.dim.next_multiple_of(2)], &[heads.dim], heads.dim.is_multiple_of(2))?;
    check("rope qkv", &[n, all * heads.dim], &[n, qkv.cols], qkv.cols == all * heads.dim)?;
    check("rope table", &[to.table_row + n, heads.dim], &[table.rows, table.cols], table.cols == heads.dim)?;
    check("rope rows", &[to.row + n, to.past + n], &[to.q_capacity, to.capacity], rows_fit)?;
    let words = heads.kv * to.capacity * heads.dim;
    check("rope k, v", &[words, words], &[to.k.len(), to.v.len()], to.k.len() >= words && to.v.len() >= words)?;
    let words = heads.q * to.q_capacity * heads.dim;
    check("rope q", &[words], &[to.q.len()], to.q.len() >= words)?;
    let half = heads.dim / 2;
    let params = Params {
        n: n as u32,
        q_heads: heads.q as u32,
        kv_heads: heads.kv as u32,
        half: half as u32,
        past: to.past as u32,
        capacity: to.capacity as u32,
        q_capacity: to.q_capacity as u32,
        row: to.row as u32,
        table_row: to.table_row as u32,
        eps: norm.map_or(0.0, |norm| norm.eps),
        pad: [0; 2],
    };
    let mut gains = [table; 2]; // nothing reads them without a norm
    let groups = match norm {
        Some(norm) => {
            let found = [norm.q_gain.len(), norm.k_gain.len()];
            check("rope gains", &[heads.dim; 2], &found, found == [heads.dim; 2])?;
            gains = [norm.q_gain, norm.k_gain];
            rec.grid(n * all)
        }
        None => rec.grid((n * all * half).div_ceil(64)),
    };
    let variant = Variant::with(&[("WG", 64.0), ("NORM", norm.is_some().into())]);
    rec.dispatch(&KERNEL, variant, &params, &[qkv, table, gains[0], gains[1], to.q, to.k, to.v], groups);
    Ok(())
}
