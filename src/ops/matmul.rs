//! Tiled matrix product for many rows: `shaders/matmul.wgsl`.

use super::{LinearOptions, LinearParams, Rows, Weight, WeightShard};
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: weight/*, shared/activation, matmul.
pub static KERNEL: Kernel = Kernel {
    name: "matmul",
    source: include_str!("../../shaders/matmul.wgsl"),
    shared: &[include_str!("../../shaders/shared/activation.wgsl")],
    entry: "matmul",
    weight: true,
    storage: &[Read, Read, Read, Write],
    params_bytes: size_of::<LinearParams>(),
    variants: &[
        &[("WG", 64.0), ("FOUR", 0.0)],
        &[("WG", 64.0), ("FOUR", 1.0)],
        &[("WG", 128.0), ("FOUR", 0.0)],
        &[("WG", 128.0), ("FOUR", 1.0)],
    ],
};

/// Outputs of a workgroup's tile.
const OUTPUTS: usize = 64;

/// Threads of a workgroup.
const THREADS: usize = 64;

/// The rows of a workgroup's tile.
pub const fn tile_rows(threads: usize, four: bool) -> usize {
    threads / 8 * if four { 4 } else { 8 }
}

#[expect(clippy::too_many_arguments, reason = "only `linear` calls it, which has checked the shapes")]
pub(super) fn record(
    rec: &mut Recorder,
    x: &Tensor,
    weight: &Weight,
    shard: &WeightShard,
    bias: Option<&Tensor>,
    y: &Tensor,
    rows: Rows,
    options: LinearOptions,
) {
    // A short tile where a high one would be at least half empty.
    let four = rows.n <= tile_rows(THREADS, true);
    let variant = Variant::weighted(shard.format, &[("WG", THREADS as f64), ("FOUR", four.into())]);
    let groups = [shard.rows.div_ceil(OUTPUTS) as u32, rows.n.div_ceil(tile_rows(THREADS, four)) as u32, 1];
    let params = LinearParams::new(weight, shard, rows, bias.is_some(), options);
    rec.dispatch(&KERNEL, variant, &params, &[&shard.tensor, x, bias.unwrap_or(x), y], groups);
}
