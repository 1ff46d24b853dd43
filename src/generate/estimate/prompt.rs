//! What one prompt of a conversation takes, and how much there is to compute for it.

use std::rc::Rc;

use crate::generate::session::{CHUNK, Session, rehearse};
use crate::gpu::Rehearsal;
use crate::model::VisionSizes;
use crate::model::cache::KvCache;
use crate::model::decoder::DecoderConfig;
use crate::ops::attention_decode;

/// A prompt of a conversation on a device.
pub struct Work<'a> {
    /// The decoder.
    pub decoder: DecoderConfig,
    /// The vision tower.
    pub vision: Option<Rc<dyn VisionSizes>>,
    /// The keys and values that are there already.
    pub cache: &'a KvCache,
    /// Bytes of the largest binding.
    pub max_binding: u64,
    /// Tokens of the prompt that need not be computed again.
    pub cached: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of the conversation when the answer is written.
    pub end: usize,
    /// Tokens that the conversation may have.
    pub limit: usize,
    /// For each picture or video that is to be encoded: the patches that pass through the tower at once, all of its patches, and
    /// those of one frame.
    pub encode: Vec<(usize, usize, usize)>,
    /// Merged tokens of each picture or video whose embeddings lie on the device.
    pub held: Vec<usize>,
}

/// What a prompt takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// On the device at most, beside the weights.
    pub bytes: u64,
    /// Multiplications and additions up to the first token of the answer.
    pub flops: u64,
}

/// What a prompt and its answer take, from the graphs' rehearsals.
pub fn work(work: &Work<'_>) -> Taken {
    let Work { decoder, vision, cache, cached, prompt, end, .. } = work;
    let format = cache.shape().format;
    let parts = 1 + vision.as_ref().map_or(0, |vision| vision.deepstack());
    let embeds = |pool: &Rehearsal, held: &[usize]| {
        let each = held.iter().flat_map(|tokens| std::iter::repeat_n(*tokens, parts)).filter(|tokens| *tokens > 0);
        each.map(|tokens| pool.scratch("image_embeds", tokens, decoder.hidden)).collect::<Vec<_>>()
    };
    let (mut bytes, mut flops) = (0u64, 0u64);
    if let Some(vision) = vision {
        let merged = (vision.merge() * vision.merge()).max(1);
        for (group, all, frame) in &work.encode {
            let mut others = work.held.clone();
            if let Some(own) = others.iter_mut().find(|tokens| **tokens == all / merged) {
                *own -= group / merged; // which the tower's rehearsal has
            }
            let pool = Rehearsal::new(work.max_binding);
            let _others = embeds(&pool, &others);
            drop(vision.rehearse(&pool, *group));
            let passing = pool.uploaded().saturating_add(Rehearsal::params(pool.launches()));
            bytes = bytes.max(pool.bytes().saturating_add(passing));
            flops = flops.saturating_add(vision.flops(*all as u64, *frame as u64));
        }
        // Keys and values are those from before.
        bytes = bytes.saturating_add(cache.shape().bytes(cache.segments().sum()));
    }
    let keys = cache.shape().bytes(cache.room_for(*cached, *prompt, *end, work.limit, work.max_binding));
    let new = prompt.saturating_sub(*cached).max(1);
    let decode = Rehearsal::new(work.max_binding);
    let steps =
        (prompt / attention_decode::CHUNK..=end / attention_decode::CHUNK).map(|n| (n + 1) * attention_decode::CHUNK);
    for keys in steps {
        rehearse(&decode, decoder, 1, 0, keys.min(*end).max(1), format);
    }
    let mut passes = vec![new.min(CHUNK)];
    if new > CHUNK && !new.is_multiple_of(CHUNK) {
        passes.push(new % CHUNK);
    }
    for n in passes {
        let pass = Rehearsal::new(work.max_binding);
        let _held = embeds(&pass, &work.held);
        rehearse(&pass, decoder, n, work.held.len(), *prompt, format);
        // Parameters, uploads on their way, and what is read, as in an estimate.
        let passing = Rehearsal::params(pass.launches()) + Session::passing_bytes(decoder.vocab, decoder.heads.dim);
        let all = pass.bytes_with(&decode).saturating_add(pass.uploaded()).saturating_add(passing);
        bytes = bytes.max(all.saturating_add(keys));
    }
    flops = flops.saturating_add(decoder.flops(*cached as u64, new as u64));
    Taken { bytes, flops }
}
