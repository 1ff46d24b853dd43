//! GGUF files: headers, every element type against the `gguf` package, and a whole model against transformers
//! (`tests/golden/make_gguf.py` makes the fixtures).
#![allow(clippy::disallowed_methods, reason = "a test harness blocks")]

mod greedy;

use std::collections::BTreeMap;
use std::path::PathBuf;

use fanlight::chat::{Content, Engine, Message, Part};
use fanlight::dtype::{Dtype, Element};
use fanlight::generate::session::{Prompt, Session};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::model::gguf::GgufModel;
use fanlight::model::registry;
use fanlight::text::Tokenizer;
use fanlight::weights::Folder;
use fanlight::weights::gguf::{Gguf, Value, parse};
use fanlight::weights::quantize::Formats;
use fanlight::weights::repack::{dequantize, repack_row};
use fanlight::weights::source::{Directory, Memory, Source};
use greedy::greedy;
use pollster::block_on;
use safetensors::SafeTensors;

#[allow(dead_code, reason = "the kernel table uses the rest")]
#[path = "reference/weights.rs"]
mod weights;

const FILE: &str = "every_type.gguf";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf")
}

fn bytes() -> Vec<u8> {
    std::fs::read(folder().join(FILE)).expect("the fixture")
}

fn expected(name: &str) -> Vec<f32> {
    let file = std::fs::read(folder().join("every_type.safetensors")).expect("the fixture");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let data = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data().to_vec();
    Dtype::F32.to_f32(&data).unwrap()
}

fn expected_ids(name: &str) -> Vec<u32> {
    expected(name).iter().map(|x| x.to_bits()).collect()
}

// --- headers --------------------------------------------------------------------------------------------------------

#[test]
fn the_header_is_read() {
    let gguf = block_on(Gguf::read(&Directory::new(folder()), FILE)).unwrap();
    assert_eq!(gguf.text("general.architecture").unwrap(), Some("qwen2"));
    assert_eq!(gguf.count("qwen2.block_count").unwrap(), 2);
    assert_eq!(gguf.number("qwen2.rope.freq_base").unwrap(), Some(1e5));
    assert_eq!(gguf.texts("tokenizer.ggml.tokens").unwrap().len(), 408);
    assert_eq!(gguf.tensors.len(), 16 + 2 * 5 + 1);
    let embed = gguf.tensors.iter().find(|t| t.name == "token_embd.weight").unwrap();
    assert_eq!((embed.shape.as_slice(), &embed.dtype), (&[408, 256][..], &Element::Known(Dtype::Q6K)));
    let mut kinds: Vec<&str> = gguf.tensors.iter().map(|t| t.dtype.name()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), Dtype::ALL.len(), "every type is in it: {kinds:?}");
    // What is of another type or not there is an error in words.
    assert!(gguf.count("general.architecture").is_err());
    assert!(gguf.count("nothing").is_err());
    assert!(gguf.texts("qwen2.block_count").is_err());
    assert!(gguf.text("qwen2.block_count").is_err());
    assert_eq!(gguf.text("nothing").unwrap(), None);
}

/// A beginning of a file is either not enough or refused, never a panic.
#[test]
fn every_cut_of_a_header() {
    let whole = bytes();
    let gguf = parse(FILE, &whole, whole.len() as u64).unwrap().unwrap();
    let data = gguf.tensors.iter().map(|t| t.range.start).min().unwrap() as usize;
    let header =
        (1..=data).rev().find(|&n| parse(FILE, &whole[..n], whole.len() as u64).unwrap().is_none()).unwrap() + 1;
    assert!(header > data - 64);
    for n in (0..header).step_by(7).chain(header - 40..header) {
        assert_eq!(parse(FILE, &whole[..n], whole.len() as u64), Ok(None), "{n} bytes of a longer file");
        assert!(parse(FILE, &whole[..n], n as u64).is_err(), "a file of {n} bytes");
    }
    assert_eq!(parse(FILE, &whole[..header], whole.len() as u64).unwrap().unwrap(), gguf);
    let mut source = Memory::new();
    source.insert(FILE, whole[..header - 1].to_vec());
    assert_eq!(block_on(Gguf::read(&source, FILE)).unwrap_err().code(), "bad_model");
}

