//! Weighted sums of four rows by index: `shaders/blend_rows.wgsl`.

use super::check;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: shared/grid, blend_rows.
pub static KERNEL: Kernel = Kernel {
    name: "blend_rows",
    source: include_str!("../../shaders/blend_rows.wgsl"),
    shared: &[include_str!("../../shaders/shared/grid.wgsl")],
    entry: "blend_rows",
    weight: false,
    storage: &[Read, Read, Read, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("WG", 64.0)]],
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    cols4: u32,
    pad: [u32; 2],
}

/// Adds `Σ weights[i, k] · x[index[i, k]]` to row i of y `[n, cols]`: x `[.., cols]`, `index` and `weights` `[n, 4]`. Every index
/// must be below x's rows.
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes do not match.
pub fn blend_rows(rec: &mut Recorder, x: &Tensor, index: &Tensor, weights: &Tensor, y: &Tensor) -> Result<()> {
    let n = y.rows;
    check("blend_rows y", &[n, x.cols], &[n, y.cols], y.cols == x.cols && x.cols.is_multiple_of(4))?;
    let taps = index.len() == 4 * n && weights.len() == 4 * n;
    check("blend_rows index, weights", &[4 * n, 4 * n], &[index.len(), weights.len()], taps)?;
    let params = Params { n: n as u32, cols4: x.cols as u32 / 4, pad: [0; 2] };
    let groups = rec.grid((n * x.cols / 4).div_ceil(64));
    rec.dispatch(&KERNEL, Variant::with(&[("WG", 64.0)]), &params, &[x, index, weights, y], groups);
    Ok(())
}
