//! What conversations share and what they keep apart: clones, messages that are read ahead of the question, pictures that are
//! not encoded twice.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

mod golden_fixture;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use fanlight::Error;
use fanlight::chat::{Answer, AskOptions, Content, Conversation, Delta, Draft, Engine, Hooks, Message, Part};
use fanlight::dtype::CacheFormat;
use fanlight::generate::sampler::SamplingParams;
use fanlight::generate::session::{Choose, Next, Prompt, Session};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::image::{ImageOptions, Picture, Still};
use fanlight::model::{Model, registry};
use fanlight::weights::quantize::Formats;
use fanlight::weights::source::Directory;
use golden_fixture::folder;
use pollster::block_on;

// ── The cache ───────────────────────────────────────────────────────────────────────────────────────────────────────

fn loaded() -> (Gpu, Rc<Model>) {
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    let source = Directory::new(folder("base"));
    let model = block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).unwrap();
    (gpu, model)
}

fn prompt(ids: impl IntoIterator<Item = u32>) -> Prompt {
    Prompt { ids: ids.into_iter().map(|i| 3 + i % 50).collect(), media: Vec::new() }
}

fn logits(next: Next) -> Vec<f32> {
    match next {
        Next::Logits(logits) => logits,
        Next::Best(_) | Next::Few(_) => panic!("logits were asked for"),
    }
}

fn prefill(session: &mut Session, ids: impl IntoIterator<Item = u32>) -> Vec<f32> {
    logits(block_on(session.prefill(&prompt(ids), Choose::Logits, &|| true)).unwrap())
}

fn step(session: &mut Session, id: u32) -> Vec<f32> {
    logits(block_on(session.step(3 + id % 50, Choose::Logits)).unwrap())
}

/// Bytes of what is held for good, and of what a cache of so many positions takes.
fn held(gpu: &Gpu) -> u64 {
    gpu.memory().persistent.current
}

/// Two clones that go different ways compute, to the bit, what two conversations compute that never met.
#[test]
fn clones_share_until_they_differ() {
    for format in CacheFormat::ALL {
        let (gpu, model) = loaded();
        let open = || Session::with_cache(&gpu, &model, 4096, format).unwrap();
        // Segments of 512, 512 and 1024, the last of which has 576 filled.
        let grow = |session: &mut Session| {
            prefill(session, 0..500);
            prefill(session, 0..1000);
            prefill(session, 0..1500);
            (0..100).for_each(|i| drop(step(session, 7 * i)));
        };
        let mut first = open();
        grow(&mut first);
        let rooms: Vec<usize> = first.cache().segments().collect();
        assert_eq!(rooms, [512, 512, 1024]);
        let shape = *first.cache().shape();

        let before = held(&gpu);
        let state = Session::state_bytes(model.decoder.config().vocab, model.rope.head_dim);
        let mut second = first.fork().unwrap();
        assert_eq!(held(&gpu) - before, state, "{format}: a clone has choices of its own, and no cache");
        assert_eq!(second.len(), 1600);

        let of_second: Vec<Vec<f32>> = (0..20).map(|i| step(&mut second, 11 * i)).collect();
        assert_eq!(
            held(&gpu) - before,
            state + shape.bytes(1024),
            "{format}: the last segment is parted, the others are not"
        );
        let of_first: Vec<Vec<f32>> = (0..20).map(|i| step(&mut first, 13 * i)).collect();
        assert_eq!(held(&gpu) - before, state + shape.bytes(1024), "{format}: the other one has its own by now");

        // The same without a clone.
        for (ids, expected) in [(13, &of_first), (11, &of_second)] {
            let mut alone = open();
            grow(&mut alone);
            let alone: Vec<Vec<f32>> = (0..20).map(|i| step(&mut alone, ids * i)).collect();
            assert_eq!(&alone, expected, "{format}");
        }
        assert_ne!(of_first, of_second);

        // The memory of a clone that goes is its own alone.
        drop(first);
        assert_eq!(held(&gpu), before, "{format}: what it had alone");
        step(&mut second, 5);
        drop(second);
        let weights: u64 = model.weight_bytes.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(held(&gpu), weights);
    }
}