/// Any byte may be another one.
#[test]
fn random_damage_never_panics() {
    let whole = bytes();
    let size = whole.len() as u64;
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let (mut fine, mut refused) = (0, 0);
    let header = 12_000.min(whole.len());
    for _ in 0..3000 {
        let mut damaged = whole.clone();
        for _ in 0..1 + next() % 3 {
            let at = if next() % 2 == 0 { next() % 400 } else { next() % header };
            damaged[at] = [0, 1, 0x7f, 0x80, 0xff, next() as u8][next() % 6];
        }
        match parse(FILE, &damaged, size) {
            Ok(Some(_)) => fine += 1,
            Ok(None) => {} // a length that points behind what is here
            Err(error) => {
                assert_eq!(error.code(), "bad_model", "{error}");
                refused += 1;
            }
        }
    }
    assert!(fine > 100 && refused > 100, "{fine} read, {refused} refused");
}

/// A header by hand: metadata entries and tensors as bytes.
fn header(version: u32, entries: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(version.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    out.extend(entries.concat());
    out.extend(tensors.concat());
    out.resize(out.len().next_multiple_of(32) + data, 0);
    out
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(key)[..], &kind.to_le_bytes(), value].concat()
}

fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let dims: Vec<u8> =
        (dims.len() as u32).to_le_bytes().into_iter().chain(dims.iter().flat_map(|d| d.to_le_bytes())).collect();
    [&string(name)[..], &dims, &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
}

