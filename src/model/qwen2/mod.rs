//! Qwen2 and Qwen2.5 without eyes (arXiv 2407.10671): the family's decoder alone, with plain rotary positions.
//!
//! A prompt without media has the same position on all three axes, where M-RoPE turns exactly as `Qwen2RotaryEmbedding`
//! does, so nothing of the decoder differs.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::decoder::Decoder;
use crate::model::qwen2_5_vl::config::{self, TextConfig};
use crate::model::qwen2_5_vl::{check_sizes, decoder_config, names};
use crate::model::registry::{Pending, Tables};
use crate::model::{MediaTokens, Model};
use crate::weights::index::Checkpoint;
use crate::weights::quantize::Formats;
use crate::weights::source::Source;

/// The `model_type` of this family.
pub const MODEL_TYPE: &str = "qwen2";

/// Reads `config.json`: the decoder, and whether its embedding also serves as `lm_head`.
///
/// Absent fields have the class defaults of `configuration_qwen2.py` in transformers 5.23.
///
/// # Errors
/// [`Error::Malformed`] naming the field; [`Error::UnsupportedModel`] as for Qwen2.5-VL's decoder.
pub fn parse_config(bytes: &[u8]) -> Result<(TextConfig, bool)> {
    let mut json: Value =
        serde_json::from_slice(bytes).map_err(|e| Error::malformed(config::FILE, "a JSON object", e.to_string()))?;
    let Some(map) = json.as_object_mut() else {
        return Err(Error::malformed(config::FILE, "a JSON object", "other JSON"));
    };
    for (name, default) in [
        ("vocab_size", json!(151_936)),
        ("hidden_size", json!(4096)),
        ("intermediate_size", json!(22_016)),
        ("num_hidden_layers", json!(32)),
        ("num_attention_heads", json!(32)),
        ("num_key_value_heads", json!(32)),
        ("rms_norm_eps", json!(1e-6)),
        ("rope_theta", json!(10_000.0)),
        ("max_window_layers", json!(28)),
    ] {
        map.entry(name).or_insert(default);
    }
    // All frequencies turn with the one position there is.
    let count = |name: &str| map.get(name).and_then(Value::as_u64);
    if let (Some(hidden), Some(heads @ 1..)) = (count("hidden_size"), count("num_attention_heads")) {
        let name =
            if map.get("rope_scaling").is_some_and(Value::is_object) { "rope_scaling" } else { "rope_parameters" };
        let rope = map.entry(name).or_insert_with(|| json!({}));
        if let Some(rope) = rope.as_object_mut() {
            rope.insert("mrope_section".into(), json!([hidden / heads / 2, 0, 0]));
        }
    }
    config::parse_text(&json)
}

/// Reads the configuration and the tensor tables; also whether the embedding serves as `lm_head`.
///
/// # Errors
/// Any error of the source or of the checkpoint's files.
pub async fn tables(source: &dyn Source, config: &[u8]) -> Result<(TextConfig, bool, Tables)> {
    let (text, tied) = parse_config(config)?;
    check_sizes(&text)?;
    let mut checkpoint = Checkpoint::open(source).await?.renamed(names::canonical)?;
    checkpoint.quantization = config::quantization(config)?;
    let (matrices, vectors) = names::text_specs(&text, tied);
    let tables = Tables {
        family: MODEL_TYPE,
        checkpoint,
        matrices,
        vectors,
        decoder: decoder_config(&text),
        max_positions: text.max_position_embeddings,
        vision: None,
    };
    Ok((text, tied, tables))
}

/// The model of a checkpoint whose `config.json` is `config`, before its weights are there.
///
/// # Errors
/// Any error of the source, of the checkpoint's files, or of the device.
pub async fn build(gpu: &Gpu, source: &dyn Source, config: &[u8], formats: &Formats) -> Result<(Model, Pending)> {
    let (text, tied, tables) = tables(source, config).await?;
    let mut pending = tables.allocate(gpu, formats).await?;
    let Pending { tables, plan, loaded } = &mut pending;
    let model = Model {
        family: MODEL_TYPE,
        decoder: Decoder::new(tables.decoder.clone(), tied, loaded)?,
        vision: None,
        rope: text.rope(),
        media: MediaTokens::NONE,
        max_positions: text.max_position_embeddings,
        eos_token_ids: text.eos_token_ids,
        parameters: plan.parameters(),
        weight_bytes: plan.device_bytes().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect(),
    };
    Ok((model, pending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_file_of_the_half_billion() {
        let hub = r#"{"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
            "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
            "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2",
            "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true, "use_sliding_window": false,
            "vocab_size": 151936}"#;
        let (text, tied) = parse_config(hub.as_bytes()).unwrap();
        assert!(tied);
        assert_eq!((text.head_dim, text.mrope_section, text.rope_theta), (64, [32, 0, 0], 1e6));
        assert_eq!((text.num_hidden_layers, text.vocab_size, text.eos_token_ids), (24, 151_936, vec![151_645]));
    }

    #[test]
    fn defaults_and_nonsense() {
        let (text, tied) = parse_config(b"{}").unwrap();
        assert_eq!((text.hidden_size, text.head_dim, text.rope_theta, tied), (4096, 128, 1e4, false));
        for bad in ["", "[]", r#"{"num_attention_heads": 0}"#, r#"{"hidden_size": "x"}"#, r#"{"rope_parameters": 1}"#] {
            assert_eq!(parse_config(bad.as_bytes()).unwrap_err().code(), "bad_model", "{bad}");
        }
    }
}
