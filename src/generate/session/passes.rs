//! The forward passes: a prompt in pieces, one token after another, and the same on paper ([`rehearse`]).

use std::ops::Range;
use std::rc::Rc;

use super::Session;
use super::prompt::{Choose, Few, Head, Next, Prompt};
use super::state::{MOST_AHEAD, few, head};
use crate::dtype::CacheFormat;
use crate::error::{Error, Result, in_words};
use crate::gpu::{Gpu, Lease, Range as Words, Readback, Recorder, Rehearsal, Tensor};
use crate::model::Model;
use crate::model::cache::Rotation;
use crate::model::decoder::{DecoderConfig, Splice};
use crate::model::positions::{MediaTokens, mrope_table, rope_rows};
use crate::ops::attention_decode::CHUNK;
use crate::ops::gather_rows::KEEP;
use crate::ops::top;
use crate::ops::top_merge::{HEAD_WORDS, LIST_WORDS, choose};

/// Logits of at most this many bytes are computed and read at a time when all rows are wanted.
const LOGITS_BYTES: usize = 32 << 20;

/// Compiles every pipeline that a picture, a prompt and an answer need with a cache of this format. Nothing is run, so the
/// weights need not have arrived.
///
/// # Errors
/// Any error of the device.
pub fn prepare(gpu: &Gpu, model: &Rc<Model>, cache: CacheFormat) -> Result<()> {
    // A prompt of a whole part of keys, so that attention later has several parts to merge; one so short that the tiled kernel takes its
    // short tile; and a single token.
    const PASSES: [usize; 3] = [CHUNK, 16, 1];
    const TOKENS: usize = CHUNK + 16 + 1;
    gpu.compile_only(|| {
        let embeds = model.vision.as_ref().map(|vision| vision.prepare(gpu)).transpose()?;
        let mut session = Session::with_cache(gpu, model, TOKENS, cache)?;
        session.reserve(TOKENS)?;
        for n in PASSES {
            let ids = vec![0; n];
            let mut rec = Recorder::new(gpu);
            let splices = match &embeds {
                Some(embeds) if n > 1 => vec![Splice { index: rec.upload_u32("rows", n, &vec![KEEP; n])?, embeds }],
                _ => Vec::new(),
            };
            let h = session.record(&mut rec, &ids, &vec![[0; 3]; n], &splices)?;
            let logits = model.decoder.logits(&mut rec, &h, n - 1, 1)?;
            for penalty in [None, Some(1.0)] {
                choose(&mut rec, &logits, 1, penalty, &session.state.choices, 0)?;
            }
            gpu.execute(rec.finish())?;
            session.cache.advance(n);
        }
        Ok(())
    })?;
    gpu.trim();
    Ok(())
}

impl Session {
    /// Brings the cache to hold exactly `prompt`, computing only what it does not hold yet, and chooses the next token.
    /// `keep_going` is asked between passes.
    ///
    /// # Errors
    /// [`Error::ContextOverflow`], [`Error::Invalid`] for pads that do not match the media or ids outside the
    /// vocabulary, [`Error::Cancelled`], or any error of the device. After [`Error::OutOfMemory`] the cache is empty and its
    /// memory free.
    pub async fn prefill(&mut self, prompt: &Prompt, choose: Choose, keep_going: &dyn Fn() -> bool) -> Result<Next> {
        let next = self.passes(prompt, Some(choose), keep_going).await;
        match next.map_err(|error| self.forget_if_full(error))? {
            Some(next) => Ok(next),
            None => Err(Error::Cancelled), // cannot happen: there is always a choice here
        }
    }

