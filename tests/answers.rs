//! What an engine makes of an answer: reasoning told from it (a golden Qwen3-VL with the template of the Thinking edition), and
//! what it points at.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use fanlight::chat::{Answer, AskOptions, Content, Engine, Hooks, ImageInfo, Message, Part, Timings, Usage};
use fanlight::generate::sampler::SamplingParams;
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::image::Picture;
use fanlight::text::RenderedPrompt;
use fanlight::video::{Times, Track, VideoBuilder, VideoOptions};
use fanlight::weights::source::Memory;
use pollster::block_on;

/// `models/qwen3_vl` with another template.
fn engine(template: &str) -> Engine {
    engine_of("qwen3_vl", Some(template))
}

fn engine_of(model: &str, template: Option<&str>) -> Engine {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files = Memory::new();
    for entry in std::fs::read_dir(golden.join("models").join(model)).expect("the fixture").map(Result::unwrap) {
        files.insert(entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
    }
    if let Some(template) = template {
        let template = std::fs::read(golden.join("text/qwen3").join(template)).expect("the template");
        files.insert("chat_template.jinja", template);
    }
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    block_on(Engine::load(&gpu, &files, &mut |_, _| {})).unwrap()
}

/// Reasoning and text, as they came and as they are in the answer, and the text of all tokens.
fn ask(engine: &Engine, question: &str) -> (String, Option<String>, String) {
    let (mut text, mut reasoning) = (String::new(), String::new());
    let hooks = Hooks {
        on_delta: &mut |delta| {
            text.push_str(delta.text);
            reasoning.push_str(delta.reasoning);
        },
        cancelled: &|| false,
        clock: &|| 0.0,
    };
    let sampling = Some(SamplingParams::default()); // greedy
    let options = AskOptions { sampling, max_tokens: Some(24), ..AskOptions::default() };
    let mut conversation = engine.conversation(1024).unwrap();
    let answer = block_on(engine.ask(&mut conversation, &[Message::text("user", question)], &options, hooks)).unwrap();
    assert_eq!(answer.text, text);
    assert_eq!(answer.reasoning.clone().unwrap_or_default(), reasoning);
    let written = engine.tokenizer().decode(&answer.token_ids, true).unwrap();
    (answer.text, answer.reasoning, written)
}

#[test]
fn what_comes_before_the_closing_tag_is_no_answer() {
    // The prompt has opened the reasoning, and this random model does not close it.
    let (text, reasoning, written) = ask(&engine("chat_template_thinking.jinja"), "Look");
    assert!(!written.contains("</think>") && !written.trim().is_empty(), "{written:?}");
    assert_eq!((text.as_str(), reasoning.as_deref()), ("", Some(written.trim())));
    // Without such a template all of it is the answer.
    let (text, reasoning, written) = ask(&engine("chat_template.jinja"), "Look");
    assert_eq!((text, reasoning), (written, None));
}

#[test]
fn old_reasoning_is_not_told_again() {
    let engine = engine("chat_template_thinking.jinja");
    let thought = |reasoning: Option<&str>, text: &str| Message {
        role: "assistant".into(),
        content: Content::Text(text.into()),
        reasoning: reasoning.map(str::to_owned),
        ..Message::default()
    };
    let prompt = |assistant: Message| {
        let messages = [Message::text("user", "Look"), assistant, Message::text("user", "Again")];
        block_on(engine.trace(&messages, false)).unwrap().input_ids
    };
    let plain = prompt(thought(None, "A door."));
    assert_eq!(prompt(thought(Some("Is it a door?"), "A door.")), plain);
    // Also where the caller left it in the text.
    assert_eq!(prompt(thought(None, "<think>\nIs it a door?\n</think>\n\nA door.")), plain);
}

/// Boxes as each family writes them, of a picture of 2000 × 1000 pixels that the model saw at 1008 × 504.
#[test]
fn every_family_points_in_its_own_unit() {
    let marked = "<|object_ref_start|>door<|object_ref_end|><|box_start|>(100,200),(300,400)<|box_end|>";
    let json = r#"[{"bbox_2d": [100, 200, 300, 400], "label": "door"}]"#;
    for (model, text, expected) in [
        ("qwen2_vl", marked, [200.0, 200.0, 600.0, 400.0]),
        ("qwen3_vl", json, [200.0, 200.0, 600.0, 400.0]),
        ("base", json, [100.0, 200.0, 300.0, 400.0].map(|side: f64| side * 2000.0 / 1008.0)),
    ] {
        let engine = engine_of(model, None);
        let tokenizer = engine.tokenizer();
        let written = RenderedPrompt::trusted(text, &tokenizer.control_tokens());
        let token_ids = tokenizer.encode(&written).unwrap();
        // As it is made while it is generated: control tokens are not part of the text.
        let text = tokenizer.decode(&token_ids, true).unwrap();
        let answer = Answer {
            text,
            reasoning: None,
            prompt_tokens: 0,
            finish_reason: "stop",
            tool_calls: Vec::new(),
            logprobs: None,
            usage: Usage {
                prompt_tokens: 0,
                image_tokens: 0,
                video_tokens: 0,
                cached_tokens: 0,
                completion_tokens: token_ids.len(),
            },
            timings: Timings { image_ms: 0.0, prefill_ms: 0.0, decode_ms: 0.0, decode_tokens_per_second: 0.0 },
            images: vec![ImageInfo { original: [2000, 1000], resized: [1008, 504], tokens: 1 }],
            videos: Vec::new(),
            token_ids,
        };
        let located = serde_json::to_value(engine.locate(&answer)).unwrap();
        assert_eq!(located.as_array().map(Vec::len), Some(1), "{model}: {located}");
        assert_eq!((&located[0]["kind"], &located[0]["label"]), (&"box".into(), &"door".into()), "{model}");
        let at: Vec<f64> = located[0]["at"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect();
        assert!(at.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{model}: {at:?}");
    }
}

/// A caller who ends it while frames are encoded waits for no more than one group of them, and can go on asking.
#[test]
fn cancelled_while_a_video_is_encoded() {
    let engine = engine_of("base", None);
    let track = Track { width: 112, height: 112, times: Times::Even { frames: 512, fps: 2.0 } };
    let wish = VideoOptions { min_pixels: Some(112 * 112), max_frames: Some(512), ..VideoOptions::default() };
    let mut video = VideoBuilder::new(engine.plan_video(&track, &wish, 8192).unwrap());
    let frame = Picture::new(112, 112, vec![90; 112 * 112 * 3]).unwrap();
    (0..512).for_each(|i| video.push(&frame, f64::from(i) / 2.0).unwrap());
    let parts = vec![Part::Video(Rc::new(video.finish().unwrap())), Part::Text("What happens?".into())];
    let messages = [Message { role: "user".into(), content: Content::Parts(parts), ..Message::default() }];
    let mut conversation = engine.conversation(8192).unwrap();
    let options = AskOptions { max_tokens: Some(1), ..AskOptions::default() };
    for (patience, finish, asked) in [(2, "abort", 3), (usize::MAX, "length", usize::MAX)] {
        let times = Cell::new(0);
        let cancelled = || {
            times.set(times.get() + 1);
            times.get() > patience
        };
        let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &cancelled, clock: &|| 0.0 };
        let answer = block_on(engine.ask(&mut conversation, &messages, &options, hooks)).unwrap();
        assert_eq!(answer.finish_reason, finish);
        assert!(times.get() <= asked, "asked {} times", times.get());
        assert_eq!(answer.token_ids.len(), usize::from(finish == "length"));
        assert!(answer.usage.prompt_tokens > 4096 && answer.videos.len() == 1);
    }
}
