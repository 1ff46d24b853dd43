// parts: cache/*, attention_decode
//
// Attention of ONE query over a long cache (Flash-Decoding, Dao et al. 2023), in two steps. `split` is launched for each segment
// of the cache: workgroup (s, h) takes `steps` times CHUNK keys of the segment for key head h and all its query heads, so that a key
// and a value are read once, and writes the unnormalised sum, maximum and total of each head as part first + s. `merge`: workgroup h
// combines all parts of query head h. A single part is divided by its total and written to o at once.
//
//   o[h, :] = sum_j softmax_j(scale * q[h] . k[h / group, j]) v[h / group, j]     j < keys
//
// q: [q_heads, D] f32    k, v: [kv_heads, capacity] rows of the cache's format, `keys` of them in use
// part: [q_heads, splits, D + 4] f32 (sum, max, total, -, -); o: [q_heads, D] f32 in its place if splits is 1
// dispatch: x = ceil(keys / (CHUNK * steps)), y = kv_heads * ceil(group / HEADS).
// overrides: D head dimension (a multiple of 4, at most 2 * WG), WG threads (a power of two), CHUNK keys at a time,
// HEADS query heads of a workgroup (2, 4 or 8).
override D: u32 = 64u;
override WG: u32 = 128u;
override CHUNK: u32 = 128u;
override HEADS: u32 = 8u;

override D4: u32 = D / 4u;
// Scores: eight threads lie along a key, SLOTS keys side by side. Values: SHARES threads for each column, every one with a share of the keys.
override SLOTS: u32 = WG / 8u;
override SHARES: u32 = WG / D4;
// Softmax: so many threads for each head.
override ALONG: u32 = WG / HEADS;