    /// Brings the cache to hold exactly `prompt` and chooses nothing.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub async fn extend(&mut self, prompt: &Prompt, keep_going: &dyn Fn() -> bool) -> Result<()> {
        let passes = self.passes(prompt, None, keep_going).await;
        passes.map(drop).map_err(|error| self.forget_if_full(error))
    }

    async fn passes(
        &mut self,
        prompt: &Prompt,
        mut choose: Option<Choose>,
        keep_going: &dyn Fn() -> bool,
    ) -> Result<Option<Next>> {
        self.kept = None;
        // A faulty prompt is refused here, before anything in the cache is given up.
        let (positions, next) = self.positions(prompt)?;
        let reuse = self.reusable(prompt);
        self.rewind(prompt, reuse)?;
        self.next_position = self.position_after(&positions, reuse);
        let index = media_rows(&prompt.ids, &self.model.media);
        let mut at = reuse;
        loop {
            let end = prompt.ids.len().min(at + self.chunk.min(self.cache.room()));
            let last = end == prompt.ids.len();
            if self.pass != end - at {
                // Otherwise buffers of the last pass's sizes would be kept in addition to those of this pass.
                self.gpu.trim();
                self.pass = end - at;
            }
            let mut rec = Recorder::new(&self.gpu);
            let splices = self.splices(&mut rec, prompt, &index[at..end])?;
            let h = self.record(&mut rec, &prompt.ids[at..end], &positions[at..end], &splices)?;
            if let Some(choose) = choose.take_if(|_| last) {
                let logits = self.model.decoder.logits(&mut rec, &h, h.rows - 1, 1)?;
                let pending = self.choose(rec, &logits, choose)?;
                self.advance(prompt, at..end);
                self.next_position = next;
                return self.read(pending).await.map(Some);
            }
            self.gpu.execute(rec.finish())?;
            self.advance(prompt, at..end);
            self.next_position = if last { next } else { self.position_after(&positions, end) };
            at = end;
            // This also keeps the device's queue short: a pass is recorded only when the one before it has run.
            self.gpu.settle().await?;
            if last {
                return Ok(None);
            }
            if !keep_going() {
                return Err(Error::Cancelled);
            }
        }
    }

    /// Appends one token and chooses the next.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub async fn step(&mut self, id: u32, choose: Choose) -> Result<Next> {
        let next = self.append(id, choose).await;
        next.map_err(|error| self.forget_if_full(error))
    }

    async fn append(&mut self, id: u32, choose: Choose) -> Result<Next> {
        let mut rec = Recorder::new(&self.gpu);
        let row = self.begin(id, 1)?;
        let logits = self.record_next(&mut rec, row)?;
        let pending = self.choose(rec, &logits, choose)?;
        self.cache.advance(1);
        self.ids.push(id);
        self.next_position += 1;
        self.read(pending).await
    }

    /// Appends one token and `count - 1` after it, each the best after the one before, in one submission. Returns the best after
    /// each of them: all but the last have been appended. At most [`MOST_AHEAD`].
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub async fn steps(&mut self, id: u32, count: usize, vocab: usize) -> Result<Vec<Head>> {
        let heads = self.append_all(id, count.clamp(1, MOST_AHEAD), vocab).await;
        heads.map_err(|error| self.forget_if_full(error))
    }

    async fn append_all(&mut self, id: u32, count: usize, vocab: usize) -> Result<Vec<Head>> {
        let before = self.ids.len();
        let row = self.begin(id, count)?;
        let recorded = self.record_all(row, count, vocab);
        let Ok((words, logits)) = recorded else {
            self.cache.truncate(before);
            return recorded.map(|_| Vec::new());
        };
        self.kept = Some(logits);
        let words = match words.u32s().await {
            Ok(words) => words,
            Err(error) => {
                self.cache.truncate(before);
                return Err(error);
            }
        };
        let heads: Result<Vec<Head>> = words.chunks(HEAD_WORDS).map(head).collect();
        let heads = heads.inspect_err(|_| self.cache.truncate(before))?;
        self.ids.push(id);
        self.ids.extend(heads[..count - 1].iter().map(|head| head.id));
        self.next_position += count as i64;
        self.state.chosen(&heads);
        Ok(heads)
    }

    fn record_all(&mut self, row: usize, count: usize, vocab: usize) -> Result<(Readback, Tensor)> {
        let mut rec = Recorder::new(&self.gpu);
        let mut kept: Option<Tensor> = None;
        for slot in 0..count {
            drop(kept.take()); // goes back to the pool for the next token
            let logits = self.record_next(&mut rec, row + slot)?;
            let to = &self.state.choices;
            choose(&mut rec, &logits, vocab.min(logits.len()), self.state.penalty, to, slot)?;
            kept = Some(logits);
            self.cache.advance(1);
        }
        let heads = Words { tensor: &self.state.choices.heads, start: 0, count: count * HEAD_WORDS };
        let readback = self.gpu.execute_and_read(rec.finish(), &[heads])?;
        match kept {
            Some(logits) => Ok((readback, logits)),
            None => Err(Error::invalid("steps", "at least one token", "none")),
        }
    }

    /// Makes room for `count` tokens and tells the device what it needs to know of them. Returns their first rotary row.
    fn begin(&mut self, id: u32, count: usize) -> Result<usize> {
        self.kept = None;
        let n = self.ids.len();
        if n + count > self.limit {
            return Err(Error::ContextOverflow { needed: n + count, limit: self.limit });
        }
        self.check_ids(&[id])?;
        self.reserve(n + count)?;
        self.state.begin(&self.gpu, &self.model.rope, &self.ids, id, self.next_position, count)
    }

    /// Records the pass of the token whose id is on the device. Returns its logits.
    fn record_next(&self, rec: &mut Recorder, row: usize) -> Result<Tensor> {
        let h = self.model.decoder.embed(rec, &self.state.choices.next)?;
        let rotation = Rotation { norm: None, table: self.state.rows(), row };
        self.model.decoder.forward(rec, &h, rotation, None, &[], &self.cache)?;
        self.model.decoder.logits(rec, &h, 0, 1)
    }

    /// Runs a whole prompt and returns the logits of every token, `[n, vocab rows]`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub async fn all_logits(&mut self, prompt: &Prompt) -> Result<Vec<f32>> {
        let (positions, next) = self.positions(prompt)?;
        self.rewind(prompt, 0)?;
        let index = media_rows(&prompt.ids, &self.model.media);
        let rows_at_once = (LOGITS_BYTES / (4 * self.model.decoder.config().vocab)).max(1);
        let mut all = Vec::new();
        let mut at = 0;
        while at < prompt.ids.len() {
            let end = prompt.ids.len().min(at + self.chunk.min(self.cache.room()));
            let mut rec = Recorder::new(&self.gpu);
            let splices = self.splices(&mut rec, prompt, &index[at..end])?;
            let h = self.record(&mut rec, &prompt.ids[at..end], &positions[at..end], &splices)?;
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

    /// Empties the cache and the pool after running out of memory: a browser reports this late, so any of their buffers may be
    /// the one that was not allocated.
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

    /// The embeddings of `prompt` that take the place of rows of a pass. For each row, `rows` says which row it is among all
    /// embeddings, one after the other, or [`KEEP`].
    fn splices<'a>(&self, rec: &mut Recorder, prompt: &'a Prompt, rows: &[u32]) -> Result<Vec<Splice<'a>>> {
        let mut splices = Vec::new();
        let mut first = 0; // row of the part among all
        for media in &prompt.media {
            let tokens = media.tokens(self.model.media.merge)? as u32;
            let begin = first;
            for embeds in &media.embeds {
                let end = first + embeds.main.rows as u32;
                let inside = |row: u32| row != KEEP && (first..end).contains(&row);
                if rows.iter().any(|&row| inside(row)) {
                    let index: Vec<u32> = rows.iter().map(|&r| if inside(r) { r - first } else { KEEP }).collect();
                    splices.push(Splice { index: rec.upload_u32("media rows", index.len(), &index)?, embeds });
                }
                first = end;
            }
            let missing = |row: u32| row != KEEP && (first..begin + tokens).contains(&row);
            if rows.iter().any(|&row| missing(row)) {
                let expected = format!("the embeddings of all {tokens} tokens of a picture that is not in the cache");
                return Err(Error::invalid("prompt", expected, (first - begin).to_string()));
            }
            first = begin + tokens;
        }
        Ok(splices)
    }

    /// Records embeddings and all layers for the tokens `ids`, which follow those in the cache.
    fn record(
        &self,
        rec: &mut Recorder,
        ids: &[u32],
        positions: &[[i32; 3]],
        splices: &[Splice<'_>],
    ) -> Result<Tensor> {
        let n = ids.len();
        let past = self.cache.len();
        let ids = rec.upload_u32("token ids", n, ids)?;
        let h = self.model.decoder.embed(rec, &ids)?;
        let (cos, sin) = mrope_table(positions, &self.model.rope)?;
        let dim = self.model.rope.head_dim;
        let table = rec.upload_f32("rope", n, &rope_rows(&cos, &sin, dim / 2))?;
        let ranges = if n > 1 {
            let ranges: Vec<u32> = (0..n).flat_map(|i| [0, (past + i + 1) as u32]).collect();
            Some(rec.upload_u32("causal ranges", n, &ranges)?)
        } else {
            None
        };
        let rotation = Rotation { norm: None, table: &table, row: 0 };
        self.model.decoder.forward(rec, &h, rotation, ranges.as_ref(), splices, &self.cache)?;
        Ok(h)
    }

    fn advance(&mut self, prompt: &Prompt, range: Range<usize>) {
        self.cache.advance(range.len());
        self.ids.extend_from_slice(&prompt.ids[range.clone()]);
        let known = self.media.len();
        let new = self.spans(prompt).into_iter().zip(&prompt.media).skip(known);
        self.media.extend(new.filter(|(span, _)| span.start < range.end).map(|(span, media)| (span.start, media.key)));
    }

    fn position_after(&self, positions: &[[i32; 3]], end: usize) -> i64 {
        positions.get(end).map_or(self.next_position, |p| i64::from(p[0]))
    }

    /// Records the choice, submits everything, and says what is read.
    fn choose(&mut self, mut rec: Recorder, logits: &Tensor, choose_by: Choose) -> Result<Pending> {
        let to = &self.state.choices;
        let all = [
            Words { tensor: &to.heads, start: 0, count: HEAD_WORDS },
            Words { tensor: &to.lists, start: 0, count: LIST_WORDS },
        ];
        let pending = match choose_by {
            Choose::Logits => {
                let words = Words { tensor: logits, start: 0, count: logits.len() };
                return self.gpu.execute_and_read(rec.finish(), &[words]).map(Pending::Logits);
            }
            Choose::Best { vocab } => {
                choose(&mut rec, logits, vocab.min(logits.len()), self.state.penalty, to, 0)?;
                Pending::Best(self.gpu.execute_and_read(rec.finish(), &all[..1])?)
            }
            Choose::Few { vocab } => {
                choose(&mut rec, logits, vocab.min(logits.len()), None, to, 0)?;
                Pending::Few(self.gpu.execute_and_read(rec.finish(), &all)?)
            }
        };
        self.kept = Some(logits.clone());
        Ok(pending)
    }

    async fn read(&mut self, pending: Pending) -> Result<Next> {
        match pending {
            Pending::Logits(words) => words.f32s().await.map(Next::Logits),
            Pending::Best(words) => {
                let best = head(&words.u32s().await?)?;
                self.state.chosen(&[best]);
                Ok(Next::Best(best))
            }
            Pending::Few(words) => {
                let words = words.u32s().await?;
                head(&words[..HEAD_WORDS])?;
                Ok(Next::Few(few(words[HEAD_WORDS - 1], &words[HEAD_WORDS..])))
            }
        }
    }

    pub(super) async fn read_few(&self, slot: usize) -> Result<Few> {
        let to = &self.state.choices;
        let head = self.gpu.read_u32(&to.heads, slot * HEAD_WORDS, HEAD_WORDS).await?;
        let list = self.gpu.read_u32(&to.lists, slot * LIST_WORDS, LIST_WORDS).await?;
        Ok(few(head[HEAD_WORDS - 1], &list))
    }
}

