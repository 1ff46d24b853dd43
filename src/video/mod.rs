//! Videos: which frames the model sees and how large ([`plan`]), and the decoded frames ([`Video`]).
//!
//! Everything here is pure. A decoder (`ffmpeg` natively, the browser in a page) describes the file as a [`Track`], gets a
//! [`VideoPlan`] that says which frames are wanted, and passes these frames to a [`VideoBuilder`] one by one. The rules are
//! those of qwen-vl-utils 0.0.14 (`vision_process.py`), with one addition: a plan never takes more tokens than are left in the
//! context.

mod json;
mod plan;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::image::{Picture, key, resize_bicubic};

pub use plan::{MOST_FRAMES, frame_pixels, plan};

/// Options for one video, with the names and defaults of qwen-vl-utils.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VideoOptions {
    /// Frames per second of the video that the model should see: default 2. Cannot be combined with `nframes`.
    pub fps: Option<f64>,
    /// How many frames the model should see, rounded to an even number.
    pub nframes: Option<usize>,
    /// Fewest frames, whatever `fps` says. Default 4.
    pub min_frames: Option<usize>,
    /// Most frames, whatever `fps` says. Default 768.
    pub max_frames: Option<usize>,
    /// Start of the part that is used, in seconds.
    pub video_start: Option<f64>,
    /// End of the part that is used, in seconds.
    pub video_end: Option<f64>,
    /// Fewest pixels of a frame after resizing. Default: the pixels of 128 tokens.
    pub min_pixels: Option<u64>,
    /// Most pixels of a frame after resizing. Default: the pixels of 768 tokens, or a frame's share of `total_pixels`.
    pub max_pixels: Option<u64>,
    /// Most pixels of all pairs of frames together, where a pair counts once. Default: the pixels of 115,200 tokens.
    pub total_pixels: Option<u64>,
    /// Height to resize to, rounded to whole tokens. Needs `resized_width` too.
    pub resized_height: Option<u32>,
    /// Width to resize to, rounded to whole tokens. Needs `resized_height` too.
    pub resized_width: Option<u32>,
    /// Take every frame, for a list of pictures that the caller has chosen already. `fps`, `nframes`, `max_frames` and the
    /// range are then ignored.
    pub every_frame: bool,
}

/// What is known about a video before its frames are decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// When its frames are shown.
    pub times: Times,
}

/// When the frames of a video are shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Times {
    /// Frame `i` is shown at `i / fps` seconds.
    Even {
        /// Number of frames.
        frames: usize,
        /// Frames per second.
        fps: f64,
    },
    /// Every frame has its own time, in seconds. The times never descend.
    Each(Vec<f64>),
}

impl Times {
    /// Number of frames.
    pub fn len(&self) -> usize {
        match self {
            Times::Even { frames, .. } => *frames,
            Times::Each(times) => times.len(),
        }
    }

    /// Whether there are no frames.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When frame `index` is shown, in seconds. `None` if there is no such frame.
    pub fn of(&self, index: usize) -> Option<f64> {
        match self {
            Times::Even { frames, fps } => (index < *frames).then(|| index as f64 / fps),
            Times::Each(times) => times.get(index).copied(),
        }
    }
}

/// Which frames are wanted and how large the model sees them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoPlan {
    /// The frames of the track that the model sees, by index, never descending. An index occurs twice only in a track of
    /// uneven times, if a frame is shown so long that it is the nearest one twice.
    pub indices: Vec<usize>,
    /// When each of these frames is shown, in seconds of the track.
    pub times: Vec<f64>,
    /// How many of these frames there are per second of the video.
    pub sample_fps: f64,
    /// Width that the model sees.
    pub width: u32,
    /// Height that the model sees.
    pub height: u32,
    /// Tokens that these frames take in the prompt.
    pub tokens: usize,
    /// What was changed to fit the limits, one sentence for each change.
    pub decisions: Vec<String>,
}

/// The sampled and resized frames that the model sees. If their number is odd, the last one is repeated later, when patches
/// are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    /// The frames, all of the same size.
    pub frames: Vec<Picture>,
    /// When each is shown, in seconds.
    pub timestamps: Vec<f64>,
    /// How many of these frames there are per second.
    pub sample_fps: f64,
    /// (width, height) of the original frames.
    pub original: (u32, u32),
    /// Identifies a video: part of the SHA-256 of its pixels and times. Different videos have different keys.
    pub key: u128,
}

/// Takes the frames of a plan one by one and resizes each immediately, so that only one at a time is held at full size.
#[derive(Debug)]
pub struct VideoBuilder {
    plan: VideoPlan,
    frames: Vec<Picture>,
    timestamps: Vec<f64>,
    original: Option<(u32, u32)>,
    hasher: Sha256,
}

impl VideoBuilder {
    /// A builder that expects the first frame of `plan`.
    pub fn new(plan: VideoPlan) -> Self {
        let hasher = Sha256::new().chain_update(b"video");
        VideoBuilder { plan, frames: vec![], timestamps: vec![], original: None, hasher }
    }

    /// The plan that the frames belong to.
    pub fn plan(&self) -> &VideoPlan {
        &self.plan
    }

    /// How many frames have been added.
    pub fn taken(&self) -> usize {
        self.frames.len()
    }

