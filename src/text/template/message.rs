//! Messages as a template takes them, and what else goes into a prompt.

use std::borrow::Cow;

use serde_json::Value as Json;

/// One turn of a conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What the message says.
    pub content: Content,
    /// What the assistant thought before it wrote this: `reasoning_content` in templates that know it.
    pub reasoning: Option<String>,
    /// An assistant's calls of tools, as a JSON list.
    pub tool_calls: Option<Json>,
}

/// What a message says. Templates may treat a string and a list of one text differently.
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text, joined to its neighbours without anything between.
    Text(String),
    /// A picture: the template puts one pad token for it.
    Image,
    /// A video: the template puts one pad token for it.
    Video,
}

/// What a prompt has beside its messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderOptions {
    /// The prompt ends with the opening of an assistant's message.
    pub add_generation_prompt: bool,
    /// Each picture and video has its number before it (`Picture 1: `).
    pub add_vision_id: bool,
    /// The text of every added token, as [`Tokenizer::control_tokens`](crate::text::Tokenizer::control_tokens) lists them. Tokens of a
    /// single character are ignored.
    pub control_tokens: Vec<String>,
    /// Tools as a list of JSON schemas. For a template that knows no tools, these, all calls and their results are written into the
    /// messages in the form of Qwen2.5's template.
    pub tools: Option<Json>,
    /// The prompt ends with the text of the last message, which the model continues: transformers'
    /// `continue_final_message`. Excludes `add_generation_prompt`.
    pub continue_final_message: bool,
    /// The clock of `strftime_now`, as [`ChatTemplate::set_now`](super::ChatTemplate::set_now) takes it.
    pub now: Option<u64>,
}

/// The message of a thinking assistant with its reasoning told from its text. Qwen3's templates do that themselves, by looking for the
/// tags in the text, but the guard hides the tags from them.
pub(super) fn reasoned(message: &Message) -> Cow<'_, Message> {
    const END: &str = "</think>";
    let joined = |parts: &[Part]| {
        let text = |part: &Part| if let Part::Text(text) = part { Some(text.clone()) } else { None };
        parts.iter().map(text).collect::<Option<String>>()
    };
    let text = match &message.content {
        Content::Text(text) => Some(text.clone()),
        Content::Parts(parts) => joined(parts),
    };
    let Some(text) = text.filter(|text| text.contains(END)) else { return Cow::Borrowed(message) };
    if message.role != "assistant" || message.reasoning.is_some() {
        return Cow::Borrowed(message);
    }
    let before = text.split(END).next().unwrap_or_default().trim_end_matches('\n');
    let reasoning = before.rsplit("<think>").next().unwrap_or_default().trim_start_matches('\n');
    let content = text.rsplit(END).next().unwrap_or_default().trim_start_matches('\n');
    Cow::Owned(Message {
        content: Content::Text(content.to_owned()),
        reasoning: Some(reasoning.to_owned()),
        ..message.clone()
    })
}
