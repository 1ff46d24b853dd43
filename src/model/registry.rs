//! `model_type` → family. A new family is one folder and one line here.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Model, qwen2_5_vl};
use crate::weights::plan::Plan;
use crate::weights::source::Source;

/// The `model_type`s that can be loaded.
pub const FAMILIES: [&str; 1] = [qwen2_5_vl::config::MODEL_TYPE];

/// Largest config.json that is read.
const MAX_CONFIG: u64 = 4 << 20;

/// Reads `config.json` and says which family it is.
///
/// # Errors
/// [`Error::Missing`], [`Error::Malformed`], or [`Error::UnsupportedModel`] for another `model_type`.
pub async fn read_config(source: &dyn Source) -> Result<(&'static str, Vec<u8>)> {
    let bytes = source.read_all("config.json", MAX_CONFIG).await?;
    let json: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::malformed("config.json", "a JSON object", e.to_string()))?;
    let found = json.get("model_type").and_then(serde_json::Value::as_str).unwrap_or("no model_type");
    match FAMILIES.iter().find(|family| **family == found) {
        Some(family) => Ok((family, bytes)),
        None => Err(Error::UnsupportedModel {
            found: format!("model_type {found:?}"),
            expected: FAMILIES.join(" or "),
        }),
    }
}

/// Loads the checkpoint in `source` onto the device.
///
/// # Errors
/// Any error of the source, of the checkpoint's files, or of the device.
pub async fn load(gpu: &Gpu, source: &dyn Source, progress: &mut dyn FnMut(u64, u64)) -> Result<Model> {
    let (family, config) = read_config(source).await?;
    match family {
        qwen2_5_vl::config::MODEL_TYPE => qwen2_5_vl::load(gpu, source, &config, progress).await,
        other => Err(Error::UnsupportedModel { found: other.into(), expected: FAMILIES.join(" or ") }),
    }
}

/// What [`load`] would put where, under the given limits, without touching a device.
///
/// # Errors
/// As [`load`], less the device's.
pub async fn plan(source: &dyn Source, limits: crate::weights::plan::Limits) -> Result<Plan> {
    let (family, config) = read_config(source).await?;
    match family {
        qwen2_5_vl::config::MODEL_TYPE => qwen2_5_vl::plan(source, &config, limits).await.map(|(_, plan)| plan),
        other => Err(Error::UnsupportedModel { found: other.into(), expected: FAMILIES.join(" or ") }),
    }
}
