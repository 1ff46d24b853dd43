//! Twin of `shaders/gather_rows.wgsl`.

/// x `[.., cols]`, y `[index, cols]`, which `add` adds to. The index `u32::MAX` leaves a row of y as it is.
pub fn gather_rows(x: &[f64], index: &[u32], y: &mut [f64], cols: usize, add: bool) {
    for (i, &source) in index.iter().enumerate() {
        if source != u32::MAX {
            for c in 0..cols {
                let old = if add { y[i * cols + c] } else { 0.0 };
                y[i * cols + c] = old + x[source as usize * cols + c];
            }
        }
    }
}
