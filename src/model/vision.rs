//! The vision tower of the whole family on one page; what differs between members are flags of [`VisionConfig`].
//!
//! transformers: `Qwen2VisionTransformerPretrainedModel` in `modeling_qwen2_vl.py`, `Qwen2_5_VisionTransformerPretrainedModel`
//! in `modeling_qwen2_5_vl.py`, `Qwen3VLVisionModel` in `modeling_qwen3_vl.py`.

use std::borrow::Cow;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Lease, Recorder, Rehearsal, Tensor};
use crate::model::load::Loaded;
use crate::model::positions::{
    Grid, Windows, frames, learned_positions, permute_rows, rope_rows, vision_rope_table, window_index,
};
use crate::model::sizes::{Mlp, VisionConfig};
use crate::model::{Embeds, VisionSizes, VisionTower};
use crate::ops::attention::{Mask, attention};
use crate::ops::blend_rows::blend_rows;
use crate::ops::gather_rows::gather_rows;
use crate::ops::layer_norm::layer_norm;
use crate::ops::rms_norm::rms_norm;
use crate::ops::rope::{Heads, RopeTarget, rope};
use crate::ops::swiglu::swiglu;
use crate::ops::{Activation, LinearOptions, Rows, Weight, linear};

/// The epsilon of every norm in every tower; a constant in `modeling_*.py`.
pub const EPS: f32 = 1e-6;

/// Rows that pass through the wide parts of a block (qkv, MLP) at a time: bounds the intermediate memory.
const PIECE: usize = 4096;

/// Patches times blocks in one submission, so that a large image does not hold the device for seconds.
const WORK: usize = 32 * 4096;

/// A norm's weights: LayerNorm if it has a bias, else RMSNorm.
struct Norm {
    gain: Tensor,
    bias: Option<Tensor>,
}

impl Norm {
    fn new(name: &str, loaded: &mut Loaded) -> Result<Self> {
        Ok(Norm { gain: loaded.vector(name)?, bias: loaded.optional_vector(&format!("{name}.bias")) })
    }

    /// Rows `first .. first + n` of `x`.
    fn record(&self, rec: &mut Recorder, x: &Tensor, first: usize, n: usize) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => layer_norm(rec, x, &self.gain, bias, EPS, first, n),
            None => rms_norm(rec, x, &self.gain, EPS, first, n),
        }
    }
}

struct Linear {
    weight: Weight,
    bias: Tensor,
}

impl Linear {
    fn new(name: &str, loaded: &mut Loaded) -> Result<Self> {
        Ok(Linear { weight: loaded.matrix(name)?, bias: loaded.vector(&format!("{name}.bias"))? })
    }

    fn record(&self, rec: &mut Recorder, x: &Tensor, y: &Tensor, rows: Rows, options: LinearOptions) -> Result<()> {
        linear(rec, x, &self.weight, Some(&self.bias), y, rows, options)
    }
}

struct Block {
    norm1: Norm,
    qkv: Linear,
    proj: Linear,
    norm2: Norm,
    /// Before the activation: gate and up, or one layer.
    up: Linear,
    down: Linear,
}

/// A merged token's patches side by side through two layers.
struct Merger {
    /// Of a patch, or where it is as wide as `fc1`, of all patches of a token.
    norm: Norm,
    fc1: Linear,
    fc2: Linear,
}

impl Merger {
    fn new(name: &str, loaded: &mut Loaded) -> Result<Self> {
        Ok(Merger {
            norm: Norm::new(&format!("{name}.norm"), loaded)?,
            fc1: Linear::new(&format!("{name}.fc1"), loaded)?,
            fc2: Linear::new(&format!("{name}.fc2"), loaded)?,
        })
    }

    /// `[tokens, out]` of `h` `[patches, hidden]`.
    fn record(&self, rec: &mut Recorder, h: &Tensor) -> Result<Tensor> {
        let width = self.fc1.weight.cols; // patches of a token × hidden
        let tokens = h.rows * h.cols / width;
        let x = if self.norm.gain.len() == width {
            self.norm.record(rec, &h.reshape(tokens, width)?, 0, tokens)?
        } else {
            self.norm.record(rec, h, 0, h.rows)?.reshape(tokens, width)?
        };
        let wide = rec.scratch("merger", tokens, self.fc1.weight.rows)?;
        let gelu = LinearOptions { act: Activation::Gelu, add: false };
        self.fc1.record(rec, &x, &wide, Rows::first(tokens), gelu)?;
        let merged = rec.scratch("merged", tokens, self.fc2.weight.rows)?;
        self.fc2.record(rec, &wide, &merged, Rows::first(tokens), LinearOptions::default())?;
        Ok(merged)
    }

