//! Constrained output. For a JSON schema, a regular expression or a Lark grammar, this crate tells after every token of an answer
//! which tokens may come next. llguidance does the parsing.
//!
//! A [`Grammar`] is made once for a tokenizer, and a [`Constraint`] for each answer. The crate does not depend on the model code: the
//! native library links it, and in a browser it is a separate wasm module, which is loaded when a prompt first needs it.
//!
//! ```
//! use fanlight_grammar::{Grammar, Kind, Spec, Vocabulary};
//!
//! // A vocabulary of all bytes and a token that ends the answer.
//! let mut vocabulary = Vocabulary::default();
//! (0..=255).for_each(|byte| vocabulary.push(&[byte], Kind::Text));
//! vocabulary.push(b"<end>", Kind::Control);
//! let grammar = Grammar::new(&vocabulary, &[256])?;
//!
//! let mut constraint = grammar.constraint(&Spec::regex("[ab]c?", ""))?;
//! constraint.commit(u32::from(b'a'))?;
//! let allowed = |mask: &[u32], id: usize| mask[id / 32] >> (id % 32) & 1 == 1;
//! let mask = constraint.mask()?;
//! assert!(allowed(&mask, usize::from(b'c')) && allowed(&mask, 256) && !allowed(&mask, usize::from(b'b')));
//! # Ok::<(), fanlight_grammar::Error>(())
//! ```

mod regexp;
mod schema;
mod spec;
#[cfg(target_arch = "wasm32")]
pub mod web;

use std::fmt;
use std::sync::Arc;

use llguidance::api::ParserLimits;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

pub use spec::Spec;

/// The longest token in bytes that a constrained answer may have. (Qwen's longest has 128 bytes. llguidance has a stack of 300.)
const MAX_TOKEN: usize = 256;
/// The most ids. llguidance stores the size of a subtree of the vocabulary's tree in 22 bits.
const MAX_IDS: usize = 1 << 20;
/// The most nodes of that tree, which has at most one node for each byte of all tokens.
const MAX_NODES: usize = (1 << 22) - 1;

/// A constraint or vocabulary is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The argument or object that is not valid.
    pub what: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl Error {
    fn new(what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Error { what: what.into(), expected: expected.into(), found: found.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.what, self.expected, self.found)
    }
}

impl std::error::Error for Error {}

/// How a grammar treats a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary token, whose bytes are text.
    Text,
    /// A control token, which a grammar allows only where it names the token, in Lark as `<tool_call>` or `<[151657]>`.
    Control,
}

/// The tokens of a tokenizer, by id.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    words: Vec<Vec<u8>>,
}

impl Vocabulary {
    /// Adds the token of the next id. A token without bytes is never part of an answer.
    pub fn push(&mut self, bytes: &[u8], kind: Kind) {
        let marker = match kind {
            Kind::Control => &[TokTrie::SPECIAL_TOKEN_MARKER][..],
            Kind::Text => &[],
        };
        // This byte marks control tokens. It does not occur in UTF-8, so no text contains it.
        let usable = !bytes.is_empty() && bytes.len() < MAX_TOKEN && bytes[0] != TokTrie::SPECIAL_TOKEN_MARKER;
        self.words.push(if usable { [marker, bytes].concat() } else { Vec::new() });
    }

    /// The number of ids.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// A vocabulary that is prepared for constraints.
pub struct Grammar {
    factory: ParserFactory,
    ids: usize,
    stop: Vec<u32>,
}

impl Grammar {
    /// Prepares the tokens of a tokenizer. The ids `stop` end an answer.
    ///
    /// # Errors
    /// The vocabulary is too large.
    pub fn new(vocabulary: &Vocabulary, stop: &[u32]) -> Result<Self, Error> {
        let ids = vocabulary.len();
        let nodes: usize = vocabulary.words.iter().map(Vec::len).sum();
        if ids > MAX_IDS || nodes > MAX_NODES {
            let expected = format!("at most {MAX_IDS} tokens of {MAX_NODES} bytes together");
            return Err(Error::new("vocabulary", expected, format!("{ids} tokens of {nodes} bytes")));
        }
        let mut words = vocabulary.words.clone();
        let mut ends: Vec<u32> = stop.iter().copied().filter(|&id| (id as usize) < ids).collect();
        for &id in &ends {
            // A token that ends the answer is never text, whatever the tokenizer says.
            let word = &mut words[id as usize];
            if word.first().is_some_and(|byte| *byte != TokTrie::SPECIAL_TOKEN_MARKER) {
                word.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
            }
        }
        // Add two ids that no model has: llguidance needs a token that ends the text, and two control tokens for its messages.
        words.extend([b"\xff<|no end|>".to_vec(), b"\xff<|no token|>".to_vec()]);
        if ends.is_empty() {
            ends.push(ids as u32);
        }
        let info = TokRxInfo::new(words.len() as u32, ends[0]);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let factory = ParserFactory::new_simple(&env);
        let mut factory =
            factory.map_err(|e| Error::new("vocabulary", "the tokens of a model", brief(&e.to_string())))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Grammar { factory, ids, stop: ends })
    }

