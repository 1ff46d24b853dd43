//! `config.json`, `preprocessor_config.json` and `generation_config.json` from the metadata of GGUF files.

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::model::family::Family;
use crate::model::gguf::mmproj::Mmproj;
use crate::weights::gguf::{Gguf, Value};
use crate::weights::index::Checkpoint;

/// `config.json` of the decoder.
pub(super) fn config(gguf: &Gguf, family: &Family, checkpoint: &Checkpoint) -> Result<Json> {
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
pub(super) fn with_vision(
    gguf: &Gguf,
    family: &Family,
    mut text: Json,
    vision: &Gguf,
    checkpoint: &Checkpoint,
) -> Result<Json> {
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
        "vision_config": (family.gguf.vision_config)(&Mmproj::new(vision, checkpoint, tower.names.mlp_out))?,
    });
    let arch = gguf.text("general.architecture")?.unwrap_or_default();
    if let Some(sections) = gguf.ints(&format!("{arch}.rope.dimension_sections"))? {
        let rope = if text["rope_scaling"].is_object() { "rope_scaling" } else { "rope_parameters" };
        text[rope]["mrope_section"] = json!(sections.iter().take(3).collect::<Vec<_>>());
    }
    config["text_config"] = text;
    Ok(config)
}

/// `preprocessor_config.json`; what the file leaves out has transformers' defaults.
pub(super) fn preprocessor(family: &Family, vision: &Gguf) -> Result<Json> {
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

/// `generation_config.json`.
pub(super) fn generation(gguf: &Gguf) -> Result<Json> {
    // A GGUF file does not say how to sample, so the most probable token is taken.
    Ok(json!({ "do_sample": false, "eos_token_id": stop_ids(gguf)? }))
}
