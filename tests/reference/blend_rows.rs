//! Twin of `shaders/blend_rows.wgsl`.

/// x `[.., cols]`, index and weights `[n, 4]`, y `[n, cols]`.
pub fn blend_rows(x: &[f64], index: &[u32], weights: &[f64], y: &mut [f64], cols: usize) {
    for (i, row) in y.chunks_mut(cols).enumerate().take(index.len() / 4) {
        for k in 0..4 {
            let from = index[4 * i + k] as usize * cols;
            for c in 0..cols {
                row[c] += weights[4 * i + k] * x[from + c];
            }
        }
    }
}
