//! Tools: what a caller offers, what a model asks to be called, and how calls are told from the text of an answer.
//!
//! A call is written as Qwen's models write it, `<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>`: several of them, with or
//! without text before.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Message;
use crate::error::{Error, Result};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Something that the model may ask to be called: `{"type": "function", "function": {"name", "description", "parameters"}}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    json: Value,
}

impl Tool {
    /// Reads OpenAI's form. All of it is shown to the model, in its order.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field under `at`.
    pub fn new(json: Value, at: &str) -> Result<Self> {
        let function = &json["function"];
        if json["type"] != "function" || !function.is_object() {
            let expected = "{\"type\": \"function\", \"function\": {\"name\": …, \"parameters\": …}}";
            return Err(Error::invalid(at, expected, shortened(&json)));
        }
        if function["name"].as_str().is_none_or(str::is_empty) {
            return Err(Error::invalid(format!("{at}.function.name"), "a name", shortened(&function["name"])));
        }
        if !function["parameters"].is_object() && !function["parameters"].is_null() {
            let found = shortened(&function["parameters"]);
            return Err(Error::invalid(format!("{at}.function.parameters"), "a JSON schema", found));
        }
        Ok(Tool { json })
    }

    /// Reads a list of them, of which no two have the same name. `null` is none.
    ///
    /// # Errors
    /// As [`Tool::new`].
    pub fn list(json: &Value) -> Result<Vec<Self>> {
        let list = match json {
            Value::Null => return Ok(Vec::new()),
            Value::Array(list) => list,
            other => return Err(Error::invalid("tools", "a list", shortened(other))),
        };
        let read = |(i, tool): (usize, &Value)| Tool::new(tool.clone(), &format!("tools[{i}]"));
        let tools = list.iter().enumerate().map(read).collect::<Result<Vec<_>>>()?;
        let mut names = HashSet::new();
        match tools.iter().find(|tool| !names.insert(tool.name())) {
            Some(twice) => Err(Error::invalid("tools", "one of each name", format!("{:?} twice", twice.name()))),
            None => Ok(tools),
        }
    }

    /// What a call names.
    pub fn name(&self) -> &str {
        self.json["function"]["name"].as_str().unwrap_or_default()
    }

    /// The schema of its arguments.
    pub fn parameters(&self) -> Option<&Value> {
        Some(&self.json["function"]["parameters"]).filter(|schema| schema.is_object())
    }

    /// Whether the caller wants no arguments but what the schema allows.
    pub fn strict(&self) -> bool {
        self.json["function"]["strict"] == true
    }

    /// As it was given.
    pub fn json(&self) -> &Value {
        &self.json
    }
}

/// Whether the model calls a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// Never: it is told of none, and nothing in its answer is a call.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

impl ToolChoice {
    /// Reads `"auto"`, `"none"`, `"required"` or `{"type": "function", "function": {"name": …}}`; `null` is `auto`.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn from_json(json: &Value) -> Result<Self> {
        let name = || json["function"]["name"].as_str().filter(|_| json["type"] == "function");
        match json.as_str() {
            None if json.is_null() => Ok(ToolChoice::Auto),
            Some("auto") => Ok(ToolChoice::Auto),
            Some("none") => Ok(ToolChoice::None),
            Some("required") => Ok(ToolChoice::Required),
            _ => name().map(|name| ToolChoice::Named(name.to_owned())).ok_or_else(|| {
                let expected = "auto, none, required or {\"type\": \"function\", \"function\": {\"name\": …}}";
                Error::invalid("toolChoice", expected, shortened(json))
            }),
        }
    }

    /// The tools that the model is told of.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has to call one that is not there.
    pub fn offered<'a>(&self, tools: &'a [Tool]) -> Result<&'a [Tool]> {
        let missing = |expected: &str| {
            let names: Vec<&str> = tools.iter().map(Tool::name).collect();
            Err(Error::invalid("toolChoice", expected, format!("tools named {names:?}")))
        };
        match self {
            ToolChoice::None => Ok(&[]),
            ToolChoice::Required if tools.is_empty() => missing("at least one tool"),
            ToolChoice::Named(name) if tools.iter().all(|tool| tool.name() != name) => {
                missing(&format!("a tool named {name:?}"))
            }
            _ => Ok(tools),
        }
    }
}

/// What the model asks to be called.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolCall {
    /// Names it in its conversation: `call_1`, `call_2` and so on.
    pub id: String,
    /// Which tool. It need not be one that was offered: models make up names.
    pub name: String,
    /// With what.
    pub arguments: Map<String, Value>,
}

impl ToolCall {
    /// As OpenAI has it but for the arguments, which templates want as an object.
    pub(super) fn for_template(&self) -> Value {
        json!({"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}})
    }

    /// Reads `{"name", "arguments"}`, in which no arguments are an empty object.
    fn parse(json: &str) -> serde_json::Result<Option<Named>> {
        let mut value: Value = serde_json::from_str(json)?;
        let name = value["name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
        let arguments = arguments(value.get_mut("arguments").map_or(Value::Null, Value::take));
        Ok(name.zip(arguments))
    }
}

/// Name and arguments of a call.
type Named = (String, Map<String, Value>);

/// Arguments as an object; a string is JSON of one, as OpenAI has it.
pub(super) fn arguments(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        Value::Null => Some(Map::new()),
        Value::String(text) if text.trim().is_empty() => Some(Map::new()),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => Some(map),
            _ => None,
        },
        _ => None,
    }
}

/// The first of `call_1`, `call_2`, … from the number of calls on that a conversation does not have yet, and so on.
pub(super) fn ids(messages: &[Message]) -> impl FnMut() -> String + use<> {
    let used: HashSet<String> =
        messages.iter().flat_map(|message| &message.tool_calls).map(|call| call.id.clone()).collect();
    let mut last = messages.iter().map(|message| message.tool_calls.len()).sum::<usize>();
    move || loop {
        last += 1;
        let id = format!("call_{last}");
        if !used.contains(&id) {
            return id;
        }
    }
}

/// The messages with the answers of tools in the order of the calls that they name: templates know an answer's call by its place.
///
/// # Errors
/// [`Error::Invalid`] for an answer to a call that the assistant has not made, or to one that has an answer.
pub(super) fn in_order(messages: &[Message]) -> Result<Cow<'_, [Message]>> {
    let mut ordered = Cow::Borrowed(messages);
    let mut at = 0;
    while at < messages.len() {
        let calls = &messages[at].tool_calls;
        let begin = at + 1;
        let end = begin + messages[begin..].iter().take_while(|message| message.role == "tool").count();
        at = end.max(begin);
        let places = (begin..end).map(|i| match &messages[i].tool_call_id {
            // One without a name keeps its place.
            None => Ok(i - begin),
            Some(id) => calls.iter().position(|call| call.id == *id).ok_or_else(|| {
                let known: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
                Error::invalid(format!("messages[{i}].toolCallId"), format!("one of {known:?}"), format!("{id:?}"))
            }),
        });
        let places = places.collect::<Result<Vec<_>>>()?;
        let mut sorted: Vec<usize> = (begin..end).collect();
        sorted.sort_by_key(|i| places[i - begin]);
        let named = |i: usize| messages[i].tool_call_id.as_ref();
        if let Some(pair) = sorted.windows(2).find(|pair| named(pair[0]).is_some() && named(pair[0]) == named(pair[1]))
        {
            let at = format!("messages[{}].toolCallId", pair[1]);
            return Err(Error::invalid(at, "one answer to each call", "a second one"));
        }
        if !sorted.is_sorted() {
            let turn: Vec<Message> = sorted.iter().map(|i| messages[*i].clone()).collect();
            ordered.to_mut().splice(begin..end, turn);
        }
    }
    Ok(ordered)
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Text.
    Text(String),
    /// A call, of which all is there.
    Call(ToolCall),
}

/// Tells calls from text in an answer that comes in pieces. What comes out does not depend on where they are cut.
///
/// A block that is no call stays text. White space around a call belongs to neither, but a line's end stands for it between two
/// texts. A block that the answer ends in counts if its JSON is complete, since some models stop before the closing tag.
pub struct CallSplitter {
    /// What is not decided: white space and what may be the beginning of a tag, or a block from its opening tag on.
    held: String,
    /// Bytes of a block in which no closing tag is left to be looked at.
    looked: usize,
    in_block: bool,
    /// White space after which nothing has come yet.
    space: String,
    /// A call has come after the last text; text has come at all.
    after_call: bool,
    spoken: bool,
    next_id: Box<dyn FnMut() -> String>,
}

impl CallSplitter {
    /// `next_id` names calls.
    pub fn new(next_id: impl FnMut() -> String + 'static) -> Self {
        CallSplitter {
            held: String::new(),
            looked: 0,
            in_block: false,
            space: String::new(),
            after_call: false,
            spoken: false,
            next_id: Box::new(next_id),
        }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, piece: &str) -> Vec<Piece> {
        let mut out = Vec::new();
        self.held.push_str(piece);
        loop {
            if !self.in_block {
                let (end, opened) = match self.held.find(OPEN) {
                    Some(end) => (end, true),
                    None => (self.held.len() - tail(&self.held, OPEN), false),
                };
                let rest = self.held.split_off(end);
                let text = std::mem::replace(&mut self.held, rest);
                self.say(&text, &mut out);
                if !opened {
                    return out;
                }
                (self.in_block, self.looked) = (true, OPEN.len());
            }
            let Some(found) = self.held[self.looked..].find(CLOSE) else {
                self.looked = self.held.len() - tail(&self.held[self.looked..], CLOSE);
                return out;
            };
            let close = self.looked + found;
            match ToolCall::parse(&self.held[OPEN.len()..close]) {
                Ok(Some(call)) => {
                    self.call(call, &mut out);
                    self.held.drain(..close + CLOSE.len());
                    self.in_block = false;
                }
                // A string may have the tag in it.
                Err(error) if error.is_eof() => self.looked = close + CLOSE.len(),
                Ok(None) | Err(_) => self.give_up(&mut out),
            }
        }
    }

    /// Ends the text.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut out = Vec::new();
        while self.in_block {
            if let Ok(Some(call)) = ToolCall::parse(&self.held[OPEN.len()..]) {
                self.call(call, &mut out);
                self.held.clear();
                self.in_block = false;
            } else {
                self.give_up(&mut out);
                out.extend(self.push(""));
            }
        }
        let held = std::mem::take(&mut self.held);
        self.say(&held, &mut out);
        if !self.after_call && !self.space.is_empty() {
            out.push(Piece::Text(std::mem::take(&mut self.space)));
        }
        out
    }

    /// The opening tag of the block is text, and what comes after it is looked at anew.
    fn give_up(&mut self, out: &mut Vec<Piece>) {
        self.held.drain(..OPEN.len());
        self.in_block = false;
        self.say(OPEN, out);
    }

    fn call(&mut self, (name, arguments): Named, out: &mut Vec<Piece>) {
        self.space.clear();
        self.after_call = true;
        out.push(Piece::Call(ToolCall { id: (self.next_id)(), name, arguments }));
    }

    fn say(&mut self, text: &str, out: &mut Vec<Piece>) {
        let body = text.trim_end();
        if !body.is_empty() {
            let said = if self.after_call {
                let gap = if self.spoken { "\n" } else { "" };
                format!("{gap}{}", body.trim_start())
            } else {
                format!("{}{body}", self.space)
            };
            self.space.clear();
            (self.after_call, self.spoken) = (false, true);
            match out.last_mut() {
                Some(Piece::Text(before)) => before.push_str(&said),
                _ => out.push(Piece::Text(said)),
            }
        }
        self.space.push_str(&text[body.len()..]);
    }
}

/// Bytes at the end of a text that may be the beginning of a tag.
fn tail(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|&length| text.ends_with(&tag[..length])).unwrap_or(0)
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Content;

    /// Texts joined, calls as `name(arguments)` between them.
    fn read(pieces: impl IntoIterator<Item = Piece>) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        let mut text = false;
        for piece in pieces {
            match piece {
                Piece::Text(said) if text => out.last_mut().unwrap().push_str(&said),
                Piece::Text(said) => out.push(said),
                Piece::Call(call) => {
                    out.push(format!("{} {}({})", call.id, call.name, Value::Object(call.arguments)));
                    text = false;
                    continue;
                }
            }
            text = true;
        }
        out
    }

    fn split(pieces: &[&str]) -> Vec<String> {
        let mut splitter = CallSplitter::new(ids(&[]));
        let mut out: Vec<Piece> = pieces.iter().flat_map(|piece| splitter.push(piece)).collect();
        out.extend(splitter.finish());
        read(out)
    }

    const DOOR: &str = "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"place\": \"dö\"}}\n</tool_call>";

    #[test]
    fn whole_answers() {
        let door = "call_1 look({\"place\":\"dö\"})";
        assert_eq!(split(&[DOOR]), [door]);
        assert_eq!(split(&[&format!(" I look.\n\n{DOOR}\n")]), [" I look.", door]);
        assert_eq!(
            split(&[&format!("{DOOR}\n{}", DOOR.replace("look", "see"))]),
            [door, "call_2 see({\"place\":\"dö\"})"]
        );
        assert_eq!(split(&[&format!("a\n{DOOR}\n\nb \n")]), ["a", door, "\nb \n"]);
        assert_eq!(split(&[&format!("{DOOR}\nb")]), [door, "b"]);
        // No arguments, and JSON in a string.
        assert_eq!(split(&["<tool_call>{\"name\":\"a\"}</tool_call>"]), ["call_1 a({})"]);
        assert_eq!(
            split(&[r#"<tool_call>{"name":"a","arguments":"{\"b\":[1]}"}</tool_call>"#]),
            ["call_1 a({\"b\":[1]})"]
        );
        // The closing tag in a string, and no closing tag at the end.
        let quoted = r#"<tool_call>{"name":"a","arguments":{"b":"</tool_call>"}}</tool_call>"#;
        assert_eq!(split(&[quoted]), [r#"call_1 a({"b":"</tool_call>"})"#]);
        assert_eq!(split(&[&DOOR[..DOOR.len() - 13]]), [door]);
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for text in [
            "Hello.\n",
            " \n",
            "",
            "1 < 2 <tool",
            "<tool_call>",
            "<tool_call>\n{\"name\": \"look\", \"arg",
            "<tool_call>\nlook(door)\n</tool_call> ",
            "<tool_call>{\"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"a\", \"arguments\": [1]}</tool_call>",
            "<tool_call>{\"name\": \"\"}</tool_call>",
            "a </tool_call> b",
        ] {
            assert_eq!(split(&[text]).concat(), text);
        }
        // A call in what was begun as another one is a call.
        let broken = format!("x <tool_call>\n{{\"name\": \"look\", {DOOR} <tool_call>");
        assert_eq!(
            split(&[&broken]),
            ["x <tool_call>\n{\"name\": \"look\",", "call_1 look({\"place\":\"dö\"})", "\n<tool_call>"]
        );
    }

    /// However the text is cut, the result is that of one piece.
    #[test]
    fn cuts_do_not_matter() {
        let texts = [
            format!(" ä \n{DOOR} \n{DOOR}\n ü"),
            format!("<tool_<tool_call>\n{{\"a\n</tool_call> {DOOR}"),
            format!(
                "<tool_call>{{\"name\":\"a\",\"arguments\":{{\"b\":\"</tool_call> </tool_\"}}}}</tool_call>{DOOR}<tool"
            ),
            format!("<tool_call>{{\"name\": \"a\", \"b</tool_call>\n<tool_call>{{</tool_call>{DOOR}"),
            "<tool_call>{\"name\":\"a\"}".to_owned(),
        ];
        for text in &texts {
            let whole = split(&[text]);
            let marks: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let letters: Vec<&str> = marks.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            assert_eq!(split(&letters), whole, "{text}");
            for &a in &marks {
                assert_eq!(split(&[&text[..a], &text[a..]]), whole, "{text} cut at {a}");
            }
        }
    }

    #[test]
    fn tools_and_choices_are_checked() {
        let look =
            json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": true}});
        let tools = Tool::list(&json!([look])).unwrap();
        assert_eq!((tools[0].name(), tools[0].strict(), tools[0].parameters().is_some()), ("look", true, true));
        assert!(Tool::list(&Value::Null).unwrap().is_empty());
        for bad in [
            json!("look"),
            json!([{"name": "look"}]),
            json!([{"type": "function", "function": {"name": ""}}]),
            json!([{"type": "function", "function": {"name": "a", "parameters": "none"}}]),
            json!([look, look]),
        ] {
            assert!(matches!(Tool::list(&bad), Err(Error::Invalid { .. })), "{bad}");
        }
        let choice = |json: Value| ToolChoice::from_json(&json);
        let named = choice(json!({"type": "function", "function": {"name": "look"}})).unwrap();
        assert_eq!(named, ToolChoice::Named("look".into()));
        assert_eq!(named.offered(&tools).unwrap().len(), 1);
        assert_eq!(choice(json!("none")).unwrap().offered(&tools).unwrap().len(), 0);
        assert!(choice(json!("required")).unwrap().offered(&[]).is_err());
        assert!(ToolChoice::Named("see".into()).offered(&tools).is_err());
        for bad in [json!("any"), json!({"function": {"name": "look"}}), json!(1)] {
            assert!(choice(bad).is_err());
        }
    }

    fn calls(names: &[&str]) -> Message {
        let call = |id: &&str| ToolCall { id: (*id).to_owned(), name: "look".into(), arguments: Map::new() };
        Message { tool_calls: names.iter().map(call).collect(), ..Message::text("assistant", "") }
    }

    #[test]
    fn ids_are_new_in_a_conversation() {
        let mut next = ids(&[calls(&["call_3", "x"]), calls(&["call_4"])]);
        assert_eq!([next(), next()], ["call_5", "call_6"]);
    }

    #[test]
    fn answers_go_to_their_calls() {
        let answer = |id: Option<&str>, text: &str| Message {
            tool_call_id: id.map(str::to_owned),
            ..Message::text("tool", text)
        };
        let said = |messages: &[Message]| {
            let text = |m: &Message| if let Content::Text(text) = &m.content { text.clone() } else { String::new() };
            in_order(messages).map(|all| all.iter().map(text).collect::<String>())
        };
        let turn = |ids: [Option<&str>; 2]| {
            [calls(&["a", "b"]), answer(ids[0], "1"), answer(ids[1], "2"), Message::text("user", "3")]
        };
        assert_eq!(said(&turn([Some("a"), Some("b")])).unwrap(), "123");
        assert_eq!(said(&turn([Some("b"), Some("a")])).unwrap(), "213");
        assert_eq!(said(&turn([None, None])).unwrap(), "123");
        assert!(said(&turn([Some("a"), Some("a")])).is_err());
        assert!(said(&turn([Some("a"), Some("c")])).is_err());
        assert_eq!(said(&[answer(None, "1")]).unwrap(), "1");
        assert!(said(&[Message::text("user", "?"), answer(Some("a"), "1")]).is_err());
    }
}
