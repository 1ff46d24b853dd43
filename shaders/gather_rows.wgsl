// parts: shared/grid, gather_rows
//
// y[i, :] (+)= x[index[i], :]  where index[i] is not 0xffffffff; other rows of y are unchanged.
// Used to undo the window order of the vision tower, to put image embeddings in the place of their placeholder tokens, and to
// add DeepStack's embeddings to the residual stream.
//
// x: [.., cols] f32    index: [n] u32    y: [n, cols] f32    (cols a multiple of 4)
// dispatch: linear, a thread per (i, 4 columns). overrides: WG threads, ADD.
override WG: u32 = 64u;
override ADD: bool = false;

struct Params {
    n: u32,
    cols4: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn gather_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = linear_group(group, groups) * WG + lane;
    let i = at / params.cols4;
    if (i < params.n) {
        let source = index[i];
        if (source != 0xffffffffu) {
            var v = x[source * params.cols4 + at % params.cols4];
            if (ADD) {
                v += y[at];
            }
            y[at] = v;
        }
    }
}
