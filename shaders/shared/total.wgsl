// The sum of the values of all threads, returned to each of them. Call it in uniform control flow, in a kernel of WG threads, a
// power of two.
var<workgroup> lanes: array<f32, WG>;

fn total(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    lanes[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            lanes[lane] += lanes[lane + half];
        }
    }
    workgroupBarrier();
    return lanes[0];
}
