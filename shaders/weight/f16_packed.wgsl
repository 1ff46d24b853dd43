// Weight fragment, f16 in packed words (no shader-f16 needed): weight4(i) = elements 4i .. 4i+3 of the shard.
@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

fn weight4(i: u32) -> vec4<f32> {
    let w = weight[i];
    return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
}
