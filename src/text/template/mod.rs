//! The checkpoint's chat template: messages → [`RenderedPrompt`].

use super::RenderedPrompt;
use super::hermes::{self, Turn};
use crate::error::{Error, Result};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, ErrorKind, Value, syntax::SyntaxConfig};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;

/// A chat template in transformers' dialect of Jinja (`utils/chat_template_utils.py`): trimmed blocks, loop controls,
/// methods of Python's str, dict and list, `tojson` as `json.dumps`, `raise_exception`, `strftime_now`.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    default: String,
    /// The template named `tool_use`, if there is one: transformers takes it when tools are given.
    tool_use: Option<String>,
    /// `bos_token` and the like, which transformers passes to every template.
    variables: Vec<(String, String)>,
    now: Option<u64>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What was said.
    pub content: Content,
    /// What an assistant thought before it said that: `reasoning_content` in templates that know it.
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

/// What else goes into a prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderOptions {
    /// Ends the prompt with the opening of an assistant turn.
    pub add_generation_prompt: bool,
    /// Numbers the pictures and videos in words (`Picture 1: `).
    pub add_vision_id: bool,
    /// The text of every added token: [`Tokenizer::control_tokens`](super::Tokenizer::control_tokens). Those of a single
    /// character are ignored.
    pub control_tokens: Vec<String>,
    /// Tools as a list of JSON schemas. A template that knows none gets them, and all calls of the conversation and what they gave,
    /// in the form of Qwen2.5's template.
    pub tools: Option<Json>,
    /// The prompt ends with the text of the last message, which the model goes on writing: transformers'
    /// `continue_final_message`. Excludes `add_generation_prompt`.
    pub continue_final_message: bool,
}

/// Longest template: the longest in use have 20 KB.
const MAX_SOURCE: usize = 256 << 10;
/// Longest rendered prompt in bytes, beyond four times what the messages hold.
const MAX_OUTPUT: usize = 1 << 20;
/// Steps that a template may take, beyond one for each byte of the messages. A step also pays for 64 bytes of memory.
const FUEL: u64 = 1_000_000;
/// Deepest nesting of tools and of what a template serialises.
const MAX_DEPTH: usize = 64;

fn failed(message: impl Into<String>) -> Error {
    Error::Template { message: message.into() }
}

impl ChatTemplate {
    /// Compiles a template. [`Error::Template`] if it is no Jinja that is understood here, or longer than 256 KiB.
    pub fn new(source: &str) -> Result<Self> {
        let template = Self { default: source.into(), tool_use: None, variables: Vec::new(), now: None };
        template.compiled()
    }

    /// Finds the template of a checkpoint in the contents of three of its files.
    ///
    /// The order is that of transformers' `ProcessorMixin`: `chat_template.json` (older checkpoints), then
    /// `chat_template.jinja` (newer ones), then `chat_template` in `tokenizer_config.json`. Each may hold one template
    /// or several with names; `default` is taken, or `tool_use` when tools are given. From `tokenizer_config.json`
    /// templates also get `bos_token`, `eos_token`, `pad_token` and `unk_token`.
    ///
    /// [`Error::Missing`] if none of the files has one; [`Error::Malformed`] for files of other shapes; as
    /// [`new`](Self::new) for the template itself.
    pub fn find(
        tokenizer_config_json: Option<&[u8]>,
        chat_template_json: Option<&[u8]>,
        chat_template_jinja: Option<&[u8]>,
    ) -> Result<Self> {
        const CONFIG: &str = "tokenizer_config.json";
        let object = |name: &str, bytes: Option<&[u8]>| match bytes.map(serde_json::from_slice::<Json>) {
            None => Ok(Json::Null),
            Some(Ok(json)) if json.is_object() => Ok(json),
            Some(Ok(_)) => Err(Error::malformed(name, "a JSON object", "other JSON")),
            Some(Err(e)) => Err(Error::malformed(name, "JSON", e.to_string())),
        };
        let config = object(CONFIG, tokenizer_config_json)?;
        let legacy = object("chat_template.json", chat_template_json)?;
        let mut found = if legacy["chat_template"] != Json::Null {
            Self::named(&legacy["chat_template"], "chat_template.json")?
        } else if let Some(bytes) = chat_template_jinja {
            let source = std::str::from_utf8(bytes)
                .map_err(|e| Error::malformed("chat_template.jinja", "UTF-8", e.to_string()))?;
            Self { default: source.into(), tool_use: None, variables: Vec::new(), now: None }
        } else if config["chat_template"] != Json::Null {
            Self::named(&config["chat_template"], CONFIG)?
        } else {
            let place = format!("chat_template.json, chat_template.jinja and {CONFIG}");
            return Err(Error::missing("the chat template", place));
        };
        for key in ["bos_token", "eos_token", "pad_token", "unk_token"] {
            let token = config[key].as_str().or_else(|| config[key]["content"].as_str());
            found.variables.extend(token.map(|token| (key.to_owned(), token.to_owned())));
        }
        found.compiled()
    }

