//! A finished answer: its text, reasoning and tool calls, token counts and times, and the sizes of the conversation's pictures and
//! videos.

use serde::Serialize;

use super::message::{Content, Message, Part};
use super::stream::TokenLogprob;
use super::tools::ToolCall;

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The text, without control tokens, stop strings and reasoning.
    pub text: String,
    /// What a thinking model wrote before the answer. If the answer was cut off early, there may be only this.
    pub reasoning: Option<String>,
    /// Token ids as generated, without the one that ended the answer.
    pub token_ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// `stop`, `tool_calls`, `length`, `abort` or `repetition`.
    pub finish_reason: &'static str,
    /// The tools that the model wants called. The `<tool_call>` blocks are not part of the text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Log-probabilities of every token, if the caller asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// Token counts.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// Every picture of the conversation, in order.
    pub images: Vec<ImageInfo>,
    /// Every video of the conversation, in order.
    pub videos: Vec<VideoInfo>,
}

impl Answer {
    /// Adds the answer to the conversation: to the last message if the model continued that (`prefix`), and else as a new message.
    pub fn join(&self, messages: &mut Vec<Message>) {
        let mut said = Message {
            reasoning: self.reasoning.clone(),
            tool_calls: self.tool_calls.clone(),
            ..Message::text("assistant", &self.text)
        };
        if let Some(begun) = messages.pop_if(|last| last.prefix) {
            said.content = match begun.content {
                Content::Text(text) => Content::Text(text + &self.text),
                Content::Parts(mut parts) => {
                    parts.push(Part::Text(self.text.clone()));
                    Content::Parts(parts)
                }
            };
            said.reasoning = begun.reasoning.or(said.reasoning);
        }
        messages.push(said);
    }
}

/// Token counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of these are images.
    pub image_tokens: usize,
    /// How many of these are videos.
    pub video_tokens: usize,
    /// How many of these were still in the cache and not computed again.
    pub cached_tokens: usize,
    /// Tokens of the answer.
    pub completion_tokens: usize,
}

/// Where the time went, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timings {
    /// Resizing and encoding the pictures and frames that were new.
    pub image_ms: f64,
    /// From the end of that to the first token.
    pub prefill_ms: f64,
    /// From the first token to the last.
    pub decode_ms: f64,
    /// Tokens per second after the first.
    pub decode_tokens_per_second: f64,
}

impl Timings {
    /// From the moments, in milliseconds, at which the answer was begun, its pictures were encoded, its first token was there and its
    /// last one was.
    pub(super) fn new([begun, prepared, first, end]: [f64; 4], tokens: usize) -> Self {
        let decode_ms = end - first;
        let per_second = if decode_ms > 0.0 { 1000.0 * tokens.saturating_sub(1) as f64 / decode_ms } else { 0.0 };
        Timings {
            image_ms: prepared - begun,
            prefill_ms: first - prepared,
            decode_ms,
            decode_tokens_per_second: per_second,
        }
    }
}

/// A picture as given and as the model saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageInfo {
    /// Width and height of the picture as given (upright).
    pub original: [u32; 2],
    /// Width and height that the model saw.
    pub resized: [u32; 2],
    /// Tokens that it takes in the prompt.
    pub tokens: usize,
}

/// A video as given and as the model saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VideoInfo {
    /// Width and height of its frames as given (upright).
    pub original: [u32; 2],
    /// Width and height that the model saw.
    pub resized: [u32; 2],
    /// When each frame that the model saw is shown, in seconds.
    pub timestamps: Vec<f64>,
    /// Frames per second of the video that the model saw.
    pub sample_fps: f64,
    /// Tokens that it takes in the prompt, without those of times that are written between its frames.
    pub tokens: usize,
}
