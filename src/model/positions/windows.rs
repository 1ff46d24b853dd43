//! Which rows of a vision tower see each other: frames and windows, and the order of rows in which each is a run.

use crate::error::{Error, Result};
use crate::model::positions::grid::{Grid, MAX_PATCHES};

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
