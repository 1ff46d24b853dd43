// parts: attention_merge
//
// Last launch of attention_decode: o[h, :] = sum_s exp(max_s - max) sum_s[:] / sum_s exp(max_s - max) total_s.
//
// part: [q_heads, splits, D + 4] f32 (sum, max, total, -, -)    o: [q_heads, D] f32
// dispatch: x = q_heads. overrides: D head dimension, WG threads.
override D: u32 = 64u;
override WG: u32 = 64u;

struct Params {
    splits: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> part: array<f32>;
@group(0) @binding(2) var<storage, read_write> o: array<f32>;

@compute @workgroup_size(WG)
fn merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.x;
    let base = head * params.splits * (D + 4u);
    var top = -1e30;
    for (var s = 0u; s < params.splits; s += 1u) {
        top = max(top, part[base + s * (D + 4u) + D]);
    }
    var total = 0.0;
    for (var s = 0u; s < params.splits; s += 1u) {
        total += exp(part[base + s * (D + 4u) + D] - top) * part[base + s * (D + 4u) + D + 1u];
    }
    for (var c = lane; c < D; c += WG) {
        var sum = 0.0;
        for (var s = 0u; s < params.splits; s += 1u) {
            let at = base + s * (D + 4u);
            sum += exp(part[at + D] - top) * part[at + c];
        }
        o[head * D + c] = sum / total;
    }
}
