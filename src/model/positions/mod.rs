//! Positions, as integers and tables computed on the CPU before anything is recorded for the GPU.
//!
//! - M-RoPE (Qwen2-VL paper, arXiv 2409.12191, §2.1): three position ids per token, for time, height and width.
//! - Rotary tables of the decoder and of the vision tower.
//! - The window order of Qwen2.5-VL's vision tower (arXiv 2502.13923, §2.1.1).
//!
//! Sources in transformers 5.23: `get_rope_index` and the two `RotaryEmbedding` classes of `modeling_qwen2_5_vl.py`,
//! `vision_utils.py`, `_compute_yarn_parameters` of `modeling_rope_utils.py`.
//!
//! A *patch* is a row of the vision tower's input. A *merged token* is `merge`² patches and one token of the decoder.
//! Patches are in block-merged order: for each frame, for each merged token (row by row), its patches row by row.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::model::MediaTokens;

/// Positions stay below 2^24, so that f32 holds each exactly.
pub const MAX_POSITION: i64 = 1 << 24;

/// Most patches in one call, far beyond any context: 2^21, or 524,288 tokens at merge 2.
const MAX_PATCHES: u64 = 1 << 21;

/// The size of an image or video in patches: the processor's `grid_thw`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Temporal patches: 1 for an image, half the frames of a video.
    pub t: u32,
    /// Rows of patches.
    pub h: u32,
    /// Columns of patches.
    pub w: u32,
}

impl Grid {
    /// A grid of `t` × `h` × `w` patches.
    pub fn new(t: u32, h: u32, w: u32) -> Self {
        Grid { t, h, w }
    }

    /// The grid in merged tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a side is zero or no multiple of `merge`, or if there are more than 2^21 patches.
    pub fn merged(self, merge: u32) -> Result<Grid> {
        let patches = u64::from(self.t).checked_mul(u64::from(self.h)).and_then(|n| n.checked_mul(u64::from(self.w)));
        let sides_ok = merge > 0 && self.h.is_multiple_of(merge) && self.w.is_multiple_of(merge);
        if !sides_ok || patches.is_none_or(|n| n == 0 || n > MAX_PATCHES) {
            let expected = format!("positive sides, h and w multiples of {merge}, at most {MAX_PATCHES} patches");
            return Err(Error::invalid("grid_thw", expected, format!("[{}, {}, {}]", self.t, self.h, self.w)));
        }
        Ok(Grid { t: self.t, h: self.h / merge, w: self.w / merge })
    }

    /// Patches in the grid (or tokens, of a merged grid).
    pub fn count(self) -> usize {
        // Saturating only for grids that `merged` refuses.
        (self.t as usize).saturating_mul(self.h as usize).saturating_mul(self.w as usize)
    }
}

/// A video's size and pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoGrid {
    /// Its size in patches.
    pub grid: Grid,
    /// Seconds from one temporal patch to the next: the processor's `second_per_grid_ts`.
    pub second_per_grid: f32,
}

/// Where the frames of a video stand in time: what a family makes of the temporal axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum VideoTime {
    /// Temporal patch k at k: Qwen2-VL.
    Frames,
    /// At so many positions per second, by the video's own pace: Qwen2.5-VL's `tokens_per_second`.
    Seconds(usize),
    /// Each temporal patch is a picture of its own, with its time written before it: Qwen3-VL.
    Text,
}

/// A run of tokens of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Segment {
    /// This many text tokens, the vision start and end marks included.
    Text(usize),
    /// The tokens of one image.
    Image(Grid),
    /// The tokens of one video.
    Video(VideoGrid),
}

