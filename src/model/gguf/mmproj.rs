//! What the header of a GGUF file of a vision tower says, field by field. A family makes its `vision_config` of it.

use serde_json::{Value as Json, json};

use crate::error::{Error, Result};
use crate::model::sizes::MAX_LAYERS;
use crate::weights::gguf::Gguf;
use crate::weights::index::Checkpoint;

/// What a family reads its `vision_config` from.
pub struct Mmproj<'a> {
    gguf: &'a Gguf,
    checkpoint: &'a Checkpoint,
    mlp_out: &'a str,
}

impl<'a> Mmproj<'a> {
    /// The header `gguf`. `checkpoint` has the tensors of decoder and tower by their canonical names; `mlp_out` is what the
    /// family calls the last layer of a block's MLP.
    pub fn new(gguf: &'a Gguf, checkpoint: &'a Checkpoint, mlp_out: &'a str) -> Self {
        Mmproj { gguf, checkpoint, mlp_out }
    }

    /// A number `clip.vision.NAME`.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Malformed`].
    pub fn count(&self, name: &str) -> Result<u64> {
        self.gguf.count(&format!("clip.vision.{name}"))
    }

    /// A number `clip.vision.NAME`, or `default` where the file leaves it out.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn optional(&self, name: &str, default: u64) -> Result<u64> {
        if self.gguf.metadata.contains_key(&format!("clip.vision.{name}")) { self.count(name) } else { Ok(default) }
    }

    /// Blocks with DeepStack mergers.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn deepstack(&self) -> Result<Vec<usize>> {
        deepstack(self.gguf)
    }

    /// Width of the MLP: that of the tensor behind it, since early converters wrote 0.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn intermediate(&self) -> Result<u64> {
        let name = format!("model.visual.blocks.0.{}.weight", self.mlp_out);
        self.shape(&name).and_then(|shape| shape.last().copied()).ok_or_else(|| Error::missing(name, "the mmproj file"))
    }

    /// The shape of a tensor of this canonical name.
    pub fn shape(&self, name: &str) -> Option<&[u64]> {
        self.checkpoint.get(name).map(|tensor| &tensor.shape[..])
    }

    /// Fields that every tower has. What is not in the file is the same in every released checkpoint.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Malformed`].
    pub fn common(&self) -> Result<Json> {
        Ok(json!({
            "depth": self.count("block_count")?,
            "num_heads": self.count("attention.head_count")?,
            "patch_size": self.count("patch_size")?,
            "spatial_merge_size": self.optional("spatial_merge_size", 2)?,
            "in_channels": 3,
            "temporal_patch_size": 2,
        }))
    }
}

/// Blocks of the tower behind which there is a merger for DeepStack.
///
/// # Errors
/// [`Error::Malformed`].
pub fn deepstack(vision: &Gguf) -> Result<Vec<usize>> {
    const KEY: &str = "clip.vision.is_deepstack_layers";
    let flags = vision.ints(KEY)?.unwrap_or_default();
    if flags.len() > MAX_LAYERS {
        let expected = format!("a flag for each of at most {MAX_LAYERS} blocks");
        return Err(Error::malformed(format!("GGUF metadata {KEY}"), expected, flags.len().to_string()));
    }
    Ok(flags.iter().enumerate().filter(|(_, flag)| **flag != 0).map(|(block, _)| block).collect())
}
