//! From a checkpoint's files to bytes for device buffers, without knowing what a device is: nothing here names wgpu.
//!
//! - `source`: byte ranges of named files, from a directory, from memory, or from wherever else
//! - `safetensors`, `gguf`: the headers of these two file formats
//! - `index`: the table of all tensors of a checkpoint, which may lie in several files
//! - `folder`: a source together with what is already known of its weights; what loads a checkpoint takes one
//! - `specs`: the matrices and vectors that a model wants, and the tensors that they are made of
//! - `stored`: where the checkpoint has one of these tensors
//! - `plan`: which bytes go to which buffer under a device's limits
//! - `steps`: in which order these bytes are read
//! - `stream`: reads them, a few MiB at a time, and hands them to a sink
//! - `repack`: a file's blocks of codes → the planes that a kernel reads
//! - `quantize`: floats → q8 or q4 while they are loaded
//! - `packed`: AWQ and GPTQ, which store columns; they become rows
//! - `prepared`: the buffers' contents as one file, from which the next load starts
//! - `transfer`: tensors on their way into a new GGUF file
//! - `gguf_write`: the header of that file
//! - `output`: a file that appears whole or not at all

pub mod folder;
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
pub mod specs;
pub mod steps;
pub mod stored;
pub mod stream;
pub mod transfer;

pub use folder::Folder;
pub use index::Checkpoint;
pub use plan::{Limits, Plan};
pub use safetensors::TensorInfo;
pub use source::{Directory, Memory, Source};
pub use specs::{MatrixSpec, Piece, VectorSpec};
pub use stream::Sink;
