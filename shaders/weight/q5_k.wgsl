// Weight fragment, q5_k (GGUF's Q5_K): w = d * s * q - e * m, q in 0 .. 31, s and m in 0 .. 63 for 32 elements, (d, e) for 256.
// A row of G groups of 16: low nibbles [2 G words] | fifth bits [G / 2 words] | (s, m) [u8 pairs, G / 2] |
// (d, e) [f16 pairs, G / 16]. Element 8 p + i of 32 has its fifth bit in byte i / 2 of their word, as bit 2 p + i % 2.
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

fn word(i: u32) -> u32 {
    return weight[i / 4u][i % 4u];
}

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

fn bits16(base: u32, g: u32) -> mat4x4<f32> {
    let c = codes(base, g / 2u);
    let p = 2u * (g % 2u);
    let w = select(c.low.xy, c.low.zw, p == 2u);
    let q = bits8(w.x, c.high, p);
    let r = bits8(w.y, c.high, p + 1u);
    return mat4x4<f32>(q[0], q[1], r[0], r[1]);
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let q = bits16(base, g);
    let dm = scale_min(base, g / 2u);
    return mat4x4<f32>(dm.x * q[0] - dm.y, dm.x * q[1] - dm.y, dm.x * q[2] - dm.y, dm.x * q[3] - dm.y);
}
