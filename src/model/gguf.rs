//! A GGUF file as a checkpoint folder in Hugging Face layout: the metadata become `config.json`, `tokenizer.json` and the
//! like, the tensors get the names that transformers gives them, and nothing behind this room knows the difference.
//!
//! llama.cpp: `gguf-py/gguf/constants.py` (keys), `src/llama-vocab.cpp` (token types, pre-tokenizers).

pub mod export;
pub mod names;

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::model::config::{Family, MAX_LAYERS, VisionFamily};
use crate::model::gguf::names::Names;
use crate::model::registry::FAMILIES;
use crate::weights::folder::Folder;
use crate::weights::gguf::{Gguf, Value};
use crate::weights::index::Checkpoint;
use crate::weights::safetensors::TensorInfo;
use crate::weights::source::{Expected, Pending, Source};

/// Most files that one model may be split into.
const MAX_SPLITS: u64 = 1024;

/// A model in one GGUF file (or the parts it is split into), seen as a checkpoint folder.
pub struct GgufModel<'a> {
    files: &'a dyn Source,
    small: BTreeMap<&'static str, Vec<u8>>,
    checkpoint: Checkpoint,
}

impl<'a> GgufModel<'a> {
    /// Reads the headers of `file` in `files`, of the other parts if it is the first of several, and of the file of its
    /// vision tower, `mmproj`. Without one it is a text model.
    ///
    /// # Errors
    /// Any error of the source; [`Error::Malformed`] for headers that are none or lack what a model needs;
    /// [`Error::UnsupportedModel`] for another architecture or kind of tokenizer.
    pub async fn open(files: &'a dyn Source, file: &str, mmproj: Option<&str>) -> Result<Self> {
        let gguf = Gguf::read(files, file).await?;
        let mut tensors = gguf.tensors.clone();
        for part in parts(&gguf, file)? {
            tensors.extend(Gguf::read(files, &part).await?.tensors);
        }
        let vision = match mmproj {
            Some(mmproj) => Some(Gguf::read(files, mmproj).await?),
            None => None,
        };
        let family = family(&gguf, vision.as_ref())?;
        let names = match (&family.vision, &vision) {
            (Some(tower), Some(vision)) => Names::new(&tower.names, &deepstack(vision)?),
            _ => Names::default(),
        };
        tensors.extend(vision.iter().flat_map(unswapped));
        let tensors: Vec<TensorInfo> =
            tensors.into_iter().map(|t| TensorInfo { name: names.canonical(&t.name), ..t }).collect();
        let checkpoint = Checkpoint::new(tensors)?;
        let text = config(&gguf, family, &checkpoint)?;
        let mut small = BTreeMap::new();
        let config = match &vision {
            None => text,
            Some(vision) => {
                small.insert("preprocessor_config.json", to_bytes(&preprocessor(family, vision)?));
                with_vision(&gguf, family, text, vision, &checkpoint)?
            }
        };
        small.extend([
            ("config.json", to_bytes(&config)),
            ("generation_config.json", to_bytes(&generation(&gguf)?)),
            ("tokenizer.json", to_bytes(&tokenizer(&gguf)?)),
            ("tokenizer_config.json", to_bytes(&tokenizer_config(&gguf)?)),
        ]);
        Ok(GgufModel { files, small, checkpoint })
    }
}

impl Source for GgufModel<'_> {
    fn place(&self) -> String {
        self.files.place()
    }

    fn size<'b>(&'b self, file: &'b str) -> Pending<'b, Option<u64>> {
        match self.small.get(file) {
            Some(bytes) => Box::pin(async move { Ok(Some(bytes.len() as u64)) }),
            // Files that happen to lie beside it belong to somebody else.
            None if !self.checkpoint.tensors().any(|t| t.file == file) => Box::pin(async { Ok(None) }),
            None => self.files.size(file),
        }
    }

    fn read<'b>(&'b self, file: &'b str, range: Range<u64>) -> Pending<'b, Vec<u8>> {
        match self.small.get(file) {
            Some(bytes) => Box::pin(async move {
                let part = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
                let part = part.and_then(|(start, end)| bytes.get(start..end));
                part.map(<[u8]>::to_vec)
                    .ok_or_else(|| Error::malformed(file, format!("{range:?}"), format!("{} bytes", bytes.len())))
            }),
            None => self.files.read(file, range),
        }
    }

    fn expect<'b>(&'b self, reads: &'b [Expected]) -> Pending<'b, ()> {
        self.files.expect(reads)
    }

    fn sequential(&self) -> bool {
        self.files.sequential()
    }
}

