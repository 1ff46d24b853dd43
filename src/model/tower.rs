//! What a vision tower is to the code that uses it: the embeddings that it makes, and its sizes, which need no device.

use std::rc::Rc;

use crate::error::Result;
use crate::gpu::{Gpu, Lease, Rehearsal, Tensor};
use crate::model::positions::Grid;

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
    /// As [`VisionTower::encode`].
    fn prepare(&self, gpu: &Gpu) -> Result<Embeds>;

    /// The tower's sizes.
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
