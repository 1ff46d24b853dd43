//! `model_type` → family. A new family is one folder and one line here.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::cache::KvCache;
use crate::model::decoder::DecoderConfig;
use crate::model::{Model, qwen2, qwen2_5_vl};
use crate::weights::plan::{Limits, Plan};
use crate::weights::quantize::Formats;
use crate::weights::source::Source;

/// The `model_type`s that can be loaded.
pub const FAMILIES: [&str; 2] = [qwen2_5_vl::config::MODEL_TYPE, qwen2::MODEL_TYPE];

/// Largest config.json that is read.
const MAX_CONFIG: u64 = 4 << 20;

/// Reads `config.json` and says which family it is.
///
/// # Errors
/// [`Error::Missing`], [`Error::Malformed`], or [`Error::UnsupportedModel`] for another `model_type`.
pub async fn read_config(source: &dyn Source) -> Result<(&'static str, Vec<u8>)> {
    let bytes = source.read_all("config.json", MAX_CONFIG).await?;
    let json: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::malformed("config.json", "a JSON object", e.to_string()))?;
    let found = json.get("model_type").and_then(serde_json::Value::as_str).unwrap_or("no model_type");
    match FAMILIES.iter().find(|family| **family == found) {
        Some(family) => Ok((family, bytes)),
        None => {
            Err(Error::UnsupportedModel { found: format!("model_type {found:?}"), expected: FAMILIES.join(" or ") })
        }
    }
}

/// Loads the checkpoint in `source` onto the device, floats in the given formats.
///
/// # Errors
/// Any error of the source, of the checkpoint's files, or of the device.
pub async fn load(
    gpu: &Gpu,
    source: &dyn Source,
    formats: &Formats,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Model> {
    let (family, config) = read_config(source).await?;
    match family {
        qwen2_5_vl::config::MODEL_TYPE => qwen2_5_vl::load(gpu, source, &config, formats, progress).await,
        qwen2::MODEL_TYPE => qwen2::load(gpu, source, &config, formats, progress).await,
        other => Err(Error::UnsupportedModel { found: other.into(), expected: FAMILIES.join(" or ") }),
    }
}

/// What [`load`] would do, known without a device.
#[derive(Debug, Clone)]
pub struct Description {
    /// The `model_type`.
    pub family: &'static str,
    /// Which bytes go to which buffer.
    pub plan: Plan,
    /// Parameters in the checkpoint's tensors that the model uses.
    pub parameters: u64,
    /// The decoder.
    pub decoder: DecoderConfig,
    /// Longest context that the checkpoint is made for.
    pub max_positions: usize,
    /// Blocks and width of the vision tower, if there is one.
    pub vision: Option<(usize, usize)>,
}

impl Description {
    /// Bytes of KV cache for a context of `tokens`.
    pub fn cache_bytes(&self, tokens: usize) -> u64 {
        KvCache::bytes(self.decoder.layers, self.decoder.heads, tokens)
    }

    /// Most patches of one picture whose widest intermediate `[patches, vision width]` in f32 fits one binding.
    pub fn max_patches(&self, max_binding: u64) -> Option<u64> {
        self.vision.map(|(_, width)| max_binding / (4 * width as u64).max(1))
    }
}

/// Reads configuration and tensor tables and plans under the given limits, without touching a device.
///
/// # Errors
/// As [`load`], less the device's.
pub async fn describe(source: &dyn Source, limits: Limits, formats: &Formats) -> Result<Description> {
    let (family, config) = read_config(source).await?;
    match family {
        qwen2_5_vl::config::MODEL_TYPE => {
            let (config, plan) = qwen2_5_vl::plan(source, &config, limits, formats).await?;
            Ok(Description {
                family,
                parameters: plan.parameters(),
                decoder: qwen2_5_vl::decoder_config(&config.text),
                max_positions: config.text.max_position_embeddings,
                vision: Some((config.vision.depth, config.vision.hidden_size)),
                plan,
            })
        }
        qwen2::MODEL_TYPE => {
            let (text, _, plan) = qwen2::plan(source, &config, limits, formats).await?;
            Ok(Description {
                family,
                parameters: plan.parameters(),
                decoder: qwen2_5_vl::decoder_config(&text),
                max_positions: text.max_position_embeddings,
                vision: None,
                plan,
            })
        }
        other => Err(Error::UnsupportedModel { found: other.into(), expected: FAMILIES.join(" or ") }),
    }
}
