//! The text models Qwen2 and Qwen2.5 (arXiv 2407.10671): Qwen2-VL's decoder alone, with plain rotary positions.
//!
//! A prompt without media has the same position on all three axes, where M-RoPE turns exactly as `Qwen2RotaryEmbedding`
//! does, so nothing of the decoder differs.
//!
//! transformers: `configuration_qwen2.py`.

use crate::model::family::{Family, GgufFamily, TextFamily};
use crate::model::qwen2_vl;

/// This family.
pub static FAMILY: Family = Family {
    model_type: "qwen2",
    text: TextFamily {
        mrope_section: None,
        vocab_size: 151_936,
        hidden_size: 4096,
        intermediate_size: 22_016,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        num_key_value_heads: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        max_window_layers: 28,
        ..qwen2_vl::TEXT
    },
    vision: None,
    gguf: GgufFamily { architecture: "qwen2", text: "qwen2", projector: None, ..qwen2_vl::FAMILY.gguf },
};
