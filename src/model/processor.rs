//! How a checkpoint wants its pictures, in whichever file it says so.

use crate::error::Result;
use crate::image::PreprocessorConfig;
use crate::weights::source::Source;

/// The files that may say how pictures are resized and normalised, the one that counts first.
pub const FILES: [&str; 2] = ["processor_config.json", "preprocessor_config.json"];

/// How a checkpoint resizes and normalises pictures; `None` if no file says so. transformers 5 saves it as a part of
/// `processor_config.json`, which counts if both files have it (`image_processing_base.py`).
///
/// # Errors
/// Any error of the source; as [`PreprocessorConfig::from_json`].
pub async fn read(source: &dyn Source) -> Result<Option<PreprocessorConfig>> {
    const MOST: u64 = 4 << 20;
    let [whole, part] = FILES;
    if let Some(bytes) = source.read_optional(whole, MOST).await?
        && let Some(config) = PreprocessorConfig::from_processor(&bytes)?
    {
        return Ok(Some(config));
    }
    source.read_optional(part, MOST).await?.map(|bytes| PreprocessorConfig::from_json(&bytes)).transpose()
}
