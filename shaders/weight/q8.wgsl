// Weight fragment, q8 (GGUF's Q8_0): w = d * q, q in -128 .. 127, one d for 32 elements.
// A row of G groups of 16: q [4 G words] | d [f16, G / 2].
@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let base = row * params.stride;
    let q = bitcast<vec4<i32>>(vec4<u32>(weight[base + k]) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u);
    let d = unpack2x16float(weight[base + 4u * params.groups + k / 16u])[(k / 8u) & 1u];
    return d * vec4<f32>(q);
}
