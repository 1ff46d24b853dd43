//! From messages to a prompt: the chat template, token ids with a placeholder (pad) for every token of a picture or video, and the
//! embeddings that the session is going to need.

use std::rc::Rc;

use super::answer::{ImageInfo, VideoInfo};
use super::engine::{Conversation, Engine};
use super::message::{Medium, Message};
use super::options::AskOptions;
use crate::error::{Error, Result};
use crate::generate::session::{Media, Prompt};
use crate::image::resized;
use crate::model::Embeds;
use crate::model::positions::VideoTime;
use crate::text::{RenderOptions, RenderedPrompt, Span};
use crate::video::{patch_times, stamp};

/// What is found out about a conversation on the way to its ids.
#[derive(Default)]
pub(super) struct Infos {
    pub images: Vec<ImageInfo>,
    pub videos: Vec<VideoInfo>,
    /// Whether the prompt ends with `<think>`, so that the model begins in the middle of reasoning.
    pub thinking: bool,
    /// Whether the caller cancelled before all pictures were encoded.
    pub cancelled: bool,
}

impl Engine {
    /// Token ids and media of a conversation, with the embeddings that its session is going to need.
    pub(super) async fn prompt(
        &self,
        conversation: &mut Conversation,
        messages: &[Message],
        options: &AskOptions,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(Prompt, Infos)> {
        if !conversation.session.gpu().is(&self.gpu) {
            // Its cache was on a device that is lost, so it starts again empty.
            *conversation = self.conversation(conversation.session.limit())?;
        }
        let (media, mut prompt, mut infos) = self.lay_out(conversation, messages, options)?;
        let limit = conversation.session.limit();
        let needed = prompt.ids.len() + usize::from(!options.unanswered);
        if needed > limit {
            return Err(Error::ContextOverflow { needed, limit });
        }

        // Embeddings of pictures that are no longer part of the conversation are dropped; those that other conversations have are shared.
        conversation.encoded.retain(|key, _| prompt.media.iter().any(|item| item.key == *key));
        for key in prompt.media.iter().map(|item| item.key) {
            if let Some(embeds) = self.encoded.find(key) {
                conversation.encoded.insert(key, embeds);
            }
        }
        for index in conversation.session.wanting(&prompt) {
            let key = prompt.media[index].key;
            // A picture that is in the conversation twice is encoded once.
            let known = prompt.media.iter().find(|item| item.key == key && !item.embeds.is_empty());
            let embeds = match known {
                Some(item) => item.embeds.clone(),
                None => match self.encode(media[index], cancelled).await {
                    Err(Error::Cancelled) => {
                        infos.cancelled = true;
                        break;
                    }
                    other => other?,
                },
            };
            if let (Medium::Image(..), None) = (media[index], known) {
                let embeds: Rc<[Embeds]> = embeds.clone().into();
                self.encoded.insert(key, &embeds);
                conversation.encoded.insert(key, embeds);
            }
            prompt.media[index].embeds = embeds;
        }
        Ok((prompt, infos))
    }

    /// Token ids and media of a conversation, with those embeddings that exist already. Results of tools have to be in the order of
    /// their calls.
    pub(super) fn lay_out<'a>(
        &self,
        conversation: &Conversation,
        messages: &'a [Message],
        options: &AskOptions,
    ) -> Result<(Vec<Medium<'a>>, Prompt, Infos)> {
        let media: Vec<Medium> = messages.iter().flat_map(Message::media).collect();
        if self.model.vision.is_none() && !media.is_empty() {
            let expected = "only text, because this model has no vision tower";
            return Err(Error::invalid("messages", expected, "a picture or a video"));
        }
        // Sizes are computed before anything is resized or goes to the device.
        let mut infos = Infos::default();
        let mut items = Vec::new();
        for medium in &media {
            let item = self.measure(*medium, &mut infos)?;
            let known = conversation.encoded.get(&item.key).cloned().or_else(|| self.encoded.find(item.key));
            items.push(Media { embeds: known.map_or_else(Vec::new, |known| known.to_vec()), ..item });
        }
        let ids = self.ids(messages, &media, &items, options, &mut infos)?;
        Ok((media, Prompt { ids, media: items }, infos))
    }

    /// Key and grid of a picture or video, without its embeddings. Notes its sizes in `infos`.
    fn measure(&self, medium: Medium<'_>, infos: &mut Infos) -> Result<Media> {
        let p = &self.preprocessor;
        let (key, grid, second_per_grid) = match medium {
            Medium::Image(picture, options) => {
                let size = resized(picture.size(), p, options)?;
                (self.encoded.key(picture, size), self.grid(1, size), None)
            }
            Medium::Video(video) => {
                let pace = (p.temporal_patch_size as f64 / video.sample_fps) as f32;
                (video.key, self.video_grid(video), Some(pace))
            }
        };
        let media = Media { key, grid, second_per_grid, embeds: Vec::new() };
        let tokens = media.tokens(self.model.media.merge)?;
        let patch = p.patch_size as u32;
        let resized = [grid.w * patch, grid.h * patch];
        match medium {
            Medium::Image(picture, _) => {
                infos.images.push(ImageInfo { original: picture.size().into(), resized, tokens });
            }
            Medium::Video(video) => infos.videos.push(VideoInfo {
                original: [video.original.0, video.original.1],
                resized,
                timestamps: video.timestamps.clone(),
                sample_fps: video.sample_fps,
                tokens,
            }),
        }
        Ok(media)
    }

