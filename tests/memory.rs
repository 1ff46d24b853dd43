//! What a device holds, against the estimate that is made before anything is loaded.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

mod golden_fixture;

use std::ops::Range;
use std::rc::Rc;

use fanlight::Error;
use fanlight::chat::Engine;
use fanlight::dtype::{CacheFormat, Dtype, Element};
use fanlight::generate::estimate::{Estimate, Weights, Wish, estimate, of, parse_bytes};
use fanlight::generate::session::{Choose, Media, Prompt, Session};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::model::names;
use fanlight::model::positions::Grid;
use fanlight::model::registry::parse_config;
use fanlight::model::registry::{self, Tables};
use fanlight::weights::plan::Limits;
use fanlight::weights::quantize::Formats;
use fanlight::weights::source::Pending;
use fanlight::weights::{Checkpoint, Directory, Folder, Memory, Source, TensorInfo};
use golden_fixture::folder;
use pollster::block_on;

fn open(options: &GpuOptions) -> Gpu {
    block_on(Gpu::open(options)).expect("an adapter")
}

fn wish(context: usize, max_pixels: u64) -> Wish {
    let weights = Weights::Fixed(Formats::default());
    Wish { weights, cache: None, context, max_pixels: Some(max_pixels), memory: None }
}

/// At least what there is, and at most a quarter more.
fn near(what: &str, estimate: u64, actual: u64) {
    println!("{what}: {estimate} estimated, {actual} held, {:.3}", estimate as f64 / actual as f64);
    assert!(estimate >= actual, "{what}: {estimate} estimated, {actual} held");
    assert!(estimate as f64 <= 1.25 * actual as f64, "{what}: {estimate} estimated, {actual} held");
}

/// The max_pixels whose largest picture has so many tokens: below 200 that is a strip, which smart_resize leaves longer.
fn pixels_of(tables: &Tables, tokens: usize) -> u64 {
    let vision = tables.vision.as_ref().unwrap();
    let area = (vision.patch_size() * vision.merge()).pow(2) as u64;
    (area * tokens as u64 * tokens.min(200) as u64).div_ceil(200)
}

/// A picture of `h` × `w` patches, then `words` other tokens, then decoding up to `context`, with a cache of either format.
fn measure(model: &str, options: &GpuOptions, size: (u32, u32), words: usize, decoded: usize) {
    CacheFormat::ALL.into_iter().for_each(|cache| measure_as(cache, model, options, size, words, decoded));
}

