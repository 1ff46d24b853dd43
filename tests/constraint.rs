//! Constrained answers of models whose weights are random, so that nothing but the constraint makes them what they are.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

use std::path::PathBuf;

use fanlight::chat::constraint::compose;
use fanlight::chat::tools::{Tool, ToolChoice};
use fanlight::chat::{Answer, AskOptions, Engine, Hooks, Message};
use fanlight::generate::constraint::{Constrained, Constraint};
use fanlight::generate::sampler::SamplingParams;
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::grammar::{Grammar, Spec};
use fanlight::weights::source::Memory;
use fanlight::{Error, Result};
use pollster::block_on;
use serde_json::{Value, json};

/// The golden Qwen3-VL, whose tokenizer has `<think>` and `<tool_call>`; with the template of the Thinking edition if asked.
fn engine(thinking: bool) -> Engine {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files = Memory::new();
    for entry in std::fs::read_dir(golden.join("models/qwen3_vl")).expect("the fixture").map(Result::unwrap) {
        files.insert(entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
    }
    if thinking {
        let template = std::fs::read(golden.join("text/qwen3/chat_template_thinking.jinja")).expect("the template");
        files.insert("chat_template.jinja", template);
    }
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    block_on(Engine::load(&gpu, &files, &mut |_, _| {})).unwrap()
}

fn ask(engine: &Engine, constraint: Constrained, sampling: SamplingParams, max_tokens: usize) -> Result<Answer> {
    let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &|| false, clock: &|| 0.0 };
    let options = AskOptions {
        sampling: Some(sampling),
        max_tokens: Some(max_tokens),
        constraint: Some(constraint),
        ..AskOptions::default()
    };
    let mut conversation = engine.conversation(1024)?;
    block_on(engine.ask(&mut conversation, &[Message::text("user", "Look")], &options, hooks))
}

fn drawn(temperature: f64, seed: u64) -> SamplingParams {
    SamplingParams { do_sample: temperature > 0.0, temperature, seed, ..SamplingParams::default() }
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "green"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 99},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
        },
        "required": ["colour", "count"],
        "additionalProperties": false,
    })
}

/// The schema above in plain words.
fn is_person(value: &Value) -> bool {
    let known = |(key, value): (&String, &Value)| match key.as_str() {
        "colour" => value == "red" || value == "green",
        "count" => value.as_i64().is_some_and(|count| (0..=99).contains(&count)),
        "tags" => value.as_array().is_some_and(|tags| {
            tags.len() <= 2 && tags.iter().all(|tag| tag.as_str().is_some_and(|tag| tag.chars().count() <= 3))
        }),
        _ => false,
    };
    value.as_object().is_some_and(|o| o.contains_key("colour") && o.contains_key("count") && o.iter().all(known))
}

#[test]
fn json_is_valid_at_every_stop() {
    let engine = engine(false);
    let grammar = Grammar::new(&engine).unwrap();
    let spec = Spec::JsonSchema(person());
    let mut stops = 0;
    for seed in 0..12 {
        for temperature in [0.0, 0.5, 1.0, 3.0] {
            let penalty = if seed % 2 == 0 { 1.0 } else { 1.3 };
            let sampling = SamplingParams { repetition_penalty: penalty, ..drawn(temperature, seed) };
            let answer = ask(&engine, grammar.constraint(&spec).unwrap(), sampling, 160).unwrap();
            match answer.finish_reason {
                "stop" => {
                    let value = serde_json::from_str(&answer.text).unwrap_or_else(|e| panic!("{e}: {}", answer.text));
                    assert!(is_person(&value), "{}", answer.text);
                    stops += 1;
                }
                other => assert_eq!((other, answer.token_ids.len()), ("length", 160), "{}", answer.text),
            }
        }
    }
    assert!(stops >= 24, "{stops} of 48 ended");
}

