// parts: cache/*, attention
//
// o[i, h, :] = sum_j softmax_j(scale * q[h, i] . k[h / group, j]) v[h / group, j]     j in ranges[i].x .. ranges[i].y
//
// One kernel for every mask that is a range of keys per query: causal text (0 .. past + i + 1), windows and whole images
// of the vision tower (their first and last patch). Online softmax in f32 (Milakov and Gimelshein 2018; FlashAttention).
//
// If the keys are in several segments, the kernel is launched once for each. A launch sees `keys` keys from `start` on, and
// passes its intermediate result to the next launch through o. With carry & 1 it starts from the content of o. With carry & 2
// it leaves the undivided sums in o and, behind the n rows of o, each query's maximum and total.
//
// q: [q_heads, n, D] f32    k, v: [kv_heads, capacity] rows of the cache's format
// ranges: [n] (first, end) u32, counted over all segments; no range is empty
// o: [n, q_heads, D] f32, then with carry [q_heads, ceil(n / 4), 2, 4] f32 (maxima, totals of 4 queries)
// dispatch: x = ceil(n / BQ), y = q_heads. The 64 threads of a workgroup do three things in turn:
//   scores   4 queries x 4 keys each, over one of PARTS parts of D
//   softmax  one key and 4 queries each
//   values   4 queries each, and groups of 4 columns: group lane / QG and, if D is wide, also group LANES further
// overrides: D head dimension (a multiple of 4), BQ queries and BK keys of a tile (multiples of 4; BQ * BK at most 512,
//            BQ * D at most 2048, and 16 * (BQ * D + BK * D) / 4 + 4096 bytes of shared memory).
override D: u32 = 64u;
override BQ: u32 = 16u;
override BK: u32 = 16u;

override D4: u32 = D / 4u;
override Q_WORDS: u32 = BQ * D / 4u;
override KV_WORDS: u32 = BK * D / 4u;
override QG: u32 = BQ / 4u;
override KG: u32 = BK / 4u;
override PARTS: u32 = 64u / (QG * KG);
override LANES: u32 = 64u / QG;
override SCORES: u32 = BK * QG;

