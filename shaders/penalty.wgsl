// parts: penalty
//
// x[id] = x[id] > 0 ? x[id] / penalty : x[id] * penalty      for every id of a list without repeats
// (CTRL, Keskar et al. 2019, as RepetitionPenaltyLogitsProcessor does it)
//
// ids: [count] u32, distinct, all below the width of x    x: [cols] f32
// dispatch: x = ceil(count / WG). overrides: WG threads.
override WG: u32 = 64u;

struct Params {
    count: u32,
    penalty: f32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(WG)
fn penalty(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * WG + lane;
    if (i < params.count) {
        let v = x[ids[i]];
        x[ids[i]] = select(v * params.penalty, v / params.penalty, v > 0.0);
    }
}
