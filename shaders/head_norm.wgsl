// parts: shared/grid, shared/total, head_norm
//
// x[i, h, :] = x[i, h, :] / sqrt(mean_c x[i, h, c]^2 + eps) * (h < q_heads ? q_gain : k_gain)        i < n, h < q_heads + kv_heads
//
// RMSNorm of each query and key head, in place, in fused rows [q heads | k heads | v heads]; values are unchanged.
//
// x: [n, q_heads + 2 kv_heads, dim] f32    q_gain, k_gain: [dim] f32    (dim a multiple of 4)
// dispatch: linear over n * (q_heads + kv_heads) workgroups. overrides: WG threads (a power of two).
override WG: u32 = 32u;

struct Params {
    n: u32,
    q_heads: u32,
    kv_heads: u32,
    dim4: u32,
    eps: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q_gain: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k_gain: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn head_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let normed = params.q_heads + params.kv_heads;
    let index = linear_group(group, groups);
    let inside = index < params.n * normed;
    let at = min(index, params.n * normed - 1u);
    let head = at % normed;
    let x0 = (at / normed * (normed + params.kv_heads) + head) * params.dim4;
    var sum = 0.0;
    for (var c = lane; c < params.dim4; c += WG) {
        let v = x[x0 + c];
        sum += dot(v, v);
    }
    let scale = 1.0 / sqrt(total(lane, sum) / f32(params.dim4 * 4u) + params.eps);
    if (inside) {
        for (var c = lane; c < params.dim4; c += WG) {
            if (head < params.q_heads) {
                x[x0 + c] = x[x0 + c] * scale * q_gain[c];
            } else {
                x[x0 + c] = x[x0 + c] * scale * k_gain[c];
            }
        }
    }
}
