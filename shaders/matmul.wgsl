// parts: weight/*, shared/activation, matmul
//
// y[y_row + i, row_start + o] (+)= act( sum_k x[x_row + i, k] * W[o, k] + bias[row_start + o] )   i < n, o < rows
//
// W: shard of [rows, k] (weight fragment: rows of `stride` words, `groups` of 16 elements)    x: [.., k] f32    bias: [m] f32
// y: [.., m] f32. One shard holds outputs row_start .. row_start + rows of all m.
// dispatch: x = ceil(rows / 64), y = ceil(n / ROWS); a workgroup makes a tile of ROWS rows x 64 outputs, a thread 8 (or 4) rows x 8
// outputs.
// flags: 1 adds the bias, 2 accumulates into y (residual), 4 * act is the activation: 1 = exact GELU, 2 = GELU by tanh, 3 = QuickGELU.
// They are no overrides, since a browser may need a second to compile this kernel.
// overrides: WG threads (64 or 128), FOUR for 4 rows of a thread instead of 8.
override WG: u32 = 64u;
override FOUR: bool = false;

// A thread's rows, like its outputs, are not neighbours but lie HIGH (8) apart, so that threads side by side read and write side by side.
override HIGH: u32 = WG / 8u;
override ROWS: u32 = HIGH * select(8u, 4u, FOUR);

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

// 16 columns of the tile: [k / 4 * HIGH + row % HIGH][row / HIGH] and [k / 4 * 8 + output % 8][output / 8]. What one thread reads is one
// element of the outer array, so its index is computed once. Elements have nine vectors, not eight, so that they lie in different memory banks.
var<workgroup> xs: array<array<vec4<f32>, 9>, HIGH * 4u>;
var<workgroup> ws: array<array<vec4<f32>, 9>, 32>;

// Adds four columns of a row of x times those of four outputs.
fn onto4(sum: vec4<f32>, v: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
    return sum + v.x * vec4<f32>(w0.x, w1.x, w2.x, w3.x) + v.y * vec4<f32>(w0.y, w1.y, w2.y, w3.y)
        + v.z * vec4<f32>(w0.z, w1.z, w2.z, w3.z) + v.w * vec4<f32>(w0.w, w1.w, w2.w, w3.w);
}

