//! How the packed layers of a checkpoint are stored.

use serde_json::Value;

use crate::error::Result;
use crate::model::section::json;
use crate::weights::packed::Quantization;

/// How the packed layers of a checkpoint are stored, from the bytes of its `config.json`.
///
/// # Errors
/// As [`Quantization::parse`].
pub fn quantization(bytes: &[u8]) -> Result<Option<Quantization>> {
    let json = json(bytes)?;
    // Files that were saved again may have it beside the decoder's fields.
    match &json["quantization_config"] {
        Value::Null => Quantization::parse(&json["text_config"]["quantization_config"]),
        found => Quantization::parse(found),
    }
}
