//! Learned positions of a vision tower, stretched over a picture.

use crate::error::{Error, Result};
use crate::model::positions::grid::{Grid, block_order};

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
