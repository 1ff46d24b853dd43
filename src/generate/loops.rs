//! Detects an answer that only repeats itself.
//!
//! Only exact cycles count: a run of tokens in which each token equals the one a period before. Small models can fall into such a
//! cycle and never leave it. A repetition penalty would prevent this, but also damage tables and boxes, which repeat tokens for good
//! reason. So the probabilities are not changed, and an answer is ended only by a run that is longer than any real table or list.

/// The longest period that is detected, in tokens. This is about a paragraph.
const LONGEST: usize = 256;
/// The shortest run that ends an answer, in tokens. The rows of an empty table that fills a page are shorter.
const RUN: usize = 512;
/// How often the period must occur in the run, too.
const TIMES: usize = 4;

/// Watches the tokens of one answer for cycles.
#[derive(Debug, Clone)]
pub struct LoopGuard {
    run: usize,
    times: usize,
    /// The last tokens, as many as the longest period.
    tokens: std::collections::VecDeque<u32>,
    /// For each period from 1 on, how many of the last tokens in a row equal the token a period before.
    equal: Vec<usize>,
}

impl Default for LoopGuard {
    fn default() -> Self {
        LoopGuard::new(LONGEST, RUN, TIMES)
    }
}

impl LoopGuard {
    /// A guard that detects a run of at least `run` tokens with a period of at most `longest`, which occurs at least `times`
    /// times.
    fn new(longest: usize, run: usize, times: usize) -> Self {
        LoopGuard { run, times, tokens: Default::default(), equal: vec![0; longest] }
    }

    /// Takes the next token. Returns whether the answer has run into a cycle.
    pub fn push(&mut self, id: u32) -> bool {
        let mut cycle = false;
        for (i, (equal, before)) in self.equal.iter_mut().zip(self.tokens.iter().rev()).enumerate() {
            let period = i + 1;
            *equal = if *before == id { *equal + 1 } else { 0 };
            // The first period of the run has no equal token before it, but is part of the run.
            cycle |= *equal > 0 && *equal + period >= self.run.max(self.times * period);
        }
        if self.tokens.len() == self.equal.len() {
            self.tokens.pop_front();
        }
        self.tokens.push_back(id);
        cycle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same rule in its simplest form, applied to all tokens.
    fn cycle(ids: &[u32], longest: usize, run: usize, times: usize) -> bool {
        (1..=longest).any(|period| {
            let length = run.max(times * period);
            length > period && ids.len() >= length && {
                let last = &ids[ids.len() - length..];
                last.iter().zip(&last[period..]).all(|(a, b)| a == b)
            }
        })
    }

    #[test]
    fn it_is_the_rule() {
        let mut state = 1u64;
        let mut draw = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut fired = 0;
        for _ in 0..4000 {
            let (longest, run, times) = (1 + draw(5) as usize, 1 + draw(12) as usize, 2 + draw(3) as usize);
            let mut guard = LoopGuard::new(longest, run, times);
            let mut ids = Vec::new();
            let period = 1 + draw(6) as usize;
            for _ in 0..30 {
                // Mostly a cycle, with faults.
                let id = if ids.len() < period || draw(12) == 0 { draw(3) as u32 } else { ids[ids.len() - period] };
                ids.push(id);
                let expected = cycle(&ids, longest, run, times);
                assert_eq!(guard.push(id), expected, "{ids:?} {longest} {run} {times}");
                fired += usize::from(expected);
            }
        }
        assert!(fired > 5000, "{fired}");
    }

    fn at(ids: impl IntoIterator<Item = u32>) -> Option<usize> {
        let mut guard = LoopGuard::default();
        ids.into_iter().position(|id| guard.push(id))
    }

    #[test]
    fn loops_end_and_tables_do_not() {
        // One token, a short phrase and a paragraph, after something else.
        assert_eq!(at((0..100).chain(std::iter::repeat_n(7, 2000))), Some(100 + RUN - 1));
        assert_eq!(at((1000..1100).chain((0..4000).map(|i| i % 12))), Some(100 + RUN - 1));
        assert_eq!(at((1000..1100).chain((0..4000).map(|i| i % 200))), Some(100 + 4 * 200 - 1));
        // "No no no", an empty table of forty rows, and a long table of which each row has a number of its own.
        assert_eq!(at((0..300).map(|i| i % 2)), None);
        assert_eq!(at((0..40 * 12).map(|i| i % 12)), None);
        assert_eq!(at((0..5000).map(|i| if i % 12 == 0 { 100 + i / 12 } else { i % 12 })), None);
        // Boxes with a step: a cycle of forms, not of tokens.
        assert_eq!(at((0..5000).map(|i| if i % 20 == 7 { 50 + (i / 20) % 30 } else { i % 20 })), None);
    }
}
