//! Twin of `shaders/rope.wgsl`.

/// What the kernel takes besides its buffers.
pub struct Rope {
    pub n: usize,
    pub q_heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
    pub past: usize,
    pub capacity: usize,
    pub q_capacity: usize,
    pub row: usize,
    pub table_row: usize,
}

/// qkv `[n, q_heads + 2 kv_heads, dim]`, table `[.., dim]` (cosines, then sines), q `[q_heads, q_capacity, dim]`,
/// k and v `[kv_heads, capacity, dim]`. Row i of qkv is row `table_row + i` of the
/// table, `row + i` of q, `past + i` of k and v.
pub fn rope(qkv: &[f64], table: &[f64], q: &mut [f64], k: &mut [f64], v: &mut [f64], p: &Rope) {
    let heads = p.q_heads + 2 * p.kv_heads;
    let half = p.dim / 2;
    for i in 0..p.n {
        let turn = |head: usize| -> Vec<f64> {
            let u = &qkv[(i * heads + head) * p.dim..][..p.dim];
            let (cos, sin) = table[(p.table_row + i) * p.dim..][..p.dim].split_at(half);
            let low = (0..half).map(|j| u[j] * cos[j] - u[j + half] * sin[j]);
            let high = (0..half).map(|j| u[j + half] * cos[j] + u[j] * sin[j]);
            low.chain(high).collect()
        };
        for h in 0..p.q_heads {
            q[(h * p.q_capacity + p.row + i) * p.dim..][..p.dim].copy_from_slice(&turn(h));
        }
        for h in 0..p.kv_heads {
            let to = (h * p.capacity + p.past + i) * p.dim;
            k[to..][..p.dim].copy_from_slice(&turn(p.q_heads + h));
            let from = (i * heads + p.q_heads + p.kv_heads + h) * p.dim;
            v[to..][..p.dim].copy_from_slice(&qkv[from..][..p.dim]);
        }
    }
}

/// Before the rotation: x `[n, q_heads + 2 kv_heads, dim]`, gains `[dim]`; query and key heads are normalised in place.
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
