//! A message of a conversation with its pictures and videos, and how the chat template takes it.

use std::rc::Rc;

use super::tools::ToolCall;
use crate::image::{ImageOptions, Still};
use crate::text;
use crate::video::Video;

/// A message of a conversation.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What the message says.
    pub content: Content,
    /// What the assistant thought before it wrote this. Templates that know reasoning show it to the model again.
    pub reasoning: Option<String>,
    /// The tool calls that the assistant made.
    pub tool_calls: Vec<ToolCall>,
    /// In a message of role `tool`: the id of the call whose result this is. Results without an id belong to the calls in order.
    pub tool_call_id: Option<String>,
    /// Only in the last message, of role `assistant`: the model continues this text instead of beginning a message of its own.
    pub prefix: bool,
}

/// Text alone, or parts in order.
#[derive(Debug, Clone)]
pub enum Content {
    /// A plain string.
    Text(String),
    /// Texts, pictures and videos in order.
    Parts(Vec<Part>),
}

impl Default for Content {
    fn default() -> Self {
        Content::Text(String::new())
    }
}

/// A piece of a message.
#[derive(Debug, Clone)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture and how to resize it.
    Image(Rc<Still>, ImageOptions),
    /// A video's frames, sampled and resized.
    Video(Rc<Video>),
}

/// A picture or a video of a message.
#[derive(Clone, Copy)]
pub(super) enum Medium<'a> {
    Image(&'a Rc<Still>, &'a ImageOptions),
    Video(&'a Rc<Video>),
}

impl Message {
    /// A message of text alone.
    pub fn text(role: &str, text: &str) -> Self {
        Message { role: role.into(), content: Content::Text(text.into()), ..Message::default() }
    }

    /// The message's pictures and videos in order.
    pub(super) fn media(&self) -> impl Iterator<Item = Medium<'_>> {
        let parts = match &self.content {
            Content::Text(_) => &[][..],
            Content::Parts(parts) => parts,
        };
        parts.iter().filter_map(|part| match part {
            Part::Image(picture, options) => Some(Medium::Image(picture, options)),
            Part::Video(video) => Some(Medium::Video(video)),
            Part::Text(_) => None,
        })
    }

    /// The message as the chat template takes it. Templates of text models take strings only, so `flat` joins a message's texts into one.
    pub(super) fn for_template(&self, flat: bool) -> text::Message {
        let content = match &self.content {
            Content::Text(text) => text::Content::Text(text.clone()),
            Content::Parts(parts) if flat => text::Content::Text(
                parts.iter().map(|part| if let Part::Text(text) = part { text.as_str() } else { "" }).collect(),
            ),
            Content::Parts(parts) => text::Content::Parts(
                parts
                    .iter()
                    .map(|part| match part {
                        Part::Text(text) => text::Part::Text(text.clone()),
                        Part::Image(..) => text::Part::Image,
                        Part::Video(_) => text::Part::Video,
                    })
                    .collect(),
            ),
        };
        let calls: Vec<_> = self.tool_calls.iter().map(ToolCall::for_template).collect();
        text::Message {
            role: self.role.clone(),
            content,
            reasoning: self.reasoning.clone(),
            tool_calls: (!calls.is_empty()).then(|| calls.into()),
        }
    }
}
