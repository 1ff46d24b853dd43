//! Gated activation (Shazeer 2020): `shaders/swiglu.wgsl`.

use super::check;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: shared/grid, shared/activation, swiglu.
pub static KERNEL: Kernel = Kernel {
    name: "swiglu",
    source: include_str!("../../shaders/swiglu.wgsl"),
    shared: &[include_str!("../../shaders/shared/grid.wgsl"), include_str!("../../shaders/shared/activation.wgsl")],
    entry: "swiglu",
    weight: false,
    storage: &[Read, Write],
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

/// `silu(gate) * up` of x `[n, gate | up]`; returns `[n, x.cols / 2]`.
///
/// # Errors
/// [`crate::Error::Shape`] unless each half is a multiple of 4 wide.
pub fn swiglu(rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
    let cols = x.cols / 2;
    check("swiglu", &[x.rows, x.cols.next_multiple_of(8)], &[x.rows, x.cols], x.cols.is_multiple_of(8))?;
    let y = rec.scratch("swiglu", x.rows, cols)?;
    let params = Params { n: x.rows as u32, cols4: cols as u32 / 4, pad: [0; 2] };
    let groups = rec.grid((x.rows * cols / 4).div_ceil(64));
    rec.dispatch(&KERNEL, Variant::with(&[("WG", 64.0)]), &params, &[x, &y], groups);
    Ok(y)
}
