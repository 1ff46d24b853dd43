//! What a pass is given and what it yields: token ids with pictures and videos, and how the next token is chosen.

use crate::error::Result;
use crate::model::Embeds;
use crate::model::positions::Grid;

/// An image or a video of a prompt.
#[derive(Clone)]
pub struct Media {
    /// Identifies it: media with equal keys have equal embeddings.
    pub key: u128,
    /// Size in patches.
    pub grid: Grid,
    /// For a video, the seconds from one temporal patch to the next (`second_per_grid_ts`).
    pub second_per_grid: Option<f32>,
    /// Its embeddings on the device, one part after the other. They may be left out for what the session's cache holds
    /// already ([`Session::reusable`](super::Session::reusable)).
    pub embeds: Vec<Embeds>,
}

impl Media {
    /// Rows of the embeddings, and pads in the prompt.
    ///
    /// # Errors
    /// As [`Grid::merged`].
    pub fn tokens(&self, merge: u32) -> Result<usize> {
        self.grid.merged(merge).map(Grid::count)
    }
}

/// A prompt: token ids in which each picture or video has one run of pad tokens. For families that write times between
/// the frames of a video, it has one run for each of its temporal patches.
#[derive(Clone, Default)]
pub struct Prompt {
    /// Token ids of the whole conversation so far.
    pub ids: Vec<u32>,
    /// Images and videos in the order of their pads.
    pub media: Vec<Media>,
}

/// How the next token is chosen.
pub enum Choose<'a> {
    /// The highest logit below `vocab` after the repetition penalty. It is found on the device, and only its id is read.
    Greedy {
        /// Ids below this can be chosen.
        vocab: usize,
        /// Repetition penalty and the distinct ids that it applies to, if it is not 1.
        penalty: Option<(f32, &'a [u32])>,
    },
    /// By the caller: all logits are read.
    Logits,
}

/// What a forward pass yields for the token after the last.
pub enum Next {
    /// The chosen id.
    Id(u32),
    /// Logits `[vocab rows]`.
    Logits(Vec<f32>),
}