    /// Whether the template knows reasoning apart from what is said.
    pub fn reasons(&self) -> bool {
        self.default.contains("reasoning_content")
    }

    /// Whether the template writes tools, and what became of them, in a form of its own.
    pub fn calls(&self) -> bool {
        self.tool_use.is_some() || ["tools", "tool_calls"].iter().any(|name| self.default.contains(name))
    }

    /// The template itself, and the one for tools if that is another.
    pub fn sources(&self) -> (&str, Option<&str>) {
        (&self.default, self.tool_use.as_deref())
    }

    /// One template, a list of `{name, template}`, or an object of templates by name.
    fn named(json: &Json, file: &str) -> Result<Self> {
        let pairs: Vec<(Option<&str>, Option<&str>)> = match json {
            Json::String(source) => vec![(Some("default"), Some(source))],
            Json::Array(list) => {
                list.iter().map(|entry| (entry["name"].as_str(), entry["template"].as_str())).collect()
            }
            Json::Object(map) => map.iter().map(|(name, source)| (Some(name.as_str()), source.as_str())).collect(),
            _ => Vec::new(),
        };
        let named = |name| pairs.iter().find(|pair| pair.0 == Some(name)).and_then(|pair| pair.1).map(str::to_owned);
        let Some(default) = named("default") else {
            let names: Vec<&str> = pairs.iter().filter_map(|pair| pair.0).collect();
            return Err(Error::malformed(
                format!("chat_template in {file}"),
                "a template named default",
                format!("{names:?}"),
            ));
        };
        Ok(Self { default, tool_use: named("tool_use"), variables: Vec::new(), now: None })
    }

    /// Sets the clock of `strftime_now`: seconds since 1970 in the user's time zone. Without it a template that asks
    /// for the date fails, since this room has no clock.
    pub fn set_now(&mut self, seconds: u64) {
        self.now = Some(seconds);
    }

    /// Refuses templates that do not compile.
    fn compiled(self) -> Result<Self> {
        for source in [Some(&self.default), self.tool_use.as_ref()].into_iter().flatten() {
            if source.len() > MAX_SOURCE {
                return Err(failed(format!("expected at most {MAX_SOURCE} bytes, found {}", source.len())));
            }
            let environment = self.environment(&Guard::default(), 0)?;
            environment.template_from_named_str(NAME, source).map_err(|e| failed(e.to_string()))?;
        }
        Ok(self)
    }

