// Weight fragment, bfloat16 in packed words: weight4(i) = elements 4i .. 4i+3 of the shard, each an exact f32.
@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

fn weight4(i: u32) -> vec4<f32> {
    let w = weight[i];
    return bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}
