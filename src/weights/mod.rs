//! From a checkpoint's files to a plan of device buffers, without knowing what a device is.
//!
//! [`source`] reads byte ranges, [`safetensors`] reads headers, [`index`] joins shards into one table of tensors,
//! [`plan`] decides which bytes go to which buffer and streams them there; [`transfer`] streams them into a new file
//! instead. Nothing here names wgpu.

pub mod gguf;
pub mod gguf_write;
pub mod index;
pub mod output;
pub mod packed;
pub mod plan;
pub mod prepared;
pub mod quantize;
pub mod repack;
pub mod safetensors;
pub mod source;
pub mod transfer;

pub use index::Checkpoint;
pub use plan::{Limits, MatrixSpec, Piece, Plan, Sink, VectorSpec};
pub use safetensors::TensorInfo;
pub use source::{Directory, Memory, Source};

/// A text from a file, cut to what fits in an error message.
pub(crate) fn brief(text: &str) -> String {
    const MAX: usize = 160;
    match text.char_indices().nth(MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
