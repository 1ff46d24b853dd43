// parts: argmax
//
// id = the lowest c < cols with the highest x[c]; 0xffffffff if any x[c] is not a number.
//
// x: [cols_all] f32, of which only the first cols are used (the rest are padding rows of the lm_head)    id: [1] u32
// dispatch: one workgroup. overrides: WG threads (a power of two).
override WG: u32 = 256u;

struct Params {
    cols: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> id: array<u32>;

var<workgroup> best: array<f32, WG>;
var<workgroup> where_best: array<u32, WG>;

@compute @workgroup_size(WG)
fn argmax(@builtin(local_invocation_index) lane: u32) {
    var top = 0.0;
    var at = 0xfffffffeu;
    for (var c = lane; c < params.cols; c += WG) {
        let v = x[c];
        if ((bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u) {
            at = 0xffffffffu;
        } else if (at != 0xffffffffu && (at == 0xfffffffeu || v > top)) {
            top = v;
            at = c;
        }
    }
    best[lane] = top;
    where_best[lane] = at;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            let a = where_best[lane];
            let b = where_best[lane + half];
            let va = best[lane];
            let vb = best[lane + half];
            let bad = a == 0xffffffffu || b == 0xffffffffu;
            let take = b != 0xfffffffeu && (a == 0xfffffffeu || vb > va || (vb == va && b < a));
            if (bad) {
                where_best[lane] = 0xffffffffu;
            } else if (take) {
                where_best[lane] = b;
                best[lane] = vb;
            }
        }
    }
    workgroupBarrier();
    if (lane == 0u) {
        id[0] = where_best[0];
    }
}
