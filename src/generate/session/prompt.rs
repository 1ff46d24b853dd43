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

/// How the next token is chosen, which is what is read from the device.
#[derive(Debug, Clone, Copy)]
pub enum Choose {
    /// The best of all, after the repetition penalty ([`Session::penalize`](super::Session::penalize)): its id and how sure it is.
    Best {
        /// Ids below this can be chosen.
        vocab: usize,
    },
    /// By the caller, from the highest logits.
    Few {
        /// Ids below this can be chosen.
        vocab: usize,
    },
    /// By the caller, from all logits.
    Logits,
}

/// The best id, as the device sees it. Its divisions by a repetition penalty may be off by 2.5 last places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    /// The id: of equal ones the lowest.
    pub id: u32,
    /// Its logit after the penalty, a finite number.
    pub score: f32,
    /// No other logit is higher than this after the penalty. −∞ if there is no other.
    pub second: f32,
}

/// The highest logits, before any penalty.
#[derive(Debug, Clone, PartialEq)]
pub struct Few {
    /// Ids and logits from the highest down, of equal ones the lower id first.
    pub logits: Vec<(u32, f32)>,
    /// No other logit is higher than this. `None` if there are no others.
    pub rest: Option<f32>,
}

/// What a forward pass yields for the token after the last.
#[derive(Debug)]
pub enum Next {
    /// The best id.
    Best(Head),
    /// The highest logits.
    Few(Few),
    /// Logits `[vocab rows]`.
    Logits(Vec<f32>),
}