    fn environment(&self, guard: &Guard, input: usize) -> Result<Environment<'static>> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| failed(e.to_string()))?);
        environment.set_fuel(Some(FUEL + input as u64));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        let now = self.now;
        environment.add_function("strftime_now", move |format: String| -> Result<String, minijinja::Error> {
            strftime(now, &format).map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e))
        });
        let guard = guard.clone();
        environment.add_filter("tojson", move |value: &Value, options: Kwargs| -> Result<String, minijinja::Error> {
            let mut dump = Dump::new(&guard, &options, MAX_OUTPUT + 4 * input)?;
            dump.value(value, 0)?;
            Ok(dump.out)
        });
        Ok(environment)
    }

    /// Renders a conversation: transformers' `apply_chat_template`.
    ///
    /// No text of a message or of the tools can become a [`Span::Control`](super::Span::Control), neither by itself nor
    /// together with its neighbours. As a price, a template that looks for a control token *in a message* (some
    /// thinking models split earlier answers at `</think>`) does not find it.
    ///
    /// [`Error::Invalid`]: a role other than system, user, assistant and tool, or tools nested more than 64 deep.
    /// [`Error::Template`]: the template refuses the conversation (its `raise_exception`), does something impossible,
    /// or exceeds the limits of time and size.
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

        let part = |part: &Part| match part {
            Part::Text(text) => Part::Text(guard.protect(text)),
            media => media.clone(),
        };
        let turn = |message: &Cow<Message>| Turn {
            role: message.role.clone(),
            content: match &message.content {
                Content::Text(text) => Content::Text(guard.protect(text)),
                Content::Parts(parts) => Content::Parts(parts.iter().map(part).collect()),
            },
            reasoning: message.reasoning.as_ref().map(|text| guard.protect(text)),
            calls: message.tool_calls.as_ref().map(|calls| guarded_json(calls, &guard)),
        };
        let mut turns: Vec<Turn> = messages.iter().map(turn).collect();
        if o.continue_final_message {
            turns.last_mut().map_or(Err("none"), |last| guard.end_with(last)).map_err(|found| {
                Error::invalid("the message to go on with", "text that an assistant said last, without calls", found)
            })?;
        }
        let tools = o.tools.as_ref().map(|tools| guarded_json(tools, &guard));
        let environment = self.environment(&guard, input)?;
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

    /// The system message that the template writes before a conversation that begins without one. Empty for a template that writes
    /// none, is not in Qwen's form, or refuses a bare question.
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

/// A message as templates see it.
fn value(turn: Turn) -> Value {
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

fn written(environment: &Environment, source: &str, context: Value, limit: usize) -> Result<String> {
    let template = environment.template_from_named_str(NAME, source).map_err(|e| failed(e.to_string()))?;
    let mut out = Bounded { bytes: Vec::new(), limit };
    template.render_captured_to(context, &mut out).map_err(|e| failed(e.to_string()))?;
    String::from_utf8(out.bytes).map_err(|e| failed(e.to_string()))
}

/// A message of an assistant that thinks, told apart as Qwen3's templates do it: they look for the tags in what was said, where
/// the guard hides them.
fn reasoned(message: &Message) -> Cow<'_, Message> {
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

/// A prompt that is being written, and its greatest length: a small value may take up gigabytes when it is written out.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            return Err(std::io::Error::other(format!("expected at most {} bytes, found more", self.limit)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const NAME: &str = "chat_template";

fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::from_pairs(pairs)
}

/// Keeps what somebody wrote from becoming a control token.
///
/// A *mark*, a character that occurs in none of the texts, goes into them wherever they could contribute to a control
/// token's text: after every character that begins one, and before a text that could complete one which the template's
/// own text began. In the rendered string a control token is then one that the template wrote; the marks are taken out
/// of the text between. A text may be cut, trimmed or joined by the template: a token's first character from a text
/// is still followed by the mark.
#[derive(Debug, Clone, Default)]
struct Guard {
    mark: char,
    /// Another such character, which ends the message that is gone on with.
    end: char,
    tokens: Vec<String>,
    /// The first characters of the tokens.
    firsts: Vec<char>,
    /// Characters in the longest token.
    longest: usize,
}

impl Guard {
    /// [`Error::Invalid`] if the texts use up all 131,000 characters that can be the mark.
    fn new(tokens: &[String], texts: &[&str]) -> Result<Self> {
        let used: HashSet<char> = texts.iter().flat_map(|text| text.chars()).filter(|&c| c >= '\u{FDD0}').collect();
        // Noncharacters first: Unicode reserves these for uses such as this one. Then the private planes.
        let mut unused = ('\u{FDD0}'..='\u{FDEF}').chain('\u{F0000}'..='\u{10FFFD}').filter(|c| !used.contains(c));
        let (Some(mark), Some(end)) = (unused.next(), unused.next()) else {
            let expected = "two unused characters of U+FDD0..U+FDEF or U+F0000..U+10FFFD";
            return Err(Error::invalid("messages", expected, "fewer"));
        };
        let tokens: Vec<String> = tokens.iter().filter(|token| token.chars().nth(1).is_some()).cloned().collect();
        let mut firsts: Vec<char> = tokens.iter().filter_map(|token| token.chars().next()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        let longest = tokens.iter().map(|token| token.chars().count()).max().unwrap_or(0);
        Ok(Self { mark, end, tokens, firsts, longest })
    }

    /// `text` with marks.
    fn protect(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 16);
        let body = text.trim_start();
        out.push_str(&text[..text.len() - body.len()]);
        if self.completes(body.trim_end()) {
            out.push(self.mark);
        }
        for c in body.chars() {
            out.push(c);
            // Also where a template's lower() or upper() would make it one.
            if self.firsts.iter().any(|&first| first == c || first.to_lowercase().eq(c.to_lowercase())) {
                out.push(self.mark);
            }
        }
        out
    }