/// Going back into what is shared, to its middle or its beginning, leaves the other as it was.
#[test]
fn a_clone_that_goes_back_disturbs_nobody() {
    for format in CacheFormat::ALL {
        let (gpu, model) = loaded();
        let mut first = Session::with_cache(&gpu, &model, 4096, format).unwrap();
        prefill(&mut first, 0..300);
        prefill(&mut first, 0..900);
        let mut alone = Session::with_cache(&gpu, &model, 4096, format).unwrap();
        prefill(&mut alone, 0..300);
        prefill(&mut alone, 0..900);

        // Into the second segment, into the first, to nothing, and past the end of what there was.
        for back in [700, 100, 0, 1200] {
            let mut other = first.fork().unwrap();
            let ids = (0..back).chain((back..back + 40).map(|i| i + 20));
            let there = prefill(&mut other, ids.clone());
            let mut fresh = Session::with_cache(&gpu, &model, 4096, format).unwrap();
            let expected = prefill(&mut fresh, ids);
            let worst = there.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Not to the bit: passes end at other places, and q8 keeps what it keeps.
            assert!(worst < if format == CacheFormat::F32 { 1e-3 } else { 5e-2 }, "{format} {back}: {worst}");
            assert_eq!(first.len(), 900);
        }
        for i in 0..5 {
            assert_eq!(step(&mut first, i), step(&mut alone, i), "{format}: step {i}");
        }
    }
}

/// Clones of clones, each writing into the same segment.
#[test]
fn many_clones_of_one_beginning() {
    let (gpu, model) = loaded();
    let mut base = Session::new(&gpu, &model, 4096).unwrap();
    prefill(&mut base, 0..600);
    let mut clones: Vec<Session> = (0..5).map(|_| base.fork().unwrap()).collect();
    let mut answers = Vec::new();
    for (n, clone) in clones.iter_mut().enumerate() {
        answers.push((0..4).map(|i| step(clone, 10 * n as u32 + i)).collect::<Vec<_>>());
    }
    for (n, expected) in answers.iter().enumerate() {
        let mut again = base.fork().unwrap();
        let answer: Vec<Vec<f32>> = (0..4).map(|i| step(&mut again, 10 * n as u32 + i)).collect();
        assert_eq!(&answer, expected, "clone {n}");
    }
}

/// A clone that finds no memory to part loses its cache and nothing else.
#[test]
fn a_clone_without_memory_says_so() {
    let (gpu, model) = loaded();
    let all = held(&gpu);
    drop((gpu, model));
    let shape = |model: &Model| model.decoder.config().cache(CacheFormat::F32);
    let limited = |more: u64| GpuOptions { max_memory: Some(all + more), ..GpuOptions::default() };
    // Room for the passes and for one cache of 1024 positions, not for two.
    let probe = loaded().1;
    let bytes = shape(&probe).bytes(1024);
    let gpu = block_on(Gpu::open(&limited(bytes + bytes / 2 + (3 << 20)))).expect("an adapter");
    let source = Directory::new(folder("base"));
    let model = block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).unwrap();
    let mut first = Session::new(&gpu, &model, 200_000).unwrap();
    let mut ids = 0;
    // As long as it goes.
    while let Ok(next) = block_on(first.prefill(&prompt(0..ids + 256), Choose::Logits, &|| true)) {
        drop(next);
        ids += 256;
    }
    assert!(first.is_empty() && ids >= 256, "{ids}");
    prefill(&mut first, 0..ids - 56);
    let mut second = first.fork().unwrap();
    match block_on(second.step(5, Choose::Logits)) {
        Err(Error::OutOfMemory { .. }) => assert!(second.is_empty()),
        Ok(_) => assert_eq!(second.len(), first.len() + 1), // there was room after all
        Err(other) => panic!("{other}"),
    }
    assert_eq!(first.len(), ids as usize - 56);
    step(&mut first, 5);
}

// ── The conversation ────────────────────────────────────────────────────────────────────────────────────────────────

fn engine() -> Engine {
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    block_on(Engine::load(&gpu, &Directory::new(folder("base")), &mut |_, _| {})).unwrap()
}

fn picture(level: u8) -> Rc<Still> {
    let rgb = (0..112 * 84 * 3).map(|i| (i * 7 % 251) as u8 ^ level).collect();
    Rc::new(Still::from(Picture::new(112, 84, rgb).unwrap()))
}

