// parts: weight/*, shared/grid, shared/activation, matvec
//
// y[y_row + i, row_start + o] (+)= act( sum_k x[x_row + i, k] * W[o, k] + bias[row_start + o] )   i < n, o < rows
//
// The same formula, bindings and parameters as matmul, for few rows: W is read once per row of x.
// W: shard of [rows, k]    x: [.., k] f32    bias: [m] f32    y: [.., m] f32
// dispatch: linear over ceil(rows / (WG / 8)) workgroups (x and y), z = n; 32 lanes make 4 outputs of one row.
// flags: 1 adds the bias, 2 accumulates into y (residual), 4 * act is the activation, as in matmul.
// overrides: WG threads (32, 64, 128 or 256).
//
// A lane takes a unit of W at a time: 8, 16 or 32 elements of a block, which is 16 bytes of codes or twice that. The fragment's `eight`
// gives 8 of them as floats, and `scaled` turns the sums of a unit (its first and its second half) into those of weights:
// scale and minimum cost one multiplication for each unit. x is loaded part by part, since the whole of it would take too many registers.
override WG: u32 = 64u;

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
    flags: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> lanes: array<vec4<f32>, WG>;
var<workgroup> eighths: array<f32, WG>;

// sum + w[0] . a + w[1] . b, as a chain of multiply-adds.
fn onto(sum: f32, w: mat2x4<f32>, a: vec4<f32>, b: vec4<f32>) -> f32 {
    let half = sum + w[0].x * a.x + w[0].y * a.y + w[0].z * a.z + w[0].w * a.w;
    return half + w[1].x * b.x + w[1].y * b.y + w[1].z * b.z + w[1].w * b.w;
}

fn across(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

// x[k] * w if k is one of the vectors `first .. params.k4` of a row of x that begins at x0, else 0.
fn rest4(x0: u32, k: u32, first: u32, w: vec4<f32>) -> f32 {
    if (k < first || k >= params.k4) {
        return 0.0;
    }
    return dot(x[x0 + k], w);
}

@compute @workgroup_size(WG)
fn matvec(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let lane = index % 32u;
    let o = (linear_group(group, groups) * (WG / 32u) + index / 32u) * 4u;
    // For outputs past the last one, the loads are clamped to an existing row and nothing is stored.
    let last = params.rows - 1u;
    let b0 = min(o, last) * params.stride;
    let b1 = min(o + 1u, last) * params.stride;
    let b2 = min(o + 2u, last) * params.stride;
    let b3 = min(o + 3u, last) * params.stride;
    let x0 = (params.x_row + group.z) * params.k4;
    let units = params.k4 / (2u * PARTS);
    var sum = vec4<f32>();
    for (var u = lane; u < units; u += 32u) {
        let c0 = codes(b0, u);
        let c1 = codes(b1, u);
        let c2 = codes(b2, u);
        let c3 = codes(b3, u);
        let at = x0 + 2u * PARTS * u;
        // The sums of code * x, and of x.
        var s0 = vec2<f32>(); var s1 = vec2<f32>(); var s2 = vec2<f32>(); var s3 = vec2<f32>();
        var sx = vec2<f32>();
        {
            let a = x[at];
            let b = x[at + 1u];
            sx.x += across(a + b);
            s0.x = onto(s0.x, eight(c0, 0u), a, b);
            s1.x = onto(s1.x, eight(c1, 0u), a, b);
            s2.x = onto(s2.x, eight(c2, 0u), a, b);
            s3.x = onto(s3.x, eight(c3, 0u), a, b);
        }
        if (PARTS > 1u) {
            let a = x[at + 2u];
            let b = x[at + 3u];
            sx.x += across(a + b);
            s0.x = onto(s0.x, eight(c0, 1u), a, b);
            s1.x = onto(s1.x, eight(c1, 1u), a, b);
            s2.x = onto(s2.x, eight(c2, 1u), a, b);
            s3.x = onto(s3.x, eight(c3, 1u), a, b);
        }
        if (PARTS > 2u) {
            let a = x[at + 4u];
            let b = x[at + 5u];
            sx.y += across(a + b);
            s0.y = onto(s0.y, eight(c0, 2u), a, b);
            s1.y = onto(s1.y, eight(c1, 2u), a, b);
            s2.y = onto(s2.y, eight(c2, 2u), a, b);
            s3.y = onto(s3.y, eight(c3, 2u), a, b);
        }
        if (PARTS > 2u) {
            let a = x[at + 6u];
            let b = x[at + 7u];
            sx.y += across(a + b);
            s0.y = onto(s0.y, eight(c0, 3u), a, b);
            s1.y = onto(s1.y, eight(c1, 3u), a, b);
            s2.y = onto(s2.y, eight(c2, 3u), a, b);
            s3.y = onto(s3.y, eight(c3, 3u), a, b);
        }
        sum += vec4<f32>(scaled(b0, u, s0, sx), scaled(b1, u, s1, sx), scaled(b2, u, s2, sx), scaled(b3, u, s3, sx));
    }
    // What is left of a row that is no whole number of units: at most two groups of 16 elements. A lane takes one group of one row.
    let first = 2u * PARTS * units;
    let k = first / 4u * 4u + lane / 4u * 4u;
    if (first < params.k4 && lane < 8u && k < params.k4) {
        let w = weight16(min(o + lane % 4u, last) * params.stride, k / 4u);
        let t = rest4(x0, k, first, w[0]) + rest4(x0, k + 1u, first, w[1]) + rest4(x0, k + 2u, first, w[2]) + rest4(x0, k + 3u, first, w[3]);
        sum += select(vec4<f32>(), vec4<f32>(t), vec4<u32>(lane % 4u) == vec4<u32>(0u, 1u, 2u, 3u));
    }
    // Two steps: lane 4 e + r sums row r over four lanes, then lane r over these eight sums.
    lanes[index] = sum;
    workgroupBarrier();
    let e = index - lane % 4u;
    let r = lane % 4u;
    eighths[index] = (lanes[e][r] + lanes[e + 1u][r]) + (lanes[e + 2u][r] + lanes[e + 3u][r]);
    workgroupBarrier();
    if (lane < 4u && o + lane < params.rows) {
        var v = 0.0;
        for (var i = index; i < index + 32u; i += 4u) {
            v += eighths[i];
        }
        if ((params.flags & 1u) != 0u) {
            v += bias[params.row_start + o + lane];
        }
        v = activation1(v, params.flags >> 2u);
        let i = (params.y_row + group.z) * params.m + params.row_start + o + lane;
        if ((params.flags & 2u) != 0u) {
            v += y[i];
        }
        y[i] = v;
    }
}