/// The best allowed id, whether the device chose it or the logits had to be read, with and without the penalty.
#[test]
fn greedy_is_exact() {
    let engine = engine(false);
    let grammar = Grammar::new(&engine).unwrap();
    for spec in [Spec::JsonSchema(person()), Spec::regex("[a-z ]{20,30}", ""), Spec::lark("start: /[^a]+/ \"a\"")] {
        for repetition_penalty in [1.0, 1.4] {
            let on_device = SamplingParams { repetition_penalty, ..SamplingParams::default() };
            // A penalty too small to matter: all logits are read, and the mask comes before every processor.
            let read = SamplingParams { frequency_penalty: 1e-30, ..on_device.clone() };
            let [a, b] = [on_device, read].map(|p| ask(&engine, grammar.constraint(&spec).unwrap(), p, 40).unwrap());
            assert_eq!((a.token_ids, a.finish_reason), (b.token_ids, b.finish_reason), "{spec:?}");
        }
    }
    // What allows everything changes nothing.
    let free = grammar.constraint(&Spec::lark("start: (<[*]>)*")).unwrap();
    let free = ask(&engine, free, SamplingParams::default(), 12).unwrap();
    let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &|| false, clock: &|| 0.0 };
    let options =
        AskOptions { sampling: Some(SamplingParams::default()), max_tokens: Some(12), ..AskOptions::default() };
    let mut conversation = engine.conversation(1024).unwrap();
    let plain = block_on(engine.ask(&mut conversation, &[Message::text("user", "Look")], &options, hooks)).unwrap();
    assert_eq!(free.token_ids, plain.token_ids);
}

#[test]
fn texts_match_and_end() {
    let engine = engine(false);
    let grammar = Grammar::new(&engine).unwrap();
    for seed in 0..6 {
        let yes_no = grammar.constraint(&Spec::regex("yes|no", "i")).unwrap();
        let answer = ask(&engine, yes_no, drawn(1.0, seed), 20).unwrap();
        assert_eq!(answer.finish_reason, "stop");
        assert!(["yes", "no"].contains(&answer.text.to_lowercase().as_str()), "{}", answer.text);
        let digits = grammar.constraint(&Spec::regex(r"\d{3}-\d{4}", "")).unwrap();
        let answer = ask(&engine, digits, drawn(1.0, seed), 20).unwrap();
        assert_eq!(answer.finish_reason, "stop", "nothing can follow, so it ends by itself");
        let (left, right) = answer.text.split_once('-').unwrap();
        assert!(left.len() == 3 && right.len() == 4 && (left.to_owned() + right).bytes().all(|b| b.is_ascii_digit()));
    }
    // Cut off, and empty.
    let long = grammar.constraint(&Spec::regex("[ab]{100}", "")).unwrap();
    let answer = ask(&engine, long, drawn(1.0, 1), 5).unwrap();
    assert_eq!((answer.finish_reason, answer.token_ids.len()), ("length", 5));
    let nothing = ask(&engine, grammar.constraint(&Spec::regex("", "")).unwrap(), drawn(1.0, 1), 5).unwrap();
    assert_eq!((nothing.finish_reason, nothing.text.as_str()), ("stop", ""));
}

/// What a model thinks is free; the answer is not, and a model that never answers has not stopped.
#[test]
fn an_answer_begins_after_thinking() {
    let engine = engine(true);
    let grammar = Grammar::new(&engine).unwrap();
    let spec = Spec::JsonSchema(json!({"enum": ["red", {"green": 1}]}));
    let (mut stops, mut thoughts) = (0, 0);
    for seed in 0..10 {
        let answer = ask(&engine, grammar.constraint(&spec).unwrap(), drawn(1.5, seed), 700).unwrap();
        if answer.finish_reason == "stop" {
            let value: Value = serde_json::from_str(&answer.text).unwrap_or_else(|e| panic!("{e}: {:?}", answer.text));
            assert!(value == "red" || value == json!({"green": 1}));
            stops += 1;
            thoughts += usize::from(answer.reasoning.is_some());
        } else {
            assert_eq!(answer.finish_reason, "length");
        }
    }
    assert!(stops > 0 && thoughts > 0, "{stops} ended, {thoughts} with reasoning");
}

