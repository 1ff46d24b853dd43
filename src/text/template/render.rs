//! Messages → [`RenderedPrompt`], through the checkpoint's template.

use std::borrow::Cow;

use minijinja::{Environment, Value};

use super::chat_template::ChatTemplate;
use super::environment::{environment, written};
use super::guard::{Guard, guarded_json, strings};
use super::hermes;
use super::json_dumps::Dump;
use super::limits::{MAX_OUTPUT, failed};
use super::message::{Content, Message, Part, RenderOptions, reasoned};
use super::turn::{Turn, pairs, value};
use crate::error::{Error, Result};
use crate::text::prompt::RenderedPrompt;

impl ChatTemplate {
    /// Renders a conversation: transformers' `apply_chat_template`.
    ///
    /// No text of a message or of the tools can become a [`Span::Control`](crate::text::Span::Control), neither by itself nor
    /// together with its neighbours. The price is that a template which looks for a control token *in a message* (some
    /// templates split earlier answers at `</think>`) does not find it.
    ///
    /// [`Error::Invalid`]: a role other than system, user, assistant and tool, or tools nested more than 64 deep.
    /// [`Error::Template`]: the template refuses the conversation (its `raise_exception`), fails, or exceeds the limits of time and
    /// size.
    pub fn render(&self, messages: &[Message], o: &RenderOptions) -> Result<RenderedPrompt> {
        let messages: Vec<Cow<Message>> = messages
            .iter()
            .map(|message| if self.reasons() { reasoned(message) } else { Cow::Borrowed(message) })
            .collect();
        for message in &messages {
            if !["system", "user", "assistant", "tool"].contains(&message.role.as_str()) {
                return Err(Error::invalid("role of a message", "system, user, assistant or tool", &message.role));
            }
        }
        let mut texts: Vec<&str> = Vec::new();
        for message in &messages {
            texts.extend(message.reasoning.as_deref());
            if let Some(calls) = &message.tool_calls {
                strings(calls, &mut texts, 0)?;
            }
            match &message.content {
                Content::Text(text) => texts.push(text),
                Content::Parts(parts) => texts.extend(parts.iter().filter_map(|part| match part {
                    Part::Text(text) => Some(text.as_str()),
                    Part::Image | Part::Video => None,
                })),
            }
        }
        if let Some(tools) = &o.tools {
            strings(tools, &mut texts, 0)?;
        }
        let input: usize = texts.iter().map(|text| text.len()).sum();
        let guard = Guard::new(&o.control_tokens, &texts)?;

        // A result of a tool is between tags. Where these are no tokens, they are told from text by their characters alone, so a result that
        // spells them could pass for several results.
        let fenced = !o.control_tokens.iter().any(|token| token == "</tool_response>");
        let protect = |text: &str, tool: bool| match tool && fenced {
            true => guard.protect(&unfenced(text)),
            false => guard.protect(text),
        };
        let part = |part: &Part, tool: bool| match part {
            Part::Text(text) => Part::Text(protect(text, tool)),
            media => media.clone(),
        };
        let turn = |message: &Cow<Message>| Turn {
            role: message.role.clone(),
            content: match (&message.content, message.role == "tool") {
                (Content::Text(text), tool) => Content::Text(protect(text, tool)),
                (Content::Parts(parts), tool) => Content::Parts(parts.iter().map(|p| part(p, tool)).collect()),
            },
            reasoning: message.reasoning.as_ref().map(|text| guard.protect(text)),
            calls: message.tool_calls.as_ref().map(|calls| guarded_json(calls, &guard)),
        };
        let mut turns: Vec<Turn> = messages.iter().map(turn).collect();
        if o.continue_final_message {
            turns.last_mut().map_or(Err("no message"), |last| guard.end_with(last)).map_err(|found| {
                Error::invalid(
                    "the message to continue",
                    "a message of the assistant with text and no tool calls",
                    found,
                )
            })?;
        }
        let tools = o.tools.as_ref().map(|tools| guarded_json(tools, &guard));
        let environment = environment(o.now.or(self.now), &guard, input)?;
        let limit = MAX_OUTPUT + 4 * input;
        if !self.calls() && (tools.is_some() || turns.iter().any(|turn| turn.calls.is_some())) {
            let default = self.default_system(&environment);
            let dump = |value: &Value| {
                let mut dump = Dump::plain(&guard, limit);
                dump.value(value, 0).map(|()| dump.out).map_err(|e| failed(e.to_string()))
            };
            turns = hermes::write(turns, tools.as_ref(), &default, &dump)?;
        }
        let mut context = vec![
            ("messages", turns.into_iter().map(value).collect::<Value>()),
            ("tools", tools.unwrap_or(Value::from(()))),
            ("documents", Value::from(())),
            ("add_generation_prompt", (o.add_generation_prompt && !o.continue_final_message).into()),
            ("add_vision_id", o.add_vision_id.into()),
        ];
        context.extend(self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str().into())));

        let source = match (&o.tools, &self.tool_use) {
            (Some(_), Some(tool_use)) => tool_use,
            _ => &self.default,
        };
        let mut text = written(&environment, source, pairs(context), limit)?;
        if o.continue_final_message {
            guard.cut(&mut text)?;
        }
        Ok(RenderedPrompt::cut(&text, &guard.tokens, |text| guard.remove(text)))
    }

    /// The system message that the template adds to a conversation without one. Empty if the template adds none, does not write messages
    /// in Qwen's form, or refuses a conversation that is one question.
    fn default_system(&self, environment: &Environment) -> String {
        let question = Turn { role: "user".into(), content: Content::default(), reasoning: None, calls: None };
        let mut context = vec![
            ("messages", std::iter::once(value(question)).collect::<Value>()),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", false.into()),
        ];
        context.extend(self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str().into())));
        let text = written(environment, &self.default, pairs(context), MAX_OUTPUT).unwrap_or_default();
        let system = text.split_once("<|im_start|>system\n").and_then(|(_, rest)| rest.split_once("<|im_end|>"));
        system.map_or_else(String::new, |(system, _)| system.to_owned())
    }
}

/// The text with a space in every tag that would begin or end a tool's result, as in `< /tool_response>`.
fn unfenced(text: &str) -> Cow<'_, str> {
    const TAG: &str = "tool_response";
    let is_tag = |rest: &str| {
        let name = rest.strip_prefix('/').unwrap_or(rest).trim_start();
        name.get(..TAG.len()).is_some_and(|start| start.eq_ignore_ascii_case(TAG))
    };
    if !text.match_indices('<').any(|(at, _)| is_tag(&text[at + 1..])) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (at, c) in text.char_indices() {
        out.push(c);
        if c == '<' && is_tag(&text[at + 1..]) {
            out.push(' ');
        }
    }
    Cow::Owned(out)
}
