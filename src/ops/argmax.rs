//! The token id with the highest logit: `shaders/argmax.wgsl`.

use super::check;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: argmax.
pub static KERNEL: Kernel = Kernel {
    name: "argmax",
    source: include_str!("../../shaders/argmax.wgsl"),
    shared: &[],
    entry: "argmax",
    weight: false,
    storage: &[Read, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("WG", 256.0)], &[("WG", 64.0)]],
};

/// The id that the kernel writes if any logit is not a number.
pub const NOT_A_NUMBER: u32 = u32::MAX;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cols: u32,
    pad: [u32; 3],
}

/// Writes to `id` `[1, 1]` the lowest index below `cols` with the highest value of x `[1, ..]`.
///
/// # Errors
/// [`crate::Error::Shape`] if x has fewer than `cols` values.
pub fn argmax(rec: &mut Recorder, x: &Tensor, cols: usize, id: &Tensor) -> Result<()> {
    check("argmax", &[cols], &[x.len()], cols > 0 && cols <= x.len() && !id.is_empty())?;
    let params = Params { cols: cols as u32, pad: [0; 3] };
    rec.dispatch(&KERNEL, Variant::with(&[("WG", 256.0)]), &params, &[x, id], [1, 1, 1]);
    Ok(())
}