fn measure_as(cache: CacheFormat, model: &str, options: &GpuOptions, (h, w): (u32, u32), words: usize, decoded: usize) {
    let gpu = open(options);
    let source = Directory::new(folder(model));
    let tables = block_on(Tables::read(&source)).unwrap();
    let loaded = block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).unwrap();
    let sizes = tables.vision.as_ref().unwrap();
    let (patches, tokens) = ((h * w) as usize, (h * w) as usize / (sizes.merge() * sizes.merge()));
    let context = tokens + words + decoded;
    let wish = Wish { cache: Some(cache), ..wish(context, pixels_of(&tables, tokens)) };
    let e = estimate(&tables, gpu.caps().limits(), &wish).unwrap();
    let name = format!("{model} {h}×{w}, {words} words, {decoded} decoded, {cache} cache");
    let weights: u64 = e.weight_bytes.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(weights, gpu.memory().persistent.current, "{name}: weights");

    let model = Rc::new(loaded);
    let patch_len = 3 * 2 * sizes.patch_size().pow(2);
    let grid = Grid::new(1, h, w);
    gpu.trim();
    gpu.forget_peaks();
    let pixels: Vec<f32> = (0..patches * patch_len).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    let embeds = model.vision.as_ref().unwrap().encode(&gpu, &pixels, grid).unwrap();
    block_on(gpu.settle()).unwrap();
    near(&format!("{name}: vision"), e.activation_bytes.vision, gpu.memory().pooled.peak);
    gpu.trim();
    gpu.forget_peaks();
    let mut ids = vec![model.media.image; tokens];
    ids.extend((0..words as u32).map(|i| 3 + i % 50));
    let media = Media { key: 1, grid, second_per_grid: None, embeds: vec![embeds] };
    let prompt = Prompt { ids, media: vec![media] };
    let mut session = Session::with_cache(&gpu, &model, context, cache).unwrap();
    let choose = || Choose::Best { vocab: 100 };
    block_on(session.prefill(&prompt, choose(), &|| true)).unwrap();
    for i in 0..decoded as u32 {
        block_on(session.step(3 + i % 50, choose())).unwrap();
    }
    let held = gpu.memory();
    near(&format!("{name}: prefill"), e.activation_bytes.prefill, held.pooled.peak);
    // Weights, what the session keeps on the device, the word that is read to wait, and segments that end where the context does.
    let rooms: Vec<usize> = session.cache().segments().collect();
    assert_eq!(rooms.iter().sum::<usize>(), context.next_multiple_of(4), "{name}: {rooms:?}");
    assert_eq!(decoded > 256, rooms.len() > 1, "{name}: {rooms:?}");
    let others = held.persistent.peak - weights - e.kv_bytes;
    let state = Session::state_bytes(tables.decoder.vocab, tables.decoder.heads.dim);
    assert!([state, state + 16].contains(&others), "{name}: {others} bytes beside weights and cache");
    assert!(held.passing.peak <= e.staging_bytes, "{name}: {} pass", held.passing.peak);
    assert!(held.total.peak <= e.total_bytes, "{name}: {} in all, {} estimated", held.total.peak, e.total_bytes);
    // Everything goes back.
    drop((session, prompt, model));
    gpu.trim();
    assert_eq!((gpu.memory().persistent.current, gpu.memory().pooled.current), (0, 0), "{name}");
}

#[test]
fn small_pictures_and_prompts() {
    measure("base", &GpuOptions::default(), (4, 4), 30, 2);
    measure("flat", &GpuOptions::default(), (6, 14), 200, 0);
    measure("head80", &GpuOptions::default(), (10, 8), 500, 60);
    measure("base", &GpuOptions::default(), (30, 28), 340, 0);
    measure("qwen2_vl", &GpuOptions::default(), (10, 14), 60, 3);
    measure("qwen3_vl", &GpuOptions::default(), (10, 14), 60, 3);
    measure("qwen3_vl", &GpuOptions::default(), (24, 18), 340, 0);
}

/// Through the windows of more than one piece of the tower, more than one pass of the prompt, a cache that grows while
/// decoding, and buffers whose class no longer fits a binding.
#[test]
fn larger_pictures_and_prompts() {
    measure("base", &GpuOptions::default(), (70, 62), 30, 300);
    measure("flat", &GpuOptions { max_binding: Some(19_800_000), ..GpuOptions::default() }, (60, 70), 5, 0);
    measure("bf16", &GpuOptions::default(), (2, 2), 700, 700);
    measure("qwen3_vl", &GpuOptions::default(), (70, 62), 30, 300);
}

/// Columns of packed layers wait in a buffer beside the weights, which is gone when they are all there.
#[test]
fn packed_layers() {
    for kind in ["awq", "gptq4", "gptq8", "gptq_scattered"] {
        let source = Directory::new(folder("base").join("../../packed").join(kind));
        let gpu = open(&GpuOptions::default());
        let tables = block_on(Tables::read(&source)).unwrap();
        let e = estimate(&tables, gpu.caps().limits(), &wish(1, 1)).unwrap();
        let _model = block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).unwrap();
        let weights: u64 = e.weight_bytes.iter().map(|(_, bytes)| bytes).sum();
        let held = gpu.memory();
        println!("{kind}: {weights} in weights, {} at most, {} estimated", held.total.peak, e.total_bytes);
        assert_eq!((held.persistent.current, held.pooled.current), (weights, 0), "{kind}");
        assert!(held.total.peak > weights && held.total.peak <= weights + e.staging_bytes, "{kind}");
        assert!(e.total_bytes >= weights + e.staging_bytes, "{kind}");
    }
}

