// Weight fragment, f32: weight4(i) = elements 4i .. 4i+3 of the shard, row-major, rows padded to a multiple of 4.
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;

fn weight4(i: u32) -> vec4<f32> {
    return weight[i];
}
