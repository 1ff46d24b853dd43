// parts: shared/grid, cache_store
//
// Quantizes the rows of keys and values and writes them to rows past .. of a segment of the q8 cache (cache/q8):
//   k_to[h, past + i] = q | d     d[g] = max |x[16 g ..]| / 127     q = round(x / d), 0 where d is 0
// with x = k[h, i] - centre[h]; v likewise, but without a centre. Subtracting the same vector from every key of a head does not
// change the softmax over them. If it is near the mean of the keys, rounding loses less (SageAttention, Zhang et al. 2024:
// "smoothing").
//
// k, v: [kv_heads, n, 4 d4] f32    centre: f32, from word 4 * first4 on [kv_heads, 4 d4], or centred = 0 for none    k_to, v_to: [kv_heads, capacity, d4 + ceil(d4 / 4)] u32
// dispatch: linear, a thread per (k or v, h, i, group of 16 or what is left of the row). overrides: WG threads.
override WG: u32 = 64u;

struct Params {
    n: u32,
    kv_heads: u32,
    d4: u32,
    past: u32,
    capacity: u32,
    centred: u32,
    first4: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> centre: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> k_to: array<u32>;
@group(0) @binding(5) var<storage, read_write> v_to: array<u32>;

@compute @workgroup_size(WG)
fn store(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let parts = (params.d4 + 3u) / 4u;
    let rows = params.kv_heads * params.n;
    let index = linear_group(group, groups) * WG + lane;
    let g = index % parts;
    let row = (index / parts) % rows;
    let values = index / (parts * rows);
    if (values < 2u) {
        let first = g * 4u;
        let end = min(first + 4u, params.d4);
        let start = row * params.d4;
        let to = ((row / params.n) * params.capacity + params.past + row % params.n) * (params.d4 + parts);
        var top = vec4<f32>();
        for (var c = first; c < end; c += 1u) {
            top = max(top, abs(value4(values, start + c)));
        }
        let largest = max(max(top.x, top.y), max(top.z, top.w));
        // The reciprocal of a smaller d would overflow.
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
    if (values == 1u) {
        return v[at];
    }
    if (params.centred == 0u) {
        return k[at];
    }
    let head = at / (params.d4 * params.n);
    return k[at] - centre[params.first4 + head * params.d4 + at % params.d4];
}

fn put(values: u32, at: u32, word: u32) {
    if (values == 0u) {
        k_to[at] = word;
    } else {
        v_to[at] = word;
    }
}
