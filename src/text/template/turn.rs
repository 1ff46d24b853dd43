//! A message as the template sees it: what somebody wrote is guarded, and calls are values of the template's language.

use minijinja::Value;

use super::message::{Content, Part};

/// A message whose texts are guarded.
pub(super) struct Turn {
    pub role: String,
    pub content: Content,
    pub reasoning: Option<String>,
    /// A list of calls.
    pub calls: Option<Value>,
}

/// The fields of a message as templates find them.
pub(super) fn value(turn: Turn) -> Value {
    let part = |part| match part {
        Part::Text(text) => pairs([("type", "text".into()), ("text", text.into())]),
        Part::Image => pairs([("type", "image".into())]),
        Part::Video => pairs([("type", "video".into())]),
    };
    let content = match turn.content {
        Content::Text(text) => text.into(),
        Content::Parts(parts) => parts.into_iter().map(part).collect(),
    };
    let mut fields = vec![("role", turn.role.into()), ("content", content)];
    fields.extend(turn.reasoning.map(|text| ("reasoning_content", text.into())));
    fields.extend(turn.calls.map(|calls| ("tool_calls", calls)));
    pairs(fields)
}

/// An object of the template's language.
pub(super) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::from_pairs(pairs)
}
