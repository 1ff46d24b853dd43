//! Matrix-vector product for few rows: `shaders/matvec.wgsl`.

use super::{LinearOptions, LinearParams, Rows, Weight, WeightShard};
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: weight/*, shared/grid, shared/activation, matvec.
pub static KERNEL: Kernel = Kernel {
    name: "matvec",
    source: include_str!("../../shaders/matvec.wgsl"),
    shared: &[include_str!("../../shaders/shared/grid.wgsl"), include_str!("../../shaders/shared/activation.wgsl")],
    entry: "matvec",
    weight: true,
    storage: &[Read, Read, Read, Write],
    params_bytes: size_of::<LinearParams>(),
    variants: &[&[("WG", 64.0)], &[("WG", 32.0)], &[("WG", 128.0)], &[("WG", 256.0)]],
};

/// Threads of a workgroup.
const THREADS: usize = 64;

/// Outputs of a workgroup: every 32 threads make four.
pub const fn outputs(threads: usize) -> usize {
    threads / 8
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
    let variant = Variant::weighted(shard.format, &[("WG", THREADS as f64)]);
    let [gx, gy, _] = rec.grid(shard.rows.div_ceil(outputs(THREADS)));
    let params = LinearParams::new(weight, shard, rows, bias.is_some(), options);
    let bindings = [&shard.tensor, x, bias.unwrap_or(x), y];
    rec.dispatch(&KERNEL, variant, &params, &bindings, [gx, gy, rows.n as u32]);
}
