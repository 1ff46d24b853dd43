//! The weights room against the `safetensors` crate, against naive twins, and on the tiny checkpoints of
//! `tests/golden/models`.
//!
//! - `headers`: safetensors headers; `index`: checkpoints in several files; `sources`: where bytes come from
//! - `plan`: which bytes go where, and that they arrive there
//! - `checkpoints`: all of it on whole checkpoints

mod checkpoints;
mod headers;
mod index;
mod plan;
mod sources;
mod support;