    /// Token ids of a conversation, with one pad for each token of its media.
    fn ids(
        &self,
        messages: &[Message],
        media: &[Medium<'_>],
        items: &[Media],
        options: &AskOptions,
        infos: &mut Infos,
    ) -> Result<Vec<u32>> {
        let flat = self.model.vision.is_none();
        if let Some(i) = messages.iter().rev().skip(1).position(|message| message.prefix) {
            let at = format!("messages[{}].prefix", messages.len() - 2 - i);
            return Err(Error::invalid(at, "`prefix` in the last message only", "it in an earlier one"));
        }
        let prefix = messages.last().is_some_and(|last| last.prefix);
        let tools = options.tool_choice.offered(&options.tools)?;
        let mut rendered = self.template.render(
            &messages.iter().map(|message| message.for_template(flat)).collect::<Vec<_>>(),
            &RenderOptions {
                add_generation_prompt: !prefix && !options.unanswered,
                continue_final_message: prefix,
                add_vision_id: options.add_vision_id,
                control_tokens: self.tokenizer.control_tokens(),
                tools: (!tools.is_empty()).then(|| tools.iter().map(|tool| tool.json().clone()).collect()),
                now: options.now,
            },
        )?;
        infos.thinking = rendered.to_string_lossy().trim_end().ends_with("<think>");
        let model = self.model.media;
        let (mut images, mut videos) = (Vec::new(), Vec::new());
        for (medium, item) in media.iter().zip(items) {
            let tokens = item.tokens(model.merge)?;
            match medium {
                Medium::Image(..) => images.push(tokens),
                // Qwen3-VL's prompt has a pad for each temporal patch, since a time is written before each.
                Medium::Video(_) if model.time == VideoTime::Text => {
                    let patches = item.grid.t as usize;
                    videos.extend(std::iter::repeat_n(tokens / patches, patches));
                }
                Medium::Video(_) => videos.push(tokens),
            }
        }
        if model.time == VideoTime::Text && !videos.is_empty() {
            let times = media.iter().filter_map(|medium| match medium {
                Medium::Video(video) => Some(patch_times(&video.timestamps, self.preprocessor.temporal_patch_size)),
                Medium::Image(..) => None,
            });
            rendered = self.write_times(rendered, times)?;
        }
        let ids = self.tokenizer.encode(&rendered)?;
        expand_pads(&ids, [(model.image, "image", &images), (model.video, "video", &videos)])
    }

    /// Replaces each video of a rendered prompt, `<|vision_start|><|video_pad|><|vision_end|>`, by one such triple for each of its
    /// temporal patches, with the patch's time before it.
    ///
    /// transformers 4.57: `Qwen3VLProcessor.__call__` (5.23 replaces only the pad, so that the outer two marks stay around all of them).
    fn write_times(&self, rendered: RenderedPrompt, times: impl Iterator<Item = Vec<f64>>) -> Result<RenderedPrompt> {
        let text = |id: u32| self.tokenizer.decode(&[id], false);
        let pad = text(self.model.media.video)?;
        let mut times = times;
        let mut spans: Vec<Span> = Vec::new();
        let mut rest = rendered.spans.into_iter().peekable();
        while let Some(span) = rest.next() {
            let around = |span: Option<&Span>| match span {
                Some(Span::Control(mark)) => Some(mark.clone()),
                _ => None,
            };
            let (start, end) = (around(spans.last()), around(rest.peek()));
            match (span, start, end) {
                (Span::Control(token), Some(start), Some(end)) if token == pad => {
                    let Some(times) = times.next() else { continue };
                    spans.pop();
                    rest.next();
                    for time in times {
                        push_text(&mut spans, stamp(time));
                        spans.extend([&start, &pad, &end].map(|token| Span::Control(token.clone())));
                    }
                }
                (Span::Text(text), ..) => push_text(&mut spans, text),
                (control, ..) => spans.push(control),
            }
        }
        Ok(RenderedPrompt { spans })
    }
}

/// Adds a text, to the last span if that is text too: no two texts of a prompt are neighbours.
fn push_text(spans: &mut Vec<Span>, text: String) {
    match spans.last_mut() {
        Some(Span::Text(before)) => before.push_str(&text),
        _ => spans.push(Span::Text(text)),
    }
}

/// Repeats each pad of the template as often as its picture or video has tokens. `kinds` are, for pictures and videos, the pad's id, the
/// kind's name and the number of tokens of each.
fn expand_pads(ids: &[u32], kinds: [(u32, &str, &[usize]); 2]) -> Result<Vec<u32>> {
    for (pad, kind, counts) in kinds {
        let pads = ids.iter().filter(|id| **id == pad).count();
        if pads != counts.len() {
            let expected = format!("{} {kind} placeholders, one for each {kind}", counts.len());
            return Err(Error::invalid("prompt of the chat template", expected, pads.to_string()));
        }
    }
    let mut kinds = kinds.map(|(pad, _, counts)| (pad, counts.iter()));
    let mut out = Vec::with_capacity(ids.len());
    for &id in ids {
        let counts = kinds.iter_mut().find(|(pad, _)| *pad == id);
        let n = counts.and_then(|(_, counts)| counts.next().copied()).unwrap_or(1);
        out.extend(std::iter::repeat_n(id, n));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_expand_in_order() {
        let expand = |ids: &[u32], images: &[usize], videos: &[usize]| {
            expand_pads(ids, [(9, "image", images), (8, "video", videos)])
        };
        assert_eq!(expand(&[1, 9, 2, 8, 9], &[3, 1], &[2]).unwrap(), [1, 9, 9, 9, 2, 8, 8, 9]);
        for (images, videos) in [(&[3][..], &[][..]), (&[3], &[1]), (&[], &[2])] {
            assert_eq!(expand(&[1, 9, 9, 8], images, videos).unwrap_err().code(), "bad_request");
        }
    }
}
