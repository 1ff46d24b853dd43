//! Answering: the session computes the prompt and then one token after the other, which become text, reasoning and tool calls.

use std::cell::Cell;
use std::rc::Rc;

use super::answer::{Answer, Timings, Usage};
use super::calls::{self, CallSplitter};
use super::constraint::AfterThinking;
use super::engine::{Conversation, Engine};
use super::message::Message;
use super::options::{AskOptions, DEFAULT_MAX_TOKENS, MOST_LOGPROBS};
use super::prompt::Infos;
use super::spelled::Spelled;
use super::stream::{Delta, TokenLogprob, Writer};
use super::thinking::{self, ThinkingSplitter};
use crate::error::{Error, Result};
use crate::generate::constraint::Constrained;
use crate::generate::sampler::SamplingParams;
use crate::generate::{Finish, Flow, GenerateOptions, Reply, Token, generate};
use crate::text::{StopMatcher, StreamDecoder};

/// The most tokens that are computed in one submission where no draw or constraint needs each of them here.
const MOST_AHEAD: usize = 4;
/// Milliseconds that a submission of several tokens may take: pieces of an answer come no slower, and it can be cancelled that often.
const SUBMISSION_MS: f64 = 250.0;

/// How many tokens are computed ahead, by the time that the last ones took. Where a browser looks for finished work only now and then,
/// each token seems to take that long until more of them are computed at once.
struct Pace {
    ahead: Rc<Cell<usize>>,
    /// When the last token came.
    last: Option<f64>,
    /// Milliseconds of a token, a running mean over about the last eight.
    mean: Option<f64>,
}

impl Pace {
    fn new() -> Self {
        Pace { ahead: Rc::new(Cell::new(1)), last: None, mean: None }
    }

    fn token(&mut self, now: f64) {
        if let Some(last) = self.last.replace(now) {
            let mean = self.mean.map_or(now - last, |mean| mean + (now - last - mean) / 8.0);
            self.mean = Some(mean);
            // No time at all is as fast as it gets: the conversion saturates.
            self.ahead.set(((SUBMISSION_MS / mean.max(0.0)) as usize).clamp(1, MOST_AHEAD));
        }
    }
}

/// What the caller is told while an answer is made.
pub struct Hooks<'a> {
    /// Gets each piece of the answer when it is written.
    pub on_delta: &'a mut dyn FnMut(Delta<'_>),
    /// Called after every token and between steps of the prompt; `true` stops the answer.
    pub cancelled: &'a dyn Fn() -> bool,
    /// Milliseconds from any fixed moment.
    pub clock: &'a dyn Fn() -> f64,
}

/// An answer that is being written. If its device is lost, it can be continued on another one.
#[derive(Default)]
pub struct Draft {
    reply: Reply,
    /// The constraint, which has followed the reply so far.
    constraint: Option<Constrained>,
    /// When the answer was begun, when its pictures were encoded and when its first token was there, in milliseconds.
    begun: Option<f64>,
    prepared: Option<f64>,
    first: Option<f64>,
    /// Tokens of its prompt that were in the cache when it was begun.
    cached: Option<usize>,
}

impl Engine {
    /// Answers the last of `messages`. What the conversation's cache already holds of them is not computed again, and
    /// no picture is encoded twice.
    ///
    /// # Errors
    /// [`Error::Invalid`] for messages that the template refuses, [`Error::ContextOverflow`] with the numbers, or any
    /// error of the device. A cancelled answer is not an error: it has what was written so far and the finish reason `abort`.
    pub async fn ask(
        &self,
        conversation: &mut Conversation,
        messages: &[Message],
        options: &AskOptions,
        hooks: Hooks<'_>,
    ) -> Result<Answer> {
        self.go_on(&mut Draft::default(), conversation, messages, options, hooks).await
    }

