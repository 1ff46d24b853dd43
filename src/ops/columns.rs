//! Transposes columns of words into rows: `shaders/columns.wgsl`.

use super::{Weight, check};
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: shared/grid, columns.
pub static KERNEL: Kernel = Kernel {
    name: "columns",
    source: include_str!("../../shaders/columns.wgsl"),
    shared: &[include_str!("../../shaders/shared/grid.wgsl")],
    entry: "columns",
    weight: false,
    storage: &[Read, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[]],
};

/// Rows and columns of a tile.
const TILE: usize = 16;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    rows: u32,
    from_row: u32,
    to_row: u32,
    count: u32,
    stride: u32,
    first: u32,
    pad: u32,
}

/// Copies word `x[c, r]` of x `[n, rows]` to word `first + c` of row `top + r` of `weight`, in whichever shard that row is.
///
/// # Errors
/// [`crate::Error::Shape`] if these rows or words are outside the weight.
pub fn columns(rec: &mut Recorder, x: &Tensor, weight: &Weight, top: usize, first: usize) -> Result<()> {
    let (n, rows) = (x.rows, x.cols);
    check("columns rows", &[weight.rows], &[top + rows], top + rows <= weight.rows)?;
    for shard in &weight.shards {
        let (begin, end) = (top.max(shard.row_start), (top + rows).min(shard.row_start + shard.rows));
        if begin >= end {
            continue;
        }
        check("columns", &[shard.stride], &[first + n], first + n <= shard.stride)?;
        let params = Params {
            n: n as u32,
            rows: rows as u32,
            from_row: (begin - top) as u32,
            to_row: (begin - shard.row_start) as u32,
            count: (end - begin) as u32,
            stride: shard.stride as u32,
            first: first as u32,
            pad: 0,
        };
        let groups = rec.grid((end - begin).div_ceil(TILE) * n.div_ceil(TILE));
        rec.dispatch(&KERNEL, Variant::default(), &params, &[x, &shard.tensor], groups);
    }
    Ok(())
}
