// Weight fragment, q5 (GGUF's Q5_0 and Q5_1): w = d * q + m, q in 0 .. 31, one (d, m) for 32 elements.
// A row of G groups of 16: low nibbles [2 G words] | fifth bits [G / 2 words] | (d, m) [f16 pairs, G / 2].
@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let base = row * params.stride;
    let low = (vec4<u32>(weight[base + k / 2u] >> (16u * (k & 1u))) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    let bits = weight[base + 2u * params.groups + k / 8u] >> (4u * (k & 7u));
    let high = (vec4<u32>(bits) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u);
    let dm = unpack2x16float(weight[base + 2u * params.groups + params.groups / 2u + k / 8u]);
    return dm.x * vec4<f32>(low | (high << vec4<u32>(4u))) + dm.y;
}
