// Weight fragment, q2_k (GGUF's Q2_K): w = d * s * q - e * m, q in 0 .. 3, s and m in 0 .. 15 for 16 elements, (d, e) for 256.
// A row of G groups of 16: q [G words, 2 bits each] | s + 16 m [u8, G] | (d, e) [f16 pairs, G / 16].
@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let base = row * params.stride;
    let q = (vec4<u32>(weight[base + k / 4u] >> (8u * (k & 3u))) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
    let at = base + params.groups;
    let sm = weight[at + k / 16u] >> (8u * ((k / 4u) & 3u));
    let de = unpack2x16float(weight[at + params.groups / 4u + k / 64u]);
    return de.x * f32(sm & 15u) * vec4<f32>(q) - de.y * f32((sm >> 4u) & 15u);
}
