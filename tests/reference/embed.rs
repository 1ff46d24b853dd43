//! Twin of `shaders/embed.wgsl`.

/// What the kernel takes besides its buffers.
pub struct Embed {
    pub cols: usize,
    pub stride: usize,
    pub row_start: usize,
    pub rows: usize,
}

/// w: shard `[rows, stride]`, y `[ids, cols]`. Ids of other shards leave their row of y as it is.
pub fn embed(w: &[f64], ids: &[u32], y: &mut [f64], p: &Embed) {
    for (i, &id) in ids.iter().enumerate() {
        let id = id as usize;
        if id >= p.row_start && id < p.row_start + p.rows {
            for c in 0..p.cols {
                y[i * p.cols + c] = w[(id - p.row_start) * p.stride + c];
            }
        }
    }
}
