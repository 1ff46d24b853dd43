//! Root-mean-square norm (Zhang and Sennrich 2019): `shaders/rms_norm.wgsl`.

use super::check;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: shared/grid, shared/total, rms_norm.
pub static KERNEL: Kernel = Kernel {
    name: "rms_norm",
    source: include_str!("../../shaders/rms_norm.wgsl"),
    shared: &[include_str!("../../shaders/shared/grid.wgsl"), include_str!("../../shaders/shared/total.wgsl")],
    entry: "rms_norm",
    weight: false,
    storage: &[Read, Read, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("WG", 64.0)], &[("WG", 32.0)], &[("WG", 256.0)]],
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    cols4: u32,
    x_row: u32,
    eps: f32,
}

/// Normalises rows `x_row .. x_row + n` of x `[.., cols]` with `gain` `[cols]` into a new `[n, cols]`.
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes do not match.
pub fn rms_norm(rec: &mut Recorder, x: &Tensor, gain: &Tensor, eps: f32, x_row: usize, n: usize) -> Result<Tensor> {
    check("rms_norm rows", &[x_row + n], &[x.rows], x_row + n <= x.rows)?;
    check("rms_norm gain", &[x.cols], &[gain.len()], gain.len() == x.cols && x.cols.is_multiple_of(4))?;
    let y = rec.scratch("rms_norm", n, x.cols)?;
    let params = Params { n: n as u32, cols4: x.cols as u32 / 4, x_row: x_row as u32, eps };
    let groups = rec.grid(n);
    // A single row is a single workgroup, which waits for memory less often if it has more threads.
    let threads = if n == 1 && x.cols >= 1024 { 256.0 } else { 64.0 };
    rec.dispatch(&KERNEL, Variant::with(&[("WG", threads)]), &params, &[x, gain, &y], groups);
    Ok(y)
}
