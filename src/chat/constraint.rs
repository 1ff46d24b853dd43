//! What an answer may be: from tools and a wished form to a grammar, and past what a model thinks before it answers.
//!
//! Nothing here parses a grammar. What [`compose`] gives is JSON that `fanlight-grammar` reads; what comes back is a
//! [`Constraint`] over ids, natively from the room `grammar`, on the web from a module of its own.

use serde_json::{Map, Value, json};

use super::tools::{Tool, ToolChoice};
use crate::error::{Error, Result};
use crate::generate::constraint::{Constrained, Constraint};
use crate::text::Tokenizer;

/// The tokens of a model, as a grammar needs them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vocabulary {
    /// The bytes of all tokens, end to end.
    pub bytes: Vec<u8>,
    /// Where those of each id end.
    pub ends: Vec<u32>,
    /// Whether an id stands for itself and is no text: the special tokens, and what else is added in angle brackets.
    pub control: Vec<bool>,
    /// The ids that end an answer.
    pub stop: Vec<u32>,
}

impl Vocabulary {
    /// Of the first `ids` of a tokenizer.
    pub fn new(tokenizer: &Tokenizer, ids: usize, stop: Vec<u32>) -> Self {
        let mut all = Vocabulary { stop, ..Vocabulary::default() };
        for id in 0..ids.min(tokenizer.len()) as u32 {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            let bracketed = bytes.starts_with(b"<") && bytes.ends_with(b">");
            all.control.push(tokenizer.is_special(id) || tokenizer.is_added(id) && bracketed);
            all.bytes.extend(bytes);
            all.ends.push(all.bytes.len() as u32);
        }
        all
    }

    /// The bytes of each id, and whether it stands for itself.
    pub fn tokens(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start as usize..end as usize]);
        ranges.zip(self.control.iter().copied())
    }
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// What an answer may be, for tools and calls of them, and for the form (`{"jsonSchema": …}`, `{"regex", "flags"}` or `{"lark"}`) of
/// an answer that calls none. `None` where it may be anything.
///
/// Calls are as Qwen's templates tell models to write them: `<tool_call>`, a line of JSON with `name` and `arguments`,
/// `</tool_call>`. `tags`: the tokenizer has these as tokens of their own; else they are written out.
///
/// # Errors
/// [`Error::Invalid`] for a call that is demanded of no tool, or of one that is not there.
pub fn compose(tools: &[Tool], choice: &ToolChoice, form: Option<Value>, tags: bool) -> Result<Option<Value>> {
    let offered = choice.offered(tools)?;
    let called: Vec<&Tool> = match choice {
        // Nothing is demanded of the calls, nor of an answer without one.
        ToolChoice::Auto if form.is_none() && !offered.iter().any(Tool::strict) => return Ok(None),
        ToolChoice::Named(name) => offered.iter().filter(|tool| tool.name() == name).collect(),
        _ => offered.iter().collect(),
    };
    if called.is_empty() {
        return Ok(form);
    }
    let (open, close) = if tags { (OPEN.to_owned(), CLOSE.to_owned()) } else { (literal(OPEN), literal(CLOSE)) };
    let mut parts = Map::new();
    let start = match (choice, form) {
        (ToolChoice::Named(_), _) => "start: call\n".to_owned(),
        (ToolChoice::Auto, Some(form)) => {
            parts.insert("answer".into(), form);
            "start: calls | @answer\n".to_owned()
        }
        // Words, and then calls. Where a tag is a token, no words are one.
        (ToolChoice::Auto, None) if tags => "start: TEXT? | TEXT? calls\nTEXT: /(.|\\n)+/\n".to_owned(),
        // Else the first tag ends the words, and a lexer that never goes back has to see both as one.
        (ToolChoice::Auto, None) => {
            let any = "/(.|\\n)";
            format!(
                "start: TEXT? | BEGUN inside (\"\\n\" call)*\nTEXT: {any}+/ & ~({any}*/ {open} {any}*/)\n\
                 BEGUN: {any}*/ {open} & ~({any}*/ {open} {any}+/)\n"
            )
        }
        _ => "start: calls\n".to_owned(),
    };
    let mut grammar = start + "calls: call (\"\\n\" call)*\n";
    grammar += &format!("call: {open} inside\ninside: \"\\n\" body \"\\n\" {close}\n");
    let bodies: Vec<String> = (0..called.len()).map(|i| format!("body_{i}")).collect();
    grammar += &format!("body: {}\n", bodies.join(" | "));
    for (i, tool) in called.iter().enumerate() {
        let head = format!("{{\"name\": {}, \"arguments\": ", Value::from(tool.name()));
        grammar += &format!("body_{i}: {} @arguments_{i} \"}}\"\n", literal(&head));
        let schema = match (tool.parameters(), tool.strict()) {
            (Some(schema), true) => schema.clone(),
            _ => json!({"type": "object"}),
        };
        parts.insert(format!("arguments_{i}"), json!({"jsonSchema": schema}));
    }
    Ok(Some(json!({"lark": grammar, "parts": parts})))
}

