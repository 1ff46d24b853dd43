//! What a decoded token costs in calls to the device, counted by the recorder and the executor. Counts are held here; a time
//! never is.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

mod golden_fixture;

use std::cell::Cell;
use std::rc::Rc;

use fanlight::dtype::CacheFormat;
use fanlight::generate::sampler::SamplingParams;
use fanlight::generate::session::{Prompt, Session};
use fanlight::generate::{Flow, GenerateOptions, Reply, generate};
use fanlight::gpu::Counts;
use golden_fixture::Engine;
use pollster::block_on;

/// The tokens between two of which the calls are counted.
const FROM: usize = 8;
const TO: usize = 24;

/// What the official checkpoints ask for: a draw that is none, and a penalty.
fn official() -> SamplingParams {
    SamplingParams {
        do_sample: true,
        temperature: 1e-6,
        top_k: 50,
        repetition_penalty: 1.05,
        ..SamplingParams::default()
    }
}

/// The calls from token [`FROM`] to token [`TO`] of an answer.
fn counted(engine: &Engine, cache: CacheFormat, sampling: SamplingParams, ahead: usize) -> Counts {
    let mut session = Session::with_cache(&engine.gpu, &engine.model, 1024, cache).unwrap();
    let options = GenerateOptions {
        sampling,
        max_new_tokens: TO + 9,
        stop_ids: Vec::new(),
        vocab: engine.tokenizer_ids,
        logprobs: None,
        loop_guard: false,
        ahead: Rc::new(Cell::new(ahead)),
        constraint: None,
    };
    let prompt = Prompt { ids: (0..40).map(|i| 3 + i * 7 % 50).collect(), media: Vec::new() };
    let mut reply = Reply::default();
    let (mut tokens, mut begin, mut end) = (0, None, None);
    let mut on_token = |_| {
        tokens += 1;
        match tokens {
            FROM => begin = Some(engine.gpu.counts()),
            TO => end = Some(engine.gpu.counts()),
            _ => {}
        }
        Flow::Continue
    };
    block_on(generate(&mut session, prompt, &mut reply, &options, &|| true, &mut on_token)).unwrap();
    end.unwrap().since(&begin.unwrap())
}

/// Launches of a layer with an f32 cache of one segment: norm, q/k/v, rotation, attention, its merge, output, norm, gate and up, SwiGLU,
/// down.
const LAYER: u64 = 10;
/// Embedding, last norm, lm_head, the highest logits, the choice.
const ENDS: u64 = 5;
/// Tokens that are counted.
const TOKENS: u64 = (TO - FROM) as u64;

#[test]
fn a_token_of_each_family() {
    for (model, cache, sampling) in [
        ("base", CacheFormat::F32, SamplingParams::default()),
        ("base", CacheFormat::F32, official()),
        ("base", CacheFormat::Q8, official()),
        ("qwen2_vl", CacheFormat::F32, official()),
        ("qwen3_vl", CacheFormat::F32, official()),
    ] {
        let engine = Engine::open(model);
        let config = engine.model.decoder.config();
        // A q8 cache is written by a launch of its own.
        let layer = LAYER + u64::from(cache == CacheFormat::Q8);
        let launches = config.layers as u64 * layer + ENDS;
        for ahead in [1, 4] {
            let counts = counted(&engine, cache, sampling.clone(), ahead);
            let name = format!("{model}, {cache} cache, {ahead} ahead: {counts:?}");
            println!("{name}");
            let submits = TOKENS / ahead as u64;
            assert!(counts.dispatches <= launches * TOKENS, "{name}: more than {launches} a token");
            assert_eq!((counts.submits, counts.read), (submits, 16 * TOKENS), "{name}");
            assert_eq!((counts.buffers, counts.bind_groups), (0, 0), "{name}");
            // Parameters alone, and hardly any: layers share them.
            assert_eq!(counts.writes, submits, "{name}");
            let block = u64::from(engine.gpu.caps().uniform_alignment).max(48);
            assert!(counts.written <= submits * (12 + 6 * ahead as u64) * block, "{name}");
        }
    }
}

/// A draw reads the highest logits, and all of them only where these do not tell.
#[test]
fn a_token_that_is_drawn() {
    let engine = Engine::open("base");
    let rows = engine.model.decoder.config().vocab as u64;
    let drawn =
        SamplingParams { do_sample: true, temperature: 0.7, top_k: 20, top_p: 0.8, ..SamplingParams::default() };
    let free = SamplingParams { top_k: 0, ..drawn.clone() };
    for (sampling, bytes) in [(drawn, 16 + 512), (free, 4 * rows)] {
        let counts = counted(&engine, CacheFormat::F32, sampling.clone(), 4);
        assert_eq!(counts.read, TOKENS * bytes, "{sampling:?}: {counts:?}");
        assert_eq!((counts.submits, counts.buffers, counts.bind_groups), (TOKENS, 0, 0), "{sampling:?}: {counts:?}");
        // Parameters and the id.
        assert_eq!(counts.writes, 2 * TOKENS, "{sampling:?}: {counts:?}");
    }
}
