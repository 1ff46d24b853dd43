// Weight fragment, q5_k (GGUF's Q5_K): w = d * s * q - e * m, q in 0 .. 31, s and m in 0 .. 63 for 32 elements, (d, e) for 256.
// A row of G groups of 16: low nibbles [2 G words] | fifth bits [G / 2 words] | (s, m) [u8 pairs, G / 2] |
// (d, e) [f16 pairs, G / 16].

// d * s and e * m of 32 elements.
fn scale_min(base: u32, u: u32) -> vec2<f32> {
    let at = base + 2u * params.groups + params.groups / 2u;
    let sm = word(at + u / 2u) >> (16u * (u % 2u));
    return unpack2x16float(word(at + params.groups / 4u + u / 8u)) * vec2<f32>(vec2<u32>(sm & 255u, (sm >> 8u) & 255u));
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    let dm = scale_min(base, u);
    return dm.x * (s.x + s.y) - dm.y * (sx.x + sx.y);
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let q = bits16(base, g);
    let dm = scale_min(base, g / 2u);
    return mat4x4<f32>(dm.x * q[0] - dm.y, dm.x * q[1] - dm.y, dm.x * q[2] - dm.y, dm.x * q[3] - dm.y);
}
