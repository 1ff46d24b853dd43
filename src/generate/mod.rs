//! Generates tokens: the sampler, the session with its KV cache, and the estimate of their memory. It knows token ids, not text.

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
    /// The model ended it, or a stop string was found.
    Stop,
    /// The maximum number of tokens or the context is used up.
    Length,
    /// The caller cancelled.
    Cancelled,
    /// It only repeated itself, see [`LoopGuard`].
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

/// Options for generating a reply.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// The most tokens of the reply.
    pub max_new_tokens: usize,
    /// Ids that end the reply. They are not part of it.
    pub stop_ids: Vec<u32>,
    /// The number of ids of the tokenizer. Rows of the lm_head from here on are padding and never chosen.
    pub vocab: usize,
    /// If set, report the log-probability of every token, and of this many of the likeliest tokens at its place.
    pub logprobs: Option<usize>,
    /// End the reply if it only repeats itself.
    pub loop_guard: bool,
    /// A constraint on the reply. A reply that ends with [`Finish::Stop`] satisfies it completely.
    pub constraint: Option<Constrained>,
}

/// A token of a reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// The token's id.
    pub id: u32,
    /// Its log-probability, if requested.
    pub logprob: Option<Logprob>,
}

/// An unfinished reply. It outlives the device on which it was begun.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The tokens that [`generate`] has passed to `on_token`.
    pub tokens: Vec<Token>,
    /// The sampler, which keeps the state of its random numbers.
    sampler: Option<Sampler>,
}

/// What the receiver of a token asks for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Another token.
    Continue,
    /// End the reply, because a stop string was found.
    Stop,
    /// The caller cancelled.
    Cancel,
}

/// Runs the prompt and generates token by token. Each token is passed to `on_token` before the next one is computed, except for
/// an id that ends the reply. `keep_going` is asked between the passes of a long prompt. A `reply` that was begun on a lost device
/// is continued: its tokens are computed together with the prompt and not passed to `on_token` again. Its constraint must be the
/// same object as before, since it has seen these tokens.
///
/// # Errors
/// As [`Session::prefill`]. A cancelled prompt gives [`Finish::Cancelled`], not an error.
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
    // Penalties that count occurrences, a bias, log-probabilities and drawing need all logits.
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
    // The KV cache holds the pictures and videos now, so their embeddings can be freed.
    drop(prompt);
    loop {
        let (id, logprob) = match (next, &mut constraint) {
            (Next::Id(id), None) => (id, None),
            (Next::Id(id), Some(constraint)) => {
                // Usually the best id is allowed, and checking one id takes a hundredth of the time of a whole mask.
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
                // Log-probabilities are those of the model, before the constraint.
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

/// The distinct ids, in the order of their first occurrence.
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