/// The position ids `[time, height, width]` of a sequence of segments whose first token has position `start`, and the
/// position of whatever comes next.
///
/// Text advances all three together. Token (i, j) of an image at `cur` is `[cur, cur+i, cur+j]`; token (k, i, j) of a
/// video is `[cur + time(k), cur+i, cur+j]`, where `time(k)` is k for [`VideoTime::Frames`] and
/// `trunc(k · second_per_grid · tokens_per_second)` for [`VideoTime::Seconds`], multiplied in f32. What follows a segment gets
/// 1 + the largest id used on any axis (the reference training code, vLLM and transformers 4; 5.23 lets text after a long
/// video fall behind the video's last frame). Where times are text, each frame is a segment of its own.
///
/// # Errors
/// [`Error::Invalid`] for a grid that `merge` does not divide, an image with more than one frame, or a pace that is
/// negative or not finite; [`Error::ContextOverflow`] when a position would reach 2^24.
pub fn mrope_positions(segments: &[Segment], merge: u32, time: VideoTime, start: i64) -> Result<(Vec<[i32; 3]>, i64)> {
    let mut ids = Vec::new();
    let mut cur = start;
    // Checks that the last position `cur + last` still fits, before anything is allocated for it.
    let advance = |cur: i64, last: i64| match cur.checked_add(last) {
        Some(position) if (0..MAX_POSITION).contains(&position) && cur >= 0 => Ok(position + 1),
        _ => Err(Error::ContextOverflow {
            needed: usize::try_from(cur.saturating_add(last)).unwrap_or(usize::MAX),
            limit: MAX_POSITION as usize,
        }),
    };
    for segment in segments {
        let (grid, step) = match segment {
            Segment::Text(0) => continue,
            Segment::Text(n) => {
                let next = advance(cur, i64::try_from(*n - 1).unwrap_or(i64::MAX))?;
                ids.extend((cur..next).map(|p| [p as i32; 3]));
                cur = next;
                continue;
            }
            Segment::Image(grid) if grid.t != 1 => {
                return Err(Error::invalid("grid_thw of an image", "1 temporal patch", grid.t.to_string()));
            }
            Segment::Image(grid) => (grid, 0.0),
            Segment::Video(video) => match time {
                VideoTime::Frames => (&video.grid, 1.0),
                VideoTime::Seconds(positions) => (&video.grid, positions as f32 * video.second_per_grid),
                VideoTime::Text => {
                    let found = format!("one of {} temporal patches in a single run", video.grid.t);
                    return Err(Error::invalid("video", "one run of pads for each temporal patch", found));
                }
            },
        };
        if !step.is_finite() || step < 0.0 {
            let expected = "a finite pace that is not negative";
            return Err(Error::invalid("second_per_grid × tokens_per_second", expected, step.to_string()));
        }
        let grid = grid.merged(merge)?;
        // `as` truncates towards zero and saturates; `advance` refuses what saturated.
        let time = |k: u32| (k as f32 * step) as i64;
        let last = time(grid.t - 1).max(i64::from(grid.h.max(grid.w)) - 1);
        let next = advance(cur, last)?;
        for k in 0..grid.t {
            let t = (cur + time(k)) as i32;
            for i in 0..grid.h {
                ids.extend((0..grid.w).map(|j| [t, (cur + i64::from(i)) as i32, (cur + i64::from(j)) as i32]));
            }
        }
        cur = next;
    }
    Ok((ids, cur))
}

/// The segments of a prompt. Every run of image (video) pads must be exactly the tokens of the next image (video), or with
/// [`VideoTime::Text`] those of the next temporal patch, which then is a segment like an image.
///
/// # Errors
/// [`Error::Invalid`] if a run has another length than its grid, if there are more runs than grids or fewer: some pad
/// was forged in the text, or lost.
pub fn segments_from_ids(
    ids: &[u32],
    media: &MediaTokens,
    images: &[Grid],
    videos: &[VideoGrid],
) -> Result<Vec<Segment>> {
    let MediaTokens { image: image_token, video: video_token, merge, time } = *media;
    let mut segments = Vec::new();
    let mut images = images.iter().enumerate();
    let mut videos = videos.iter().enumerate().flat_map(|(i, &video)| {
        let frame = VideoGrid { grid: Grid { t: 1, ..video.grid }, ..video };
        // A grid that is too long ends with the error of the pads that it lacks.
        let (count, video) = if time == VideoTime::Text { (video.grid.t, frame) } else { (1, video) };
        std::iter::repeat_n((i, video), count as usize)
    });
    let class = |id: u32| u8::from(id == image_token) + 2 * u8::from(id == video_token);
    for run in ids.chunk_by(|&a, &b| class(a) == class(b)) {
        if run[0] != image_token && run[0] != video_token {
            segments.push(Segment::Text(run.len()));
            continue;
        }
        let (kind, next) = if run[0] == image_token {
            ("image", images.next().map(|(i, &grid)| (i, grid, Segment::Image(grid))))
        } else {
            let segment = |video: VideoGrid| match time {
                VideoTime::Text => Segment::Image(video.grid),
                _ => Segment::Video(video),
            };
            ("video", videos.next().map(|(i, video)| (i, video.grid, segment(video))))
        };
        let pads = |n: usize| format!("a run of {n} {kind} pads");
        let Some((i, grid, segment)) = next else {
            let expected = format!("no further {kind} pads: every {kind} has had its own");
            return Err(Error::invalid("prompt", expected, pads(run.len())));
        };
        let count = grid.merged(merge)?.count();
        if run.len() != count {
            let expected = format!("{} for {kind} {}", pads(count), i + 1);
            return Err(Error::invalid("prompt", expected, pads(run.len())));
        }
        segments.push(segment);
    }
    for (kind, left) in [("image", images.count()), ("video", videos.count())] {
        if left > 0 {
            let expected = format!("one run of pads for each {kind}");
            return Err(Error::invalid("prompt", expected, format!("{left} {kind}s without one")));
        }
    }
    Ok(segments)
}

/// transformers' `rope_deltas`: the token at index n ≥ `len` has position n + delta on all three axes.
///
/// `next` is what [`mrope_positions`] gave for a sequence of `len` tokens that started at 0.
pub fn rope_delta(next: i64, len: usize) -> i64 {
    next.saturating_sub(i64::try_from(len).unwrap_or(i64::MAX))
}

/// YaRN (arXiv 2309.00071): low frequencies are divided by `factor`, high ones kept, with a ramp between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// How much longer than the trained context.
    pub factor: f64,
    /// The trained context, in tokens.
    pub original_max_position_embeddings: usize,
    /// Rotations over the trained context from which on a frequency is kept.
    pub beta_fast: f64,
    /// Rotations up to which a frequency is divided.
    pub beta_slow: f64,
    /// What cos and sin are multiplied by.
    pub attention_factor: f64,
    /// Whether the ramp's ends are rounded to whole indices, outwards.
    pub truncate: bool,
}