fn about(pictures: &[&Rc<Still>], text: &str) -> Message {
    let images = pictures.iter().map(|picture| Part::Image((*picture).clone(), ImageOptions::default()));
    let content = Content::Parts(images.chain([Part::Text(text.into())]).collect());
    Message { content, ..Message::text("user", "") }
}

fn options(max_tokens: usize) -> AskOptions {
    let sampling = Some(SamplingParams::default()); // greedy
    AskOptions { sampling, max_tokens: Some(max_tokens), ..AskOptions::default() }
}

fn ask(engine: &Engine, conversation: &mut Conversation, messages: &[Message]) -> Answer {
    let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &|| false, clock: &|| 0.0 };
    block_on(engine.ask(conversation, messages, &options(8), hooks)).unwrap()
}

fn append(engine: &Engine, conversation: &mut Conversation, messages: &[Message]) -> usize {
    block_on(engine.append(conversation, messages, &options(8), &|| false)).unwrap()
}

#[test]
fn what_is_appended_is_the_beginning_of_the_next_prompt() {
    let engine = engine();
    let screen = picture(0);
    let turns = [
        about(&[&screen], "This is a screen."),
        Message::text("user", "And this is what I want to know:"),
        Message::text("user", "What is on it?"),
    ];
    let mut plain = engine.conversation(2048).unwrap();
    let expected = ask(&engine, &mut plain, &turns);

    let mut conversation = engine.conversation(2048).unwrap();
    let one = append(&engine, &mut conversation, &turns[..1]);
    let two = append(&engine, &mut conversation, &turns[..2]);
    assert!(one < two);
    let answer = ask(&engine, &mut conversation, &turns);
    assert_eq!(answer.usage.cached_tokens, two, "all of it is the beginning of the prompt");
    assert_eq!(answer.token_ids, expected.token_ids);
    assert_eq!(answer.usage.prompt_tokens, expected.usage.prompt_tokens);
    // With a system message, and after an answer.
    let system = [Message::text("system", "Be brief."), turns[0].clone()];
    let mut conversation = engine.conversation(2048).unwrap();
    let tokens = append(&engine, &mut conversation, &system);
    let mut all = system.to_vec();
    all.push(Message::text("user", "Well?"));
    let answer = ask(&engine, &mut conversation, &all);
    assert_eq!(answer.usage.cached_tokens, tokens);
    all.extend([Message::text("assistant", &answer.text), Message::text("user", "Look again.")]);
    let tokens = append(&engine, &mut conversation, &all);
    all.push(Message::text("user", "And now?"));
    assert_eq!(ask(&engine, &mut conversation, &all).usage.cached_tokens, tokens);
    // Nothing new is no work.
    assert_eq!(append(&engine, &mut conversation, &all), append(&engine, &mut conversation, &all));
}

#[test]
fn appending_can_be_cancelled_and_can_be_too_much() {
    let engine = engine();
    let screen = picture(0);
    let long: String = (0..900).map(|i| format!("{i} ")).collect();
    let messages = [about(&[&screen], &long)];
    let mut conversation = engine.conversation(usize::MAX).unwrap();
    // Asked after every pass, and before the picture is encoded.
    for patience in 0..3 {
        let asked = Cell::new(0);
        let cancelled = || {
            asked.set(asked.get() + 1);
            asked.get() > patience
        };
        let result = block_on(engine.append(&mut conversation, &messages, &options(8), &cancelled));
        assert_eq!(result, Err(Error::Cancelled), "{patience}");
    }
    let tokens = append(&engine, &mut conversation, &messages);
    let begun = [messages[0].clone(), Message { prefix: true, ..Message::text("assistant", "It") }];
    let refused = block_on(engine.append(&mut conversation, &begun, &options(8), &|| false));
    assert_eq!(refused.unwrap_err().code(), "bad_request");
    // A context that holds it to the token, and one that does not.
    assert_eq!(append(&engine, &mut engine.conversation(tokens).unwrap(), &messages), tokens);
    let full =
        block_on(engine.append(&mut engine.conversation(tokens - 1).unwrap(), &messages, &options(8), &|| false));
    assert_eq!(full, Err(Error::ContextOverflow { needed: tokens, limit: tokens - 1 }));
}

