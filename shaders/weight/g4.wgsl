// Weight fragment, g4 (AWQ and GPTQ in 4 bits): w = s * (q - z), q in 0 .. 15, one (s, z) for 4 << params.per elements.
// A row of G groups of 16: q [2 G words, low nibble first] | (s, z) [f16 pairs, 4 G >> params.per].
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

alias Codes = vec4<u32>;
const PARTS = 4u;

fn codes(base: u32, u: u32) -> Codes {
    return weight[base / 4u + u];
}

fn word(i: u32) -> u32 {
    return weight[i / 4u][i % 4u];
}

fn nibbles8(w: u32) -> mat2x4<f32> {
    let even = vec4<f32>(unpack4xU8(w & 0x0f0f0f0fu));
    let odd = vec4<f32>(unpack4xU8((w >> 4u) & 0x0f0f0f0fu));
    return mat2x4<f32>(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}

fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    return nibbles8(c[p]);
}

fn scale_zero(base: u32, g: u32) -> vec2<f32> {
    return unpack2x16float(word(base + 2u * params.groups + ((4u * g) >> params.per)));
}

fn scaled(base: u32, u: u32, s: vec2<f32>, sx: vec2<f32>) -> f32 {
    let sz = scale_zero(base, 2u * u);
    return sz.x * (s.x + s.y - sz.y * (sx.x + sx.y));
}

fn nibbles16(base: u32, g: u32) -> mat4x4<f32> {
    let c = weight[base / 4u + g / 2u];
    let w = select(c.xy, c.zw, g % 2u == 1u);
    let q = nibbles8(w.x);
    let r = nibbles8(w.y);
    return mat4x4<f32>(q[0], q[1], r[0], r[1]);
}

fn weight16(base: u32, g: u32) -> mat4x4<f32> {
    let q = nibbles16(base, g);
    let sz = scale_zero(base, g);
    return mat4x4<f32>(sz.x * (q[0] - sz.y), sz.x * (q[1] - sz.y), sz.x * (q[2] - sz.y), sz.x * (q[3] - sz.y));
}