/// The decoder's rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Size of a head; frequency i rotates elements i and i + `head_dim`/2.
    pub head_dim: usize,
    /// The base θ.
    pub theta: f64,
    /// How many frequencies follow time, height and width; sums to `head_dim`/2.
    pub mrope_section: [usize; 3],
    /// Whether the three take turns (T, H, W, T, H, W, …) for as long as height and width have any left, and time has the
    /// rest (Qwen3-VL, arXiv 2511.21631); else each has a run of frequencies of its own.
    pub interleaved: bool,
    /// Context extension, if any.
    pub yarn: Option<Yarn>,
}

impl Rope {
    /// Which axis frequency `i` follows: 0 time, 1 height, 2 width.
    fn axis(&self, i: usize) -> usize {
        let [t, h, w] = self.mrope_section;
        match (self.interleaved, i % 3) {
            (true, 1) if i < 3 * h => 1,
            (true, 2) if i < 3 * w => 2,
            (true, _) => 0,
            (false, _) => usize::from(i >= t) + usize::from(i >= t + h),
        }
    }

    /// The `head_dim`/2 inverse frequencies θ^(−2i/head_dim), rounded to f32 at each step as torch does.
    pub fn inv_freq(&self) -> Vec<f32> {
        let periods = periods(self.theta, self.head_dim);
        let Some(yarn) = self.yarn else { return periods.iter().map(|p| 1.0 / p).collect() };
        let dim = self.head_dim as f64;
        let length = yarn.original_max_position_embeddings as f64;
        let correction =
            |rotations: f64| dim * (length / (rotations * 2.0 * std::f64::consts::PI)).ln() / (2.0 * self.theta.ln());
        let (mut low, mut high) = (correction(yarn.beta_fast), correction(yarn.beta_slow));
        if yarn.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let factor = yarn.factor as f32;
        let blend = periods.iter().enumerate().map(|(i, &period)| {
            let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let keep = 1.0 - ramp;
            1.0 / (factor * period) * (1.0 - keep) + 1.0 / period * keep
        });
        blend.collect()
    }
}

/// θ^(2i/dim) for i < dim/2, in f32 from an f32 exponent. By way of f64, so that native and wasm agree bit for bit.
fn periods(theta: f64, dim: usize) -> Vec<f32> {
    // torch takes θ as an f32 base.
    let theta = f64::from(theta as f32);
    (0..dim / 2).map(|i| theta.powf(f64::from((2 * i) as f32 / dim as f32)) as f32).collect()
}

/// cos and sin of an f32 angle, computed in f64 and rounded once.
fn cos_sin(position: i32, inv_freq: f32) -> (f32, f32) {
    let angle = f64::from(position as f32 * inv_freq);
    (angle.cos() as f32, angle.sin() as f32)
}

/// The decoder's `(cos, sin)`, each `[positions, head_dim/2]` row-major f32: column i is the angle
/// `position[axis(i)] · inv_freq[i]`, with axes as [`Rope::mrope_section`] and [`Rope::interleaved`] say.
/// transformers stores the same columns twice (`[angles, angles]`).
///
/// # Errors
/// [`Error::Invalid`] if the sections do not sum to `head_dim`/2.
pub fn mrope_table(positions: &[[i32; 3]], rope: &Rope) -> Result<(Vec<f32>, Vec<f32>)> {
    let half = rope.head_dim / 2;
    let [t, h, w] = rope.mrope_section;
    if t.checked_add(h).and_then(|n| n.checked_add(w)) != Some(half) {
        return Err(Error::invalid("mrope_section", format!("a sum of {half}"), format!("{:?}", rope.mrope_section)));
    }
    let inv_freq = rope.inv_freq();
    let scale = rope.yarn.map_or(1.0, |yarn| yarn.attention_factor as f32);
    let entry = |position: i32, i: usize| {
        let (cos, sin) = cos_sin(position, inv_freq[i]);
        (cos * scale, sin * scale)
    };
    // Images repeat few positions many times: look them up if the table of all of them is the smaller one.
    let flat = || positions.iter().flatten().copied();
    let span: Range<i64> = flat().min().map_or(0, i64::from)..flat().max().map_or(0, |p| i64::from(p) + 1);
    let known: Vec<(f32, f32)> = if span.end - span.start <= positions.len() as i64 {
        span.clone().flat_map(|p| (0..half).map(move |i| (p as i32, i))).map(|(p, i)| entry(p, i)).collect()
    } else {
        Vec::new()
    };
    let mut cos = Vec::with_capacity(positions.len().saturating_mul(half));
    let mut sin = Vec::with_capacity(cos.capacity());
    for position in positions {
        for i in 0..half {
            let position = position[rope.axis(i)];
            let row = (i64::from(position) - span.start) as usize;
            let (c, s) = if known.is_empty() { entry(position, i) } else { known[row * half + i] };
            cos.push(c);
            sin.push(s);
        }
    }
    Ok((cos, sin))
}

