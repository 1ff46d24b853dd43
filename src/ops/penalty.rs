//! Repetition penalty on logits in place: `shaders/penalty.wgsl`.

use super::check;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: penalty.
pub static KERNEL: Kernel = Kernel {
    name: "penalty",
    source: include_str!("../../shaders/penalty.wgsl"),
    shared: &[],
    entry: "penalty",
    weight: false,
    storage: &[Read, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("WG", 64.0)]],
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    count: u32,
    penalty: f32,
    pad: [u32; 2],
}

/// Divides positive and multiplies negative logits x `[1, ..]` at the first `count` of the distinct `ids` by `penalty`.
///
/// # Errors
/// [`crate::Error::Shape`] if `ids` has fewer than `count`.
pub fn penalty(rec: &mut Recorder, x: &Tensor, ids: &Tensor, count: usize, penalty: f32) -> Result<()> {
    check("penalty ids", &[count], &[ids.len()], count <= ids.len())?;
    let params = Params { count: count as u32, penalty, pad: [0; 2] };
    let groups = [count.div_ceil(64) as u32, 1, 1];
    rec.dispatch(&KERNEL, Variant::with(&[("WG", 64.0)]), &params, &[ids, x], groups);
    Ok(())
}
