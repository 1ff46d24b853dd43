//! Twins of the fragments `shaders/weight/*.wgsl`: what the bits of a stored element are worth.

/// The exact value of a bfloat16.
pub fn bf16(bits: u16) -> f64 {
    f32::from_bits(u32::from(bits) << 16).into()
}

/// The exact value of a binary16.
pub fn f16(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}

/// The elements of a row of one of the layouts of `shaders/weight/`, `groups` groups of 16: each element's value, and the
/// sum of the absolute terms that it is made of.
///
/// `group` elements share a scale where that varies. Planes follow one another in this
/// order: codes (low bits), high bits, scales of sub-blocks, pairs of f16.
pub fn decode(layout: &str, row: &[u32], groups: usize, group: usize) -> Vec<(f64, f64)> {
    let bytes: Vec<u8> = row.iter().flat_map(|word| word.to_le_bytes()).collect();
    let n = 16 * groups;
    // Bits of a code, of its high part, bytes of scales for 16 elements (times two), elements for a pair.
    let (bits, high_bits, scale_halves, pair) = match layout {
        "q8" => (8, 0, 2, 0),
        "q4" => (4, 0, 0, 32),
        "q5" => (4, 1, 0, 32),
        "q2_k" => (2, 0, 2, 256),
        "q3_k" => (2, 1, 2, 256),
        "q4_k" => (4, 0, 2, 256),
        "q5_k" => (4, 1, 2, 256),
        "q6_k" => (4, 2, 2, 256),
        "iq4_nl" => (4, 0, 2, 0),
        "iq4_xs" => (4, 0, 1, 256),
        "g4" => (4, 0, 0, group),
        "g8" => (8, 0, 0, group),
        other => panic!("no layout {other}"),
    };
    let field = |start: usize, bits: usize, i: usize| -> i64 {
        let mut value = 0;
        for bit in 0..bits {
            let at = i * bits + bit;
            value |= i64::from(bytes[start + at / 8] >> (at % 8) & 1) << bit;
        }
        value
    };
    let high_start = n * bits / 8;
    let scale_start = high_start + n * high_bits / 8;
    let pair_start = scale_start + groups * scale_halves / 2;
    let half = |at: usize| f16(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let signed = |at: usize| f64::from(bytes[at] as i8);
    const TABLE: [f64; 16] = [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];
    (0..n)
        .map(|i| {
            let high = match layout {
                // Element 8 p + j of 32: byte j / 2, bit 2 p + j % 2.
                "q5" | "q5_k" => i / 32 * 32 + i % 8 / 2 * 8 + i % 32 / 8 * 2 + i % 2,
                // Element 16 h + 4 j + l of 32: byte j, bit 4 h + l.
                "q3_k" => i / 32 * 32 + i % 16 / 4 * 8 + i % 32 / 16 * 4 + i % 4,
                // Elements 2 j, 2 j + 1, 2 j + 8, 2 j + 9 of 16: byte j, its fields of two bits 2, 3, 0, 1.
                "q6_k" => i / 16 * 16 + i % 8 / 2 * 4 + [2, 3, 0, 1][i % 16 / 8 * 2 + i % 2],
                _ => i,
            };
            let code = field(0, bits, i) + (field(high_start, high_bits, high) << bits);
            let q = code as f64;
            let (d, m) = match i.checked_div(pair) {
                Some(n) => (half(pair_start + 4 * n), half(pair_start + 4 * n + 2)),
                None => (half(scale_start + i / 32 * 2), 0.0),
            };
            let scale = |per: usize| scale_start + i / per;
            let (a, b) = match layout {
                "q8" => (d * (code as u8 as i8) as f64, 0.0),
                "q4" | "q5" => (d * q, m),
                "g4" | "g8" => (d * q, -d * m),
                "q2_k" => {
                    let both = bytes[scale(16)];
                    (d * f64::from(both % 16) * q, -m * f64::from(both / 16))
                }
                "q3_k" => (d * signed(scale(16)) * (q - 4.0), 0.0),
                "q4_k" | "q5_k" => {
                    let at = scale_start + i / 32 * 2;
                    (d * f64::from(bytes[at]) * q, -m * f64::from(bytes[at + 1]))
                }
                "q6_k" => (d * signed(scale(16)) * (q - 32.0), 0.0),
                "iq4_nl" => (d * TABLE[code as usize], 0.0),
                _ => (d * signed(scale(32)) * TABLE[code as usize], 0.0),
            };
            (a + b, a.abs() + b.abs())
        })
        .collect()
}
