//! What an engine makes of an answer: reasoning told from it (a golden Qwen3-VL with the template of the Thinking edition), and
//! what it points at.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

mod golden_fixture;

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use fanlight::chat::message_json::RawPart;
use fanlight::chat::tools::{Tool, ToolCall, ToolChoice};
use fanlight::chat::{
    Answer, AskOptions, Content, Conversation, Engine, Hooks, ImageInfo, Message, Part, Timings, Usage,
};
use fanlight::generate::sampler::SamplingParams;
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::image::{ImageOptions, Picture, Still};
use fanlight::text::RenderedPrompt;
use fanlight::video::{Times, Track, VideoBuilder, VideoOptions};
use fanlight::weights::source::{Directory, Memory};
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

/// The embedded model, whose answers are words.
fn screen_reader() -> Engine {
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    let source = Directory::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/screen-reader"));
    block_on(Engine::load(&gpu, &source, &mut |_, _| {})).unwrap()
}

fn screen(n: u32) -> Part {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/screens/screen-{n:03}.png"));
    Part::Image(Rc::new(Still::open(std::fs::read(path).unwrap()).unwrap()), ImageOptions::default())
}

fn user(parts: Vec<Part>) -> Message {
    Message { role: "user".into(), content: Content::Parts(parts), ..Message::default() }
}

fn greedy(max_tokens: usize) -> AskOptions {
    let sampling = Some(SamplingParams::default());
    AskOptions { sampling, max_tokens: Some(max_tokens), ..AskOptions::default() }
}

fn answer(engine: &Engine, conversation: &mut Conversation, messages: &[Message], options: &AskOptions) -> Answer {
    try_answer(engine, conversation, messages, options).unwrap()
}

fn try_answer(
    engine: &Engine,
    conversation: &mut Conversation,
    messages: &[Message],
    options: &AskOptions,
) -> fanlight::Result<Answer> {
    let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &|| false, clock: &|| 0.0 };
    block_on(engine.ask(conversation, messages, options, hooks))
}

/// What is begun is gone on with as if the model had begun it, from the cache; and it is one message afterwards.
#[test]
fn a_begun_answer_is_gone_on_with() {
    let engine = screen_reader();
    let question = user(vec![screen(0), Part::Text("What does the screen show?".into())]);
    let mut conversation = engine.conversation(2048).unwrap();
    let whole = answer(&engine, &mut conversation, std::slice::from_ref(&question), &greedy(40));
    let cut = whole.text.match_indices(' ').nth(1).expect("three words").0;
    let begun = Message { prefix: true, ..Message::text("assistant", &whole.text[..cut]) };
    let mut messages = vec![question, begun];
    let rest = answer(&engine, &mut conversation, &messages, &greedy(40));
    assert_eq!(rest.text, whole.text[cut..]);
    let tokens = engine.tokenizer().encode_plain(&whole.text[..cut]).unwrap().len();
    assert_eq!(rest.prompt_tokens, whole.prompt_tokens + tokens);
    assert!(rest.usage.cached_tokens >= whole.prompt_tokens);
    rest.join(&mut messages);
    assert_eq!(messages.len(), 2);
    assert!(matches!(&messages[1].content, Content::Text(text) if *text == whole.text) && !messages[1].prefix);
    // Only the last can be.
    let early = [Message { prefix: true, ..Message::text("assistant", "It") }, Message::text("user", "Go on.")];
    let error = try_answer(&engine, &mut conversation, &early, &greedy(1)).unwrap_err();
    assert!(error.to_string().contains("messages[0].prefix"), "{error}");
}

/// The first token's probability is that of transformers' logits; asking for it changes nothing.
#[test]
fn logprobs_are_of_the_models_logits() {
    let engine = engine_of("base", None);
    let case = golden_fixture::cases("base").into_iter().find(|(name, _)| name == "text").unwrap().1;
    let folder = golden_fixture::folder("base");
    let messages: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join(case["messages"].as_str().unwrap())).unwrap()).unwrap();
    let messages: Vec<Message> = fanlight::chat::message_json::parse(messages.to_string().as_bytes())
        .unwrap()
        .into_iter()
        .map(|raw| {
            let parts = raw.parts.into_iter().map(|part| match part {
                RawPart::Text(text) => Part::Text(text),
                other => panic!("{other:?} in a text"),
            });
            let content = raw.text.map_or_else(|| Content::Parts(parts.collect()), Content::Text);
            Message { role: raw.role, content, ..Message::default() }
        })
        .collect();
    let stored = std::fs::read(folder.join("text.safetensors")).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&stored).unwrap();
    let logits = stored.tensor("logits").unwrap();
    let rows: Vec<f64> =
        logits.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
    let last = &rows[rows.len() - logits.shape().last().unwrap()..];
    let most = last.iter().copied().fold(f64::MIN, f64::max);
    let sum = last.iter().map(|l| (l - most).exp()).sum::<f64>().ln() + most;
    let mut conversation = engine.conversation(1024).unwrap();
    let plain = answer(&engine, &mut conversation, &messages, &greedy(12));
    let asked = answer(&engine, &mut conversation, &messages, &AskOptions { logprobs: Some(3), ..greedy(12) });
    assert_eq!((&asked.token_ids, plain.logprobs), (&plain.token_ids, None));
    let logprobs = asked.logprobs.unwrap();
    assert_eq!(logprobs.iter().map(|l| l.token.id).collect::<Vec<_>>(), asked.token_ids);
    for found in logprobs[0].top.iter().chain([&logprobs[0].token]) {
        let expected = last[found.id as usize] - sum;
        assert!((found.logprob - expected).abs() < 1e-4, "{found:?}: {expected}");
    }
    let vocab = engine.tokenizer().len();
    let best = (0..vocab).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap();
    assert_eq!(logprobs[0].top[0].id as usize, best);
    assert!(logprobs.iter().all(|l| l.top.len() == 3 && l.top.is_sorted_by(|a, b| a.logprob >= b.logprob)));
    let bytes: Vec<u8> = logprobs.iter().flat_map(|l| l.token.bytes.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&bytes), engine.tokenizer().decode(&plain.token_ids, false).unwrap());
    // What only the engine can check.
    let biased = SamplingParams { logit_bias: vec![(vocab as u32, 1.0)], ..SamplingParams::default() };
    for refused in [
        AskOptions { logprobs: Some(21), ..greedy(1) },
        AskOptions { sampling: Some(biased), ..greedy(1) },
        AskOptions { tool_choice: ToolChoice::Required, ..greedy(1) },
    ] {
        assert_eq!(try_answer(&engine, &mut conversation, &messages, &refused).unwrap_err().code(), "bad_request");
    }
    // A bias that makes one token win each time is a loop of one token.
    let one = SamplingParams { logit_bias: vec![(65, 100.0)], ..SamplingParams::default() };
    let options = AskOptions { sampling: Some(one), loop_guard: true, ..greedy(900) };
    let looped = answer(&engine, &mut conversation, &messages, &options);
    assert_eq!((looped.finish_reason, looped.token_ids.len()), ("repetition", 512));
}

