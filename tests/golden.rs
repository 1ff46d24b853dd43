//! The engine against Hugging Face: fixtures of `tests/golden/models/*`, made by `tests/golden/make_golden.py`.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

mod golden_fixture;
mod greedy;

use fanlight::dtype::CacheFormat;
use fanlight::generate::session::{Choose, Media, Next, Prompt, Session};
use fanlight::gpu::Tensor;
use fanlight::image::Patches;
use fanlight::model::Embeds;
use fanlight::model::positions::Grid;
use golden_fixture::{Case, Engine, GridOf, Medium, relative_error};
use greedy::greedy;
use pollster::block_on;

/// Image embeddings and logits against transformers in f32.
const TOLERANCE: f64 = 1e-4;

fn prompt(engine: &Engine, case: &Case) -> Prompt {
    let vision = engine.model.vision.as_ref().unwrap();
    let encode = |patches: &Patches| vision.encode(&engine.gpu, &patches.pixel_values, patches.grid()).unwrap();
    let media = case.media().into_iter().enumerate().map(|(key, medium)| match medium {
        Medium::Image(patches) => {
            Media { key: key as u128, grid: patches.grid(), second_per_grid: None, embeds: vec![encode(&patches)] }
        }
        Medium::Video(pairs, seconds) => {
            let grid = Grid { t: pairs.len() as u32, ..pairs[0].grid() };
            let embeds = pairs.iter().map(encode).collect();
            Media { key: key as u128, grid, second_per_grid: Some(seconds), embeds }
        }
    });
    Prompt { ids: case.u32("input_ids"), media: media.collect() }
}

fn check(model: &str, case: &str, tolerance: f64) {
    check_engine(&Engine::open(model), model, case, tolerance);
}

fn check_engine(engine: &Engine, model: &str, case: &str, tolerance: f64) {
    let case = Case::open(model, case);
    let prompt = prompt(engine, &case);
    // Embeddings.
    for (kind, video) in [("image", false), ("video", true)] {
        let media = prompt.media.iter().filter(|media| media.second_per_grid.is_some() == video);
        let parts: Vec<&Embeds> = media.flat_map(|media| &media.embeds).collect();
        let read = |part: &dyn Fn(&Embeds) -> Tensor| -> Vec<f32> {
            let tensors = parts.iter().map(|embeds| part(embeds));
            tensors.flat_map(|tensor| block_on(engine.gpu.read_f32(&tensor, 0, tensor.len())).unwrap()).collect()
        };
        let layers = parts.first().map_or(0, |embeds| embeds.deep.len());
        let deep: Vec<f32> = (0..layers).flat_map(|n| read(&|embeds| embeds.deep[n].clone())).collect();
        for (name, found) in [("embeds", read(&|embeds| embeds.main.clone())), ("deepstack_embeds", deep)] {
            // Those of images alone have no kind in their name.
            let name = [format!("{kind}_{name}"), name.to_owned()].into_iter().find(|name| case.has(&case.exact(name)));
            if let Some(name) = name.filter(|_| !found.is_empty()) {
                let error = relative_error(&found, &case.f32(&case.exact(&name)));
                assert!(error <= tolerance, "{model}/{}: {name} differ by {error:e}", case.name);
            } else {
                assert!(found.is_empty(), "{model}/{}: nothing to compare {kind} embeddings with", case.name);
            }
        }
    }
    // Positions, exactly.
    let mut session = Session::new(&engine.gpu, &engine.model, 4096).unwrap();
    let (positions, _) = session.positions(&prompt).unwrap();
    let flat: Vec<i32> = (0..3).flat_map(|axis| positions.iter().map(move |p| p[axis])).collect();
    assert_eq!(flat, case.i32("position_ids"));
    // Logits.
    let logits = block_on(session.all_logits(&prompt)).unwrap();
    assert_eq!(session.rope_delta(), i64::from(case.i32("rope_delta")[0]));
    let expected = case.logits();
    let error = relative_error(&logits[logits.len() - expected.len()..], &expected);
    assert!(error <= tolerance, "{model}/{}: logits differ by {error:e}", case.name);
    println!("{model}/{}: logits {error:e}", case.name);
    // Greedy continuation, token for token.
    let expected = case.u32(&case.exact("greedy_ids"));
    let vocab = engine.tokenizer_ids;
    let mut session = Session::new(&engine.gpu, &engine.model, 4096).unwrap();
    assert_eq!(greedy(&mut session, &prompt, vocab, expected.len()), expected, "{model}/{}", case.name);
}

