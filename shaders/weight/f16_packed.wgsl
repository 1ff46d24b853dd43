// Weight fragment, f16 in packed words (no shader-f16 needed).
fn floats4(w: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
}
