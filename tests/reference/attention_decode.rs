//! Twin of `shaders/attention_decode.wgsl`.

/// What the kernel takes besides its buffers.
pub struct Split {
    pub keys: usize,
    /// Parts of a head over all launches, and the first of this one.
    pub splits: usize,
    pub first: usize,
    pub q_heads: usize,
    /// Query heads of one key head.
    pub group: usize,
    pub capacity: usize,
    pub dim: usize,
    pub chunk: usize,
    pub scale: f64,
}

/// One workgroup's part of one head.
pub struct Part {
    /// Sum of `exp(score - max) v`, not divided by anything.
    pub sum: Vec<f64>,
    pub max: f64,
    pub total: f64,
}

/// q `[q_heads, dim]`, k and v `[q_heads / group, capacity, dim]`; returns `[q_heads, splits]`, with nothing where this launch
/// writes nothing.
pub fn split(q: &[f64], k: &[f64], v: &[f64], p: &Split) -> Vec<Option<Part>> {
    let mut parts = Vec::new();
    for h in 0..p.q_heads {
        for s in 0..p.splits {
            if s < p.first || (s - p.first) * p.chunk >= p.keys {
                parts.push(None);
                continue;
            }
            let s = s - p.first;
            let keys = s * p.chunk..((s + 1) * p.chunk).min(p.keys);
            let key = |j: usize| ((h / p.group) * p.capacity + j) * p.dim;
            let score = |j: usize| p.scale * (0..p.dim).map(|c| q[h * p.dim + c] * k[key(j) + c]).sum::<f64>();
            let scores: Vec<f64> = keys.clone().map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut sum = vec![0.0; p.dim];
            for (j, s) in keys.zip(&scores) {
                for c in 0..p.dim {
                    sum[c] += (s - max).exp() * v[key(j) + c];
                }
            }
            parts.push(Some(Part { sum, max, total: scores.iter().map(|s| (s - max).exp()).sum() }));
        }
    }
    parts
}