struct Params {
    keys: u32,
    splits: u32,
    group: u32,
    capacity: u32,
    scale: f32,
    first: u32,
    steps: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> part: array<vec4<f32>>;

// The queries, scaled: [head][column]. Scores, later their exponentials: [key][head].
var<workgroup> qs: array<vec4<f32>, HEADS * D4>;
var<workgroup> scores: array<f32, (CHUNK + SHARES) * HEADS>;
var<workgroup> left: array<vec4<f32>, WG>;
var<workgroup> right: array<vec4<f32>, WG>;
var<workgroup> tops: array<f32, WG>;
var<workgroup> totals: array<f32, WG>;
// By head: what earlier sums are multiplied by since the maximum has grown, and the total in the end.
var<workgroup> fades: array<f32, 8>;

// Column c of the first and of the last four queries, times that of a key.
fn first4(c: u32, key: vec4<f32>) -> vec4<f32> {
    var s = vec4<f32>(dot(qs[c], key), dot(qs[D4 + c], key), 0.0, 0.0);
    if (HEADS > 2u) {
        s.z = dot(qs[2u * D4 + c], key);
        s.w = dot(qs[3u * D4 + c], key);
    }
    return s;
}

fn last4(c: u32, key: vec4<f32>) -> vec4<f32> {
    if (HEADS < 8u) {
        return vec4<f32>();
    }
    return vec4<f32>(
        dot(qs[4u * D4 + c], key), dot(qs[5u * D4 + c], key), dot(qs[6u * D4 + c], key), dot(qs[7u * D4 + c], key));
}

// Sums what eight threads have for a key. Thread 8 slot + h writes the score of head h for key t0 + slot.
fn gather(lane: u32, a: vec4<f32>, b: vec4<f32>, t0: u32, count: u32) {
    left[lane] = a;
    right[lane] = b;
    workgroupBarrier();
    let head = lane % 8u;
    let t = t0 + lane / 8u;
    var score = 0.0;
    for (var i = lane - head; i < lane - head + 8u; i += 1u) {
        score += select(right[i][head % 4u], left[i][head % 4u], head < 4u);
    }
    if (head < HEADS && t < count) {
        scores[t * HEADS + head] = score;
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn split(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let packs = (params.group + HEADS - 1u) / HEADS;
    let kv = group.y / packs;
    // The first head among those of this key head, how many there are, and the first among all.
    let pack = group.y % packs * HEADS;
    let heads = min(HEADS, params.group - pack);
    let head0 = kv * params.group + pack;
    for (var i = lane; i < HEADS * D4; i += WG) {
        // Heads that are not there are copies of the last one.
        qs[i] = params.scale * q[(head0 + min(i / D4, heads - 1u)) * D4 + i % D4];
    }
    workgroupBarrier();
    // This thread's head in the softmax.
    let mine = lane % HEADS;
    var top = -1e30;
    var total = 0.0;
    // Sums of this thread's column, one for each head.
    var o0 = vec4<f32>(); var o1 = vec4<f32>(); var o2 = vec4<f32>(); var o3 = vec4<f32>();
    var o4 = vec4<f32>(); var o5 = vec4<f32>(); var o6 = vec4<f32>(); var o7 = vec4<f32>();
    let start = group.x * CHUNK * params.steps;
    let end = min(start + CHUNK * params.steps, params.keys);
    for (var j0 = start; j0 < end; j0 += CHUNK) {
        let count = min(CHUNK, end - j0);
        let base = kv * params.capacity + j0;
        for (var t0 = 0u; t0 < count; t0 += 2u * SLOTS) {
            // Two keys at a time; past the end, the last one again.
            let t = base + min(t0 + lane / 8u, count - 1u);
            let u = base + min(t0 + SLOTS + lane / 8u, count - 1u);
            var a0 = vec4<f32>(); var b0 = vec4<f32>(); var a1 = vec4<f32>(); var b1 = vec4<f32>();
            for (var c = lane % 8u; c < D4; c += 8u) {
                let key0 = cached_key(t, c);
                let key1 = cached_key(u, c);
                a0 += first4(c, key0);
                b0 += last4(c, key0);
                a1 += first4(c, key1);
                b1 += last4(c, key1);
            }
            gather(lane, a0, b0, t0, count);
            gather(lane, a1, b1, t0 + SLOTS, count);
        }
        var most = -1e30;
        for (var t = lane / HEADS; t < count; t += ALONG) {
            most = max(most, scores[t * HEADS + mine]);
        }
        tops[lane] = most;
        workgroupBarrier();
        most = top;
        for (var i = mine; i < WG; i += HEADS) {
            most = max(most, tops[i]);
        }
        let fade = exp(top - most);
        top = most;
        var sum = 0.0;
        for (var t = lane / HEADS; t < CHUNK + SHARES; t += ALONG) {
            // Keys past the end weigh nothing.
            var p = 0.0;
            if (t < count) {
                p = exp(scores[t * HEADS + mine] - top);
            }
            scores[t * HEADS + mine] = p;
            sum += p;
        }
        totals[lane] = sum;
        if (lane < HEADS) {
            fades[lane] = fade;
        }
        workgroupBarrier();
        total *= fade;
        for (var i = mine; i < WG; i += HEADS) {
            total += totals[i];
        }
        o0 *= fades[0]; o1 *= fades[1];
        if (HEADS > 2u) {
            o2 *= fades[2]; o3 *= fades[3];
        }
        if (HEADS > 4u) {
            o4 *= fades[4]; o5 *= fades[5]; o6 *= fades[6]; o7 *= fades[7];
        }
        if (lane < SHARES * D4) {
            for (var t = lane / D4; t < count; t += 2u * SHARES) {
                let v = cached_value(base + t, lane % D4);
                let w = cached_value(base + min(t + SHARES, count - 1u), lane % D4);
                let p = t * HEADS;
                let r = (t + SHARES) * HEADS;
                o0 += scores[p] * v + scores[r] * w;
                o1 += scores[p + 1u] * v + scores[r + 1u] * w;
                if (HEADS > 2u) {
                    o2 += scores[p + 2u] * v + scores[r + 2u] * w;
                    o3 += scores[p + 3u] * v + scores[r + 3u] * w;
                }
                if (HEADS > 4u) {
                    o4 += scores[p + 4u] * v + scores[r + 4u] * w;
                    o5 += scores[p + 5u] * v + scores[r + 5u] * w;
                    o6 += scores[p + 6u] * v + scores[r + 6u] * w;
                    o7 += scores[p + 7u] * v + scores[r + 7u] * w;
                }
            }
        }
        // The next keys' scores and factors take the same places.
        workgroupBarrier();
    }
    let alone = params.splits == 1u;
    if (lane < HEADS) {
        fades[lane] = total;
        if (lane < heads && !alone) {
            part[((head0 + lane) * params.splits + params.first + group.x) * (D4 + 1u) + D4] = vec4<f32>(top, total, 0.0, 0.0);
        }
    }
    // Two heads at a time: the shares of each column are summed by one thread.
    for (var h = 0u; h < HEADS; h += 2u) {
        left[lane] = o0;
        right[lane] = o1;
        workgroupBarrier();
        let head = h + lane / D4;
        let column = lane % D4;
        if (lane < 2u * D4 && head < heads) {
            var sum = vec4<f32>();
            for (var i = column; i < SHARES * D4; i += D4) {
                sum += select(right[i], left[i], lane < D4);
            }
            if (alone) {
                part[(head0 + head) * D4 + column] = sum / fades[head];
            } else {
                part[((head0 + head) * params.splits + params.first + group.x) * (D4 + 1u) + column] = sum;
            }
        }
        workgroupBarrier();
        o0 = o2; o1 = o3; o2 = o4; o3 = o5; o4 = o6; o5 = o7;
    }
}
