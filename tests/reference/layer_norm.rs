//! Twin of `shaders/layer_norm.wgsl`.

/// x `[.., cols]`, gain and bias `[cols]`; rows `x_row .. x_row + n` give `[n, cols]`.
pub fn layer_norm(x: &[f64], gain: &[f64], bias: &[f64], n: usize, x_row: usize, eps: f64) -> Vec<f64> {
    let cols = gain.len();
    let mut y = Vec::new();
    for i in 0..n {
        let row = &x[(x_row + i) * cols..][..cols];
        let mean = row.iter().sum::<f64>() / cols as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / cols as f64;
        y.extend((0..cols).map(|c| (row[c] - mean) / (variance + eps).sqrt() * gain[c] + bias[c]));
    }
    y
}
