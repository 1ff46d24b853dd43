//! A GGUF file as a checkpoint folder in Hugging Face layout: the metadata become `config.json`, `tokenizer.json` and the
//! like, the tensors get the names that transformers gives them, so that no other room needs code for GGUF files.
//!
//! llama.cpp: `gguf-py/gguf/constants.py` (keys), `src/llama-vocab.cpp` (token types, pre-tokenizers).
//!
//! - `mmproj`: what the header of a vision tower's file says; the families read it, so it stands below them
//! - `names`: llama.cpp's names of tensors and transformers'
//! - `parts`: the files that one model is split into
//! - `config`, `tokenizer`: the JSON files of the folder, from the metadata
//! - `model`: the file as that folder
//! - `export`: the way back, from a checkpoint to GGUF files

mod config;
pub mod export;
pub mod mmproj;
mod model;
pub mod names;
mod parts;
mod tokenizer;

pub use model::GgufModel;
