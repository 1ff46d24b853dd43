// Weight fragment, native f16 (module begins with `enable f16;`): weight4(i) = elements 4i .. 4i+3 of the shard.
@group(0) @binding(1) var<storage, read> weight: array<vec4<f16>>;

fn weight4(i: u32) -> vec4<f32> {
    return vec4<f32>(weight[i]);
}
