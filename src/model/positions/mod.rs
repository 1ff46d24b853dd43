//! Positions, as integers and tables computed on the CPU before anything is recorded for the GPU.
//!
//! - M-RoPE (Qwen2-VL paper, arXiv 2409.12191, §2.1): three position ids per token, for time, height and width.
//! - Rotary tables of the decoder and of the vision tower.
//! - The window order of Qwen2.5-VL's vision tower (arXiv 2502.13923, §2.1.1).
//!
//! Sources in transformers 5.23: `get_rope_index` and the two `RotaryEmbedding` classes of `modeling_qwen2_5_vl.py`,
//! `vision_utils.py`, `_compute_yarn_parameters` of `modeling_rope_utils.py`.
//!
//! A *patch* is a row of the vision tower's input. A *merged token* is `merge`² patches and one token of the decoder.
//! Patches are in block-merged order: for each frame, for each merged token (row by row), its patches row by row.
//!
//! - `grid`: how large an image or a video is, in patches and in merged tokens
//! - `segments`: a prompt as runs of text, images and videos
//! - `ids`: the position ids of its tokens
//! - `rope`: rotary tables
//! - `learned`: learned positions, stretched over a picture
//! - `windows`: frames and windows, and the order of rows in which each is a run

mod grid;
mod ids;
mod learned;
mod rope;
mod segments;
mod windows;

pub use grid::{Grid, VideoGrid};
pub use ids::{MAX_POSITION, mrope_positions, rope_delta};
pub use learned::learned_positions;
pub use rope::{Rope, Yarn, mrope_table, rope_rows, vision_rope_table};
pub use segments::{MediaTokens, Segment, VideoTime, segments_from_ids};
pub use windows::{Windows, frames, permute_rows, window_index};
