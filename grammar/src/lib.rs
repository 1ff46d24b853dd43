//! Constrained output: after every token of an answer, which tokens may come next for it to end as what a JSON schema, a regular
//! expression or a Lark grammar allows. The parsing is llguidance's.
//!
//! A [`Grammar`] is made once for a tokenizer, a [`Constraint`] of it for each answer. Nothing here knows a model, so the same
//! crate is a part of the native library and, on the web, a module of its own that is loaded when a prompt first needs it.
//!
//! ```
//! use fanlight_grammar::{Grammar, Kind, Spec, Vocabulary};
//!
//! // A vocabulary of all bytes and an end.
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
mod spec;
#[cfg(target_arch = "wasm32")]
pub mod web;

use std::fmt;
use std::sync::Arc;

use llguidance::api::ParserLimits;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

pub use spec::Spec;

/// Longest token that a constrained answer may have, in bytes; longer ones are never allowed. (Qwen's longest has 128. llguidance
/// keeps a stack of 300.)
const MAX_TOKEN: usize = 256;
/// Most ids: llguidance keeps 22 bits for a subtree of the vocabulary's tree.
const MAX_IDS: usize = 1 << 20;
/// Most nodes of that tree: bytes of all tokens at the most.
const MAX_NODES: usize = (1 << 22) - 1;

/// Something is wrong with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What it is about.
    pub what: String,
    /// What it should be.
    pub expected: String,
    /// What it is.
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

/// What a token is to a grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its bytes are text.
    Text,
    /// It is itself: a grammar allows it only where it names it, in Lark as `<tool_call>` or `<[151657]>`.
    Control,
}

/// The tokens of a tokenizer by id.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    words: Vec<Vec<u8>>,
}

impl Vocabulary {
    /// The token of the next id; without bytes: an id that no answer has.
    pub fn push(&mut self, bytes: &[u8], kind: Kind) {
        let marker = match kind {
            Kind::Control => &[TokTrie::SPECIAL_TOKEN_MARKER][..],
            Kind::Text => &[],
        };
        // No text has the marker: in UTF-8 it does not occur.
        let usable = !bytes.is_empty() && bytes.len() < MAX_TOKEN && bytes[0] != TokTrie::SPECIAL_TOKEN_MARKER;
        self.words.push(if usable { [marker, bytes].concat() } else { Vec::new() });
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// A vocabulary, ready for constraints.
pub struct Grammar {
    factory: ParserFactory,
    ids: usize,
    stop: Vec<u32>,
}

impl Grammar {
    /// For the tokens of a tokenizer, of which `stop` end an answer.
    ///
    /// # Errors
    /// A vocabulary that is larger than any there is.
    pub fn new(vocabulary: &Vocabulary, stop: &[u32]) -> Result<Self, Error> {
        let ids = vocabulary.len();
        let nodes: usize = vocabulary.words.iter().map(Vec::len).sum();
        if ids > MAX_IDS || nodes > MAX_NODES {
            let expected = format!("at most {MAX_IDS} tokens of {MAX_NODES} bytes together");
            return Err(Error::new("vocabulary", expected, format!("{ids} of {nodes}")));
        }
        let mut words = vocabulary.words.clone();
        let mut ends: Vec<u32> = stop.iter().copied().filter(|&id| (id as usize) < ids).collect();
        for &id in &ends {
            // An end is no text, whatever the tokenizer says.
            let word = &mut words[id as usize];
            if word.first().is_some_and(|byte| *byte != TokTrie::SPECIAL_TOKEN_MARKER) {
                word.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
            }
        }
        // Ids that no model has: llguidance wants an end to exist, and two control tokens to list in its messages.
        words.extend([b"\xff<|no end|>".to_vec(), b"\xff<|no token|>".to_vec()]);
        if ends.is_empty() {
            ends.push(ids as u32);
        }
        let info = TokRxInfo::new(words.len() as u32, ends[0]);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let factory = ParserFactory::new_simple(&env);
        let mut factory = factory.map_err(|e| Error::new("vocabulary", "tokens of a model", brief(&e.to_string())))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Grammar { factory, ids, stop: ends })
    }

    /// How many ids a mask is about.
    pub fn ids(&self) -> usize {
        self.ids
    }

    /// A constraint of one answer.
    ///
    /// # Errors
    /// What is wrong with it, or too large about it, in llguidance's words.
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

/// A hundredth of what llguidance would take at the most, and far above what a schema that somebody wrote takes.
fn limits() -> ParserLimits {
    ParserLimits {
        max_lexer_states: 30_000,
        max_grammar_size: 200_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// Grammars are compiled by recursion. In a browser the module's own stack is made large instead.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    #[cfg(not(target_arch = "wasm32"))]
    {
        const STACK: usize = 64 << 20;
        let mut work = Some(work);
        let mut result = None;
        std::thread::scope(|scope| {
            let (work, result) = (&mut work, &mut result);
            let run = move || *result = work.take().map(|work| work());
            // Without a thread the stack that is there has to do.
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

/// The first line of a message, without what llguidance adds for its own developers.
fn brief(message: &str) -> String {
    const LONGEST: usize = 400;
    let text = message.split("\n<").next().unwrap_or_default().trim().replace('\n', " ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Where an answer is in what it may be.
pub struct Constraint {
    matcher: Matcher,
    ids: usize,
    stop: Vec<u32>,
    bits: Vec<u32>,
}

impl Constraint {
    /// Which ids may come next: bit `id % 32` of word `id / 32`. The ids that end an answer are among them exactly where it may
    /// end. No bit is set only where it is [complete](Constraint::complete).
    ///
    /// # Errors
    /// Where the vocabulary has no token to go on with, or going on takes more work than any constraint may.
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
        // Ids that no model has.
        if let Some(last) = self.bits.last_mut().filter(|_| !self.ids.is_multiple_of(32)) {
            *last &= (1 << (self.ids % 32)) - 1;
        }
        Ok(&self.bits)
    }

    /// Whether `id` may come next: what [`Constraint::mask`] says of it, for much less.
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

    /// Goes on by a token.
    ///
    /// # Errors
    /// A token that is not allowed; as [`Constraint::mask`].
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

    /// Whether nothing can follow.
    pub fn complete(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }
}

fn failed(message: &str) -> Error {
    let expected = "a constraint that this model's tokens can follow with a bounded amount of work";
    Error::new("responseConstraint", expected, brief(message))
}
