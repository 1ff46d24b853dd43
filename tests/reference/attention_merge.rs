//! Twin of `shaders/attention_merge.wgsl`.

/// part `[q_heads, splits, dim + 4]` (sum, max, total, two unused); returns `[q_heads, dim]`.
pub fn merge(part: &[f64], q_heads: usize, splits: usize, dim: usize) -> Vec<f64> {
    let mut o = vec![0.0; q_heads * dim];
    for h in 0..q_heads {
        let at = |s: usize| (h * splits + s) * (dim + 4);
        let top = (0..splits).map(|s| part[at(s) + dim]).fold(f64::NEG_INFINITY, f64::max);
        let weight = |s: usize| (part[at(s) + dim] - top).exp();
        let total: f64 = (0..splits).map(|s| weight(s) * part[at(s) + dim + 1]).sum();
        for c in 0..dim {
            o[h * dim + c] = (0..splits).map(|s| weight(s) * part[at(s) + c]).sum::<f64>() / total;
        }
    }
    o
}
