//! The vision tower of Qwen2.5-VL (arXiv 2502.13923 §2.1.1).
//!
//! transformers: `Qwen2_5_VisionTransformerPretrainedModel` in `modeling_qwen2_5_vl.py`.

use std::borrow::Cow;

use super::config::VisionConfig;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Lease, Recorder, Rehearsal, Tensor};
use crate::model::load::Loaded;
use crate::model::positions::{Grid, permute_rows, vision_rope_table, window_index};
use crate::model::{VisionSizes, rope_rows};
use crate::ops::attention::{Mask, attention};
use crate::ops::gather_rows::gather_rows;
use crate::ops::rms_norm::rms_norm;
use crate::ops::rope::{Heads, RopeTarget, rope};
use crate::ops::swiglu::swiglu;
use crate::ops::{LinearOptions, Rows, Weight, linear};

/// Rows that pass through the wide parts of a block (qkv, MLP) at a time: bounds the intermediate memory.
const PIECE: usize = 4096;

/// Patches times blocks in one submission, so that a large image does not hold the device for seconds.
const WORK: usize = 32 * 4096;

use super::config::VISION_NORM_EPS as EPS;

struct Block {
    norm1: Tensor,
    qkv: Weight,
    qkv_bias: Tensor,
    proj: Weight,
    proj_bias: Tensor,
    norm2: Tensor,
    gate_up: Weight,
    gate_up_bias: Tensor,
    down: Weight,
    down_bias: Tensor,
}

/// The tower's weights on the device.
pub struct Vision {
    config: VisionConfig,
    /// One for all frames of a patch, or one for each.
    patch_embed: Vec<Weight>,
    blocks: Vec<Block>,
    merger_norm: Tensor,
    fc1: Weight,
    fc1_bias: Tensor,
    fc2: Weight,
    fc2_bias: Tensor,
}

impl Vision {
    /// Takes the tower's weights out of what was loaded.
    ///
    /// # Errors
    /// [`Error::Missing`] if one is not there.
    pub fn new(config: VisionConfig, loaded: &mut Loaded) -> Result<Self> {
        let blocks = (0..config.depth)
            .map(|i| {
                let name = |part: &str| format!("vision.blocks.{i}.{part}");
                Ok(Block {
                    norm1: loaded.vector(&name("norm1"))?,
                    qkv: loaded.matrix(&name("qkv"))?,
                    qkv_bias: loaded.vector(&name("qkv.bias"))?,
                    proj: loaded.matrix(&name("proj"))?,
                    proj_bias: loaded.vector(&name("proj.bias"))?,
                    norm2: loaded.vector(&name("norm2"))?,
                    gate_up: loaded.matrix(&name("gate_up"))?,
                    gate_up_bias: loaded.vector(&name("gate_up.bias"))?,
                    down: loaded.matrix(&name("down"))?,
                    down_bias: loaded.vector(&name("down.bias"))?,
                })
            })
            .collect::<Result<_>>()?;
        let mut patch_embed = vec![loaded.matrix("vision.patch_embed")?];
        for n in 1..config.temporal_patch_size {
            patch_embed.extend(loaded.optional_matrix(&format!("vision.patch_embed.{n}")));
        }
        Ok(Vision {
            patch_embed,
            blocks,
            merger_norm: loaded.vector("vision.merger.norm")?,
            fc1: loaded.matrix("vision.merger.fc1")?,
            fc1_bias: loaded.vector("vision.merger.fc1.bias")?,
            fc2: loaded.matrix("vision.merger.fc2")?,
            fc2_bias: loaded.vector("vision.merger.fc2.bias")?,
            config,
        })
    }

    /// [`Vision::encode`] of a black picture of a few merged tokens, more than the matrix-vector kernel takes.
    ///
    /// # Errors
    /// As there.
    pub fn prepare(&self, gpu: &Gpu) -> Result<Tensor> {
        let side = 4 * self.config.spatial_merge_size as u32;
        let grid = Grid::new(1, side, side);
        self.encode(gpu, &vec![0.0; grid.count() * self.config.patch_len()], grid)
    }