#[test]
fn a_clone_answers_as_the_original_would() {
    let engine = engine();
    let screen = picture(0);
    let mut messages = vec![about(&[&screen], "This is a screen."), Message::text("user", "What is on it?")];
    let mut first = engine.conversation(2048).unwrap();
    let answer = ask(&engine, &mut first, &messages);
    messages.push(Message::text("assistant", &answer.text));
    let mut second = first.fork().unwrap();
    let mut ask_both = |text: &str| {
        let all: Vec<Message> = messages.iter().cloned().chain([Message::text("user", text)]).collect();
        let [a, b] = [&mut first, &mut second].map(|conversation| ask(&engine, conversation, &all));
        assert!(
            a.usage.cached_tokens > answer.usage.prompt_tokens && b.usage.cached_tokens > answer.usage.prompt_tokens
        );
        assert_eq!(a.token_ids, b.token_ids);
    };
    ask_both("Is that all?");
    ask_both("Is it red?");
    assert_eq!(engine.encoded_pictures(), 1);
}

#[test]
fn no_picture_is_encoded_twice_while_somebody_holds_it() {
    let engine = engine();
    let [a, b] = [picture(0), picture(1)];
    let same = Rc::new(Still::clone(&a));
    let question = |pictures: &[&Rc<Still>]| [about(pictures, "What is it?")];
    let held = || held(engine.gpu());
    let mut first = engine.conversation(1024).unwrap();
    ask(&engine, &mut first, &question(&[&a]));
    assert_eq!(engine.encoded_pictures(), 1);
    let mut second = engine.conversation(1024).unwrap();
    // Other bytes with the same pixels, in another conversation, twice; and as a size that comes to the same.
    ask(&engine, &mut second, &question(&[&same, &b, &same]));
    assert_eq!(engine.encoded_pictures(), 2);
    let limits = ImageOptions { max_pixels: Some(112 * 84), ..ImageOptions::default() };
    let content = Content::Parts(vec![Part::Image(a.clone(), limits), Part::Text("And?".into())]);
    let limited = [Message { content, ..Message::text("user", "") }];
    ask(&engine, &mut engine.conversation(1024).unwrap(), &limited);
    assert_eq!(engine.encoded_pictures(), 2);
    // Another size is another picture.
    let fewer = ImageOptions { max_pixels: Some(56 * 56), ..ImageOptions::default() };
    let content = Content::Parts(vec![Part::Image(a.clone(), fewer), Part::Text("And?".into())]);
    ask(&engine, &mut engine.conversation(1024).unwrap(), &[Message { content, ..Message::text("user", "") }]);
    assert_eq!(engine.encoded_pictures(), 3);
    // The first lets go: the second still has it. Then nobody has, and the memory is back.
    drop(first);
    let mut third = second.fork().unwrap();
    drop(second);
    ask(&engine, &mut third, &question(&[&a]));
    assert_eq!(engine.encoded_pictures(), 3);
    drop(third);
    let weights: u64 = engine.model().weight_bytes.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(held(), weights);
    ask(&engine, &mut engine.conversation(1024).unwrap(), &question(&[&a]));
    assert_eq!(engine.encoded_pictures(), 4);
}

// ── A lost device ───────────────────────────────────────────────────────────────────────────────────────────────────

/// What was told, and the answer, of a question whose device is lost when `lose` says so: it is asked with the engine of now
/// whenever a token was told and whenever an answer could be cancelled. Every loss brings another device.
fn ask_through(
    engine: Engine,
    messages: &[Message],
    options: &AskOptions,
    lose: &dyn Fn() -> bool,
) -> (String, Answer, usize) {
    let source = Directory::new(folder("base"));
    let told = RefCell::new(String::new());
    let mut engine = engine;
    let mut conversation = engine.conversation(2048).unwrap();
    let mut draft = Draft::default();
    let mut losses = 0;
    loop {
        let maybe = || {
            if lose() {
                engine.gpu().close("on order");
            }
        };
        let mut on_delta = |delta: Delta<'_>| {
            told.borrow_mut().push_str(delta.text);
            maybe();
        };
        let cancelled = || {
            maybe();
            false
        };
        let hooks = Hooks { on_delta: &mut on_delta, cancelled: &cancelled, clock: &|| 0.0 };
        match block_on(engine.go_on(&mut draft, &mut conversation, messages, options, hooks)) {
            Err(Error::DeviceLost { message }) => {
                assert!(message.contains("on order"), "{message}");
                losses += 1;
                let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
                engine = block_on(engine.again(&gpu, &source, &Formats::default(), &mut |_, _| {})).unwrap();
            }
            answer => return (told.into_inner(), answer.unwrap(), losses),
        }
    }
}

