// For weight fragments with codes of 5 bits: low nibbles [2 G words] | fifth bits [G / 2 words].
// Element 8 p + i of 32 has its fifth bit in byte i / 2 of their word, as bit 2 p + i % 2.
struct Codes {
    low: vec4<u32>,
    high: u32,
}
const PARTS = 4u;

fn codes(base: u32, u: u32) -> Codes {
    return Codes(weight[base / 4u + u], word(base + 2u * params.groups + u));
}

fn bits8(low: u32, high: u32, p: u32) -> mat2x4<f32> {
    let even = vec4<f32>(unpack4xU8((low & 0x0f0f0f0fu) | (((high >> (2u * p)) & 0x01010101u) << 4u)));
    let odd = vec4<f32>(unpack4xU8(((low >> 4u) & 0x0f0f0f0fu) | (((high >> (2u * p + 1u)) & 0x01010101u) << 4u)));
    return mat2x4<f32>(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}

fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    return bits8(c.low[p], c.high, p);
}

fn bits16(base: u32, g: u32) -> mat4x4<f32> {
    let c = codes(base, g / 2u);
    let p = 2u * (g % 2u);
    let w = select(c.low.xy, c.low.zw, p == 2u);
    let q = bits8(w.x, c.high, p);
    let r = bits8(w.y, c.high, p + 1u);
    return mat4x4<f32>(q[0], q[1], r[0], r[1]);
}
