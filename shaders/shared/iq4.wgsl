// For iq4_nl and iq4_xs, which look their 4-bit codes up in one table and differ in `scale`, the factor of 32 elements.
alias Codes = vec4<u32>;
const PARTS = 4u;

fn codes(base: u32, u: u32) -> Codes {
    return weight[base / 4u + u];
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
