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
    variants: &[
        &[("WG", 64.0), ("BIAS", 0.0), ("ADD", 0.0), ("ACT", 0.0)],
        &[("WG", 64.0), ("BIAS", 1.0), ("ADD", 0.0), ("ACT", 0.0)],
        &[("WG", 64.0), ("BIAS", 0.0), ("ADD", 1.0), ("ACT", 0.0)],
        &[("WG", 64.0), ("BIAS", 1.0), ("ADD", 1.0), ("ACT", 0.0)],
        &[("WG", 64.0), ("BIAS", 1.0), ("ADD", 0.0), ("ACT", 1.0)],
        &[("WG", 64.0), ("BIAS", 0.0), ("ADD", 0.0), ("ACT", 1.0)],
        &[("WG", 64.0), ("BIAS", 1.0), ("ADD", 1.0), ("ACT", 1.0)],
        &[("WG", 64.0), ("BIAS", 1.0), ("ADD", 0.0), ("ACT", 2.0)],
        &[("WG", 64.0), ("BIAS", 1.0), ("ADD", 0.0), ("ACT", 3.0)],
        &[("WG", 32.0), ("BIAS", 1.0), ("ADD", 1.0), ("ACT", 0.0)],
        &[("WG", 256.0), ("BIAS", 1.0), ("ADD", 1.0), ("ACT", 0.0)],
    ],
};

/// Outputs of a workgroup.
const OUTPUTS: usize = 4;

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
        &[
            ("WG", 64.0),
            ("BIAS", bias.is_some().into()),
            ("ADD", options.add.into()),
            ("ACT", f64::from(options.act as u8)),
        ],
    );
    let [gx, gy, _] = rec.grid(shard.rows.div_ceil(OUTPUTS));
    let params = LinearParams::new(weight, shard, rows);
    let bindings = [&shard.tensor, x, bias.unwrap_or(x), y];
    rec.dispatch(&KERNEL, variant, &params, &bindings, [gx, gy, rows.n as u32]);
}
