//! The model room: configurations, positions, the graphs. Names no wgpu; everything on the device goes through ops.

pub mod cache;
pub mod config;
pub mod decoder;
pub mod gguf;
pub mod load;
pub mod names;
pub mod positions;
pub mod qwen2;
pub mod qwen2_5_vl;
pub mod qwen2_vl;
pub mod qwen3;
pub mod qwen3_vl;
pub mod registry;
pub mod vision;

use std::rc::Rc;

use crate::error::Result;
use crate::gpu::{Gpu, Lease, Rehearsal, Tensor};
use crate::model::decoder::Decoder;
use crate::model::positions::{Grid, Rope, VideoTime};

/// What the decoder sees of an image or of a run of a video's frames, one row for each of its pads, in their order.
#[derive(Clone)]
pub struct Embeds {
    /// In the place of the pads' own embeddings: `[tokens, hidden]`.
    pub main: Tensor,
    /// Added behind the first decoder layers, the k-th behind layer k (DeepStack): each `[tokens, hidden]`.
    pub deep: Vec<Tensor>,
}

/// A vision tower: pixels in, one embedding per pad out.
pub trait VisionTower {
    /// Embeddings of one image, or of some frames of a video, from the processor's `pixel_values` `[patches, patch_len]` in
    /// block-merged order. Frames do not see each other.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if `pixel_values` are not the grid's, [`crate::Error::DeviceTooSmall`] if an
    /// intermediate does not fit the device.
    fn encode(&self, gpu: &Gpu, pixel_values: &[f32], grid: Grid) -> Result<Embeds>;

    /// What [`VisionTower::encode`] does with some small picture, so that its pipelines exist.
    ///
    /// # Errors
    /// As there.
    fn prepare(&self, gpu: &Gpu) -> Result<Embeds>;

    /// Its sizes.
    fn sizes(&self) -> Rc<dyn VisionSizes>;
}

/// A vision tower's sizes, known without a device.
pub trait VisionSizes: std::fmt::Debug {
    /// Number of blocks.
    fn blocks(&self) -> usize;

    /// Width of its residual stream.
    fn hidden(&self) -> usize;

    /// Side of a patch in pixels.
    fn patch_size(&self) -> usize;

    /// Patches on the side of a merged token.
    fn merge(&self) -> usize;

    /// Length of [`Embeds::deep`].
    fn deepstack(&self) -> usize;

    /// [`VisionTower::encode`] on paper, for a picture of so many patches: takes from the pool what that would, in its order.
    /// What comes back are the embeddings.
    fn rehearse(&self, pool: &Rehearsal, patches: usize) -> Vec<Lease>;

    /// Multiplications and additions of [`VisionTower::encode`] for so many patches, of which each frame has `frame`.
    fn flops(&self, patches: u64, frame: u64) -> u64;
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

/// A model on the device, whatever its family.
pub struct Model {
    /// Which family, by its `model_type`.
    pub family: &'static str,
    /// The text decoder.
    pub decoder: Decoder,
    /// The vision tower; a text model has none.
    pub vision: Option<Box<dyn VisionTower>>,
    /// The decoder's rotary embedding.
    pub rope: Rope,
    /// How media stand in a prompt.
    pub media: MediaTokens,
    /// `max_position_embeddings`: the longest context that the checkpoint is made for.
    pub max_positions: usize,
    /// Ids that end a reply where no generation_config.json names any.
    pub eos_token_ids: Vec<u32>,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of weights on the device by part (`vision`, `text`, `lm_head`).
    pub weight_bytes: Vec<(String, u64)>,
}

/// Rows `[cos | sin]` of `2 half` values each, as the rope kernel takes them, from tables `[n, half]`.
pub fn rope_rows(cos: &[f32], sin: &[f32], half: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(cos.len() + sin.len());
    for (c, s) in cos.chunks_exact(half).zip(sin.chunks_exact(half)) {
        rows.extend_from_slice(c);
        rows.extend_from_slice(s);
    }
    rows
}
