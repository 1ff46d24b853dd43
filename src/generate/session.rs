//! One conversation on the device: what is in the KV cache, and the forward passes that extend it.

use std::rc::Rc;

use crate::dtype::CacheFormat;
use crate::error::{Error, Result, in_words};
use crate::gpu::{Element, Gpu, Lease, Recorder, Rehearsal, Tensor};
use crate::model::cache::KvCache;
use crate::model::decoder::DecoderConfig;
use crate::model::positions::{Grid, mrope_positions, mrope_table, rope_delta, segments_from_ids};
use crate::model::{Model, rope_rows};
use crate::ops::argmax::{NOT_A_NUMBER, argmax};
use crate::ops::gather_rows::{KEEP, gather_rows};
use crate::ops::penalty::penalty;

/// Tokens of one prefill pass unless set otherwise: enough to fill the device, few enough to stay short.
pub const CHUNK: usize = 512;

/// Logits of at most this many bytes are computed and read at a time when all rows are wanted.
const LOGITS_BYTES: usize = 32 << 20;

/// An encoded image, in the order of the prompt.
#[derive(Clone)]
pub struct Media {
    /// Names the picture: equal keys mean equal embeddings.
    pub key: u64,
    /// Size in patches.
    pub grid: Grid,
    /// `[tokens, hidden]` on the device.
    pub embeds: Tensor,
}

/// A prompt: token ids with one run of pads per image.
#[derive(Clone, Default)]
pub struct Prompt {
    /// Token ids of the whole conversation so far.
    pub ids: Vec<u32>,
    /// Images in the order of their pads.
    pub images: Vec<Media>,
}

/// How the next token is chosen.
pub enum Choose<'a> {
    /// Highest logit below `vocab` after the repetition penalty, on the device; only the id comes back.
    Greedy {
        /// Ids below this can be chosen.
        vocab: usize,
        /// Repetition penalty and the distinct ids that it applies to, if it is not 1.
        penalty: Option<(f32, &'a [u32])>,
    },
    /// All logits come back.
    Logits,
}

/// What a forward pass yields for the token after the last.
pub enum Next {
    /// The chosen id.
    Id(u32),
    /// Logits `[vocab rows]`.
    Logits(Vec<f32>),
}

/// A conversation's state. Its cache holds exactly `ids`.
pub struct Session {
    gpu: Gpu,
    model: Rc<Model>,
    cache: KvCache,
    /// What the cache holds.
    ids: Vec<u32>,
    /// Keys and first token of the images in `ids`.
    media: Vec<(usize, u64)>,
    /// Position of the token after the last of `ids`.
    next_position: i64,
    limit: usize,
    chunk: usize,
    /// Rows of the prompt's last pass.
    pass: usize,
    chosen: Tensor,
}

/// Compiles every pipeline that a picture, a prompt and an answer need with such a cache. Runs nothing, so the weights need
/// not be there.
///
/// # Errors
/// Any error of the device.
pub fn prepare(gpu: &Gpu, model: &Rc<Model>, cache: CacheFormat) -> Result<()> {
    // More rows than the matrix-vector kernel takes, then one.
    const PROMPT: usize = 16;
    gpu.compile_only(|| {
        let embeds = model.vision.as_ref().map(|vision| vision.prepare(gpu)).transpose()?;
        let mut session = Session::with_cache(gpu, model, PROMPT + 1, cache)?;
        session.reserve(PROMPT + 1)?;
        for n in [PROMPT, 1] {
            let prompt = Prompt { ids: vec![0; n], images: Vec::new() };
            let mut rec = Recorder::new(gpu);
            let h = session.record(&mut rec, &prompt, &vec![[0; 3]; n], &vec![KEEP; n], 0..n)?;
            if let Some(embeds) = &embeds {
                let index = rec.upload_u32("image rows", n, &vec![KEEP; n])?;
                gather_rows(&mut rec, embeds, &index, &h)?;
            }
            let logits = model.decoder.logits(&mut rec, &h, n - 1, 1)?;
            session.choose(rec, &logits, Choose::Greedy { vocab: 1, penalty: Some((1.0, &[0])) })?;
            session.cache.advance(n);
        }
        Ok(())
    })?;
    gpu.trim();
    Ok(())
}

impl Session {
    /// An empty conversation that may grow to `limit` tokens.
    ///
    /// # Errors
    /// [`Error::DeviceTooSmall`].
    pub fn new(gpu: &Gpu, model: &Rc<Model>, limit: usize) -> Result<Self> {
        Session::with_cache(gpu, model, limit, CacheFormat::F32)
    }