    /// The key of an object. A template finds `name` under that name only, though `<|repo_name|>` has it in it; a plain word that no
    /// token begins in can at most complete one that the template itself has begun.
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

    /// Marks the end of a message, as transformers' `render_jinja_template` does it: with a sign and a space, which shows whether the
    /// template trims what is said. `Err`: what the message is instead of one that can be gone on with.
    fn end_with(&self, turn: &mut Turn) -> Result<(), &'static str> {
        if turn.role != "assistant" || turn.calls.is_some() {
            return Err(if turn.calls.is_some() { "calls" } else { "a message of another role" });
        }
        let text = match &mut turn.content {
            Content::Text(text) => Some(text),
            Content::Parts(parts) => {
                parts.iter_mut().rev().find_map(|part| if let Part::Text(text) = part { Some(text) } else { None })
            }
        };
        text.map(|text| text.extend([self.end, ' '])).ok_or("a message without text")
    }

    /// Cuts a prompt at the end of the marked message.
    fn cut(&self, text: &mut String) -> Result<()> {
        let Some(at) = text.rfind(self.end) else {
            return Err(failed("the last message, which is to be gone on with, is not in the prompt"));
        };
        let trimmed = !text[at + self.end.len_utf8()..].starts_with(' ');
        text.truncate(at);
        if trimmed {
            text.truncate(text.trim_end().len());
        }
        Ok(())
    }

    fn remove(&self, text: &str) -> String {
        text.replace(self.mark, "")
    }
}

/// All strings in a JSON value, keys too.
fn strings<'a>(json: &'a Json, out: &mut Vec<&'a str>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid("tools", format!("at most {MAX_DEPTH} levels"), "more"));
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
fn guarded_json(json: &Json, guard: &Guard) -> Value {
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

/// Python's `json.dumps`, as transformers sets it up for templates.
struct Dump<'a> {
    guard: &'a Guard,
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    separator: String,
    colon: String,
    out: String,
    /// Longest text: a list may hold the same list twice, and that one again.
    limit: usize,
}