/// The same checkpoints as llama.cpp's converter would write them: decoder and vision tower in two files.
#[test]
fn from_gguf() {
    let engine = Engine::open_gguf("base", Some("base-mmproj.gguf"));
    for case in ["text", "image", "image_tall", "windows", "two_images", "multi_turn", "resize"] {
        check_engine(&engine, "base", case, TOLERANCE);
    }
    // Early converters swapped the layers of Qwen2-VL's MLP.
    for mmproj in ["qwen2_vl-mmproj.gguf", "qwen2_vl-legacy-mmproj.gguf"] {
        let engine = Engine::open_gguf("qwen2_vl", Some(mmproj));
        for case in ["image", "video_image"] {
            check_engine(&engine, "qwen2_vl", case, TOLERANCE);
        }
    }
    let engine = Engine::open_gguf("qwen3_vl", Some("qwen3_vl-mmproj.gguf"));
    for case in ["text", "image", "two_images", "video_image"] {
        check_engine(&engine, "qwen3_vl", case, TOLERANCE);
    }
}

/// Without its tower a file is the text model that the decoder was made of.
#[test]
fn a_decoder_alone() {
    for (model, family) in [("base", "qwen2"), ("qwen3_vl", "qwen3")] {
        let engine = Engine::open_gguf(model, None);
        assert_eq!(engine.model.family, family);
        let case = Case::open(model, "text");
        let prompt = Prompt { ids: case.u32("input_ids"), media: Vec::new() };
        let mut session = Session::new(&engine.gpu, &engine.model, 4096).unwrap();
        let logits = block_on(session.all_logits(&prompt)).unwrap();
        let expected = case.logits();
        let error = relative_error(&logits[logits.len() - expected.len()..], &expected);
        assert!(error <= TOLERANCE, "{model}: logits differ by {error:e}");
    }
}

/// Qwen2-VL as its quantized releases store it, against transformers on the numbers that the codes stand for.
#[test]
fn packed_layers_under_a_vision_tower() {
    for kind in ["awq", "gptq4", "gptq8"] {
        check(&format!("../packed/qwen2_vl_{kind}"), "image", TOLERANCE);
    }
}

/// The second turn continues the cache of the first: same ids as transformers computes over the whole sequence.
#[test]
fn a_second_turn_continues_the_cache() {
    for model in ["base", "flat", "qwen2_vl", "qwen3_vl"] {
        let engine = Engine::open(model);
        let case = Case::open(model, "multi_turn");
        let whole = prompt(&engine, &case);
        let first = Prompt { ids: case.u32("turn1_input_ids"), media: whole.media[..1].to_vec() };
        let mut session = Session::new(&engine.gpu, &engine.model, 4096).unwrap();
        let turn1 = case.u32("turn1_ids");
        assert_eq!(greedy(&mut session, &first, engine.tokenizer_ids, turn1.len()), turn1, "{model}: first turn");
        let reused = session.reusable(&whole);
        assert!(reused >= first.ids.len(), "{model}: only {reused} of {} tokens reused", first.ids.len());
        let expected = case.u32("greedy_ids");
        assert_eq!(
            greedy(&mut session, &whole, engine.tokenizer_ids, expected.len()),
            expected,
            "{model}: second turn"
        );
        assert_eq!(session.rope_delta(), i64::from(case.i32("rope_delta")[0]));
        // Another picture of the same size ends the reuse where it stands.
        let mut other = whole.clone();
        other.media[0].key = 99;
        let at = whole.ids.iter().position(|id| *id == engine.model.media.image).unwrap();
        assert_eq!(session.reusable(&other), at);
    }
}

