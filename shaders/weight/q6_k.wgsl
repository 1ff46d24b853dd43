// Weight fragment, q6_k (GGUF's Q6_K): w = d * s * (q - 32), q in 0 .. 63, s in -128 .. 127 for 16 elements, d for 256.
// A row of G groups of 16: low nibbles [2 G words] | upper two bits [G words] | s [i8, G] | (d, 0) [f16 pairs, G / 16].
@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let base = row * params.stride;
    let low = (vec4<u32>(weight[base + k / 2u] >> (16u * (k & 1u))) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    let bits = weight[base + 2u * params.groups + k / 4u] >> (8u * (k & 3u));
    let high = (vec4<u32>(bits) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
    let at = base + 3u * params.groups;
    let s = bitcast<i32>(weight[at + k / 16u] << (24u - 8u * ((k / 4u) & 3u))) >> 24u;
    let d = unpack2x16float(weight[at + params.groups / 4u + k / 64u]).x * f32(s);
    return d * (vec4<f32>(low | (high << vec4<u32>(4u))) - 32.0);
}
