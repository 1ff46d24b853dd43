//! The embedded model's answers about a fixed set of screens equal transformers' (`train/transcript.py`), token for token.
//! `tests/web/engine/transcript.test.mjs` asks the same of the browser.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

use std::path::PathBuf;
use std::rc::Rc;

use fanlight::chat::{AskOptions, Content, Engine, Hooks, Message, Part};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::image::{ImageOptions, Still};
use fanlight::weights::Directory;
use pollster::block_on;
use serde_json::Value;

#[test]
fn the_transcript_is_that_of_transformers() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    let source = Directory::new(root.join("models/screen-reader"));
    let engine = block_on(Engine::load(&gpu, &source, &mut |_, _| {})).unwrap();
    let transcript: Vec<Value> =
        serde_json::from_slice(&std::fs::read(root.join("tests/screens/transcript.json")).unwrap()).unwrap();
    assert!(transcript.len() >= 20);
    let compiled = gpu.pipeline_count();
    let mut conversation = engine.conversation(4096).unwrap();
    for entry in &transcript {
        let file = root.join("tests/screens").join(entry["image"].as_str().unwrap());
        let picture = Rc::new(Still::open(std::fs::read(file).unwrap()).unwrap());
        let question = entry["question"].as_str().unwrap();
        let parts = vec![Part::Image(picture, ImageOptions::default()), Part::Text(question.into())];
        let messages = [Message { role: "user".into(), content: Content::Parts(parts), ..Message::default() }];
        let options = AskOptions { max_tokens: Some(160), ..AskOptions::default() };
        let mut streamed = String::new();
        let mut on_text = |text: &str| streamed.push_str(text);
        let hooks = Hooks { on_delta: &mut |delta| on_text(delta.text), cancelled: &|| false, clock: &|| 0.0 };
        let answer = block_on(engine.ask(&mut conversation, &messages, &options, hooks)).unwrap();
        let place = format!("{} {question}", entry["image"]);
        assert_eq!(serde_json::json!(answer.token_ids), entry["token_ids"], "{place}: {}", answer.text);
        assert_eq!(answer.text, entry["text"].as_str().unwrap(), "{place}");
        assert_eq!(streamed, answer.text, "{place}");
        assert_eq!(answer.finish_reason, entry["finish_reason"].as_str().unwrap(), "{place}");
    }
    assert_eq!(gpu.pipeline_count(), compiled, "everything was compiled while the weights were on their way");
}
