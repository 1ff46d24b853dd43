//! Qwen3-VL, dense (arXiv 2511.21631): learned positions stretched over each picture, DeepStack, a decoder with normalised query
//! and key heads whose frequencies take turns among time, height and width, and times of video frames as text.
//!
//! transformers: `configuration_qwen3_vl.py`, `Qwen3VLVisionModel` and `Qwen3VLTextModel` in `modeling_qwen3_vl.py`.

use serde_json::{Value, json};

use crate::error::Result;
use crate::model::config::Tower;
use crate::model::family::{Family, GgufFamily, TextFamily, TowerNames, VisionFamily};
use crate::model::gguf::mmproj::Mmproj;
use crate::model::positions::VideoTime;
use crate::model::section::{Section, bad};
use crate::model::sizes::{MAX_HIDDEN, MAX_INTERMEDIATE, Mlp, VisionConfig};
use crate::ops::Activation;

/// Side of the largest table of learned positions.
const MAX_SIDE: usize = 1 << 10;

/// This family.
pub static FAMILY: Family = Family {
    model_type: "qwen3_vl",
    text: TEXT,
    vision: Some(VisionFamily {
        read: vision,
        names: TowerNames {
            mlp_in: &["mlp.linear_fc1"],
            mlp_out: "mlp.linear_fc2",
            merger: ["norm", "linear_fc1", "linear_fc2"],
        },
    }),
    gguf: GgufFamily {
        architecture: "qwen3vl",
        text: "qwen3",
        projector: Some("qwen3vl_merger"),
        fused_qkv: true,
        vision_config: from_mmproj,
        // The hub's preprocessor_config.json.
        pixels: Some([65_536, 16_777_216]),
    },
};

/// The decoder: Qwen3's with interleaved M-RoPE.
pub const TEXT: TextFamily = TextFamily {
    qkv_bias: false,
    qk_norm: true,
    interleaved: true,
    mrope_section: Some([24, 20, 20]),
    head_dim: Some(128),
    vocab_size: 151_936,
    hidden_size: 4096,
    intermediate_size: 22_016,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    rms_norm_eps: 1e-6,
    rope_theta: 5e5,
    max_position_embeddings: 128_000,
    max_window_layers: usize::MAX,
};

fn vision(c: &Section<'_>) -> Result<VisionConfig> {
    c.activation("gelu_pytorch_tanh")?;
    let tower = Tower {
        depth: 27,
        num_heads: 16,
        patch_size: 16,
        hidden_size: c.count("hidden_size", 1152, MAX_HIDDEN)?,
        intermediate_size: c.count("intermediate_size", 4304, MAX_INTERMEDIATE)?,
        out_hidden_size: c.count("out_hidden_size", 3584, MAX_HIDDEN)?,
    };
    let common = VisionConfig::read(c, &tower)?;
    let positions = c.count("num_position_embeddings", 2304, MAX_SIDE * MAX_SIDE)?;
    let side = positions.isqrt();
    if side * side != positions {
        return Err(bad(c.at("num_position_embeddings"), "a square number", positions));
    }
    let deepstack = c.blocks("deepstack_visual_indexes", &[8, 16, 24])?;
    if !deepstack.is_sorted_by(|a, b| a < b) || deepstack.last().is_some_and(|last| *last >= common.depth) {
        let expected = format!("blocks below {} in ascending order", common.depth);
        return Err(bad(c.at("deepstack_visual_indexes"), expected, format!("{deepstack:?}")));
    }
    Ok(VisionConfig {
        mlp: Mlp::Plain(Activation::GeluTanh),
        patch_bias: true,
        position_side: Some(side),
        deepstack,
        time: VideoTime::Text,
        ..common
    })
}

fn from_mmproj(file: &Mmproj<'_>) -> Result<Value> {
    let mut config = file.common()?;
    config["hidden_size"] = json!(file.count("embedding_length")?);
    config["intermediate_size"] = json!(file.intermediate()?);
    config["out_hidden_size"] = json!(file.count("projection_dim")?);
    config["deepstack_visual_indexes"] = json!(file.deepstack()?);
    let positions = file.shape("model.visual.pos_embed.weight").and_then(|shape| shape.first());
    config["num_position_embeddings"] = json!(positions);
    Ok(config)
}
