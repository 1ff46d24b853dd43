//! Twin of `shaders/attention.wgsl`.

/// What the kernel takes besides its buffers.
pub struct Attention {
    pub n: usize,
    pub q_heads: usize,
    /// Query heads of one key head.
    pub group: usize,
    pub capacity: usize,
    pub dim: usize,
    pub scale: f64,
}

/// q `[q_heads, n, dim]`, k and v `[q_heads / group, capacity, dim]`, ranges `[n]` of (first, end).
/// Returns `[n, q_heads, dim]`.
pub fn attention(q: &[f64], k: &[f64], v: &[f64], ranges: &[(usize, usize)], p: &Attention) -> Vec<f64> {
    let mut o = vec![0.0; p.n * p.q_heads * p.dim];
    for h in 0..p.q_heads {
        for i in 0..p.n {
            let (first, end) = ranges[i];
            let key = |j: usize| ((h / p.group) * p.capacity + j) * p.dim;
            let query = &q[(h * p.n + i) * p.dim..][..p.dim];
            let scores: Vec<f64> = (first..end)
                .map(|j| p.scale * query.iter().zip(&k[key(j)..]).map(|(a, b)| a * b).sum::<f64>())
                .collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            for (j, s) in (first..end).zip(&scores) {
                let weight = (s - top).exp() / total;
                for c in 0..p.dim {
                    o[(i * p.q_heads + h) * p.dim + c] += weight * v[key(j) + c];
                }
            }
        }
    }
    o
}
