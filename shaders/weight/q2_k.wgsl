// Weight fragment, q2_k (GGUF's Q2_K): w = d * s * q - e * m, q in 0 .. 3, s and m in 0 .. 15 for 16 elements, (d, e) for 256.
// A row of G groups of 16: q [G words, 2 bits each] | s + 16 m [u8, G] | (d, e) [f16 pairs, G / 16].

alias Codes = vec2<u32>;
const PARTS = 4u;

fn codes(base: u32, u: u32) -> Codes {
    let c = weight[base / 4u + u / 2u];
    return select(c.xy, c.zw, u % 2u == 1u);
}

// Elements 4 j .. 4 j + 3 of a word are its byte j.
fn four(w: u32, j: u32) -> vec4<f32> {
    let fields = (vec4<u32>(w) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(0x03030303u);
    return vec4<f32>((fields >> vec4<u32>(8u * j)) & vec4<u32>(255u));
}

fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    return mat2x4<f32>(four(c[p / 2u], 2u * (p % 2u)), four(c[p / 2u], 2u * (p % 2u) + 1u));
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    let at = base + params.groups;
    let sm = word(at + u / 2u) >> (16u * (u % 2u));
    let de = unpack2x16float(word(at + params.groups / 4u + u / 8u));
    let m = vec2<f32>(vec2<u32>((sm >> 4u) & 15u, (sm >> 12u) & 15u));
    return de.x * dot(vec2<f32>(vec2<u32>(sm & 15u, (sm >> 8u) & 15u)), s) - de.y * dot(m, sx);
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let w = word(base + g);
    let at = base + params.groups;
    let sm = word(at + g / 4u) >> (8u * (g % 4u));
    let de = unpack2x16float(word(at + params.groups / 4u + g / 16u));
    let d = de.x * f32(sm & 15u);
    let m = de.y * f32((sm >> 4u) & 15u);
    return mat4x4<f32>(d * four(w, 0u) - m, d * four(w, 1u) - m, d * four(w, 2u) - m, d * four(w, 3u) - m);
}