impl<'a> Dump<'a> {
    /// With the keyword arguments of the filter.
    fn new(guard: &'a Guard, options: &Kwargs, limit: usize) -> Result<Self, minijinja::Error> {
        let refuse =
            |what: &str| minijinja::Error::new(ErrorKind::InvalidOperation, format!("tojson: expected {what}"));
        let indent = match options.get::<Option<Value>>("indent")?.filter(|value| !value.is_none()) {
            None => None,
            Some(value) => match (value.as_str(), value.as_i64()) {
                (Some(text), _) if text.len() <= MAX_DEPTH => Some(text.to_owned()),
                (_, Some(spaces)) => Some(" ".repeat(spaces.clamp(0, 16) as usize)),
                _ => return Err(refuse("a number or a short string as indent")),
            },
        };
        let (separator, colon) = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
            None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
            Some([separator, colon]) => (separator.clone(), colon.clone()),
            Some(_) => return Err(refuse("two separators")),
        };
        let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
        let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
        options.assert_all_used()?;
        Ok(Self { guard, ensure_ascii, sort_keys, indent, separator, colon, out: String::new(), limit })
    }

    /// Without any.
    fn plain(guard: &'a Guard, limit: usize) -> Self {
        let (separator, colon) = (", ".to_owned(), ": ".to_owned());
        Self { guard, ensure_ascii: false, sort_keys: false, indent: None, separator, colon, out: String::new(), limit }
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), minijinja::Error> {
        let refuse = |what: String| Err(minijinja::Error::new(ErrorKind::BadSerialization, what));
        if depth > MAX_DEPTH {
            return refuse(format!("tojson: expected at most {MAX_DEPTH} levels"));
        }
        // Each item takes a byte, so that neither text nor items go far beyond the limit.
        let long = match value.kind() {
            ValueKind::String => value.as_str().map_or(0, str::len),
            _ => value.len().unwrap_or(0),
        };
        if long > self.limit.saturating_sub(self.out.len()) {
            return refuse(format!("tojson: expected at most {} bytes, found more", self.limit));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.take(self.limit + 1).collect();
                self.list('[', ']', items.len(), depth, |dump, i| dump.value(&items[i], depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.list('{', '}', keys.len(), depth, |dump, i| {
                    match keys[i].kind() {
                        ValueKind::String => dump.string(keys[i].as_str().unwrap_or_default()),
                        ValueKind::None => dump.out.push_str("\"null\""),
                        ValueKind::Bool => dump.out.push_str(if keys[i].is_true() { "\"true\"" } else { "\"false\"" }),
                        ValueKind::Number => dump.string(&number(&keys[i])),
                        other => return refuse(format!("tojson: expected simple keys, found {other}")),
                    }
                    dump.out += &dump.colon;
                    dump.value(&value.get_item(&keys[i])?, depth + 1)
                })?;
            }
            other => return refuse(format!("tojson: expected plain values, found {other}")),
        }
        Ok(())
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        count: usize,
        depth: usize,
        mut item: impl FnMut(&mut Self, usize) -> Result<(), minijinja::Error>,
    ) -> Result<(), minijinja::Error> {
        self.out.push(open);
        for i in 0..count {
            if i > 0 {
                self.out += &self.separator;
            }
            self.new_line(depth + 1);
            item(self, i)?;
        }
        if count > 0 {
            self.new_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn string(&mut self, text: &str) {
        let mut quoted = String::with_capacity(text.len() + 2);
        for c in text.chars() {
            match c {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                '\u{8}' => quoted.push_str("\\b"),
                '\u{c}' => quoted.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !c.is_ascii() && c != self.guard.mark) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(quoted, "\\u{unit:04x}"); // writing to a String cannot fail
                    }
                }
                c => quoted.push(c),
            }
        }
        // Escapes are new text: were there a control token of backslashes and letters, they could spell it.
        let quoted = self.guard.protect(&self.guard.remove(&quoted));
        self.out.push('"');
        self.out.push_str(&quoted);
        self.out.push('"');
    }
}

/// An integer in digits, or a float as Python's `repr` has it: the shortest digits that read back the same, with an
/// exponent below 1e-4 and from 1e16 on.
fn number(value: &Value) -> String {
    let float = match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float,
        _ => return value.to_string(),
    };
    if float.is_nan() {
        return "NaN".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let scientific = format!("{float:e}");
    match scientific.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{float:?}"), // like Python's: digits, a point, at least one decimal
    }
}