struct Params {
    n: u32,
    group: u32,
    capacity: u32,
    scale: f32,
    start: u32,
    keys: u32,
    carry: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> ranges: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;

var<workgroup> qs: array<vec4<f32>, Q_WORDS>;
var<workgroup> kv: array<vec4<f32>, KV_WORDS>;
// Four queries in a vector: [part, key, query / 4]. Once the parts are summed, part 0 holds the scores and part 1 their exp.
var<workgroup> scores: array<vec4<f32>, 256>;

@compute @workgroup_size(64)
fn attention(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = group.y;
    let heads = groups.y;
    let i0 = group.x * BQ;
    let last = params.n - 1u;
    for (var w = lane; w < Q_WORDS; w += 64u) {
        qs[w] = q[(head * params.n + min(i0 + w / D4, last)) * D4 + w % D4];
    }
    // Go through the union of the ranges of this tile's queries.
    var first = 0xffffffffu;
    var end = 0u;
    for (var r = 0u; r < BQ; r += 1u) {
        let range = here(ranges[min(i0 + r, last)]);
        first = min(first, range.x);
        end = max(end, range.y);
    }
    // Scores.
    let part = lane % PARTS;
    let key4 = (lane / PARTS) % KG;
    let query4 = lane / (PARTS * KG);
    // Softmax and values.
    let mine = lane % QG;
    let column = lane / QG;
    let i = i0 + mine * 4u;
    let r0 = here(ranges[min(i, last)]);
    let r1 = here(ranges[min(i + 1u, last)]);
    let r2 = here(ranges[min(i + 2u, last)]);
    let r3 = here(ranges[min(i + 3u, last)]);
    let from4 = vec4<u32>(r0.x, r1.x, r2.x, r3.x);
    let end4 = vec4<u32>(r0.y, r1.y, r2.y, r3.y);

    let base = (head / params.group) * params.capacity;
    var top = vec4<f32>(-1e30);
    var total = vec4<f32>();
    var a0 = vec4<f32>(); var a1 = vec4<f32>(); var a2 = vec4<f32>(); var a3 = vec4<f32>();
    var b0 = vec4<f32>(); var b1 = vec4<f32>(); var b2 = vec4<f32>(); var b3 = vec4<f32>();
    let state = (params.n * heads * D4) + (head * ((params.n + 3u) / 4u) + i / 4u) * 2u;
    if ((params.carry & 1u) != 0u) {
        if (i < params.n) {
            top = o[state];
            total = o[state + 1u];
            a0 = held(i, heads, head, column); b0 = held(i, heads, head, column + LANES);
            a1 = held(i + 1u, heads, head, column); b1 = held(i + 1u, heads, head, column + LANES);
            a2 = held(i + 2u, heads, head, column); b2 = held(i + 2u, heads, head, column + LANES);
            a3 = held(i + 3u, heads, head, column); b3 = held(i + 3u, heads, head, column + LANES);
        }
        // All threads must have read the maxima and totals before one of them writes.
        storageBarrier();
    }
    for (var j0 = first; j0 < end; j0 += BK) {
        workgroupBarrier();
        for (var w = lane; w < KV_WORDS; w += 64u) {
            kv[w] = cached_key(base + min(j0 + w / D4, end - 1u), w % D4);
        }
        workgroupBarrier();
        var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
        let q0 = query4 * 4u * D4;
        let k0 = key4 * 4u * D4;
        for (var c = part; c < D4; c += PARTS) {
            let qa = qs[q0 + c];
            let qb = qs[q0 + D4 + c];
            let qc = qs[q0 + 2u * D4 + c];
            let qd = qs[q0 + 3u * D4 + c];
            let ka = kv[k0 + c];
            let kb = kv[k0 + D4 + c];
            let kc = kv[k0 + 2u * D4 + c];
            let kd = kv[k0 + 3u * D4 + c];
            s0 += vec4<f32>(dot(qa, ka), dot(qb, ka), dot(qc, ka), dot(qd, ka));
            s1 += vec4<f32>(dot(qa, kb), dot(qb, kb), dot(qc, kb), dot(qd, kb));
            s2 += vec4<f32>(dot(qa, kc), dot(qb, kc), dot(qc, kc), dot(qd, kc));
            s3 += vec4<f32>(dot(qa, kd), dot(qb, kd), dot(qc, kd), dot(qd, kd));
        }
        let to = part * SCORES + key4 * 4u * QG + query4;
        scores[to] = s0;
        scores[to + QG] = s1;
        scores[to + 2u * QG] = s2;
        scores[to + 3u * QG] = s3;
        workgroupBarrier();
        for (var w = lane; w < KV_WORDS; w += 64u) {
            kv[w] = cached_value(base + min(j0 + w / D4, end - 1u), w % D4);
        }
        if (lane < SCORES) {
            var s = scores[lane];
            for (var p = 1u; p < PARTS; p += 1u) {
                s += scores[p * SCORES + lane];
            }
            let j = vec4<u32>(j0 + column);
            scores[lane] = select(vec4<f32>(-1e30), s * params.scale, (j >= from4) & (j < end4));
        }
        workgroupBarrier();
        var highest = top;
        for (var t = 0u; t < BK; t += 1u) {
            highest = max(highest, scores[t * QG + mine]);
        }
        if (lane < SCORES) {
            let s = scores[lane];
            // A masked key has the weight 0, also as long as no visible key has been seen.
            scores[SCORES + lane] = select(exp(s - highest), vec4<f32>(), s <= vec4<f32>(-1e30));
        }
        let keep = exp(top - highest);
        top = highest;
        total *= keep;
        a0 *= keep.x; a1 *= keep.y; a2 *= keep.z; a3 *= keep.w;
        b0 *= keep.x; b1 *= keep.y; b2 *= keep.z; b3 *= keep.w;
        workgroupBarrier();
        for (var t = 0u; t < BK; t += 1u) {
            let p = scores[SCORES + t * QG + mine];
            total += p;
            let va = kv[t * D4 + min(column, D4 - 1u)];
            a0 += p.x * va; a1 += p.y * va; a2 += p.z * va; a3 += p.w * va;
            if (D4 > LANES) {
                let vb = kv[t * D4 + min(column + LANES, D4 - 1u)];
                b0 += p.x * vb; b1 += p.y * vb; b2 += p.z * vb; b3 += p.w * vb;
            }
        }
    }
    if ((params.carry & 2u) != 0u) {
        if (column == 0u && i < params.n) {
            o[state] = top;
            o[state + 1u] = total;
        }
        total = vec4<f32>(1.0);
    }
    store(i, heads, head, column, a0 / total.x, a1 / total.y, a2 / total.z, a3 / total.w);
    store(i, heads, head, column + LANES, b0 / total.x, b1 / total.y, b2 / total.z, b3 / total.w);
}

// The part of a range that lies in this segment, counted from its first key.
fn here(range: vec2<u32>) -> vec2<u32> {
    return min(max(range, vec2<u32>(params.start)) - vec2<u32>(params.start), vec2<u32>(params.keys));
}

fn held(i: u32, heads: u32, head: u32, c: u32) -> vec4<f32> {
    if (i < params.n && c < D4) {
        return o[(i * heads + head) * D4 + c];
    }
    return vec4<f32>();
}

fn store(i: u32, heads: u32, head: u32, c: u32, a: vec4<f32>, b: vec4<f32>, d: vec4<f32>, e: vec4<f32>) {
    if (c < D4) {
        let to = (i * heads + head) * D4 + c;
        let row = heads * D4;
        if (i < params.n) { o[to] = a; }
        if (i + 1u < params.n) { o[to + row] = b; }
        if (i + 2u < params.n) { o[to + 2u * row] = d; }
        if (i + 3u < params.n) { o[to + 3u * row] = e; }
    }
}