    fn rehearse(pool: &Rehearsal, c: &VisionConfig, patches: usize) -> Lease {
        let tokens = patches / c.merge_unit();
        let _x = pool.scratch("norm", patches, c.hidden_size);
        let _wide = pool.scratch("merger", tokens, c.merge_unit() * c.hidden_size);
        pool.launch(3);
        pool.scratch("merged", tokens, c.out_hidden_size)
    }
}

/// The tower's weights on the device.
pub struct Vision {
    config: VisionConfig,
    /// One for all frames of a patch, or one for each.
    patch_embed: Vec<Weight>,
    patch_bias: Option<Tensor>,
    /// Learned positions `[side², hidden]`.
    positions: Option<Tensor>,
    blocks: Vec<Block>,
    merger: Merger,
    /// Mergers of [`VisionConfig::deepstack`].
    deepstack: Vec<Merger>,
}

/// What is computed on the CPU before anything is recorded: the order of rows, who sees whom, the rotary table.
struct Layout {
    /// Rows in another order than the picture's, so that a window is a run of rows.
    windows: Option<Windows>,
    /// Where frames begin and the last one ends.
    frames: Vec<u32>,
    /// Cosines and sines `[patches, head_dim]` in the order of the rows.
    table: Vec<f32>,
}

impl Layout {
    fn new(c: &VisionConfig, grid: Grid) -> Result<Self> {
        let merge = c.spatial_merge_size as u32;
        let windows = match &c.windows {
            Some(windows) => Some(window_index(&[grid], merge, windows.size as u32, c.patch_size as u32)?),
            None => None,
        };
        let (cos, sin) = vision_rope_table(grid, merge, c.head_dim, c.rope_theta)?;
        let layout = Layout { windows, frames: frames(&[grid], merge)?, table: Vec::new() };
        let table = rope_rows(&cos, &sin, c.head_dim / 2);
        Ok(Layout { table: layout.ordered(&table, c.head_dim, c)?.into_owned(), ..layout })
    }

    /// Rows of patches in the order in which the tower works.
    fn ordered<'a>(&self, rows: &'a [f32], row_len: usize, c: &VisionConfig) -> Result<Cow<'a, [f32]>> {
        match &self.windows {
            Some(windows) => permute_rows(rows, row_len, c.merge_unit(), &windows.index).map(Cow::Owned),
            None => Ok(Cow::Borrowed(rows)),
        }
    }
}

impl Vision {
    /// Takes the tower's weights out of what was loaded.
    ///
    /// # Errors
    /// [`Error::Missing`] if one is not there.
    pub fn new(config: VisionConfig, loaded: &mut Loaded) -> Result<Self> {
        let up = if config.mlp == Mlp::SwiGlu { "gate_up" } else { "up" };
        let blocks = (0..config.depth)
            .map(|i| {
                let name = |part: &str| format!("vision.blocks.{i}.{part}");
                Ok(Block {
                    norm1: Norm::new(&name("norm1"), loaded)?,
                    qkv: Linear::new(&name("qkv"), loaded)?,
                    proj: Linear::new(&name("proj"), loaded)?,
                    norm2: Norm::new(&name("norm2"), loaded)?,
                    up: Linear::new(&name(up), loaded)?,
                    down: Linear::new(&name("down"), loaded)?,
                })
            })
            .collect::<Result<_>>()?;
        let mut patch_embed = vec![loaded.matrix("vision.patch_embed")?];
        for n in 1..config.temporal_patch_size {
            patch_embed.extend(loaded.optional_matrix(&format!("vision.patch_embed.{n}")));
        }
        let deepstack = 0..config.deepstack.len();
        Ok(Vision {
            patch_embed,
            patch_bias: loaded.optional_vector("vision.patch_embed.bias"),
            positions: loaded.optional_vector("vision.positions"),
            blocks,
            merger: Merger::new("vision.merger", loaded)?,
            deepstack: deepstack
                .map(|n| Merger::new(&format!("vision.deepstack.{n}"), loaded))
                .collect::<Result<_>>()?,
            config,
        })
    }

