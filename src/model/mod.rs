//! Models: what their files say, where their tokens stand, and the graphs. Names no wgpu; everything on the device goes
//! through ops.
//!
//! In reading order; a file imports only from those before it (`tests/architecture` refuses circles):
//! - `positions`: position ids, rotary tables, windows: integers and tables, computed before a pass
//! - `sizes`: what the graphs are built from, and how large each size may be
//! - `section`: the objects and fields of a `config.json`, checked
//! - `gguf::mmproj`: the fields of a GGUF file of a vision tower
//! - `family`: what a family is, as data
//! - `config`: what a `config.json` means, given a family
//! - `names`: the checkpoints' tensors → the graphs' matrices
//! - `head`: whether the embedding also serves as `lm_head`
//! - `processor`: how a checkpoint wants its pictures
//! - `load`: weights on their way to the device
//! - `tower`: what a vision tower is to the code that uses it
//! - `cache`, `decoder`, `vision`: the graphs, a page each for all families
//! - `qwen2_vl`, `qwen2_5_vl`, `qwen3_vl` and the text models `qwen2`, `qwen3`: the families, a folder each
//! - `on_device`: a model on the device
//! - `registry`: `model_type` → family → model
//! - `gguf`: a GGUF file as a checkpoint folder, and the way back

pub mod cache;
pub mod config;
pub mod decoder;
pub mod family;
pub mod gguf;
mod head;
pub mod load;
pub mod names;
mod on_device;
pub mod positions;
pub mod processor;
pub mod qwen2;
pub mod qwen2_5_vl;
pub mod qwen2_vl;
pub mod qwen3;
pub mod qwen3_vl;
pub mod registry;
pub mod section;
pub mod sizes;
mod tower;
pub mod vision;

pub use on_device::Model;
pub use tower::{Embeds, VisionSizes, VisionTower};
