//! Qwen2-VL (arXiv 2409.12191): a plain vision transformer (LayerNorm, QuickGELU) that attends to whole frames.
//!
//! transformers: `configuration_qwen2_vl.py`, `Qwen2VisionTransformerPretrainedModel` in `modeling_qwen2_vl.py`.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::model::config::Tower;
use crate::model::family::{Family, GgufFamily, TextFamily, TowerNames, VisionFamily};
use crate::model::gguf::mmproj::Mmproj;
use crate::model::section::Section;
use crate::model::sizes::{MAX_HIDDEN, VisionConfig};

/// This family.
pub static FAMILY: Family = Family {
    model_type: "qwen2_vl",
    text: TEXT,
    vision: Some(VisionFamily {
        read: vision,
        names: TowerNames { mlp_in: &["mlp.fc1"], mlp_out: "mlp.fc2", merger: ["ln_q", "mlp.0", "mlp.2"] },
    }),
    gguf: GgufFamily {
        architecture: "qwen2vl",
        text: "qwen2",
        projector: Some("qwen2vl_merger"),
        fused_qkv: false,
        vision_config: from_mmproj,
        pixels: None,
    },
};

/// The decoder: Qwen2's with M-RoPE.
pub const TEXT: TextFamily = TextFamily {
    qkv_bias: true,
    qk_norm: false,
    interleaved: false,
    mrope_section: Some([16, 24, 24]),
    head_dim: None,
    vocab_size: 152_064,
    hidden_size: 8192,
    intermediate_size: 29_568,
    num_hidden_layers: 80,
    num_attention_heads: 64,
    num_key_value_heads: 8,
    rms_norm_eps: 1e-5,
    rope_theta: 1e6,
    max_position_embeddings: 32_768,
    max_window_layers: 80,
};

fn vision(c: &Section<'_>) -> Result<VisionConfig> {
    c.activation("quick_gelu")?;
    // The tower is `embed_dim` wide; `hidden_size` is the decoder's width here.
    let hidden_size = c.count("embed_dim", 1280, MAX_HIDDEN)?;
    let tower = Tower {
        depth: 32,
        num_heads: 16,
        patch_size: 14,
        hidden_size,
        intermediate_size: hidden_size * c.count("mlp_ratio", 4, 16)?,
        out_hidden_size: c.count("hidden_size", 3584, MAX_HIDDEN)?,
    };
    VisionConfig::read(c, &tower)
}

fn from_mmproj(file: &Mmproj<'_>) -> Result<Value> {
    let (width, mlp) = (file.count("embedding_length")?, file.intermediate()?);
    if width == 0 || mlp % width != 0 {
        let expected = format!("an MLP of a multiple of {width} in width, as mlp_ratio says it");
        return Err(Error::malformed("the mmproj file", expected, mlp.to_string()));
    }
    let mut config = file.common()?;
    config["embed_dim"] = json!(width);
    config["mlp_ratio"] = json!(mlp / width);
    config["hidden_size"] = json!(file.count("projection_dim")?);
    Ok(config)
}
