//! Copies or adds rows by index: `shaders/gather_rows.wgsl`.

use super::check;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: shared/grid, gather_rows.
pub static KERNEL: Kernel = Kernel {
    name: "gather_rows",
    source: include_str!("../../shaders/gather_rows.wgsl"),
    shared: &[include_str!("../../shaders/shared/grid.wgsl")],
    entry: "gather_rows",
    weight: false,
    storage: &[Read, Read, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("WG", 64.0), ("ADD", 0.0)], &[("WG", 64.0), ("ADD", 1.0)]],
};

/// The index that leaves a row of y unchanged.
pub const KEEP: u32 = u32::MAX;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    cols4: u32,
    pad: [u32; 2],
}

/// `y[i] = x[index[i]]` for rows of x `[.., cols]`, y `[n, cols]`; rows whose index is [`KEEP`] are unchanged.
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes do not match.
pub fn gather_rows(rec: &mut Recorder, x: &Tensor, index: &Tensor, y: &Tensor) -> Result<()> {
    record(rec, x, index, y, false)
}

/// `y[i] += x[index[i]]`, otherwise as [`gather_rows`].
///
/// # Errors
/// As [`gather_rows`].
pub fn add_rows(rec: &mut Recorder, x: &Tensor, index: &Tensor, y: &Tensor) -> Result<()> {
    record(rec, x, index, y, true)
}

fn record(rec: &mut Recorder, x: &Tensor, index: &Tensor, y: &Tensor, add: bool) -> Result<()> {
    let n = index.len();
    check(
        "gather_rows y",
        &[n, x.cols],
        &[y.rows, y.cols],
        y.rows >= n && y.cols == x.cols && x.cols.is_multiple_of(4),
    )?;
    let params = Params { n: n as u32, cols4: x.cols as u32 / 4, pad: [0; 2] };
    let groups = rec.grid((n * x.cols / 4).div_ceil(64));
    rec.dispatch(&KERNEL, Variant::with(&[("WG", 64.0), ("ADD", add.into())]), &params, &[x, index, y], groups);
    Ok(())
}
