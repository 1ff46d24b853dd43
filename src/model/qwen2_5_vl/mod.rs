//! Qwen2.5-VL (arXiv 2502.13923): configuration, tensor names, vision tower.

pub mod config;
pub mod names;
pub mod vision;

use std::rc::Rc;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Tensor};
use crate::model::decoder::{Decoder, DecoderConfig};
use crate::model::positions::Grid;
use crate::model::registry::{Pending, Tables};
use crate::model::{MediaTokens, Model, VisionTower};
use crate::ops::rope::Heads;
use crate::weights::index::Checkpoint;
use crate::weights::quantize::Formats;
use crate::weights::source::Source;

impl VisionTower for vision::Vision {
    fn encode(&self, gpu: &Gpu, pixel_values: &[f32], grid: Grid) -> Result<Tensor> {
        vision::Vision::encode(self, gpu, pixel_values, grid)
    }

    fn prepare(&self, gpu: &Gpu) -> Result<Tensor> {
        vision::Vision::prepare(self, gpu)
    }
}

/// Reads the configuration and the tensor tables.
///
/// # Errors
/// Any error of the source or of the checkpoint's files.
pub async fn tables(source: &dyn Source, config: &[u8]) -> Result<(config::Config, Tables)> {
    let quantization = config::quantization(config)?;
    let config = config::Config::parse(config)?;
    check_sizes(&config.text)?;
    let mut checkpoint = Checkpoint::open(source).await?.renamed(names::canonical)?;
    checkpoint.quantization = quantization;
    let (matrices, vectors) = names::specs(&config, &|name| checkpoint.get(name).is_some());
    let frames = matrices.iter().filter(|m| m.name.starts_with("vision.patch_embed")).count();
    let tables = Tables {
        family: config::MODEL_TYPE,
        checkpoint,
        matrices,
        vectors,
        decoder: decoder_config(&config.text),
        max_positions: config.text.max_position_embeddings,
        vision: Some(Rc::new(vision::Sizes { config: config.vision.clone(), frames })),
    };
    Ok((config, tables))
}

/// The kernels read four values at a time.
///
/// # Errors
/// [`Error::UnsupportedModel`] for a width that is no multiple of that.
pub fn check_sizes(text: &config::TextConfig) -> Result<()> {
    for (what, size) in [("hidden_size", text.hidden_size), ("head_dim", text.head_dim)] {
        if !size.is_multiple_of(4) || (what == "head_dim" && size > 256) {
            return Err(Error::UnsupportedModel {
                found: format!("{what} {size}"),
                expected: format!("a {what} that is a multiple of 4 (a head_dim of at most 256)"),
            });
        }
    }
    Ok(())
}

/// What the shared decoder needs of this family's configuration.
pub fn decoder_config(text: &config::TextConfig) -> DecoderConfig {
    DecoderConfig {
        layers: text.num_hidden_layers,
        hidden: text.hidden_size,
        heads: Heads { q: text.num_attention_heads, kv: text.num_key_value_heads, dim: text.head_dim },
        eps: text.rms_norm_eps as f32,
        vocab: text.vocab_size,
        gate_up: 2 * text.intermediate_size.next_multiple_of(4),
    }
}

/// The model of a checkpoint whose `config.json` is `config`, before its weights are there.
///
/// # Errors
/// Any error of the source, of the checkpoint's files, or of the device.
pub async fn build(gpu: &Gpu, source: &dyn Source, config: &[u8], formats: &Formats) -> Result<(Model, Pending)> {
    let (config, tables) = tables(source, config).await?;
    let mut pending = tables.allocate(gpu, formats).await?;
    let Pending { tables, plan, loaded } = &mut pending;
    let text = &config.text;
    let weight_bytes = plan.device_bytes().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    let model = Model {
        family: config::MODEL_TYPE,
        decoder: Decoder::new(tables.decoder.clone(), config.tie_word_embeddings, loaded)?,
        vision: Some(Box::new(vision::Vision::new(config.vision.clone(), loaded)?)),
        rope: text.rope(),
        media: MediaTokens {
            image: config.image_token_id,
            video: config.video_token_id,
            merge: config.vision.spatial_merge_size as u32,
            tokens_per_second: config.vision.tokens_per_second as f32,
        },
        max_positions: text.max_position_embeddings,
        eos_token_ids: text.eos_token_ids.clone(),
        parameters: plan.parameters(),
        weight_bytes,
    };
    Ok((model, pending))
}
