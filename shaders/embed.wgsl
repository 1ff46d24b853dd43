// parts: weight/*, shared/grid, embed
//
// y[i, :] = W[ids[i] - row_start, :]  where row_start <= ids[i] < row_start + rows; other rows of y are unchanged.
//
// W: shard of [rows, cols] (weight fragment)    ids: [n] u32    y: [n, cols] f32    (cols a multiple of 4)
// dispatch: linear, a thread per (i, 16 columns). overrides: WG threads.
override WG: u32 = 64u;

struct Params {
    n: u32,
    cols4: u32,
    stride: u32,
    groups: u32,
    row_start: u32,
    rows: u32,
    per: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn embed(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = linear_group(group, groups) * WG + lane;
    let wide = (params.cols4 + 3u) / 4u;
    let i = index / wide;
    let c = index % wide * 4u;
    if (i < params.n) {
        let id = ids[i];
        if (id >= params.row_start && id < params.row_start + params.rows) {
            let w = weight16((id - params.row_start) * params.stride, c / 4u);
            let to = i * params.cols4 + c;
            y[to] = w[0];
            if (c + 1u < params.cols4) {
                y[to + 1u] = w[1];
            }
            if (c + 2u < params.cols4) {
                y[to + 2u] = w[2];
            }
            if (c + 3u < params.cols4) {
                y[to + 3u] = w[3];
            }
        }
    }
}