    /// The number of ids that a mask covers.
    pub fn ids(&self) -> usize {
        self.ids
    }

    /// Makes a constraint for one answer.
    ///
    /// # Errors
    /// The specification is not valid or too large. The message is that of llguidance.
    pub fn constraint(&self, spec: &Spec) -> Result<Constraint, Error> {
        let grammar = spec.compile()?;
        let matcher = on_large_stack(|| Matcher::new(self.factory.create_parser(grammar)));
        match matcher.get_error() {
            Some(message) => Err(spec.refused(&brief(&message))),
            None => {
                let stop = self.stop.clone();
                Ok(Constraint { matcher, ids: self.ids, stop, bits: Vec::new() })
            }
        }
    }
}

/// Limits that are a hundredth of llguidance's own, and far above what a schema written by a person needs.
fn limits() -> ParserLimits {
    ParserLimits {
        max_lexer_states: 30_000,
        max_grammar_size: 200_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// Runs `work` on a thread with a large stack, since grammars are compiled by recursion. In a browser, the wasm module itself has
/// a large stack instead.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    #[cfg(not(target_arch = "wasm32"))]
    {
        const STACK: usize = 64 << 20;
        let mut work = Some(work);
        let mut result = None;
        std::thread::scope(|scope| {
            let (work, result) = (&mut work, &mut result);
            let run = move || *result = work.take().map(|work| work());
            // If no thread can be started, use the current stack.
            if let Ok(thread) = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run)
                && let Err(panic) = thread.join()
            {
                std::panic::resume_unwind(panic);
            }
        });
        match (result, work) {
            (Some(result), _) => result,
            (None, Some(work)) => work(),
            (None, None) => unreachable!("work that was begun has a result"),
        }
    }
    #[cfg(target_arch = "wasm32")]
    work()
}

/// The first part of a message, without the details that llguidance adds for its own developers.
fn brief(message: &str) -> String {
    const LONGEST: usize = 400;
    let text = message.split("\n<").next().unwrap_or_default().trim().replace('\n', " ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The state of an answer within its constraint.
pub struct Constraint {
    matcher: Matcher,
    ids: usize,
    stop: Vec<u32>,
    bits: Vec<u32>,
}

impl Constraint {
    /// Which ids may come next: bit `id % 32` of word `id / 32`. The ids that end an answer are set exactly if it may end here. If
    /// no bit is set, the answer is [complete](Constraint::complete).
    ///
    /// # Errors
    /// The vocabulary has no token that can follow, or finding out would take too much work.
    pub fn mask(&mut self) -> Result<&[u32], Error> {
        let words = self.ids.div_ceil(32);
        if self.matcher.is_stopped() && self.matcher.stop_reason().is_ok() {
            self.bits.clear();
            self.bits.resize(words, 0);
            return Ok(&self.bits);
        }
        let mask = self.matcher.compute_mask().map_err(|e| failed(&e.to_string()))?;
        self.bits.clear();
        self.bits.extend(mask.as_slice().iter().take(words));
        self.bits.resize(words, 0);
        // Remove the two ids that no model has.
        if let Some(last) = self.bits.last_mut().filter(|_| !self.ids.is_multiple_of(32)) {
            *last &= (1 << (self.ids % 32)) - 1;
        }
        Ok(&self.bits)
    }

    /// Whether `id` may come next. This is much faster than a whole [`Constraint::mask`].
    ///
    /// # Errors
    /// As [`Constraint::mask`].
    pub fn allows(&mut self, id: u32) -> Result<bool, Error> {
        if id as usize >= self.ids || self.matcher.is_stopped() {
            return Ok(false);
        }
        if self.stop.contains(&id) {
            return self.accepts();
        }
        self.matcher.validate_tokens(&[id]).map(|count| count > 0).map_err(|e| failed(&e.to_string()))
    }

    /// Appends a token to the answer.
    ///
    /// # Errors
    /// The token is not allowed. Otherwise as [`Constraint::mask`].
    pub fn commit(&mut self, id: u32) -> Result<(), Error> {
        self.matcher.consume_token(id).map_err(|e| failed(&e.to_string()))
    }

    /// Whether the answer may end here.
    ///
    /// # Errors
    /// As [`Constraint::mask`].
    pub fn accepts(&mut self) -> Result<bool, Error> {
        if self.matcher.is_stopped() {
            return Ok(self.matcher.stop_reason().is_ok());
        }
        self.matcher.is_accepting().map_err(|e| failed(&e.to_string()))
    }

    /// Whether the answer is complete, so that nothing can follow.
    pub fn complete(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }
}

fn failed(message: &str) -> Error {
    let expected = "a constraint that this model's tokens can follow with a bounded amount of work";
    Error::new("responseConstraint", expected, brief(message))
}
