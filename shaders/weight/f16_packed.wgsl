// Weight fragment, f16 in packed words (no shader-f16 needed): weight4(row, k) = elements 4k .. 4k+3 of a row.
@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let w = weight[row * (params.stride / 2u) + k];
    return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
}
