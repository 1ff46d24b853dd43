// parts: cache/*, attention_decode
//
// Attention of ONE query over a long cache (Flash-Decoding, Dao et al. 2023), in two steps. `split` is launched for each segment
// of the cache: workgroup (s, h) takes the keys s*CHUNK .. of the segment for head h and writes its unnormalised sum, maximum and
// total as part first + s. `merge`: workgroup h combines all parts.
//
//   o[h, :] = sum_j softmax_j(scale * q[h] . k[h / group, j]) v[h / group, j]     j < keys
//
// q: [q_heads, D] f32    k, v: [kv_heads, capacity] rows of the cache's format, `keys` of them in use
// part: [q_heads, splits, D + 4] f32 (sum, max, total, -, -)    o: [q_heads, D] f32
// dispatch: split: x = ceil(keys / CHUNK), y = q_heads. merge: x = q_heads.
// overrides: D head dimension (a multiple of 4, at most 4 * WG), WG threads (a power of two), CHUNK keys of a workgroup.
override D: u32 = 64u;
override WG: u32 = 64u;
override CHUNK: u32 = 128u;

override D4: u32 = D / 4u;
// The sum over values is split among the threads: SHARES threads for each column, every one with a share of the keys.
override SHARES: u32 = WG / D4;

struct Params {
    keys: u32,
    splits: u32,
    group: u32,
    capacity: u32,
    scale: f32,
    first: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> part: array<vec4<f32>>;

var<workgroup> scores: array<f32, CHUNK>;
var<workgroup> reduce: array<f32, WG>;
var<workgroup> sums: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn split(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let j0 = group.x * CHUNK;
    let count = min(CHUNK, params.keys - j0);
    let base = (head / params.group) * params.capacity + j0;
    var top = -1e30;
    for (var t = lane; t < count; t += 2u * WG) {
        // Two keys at a time. If the second would be past the end, the first is taken again.
        let u = select(t, t + WG, t + WG < count);
        var s = vec2<f32>();
        for (var c = 0u; c < D4; c += 1u) {
            let q4 = q[head * D4 + c];
            s += vec2<f32>(dot(q4, cached_key(base + t, c)), dot(q4, cached_key(base + u, c)));
        }
        s *= params.scale;
        scores[t] = s.x;
        scores[u] = s.y;
        top = max(top, max(s.x, s.y));
    }
    reduce[lane] = top;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            reduce[lane] = max(reduce[lane], reduce[lane + half]);
        }
    }
    workgroupBarrier();
    top = reduce[0];
    workgroupBarrier();
    var total = 0.0;
    for (var t = lane; t < count; t += WG) {
        let p = exp(scores[t] - top);
        scores[t] = p;
        total += p;
    }
    reduce[lane] = total;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            reduce[lane] += reduce[lane + half];
        }
    }
    workgroupBarrier();
    // Lane c + D4 * share sums column c over every SHARES-th key.
    var sum = vec4<f32>();
    if (lane < SHARES * D4) {
        for (var t = lane / D4; t < count; t += SHARES) {
            sum += scores[t] * cached_value(base + t, lane % D4);
        }
    }
    sums[lane] = sum;
    workgroupBarrier();
    let to = (head * params.splits + params.first + group.x) * (D4 + 1u);
    if (lane < D4) {
        for (var share = 1u; share < SHARES; share += 1u) {
            sum += sums[share * D4 + lane];
        }
        part[to + lane] = sum;
    }
    if (lane == 0u) {
        part[to + D4] = vec4<f32>(top, reduce[0], 0.0, 0.0);
    }
}