@compute @workgroup_size(WG)
fn matmul(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row0 = group.y * ROWS;
    let out0 = group.x * 64u;
    // Loading: this thread loads 16 columns of one output (the first 64 threads do), and four columns of every (WG / 4)th row of x.
    // Rows and outputs past the last one are loaded from the last one; what comes of them is not stored.
    let base = min(out0 + lane % 64u, params.rows - 1u) * params.stride;
    let kq = lane % 4u;
    let xr = lane / 4u;
    let x0 = (params.x_row + min(row0 + xr, params.n - 1u)) * params.k4;
    let x1 = (params.x_row + min(row0 + xr + WG / 4u, params.n - 1u)) * params.k4;
    let x2 = (params.x_row + min(row0 + xr + WG / 2u, params.n - 1u)) * params.k4;
    let x3 = (params.x_row + min(row0 + xr + WG / 4u * 3u, params.n - 1u)) * params.k4;
    // Computing: this thread computes rows ty, ty + HIGH, ... and outputs tx, tx + 8, ...
    let ty = lane / 8u;
    let tx = lane % 8u;
    // a<row> is that row of the first four outputs, b<row> of the others.
    var a0 = vec4<f32>(); var b0 = vec4<f32>();
    var a1 = vec4<f32>(); var b1 = vec4<f32>();
    var a2 = vec4<f32>(); var b2 = vec4<f32>();
    var a3 = vec4<f32>(); var b3 = vec4<f32>();
    var a4 = vec4<f32>(); var b4 = vec4<f32>();
    var a5 = vec4<f32>(); var b5 = vec4<f32>();
    var a6 = vec4<f32>(); var b6 = vec4<f32>();
    var a7 = vec4<f32>(); var b7 = vec4<f32>();
    for (var k = 0u; k < params.k4; k += 4u) {
        let left = params.k4 - k;
        let kx = min(k + kq, params.k4 - 1u);
        var l0 = x[x0 + kx];
        var l1 = x[x1 + kx];
        var l2 = vec4<f32>();
        var l3 = vec4<f32>();
        if (!FOUR) {
            l2 = x[x2 + kx];
            l3 = x[x3 + kx];
        }
        var w: mat4x4<f32>;
        if (WG == 64u || lane < 64u) {
            w = weight16(base, k / 4u);
        }
        if (left < 4u) {
            // Columns past the last one are zeros. (Behind a row of W there may be anything.)
            let inside = kq < left;
            l0 = select(vec4<f32>(), l0, inside);
            l1 = select(vec4<f32>(), l1, inside);
            l2 = select(vec4<f32>(), l2, inside);
            l3 = select(vec4<f32>(), l3, inside);
            w = mat4x4<f32>(w[0], select(vec4<f32>(), w[1], left > 1u), select(vec4<f32>(), w[2], left > 2u), vec4<f32>());
        }
        workgroupBarrier();
        let xt = kq * HIGH + xr % HIGH;
        xs[xt][xr / HIGH] = l0;
        xs[xt][xr / HIGH + 2u] = l1;
        if (!FOUR) {
            xs[xt][xr / HIGH + 4u] = l2;
            xs[xt][xr / HIGH + 6u] = l3;
        }
        if (WG == 64u || lane < 64u) {
            ws[lane % 8u][lane / 8u] = w[0];
            ws[8u + lane % 8u][lane / 8u] = w[1];
            ws[16u + lane % 8u][lane / 8u] = w[2];
            ws[24u + lane % 8u][lane / 8u] = w[3];
        }
        workgroupBarrier();
        for (var kk = 0u; kk < 4u; kk += 1u) {
            let wt = kk * 8u + tx;
            let xt = kk * HIGH + ty;
            let w0 = ws[wt][0]; let w1 = ws[wt][1]; let w2 = ws[wt][2]; let w3 = ws[wt][3];
            let w4 = ws[wt][4]; let w5 = ws[wt][5]; let w6 = ws[wt][6]; let w7 = ws[wt][7];
            let v0 = xs[xt][0];
            a0 = onto4(a0, v0, w0, w1, w2, w3); b0 = onto4(b0, v0, w4, w5, w6, w7);
            let v1 = xs[xt][1];
            a1 = onto4(a1, v1, w0, w1, w2, w3); b1 = onto4(b1, v1, w4, w5, w6, w7);
            let v2 = xs[xt][2];
            a2 = onto4(a2, v2, w0, w1, w2, w3); b2 = onto4(b2, v2, w4, w5, w6, w7);
            let v3 = xs[xt][3];
            a3 = onto4(a3, v3, w0, w1, w2, w3); b3 = onto4(b3, v3, w4, w5, w6, w7);
            if (!FOUR) {
                let v4 = xs[xt][4];
                a4 = onto4(a4, v4, w0, w1, w2, w3); b4 = onto4(b4, v4, w4, w5, w6, w7);
                let v5 = xs[xt][5];
                a5 = onto4(a5, v5, w0, w1, w2, w3); b5 = onto4(b5, v5, w4, w5, w6, w7);
                let v6 = xs[xt][6];
                a6 = onto4(a6, v6, w0, w1, w2, w3); b6 = onto4(b6, v6, w4, w5, w6, w7);
                let v7 = xs[xt][7];
                a7 = onto4(a7, v7, w0, w1, w2, w3); b7 = onto4(b7, v7, w4, w5, w6, w7);
            }
        }
    }
    // Rows and columns are moved to the front one after the other, so that there is one copy of what follows.
    for (var i = 0u; i < select(8u, 4u, FOUR); i += 1u) {
        let row = row0 + ty + i * HIGH;
        for (var j = 0u; j < 8u; j += 1u) {
            let o = out0 + tx + 8u * j;
            if (row < params.n && o < params.rows) {
                var v = a0.x;
                if ((params.flags & 1u) != 0u) {
                    v += bias[params.row_start + o];
                }
                v = activation1(v, params.flags >> 2u);
                let at = (params.y_row + row) * params.m + params.row_start + o;
                if ((params.flags & 2u) != 0u) {
                    v += y[at];
                }
                y[at] = v;
            }
            a0 = vec4<f32>(a0.yzw, b0.x);
            b0 = b0.yzwx;
        }
        a0 = a1; a1 = a2; a2 = a3; b0 = b1; b1 = b2; b2 = b3;
        if (!FOUR) {
            a3 = a4; a4 = a5; a5 = a6; a6 = a7; b3 = b4; b4 = b5; b5 = b6; b6 = b7;
        }
    }
}
