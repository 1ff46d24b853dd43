// Weight fragment, g8 (GPTQ in 8 bits): w = s * (q - z), q in 0 .. 255, one (s, z) for 4 << params.per elements.
// A row of G groups of 16: q [4 G words] | (s, z) [f16 pairs, 4 G >> params.per].

alias Codes = vec4<u32>;
const PARTS = 2u;

fn codes(base: u32, u: u32) -> Codes {
    return weight[base / 4u + u];
}

fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    return mat2x4<f32>(vec4<f32>(unpack4xU8(c[2u * p])), vec4<f32>(unpack4xU8(c[2u * p + 1u])));
}

fn scale_zero(base: u32, g: u32) -> vec2<f32> {
    return unpack2x16float(word(base + 4u * params.groups + ((4u * g) >> params.per)));
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    let sz = scale_zero(base, u);
    return sz.x * (s.x + s.y - sz.y * (sx.x + sx.y));
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let c = weight[base / 4u + g];
    let sz = scale_zero(base, g);
    return mat4x4<f32>(sz.x * (vec4<f32>(unpack4xU8(c.x)) - sz.y), sz.x * (vec4<f32>(unpack4xU8(c.y)) - sz.y),
        sz.x * (vec4<f32>(unpack4xU8(c.z)) - sz.y), sz.x * (vec4<f32>(unpack4xU8(c.w)) - sz.y));
}
