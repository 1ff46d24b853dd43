//! A checkpoint as GGUF files: a text file, and an mmproj file for the vision tower.
//!
//! From a folder the metadata are those that llama.cpp's converter writes (`conversion/base.py` and `conversion/qwenvl.py`,
//! keys in `gguf-py/gguf/constants.py`), the names are those of [`super`]. From GGUF files metadata and tensors are copied,
//! except for floats that become blocks. What GGUF cannot say of a configuration is refused: the new header is read back
//! and has to give the same one.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value as Json, json};

use super::{CONTROL, GgufModel, QWEN2_SPLIT, UNUSED, USER_DEFINED, parts};
use crate::dtype::{Dtype, Layout};
use crate::error::{Error, Result};
use crate::image::PreprocessorConfig;
use crate::model::config::{self, Config, Family, Mlp, TextConfig, VisionConfig};
use crate::model::gguf::names::Names;
use crate::model::positions::VideoTime;
use crate::model::{names, registry};
use crate::ops::Activation;
use crate::weights::gguf::Gguf;
use crate::weights::gguf_write::{ALIGNMENT, Entry, header};
use crate::weights::index::Checkpoint;
use crate::weights::plan::Limits;
use crate::weights::quantize::Formats;
use crate::weights::source::{MAX_SMALL_FILE, Pending, Source, read_exact};
use crate::weights::specs::{MatrixSpec, VectorSpec};
use crate::weights::transfer::Transfer;

/// How blocks are laid out (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;
/// What the converter writes for the side of an image, which nothing of this family depends on.
const NOMINAL_IMAGE_SIZE: usize = 560;

/// What goes into the new files. Only headers, configurations and zeros of packed layers have been read.
#[derive(Debug)]
pub struct Export {
    /// The decoder.
    pub text: Outgoing,
    /// The vision tower, if there is one.
    pub vision: Option<Outgoing>,
    /// What the new files do not say, in sentences.
    pub notes: Vec<String>,
}

/// One new file.
#[derive(Debug)]
pub struct Outgoing {
    entries: Vec<(String, Entry)>,
    tensors: Vec<Transfer>,
}

impl Export {
    /// The checkpoint in a folder of Hugging Face layout. `name` becomes `general.name`; `template` is its chat template.
    ///
    /// # Errors
    /// Any error of the source or of the checkpoint's files; [`Error::UnsupportedModel`] for what GGUF cannot say.
    pub async fn of_folder(source: &dyn Source, formats: &Formats, name: &str, template: Option<&str>) -> Result<Self> {
        let (config, bytes) = registry::read_config(source).await?;
        let mut checkpoint = Checkpoint::open(source).await?.renamed(names::canonical)?;
        checkpoint.quantization = config::quantization(&bytes)?;
        let (matrices, vectors) = names::specs(&config, &|name| checkpoint.get(name).is_some());
        let all = tensors(source, &checkpoint, &config, (&matrices, &vectors), formats).await?;
        let (vision, decoder): (Vec<Transfer>, Vec<Transfer>) = all.into_iter().partition(|t| of_tower(&t.head.name));
        let arch = config.family.gguf.architecture;
        let mut notes = Vec::new();
        let mut entries = general(arch, "model", name, &decoder);
        entries.extend(text_entries(&config)?);
        entries.extend(tokenizer_entries(source, &bytes, &config.text, template, &mut notes).await?);
        let text_file = Outgoing { entries, tensors: decoder };
        let vision = match &config.vision {
            None => None,
            Some((tower, _)) => {
                let preprocessor = match source.read_optional("preprocessor_config.json", MAX_SMALL_FILE).await? {
                    Some(bytes) => PreprocessorConfig::from_json(&bytes)?,
                    None => PreprocessorConfig::default(),
                };
                let mut entries = general("clip", "mmproj", name, &vision);
                entries.extend(vision_entries(config.family, tower, &preprocessor)?);
                Some(Outgoing { entries, tensors: vision })
            }
        };
        let export = Export { text: text_file, vision, notes };
        export.check(source, &bytes).await
    }