#[test]
fn headers_by_hand() {
    let read = |bytes: &[u8]| parse("f", bytes, bytes.len() as u64);
    let u32s = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let array = |kind: u32, count: u64, rest: &[u8]| [&kind.to_le_bytes()[..], &count.to_le_bytes(), rest].concat();
    let good = header(
        2,
        &[
            entry("a", 0, &[200]),
            entry("b", 1, &[200]),
            entry("c", 5, &(-7i32).to_le_bytes()),
            entry("d", 7, &[1]),
            entry("e", 12, &0.25f64.to_le_bytes()),
            entry("f", 9, &array(5, 2, &u32s(&[1, u32::MAX]))),
            entry("g", 9, &array(8, 2, &[string("x"), string("")].concat())),
            entry("h", 10, &u64::MAX.to_le_bytes()),
        ],
        &[tensor("t", &[4, 3, 2], 0, 0), tensor("u", &[64], 8, 96), tensor("odd", &[8], 16, 0)],
        96 + 68,
    );
    let gguf = read(&good).unwrap().unwrap();
    let expected = BTreeMap::from(
        [
            ("a", Value::Int(200)),
            ("b", Value::Int(-56)),
            ("c", Value::Int(-7)),
            ("d", Value::Bool(true)),
            ("e", Value::Float(0.25)),
            ("f", Value::Ints(vec![1, -1])),
            ("g", Value::Texts(vec!["x".into(), String::new()])),
            ("h", Value::Int(u64::MAX.into())),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    assert_eq!(gguf.metadata, expected);
    assert_eq!(gguf.tensors[0].shape, [2, 3, 4], "outermost first");
    assert_eq!(gguf.tensors[1].range.end, good.len() as u64);
    assert_eq!(gguf.tensors[2].dtype, Element::Other("GGML type 16".into()));

    let one = |dims: &[u64], kind, offset| header(3, &[], &[tensor("t", dims, kind, offset)], 64);
    let wrong: Vec<(&str, Vec<u8>)> = vec![
        ("version 1", header(1, &[], &[], 0)),
        ("version 4", header(4, &[], &[], 0)),
        ("big-endian", header(3u32.swap_bytes(), &[], &[], 0)),
        ("another file", b"<!doctype html><html><body>".to_vec()),
        ("nothing", vec![]),
        ("key twice", header(3, &[entry("a", 0, &[1]), entry("a", 0, &[1])], &[], 0)),
        ("no key", header(3, &[entry("", 0, &[1])], &[], 0)),
        ("boolean of 2", header(3, &[entry("a", 7, &[2])], &[], 0)),
        ("value type 13", header(3, &[entry("a", 13, &[0; 8])], &[], 0)),
        ("array of arrays", header(3, &[entry("a", 9, &array(9, 1, &[0; 32]))], &[], 0)),
        ("array too long", header(3, &[entry("a", 9, &array(0, 1 << 40, &[]))], &[], 64)),
        ("array far too long", header(3, &[entry("a", 9, &array(10, u64::MAX, &[]))], &[], 64)),
        ("string too long", header(3, &[[&u64::MAX.to_le_bytes()[..], b"a"].concat()], &[], 64)),
        ("not UTF-8", header(3, &[entry("a", 8, &[&1u64.to_le_bytes()[..], &[0xff]].concat())], &[], 0)),
        ("alignment 3", header(3, &[entry("general.alignment", 4, &u32s(&[3]))], &[], 0)),
        ("alignment 0", header(3, &[entry("general.alignment", 4, &u32s(&[0]))], &[], 0)),
        ("tensor twice", header(3, &[], &[tensor("t", &[1], 0, 0), tensor("t", &[1], 0, 32)], 64)),
        ("five dimensions", one(&[1; 5], 0, 0)),
        ("no elements", one(&[0, 4], 0, 0)),
        ("too many elements", one(&[1 << 40, 1 << 40], 0, 0)),
        ("half a block", one(&[33], 2, 0)),
        ("half a block in a row", one(&[16, 2], 2, 0)),
        ("behind the end", one(&[17], 0, 0)),
        ("offset behind the end", one(&[4], 0, 1 << 60)),
        ("offset that overflows", one(&[4], 0, u64::MAX - 7)),
        ("offset not aligned", one(&[4], 0, 4)),
        ("overlap", header(3, &[], &[tensor("t", &[9], 0, 0), tensor("u", &[1], 0, 32)], 64)),
    ];
    for (what, bytes) in wrong {
        let error = read(&bytes).expect_err(what);
        assert_eq!(error.code(), "bad_model", "{what}: {error}");
    }
    let many = [&b"GGUF\x03\0\0\0"[..], &u64::MAX.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
    assert!(read(&many).is_err());
}

// --- element types --------------------------------------------------------------------------------------------------

/// The second row of every matrix, as gguf reads it, as we read it, and as the device's layout says.
#[test]
fn every_type_is_worth_what_gguf_says() {
    let whole = bytes();
    let gguf = parse(FILE, &whole, whole.len() as u64).unwrap().unwrap();
    let mut seen = Vec::new();
    for info in gguf.tensors.iter().filter(|t| t.shape.len() == 2) {
        let Element::Known(dtype) = info.dtype else { panic!("{info:?}") };
        let cols = info.shape[1] as usize;
        let row_bytes = dtype.bytes_of(cols as u64).unwrap() as usize;
        let row = &whole[info.range.start as usize + row_bytes..][..row_bytes];
        let want = expected(&format!("row.{}", info.name));
        let got = dequantize(dtype, row).unwrap();
        assert_eq!(got.len(), want.len());
        let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(largest > 0.0);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!((got - want).abs() <= 2e-7 * largest, "{} {dtype} [{i}]: {got} for {want}", info.name);
        }
        let mut device = Vec::new();
        repack_row(dtype, row, cols, &mut device).unwrap();
        let words: Vec<u32> = device.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let groups = dtype.layout().groups(cols as u64).unwrap() as usize;
        if dtype.block() > 1 {
            for (i, ((value, size), want)) in
                weights::decode(dtype.layout().name(), &words, groups, 32).into_iter().zip(&want).enumerate()
            {
                let error = (value - f64::from(*want)).abs();
                assert!(error <= 1e-6 * size, "{} {dtype} [{i}] on the device: {value} for {want}", info.name);
            }
        }
        seen.push(dtype);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), Dtype::ALL.len(), "{seen:?}");
}

// --- a whole model --------------------------------------------------------------------------------------------------

fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let off = square(&mut got.iter().zip(want).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    (off / square(&mut want.iter().map(|v| f64::from(*v)))).sqrt()
}

fn answers_as_transformers(options: &GpuOptions) {
    let gpu = block_on(Gpu::open(options)).expect("an adapter");
    let files = Directory::new(folder());
    let source = block_on(GgufModel::open(&files, FILE, None)).unwrap();
    let model = block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).unwrap();
    let prompt = Prompt { ids: expected_ids("input_ids"), media: Vec::new() };
    let mut session = Session::new(&gpu, &model, 512).unwrap();
    let error = relative_error(&block_on(session.all_logits(&prompt)).unwrap(), &expected("logits"));
    println!("logits differ by {error:e}");
    assert!(error < 1e-4, "logits differ by {error:e}");
    let want = expected_ids("greedy_ids");
    let vocab = block_on(tokenizer(&source)).len();
    let mut session = Session::new(&gpu, &model, 512).unwrap();
    assert_eq!(greedy(&mut session, &prompt, vocab, want.len()), want);
}

