//! Generates tokens: the sampler, the session with its KV cache, and the estimate of their memory. It knows token ids, not text.

pub mod config;
pub mod constraint;
pub mod estimate;
pub mod loops;
pub mod sampler;
pub mod session;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::generate::constraint::{Constrained, Constraint};
use crate::generate::loops::LoopGuard;
use crate::generate::sampler::{Logprob, Sampler, SamplingParams, Wants, logprobs};
use crate::generate::session::{Choose, Few, Head, Next, Prompt, Session};

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
    /// How many tokens are computed at once where each is the best after the one before, at most
    /// [`MOST_AHEAD`](session::MOST_AHEAD). What lies behind the end of the reply is thrown away. It may change between tokens.
    pub ahead: Rc<Cell<usize>>,
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

/// Runs the prompt and generates token by token. Each token is passed to `on_token` in order, except for an id that ends the reply.
/// `keep_going` is asked between the passes of a long prompt. A `reply` that was begun on a lost device is continued: its tokens are
/// computed together with the prompt and not passed to `on_token` again. Its constraint must be the same object as before, since it
/// has seen these tokens.
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
    if options.max_new_tokens <= written.len() {
        return Ok(Finish::Length);
    }
    let mut decoding = Decoding::new(session, sampler, options, prompt.ids.clone())?;
    if let Err(error) = decoding.prompt(&prompt, keep_going).await {
        return if matches!(error, Error::Cancelled) { Ok(Finish::Cancelled) } else { Err(error) };
    }
    // The KV cache holds the pictures and videos now, so their embeddings can be freed.
    drop(prompt);
    let finish = decoding.run(written, on_token).await;
    let len = decoding.history.len();
    session.finish(len);
    finish
}

/// A reply while it is generated.
struct Decoding<'a> {
    session: &'a mut Session,
    sampler: &'a mut Sampler,
    options: &'a GenerateOptions,
    constraint: Option<Constrained>,
    bits: Vec<u32>,
    wants: Wants,
    /// The ids that have been computed and belong to the reply or the prompt. The session may have others behind them.
    history: Vec<u32>,
    /// What is known of the next token.
    next: Next,
    /// Choices of the device beyond the next token, each after the one before.
    queue: VecDeque<Head>,
    /// The place of `next` among the tokens of the last submission, and how many there were.
    slot: (usize, usize),
}

impl<'a> Decoding<'a> {
    fn new(
        session: &'a mut Session,
        sampler: &'a mut Sampler,
        options: &'a GenerateOptions,
        history: Vec<u32>,
    ) -> Result<Self> {
        let wants = match (sampler.wants(), options.logprobs) {
            (_, Some(_)) => Wants::All, // their sum is over all logits
            (wants, None) => wants,
        };
        let penalty = Some(options.sampling.repetition_penalty as f32).filter(|p| *p != 1.0 && wants == Wants::Best);
        session.penalize(penalty, &history)?;
        Ok(Decoding {
            session,
            sampler,
            options,
            constraint: options.constraint.clone(),
            bits: Vec::new(),
            wants,
            history,
            next: Next::Logits(Vec::new()),
            queue: VecDeque::new(),
            slot: (0, 1),
        })
    }

    fn choose(&self) -> Choose {
        let vocab = self.options.vocab;
        match self.wants {
            Wants::Best => Choose::Best { vocab },
            Wants::Few => Choose::Few { vocab },
            Wants::All => Choose::Logits,
        }
    }

    async fn prompt(&mut self, prompt: &Prompt, keep_going: &dyn Fn() -> bool) -> Result<()> {
        self.next = self.session.prefill(prompt, self.choose(), keep_going).await?;
        Ok(())
    }

    async fn run(&mut self, written: &mut Vec<Token>, on_token: &mut dyn FnMut(Token) -> Flow) -> Result<Finish> {
        let options = self.options;
        let mut guard = options.loop_guard.then(LoopGuard::default);
        if let Some(guard) = &mut guard {
            for token in written.iter() {
                guard.push(token.id);
            }
        }
        loop {
            let Some((id, logprob)) = self.decide().await? else { return Ok(Finish::Stop) };
            if options.stop_ids.contains(&id) {
                return Ok(Finish::Stop);
            }
            if let Some(constraint) = &mut self.constraint {
                constraint.commit(id)?;
            }
            let token = Token { id, logprob };
            written.push(token.clone());
            match on_token(token) {
                Flow::Continue => {}
                Flow::Stop => return Ok(Finish::Stop),
                Flow::Cancel => return Ok(Finish::Cancelled),
            }
            if let Some(constraint) = &mut self.constraint
                && constraint.complete()?
            {
                return Ok(Finish::Stop);
            }
            if guard.as_mut().is_some_and(|guard| guard.push(id)) {
                return Ok(Finish::Repetition);
            }
            let room = self.session.limit().saturating_sub(self.history.len());
            let left = (options.max_new_tokens - written.len()).min(room);
            if left == 0 {
                return Ok(Finish::Length);
            }
            self.advance(id, left).await?;
        }
    }

