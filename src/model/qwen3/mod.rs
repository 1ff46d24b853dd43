//! The dense text models Qwen3 (arXiv 2505.09388): Qwen3-VL's decoder alone, with plain rotary positions.
//!
//! transformers: `configuration_qwen3.py`.

use crate::model::family::{Family, GgufFamily, TextFamily};
use crate::model::qwen3_vl;

/// This family.
pub static FAMILY: Family = Family {
    model_type: "qwen3",
    text: TextFamily {
        mrope_section: None,
        rope_theta: 1e4,
        max_position_embeddings: 32_768,
        max_window_layers: 28,
        ..qwen3_vl::TEXT
    },
    vision: None,
    gguf: GgufFamily { architecture: "qwen3", text: "qwen3", projector: None, ..qwen3_vl::FAMILY.gguf },
};
