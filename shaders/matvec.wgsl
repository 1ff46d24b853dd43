// parts: weight/*, shared/grid, shared/activation, matvec
//
// y[y_row + i, row_start + o] (+)= act( sum_k x[x_row + i, k] * W[o, k] + bias[row_start + o] )   i < n, o < rows
//
// The same formula, bindings and overrides as matmul, for few rows: W is read once per row of x.
// W: shard of [rows, k]    x: [.., k] f32    bias: [m] f32    y: [.., m] f32
// dispatch: linear over ceil(rows / 4) workgroups (x and y), z = n; a workgroup makes 4 outputs of one row.
// overrides: WG threads (a power of two), BIAS, ADD, ACT 1 = exact GELU, 2 = GELU by tanh, 3 = QuickGELU.
override WG: u32 = 64u;
override BIAS: bool = false;
override ADD: bool = false;
override ACT: u32 = 0u;

struct Params {
    n: u32,
    m: u32,
    k4: u32,
    stride: u32,
    groups: u32,
    row_start: u32,
    rows: u32,
    x_row: u32,
    y_row: u32,
    per: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> lanes: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn matvec(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let o = linear_group(group, groups) * 4u;
    // For outputs past the last one, the loads are clamped to an existing row and nothing is stored.
    let last = params.rows - 1u;
    let r0 = min(o, last);
    let r1 = min(o + 1u, last);
    let r2 = min(o + 2u, last);
    let r3 = min(o + 3u, last);
    let x0 = (params.x_row + group.z) * params.k4;
    var sum = vec4<f32>();
    for (var k = lane; k < params.k4; k += WG) {
        let v = x[x0 + k];
        sum += vec4<f32>(dot(v, weight4(r0, k)), dot(v, weight4(r1, k)), dot(v, weight4(r2, k)), dot(v, weight4(r3, k)));
    }
    lanes[lane] = sum;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            lanes[lane] += lanes[lane + half];
        }
    }
    workgroupBarrier();
    if (lane < 4u && o + lane < params.rows) {
        var v = lanes[0][lane];
        if (BIAS) {
            v += bias[params.row_start + o + lane];
        }
        if (ACT != 0u) {
            v = activation1(v, ACT);
        }
        let i = (params.y_row + group.z) * params.m + params.row_start + o + lane;
        if (ADD) {
            v += y[i];
        }
        y[i] = v;
    }
}
