// Weight fragment, iq4_nl (GGUF's IQ4_NL): w = d * table[q], q in 0 .. 15, one d for 32 elements.
// A row of G groups of 16: q [2 G words, low nibble first] | d [f16, G / 2].

fn scale(base: u32, u: u32) -> f32 {
    return unpack2x16float(word(base + 2u * params.groups + u / 2u) >> (16u * (u % 2u))).x;
}
