//! Whether an answer only repeats itself.
//!
//! Exact cycles alone count: a run of tokens of which each equals the one a period before. Small models fall into them and never come
//! out; a repetition penalty that prevents it also damages tables and boxes, which repeat themselves rightly. So nothing is changed,
//! and what ends an answer is a run so long that no table, list or "no no no" has it.

/// The longest period that is looked for, in tokens: a paragraph.
const LONGEST: usize = 256;
/// A run is this long before it counts, in tokens: the rows of an empty table that fills a page stay below.
const RUN: usize = 512;
/// And it has the period so many times.
const TIMES: usize = 4;

/// Watches the tokens of one answer.
#[derive(Debug, Clone)]
pub struct LoopGuard {
    run: usize,
    times: usize,
    /// The latest tokens, as many as the longest period.
    tokens: std::collections::VecDeque<u32>,
    /// For each period from 1 on, how many of the last tokens each equal the one a period before.
    equal: Vec<usize>,
}

impl Default for LoopGuard {
    fn default() -> Self {
        LoopGuard::new(LONGEST, RUN, TIMES)
    }
}

impl LoopGuard {
    /// Ends what has ended with at least `run` tokens of a period of at most `longest`, at least `times` times.
    fn new(longest: usize, run: usize, times: usize) -> Self {
        LoopGuard { run, times, tokens: Default::default(), equal: vec![0; longest] }
    }

    /// Takes the next token. `true`: the last tokens are a cycle.
    pub fn push(&mut self, id: u32) -> bool {
        let mut cycle = false;
        for (i, (equal, before)) in self.equal.iter_mut().zip(self.tokens.iter().rev()).enumerate() {
            let period = i + 1;
            *equal = if *before == id { *equal + 1 } else { 0 };
            // What the run begins with has nothing a period before, and is part of it.
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

    /// The rule as it is said, on all tokens.
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
