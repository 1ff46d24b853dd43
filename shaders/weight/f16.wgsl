// Weight fragment, native f16 (the module begins with `enable f16;`): weight4(row, k) = elements 4k .. 4k+3 of a row.
@group(0) @binding(1) var<storage, read> weight: array<vec4<f16>>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    return vec4<f32>(weight[row * (params.stride / 2u) + k]);
}
