// Weight fragment, q4_k (GGUF's Q4_K): w = d * s * q - e * m, q in 0 .. 15, s and m in 0 .. 63 for 32 elements, (d, e) for 256.
// A row of G groups of 16: q [2 G words, low nibble first] | (s, m) [u8 pairs, G / 2] | (d, e) [f16 pairs, G / 16].
@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let base = row * params.stride;
    let q = (vec4<u32>(weight[base + k / 2u] >> (16u * (k & 1u))) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    let at = base + 2u * params.groups;
    let sm = weight[at + k / 16u] >> (16u * ((k / 8u) & 1u));
    let de = unpack2x16float(weight[at + params.groups / 4u + k / 64u]);
    return de.x * f32(sm & 255u) * vec4<f32>(q) - de.y * f32((sm >> 8u) & 255u);
}
