//! How large an image or a video is, in patches and in merged tokens.

use crate::error::{Error, Result};

/// Most patches in one call, far beyond any context: 2^21, or 524,288 tokens at merge 2.
pub(super) const MAX_PATCHES: u64 = 1 << 21;

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

/// (row, column) of the patches of one frame in block-merged order.
pub(super) fn block_order(merged: Grid, merge: u32) -> impl Iterator<Item = (u32, u32)> {
    let blocks = (0..merged.h).flat_map(move |bh| (0..merged.w).map(move |bw| (bh * merge, bw * merge)));
    blocks.flat_map(move |(r, c)| (0..merge).flat_map(move |i| (0..merge).map(move |j| (r + i, c + j))))
}
