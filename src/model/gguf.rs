//! A GGUF file as a checkpoint folder in Hugging Face layout: the metadata become `config.json`, `tokenizer.json` and the
//! like, the tensors get the names that transformers gives them, and nothing behind this room knows the difference.
//!
//! llama.cpp: `gguf-py/gguf/constants.py` (keys, tensor names), `src/llama-vocab.cpp` (token types, pre-tokenizers).

pub mod export;

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::model::{qwen2, qwen2_5_vl};
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
        tensors.extend(vision.iter().flat_map(unswapped));
        let tensors: Vec<TensorInfo> =
            tensors.into_iter().map(|t| TensorInfo { name: canonical(&t.name), ..t }).collect();
        let checkpoint = Checkpoint::new(tensors)?;
        let text = config(&gguf, &checkpoint)?;
        let mut small = BTreeMap::new();
        let config = match &vision {
            None => text,
            Some(vision) => {
                small.insert("preprocessor_config.json", to_bytes(&preprocessor(vision)?));
                with_vision(&gguf, text, vision)?
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

    fn tensors(&self) -> Option<&Checkpoint> {
        Some(&self.checkpoint)
    }

    fn expect<'b>(&'b self, reads: &'b [Expected]) -> Pending<'b, ()> {
        self.files.expect(reads)
    }

    fn sequential(&self) -> bool {
        self.files.sequential()
    }
}

fn to_bytes(json: &Json) -> Vec<u8> {
    json.to_string().into_bytes()
}

/// The tensors of a vision tower. Early converters wrote `ffn_up` for `ffn_down` and the reverse; shapes tell.
fn unswapped(vision: &Gguf) -> Vec<TensorInfo> {
    let shape = |name: &str| vision.tensors.iter().find(|t| t.name == name).map(|t| &t.shape);
    let (gate, up) = (shape("v.blk.0.ffn_gate.weight"), shape("v.blk.0.ffn_up.weight"));
    let swapped = gate.is_some() && gate != up;
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

/// Tensors outside the layers: llama.cpp's name and transformers'.
const PLAIN: [(&str, &str); 10] = [
    ("token_embd.weight", "model.language_model.embed_tokens.weight"),
    ("output_norm.weight", "model.language_model.norm.weight"),
    ("output.weight", "lm_head.weight"),
    ("v.patch_embd.weight", "model.visual.patch_embed.proj.weight"),
    ("v.patch_embd.weight.1", "model.visual.patch_embed.proj.weight.1"),
    ("v.post_ln.weight", "model.visual.merger.ln_q.weight"),
    ("mm.0.weight", "model.visual.merger.mlp.0.weight"),
    ("mm.0.bias", "model.visual.merger.mlp.0.bias"),
    ("mm.2.weight", "model.visual.merger.mlp.2.weight"),
    ("mm.2.bias", "model.visual.merger.mlp.2.bias"),
];
/// Before a layer's number.
const TEXT_LAYER: (&str, &str) = ("blk.", "model.language_model.layers.");
/// Parts of the decoder's layers.
const TEXT_PARTS: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];
/// Before a block's number.
const VISION_LAYER: (&str, &str) = ("v.blk.", "model.visual.blocks.");
/// Parts of the vision tower's blocks.
const VISION_PARTS: [(&str, &str); 10] = [
    ("ln1", "norm1"),
    ("attn_q", "attn.q"),
    ("attn_k", "attn.k"),
    ("attn_v", "attn.v"),
    ("attn_qkv", "attn.qkv"),
    ("attn_out", "attn.proj"),
    ("ln2", "norm2"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The name that transformers gives a tensor; others keep theirs. Idempotent.
pub fn canonical(name: &str) -> String {
    renamed(name, |(gguf, ours)| (gguf, ours)).unwrap_or_else(|| name.to_owned())
}

/// The name that llama.cpp gives a tensor of this canonical name, if it has one.
pub fn gguf_name(canonical: &str) -> Option<String> {
    renamed(canonical, |(gguf, ours)| (ours, gguf))
}

/// `name` by the tables, read in the direction that `way` turns them.
fn renamed(name: &str, way: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) -> Option<String> {
    let find = |table: &[(&'static str, &'static str)], name: &str| {
        table.iter().map(|pair| way(*pair)).find(|(from, _)| *from == name).map(|(_, to)| to)
    };
    if let Some(plain) = find(&PLAIN, name) {
        return Some(plain.to_owned());
    }
    [(VISION_LAYER, &VISION_PARTS[..]), (TEXT_LAYER, &TEXT_PARTS[..])].into_iter().find_map(|(layer, parts)| {
        let (from, to) = way(layer);
        let (number, rest) = name.strip_prefix(from)?.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        Some(format!("{to}{number}.{}.{kind}", find(parts, part)?))
    })
}

/// `config.json` of the decoder.
fn config(gguf: &Gguf, checkpoint: &Checkpoint) -> Result<Json> {
    let arch = gguf.text("general.architecture")?.unwrap_or("no architecture");
    if !matches!(arch, "qwen2" | "qwen2vl") {
        let expected = "architecture qwen2 or qwen2vl".to_owned();
        return Err(Error::UnsupportedModel { found: format!("GGUF architecture {arch:?}"), expected });
    }
    let key = |name: &str| format!("{arch}.{name}");
    let number = |name: &str| gguf.number(&key(name));
    let eps = "attention.layer_norm_rms_epsilon";
    let embed = "model.language_model.embed_tokens.weight";
    let embed = checkpoint.get(embed).ok_or_else(|| Error::missing("token_embd.weight", "the GGUF file"))?;
    let heads = gguf.count(&key("attention.head_count"))?;
    let mut config = json!({
        "model_type": qwen2::MODEL_TYPE,
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
fn with_vision(gguf: &Gguf, mut text: Json, vision: &Gguf) -> Result<Json> {
    let projector = vision.text("clip.projector_type")?.or(vision.text("clip.vision.projector_type")?);
    if projector != Some("qwen2.5vl_merger") {
        let found = format!("vision projector {:?}", projector.unwrap_or("none"));
        return Err(Error::UnsupportedModel { found, expected: "projector qwen2.5vl_merger".to_owned() });
    }
    let count = |name: &str| vision.count(&format!("clip.vision.{name}"));
    let optional = |name: &str, default: u64| {
        if vision.metadata.contains_key(&format!("clip.vision.{name}")) { count(name) } else { Ok(default) }
    };
    let (depth, pattern) = (count("block_count")?, count("n_wa_pattern")?);
    // Every block of the pattern but its last one attends in windows; 0 means that none does.
    let full: Vec<u64> = (0..depth.min(1 << 16)).filter(|n| pattern == 0 || (n + 1) % pattern == 0).collect();
    let tokens = gguf.texts("tokenizer.ggml.tokens")?;
    let id = |text: &str| {
        let id = tokens.iter().position(|token| token == text);
        id.ok_or_else(|| Error::missing(format!("token {text}"), "the GGUF file's vocabulary"))
    };
    let mut config = json!({
        "model_type": qwen2_5_vl::config::MODEL_TYPE,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "image_token_id": id("<|image_pad|>")?,
        "video_token_id": id("<|video_pad|>")?,
        "vision_start_token_id": id("<|vision_start|>")?,
        "vision_end_token_id": id("<|vision_end|>")?,
        "vision_config": {
            "depth": depth,
            "hidden_size": count("embedding_length")?,
            "intermediate_size": count("feed_forward_length")?,
            "num_heads": count("attention.head_count")?,
            "patch_size": count("patch_size")?,
            "spatial_merge_size": optional("spatial_merge_size", 2)?,
            "window_size": optional("window_size", 112)?,
            "fullatt_block_indexes": full,
            "out_hidden_size": count("projection_dim")?,
            // Not in the file; the same in every released checkpoint.
            "in_channels": 3,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
        },
    });
    if let Some(sections) = gguf.ints("qwen2vl.rope.dimension_sections")? {
        let rope = if text["rope_scaling"].is_object() { "rope_scaling" } else { "rope_parameters" };
        text[rope]["mrope_section"] = json!(sections.iter().take(3).collect::<Vec<_>>());
    }
    config["text_config"] = text;
    Ok(config)
}

/// `preprocessor_config.json`; what the file leaves out has transformers' defaults.
fn preprocessor(vision: &Gguf) -> Result<Json> {
    let mut config = json!({ "patch_size": vision.count("clip.vision.patch_size")?, "temporal_patch_size": 2 });
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
    fn names() {
        for (gguf, ours) in [
            ("token_embd.weight", "model.language_model.embed_tokens.weight"),
            ("output.weight", "lm_head.weight"),
            ("blk.11.attn_q.bias", "model.language_model.layers.11.self_attn.q_proj.bias"),
            ("blk.0.ffn_down.weight", "model.language_model.layers.0.mlp.down_proj.weight"),
            ("v.blk.2.attn_qkv.bias", "model.visual.blocks.2.attn.qkv.bias"),
            ("v.blk.2.ln1.weight", "model.visual.blocks.2.norm1.weight"),
            ("v.blk.2.attn_norm.weight", "v.blk.2.attn_norm.weight"),
            ("mm.2.bias", "model.visual.merger.mlp.2.bias"),
            ("blk.0.other.weight", "blk.0.other.weight"),
            ("blk.0", "blk.0"),
            ("", ""),
        ] {
            assert_eq!(canonical(gguf), ours);
            assert_eq!(canonical(ours), ours);
            let back = gguf_name(ours);
            assert_eq!(back.as_deref(), (gguf != ours).then_some(gguf));
        }
    }

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
