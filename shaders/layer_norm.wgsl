// parts: shared/grid, shared/total, layer_norm
//
// y[i, c] = (x[x_row + i, c] - mean) / sqrt(mean_c (x[x_row + i, c] - mean)^2 + eps) * gain[c] + bias[c]        i < n
//
// The variance is computed from the differences to the mean, so that a row far from zero loses no precision.
//
// x: [.., cols] f32    gain, bias: [cols] f32    y: [n, cols] f32    (cols a multiple of 4)
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
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn layer_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = linear_group(group, groups);
    let x0 = (params.x_row + min(row, params.n - 1u)) * params.cols4;
    let count = f32(params.cols4 * 4u);
    var sum = 0.0;
    for (var c = lane; c < params.cols4; c += WG) {
        sum += dot(x[x0 + c], vec4<f32>(1.0));
    }
    let mean = total(lane, sum) / count;
    var squares = 0.0;
    for (var c = lane; c < params.cols4; c += WG) {
        let v = x[x0 + c] - mean;
        squares += dot(v, v);
    }
    let scale = 1.0 / sqrt(total(lane, squares) / count + params.eps);
    if (row < params.n) {
        for (var c = lane; c < params.cols4; c += WG) {
            y[row * params.cols4 + c] = (x[x0 + c] - mean) * scale * gain[c] + bias[c];
        }
    }
}
