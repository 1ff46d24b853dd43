// Weight fragment, g4 (AWQ and GPTQ in 4 bits): w = s * (q - z), q in 0 .. 15, one (s, z) for 4 * params.per elements.
// A row of G groups of 16: q [2 G words, low nibble first] | (s, z) [f16 pairs, 4 G / params.per].
@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let base = row * params.stride;
    let q = (vec4<u32>(weight[base + k / 2u] >> (16u * (k & 1u))) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    let sz = unpack2x16float(weight[base + 2u * params.groups + k / params.per]);
    return sz.x * (vec4<f32>(q) - sz.y);
}