/// What a pass of [`Session::prefill`] or [`Session::step`] takes of the pool, on paper: `n` tokens, `images` pictures among them, `keys` keys in
/// sight of the last in such a cache.
pub(in crate::generate) fn rehearse(
    pool: &Rehearsal,
    decoder: &DecoderConfig,
    n: usize,
    images: usize,
    keys: usize,
    cache: CacheFormat,
) {
    let mut uploads: Vec<Lease> = (0..images).map(|_| pool.upload("media rows", n, 1)).collect();
    uploads.push(pool.upload("token ids", n, 1));
    let _h = pool.scratch("embeddings", n, decoder.hidden);
    uploads.push(pool.upload("rope", n, decoder.heads.dim));
    if n > 1 {
        uploads.push(pool.upload("causal ranges", n, 2));
    }
    decoder.rehearse_forward(pool, n, keys, cache);
    let _logits = decoder.rehearse_logits(pool, 1);
    top::rehearse(pool, decoder.vocab);
    pool.launch(1 + images);
}

enum Pending {
    Best(Readback),
    Few(Readback),
    Logits(Readback),
}

/// For each token, which row of all embeddings (one after the other) takes its place, or [`KEEP`].
fn media_rows(ids: &[u32], media: &MediaTokens) -> Vec<u32> {
    let mut row = 0;
    ids.iter()
        .map(|&id| {
            if id == media.image || id == media.video {
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
    fn pads_count_through_all_media() {
        let media = MediaTokens { image: 9, video: 8, ..MediaTokens::NONE };
        assert_eq!(media_rows(&[1, 9, 9, 2, 8, 9], &media), [KEEP, 0, 1, KEEP, 2, 3]);
    }
}
