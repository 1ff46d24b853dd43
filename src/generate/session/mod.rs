//! One conversation on the device: what its KV cache holds, and which part of a prompt need not be computed again.
//! `prompt` is what it is asked, `passes` what extends it, `state` what stays on the device between tokens.

mod passes;
mod prompt;
mod state;

use std::ops::Range;
use std::rc::Rc;

use crate::dtype::CacheFormat;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Tensor};
use crate::model::Model;
use crate::model::cache::KvCache;
use crate::model::positions::{MediaTokens, VideoGrid, mrope_positions, rope_delta, segments_from_ids};

pub use passes::prepare;
pub(super) use passes::rehearse;
pub use prompt::{Choose, Few, Head, Media, Next, Prompt};
pub use state::MOST_AHEAD;
use state::State;

/// Tokens of one prefill pass unless set otherwise: enough to fill the device, few enough to stay short.
pub const CHUNK: usize = 512;

/// A conversation's state. Its cache holds keys and values of exactly the tokens `ids`.
pub struct Session {
    gpu: Gpu,
    model: Rc<Model>,
    cache: KvCache,
    /// The tokens in the cache.
    ids: Vec<u32>,
    /// First token and key of the media in `ids`.
    media: Vec<(usize, u128)>,
    /// Position of the token after the last of `ids`.
    next_position: i64,
    limit: usize,
    chunk: usize,
    /// Rows of the prompt's last pass.
    pass: usize,
    state: State,
    /// The logits of the last token that was computed.
    kept: Option<Tensor>,
}

impl Session {
    /// An empty conversation that may grow to `limit` tokens.
    ///
    /// # Errors
    /// [`Error::DeviceTooSmall`].
    pub fn new(gpu: &Gpu, model: &Rc<Model>, limit: usize) -> Result<Self> {
        Session::with_cache(gpu, model, limit, CacheFormat::F32)
    }

