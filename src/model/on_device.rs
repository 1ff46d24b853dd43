//! A model on the device: its decoder, its tower, and what a conversation needs to know of them.

use crate::model::decoder::Decoder;
use crate::model::positions::{MediaTokens, Rope};
use crate::model::tower::VisionTower;

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
