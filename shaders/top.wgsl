// parts: top
//
// The four highest of each part of a row of logits, from the highest down; of equal ones, the lower id comes first.
//
// Part g holds the blocks g, g + parts, g + 2 parts, … of four neighbouring ids, so that the four of any block can all be among
// its four. Values are compared as keys: unsigned integers in the same order, in which NaN is above everything.
//
// x: [cols_all / 4] vec4 f32, of which only the first cols numbers count (the rest are padding rows of the lm_head)
// part: [parts, 8] u32: four keys, then their ids. A place that nothing fills has key 0 and id 0xffffffff.
// dispatch: a workgroup for each part. overrides: WG threads (a power of two).
override WG: u32 = 64u;

struct Params {
    cols: u32,
    parts: u32,
    turns: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> part: array<vec4<u32>>;

struct Four {
    keys: vec4<u32>,
    ids: vec4<u32>,
}

var<workgroup> keys: array<vec4<u32>, WG>;
var<workgroup> ids: array<vec4<u32>, WG>;

// The key of a float with these bits. The sign bit of a negative number turns the order of the other bits round; -0 counts as 0.
fn keys_of(raw: vec4<u32>) -> vec4<u32> {
    let magnitude = raw & vec4<u32>(0x7fffffffu);
    let bits = select(raw, vec4<u32>(), magnitude == vec4<u32>());
    let key = select(bits | vec4<u32>(0x80000000u), ~bits, bits >= vec4<u32>(0x80000000u));
    return select(key, vec4<u32>(0xffffffffu), magnitude > vec4<u32>(0x7f800000u));
}

// Of every pair of places, puts what comes first where `first` is true.
fn order(a: Four, b: Four, first: vec4<bool>) -> Four {
    let ahead = (a.keys > b.keys) | ((a.keys == b.keys) & (a.ids < b.ids));
    let keep = ahead == first;
    return Four(select(b.keys, a.keys, keep), select(b.ids, a.ids, keep));
}

// Sorts four of which the first two fall and the last two rise, or that are such in any other rotation.
fn settle(a: Four) -> Four {
    let b = order(a, Four(a.keys.zwxy, a.ids.zwxy), vec4<bool>(true, true, false, false));
    return order(b, Four(b.keys.yxwz, b.ids.yxwz), vec4<bool>(true, false, true, false));
}

fn sorted(a: Four) -> Four {
    return settle(order(a, Four(a.keys.yxwz, a.ids.yxwz), vec4<bool>(true, false, false, true)));
}

// The first four of two sorted fours.
fn merge(a: Four, b: Four) -> Four {
    return settle(order(a, Four(b.keys.wzyx, b.ids.wzyx), vec4<bool>(true, true, true, true)));
}

@compute @workgroup_size(WG)
fn top(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var best = Four(vec4<u32>(), vec4<u32>(0xffffffffu));
    for (var turn = 0u; turn < params.turns; turn += 1u) {
        let id = (group.x + params.parts * (turn * WG + lane)) * 4u + vec4<u32>(0u, 1u, 2u, 3u);
        if (id.x < params.cols) {
            let inside = id < vec4<u32>(params.cols);
            let key = select(vec4<u32>(), keys_of(x[id.x / 4u]), inside);
            best = merge(best, sorted(Four(key, select(vec4<u32>(0xffffffffu), id, inside))));
        }
    }
    keys[lane] = best.keys;
    ids[lane] = best.ids;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            best = merge(best, Four(keys[lane + half], ids[lane + half]));
            keys[lane] = best.keys;
            ids[lane] = best.ids;
        }
    }
    if (lane == 0u) {
        part[group.x * 2u] = best.keys;
        part[group.x * 2u + 1u] = best.ids;
    }
}