#[test]
fn what_does_not_go_together() {
    let engine = engine(false);
    let grammar = Grammar::new(&engine).unwrap();
    let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &|| false, clock: &|| 0.0 };
    let constraint = Some(grammar.constraint(&Spec::regex("a", "")).unwrap());
    let options = AskOptions { constraint, stop: vec!["b".into()], ..AskOptions::default() };
    let mut conversation = engine.conversation(64).unwrap();
    let error = block_on(engine.ask(&mut conversation, &[Message::text("user", "Look")], &options, hooks)).unwrap_err();
    assert_eq!(error.code(), "bad_request");
    assert!(grammar.constraint(&Spec::regex("(?=a)", "")).is_err_and(|e| e.code() == "bad_request"));
    // A constraint that was used up.
    let used = grammar.constraint(&Spec::regex("ab", "")).unwrap();
    ask(&engine, used.clone(), drawn(1.0, 1), 9).unwrap();
    assert!(ask(&engine, used, drawn(1.0, 1), 9).is_ok_and(|answer| answer.text.is_empty()));
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Texts that a constraint allows, drawn from its masks; those that did not end are not among them.
fn texts(engine: &Engine, grammar: &Grammar, spec: &Value, count: u64) -> Vec<String> {
    let ids = engine.tokenizer().len() as u32;
    let ends = &engine.vocabulary().stop;
    let mut texts = Vec::new();
    for seed in 0..count {
        let mut constraint = grammar.composed(spec).unwrap();
        // Neighbours of a linear generator draw alike at first.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut chosen, mut bits) = (Vec::new(), Vec::new());
        for _ in 0..250 {
            constraint.mask(&mut bits).unwrap();
            let allowed: Vec<u32> = (0..ids).filter(|id| bits[*id as usize / 32] >> (id % 32) & 1 == 1).collect();
            let end = allowed.is_empty() || allowed.iter().any(|id| ends.contains(id)) && random.below(3) == 0;
            if end {
                texts.push(engine.tokenizer().decode(&chosen, true).unwrap());
                break;
            }
            // A call is rare among all the words that may come in its place.
            let open =
                allowed.iter().find(|id| engine.tokenizer().token_bytes(**id).unwrap_or_default() == b"<tool_call>");
            let id = match open {
                Some(id) if random.below(4) == 0 => *id,
                _ => allowed[random.below(allowed.len())],
            };
            if !ends.contains(&id) {
                constraint.commit(id).unwrap();
                chosen.push(id);
            }
        }
    }
    texts
}

/// Calls of a text, and what stands before them.
fn calls(text: &str) -> (&str, Vec<Value>) {
    let (words, rest) = text.find("<tool_call>").map_or((text, ""), |at| text.split_at(at));
    let bodies = rest.split("<tool_call>\n").skip(1);
    let call = |body: &str| {
        let (json, after) = body.split_once("\n</tool_call>").expect("a call that is closed");
        assert!(after.is_empty() || after == "\n", "{after:?}");
        match serde_json::from_str(json) {
            // It is JSON all the same, of a tool that takes any.
            Err(e) if e.to_string().contains("out of range") && json.starts_with("{\"name\": \"look\"") => {
                json!({"name": "look", "arguments": {}})
            }
            other => other.unwrap_or_else(|e| panic!("{e}: {json}")),
        }
    };
    (words, bodies.map(call).collect())
}

