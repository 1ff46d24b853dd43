//! The whole file: the decoder, the tower, and what has to fit between them.

use serde_json::{Map, Value};

use super::text::eos;
use crate::error::Result;
use crate::model::family::Family;
use crate::model::section::{Section, bad, json, unsupported};
use crate::model::sizes::{MAX_HEAD, TextConfig, VisionConfig};

/// The whole model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which family it is of.
    pub family: &'static Family,
    /// The decoder.
    pub text: TextConfig,
    /// The vision tower and the ids that stand for what it sees, unless it is a text model.
    pub vision: Option<(VisionConfig, VisionIds)>,
    /// Whether the embedding also serves as `lm_head`.
    pub tie_word_embeddings: bool,
}

/// The token ids that stand for what the tower sees. The tokens before and behind them come from the chat template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisionIds {
    /// Stands for one merged token of an image: `image_token_id`.
    pub image: u32,
    /// Stands for one merged token of a video: `video_token_id`.
    pub video: u32,
}

impl Config {
    /// Reads and checks the bytes of a file of `family`.
    ///
    /// # Errors
    /// [`crate::Error::Malformed`] naming the field; [`crate::Error::UnsupportedModel`] for another `model_type`, sliding-window
    /// attention, an activation other than the family's, or a rotary scaling other than YaRN.
    pub fn parse(family: &'static Family, bytes: &[u8]) -> Result<Self> {
        Self::read(family, &json(bytes)?)
    }

    /// Checks a file that [`json`] has parsed.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn read(family: &'static Family, json: &Value) -> Result<Self> {
        let root = Section::new("", json)?;
        let model_type = root.text("model_type", "nothing")?;
        if model_type != family.model_type {
            return Err(unsupported(format!("model_type {model_type}"), family.model_type));
        }
        // As in transformers: with a text_config, decoder fields at the top level mean nothing.
        let nested = family.vision.as_ref().map_or(Ok(None), |_| root.section("text_config"))?;
        let tie = root.flag("tie_word_embeddings", false)?
            || nested.as_ref().map_or(Ok(false), |t| t.flag("tie_word_embeddings", false))?;
        let mut text = TextConfig::read(nested.as_ref().unwrap_or(&root), &family.text)?;
        // `GenerationConfig.from_model_config` of transformers: the top level first.
        if let Some(ids) = eos(&root)? {
            text.eos_token_ids = ids;
        }
        let vision = match &family.vision {
            None => None,
            Some(tower) => {
                let empty = Map::new();
                let section = root.section("vision_config")?;
                let section = section.unwrap_or(Section { path: "vision_config.".into(), map: &empty });
                Some(((tower.read)(&section)?, VisionIds::read(&root, text.vocab_size)?))
            }
        };
        let config = Config { family, text, vision, tie_word_embeddings: tie };
        config.check()?;
        Ok(config)
    }

    /// What the kernels and the decoder need of sizes that are each possible.
    fn check(&self) -> Result<()> {
        let text = &self.text;
        if let Some((vision, _)) = &self.vision {
            if vision.out_hidden_size != text.hidden_size {
                let expected = format!("the decoder's hidden_size {}", text.hidden_size);
                return Err(bad(
                    "vision_config.out_hidden_size (Qwen2-VL: hidden_size)",
                    expected,
                    vision.out_hidden_size,
                ));
            }
            if vision.deepstack.len() > text.num_hidden_layers {
                let expected = format!("at most one for each of the decoder's {} layers", text.num_hidden_layers);
                let found = format!("{} blocks", vision.deepstack.len());
                return Err(bad("vision_config.deepstack_visual_indexes", expected, found));
            }
        }
        // They read four values at a time.
        for (what, size) in [("hidden_size", text.hidden_size), ("head_dim", text.head_dim)] {
            if !size.is_multiple_of(4) || (what == "head_dim" && size > MAX_HEAD) {
                let expected = format!("a {what} that is a multiple of 4 (a head_dim of at most {MAX_HEAD})");
                return Err(unsupported(format!("{what} {size}"), expected));
            }
        }
        Ok(())
    }
}

impl VisionIds {
    fn read(root: &Section<'_>, vocab_size: usize) -> Result<Self> {
        let id = |name: &str, default| {
            let id = root.id(name, default)?;
            if (id as usize) < vocab_size {
                return Ok(id);
            }
            Err(bad(name, format!("an id below vocab_size {vocab_size}"), id))
        };
        Ok(VisionIds { image: id("image_token_id", 151_655)?, video: id("video_token_id", 151_656)? })
    }
}
