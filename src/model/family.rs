//! What a family is: all that stands between its files and the shared graphs, as data.
//!
//! Each family's folder has one [`Family`]. Its two functions, which read what no two towers have alike, are the family's own.

use std::fmt;

use serde_json::Value;

use crate::error::Result;
use crate::model::gguf::mmproj::Mmproj;
use crate::model::section::Section;
use crate::model::sizes::VisionConfig;

/// What is special about a family: all that stands between its `config.json` and the shared graphs.
pub struct Family {
    /// Its `model_type`.
    pub model_type: &'static str,
    /// Its decoder.
    pub text: TextFamily,
    /// Its vision tower; a text model has none.
    pub vision: Option<VisionFamily>,
    /// What llama.cpp calls it.
    pub gguf: GgufFamily,
}

/// A family in GGUF files.
pub struct GgufFamily {
    /// `general.architecture` of its decoder.
    pub architecture: &'static str,
    /// The `model_type` of its decoder without the tower.
    pub text: &'static str,
    /// `clip.projector_type` of its tower.
    pub projector: Option<&'static str>,
    /// Whether its tower's q, k and v are one tensor; as three they are read too.
    pub fused_qkv: bool,
    /// `vision_config` from the tower's file.
    pub vision_config: fn(&Mmproj<'_>) -> Result<Value>,
    /// Fewest and most pixels of a picture, where they are not in the file and differ from the default.
    pub pixels: Option<[u64; 2]>,
}

/// A family's decoder: flags of its graph, then its class defaults.
pub struct TextFamily {
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether q and k are normalised head by head before they are rotated.
    pub qk_norm: bool,
    /// Whether frequencies take turns among time, height and width, instead of one section after the other.
    pub interleaved: bool,
    /// Default `mrope_section`; `None` for a decoder whose positions have one axis.
    pub mrope_section: Option<[usize; 3]>,
    /// Whether `head_dim` is a field of its own, with this default; else it is `hidden_size` / `num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Default `vocab_size`.
    pub vocab_size: usize,
    /// Default `hidden_size`.
    pub hidden_size: usize,
    /// Default `intermediate_size`.
    pub intermediate_size: usize,
    /// Default `num_hidden_layers`.
    pub num_hidden_layers: usize,
    /// Default `num_attention_heads`.
    pub num_attention_heads: usize,
    /// Default `num_key_value_heads`.
    pub num_key_value_heads: usize,
    /// Default `rms_norm_eps`.
    pub rms_norm_eps: f64,
    /// Default `rope_theta`.
    pub rope_theta: f64,
    /// Default `max_position_embeddings`.
    pub max_position_embeddings: usize,
    /// Default `max_window_layers`.
    pub max_window_layers: usize,
}

/// A family's vision tower.
pub struct VisionFamily {
    /// Reads `vision_config`.
    pub read: fn(&Section<'_>) -> Result<VisionConfig>,
    /// What the checkpoint calls its tensors.
    pub names: TowerNames,
}

/// What a family calls the tensors of its vision tower, where families differ.
#[derive(Debug)]
pub struct TowerNames {
    /// Layers of a block's MLP before its activation, stacked: for SwiGLU gate and up.
    pub mlp_in: &'static [&'static str],
    /// The layer after it.
    pub mlp_out: &'static str,
    /// Norm and layers of the merger (and of each further one).
    pub merger: [&'static str; 3],
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type)
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}