    /// The next id. `None` if no id may follow.
    async fn decide(&mut self) -> Result<Option<(u32, Option<Logprob>)>> {
        let next = std::mem::replace(&mut self.next, Next::Logits(Vec::new()));
        let logits = match next {
            Next::Best(best) => {
                // Usually the best id is allowed, and checking one id takes a hundredth of the time of a whole mask.
                let mut mask = false;
                if let Some(constraint) = &mut self.constraint {
                    mask = !constraint.allows(best.id)?;
                }
                if !mask && let Some(id) = self.sampler.decide(&best) {
                    return Ok(Some((id, None)));
                }
                let few = self.session.few(self.slot.0).await?;
                if let Some(id) = self.pick(&few, mask)? {
                    return Ok(Some((id, None)));
                }
                self.all().await?
            }
            Next::Few(few) => {
                if let Some(id) = self.pick(&few, true)? {
                    return Ok(Some((id, None)));
                }
                self.all().await?
            }
            Next::Logits(logits) => logits,
        };
        let Some(id) = self.sample(&logits)? else { return Ok(None) };
        // Log-probabilities are those of the model, before the constraint.
        let logprob = self.options.logprobs.map(|top| logprobs(&logits, self.options.vocab, id, top)).transpose()?;
        Ok(Some((id, logprob)))
    }

    /// The choice among the highest logits, if they tell: of the ids that the constraint allows, or of all of them if it is known to allow
    /// the one that will be chosen.
    fn pick(&mut self, few: &Few, masked: bool) -> Result<Option<u32>> {
        let mask = match &mut self.constraint {
            Some(constraint) if masked => {
                constraint.mask(&mut self.bits)?;
                Some(&self.bits[..])
            }
            _ => None,
        };
        self.sampler.pick(few, mask, &self.history)
    }

    /// The choice among all logits.
    fn sample(&mut self, logits: &[f32]) -> Result<Option<u32>> {
        let Some(constraint) = &mut self.constraint else {
            return self.sampler.sample(logits, &self.history).map(Some);
        };
        constraint.mask(&mut self.bits)?;
        let mut allowed = logits.get(..self.options.vocab).unwrap_or(logits).to_vec();
        if !constraint::apply(&self.bits, &mut allowed) {
            return Ok(None);
        }
        self.sampler.sample(&allowed, &self.history).map(Some)
    }

    /// All logits of the next token. They are still there if it is the last of its submission.
    async fn all(&mut self) -> Result<Vec<f32>> {
        if self.slot.0 + 1 == self.slot.1 {
            return self.session.logits().await;
        }
        let last = self.history[self.history.len() - 1];
        self.queue.clear();
        self.session.finish(self.history.len() - 1);
        self.slot = (0, 1);
        match self.session.step(last, Choose::Logits).await? {
            Next::Logits(logits) => Ok(logits),
            Next::Best(_) | Next::Few(_) => Err(Error::invalid("logits", "all of them", "a choice")),
        }
    }

    /// Computes what follows `id`, or takes it from what was computed ahead. The reply has at most `left` more tokens.
    async fn advance(&mut self, id: u32, left: usize) -> Result<()> {
        self.history.push(id);
        // The session has gone on with the device's choice: with this id or with another one.
        let ahead = self.session.ids().get(self.history.len() - 1) == Some(&id);
        if let Some(head) = self.queue.pop_front().filter(|_| ahead) {
            self.slot.0 += 1;
            self.next = Next::Best(head);
            return Ok(());
        }
        self.queue.clear();
        self.session.finish(self.history.len() - 1);
        let count =
            if self.wants == Wants::Best && self.constraint.is_none() { self.options.ahead.get().min(left) } else { 1 };
        if count > 1 {
            let heads = self.session.steps(id, count, self.options.vocab).await?;
            self.slot = (0, heads.len());
            self.queue.extend(heads);
            let first = self.queue.pop_front();
            self.next = Next::Best(first.ok_or_else(|| Error::invalid("steps", "at least one token", "none"))?);
        } else {
            self.slot = (0, 1);
            self.next = self.session.step(id, self.choose()).await?;
        }
        Ok(())
    }
}
