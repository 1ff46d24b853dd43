// Weight fragment, q4 (GGUF's Q4_0 and Q4_1): w = d * q + m, q in 0 .. 15, one (d, m) for 32 elements.
// A row of G groups of 16: q [2 G words, low nibble first] | (d, m) [f16 pairs, G / 2].
@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let base = row * params.stride;
    let q = (vec4<u32>(weight[base + k / 2u] >> (16u * (k & 1u))) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    let dm = unpack2x16float(weight[base + 2u * params.groups + k / 8u]);
    return dm.x * vec4<f32>(q) + dm.y;
}
