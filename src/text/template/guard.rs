//! Keeps what somebody wrote from becoming a control token.

use std::collections::HashSet;

use minijinja::Value;
use serde_json::Value as Json;

use super::limits::{MAX_DEPTH, failed};
use super::message::{Content, Part};
use super::turn::Turn;
use crate::error::{Error, Result};

/// Keeps what somebody wrote from becoming a control token.
///
/// A *mark*, a character that occurs in none of the texts, goes into them wherever they could contribute to a control
/// token's text: after every character that begins one, and before a text that could complete one which the template's
/// own text began. Every control token in the rendered string is then one that the template wrote, and the marks are
/// taken out of the text between. The template may cut, trim or join texts: a token's first character that comes from a
/// text still has the mark after it.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    /// A character that occurs in none of the texts.
    pub mark: char,
    /// Another such character, which marks the end of a message that the model continues.
    end: char,
    /// The control tokens that have more than one character.
    pub tokens: Vec<String>,
    /// The first characters of the tokens.
    firsts: Vec<char>,
    /// Characters in the longest token.
    longest: usize,
}

impl Guard {
    /// [`Error::Invalid`] if the texts use all of the 131,000 characters that can be the mark.
    pub(super) fn new(tokens: &[String], texts: &[&str]) -> Result<Self> {
        let used: HashSet<char> = texts.iter().flat_map(|text| text.chars()).filter(|&c| c >= '\u{FDD0}').collect();
        // Noncharacters first: Unicode reserves these for uses such as this one. Then the private planes.
        let mut unused = ('\u{FDD0}'..='\u{FDEF}').chain('\u{F0000}'..='\u{10FFFD}').filter(|c| !used.contains(c));
        let (Some(mark), Some(end)) = (unused.next(), unused.next()) else {
            let expected = "text without at least two of the characters U+FDD0..U+FDEF and U+F0000..U+10FFFD";
            return Err(Error::invalid("messages", expected, "text that uses nearly all of them"));
        };
        let tokens: Vec<String> = tokens.iter().filter(|token| token.chars().nth(1).is_some()).cloned().collect();
        let mut firsts: Vec<char> = tokens.iter().filter_map(|token| token.chars().next()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        let longest = tokens.iter().map(|token| token.chars().count()).max().unwrap_or(0);
        Ok(Self { mark, end, tokens, firsts, longest })
    }

    /// `text` with marks where it could become a control token.
    pub(super) fn protect(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 16);
        let body = text.trim_start();
        out.push_str(&text[..text.len() - body.len()]);
        if self.completes(body.trim_end()) {
            out.push(self.mark);
        }
        for c in body.chars() {
            out.push(c);
            // Letters are compared without case, because a template may call lower() or upper().
            if self.firsts.iter().any(|&first| first == c || first.to_lowercase().eq(c.to_lowercase())) {
                out.push(self.mark);
            }
        }
        out
    }

    /// The key of an object, with marks only if it is more than a plain word. A template looks up `name` by that name, so it must not get
    /// a mark although it is part of `<|repo_name|>`. The risk is small: a plain word in which no token begins can at most complete one
    /// that the template itself has begun.
    fn key(&self, key: &str) -> String {
        let plain = |c: char| (c.is_ascii_alphanumeric() || c == '_') && !self.firsts.contains(&c);
        if key.chars().all(plain) { key.to_owned() } else { self.protect(key) }
    }

    /// Whether `text` begins with a later part of a token, up to the token's end or to the text's.
    fn completes(&self, text: &str) -> bool {
        let text: String = text.chars().take(self.longest + 1).flat_map(char::to_lowercase).collect();
        let continues = |rest: &str| text.starts_with(rest) || rest.starts_with(&text);
        let later = |token: &String| {
            let token = token.to_lowercase();
            token.char_indices().skip(1).any(|(at, _)| continues(&token[at..]))
        };
        !text.is_empty() && self.tokens.iter().any(later)
    }

    /// Marks the end of the message that the model continues, as transformers' `render_jinja_template` does it: with a sign and a space,
    /// so that one sees whether the template trims the text. `Err` says what is wrong with the message.
    pub(super) fn end_with(&self, turn: &mut Turn) -> Result<(), &'static str> {
        if turn.role != "assistant" || turn.calls.is_some() {
            return Err(if turn.calls.is_some() { "one with tool calls" } else { "one of another role" });
        }
        let text = match &mut turn.content {
            Content::Text(text) => Some(text),
            Content::Parts(parts) => {
                parts.iter_mut().rev().find_map(|part| if let Part::Text(text) = part { Some(text) } else { None })
            }
        };
        text.map(|text| text.extend([self.end, ' '])).ok_or("one without text")
    }

    /// Cuts a prompt at the end of the marked message.
    pub(super) fn cut(&self, text: &mut String) -> Result<()> {
        let Some(at) = text.rfind(self.end) else {
            return Err(failed("it leaves out the last message, which the model should continue"));
        };
        let trimmed = !text[at + self.end.len_utf8()..].starts_with(' ');
        text.truncate(at);
        if trimmed {
            text.truncate(text.trim_end().len());
        }
        Ok(())
    }

    /// The text without marks.
    pub(super) fn remove(&self, text: &str) -> String {
        text.replace(self.mark, "")
    }
}

/// All strings in a JSON value, including keys.
pub(super) fn strings<'a>(json: &'a Json, out: &mut Vec<&'a str>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid(
            "tools or tool calls",
            format!("JSON nested at most {MAX_DEPTH} levels deep"),
            "deeper JSON",
        ));
    }
    match json {
        Json::String(text) => out.push(text),
        Json::Array(list) => list.iter().try_for_each(|item| strings(item, out, depth + 1))?,
        Json::Object(map) => map.iter().try_for_each(|(key, item)| {
            out.push(key);
            strings(item, out, depth + 1)
        })?,
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
    Ok(())
}

/// A JSON value for the template, its strings protected. Its depth has been checked by [`strings`].
pub(super) fn guarded_json(json: &Json, guard: &Guard) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (_, Some(value)) => Value::from(value),
            _ => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => guard.protect(text).into(),
        Json::Array(list) => list.iter().map(|item| guarded_json(item, guard)).collect(),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(k, v)| (guard.key(k), guarded_json(v, guard)))),
    }
}
