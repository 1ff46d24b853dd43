//! What an answer may be: tools and a required form become one grammar, which applies to the answer but not to reasoning before it.
//!
//! Nothing here parses a grammar. [`compose`] makes JSON that the crate `fanlight-grammar` reads and turns into a [`Constraint`] over
//! token ids: in native programs through the module `grammar`, in a browser in a second wasm module.

use serde_json::{Map, Value, json};

use super::tools::{Tool, ToolChoice};
use crate::error::{Error, Result};
use crate::generate::constraint::{Constrained, Constraint};
use crate::text::Tokenizer;

/// A model's tokens as a grammar needs them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vocabulary {
    /// The bytes of all tokens, end to end.
    pub bytes: Vec<u8>,
    /// Where the bytes of each id end.
    pub ends: Vec<u32>,
    /// Whether an id is a control token and not text: special tokens, and other added tokens in angle brackets.
    pub control: Vec<bool>,
    /// The ids that end an answer.
    pub stop: Vec<u32>,
}

impl Vocabulary {
    /// The first `ids` tokens of a tokenizer.
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

    /// The bytes of each id, and whether it is a control token.
    pub fn tokens(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start as usize..end as usize]);
        ranges.zip(self.control.iter().copied())
    }
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// What an answer may be, as JSON of a grammar: calls of `tools` as `choice` allows them, or an answer of the given `form`
/// (`{"jsonSchema": …}`, `{"regex", "flags"}` or `{"lark"}`). `None` if the answer may be anything.
///
/// Calls are written as Qwen's templates tell models to write them: `<tool_call>`, a line of JSON with `name` and `arguments`,
/// `</tool_call>`. `tags` says whether the tokenizer has a token for each of the two tags; if not, they are ordinary text.
///
/// # Errors
/// [`Error::Invalid`] if a call is required and there is no tool, or not the one that has to be called.
pub fn compose(tools: &[Tool], choice: &ToolChoice, form: Option<Value>, tags: bool) -> Result<Option<Value>> {
    let offered = choice.offered(tools)?;
    let called: Vec<&Tool> = match choice {
        // Neither calls nor an answer without calls have to meet anything.
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
        // Text, then calls. If the tag is a token of its own, text can never be taken for it.
        (ToolChoice::Auto, None) if tags => "start: TEXT? | TEXT? calls\nTEXT: /(.|\\n)+/\n".to_owned(),
        // If not, the first tag ends the text. The grammar's lexer never goes back, so text and tag have to be one token of the grammar.
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

/// A text as a string literal of the grammar language Lark.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// Applies a constraint to the answer only: reasoning before it may be anything.
pub(super) struct AfterThinking {
    answer: Constrained,
    state: State,
    open: Option<u32>,
    close: u32,
    /// The ids of line breaks, which may stand between the closing tag and the answer.
    gaps: Vec<u32>,
    /// The mask of reasoning: all ids except those that end an answer.
    free: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// The model may begin to think.
    Beginning,
    Thinking,
    /// Reasoning is closed, and this many line breaks may still come before the answer.
    Gap(u8),
    Answer,
}

impl AfterThinking {
    /// `opened` says whether the prompt ends with `<think>`; `ids` is the number of token ids.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `</think>` is no token of its own, because then one token could belong to both reasoning and answer.
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
            // Without these tags the model cannot begin to think.
            _ if !opened => return Ok(answer),
            _ => {
                let expected = "a model with a token for </think>, since this one thinks before it answers";
                return Err(Error::invalid("responseConstraint", expected, "none in its tokenizer"));
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

    /// Ids that are allowed beside those of the answer.
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
