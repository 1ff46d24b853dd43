// Weight fragment, iq4_xs (GGUF's IQ4_XS): w = d * s * table[q], q in 0 .. 15, s in -32 .. 31 for 32 elements, d for 256.
// A row of G groups of 16: q [2 G words, low nibble first] | s [i8, G / 2] | (d, 0) [f16 pairs, G / 16].

fn scale(base: u32, u: u32) -> f32 {
    let at = base + 2u * params.groups;
    let s = bitcast<i32>(word(at + u / 4u) << (24u - 8u * (u % 4u))) >> 24u;
    return unpack2x16float(word(at + params.groups / 8u + u / 8u)).x * f32(s);
}
