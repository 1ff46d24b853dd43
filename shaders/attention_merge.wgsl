// parts: attention_merge
//
// Last launch of attention_decode: o[h, :] = sum_s exp(max_s - max) sum_s[:] / sum_s exp(max_s - max) total_s.
//
// part: [q_heads, splits, D + 4] f32 (sum, max, total, -, -)    o: [q_heads, D] f32
// dispatch: x = q_heads. overrides: D head dimension, WG threads (at least 16).
//
// Threads lie over the parts for the maximum and the factors, then over the columns.
override D: u32 = 64u;
override WG: u32 = 64u;

override D4: u32 = D / 4u;

struct Params {
    splits: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> part: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> o: array<vec4<f32>>;

var<workgroup> tops: array<f32, WG>;
var<workgroup> factors: array<f32, WG>;
var<workgroup> totals: array<f32, WG>;

@compute @workgroup_size(WG)
fn merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.x;
    let base = head * params.splits * (D4 + 1u);
    // Threads without a part leave nothing to look at.
    let used = min(WG, params.splits);
    var top = -1e30;
    for (var s = lane; s < params.splits; s += WG) {
        top = max(top, part[base + s * (D4 + 1u) + D4].x);
    }
    tops[lane] = top;
    workgroupBarrier();
    for (var i = 0u; i < used; i += 1u) {
        top = max(top, tops[i]);
    }
    var total = 0.0;
    var sum = vec4<f32>();
    // WG parts at a time, of which there are seldom more.
    for (var s0 = 0u; s0 < params.splits; s0 += WG) {
        let count = min(WG, params.splits - s0);
        if (lane < count) {
            let state = part[base + (s0 + lane) * (D4 + 1u) + D4];
            factors[lane] = exp(state.x - top);
            totals[lane] = factors[lane] * state.y;
        }
        workgroupBarrier();
        for (var i = 0u; i < count; i += 1u) {
            total += totals[i];
            if (lane < D4) {
                sum += factors[i] * part[base + (s0 + i) * (D4 + 1u) + lane];
            }
        }
        workgroupBarrier();
    }
    if (lane < D4) {
        o[head * D4 + lane] = sum / total;
    }
}
