//! Pictures and videos on their way to the model: how many tokens they take, which frames of a video are used, and the vision tower's
//! embeddings of them.

use super::engine::Engine;
use super::message::{Medium, Part};
use crate::error::{Error, Result};
use crate::image::{Patches, patchify, preprocess, resized};
use crate::model::Embeds;
use crate::model::positions::{Grid, VideoTime};
use crate::video::{Track, Video, VideoOptions, VideoPlan, frame_pixels};

/// Most tokens of the context that stay free for text when the frames of a video are chosen.
pub const WORDS: usize = 4096;
/// Tokens of the time that Qwen3-VL's prompts write before each pair of frames: `<12345.6 seconds>`, and two control tokens
/// around the frames.
const STAMP: usize = 12;

/// Patches of a video that pass through the vision tower at once: bounds its memory however long the video is.
pub(super) const GROUP: usize = 4096;

impl Engine {
    /// Tokens that a part takes in a prompt; 0 for a part that a prompt would refuse.
    pub fn tokens(&self, part: &Part) -> usize {
        match part {
            Part::Text(text) => self.tokenizer.encode_plain(text).map_or(0, |ids| ids.len()),
            Part::Image(picture, options) => {
                let size = resized(picture.size(), &self.preprocessor, options);
                size.and_then(|size| self.grid(1, size).merged(self.model.media.merge)).map_or(0, Grid::count)
            }
            Part::Video(video) => {
                let merged = self.video_grid(video).merged(self.model.media.merge);
                merged.map_or(0, |grid| grid.count() + self.stamps(video.frames.len()))
            }
        }
    }

    /// Tokens of the times that are written between this many frames.
    fn stamps(&self, frames: usize) -> usize {
        let patches = frames.div_ceil(self.preprocessor.temporal_patch_size.max(1));
        if self.model.media.time == VideoTime::Text { patches * STAMP } else { 0 }
    }

    /// The patches of a picture of this (width, height) in pixels, `t` of them in time.
    pub(super) fn grid(&self, t: usize, (width, height): (u32, u32)) -> Grid {
        let patch = self.preprocessor.patch_size.max(1) as u32;
        Grid::new(t as u32, height / patch, width / patch)
    }

    /// The patches of a video.
    pub(super) fn video_grid(&self, video: &Video) -> Grid {
        let size = video.frames.first().map_or((0, 0), |frame| (frame.width, frame.height));
        self.grid(video.frames.len().div_ceil(self.preprocessor.temporal_patch_size.max(1)), size)
    }

    /// Which frames of a video to take, and how large, if `left` tokens of the context are free. An eighth of these, at most
    /// [`WORDS`], stays free for text.
    ///
    /// # Errors
    /// As [`plan`](crate::video::plan).
    pub fn plan_video(&self, track: &Track, options: &VideoOptions, left: usize) -> Result<VideoPlan> {
        let left = left.min(self.model.max_positions);
        let most = left - (left / 8).min(WORDS);
        // The limit of pictures holds for frames, too.
        let most_pixels = self.preprocessor.max_pixels;
        let [least, usual] = frame_pixels(self.preprocessor.factor()?);
        let max_pixels = match options.max_pixels {
            None => Some(most_pixels).filter(|most| *most < usual),
            Some(wished) => Some(wished.min(most_pixels)),
        };
        // If this limit is below the usual minimum of a frame and the caller has not set it, it lowers the minimum as well.
        let min_pixels = options.min_pixels.or(max_pixels.filter(|most| *most < least && options.max_pixels.is_none()));
        let options = &VideoOptions { max_pixels, min_pixels, ..options.clone() };
        let planned = |most| crate::video::plan(track, options, &self.preprocessor, most);
        let plan = planned(most)?;
        let all = self.planned_tokens(&plan);
        if all <= most { Ok(plan) } else { planned(most.saturating_sub(all - plan.tokens)) }
    }

    /// Tokens that a planned video takes in a prompt, those of written times included.
    pub fn planned_tokens(&self, plan: &VideoPlan) -> usize {
        plan.tokens + self.stamps(plan.indices.len())
    }

    /// The patches of a picture, or of a video's frames in groups of at most [`GROUP`] patches.
    pub(super) fn groups<'a>(&'a self, medium: Medium<'a>) -> Box<dyn Iterator<Item = Result<Patches>> + 'a> {
        let p = &self.preprocessor;
        match medium {
            Medium::Image(picture, options) => {
                Box::new(std::iter::once_with(|| preprocess(&*picture.picture()?, p, options)))
            }
            Medium::Video(video) => {
                let (frames, depth) = (&video.frames, p.temporal_patch_size.max(1));
                let area =
                    frames.first().map_or(1, |f| f.width as usize * f.height as usize) / p.patch_size.pow(2).max(1);
                let most = (p.max_pixels / p.patch_size.pow(2).max(1) as u64).min(GROUP as u64) as usize;
                let at_once = depth * (most / area.max(1)).max(1);
                Box::new(frames.chunks(at_once).map(|group| patchify(&group.iter().collect::<Vec<_>>(), p)))
            }
        }
    }

    /// Runs the vision tower over a picture, or over a video's frames group by group; [`Error::Cancelled`] between groups.
    pub(super) async fn encode(&self, medium: Medium<'_>, cancelled: &dyn Fn() -> bool) -> Result<Vec<Embeds>> {
        let Some(vision) = &self.model.vision else { return Ok(Vec::new()) };
        let mut parts = Vec::new();
        // The decoder's buffers are of no use to the tower and the tower's are of none to the decoder, so neither keeps the other's.
        self.gpu.trim();
        for patches in self.groups(medium) {
            let patches = patches?;
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let [t, h, w] = patches.grid_thw;
            let encoded = vision.encode(&self.gpu, &patches.pixel_values, Grid::new(t, h, w));
            let settled = self.gpu.settle().await;
            // A lost device makes other calls fail in all kinds of ways; the loss is the error to report.
            let encoded = if let Err(lost @ Error::DeviceLost { .. }) = &settled { Err(lost.clone()) } else { encoded };
            let embeds = encoded.and_then(|embeds| settled.map(|()| embeds)).map_err(|error| {
                self.gpu.trim();
                let (width, height) = patches.resized;
                error.advise(|| format!("The model gets the picture at {width}×{height} pixels: lower max_pixels."))
            })?;
            parts.push(embeds);
        }
        self.gpu.trim();
        Ok(parts)
    }
}
