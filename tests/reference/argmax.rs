//! Twin of `shaders/argmax.wgsl`.

/// The lowest index below `cols` with the highest `x`; `u32::MAX` if one of them is not a number.
pub fn argmax(x: &[f64], cols: usize) -> u32 {
    let mut best = 0;
    for c in 0..cols {
        if x[c].is_nan() {
            return u32::MAX;
        }
        if x[c] > x[best] {
            best = c;
        }
    }
    best as u32
}
