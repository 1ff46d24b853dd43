//! Tools for templates that know none, in the form of Qwen2.5's template, which its documentation calls the Hermes format: signatures
//! stand in the system message, calls in `<tool_call>` blocks, results in a message of the user.
//!
//! Qwen2-VL and Qwen2.5-VL come with a template that ignores tools, though their decoders were trained with this form. The strings here
//! count as the template's own, so control tokens in them are real ones. Everything that somebody wrote has been guarded before.

use minijinja::Value;

use super::message::{Content, Part};
use super::turn::Turn;
use crate::error::Result;

/// Stands between the system prompt and the signatures, each of which has a line of its own.
const HEAD: &str = "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
                    You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
/// Stands after the signatures.
const FOOT: &str = "\n</tools>\n\nFor each function call, return a json object with function name and arguments within \
                    <tool_call></tool_call> XML tags:\n<tool_call>\n\
                    {\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>";

/// Writes tools and calls into the contents of messages, so that a template that knows neither renders them. `default` is the system
/// message that the template adds if there is none; `dump` is the filter `tojson`.
pub(super) fn write(
    turns: Vec<Turn>,
    tools: Option<&Value>,
    default: &str,
    dump: &dyn Fn(&Value) -> Result<String>,
) -> Result<Vec<Turn>> {
    let mut out: Vec<Turn> = Vec::with_capacity(turns.len() + 1);
    // Whether the last turn holds results of tools.
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

/// A call as the model writes it. Arguments may be a string, which then is JSON already.
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

/// Text as a content.
fn said(text: &str) -> Content {
    Content::Text(text.to_owned())
}

fn empty(content: &Content) -> bool {
    match content {
        Content::Text(text) => text.is_empty(),
        Content::Parts(parts) => parts.iter().all(|part| matches!(part, Part::Text(text) if text.is_empty())),
    }
}

/// Contents one after the other. The result is a string if all of them are.
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
