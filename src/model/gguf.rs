//! A GGUF file as a checkpoint folder in Hugging Face layout: the metadata become `config.json`, `tokenizer.json` and the
//! like, the tensors get the names that transformers gives them, and nothing behind this room knows the difference.
//!
//! llama.cpp: `gguf-py/gguf/constants.py` (keys, tensor names), `src/llama-vocab.cpp` (token types, pre-tokenizers).

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::model::qwen2;
use crate::weights::gguf::{Gguf, Value};
use crate::weights::index::Checkpoint;
use crate::weights::safetensors::TensorInfo;
use crate::weights::source::{Pending, Source};

/// Most files that one model may be split into.
const MAX_SPLITS: u64 = 1024;

/// A model in one GGUF file (or the parts it is split into), seen as a checkpoint folder.
pub struct GgufModel<'a> {
    files: &'a dyn Source,
    small: BTreeMap<&'static str, Vec<u8>>,
    checkpoint: Checkpoint,
}

impl<'a> GgufModel<'a> {
    /// Reads the headers of `file` in `files`, and of the other parts if it is the first of several.
    ///
    /// # Errors
    /// Any error of the source; [`Error::Malformed`] for headers that are none or lack what a model needs;
    /// [`Error::UnsupportedModel`] for another architecture or kind of tokenizer.
    pub async fn open(files: &'a dyn Source, file: &str) -> Result<Self> {
        let gguf = Gguf::read(files, file).await?;
        let mut tensors = gguf.tensors.clone();
        for part in parts(&gguf, file)? {
            tensors.extend(Gguf::read(files, &part).await?.tensors);
        }
        let tensors: Vec<TensorInfo> =
            tensors.into_iter().map(|t| TensorInfo { name: canonical(&t.name), ..t }).collect();
        let checkpoint = Checkpoint::new(tensors)?;
        let small = BTreeMap::from([
            ("config.json", to_bytes(&config(&gguf, &checkpoint)?)),
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
}

fn to_bytes(json: &Json) -> Vec<u8> {
    json.to_string().into_bytes()
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

/// The name that transformers gives a tensor; others keep theirs. Idempotent.
pub fn canonical(name: &str) -> String {
    let plain = match name {
        "token_embd.weight" => Some("model.language_model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.language_model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(plain) = plain {
        return plain.to_owned();
    }
    let block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let Some((number, (part, kind))) = block.and_then(|(n, rest)| Some((n, rest.rsplit_once('.')?))) else {
        return name.to_owned();
    };
    let part = match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return name.to_owned(),
    };
    format!("model.language_model.layers.{number}.{part}.{kind}")
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
            ("blk.0.other.weight", "blk.0.other.weight"),
            ("blk.0", "blk.0"),
            ("", ""),
        ] {
            assert_eq!(canonical(gguf), ours);
            assert_eq!(canonical(ours), ours);
        }
    }

    #[test]
    fn parts_of_a_split_file() {
        let gguf = |count| Gguf {
            metadata: BTreeMap::from([("split.count".to_owned(), Value::Int(count))]),
            tensors: Vec::new(),
        };
        let names = parts(&gguf(3), "m-00001-of-00003.gguf").unwrap();
        assert_eq!(names, ["m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]);
        assert!(parts(&gguf(1), "m.gguf").unwrap().is_empty());
        assert!(parts(&gguf(3), "m-00002-of-00003.gguf").is_err());
        assert!(parts(&gguf(-1), "m.gguf").is_err());
        assert!(parts(&gguf(99_999), "m-00001-of-99999.gguf").is_err());
    }
}
