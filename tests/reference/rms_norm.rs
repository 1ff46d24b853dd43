//! Twin of `shaders/rms_norm.wgsl`.

/// x `[.., cols]`, gain `[cols]`; rows `x_row .. x_row + n` give `[n, cols]`.
pub fn rms_norm(x: &[f64], gain: &[f64], n: usize, cols: usize, x_row: usize, eps: f64) -> Vec<f64> {
    let mut y = Vec::new();
    for i in 0..n {
        let row = &x[(x_row + i) * cols..][..cols];
        let mean = row.iter().map(|v| v * v).sum::<f64>() / cols as f64;
        y.extend(row.iter().zip(gain).map(|(v, g)| v / (mean + eps).sqrt() * g));
    }
    y
}
