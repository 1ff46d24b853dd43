// Weight fragment, q8 (GGUF's Q8_0): w = d * q, q in -128 .. 127, one d for 32 elements.
// A row of G groups of 16: q [4 G words] | d [f16, G / 2].
// Bytes are converted with their sign. To convert q + 128 and take 128 times the sum of x away is an instruction less, but loses what is
// small beside 128 times an outlier of x.

struct Codes {
    first: vec4<u32>,
    second: vec4<u32>,
}
const PARTS = 4u;

fn codes(base: u32, u: u32) -> Codes {
    return Codes(weight[base / 4u + 2u * u], weight[base / 4u + 2u * u + 1u]);
}

fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    let half = select(c.second, c.first, p < 2u);
    let w = select(half.zw, half.xy, p % 2u == 0u);
    return mat2x4<f32>(vec4<f32>(unpack4xI8(w.x)), vec4<f32>(unpack4xI8(w.y)));
}

fn scale(base: u32, u: u32) -> f32 {
    return unpack2x16float(word(base + 4u * params.groups + u / 2u) >> (16u * (u % 2u))).x;
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    return scale(base, u) * (s.x + s.y);
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let c = weight[base / 4u + g];
    let d = scale(base, g / 2u);
    return mat4x4<f32>(d * vec4<f32>(unpack4xI8(c.x)), d * vec4<f32>(unpack4xI8(c.y)),
        d * vec4<f32>(unpack4xI8(c.z)), d * vec4<f32>(unpack4xI8(c.w)));
}