/// The vision tower's `(cos, sin)`, each `[patches, head_dim/2]` row-major f32, in block-merged patch order. The first
/// quarter of a head's dimensions turns by the patch's row, the second by its column, both with the inverse frequencies
/// θ^(−4i/head_dim), i < head_dim/4; every frame has the same angles.
///
/// # Errors
/// [`Error::Invalid`] as in [`Grid::merged`], or if 4 does not divide `head_dim`.
pub fn vision_rope_table(grid: Grid, merge: u32, head_dim: usize, theta: f64) -> Result<(Vec<f32>, Vec<f32>)> {
    if head_dim == 0 || !head_dim.is_multiple_of(4) || head_dim > 1 << 12 {
        return Err(Error::invalid("vision head_dim", "a multiple of 4 up to 4096", head_dim.to_string()));
    }
    let merged = grid.merged(merge)?;
    let quarter = head_dim / 4;
    let inv_freq: Vec<f32> = periods(theta, head_dim / 2).iter().map(|p| 1.0 / p).collect();
    let axis: Vec<(f32, f32)> =
        (0..grid.h.max(grid.w) as i32).flat_map(|p| inv_freq.iter().map(move |&f| cos_sin(p, f))).collect();
    let mut cos = Vec::with_capacity(grid.count().saturating_mul(2 * quarter));
    let mut sin = Vec::with_capacity(cos.capacity());
    for _ in 0..grid.t {
        for (row, col) in block_order(merged, merge) {
            for at in [row, col] {
                for &(c, s) in &axis[at as usize * quarter..][..quarter] {
                    cos.push(c);
                    sin.push(s);
                }
            }
        }
    }
    Ok((cos, sin))
}

/// For each patch in block-merged order the four rows of a table of `side`² learned positions that surround it, and their
/// weights, both `[patches, 4]`: the table stretched over the picture so that its corners lie on the picture's corner patches
/// (bilinear, `align_corners`). Every frame has the same.
///
/// transformers: `get_vision_interpolation_indices_and_weights` of `vision_utils.py`, in f32 as there.
///
/// # Errors
/// [`Error::Invalid`] as in [`Grid::merged`], or for an empty table.
pub fn learned_positions(grid: Grid, merge: u32, side: u32) -> Result<(Vec<u32>, Vec<f32>)> {
    if side == 0 || side > 1 << 12 {
        return Err(Error::invalid("side of the learned positions", "1 to 4096", side.to_string()));
    }
    let merged = grid.merged(merge)?;
    // The two neighbours along an axis and the weight of each.
    let axis = |size: u32| -> Vec<[(u32, f32); 2]> {
        (0..size)
            .map(|i| {
                let at = i as f32 * (side - 1) as f32 / (size - 1).max(1) as f32;
                let (low, fraction) = (at.floor() as u32, at - at.floor());
                // Beyond the last row there is nothing, and its weight is 0.
                [(low.min(side - 1), 1.0 - fraction), ((low + 1).min(side - 1), 1.0 - (fraction - 1.0).abs())]
            })
            .collect()
    };
    let (rows, cols) = (axis(grid.h), axis(grid.w));
    let (mut index, mut weights) = (Vec::new(), Vec::new());
    for _ in 0..grid.t {
        for (row, col) in block_order(merged, merge) {
            for (r, by_row) in rows[row as usize] {
                for (c, by_col) in cols[col as usize] {
                    index.push(r * side + c);
                    weights.push(by_row * by_col);
                }
            }
        }
    }
    Ok((index, weights))
}

/// Where the frames of some images and videos begin and the last one ends, in patches: the segments of full attention.
///
/// # Errors
/// [`Error::Invalid`] as in [`Grid::merged`].
pub fn frames(grids: &[Grid], merge: u32) -> Result<Vec<u32>> {
    let mut ends = vec![0u32];
    for grid in grids {
        grid.merged(merge)?;
        for _ in 0..grid.t {
            let last = ends.last().copied().unwrap_or_default();
            ends.push(last.saturating_add(grid.h * grid.w)); // at most 2^21 each
        }
    }
    Ok(ends)
}

/// (row, column) of the patches of one frame in block-merged order.
fn block_order(merged: Grid, merge: u32) -> impl Iterator<Item = (u32, u32)> {
    let blocks = (0..merged.h).flat_map(move |bh| (0..merged.w).map(move |bw| (bh * merge, bw * merge)));
    blocks.flat_map(move |(r, c)| (0..merge).flat_map(move |i| (0..merge).map(move |j| (r + i, c + j))))
}

/// The order in which the vision tower works, so that each attention window is a run of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// `index[k]` is the merged token (in the usual order) that comes k-th; transformers' `window_index`.
    pub index: Vec<u32>,
    /// Where the windows begin and the last one ends, in patches of the new order.
    pub cu_window: Vec<u32>,
}

impl Windows {
    /// The way back: the k-th merged token (in the usual order) lies at `inverse()[k]`. This, not `index`, restores the
    /// rows after the merger; the two agree only by luck.
    pub fn inverse(&self) -> Vec<u32> {
        let mut inverse = vec![0; self.index.len()];
        for (k, &token) in self.index.iter().enumerate() {
            if let Some(place) = inverse.get_mut(token as usize) {
                *place = k as u32;
            }
        }
        inverse
    }
}

