// parts: shared/grid, shared/activation, swiglu
//
// y[i, c] = silu(x[i, c]) * x[i, cols + c]        x holds the gate, then the up projection
//
// x: [n, 2 cols] f32    y: [n, cols] f32    (cols a multiple of 4)
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
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn swiglu(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = linear_group(group, groups) * WG + lane;
    let i = at / params.cols4;
    if (i < params.n) {
        let gate = i * 2u * params.cols4 + at % params.cols4;
        y[at] = silu4(x[gate]) * x[gate + params.cols4];
    }
}