/// The embedded model through the whole engine: two pictures of its size, one after the other.
#[test]
fn the_embedded_model() {
    use fanlight::chat::{AskOptions, Content, Hooks, Message, Part};
    use fanlight::image::{ImageOptions, Still};
    let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let source = Directory::new(root.join("models/screen-reader"));
    let gpu = open(&GpuOptions::default());
    let engine = block_on(Engine::load(&gpu, &source, &mut |_, _| {})).unwrap();
    let picture = |n: u32| {
        let bytes = std::fs::read(root.join(format!("tests/screens/screen-{n:03}.png"))).unwrap();
        Part::Image(Rc::new(Still::open(bytes).unwrap()), ImageOptions::default())
    };
    let message = |n| {
        let content = Content::Parts(vec![picture(n), Part::Text("What does the screen show?".into())]);
        Message { role: "user".into(), content, ..Message::default() }
    };
    let mut conversation = engine.conversation(2048).unwrap();
    let options = AskOptions { max_tokens: Some(40), ..AskOptions::default() };
    let (mut tokens, mut longest) = (0, 0);
    for n in [0, 1] {
        let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &|| false, clock: &|| 0.0 };
        let answer = block_on(engine.ask(&mut conversation, &[message(n)], &options, hooks)).unwrap();
        tokens = tokens.max(answer.images[0].tokens);
        longest = longest.max(answer.prompt_tokens);
    }
    let tables = block_on(Tables::read(&source)).unwrap();
    let of = |context| estimate(&tables, gpu.caps().limits(), &wish(context, pixels_of(&tables, tokens))).unwrap();
    let held = gpu.memory();
    let whole = of(2048);
    assert!(held.total.peak <= whole.total_bytes && held.passing.peak <= whole.staging_bytes);
    // Passes of as many rows as the prompts had.
    let activations = of(longest + 1).activation_bytes;
    near("embedded: activations", activations.vision.max(activations.prefill), held.pooled.peak);
}

/// Frames pass through the vision tower a few thousand patches at a time: a video four times as long takes no more of it, only
/// more embeddings.
#[test]
fn a_long_video_in_groups() {
    use fanlight::chat::{AskOptions, Content, Hooks, Message, Part};
    use fanlight::image::Picture;
    use fanlight::video::{Times, Track, VideoBuilder, VideoOptions};
    let source = Directory::new(folder("base"));
    let peak = |frames: usize| {
        let gpu = open(&GpuOptions::default());
        let engine = block_on(Engine::load(&gpu, &source, &mut |_, _| {})).unwrap();
        let track = Track { width: 112, height: 112, times: Times::Even { frames, fps: 2.0 } };
        let wish = VideoOptions { min_pixels: Some(112 * 112), max_frames: Some(frames), ..VideoOptions::default() };
        let plan = engine.plan_video(&track, &wish, 8192).unwrap();
        assert_eq!((plan.indices.len(), plan.tokens, plan.decisions.len()), (frames, frames * 8, 0));
        let mut video = VideoBuilder::new(plan.clone());
        for (i, time) in plan.times.iter().enumerate() {
            let pixels = (0..112 * 112 * 3).map(|at| (at * 7 + i * 31) as u8).collect();
            video.push(&Picture::new(112, 112, pixels).unwrap(), *time).unwrap();
        }
        let parts = vec![Part::Video(Rc::new(video.finish().unwrap())), Part::Text("What happens?".into())];
        let message = Message { role: "user".into(), content: Content::Parts(parts), ..Message::default() };
        let mut conversation = engine.conversation(8192).unwrap();
        let options = AskOptions { max_tokens: Some(2), ..AskOptions::default() };
        let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &|| false, clock: &|| 0.0 };
        gpu.trim();
        gpu.forget_peaks();
        let answer = block_on(engine.ask(&mut conversation, &[message], &options, hooks)).unwrap();
        assert_eq!((answer.videos[0].tokens, answer.usage.video_tokens), (frames * 8, frames * 8));
        (gpu.memory().pooled.peak, frames * 8 * engine.model().decoder.config().hidden * 4)
    };
    let ((short, few), (long, many)) = (peak(128), peak(512));
    println!("{short} for one group, {long} for four");
    assert!(long - short <= ((many - few) * 5 / 4 + (64 << 10)) as u64, "{short} for one group, {long} for four");
}

