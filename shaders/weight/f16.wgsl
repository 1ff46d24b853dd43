// Weight fragment, native f16 (the module begins with `enable f16;`). Words behind a row's columns never affect a result.
@group(0) @binding(1) var<storage, read> weight: array<vec4<f16>>;

struct Codes {
    a: vec4<f16>,
    b: vec4<f16>,
}
const PARTS = 1u;

fn codes(base: u32, u: u32) -> Codes {
    let at = base / 2u + 2u * u;
    return Codes(weight[at], weight[at + 1u]);
}

fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    return mat2x4<f32>(vec4<f32>(c.a), vec4<f32>(c.b));
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    return s.x;
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let at = base / 2u + 4u * g;
    return mat4x4<f32>(
        vec4<f32>(weight[at]), vec4<f32>(weight[at + 1u]), vec4<f32>(weight[at + 2u]), vec4<f32>(weight[at + 3u]));
}
