//! A model on a device, on paper: what each combination of formats, context and size of pictures takes.

use super::report::{ActivationBytes, Estimate, LargestBuffer};
use super::steps::steps;
use crate::dtype::CacheFormat;
use crate::error::{Result, in_words};
use crate::generate::session::{CHUNK, Session, rehearse};
use crate::gpu::Rehearsal;
use crate::model::cache::CacheShape;
use crate::model::load::FLUSH_BYTES;
use crate::model::registry::Tables;
use crate::ops::attention_decode;
use crate::weights::plan::{Limits, Plan};
use crate::weights::quantize::Formats;
use crate::weights::stream::CHUNK_BYTES;

/// `auto` does not lower max_pixels below so many merged tokens: 512 · 28 · 28 pixels for the released models.
pub const MIN_PICTURE_TOKENS: u64 = 512;

/// Merged tokens of the largest picture: as many squares of `side` pixels as max_pixels holds, or a strip one high and as
/// wide as 200 times that area's side, which `smart_resize` does not make smaller.
fn most_tokens(side: u64, max_pixels: u64) -> u64 {
    (max_pixels / (side * side)).max(max_pixels.saturating_mul(200).isqrt() / side).max(1)
}

/// The weights in some formats.
pub(super) struct Loadable {
    pub(super) formats: Formats,
    parts: Vec<(&'static str, u64)>,
    parameters: u64,
    source_bytes: u64,
    /// The largest shard.
    largest: (String, u64),
    /// Most shards of one matrix.
    shards: usize,
    /// Whether any matrix is read in columns, as packed layers are.
    packed: bool,
}

impl Loadable {
    pub(super) fn new(tables: &Tables, limits: Limits, formats: Formats) -> Result<Self> {
        let plan: Plan = tables.plan(limits, &formats)?;
        let mut parts = [("vision", 0u64), ("text", 0), ("embeddings", 0)];
        for (name, bytes) in plan.buffers() {
            let part = match name {
                "text.embed" | "lm_head" => 2,
                _ if name.starts_with("vision.") => 0,
                _ => 1,
            };
            parts[part].1 = parts[part].1.saturating_add(bytes);
        }
        let largest = plan.buffers().max_by_key(|(_, bytes)| *bytes).unwrap_or(("", 0));
        Ok(Loadable {
            formats,
            parts: parts.into_iter().filter(|(_, bytes)| *bytes > 0).collect(),
            parameters: plan.parameters(),
            source_bytes: plan.source_bytes(),
            largest: (largest.0.to_owned(), largest.1),
            shards: plan.matrices.iter().map(|m| m.shards.len()).max().unwrap_or(1),
            packed: plan.matrices.iter().any(|m| !m.packed.is_empty()),
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// Everything that an estimate depends on, except the context and max_pixels.
pub(super) struct Case<'a> {
    pub(super) tables: &'a Tables,
    pub(super) limits: Limits,
    pub(super) memory: Option<u64>,
    pub(super) weights: Loadable,
    pub(super) cache: CacheFormat,
}

impl Case<'_> {
    pub(super) fn limit(&self) -> u64 {
        self.limits.max_binding.min(self.limits.max_buffer)
    }

    pub(super) fn affords(&self, estimate: &Estimate) -> bool {
        self.memory.is_none_or(|memory| estimate.total_bytes <= memory)
    }

    fn shape(&self) -> CacheShape {
        self.tables.decoder.cache(self.cache)
    }

    /// Side in pixels of what one merged token sees, and patches in it.
    fn token(&self) -> (u64, usize) {
        let sizes = self.tables.vision.as_ref().map_or((1, 1), |vision| (vision.patch_size(), vision.merge()));
        ((sizes.0 * sizes.1).max(1) as u64, sizes.1 * sizes.1)
    }

    pub(super) fn pixels_of(&self, tokens: u64) -> u64 {
        let (side, _) = self.token();
        tokens.max(1).saturating_mul(side * side)
    }

    pub(super) fn least_pixels(&self, wanted: u64) -> u64 {
        self.pixels_of(MIN_PICTURE_TOKENS).min(wanted)
    }

    pub(super) fn pixel_steps(&self, most: u64) -> impl Iterator<Item = u64> + use<> {
        let unit = self.pixels_of(1);
        let (top, floor) = ((most / unit) as usize, (self.least_pixels(most) / unit) as usize);
        // The first step is `most` itself, which need not be a whole number of tokens.
        [most].into_iter().chain(steps(top, floor, 1).skip(1).map(move |tokens| tokens as u64 * unit))
    }

    /// Merged tokens of the largest picture that a context has room for beside one other token.
    fn picture_tokens(&self, context: usize, max_pixels: u64) -> usize {
        most_tokens(self.token().0, max_pixels).min(context.saturating_sub(1).max(1) as u64) as usize
    }

    /// What encoding the largest picture takes of the pool, with the embeddings that come out.
    pub(super) fn vision(&self, context: usize, max_pixels: u64) -> Rehearsal {
        let pool = Rehearsal::new(self.limits.max_binding);
        if let Some(vision) = &self.tables.vision {
            let _embeds = vision.rehearse(&pool, self.picture_tokens(context, max_pixels) * self.token().1);
        }
        pool
    }

    /// For a prompt's passes and the decoding after them: the largest pool, the most launches of a pass, the largest tensor.
    fn prefill(&self, context: usize, max_pixels: Option<u64>) -> (u64, u64, (&'static str, u64)) {
        let decoder = &self.tables.decoder;
        let empty = || Rehearsal::new(self.limits.max_binding);
        let tokens = max_pixels.map(|max_pixels| self.picture_tokens(context, max_pixels));
        let parts = 1 + self.tables.vision.as_ref().map_or(0, |vision| vision.deepstack());
        let embeds = |pool: &Rehearsal| {
            let tokens = std::iter::repeat_n(tokens, parts).flatten();
            tokens.map(|tokens| pool.scratch("image_embeds", tokens, decoder.hidden)).collect::<Vec<_>>()
        };
        let images = usize::from(tokens.is_some());
        // While an answer grows, so does the number of keys, and with it the buffers of decoding.
        let decode = empty();
        let held = embeds(&decode);
        for keys in (1..=context.div_ceil(attention_decode::CHUNK)).map(|n| n * attention_decode::CHUNK) {
            rehearse(&decode, decoder, 1, 0, keys, self.cache);
        }
        drop(held);
        let (mut bytes, mut launches, mut largest) = (0, 0, decode.largest());
        for n in 1..=CHUNK.min(context) {
            let pass = empty();
            let _held = embeds(&pass);
            rehearse(&pass, decoder, n, images, context, self.cache);
            pass.launch(images * (parts - 1));
            bytes = bytes.max(pass.bytes_with(&decode));
            launches = launches.max(pass.launches());
            if pass.largest().1 > largest.1 {
                largest = pass.largest();
            }
        }
        (bytes, launches, largest)
    }

    pub(super) fn estimate(&self, context: usize, max_pixels: Option<u64>) -> Estimate {
        let Case { tables, weights, memory, .. } = self;
        let decoder = &tables.decoder;
        let vision = max_pixels.map(|max_pixels| self.vision(context, max_pixels));
        let (prefill, launches, widest) = self.prefill(context, max_pixels);
        let activation_bytes = ActivationBytes { vision: vision.as_ref().map_or(0, Rehearsal::bytes), prefill };
        let kv_bytes = self.shape().bytes(context);

        // Writes that wait in staging memory. Columns of a packed layer wait there twice, and for a kernel with parameters.
        let most = FLUSH_BYTES as u64 + 2 * CHUNK_BYTES;
        let loading = if weights.packed {
            weights.bytes().saturating_mul(2).min(most) + Rehearsal::params(weights.shards as u64)
        } else {
            weights.bytes().min(most)
        };
        let launches = launches.max(vision.as_ref().map_or(0, Rehearsal::launches));
        let params = Rehearsal::params(launches.saturating_mul(weights.shards as u64));
        let uploads = vision.as_ref().map_or(0, Rehearsal::uploaded);
        let running = params + uploads + Session::passing_bytes(decoder.vocab, decoder.heads.dim);
        let staging_bytes = loading.max(running);
        let total_bytes = [weights.bytes(), kv_bytes, activation_bytes.vision.max(prefill), staging_bytes]
            .into_iter()
            .fold(0, u64::saturating_add);

        let keys = ("keys of a layer", self.shape().largest_buffer(context, self.limit()));
        let seen = vision.as_ref().map_or(("", 0), Rehearsal::largest);
        let buffers = [
            (weights.largest.0.clone(), weights.largest.1, "quantize it"),
            (keys.0.to_owned(), keys.1, "lower the context length"),
            (format!("{} of the vision tower", seen.0), seen.1, "lower max_pixels"),
            (format!("{} of the decoder", widest.0), widest.1, "choose a smaller model"),
        ];
        let limit = self.limit();
        let [first, rest @ ..] = buffers;
        let (name, bytes, remedy) = rest.into_iter().fold(first, |a, b| if b.1 > a.1 { b } else { a });
        let largest_buffer = LargestBuffer { name, bytes, limit };
        let mut estimate = Estimate {
            model_type: tables.config.family.model_type,
            parameters: weights.parameters,
            download_bytes: weights.source_bytes,
            weight_bytes: weights.parts.clone(),
            kv_bytes,
            activation_bytes,
            staging_bytes,
            total_bytes,
            largest_buffer,
            fits: false,
            reason: String::new(),
            context_length: context,
            max_pixels,
            memory: *memory,
            formats: weights.formats,
            cache: self.cache,
            decisions: Vec::new(),
        };
        (estimate.fits, estimate.reason) = self.verdict(&estimate, remedy);
        estimate
    }

    fn verdict(&self, e: &Estimate, remedy: &str) -> (bool, String) {
        let LargestBuffer { name, bytes, limit } = &e.largest_buffer;
        let (total, limit_words) = (in_words(e.total_bytes), in_words(*limit));
        if bytes > limit {
            let needed = in_words(*bytes);
            return (
                false,
                format!("{name} needs {needed} in one buffer, and the device allows {limit_words}: {remedy}"),
            );
        }
        match e.memory {
            None => (
                true,
                format!(
                    "the model takes {total} in buffers of at most {limit_words} each, as the device allows; how much memory it has \
                     is not known"
                ),
            ),
            Some(memory) if e.total_bytes <= memory => {
                (true, format!("the model takes {total} of {}", in_words(memory)))
            }
            Some(memory) => {
                let parts = [
                    (self.weights.bytes(), "for the weights (quantize them, or choose a smaller model)"),
                    (e.kv_bytes, "for the context (lower its length)"),
                    (
                        e.activation_bytes.vision.max(e.activation_bytes.prefill),
                        "for intermediate results (lower max_pixels)",
                    ),
                    (e.staging_bytes, "for data on its way to the device and back"),
                ];
                let parts = parts.map(|(bytes, what)| format!("{} {what}", in_words(bytes)));
                (false, format!("the model takes {total}, more than {}: {}", in_words(memory), parts.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::smart_resize;

    #[test]
    fn no_picture_has_more_tokens() {
        for max_pixels in [784, 5000, 100_000, 156_800, 401_408, 1_003_520, 12_845_056] {
            let mut most = 0;
            for height in [1, 7, 28, 29, 100, 333, 1000, 4000, 9999] {
                for width in [1, 5, 28, 57, 199, 1000, 5599, 5600, 20_000, 66_600] {
                    if let Ok((h, w)) = smart_resize(height, width, 28, 1, max_pixels) {
                        most = most.max(u64::from(h / 28) * u64::from(w / 28));
                    }
                }
            }
            let bound = most_tokens(28, max_pixels);
            assert!(most <= bound && most >= bound * 8 / 10, "{max_pixels} pixels: {most} tokens, at most {bound}");
        }
    }
}
