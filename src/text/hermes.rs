//! Tools for templates that know none, as Qwen2.5's template writes them (its documentation calls it the Hermes format): the
//! signatures in the system message, calls in `<tool_call>` blocks, what they gave in a user's turn.
//!
//! Qwen2-VL and Qwen2.5-VL come with a template that passes tools over in silence, though their decoders were trained with this form.
//! The strings here are the template's own, so control tokens in them are real ones; all that somebody wrote is guarded before.

use minijinja::Value;

use super::template::{Content, Part};
use crate::error::Result;

/// A message whose texts are guarded.
pub(super) struct Turn {
    pub role: String,
    pub content: Content,
    pub reasoning: Option<String>,
    /// A list of calls.
    pub calls: Option<Value>,
}

/// Before the signatures, each on a line of its own; the system prompt and an empty line come before it.
const HEAD: &str = "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
                    You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
const FOOT: &str = "\n</tools>\n\nFor each function call, return a json object with function name and arguments within \
                    <tool_call></tool_call> XML tags:\n<tool_call>\n\
                    {\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>";

/// Writes tools and calls into the contents of messages, so that a template that knows neither renders them. `default` is the system
/// message that this template writes where none is given; `dump` is `tojson`.
pub(super) fn write(
    turns: Vec<Turn>,
    tools: Option<&Value>,
    default: &str,
    dump: &dyn Fn(&Value) -> Result<String>,
) -> Result<Vec<Turn>> {
    let mut out: Vec<Turn> = Vec::with_capacity(turns.len() + 1);
    // Of the last turn that was made of tools' answers.
    let mut answers = false;
    for turn in turns {
        let tool = turn.role == "tool";
        let turn = match turn {
            Turn { role, content, .. } if role == "tool" => {
                let content = join([said("<tool_response>\n"), content, said("\n</tool_response>")]);
                match out.last_mut().filter(|_| answers) {
                    Some(before) => {
                        before.content = join([std::mem::take(&mut before.content), said("\n"), content]);
                        continue;
                    }
                    None => Turn { role: "user".to_owned(), content, reasoning: None, calls: None },
                }
            }
            Turn { calls: Some(calls), role, mut content, reasoning } if role == "assistant" => {
                for call in calls.try_iter().into_iter().flatten() {
                    let gap = if empty(&content) { "" } else { "\n" };
                    content = join([content, said(gap), said(&block(&call, dump)?)]);
                }
                Turn { role, content, reasoning, calls: None }
            }
            turn => turn,
        };
        answers = tool;
        out.push(turn);
    }
    if let Some(tools) = tools {
        let mut section = HEAD.to_owned();
        for tool in tools.try_iter().into_iter().flatten() {
            section.push('\n');
            section.push_str(&dump(&tool)?);
        }
        section.push_str(FOOT);
        match out.first_mut().filter(|first| first.role == "system") {
            Some(first) => {
                first.content = join([std::mem::take(&mut first.content), said("\n\n"), said(&section)]);
            }
            None => {
                let gap = if default.is_empty() { "" } else { "\n\n" };
                let content = Content::Text(format!("{default}{gap}{section}"));
                out.insert(0, Turn { role: "system".to_owned(), content, reasoning: None, calls: None });
            }
        }
    }
    Ok(out)
}

/// A call as the model writes it. Arguments that are a string are JSON already.
fn block(call: &Value, dump: &dyn Fn(&Value) -> Result<String>) -> Result<String> {
    let field =
        |value: &Value, name| value.get_attr(name).ok().filter(|found| !found.is_undefined() && !found.is_none());
    let function = field(call, "function");
    let call = function.as_ref().unwrap_or(call);
    let name = field(call, "name").map(|name| name.to_string()).unwrap_or_default();
    let arguments = match field(call, "arguments") {
        None => "{}".to_owned(),
        Some(arguments) => match arguments.as_str() {
            Some(text) => text.to_owned(),
            None => dump(&arguments)?,
        },
    };
    Ok(format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>"))
}

fn said(text: &str) -> Content {
    Content::Text(text.to_owned())
}

fn empty(content: &Content) -> bool {
    match content {
        Content::Text(text) => text.is_empty(),
        Content::Parts(parts) => parts.iter().all(|part| matches!(part, Part::Text(text) if text.is_empty())),
    }
}

/// One after the other: a string if all are.
fn join<const N: usize>(contents: [Content; N]) -> Content {
    let mut joined = Content::default();
    for content in contents {
        joined = match (joined, content) {
            (Content::Text(a), Content::Text(b)) => Content::Text(a + &b),
            (a, b) => {
                let parts = |content| match content {
                    Content::Text(text) if text.is_empty() => Vec::new(),
                    Content::Text(text) => vec![Part::Text(text)],
                    Content::Parts(parts) => parts,
                };
                let mut all = parts(a);
                all.extend(parts(b));
                Content::Parts(all)
            }
        };
    }
    joined
}