    /// The residual stream `[patches, hidden]` as it enters the first block.
    fn embed(&self, rec: &mut Recorder, pixel_values: &[f32], grid: Grid, layout: &Layout) -> Result<Tensor> {
        let c = &self.config;
        let n = grid.count();
        let pixels = layout.ordered(pixel_values, c.patch_len(), c)?;
        let h = rec.scratch("vision", n, c.hidden_size)?;
        for (first, rows) in pieces(n) {
            let pixels = &pixels[first * c.patch_len()..][..rows * c.patch_len()];
            for (frame, weight) in self.patch_embed.iter().enumerate() {
                let part = frame_values(pixels, frame, self.patch_embed.len(), c);
                let x = rec.upload_f32("pixel_values", rows, &part)?;
                // Once, however many frames there are.
                let bias = self.patch_bias.as_ref().filter(|_| frame == 0);
                let options = LinearOptions { add: frame > 0, ..LinearOptions::default() };
                linear(rec, &x, weight, bias, &h, Rows { n: rows, x_row: 0, y_row: first }, options)?;
            }
        }
        if let (Some(table), Some(side)) = (&self.positions, c.position_side) {
            let (index, weights) = learned_positions(grid, c.spatial_merge_size as u32, side as u32)?;
            let index = rec.upload_u32("position rows", n, &index)?;
            let weights = rec.upload_f32("position weights", n, &weights)?;
            blend_rows(rec, &table.reshape(side * side, c.hidden_size)?, &index, &weights, &h)?;
        }
        Ok(h)
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
        let plain = LinearOptions::default();
        let residual = LinearOptions { add: true, ..plain };
        let head_rows = heads.q * n;
        let q = rec.scratch("q", head_rows, heads.dim)?; // each [heads, n, dim]
        let k = rec.scratch("k", head_rows, heads.dim)?;
        let v = rec.scratch("v", head_rows, heads.dim)?;
        for (first, rows) in pieces(n) {
            let x = b.norm1.record(rec, h, first, rows)?;
            let qkv = rec.scratch("qkv", rows, b.qkv.weight.rows)?; // [rows, 3 * hidden]
            b.qkv.record(rec, &x, &qkv, Rows::first(rows), plain)?;
            let to = RopeTarget {
                q: &q,
                q_capacity: n,
                row: first,
                table_row: first,
                k: &k,
                v: &v,
                capacity: n,
                past: first,
            };
            rope(rec, &qkv, None, table, heads, to)?;
        }
        let o = attention(rec, &q, &k, &v, &Mask::Ranges(ranges), heads, n)?; // [n, hidden]
        b.proj.record(rec, &o, h, Rows::first(n), residual)?;
        for (first, rows) in pieces(n) {
            let x = b.norm2.record(rec, h, first, rows)?;
            let up = rec.scratch("up", rows, b.up.weight.rows)?; // [rows, intermediate], twice that for SwiGLU
            let x = match self.config.mlp {
                Mlp::SwiGlu => {
                    b.up.record(rec, &x, &up, Rows::first(rows), plain)?;
                    swiglu(rec, &up)?
                }
                Mlp::Plain(act) => {
                    b.up.record(rec, &x, &up, Rows::first(rows), LinearOptions { act, add: false })?;
                    up
                }
            };
            b.down.record(rec, &x, h, Rows { n: rows, x_row: 0, y_row: first }, residual)?;
        }
        Ok(())
    }
}

impl VisionTower for Vision {
    fn encode(&self, gpu: &Gpu, pixel_values: &[f32], grid: Grid) -> Result<Embeds> {
        let c = &self.config;
        let n = grid.count(); // patches
        if n.checked_mul(c.patch_len()) != Some(pixel_values.len()) {
            let (expected, found) = (vec![n, c.patch_len()], vec![pixel_values.len()]);
            return Err(Error::Shape { what: "pixel_values".into(), expected, found });
        }
        let layout = Layout::new(c, grid)?;
        let heads = Heads { q: c.num_heads, kv: c.num_heads, dim: c.head_dim };

        let mut rec = Recorder::new(gpu);
        let table = rec.upload_f32("vision rope", n, &layout.table)?;
        let windows = match &layout.windows {
            Some(windows) => Some(rec.upload_u32("windows", n, &ranges(&windows.cu_window))?),
            None => None,
        };
        let whole = rec.upload_u32("frames", n, &ranges(&layout.frames))?;
        let h = self.embed(&mut rec, pixel_values, grid, &layout)?;
        let mut deep = Vec::new();
        let mut work = 0;
        for (i, block) in self.blocks.iter().enumerate() {
            let full = c.windows.as_ref().is_none_or(|windows| windows.full.contains(&i));
            let ranges = windows.as_ref().filter(|_| !full).unwrap_or(&whole);
            self.block(&mut rec, block, &h, &table, ranges, heads)?;
            if let Some(at) = c.deepstack.iter().position(|block| *block == i) {
                deep.push(self.deepstack[at].record(&mut rec, &h)?);
            }
            work += n;
            if work >= WORK {
                gpu.execute(std::mem::replace(&mut rec, Recorder::new(gpu)).finish())?;
                work = 0;
            }
        }
        let mut main = self.merger.record(&mut rec, &h)?;
        if let Some(windows) = &layout.windows {
            // Back from window order.
            let inverse = rec.upload_u32("window inverse", main.rows, &windows.inverse())?;
            let embeds = rec.scratch("image_embeds", main.rows, main.cols)?;
            gather_rows(&mut rec, &main, &inverse, &embeds)?;
            main = embeds;
        }
        gpu.execute(rec.finish())?;
        Ok(Embeds { main, deep })
    }

