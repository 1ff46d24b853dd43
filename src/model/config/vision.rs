//! The fields that every vision tower has.

use serde_json::Map;

use crate::error::Result;
use crate::model::positions::VideoTime;
use crate::model::section::{Section, bad, unsupported};
use crate::model::sizes::{MAX_HEAD, MAX_HEADS, MAX_LAYERS, Mlp, VisionConfig};
use crate::ops::Activation;

/// A family's class defaults of the fields that every tower has, the width and what follows from it already read.
pub struct Tower {
    /// Default `depth`.
    pub depth: usize,
    /// Default `num_heads`.
    pub num_heads: usize,
    /// Default `patch_size`.
    pub patch_size: usize,
    /// The width of the residual stream.
    pub hidden_size: usize,
    /// The width of the MLP.
    pub intermediate_size: usize,
    /// The width after the merger.
    pub out_hidden_size: usize,
}

impl VisionConfig {
    /// The fields that every tower has; all flags say Qwen2-VL's plainest.
    ///
    /// # Errors
    /// [`crate::Error::Malformed`] naming the field.
    pub fn read(c: &Section<'_>, tower: &Tower) -> Result<Self> {
        let depth = c.count("depth", tower.depth, MAX_LAYERS)?;
        let hidden_size = tower.hidden_size;
        let num_heads = c.count("num_heads", tower.num_heads, MAX_HEADS)?;
        c.divides("num_heads", num_heads, "the tower's width", hidden_size)?;
        let head_dim = hidden_size / num_heads;
        if !head_dim.is_multiple_of(4) {
            return Err(bad(c.at("the tower's width / num_heads"), "a multiple of 4", head_dim));
        }
        if head_dim > MAX_HEAD {
            return Err(unsupported(format!("heads of {head_dim} in the vision tower"), format!("at most {MAX_HEAD}")));
        }
        // The hub's files say in_chans, which transformers 5.23 ignores; its class says in_channels.
        let in_channels = match c.get("in_channels") {
            Some(_) => c.count("in_channels", 3, 16)?,
            None => c.count("in_chans", 3, 16)?,
        };
        let empty = Map::new();
        let rope = c.section("rope_parameters")?.unwrap_or(Section { path: c.at("rope_parameters."), map: &empty });
        Ok(VisionConfig {
            depth,
            hidden_size,
            intermediate_size: tower.intermediate_size,
            num_heads,
            head_dim,
            patch_size: c.side("patch_size", tower.patch_size)?,
            temporal_patch_size: c.side("temporal_patch_size", 2)?,
            spatial_merge_size: c.count("spatial_merge_size", 2, 16)?,
            in_channels,
            out_hidden_size: tower.out_hidden_size,
            rope_theta: rope.number("rope_theta", 10_000.0, 1e-6, 1e12)?,
            layer_norm: true,
            mlp: Mlp::Plain(Activation::QuickGelu),
            windows: None,
            patch_bias: false,
            position_side: None,
            deepstack: Vec::new(),
            time: VideoTime::Frames,
        })
    }
}