    /// Embeddings `[patches / merge², out_hidden_size]` of one image or video, in the order of its pads.
    ///
    /// `pixel_values` `[patches, channels * temporal * patch * patch]` in block-merged order, as the processor makes it.
    ///
    /// # Errors
    /// [`Error::Shape`] if `pixel_values` are not the grid's, [`Error::DeviceTooSmall`] if an intermediate does not fit.
    pub fn encode(&self, gpu: &Gpu, pixel_values: &[f32], grid: Grid) -> Result<Tensor> {
        let c = &self.config;
        let merge = c.spatial_merge_size as u32;
        let unit = c.spatial_merge_size * c.spatial_merge_size;
        let n = grid.count(); // patches
        let row = c.patch_len();
        if n.checked_mul(row) != Some(pixel_values.len()) {
            let found = vec![pixel_values.len()];
            return Err(Error::Shape { what: "pixel_values".into(), expected: vec![n, row], found });
        }
        // Everything up to the merger works in window order, so that a window is a run of rows.
        let windows = window_index(&[grid], merge, c.window_size as u32, c.patch_size as u32)?;
        let dim = c.hidden_size / c.num_heads;
        let heads = Heads { q: c.num_heads, kv: c.num_heads, dim };
        let (cos, sin) = vision_rope_table(grid, merge, dim, c.rope_theta)?;
        let table = permute_rows(&rope_rows(&cos, &sin, dim / 2), dim, unit, &windows.index)?;
        let pixels = permute_rows(pixel_values, row, unit, &windows.index)?;

        let mut rec = Recorder::new(gpu);
        let table = rec.upload_f32("vision rope", n, &table)?;
        let window_ranges = rec.upload_u32("windows", n, &ranges(&windows.cu_window))?;
        let full_ranges = rec.upload_u32("frames", n, &ranges(&windows.cu_full))?;
        let h = rec.scratch("vision", n, c.hidden_size)?; // [n, hidden], the residual stream
        for (frame, weight) in self.patch_embed.iter().enumerate() {
            let part = frame_values(&pixels, frame, self.patch_embed.len(), c);
            let x = rec.upload_f32("pixel_values", n, &part)?;
            linear(&mut rec, &x, weight, None, &h, Rows::first(n), LinearOptions { gelu: false, add: frame > 0 })?;
        }
        let mut work = 0;
        for (i, block) in self.blocks.iter().enumerate() {
            let ranges = if c.fullatt_block_indexes.contains(&i) { &full_ranges } else { &window_ranges };
            self.block(&mut rec, block, &h, &table, ranges, heads)?;
            work += n;
            if work >= WORK {
                gpu.execute(std::mem::replace(&mut rec, Recorder::new(gpu)).finish())?;
                work = 0;
            }
        }
        // Merger: norm per patch, then the unit's patches side by side through two layers.
        let x = rms_norm(&mut rec, &h, &self.merger_norm, EPS, 0, n)?.reshape(n / unit, unit * c.hidden_size)?;
        let rows = Rows::first(n / unit);
        let wide = rec.scratch("merger", n / unit, self.fc1.rows)?;
        let gelu = LinearOptions { gelu: true, add: false };
        linear(&mut rec, &x, &self.fc1, Some(&self.fc1_bias), &wide, rows, gelu)?;
        let merged = rec.scratch("merged", n / unit, self.fc2.rows)?;
        linear(&mut rec, &wide, &self.fc2, Some(&self.fc2_bias), &merged, rows, LinearOptions::default())?;
        // Back from window order.
        let inverse = rec.upload_u32("window inverse", n / unit, &windows.inverse())?;
        let embeds = rec.scratch("image_embeds", n / unit, self.fc2.rows)?;
        gather_rows(&mut rec, &merged, &inverse, &embeds)?;
        gpu.execute(rec.finish())?;
        Ok(embeds)
    }

    fn block(
        &self,
        rec: &mut Recorder,
        b: &Block,
        h: &Tensor,
        table: &Tensor,
        ranges: &Tensor,
        heads: Heads,
    ) -> Result<()> {
        let n = h.rows;
        let residual = LinearOptions { add: true, ..Default::default() };
        let head_rows = heads.q * n;
        let q = rec.scratch("q", head_rows, heads.dim)?; // each [heads, n, dim]
        let k = rec.scratch("k", head_rows, heads.dim)?;
        let v = rec.scratch("v", head_rows, heads.dim)?;
        for (first, rows) in pieces(n) {
            let x = rms_norm(rec, h, &b.norm1, EPS, first, rows)?;
            let qkv = rec.scratch("qkv", rows, b.qkv.rows)?; // [rows, 3 * hidden]
            linear(rec, &x, &b.qkv, Some(&b.qkv_bias), &qkv, Rows::first(rows), LinearOptions::default())?;
            let to = RopeTarget { q: &q, q_capacity: n, row: first, k: &k, v: &v, capacity: n, past: first };
            rope(rec, &qkv, table, heads, to)?;
        }
        let o = attention(rec, &q, &k, &v, &Mask::Ranges(ranges), heads, n)?; // [n, hidden]
        linear(rec, &o, &b.proj, Some(&b.proj_bias), h, Rows::first(n), residual)?;
        for (first, rows) in pieces(n) {
            let x = rms_norm(rec, h, &b.norm2, EPS, first, rows)?;
            let gate_up = rec.scratch("gate_up", rows, b.gate_up.rows)?; // [rows, 2 * intermediate]
            linear(rec, &x, &b.gate_up, Some(&b.gate_up_bias), &gate_up, Rows::first(rows), LinearOptions::default())?;
            let x = swiglu(rec, &gate_up)?; // [rows, intermediate]
            let into = Rows { n: rows, x_row: 0, y_row: first };
            linear(rec, &x, &b.down, Some(&b.down_bias), h, into, residual)?;
        }
        Ok(())
    }
}

