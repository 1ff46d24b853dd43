//! A model that thinks first, through the whole engine: a golden Qwen3-VL with the template of the Thinking edition.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

use std::path::PathBuf;

use fanlight::chat::{AskOptions, Content, Engine, Hooks, Message};
use fanlight::generate::sampler::SamplingParams;
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::weights::source::Memory;
use pollster::block_on;

/// `models/qwen3_vl` with another template.
fn engine(template: &str) -> Engine {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files = Memory::new();
    for entry in std::fs::read_dir(golden.join("models/qwen3_vl")).expect("the fixture").map(Result::unwrap) {
        files.insert(entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
    }
    files.insert("chat_template.jinja", std::fs::read(golden.join("text/qwen3").join(template)).expect("the template"));
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    block_on(Engine::load(&gpu, &files, &mut |_, _| {})).unwrap()
}

/// Reasoning and text, as they came and as they are in the answer, and the text of all tokens.
fn ask(engine: &Engine, question: &str) -> (String, Option<String>, String) {
    let (mut text, mut reasoning) = (String::new(), String::new());
    let hooks = Hooks {
        on_text: &mut |piece| text.push_str(piece),
        on_reasoning: &mut |piece| reasoning.push_str(piece),
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
