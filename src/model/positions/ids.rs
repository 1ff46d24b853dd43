//! M-RoPE: the three position ids of every token.

use crate::error::{Error, Result};
use crate::model::positions::segments::{Segment, VideoTime};

/// Positions stay below 2^24, so that f32 holds each exactly.
pub const MAX_POSITION: i64 = 1 << 24;

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

/// transformers' `rope_deltas`: the token at index n ≥ `len` has position n + delta on all three axes.
///
/// `next` is what [`mrope_positions`] gave for a sequence of `len` tokens that started at 0.
pub fn rope_delta(next: i64, len: usize) -> i64 {
    next.saturating_sub(i64::try_from(len).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::positions::grid::{Grid, VideoGrid};

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
}
