//! Tens of thousands of tokens, and YaRN, against Hugging Face: `tests/golden/long`, made by `tests/golden/make_long.py`.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

mod golden_fixture;

use std::path::PathBuf;
use std::rc::Rc;

use fanlight::dtype::{CacheFormat, Dtype};
use fanlight::generate::session::{Choose, Media, Next, Prompt, Session};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::model::{Model, registry};
use fanlight::weights::quantize::Formats;
use fanlight::weights::source::Directory;
use golden_fixture::{Case, GridOf, relative_error};
use pollster::block_on;
use safetensors::SafeTensors;

const CONTEXT: usize = 32768;
const VOCAB: usize = 64;

/// Logits against transformers in f32.
const TOLERANCE: f64 = 1e-4;
/// What 8 bits of keys and values may cost: twice what they cost here.
const TOLERANCE_Q8: f64 = 2e-2;

fn folder(name: &str) -> PathBuf {
    golden_fixture::folder("../long").join(name)
}

fn expected(name: &str, tensor: &str) -> Vec<f32> {
    let file = std::fs::read(folder(name).join("expected.safetensors")).expect("the fixture");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    Dtype::F32.to_f32(tensors.tensor(tensor).unwrap().data()).unwrap()
}

/// Positions whose logits are known, and the logits.
fn rows() -> Vec<(usize, Vec<f32>)> {
    let rows = expected("qwen2", "rows").into_iter().map(|row| row.to_bits() as usize);
    let logits = expected("qwen2", "logits");
    let rows: Vec<_> = rows.zip(logits.chunks(VOCAB).map(<[f32]>::to_vec)).collect();
    assert_eq!(rows.last().unwrap().0, CONTEXT - 1);
    rows
}

fn ids() -> Vec<u32> {
    let hash = |i: u32| i.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..CONTEXT as u32).map(|i| (hash(i) >> 28) + 16 * (i / (CONTEXT as u32 / 4))).collect()
}

fn prompt(ids: &[u32]) -> Prompt {
    Prompt { ids: ids.to_vec(), media: Vec::new() }
}

fn open(options: &GpuOptions) -> (Gpu, Rc<Model>) {
    let gpu = block_on(Gpu::open(options)).expect("an adapter");
    let source = Directory::new(folder("qwen2"));
    let model = block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).unwrap();
    assert_eq!(model.max_positions, CONTEXT);
    (gpu, model)
}

/// Row after row of a whole prompt, in segments that a small binding makes, at whose ends passes end.
#[test]
fn a_whole_context_at_once() {
    let (gpu, model) = open(&GpuOptions { max_binding: Some(300_000), ..GpuOptions::default() });
    let mut session = Session::new(&gpu, &model, CONTEXT).unwrap();
    let start = std::time::Instant::now();
    let logits = block_on(session.all_logits(&prompt(&ids()))).unwrap();
    println!("{CONTEXT} tokens in {:.1?}", start.elapsed());
    assert_eq!(session.cache().segments().collect::<Vec<_>>(), [&[3584; 9][..], &[512]].concat());
    for (row, want) in rows() {
        let error = relative_error(&logits[row * VOCAB..][..VOCAB], &want);
        assert!(error <= TOLERANCE, "row {row}: logits differ by {error:e}");
    }
    // More than a binding for the keys, and no more launches than were counted on.
    let shape = session.cache().shape();
    assert!(shape.bytes(CONTEXT) > 2 * 8 * 300_000);
    assert!(session.cache().segments().count() + 3 <= shape.launches(CONTEXT, 300_000));
}

/// Turns up to some token and so many more one by one, over the segments that this makes.
fn in_turns(format: CacheFormat, turns: &[(usize, usize)], tolerance: f64) {
    let (gpu, model) = open(&GpuOptions::default());
    let ids = ids();
    let mut session = Session::with_cache(&gpu, &model, CONTEXT, format).unwrap();
    let mut worst = 0f64;
    let mut check = |session: &Session, next: Next| {
        let (Next::Logits(logits), row) = (next, session.len() - 1) else { panic!("logits were asked for") };
        for (_, want) in rows().iter().filter(|(known, _)| *known == row) {
            let error = relative_error(&logits, want);
            println!("{format}, row {row}: logits differ by {error:e}");
            worst = worst.max(error);
        }
    };
    for &(end, more) in turns {
        let next = block_on(session.prefill(&prompt(&ids[..end]), Choose::Logits, &|| true)).unwrap();
        check(&session, next);
        for &id in &ids[end..end + more] {
            let next = block_on(session.step(id, Choose::Logits)).unwrap();
            check(&session, next);
        }
    }
    let rooms: Vec<usize> = session.cache().segments().collect();
    assert!(rooms.len() > 3, "{rooms:?}");
    assert!(rooms.len() + 3 <= session.cache().shape().launches(CONTEXT, gpu.caps().max_binding), "{rooms:?}");
    // Also not for nothing.
    let least = if format == CacheFormat::F32 { 0.0 } else { TOLERANCE };
    assert!(worst > least && worst <= tolerance, "{format}: logits differ by {worst:e}");
    let bytes: u64 = rooms.iter().map(|positions| session.cache().shape().bytes(*positions)).sum();
    let weights: u64 = model.weight_bytes.iter().map(|(_, b)| b).sum();
    let others = gpu.memory().persistent.current - weights - bytes;
    let state = Session::state_bytes(VOCAB, model.rope.head_dim);
    assert!([state, state + 16].contains(&others), "{others} bytes beside weights and cache");
}

#[test]
fn in_turns_as_f32() {
    // The last goes back into the first segment.
    in_turns(CacheFormat::F32, &[(778, 250), (2049, 0), (4000, 100), (778, 0)], TOLERANCE);
}

#[test]
fn a_whole_context_in_turns_as_q8() {
    in_turns(CacheFormat::Q8, &[(778, 250), (2049, 0), (12346, 0), (CONTEXT, 0)], TOLERANCE_Q8);
}

/// YaRN beside an mrope_section, with pictures in the prompt.
#[test]
fn yarn_with_pictures() {
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    let mut source = Directory::new(golden_fixture::folder("base"));
    source.alias("config.json", folder("vl").join("config.json"));
    let model = block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).unwrap();
    let case = Case::open("base", "two_images");
    let tower = model.vision.as_ref().unwrap();
    let pictures = case.pictures();
    let images = pictures.iter().enumerate().map(|(key, patches)| Media {
        key: key as u128,
        grid: patches.grid(),
        second_per_grid: None,
        embeds: vec![tower.encode(&gpu, &patches.pixel_values, patches.grid()).unwrap()],
    });
    let prompt = Prompt { ids: case.u32("input_ids"), media: images.collect() };
    let mut session = Session::new(&gpu, &model, 4096).unwrap();
    let logits = block_on(session.all_logits(&prompt)).unwrap();
    let want = expected("vl", "logits_last");
    let error = relative_error(&logits[logits.len() - want.len()..], &want);
    assert!(error <= TOLERANCE, "logits differ by {error:e}");
}