    /// The model in GGUF files: `file` with its further parts, and its vision tower in `mmproj`.
    ///
    /// # Errors
    /// Any error of the source; [`Error::Malformed`] for headers that are none; [`Error::Dtype`] for a tensor of a type
    /// whose size is not known here.
    pub async fn of_gguf(files: &dyn Source, file: &str, mmproj: Option<&str>, formats: &Formats) -> Result<Self> {
        let gguf = Gguf::read(files, file).await?;
        let mut tensors = gguf.tensors.clone();
        for part in parts(&gguf, file)? {
            tensors.extend(Gguf::read(files, &part).await?.tensors);
        }
        let text = Outgoing::same(files, file, &Gguf { tensors, ..gguf }, formats).await?;
        let vision = match mmproj {
            Some(mmproj) => Some(Outgoing::same(files, mmproj, &Gguf::read(files, mmproj).await?, formats).await?),
            None => None,
        };
        Ok(Export { text, vision, notes: Vec::new() })
    }

    /// Reads the new headers back and compares with the old configuration.
    async fn check(mut self, source: &dyn Source, old: &[u8]) -> Result<Self> {
        let (text, mmproj) = ("model.gguf", "mmproj.gguf");
        let mut headers = Headers(BTreeMap::new());
        for (file, name) in [(Some(&self.text), text), (self.vision.as_ref(), mmproj)] {
            if let Some(file) = file {
                headers.0.insert(name, (file.header()?, file.bytes()?));
            }
        }
        let gguf = GgufModel::open(&headers, text, self.vision.as_ref().map(|_| mmproj)).await?;
        // Every tensor is there in the right shape.
        let limits = Limits { max_binding: u64::MAX, max_buffer: u64::MAX };
        registry::describe(&gguf, limits, &Formats::default()).await?;
        let (new, _) = registry::read_config(&gguf).await?;
        let same = |field: &str, old: String, new: String| {
            let differs = old.lines().zip(new.lines()).find(|(old, new)| old != new);
            match differs {
                None => Ok(()),
                Some((old, new)) => Err(Error::UnsupportedModel {
                    found: format!("{field}: {}", old.trim()),
                    expected: format!("what GGUF can say, which reads as {}", new.trim()),
                }),
            }
        };
        let (mut old, mut new) = (registry::parse_config(old)?, new);
        if let (Some((old, _)), Some((new, _))) = (&mut old.vision, &new.vision)
            && let (VideoTime::Seconds(found), true) = (old.time, old.time != new.time)
        {
            self.notes.push(format!("GGUF does not hold tokens_per_second ({found}): videos get the usual 2"));
            old.time = new.time;
        }
        [&mut old.text, &mut new.text].into_iter().for_each(as_stored);
        same("config.json", format!("{old:#?}"), format!("{new:#?}"))?;
        // Which ids end a reply.
        let ids = |bytes: Option<Vec<u8>>| {
            let json = bytes.and_then(|bytes| serde_json::from_slice::<Json>(&bytes).ok()).unwrap_or_default();
            let mut ids = ids_of(&json["eos_token_id"]);
            ids.sort_unstable();
            ids
        };
        let old = ids(source.read_optional("generation_config.json", MAX_SMALL_FILE).await?);
        let new = ids(gguf.read_optional("generation_config.json", MAX_SMALL_FILE).await?);
        if !old.is_empty() && old != new {
            self.notes.push(format!("replies end at the tokens {new:?}, before at {old:?}"));
        }
        Ok(self)
    }
}

impl Outgoing {
    /// What a GGUF file holds, with floats in `formats`.
    async fn same(files: &dyn Source, file: &str, gguf: &Gguf, formats: &Formats) -> Result<Self> {
        let tensors = gguf.tensors.iter().map(|tensor| {
            let name = Names::default().canonical(&tensor.name);
            let part = match name.as_str() {
                "model.language_model.embed_tokens.weight" => "text.embed",
                "lm_head.weight" => "lm_head",
                _ if of_tower(&tensor.name) => "vision.",
                _ => "text.",
            };
            Transfer::same(tensor, formats.of(part))
        });
        let tensors: Vec<Transfer> = tensors.collect::<Result<_>>()?;
        let changed = tensors.iter().any(|t| !t.is_copy());
        let mut entries = Vec::new();
        for (key, place) in &gguf.places {
            // The new file is in one part, aligned as usual.
            if !key.starts_with("split.") && key != "general.alignment" {
                entries.push((key.clone(), Entry::Raw(read_exact(files, file, place.clone()).await?)));
            }
        }
        let mut set = |key: &str, value: u32| {
            entries.retain(|(k, _)| k != key);
            entries.push((key.to_owned(), Entry::Count(value)));
        };
        if changed {
            set("general.file_type", file_type(&tensors));
            set("general.quantization_version", QUANTIZATION_VERSION);
        }
        Ok(Outgoing { entries, tensors })
    }