impl Folder for GgufModel<'_> {
    fn tensors(&self) -> Option<&Checkpoint> {
        Some(&self.checkpoint)
    }
}

fn to_bytes(json: &Json) -> Vec<u8> {
    json.to_string().into_bytes()
}

/// The family of a decoder of this architecture, with a tower of this projector or without.
fn family(gguf: &Gguf, vision: Option<&Gguf>) -> Result<&'static Family> {
    let arch = gguf.text("general.architecture")?.unwrap_or("no architecture");
    let of_arch: Vec<&Family> = FAMILIES.iter().filter(|f| f.gguf.architecture == arch).copied().collect();
    if of_arch.is_empty() {
        let mut known: Vec<&str> = FAMILIES.iter().map(|f| f.gguf.architecture).collect();
        known.dedup();
        let found = format!("GGUF architecture {arch:?}");
        return Err(Error::UnsupportedModel { found, expected: format!("architecture {}", known.join(" or ")) });
    }
    let Some(vision) = vision else {
        // The decoder of a model with eyes alone is the text family that it was made of.
        let text = FAMILIES.iter().find(|f| f.vision.is_none() && f.model_type == of_arch[0].gguf.text);
        return text.copied().ok_or_else(|| Error::missing(of_arch[0].gguf.text, "the families"));
    };
    let found = vision.text("clip.projector_type")?.or(vision.text("clip.vision.projector_type")?);
    let projector = |f: &&Family| f.gguf.projector.is_some() && f.gguf.projector == found;
    of_arch.iter().find(|f| projector(f)).copied().ok_or_else(|| {
        let known: Vec<&str> = of_arch.iter().filter_map(|f| f.gguf.projector).collect();
        let expected = match &known[..] {
            [] => format!("no vision tower, for architecture {arch}"),
            known => format!("projector {}", known.join(" or ")),
        };
        Error::UnsupportedModel { found: format!("vision projector {:?}", found.unwrap_or("none")), expected }
    })
}

/// Blocks of the tower behind which there is a merger for DeepStack.
fn deepstack(vision: &Gguf) -> Result<Vec<usize>> {
    const KEY: &str = "clip.vision.is_deepstack_layers";
    let flags = vision.ints(KEY)?.unwrap_or_default();
    if flags.len() > MAX_LAYERS {
        let expected = format!("a flag for each of at most {MAX_LAYERS} blocks");
        return Err(Error::malformed(format!("GGUF metadata {KEY}"), expected, flags.len().to_string()));
    }
    Ok(flags.iter().enumerate().filter(|(_, flag)| **flag != 0).map(|(block, _)| block).collect())
}

/// The tensors of a vision tower. Early converters wrote `ffn_up` for `ffn_down` and the reverse; shapes tell.
fn unswapped(vision: &Gguf) -> Vec<TensorInfo> {
    let width = vision.count("clip.vision.embedding_length").unwrap_or(0);
    let up = vision.tensors.iter().find(|t| t.name == "v.blk.0.ffn_up.weight");
    let swapped = up.is_some_and(|up| up.shape.last() != Some(&width));
    let mut tensors = vision.tensors.clone();
    for tensor in tensors.iter_mut().filter(|_| swapped) {
        let swap = |from: &str, to: &str| tensor.name.contains(from).then(|| tensor.name.replace(from, to));
        if let Some(name) = swap(".ffn_up.", ".ffn_down.").or_else(|| swap(".ffn_down.", ".ffn_up.")) {
            tensor.name = name;
        }
    }
    tensors
}

