//! Twin of `shaders/swiglu.wgsl`.

/// x `[n, 2 cols]` (gate, then up); returns `[n, cols]`.
pub fn swiglu(x: &[f64], n: usize, cols: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for i in 0..n {
        let (gate, up) = x[i * 2 * cols..][..2 * cols].split_at(cols);
        y.extend(gate.iter().zip(up).map(|(&g, u)| silu(g) * u));
    }
    y
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}
