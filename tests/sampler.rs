//! The sampler against transformers' logits processors (`tests/golden/sampling.json`).

use std::path::PathBuf;

use fanlight::generate::config::GenerationConfig;
use fanlight::generate::sampler::{Sampler, SamplingParams, logprobs};
use serde_json::Value;

fn fixture() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sampling.json");
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("fixture {}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn list<T>(value: &Value, convert: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    value.as_array().unwrap().iter().map(|v| convert(v).unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    list(value, |v| v.as_u64().map(|id| id as u32))
}

/// The ids of a set; null means all of them.
fn set_ids(set: &Value, len: usize) -> Vec<u32> {
    if set["ids"].is_null() { (0..len as u32).collect() } else { ids(&set["ids"]) }
}

fn floats(value: &Value) -> Vec<f32> {
    list(value, |v| v.as_f64().map(|f| f as f32))
}

fn params(value: &Value) -> SamplingParams {
    let mut params = SamplingParams { do_sample: true, ..SamplingParams::default() };
    for (name, value) in value.as_object().unwrap() {
        let number = value.as_f64().unwrap();
        match name.as_str() {
            "temperature" => params.temperature = number,
            "top_k" => params.top_k = number as usize,
            "top_p" => params.top_p = number,
            "min_p" => params.min_p = Some(number),
            "repetition_penalty" => params.repetition_penalty = number,
            "frequency_penalty" => params.frequency_penalty = number,
            "presence_penalty" => params.presence_penalty = number,
            _ => panic!("a parameter that this test does not know: {name}"),
        }
    }
    params
}

#[test]
fn probabilities_are_transformers() {
    let fixture = fixture();
    let sets = fixture["sets"].as_array().unwrap();
    assert!(sets.len() >= 30);
    let mut cut = 0;
    for set in sets {
        let row = &fixture["rows"][set["row"].as_u64().unwrap() as usize];
        let (mut logits, history) = (floats(&row["logits"]), ids(&row["prompt_ids"]));
        let len = logits.len();
        // What lies beyond the tokenizer is masked before anything else, whatever it is.
        logits.extend([1e30, f32::INFINITY, f32::NAN]);
        let sampler = Sampler::new(params(&set["params"])).unwrap().with_vocab(len);
        let ours = sampler.probabilities(&logits, &history).unwrap();
        let theirs: Vec<(u32, f32)> = set_ids(set, len).into_iter().zip(floats(&set["probabilities"])).collect();
        let what = format!("row {} with {}", set["row"], set["params"]);
        assert_eq!(
            ours.iter().map(|c| c.0).collect::<Vec<_>>(),
            theirs.iter().map(|c| c.0).collect::<Vec<_>>(),
            "{what}"
        );
        for (&(id, p), &(_, expected)) in ours.iter().zip(&theirs) {
            // torch's vectorised f32 exp is off by some 1e-6.
            assert!((p - expected).abs() <= 1e-5 * expected + 1e-9, "{what}: id {id}: {p} instead of {expected}");
        }
        cut += usize::from(theirs.len() < len);
    }
    assert!(cut >= 20, "sets that drop something");
}

/// Bias, presence and frequency as transformers and vLLM have them, and log-probabilities of the logits as they are.
#[test]
fn penalties_of_the_answer_are_vllms() {
    let fixture = fixture();
    let sets = fixture["penalties"].as_array().unwrap();
    assert!(sets.len() >= 18);
    for set in sets {
        let row = &fixture["rows"][set["row"].as_u64().unwrap() as usize];
        let (logits, prompt) = (floats(&row["logits"]), ids(&row["prompt_ids"]));
        let bias = set["logit_bias"].as_object().unwrap();
        let logit_bias = bias.iter().map(|(id, bias)| (id.parse().unwrap(), bias.as_f64().unwrap() as f32)).collect();
        let params = SamplingParams { logit_bias, ..params(&set["params"]) };
        let what = format!("row {} with {} and {bias:?}", set["row"], set["params"]);
        let sampler = Sampler::new(params).unwrap().with_prompt(prompt.len());
        let history = [prompt, ids(&set["answer_ids"])].concat();
        let ours = sampler.probabilities(&logits, &history).unwrap();
        for (id, expected) in (0..).zip(floats(&set["probabilities"])) {
            let p = ours.iter().find(|choice| choice.0 == id).map_or(0.0, |choice| choice.1);
            assert!((p - expected).abs() <= 1e-5 * expected + 1e-9, "{what}: id {id}: {p} instead of {expected}");
        }
        for pair in set["logprobs"].as_array().unwrap() {
            let (id, expected) = (pair[0].as_u64().unwrap() as u32, pair[1].as_f64().unwrap());
            let found = logprobs(&logits, logits.len(), id, 5).unwrap();
            assert!((found.logprob - expected).abs() < 1e-12 * expected.abs().max(1.0), "{what}: {found:?}");
            let top = list(&set["top"], Value::as_f64);
            assert!(
                found.top.iter().zip(&top).all(|(a, b)| (a.1 - b).abs() < 1e-12 * b.abs().max(1.0)),
                "{what}: {found:?}"
            );
        }
    }
}

#[test]
fn a_draw_is_one_of_the_choices() {
    let fixture = fixture();
    for set in fixture["sets"].as_array().unwrap() {
        let row = &fixture["rows"][set["row"].as_u64().unwrap() as usize];
        let (logits, history) = (floats(&row["logits"]), ids(&row["prompt_ids"]));
        let allowed = set_ids(set, logits.len());
        let mut sampler = Sampler::new(SamplingParams { seed: 11, ..params(&set["params"]) }).unwrap();
        for _ in 0..50 {
            let id = sampler.sample(&logits, &history).unwrap();
            assert!(allowed.contains(&id), "{id} with {}", set["params"]);
        }
    }
}

#[test]
fn the_checkpoints_defaults_are_greedy_in_effect() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/base/generation_config.json");
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("fixture {}: {e}", path.display()));
    let config = GenerationConfig::parse(&text).unwrap();
    assert!(config.do_sample && config.top_k == 50, "as transformers fills it in");
    assert!(!config.eos_token_ids.is_empty());
    let fixture = fixture();
    for row in fixture["rows"].as_array().unwrap() {
        let (logits, history) = (floats(&row["logits"]), ids(&row["prompt_ids"]));
        let choices = Sampler::new(config.sampling(0)).unwrap().probabilities(&logits, &history).unwrap();
        let mut greedy = Sampler::new(SamplingParams { do_sample: false, ..config.sampling(0) }).unwrap();
        let best = greedy.sample(&logits, &history).unwrap();
        assert!(choices.iter().any(|&(id, _)| id == best));
        assert!(choices.iter().all(|&(id, p)| id == best || p <= 0.5), "{choices:?}");
    }
}
