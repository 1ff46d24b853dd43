// parts: shared/grid, blend_rows
//
// y[i, :] += sum_{k < 4} weights[i, k] * x[index[i, k], :]
// Used for the learned positions of the vision tower, which are interpolated over the grid of a picture.
//
// x: [.., cols] f32    index: [n, 4] u32    weights: [n, 4] f32    y: [n, cols] f32    (cols a multiple of 4)
// dispatch: linear, a thread per (i, 4 columns). overrides: WG threads.
override WG: u32 = 64u;

struct Params {
    n: u32,
    cols4: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> index: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn blend_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = linear_group(group, groups) * WG + lane;
    let i = at / params.cols4;
    if (i < params.n) {
        let c = at % params.cols4;
        let taps = index[i] * params.cols4 + c;
        let w = weights[i];
        y[at] += w.x * x[taps.x] + w.y * x[taps.y] + w.z * x[taps.z] + w.w * x[taps.w];
    }
}
