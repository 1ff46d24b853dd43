// parts: shared/grid, cache_store
//
// Quantizes the rows of keys and values and puts them at rows past .. of a segment of the q8 cache (cache/q8):
//   k_to[h, past + i] = q | d     d[g] = max |k[h, i, 32 g ..]| / 127     q = round(k / d), 0 where d is 0     and v alike
//
// k, v: [kv_heads, n, 4 d4] f32    k_to, v_to: [kv_heads, capacity, d4 + ceil(d4 / 8)] u32
// dispatch: linear, a thread per (k or v, h, i, group of 32 or what is left of the row). overrides: WG threads.
override WG: u32 = 64u;

struct Params {
    n: u32,
    kv_heads: u32,
    d4: u32,
    past: u32,
    capacity: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> k_to: array<u32>;
@group(0) @binding(4) var<storage, read_write> v_to: array<u32>;

@compute @workgroup_size(WG)
fn store(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let parts = (params.d4 + 7u) / 8u;
    let rows = params.kv_heads * params.n;
    let index = linear_group(group, groups) * WG + lane;
    let g = index % parts;
    let row = (index / parts) % rows;
    let values = index / (parts * rows);
    if (values < 2u) {
        let first = g * 8u;
        let end = min(first + 8u, params.d4);
        let start = row * params.d4;
        let to = ((row / params.n) * params.capacity + params.past + row % params.n) * (params.d4 + parts);
        var top = vec4<f32>();
        for (var c = first; c < end; c += 1u) {
            top = max(top, abs(value4(values, start + c)));
        }
        let largest = max(max(top.x, top.y), max(top.z, top.w));
        // Smaller ones have no reciprocal.
        let some = largest > 1e-36;
        let inverse = select(0.0, 127.0 / largest, some);
        for (var c = first; c < end; c += 1u) {
            let q = vec4<u32>(vec4<i32>(round(value4(values, start + c) * inverse))) & vec4<u32>(255u);
            put(values, to + c, q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u));
        }
        put(values, to + params.d4 + g, bitcast<u32>(select(0.0, largest / 127.0, some)));
    }
}

fn value4(values: u32, at: u32) -> vec4<f32> {
    if (values == 0u) {
        return k[at];
    }
    return v[at];
}

fn put(values: u32, at: u32, word: u32) {
    if (values == 0u) {
        k_to[at] = word;
    } else {
        v_to[at] = word;
    }
}
