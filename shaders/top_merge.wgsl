// parts: top_merge
//
// Last launch of top: the 64 highest logits of all, and the one of them that is best after a repetition penalty
// (CTRL, Keskar et al. 2019). Its id goes where the next embedding is looked up.
//
// part: [parts, 8] u32 as top writes it. The ids of a part that come after its four are nowhere; `complete` says that there are none.
// seen: a bit for each id: bit id % 32 of word id / 32. With PENALTY, logits of seen ids are divided by the penalty where they are
//   positive, and multiplied elsewhere; then the bit of the chosen id is set.
// next: [1] u32: the chosen id
// heads: [slots, 4] u32, written at `slot`: the chosen id, the key of its logit after the penalty, the highest key that any other
//   id can have after it, and that of any id beyond the 64 (0 if there are no more)
// lists: [slots, 128] u32, written at `slot`: 64 keys, before the penalty, from the highest down, of equal ones the lower id first;
//   then their ids. Places that nothing fills have key 0 and id 0xffffffff.
// dispatch: one workgroup of 256. overrides: PENALTY.
override PENALTY: bool = false;

const WG = 256u;
const MOST_PARTS = 1024u;
const TOP = 64u;

struct Params {
    parts: u32,
    complete: u32,
    slot: u32,
    penalty: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> part: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> seen: array<u32>;
@group(0) @binding(3) var<storage, read_write> next: array<u32>;
@group(0) @binding(4) var<storage, read_write> heads: array<u32>;
@group(0) @binding(5) var<storage, read_write> lists: array<u32>;

// The first of each part, then the keys after the penalty.
var<workgroup> first_keys: array<u32, MOST_PARTS>;
var<workgroup> first_ids: array<u32, MOST_PARTS>;
// What comes no later than the 64th first of a part. Only 64 parts have such, so it is at most 256.
var<workgroup> keys: array<u32, WG>;
var<workgroup> ids: array<u32, WG>;
var<workgroup> count: atomic<u32>;
// The last that is listed, then what is known of the rest.
var<workgroup> last_key: u32;
var<workgroup> last_id: u32;
var<workgroup> rest: atomic<u32>;
var<workgroup> second: u32;

fn ahead(key_a: u32, id_a: u32, key_b: u32, id_b: u32) -> bool {
    return key_a > key_b || (key_a == key_b && id_a < id_b);
}

fn list(key: u32, id: u32) {
    if (id != 0xffffffffu && !ahead(last_key, last_id, key, id)) {
        let at = atomicAdd(&count, 1u);
        if (at < WG) {
            keys[at] = key;
            ids[at] = id;
        }
    }
}

// A key of top.wgsl as a number, and back. NaN is no number, but no penalty makes it one.
fn penalized(key: u32, id: u32) -> u32 {
    if (id == 0xffffffffu || key >= 0xff800000u || ((seen[id / 32u] >> (id % 32u)) & 1u) == 0u) {
        return key;
    }
    let x = bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
    let y = select(x * params.penalty, x / params.penalty, x > 0.0);
    let bits = bitcast<u32>(y);
    if ((bits & 0x7fffffffu) == 0u) {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

@compute @workgroup_size(WG)
fn top_merge(@builtin(local_invocation_index) lane: u32) {
    let parts = params.parts;
    for (var g = lane; g < parts; g += WG) {
        first_keys[g] = part[2u * g].x;
        first_ids[g] = part[2u * g + 1u].x;
    }
    keys[lane] = 0u;
    ids[lane] = 0xffffffffu;
    if (lane == 0u) {
        last_key = 0u;
        last_id = 0xffffffffu;
        atomicStore(&count, 0u);
        atomicStore(&rest, 0u);
    }
    workgroupBarrier();
    for (var g = lane; g < parts; g += WG) {
        let key = first_keys[g];
        let id = first_ids[g];
        var rank = 0u;
        for (var h = 0u; h < parts; h += 1u) {
            rank += u32(ahead(first_keys[h], first_ids[h], key, id));
        }
        if (rank == TOP - 1u) {
            last_key = key;
            last_id = id;
        }
    }
    workgroupBarrier();
    for (var g = lane; g < parts; g += WG) {
        let four = part[2u * g];
        let names = part[2u * g + 1u];
        list(four.x, names.x);
        list(four.y, names.y);
        list(four.z, names.z);
        list(four.w, names.w);
        if (params.complete == 0u) {
            atomicMax(&rest, four.w);
        }
    }
    workgroupBarrier();
    // Each finds its place by counting who is ahead.
    let key = keys[lane];
    let id = ids[lane];
    let listed = min(atomicLoad(&count), WG);
    var place = lane;
    if (lane < listed) {
        place = 0u;
        for (var h = 0u; h < listed; h += 1u) {
            place += u32(ahead(keys[h], ids[h], key, id));
        }
    }
    workgroupBarrier();
    keys[place] = key;
    ids[place] = id;
    workgroupBarrier();
    if (lane == 0u) {
        // What is in no list comes after the 64th. With fewer than 64 parts all of the parts is listed.
        if (parts >= TOP || listed > TOP) {
            atomicMax(&rest, keys[TOP - 1u]);
        }
    }
    if (lane < TOP) {
        lists[params.slot * 2u * TOP + lane] = keys[lane];
        lists[params.slot * 2u * TOP + TOP + lane] = ids[lane];
        if (PENALTY) {
            first_keys[lane] = penalized(keys[lane], ids[lane]);
        } else {
            first_keys[lane] = keys[lane];
        }
    }
    workgroupBarrier();
    var rank = 2u;
    let own = first_keys[lane % TOP];
    let name = ids[lane % TOP];
    if (lane < TOP && name != 0xffffffffu) {
        rank = 0u;
        for (var h = 0u; h < TOP; h += 1u) {
            rank += u32(ids[h] != 0xffffffffu && ahead(first_keys[h], ids[h], own, name));
        }
    }
    if (lane == 0u) {
        second = 0u;
    }
    workgroupBarrier();
    if (rank == 1u) {
        second = own;
    }
    workgroupBarrier();
    if (rank == 0u) {
        let others = atomicLoad(&rest);
        let head = params.slot * 4u;
        heads[head] = name;
        heads[head + 1u] = own;
        heads[head + 2u] = max(second, others);
        heads[head + 3u] = others;
        next[0] = name;
        if (PENALTY) {
            seen[name / 32u] |= 1u << (name % 32u);
        }
    }
}
