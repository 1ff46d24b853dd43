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
        &[("BIAS", 0.0), ("ADD", 0.0), ("ACT", 0.0)],
        &[("BIAS", 1.0), ("ADD", 0.0), ("ACT", 0.0)],
        &[("BIAS", 0.0), ("ADD", 1.0), ("ACT", 0.0)],
        &[("BIAS", 1.0), ("ADD", 1.0), ("ACT", 0.0)],
        &[("BIAS", 1.0), ("ADD", 0.0), ("ACT", 1.0)],
        &[("BIAS", 0.0), ("ADD", 0.0), ("ACT", 1.0)],
        &[("BIAS", 1.0), ("ADD", 1.0), ("ACT", 1.0)],
        &[("BIAS", 1.0), ("ADD", 0.0), ("ACT", 2.0)],
        &[("BIAS", 1.0), ("ADD", 0.0), ("ACT", 3.0)],
    ],
};

/// Rows and outputs of a workgroup's tile.
const TILE: usize = 64;

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
    let variant = Variant::weighted(
        shard.format,
        &[("BIAS", bias.is_some().into()), ("ADD", options.add.into()), ("ACT", f64::from(options.act as u8))],
    );
    let groups = [shard.rows.div_ceil(TILE) as u32, rows.n.div_ceil(TILE) as u32, 1];
    let params = LinearParams::new(weight, shard, rows);
    rec.dispatch(&KERNEL, variant, &params, &[&shard.tensor, x, bias.unwrap_or(x), y], groups);
}