    /// The same for an answer that may have been begun before: after [`Error::DeviceLost`], call this on an engine of another device
    /// ([`Engine::again`]) with the same conversation, messages and options. The answer becomes what it would have become on the first
    /// device, and `on_delta` gets no piece twice.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn go_on(
        &self,
        draft: &mut Draft,
        conversation: &mut Conversation,
        messages: &[Message],
        options: &AskOptions,
        hooks: Hooks<'_>,
    ) -> Result<Answer> {
        let Hooks { on_delta, cancelled, clock } = hooks;
        let Draft { reply, constraint: wrapped, begun, prepared, first, cached } = draft;
        let begin = *begun.get_or_insert_with(clock);
        let vocab = self.ids_in_use();
        let sampling = self.sampling(options, vocab)?;
        let calls = !options.tool_choice.offered(&options.tools)?.is_empty();
        let messages = &*calls::in_order(messages)?;
        let prompted = self.prompt(conversation, messages, options, cancelled).await?;
        let (prompt, Infos { images, videos, thinking, cancelled: ended }) = prompted;
        let prefill = *prepared.get_or_insert_with(clock);

        let max_new_tokens = options.max_tokens.or(self.generation.max_new_tokens).unwrap_or(DEFAULT_MAX_TOKENS);
        let stop_ids = self.stop_ids();
        if wrapped.is_none() {
            *wrapped = match &options.constraint {
                Some(answer) if self.template.reasons() => {
                    Some(AfterThinking::wrap(answer.clone(), &self.tokenizer, thinking, vocab, &stop_ids)?)
                }
                other => other.clone(),
            };
        }
        let mut pace = Pace::new();
        let generation = GenerateOptions {
            sampling,
            max_new_tokens,
            stop_ids,
            vocab,
            logprobs: options.logprobs,
            loop_guard: options.loop_guard,
            ahead: pace.ahead.clone(),
            constraint: wrapped.clone(),
        };
        let mut decoder = StreamDecoder::new(self.tokenizer.clone());
        let mut stops = StopMatcher::new(options.stop.clone());
        // A model whose template does not know reasoning has none, so `<think>` in its answer is ordinary text.
        let splitter = self.template.reasons().then(|| ThinkingSplitter::new(thinking));
        let splitters = calls.then(|| CallSplitter::new(calls::ids(messages)));
        // Tags count as tokens if the tokenizer has all that matter here as tokens.
        let mut tags: Vec<&str> = Vec::new();
        tags.extend(splitter.iter().flat_map(|_| thinking::TAGS));
        tags.extend(splitters.iter().flat_map(|_| calls::TAGS));
        let tags: Option<Vec<(u32, usize)>> = tags.iter().map(|tag| Some((self.added(tag)?, tag.len()))).collect();
        let mut writer = Writer::new(splitter, splitters, on_delta);
        writer.spelled = tags.is_some().then(Spelled::default);
        let mut stopped = false;
        let cached_tokens = *cached.get_or_insert_with(|| conversation.session.reusable(&prompt));
        let mut on_token = |writer: &mut Writer<'_>, Token { id, logprob }: Token| {
            first.get_or_insert_with(clock);
            pace.token(clock());
            writer.logprobs.extend(logprob.map(|logprob| TokenLogprob::new(&logprob, &self.tokenizer)));
            let text = decoder.push(id);
            if let (Some(spelled), Some(tags)) = (&mut writer.spelled, &tags) {
                spelled.token(&text, tags.iter().find(|(tag, _)| *tag == id).map(|(_, length)| *length));
            }
            let (piece, hit) = stops.push(&text);
            writer.write(&piece);
            if hit.is_some() {
                stopped = true;
                Flow::Stop
            } else if cancelled() {
                Flow::Cancel
            } else {
                Flow::Continue
            }
        };
        // After a lost device: the tokens written before bring the text to where it was, without telling the caller again.
        writer.silent = true;
        for token in reply.tokens.clone() {
            on_token(&mut writer, token);
        }
        writer.silent = false;
        let prompt_tokens = prompt.ids.len();
        let session = &mut conversation.session;
        let mut finish = match ended || cancelled() {
            true => Finish::Cancelled,
            false => {
                let mut on_token = |token| on_token(&mut writer, token);
                generate(session, prompt, reply, &generation, &|| !cancelled(), &mut on_token).await?
            }
        };
        let token_ids: Vec<u32> = reply.tokens.iter().map(|token| token.id).collect();
        if !stopped {
            let text = decoder.finish();
            if let Some(spelled) = &mut writer.spelled {
                spelled.token(&text, None);
            }
            let (piece, hit) = stops.push(&text);
            writer.write(&piece);
            if hit.is_some() {
                finish = Finish::Stop;
            } else {
                writer.write(&stops.finish());
            }
        }
        writer.finish();
        let Writer { text, reasoning, tool_calls, logprobs, .. } = writer;
        // Only a complete answer ends for its calls: one that was cut off might have made another.
        let finish_reason = if finish == Finish::Stop && !tool_calls.is_empty() { "tool_calls" } else { finish.name() };
        let end = clock();
        let completion_tokens = token_ids.len();
        Ok(Answer {
            text,
            reasoning: Some(reasoning).filter(|reasoning| !reasoning.is_empty()),
            token_ids,
            prompt_tokens,
            finish_reason,
            tool_calls,
            logprobs: options.logprobs.map(|_| logprobs),
            usage: Usage {
                prompt_tokens,
                image_tokens: images.iter().map(|i| i.tokens).sum(),
                video_tokens: videos.iter().map(|v| v.tokens).sum(),
                cached_tokens,
                completion_tokens,
            },
            timings: Timings::new([begin, prefill, first.unwrap_or(end), end], completion_tokens),
            images,
            videos,
        })
    }

    /// How tokens are chosen. Refuses options that do not go together or that this model has no tokens for.
    fn sampling(&self, options: &AskOptions, vocab: usize) -> Result<SamplingParams> {
        if options.constraint.is_some() && options.stop.iter().any(|stop| !stop.is_empty()) {
            let expected = "no stop strings beside a constraint, because the constraint decides where the answer ends";
            return Err(Error::invalid("stop", expected, format!("{:?}", options.stop)));
        }
        if let Some(n) = options.logprobs.filter(|n| *n > MOST_LOGPROBS) {
            return Err(Error::invalid("logprobs", format!("a number from 0 to {MOST_LOGPROBS}"), n.to_string()));
        }
        let sampling = options.sampling.clone().unwrap_or_else(|| self.generation.sampling(0));
        if let Some((id, _)) = sampling.logit_bias.iter().find(|(id, _)| *id as usize >= vocab) {
            return Err(Error::invalid("logit_bias", format!("token ids below {vocab}"), id.to_string()));
        }
        Ok(sampling)
    }

    /// Computes `messages` into the conversation's cache, so that an answer to them and to messages after them begins sooner.
    /// Returns how many tokens they are.
    ///
    /// # Errors
    /// As [`Engine::ask`], and [`Error::Cancelled`].
    pub async fn append(
        &self,
        conversation: &mut Conversation,
        messages: &[Message],
        options: &AskOptions,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<usize> {
        if messages.last().is_some_and(|last| last.prefix) {
            // Only an answer may follow a message that is to be continued, so it cannot be part of a later prompt.
            let expected =
                "complete messages, since one with `prefix` has to be the last one of a prompt that is answered";
            return Err(Error::invalid("messages", expected, "a message with `prefix`"));
        }
        let options = AskOptions { unanswered: true, ..options.clone() };
        let messages = &*calls::in_order(messages)?;
        let (prompt, infos) = self.prompt(conversation, messages, &options, cancelled).await?;
        if infos.cancelled || cancelled() {
            return Err(Error::Cancelled);
        }
        conversation.session.extend(&prompt, &|| !cancelled()).await?;
        Ok(prompt.ids.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a device of so many milliseconds a token, whose work is seen to be done only every `poll`, comes to compute at once.
    fn settled(token: f64, poll: f64) -> usize {
        let (mut pace, mut now) = (Pace::new(), 0.0);
        pace.token(now);
        for _ in 0..40 {
            let count = pace.ahead.get();
            now += (count as f64 * token / poll).ceil() * poll;
            (0..count).for_each(|_| pace.token(now));
        }
        pace.ahead.get()
    }

    #[test]
    fn the_pace_decides_how_far_ahead() {
        assert_eq!([0.0, 1.0, 20.0, 60.0].map(|token| settled(token, 1.0)), [4; 4]);
        assert_eq!([130.0, 400.0, 5000.0].map(|token| settled(token, 1.0)), [1; 3]);
        assert_eq!(
            [1.0, 10.0, 20.0].map(|token| settled(token, 100.0)),
            [4; 3],
            "work that is looked for every 100 ms"
        );
    }
}