    /// The tensors in the file's order.
    pub fn tensors(&self) -> &[Transfer] {
        &self.tensors
    }

    /// Tensors and bytes of each element type.
    ///
    /// # Errors
    /// As [`header`].
    pub fn totals(&self) -> Result<BTreeMap<Dtype, (usize, u64)>> {
        let mut totals: BTreeMap<Dtype, (usize, u64)> = BTreeMap::new();
        for tensor in &self.tensors {
            let (count, bytes) = totals.entry(tensor.head.dtype).or_default();
            (*count, *bytes) = (*count + 1, *bytes + tensor.head.bytes()?);
        }
        Ok(totals)
    }

    /// Bytes that [`Outgoing::write`] reads.
    pub fn source_bytes(&self) -> u64 {
        self.tensors.iter().map(Transfer::source_bytes).fold(0, u64::saturating_add)
    }

    fn header(&self) -> Result<Vec<u8>> {
        header(&self.entries, self.tensors.iter().map(|t| &t.head))
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// As [`header`].
    pub fn bytes(&self) -> Result<u64> {
        let mut bytes = self.header()?.len() as u64;
        for tensor in &self.tensors {
            let end = bytes.saturating_add(tensor.head.bytes()?);
            bytes = end.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
        }
        Ok(bytes)
    }

    /// Gives the file's bytes to `put` from front to back. `heard` hears how many were read.
    ///
    /// # Errors
    /// Those of the source and of `put`; [`Error::Malformed`] for weights that their new type does not hold.
    pub async fn write(
        &self,
        source: &dyn Source,
        put: &mut dyn FnMut(&[u8]) -> Result<()>,
        heard: &mut dyn FnMut(u64),
    ) -> Result<()> {
        put(&self.header()?)?;
        for tensor in &self.tensors {
            tensor.run(source, put, heard).await?;
        }
        Ok(())
    }
}

/// New files as far as their headers.
struct Headers(BTreeMap<&'static str, (Vec<u8>, u64)>);

impl Source for Headers {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        Box::pin(async move { Ok(self.0.get(file).map(|(_, size)| *size)) })
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        Box::pin(async move {
            let (header, _) = self.0.get(file).ok_or_else(|| Error::missing(file, "the new files"))?;
            // The reader asks for more than the header at first; nobody looks at what follows it.
            let mut bytes = header.clone();
            bytes.resize(range.end as usize, 0);
            Ok(bytes.split_off(range.start as usize))
        })
    }
}

/// The numbers as GGUF stores them, less what it has no place for and is compared elsewhere.
fn as_stored(text: &mut TextConfig) {
    let narrow = |x: &mut f64| *x = f64::from(*x as f32);
    narrow(&mut text.rms_norm_eps);
    narrow(&mut text.rope_theta);
    if let Some(yarn) = &mut text.yarn {
        [&mut yarn.factor, &mut yarn.beta_fast, &mut yarn.beta_slow].into_iter().for_each(narrow);
        // Not stored but inferred, from a factor that may have lost bits.
        yarn.attention_factor = (yarn.attention_factor * 1e5).round() / 1e5;
    }
    text.eos_token_ids.clear();
}

/// Whether a tensor of llama.cpp's name belongs to a vision tower.
fn of_tower(name: &str) -> bool {
    name.starts_with("v.") || name.starts_with("mm.")
}

/// The tensors of the specs, in their order, matrices and vectors of a layer together.
async fn tensors(
    source: &dyn Source,
    checkpoint: &Checkpoint,
    config: &Config,
    (matrices, vectors): (&[MatrixSpec], &[VectorSpec]),
    formats: &Formats,
) -> Result<Vec<Transfer>> {
    let matrices = matrices.iter().flat_map(|m| m.sources.iter().map(move |piece| (piece, formats.of(&m.name))));
    let vectors = vectors.iter().flat_map(|v| v.sources.iter().map(|piece| (piece, None::<Layout>)));
    let names = match (&config.family.vision, &config.vision) {
        (Some(family), Some((tower, _))) => Names::new(&family.names, &tower.deepstack),
        _ => Names::default(),
    };
    let mut all = Vec::new();
    for (piece, format) in matrices.chain(vectors) {
        let named = |tensor: &str| names.gguf(tensor).ok_or_else(|| Error::missing(tensor, "llama.cpp's names"));
        let frames = if piece.shape.len() == 5 { piece.shape[2] } else { 0 };
        if frames > 0 {
            for frame in 0..frames {
                // The first frame has the name of the whole.
                let number = if frame == 0 { String::new() } else { format!(".{frame}") };
                let name = named(&format!("{}{number}", piece.tensor))?;
                all.push(Transfer::frame(checkpoint, piece, frame, name, format)?);
            }
        } else if piece.tensor.contains(".attn.qkv.") && !config.family.gguf.fused_qkv {
            let third = piece.rows / 3;
            for (n, part) in ["q", "k", "v"].into_iter().enumerate() {
                let name = named(&piece.tensor.replace(".qkv.", &format!(".{part}.")))?;
                let rows = n * third..(n + 1) * third;
                all.push(Transfer::piece(source, checkpoint, piece, rows, name, format).await?);
            }
        } else {
            let name = named(&piece.tensor)?;
            all.push(Transfer::piece(source, checkpoint, piece, 0..piece.rows, name, format).await?);
        }
    }
    // Embeddings first, then layer by layer.
    all.sort_by_cached_key(|t| {
        let layer = t.head.name.split('.').find_map(|part| part.parse::<u32>().ok());
        let outer = if t.head.name.contains("blk.") { 1 } else { 2 * u8::from(!t.head.name.contains("_embd")) };
        (outer, layer, t.head.name.clone())
    });
    Ok(all)
}

fn entry(key: &str, value: Entry) -> (String, Entry) {
    (key.to_owned(), value)
}

fn general(arch: &str, kind: &str, name: &str, tensors: &[Transfer]) -> Vec<(String, Entry)> {
    vec![
        entry("general.architecture", Entry::Text(arch.to_owned())),
        entry("general.type", Entry::Text(kind.to_owned())),
        entry("general.name", Entry::Text(name.to_owned())),
        entry("general.file_type", Entry::Count(file_type(tensors))),
        entry("general.quantization_version", Entry::Count(QUANTIZATION_VERSION)),
    ]
}

/// The type of most of the matrices' elements (`enum llama_ftype`).
fn file_type(tensors: &[Transfer]) -> u32 {
    let mut elements: BTreeMap<Dtype, u64> = BTreeMap::new();
    for tensor in tensors.iter().filter(|t| t.head.shape.len() > 1) {
        let count = elements.entry(tensor.head.dtype).or_default();
        *count = count.saturating_add(tensor.head.shape.iter().product());
    }
    match elements.into_iter().max_by_key(|(_, count)| *count).map_or(Dtype::F32, |(dtype, _)| dtype) {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Q4_0 => 2,
        Dtype::Q4_1 => 3,
        Dtype::Q8_0 => 7,
        Dtype::Q5_0 => 8,
        Dtype::Q5_1 => 9,
        Dtype::Q2K => 10,
        Dtype::Q3K => 12,
        Dtype::Q4K => 15,
        Dtype::Q5K => 17,
        Dtype::Q6K => 18,
        Dtype::Iq4Nl => 25,
        Dtype::Iq4Xs => 30,
        Dtype::BF16 => 32,
    }
}

fn count(what: &str, n: impl TryInto<u32> + Copy + std::fmt::Display) -> Result<Entry> {
    let number = n.try_into().map(Entry::Count);
    number.map_err(|_| Error::invalid(what, "a number below 2^32", n.to_string()))
}

/// The decoder's sizes.
fn text_entries(config: &Config) -> Result<Vec<(String, Entry)>> {
    let Config { family, text, vision, .. } = config;
    let arch = family.gguf.architecture;
    let mut entries = Vec::new();
    let mut add = |key: &str, value: Entry| entries.push((format!("{arch}.{key}"), value));
    for (key, n) in [
        ("block_count", text.num_hidden_layers),
        ("context_length", text.max_position_embeddings),
        ("embedding_length", text.hidden_size),
        ("feed_forward_length", text.intermediate_size),
        ("attention.head_count", text.num_attention_heads),
        ("attention.head_count_kv", text.num_key_value_heads),
    ] {
        add(key, count(key, n)?);
    }
    add("rope.freq_base", Entry::Number(text.rope_theta as f32));
    add("attention.layer_norm_rms_epsilon", Entry::Number(text.rms_norm_eps as f32));
    if family.text.head_dim.is_some() {
        for key in ["attention.key_length", "attention.value_length"] {
            add(key, count(key, text.head_dim)?);
        }
    }
    if let Some((tower, _)) = vision.as_ref().filter(|(tower, _)| !tower.deepstack.is_empty()) {
        add("n_deepstack_layers", count("n_deepstack_layers", tower.deepstack.len())?);
    }
    if family.text.mrope_section.is_some() {
        // Time, height, width and one that this family does not use.
        let sections = text.mrope_section.iter().map(|n| *n as i32).chain([0]);
        add("rope.dimension_sections", Entry::Ints(sections.collect()));
    }
    if let Some(yarn) = &text.yarn {
        add("rope.scaling.type", Entry::Text("yarn".to_owned()));
        add("rope.scaling.factor", Entry::Number(yarn.factor as f32));
        let original = "rope.scaling.original_context_length";
        add(original, count(original, yarn.original_max_position_embeddings)?);
        for (key, value, usual) in [
            ("rope.scaling.yarn_beta_fast", yarn.beta_fast, 32.0),
            ("rope.scaling.yarn_beta_slow", yarn.beta_slow, 1.0),
        ] {
            if value != usual {
                add(key, Entry::Number(value as f32));
            }
        }
        // No attn_factor: llama.cpp multiplies it with the usual attention factor. Another one than that is refused when
        // the header is read back.
    }
    Ok(entries)
}

/// The vision tower's sizes and how pictures reach it.
fn vision_entries(
    family: &Family,
    tower: &VisionConfig,
    pictures: &PreprocessorConfig,
) -> Result<Vec<(String, Entry)>> {
    let projector = family.gguf.projector.unwrap_or_default();
    let mut entries = vec![
        entry("clip.has_vision_encoder", Entry::Flag(true)),
        entry("clip.projector_type", Entry::Text(projector.to_owned())),
        // Where neither is set, readers take QuickGELU.
        entry("clip.use_silu", Entry::Flag(tower.mlp == Mlp::SwiGlu)),
        entry("clip.use_gelu", Entry::Flag(tower.mlp == Mlp::Plain(Activation::GeluTanh))),
    ];
    let mut add = |key: &str, value: Entry| entries.push((format!("clip.vision.{key}"), value));
    if let Some(windows) = &tower.windows {
        // Every block of the pattern but its last one attends in windows.
        let pattern = windows.full.first().unwrap_or(&tower.depth) + 1;
        if !(0..tower.depth).filter(|n| (n + 1) % pattern == 0).eq(windows.full.iter().copied()) {
            return Err(Error::UnsupportedModel {
                found: format!("fullatt_block_indexes {:?}", windows.full),
                expected: format!("every {pattern}th of {} blocks, as GGUF has it", tower.depth),
            });
        }
        add("n_wa_pattern", count("n_wa_pattern", pattern)?);
        add("window_size", count("window_size", windows.size)?);
    }
    if tower.position_side.is_some() {
        let flags = (0..tower.depth).map(|block| tower.deepstack.contains(&block)).collect();
        add("is_deepstack_layers", Entry::Flags(flags));
    }
    // Learned positions are as many as patches of such a picture.
    let image_size = tower.position_side.map_or(NOMINAL_IMAGE_SIZE, |side| side * tower.patch_size);
    for (key, n) in [
        ("projection_dim", tower.out_hidden_size),
        ("image_size", image_size),
        ("patch_size", tower.patch_size),
        ("embedding_length", tower.hidden_size),
        ("feed_forward_length", tower.intermediate_size),
        ("block_count", tower.depth),
        ("attention.head_count", tower.num_heads),
        ("spatial_merge_size", tower.spatial_merge_size),
    ] {
        add(key, count(key, n)?);
    }
    let sides = (pictures.patch_size, pictures.temporal_patch_size, pictures.merge_size);
    if sides != (tower.patch_size, tower.temporal_patch_size, tower.spatial_merge_size) {
        return Err(Error::UnsupportedModel {
            found: format!("patches, frames and merged patches of pictures {sides:?}"),
            expected: "those of the vision tower, which GGUF has alone".to_owned(),
        });
    }
    add("image_min_pixels", count("min_pixels", pictures.min_pixels)?);
    add("image_max_pixels", count("max_pixels", pictures.max_pixels)?);
    add("image_mean", Entry::Numbers(pictures.image_mean.to_vec()));
    add("image_std", Entry::Numbers(pictures.image_std.to_vec()));
    add("attention.layer_norm_epsilon", Entry::Number(crate::model::vision::EPS));
    Ok(entries)
}

fn object(file: &str, bytes: &[u8]) -> Result<Json> {
    serde_json::from_slice(bytes).map_err(|e| Error::malformed(file, "JSON", e.to_string()))
}

/// One id or a list of them.
fn ids_of(json: &Json) -> Vec<u64> {
    match json {
        Json::Array(list) => list.iter().filter_map(Json::as_u64).collect(),
        one => one.as_u64().into_iter().collect(),
    }
}

const TOKENIZER: &str = "tokenizer.json";

/// Tokens, merges, special ids and the template.
async fn tokenizer_entries(
    source: &dyn Source,
    config: &[u8],
    text: &TextConfig,
    template: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Entry)>> {
    let json = object(TOKENIZER, &source.read_all(TOKENIZER, MAX_SMALL_FILE).await?)?;
    check_tokenizer(&json)?;
    let (tokens, kinds) = vocabulary(&json, text.vocab_size)?;
    let id_of = |token: &str| tokens.iter().position(|t| t == token).map(|id| id as u64);
    let merges: Vec<String> = merges(&json)?;

    let own = match source.read_optional("tokenizer_config.json", MAX_SMALL_FILE).await? {
        Some(bytes) => object("tokenizer_config.json", &bytes)?,
        None => Json::Null,
    };
    let generation = match source.read_optional("generation_config.json", MAX_SMALL_FILE).await? {
        Some(bytes) => object("generation_config.json", &bytes)?,
        None => Json::Null,
    };
    let config = object(config::FILE, config)?;
    let mut ids = Vec::new();
    for (from, to) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")] {
        let token = &own[format!("{from}_token")];
        let id = token.as_str().or_else(|| token["content"].as_str()).and_then(id_of);
        let places = [&config["text_config"], &config];
        let id =
            id.or_else(|| places.iter().find_map(|place| ids_of(&place[format!("{from}_token_id")]).first().copied()));
        if let Some(id) = id.filter(|id| *id < tokens.len() as u64) {
            ids.push((format!("tokenizer.ggml.{to}_token_id"), id));
        }
    }
    // Ids that end a reply and that no reader finds by itself.
    let known: Vec<u64> = ["<|im_end|>", "<|endoftext|>"].into_iter().filter_map(id_of).collect();
    let eos = ids.iter().find(|(key, _)| key.contains(".eos_")).map(|(_, id)| *id);
    let mut stops = ids_of(&generation["eos_token_id"]);
    stops.retain(|id| Some(*id) != eos && !known.contains(id) && *id < tokens.len() as u64);
    let places = ["eot", "eom"].map(|name| format!("tokenizer.ggml.{name}_token_id"));
    ids.extend(places.into_iter().zip(stops));

