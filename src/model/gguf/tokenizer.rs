//! `tokenizer.json` and `tokenizer_config.json` from the metadata of a GGUF file.

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::weights::gguf::Gguf;

/// The pre-tokenizer of Qwen2 (`tokenization_qwen2.py`; `LLAMA_VOCAB_PRE_TYPE_QWEN2`).
pub(super) const QWEN2_SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Kinds of token (`llama_token_type`).
pub(super) const CONTROL: i64 = 3;
pub(super) const USER_DEFINED: i64 = 4;
pub(super) const UNUSED: i64 = 5;

/// `tokenizer.json`.
pub(super) fn tokenizer(gguf: &Gguf) -> Result<Json> {
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
            // Unused rows only fill up the embedding matrix: no text stands for them.
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
pub(super) fn tokenizer_config(gguf: &Gguf) -> Result<Json> {
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
