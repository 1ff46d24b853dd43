//! The engine against Hugging Face: fixtures of `tests/golden/models/*`, made by `tests/golden/make_golden.py`.

mod golden_fixture;

use fanlight::generate::session::{Choose, Media, Next, Prompt, Session};
use golden_fixture::{Case, Engine, GridOf, relative_error};
use pollster::block_on;

/// Image embeddings and logits against transformers in f32.
const TOLERANCE: f64 = 1e-4;
/// Where pixels were resized: PIL and torchvision differ by a level here and there.
const RESIZED_TOLERANCE: f64 = 2e-2;

fn prompt(engine: &Engine, case: &Case) -> Prompt {
    let images = case
        .pictures()
        .iter()
        .enumerate()
        .map(|(key, patches)| {
            let embeds = engine.model.vision.encode(&engine.gpu, &patches.pixel_values, patches.grid()).unwrap();
            Media { key: key as u64, grid: patches.grid(), embeds }
        })
        .collect();
    Prompt { ids: case.u32("input_ids"), images }
}

fn check(model: &str, case: &str, tolerance: f64) {
    let engine = Engine::open(model);
    let case = Case::open(model, case);
    let prompt = prompt(&engine, &case);
    // Image embeddings.
    let mut embeds = Vec::new();
    for media in &prompt.images {
        embeds.extend(block_on(engine.gpu.read_f32(&media.embeds, 0, media.embeds.len())).unwrap());
    }
    let error = relative_error(&embeds, &case.f32("image_embeds"));
    assert!(error <= tolerance, "{model}/{}: image_embeds differ by {error:e}", case.name);
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
    let expected = case.u32("greedy_ids");
    let vocab = engine.tokenizer_ids;
    let mut session = Session::new(&engine.gpu, &engine.model, 4096).unwrap();
    let greedy = || Choose::Greedy { vocab, penalty: None };
    let mut ids = Vec::new();
    let mut next = block_on(session.prefill(&prompt, greedy(), &|| true)).unwrap();
    while ids.len() < expected.len() {
        let Next::Id(id) = next else { panic!("greedy yields ids") };
        ids.push(id);
        next = block_on(session.step(id, greedy())).unwrap();
    }
    assert_eq!(ids, expected, "{model}/{}", case.name);
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
    base_resize: "base" / "resize", RESIZED_TOLERANCE;
    flat_text: "flat" / "text", TOLERANCE;
    flat_image: "flat" / "image", TOLERANCE;
    flat_windows: "flat" / "windows", TOLERANCE;
    flat_two_images: "flat" / "two_images", TOLERANCE;
    flat_multi_turn: "flat" / "multi_turn", TOLERANCE;
    flat_resize: "flat" / "resize", RESIZED_TOLERANCE;
    head80_text: "head80" / "text", TOLERANCE;
    head80_image: "head80" / "image", TOLERANCE;
    head80_two_images: "head80" / "two_images", TOLERANCE;
    bf16_image: "bf16" / "image", TOLERANCE;
    bf16_two_images: "bf16" / "two_images", TOLERANCE;
    f16_image: "f16" / "image", TOLERANCE;
    f16_two_images: "f16" / "two_images", TOLERANCE;
}
