//! Everything that the prefill of a prompt computes, for comparing with other implementations.

use super::calls;
use super::engine::Engine;
use super::message::Message;
use super::options::AskOptions;
use crate::error::Result;

/// Everything that a prefill computes. Shapes are those of transformers.
pub struct Trace {
    /// Token ids, pads expanded: `[n]`.
    pub input_ids: Vec<u32>,
    /// Positions: `[3, n]`.
    pub position_ids: Vec<i32>,
    /// The images.
    pub images: TraceMedia,
    /// The videos.
    pub videos: TraceMedia,
    /// Numbers in a patch.
    pub patch_len: usize,
    /// Width of an embedding.
    pub hidden: usize,
    /// `[n, vocab]`.
    pub logits: Vec<f32>,
    /// Rows of the lm_head, which may be more than there are tokens.
    pub vocab: usize,
    /// What has to be added to the index of a token after the prompt to get its position.
    pub rope_delta: i64,
}

/// The pictures or the videos of a [`Trace`], one after the other.
#[derive(Default)]
pub struct TraceMedia {
    /// Patches: `[patches, patch_len]`.
    pub pixel_values: Vec<f32>,
    /// Grids: `[media, 3]`.
    pub grid_thw: Vec<u32>,
    /// Embeddings: `[tokens, hidden]`.
    pub embeds: Vec<f32>,
    /// Embeddings that DeepStack adds to layers of the decoder: for each of these layers `[tokens, hidden]`.
    pub deepstack: Vec<Vec<f32>>,
}

impl Engine {
    /// Runs the prompt of `messages` and returns everything on the way.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn trace(&self, messages: &[Message], add_vision_id: bool) -> Result<Trace> {
        let mut conversation = self.conversation(usize::MAX)?;
        let options = AskOptions { add_vision_id, ..AskOptions::default() };
        let messages = &*calls::in_order(messages)?;
        let (prompt, _) = self.prompt(&mut conversation, messages, &options, &|| false).await?;
        let (mut images, mut videos) = (TraceMedia::default(), TraceMedia::default());
        for (medium, encoded) in messages.iter().flat_map(Message::media).zip(&prompt.media) {
            let all = if encoded.second_per_grid.is_some() { &mut videos } else { &mut images };
            all.grid_thw.extend([encoded.grid.t, encoded.grid.h, encoded.grid.w]);
            for patches in self.groups(medium) {
                all.pixel_values.extend(patches?.pixel_values);
            }
            for embeds in &encoded.embeds {
                all.embeds.extend(self.gpu.read_f32(&embeds.main, 0, embeds.main.len()).await?);
                all.deepstack.resize_with(embeds.deep.len(), Vec::new);
                for (all, deep) in all.deepstack.iter_mut().zip(&embeds.deep) {
                    all.extend(self.gpu.read_f32(deep, 0, deep.len()).await?);
                }
            }
        }
        let (positions, _) = conversation.session.positions(&prompt)?;
        let logits = conversation.session.all_logits(&prompt).await?;
        let p = &self.preprocessor;
        Ok(Trace {
            position_ids: (0..3).flat_map(|axis| positions.iter().map(move |p| p[axis])).collect(),
            images,
            videos,
            patch_len: 3 * p.temporal_patch_size * p.patch_size * p.patch_size,
            hidden: self.model.decoder.config().hidden,
            logits,
            vocab: self.model.decoder.config().vocab,
            rope_delta: conversation.session.rope_delta(),
            input_ids: prompt.ids,
        })
    }
}
