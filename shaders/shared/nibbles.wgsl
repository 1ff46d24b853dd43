// For weight fragments with codes of 4 bits, the lower one of a byte first: a unit is 32 codes in 16 bytes.
alias Codes = vec4<u32>;
const PARTS = 4u;

fn codes(base: u32, u: u32) -> Codes {
    return weight[base / 4u + u];
}

fn eight(c: Codes, p: u32) -> mat2x4<f32> {
    return nibbles8(c[p]);
}

fn nibbles8(w: u32) -> mat2x4<f32> {
    let even = vec4<f32>(unpack4xU8(w & 0x0f0f0f0fu));
    let odd = vec4<f32>(unpack4xU8((w >> 4u) & 0x0f0f0f0fu));
    return mat2x4<f32>(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}

fn nibbles16(base: u32, g: u32) -> mat4x4<f32> {
    let c = weight[base / 4u + g / 2u];
    let w = select(c.xy, c.zw, g % 2u == 1u);
    let q = nibbles8(w.x);
    let r = nibbles8(w.y);
    return mat4x4<f32>(q[0], q[1], r[0], r[1]);
}
