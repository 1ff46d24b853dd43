//! AWQ and GPTQ checkpoints against transformers on the numbers that they stand for (`tests/golden/make_packed.py`).
#![allow(clippy::disallowed_methods, reason = "a test harness blocks")]

mod greedy;

use std::cell::Cell;
use std::ops::Range;
use std::path::PathBuf;

use fanlight::dtype::{Dtype, Layout};
use fanlight::generate::session::{Prompt, Session};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::model::load::Loaded;
use fanlight::model::registry;
use fanlight::weights::packed::Quantization;
use fanlight::weights::plan::{Limits, MatrixPlan, Plan, plan};
use fanlight::weights::quantize::Formats;
use fanlight::weights::source::{Directory, Memory, Pending, Source};
use fanlight::weights::specs::{MatrixSpec, Piece};
use fanlight::weights::stream::{CHUNK_BYTES, Sink, stream};
use fanlight::weights::{Checkpoint, Folder};
use greedy::greedy;
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
    let prompt = Prompt { ids: ids(kind, "input_ids"), media: Vec::new() };
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
    let mut session = Session::new(&gpu, &model, 256).unwrap();
    assert_eq!(greedy(&mut session, &prompt, 408, want.len()), want, "{kind}");
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
struct Buffers(Vec<Vec<Vec<u8>>>, Vec<MatrixPlan>);

impl Buffers {
    fn new(plan: &Plan) -> Self {
        let shards = |m: &MatrixPlan| m.shards.iter().map(|s| vec![0; s.bytes() as usize]).collect();
        Buffers(plan.matrices.iter().map(shards).collect(), plan.matrices.clone())
    }
}