/// A device that is full fails with what was asked and held, gives everything back, and hints with numbers.
#[test]
fn a_full_device_gives_everything_back() {
    let source = Directory::new(folder("base"));
    let whole = {
        let gpu = open(&GpuOptions::default());
        let _model = block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).unwrap();
        gpu.memory().persistent.current
    };
    for most in [100, whole / 2, whole - 1] {
        let gpu = open(&GpuOptions { max_memory: Some(most), ..GpuOptions::default() });
        let error =
            block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).err().unwrap();
        let Error::OutOfMemory { what, bytes, held, .. } = &error else { panic!("{error}") };
        assert!(!what.is_empty() && *bytes > 0 && held + bytes > most && *held <= most, "{error}");
        assert!(error.hint().contains("text=q8") && error.hint().contains("max_pixels"), "{}", error.hint());
        assert_eq!((error.code(), error.retryable()), ("oom", true));
        let now = gpu.memory();
        assert_eq!((now.persistent.current, now.pooled.current), (0, 0), "{error}");
    }
    // Formats that fit do load, on the same device as ever.
    let lighter: Formats = "text=q4,embeddings=q4".parse().unwrap();
    let gpu = open(&GpuOptions { max_memory: Some(whole - 1), ..GpuOptions::default() });
    assert!(block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).is_err());
    block_on(registry::load(&gpu, &source, &lighter, &mut |_, _| {}, &|_| Ok(()))).unwrap();
}

/// A conversation that outgrows the device can go on with fewer tokens, and a picture that does can be a smaller one.
#[test]
fn a_full_device_in_a_conversation() {
    let source = Directory::new(folder("base"));
    let tables = block_on(Tables::read(&source)).unwrap();
    let weights = {
        let e =
            estimate(&tables, Limits { max_binding: 128 << 20, max_buffer: 256 << 20 }, &wish(64, 100_000)).unwrap();
        e.weight_bytes.iter().map(|(_, bytes)| bytes).sum::<u64>()
    };
    let most = weights + (4 << 20);
    let gpu = open(&GpuOptions { max_memory: Some(most), ..GpuOptions::default() });
    let model = block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).unwrap();
    let before = gpu.memory().persistent.current;
    let state = Session::state_bytes(tables.decoder.vocab, tables.decoder.heads.dim);
    let mut session = Session::new(&gpu, &model, 1 << 20).unwrap();
    let prompt = |n: u32| Prompt { ids: (0..n).map(|i| 3 + i % 50).collect(), media: Vec::new() };
    let mut ask = |n: u32| {
        let choose = Choose::Best { vocab: 100 };
        block_on(session.prefill(&prompt(n), choose, &|| true)).map(|_| ())
    };
    ask(40).unwrap();
    let error = ask(20_000).unwrap_err();
    assert!(matches!(&error, Error::OutOfMemory { held, bytes, .. } if held + bytes > most), "{error}");
    assert!(error.hint().contains("lower the context length"), "{}", error.hint());
    assert_eq!(
        (gpu.memory().persistent.current, gpu.memory().pooled.current),
        (before + state, 0),
        "but what the session keeps"
    );
    ask(41).unwrap();
    drop(session);
    assert_eq!(gpu.memory().persistent.current, before);
    let grid = Grid::new(1, 200, 200);
    let patch_len = 3 * 2 * tables.vision.as_ref().unwrap().patch_size().pow(2);
    let vision = model.vision.as_ref().unwrap();
    let error = vision.encode(&gpu, &vec![0.0; grid.count() * patch_len], grid).err().unwrap();
    assert_eq!(error.code(), "oom");
    gpu.trim();
    assert_eq!(gpu.memory().pooled.current, 0);
    let grid = Grid::new(1, 4, 4);
    vision.encode(&gpu, &vec![0.0; grid.count() * patch_len], grid).unwrap();
}

