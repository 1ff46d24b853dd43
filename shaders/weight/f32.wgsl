// Weight fragment, f32: weight4(row, k) = elements 4k .. 4k+3 of a row of the shard.
// A row takes params.stride words, here a multiple of 4. Words behind its columns never affect a result.
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    return weight[row * (params.stride / 4u) + k];
}