#[test]
fn calls_obey() {
    let engine = engine(false);
    let grammar = Grammar::new(&engine).unwrap();
    let tools = Tool::list(&json!([
        {"type": "function", "function": {"name": "count \"it\"", "strict": true, "parameters": {
            "type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["n"], "additionalProperties": false}}},
        {"type": "function", "function": {"name": "look"}},
    ]))
    .unwrap();
    let obeys = |call: &Value| match call["name"].as_str().unwrap() {
        "look" => call["arguments"].is_object(),
        _ => call["name"] == "count \"it\"" && (1..=9).contains(&call["arguments"]["n"].as_i64().unwrap()),
    };
    for tags in [true, false] {
        let spec = |choice: Value, form: Option<Value>| {
            compose(&tools, &ToolChoice::from_json(&choice).unwrap(), form, tags).unwrap().unwrap()
        };
        let of = |spec: &Value| texts(&engine, &grammar, spec, 40);
        let required = of(&spec(json!("required"), None));
        assert!(required.len() > 10, "{} ended", required.len());
        for text in &required {
            let (words, calls) = calls(text);
            assert!(words.is_empty() && !calls.is_empty() && calls.iter().all(obeys), "{text}");
        }
        let named = of(&spec(json!({"type": "function", "function": {"name": "look"}}), None));
        assert!(named.len() > 10, "{} ended", named.len());
        for text in &named {
            let (words, calls) = calls(text);
            assert!(words.is_empty() && calls.len() == 1 && calls[0]["name"] == "look", "{text}");
        }
        let auto = of(&spec(json!("auto"), None));
        let called = auto.iter().filter(|text| {
            let (_, calls) = calls(text);
            assert!(calls.iter().all(obeys), "{text}");
            !calls.is_empty()
        });
        let called = called.count();
        assert!(auto.len() > called && (called > 0 || !tags), "{called} of {} called", auto.len());
        let either = of(&spec(json!("auto"), Some(json!({"regex": "yes|no"}))));
        let (answers, others): (Vec<_>, Vec<_>) =
            either.iter().partition(|text| ["yes", "no"].contains(&text.as_str()));
        let counts = (answers.len(), others.len());
        assert!(counts.0 > 0 && counts.1 > 0, "tags {tags}: {counts:?}, {either:?}");
        assert!(others.iter().all(|text| calls(text).1.iter().all(obeys)), "{others:?}");
    }
    // In words that are written out, a call is one all the same.
    let spec = compose(&tools, &ToolChoice::Auto, None, false).unwrap().unwrap();
    let mut constraint = grammar.composed(&spec).unwrap();
    let mut write = |text: &str| {
        engine.tokenizer().encode_plain(text).unwrap().into_iter().try_for_each(|id| match constraint.allows(id)? {
            true => constraint.commit(id),
            false => Err(Error::invalid("token", "one that may come", text)),
        })
    };
    write("Let me see.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"a\": [1]}}\n</tool_call>").unwrap();
    assert!(write("\nand then").is_err());
}

#[test]
fn what_is_composed() {
    let tools = |strict: bool| Tool::list(&json!([{"type": "function", "function": {"name": "f", "strict": strict}}]));
    let form = Some(json!({"regex": "a", "flags": ""}));
    let spec = |tools: &[Tool], choice: ToolChoice, form: Option<Value>| compose(tools, &choice, form, true);
    let [strict, lax] = [true, false].map(|strict| tools(strict).unwrap());
    // Where nothing is demanded, nothing is composed; without tools the form is all.
    assert_eq!(spec(&[], ToolChoice::Auto, None).unwrap(), None);
    assert_eq!(spec(&lax, ToolChoice::Auto, None).unwrap(), None);
    assert_eq!(spec(&[], ToolChoice::Auto, form.clone()).unwrap(), form);
    assert_eq!(spec(&strict, ToolChoice::None, form.clone()).unwrap(), form);
    assert_eq!(spec(&strict, ToolChoice::None, None).unwrap(), None);
    assert!(spec(&strict, ToolChoice::Auto, None).unwrap().is_some());
    for (tools, choice) in [(&[][..], ToolChoice::Required), (&strict, ToolChoice::Named("g".into()))] {
        assert_eq!(spec(tools, choice, None).unwrap_err().code(), "bad_request");
    }
}