/// The names of the second and further parts (`…-00001-of-00003.gguf`).
fn parts(gguf: &Gguf, file: &str) -> Result<Vec<String>> {
    let count = if gguf.metadata.contains_key("split.count") { gguf.count("split.count")? } else { 1 };
    if count <= 1 {
        return Ok(Vec::new());
    }
    let first = format!("-00001-of-{count:05}.gguf");
    match file.strip_suffix(&first) {
        Some(base) if count <= MAX_SPLITS => {
            Ok((2..=count).map(|n| format!("{base}-{n:05}-of-{count:05}.gguf")).collect())
        }
        _ => Err(Error::malformed(file, format!("the first of at most {MAX_SPLITS} parts, …{first}"), "another name")),
    }
}

/// `config.json` of the decoder.
fn config(gguf: &Gguf, family: &Family, checkpoint: &Checkpoint) -> Result<Json> {
    let arch = gguf.text("general.architecture")?.unwrap_or_default();
    let key = |name: &str| format!("{arch}.{name}");
    let number = |name: &str| gguf.number(&key(name));
    let eps = "attention.layer_norm_rms_epsilon";
    let embed = "model.language_model.embed_tokens.weight";
    let embed = checkpoint.get(embed).ok_or_else(|| Error::missing("token_embd.weight", "the GGUF file"))?;
    let heads = gguf.count(&key("attention.head_count"))?;
    let mut config = json!({
        "model_type": family.model_type,
        "vocab_size": embed.shape.first(),
        "hidden_size": gguf.count(&key("embedding_length"))?,
        "intermediate_size": gguf.count(&key("feed_forward_length"))?,
        "num_hidden_layers": gguf.count(&key("block_count"))?,
        "num_attention_heads": heads,
        "num_key_value_heads": match gguf.metadata.get(&key("attention.head_count_kv")) {
            None => heads,
            Some(_) => gguf.count(&key("attention.head_count_kv"))?,
        },
        "max_position_embeddings": gguf.count(&key("context_length"))?,
        "rms_norm_eps": number(eps)?.ok_or_else(|| Error::missing(key(eps), "the GGUF file's metadata"))?,
        "rope_theta": number("rope.freq_base")?.unwrap_or(10_000.0),
        "tie_word_embeddings": checkpoint.get("lm_head.weight").is_none(),
        "eos_token_id": stop_ids(gguf)?,
    });
    if family.text.head_dim.is_some() && gguf.metadata.contains_key(&key("attention.key_length")) {
        config["head_dim"] = json!(gguf.count(&key("attention.key_length"))?);
    }
    match gguf.text(&key("rope.scaling.type"))? {
        None | Some("none") => {}
        Some("yarn") => {
            let mut scaling = Map::from_iter([("rope_type".to_owned(), json!("yarn"))]);
            for (from, to) in [
                ("rope.scaling.factor", "factor"),
                ("rope.scaling.original_context_length", "original_max_position_embeddings"),
                ("rope.scaling.attn_factor", "attention_factor"),
                ("rope.scaling.yarn_beta_fast", "beta_fast"),
                ("rope.scaling.yarn_beta_slow", "beta_slow"),
            ] {
                match gguf.metadata.get(&key(from)) {
                    None => {}
                    Some(Value::Int(_)) => _ = scaling.insert(to.into(), json!(gguf.count(&key(from))?)),
                    Some(_) => _ = scaling.insert(to.into(), json!(number(from)?)),
                }
            }
            config["rope_scaling"] = Json::Object(scaling);
        }
        Some(other) => {
            let (found, expected) = (format!("rotary scaling {other}"), "none or yarn".to_owned());
            return Err(Error::UnsupportedModel { found, expected });
        }
    }
    Ok(config)
}

