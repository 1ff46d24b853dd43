//! What stays on the device from one token to the next: the chosen id, the ids seen, and the rotary rows of the next positions.

use super::prompt::{Few, Head};
use crate::error::{Error, Result};
use crate::gpu::{Element, Gpu, Tensor};
use crate::model::positions::{Rope, mrope_table, rope_rows};
use crate::ops::top_merge::{Choices, LIST_WORDS, TOP, value};

/// The most tokens that are decoded in one submission.
pub const MOST_AHEAD: usize = 8;
/// Positions whose rotary rows are uploaded at once.
const ROWS: usize = 64;

/// The state of a session on the device, and what is known of it here.
pub(super) struct State {
    pub(super) choices: Choices,
    /// The id in [`Choices::next`], if it is known.
    next: Option<u32>,
    /// The repetition penalty of greedy choices, unless it is off.
    pub(super) penalty: Option<f32>,
    /// The bits that [`Choices::seen`] should have.
    seen: Vec<u32>,
    /// Ids whose bits the device has set by itself since the last [`State::begin`].
    set: Vec<u32>,
    /// How many ids of the session are in `seen`.
    counted: usize,
    rows: Tensor,
    /// The position of the first of `rows`, if there is one.
    first: Option<i64>,
}

impl State {
    pub(super) fn new(gpu: &Gpu, vocab: usize, head_dim: usize) -> Result<Self> {
        Ok(State {
            choices: Choices::new(gpu, vocab, MOST_AHEAD)?,
            next: None,
            penalty: None,
            seen: Vec::new(),
            set: Vec::new(),
            counted: 0,
            rows: gpu.persistent("rotary rows", ROWS, head_dim, Element::F32)?,
            first: None,
        })
    }

    /// The bytes of all of it.
    pub(super) fn bytes(vocab: usize, head_dim: usize) -> u64 {
        Choices::bytes(vocab, MOST_AHEAD) + (4 * ROWS * head_dim) as u64
    }

    /// From now on greedy choices have this repetition penalty, which applies to the ids of the session and to these.
    pub(super) fn penalize(&mut self, gpu: &Gpu, penalty: Option<f32>, ids: &[u32]) -> Result<()> {
        self.penalty = penalty;
        if penalty.is_some() {
            self.seen = vec![0; self.choices.seen.len()];
            self.counted = ids.len();
            self.set.clear();
            for &id in ids {
                self.see(id);
            }
            gpu.write(&self.choices.seen, 0, bytemuck::cast_slice(&self.seen))?;
        }
        Ok(())
    }

    /// Sets the bit of an id. Returns whether it was not set yet.
    fn see(&mut self, id: u32) -> bool {
        let Some(word) = self.seen.get_mut(id as usize / 32) else { return false };
        let before = std::mem::replace(word, *word | 1 << (id % 32));
        before != *word
    }

    /// Prepares the device for a pass over `id`, which follows `ids` at `position` and is followed by `count - 1` ids that the device
    /// chooses. Writes only what the device does not have already.
    pub(super) fn begin(
        &mut self,
        gpu: &Gpu,
        rope: &Rope,
        ids: &[u32],
        id: u32,
        position: i64,
        count: usize,
    ) -> Result<usize> {
        if self.next != Some(id) {
            gpu.write(&self.choices.next, 0, &id.to_ne_bytes())?;
        }
        self.next = None;
        if self.penalty.is_some() {
            let mut stale = std::mem::take(&mut self.set);
            for &id in ids.get(self.counted..).unwrap_or_default().iter().chain([&id]) {
                if self.see(id) && !stale.contains(&id) {
                    stale.push(id); // the device does not know of it
                } else {
                    stale.retain(|set| *set != id);
                }
            }
            self.counted = ids.len() + 1;
            // What is left was set for an id that did not come, or has to be set.
            for id in stale {
                let word = id as usize / 32;
                gpu.write(&self.choices.seen, 4 * word as u64, &self.seen[word].to_ne_bytes())?;
            }
        }
        match self.first {
            Some(first) if position >= first && position + count as i64 <= first + ROWS as i64 => {}
            _ => {
                let place = |i: usize| i32::try_from(position + i as i64).unwrap_or(i32::MAX);
                let positions: Vec<[i32; 3]> = (0..ROWS).map(|i| [place(i); 3]).collect();
                let (cos, sin) = mrope_table(&positions, rope)?;
                gpu.write(&self.rows, 0, bytemuck::cast_slice(&rope_rows(&cos, &sin, rope.head_dim / 2)))?;
                self.first = Some(position);
            }
        }
        Ok((position - self.first.unwrap_or(position)) as usize)
    }

    /// The rows of [`State::begin`].
    pub(super) fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// Notes what the device has chosen, token by token.
    pub(super) fn chosen(&mut self, heads: &[Head]) {
        self.next = heads.last().map(|head| head.id);
        if self.penalty.is_some() {
            self.set.extend(heads.iter().map(|head| head.id));
        }
    }
}

/// A choice as the device writes it.
///
/// # Errors
/// [`Error::Gpu`] if the best logit is NaN or ±∞: a kernel overflowed.
pub(super) fn head(words: &[u32]) -> Result<Head> {
    let &[id, score, second, _] = words else { return Err(Error::Gpu { message: "no choice was read".into() }) };
    let score = value(score);
    if score == f32::NEG_INFINITY {
        return Err(Error::Gpu { message: "every logit is -inf".to_owned() });
    }
    if !score.is_finite() {
        return Err(Error::Gpu { message: format!("the logit of id {id} is {score}") });
    }
    Ok(Head { id, score, second: if second == 0 { f32::NEG_INFINITY } else { value(second) } })
}

/// A list as the device writes it, with the last word of its head.
pub(super) fn few(rest: u32, words: &[u32]) -> Few {
    let (keys, ids) = words[..LIST_WORDS].split_at(TOP);
    let logits = keys.iter().zip(ids).filter(|(_, id)| **id != u32::MAX).map(|(key, id)| (*id, value(*key))).collect();
    Few { logits, rest: (rest != 0).then(|| value(rest)) }
}