    /// As [`Session::new`], with keys and values in another format.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_cache(gpu: &Gpu, model: &Rc<Model>, limit: usize, cache: CacheFormat) -> Result<Self> {
        Ok(Session {
            gpu: gpu.clone(),
            cache: KvCache::new(model.decoder.config().cache(cache)),
            model: model.clone(),
            ids: Vec::new(),
            media: Vec::new(),
            next_position: 0,
            limit: limit.min(model.max_positions),
            chunk: CHUNK,
            pass: 0,
            state: Session::state(gpu, model)?,
            kept: None,
        })
    }

    /// Another conversation with the same tokens. The two share the cache until one of them goes on.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn fork(&self) -> Result<Self> {
        Ok(Session {
            gpu: self.gpu.clone(),
            model: self.model.clone(),
            cache: self.cache.clone(),
            ids: self.ids.clone(),
            media: self.media.clone(),
            kept: None,
            state: Session::state(&self.gpu, &self.model)?,
            ..*self
        })
    }

    /// The tokens in the cache.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// How many tokens are in the cache.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether nothing is in the cache.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Tokens that the conversation may have.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Keys and values of these tokens.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Sets how many tokens a prefill pass takes, at least 1.
    pub fn set_chunk(&mut self, tokens: usize) {
        self.chunk = tokens.max(1);
    }

    fn state(gpu: &Gpu, model: &Model) -> Result<State> {
        State::new(gpu, model.decoder.config().vocab, model.rope.head_dim)
    }

    /// Bytes that a session takes beside its cache, over a vocabulary of so many rows.
    pub fn state_bytes(vocab: usize, head_dim: usize) -> u64 {
        State::bytes(vocab, head_dim)
    }

    /// Bytes that a session takes beside its cache, the word that is read to wait for the device, and
    /// the staging buffers of what it reads: one for logits, three small ones.
    pub(in crate::generate) fn passing_bytes(vocab: usize, head_dim: usize) -> u64 {
        Session::state_bytes(vocab, head_dim) + 16 + (4 * vocab as u64).next_multiple_of(256) + 3 * 1024
    }

    /// From now on [`Choose::Best`] has this repetition penalty, at least 1, on `ids` and all ids after them.
    ///
    /// # Errors
    /// Any error of the device.
    pub fn penalize(&mut self, penalty: Option<f32>, ids: &[u32]) -> Result<()> {
        self.state.penalize(&self.gpu, penalty, ids)
    }

    /// The highest logits of the `slot`-th token of the last pass, if that was [`Choose::Best`].
    ///
    /// # Errors
    /// Any error of the device.
    pub async fn few(&self, slot: usize) -> Result<Few> {
        self.read_few(slot).await
    }

    /// The logits of the last token that was computed, unless [`Session::finish`] has let them go.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are none; any error of the device.
    pub async fn logits(&self) -> Result<Vec<f32>> {
        match &self.kept {
            Some(logits) => self.gpu.read_f32(logits, 0, logits.len()).await,
            None => Err(Error::invalid("logits", "the logits of the token before", "none")),
        }
    }

    /// Forgets all tokens after the first `len`, and the logits of the last.
    pub fn finish(&mut self, len: usize) {
        self.kept = None;
        self.forget(len);
    }

    /// Forgets all tokens after the first `len`, which have no pictures among them.
    fn forget(&mut self, len: usize) {
        let over = self.ids.len().saturating_sub(len);
        self.cache.truncate(len);
        self.ids.truncate(len);
        self.next_position -= over as i64;
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The model.
    pub fn model(&self) -> &Rc<Model> {
        &self.model
    }

    /// transformers' `rope_deltas`: what a decoded token's index and its position differ by.
    pub fn rope_delta(&self) -> i64 {
        rope_delta(self.next_position, self.ids.len())
    }

    /// How many leading tokens of `prompt` are already in the cache. At least one token is always left to compute.
    pub fn reusable(&self, prompt: &Prompt) -> usize {
        let same = self.ids.iter().zip(&prompt.ids).take_while(|(a, b)| a == b).count();
        let reuse = same.min(prompt.ids.len().saturating_sub(1));
        // The common beginning ends before a picture that differs or that lies only partly in it.
        let spans = self.spans(prompt);
        let ends = spans.iter().enumerate().find(|(i, span)| {
            let known = prompt.media.get(*i).map(|media| (span.start, media.key));
            span.start < reuse && (known.is_none() || self.media.get(*i).copied() != known || span.end > reuse)
        });
        ends.map_or(reuse, |(_, span)| span.start)
    }

    /// Which media (by their number) have no embeddings in `prompt`, though [`Session::prefill`] will need them.
    pub fn wanting(&self, prompt: &Prompt) -> Vec<usize> {
        let reuse = self.reusable(prompt);
        let spans = self.spans(prompt).into_iter().zip(&prompt.media).enumerate();
        spans.filter(|(_, (span, media))| span.end > reuse && media.embeds.is_empty()).map(|(i, _)| i).collect()
    }

    /// For each of a prompt's media, in order, the range from its first to its last pad. Pads that are left over form one more
    /// range.
    fn spans(&self, prompt: &Prompt) -> Vec<Range<usize>> {
        let MediaTokens { image, video, merge, .. } = self.model.media;
        let mut pads = prompt.ids.iter().enumerate().filter(|(_, id)| **id == image || **id == video).map(|(at, _)| at);
        let mut spans = Vec::new();
        for media in &prompt.media {
            let tokens = media.tokens(merge).unwrap_or(1).max(1);
            let Some(first) = pads.next() else { return spans };
            let last = if tokens > 1 { pads.nth(tokens - 2).unwrap_or(prompt.ids.len()) } else { first };
            spans.push(first..last + 1);
        }
        spans.extend(pads.next().map(|first| first..prompt.ids.len()));
        spans
    }

    /// The positions `[t, h, w]` of every token of a prompt and of the token after it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the runs of pads are not those of the media.
    pub fn positions(&self, prompt: &Prompt) -> Result<(Vec<[i32; 3]>, i64)> {
        let media = self.model.media;
        let (mut images, mut videos) = (Vec::new(), Vec::new());
        for item in &prompt.media {
            match item.second_per_grid {
                None => images.push(item.grid),
                Some(second_per_grid) => videos.push(VideoGrid { grid: item.grid, second_per_grid }),
            }
        }
        let segments = segments_from_ids(&prompt.ids, &media, &images, &videos)?;
        mrope_positions(&segments, media.merge, media.time, 0)
    }
}