impl Sink for Buffers {
    fn write(&mut self, matrix: usize, shard: usize, offset: u64, bytes: &[u8]) -> fanlight::Result<()> {
        assert!(offset.is_multiple_of(16) && bytes.len().is_multiple_of(16));
        self.0[matrix][shard][offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn columns(&mut self, matrix: usize, top: usize, rows: usize, first: usize, words: &[u32]) -> fanlight::Result<()> {
        assert!(!words.is_empty() && words.len().is_multiple_of(rows));
        for (shard, bytes) in self.1[matrix].shards.iter().zip(&mut self.0[matrix]) {
            shard.put_columns(bytes, top, rows, first, words);
        }
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
            let mut buffers = Buffers::new(&plan);
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

/// What the kernel puts on a device, through bindings that cut matrices and hold few columns, is what the CPU does.
#[test]
fn the_device_has_the_same_rows() {
    for (kind, max_binding) in [("awq", 7_000), ("gptq4", 7_000), ("gptq8", 20_000), ("gptq_scattered", 128 << 20)] {
        let gpu = block_on(Gpu::open(&GpuOptions { max_binding: Some(max_binding), ..Default::default() })).unwrap();
        let source = Directory::new(folder(kind));
        let limits = Limits { max_binding, max_buffer: 1 << 30 };
        let plan = block_on(registry::describe(&source, limits, &Formats::default())).unwrap().plan;
        let mut buffers = Buffers::new(&plan);
        block_on(stream(&plan, &source, CHUNK_BYTES, &mut buffers, &mut |_, _| {})).unwrap();
        let mut loaded = block_on(Loaded::allocate(&gpu, &plan)).unwrap();
        let weights: Vec<_> = plan.matrices.iter().map(|m| loaded.matrix(&m.name).unwrap()).collect();
        let tables = block_on(registry::Tables::read(&source)).unwrap();
        block_on(loaded.fill(&gpu, &plan, &tables.checkpoint, &source, &mut |_, _| {}, &|| Ok(()))).unwrap();
        for ((weight, shards), plan) in weights.iter().zip(&buffers.0).zip(&plan.matrices) {
            for (shard, bytes) in weight.shards.iter().zip(shards) {
                let got = block_on(gpu.read_u32(&shard.tensor, 0, shard.tensor.len())).unwrap();
                assert!(bytemuck::cast_slice::<u32, u8>(&got) == bytes, "{kind}: {}", plan.name);
            }
        }
    }
}

/// Notes the longest read.
struct Counting(Memory, Cell<u64>);

impl Source for Counting {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        self.0.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        self.1.set(self.1.get().max(range.end - range.start));
        self.0.read(file, range)
    }
}

/// Notes the longest piece, and keeps one row.
struct Pieces {
    longest: usize,
    row: Vec<u32>,
}

/// Which row that is.
const KEPT: usize = 301;

impl Sink for Pieces {
    fn write(&mut self, _: usize, _: usize, _: u64, _: &[u8]) -> fanlight::Result<()> {
        panic!("nothing here has rows");
    }

    fn columns(&mut self, _: usize, _: usize, rows: usize, first: usize, words: &[u32]) -> fanlight::Result<()> {
        self.longest = self.longest.max(4 * words.len());
        for (n, column) in words.chunks_exact(rows).enumerate() {
            self.row[first + n] = column[KEPT];
        }
        Ok(())
    }

    fn vector(&mut self, _: usize, _: &[f32]) -> fanlight::Result<()> {
        Ok(())
    }
}

/// A layer of 1 MiB (8 MiB as f32) passes in reads and pieces of 32 KiB each.
#[test]
fn a_layer_is_never_in_memory() {
    let (rows, cols, group, chunk) = (512, 4096, 128, 64 << 10);
    let word = |n: usize| (n as u32 + 1).wrapping_mul(0x9e37_79b9);
    for (method, scattered) in [("awq", false), ("gptq", false), ("gptq", true)] {
        let [down, along] = if method == "awq" { [cols, rows / 8] } else { [cols / 8, rows] };
        let words = |count: usize| (0..count).flat_map(|n| word(n).to_le_bytes()).collect::<Vec<u8>>();
        let groups = cols / group;
        let scales: Vec<u8> = (0..groups * rows).flat_map(|_| half::f16::from_f32(0.5).to_le_bytes()).collect();
        let tensors = [
            ("x.qweight", "I32", vec![down, along], words(down * along)),
            ("x.qzeros", "I32", vec![groups, rows / 8], vec![0x77; groups * rows / 2]),
            ("x.scales", "F16", vec![groups, rows], scales),
        ];
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, dtype, shape, bytes) in tensors {
            let offsets = [data.len(), data.len() + bytes.len()];
            header.insert(name.into(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
            data.extend(bytes);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let mut files = Memory::new();
        let file = [&(header.len() as u64).to_le_bytes(), &header[..], &data].concat();
        files.insert("model.safetensors", file);
        let source = Counting(files, Cell::new(0));
        let config = serde_json::json!({"quant_method": method, "group_size": group, "desc_act": scattered});
        let mut checkpoint = block_on(Checkpoint::open(&source)).unwrap();
        checkpoint.quantization = Quantization::parse(&config).unwrap();
        let spec = MatrixSpec::new("text.x", vec![Piece::matrix("x.weight", rows, cols)]);
        let plan = plan(&checkpoint, &[spec], &[], ROOMY, &Formats::default()).unwrap();
        source.1.set(0);
        let mut pieces = Pieces { longest: 0, row: vec![0; plan.matrices[0].shards[0].row_words as usize] };
        block_on(stream(&plan, &source, chunk, &mut pieces, &mut |_, _| {})).unwrap();
        println!("{method}, scattered {scattered}: reads of {} and pieces of {}", source.1.get(), pieces.longest);
        assert!(pieces.longest <= 32 << 10 && source.1.get() <= 32 << 10, "{method}");

        // Where AutoAWQ puts column 301 % 8 = 5 of eight; GPTQ's zeros are one more than is stored.
        let code = |input: usize| match method {
            "awq" => word(input * along + KEPT / 8) >> (4 * 6) & 15,
            _ => word(input / 8 * along + KEPT) >> (input % 8 * 4) & 15,
        };
        for input in 0..cols {
            if scattered {
                assert_eq!(f32::from_bits(pieces.row[input]), 0.5 * (code(input) as f32 - 8.0), "input {input}");
            } else {
                assert_eq!(pieces.row[input / 8] >> (input % 8 * 4) & 15, code(input), "{method}: input {input}");
            }
        }
        if !scattered {
            let zero = half::f16::from_f32(if method == "awq" { 7.0 } else { 8.0 }).to_bits();
            assert_eq!(pieces.row[cols / 8..][..groups], vec![u32::from(zero) << 16 | 0x3800; groups], "{method}");
        }
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
    let code = |source: &dyn Folder| {
        block_on(registry::describe(source, ROOMY, &Formats::default())).map(|_| ()).unwrap_err().code()
    };
    assert_eq!(code(&change("\"group_size\": 32", "\"group_size\": 64")), "bad_model");
    assert_eq!(code(&change("\"bits\": 4", "\"bits\": 8")), "bad_model");
    assert_eq!(code(&change("\"gptq\",\n  \"bits\"", "\"awq\",\n  \"bits\"")), "bad_model");
    assert_eq!(code(&change("quantization_config", "something_else")), "not_found");
    assert_eq!(code(&change("\"hidden_size\": 128", "\"hidden_size\": 256")), "bad_model");
}
