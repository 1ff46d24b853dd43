// Weight fragment, iq4_xs (GGUF's IQ4_XS): w = d * s * table[q], q in 0 .. 15, s in -32 .. 31 for 32 elements, d for 256.
// A row of G groups of 16: q [2 G words, low nibble first] | s [i8, G / 2] | (d, 0) [f16 pairs, G / 16].
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

alias Codes = vec4<u32>;
const PARTS = 4u;

fn codes(base: u32, u: u32) -> Codes {
    return weight[base / 4u + u];
}

fn word(i: u32) -> u32 {
    return weight[i / 4u][i % 4u];
}

// The values -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113 of the codes 0 .. 15, by a polynomial that comes within
// 0.434 of each. (A table in registers would take twice the instructions.)
fn table4(q: vec4<f32>) -> vec4<f32> {
    return round((((0.00158604 * q + 0.0310864) * q - 1.371927) * q + 24.1738) * q - 126.567);
}

fn eight_of(w: u32) -> mat2x4<f32> {
    let even = table4(vec4<f32>(unpack4xU8(w & 0x0f0f0f0fu)));
    let odd = table4(vec4<f32>(unpack4xU8((w >> 4u) & 0x0f0f0f0fu)));
    return mat2x4<f32>(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}

fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    return eight_of(c[p]);
}

fn scale(base: u32, u: u32) -> f32 {
    let at = base + 2u * params.groups;
    let s = bitcast<i32>(word(at + u / 4u) << (24u - 8u * (u % 4u))) >> 24u;
    return unpack2x16float(word(at + params.groups / 8u + u / 8u)).x * f32(s);
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    return scale(base, u) * (s.x + s.y);
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let c = weight[base / 4u + g / 2u];
    let w = select(c.xy, c.zw, g % 2u == 1u);
    let d = scale(base, g / 2u);
    let q = eight_of(w.x);
    let r = eight_of(w.y);
    return mat4x4<f32>(d * q[0], d * q[1], d * r[0], d * r[1]);
}