    fn prepare(&self, gpu: &Gpu) -> Result<Embeds> {
        // A few merged tokens, more than the matrix-vector kernel takes.
        let side = 4 * self.config.spatial_merge_size as u32;
        let grid = Grid::new(1, side, side);
        self.encode(gpu, &vec![0.0; grid.count() * self.config.patch_len()], grid)
    }

    fn sizes(&self) -> Rc<dyn VisionSizes> {
        Rc::new(Sizes { config: self.config.clone(), frames: self.patch_embed.len() })
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

    fn deepstack(&self) -> usize {
        self.config.deepstack.len()
    }

    fn flops(&self, patches: u64, frame: u64) -> u64 {
        let c = &self.config;
        let [hidden, unit, out, mlp] =
            [c.hidden_size, c.merge_unit(), c.out_hidden_size, c.mlp_rows()].map(|n| n as u64);
        let second = if c.mlp == Mlp::SwiGlu { mlp / 2 } else { mlp };
        let block = patches.saturating_mul(4 * hidden * hidden + (mlp + second) * hidden);
        // Scores, and sums of values. A window holds at most this many patches.
        let attention = |keys: u64| patches.saturating_mul(2 * hidden).saturating_mul(keys.min(frame));
        let (full, windowed) = match &c.windows {
            Some(windows) => {
                let side = (windows.size / c.patch_size.max(1)) as u64;
                let full = windows.full.len();
                (
                    attention(frame).saturating_mul(full as u64),
                    attention(side * side).saturating_mul((c.depth - full) as u64),
                )
            }
            None => (attention(frame).saturating_mul(c.depth as u64), 0),
        };
        let wide = unit * hidden;
        let merger = (patches / unit.max(1)).saturating_mul(wide * wide + wide * out);
        let embed = patches.saturating_mul(c.patch_len() as u64 * hidden);
        let mergers = merger.saturating_mul(1 + c.deepstack.len() as u64);
        let blocks = block.saturating_mul(c.depth as u64);
        2 * [blocks, full, windowed, mergers].into_iter().fold(embed, u64::saturating_add).min(u64::MAX / 2)
    }

    fn rehearse(&self, pool: &Rehearsal, n: usize) -> Vec<Lease> {
        let c = &self.config;
        let hidden = c.hidden_size;
        let _table = pool.upload("vision rope", n, c.head_dim);
        let _windows = c.windows.as_ref().map(|_| pool.upload("windows", n, 2));
        let _frames = pool.upload("frames", n, 2);
        let _h = pool.scratch("vision", n, hidden);
        let mut uploads: Vec<Lease> = pieces(n)
            .flat_map(|(_, rows)| std::iter::repeat_n(rows, self.frames))
            .map(|rows| pool.upload("pixel_values", rows, c.patch_len() / self.frames))
            .collect();
        if c.position_side.is_some() {
            uploads.extend(["position rows", "position weights"].map(|what| pool.upload(what, n, 4)));
            pool.launch(1);
        }
        let mut embeds = Vec::new();
        let mut work = 0;
        for i in 0..c.depth {
            rehearse_block(pool, c, n);
            if c.deepstack.contains(&i) {
                embeds.push(Merger::rehearse(pool, c, n));
            }
            work += n;
            if work >= WORK {
                uploads.clear();
                work = 0;
            }
        }
        let merged = Merger::rehearse(pool, c, n);
        pool.launch(1 + self.frames * pieces(n).count());
        if c.windows.is_some() {
            let _inverse = pool.upload("window inverse", n / c.merge_unit(), 1);
            embeds.insert(0, pool.scratch("image_embeds", n / c.merge_unit(), c.out_hidden_size));
        } else {
            embeds.insert(0, merged);
        }
        embeds
    }
}

/// [`Vision::block`] on paper.
fn rehearse_block(pool: &Rehearsal, c: &VisionConfig, n: usize) {
    let _qkv = ["q", "k", "v"].map(|what| pool.scratch(what, n, c.hidden_size));
    for (_, rows) in pieces(n) {
        let _x = pool.scratch("norm", rows, c.hidden_size);
        let _qkv = pool.scratch("qkv", rows, 3 * c.hidden_size);
        pool.launch(3);
    }
    let _o = pool.scratch("attention", n, c.hidden_size);
    for (_, rows) in pieces(n) {
        let _x = pool.scratch("norm", rows, c.hidden_size);
        let _up = pool.scratch("up", rows, c.mlp_rows());
        let _x = (c.mlp == Mlp::SwiGlu).then(|| pool.scratch("swiglu", rows, c.mlp_rows() / 2));
        pool.launch(4);
    }
    pool.launch(2);
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
