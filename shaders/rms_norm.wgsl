// parts: shared/grid, shared/total, rms_norm
//
// y[i, c] = x[x_row + i, c] / sqrt(mean_c x[x_row + i, c]^2 + eps) * gain[c]        i < n
//
// x: [.., cols] f32    gain: [cols] f32    y: [n, cols] f32    (cols a multiple of 4)
// dispatch: linear over n workgroups, one row each. overrides: WG threads (a power of two).
override WG: u32 = 64u;

struct Params {
    n: u32,
    cols4: u32,
    x_row: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn rms_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = linear_group(group, groups);
    let x0 = (params.x_row + min(row, params.n - 1u)) * params.cols4;
    var sum = 0.0;
    for (var c = lane; c < params.cols4; c += WG) {
        let v = x[x0 + c];
        sum += dot(v, v);
    }
    let scale = 1.0 / sqrt(total(lane, sum) / f32(params.cols4 * 4u) + params.eps);
    if (row < params.n) {
        for (var c = lane; c < params.cols4; c += WG) {
            y[row * params.cols4 + c] = x[x0 + c] * scale * gain[c];
        }
    }
}
