//! A prompt as runs of text, images and videos: where its pads are, and whether they are as many as they have to be.

use crate::error::{Error, Result};
use crate::model::positions::grid::{Grid, VideoGrid};

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

/// What a family says about media in a prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MediaTokens {
    /// Stands for one merged token of an image.
    pub image: u32,
    /// Stands for one merged token of a video.
    pub video: u32,
    /// Patches on the side of a merged token.
    pub merge: u32,
    /// Where a video's frames stand in time.
    pub time: VideoTime,
}

impl MediaTokens {
    /// For a model that takes no media: ids that no vocabulary has.
    pub const NONE: MediaTokens = MediaTokens { image: u32::MAX, video: u32::MAX, merge: 1, time: VideoTime::Frames };
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
