// parts: shared/grid, shared/total, rope
//
// Splits fused rows [q heads | k heads | v heads], rotates q and k, and stores all three by head:
//   q[h, row + i, :]      = rotate(qkv[i, h])              h < q_heads
//   k[h, past + i, :]     = rotate(qkv[i, q_heads + h])    h < kv_heads
//   v[h, past + i, :]     = qkv[i, q_heads + kv_heads + h]
// with c = cos[table_row + i, j], s = sin[table_row + i, j]: rotate(u)[j] = u[j] c - u[j + half] s, rotate(u)[j + half] = u[j + half] c + u[j] s.
//
// With NORM, query and key heads are first divided by their root mean square and multiplied by their gain (RMSNorm of each head):
//   u = u / sqrt(mean_c u[c]^2 + eps) * gain
//
// qkv: [n, (q_heads + 2 kv_heads) * 2 half] f32    table: [.., 2 half] f32, cos then sin
// q_gain, k_gain: [2 half] f32, anything without NORM
// q: [q_heads, q_capacity, 2 half] f32    k, v: [kv_heads, capacity, 2 half] f32
// For text, row = 0 and q_capacity = n. The vision tower processes its rows in pieces: row = table_row = past = first row of the piece.
// While text is decoded, the table has rows for the next tokens too.
// dispatch: linear, a thread per (i, head, j); with NORM a workgroup per (i, head).
// overrides: WG threads (a power of two), NORM.
override WG: u32 = 64u;
override NORM: bool = false;

struct Params {
    n: u32,
    q_heads: u32,
    kv_heads: u32,
    half: u32,
    past: u32,
    capacity: u32,
    q_capacity: u32,
    row: u32,
    table_row: u32,
    eps: f32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read> q_gain: array<f32>;
@group(0) @binding(4) var<storage, read> k_gain: array<f32>;
@group(0) @binding(5) var<storage, read_write> q: array<f32>;
@group(0) @binding(6) var<storage, read_write> k: array<f32>;
@group(0) @binding(7) var<storage, read_write> v: array<f32>;

// Rotates and stores the pair j of a head. `scale` is that of its norm.
fn store(i: u32, head: u32, j: u32, scale: f32) {
    let dim = 2u * params.half;
    let at = (i * (params.q_heads + 2u * params.kv_heads) + head) * dim + j;
    var a = qkv[at];
    var b = qkv[at + params.half];
    if (head < params.q_heads + params.kv_heads) {
        if (NORM) {
            if (head < params.q_heads) {
                a = a * scale * q_gain[j];
                b = b * scale * q_gain[j + params.half];
            } else {
                a = a * scale * k_gain[j];
                b = b * scale * k_gain[j + params.half];
            }
        }
        let c = table[(params.table_row + i) * dim + j];
        let s = table[(params.table_row + i) * dim + params.half + j];
        let t = a * c - b * s;
        b = b * c + a * s;
        a = t;
    }
    if (head < params.q_heads) {
        let to = (head * params.q_capacity + params.row + i) * dim + j;
        q[to] = a;
        q[to + params.half] = b;
    } else if (head < params.q_heads + params.kv_heads) {
        let to = ((head - params.q_heads) * params.capacity + params.past + i) * dim + j;
        k[to] = a;
        k[to + params.half] = b;
    } else {
        let to = ((head - params.q_heads - params.kv_heads) * params.capacity + params.past + i) * dim + j;
        v[to] = a;
        v[to + params.half] = b;
    }
}

@compute @workgroup_size(WG)
fn rope(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let heads = params.q_heads + 2u * params.kv_heads;
    if (NORM) {
        let index = linear_group(group, groups);
        let at = min(index, params.n * heads - 1u);
        let dim = 2u * params.half;
        var sum = 0.0;
        for (var c = lane; c < dim; c += WG) {
            sum += qkv[at * dim + c] * qkv[at * dim + c];
        }
        let scale = 1.0 / sqrt(total(lane, sum) / f32(dim) + params.eps);
        if (index == at) {
            for (var j = lane; j < params.half; j += WG) {
                store(at / heads, at % heads, j, scale);
            }
        }
    } else {
        let index = linear_group(group, groups) * WG + lane;
        let i = index / (params.half * heads);
        if (i < params.n) {
            store(i, (index / params.half) % heads, index % params.half, 1.0);
        }
    }
}