/// A text as a string of Lark.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// A constraint of the answer alone: a model that thinks first thinks what it likes.
pub(super) struct AfterThinking {
    answer: Constrained,
    state: State,
    open: Option<u32>,
    close: u32,
    /// Line ends that stand between the two.
    gaps: Vec<u32>,
    /// Everything but the end of an answer.
    free: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// The model may begin to think.
    Beginning,
    Thinking,
    /// So many line ends may still come.
    Gap(u8),
    Answer,
}

impl AfterThinking {
    /// `opened`: the prompt ends with `<think>`; `ids`: how many there are.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the end of thinking is no token, so that one token could be both thought and answer.
    pub(super) fn wrap(
        answer: Constrained,
        tokenizer: &Tokenizer,
        opened: bool,
        ids: usize,
        stop: &[u32],
    ) -> Result<Constrained> {
        let tag = |text: &str| tokenizer.id(text).filter(|&id| tokenizer.is_added(id) && (id as usize) < ids);
        let (open, close) = (tag("<think>"), tag("</think>"));
        let close = match close {
            Some(close) if opened || open.is_some() => close,
            // It cannot begin to think.
            _ if !opened => return Ok(answer),
            _ => {
                let expected = "a tokenizer that has </think> as a token, for a model that thinks first";
                return Err(Error::invalid("responseConstraint", expected, "one without"));
            }
        };
        let mut free = vec![u32::MAX; ids / 32];
        if !ids.is_multiple_of(32) {
            free.push((1 << (ids % 32)) - 1);
        }
        for &id in stop {
            if let Some(word) = free.get_mut(id as usize / 32) {
                *word &= !(1 << (id % 32));
            }
        }
        let gaps = (0..ids as u32).filter(|&id| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            bytes == b"\n" || bytes == b"\n\n"
        });
        let state = if opened { State::Thinking } else { State::Beginning };
        Ok(Constrained::new(AfterThinking { answer, state, open, close, gaps: gaps.collect(), free }))
    }

    fn extra(&self) -> &[u32] {
        match self.state {
            State::Beginning => self.open.as_slice(),
            State::Gap(1..) => &self.gaps,
            _ => &[],
        }
    }
}

impl Constraint for AfterThinking {
    fn mask(&mut self, bits: &mut Vec<u32>) -> Result<()> {
        if self.state == State::Thinking {
            bits.clone_from(&self.free);
            return Ok(());
        }
        self.answer.mask(bits)?;
        for &id in self.extra() {
            if let Some(word) = bits.get_mut(id as usize / 32) {
                *word |= 1 << (id % 32);
            }
        }
        Ok(())
    }

    fn allows(&mut self, id: u32) -> Result<bool> {
        if self.state == State::Thinking {
            return Ok(self.free.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1));
        }
        Ok(self.extra().contains(&id) || self.answer.allows(id)?)
    }

    fn commit(&mut self, id: u32) -> Result<()> {
        self.state = match self.state {
            State::Beginning if self.open == Some(id) => State::Thinking,
            State::Thinking if id == self.close => State::Gap(2),
            State::Thinking => State::Thinking,
            State::Gap(left @ 1..) if self.gaps.contains(&id) => State::Gap(left - 1),
            _ => {
                self.answer.commit(id)?;
                State::Answer
            }
        };
        Ok(())
    }

    fn complete(&mut self) -> Result<bool> {
        Ok(self.state == State::Answer && self.answer.complete()?)
    }
}
