//! An estimate: what a model takes in one configuration, and whether that fits.

use serde_json::{Value, json};

use crate::dtype::{CacheFormat, Layout};
use crate::error::{Error, Result};
use crate::weights::quantize::Formats;

/// Bytes of intermediate results at the most (the pool's peak).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivationBytes {
    /// While the tower encodes a picture of max_pixels; 0 for a text model.
    pub vision: u64,
    /// While a prompt is computed and answered, with the embeddings of one such picture. Each further picture takes
    /// `tokens × hidden × 4` bytes, and with DeepStack as many again for each of its layers.
    pub prefill: u64,
}

/// A buffer and what the device allows for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargestBuffer {
    /// What it holds.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The smaller of `maxStorageBufferBindingSize` and `maxBufferSize`.
    pub limit: u64,
}

/// What a model takes in one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// The `model_type`.
    pub model_type: &'static str,
    /// Parameters of the model.
    pub parameters: u64,
    /// Bytes that are read from the files.
    pub download_bytes: u64,
    /// Weights on the device by part: `vision` (absent for a text model), `text`, `embeddings` (with the `lm_head`).
    pub weight_bytes: Vec<(&'static str, u64)>,
    /// Keys and values of the whole context, in segments of whatever sizes.
    pub kv_bytes: u64,
    /// Intermediate results.
    pub activation_bytes: ActivationBytes,
    /// Data on its way: while loading the writes that wait; later parameter blocks, uploads and readback.
    pub staging_bytes: u64,
    /// Weights, cache, the larger of the two activations, and staging.
    pub total_bytes: u64,
    /// The largest buffer of all.
    pub largest_buffer: LargestBuffer,
    /// Whether no buffer is above the device's limits, and the total not above the memory, if that is known.
    pub fits: bool,
    /// Why, in words; where it does not fit, with what to lower.
    pub reason: String,
    /// Tokens of the longest conversation.
    pub context_length: usize,
    /// Pixels of the largest picture; `None` for a text model.
    pub max_pixels: Option<u64>,
    /// The memory that the total was compared with.
    pub memory: Option<u64>,
    /// Formats of the weights.
    pub formats: Formats,
    /// Format of keys and values.
    pub cache: CacheFormat,
    /// What `auto` changed and why, one sentence each.
    pub decisions: Vec<String>,
}

impl Estimate {
    /// Refuses what does not fit.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with [`Estimate::reason`] as its hint, or [`Error::DeviceTooSmall`] if it is a single buffer.
    pub fn check(&self) -> Result<()> {
        let LargestBuffer { name, bytes, limit } = &self.largest_buffer;
        if self.fits {
            Ok(())
        } else if bytes > limit {
            let what = name.clone();
            Err(Error::DeviceTooSmall { limit: "buffer size".into(), needed: *bytes, available: *limit, what })
        } else {
            let what = format!("{} with a context of {}", self.model_type, self.context_length);
            Err(Error::OutOfMemory { what, bytes: self.total_bytes, held: 0, advice: self.reason.clone() })
        }
    }

    /// As one object with the names that JavaScript uses.
    pub fn to_json(&self) -> Value {
        let weights: serde_json::Map<String, Value> =
            self.weight_bytes.iter().map(|(part, bytes)| ((*part).to_owned(), json!(bytes))).collect();
        let largest = &self.largest_buffer;
        let format = |layout: Option<Layout>| layout.map_or("keep", Layout::name);
        json!({
            "modelType": self.model_type,
            "parameters": self.parameters,
            "downloadBytes": self.download_bytes,
            "weightBytes": weights,
            "kvBytes": self.kv_bytes,
            "activationBytes": {"vision": self.activation_bytes.vision, "prefill": self.activation_bytes.prefill},
            "stagingBytes": self.staging_bytes,
            "totalBytes": self.total_bytes,
            "largestBuffer": {"name": largest.name, "bytes": largest.bytes, "limit": largest.limit},
            "fits": self.fits,
            "reason": self.reason,
            "contextLength": self.context_length,
            "maxPixels": self.max_pixels,
            "memoryBytes": self.memory,
            "weights": {
                "vision": format(self.formats.vision),
                "text": format(self.formats.text),
                "embeddings": format(self.formats.embeddings),
            },
            "kvCache": self.cache.name(),
            "decisions": self.decisions,
        })
    }
}