    /// The same with keys and values in another format.
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
            chosen: gpu.persistent("chosen id", 1, 4, Element::U32)?,
        })
    }

    /// Tokens in the cache.
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

    /// Keys and values of what it holds.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Sets how many tokens a prefill pass takes, at least 1.
    pub fn set_chunk(&mut self, tokens: usize) {
        self.chunk = tokens.max(1);
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
        let mut reuse = same.min(prompt.ids.len().saturating_sub(1));
        // An image that differs, or that only lies partly in the common beginning, ends it.
        let mut image = 0;
        let mut at = 0;
        while at < reuse {
            if prompt.ids[at] != self.model.media.image {
                at += 1;
                continue;
            }
            let Some(media) = prompt.images.get(image) else { return at };
            if self.media.get(image) != Some(&(at, media.key)) {
                return at;
            }
            let tokens = media.embeds.rows;
            if at + tokens > reuse {
                reuse = at;
            }
            at += tokens;
            image += 1;
        }
        reuse
    }

    /// The positions `[t, h, w]` of every token of a prompt and of the token after it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the runs of pads are not the images'.
    pub fn positions(&self, prompt: &Prompt) -> Result<(Vec<[i32; 3]>, i64)> {
        let media = self.model.media;
        let grids: Vec<Grid> = prompt.images.iter().map(|m| m.grid).collect();
        let segments = segments_from_ids(&prompt.ids, media.image, media.video, &grids, &[], media.merge)?;
        mrope_positions(&segments, media.merge, media.tokens_per_second, 0)
    }

    /// Brings the cache to hold exactly `prompt`, computing only what it does not hold yet, and chooses the next token.
    /// `keep_going` is asked between passes.
    ///
    /// # Errors
    /// [`Error::ContextOverflow`], [`Error::Invalid`] for pads that do not match the images or ids outside the
    /// vocabulary, [`Error::Cancelled`], or any error of the device. After [`Error::OutOfMemory`] the cache is empty and its
    /// memory free.
    pub async fn prefill(
        &mut self,
        prompt: &Prompt,
        choose: Choose<'_>,
        keep_going: &dyn Fn() -> bool,
    ) -> Result<Next> {
        let next = self.passes(prompt, choose, keep_going).await;
        next.map_err(|error| self.forget_if_full(error))
    }

    async fn passes(&mut self, prompt: &Prompt, choose: Choose<'_>, keep_going: &dyn Fn() -> bool) -> Result<Next> {
        let reuse = self.reusable(prompt);
        self.rewind(prompt, reuse)?;
        let (positions, next) = self.positions(prompt)?;
        let index = image_rows(&prompt.ids, self.model.media.image);
        let mut at = reuse;
        loop {
            let end = prompt.ids.len().min(at + self.chunk.min(self.cache.room()));
            let last = end == prompt.ids.len();
            if self.pass != end - at {
                // Buffers of another pass's sizes would stay beside those of this one.
                self.gpu.trim();
                self.pass = end - at;
            }
            let mut rec = Recorder::new(&self.gpu);
            let h = self.record(&mut rec, prompt, &positions, &index, at..end)?;
            if last {
                let logits = self.model.decoder.logits(&mut rec, &h, h.rows - 1, 1)?;
                let next_token = self.choose(rec, &logits, choose);
                self.advance(prompt, at..end);
                self.next_position = next;
                return next_token?.read(self).await;
            }
            self.gpu.execute(rec.finish())?;
            self.advance(prompt, at..end);
            self.next_position = self.position_after(&positions, end);
            at = end;
            // Also keeps the queue short: a pass is recorded only when the one before has run.
            self.gpu.settle().await?;
            if !keep_going() {
                return Err(Error::Cancelled);
            }
        }
    }

    /// Appends one token and chooses the next.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub async fn step(&mut self, id: u32, choose: Choose<'_>) -> Result<Next> {
        let next = self.append(id, choose).await;
        next.map_err(|error| self.forget_if_full(error))
    }

    async fn append(&mut self, id: u32, choose: Choose<'_>) -> Result<Next> {
        let n = self.ids.len();
        if n + 1 > self.limit {
            return Err(Error::ContextOverflow { needed: n + 1, limit: self.limit });
        }
        let prompt = Prompt { ids: vec![id], images: Vec::new() };
        self.check_ids(&prompt.ids)?;
        self.reserve(n + 1)?;
        let mut rec = Recorder::new(&self.gpu);
        let position = i32::try_from(self.next_position).unwrap_or(i32::MAX);
        let h = self.record(&mut rec, &prompt, &[[position; 3]], &[KEEP], 0..1)?;
        let logits = self.model.decoder.logits(&mut rec, &h, 0, 1)?;
        let next = self.choose(rec, &logits, choose);
        self.cache.advance(1);
        self.ids.push(id);
        self.next_position += 1;
        next?.read(self).await
    }

    /// Runs a whole prompt and returns the logits of every token, `[n, vocab rows]`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub async fn all_logits(&mut self, prompt: &Prompt) -> Result<Vec<f32>> {
        self.rewind(prompt, 0)?;
        let (positions, next) = self.positions(prompt)?;
        let index = image_rows(&prompt.ids, self.model.media.image);
        let rows_at_once = (LOGITS_BYTES / (4 * self.model.decoder.config().vocab)).max(1);
        let mut all = Vec::new();
        let mut at = 0;
        while at < prompt.ids.len() {
            let end = prompt.ids.len().min(at + self.chunk.min(self.cache.room()));
            let mut rec = Recorder::new(&self.gpu);
            let h = self.record(&mut rec, prompt, &positions, &index, at..end)?;
            self.gpu.execute(rec.finish())?;
            self.advance(prompt, at..end);
            let mut row = 0;
            while row < h.rows {
                let n = rows_at_once.min(h.rows - row);
                let mut rec = Recorder::new(&self.gpu);
                let logits = self.model.decoder.logits(&mut rec, &h, row, n)?;
                self.gpu.execute(rec.finish())?;
                all.extend(self.gpu.read_f32(&logits, 0, logits.len()).await?);
                row += n;
            }
            at = end;
        }
        self.next_position = next;
        Ok(all)
    }

    /// Forgets what follows the first `reuse` tokens, then makes room for all of `prompt`.
    fn rewind(&mut self, prompt: &Prompt, reuse: usize) -> Result<()> {
        if prompt.ids.is_empty() {
            return Err(Error::invalid("prompt", "at least one token", "none"));
        }
        if prompt.ids.len() > self.limit {
            return Err(Error::ContextOverflow { needed: prompt.ids.len(), limit: self.limit });
        }
        self.check_ids(&prompt.ids)?;
        self.cache.truncate(reuse);
        self.ids.truncate(reuse);
        self.media.retain(|(first, _)| *first < reuse);
        self.reserve(prompt.ids.len())
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab = self.model.decoder.config().vocab;
        match ids.iter().find(|id| **id as usize >= vocab) {
            Some(id) => Err(Error::invalid("token id", format!("below {vocab}"), id.to_string())),
            None => Ok(()),
        }
    }

    fn reserve(&mut self, needed: usize) -> Result<()> {
        self.cache.reserve(&self.gpu, needed, self.limit).inspect_err(|_| {
            // The cache is empty now.
            self.ids.clear();
            self.media.clear();
        })
    }

    /// A browser says late that memory ran out: any buffer of the cache or the pool may be the one that is not there.
    fn forget_if_full(&mut self, error: Error) -> Error {
        if !matches!(error, Error::OutOfMemory { .. }) {
            return error;
        }
        self.cache.clear(&self.gpu);
        self.ids.clear();
        self.media.clear();
        self.gpu.trim();
        error.advise(|| {
            let bytes = in_words(self.cache.shape().bytes(1024));
            format!("1024 tokens of context take {bytes}: lower the context length, now {}.", self.limit)
        })
    }

    /// Records embeddings, images and all layers for tokens `range` of a prompt, of which the cache holds all before.
    fn record(
        &self,
        rec: &mut Recorder,
        prompt: &Prompt,
        positions: &[[i32; 3]],
        image_rows: &[u32],
        range: std::ops::Range<usize>,
    ) -> Result<Tensor> {
        let n = range.len();
        let past = self.cache.len();
        let ids = rec.upload_u32("token ids", n, &prompt.ids[range.clone()])?;
        let h = self.model.decoder.embed(rec, &ids)?;
        // Image embeddings take the place of their pads.
        let mut first = 0; // first pad row of the image among all pads
        let rows = &image_rows[range.clone()];
        for media in &prompt.images {
            let tokens = media.embeds.rows as u32;
            let inside = |row: u32| row != KEEP && (first..first + tokens).contains(&row);
            if rows.iter().any(|&row| inside(row)) {
                let index: Vec<u32> = rows.iter().map(|&r| if inside(r) { r - first } else { KEEP }).collect();
                let index = rec.upload_u32("image rows", n, &index)?;
                gather_rows(rec, &media.embeds, &index, &h)?;
            }
            first += tokens;
        }
        let (cos, sin) = mrope_table(&positions[range], &self.model.rope)?;
        let dim = self.model.rope.head_dim;
        let table = rec.upload_f32("rope", n, &rope_rows(&cos, &sin, dim / 2))?;
        let ranges = if n > 1 {
            let ranges: Vec<u32> = (0..n).flat_map(|i| [0, (past + i + 1) as u32]).collect();
            Some(rec.upload_u32("causal ranges", n, &ranges)?)
        } else {
            None
        };
        self.model.decoder.forward(rec, &h, &table, ranges.as_ref(), &self.cache)?;
        Ok(h)
    }

    fn advance(&mut self, prompt: &Prompt, range: std::ops::Range<usize>) {
        self.cache.advance(range.len());
        self.ids.extend_from_slice(&prompt.ids[range.clone()]);
        let image = self.model.media.image;
        let known = self.media.len();
        let mut at = 0;
        for (i, media) in prompt.images.iter().enumerate() {
            while at < prompt.ids.len() && prompt.ids[at] != image {
                at += 1;
            }
            if i >= known && at < range.end {
                self.media.push((at, media.key));
            }
            at += media.embeds.rows;
        }
    }

    fn position_after(&self, positions: &[[i32; 3]], end: usize) -> i64 {
        positions.get(end).map_or(self.next_position, |p| i64::from(p[0]))
    }

    /// Records the choice, submits everything, and says what to read.
    fn choose(&self, mut rec: Recorder, logits: &Tensor, choose: Choose<'_>) -> Result<Pending> {
        let pending = match choose {
            Choose::Logits => Pending::Logits(logits.clone()),
            Choose::Greedy { vocab, penalty: repetition } => {
                if let Some((factor, ids)) = repetition.filter(|(_, ids)| !ids.is_empty()) {
                    let list = rec.upload_u32("seen ids", ids.len(), ids)?;
                    penalty(&mut rec, logits, &list, ids.len(), factor)?;
                }
                argmax(&mut rec, logits, vocab.min(logits.len()), &self.chosen)?;
                Pending::Id
            }
        };
        self.gpu.execute(rec.finish())?;
        Ok(pending)
    }
}

