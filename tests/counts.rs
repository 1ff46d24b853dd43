//! What a decoded token costs in calls to the device, counted by the recorder and the executor. Counts are held here; a time
//! never is.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

mod golden_fixture;

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
        ahead,
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
        let layers = engine.model.decoder.config().layers;
        let counts = counted(&engine, cache, sampling.clone(), 1);
        println!("{model} {cache} {layers} layers {counts:?}");
        println!("    ahead {:?}", counted(&engine, cache, sampling, 4));
    }
}