/// `config.json` of decoder and vision tower, from the decoder's and the tower's own metadata.
fn with_vision(gguf: &Gguf, family: &Family, mut text: Json, vision: &Gguf, checkpoint: &Checkpoint) -> Result<Json> {
    let Some(tower) = &family.vision else { return Ok(text) };
    let tokens = gguf.texts("tokenizer.ggml.tokens")?;
    let id = |text: &str| {
        let id = tokens.iter().position(|token| token == text);
        id.ok_or_else(|| Error::missing(format!("token {text}"), "the GGUF file's vocabulary"))
    };
    let mut config = json!({
        "model_type": family.model_type,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "image_token_id": id("<|image_pad|>")?,
        "video_token_id": id("<|video_pad|>")?,
        "vision_start_token_id": id("<|vision_start|>")?,
        "vision_end_token_id": id("<|vision_end|>")?,
        "vision_config": (family.gguf.vision_config)(&Mmproj { gguf: vision, tower, checkpoint })?,
    });
    let arch = gguf.text("general.architecture")?.unwrap_or_default();
    if let Some(sections) = gguf.ints(&format!("{arch}.rope.dimension_sections"))? {
        let rope = if text["rope_scaling"].is_object() { "rope_scaling" } else { "rope_parameters" };
        text[rope]["mrope_section"] = json!(sections.iter().take(3).collect::<Vec<_>>());
    }
    config["text_config"] = text;
    Ok(config)
}

/// What a family reads its `vision_config` from.
pub struct Mmproj<'a> {
    gguf: &'a Gguf,
    tower: &'a VisionFamily,
    checkpoint: &'a Checkpoint,
}

impl Mmproj<'_> {
    /// A number `clip.vision.NAME`.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Malformed`].
    pub fn count(&self, name: &str) -> Result<u64> {
        self.gguf.count(&format!("clip.vision.{name}"))
    }

    /// The same where it may be left out.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn optional(&self, name: &str, default: u64) -> Result<u64> {
        if self.gguf.metadata.contains_key(&format!("clip.vision.{name}")) { self.count(name) } else { Ok(default) }
    }

    /// Blocks with DeepStack mergers.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn deepstack(&self) -> Result<Vec<usize>> {
        deepstack(self.gguf)
    }

    /// Width of the MLP: that of the tensor behind it, since early converters wrote 0.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn intermediate(&self) -> Result<u64> {
        let name = format!("model.visual.blocks.0.{}.weight", self.tower.names.mlp_out);
        self.shape(&name).and_then(|shape| shape.last().copied()).ok_or_else(|| Error::missing(name, "the mmproj file"))
    }

    /// The shape of a tensor of this canonical name.
    pub fn shape(&self, name: &str) -> Option<&[u64]> {
        self.checkpoint.get(name).map(|tensor| &tensor.shape[..])
    }

    /// Fields that every tower has. What is not in the file is the same in every released checkpoint.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Malformed`].
    pub fn common(&self) -> Result<Json> {
        Ok(json!({
            "depth": self.count("block_count")?,
            "num_heads": self.count("attention.head_count")?,
            "patch_size": self.count("patch_size")?,
            "spatial_merge_size": self.optional("spatial_merge_size", 2)?,
            "in_channels": 3,
            "temporal_patch_size": 2,
        }))
    }
}

/// `preprocessor_config.json`; what the file leaves out has transformers' defaults.
fn preprocessor(family: &Family, vision: &Gguf) -> Result<Json> {
    let mut config = json!({ "patch_size": vision.count("clip.vision.patch_size")?, "temporal_patch_size": 2 });
    if let Some([least, most]) = family.gguf.pixels {
        config["min_pixels"] = json!(least);
        config["max_pixels"] = json!(most);
    }
    for (from, to) in
        [("spatial_merge_size", "merge_size"), ("image_min_pixels", "min_pixels"), ("image_max_pixels", "max_pixels")]
    {
        let key = format!("clip.vision.{from}");
        if vision.metadata.contains_key(&key) {
            config[to] = json!(vision.count(&key)?);
        }
    }
    for name in ["image_mean", "image_std"] {
        if let Some(Value::Floats(values)) = vision.metadata.get(&format!("clip.vision.{name}")) {
            config[name] = json!(values);
        }
    }
    Ok(config)
}

