// Weight fragment, g8 (GPTQ in 8 bits): w = s * (q - z), q in 0 .. 255, one (s, z) for 4 * params.per elements.
// A row of G groups of 16: q [4 G words] | (s, z) [f16 pairs, 4 G / params.per].
@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let base = row * params.stride;
    let q = (vec4<u32>(weight[base + k]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
    let sz = unpack2x16float(weight[base + 4u * params.groups + k / params.per]);
    return sz.x * (vec4<f32>(q) - sz.y);
}
