//! `fanlight convert`: checkpoints of every kind become GGUF files that load as the originals do.
#![allow(clippy::disallowed_methods, reason = "a test harness blocks")]

mod golden_fixture;
mod greedy;

use std::collections::BTreeMap;
use std::path::PathBuf;

use fanlight::chat::template;
use fanlight::dtype::{Dtype, Element, Layout};
use fanlight::generate::config::GenerationConfig;
use fanlight::generate::session::{Media, Prompt, Session};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::image::PreprocessorConfig;
use fanlight::model::gguf::GgufModel;
use fanlight::model::gguf::export::Export;
use fanlight::model::registry;
use fanlight::model::registry::parse_config;
use fanlight::text::Tokenizer;
use fanlight::weights::Folder;
use fanlight::weights::gguf::Gguf;
use fanlight::weights::output::NewFile;
use fanlight::weights::plan::{Limits, MatrixPlan};
use fanlight::weights::quantize::Formats;
use fanlight::weights::repack::dequantize;
use fanlight::weights::source::{Directory, Memory, Source};
use fanlight::weights::stream::{CHUNK_BYTES, Sink, stream};
use golden_fixture::{Case, GridOf, folder, relative_error};
use greedy::greedy;
use pollster::block_on;
use safetensors::SafeTensors;

#[allow(dead_code, reason = "the kernel table uses the rest")]
#[path = "reference/weights.rs"]
mod weights;

const TEXT: &str = "model.gguf";
const TOWER: &str = "mmproj-model.gguf";

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn formats(text: &str) -> Formats {
    text.parse().unwrap()
}

/// The new files of an export.
fn write(export: &Export, source: &dyn Source) -> Memory {
    let mut files = Memory::new();
    for (name, file) in [(TEXT, Some(&export.text)), (TOWER, export.vision.as_ref())] {
        let Some(file) = file else { continue };
        let (mut bytes, mut heard) = (Vec::new(), 0);
        let mut put = |more: &[u8]| {
            bytes.extend(more);
            Ok(())
        };
        block_on(file.write(source, &mut put, &mut |n| heard += n)).unwrap();
        assert_eq!((bytes.len() as u64, heard), (file.bytes().unwrap(), file.source_bytes()));
        files.insert(name, bytes);
    }
    files
}

fn of_folder(source: &dyn Source, formats: &Formats) -> fanlight::Result<(Export, Memory)> {
    let template = block_on(template(source)).ok();
    let text = template.as_ref().map(|t| t.sources().0);
    let export = block_on(Export::of_folder(source, formats, "test", text))?;
    let files = write(&export, source);
    Ok((export, files))
}

fn open(files: &Memory) -> GgufModel<'_> {
    let tower = files.names().find(|name| *name == TOWER);
    block_on(GgufModel::open(files, TEXT, tower)).unwrap()
}

