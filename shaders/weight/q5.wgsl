// Weight fragment, q5 (GGUF's Q5_0 and Q5_1): w = d * q + m, q in 0 .. 31, one (d, m) for 32 elements.
// A row of G groups of 16: low nibbles [2 G words] | fifth bits [G / 2 words] | (d, m) [f16 pairs, G / 2].

fn scale_min(base: u32, u: u32) -> vec2<f32> {
    return unpack2x16float(word(base + 2u * params.groups + params.groups / 2u + u));
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    let dm = scale_min(base, u);
    return dm.x * (s.x + s.y) + dm.y * (sx.x + sx.y);
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let q = bits16(base, g);
    let dm = scale_min(base, g / 2u);
    return mat4x4<f32>(dm.x * q[0] + dm.y, dm.x * q[1] + dm.y, dm.x * q[2] + dm.y, dm.x * q[3] + dm.y);
}