async fn tokenizer(source: &dyn Source) -> Tokenizer {
    Tokenizer::from_json(&source.read_all("tokenizer.json", 1 << 24).await.unwrap()).unwrap()
}

#[test]
fn a_model_of_every_type_answers_as_transformers() {
    answers_as_transformers(&GpuOptions::default());
}

/// Shards of every type, and half floats without shader-f16.
#[test]
fn and_so_in_small_bindings() {
    answers_as_transformers(&GpuOptions { no_f16: true, max_binding: Some(210_000), ..GpuOptions::default() });
}

#[test]
fn conversations_are_written_as_the_template_says() {
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    let files = Directory::new(folder());
    let source = block_on(GgufModel::open(&files, FILE, None)).unwrap();
    let engine = block_on(Engine::load(&gpu, &source, &mut |_, _| {})).unwrap();
    let text = std::fs::read(folder().join("every_type.messages.json")).unwrap();
    let raw = serde_json::from_slice::<Vec<BTreeMap<String, String>>>(&text).unwrap();
    let part = |text: &str| Part::Text(text.to_owned());
    let messages: Vec<Message> = raw
        .iter()
        // A list of texts is as good as a string.
        .map(|m| Message {
            role: m["role"].clone(),
            content: Content::Parts(vec![part(&m["content"][..4]), part(&m["content"][4..])]),
            ..Message::default()
        })
        .collect();
    let trace = block_on(engine.trace(&messages, false)).unwrap();
    assert_eq!(trace.input_ids, expected_ids("input_ids"));
    assert_eq!(trace.rope_delta, 0);
}

/// The tokenizer rebuilt from the metadata is that of the file that they came from.
#[test]
fn the_tokenizer_is_the_same() {
    let files = Directory::new(folder());
    let source = block_on(GgufModel::open(&files, FILE, None)).unwrap();
    let ours = block_on(tokenizer(&source));
    let base = Directory::new(folder().join("../models/base"));
    let theirs = block_on(tokenizer(&base));
    assert_eq!(ours.len(), theirs.len());
    for text in ["Hello, world!", "  12345 ïé 日本\n\n\t x's", "<|im_end|> stays text", "e\u{301}", ""] {
        assert_eq!(ours.encode_plain(text), theirs.encode_plain(text), "{text:?}");
    }
    let controls = |t: &Tokenizer| {
        let mut tokens = t.control_tokens();
        tokens.sort();
        tokens
    };
    assert_eq!(controls(&ours), controls(&theirs));
}

#[test]
fn a_checkpoint_folder_is_what_others_see() {
    let files = Directory::new(folder());
    let source = block_on(GgufModel::open(&files, FILE, None)).unwrap();
    assert!(block_on(source.size("config.json")).unwrap().is_some());
    assert_eq!(block_on(source.size("every_type.safetensors")), Ok(None), "what lies beside it is not part of it");
    assert!(block_on(source.size(FILE)).unwrap().is_some());
    assert!(block_on(source.read("config.json", 0..1 << 20)).is_err());
    let checkpoint = source.tensors().unwrap();
    assert!(checkpoint.get("model.language_model.layers.1.mlp.down_proj.weight").is_some());
    assert_eq!(block_on(GgufModel::open(&files, "nobody.gguf", None)).map(|_| ()).unwrap_err().code(), "not_found");
}
