// For floats of 16 bits in packed words, which differ in `floats4`. Words behind a row's columns never affect a result.
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

alias Codes = vec4<u32>;
const PARTS = 1u;

fn codes(base: u32, u: u32) -> Codes {
    return weight[base / 4u + u];
}

fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    return mat2x4<f32>(floats4(c.xy), floats4(c.zw));
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    return s.x;
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let w = weight[base / 4u + 2u * g];
    let v = weight[base / 4u + 2u * g + 1u];
    return mat4x4<f32>(floats4(w.xy), floats4(w.zw), floats4(v.xy), floats4(v.zw));
}
