//! Twin of `shaders/head_norm.wgsl`.

/// x `[n, q_heads + 2 kv_heads, dim]`, gains `[dim]`; query and key heads are normalised in place.
pub fn head_norm(x: &mut [f64], q_gain: &[f64], k_gain: &[f64], q_heads: usize, kv_heads: usize, eps: f64) {
    let dim = q_gain.len();
    for row in x.chunks_mut((q_heads + 2 * kv_heads) * dim) {
        for (h, head) in row.chunks_mut(dim).take(q_heads + kv_heads).enumerate() {
            let mean = head.iter().map(|v| v * v).sum::<f64>() / dim as f64;
            let gain = if h < q_heads { q_gain } else { k_gain };
            for (v, g) in head.iter_mut().zip(gain) {
                *v = *v / (mean + eps).sqrt() * g;
            }
        }
    }
}