/// Ids that end a reply: of a turn, and of everything.
fn stop_ids(gguf: &Gguf) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    for key in ["eos_token_id", "eot_token_id", "eom_token_id"].map(|name| format!("tokenizer.ggml.{name}")) {
        if gguf.metadata.contains_key(&key) {
            ids.push(gguf.count(&key)?);
        }
    }
    // Converters name one; the family's own generation_config.json names both, as llama.cpp looks for them by text.
    let tokens = gguf.texts("tokenizer.ggml.tokens")?;
    for text in ["<|im_end|>", "<|endoftext|>"] {
        ids.extend(tokens.iter().position(|token| token == text).map(|id| id as u64));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn generation(gguf: &Gguf) -> Result<Json> {
    // A GGUF file says nothing of sampling; the best token is the honest default.
    Ok(json!({ "do_sample": false, "eos_token_id": stop_ids(gguf)? }))
}

/// The pre-tokenizer of Qwen2 (`tokenization_qwen2.py`; `LLAMA_VOCAB_PRE_TYPE_QWEN2`).
const QWEN2_SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Kinds of token (`llama_token_type`).
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;

/// `tokenizer.json`.
fn tokenizer(gguf: &Gguf) -> Result<Json> {
    let model = gguf.text("tokenizer.ggml.model")?.unwrap_or("no model");
    let pre = gguf.text("tokenizer.ggml.pre")?.unwrap_or("default");
    if model != "gpt2" || pre != "qwen2" {
        let expected = "tokenizer gpt2 with pre-tokenizer qwen2".to_owned();
        return Err(Error::UnsupportedModel { found: format!("GGUF tokenizer {model:?} with {pre:?}"), expected });
    }
    let tokens = gguf.texts("tokenizer.ggml.tokens")?;
    let kinds = gguf.ints("tokenizer.ggml.token_type")?.unwrap_or_default();
    if !kinds.is_empty() && kinds.len() != tokens.len() {
        let expected = format!("{} token types, one for each token", tokens.len());
        return Err(Error::malformed("GGUF metadata tokenizer.ggml.token_type", expected, kinds.len().to_string()));
    }
    let kind = |id: usize| kinds.get(id).copied().unwrap_or(1);
    let mut vocab = Map::new();
    let mut added = Vec::new();
    for (id, text) in tokens.iter().enumerate() {
        match kind(id) {
            // Rows that only fill the matrix have no text that anybody could write.
            UNUSED => {}
            kind @ (CONTROL | USER_DEFINED) => added.push(json!({
                "id": id, "content": text, "special": kind == CONTROL, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            })),
            _ => _ = vocab.insert(text.clone(), json!(id)),
        }
    }
    Ok(json!({
        "added_tokens": added,
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": QWEN2_SPLIT }, "behavior": "Isolated", "invert": false },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
        ] },
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
        "model": { "type": "BPE", "vocab": vocab, "merges": gguf.texts("tokenizer.ggml.merges")? },
    }))
}

/// `tokenizer_config.json`: the chat template, and the tokens that templates may ask for.
fn tokenizer_config(gguf: &Gguf) -> Result<Json> {
    let tokens = gguf.texts("tokenizer.ggml.tokens")?;
    let mut config = Map::new();
    for (from, to) in [("bos", "bos_token"), ("eos", "eos_token"), ("padding", "pad_token"), ("unknown", "unk_token")] {
        let key = format!("tokenizer.ggml.{from}_token_id");
        if gguf.metadata.contains_key(&key) {
            let id = gguf.count(&key)?;
            let token = usize::try_from(id).ok().and_then(|id| tokens.get(id));
            let token = token
                .ok_or_else(|| Error::malformed(format!("GGUF metadata {key}"), "a token's number", id.to_string()))?;
            config.insert(to.to_owned(), json!(token));
        }
    }
    if let Some(template) = gguf.text("tokenizer.chat_template")? {
        config.insert("chat_template".to_owned(), json!(template));
    }
    Ok(Json::Object(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_split_file() {
        let gguf = |count| Gguf {
            metadata: BTreeMap::from([("split.count".to_owned(), Value::Int(count))]),
            ..Gguf::default()
        };
        let names = parts(&gguf(3), "m-00001-of-00003.gguf").unwrap();
        assert_eq!(names, ["m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]);
        assert!(parts(&gguf(1), "m.gguf").unwrap().is_empty());
        assert!(parts(&gguf(3), "m-00002-of-00003.gguf").is_err());
        assert!(parts(&gguf(-1), "m.gguf").is_err());
        assert!(parts(&gguf(99_999), "m-00001-of-99999.gguf").is_err());
    }
}
