// For weight fragments whose rows are whole words.
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

fn word(i: u32) -> u32 {
    return weight[i / 4u][i % 4u];
}
