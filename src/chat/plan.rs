//! What a prompt will take in tokens, memory and work, before any picture is resized or encoded and anything is computed.

use serde::Serialize;

use super::answer::{ImageInfo, VideoInfo};
use super::calls;
use super::engine::{Conversation, Engine};
use super::media::GROUP;
use super::message::{Medium, Message};
use super::options::{AskOptions, DEFAULT_MAX_TOKENS};
use crate::error::Result;
use crate::generate::estimate::{Work, work};
use crate::image::{ImageOptions, MAX_PIXELS, resized};

/// With fewer tokens for a picture, Qwen2.5-VL's boxes around small things become inexact (llama.cpp's issue 16842).
const FINE: usize = 1024;
/// Height in pixels of a line of text below which reading becomes unreliable: a letter's body then has less than half a row of patches.
const LEGIBLE: f64 = 12.0;

/// What a prompt will take.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Tokens of the whole conversation, including the opening of the answer.
    pub prompt_tokens: usize,
    /// How many of these are images.
    pub image_tokens: usize,
    /// How many of these are videos.
    pub video_tokens: usize,
    /// How many of these are in the cache and need not be computed again.
    pub cached_tokens: usize,
    /// Tokens that the conversation may have.
    pub context_window: usize,
    /// Whether the prompt and at least one token of an answer fit in it.
    pub fits: bool,
    /// Tokens left for the answer.
    pub left: usize,
    /// Most memory on the device while the prompt is computed and the answer is written, without the weights: keys and values,
    /// intermediates and embeddings.
    pub bytes: u64,
    /// Multiplications and additions before the first token of the answer.
    pub flops: u64,
    /// Every picture of the conversation, in order.
    pub images: Vec<PlannedImage>,
    /// Every video of the conversation, in order.
    #[serde(skip)]
    pub videos: Vec<VideoInfo>,
}

/// A picture with what it will take.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedImage {
    /// Its sizes and tokens.
    pub info: ImageInfo,
    /// What may go wrong with it, one sentence each.
    pub warnings: Vec<String>,
}

impl Serialize for PlannedImage {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let size = |[width, height]: [u32; 2]| serde_json::json!({"width": width, "height": height});
        let ImageInfo { original, resized, tokens } = self.info;
        let fields = serde_json::json!({
            "original": size(original), "resized": size(resized), "tokens": tokens, "warnings": self.warnings,
        });
        fields.serialize(s)
    }
}

impl Engine {
    /// What [`Engine::ask`] would take. A prompt that does not fit the context is no error here, and the conversation is not changed.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for messages or options that [`Engine::ask`] refuses, too.
    pub fn plan(&self, conversation: &Conversation, messages: &[Message], options: &AskOptions) -> Result<Plan> {
        let messages = &*calls::in_order(messages)?;
        let (media, prompt, infos) = self.lay_out(conversation, messages, options)?;
        let session = &conversation.session;
        let (total, limit) = (prompt.ids.len(), session.limit());
        let merge = self.model.media.merge;
        // A picture that is in the conversation twice is encoded once.
        let mut wanted = session.wanting(&prompt);
        let mut seen = Vec::new();
        wanted.retain(|&index| {
            let key = prompt.media[index].key;
            let new = !seen.contains(&key);
            seen.push(key);
            new
        });
        let patches = |index: usize| prompt.media[index].grid.count();
        let group = |index: usize| match media[index] {
            Medium::Image(..) => patches(index),
            // The groups that `Engine::groups` cuts a video into.
            Medium::Video(_) => {
                let area = (patches(index) / prompt.media[index].grid.t.max(1) as usize).max(1);
                patches(index).min((GROUP / area).max(1) * area)
            }
        };
        let encode = wanted.iter().map(|&index| {
            let t = prompt.media[index].grid.t.max(1) as usize;
            (group(index), patches(index), patches(index) / t)
        });
        // Embeddings that are on the device meanwhile: those that are made now, and those that the conversation keeps.
        let mut held: Vec<usize> = Vec::new();
        for (index, item) in prompt.media.iter().enumerate() {
            if wanted.contains(&index) || !item.embeds.is_empty() {
                held.push(item.tokens(merge)?);
            }
        }
        let cached_tokens = session.reusable(&prompt);
        let answer = options.max_tokens.or(self.generation.max_new_tokens).unwrap_or(DEFAULT_MAX_TOKENS);
        let taken = work(&Work {
            decoder: self.model.decoder.config().clone(),
            vision: self.model.vision.as_ref().map(|vision| vision.sizes()),
            cache: session.cache(),
            max_binding: self.gpu.caps().max_binding,
            cached: cached_tokens,
            prompt: total.min(limit),
            end: total.saturating_add(answer).min(limit).max(total.min(limit)),
            limit,
            encode: encode.collect(),
            held,
        });
        let pixels = media.iter().filter_map(|medium| match medium {
            Medium::Image(picture, options) => Some((picture, options)),
            Medium::Video(_) => None,
        });
        let images = infos.images.iter().zip(pixels).map(|(info, (picture, options))| {
            let usual = resized(picture.size(), &self.preprocessor, &ImageOptions::default()).unwrap_or((0, 0));
            let limited = options.max_pixels.is_some() || options.resized_width.is_some();
            PlannedImage { info: info.clone(), warnings: warnings(info, usual, limited, self.preprocessor.max_pixels) }
        });
        Ok(Plan {
            prompt_tokens: total,
            image_tokens: infos.images.iter().map(|image| image.tokens).sum(),
            video_tokens: infos.videos.iter().map(|video| video.tokens).sum(),
            cached_tokens,
            context_window: limit,
            fits: total < limit,
            left: limit.saturating_sub(total),
            bytes: taken.bytes,
            flops: taken.flops,
            images: images.collect(),
            videos: infos.videos,
        })
    }
}

