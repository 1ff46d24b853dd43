// Weight fragment, f32. A row takes params.stride words, here a multiple of 4. Words behind its columns never affect a result.
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;

struct Codes {
    a: vec4<f32>,
    b: vec4<f32>,
}
const PARTS = 1u;

fn codes(base: u32, u: u32) -> Codes {
    let at = base / 4u + 2u * u;
    return Codes(weight[at], weight[at + 1u]);
}

fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    return mat2x4<f32>(c.a, c.b);
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    return s.x;
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let at = base / 4u + 4u * g;
    return mat4x4<f32>(weight[at], weight[at + 1u], weight[at + 2u], weight[at + 3u]);
}