/// A pass of [`Session::prefill`] or [`Session::step`] on paper: `n` tokens, `images` pictures among them, `keys` keys in
/// sight of the last in such a cache, `seen` ids for the repetition penalty.
pub(super) fn rehearse(
    pool: &Rehearsal,
    decoder: &DecoderConfig,
    n: usize,
    images: usize,
    keys: usize,
    cache: CacheFormat,
    seen: &[usize],
) {
    let mut uploads: Vec<Lease> = vec![pool.upload("token ids", n, 1)];
    let _h = pool.scratch("embeddings", n, decoder.hidden);
    uploads.extend((0..images).map(|_| pool.upload("image rows", n, 1)));
    uploads.push(pool.upload("rope", n, decoder.heads.dim));
    if n > 1 {
        uploads.push(pool.upload("causal ranges", n, 2));
    }
    decoder.rehearse_forward(pool, n, keys, cache);
    let _logits = decoder.rehearse_logits(pool, 1);
    for count in seen {
        drop(pool.upload("seen ids", *count, 1)); // held by the recording, but nothing comes after it
    }
    pool.launch(3 + images);
}

enum Pending {
    Id,
    Logits(Tensor),
}

impl Pending {
    async fn read(self, session: &Session) -> Result<Next> {
        match self {
            Pending::Logits(logits) => session.gpu.read_f32(&logits, 0, logits.len()).await.map(Next::Logits),
            Pending::Id => {
                let id = session.gpu.read_u32(&session.chosen, 0, 1).await?[0];
                if id == NOT_A_NUMBER {
                    return Err(Error::Gpu { message: "a logit is not a number".into() });
                }
                Ok(Next::Id(id))
            }
        }
    }
}

/// Per token, which row of all images' embeddings (one after the other) takes its place, or [`KEEP`].
fn image_rows(ids: &[u32], image: u32) -> Vec<u32> {
    let mut row = 0;
    ids.iter()
        .map(|&id| {
            if id == image {
                row += 1;
                row - 1
            } else {
                KEEP
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_count_through_all_images() {
        assert_eq!(image_rows(&[1, 9, 9, 2, 9], 9), [KEEP, 0, 1, KEEP, 2]);
    }
}
