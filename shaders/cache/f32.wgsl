// Cache fragment, f32: a row of a head is its D numbers.
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;

fn cached_key(row: u32, c: u32) -> vec4<f32> {
    return k[row * (D / 4u) + c];
}

fn cached_value(row: u32, c: u32) -> vec4<f32> {
    return v[row * (D / 4u) + c];
}