/// The windows of some images and videos, one grid after the other as transformers concatenates them.
///
/// A window is `window_size / merge / patch_size` merged tokens wide and high. Windows tile each frame from its top
/// left; those at the right and at the bottom are smaller.
///
/// # Errors
/// [`Error::Invalid`] as in [`Grid::merged`], for a window smaller than a merged token, or for more than 2^21 patches.
pub fn window_index(grids: &[Grid], merge: u32, window_size: u32, patch_size: u32) -> Result<Windows> {
    let side = window_size.checked_div(merge).and_then(|n| n.checked_div(patch_size)).unwrap_or(0);
    if side == 0 {
        let expected = format!("at least one merged token ({merge} × {patch_size} pixels)");
        return Err(Error::invalid("window_size", expected, window_size.to_string()));
    }
    let patches = grids.iter().fold(0usize, |n, grid| n.saturating_add(grid.count()));
    if patches as u64 > MAX_PATCHES {
        return Err(Error::invalid("grid_thw", format!("at most {MAX_PATCHES} patches"), patches.to_string()));
    }
    let mut windows = Windows { index: Vec::new(), cu_window: vec![0] };
    let mut first = 0; // the frame's first merged token
    for grid in grids {
        let merged = grid.merged(merge)?;
        let unit = merge * merge; // no overflow: merge² patches fit in the grid
        for _ in 0..merged.t {
            for top in (0..merged.h).step_by(side as usize) {
                for left in (0..merged.w).step_by(side as usize) {
                    for row in top..merged.h.min(top.saturating_add(side)) {
                        let right = merged.w.min(left.saturating_add(side));
                        windows.index.extend((left..right).map(|col| first + row * merged.w + col));
                    }
                    windows.cu_window.push(windows.index.len() as u32 * unit);
                }
            }
            first += merged.h * merged.w;
        }
    }
    Ok(windows)
}

