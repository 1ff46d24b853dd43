//! Calls in an answer and in a conversation: they are told from text while the answer is written, get an id, and are matched with the
//! results of tools.
//!
//! Qwen's models write a call as `<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>`. An answer may have several, with or without
//! text before them.

use std::borrow::Cow;
use std::collections::HashSet;

use super::message::Message;
use super::spelled::unguarded;
use super::tools::{Named, ToolCall};
use crate::error::{Error, Result};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// What begins and ends a call.
pub(super) const TAGS: [&str; 2] = [OPEN, CLOSE];

/// Makes ids for new calls of a conversation: `call_N` with N above the number of calls that it has, without ids that it uses already.
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

/// The messages with results of tools in the order of the calls that they name, because templates match results with calls by their
/// place.
///
/// # Errors
/// [`Error::Invalid`] for the result of a call that the assistant has not made, or for a second result of the same call.
pub(super) fn in_order(messages: &[Message]) -> Result<Cow<'_, [Message]>> {
    let mut ordered = Cow::Borrowed(messages);
    let mut at = 0;
    while at < messages.len() {
        let calls = &messages[at].tool_calls;
        let begin = at + 1;
        let end = begin + messages[begin..].iter().take_while(|message| message.role == "tool").count();
        at = end.max(begin);
        let places = (begin..end).map(|i| match &messages[i].tool_call_id {
            // A result without an id keeps its place.
            None => Ok(i - begin),
            Some(id) => calls.iter().position(|call| call.id == *id).ok_or_else(|| {
                let known: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
                let expected = match known.is_empty() {
                    true => "a message with this call before the tool's".to_owned(),
                    false => format!("the id of a call in the assistant's message before, one of {known:?}"),
                };
                Error::invalid(format!("messages[{i}].toolCallId"), expected, format!("{id:?}"))
            }),
        });
        let places = places.collect::<Result<Vec<_>>>()?;
        let mut sorted: Vec<usize> = (begin..end).collect();
        sorted.sort_by_key(|i| places[i - begin]);
        let named = |i: usize| messages[i].tool_call_id.as_ref();
        if let Some(pair) = sorted.windows(2).find(|pair| named(pair[0]).is_some() && named(pair[0]) == named(pair[1]))
        {
            let at = format!("messages[{}].toolCallId", pair[1]);
            return Err(Error::invalid(at, "one result for each call", "a second one for the same call"));
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
    /// A complete call.
    Call(ToolCall),
}

/// Tells calls from text in an answer that comes in pieces. The result does not depend on where the pieces are cut.
///
/// A block that is no call stays text. White space around a call is dropped; if there is text before and after the call, a line break
/// takes its place. A block at the end of the answer counts as a call if its JSON is complete, since some models stop before the closing
/// tag.
pub struct CallSplitter {
    /// Text of which the part from `at` on is not decided yet: what may be the beginning of a tag, or a block from its opening tag on.
    held: String,
    at: usize,
    /// Up to where the text has been searched for a closing tag.
    looked: usize,
    /// How many closing tags of the block turned out to be inside a string.
    inside: usize,
    in_block: bool,
    /// The same for the whole answer.
    tries: usize,
    /// White space at the end of the text so far, which is kept back until something follows it.
    space: String,
    /// Whether a call has come after the last text.
    after_call: bool,
    /// Whether any text has come.
    spoken: bool,
    next_id: Box<dyn FnMut() -> String>,
}

/// Most closing tags in the strings of a call, and most of them in an answer. Each one has the call's JSON read from its beginning again.
const MOST_INSIDE: usize = 64;
const MOST_TRIES: usize = 512;
/// Most blocks at the end of an answer, none of them closed, that are tried as the last call.
const MOST_OPEN: usize = 64;

impl CallSplitter {
    /// `next_id` makes the id of each call.
    pub fn new(next_id: impl FnMut() -> String + 'static) -> Self {
        CallSplitter {
            held: String::new(),
            at: 0,
            looked: 0,
            inside: 0,
            in_block: false,
            tries: 0,
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
        self.read(&mut out);
        // What is decided is dropped once a piece, and not once a tag: the text that is kept may be long.
        self.held.drain(..self.at);
        self.looked = self.looked.saturating_sub(self.at);
        self.at = 0;
        out
    }

    fn read(&mut self, out: &mut Vec<Piece>) {
        loop {
            if !self.in_block {
                let (end, opened) = match self.held[self.at..].find(OPEN) {
                    Some(end) => (self.at + end, true),
                    None => (self.held.len() - tail(&self.held[self.at..], OPEN), false),
                };
                let text = self.held[self.at..end].to_owned();
                self.at = end;
                self.say(&text, out);
                if !opened {
                    return;
                }
                (self.in_block, self.inside) = (true, 0);
            }
            let begin = self.at + OPEN.len();
            let from = self.looked.max(begin);
            let Some(found) = self.held[from..].find(CLOSE) else {
                self.looked = self.held.len() - tail(&self.held[from..], CLOSE);
                return;
            };
            let close = from + found;
            match ToolCall::parse(&unguarded(&self.held[begin..close])) {
                Ok(Some(call)) => {
                    self.call(call, out);
                    self.at = close + CLOSE.len();
                    self.in_block = false;
                }
                // The tag that was found may be part of a string in the JSON, so the next one is looked for.
                Err(error) if error.is_eof() && self.inside < MOST_INSIDE && self.tries < MOST_TRIES => {
                    self.looked = close + CLOSE.len();
                    self.inside += 1;
                    self.tries += 1;
                }
                Ok(None) | Err(_) => {
                    self.looked = close;
                    self.give_up(out);
                }
            }
        }
    }

    /// Ends the text.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut out = Vec::new();
        for _ in 0..MOST_OPEN {
            if !self.in_block {
                break;
            }
            if let Ok(Some(call)) = ToolCall::parse(&unguarded(&self.held[self.at + OPEN.len()..])) {
                self.call(call, &mut out);
                self.at = self.held.len();
                self.in_block = false;
            } else {
                self.give_up(&mut out);
                self.read(&mut out);
            }
        }
        let held = self.held.split_off(self.at);
        self.held.clear();
        self.at = 0;
        self.say(&held, &mut out);
        if !self.after_call && !self.space.is_empty() {
            out.push(Piece::Text(std::mem::take(&mut self.space)));
        }
        out
    }

    /// The block is no call: its opening tag is text, and what comes after it is looked at again.
    fn give_up(&mut self, out: &mut Vec<Piece>) {
        self.at += OPEN.len();
        if self.inside > 0 {
            // Another block may end at one of the closing tags that were passed over.
            self.looked = self.at;
        }
        self.in_block = false;
        self.say(OPEN, out);
    }

    fn call(&mut self, (name, arguments, written): Named, out: &mut Vec<Piece>) {
        self.space.clear();
        self.after_call = true;
        out.push(Piece::Call(ToolCall { id: (self.next_id)(), name, arguments, written }));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::message::Content;
    use serde_json::{Map, Value};

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
        // Arguments by the names that other models' formats have.
        for name in ["parameters", "args", "input"] {
            let said = format!(r#"<tool_call>{{"name":"a","{name}":{{"id":1}}}}</tool_call>"#);
            assert_eq!(split(&[&said]), ["call_1 a({\"id\":1})"]);
        }
        let openai = r#"<tool_call>{"type":"function","function":{"name":"a","arguments":"{\"b\":1}"}}</tool_call>"#;
        assert_eq!(split(&[openai]), ["call_1 a({\"b\":1})"]);
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
            "<tool_call>{\"name\": \"a\", \"id\": 1}</tool_call>",
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

    #[test]
    fn arguments_are_kept_as_they_were_written() {
        for (said, kept) in [
            (
                r#"{"name":"a","arguments": {"id": 123456789012345678901234567890, "x":1.50, "s":"\u00e9"} }"#,
                r#"{"id": 123456789012345678901234567890, "x":1.50, "s":"\u00e9"}"#,
            ),
            (r#"{"name":"a","parameters":{"id": 2512292042121000001}}"#, r#"{"id": 2512292042121000001}"#),
            (r#"{"name":"a","arguments":"{\"id\": 1e3}"}"#, r#"{"id": 1e3}"#),
            (r#"{"name":"a"}"#, "{}"),
        ] {
            let mut splitter = CallSplitter::new(ids(&[]));
            let pieces = splitter.push(&format!("<tool_call>{said}</tool_call>"));
            let Piece::Call(call) = &pieces[0] else { panic!("{pieces:?}") };
            assert_eq!(call.written, kept);
        }
    }

    /// 220 KB of tags that open or close nothing. A rule that goes over the rest of the text for each one takes minutes.
    #[test]
    fn any_text_takes_time_in_proportion() {
        for piece in
            ["<tool_call>", "<tool_call>{\"a\":\"", "</tool_call>", "<tool_call>{\"a\":\"</tool_call>", "<tool_call>{"]
        {
            let text = piece.repeat(220_000 / piece.len());
            for text in [text.clone(), format!("<tool_call>{{\"a\":\"{text}")] {
                assert_eq!(split(&[&text]).concat(), text.trim_end(), "{piece}");
            }
        }
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

    fn calls(names: &[&str]) -> Message {
        let call = |id: &&str| ToolCall::new(id, "look", Map::new());
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
