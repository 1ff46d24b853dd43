//! Qwen2.5-VL (arXiv 2502.13923): a vision tower like Qwen2's decoder (RMSNorm, SwiGLU), most of it in windows, and videos in
//! absolute time.
//!
//! transformers: `configuration_qwen2_5_vl.py`, `Qwen2_5_VisionTransformerPretrainedModel` in `modeling_qwen2_5_vl.py`.

use serde_json::{Value, json};

use crate::error::Result;
use crate::model::config::Tower;
use crate::model::family::{Family, GgufFamily, TextFamily, TowerNames, VisionFamily};
use crate::model::gguf::mmproj::Mmproj;
use crate::model::positions::VideoTime;
use crate::model::qwen2_vl;
use crate::model::section::{Section, bad};
use crate::model::sizes::{MAX_HIDDEN, MAX_INTERMEDIATE, Mlp, VisionConfig, Windows};

const MAX_WINDOW: usize = 1 << 16;

/// This family.
pub static FAMILY: Family = Family {
    model_type: "qwen2_5_vl",
    text: TextFamily { ..qwen2_vl::TEXT },
    vision: Some(VisionFamily {
        read: vision,
        names: TowerNames {
            mlp_in: &["mlp.gate_proj", "mlp.up_proj"],
            mlp_out: "mlp.down_proj",
            merger: ["ln_q", "mlp.0", "mlp.2"],
        },
    }),
    gguf: GgufFamily { projector: Some("qwen2.5vl_merger"), vision_config: from_mmproj, ..qwen2_vl::FAMILY.gguf },
};

fn vision(c: &Section<'_>) -> Result<VisionConfig> {
    c.activation("silu")?;
    let tower = Tower {
        depth: 32,
        num_heads: 16,
        patch_size: 14,
        hidden_size: c.count("hidden_size", 3584, MAX_HIDDEN)?,
        intermediate_size: c.count("intermediate_size", 3420, MAX_INTERMEDIATE)?,
        out_hidden_size: c.count("out_hidden_size", 3584, MAX_HIDDEN)?,
    };
    let common = VisionConfig::read(c, &tower)?;
    let size = c.count("window_size", 112, MAX_WINDOW)?;
    let token = common.patch_size * common.spatial_merge_size;
    if size < token {
        return Err(bad(c.at("window_size"), format!("at least patch_size × spatial_merge_size = {token}"), size));
    }
    // transformers asks "is this block in the list", so numbers beyond the last block mean nothing.
    let mut full = c.blocks("fullatt_block_indexes", &[7, 15, 23, 31])?;
    full.retain(|&i| i < common.depth);
    full.sort_unstable();
    full.dedup();
    Ok(VisionConfig {
        layer_norm: false,
        mlp: Mlp::SwiGlu,
        windows: Some(Windows { size, full }),
        time: VideoTime::Seconds(c.natural("tokens_per_second", 4, 10_000)?),
        ..common
    })
}

fn from_mmproj(file: &Mmproj<'_>) -> Result<Value> {
    let (depth, pattern) = (file.count("block_count")?, file.count("n_wa_pattern")?);
    // Every block of the pattern but its last one attends in windows; 0 means that none does.
    let full: Vec<u64> = (0..depth.min(1 << 16)).filter(|n| pattern == 0 || (n + 1) % pattern == 0).collect();
    let mut config = file.common()?;
    config["hidden_size"] = json!(file.count("embedding_length")?);
    config["intermediate_size"] = json!(file.count("feed_forward_length")?);
    config["out_hidden_size"] = json!(file.count("projection_dim")?);
    config["window_size"] = json!(file.optional("window_size", 112)?);
    config["fullatt_block_indexes"] = json!(full);
    // Not in the file; the same in every released checkpoint.
    config["tokens_per_second"] = json!(2);
    Ok(config)
}
