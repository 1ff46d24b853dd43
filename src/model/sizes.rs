//! What the graphs are built from: sizes and flags of a decoder and of a vision tower, as [`config`](super::config) reads them,
//! and how large each size may be.

use crate::model::positions::{Rope, VideoTime, Yarn};
use crate::ops::Activation;

// Bounds far above any released model. Products of two stay below 2^48, byte counts below 2^52.
/// Widest residual stream.
pub const MAX_HIDDEN: usize = 1 << 16;
/// Widest MLP.
pub const MAX_INTERMEDIATE: usize = 1 << 20;
/// Most layers or blocks.
pub const MAX_LAYERS: usize = 1 << 10;
pub(super) const MAX_HEADS: usize = 1 << 10;
/// Widest head that the attention kernels take.
pub(super) const MAX_HEAD: usize = 256;
pub(super) const MAX_VOCAB: usize = 1 << 24;
pub(super) const MAX_PATCH: usize = 1 << 8;

/// The decoder's sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding and of the logits, rows for no token included.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Elements of a head, even.
    pub head_dim: usize,
    /// Epsilon of the RMSNorms.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// How many frequencies follow time, height, width; sums to `head_dim` / 2.
    pub mrope_section: [usize; 3],
    /// Whether they take turns ([`Rope::interleaved`]).
    pub interleaved: bool,
    /// Context extension, if the file asks for it.
    pub yarn: Option<Yarn>,
    /// Longest sequence that the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Ids that end a reply, for a checkpoint without `generation_config.json`.
    pub eos_token_ids: Vec<u32>,
}

impl TextConfig {
    /// The rotary embedding of this decoder.
    pub fn rope(&self) -> Rope {
        Rope {
            head_dim: self.head_dim,
            theta: self.rope_theta,
            mrope_section: self.mrope_section,
            interleaved: self.interleaved,
            yarn: self.yarn,
        }
    }
}

/// The vision tower's sizes and flags.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// `hidden_size` / `num_heads`, a multiple of 4.
    pub head_dim: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames in a patch.
    pub temporal_patch_size: usize,
    /// Patches along one side of a merged token.
    pub spatial_merge_size: usize,
    /// Colour channels.
    pub in_channels: usize,
    /// Width after the merger: the decoder's `hidden_size`.
    pub out_hidden_size: usize,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// LayerNorm with a bias, instead of RMSNorm.
    pub layer_norm: bool,
    /// What is between the two layers of the MLP.
    pub mlp: Mlp,
    /// Attention windows; without them every block attends to its whole frame.
    pub windows: Option<Windows>,
    /// Whether the patch embedding has a bias.
    pub patch_bias: bool,
    /// Side of the table of learned positions, which is stretched over each picture.
    pub position_side: Option<usize>,
    /// Blocks behind which a merger of its own (in this order) makes what is added to the decoder's first layers.
    pub deepstack: Vec<usize>,
    /// Where a video's frames stand in time.
    pub time: VideoTime,
}

/// The middle of a tower's MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// `silu(gate) * up`, with two first layers.
    SwiGlu,
    /// An activation, with one first layer.
    Plain(Activation),
}

/// Which blocks of a tower attend in windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// Side of a window in pixels.
    pub size: usize,
    /// Blocks that attend to their whole frame all the same; sorted, each below `depth`.
    pub full: Vec<usize>,
}

impl VisionConfig {
    /// Values of one patch, in the order channel, frame, row, column: 1176 for the released Qwen2.5-VL.
    pub fn patch_len(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Patches in one merged token.
    pub fn merge_unit(&self) -> usize {
        self.spatial_merge_size * self.spatial_merge_size
    }

    /// Rows of the first layer of the MLP, filled up to a multiple of 4: for SwiGLU of gate and up each.
    pub fn mlp_rows(&self) -> usize {
        match self.mlp {
            Mlp::SwiGlu => 2 * self.intermediate_size.next_multiple_of(4),
            Mlp::Plain(_) => self.intermediate_size.next_multiple_of(4),
        }
    }
}