/// Keys and values in 8 bits: what that costs these models, which are random and narrow and make the most of every error.
#[test]
fn a_cache_in_8_bits_stays_near() {
    for (model, names) in [
        ("base", &["text", "image", "two_images", "multi_turn"][..]),
        ("flat", &["text", "image", "multi_turn"]),
        ("head80", &["text", "image", "two_images"]),
    ] {
        let engine = Engine::open(model);
        for name in names {
            let case = Case::open(model, name);
            let prompt = prompt(&engine, &case);
            let session = || Session::with_cache(&engine.gpu, &engine.model, 4096, CacheFormat::Q8).unwrap();
            let expected = case.logits();
            let mut all = session();
            all.set_chunk(33);
            let logits = block_on(all.all_logits(&prompt)).unwrap();
            let error = relative_error(&logits[logits.len() - expected.len()..], &expected);
            let expected = case.u32(&case.exact("greedy_ids"));
            let found = greedy(&mut session(), &prompt, engine.tokenizer_ids, expected.len());
            let same = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            println!("{model}/{name}: logits {error:e}, {same} of {} ids", expected.len());
            assert!(TOLERANCE < error && error < 6e-2, "{model}/{name}: logits differ by {error:e}");
            assert!(same >= 1, "{model}/{name}: not even the first id is the same");
        }
    }
}

/// A prompt in many small passes, cut also inside images, gives what one pass gives; so does a cache that had to grow.
#[test]
fn chunks_and_growth_change_nothing() {
    let engine = Engine::open("base");
    let case = Case::open("base", "two_images");
    let prompt = prompt(&engine, &case);
    let expected = case.logits();
    for chunk in [1, 7, 64] {
        let mut session = Session::new(&engine.gpu, &engine.model, 4096).unwrap();
        session.set_chunk(chunk);
        let logits = block_on(session.all_logits(&prompt)).unwrap();
        let error = relative_error(&logits[logits.len() - expected.len()..], &expected);
        assert!(error <= TOLERANCE, "chunks of {chunk}: logits differ by {error:e}");
    }
    // Token by token beyond the 256 positions that the cache has at first.
    let mut ids = prompt.ids.clone();
    let mut grown = Session::new(&engine.gpu, &engine.model, 4096).unwrap();
    let choose = || Choose::Best { vocab: engine.tokenizer_ids };
    block_on(grown.prefill(&prompt, choose(), &|| true)).unwrap();
    let mut last = None;
    for i in 0..200 {
        let id = (i * 7) % 200;
        ids.push(id);
        last = Some(block_on(grown.step(id, choose())).unwrap());
    }
    let Some(Next::Best(last)) = last else { panic!("greedy yields the best") };
    let whole = Prompt { ids, media: prompt.media.clone() };
    let mut fresh = Session::new(&engine.gpu, &engine.model, 4096).unwrap();
    assert_eq!(greedy(&mut fresh, &whole, engine.tokenizer_ids, 1), [last.id]);
}

#[test]
fn a_full_context_is_an_error_with_the_numbers() {
    let engine = Engine::open("base");
    let prompt = prompt(&engine, &Case::open("base", "text"));
    let mut session = Session::new(&engine.gpu, &engine.model, 20).unwrap();
    let choose = Choose::Best { vocab: engine.tokenizer_ids };
    let error = block_on(session.prefill(&prompt, choose, &|| true)).err().unwrap();
    assert_eq!(error, fanlight::Error::ContextOverflow { needed: prompt.ids.len(), limit: 20 });
}

