// parts: weight/*, shared/activation, matmul
//
// y[y_row + i, row_start + o] (+)= act( sum_k x[x_row + i, k] * W[o, k] + bias[row_start + o] )   i < n, o < rows
//
// W: shard of [rows, k] (weight fragment: rows of `stride` words, `groups` of 16 elements)    x: [.., k] f32    bias: [m] f32
// y: [.., m] f32. One shard holds outputs row_start .. row_start + rows of all m.
// dispatch: x = ceil(rows / 64), y = ceil(n / 64); a workgroup makes a 64 x 64 tile, a thread 8 rows x 8 outputs.
// overrides: BIAS adds the bias, ADD accumulates into y (residual), ACT 1 = exact GELU, 2 = GELU by tanh, 3 = QuickGELU.
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

// Tiles are stored k-major, with four rows (or outputs) in a vector: element [k * 16 + r / 4][r % 4].
var<workgroup> xs: array<vec4<f32>, 256>;
var<workgroup> ws: array<vec4<f32>, 256>;

fn load_x(row: u32, k: u32) -> vec4<f32> {
    if (row < params.n && k < params.k4) {
        return x[(params.x_row + row) * params.k4 + k];
    }
    return vec4<f32>();
}

fn load_w(row: u32, k: u32) -> vec4<f32> {
    if (row < params.rows && k < params.k4) {
        return weight4(row, k);
    }
    return vec4<f32>();
}

fn store1(row: u32, o: u32, value: f32) {
    if (row < params.n && o < params.rows) {
        var v = value;
        if (BIAS) {
            v += bias[params.row_start + o];
        }
        if (ACT != 0u) {
            v = activation1(v, ACT);
        }
        let i = (params.y_row + row) * params.m + params.row_start + o;
        if (ADD) {
            v += y[i];
        }
        y[i] = v;
    }
}

fn store8(row: u32, o: u32, a: vec4<f32>, b: vec4<f32>) {
    store1(row, o, a.x);
    store1(row, o + 1u, a.y);
    store1(row, o + 2u, a.z);
    store1(row, o + 3u, a.w);
    store1(row, o + 4u, b.x);
    store1(row, o + 5u, b.y);
    store1(row, o + 6u, b.z);
    store1(row, o + 7u, b.w);
}

@compute @workgroup_size(64)
fn matmul(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row0 = group.y * 64u;
    let out0 = group.x * 64u;
    // Loading: this thread loads a 4 x 4 block of each tile, four rows from r4 and four k from kq.
    let r4 = (lane / 4u) * 4u;
    let kq = lane % 4u;
    let slot = kq * 64u + lane / 4u;
    // Computing: this thread computes eight rows from ty * 8 and eight outputs from tx * 8.
    let ty = lane / 8u;
    let tx = lane % 8u;
    // a<output><half>: four rows of one output.
    var a00 = vec4<f32>(); var a01 = vec4<f32>(); var a10 = vec4<f32>(); var a11 = vec4<f32>();
    var a20 = vec4<f32>(); var a21 = vec4<f32>(); var a30 = vec4<f32>(); var a31 = vec4<f32>();
    var a40 = vec4<f32>(); var a41 = vec4<f32>(); var a50 = vec4<f32>(); var a51 = vec4<f32>();
    var a60 = vec4<f32>(); var a61 = vec4<f32>(); var a70 = vec4<f32>(); var a71 = vec4<f32>();
    for (var k = 0u; k < params.k4; k += 4u) {
        let tx4 = transpose(mat4x4<f32>(
            load_x(row0 + r4, k + kq), load_x(row0 + r4 + 1u, k + kq),
            load_x(row0 + r4 + 2u, k + kq), load_x(row0 + r4 + 3u, k + kq)));
        let tw4 = transpose(mat4x4<f32>(
            load_w(out0 + r4, k + kq), load_w(out0 + r4 + 1u, k + kq),
            load_w(out0 + r4 + 2u, k + kq), load_w(out0 + r4 + 3u, k + kq)));
        workgroupBarrier();
        xs[slot] = tx4[0]; xs[slot + 16u] = tx4[1]; xs[slot + 32u] = tx4[2]; xs[slot + 48u] = tx4[3];
        ws[slot] = tw4[0]; ws[slot + 16u] = tw4[1]; ws[slot + 32u] = tw4[2]; ws[slot + 48u] = tw4[3];
        workgroupBarrier();
        for (var kk = 0u; kk < 16u; kk += 1u) {
            let x0 = xs[kk * 16u + ty * 2u];
            let x1 = xs[kk * 16u + ty * 2u + 1u];
            let w0 = ws[kk * 16u + tx * 2u];
            let w1 = ws[kk * 16u + tx * 2u + 1u];
            a00 += x0 * w0.x; a01 += x1 * w0.x; a10 += x0 * w0.y; a11 += x1 * w0.y;
            a20 += x0 * w0.z; a21 += x1 * w0.z; a30 += x0 * w0.w; a31 += x1 * w0.w;
            a40 += x0 * w1.x; a41 += x1 * w1.x; a50 += x0 * w1.y; a51 += x1 * w1.y;
            a60 += x0 * w1.z; a61 += x1 * w1.z; a70 += x0 * w1.w; a71 += x1 * w1.w;
        }
    }
    let row = row0 + ty * 8u;
    let o = out0 + tx * 8u;
    store8(row, o, vec4<f32>(a00.x, a10.x, a20.x, a30.x), vec4<f32>(a40.x, a50.x, a60.x, a70.x));
    store8(row + 1u, o, vec4<f32>(a00.y, a10.y, a20.y, a30.y), vec4<f32>(a40.y, a50.y, a60.y, a70.y));
    store8(row + 2u, o, vec4<f32>(a00.z, a10.z, a20.z, a30.z), vec4<f32>(a40.z, a50.z, a60.z, a70.z));
    store8(row + 3u, o, vec4<f32>(a00.w, a10.w, a20.w, a30.w), vec4<f32>(a40.w, a50.w, a60.w, a70.w));
    store8(row + 4u, o, vec4<f32>(a01.x, a11.x, a21.x, a31.x), vec4<f32>(a41.x, a51.x, a61.x, a71.x));
    store8(row + 5u, o, vec4<f32>(a01.y, a11.y, a21.y, a31.y), vec4<f32>(a41.y, a51.y, a61.y, a71.y));
    store8(row + 6u, o, vec4<f32>(a01.z, a11.z, a21.z, a31.z), vec4<f32>(a41.z, a51.z, a61.z, a71.z));
    store8(row + 7u, o, vec4<f32>(a01.w, a11.w, a21.w, a31.w), vec4<f32>(a41.w, a51.w, a61.w, a71.w));
}
