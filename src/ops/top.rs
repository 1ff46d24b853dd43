//! The highest logits of each part of a row: `shaders/top.wgsl`.

use super::check;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Rehearsal, Tensor, Variant};

/// Parts: top.
pub static KERNEL: Kernel = Kernel {
    name: "top",
    source: include_str!("../../shaders/top.wgsl"),
    shared: &[],
    entry: "top",
    weight: false,
    storage: &[Read, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("WG", 64.0)], &[("WG", 32.0)]],
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cols: u32,
    parts: u32,
    turns: u32,
    pad: u32,
}

/// Words that a part yields: four keys and their ids.
pub(super) const WORDS: usize = 8;
/// Threads of a workgroup.
const WG: usize = 64;
/// The most parts that `top_merge` takes.
const MOST_PARTS: usize = 1024;

/// How many parts a row of so many columns has: small ones for a short row, whose four are then all that they hold; for a long
/// row, so many that each thread looks at two blocks.
pub fn parts(cols: usize) -> usize {
    let blocks = cols.div_ceil(4);
    blocks.min(256).max(blocks.div_ceil(2 * WG)).min(MOST_PARTS)
}

/// The four highest of each part of the first `cols` values of x `[1, ..]`, as `[parts, 8]` words.
///
/// # Errors
/// [`crate::Error::Shape`] if x has fewer than `cols` values.
pub fn top(rec: &mut Recorder, x: &Tensor, cols: usize) -> Result<Tensor> {
    check("top", &[cols.max(1)], &[x.len()], cols > 0 && cols <= x.len())?;
    let parts = parts(cols);
    let part = rec.scratch("highest logits", parts, WORDS)?;
    let turns = cols.div_ceil(4).div_ceil(parts * WG);
    let params = Params { cols: cols as u32, parts: parts as u32, turns: turns as u32, pad: 0 };
    rec.dispatch(&KERNEL, Variant::with(&[("WG", WG as f64)]), &params, &[x, &part], [parts as u32, 1, 1]);
    Ok(part)
}

/// [`top`] and what follows it on paper.
pub fn rehearse(pool: &Rehearsal, cols: usize) {
    drop(pool.scratch("highest logits", parts(cols), WORDS));
    pool.launch(2);
}