/// Python's `datetime.strftime` for the C locale, without the directives of weeks and zones.
fn strftime(now: Option<u64>, format: &str) -> Result<String, String> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let seconds = now.ok_or("strftime_now: expected a template without a date, or set_now before")?;
    let (days, time) = (seconds / 86400, seconds % 86400);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    // Days → year, month, day in years that begin in March, so that a leap day is a year's last.
    let era_day = days + 719_468;
    let (era, day_of_era) = (era_day / 146_097, era_day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[days as usize % 7]);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month as usize - 1];
    let ordinal = before + day + u64::from(leap && month > 2);

    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out += &match chars.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('j') => format!("{ordinal:03}"),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('B') => month_name.into(),
            Some('b') => month_name[..3].into(),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => "%".into(),
            other => return Err(format!("strftime_now: expected a known directive, found %{}", other.unwrap_or(' '))),
        };
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Span;
    use serde_json::json;

    fn user(text: &str) -> Vec<Message> {
        vec![Message { role: "user".into(), content: Content::Text(text.into()), ..Message::default() }]
    }

    fn tokens() -> Vec<String> {
        ["<|im_start|>", "<|im_end|>", "<|user|>", "</think>"].map(String::from).to_vec()
    }

    fn spans(source: &str, text: &str) -> Vec<Span> {
        let o = RenderOptions { control_tokens: tokens(), ..Default::default() };
        ChatTemplate::new(source).unwrap().render(&user(text), &o).unwrap().spans
    }

    fn rendered(source: &str, tools: Option<Json>) -> Result<String> {
        let o = RenderOptions { control_tokens: tokens(), tools, ..Default::default() };
        Ok(ChatTemplate::new(source)?.render(&user("Hi <b>"), &o)?.to_string_lossy())
    }

    /// Expected values: jinja2 3.1.6 in the environment of transformers 5.23 (`_compile_jinja_template`).
    #[test]
    fn the_dialect_is_transformers() {
        for (source, expected) in [
            ("{{ none }}|{{ true }}|{{ 1.0 }}|{{ [1, 'a', none] }}|{{ nothing }}", "None|True|1.0|[1, 'a', None]|"),
            ("a\n{% if true %}\nb\n{% endif %}\n", "a\nb\n"),
            ("  {% if true %}x{% endif %}\ny\n", "xy"),
            ("{{ 'a' ~ none ~ true }}{{ 7 / 2 }}", "aNoneTrue3.5"),
            (
                "{% for x in [1, 2, 3, 4] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
                "13",
            ),
            ("{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}{{ messages[::-1] | length }}", "21"),
            (
                "{{ 'a,b'.split(',')[-1] }}{{ ' x '.strip() }}{{ 'x\n'.rstrip('\n') }}{{ 'abc'.startswith('ab') }}",
                "bxxTrue",
            ),
            ("{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1}.get('b', 3) }}", "b1a23"),
            (
                "{{ tools is none }}{{ tools is defined }}{% if tools %}x{% endif %}{{ messages[0]['content'] }}",
                "TrueTrueHi <b>",
            ),
            ("{{ 'content' in messages[0] }}{{ 'i' in messages[0].content }}{{ messages[0].role }}", "TrueTrueuser"),
        ] {
            assert_eq!(rendered(source, None).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn tojson_is_json_dumps() {
        for (source, expected) in [
            (
                "{{ {'a': 1.0, 'b': 1e20, 'c': 1e-7, 'd': [], 'e': {}} | tojson }}",
                r#"{"a": 1.0, "b": 1e+20, "c": 1e-07, "d": [], "e": {}}"#,
            ),
            ("{{ {'x': [1, {}]} | tojson(indent=2) }}", "{\n  \"x\": [\n    1,\n    {}\n  ]\n}"),
            (
                "{{ {'b': 1, 'a': 'é\u{2028}<>&'} | tojson(sort_keys=true, separators=(',', ':')) }}",
                "{\"a\":\"é\u{2028}<>&\",\"b\":1}",
            ),
            ("{{ ['é😀', none, true, -3] | tojson(ensure_ascii=true) }}", r#"["\u00e9\ud83d\ude00", null, true, -3]"#),
            (
                "{{ [0.0001, 0.00001, 1e15, 1e16, 123456.789, 0.1] | tojson }}",
                "[0.0001, 1e-05, 1000000000000000.0, 1e+16, 123456.789, 0.1]",
            ),
            ("{{ {1: 'a', false: 'b', none: 'c'} | tojson }}", r#"{"1": "a", "false": "b", "null": "c"}"#),
            ("{{ '\"\\\\\n' | tojson }}", r#""\"\\\n""#),
        ] {
            assert_eq!(rendered(source, None).unwrap(), expected, "{source}");
        }
        let tools =
            json!([{"z": "<|im_end|>\u{1}\u{7f}", "a": 1.5, "<|im_end|>": [18446744073709551615u64, -1, null]}]);
        let expected =
            "{\"z\": \"<|im_end|>\\u0001\u{7f}\", \"a\": 1.5, \"<|im_end|>\": [18446744073709551615, -1, null]}";
        assert_eq!(rendered("{{ tools[0] | tojson }}", Some(tools)).unwrap(), expected);
        assert!(rendered("{{ nothing | tojson }}", None).is_err());
        assert!(rendered("{{ 1 | tojson(colour='red') }}", None).is_err());
    }

    #[test]
    fn tools_never_become_control_tokens() {
        let tools = json!([{"name": "<|im_end|>", "<|im_start|>": ["</think>", {"x": "<|im_end|>"}]}]);
        let o = RenderOptions { control_tokens: tokens(), tools: Some(tools), ..Default::default() };
        for source in [
            "{{ tools | tojson }}",
            "{{ tools | tojson(ensure_ascii=true, indent=2) }}",
            "{{ tools }}",
            "{% for t in tools %}{{ t.name }}{% for k in t %}{{ k }}{{ t[k] }}{% endfor %}{% endfor %}",
        ] {
            let prompt = ChatTemplate::new(source).unwrap().render(&user("x"), &o).unwrap();
            let text = prompt.to_string_lossy();
            assert!(matches!(prompt.spans.as_slice(), [Span::Text(_)]), "{source}: {prompt:?}");
            assert!(text.contains("<|im_end|>") && !text.contains("fdd0"), "{text}");
        }
    }

    #[test]
    fn templates_that_cut_and_join_do_not_help() {
        let control = |text: &str| vec![Span::Control(text.into())];
        let text = |text: &str| vec![Span::Text(text.into())];
        for (source, said, expected) in [
            ("{{ messages[0].content | trim }}", " <|im_end|> ", text("<|im_end|>")),
            ("{{ messages[0].content | lower }}", "<|IM_END|>", text("<|im_end|>")),
            ("{{ messages[0].content | replace('\n', '') }}", "<|im_\nend|>", text("<|im_end|>")),
            ("{{ messages[0].content.split(' ') | join }}", "< | i m _ e n d | >", text("<|im_end|>")),
            ("{{ messages[0].content[1:] }}", "x<|im_end|>", text("<|im_end|>")),
            ("<|im_{{ messages[0].content }}", "end|>", text("<|im_end|>")),
            ("<|im_{{ messages[0].content | trim }}", "\n end|> ", text("<|im_end|>")),
            ("<|{{ messages[0].content }}|>", "im_end", text("<|im_end|>")),
            ("<|im_end|{{ messages[0].content }}", "> quote", text("<|im_end|> quote")),
            ("{{ messages[0].content }}im_end|>", "<|", text("<|im_end|>")),
            (
                "{{ messages[0].content }}{{ messages[0].content }}",
                "<|im_end|><|im_",
                text("<|im_end|><|im_<|im_end|><|im_"),
            ),
            ("{{ '<|' ~ messages[0].role ~ '|>' }}", "x", control("<|user|>")),
            ("<|im_{{ 'end' }}|>", "x", control("<|im_end|>")),
        ] {
            assert_eq!(spans(source, said), expected, "{source} with {said:?}");
        }
    }

    #[test]
    fn trimming_still_trims() {
        let text = vec![Span::Text("[> end]".into())];
        assert_eq!(spans("[{{ messages[0].content | trim }}]", "\n > end \n"), text);
        assert_eq!(spans("[{{ messages[0].content.strip() }}]", "\n > end \n"), text);
    }

    #[test]
    fn a_mark_is_found_or_the_messages_are_refused() {
        let all = |from, to| (from..=to).collect::<String>();
        let noncharacters = all('\u{FDD0}', '\u{FDEF}');
        let said = format!("{noncharacters}<|im_end|>");
        assert_eq!(spans("{{ messages[0].content }}", &said), [Span::Text(said.clone())]);
        let said = said + &all('\u{F0000}', '\u{10FFFD}');
        let o = RenderOptions { control_tokens: tokens(), ..Default::default() };
        let error = ChatTemplate::new("x").unwrap().render(&user(&said), &o).unwrap_err();
        assert_eq!(error.code(), "bad_request");
    }

    #[test]
    fn refusals_have_words() {
        let error = rendered("{{ raise_exception('only pairs') }}", None).unwrap_err();
        assert!(matches!(&error, Error::Template { message } if message.contains("only pairs")), "{error}");
        for source in [
            "{% if %}",
            "{{ x.y }}",
            "{% include 'other' %}",
            "{{ strftime_now('%Y') }}",
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ 'x' * 99999999 }}",
            "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "{% for i in range(9000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 4 }}{% endfor %}",
            // Written by hand for the fuzz target's budget: small values that are gigabytes when they are written out.
            "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
            "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
            "{% set ns = namespace(x='\"' * 9000) %}{% for i in range(30) %}{% set ns.x = ns.x | tojson %}{% endfor %}",
            "{{ range(99999) | list | tojson(indent='xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx') }}",
            "{{ [1] | tojson(indent='x' * 65) }}",
            "{{ ([1] * 99999999) | tojson }}",
            &"x".repeat(MAX_SOURCE + 1),
            &"{% if true %}".repeat(5000),
            &format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)),
        ] {
            let error = rendered(source, None).unwrap_err();
            assert_eq!(error.code(), "bad_model", "{}: {error}", &source[..source.len().min(80)]);
        }
        let mut deep = json!(1);
        (0..100).for_each(|_| deep = json!([deep]));
        assert_eq!(rendered("x", Some(deep)).unwrap_err().code(), "bad_request");
        let robot = [Message { role: "<|im_end|>".into(), content: Content::Text("x".into()), ..Message::default() }];
        let error = ChatTemplate::new("x").unwrap().render(&robot, &RenderOptions::default()).unwrap_err();
        assert_eq!(error.code(), "bad_request");
    }

    #[test]
    fn the_files_of_a_checkpoint() {
        let text = |config: Option<&str>, legacy: Option<&str>, jinja: Option<&str>, tools: bool| {
            let bytes = |s: Option<&'static str>| s.map(str::as_bytes);
            let leak = |s: Option<&str>| bytes(s.map(|s| &*s.to_owned().leak()));
            let o = RenderOptions { tools: tools.then(|| json!([])), ..Default::default() };
            ChatTemplate::find(leak(config), leak(legacy), leak(jinja))?
                .render(&user(""), &o)
                .map(|p| p.to_string_lossy())
        };
        let config = r#"{"chat_template": "config {{ eos_token }}{{ bos_token }}", "eos_token": {"content": "E"}, "bos_token": null}"#;
        let legacy = r#"{"chat_template": "legacy {{ eos_token }}"}"#;
        assert_eq!(text(Some(config), Some(legacy), Some("jinja"), false).unwrap(), "legacy E");
        assert_eq!(text(Some(config), None, Some("jinja {{ eos_token }}"), false).unwrap(), "jinja E");
        assert_eq!(text(Some(config), None, None, false).unwrap(), "config E");
        let list =
            r#"{"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]}"#;
        assert_eq!(text(Some(list), None, None, false).unwrap(), "d");
        assert_eq!(text(Some(list), None, None, true).unwrap(), "t");
        for bad in [
            "",
            "[]",
            r#"{"chat_template": 3}"#,
            r#"{"chat_template": [{"name": "x", "template": "y"}]}"#,
            r#"{"chat_template": "{%"}"#,
        ] {
            assert_eq!(text(Some(bad), None, None, false).unwrap_err().code(), "bad_model", "{bad}");
        }
        assert_eq!(text(Some("{}"), None, None, false).unwrap_err().code(), "not_found");
        assert_eq!(ChatTemplate::find(None, None, Some(b"\xff")).unwrap_err().code(), "bad_model");
    }

    /// Expected values: Python's `datetime.strftime`.
    #[test]
    fn dates() {
        let format = "%Y-%m-%d %H:%M:%S %I %p %j %A %a %B %b %y %% %F %T";
        for (seconds, expected) in DATES {
            let mut template = ChatTemplate::new("{{ strftime_now(messages[0].content) }}").unwrap();
            template.set_now(seconds);
            let prompt = template.render(&user(format), &RenderOptions::default()).unwrap();
            assert_eq!(prompt.to_string_lossy(), expected);
        }
        assert!(strftime(Some(0), "%Q").is_err() && strftime(Some(0), "%").is_err());
        assert!(strftime(Some(u64::MAX), "%F").is_ok());
    }
    const DATES: [(u64, &str); 4] = [
        (0, "1970-01-01 00:00:00 12 AM 001 Thursday Thu January Jan 70 % 1970-01-01 00:00:00"),
        (951786123, "2000-02-29 01:02:03 01 AM 060 Tuesday Tue February Feb 00 % 2000-02-29 01:02:03"),
        (1732319999, "2024-11-22 23:59:59 11 PM 327 Friday Fri November Nov 24 % 2024-11-22 23:59:59"),
        (4107542399, "2100-02-28 23:59:59 11 PM 059 Sunday Sun February Feb 00 % 2100-02-28 23:59:59"),
    ];
}
