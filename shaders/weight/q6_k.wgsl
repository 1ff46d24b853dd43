// Weight fragment, q6_k (GGUF's Q6_K): w = d * s * (q - 32), q in 0 .. 63, s in -128 .. 127 for 16 elements, d for 256.
// A row of G groups of 16: low nibbles [2 G words] | upper two bits [G words] | s [i8, G] | (d, 0) [f16 pairs, G / 16].
// Elements 2 j, 2 j + 1, 2 j + 8 and 2 j + 9 of 16 have their upper bits in byte j of their word, from bits 4, 6, 0 and 2 on.

struct Codes {
    low: vec4<u32>,
    high: vec2<u32>,
}
const PARTS = 4u;

fn codes(base: u32, u: u32) -> Codes {
    // Two words of a vector, since the plane begins at a multiple of 32 words.
    let high = weight[(base + 2u * params.groups) / 4u + u / 2u];
    return Codes(weight[base / 4u + u], select(high.xy, high.zw, u % 2u == 1u));
}

fn bits8(low: u32, high: u32, second: bool) -> mat2x4<f32> {
    let even = (low & 0x0f0f0f0fu) | (select(high, high << 4u, second) & 0x30303030u);
    let odd = ((low >> 4u) & 0x0f0f0f0fu) | (select(high >> 2u, high << 2u, second) & 0x30303030u);
    let e = vec4<f32>(unpack4xU8(even));
    let o = vec4<f32>(unpack4xU8(odd));
    return mat2x4<f32>(vec4<f32>(e.x, o.x, e.y, o.y), vec4<f32>(e.z, o.z, e.w, o.w));
}

fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    return bits8(c.low[p], c.high[p / 2u], p % 2u == 1u);
}

// d * s of 16 elements.
fn scale(base: u32, g: u32) -> f32 {
    let at = base + 3u * params.groups;
    let s = bitcast<i32>(word(at + g / 4u) << (24u - 8u * (g % 4u))) >> 24u;
    return unpack2x16float(word(at + params.groups / 4u + g / 16u)).x * f32(s);
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    let at = base + 3u * params.groups;
    let ss = word(at + u / 2u) >> (16u * (u % 2u));
    let t = (s - 32.0 * sx) * vec2<f32>(vec2<i32>(bitcast<i32>(ss << 24u) >> 24u, bitcast<i32>(ss << 16u) >> 24u));
    return unpack2x16float(word(at + params.groups / 4u + u / 8u)).x * (t.x + t.y);
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let c = weight[base / 4u + g / 2u];
    let low = select(c.xy, c.zw, g % 2u == 1u);
    let high = word(base + 2u * params.groups + g);
    let q = bits8(low.x, high, false);
    let r = bits8(low.y, high, true);
    let d = scale(base, g);
    // d * q has 24 bits, so nothing is rounded but the result.
    let m = 32.0 * d;
    return mat4x4<f32>(d * q[0] - m, d * q[1] - m, d * r[0] - m, d * r[1] - m);
}