/// Tools are in the prompt, unless the choice is none, whatever the family's template knows.
#[test]
fn tools_are_offered_or_not() {
    let look = serde_json::json!([{"type": "function", "function": {"name": "look_around", "parameters": {"type": "object"}}}]);
    let tools = Tool::list(&look).unwrap();
    for model in ["base", "qwen2_vl", "qwen3_vl"] {
        let engine = engine_of(model, None);
        let conversation = engine.conversation(4096).unwrap();
        let messages = [Message::text("user", "Look")];
        let tokens = |messages: &[Message], tools: &[Tool], tool_choice: ToolChoice| {
            let options = AskOptions { tools: tools.to_vec(), tool_choice, ..AskOptions::default() };
            engine.plan(&conversation, messages, &options).unwrap().prompt_tokens
        };
        let without = tokens(&messages, &[], ToolChoice::Auto);
        let name = engine.tokenizer().encode_plain("look_around").unwrap().len();
        assert!(tokens(&messages, &tools, ToolChoice::Auto) > without + name, "{model}");
        assert_eq!(tokens(&messages, &tools, ToolChoice::None), without, "{model}");
        // What came of a call counts, with or without tools.
        let call = ToolCall::new("a", "look_around", serde_json::Map::new());
        let called = Message { tool_calls: vec![call], ..Message::text("assistant", "") };
        let told = [messages[0].clone(), called, Message::text("tool", "A door.")];
        let both = name + engine.tokenizer().encode_plain("A door.").unwrap().len();
        assert!(tokens(&told, &[], ToolChoice::None) > without + both, "{model}");
    }
}

/// A plan says what asking then takes, and takes nothing itself.
#[test]
fn a_plan_is_what_happens() {
    let engine = screen_reader();
    let mut conversation = engine.conversation(2048).unwrap();
    let mut messages = vec![user(vec![screen(0), screen(1), Part::Text("What do the screens show?".into())])];
    let mut flops = Vec::new();
    for turn in 0..2 {
        engine.gpu().trim();
        engine.gpu().forget_peaks();
        let before = engine.gpu().memory().persistent.current;
        let plan = engine.plan(&conversation, &messages, &greedy(20)).unwrap();
        assert_eq!(engine.gpu().memory().total.peak, engine.gpu().memory().total.current, "nothing was computed");
        let held = weight_bytes(&engine, before);
        let answer = answer(&engine, &mut conversation, &messages, &greedy(20));
        let usage = answer.usage;
        assert_eq!(
            (plan.prompt_tokens, plan.image_tokens, plan.video_tokens, plan.cached_tokens),
            (usage.prompt_tokens, usage.image_tokens, usage.video_tokens, usage.cached_tokens)
        );
        assert_eq!((plan.context_window, plan.left, plan.fits), (2048, 2048 - usage.prompt_tokens, true));
        assert_eq!(plan.images.iter().map(|image| image.info.clone()).collect::<Vec<_>>(), answer.images);
        assert!(plan.images.iter().all(|image| image.warnings.iter().any(|w| w.contains("under 1024"))));
        let peak = engine.gpu().memory().total.peak - held;
        println!("turn {turn}: {} planned, {peak} taken, {} flops", plan.bytes, plan.flops);
        assert!(plan.bytes >= peak && plan.bytes <= peak * 3 / 2, "turn {turn}: {} planned, {peak} taken", plan.bytes);
        flops.push(plan.flops);
        answer.join(&mut messages);
        messages.push(Message::text("user", "What else?"));
    }
    assert!(flops[1] < flops[0] / 10, "{flops:?}");
    // What does not fit is said, not refused.
    let small = engine.conversation(64).unwrap();
    let plan = engine.plan(&small, &messages, &greedy(20)).unwrap();
    assert!(!plan.fits && plan.left == 0 && plan.prompt_tokens > 64 && plan.cached_tokens == 0);
}

/// Bytes of the weights alone, of what is held with the conversation.
fn weight_bytes(engine: &Engine, persistent: u64) -> u64 {
    let weights: u64 = engine.model().weight_bytes.iter().map(|(_, bytes)| bytes).sum();
    assert!(persistent >= weights);
    weights
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
