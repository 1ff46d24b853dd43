//! Tokens that are computed ahead: whatever the device guesses, the reply is the one that all logits give, token by token.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

mod golden_fixture;

use std::cell::Cell;
use std::rc::Rc;

use fanlight::dtype::CacheFormat;
use fanlight::generate::sampler::{Sampler, SamplingParams};
use fanlight::generate::session::{Choose, Next, Prompt, Session};
use fanlight::generate::{Finish, Flow, GenerateOptions, Reply, generate};
use golden_fixture::Engine;
use pollster::block_on;

const TOKENS: usize = 60;

fn prompt() -> Prompt {
    Prompt { ids: (0..30).map(|i| 3 + i * 7 % 50).collect(), media: Vec::new() }
}

/// The reply by [`Sampler::sample`] over all logits of every token.
fn by_hand(engine: &Engine, cache: CacheFormat, sampling: &SamplingParams) -> Vec<u32> {
    let mut session = Session::with_cache(&engine.gpu, &engine.model, 1024, cache).unwrap();
    let mut sampler = Sampler::new(sampling.clone()).unwrap().with_vocab(engine.tokenizer_ids).with_prompt(30);
    let mut history = prompt().ids;
    let mut next = block_on(session.prefill(&prompt(), Choose::Logits, &|| true)).unwrap();
    while history.len() < 30 + TOKENS {
        let Next::Logits(logits) = next else { panic!("logits were asked for") };
        let id = sampler.sample(&logits, &history).unwrap();
        history.push(id);
        next = block_on(session.step(id, Choose::Logits)).unwrap();
    }
    history.split_off(30)
}

/// The reply of `generate`, ended after `most` tokens by a limit or by the receiver.
fn generated(
    engine: &Engine,
    session: &mut Session,
    sampling: &SamplingParams,
    ahead: usize,
    most: usize,
    stop: bool,
) -> Vec<u32> {
    let options = GenerateOptions {
        sampling: sampling.clone(),
        max_new_tokens: if stop { 500 } else { most },
        stop_ids: Vec::new(),
        vocab: engine.tokenizer_ids,
        logprobs: None,
        loop_guard: false,
        ahead: Rc::new(Cell::new(ahead)),
        constraint: None,
    };
    let mut reply = Reply::default();
    let mut count = 0;
    let mut on_token = |_| {
        count += 1;
        if stop && count == most { Flow::Stop } else { Flow::Continue }
    };
    let finish = block_on(generate(session, prompt(), &mut reply, &options, &|| true, &mut on_token)).unwrap();
    assert_eq!(finish, if stop { Finish::Stop } else { Finish::Length });
    let ids: Vec<u32> = reply.tokens.iter().map(|token| token.id).collect();
    // The session holds what was computed for the reply and nothing that lies behind it.
    assert_eq!(session.ids(), [&prompt().ids[..], &ids[..ids.len() - 1]].concat());
    ids
}

#[test]
fn replies_are_equal_however_far_the_device_goes_ahead() {
    let base = SamplingParams::default();
    let official =
        SamplingParams { do_sample: true, temperature: 1e-6, top_k: 50, repetition_penalty: 1.05, ..base.clone() };
    let kinds = [
        base.clone(),
        official.clone(),
        // So strong that the best of the list is often no better than what is not listed.
        SamplingParams { repetition_penalty: 4.0, ..base.clone() },
        // Below 1, which only all logits tell.
        SamplingParams { repetition_penalty: 0.8, ..official.clone() },
        SamplingParams { do_sample: true, temperature: 0.7, top_k: 20, top_p: 0.8, seed: 3, ..base.clone() },
        SamplingParams { do_sample: true, top_p: 0.9, seed: 4, ..base.clone() },
        SamplingParams { temperature: 0.005, seed: 5, ..official },
        SamplingParams { presence_penalty: 1.5, logit_bias: vec![(7, -100.0)], ..base },
    ];
    for (model, cache) in [("base", CacheFormat::F32), ("qwen3_vl", CacheFormat::Q8)] {
        let engine = Engine::open(model);
        for sampling in &kinds {
            let expected = by_hand(&engine, cache, sampling);
            let mut session = Session::with_cache(&engine.gpu, &engine.model, 1024, cache).unwrap();
            for (ahead, most, stop) in [(1, TOKENS, false), (4, TOKENS, false), (8, 33, true), (3, 2, true)] {
                // The same session again: what is left of the reply before must not matter.
                let found = generated(&engine, &mut session, sampling, ahead, most, stop);
                assert_eq!(found, expected[..most], "{model} {cache}, {ahead} ahead, {sampling:?}");
            }
        }
    }
}

/// To the last position and not beyond it, in segments of the cache that end between two tokens of a submission.
#[test]
fn tokens_ahead_end_where_the_context_does() {
    let engine = Engine::open("base");
    let sampling = SamplingParams::default();
    let mut alone = Session::new(&engine.gpu, &engine.model, 301).unwrap();
    let mut ahead = Session::new(&engine.gpu, &engine.model, 301).unwrap();
    let one = generated(&engine, &mut alone, &sampling, 1, 272, false);
    let many = generated(&engine, &mut ahead, &sampling, 7, 272, false);
    assert_eq!(one, many);
    assert_eq!((alone.len(), ahead.len()), (301, 301));
    let rooms = |session: &Session| session.cache().segments().collect::<Vec<_>>();
    assert_eq!(rooms(&alone), rooms(&ahead));
}
