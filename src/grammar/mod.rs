//! Constraints by the crate `fanlight-grammar`, for [`AskOptions::constraint`]. Only native programs have this module.
//!
//! In a browser, the same crate is a separate wasm module, which is loaded when a prompt first needs it.
//!
//! [`AskOptions::constraint`]: crate::chat::AskOptions::constraint

use std::fmt;

pub use fanlight_grammar::Spec;
use fanlight_grammar::{Kind, Vocabulary};
use serde_json::Value;

use crate::chat::Engine;
use crate::error::{Error, Result};
use crate::generate::constraint::{Constrained, Constraint};

/// Makes constraints for the answers of a model.
pub struct Grammar(fanlight_grammar::Grammar);

impl Grammar {
    /// Prepares the tokens of a checkpoint. This takes about a second for 150 000 tokens, so make one grammar and keep it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a vocabulary that is too large.
    pub fn new(engine: &Engine) -> Result<Self> {
        let tokens = engine.vocabulary();
        let mut vocabulary = Vocabulary::default();
        for (bytes, control) in tokens.tokens() {
            vocabulary.push(bytes, if control { Kind::Control } else { Kind::Text });
        }
        fanlight_grammar::Grammar::new(&vocabulary, &tokens.stop).map(Grammar).map_err(invalid)
    }

    /// Makes a constraint for one answer.
    ///
    /// # Errors
    /// [`Error::Invalid`], which says what is wrong with the specification.
    pub fn constraint(&self, spec: &Spec) -> Result<Constrained> {
        self.0.constraint(spec).map(|constraint| Constrained::new(Ids(constraint))).map_err(invalid)
    }

    /// Makes a constraint from a specification by [`compose`](crate::chat::constraint::compose).
    ///
    /// # Errors
    /// As [`Grammar::constraint`].
    pub fn composed(&self, spec: &Value) -> Result<Constrained> {
        self.constraint(&Spec::from_json(spec).map_err(invalid)?)
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").field("ids", &self.0.ids()).finish()
    }
}

fn invalid(error: fanlight_grammar::Error) -> Error {
    Error::Invalid { what: error.what, expected: error.expected, found: error.found }
}

struct Ids(fanlight_grammar::Constraint);

impl Constraint for Ids {
    fn mask(&mut self, bits: &mut Vec<u32>) -> Result<()> {
        bits.clear();
        bits.extend(self.0.mask().map_err(invalid)?);
        Ok(())
    }

    fn allows(&mut self, id: u32) -> Result<bool> {
        self.0.allows(id).map_err(invalid)
    }

    fn commit(&mut self, id: u32) -> Result<()> {
        self.0.commit(id).map_err(invalid)
    }

    fn complete(&mut self) -> Result<bool> {
        Ok(self.0.complete())
    }
}
