//! The trait of constraints on an answer. Generation only needs to know which ids may come next.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::error::{Error, Result};

/// Tells after every id of an answer which ids may follow.
pub trait Constraint {
    /// Writes which ids may come next: bit `id % 32` of word `id / 32`, and no bits beyond the vocabulary. The ids that end the
    /// answer are set exactly if the answer may end here. If no bit is set, the answer must end here.
    ///
    /// # Errors
    /// [`Error::Invalid`] if no id of the vocabulary can follow, or if finding out would take too much work.
    fn mask(&mut self, bits: &mut Vec<u32>) -> Result<()>;

    /// Whether `id` may come next, with the same result as [`Constraint::mask`].
    ///
    /// # Errors
    /// As [`Constraint::mask`].
    fn allows(&mut self, id: u32) -> Result<bool>;

    /// Appends an id that may come next and does not end the answer.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id that may not come next. Otherwise as [`Constraint::mask`].
    fn commit(&mut self, id: u32) -> Result<()>;

    /// Whether the answer is complete, so that nothing can follow.
    ///
    /// # Errors
    /// As [`Constraint::mask`].
    fn complete(&mut self) -> Result<bool>;
}

/// A constraint as part of options. It can be used for one answer only.
#[derive(Clone)]
pub struct Constrained(Rc<RefCell<dyn Constraint>>);

impl Constrained {
    /// Wraps a constraint.
    pub fn new(constraint: impl Constraint + 'static) -> Self {
        Constrained(Rc::new(RefCell::new(constraint)))
    }

    fn with<T>(&self, run: impl FnOnce(&mut dyn Constraint) -> Result<T>) -> Result<T> {
        match self.0.try_borrow_mut() {
            Ok(mut constraint) => run(&mut *constraint),
            Err(_) => {
                Err(Error::invalid("constraint", "a new constraint for each answer", "one that is in use already"))
            }
        }
    }
}

impl Constraint for Constrained {
    fn mask(&mut self, bits: &mut Vec<u32>) -> Result<()> {
        self.with(|constraint| constraint.mask(bits))
    }

    fn allows(&mut self, id: u32) -> Result<bool> {
        self.with(|constraint| constraint.allows(id))
    }

    fn commit(&mut self, id: u32) -> Result<()> {
        self.with(|constraint| constraint.commit(id))
    }

    fn complete(&mut self) -> Result<bool> {
        self.with(|constraint| constraint.complete())
    }
}

impl fmt::Debug for Constrained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Constrained")
    }
}

/// Whether an id is set in a mask.
pub(super) fn has(bits: &[u32], id: u32) -> bool {
    bits.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
}

/// Sets the logits of all ids that are not in the mask to −∞. Returns whether the mask has any id.
pub(super) fn apply(bits: &[u32], logits: &mut [f32]) -> bool {
    let mut any = false;
    for (logits, word) in logits.chunks_mut(32).zip(bits.iter().copied().chain(std::iter::repeat(0))) {
        any |= word != 0;
        if word != u32::MAX {
            for (_, logit) in logits.iter_mut().enumerate().filter(|(bit, _)| word >> bit & 1 == 0) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        let bits = [1 << 31 | 1 << 2, 0, 1 << 1];
        let kept = |logits: &mut [f32]| -> Vec<usize> {
            apply(&bits, logits);
            logits.iter().enumerate().filter(|(_, l)| **l > f32::NEG_INFINITY).map(|(i, _)| i).collect()
        };
        assert_eq!(kept(&mut [0.0; 70]), [2, 31, 65]);
        assert_eq!(kept(&mut [0.0; 200]), [2, 31, 65], "no bit beyond the mask");
        assert_eq!(kept(&mut [0.0; 5]), [2]);
        assert!(!apply(&[0, 0], &mut [0.0; 40]) && !apply(&[], &mut [0.0; 40]));
        assert!(has(&bits, 31) && !has(&bits, 30) && has(&bits, 65) && !has(&bits, 96));
    }
}
