// Cache fragment, q8: x = d * q, q in -127 .. 127, one f32 d for 16 numbers (the last group of a row may have fewer).
// A row of a head: q [D / 4 words of 4, the first in the lowest byte] | d [ceil(D / 16)]. Written by cache_store.
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(3) var<storage, read> v: array<u32>;

override ROW: u32 = D / 4u + (D + 15u) / 16u;

fn codes(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

fn cached_key(row: u32, c: u32) -> vec4<f32> {
    return bitcast<f32>(k[row * ROW + D / 4u + c / 4u]) * codes(k[row * ROW + c]);
}

fn cached_value(row: u32, c: u32) -> vec4<f32> {
    return bitcast<f32>(v[row * ROW + D / 4u + c / 4u]) * codes(v[row * ROW + c]);
}