/// Whenever it is lost: while a picture is encoded, between the passes of the prompt, after any token.
#[test]
fn an_answer_goes_on_on_another_device_as_if_nothing_had_been() {
    let screen = picture(0);
    let long: String = (0..300).map(|i| format!("{i} ")).collect();
    let messages = [about(&[&screen], &long)];
    let greedy = options(12);
    let drawn = |penalty| SamplingParams {
        do_sample: true,
        temperature: 1.5,
        seed: 7,
        repetition_penalty: 1.1,
        presence_penalty: penalty,
        ..SamplingParams::default()
    };
    let drawn = AskOptions { sampling: Some(drawn(0.5)), ..options(12) };
    for options in [greedy, drawn] {
        let (told, expected, none) = ask_through(engine(), &messages, &options, &|| false);
        assert_eq!((told.as_str(), none), (expected.text.as_str(), 0));
        let asked = Cell::new(0usize);
        for at in [1, 2, 3, 5, 8, 13] {
            asked.set(0);
            let lose = || {
                asked.set(asked.get() + 1);
                asked.get() == at || asked.get() == at + 4
            };
            let (told, answer, losses) = ask_through(engine(), &messages, &options, &lose);
            assert!(losses > 0, "{at}: it was never lost");
            assert_eq!(answer.token_ids, expected.token_ids, "{at}");
            assert_eq!(answer.text, expected.text, "{at}");
            assert_eq!(told, expected.text, "{at}: nothing twice, nothing missing");
            assert_eq!(answer.finish_reason, expected.finish_reason);
            assert_eq!(answer.usage, expected.usage, "{at}");
        }
    }
}

/// A device that was lost while nothing ran is noticed by whatever comes next; on the next engine all is as before.
#[test]
fn conversations_go_on_from_their_messages() {
    let engine = engine();
    let screen = picture(0);
    let mut messages = vec![about(&[&screen], "This is a screen.")];
    let mut conversation = engine.conversation(2048).unwrap();
    let tokens = append(&engine, &mut conversation, &messages);
    let mut clone = conversation.fork().unwrap();
    engine.gpu().close("asleep");
    assert_eq!(block_on(engine.gpu().lost()), "asleep");
    let lost = || Error::DeviceLost { message: "asleep".into() };
    assert_eq!(block_on(engine.append(&mut conversation, &messages, &options(8), &|| false)), Err(lost()));
    messages.push(Message::text("user", "What is on it?"));
    let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &|| false, clock: &|| 0.0 };
    assert_eq!(block_on(engine.ask(&mut conversation, &messages, &options(8), hooks)), Err(lost()));
    assert_eq!(block_on(engine.gpu().read_f32(&probe(&engine), 0, 1)), Err(lost()), "nothing that is read is a value");

    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    let source = Directory::new(folder("base"));
    let again = block_on(engine.again(&gpu, &source, &Formats::default(), &mut |_, _| {})).unwrap();
    let first = ask(&again, &mut conversation, &messages);
    assert_eq!(first.usage.cached_tokens, 0);
    assert_eq!(append(&again, &mut clone, &messages[..1]), tokens);
    let second = ask(&again, &mut clone, &messages);
    assert_eq!(second.usage.cached_tokens, tokens);
    assert_eq!(first.token_ids, second.token_ids);
    assert_eq!(again.encoded_pictures(), 1, "two conversations, one picture");
    // One that was cancelled needs no device.
    again.gpu().close("once more");
    let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &|| true, clock: &|| 0.0 };
    let ended = block_on(again.ask(&mut clone, &messages, &options(8), hooks)).unwrap();
    assert_eq!((ended.finish_reason, ended.text.as_str()), ("abort", ""));
}

fn probe(engine: &Engine) -> fanlight::gpu::Tensor {
    engine.gpu().persistent("probe", 1, 4, fanlight::gpu::Element::F32).unwrap()
}