macro_rules! golden {
    ($($name:ident: $model:literal / $case:literal, $tolerance:expr;)*) => {
        $(#[test] fn $name() { check($model, $case, $tolerance); })*
    };
}

golden! {
    base_text: "base" / "text", TOLERANCE;
    base_image: "base" / "image", TOLERANCE;
    base_image_tall: "base" / "image_tall", TOLERANCE;
    base_windows: "base" / "windows", TOLERANCE;
    base_two_images: "base" / "two_images", TOLERANCE;
    base_multi_turn: "base" / "multi_turn", TOLERANCE;
    base_resize: "base" / "resize", TOLERANCE;
    flat_text: "flat" / "text", TOLERANCE;
    flat_image: "flat" / "image", TOLERANCE;
    flat_windows: "flat" / "windows", TOLERANCE;
    flat_two_images: "flat" / "two_images", TOLERANCE;
    flat_multi_turn: "flat" / "multi_turn", TOLERANCE;
    head80_text: "head80" / "text", TOLERANCE;
    head80_image: "head80" / "image", TOLERANCE;
    head80_two_images: "head80" / "two_images", TOLERANCE;
    qwen2_vl_text: "qwen2_vl" / "text", TOLERANCE;
    qwen2_vl_image: "qwen2_vl" / "image", TOLERANCE;
    qwen2_vl_image_tall: "qwen2_vl" / "image_tall", TOLERANCE;
    qwen2_vl_windows: "qwen2_vl" / "windows", TOLERANCE;
    qwen2_vl_two_images: "qwen2_vl" / "two_images", TOLERANCE;
    qwen2_vl_multi_turn: "qwen2_vl" / "multi_turn", TOLERANCE;
    qwen2_vl_resize: "qwen2_vl" / "resize", TOLERANCE;
    qwen3_vl_text: "qwen3_vl" / "text", TOLERANCE;
    qwen3_vl_image: "qwen3_vl" / "image", TOLERANCE;
    qwen3_vl_image_tall: "qwen3_vl" / "image_tall", TOLERANCE;
    qwen3_vl_windows: "qwen3_vl" / "windows", TOLERANCE;
    qwen3_vl_two_images: "qwen3_vl" / "two_images", TOLERANCE;
    qwen3_vl_multi_turn: "qwen3_vl" / "multi_turn", TOLERANCE;
    qwen3_vl_resize: "qwen3_vl" / "resize", TOLERANCE;
    qwen2_vl_flat_text: "qwen2_vl_flat" / "text", TOLERANCE;
    qwen2_vl_flat_image: "qwen2_vl_flat" / "image", TOLERANCE;
    qwen2_vl_flat_two_images: "qwen2_vl_flat" / "two_images", TOLERANCE;
    qwen2_vl_flat_multi_turn: "qwen2_vl_flat" / "multi_turn", TOLERANCE;
    qwen3_vl_bf16_text: "qwen3_vl_bf16" / "text", TOLERANCE;
    qwen3_vl_bf16_image: "qwen3_vl_bf16" / "image", TOLERANCE;
    qwen3_vl_bf16_two_images: "qwen3_vl_bf16" / "two_images", TOLERANCE;
    qwen3_vl_bf16_multi_turn: "qwen3_vl_bf16" / "multi_turn", TOLERANCE;
    qwen3_vl_head72_text: "qwen3_vl_head72" / "text", TOLERANCE;
    qwen3_vl_head72_image: "qwen3_vl_head72" / "image", TOLERANCE;
    base_video: "base" / "video", TOLERANCE;
    base_video_fps: "base" / "video_fps", TOLERANCE;
    base_video_image: "base" / "video_image", TOLERANCE;
    base_video_multi_turn: "base" / "video_multi_turn", TOLERANCE;
    qwen2_vl_video: "qwen2_vl" / "video", TOLERANCE;
    qwen2_vl_video_fps: "qwen2_vl" / "video_fps", TOLERANCE;
    qwen2_vl_video_image: "qwen2_vl" / "video_image", TOLERANCE;
    qwen2_vl_video_multi_turn: "qwen2_vl" / "video_multi_turn", TOLERANCE;
    qwen3_vl_video: "qwen3_vl" / "video", TOLERANCE;
    qwen3_vl_video_fps: "qwen3_vl" / "video_fps", TOLERANCE;
    qwen3_vl_video_image: "qwen3_vl" / "video_image", TOLERANCE;
    qwen3_vl_video_multi_turn: "qwen3_vl" / "video_multi_turn", TOLERANCE;
    bf16_image: "bf16" / "image", TOLERANCE;
    f16_image: "f16" / "image", TOLERANCE;
}

/// Floats quantized while they are loaded. These models are random and narrow, which makes the most of every error; what the
/// formats cost a trained model stands in the model card of the demonstration checkpoint.
#[test]
fn quantized_on_the_way_stays_near() {
    let case = Case::open("base", "image");
    let expected = case.logits();
    let error = |formats: &str| {
        let engine = Engine::open_as("base", &formats.parse().unwrap());
        let prompt = prompt(&engine, &case);
        let mut session = Session::new(&engine.gpu, &engine.model, 4096).unwrap();
        let logits = block_on(session.all_logits(&prompt)).unwrap();
        let error = relative_error(&logits[logits.len() - expected.len()..], &expected);
        println!("base/image in {formats}: logits {error:e}");
        error
    };
    let [text, all, q4] = ["text=q8,embeddings=q8", "q8", "q4"].map(error);
    assert!(TOLERANCE < text && text < all && all < 0.1 && all < q4 && q4 < 1.0);
}
