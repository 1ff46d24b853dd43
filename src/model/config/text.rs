//! The decoder's fields.

use serde_json::Value;

use super::rope::read_rope;
use crate::error::Result;
use crate::model::family::TextFamily;
use crate::model::positions::MAX_POSITION;
use crate::model::section::{Section, bad, unsupported};
use crate::model::sizes::{MAX_HEADS, MAX_HIDDEN, MAX_INTERMEDIATE, MAX_LAYERS, MAX_VOCAB, TextConfig};

impl TextConfig {
    /// The decoder of a file of `family`, from the object that has its fields.
    pub(super) fn read(c: &Section<'_>, family: &TextFamily) -> Result<Self> {
        let hidden_size = c.count("hidden_size", family.hidden_size, MAX_HIDDEN)?;
        let num_attention_heads = c.count("num_attention_heads", family.num_attention_heads, MAX_HEADS)?;
        // Absent means the class default, but an explicit null means one per query head.
        let num_key_value_heads = match c.map.get("num_key_value_heads") {
            Some(Value::Null) => num_attention_heads,
            _ => c.count("num_key_value_heads", family.num_key_value_heads, MAX_HEADS)?,
        };
        c.divides("num_key_value_heads", num_key_value_heads, "num_attention_heads", num_attention_heads)?;
        let derived = hidden_size / num_attention_heads;
        let head_dim = c.count("head_dim", family.head_dim.unwrap_or(derived), MAX_HIDDEN)?;
        if family.head_dim.is_none() {
            c.divides("num_attention_heads", num_attention_heads, "hidden_size", hidden_size)?;
            if head_dim != derived {
                let expected = format!("hidden_size / num_attention_heads = {derived}");
                return Err(bad(c.at("head_dim"), expected, head_dim));
            }
        }
        if !head_dim.is_multiple_of(2) {
            return Err(bad(c.at("head_dim"), "an even number", head_dim));
        }
        c.activation("silu")?;
        if !family.qkv_bias && c.flag("attention_bias", false)? {
            return Err(unsupported("attention_bias true", "attention without biases"));
        }
        let num_hidden_layers = c.count("num_hidden_layers", family.num_hidden_layers, MAX_LAYERS)?;
        let sliding = c.flag("use_sliding_window", false)?
            && !c.map.get("sliding_window").is_some_and(Value::is_null)
            && c.natural("max_window_layers", family.max_window_layers, MAX_LAYERS)? < num_hidden_layers;
        let other_layers = c.get("layer_types").and_then(Value::as_array);
        if sliding || other_layers.is_some_and(|list| list.iter().any(|kind| kind != "full_attention")) {
            return Err(unsupported("sliding-window attention", "full attention in every layer"));
        }
        let max_position_embeddings =
            c.count("max_position_embeddings", family.max_position_embeddings, MAX_POSITION as usize)?;
        let (rope_theta, mrope_section, yarn) = read_rope(c, family, head_dim, max_position_embeddings)?;
        let eos_token_ids = eos(c)?.unwrap_or_else(|| vec![151_645]);
        Ok(TextConfig {
            vocab_size: c.count("vocab_size", family.vocab_size, MAX_VOCAB)?,
            hidden_size,
            intermediate_size: c.count("intermediate_size", family.intermediate_size, MAX_INTERMEDIATE)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: c.number("rms_norm_eps", family.rms_norm_eps, 0.0, 1.0)?,
            rope_theta,
            mrope_section,
            interleaved: family.interleaved,
            yarn,
            max_position_embeddings,
            eos_token_ids,
        })
    }
}

/// The ids that end an answer, as a section names them.
pub(super) fn eos(c: &Section<'_>) -> Result<Option<Vec<u32>>> {
    const NAME: &str = "eos_token_id";
    Ok(match c.get(NAME) {
        None => None,
        Some(Value::Array(list)) => Some(list.iter().map(|v| c.as_id(NAME, v)).collect::<Result<_>>()?),
        Some(one) => Some(vec![c.as_id(NAME, one)?]),
    })
}
