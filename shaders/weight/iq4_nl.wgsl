// Weight fragment, iq4_nl (GGUF's IQ4_NL): w = d * table[q], q in 0 .. 15, one d for 32 elements.
// A row of G groups of 16: q [2 G words, low nibble first] | d [f16, G / 2].
@group(0) @binding(1) var<storage, read> weight: array<u32>;

// -127 -104 -83 -65 | -49 -35 -22 -10 | 1 13 25 38 | 53 69 89 113, four signed bytes a word.
fn iq4_value(q: u32) -> f32 {
    let low = select(0xf6eaddcfu, 0xbfad9881u, q < 4u);
    let high = select(0x71594535u, 0x26190d01u, q < 12u);
    let word = select(high, low, q < 8u);
    return f32(bitcast<i32>(word << (24u - 8u * (q & 3u))) >> 24u);
}

fn weight4(row: u32, k: u32) -> vec4<f32> {
    let base = row * params.stride;
    let q = (vec4<u32>(weight[base + k / 2u] >> (16u * (k & 1u))) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    let d = unpack2x16float(weight[base + 2u * params.groups + k / 16u])[(k / 8u) & 1u];
    return d * vec4<f32>(iq4_value(q.x), iq4_value(q.y), iq4_value(q.z), iq4_value(q.w));
}
