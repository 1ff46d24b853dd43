//! `config.json` of every family, in both layouts: the hub's flat one (decoder fields at the top level) and the nested one
//! that transformers ≥ 4.52 saves (`text_config`, `rope_parameters`).
//!
//! A field that is absent has the default of the family's class in transformers 5.23, which [`Family`](super::family::Family)
//! holds and which differs from every released checkpoint: so a file means here what it means there. Everything is checked and
//! bounded, so that no product of sizes overflows later.
//!
//! - `whole`: the file, its decoder and its tower
//! - `text`: the decoder's fields
//! - `rope`: its rotary embedding
//! - `vision`: the fields that every tower has; a family reads the others
//! - `quantization`: how packed layers are stored
//! - `tasks`: what the checkpoint was trained to be asked

mod quantization;
mod rope;
mod tasks;
mod text;
mod vision;
mod whole;

#[cfg(test)]
pub(crate) mod tests;

pub use quantization::quantization;
pub use tasks::task_prompts;
pub use vision::Tower;
pub use whole::{Config, VisionIds};
