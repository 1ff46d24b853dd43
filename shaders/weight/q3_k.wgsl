// Weight fragment, q3_k (GGUF's Q3_K): w = d * s * (q - 4), q in 0 .. 7, s in -32 .. 31 for 16 elements, d for 256.
// A row of G groups of 16: low bits [G words, 2 bits each] | third bits [G / 2 words] | s [i8, G] | (d, 0) [f16 pairs, G / 16].
@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let base = row * params.stride;
    let low = (vec4<u32>(weight[base + k / 4u] >> (8u * (k & 3u))) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
    let bits = weight[base + params.groups + k / 8u] >> (4u * (k & 7u));
    let high = (vec4<u32>(bits) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u);
    let at = base + params.groups + params.groups / 2u;
    let s = bitcast<i32>(weight[at + k / 16u] << (24u - 8u * ((k / 4u) & 3u))) >> 24u;
    let d = unpack2x16float(weight[at + params.groups / 4u + k / 64u]).x * f32(s);
    return d * (vec4<f32>(low | (high << vec4<u32>(2u))) - 4.0);
}
