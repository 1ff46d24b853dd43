//! A checkpoint as GGUF files: a text file, and an mmproj file for the vision tower.
//!
//! From a folder the metadata are those that llama.cpp's converter writes (`conversion/base.py` and `conversion/qwenvl.py`,
//! keys in `gguf-py/gguf/constants.py`), the names are those of [`super`]. From GGUF files metadata and tensors are copied,
//! except for floats that become blocks. What GGUF cannot say of a configuration is refused: the new header is read back
//! and has to give the same one.
//!
//! - `whole`: all new files of one model, and the check
//! - `outgoing`: one new file
//! - `metadata`, `tokenizer`: what its header says
//! - `tensors`: under which names, and how they are cut

mod metadata;
mod outgoing;
mod tensors;
mod tokenizer;
mod whole;

pub use outgoing::Outgoing;
pub use whole::Export;