/// What may go wrong with a picture. `usual` is its size under the checkpoint's own limits; `limited` says whether the caller has set
/// others.
fn warnings(info: &ImageInfo, usual: (u32, u32), limited: bool, usual_most: u64) -> Vec<String> {
    let area = |[width, height]: [u32; 2]| u64::from(width) * u64::from(height);
    let ([width, height], [w, h]) = (info.original, info.resized);
    let (given, sees) = (area(info.original), area(info.resized));
    let mut warnings = Vec::new();
    if info.tokens < FINE {
        let least = (sees * FINE as u64).div_ceil(info.tokens.max(1) as u64).min(MAX_PIXELS);
        warnings.push(format!(
            "The picture has {} tokens, under {FINE}: boxes around small things become inexact. \
             Raise minPixels to {least} for {FINE} tokens.",
            info.tokens
        ));
    }
    let scale = (sees as f64 / given.max(1) as f64).sqrt();
    // Rounding to whole tokens changes the size a little, too; that is not worth a warning.
    if scale < 0.95 {
        let lost = (LEGIBLE / scale).ceil();
        let remedy = if limited && area([usual.0, usual.1]) > sees { "Raise maxPixels, or crop" } else { "Crop" };
        warnings.push(format!(
            "The picture is shrunk from {width}×{height} to {w}×{h}: \
             text less than {lost} pixels high may become unreadable. {remedy} to the part that matters."
        ));
    }
    if sees > usual_most {
        warnings.push(format!(
            "The model gets {sees} pixels of the picture, more than its own limit of {usual_most}: \
             it was not trained with pictures that large."
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_say_what_and_what_to_do() {
        let of = |original: [u32; 2], resized: [u32; 2], limited| {
            let tokens = (resized[0] / 28 * (resized[1] / 28)) as usize;
            warnings(&ImageInfo { original, resized, tokens }, (4004, 4004), limited, 12_845_056)
        };
        assert!(of([1000, 1000], [1008, 1008], false).is_empty());
        let few = of([560, 560], [560, 560], false);
        assert_eq!(few.len(), 1);
        // 400 tokens of 784 pixels: 1024 of them are 802 816 pixels.
        assert!(few[0].contains("400 tokens") && few[0].contains("802816"), "{few:?}");
        let shrunk = of([4000, 4000], [1008, 1008], true);
        assert_eq!(shrunk.len(), 1);
        assert!(shrunk[0].contains("from 4000×4000 to 1008×1008") && shrunk[0].contains("48 pixels"), "{shrunk:?}");
        assert!(shrunk[0].contains("Raise maxPixels"));
        assert!(of([8000, 8000], [3584, 3584], false)[0].contains(" Crop to"));
        assert_eq!(of([4200, 4200], [4200, 4200], false).len(), 1, "more than the checkpoint takes");
    }
}
