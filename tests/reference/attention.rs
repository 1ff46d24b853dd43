//! Twin of `shaders/attention.wgsl`.

/// What the kernel takes besides its buffers.
pub struct Attention {
    pub n: usize,
    pub q_heads: usize,
    /// Query heads of one key head.
    pub group: usize,
    pub dim: usize,
    pub scale: f64,
}

/// Keys and values of a run of positions, `[q_heads / group, capacity, dim]`, the first `keys` of them in use.
pub struct Piece {
    pub k: Vec<f64>,
    pub v: Vec<f64>,
    pub capacity: usize,
    pub keys: usize,
}

/// q `[q_heads, n, dim]`, ranges `[n]` of (first, end) counted over all pieces, one after the other.
/// Returns `[n, q_heads, dim]`.
pub fn attention(q: &[f64], pieces: &[Piece], ranges: &[(usize, usize)], p: &Attention) -> Vec<f64> {
    let mut o = vec![0.0; p.n * p.q_heads * p.dim];
    for h in 0..p.q_heads {
        let mut rows = Vec::new();
        for piece in pieces {
            for j in 0..piece.keys {
                let at = ((h / p.group) * piece.capacity + j) * p.dim;
                rows.push((&piece.k[at..][..p.dim], &piece.v[at..][..p.dim]));
            }
        }
        for i in 0..p.n {
            let (first, end) = ranges[i];
            let query = &q[(h * p.n + i) * p.dim..][..p.dim];
            let scores: Vec<f64> = rows[first..end]
                .iter()
                .map(|(key, _)| p.scale * query.iter().zip(*key).map(|(a, b)| a * b).sum::<f64>())
                .collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            for ((_, value), s) in rows[first..end].iter().zip(&scores) {
                let weight = (s - top).exp() / total;
                for c in 0..p.dim {
                    o[(i * p.q_heads + h) * p.dim + c] += weight * value[c];
                }
            }
        }
    }
    o
}
