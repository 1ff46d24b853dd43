// Weight fragment, q3_k (GGUF's Q3_K): w = d * s * (q - 4), q in 0 .. 7, s in -32 .. 31 for 16 elements, d for 256.
// A row of G groups of 16: low bits [G words, 2 bits each] | third bits [G / 2 words] | s [i8, G] | (d, 0) [f16 pairs, G / 16].
// Element 16 h + 4 j + i of 32 has its third bit in byte j of their word, as bit 4 h + i.

struct Codes {
    low: vec2<u32>,
    high: u32,
}
const PARTS = 4u;

fn codes(base: u32, u: u32) -> Codes {
    let c = weight[base / 4u + u / 2u];
    return Codes(select(c.xy, c.zw, u % 2u == 1u), word(base + params.groups + u));
}

// Elements 4 j .. 4 j + 3 of a word are its byte j. The third bits begin at bit 0 of each byte.
fn four(low: u32, high: u32, j: u32) -> vec4<f32> {
    let third = ((vec4<u32>(high) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(0x01010101u)) << vec4<u32>(2u);
    let fields = ((vec4<u32>(low) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(0x03030303u)) | third;
    return vec4<f32>((fields >> vec4<u32>(8u * j)) & vec4<u32>(255u));
}

// q - 4. The 4 is not taken out of the sum: beside an outlier of x, the rest of a row would be lost in 4 times that outlier.
fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    let low = c.low[p / 2u];
    let high = c.high >> (4u * (p / 2u));
    return mat2x4<f32>(four(low, high, 2u * (p % 2u)) - 4.0, four(low, high, 2u * (p % 2u) + 1u) - 4.0);
}

// d * s of 16 elements.
fn scale(base: u32, g: u32) -> f32 {
    let at = base + params.groups + params.groups / 2u;
    let s = bitcast<i32>(word(at + g / 4u) << (24u - 8u * (g % 4u))) >> 24u;
    return unpack2x16float(word(at + params.groups / 4u + g / 16u)).x * f32(s);
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    let at = base + params.groups + params.groups / 2u;
    let ss = word(at + u / 2u) >> (16u * (u % 2u));
    let t = s * vec2<f32>(vec2<i32>(bitcast<i32>(ss << 24u) >> 24u, bitcast<i32>(ss << 16u) >> 24u));
    return unpack2x16float(word(at + params.groups / 4u + u / 8u)).x * (t.x + t.y);
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let low = word(base + g);
    let high = word(base + params.groups + g / 2u) >> (4u * (g % 2u));
    let d = scale(base, g);
    // d * q has 20 bits, so nothing is rounded but the result.
    let m = 4.0 * d;
    return mat4x4<f32>(d * four(low, high, 0u) - m, d * four(low, high, 1u) - m, d * four(low, high, 2u) - m, d * four(low, high, 3u) - m);
}
