//! AWQ and GPTQ checkpoints against transformers on the numbers that they stand for (`tests/golden/make_packed.py`).
#![allow(clippy::disallowed_methods, reason = "a test harness blocks")]

use std::path::PathBuf;

use fanlight::dtype::{Dtype, Layout};
use fanlight::generate::session::{Choose, Next, Prompt, Session};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::model::registry;
use fanlight::weights::plan::{CHUNK_BYTES, Limits, MatrixPlan, Sink, stream};
use fanlight::weights::quantize::Formats;
use fanlight::weights::source::{Directory, Memory, Source};
use pollster::block_on;
use safetensors::SafeTensors;

const ROOMY: Limits = Limits { max_binding: 128 << 20, max_buffer: 256 << 20 };

fn folder(kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/packed").join(kind)
}

fn expected(kind: &str, name: &str) -> Vec<f32> {
    let file = std::fs::read(folder(kind).join("expected.safetensors")).expect("the fixture");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    Dtype::F32.to_f32(tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data()).unwrap()
}

fn ids(kind: &str, name: &str) -> Vec<u32> {
    expected(kind, name).iter().map(|x| x.to_bits()).collect()
}

fn check(kind: &str, layout: Layout) {
    let source = Directory::new(folder(kind));
    let described = block_on(registry::describe(&source, ROOMY, &Formats::default())).unwrap();
    let qkv = described.plan.matrices.iter().find(|m| m.name == "text.layers.0.qkv").unwrap();
    assert_eq!(qkv.shards.iter().map(|s| s.layout).collect::<Vec<_>>(), [layout], "{kind}");
    assert_eq!(described.parameters, 128 * (408 + 3 * 384 + 3 * 128 + 3) + 256, "{kind}");

    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    let mut heard = Vec::new();
    let mut progress = |done, total| heard.push((done, total));
    let model = block_on(registry::load(&gpu, &source, &Formats::default(), &mut progress, &|_| Ok(()))).unwrap();
    assert!(heard.is_sorted() && heard.last().is_some_and(|(done, total)| done == total), "{kind}: {heard:?}");
    let prompt = Prompt { ids: ids(kind, "input_ids"), images: Vec::new() };
    let mut session = Session::new(&gpu, &model, 256).unwrap();
    let logits = block_on(session.all_logits(&prompt)).unwrap();
    let want = expected(kind, "logits");
    assert_eq!(logits.len(), want.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let off = square(&mut logits.iter().zip(&want).map(|(a, b)| f64::from(a - b)));
    let error = (off / square(&mut want.iter().map(|v| f64::from(*v)))).sqrt();
    println!("{kind}: logits differ by {error:e}");
    assert!(error < 1e-5, "{kind}: logits differ by {error:e}");

    let want = ids(kind, "greedy_ids");
    let choose = || Choose::Greedy { vocab: 408, penalty: None };
    let mut session = Session::new(&gpu, &model, 256).unwrap();
    let mut got = Vec::new();
    let mut next = block_on(session.prefill(&prompt, choose(), &|| true)).unwrap();
    while let Next::Id(id) = next {
        got.push(id);
        if got.len() == want.len() {
            break;
        }
        next = block_on(session.step(id, choose())).unwrap();
    }
    assert_eq!(got, want, "{kind}");
}

#[test]
fn awq() {
    check("awq", Layout::G4 { group: 128 });
}

#[test]
fn gptq_in_4_bits() {
    check("gptq4", Layout::G4 { group: 32 });
}

#[test]
fn gptq_in_8_bits_with_one_group() {
    check("gptq8", Layout::G8 { group: 128 });
}

#[test]
fn gptq_with_scattered_groups() {
    check("gptq_scattered", Layout::F32);
}

/// Collects what is written, shard after shard.
struct Buffers(Vec<Vec<Vec<u8>>>);

impl Sink for Buffers {
    fn write(&mut self, matrix: usize, shard: usize, offset: u64, bytes: &[u8]) -> fanlight::Result<()> {
        assert!(offset.is_multiple_of(16) && bytes.len().is_multiple_of(16));
        self.0[matrix][shard][offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn vector(&mut self, _: usize, _: &[f32]) -> fanlight::Result<()> {
        Ok(())
    }
}

/// Wherever shards cut through packed pieces, and however small the reads, the rows are the same.
#[test]
fn in_small_bindings_and_small_reads() {
    for kind in ["awq", "gptq4", "gptq8", "gptq_scattered"] {
        let source = Directory::new(folder(kind));
        let rows = |max_binding, chunk| {
            let limits = Limits { max_binding, max_buffer: 1 << 30 };
            let plan = block_on(registry::describe(&source, limits, &Formats::default())).unwrap().plan;
            let shards = |m: &MatrixPlan| m.shards.iter().map(|s| vec![0; s.bytes() as usize]).collect();
            let mut buffers = Buffers(plan.matrices.iter().map(shards).collect());
            block_on(stream(&plan, &source, chunk, &mut buffers, &mut |_, _| {})).unwrap();
            let cut = plan.matrices.iter().filter(|m| !m.packed.is_empty() && m.shards.len() > 1).count();
            (buffers.0.into_iter().map(|shards| shards.concat()).collect::<Vec<_>>(), cut)
        };
        let (whole, none) = rows(128 << 20, CHUNK_BYTES);
        let (pieces, cut) = rows(7_000, 4_096);
        assert!(none == 0 && cut > 1, "{kind}: {cut} matrices are cut");
        assert!(whole == pieces, "{kind}");
    }
}

/// A file that is not as its configuration says is an error in words.
#[test]
fn what_does_not_fit_is_refused() {
    let change = |from: &str, to: &str| {
        let mut source = Memory::new();
        let config = std::fs::read_to_string(folder("gptq4").join("config.json")).unwrap();
        assert!(config.contains(from));
        source.insert("config.json", config.replace(from, to).into_bytes());
        source.insert("model.safetensors", std::fs::read(folder("gptq4").join("model.safetensors")).unwrap());
        source
    };
    let code = |source: &dyn Source| {
        block_on(registry::describe(source, ROOMY, &Formats::default())).map(|_| ()).unwrap_err().code()
    };
    assert_eq!(code(&change("\"group_size\": 32", "\"group_size\": 64")), "bad_model");
    assert_eq!(code(&change("\"bits\": 4", "\"bits\": 8")), "bad_model");
    assert_eq!(code(&change("\"gptq\",\n  \"bits\"", "\"awq\",\n  \"bits\"")), "bad_model");
    assert_eq!(code(&change("quantization_config", "something_else")), "not_found");
    assert_eq!(code(&change("\"hidden_size\": 128", "\"hidden_size\": 256")), "bad_model");
}
