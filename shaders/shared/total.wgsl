// The sum of the values of all threads, returned to each of them. Call it in uniform control flow, in a kernel of WG threads, a
// multiple of 16. It takes two barriers: sixteen threads sum what the others have left, then every thread sums these sums.
var<workgroup> lanes: array<f32, WG>;
var<workgroup> sixteenths: array<f32, 16>;

fn total(lane: u32, value: f32) -> f32 {
    lanes[lane] = value;
    workgroupBarrier();
    if (lane < 16u) {
        var some = 0.0;
        for (var i = lane; i < WG; i += 16u) {
            some += lanes[i];
        }
        sixteenths[lane] = some;
    }
    workgroupBarrier();
    var all = 0.0;
    for (var i = 0u; i < 16u; i += 1u) {
        all += sixteenths[i];
    }
    return all;
}