    /// Adds the next frame, upright. There must be one for each entry of the plan's indices, in their order. `timestamp` says
    /// when it is shown, in seconds.
    ///
    /// # Errors
    /// [`Error::Invalid`]: more frames than planned, a frame of another size than the first one or that
    /// [`Picture::check`] refuses, a time before the last frame's.
    pub fn push(&mut self, frame: &Picture, timestamp: f64) -> Result<()> {
        let wanted = self.plan.indices.len();
        if self.frames.len() >= wanted {
            return Err(Error::invalid("frames of a video", format!("{wanted}, as in the plan"), "one more"));
        }
        let before = self.timestamps.last().copied().unwrap_or(f64::NEG_INFINITY);
        if !timestamp.is_finite() || timestamp < before {
            let expected = "seconds, not earlier than the previous frame";
            return Err(Error::invalid("time of a frame", expected, format!("{timestamp} after {before}")));
        }
        let size = (frame.width, frame.height);
        let (width, height) = *self.original.get_or_insert(size);
        if size != (width, height) {
            let expected = format!("all of {width}×{height} pixels, like the first one");
            return Err(Error::invalid("frames of a video", expected, format!("{}×{}", size.0, size.1)));
        }
        let resized = resize_bicubic(frame, self.plan.width, self.plan.height)?;
        self.hasher.update(&resized.rgb);
        self.hasher.update(timestamp.to_bits().to_le_bytes());
        self.frames.push(resized);
        self.timestamps.push(timestamp);
        Ok(())
    }

    /// Returns the video, once all frames have been added.
    ///
    /// # Errors
    /// [`Error::Invalid`]: fewer frames than planned, none, or a plan without a usable `sample_fps`.
    pub fn finish(mut self) -> Result<Video> {
        let (wanted, found) = (self.plan.indices.len(), self.frames.len());
        let Some(original) = self.original.filter(|_| found == wanted) else {
            return Err(Error::invalid("frames of a video", format!("{wanted}, as in the plan"), found.to_string()));
        };
        let sample_fps = self.plan.sample_fps;
        if !(sample_fps.is_finite() && sample_fps > 0.0) {
            return Err(Error::invalid("sample_fps", "a positive number", sample_fps.to_string()));
        }
        for side in [self.plan.width, self.plan.height, original.0, original.1] {
            self.hasher.update(side.to_le_bytes());
        }
        self.hasher.update(sample_fps.to_bits().to_le_bytes());
        let key = key(self.hasher);
        Ok(Video { frames: self.frames, timestamps: self.timestamps, sample_fps, original, key })
    }
}

/// When each temporal patch of `depth` frames is shown: halfway between its first and its last frame, in seconds.
///
/// transformers 4.57: `Qwen3VLProcessor._calculate_timestamps`.
pub fn patch_times(timestamps: &[f64], depth: usize) -> Vec<f64> {
    timestamps.chunks(depth.max(1)).map(|patch| (patch[0] + patch[patch.len() - 1]) / 2.0).collect()
}

/// A time in the form that Qwen3-VL reads: `<0.2 seconds>`. Halves are rounded to the even digit, as in Python.
pub fn stamp(seconds: f64) -> String {
    format!("<{seconds:.1} seconds>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> VideoPlan {
        let (indices, times) = (vec![0, 3], vec![0.0, 1.5]);
        VideoPlan { indices, times, sample_fps: 1.0, width: 28, height: 56, tokens: 2, decisions: vec![] }
    }

    fn frame(width: u32, height: u32, level: u8) -> Picture {
        Picture::new(width, height, vec![level; (width * height * 3) as usize]).unwrap()
    }

    fn build(frames: &[(Picture, f64)]) -> Result<Video> {
        let mut builder = VideoBuilder::new(small());
        frames.iter().try_for_each(|(frame, time)| builder.push(frame, *time))?;
        builder.finish()
    }

    #[test]
    fn frames_come_out_resized_with_their_times() {
        let video = build(&[(frame(40, 80, 10), 0.0), (frame(40, 80, 200), 1.5)]).unwrap();
        assert_eq!(video.frames, [frame(28, 56, 10), frame(28, 56, 200)]);
        assert_eq!((video.timestamps, video.sample_fps, video.original), (vec![0.0, 1.5], 1.0, (40, 80)));
    }

    #[test]
    fn the_key_knows_pixels_and_times() {
        let key = |level, time| build(&[(frame(40, 80, 10), 0.0), (frame(40, 80, level), time)]).unwrap().key;
        assert_eq!(key(20, 1.5), key(20, 1.5));
        assert_ne!(key(20, 1.5), key(21, 1.5));
        assert_ne!(key(20, 1.5), key(20, 1.6));
    }

    #[test]
    fn wrong_frames_are_refused() {
        let ok = || (frame(40, 80, 10), 0.0);
        assert!(build(&[ok(), ok()]).is_ok(), "a frame that stands still");
        for wrong in [
            vec![],
            vec![ok()],
            vec![ok(), ok(), ok()],
            vec![ok(), (frame(80, 40, 10), 1.0)],
            vec![(frame(40, 80, 10), 1.0), ok()],
            vec![ok(), (frame(40, 80, 10), f64::NAN)],
            vec![ok(), (Picture { width: 40, height: 80, rgb: vec![0; 5] }, 1.0)],
        ] {
            assert_eq!(build(&wrong).unwrap_err().code(), "bad_request");
        }
        // A plan that came from outside.
        let mut builder = VideoBuilder::new(VideoPlan { width: u32::MAX, ..small() });
        assert!(builder.push(&ok().0, 0.0).is_err());
        let mut builder = VideoBuilder::new(VideoPlan { indices: vec![0], sample_fps: f64::NAN, ..small() });
        builder.push(&ok().0, 0.0).unwrap();
        assert!(builder.finish().is_err());
    }
}