const HUB_3B: &str = r#"{"model_type": "qwen2_5_vl", "hidden_size": 2048, "intermediate_size": 11008, "hidden_act": "silu",
    "max_position_embeddings": 128000, "num_attention_heads": 16, "num_hidden_layers": 36, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "tie_word_embeddings": true, "vocab_size": 151936,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vision_config": {"depth": 32, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
        "in_chans": 3, "out_hidden_size": 2048, "patch_size": 14, "spatial_merge_size": 2, "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2, "temporal_patch_size": 2}}"#;

/// A released model without its data: the configuration, and a table of bf16 tensors of the right shapes.
struct Released {
    files: Memory,
    checkpoint: Checkpoint,
}

impl Source for Released {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        self.files.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        self.files.read(file, range)
    }
}

impl Folder for Released {
    fn tensors(&self) -> Option<&Checkpoint> {
        Some(&self.checkpoint)
    }
}

fn released(size: &str) -> Released {
    let mut config = HUB_3B.to_owned();
    if size == "7B" {
        for (of_3b, of_7b) in [
            (r#""hidden_size": 2048"#, r#""hidden_size": 3584"#),
            (r#""out_hidden_size": 2048"#, r#""out_hidden_size": 3584"#),
            ("11008", "18944"),
            (r#""num_attention_heads": 16"#, r#""num_attention_heads": 28"#),
            (r#""num_hidden_layers": 36"#, r#""num_hidden_layers": 28"#),
            (r#""num_key_value_heads": 2"#, r#""num_key_value_heads": 4"#),
            ("151936", "152064"),
            (r#""tie_word_embeddings": true"#, r#""tie_word_embeddings": false"#),
        ] {
            assert!(config.contains(of_3b));
            config = config.replace(of_3b, of_7b);
        }
    }
    let parsed = parse_config(config.as_bytes()).unwrap();
    let (matrices, vectors) = names::specs(&parsed, &|name| !name.ends_with(".1"));
    let pieces = matrices.iter().flat_map(|m| &m.sources).chain(vectors.iter().flat_map(|v| &v.sources));
    let mut at = 0;
    let tensors = pieces.map(|piece| {
        let start = at;
        at += 2 * (piece.rows * piece.cols) as u64;
        TensorInfo {
            name: piece.tensor.clone(),
            dtype: Element::Known(Dtype::BF16),
            shape: piece.shape.iter().map(|n| *n as u64).collect(),
            file: "model.safetensors".to_owned(),
            range: start..at,
        }
    });
    let checkpoint = Checkpoint::new(tensors.collect()).unwrap();
    let mut files = Memory::new();
    files.insert("config.json", config.into_bytes());
    files.insert("preprocessor_config.json", br#"{"max_pixels": 12845056}"#.to_vec());
    Released { files, checkpoint }
}

const GIB: u64 = 1 << 30;

fn limits(max_binding: u64) -> Limits {
    Limits { max_binding, max_buffer: max_binding }
}

#[test]
fn the_3b_by_hand() {
    let tables = block_on(Tables::read(&released("3B"))).unwrap();
    for binding in [128 << 20, GIB, 2 * GIB] {
        let e = estimate(&tables, limits(binding), &wish(4096, 1024 * 14 * 14)).unwrap();
        assert_eq!((e.model_type, e.parameters, e.download_bytes), ("qwen2_5_vl", 3_754_622_976, 7_509_245_952));
        let [vision, text, embeddings] = e.weight_bytes[..] else { panic!("{:?}", e.weight_bytes) };
        assert_eq!(embeddings, ("embeddings", 151_936 * 2048 * 2));
        assert_eq!((vision.0, text.0), ("vision", "text"));
        // Vectors are f32, and rows of 3420 become 3424.
        let weights = vision.1 + text.1 + embeddings.1;
        assert!(weights > 7_509_245_952 && weights < 7_520_000_000, "{weights}");
        assert_eq!(e.kv_bytes, 4096 * 73_728);
        // 1024 patches. 5 MiB: residual, q, k, v, attention, norm; then qkv, gate and up, SwiGLU in their classes; merged, twice.
        let scratch = (6 * 5 + 16 + 28 + 14 + 2 + 2) << 20;
        // Rotary table, window and frame ranges, pixels in their class, the way back from the windows.
        let uploads = 1024 * 80 * 4 + 2 * 1024 * 8 + (5 << 20) + 1024;
        assert_eq!(e.activation_bytes.vision, scratch + uploads);
        // The widest of 512 rows: gate and up, 512 · 22016 · 4 = 43 MiB, in a class of 48.
        assert!(e.activation_bytes.prefill > 48 << 20 && e.activation_bytes.prefill < 110 << 20);
        assert!(e.fits, "{}", e.reason);
        assert_eq!(e.largest_buffer.limit, binding);
        // In one piece where it may be: the embedding.
        let largest = if binding == 128 << 20 { 128 << 20 } else { 622_329_856 };
        assert!(
            e.largest_buffer.bytes <= largest && e.largest_buffer.bytes > largest - 20_000,
            "{:?}",
            e.largest_buffer
        );
        let activations = e.activation_bytes.vision.max(e.activation_bytes.prefill);
        assert_eq!(e.total_bytes, weights + e.kv_bytes + activations + e.staging_bytes);
    }
}

#[test]
fn the_7b_by_hand() {
    let tables = block_on(Tables::read(&released("7B"))).unwrap();
    let e = estimate(&tables, limits(GIB), &wish(32768, 1280 * 28 * 28)).unwrap();
    assert_eq!((e.parameters, e.download_bytes), (8_292_166_656, 16_584_333_312));
    assert_eq!(e.weight_bytes[2], ("embeddings", 2 * 152_064 * 3584 * 2));
    assert_eq!(e.kv_bytes, 32768 * 114_688);
    // The embedding of 1.09 GB is cut into two.
    assert!(e.fits && e.largest_buffer.bytes <= GIB, "{:?}", e.largest_buffer);
    let q4 = Wish { weights: "q4".parse().unwrap(), ..wish(32768, 1280 * 28 * 28) };
    let small: u64 = estimate(&tables, limits(GIB), &q4).unwrap().weight_bytes.iter().map(|(_, bytes)| bytes).sum();
    // 5 bits a weight, and vectors.
    let five = 8_292_166_656 / 8 * 5;
    assert!(small > five && small < five + five / 50, "{small}");
}

fn auto(tables: &Tables, binding: u64, context: usize, memory: Option<u64>) -> Estimate {
    let wish = Wish { weights: Weights::Auto, cache: None, context, max_pixels: Some(12_845_056), memory };
    estimate(tables, limits(binding), &wish).unwrap()
}

#[test]
fn more_of_anything_takes_more() {
    let tables = block_on(Tables::read(&released("3B"))).unwrap();
    let total = |context, pixels| estimate(&tables, limits(2 * GIB), &wish(context, pixels)).unwrap().total_bytes;
    let mut before = 0;
    for context in [1, 100, 512, 2048, 4096, 8192, 32768, 128_000] {
        let now = total(context, 1 << 20);
        assert!(now > before, "context {context}: {now} after {before}");
        before = now;
    }
    assert_eq!(total(128_000, 1 << 20), total(1 << 30, 1 << 20), "never more than the checkpoint is made for");
    let mut before = 0;
    for tokens in [1, 16, 256, 512, 1280, 4096, 16384] {
        let now = total(32768, tokens * 784);
        assert!(now >= before, "{tokens} tokens: {now} after {before}");
        before = now;
    }
}

#[test]
fn less_memory_never_chooses_more() {
    for size in ["3B", "7B"] {
        let tables = block_on(Tables::read(&released(size))).unwrap();
        for binding in [128 << 20, 2 * GIB] {
            let rung = |e: &Estimate| Formats::LADDER.iter().position(|formats| *formats == e.formats).unwrap();
            let mut before: Option<Estimate> = None;
            for eighths in (8..=24 * 8).rev().step_by(11) {
                let memory = GIB * eighths / 8;
                let e = auto(&tables, binding, 32768, Some(memory));
                assert_eq!(e.fits, e.total_bytes <= memory, "{}", e.reason);
                assert!(e.context_length >= 2048 && e.max_pixels.unwrap() >= 512 * 784);
                if let Some(b) = &before {
                    assert!(
                        rung(&e) >= rung(b) && e.max_pixels <= b.max_pixels && e.context_length <= b.context_length
                    );
                    assert!(e.cache == CacheFormat::Q8 || b.cache == CacheFormat::F32);
                    assert!(b.fits || !e.fits);
                }
                before = Some(e);
            }
            assert!(before.is_some_and(|e| !e.fits && e.reason.contains("lower max_pixels")));
        }
    }
}

#[test]
fn auto_says_why() {
    let source = released("3B");
    let tables = block_on(Tables::read(&source)).unwrap();
    let roomy = auto(&tables, 2 * GIB, 32768, None);
    assert_eq!((roomy.formats, roomy.decisions.len(), roomy.max_pixels), (Formats::default(), 0, Some(12_845_056)));
    let of = block_on(of(&source, limits(2 * GIB), &Wish { max_pixels: None, ..wish(32768, 0) })).unwrap();
    assert_eq!((of.total_bytes, of.max_pixels), (roomy.total_bytes, Some(12_845_056)), "the preprocessor's own");
    // 65536 patches of 1280 f32 are 335 MB.
    let bound = auto(&tables, 128 << 20, 32768, None);
    assert!(
        bound.fits && bound.max_pixels < Some(26214 * 196) && bound.decisions[0].starts_with("max_pixels: "),
        "{bound:#?}"
    );
    let fixed = estimate(&tables, limits(128 << 20), &wish(32768, 12_845_056)).unwrap();
    assert!(!fixed.fits && fixed.reason.contains("lower max_pixels"), "{}", fixed.reason);
    for (gib, expected) in [
        (16, "vision=keep,text=keep,embeddings=keep"),
        (10, "vision=keep,text=q8,embeddings=keep"),
        (9, "vision=keep,text=q8,embeddings=keep"),
        (4, "vision=keep,text=q4,embeddings=q4"),
    ] {
        let e = auto(&tables, 2 * GIB, 32768, Some(gib * GIB));
        println!("{gib} GiB: {} in all, {:#?}", e.total_bytes, e.decisions);
        assert!(e.fits, "{}", e.reason);
        assert_eq!(e.formats.to_string(), expected);
        let said = |e: &Estimate| e.decisions.iter().any(|why| why.starts_with("KV cache: q8 because "));
        assert_eq!((e.cache == CacheFormat::Q8, said(&e)), (gib < 10, gib < 10), "{gib} GiB: {:?}", e.decisions);
    }
    let json = auto(&tables, GIB, 32768, Some(4 * GIB)).to_json();
    println!("{json:#}");
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    for key in ["modelType", "downloadBytes", "kvBytes", "totalBytes", "reason", "contextLength", "decisions"] {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    assert_eq!((&json["weights"]["text"], &json["kvCache"]), (&"q4".into(), &"q8".into()));
    assert!(json["largestBuffer"]["limit"] == GIB && json["activationBytes"]["vision"].is_u64());
}

#[test]
fn sizes_in_words() {
    for (text, bytes) in
        [("4GiB", 4 << 30), ("512 MiB", 512 << 20), ("1.5gb", 1_500_000_000), ("800000000", 800_000_000)]
    {
        assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
    }
    for bad in ["", "GiB", "-1GiB", "4 apples", "0", "1.2.3GB", "99999999999GiB"] {
        assert_eq!(parse_bytes(bad).unwrap_err().code(), "bad_request", "{bad}");
    }
    assert_eq!("auto".parse::<Weights>().unwrap().to_string(), "auto");
    assert_eq!(
        [999, 1023, 1 << 20, 7_509_245_952].map(fanlight::error::in_words),
        ["999 bytes", "1.0 KiB", "1.0 MiB", "7.0 GiB"]
    );
}