/// The tower on paper.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// The configuration.
    pub config: VisionConfig,
    /// Matrices that the patch embedding is in: one for all frames of a patch, or one for each.
    pub frames: usize,
}

impl VisionSizes for Sizes {
    fn blocks(&self) -> usize {
        self.config.depth
    }

    fn hidden(&self) -> usize {
        self.config.hidden_size
    }

    fn patch_size(&self) -> usize {
        self.config.patch_size
    }

    fn merge(&self) -> usize {
        self.config.spatial_merge_size
    }

    fn rehearse(&self, pool: &Rehearsal, n: usize) -> Lease {
        let c = &self.config;
        let (hidden, unit) = (c.hidden_size, c.merge_unit());
        let gate_up = 2 * c.intermediate_size.next_multiple_of(4);
        let _table = pool.upload("vision rope", n, c.head_dim);
        let _windows = pool.upload("windows", n, 2);
        let _frames = pool.upload("frames", n, 2);
        let _h = pool.scratch("vision", n, hidden);
        let mut uploads: Vec<Lease> =
            (0..self.frames).map(|_| pool.upload("pixel_values", n, c.patch_len() / self.frames)).collect();
        let mut work = 0;
        for _ in 0..c.depth {
            let _q = pool.scratch("q", n, hidden);
            let _k = pool.scratch("k", n, hidden);
            let _v = pool.scratch("v", n, hidden);
            for (_, rows) in pieces(n) {
                let _x = pool.scratch("rms_norm", rows, hidden);
                let _qkv = pool.scratch("qkv", rows, 3 * hidden);
                pool.launch(3);
            }
            let _o = pool.scratch("attention", n, hidden);
            for (_, rows) in pieces(n) {
                let _x = pool.scratch("rms_norm", rows, hidden);
                let _gate_up = pool.scratch("gate_up", rows, gate_up);
                let _x = pool.scratch("swiglu", rows, gate_up / 2);
                pool.launch(4);
            }
            pool.launch(2);
            work += n;
            if work >= WORK {
                uploads.clear();
                work = 0;
            }
        }
        let _x = pool.scratch("rms_norm", n, hidden);
        let _wide = pool.scratch("merger", n / unit, unit * hidden);
        let _merged = pool.scratch("merged", n / unit, c.out_hidden_size);
        let _inverse = pool.upload("window inverse", n / unit, 1);
        pool.launch(4 + self.frames);
        pool.scratch("image_embeds", n / unit, c.out_hidden_size)
    }
}

/// The values of one of `frames` frames of every patch, or all of them if there is one weight for all.
fn frame_values<'a>(pixels: &'a [f32], frame: usize, frames: usize, c: &VisionConfig) -> Cow<'a, [f32]> {
    if frames == 1 {
        return Cow::Borrowed(pixels);
    }
    // A patch is [channels, frames, side, side].
    let area = c.patch_size * c.patch_size;
    pixels.chunks_exact(frames * area).flat_map(|channel| &channel[frame * area..][..area]).copied().collect()
}

/// Runs of at most [`PIECE`] rows: (first, count).
fn pieces(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(PIECE).map(move |first| (first, PIECE.min(n - first)))
}

/// Per row, the run (first, end) of rows that it lies in; `cu` holds the boundaries of all runs.
fn ranges(cu: &[u32]) -> Vec<u32> {
    cu.windows(2).flat_map(|run| (run[0]..run[1]).flat_map(move |_| [run[0], run[1]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_a_run_sees_the_run() {
        assert_eq!(ranges(&[0, 2, 3]), [0, 2, 0, 2, 2, 3]);
    }

    #[test]
    fn pieces_cover_all_rows() {
        assert_eq!(pieces(2 * PIECE + 1).collect::<Vec<_>>(), [(0, PIECE), (PIECE, PIECE), (2 * PIECE, 1)]);
    }
}
