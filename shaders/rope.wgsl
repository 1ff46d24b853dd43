// parts: shared/grid, rope
//
// Splits fused rows [q heads | k heads | v heads], rotates q and k, and stores all three by head:
//   q[h, row + i, :]      = rotate(qkv[i, h])              h < q_heads
//   k[h, past + i, :]     = rotate(qkv[i, q_heads + h])    h < kv_heads
//   v[h, past + i, :]     = qkv[i, q_heads + kv_heads + h]
// with c = cos[table_row + i, j], s = sin[table_row + i, j]: rotate(u)[j] = u[j] c - u[j + half] s, rotate(u)[j + half] = u[j + half] c + u[j] s.
//
// qkv: [n, (q_heads + 2 kv_heads) * 2 half] f32    table: [.., 2 half] f32, cos then sin
// q: [q_heads, q_capacity, 2 half] f32    k, v: [kv_heads, capacity, 2 half] f32
// For text, row = 0 and q_capacity = n. The vision tower processes its rows in pieces: row = table_row = past = first row of the piece.
// While text is decoded, the table has rows for the next tokens too.
// dispatch: linear, a thread per (i, head, j). overrides: WG threads.
override WG: u32 = 64u;

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
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read_write> q: array<f32>;
@group(0) @binding(4) var<storage, read_write> k: array<f32>;
@group(0) @binding(5) var<storage, read_write> v: array<f32>;

@compute @workgroup_size(WG)
fn rope(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let heads = params.q_heads + 2u * params.kv_heads;
    let index = linear_group(group, groups) * WG + lane;
    let j = index % params.half;
    let head = (index / params.half) % heads;
    let i = index / (params.half * heads);
    if (i < params.n) {
        let dim = 2u * params.half;
        let at = (i * heads + head) * dim + j;
        var a = qkv[at];
        var b = qkv[at + params.half];
        if (head < params.q_heads + params.kv_heads) {
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
}
