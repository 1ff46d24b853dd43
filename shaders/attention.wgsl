// parts: attention
//
// o[i, h, :] = sum_j softmax_j(scale * q[h, i] . k[h / group, j]) v[h / group, j]     j in ranges[i].x .. ranges[i].y
//
// One kernel for every mask that is a range of keys per query: causal text (0 .. past + i + 1), windows and whole images
// of the vision tower (their first and last patch). Online softmax in f32 (Milakov and Gimelshein 2018; FlashAttention).
//
// q: [q_heads, n, D] f32    k, v: [kv_heads, capacity, D] f32    ranges: [n] (first, end) u32, never empty
// o: [n, q_heads, D] f32
// dispatch: x = ceil(n / BQ), y = q_heads. BQ * 4 threads: 4 lanes work on one query.
// overrides: D head dimension (a multiple of 4, at most 256), BQ queries and BK keys of a tile
//            (BQ * (D + BK) + BK * D words of shared memory).
override D: u32 = 64u;
override BQ: u32 = 16u;
override BK: u32 = 16u;

override D4: u32 = D / 4u;
override Q_WORDS: u32 = BQ * D / 4u;
override KV_WORDS: u32 = BK * D / 4u;
override S_WORDS: u32 = BQ * BK;
override THREADS: u32 = BQ * 4u;

struct Params {
    n: u32,
    group: u32,
    capacity: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> ranges: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;

var<workgroup> qs: array<vec4<f32>, Q_WORDS>;
var<workgroup> kv: array<vec4<f32>, KV_WORDS>;
var<workgroup> scores: array<f32, S_WORDS>;

@compute @workgroup_size(THREADS)
fn attention(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = group.y;
    let heads = groups.y;
    let i0 = group.x * BQ;
    let mine = lane / 4u;
    let part = lane % 4u;
    let i = i0 + mine;
    let range = ranges[min(i, params.n - 1u)];

    for (var w = lane; w < Q_WORDS; w += THREADS) {
        let row = min(i0 + w / D4, params.n - 1u);
        qs[w] = q[(head * params.n + row) * D4 + w % D4];
    }
    // The tile walks over the union of its queries' ranges.
    var first = 0xffffffffu;
    var end = 0u;
    for (var r = 0u; r < BQ; r += 1u) {
        let other = ranges[min(i0 + r, params.n - 1u)];
        first = min(first, other.x);
        end = max(end, other.y);
    }

    let base = (head / params.group) * params.capacity * D4;
    var top = -1e30;
    var total = 0.0;
    var sum: array<vec4<f32>, 16>;
    for (var c = 0u; c < 16u; c += 1u) {
        sum[c] = vec4<f32>();
    }
    for (var j0 = first; j0 < end; j0 += BK) {
        workgroupBarrier();
        for (var w = lane; w < KV_WORDS; w += THREADS) {
            kv[w] = k[base + min(j0 + w / D4, end - 1u) * D4 + w % D4];
        }
        workgroupBarrier();
        for (var t = part; t < BK; t += 4u) {
            var s = 0.0;
            for (var c = 0u; c < D4; c += 1u) {
                s += dot(qs[mine * D4 + c], kv[t * D4 + c]);
            }
            let j = j0 + t;
            scores[mine * BK + t] = select(-1e30, s * params.scale, j >= range.x && j < range.y);
        }
        workgroupBarrier();
        for (var w = lane; w < KV_WORDS; w += THREADS) {
            kv[w] = v[base + min(j0 + w / D4, end - 1u) * D4 + w % D4];
        }
        var highest = top;
        for (var t = 0u; t < BK; t += 1u) {
            highest = max(highest, scores[mine * BK + t]);
        }
        let keep = exp(top - highest);
        top = highest;
        total *= keep;
        for (var c = 0u; c * 4u < D4; c += 1u) {
            sum[c] *= keep;
        }
        workgroupBarrier();
        for (var t = 0u; t < BK; t += 1u) {
            let s = scores[mine * BK + t];
            // A masked key weighs nothing, also while no real key has been seen.
            let p = select(exp(s - top), 0.0, s <= -1e30);
            total += p;
            for (var c = 0u; c * 4u + part < D4; c += 1u) {
                sum[c] += p * kv[t * D4 + c * 4u + part];
            }
        }
    }
    if (i < params.n) {
        for (var c = 0u; c * 4u + part < D4; c += 1u) {
            o[(i * heads + head) * D4 + c * 4u + part] = sum[c] / total;
        }
    }
}