    if generation["do_sample"].as_bool() == Some(true) {
        notes
            .push("generation_config.json's sampling is not kept: the new file is greedy unless told otherwise".into());
    }
    let mut entries = vec![
        entry("tokenizer.ggml.model", Entry::Text("gpt2".to_owned())),
        entry("tokenizer.ggml.pre", Entry::Text("qwen2".to_owned())),
        entry("tokenizer.ggml.tokens", Entry::Texts(tokens)),
        entry("tokenizer.ggml.token_type", Entry::Ints(kinds)),
        entry("tokenizer.ggml.merges", Entry::Texts(merges)),
    ];
    for (key, id) in ids {
        entries.push(entry(&key, count(&key, id)?));
    }
    let add_bos = own["add_bos_token"].as_bool().unwrap_or(false);
    entries.push(entry("tokenizer.ggml.add_bos_token", Entry::Flag(add_bos)));
    match template {
        Some(template) => entries.push(entry("tokenizer.chat_template", Entry::Text(template.to_owned()))),
        None => notes.push("the checkpoint has no chat template".to_owned()),
    }
    Ok(entries)
}

/// Refuses a tokenizer that splits otherwise than the `qwen2` that the file will name.
fn check_tokenizer(json: &Json) -> Result<()> {
    let (pre, model) = (&json["pre_tokenizer"], &json["model"]);
    let off = |value: &Json| value.as_bool() != Some(true);
    let steps = pre["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice);
    let fits = match steps {
        [split, bytes] => {
            split["type"] == "Split"
                && split["pattern"]["Regex"] == QWEN2_SPLIT
                && split["behavior"] == "Isolated"
                && off(&split["invert"])
                && bytes["type"] == "ByteLevel"
                && off(&bytes["add_prefix_space"])
                && bytes["use_regex"] == json!(false)
        }
        _ => false,
    };
    let plain = off(&model["ignore_merges"]) && off(&model["byte_fallback"]);
    if fits && plain && pre["type"] == "Sequence" && json["normalizer"]["type"] == "NFC" && model["type"] == "BPE" {
        return Ok(());
    }
    Err(Error::UnsupportedModel {
        found: format!("{TOKENIZER} with other steps"),
        expected: "Qwen2's: NFC, its split, bytes, BPE".to_owned(),
    })
}

/// Texts and kinds of `rows` tokens; rows without a token get a name that says so.
fn vocabulary(json: &Json, rows: usize) -> Result<(Vec<String>, Vec<i32>)> {
    let vocab = json["model"]["vocab"].as_object();
    let vocab = vocab.ok_or_else(|| Error::malformed(TOKENIZER, "a vocabulary", "none"))?;
    let mut listed: Vec<(&Json, &str, i64)> = vocab.iter().map(|(text, id)| (id, text.as_str(), 1)).collect();
    for token in json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice) {
        let kind = if token["special"].as_bool() == Some(true) { CONTROL } else { USER_DEFINED };
        listed.push((&token["id"], token["content"].as_str().unwrap_or_default(), kind));
    }
    let mut found: Vec<Option<(&str, i64)>> = vec![None; rows];
    for (id, text, kind) in listed {
        let place = id.as_u64().and_then(|id| usize::try_from(id).ok()).and_then(|id| found.get_mut(id));
        match place {
            Some(place) if place.is_none_or(|(old, _)| old == text) => *place = Some((text, kind)),
            Some(_) => return Err(Error::malformed(TOKENIZER, "one token for each id", format!("two for {id}"))),
            None => {
                let expected = format!("ids below vocab_size {rows}");
                return Err(Error::malformed(TOKENIZER, expected, id.to_string()));
            }
        }
    }
    let named = found.into_iter().enumerate().map(|(id, token)| match token {
        Some((text, kind)) => (text.to_owned(), kind as i32),
        None => (format!("[PAD{id}]"), UNUSED as i32),
    });
    Ok(named.unzip())
}

/// Pairs as texts; newer files have them as lists of two.
fn merges(json: &Json) -> Result<Vec<String>> {
    let merge = |merge: &Json| match merge {
        Json::String(text) => Some(text.clone()),
        Json::Array(pair) => match &pair[..] {
            [a, b] => Some(format!("{} {}", a.as_str()?, b.as_str()?)),
            _ => None,
        },
        _ => None,
    };
    let list = json["model"]["merges"].as_array().map(|list| list.iter().map(merge).collect::<Option<Vec<_>>>());
    list.flatten().ok_or_else(|| Error::malformed(TOKENIZER, "merges of two tokens", "others"))
}
