//! The generate room: sampler, session and what they take of a device. It knows token ids, not text.

pub mod config;
pub mod constraint;
pub mod estimate;
pub mod loops;
pub mod sampler;
pub mod session;

use crate::error::Result;
use crate::generate::constraint::{Constrained, Constraint};
use crate::generate::loops::LoopGuard;
use crate::generate::sampler::{Logprob, Sampler, SamplingParams, logprobs};
use crate::generate::session::{Choose, Next, Prompt, Session};

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model said so, or a stop string came.
    Stop,
    /// The token budget or the context is used up.
    Length,
    /// The caller cancelled.
    Cancelled,
    /// It only repeated itself: [`LoopGuard`].
    Repetition,
}

impl Finish {
    /// The name in results: `stop`, `length`, `abort` or `repetition`.
    pub fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Cancelled => "abort",
            Finish::Repetition => "repetition",
        }
    }
}

/// What to generate.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Most tokens of the reply.
    pub max_new_tokens: usize,
    /// Ids that end the reply; they are not part of it.
    pub stop_ids: Vec<u32>,
    /// The tokenizer's ids end here; rows of the lm_head from here on are padding and never chosen.
    pub vocab: usize,
    /// Give the log-probability of every token, and of so many of the likeliest at its place.
    pub logprobs: Option<usize>,
    /// End a reply that only repeats itself.
    pub loop_guard: bool,
    /// What the reply may be. A reply that ends by [`Finish::Stop`] is all of it.
    pub constraint: Option<Constrained>,
}

/// A token of a reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Where it was asked for.
    pub logprob: Option<Logprob>,
}

/// A reply as far as it is written. It outlives the device that it was begun on.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// What [`generate`] has given to `on_token`.
    pub tokens: Vec<Token>,
    /// Whose random numbers go on where they were.
    sampler: Option<Sampler>,
}

/// What the receiver of a token wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Another token.
    Continue,
    /// The reply is complete (a stop string).
    Stop,
    /// The caller cancelled.
    Cancel,
}

/// Runs the prompt and generates token by token. Each goes to `on_token` before the next is computed; a stop id does not.
/// `keep_going` is asked between the passes of a long prompt. A `reply` that was begun, on a device that is no more, goes on: what
/// it has is computed with the prompt, and not given to `on_token` again. Its constraint is the one of before, and knows of it.
///
/// # Errors
/// As [`Session::prefill`]; a cancelled prompt gives [`Finish::Cancelled`], not an error.
pub async fn generate(
    session: &mut Session,
    mut prompt: Prompt,
    reply: &mut Reply,
    options: &GenerateOptions,
    keep_going: &dyn Fn() -> bool,
    on_token: &mut dyn FnMut(Token) -> Flow,
) -> Result<Finish> {
    let Reply { tokens: written, sampler } = reply;
    let sampler = match sampler {
        Some(sampler) => sampler,
        None => {
            let new = Sampler::new(options.sampling.clone())?.with_vocab(options.vocab);
            sampler.insert(new.with_prompt(prompt.ids.len()))
        }
    };
    prompt.ids.extend(written.iter().map(|token| token.id));
    let p = &options.sampling;
    // Penalties that count occurrences need all logits; so do a bias, probabilities and drawing.
    let greedy = !p.do_sample || p.temperature == 0.0;
    let plain = p.presence_penalty == 0.0 && p.frequency_penalty == 0.0 && p.logit_bias.is_empty();
    let on_device = greedy && plain && options.logprobs.is_none();
    let mut guard = options.loop_guard.then(LoopGuard::default);
    if let Some(guard) = &mut guard {
        for token in written.iter() {
            guard.push(token.id);
        }
    }
    let mut history = prompt.ids.clone();
    let mut seen = Seen::new(&prompt.ids);
    if options.max_new_tokens <= written.len() {
        return Ok(Finish::Length);
    }
    let penalize = p.repetition_penalty != 1.0;
    macro_rules! choose {
        () => {
            if on_device {
                let penalty = penalize.then(|| (p.repetition_penalty as f32, seen.ids()));
                Choose::Greedy { vocab: options.vocab, penalty }
            } else {
                Choose::Logits
            }
        };
    }
    let mut constraint = options.constraint.clone();
    let mut bits = Vec::new();
    session.keep_logits(on_device && constraint.is_some());
    let mut next = match session.prefill(&prompt, choose!(), keep_going).await {
        Err(crate::error::Error::Cancelled) => return Ok(Finish::Cancelled),
        other => other?,
    };
    // The cache has what there was to see.
    drop(prompt);
    loop {
        let (id, logprob) = match (next, &mut constraint) {
            (Next::Id(id), None) => (id, None),
            (Next::Id(id), Some(constraint)) => {
                // Mostly the best of all is allowed; to ask that takes a hundredth of what a mask takes.
                let allowed = if constraint.allows(id)? {
                    Some(id)
                } else {
                    let mut logits = session.logits().await?;
                    logits.truncate(options.vocab);
                    constraint.mask(&mut bits)?;
                    constraint::best(&bits, &logits)
                };
                match allowed {
                    Some(id) => (id, None),
                    None => return Ok(Finish::Stop),
                }
            }
            (Next::Logits(logits), constraint) => {
                let id = match constraint {
                    None => sampler.sample(&logits, &history)?,
                    Some(constraint) => {
                        let mut allowed = logits.get(..options.vocab).unwrap_or(&logits).to_vec();
                        constraint.mask(&mut bits)?;
                        if !constraint::apply(&bits, &mut allowed) {
                            return Ok(Finish::Stop);
                        }
                        sampler.sample(&allowed, &history)?
                    }
                };
                // What the model gave, whatever it was allowed.
                let logprob = options.logprobs.map(|top| logprobs(&logits, options.vocab, id, top)).transpose()?;
                (id, logprob)
            }
        };
        if options.stop_ids.contains(&id) {
            return Ok(Finish::Stop);
        }
        if let Some(constraint) = &mut constraint {
            constraint.commit(id)?;
        }
        let token = Token { id, logprob };
        written.push(token.clone());
        match on_token(token) {
            Flow::Continue => {}
            Flow::Stop => return Ok(Finish::Stop),
            Flow::Cancel => return Ok(Finish::Cancelled),
        }
        if let Some(constraint) = &mut constraint
            && constraint.complete()?
        {
            return Ok(Finish::Stop);
        }
        if guard.as_mut().is_some_and(|guard| guard.push(id)) {
            return Ok(Finish::Repetition);
        }
        if written.len() >= options.max_new_tokens || session.len() >= session.limit() {
            return Ok(Finish::Length);
        }
        history.push(id);
        seen.insert(id);
        next = session.step(id, choose!()).await?;
    }
}

/// Distinct ids in the order in which they came.
struct Seen {
    ids: Vec<u32>,
    set: std::collections::HashSet<u32>,
}

impl Seen {
    fn new(ids: &[u32]) -> Self {
        let mut seen = Seen { ids: Vec::new(), set: Default::default() };
        ids.iter().for_each(|&id| seen.insert(id));
        seen
    }

    fn insert(&mut self, id: u32) {
        if self.set.insert(id) {
            self.ids.push(id);
        }
    }

    fn ids(&self) -> &[u32] {
        &self.ids
    }
}
