// Weight fragment, g4 (AWQ and GPTQ in 4 bits): w = s * (q - z), q in 0 .. 15, one (s, z) for 4 << params.per elements.
// A row of G groups of 16: q [2 G words, low nibble first] | (s, z) [f16 pairs, 4 G >> params.per].

fn scale_zero(base: u32, g: u32) -> vec2<f32> {
    return unpack2x16float(word(base + 2u * params.groups + ((4u * g) >> params.per)));
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    let sz = scale_zero(base, 2u * u);
    return sz.x * (s.x + s.y - sz.y * (sx.x + sx.y));
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let q = nibbles16(base, g);
    let sz = scale_zero(base, g);
    return mat4x4<f32>(sz.x * (q[0] - sz.y), sz.x * (q[1] - sz.y), sz.x * (q[2] - sz.y), sz.x * (q[3] - sz.y));
}
