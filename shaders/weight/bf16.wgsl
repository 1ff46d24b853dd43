// Weight fragment, bfloat16 in packed words: weight4(row, k) = elements 4k .. 4k+3 of a row, each an exact f32.
@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let w = weight[row * (params.stride / 2u) + k];
    return bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}