/// A folder in memory, to be changed.
fn copy_of(path: PathBuf) -> Memory {
    let mut files = Memory::new();
    for entry in std::fs::read_dir(path).unwrap().flatten() {
        files.insert(entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
    }
    files
}

fn changed(path: PathBuf, file: &str, from: &str, to: &str) -> Memory {
    let text = std::fs::read_to_string(path.join(file)).unwrap();
    assert!(text.contains(from), "{from} in {file}");
    let mut files = copy_of(path);
    files.insert(file, text.replace(from, to).into_bytes());
    files
}

/// A golden model. In `f16` the first of two blocks alone attends to the whole, which GGUF cannot say: there it is the second.
fn model_files(model: &str) -> Memory {
    if model != "f16" {
        return copy_of(folder(model));
    }
    let text = std::fs::read_to_string(folder(model).join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["vision_config"]["fullatt_block_indexes"] = serde_json::json!([1]);
    let mut files = copy_of(folder(model));
    files.insert("config.json", config.to_string().into_bytes());
    files
}

/// A matrix on the device: columns, layouts and bytes.
type Matrix = (usize, Vec<Layout>, Vec<u8>);

#[derive(Default)]
struct Buffers {
    matrices: Vec<Vec<Vec<u8>>>,
    vectors: Vec<Vec<u32>>,
    plans: Vec<MatrixPlan>,
}

impl Sink for Buffers {
    fn write(&mut self, matrix: usize, shard: usize, offset: u64, bytes: &[u8]) -> fanlight::Result<()> {
        self.matrices[matrix][shard][offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn columns(&mut self, matrix: usize, top: usize, rows: usize, first: usize, words: &[u32]) -> fanlight::Result<()> {
        for (shard, bytes) in self.plans[matrix].shards.iter().zip(&mut self.matrices[matrix]) {
            shard.put_columns(bytes, top, rows, first, words);
        }
        Ok(())
    }

    fn vector(&mut self, index: usize, values: &[f32]) -> fanlight::Result<()> {
        self.vectors[index] = values.iter().map(|x| x.to_bits()).collect();
        Ok(())
    }
}

/// Everything that would be on a device.
fn device(source: &dyn Folder, formats: &Formats) -> (BTreeMap<String, Matrix>, BTreeMap<String, Vec<u32>>) {
    let limits = Limits { max_binding: 128 << 20, max_buffer: 256 << 20 };
    let plan = block_on(registry::describe(source, limits, formats)).unwrap().plan;
    let empty = plan.matrices.iter().map(|m| m.shards.iter().map(|s| vec![0; s.bytes() as usize]).collect());
    let (matrices, vectors) = (empty.collect(), vec![Vec::new(); plan.vectors.len()]);
    let mut buffers = Buffers { matrices, vectors, plans: plan.matrices.clone() };
    block_on(stream(&plan, source, CHUNK_BYTES, &mut buffers, &mut |_, _| {})).unwrap();
    let matrices =
        plan.matrices.iter().zip(buffers.matrices).map(|(m, shards)| {
            (m.name.clone(), (m.cols, m.shards.iter().map(|s| s.layout).collect(), shards.concat()))
        });
    (matrices.collect(), plan.vectors.iter().map(|v| v.name.clone()).zip(buffers.vectors).collect())
}

// --- quantized ------------------------------------------------------------------------------------------------------

/// A converted file holds what quantizing while loading makes of the original. Where rows do not fill whole blocks the
/// file keeps floats, which become the same again if the file is loaded with the same formats. Only the patch embedding
/// differs: a file has it in two frames.
#[test]
fn converted_files_load_as_the_originals() {
    let mut equal: BTreeMap<&str, i32> = BTreeMap::new();
    for model in ["base", "flat", "head80", "bf16", "f16", "qwen2_vl", "qwen2_vl_flat", "qwen3_vl", "qwen3_vl_bf16"] {
        for format in ["keep", "q8", "q4", "text=q4,embeddings=q8"] {
            let (source, formats) = (model_files(model), formats(format));
            let (export, files) = of_folder(&source, &formats).unwrap();
            let remarks = export.text.tensors().iter().chain(export.vision.as_ref().unwrap().tensors());
            let remarks: Vec<&str> = remarks.filter(|t| t.remark.is_some()).map(|t| t.head.name.as_str()).collect();
            let (matrices, vectors) = device(&source, &formats);
            let gguf = open(&files);
            for (with, again) in [(&formats, true), (&Formats::default(), false)] {
                let (new, new_vectors) = device(&gguf, with);
                assert_eq!(new_vectors, vectors, "{model} {format}");
                assert_eq!(new.len(), matrices.len() + 1, "the patch embedding is in two");
                for (name, matrix) in matrices.iter().filter(|(name, _)| *name != "vision.patch_embed") {
                    let kept = formats.of(name).is_some() && matrix.0 % 32 != 0;
                    if again || !kept {
                        assert!(new[name] == *matrix, "{model} {format}: {name}");
                        *equal.entry(matrix.1[0].name()).or_insert(0) += 1;
                    } else {
                        assert!(new[name].1[0].planes().sub_halves == 0, "{model} {format}: {name} is of floats");
                        let tensor =
                            format!("{}.weight", name.replace("text.layers.", "blk.").replace("down", "ffn_down"));
                        let tensor = tensor.replace("vision.blocks.", "v.blk.");
                        assert!(
                            !name.ends_with("down") || remarks.contains(&tensor.as_str()),
                            "{tensor} is reported: {remarks:?}"
                        );
                    }
                }
            }
        }
    }
    for layout in ["f32", "f16", "bf16", "q8", "q4"] {
        assert!(equal.get(layout).is_some_and(|n| *n > 20), "{equal:?}");
    }
}

/// Frame f of the patch embedding is `[.., .., f, .., ..]` of the checkpoint's, in F32 or F16, whatever is asked for.
#[test]
fn frames_of_the_patch_embedding() {
    for (model, dtype) in [("base", Dtype::F32), ("bf16", Dtype::F32), ("f16", Dtype::F16)] {
        let source = model_files(model);
        let (_, files) = of_folder(&source, &formats("q8")).unwrap();
        let file = std::fs::read(folder(model).join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let name = tensors.names().into_iter().find(|n| n.ends_with("patch_embed.proj.weight")).unwrap().to_owned();
        let whole = tensors.tensor(&name).unwrap();
        let [rows, channels, frames, side, _] = whole.shape()[..] else { panic!("five dimensions") };
        let stored = Dtype::FLOATS.into_iter().find(|d| d.name() == format!("{:?}", whole.dtype())).unwrap();
        let whole = stored.to_f32(whole.data()).unwrap();
        let gguf = block_on(Gguf::read(&files, TOWER)).unwrap();
        for (frame, name) in ["v.patch_embd.weight", "v.patch_embd.weight.1"].into_iter().enumerate() {
            let tensor = gguf.tensors.iter().find(|t| t.name == name).unwrap();
            assert_eq!(tensor.dtype, Element::Known(dtype));
            assert_eq!(tensor.shape, [rows, channels, side, side].map(|n| n as u64));
            let values = dtype.to_f32(&block_on(files.read(TOWER, tensor.range.clone())).unwrap()).unwrap();
            let plane = side * side;
            for (at, value) in values.into_iter().enumerate() {
                let (outer, inner) = (at / plane, at % plane);
                assert_eq!(value, whole[(outer * frames + frame) * plane + inner], "{model} {name} {at}");
            }
        }
    }
}

/// A file with kept floats computes what transformers computes with the checkpoint, token for token.
#[test]
fn a_converted_model_answers_as_transformers() {
    for model in ["base", "qwen2_vl", "qwen3_vl", "qwen3_vl_bf16"] {
        let source = Directory::new(folder(model));
        let (_, files) = of_folder(&source, &Formats::default()).unwrap();
        let gguf = open(&files);
        let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
        let loaded = block_on(registry::load(&gpu, &gguf, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).unwrap();
        let vocab = tokenizer(&gguf).len();
        for name in ["text", "image", "two_images"] {
            let case = Case::open(model, name);
            let tower = loaded.vision.as_ref().unwrap();
            let pictures = case.pictures();
            let images = pictures.iter().enumerate().map(|(key, patches)| {
                let embeds = vec![tower.encode(&gpu, &patches.pixel_values, patches.grid()).unwrap()];
                Media { key: key as u128, grid: patches.grid(), second_per_grid: None, embeds }
            });
            let prompt = Prompt { media: images.collect(), ids: case.u32("input_ids") };
            let mut session = Session::new(&gpu, &loaded, 4096).unwrap();
            let logits = block_on(session.all_logits(&prompt)).unwrap();
            let expected = case.logits();
            let error = relative_error(&logits[logits.len() - expected.len()..], &expected);
            assert!(error <= 1e-4, "{model}/{name}: logits differ by {error:e}");
            let want = case.u32(&case.exact("greedy_ids"));
            let mut session = Session::new(&gpu, &loaded, 4096).unwrap();
            assert_eq!(greedy(&mut session, &prompt, vocab, want.len()), want, "{model}/{name}");
        }
    }
}

// --- packed ---------------------------------------------------------------------------------------------------------

/// What an element is worth, and the absolute value of what was subtracted for its zero.
type Worth = (f64, f64);

/// Every element of a device matrix.
fn values(matrix: &Matrix, rows: usize) -> Vec<Worth> {
    let (cols, layout, bytes) = (matrix.0, matrix.1[0], &matrix.2);
    let words: Vec<u32> = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let groups = layout.groups(cols as u64).unwrap() as usize;
    let row = |row: &[u32]| match layout {
        Layout::F32 => row[..cols].iter().map(|bits| (f64::from(f32::from_bits(*bits)), 0.0)).collect::<Vec<_>>(),
        Layout::F16 => {
            let half = |i: usize| (weights::f16((row[i / 2] >> (i % 2 * 16)) as u16), 0.0);
            (0..cols).map(half).collect()
        }
        _ => {
            let decoded = weights::decode(layout.name(), row, groups, layout.group() as usize);
            decoded.into_iter().take(cols).map(|(value, size)| (value, (size - value) / 2.0)).collect()
        }
    };
    words.chunks_exact(words.len() / rows).flat_map(row).collect()
}

/// Weights of a folder and of its conversion, and the types of the new file.
fn packed_pair(source: &dyn Folder) -> (Vec<[Worth; 2]>, Vec<&'static str>) {
    // What is packed is not touched by formats, here as while loading.
    let (export, files) = of_folder(source, &formats("text=q4")).unwrap();
    let keep = Formats::default();
    let (old, old_vectors) = device(source, &keep);
    let (new, new_vectors) = device(&open(&files), &keep);
    assert_eq!(old_vectors, new_vectors);
    assert!(new["text.embed"] == old["text.embed"]);
    let mut pairs = Vec::new();
    for (name, rows) in [("qkv", 256), ("o", 128), ("gate_up", 768), ("down", 128)]
        .map(|(part, rows)| (format!("text.layers.0.{part}"), rows))
    {
        pairs.extend(values(&old[&name], rows).into_iter().zip(values(&new[&name], rows)).map(|(a, b)| [a, b]));
    }
    let types = export.text.tensors().iter().filter(|t| t.head.shape.len() == 2 && t.head.name.starts_with("blk."));
    let mut types: Vec<&str> = types.map(|t| t.head.dtype.name()).collect();
    types.dedup();
    (pairs, types)
}

/// Rounding to a half float.
const HALF: f64 = 1.0 / 2048.0;

/// 4 bits: codes and scales stay, −zero · scale is rounded to a half float. That shifts a block by at most 2⁻¹¹ of it,
/// under a hundredth of a step.
#[test]
fn packed_4_bits_lose_the_rounding_of_the_minimum() {
    for kind in ["awq", "gptq4"] {
        let (pairs, types) = packed_pair(&Directory::new(golden("packed").join(kind)));
        assert_eq!((types, pairs.len()), (vec!["Q4_1"], 128 * (256 + 128 + 768 + 384)), "{kind}");
        let mut rounded = 0;
        for [(old, zero), (new, _)] in pairs {
            assert!((old - new).abs() <= HALF * zero, "{kind}: {new} for {old}, zero {zero}");
            rounded += usize::from(old != new);
        }
        assert!(rounded > 1000, "{kind}: {rounded}");
    }
}

/// 8 bits with zeros of their own become F16: 2⁻¹¹ of a weight, where a scale for Q8_0 would cost a step.
#[test]
fn packed_8_bits_and_scattered_groups_are_widened() {
    let (pairs, types) = packed_pair(&Directory::new(golden("packed/gptq8")));
    assert_eq!(types, ["F16"]);
    assert!(pairs.iter().all(|[(old, _), (new, _)]| (old - new).abs() <= HALF * old.abs()));
    let (pairs, types) = packed_pair(&Directory::new(golden("packed/gptq_scattered")));
    assert_eq!(types, ["F32"]);
    assert!(pairs.iter().all(|[old, new]| old == new));
}

/// Zeros in the middle of the codes are signed numbers in disguise: nothing is lost.
#[test]
fn symmetric_codes_keep_every_bit() {
    for (kind, word, dtype) in
        [("awq", 0x8888_8888u32, "Q4_0"), ("gptq4", 0x7777_7777, "Q4_0"), ("gptq8", 0x8080_8080, "Q8_0")]
    {
        let mut files = copy_of(golden("packed").join(kind));
        let mut bytes = std::fs::read(golden("packed").join(kind).join("model.safetensors")).unwrap();
        let checkpoint = block_on(fanlight::weights::Checkpoint::open(&files)).unwrap();
        for tensor in checkpoint.tensors().filter(|t| t.name.ends_with("qzeros")) {
            let zeros = &mut bytes[tensor.range.start as usize..tensor.range.end as usize];
            zeros.chunks_exact_mut(4).for_each(|zeros| zeros.copy_from_slice(&word.to_le_bytes()));
        }
        files.insert("model.safetensors", bytes);
        let (pairs, types) = packed_pair(&files);
        assert_eq!(types, [dtype], "{kind}");
        assert!(pairs.iter().all(|[(old, _), (new, _)]| old == new), "{kind}");
    }
}

// --- GGUF to GGUF ---------------------------------------------------------------------------------------------------

fn of_gguf(files: &dyn Source, file: &str, mmproj: Option<&str>, formats: &Formats) -> Memory {
    write(&block_on(Export::of_gguf(files, file, mmproj, formats)).unwrap(), files)
}

#[test]
fn gguf_files_keep_every_bit() {
    let files = Directory::new(golden("gguf"));
    for (file, mmproj) in [("every_type.gguf", None), ("base.gguf", Some("base-mmproj.gguf"))] {
        let new = of_gguf(&files, file, mmproj, &Formats::default());
        for (old_name, new_name) in [(Some(file), TEXT), (mmproj, TOWER)] {
            let Some(old_name) = old_name else { continue };
            let old = block_on(Gguf::read(&files, old_name)).unwrap();
            let again = block_on(Gguf::read(&new, new_name)).unwrap();
            assert_eq!(again.metadata, old.metadata);
            assert_eq!(again.tensors.len(), old.tensors.len());
            for (a, b) in again.tensors.iter().zip(&old.tensors) {
                assert_eq!((&a.name, &a.dtype, &a.shape), (&b.name, &b.dtype, &b.shape));
                let old = block_on(files.read(old_name, b.range.clone())).unwrap();
                assert!(block_on(new.read(new_name, a.range.clone())).unwrap() == old, "{}", a.name);
            }
        }
    }
}

/// Only matrices of floats are quantized, as while loading.
#[test]
fn floats_of_gguf_files_are_quantized() {
    let files = Directory::new(golden("gguf"));
    let new = of_gguf(&files, "every_type.gguf", None, &formats("q8"));
    let old = block_on(Gguf::read(&files, "every_type.gguf")).unwrap();
    let again = block_on(Gguf::read(&new, TEXT)).unwrap();
    let mut became = 0;
    for (a, b) in again.tensors.iter().zip(&old.tensors) {
        let float = matches!(&b.dtype, Element::Known(dtype) if dtype.block() == 1) && b.shape.len() == 2;
        became += usize::from(float);
        assert_eq!(a.dtype, if float { Element::Known(Dtype::Q8_0) } else { b.dtype.clone() }, "{}", a.name);
    }
    assert_eq!(became, 3);
    let source = block_on(GgufModel::open(&files, "every_type.gguf", None)).unwrap();
    assert!(device(&open(&new), &Formats::default()) == device(&source, &formats("q8")));
    // And from both files of a vision model; the header says what most of it is.
    let new = of_gguf(&files, "base.gguf", Some("base-mmproj.gguf"), &formats("q4"));
    for file in [TEXT, TOWER] {
        assert_eq!(block_on(Gguf::read(&new, file)).unwrap().count("general.file_type"), Ok(3), "Q4_1");
    }
    let source = block_on(GgufModel::open(&files, "base.gguf", Some("base-mmproj.gguf"))).unwrap();
    assert!(device(&open(&new), &formats("q4")) == device(&source, &formats("q4")));
}

// --- what is not weights --------------------------------------------------------------------------------------------

fn tokenizer(source: &dyn Source) -> Tokenizer {
    Tokenizer::from_json(&block_on(source.read_all("tokenizer.json", 1 << 24)).unwrap()).unwrap()
}

#[test]
fn configuration_tokenizer_template_and_stops_survive() {
    for model in ["base", "flat", "head80", "qwen2_vl", "qwen2_vl_flat", "qwen3_vl", "qwen3_vl_bf16"] {
        let source = Directory::new(folder(model));
        let (export, files) = of_folder(&source, &formats("q8")).unwrap();
        let gguf = open(&files);
        let all = |file: &str| [&source as &dyn Source, &gguf].map(|s| block_on(s.read_all(file, 1 << 24)).unwrap());
        let [mut old, mut new] = all("config.json").map(|bytes| parse_config(&bytes).unwrap());
        assert_eq!(old.text.rms_norm_eps as f32, new.text.rms_norm_eps as f32);
        for config in [&mut old, &mut new] {
            config.text.rms_norm_eps = 0.0; // stored in f32
            config.text.eos_token_ids.clear();
        }
        assert_eq!(old, new, "{model}");
        let [old, new] = all("preprocessor_config.json").map(|bytes| PreprocessorConfig::from_json(&bytes).unwrap());
        assert_eq!(old, new, "{model}");
        let [old, new] = all("generation_config.json").map(|bytes| {
            let mut ids = GenerationConfig::parse(&bytes).unwrap().eos_token_ids;
            ids.sort_unstable();
            ids
        });
        assert_eq!(old, new, "{model}");
        assert_eq!(block_on(template(&source)).unwrap().sources(), block_on(template(&gguf)).unwrap().sources());
        let (old, new) = (tokenizer(&source), tokenizer(&gguf));
        assert_eq!(old.len(), new.len());
        for text in ["Hello, world!", "  12345 ïé 日本\n\n\t x's", "<|im_end|> stays text", "e\u{301}", ""] {
            assert_eq!(old.encode_plain(text), new.encode_plain(text), "{text:?}");
        }
        let controls = |t: &Tokenizer| {
            let mut tokens = t.control_tokens();
            tokens.sort();
            tokens
        };
        assert_eq!(controls(&old), controls(&new));
        let header = block_on(Gguf::read(&files, TEXT)).unwrap();
        let arch = if model.starts_with("qwen3") { "qwen3vl" } else { "qwen2vl" };
        assert_eq!(header.text("general.architecture"), Ok(Some(arch)));
        assert_eq!(header.text("general.name"), Ok(Some("test")));
        // Most rows of one of them are no multiples of 32.
        let file_type = if model == "qwen3_vl" { 0 } else { 7 };
        assert_eq!(header.count("general.file_type"), Ok(file_type), "F32 or Q8_0: {model}");
        assert_eq!(header.count("general.quantization_version"), Ok(2));
        assert_eq!(header.ints(&format!("{arch}.rope.dimension_sections")).unwrap().unwrap().len(), 4);
        assert_eq!(header.count("tokenizer.ggml.eos_token_id"), Ok(378));
        let vectors = header.tensors.iter().filter(|t| t.shape.len() == 1);
        assert!(vectors.clone().count() > 0 && vectors.clone().all(|t| t.dtype == Element::Known(Dtype::F32)));
        assert_eq!(export.notes.len(), 1, "sampling alone: {:?}", export.notes);
    }
}

/// What the format cannot say is refused or said.
#[test]
fn what_gguf_cannot_say() {
    let refused = |file: &str, from: &str, to: &str| {
        let error = of_folder(&changed(folder("flat"), file, from, to), &Formats::default()).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "unsupported", "{from} → {to}: {error}");
        error.to_string()
    };
    let config = |from: &str, to: &str| refused("config.json", from, to);
    let full = r#""fullatt_block_indexes": ["#;
    let text = std::fs::read_to_string(folder("flat").join("config.json")).unwrap();
    let old: String = text.split(full).nth(1).unwrap().split(']').next().unwrap().to_owned();
    assert!(config(&format!("{full}{old}]"), &format!("{full}0, 2]")).contains("[0, 2]"));
    assert!(config(r#""image_token_id": 388"#, r#""image_token_id": 387"#).contains("image: 387"));
    refused("tokenizer.json", r"|\\p{N}|", r"|\\p{N}{1,3}|");
    refused("tokenizer.json", r#""NFC""#, r#""NFKC""#);
    refused("preprocessor_config.json", r#""merge_size": 2"#, r#""merge_size": 4"#);
    // A number that matters for videos alone.
    let seconds = changed(folder("flat"), "config.json", r#""tokens_per_second": 2"#, r#""tokens_per_second": 4"#);
    let notes = of_folder(&seconds, &Formats::default()).unwrap().0.notes;
    assert!(notes.iter().any(|note| note.contains("tokens_per_second (4)")), "{notes:?}");
    // All blocks attend to the whole, or none.
    for blocks in ["0, 1, 2", ""] {
        let files = changed(folder("flat"), "config.json", &format!("{full}{old}]"), &format!("{full}{blocks}]"));
        of_folder(&files, &Formats::default()).unwrap();
    }
    // YaRN survives with its usual attention factor, and no other.
    let rope = r#""mrope_section": ["#;
    let yarn = |more: &str| {
        let to = format!(r#""factor": 2.7, "original_max_position_embeddings": 4096, {more} {rope}"#);
        let mut files = changed(folder("flat"), "config.json", rope, &to);
        let text = String::from_utf8(block_on(files.read_all("config.json", 1 << 20)).unwrap()).unwrap();
        files.insert("config.json", text.replace(r#""type": "mrope""#, r#""type": "yarn""#).into_bytes());
        files
    };
    let (_, files) = of_folder(&yarn(r#""beta_fast": 16,"#), &Formats::default()).unwrap();
    let config = parse_config(&block_on(open(&files).read_all("config.json", 1 << 20)).unwrap()).unwrap();
    let read = config.text.yarn.unwrap();
    assert_eq!((read.factor as f32, read.beta_fast, read.original_max_position_embeddings), (2.7, 16.0, 4096));
    assert!(of_folder(&yarn(r#""attention_factor": 2.0,"#), &Formats::default()).is_err());
}

/// A weight that is no number stops the conversion with its tensor's name; blocks are worth what the reader says.
#[test]
fn bad_weights_are_named() {
    let mut files = copy_of(folder("base"));
    let mut bytes = std::fs::read(folder("base").join("model.safetensors")).unwrap();
    let checkpoint = block_on(fanlight::weights::Checkpoint::open(&files)).unwrap();
    let tensor = checkpoint.get("model.language_model.layers.1.self_attn.o_proj.weight").unwrap();
    bytes[tensor.range.start as usize..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    files.insert("model.safetensors", bytes);
    let export = block_on(Export::of_folder(&files, &formats("q4"), "x", None)).unwrap();
    let error = block_on(export.text.write(&files, &mut |_| Ok(()), &mut |_| {})).unwrap_err();
    assert!(error.to_string().contains("blk.1.attn_output.weight"), "{error}");

    let (_, files) = of_folder(&Directory::new(folder("base")), &formats("q8")).unwrap();
    let gguf = block_on(Gguf::read(&files, TEXT)).unwrap();
    let embed = gguf.tensors.iter().find(|t| t.name == "token_embd.weight").unwrap();
    let blocks = block_on(files.read(TEXT, embed.range.clone())).unwrap();
    assert_eq!(dequantize(Dtype::Q8_0, &blocks).unwrap().len() as u64, embed.shape.iter().product::<u64>());
}

#[test]
fn a_new_file_is_whole_or_not_there() {
    let home = std::env::temp_dir().join(format!("fanlight-output-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let path = home.join("x.gguf");
    let list = || std::fs::read_dir(&home).unwrap().count();
    let mut file = NewFile::create(&path, false).unwrap();
    file.write(b"half").unwrap();
    assert!(!path.exists());
    drop(file);
    assert_eq!(list(), 0, "nothing stays");
    let mut file = NewFile::create(&path, false).unwrap();
    file.write(b"who").unwrap();
    file.write(b"le").unwrap();
    file.finish().unwrap();
    assert_eq!((std::fs::read(&path).unwrap(), list()), (b"whole".to_vec(), 1));
    assert_eq!(NewFile::create(&path, false).map(|_| ()).unwrap_err().code(), "bad_request");
    drop(NewFile::create(&path, true).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), b"whole", "not before it is finished");
    let mut file = NewFile::create(&path, true).unwrap();
    file.write(b"new").unwrap();
    file.finish().unwrap();
    assert_eq!((std::fs::read(&path).unwrap(), list()), (b"new".to_vec(), 1));
    assert_eq!(NewFile::create(&home.join("no/x"), false).map(|_| ()).unwrap_err().code(), "io");
    assert!(NewFile::create(&home, true).is_err(), "a folder");
    std::fs::remove_dir_all(home).unwrap();
}