/// Rows of `row_len` elements in another order: group k of the result (`group` consecutive rows) is group `index[k]`
/// of `rows`. With `group` = merge² it takes patch rows into window order, with `group` = 1 and [`Windows::inverse`]
/// merged tokens back.
///
/// # Errors
/// [`Error::Shape`] if `rows` is not `index.len()` groups, [`Error::Invalid`] if an index lies outside.
pub fn permute_rows<T: Copy>(rows: &[T], row_len: usize, group: usize, index: &[u32]) -> Result<Vec<T>> {
    let size = row_len.saturating_mul(group);
    if index.len().saturating_mul(size) != rows.len() {
        let expected = vec![index.len(), group, row_len];
        return Err(Error::Shape { what: "rows to permute".to_owned(), expected, found: vec![rows.len()] });
    }
    let mut out = Vec::with_capacity(rows.len());
    for &from in index {
        let start = (from as usize).saturating_mul(size);
        let block = rows.get(start..start.saturating_add(size));
        let block =
            block.ok_or_else(|| Error::invalid("row index", format!("below {}", index.len()), from.to_string()))?;
        out.extend_from_slice(block);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: VideoTime = VideoTime::Seconds(2);

    fn axis(ids: &[[i32; 3]], axis: usize) -> Vec<i32> {
        ids.iter().map(|p| p[axis]).collect()
    }

    // The vectors of the reference sheet, §5.1.
    #[test]
    fn image_between_texts() {
        let segments = [Segment::Text(5), Segment::Image(Grid::new(1, 4, 6)), Segment::Text(3)];
        let (ids, next) = mrope_positions(&segments, 2, SECONDS, 0).unwrap();
        assert_eq!(axis(&ids, 0), [0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 8, 9, 10]);
        assert_eq!(axis(&ids, 1), [0, 1, 2, 3, 4, 5, 5, 5, 6, 6, 6, 8, 9, 10]);
        assert_eq!(axis(&ids, 2), [0, 1, 2, 3, 4, 5, 6, 7, 5, 6, 7, 8, 9, 10]);
        assert_eq!(next, 11);
        assert_eq!(rope_delta(next, ids.len()), -3);
    }

    #[test]
    fn video_paces() {
        let video = |second_per_grid| Segment::Video(VideoGrid { grid: Grid::new(3, 4, 4), second_per_grid });
        let (ids, next) = mrope_positions(&[Segment::Text(5), video(1.0)], 2, SECONDS, 0).unwrap();
        assert_eq!(axis(&ids[5..], 0), [5, 5, 5, 5, 7, 7, 7, 7, 9, 9, 9, 9]);
        assert_eq!(axis(&ids[5..], 1), [5, 5, 6, 6, 5, 5, 6, 6, 5, 5, 6, 6]);
        assert_eq!(axis(&ids[5..], 2), [5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6]);
        assert_eq!(next, 10);
        let (ids, next) = mrope_positions(&[video(0.6)], 2, SECONDS, 5).unwrap();
        assert_eq!(axis(&ids, 0), [5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7]);
        assert_eq!(next, 8);
        // f32 before truncation, as torch: 5 · 1.4 is 7 there, 6.9999999 in f64. And truncated, not rounded: 1.8, 3.6.
        let times = |second_per_grid, t| {
            let video = Segment::Video(VideoGrid { grid: Grid::new(t, 2, 2), second_per_grid });
            axis(&mrope_positions(&[video], 2, SECONDS, 0).unwrap().0, 0)
        };
        assert_eq!(times(0.7, 8), [0, 1, 2, 4, 5, 7, 8, 9]);
        assert_eq!(times(0.9, 4), [0, 1, 3, 5]);
        // Qwen2-VL counts frames: pace 1.
        let (_, next) = mrope_positions(&[Segment::Text(5), video(1.0)], 2, VideoTime::Frames, 0).unwrap();
        assert_eq!(next, 8);
    }

    #[test]
    fn a_second_turn_continues() {
        let first = [Segment::Text(4), Segment::Image(Grid::new(1, 8, 4)), Segment::Text(2)];
        let second = [Segment::Text(1), Segment::Image(Grid::new(1, 2, 2)), Segment::Text(7)];
        let (mut ids, next) = mrope_positions(&first, 2, SECONDS, 0).unwrap();
        let (more, end) = mrope_positions(&second, 2, SECONDS, next).unwrap();
        ids.extend(more);
        let whole: Vec<Segment> = first.into_iter().chain(second).collect();
        assert_eq!(mrope_positions(&whole, 2, SECONDS, 0).unwrap(), (ids, end));
    }

    #[test]
    fn hostile_segments() {
        let video = |second_per_grid| Segment::Video(VideoGrid { grid: Grid::new(2, 2, 2), second_per_grid });
        let image = |t, h, w| Segment::Image(Grid::new(t, h, w));
        for bad in [video(f32::NAN), video(f32::INFINITY), video(-1.0), image(1, 3, 2), image(1, 0, 2), image(2, 2, 2)]
        {
            assert!(matches!(mrope_positions(&[bad], 2, SECONDS, 0), Err(Error::Invalid { .. })), "{bad:?}");
        }
        assert!(mrope_positions(&[image(1, u32::MAX - 1, u32::MAX - 1)], 2, SECONDS, 0).is_err());
        assert!(mrope_positions(&[image(1, 2, 2)], 0, SECONDS, 0).is_err());
        for bad in [Segment::Text(usize::MAX), Segment::Text(1 << 24 | 1), video(1e30)] {
            assert!(matches!(mrope_positions(&[bad], 2, SECONDS, 0), Err(Error::ContextOverflow { .. })), "{bad:?}");
        }
        assert!(mrope_positions(&[Segment::Text(1)], 2, SECONDS, -1).is_err());
        assert!(mrope_positions(&[Segment::Text(1)], 2, SECONDS, i64::MAX).is_err());
        assert_eq!(mrope_positions(&[Segment::Text(0)], 2, SECONDS, 3).unwrap(), (vec![], 3));
        assert_eq!(
            mrope_positions(&[Segment::Text(1 << 10)], 2, SECONDS, MAX_POSITION - 1024).unwrap().1,
            MAX_POSITION
        );
    }

    #[test]
    fn segments_of_a_prompt() {
        const I: u32 = 90;
        const V: u32 = 91;
        const MEDIA: MediaTokens = MediaTokens { image: I, video: V, merge: 2, time: VideoTime::Frames };
        let grids = [Grid::new(1, 4, 4), Grid::new(1, 2, 2)];
        let video = VideoGrid { grid: Grid::new(2, 2, 2), second_per_grid: 1.0 };
        let ids = [1, 2, I, I, I, I, 3, V, V, 4, I, 5];
        let segments = segments_from_ids(&ids, &MEDIA, &grids, &[video]).unwrap();
        let [a, b] = grids.map(Segment::Image);
        let text = Segment::Text;
        assert_eq!(segments, [text(2), a, text(1), Segment::Video(video), text(1), b, text(1)]);
        let tokens = |s: &[u32], grids: &[Grid]| segments_from_ids(s, &MEDIA, grids, &[]);
        assert_eq!(tokens(&[], &[]).unwrap(), []);
        // forged: no image at all, one pad more, one less, a run split by text, two runs joined; lost: no run
        for (ids, grids) in [
            (&[1, I, 2][..], &[][..]),
            (&[I, I], &grids[1..]),
            (&[I, I, I], &grids[..1]),
            (&[I, I, 1, I, I], &grids[..1]),
            (&[I, I, I, I, I], &grids[..]),
            (&[1], &grids[1..]),
            (&[V], &grids[1..]),
        ] {
            assert!(matches!(tokens(ids, grids), Err(Error::Invalid { .. })), "{ids:?}");
        }
    }

    fn qwen(yarn: Option<Yarn>) -> Rope {
        Rope { head_dim: 128, theta: 1e6, mrope_section: [16, 24, 24], interleaved: false, yarn }
    }

    /// Equal, or neighbours: torch's vectorised pow rounds a few of them the other way.
    fn assert_neighbours(ours: &[f32], torch: &[u32; 64]) {
        let apart: Vec<u32> = ours.iter().zip(torch).map(|(f, &bits)| f.to_bits().abs_diff(bits)).collect();
        assert_eq!(ours.len(), 64);
        assert!(apart.iter().all(|&ulp| ulp <= 1) && apart.iter().sum::<u32>() <= 3, "{apart:?}");
    }

    // By torch 2.15 on a CPU and transformers 5.23 (`compute_default_rope_parameters`, `_compute_yarn_parameters`).
    #[test]
    fn inverse_frequencies_are_torchs() {
        assert_neighbours(&qwen(None).inv_freq(), &TORCH_INV_FREQ);
        let yarn = Yarn {
            factor: 4.0,
            original_max_position_embeddings: 32768,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: 0.1 * 4f64.ln() + 1.0,
            truncate: true,
        };
        assert_neighbours(&qwen(Some(yarn)).inv_freq(), &TORCH_YARN_INV_FREQ);
        // §14: kept up to index 23, divided by 4 from index 40 on.
        let (plain, yarned) = (qwen(None).inv_freq(), qwen(Some(yarn)).inv_freq());
        assert_eq!(plain[..24], yarned[..24]);
        assert!((40..64).all(|i| (yarned[i] * 4.0 / plain[i] - 1.0).abs() < 1e-6));
        let (cos, _) = mrope_table(&[[0; 3]], &qwen(Some(yarn))).unwrap();
        assert_eq!(cos, [1.138_629_4; 64]);
    }

    #[rustfmt::skip]
    const TORCH_INV_FREQ: [u32; 64] = [
        0x3f800000, 0x3f4e4bad, 0x3f263de0, 0x3f05f6ef, 0x3ed7e89b, 0x3eadfcff, 0x3e8c3504, 0x3e61f835,
        0x3e361887, 0x3e12bd91, 0x3dec7fd6, 0x3dbe94c6, 0x3d99940d, 0x3d778513, 0x3d47763f, 0x3d20bc1d,
        0x3d0186e3, 0x3cd0c1a8, 0x3ca8398b, 0x3c879008, 0x3c5a7bf2, 0x3c301052, 0x3c0de12d, 0x3be4aa46,
        0x3bb8449c, 0x3b947dae, 0x3b6f520e, 0x3b40dac5, 0x3b1b690d, 0x3afa78f0, 0x3ac9d75c, 0x3aa2a6f7,
        0x3a83126f, 0x3a533f28, 0x3a2a3b44, 0x3a092e02, 0x39dd1725, 0x39b229fb, 0x398f9272, 0x39676492,
        0x393a7753, 0x39164324, 0x38f22ce2, 0x38c327b5, 0x389d43a4, 0x387d75d4, 0x384c3fbe, 0x382497ab,
        0x3804a2b2, 0x37d5c441, 0x37ac431d, 0x378ad0ed, 0x375fba4f, 0x37344a0e, 0x371148e3, 0x36ea2732,
        0x36bcb0c1, 0x36980e02, 0x36751070, 0x36457bab, 0x361f23e4, 0x36003dec, 0x35ceaf79, 0x35a68e4c,
    ];
    #[rustfmt::skip]
    const TORCH_YARN_INV_FREQ: [u32; 64] = [
        0x3f800000, 0x3f4e4bad, 0x3f263de0, 0x3f05f6ef, 0x3ed7e89b, 0x3eadfcff, 0x3e8c3504, 0x3e61f835,
        0x3e361887, 0x3e12bd91, 0x3dec7fd6, 0x3dbe94c6, 0x3d99940d, 0x3d778513, 0x3d47763f, 0x3d20bc1d,
        0x3d0186e3, 0x3cd0c1a8, 0x3ca8398b, 0x3c879008, 0x3c5a7bf2, 0x3c301052, 0x3c0de12d, 0x3be4aa46,
        0x3bb02377, 0x3b876388, 0x3b4fa550, 0x3b1ed248, 0x3af241df, 0x3ab82bc0, 0x3a8b8207, 0x3a527db8,
        0x3a1e0eb2, 0x39ec1968, 0x39af3d02, 0x39811c3e, 0x393c93be, 0x39083e38, 0x38c23e9a, 0x38881d0a,
        0x383a7753, 0x38164324, 0x37f22ce2, 0x37c327b5, 0x379d43a4, 0x377d75d4, 0x374c3fbe, 0x372497ab,
        0x3704a2b2, 0x36d5c441, 0x36ac431d, 0x368ad0ed, 0x365fba4f, 0x36344a0e, 0x361148e3, 0x35ea2732,
        0x35bcb0c1, 0x35980e02, 0x35751070, 0x35457bab, 0x351f23e4, 0x35003dec, 0x34ceaf79, 0x34a68e4c,
    ];

    #[test]
    fn sections_choose_the_axis() {
        let positions = [[3, 700, 11], [4, 5, 4], [100_000, 0, 1]];
        let rope = qwen(None);
        let (cos, sin) = mrope_table(&positions, &rope).unwrap();
        let inv_freq = rope.inv_freq();
        for (n, p) in positions.iter().enumerate() {
            for i in 0..64 {
                let axis = if i < 16 {
                    0
                } else if i < 40 {
                    1
                } else {
                    2
                };
                let angle = f64::from(p[axis] as f32 * inv_freq[i]);
                assert_eq!(cos[n * 64 + i], angle.cos() as f32, "{n} {i}");
                assert_eq!(sin[n * 64 + i], angle.sin() as f32, "{n} {i}");
            }
        }
        // The lookup table gives the same as computing directly.
        let many: Vec<[i32; 3]> = (0..40).map(|i| [i % 7, i % 5 + 2, i % 3]).collect();
        let (cos, sin) = mrope_table(&many, &rope).unwrap();
        for (n, p) in many.iter().enumerate() {
            let (c, s) = mrope_table(&[*p], &rope).unwrap();
            assert_eq!((&cos[n * 64..][..64], &sin[n * 64..][..64]), (&c[..], &s[..]), "{n}");
        }
        assert_eq!(mrope_table(&[], &rope).unwrap(), (vec![], vec![]));
        assert!(mrope_table(&[], &Rope { mrope_section: [16, 24, 23], ..rope.clone() }).is_err());
        assert!(mrope_table(&[], &Rope { mrope_section: [usize::MAX, 1, 64], ..rope }).is_err());
    }

    #[test]
    fn vision_angles_follow_the_block_order() {
        // head_dim 8: two frequencies, 1 and 10000^(-1/2) = 0.01.
        let (cos, sin) = vision_rope_table(Grid::new(2, 2, 4), 2, 8, 10_000.0).unwrap();
        let order = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)];
        for (n, &(r, c)) in order.iter().chain(&order).enumerate() {
            let angles = [r as f32, r as f32 * 0.01, c as f32, c as f32 * 0.01];
            for (i, angle) in angles.iter().enumerate() {
                assert!((cos[n * 4 + i] - angle.cos()).abs() < 1e-6, "{n} {i}");
                assert!((sin[n * 4 + i] - angle.sin()).abs() < 1e-6, "{n} {i}");
            }
        }
        assert_eq!(cos.len(), 16 * 4);
        assert!(vision_rope_table(Grid::new(1, 2, 2), 2, 6, 1e4).is_err());
        assert!(vision_rope_table(Grid::new(1, 2, 3), 2, 8, 1e4).is_err());
    }

    // The vectors of the reference sheet, §4.3.
    #[test]
    fn windows_of_the_sheet() {
        let windows = |t, h, w| window_index(&[Grid::new(t, h, w)], 2, 112, 14).unwrap();
        let a = windows(1, 6, 10);
        assert_eq!(a.index, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 4, 9, 14]);
        assert_eq!(a.cu_window, [0, 48, 60]);
        let b = windows(1, 8, 16);
        assert_eq!(b.cu_window, [0, 64, 128]);
        let left = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];
        assert_eq!(b.index[..16], left);
        assert_eq!(b.index[16..], left.map(|i| i + 4));
        let c = windows(2, 4, 10);
        assert_eq!(c.index, [0, 1, 2, 3, 5, 6, 7, 8, 4, 9, 10, 11, 12, 13, 15, 16, 17, 18, 14, 19]);
        assert_eq!(c.cu_window, [0, 32, 40, 72, 80]);
    }

    #[test]
    fn windows_invert_and_concatenate() {
        let grids = [Grid::new(1, 6, 10), Grid::new(2, 4, 10), Grid::new(1, 2, 2)];
        let all = window_index(&grids, 2, 112, 14).unwrap();
        let (mut token, mut patch) = (0, 0);
        let mut index = Vec::new();
        let mut cu = vec![0];
        for grid in grids {
            let one = window_index(&[grid], 2, 112, 14).unwrap();
            index.extend(one.index.iter().map(|i| i + token));
            cu.extend(one.cu_window[1..].iter().map(|c| c + patch));
            token += one.index.len() as u32;
            patch += grid.count() as u32;
        }
        assert_eq!((&all.index, &all.cu_window), (&index, &cu));
        assert_ne!(all.inverse(), all.index, "a grid where the wrong permutation would show");
        let tokens: Vec<u32> = (0..all.index.len() as u32).collect();
        let there = permute_rows(&tokens, 1, 1, &all.index).unwrap();
        assert_eq!(there, all.index);
        assert_eq!(permute_rows(&there, 1, 1, &all.inverse()).unwrap(), tokens);
        assert_eq!(window_index(&[], 2, 112, 14).unwrap().cu_window, [0]);
        assert!(window_index(&grids, 2, 27, 14).is_err() && window_index(&grids, 2, 112, 0).is_err());
        assert!(window_index(&grids, 0, 112, 14).is_err());
        assert!(window_index(&[Grid::new(u32::MAX, 2, 2)], 2, 112, 14).is_err());
        assert!(window_index(&[Grid::new(1 << 18, 2, 2); 4], 2, 112, 14).is_err());
    }

    #[test]
    fn groups_move_together() {
        let rows = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        assert_eq!(permute_rows(&rows, 2, 2, &[2, 0, 1]).unwrap(), [8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(permute_rows(&rows, 2, 2, &[3, 0, 1]).is_err());
        assert!(permute_rows(&rows, 2, 2, &[0, 1]).is_err());
        assert!(permute_rows(&rows, usize::MAX, 2, &[0, 1]).is_err());
        assert!(permute_rows::<u8>(&[], 0, 0, &[]).unwrap().is_empty());
    }
}
