//! The sampler against transformers' logits processors (`tests/golden/sampling.json`).

use std::path::PathBuf;

use fanlight::generate::config::GenerationConfig;
use fanlight::generate::sampler::{Sampler, SamplingParams, Wants, logprobs};
use fanlight::generate::session::{Few, Head};
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

/// The highest `count` logits, and the bound that the device has for the others.
fn few(logits: &[f32], count: usize) -> Few {
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    let rest = (all.len() > count).then(|| all[count - 1].1);
    all.truncate(count);
    Few { logits: all, rest }
}

/// What the device says of the best after the penalty, its divisions off by `places` of their last places.
fn head(few: &Few, penalty: f32, history: &[u32], places: i32) -> Head {
    let after = |&(id, x): &(u32, f32)| match history.contains(&id) && penalty != 1.0 {
        true if x > 0.0 => (id, f32::from_bits(((x / penalty).to_bits() as i32 + places) as u32)),
        true => (id, x * penalty),
        false => (id, x),
    };
    let mut all: Vec<(u32, f32)> = few.logits.iter().map(after).collect();
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    let others = [all.get(1).map(|entry| entry.1), few.rest].into_iter().flatten();
    Head { id: all[0].0, score: all[0].1, second: others.fold(f32::NEG_INFINITY, f32::max) }
}

/// Rows of the fixture, and rows of other sizes with ties, with gaps of every size and with −∞.
fn rows() -> Vec<(Vec<f32>, Vec<u32>)> {
    let fixture = fixture();
    let rows = fixture["rows"].as_array().unwrap().iter();
    let mut rows: Vec<_> = rows.map(|row| (floats(&row["logits"]), ids(&row["prompt_ids"]))).collect();
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    for turn in 0..60 {
        let len = [3, 50, 64, 65, 300, 1000][turn % 6];
        let scale = [0.001, 1.0, 30.0][turn / 6 % 3];
        let mut row: Vec<f32> = (0..len).map(|_| scale * (random() - 0.4)).collect();
        match turn % 5 {
            0 => row.iter_mut().for_each(|x| *x = (*x * 8.0 / scale).round() / 8.0), // many ties
            1 => row[len / 2] = 3.0 * scale,
            2 => row.iter_mut().skip(2).step_by(2).for_each(|x| *x = f32::NEG_INFINITY),
            3 => (0..len / 2).for_each(|i| row[i] = scale),
            _ => row[len - 1] = row[0] + [1e-7, 1e-5, 1.04e-4, 1.06e-4, 1.2e-4, 0.01][turn / 10],
        }
        let history = (0..20).map(|_| (random() * len as f32) as u32).collect();
        rows.push((row, history));
    }
    rows
}

fn kinds() -> Vec<SamplingParams> {
    let mut kinds = Vec::new();
    let fixture = fixture();
    kinds.extend(fixture["sets"].as_array().unwrap().iter().map(|set| params(&set["params"])));
    let base = SamplingParams { do_sample: true, ..SamplingParams::default() };
    for repetition_penalty in [1.0, 1.05, 0.9] {
        for temperature in [0.0, 1e-44, 1e-6, 1e-3, 0.7] {
            for top_k in [0, 1, 20, 50, 63, 64] {
                kinds.push(SamplingParams { repetition_penalty, temperature, top_k, top_p: 0.8, ..base.clone() });
            }
        }
        kinds.push(SamplingParams { repetition_penalty, do_sample: false, ..base.clone() });
    }
    kinds.push(SamplingParams { top_k: 20, logit_bias: vec![(1, -5.0), (2, -0.5)], ..base.clone() });
    kinds.push(SamplingParams { top_k: 20, logit_bias: vec![(1, 5.0)], ..base.clone() });
    kinds.push(SamplingParams { do_sample: false, presence_penalty: -0.5, ..base });
    kinds
}

/// What the device's list or its best alone tells is what all logits tell, seed by seed, and the generator is where it would be.
#[test]
fn a_few_logits_tell_what_all_would() {
    let flat = [0.0; 16];
    let (mut picked, mut decided, mut asked) = (0, 0, 0);
    for (logits, history) in rows() {
        for (seed, params) in kinds().into_iter().enumerate() {
            let params = SamplingParams { seed: seed as u64, ..params };
            let fresh = Sampler::new(params.clone()).unwrap();
            let what = format!("{params:?} over {} logits", logits.len());
            let mut whole = fresh.clone();
            let id = whole.sample(&logits, &history).unwrap();
            // Where the generator is now: two draws of a flat row tell.
            let after = |sampler: &mut Sampler| [(); 2].map(|()| sampler.sample(&flat, &[]).unwrap());
            let then = after(&mut whole);
            for count in [1, 4, 64] {
                let mut some = fresh.clone();
                asked += 1;
                match some.pick(&few(&logits, count), None, &history).unwrap() {
                    Some(told) => {
                        assert_eq!(told, id, "{what}, the highest {count}");
                        assert_eq!(after(&mut some), then, "{what}, the highest {count}");
                        picked += 1;
                    }
                    None => assert_eq!(after(&mut some), after(&mut fresh.clone()), "{what}: nothing is drawn"),
                }
            }
            if fresh.wants() != Wants::Best {
                continue;
            }
            for places in [-2, 0, 2] {
                let mut best = fresh.clone();
                let head = head(&few(&logits, 64), params.repetition_penalty as f32, &history, places);
                if let Some(told) = best.decide(&head) {
                    assert_eq!(told, id, "{what}: {head:?}");
                    assert_eq!(after(&mut best), then, "{what}: {head:?}");
                    decided += 1;
                } else {
                    assert_eq!(after(&mut best), after(&mut fresh.clone()), "{what}: nothing is drawn");
                }
            }
        }
    }
    println!("{picked} of {asked} picked, {decided} decided");
    assert!(picked > asked / 4 && decided > 1000, "{picked} of {asked} picked, {decided} decided");
}

/// A mask takes ids away before everything else.
#[test]
fn a_few_logits_under_a_mask() {
    for (logits, history) in rows() {
        let mut mask = vec![0u32; logits.len().div_ceil(32)];
        (0..logits.len()).filter(|id| id % 3 != 0).for_each(|id| mask[id / 32] |= 1 << (id % 32));
        let masked: Vec<f32> =
            logits.iter().enumerate().map(|(id, x)| if id % 3 == 0 { f32::NEG_INFINITY } else { *x }).collect();
        for (seed, params) in kinds().into_iter().enumerate() {
            let fresh = Sampler::new(SamplingParams { seed: seed as u64, ..params }).unwrap();
            let told = fresh.clone().pick(&few(&logits, 64), Some(&mask), &history).unwrap();
            let all = fresh.clone().sample(&masked, &history).ok();
            assert!(told.is_none() || told == all, "{told:?} and {all:?} with {:?}", fresh.params());
        }
    }
}

/// One kind of error, whichever way the logits come.
#[test]
fn broken_logits_are_errors_of_one_kind() {
    for bad in [f32::NAN, f32::INFINITY] {
        for params in
            [SamplingParams::default(), SamplingParams { do_sample: true, top_k: 5, ..SamplingParams::default() }]
        {
            let mut sampler = Sampler::new(params).unwrap();
            let all = sampler.sample(&[1.0, 2.0, bad], &[]).unwrap_err();
            let some = Few { logits: vec![(2, bad), (1, 2.0)], rest: Some(2.0) };
            assert_eq!(sampler.pick(&some, None, &[]).unwrap_err(), all);
            assert_eq!(all, fanlight::Error::Gpu { message: format!("the logit of id 2 is {bad}") });
        }
    }
}
