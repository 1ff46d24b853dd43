//! The metadata of the new files but for the tokenizer's: what the file is, the decoder's sizes, the tower's.

use std::collections::BTreeMap;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::image::PreprocessorConfig;
use crate::model::config::Config;
use crate::model::family::Family;
use crate::model::sizes::{Mlp, VisionConfig};
use crate::model::vision::EPS;
use crate::ops::Activation;
use crate::weights::gguf_write::Entry;
use crate::weights::transfer::Transfer;

/// How blocks are laid out (`GGML_QNT_VERSION`).
pub(super) const QUANTIZATION_VERSION: u32 = 2;
/// What the converter writes for the side of an image, which nothing of this family depends on.
const NOMINAL_IMAGE_SIZE: usize = 560;

pub(super) fn entry(key: &str, value: Entry) -> (String, Entry) {
    (key.to_owned(), value)
}

/// What kind of file it is: `general.…`.
pub(super) fn general(arch: &str, kind: &str, name: &str, tensors: &[Transfer]) -> Vec<(String, Entry)> {
    vec![
        entry("general.architecture", Entry::Text(arch.to_owned())),
        entry("general.type", Entry::Text(kind.to_owned())),
        entry("general.name", Entry::Text(name.to_owned())),
        entry("general.file_type", Entry::Count(file_type(tensors))),
        entry("general.quantization_version", Entry::Count(QUANTIZATION_VERSION)),
    ]
}

/// The type of most of the matrices' elements (`enum llama_ftype`).
pub(super) fn file_type(tensors: &[Transfer]) -> u32 {
    let mut elements: BTreeMap<Dtype, u64> = BTreeMap::new();
    for tensor in tensors.iter().filter(|t| t.head.shape.len() > 1) {
        let count = elements.entry(tensor.head.dtype).or_default();
        *count = count.saturating_add(tensor.head.shape.iter().product());
    }
    match elements.into_iter().max_by_key(|(_, count)| *count).map_or(Dtype::F32, |(dtype, _)| dtype) {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Q4_0 => 2,
        Dtype::Q4_1 => 3,
        Dtype::Q8_0 => 7,
        Dtype::Q5_0 => 8,
        Dtype::Q5_1 => 9,
        Dtype::Q2K => 10,
        Dtype::Q3K => 12,
        Dtype::Q4K => 15,
        Dtype::Q5K => 17,
        Dtype::Q6K => 18,
        Dtype::Iq4Nl => 25,
        Dtype::Iq4Xs => 30,
        Dtype::BF16 => 32,
    }
}

/// A number as the format stores it; `what` names it in the error.
pub(super) fn count(what: &str, n: impl TryInto<u32> + Copy + std::fmt::Display) -> Result<Entry> {
    let number = n.try_into().map(Entry::Count);
    number.map_err(|_| Error::invalid(what, "a number below 2^32", n.to_string()))
}

/// The decoder's sizes.
pub(super) fn text_entries(config: &Config) -> Result<Vec<(String, Entry)>> {
    let Config { family, text, vision, .. } = config;
    let arch = family.gguf.architecture;
    let mut entries = Vec::new();
    let mut add = |key: &str, value: Entry| entries.push((format!("{arch}.{key}"), value));
    for (key, n) in [
        ("block_count", text.num_hidden_layers),
        ("context_length", text.max_position_embeddings),
        ("embedding_length", text.hidden_size),
        ("feed_forward_length", text.intermediate_size),
        ("attention.head_count", text.num_attention_heads),
        ("attention.head_count_kv", text.num_key_value_heads),
    ] {
        add(key, count(key, n)?);
    }
    add("rope.freq_base", Entry::Number(text.rope_theta as f32));
    add("attention.layer_norm_rms_epsilon", Entry::Number(text.rms_norm_eps as f32));
    if family.text.head_dim.is_some() {
        for key in ["attention.key_length", "attention.value_length"] {
            add(key, count(key, text.head_dim)?);
        }
    }
    if let Some((tower, _)) = vision.as_ref().filter(|(tower, _)| !tower.deepstack.is_empty()) {
        add("n_deepstack_layers", count("n_deepstack_layers", tower.deepstack.len())?);
    }
    if family.text.mrope_section.is_some() {
        // Time, height, width and one that this family does not use.
        let sections = text.mrope_section.iter().map(|n| *n as i32).chain([0]);
        add("rope.dimension_sections", Entry::Ints(sections.collect()));
    }
    if let Some(yarn) = &text.yarn {
        add("rope.scaling.type", Entry::Text("yarn".to_owned()));
        add("rope.scaling.factor", Entry::Number(yarn.factor as f32));
        let original = "rope.scaling.original_context_length";
        add(original, count(original, yarn.original_max_position_embeddings)?);
        for (key, value, usual) in [
            ("rope.scaling.yarn_beta_fast", yarn.beta_fast, 32.0),
            ("rope.scaling.yarn_beta_slow", yarn.beta_slow, 1.0),
        ] {
            if value != usual {
                add(key, Entry::Number(value as f32));
            }
        }
        // No attn_factor: llama.cpp multiplies it with the usual attention factor. Another one than that is refused when
        // the header is read back.
    }
    Ok(entries)
}

/// The vision tower's sizes and how pictures reach it.
pub(super) fn vision_entries(
    family: &Family,
    tower: &VisionConfig,
    pictures: &PreprocessorConfig,
) -> Result<Vec<(String, Entry)>> {
    let projector = family.gguf.projector.unwrap_or_default();
    let mut entries = vec![
        entry("clip.has_vision_encoder", Entry::Flag(true)),
        entry("clip.projector_type", Entry::Text(projector.to_owned())),
        // Where neither is set, readers take QuickGELU.
        entry("clip.use_silu", Entry::Flag(tower.mlp == Mlp::SwiGlu)),
        entry("clip.use_gelu", Entry::Flag(tower.mlp == Mlp::Plain(Activation::GeluTanh))),
    ];
    let mut add = |key: &str, value: Entry| entries.push((format!("clip.vision.{key}"), value));
    if let Some(windows) = &tower.windows {
        // Every block of the pattern but its last one attends in windows.
        let pattern = windows.full.first().unwrap_or(&tower.depth) + 1;
        if !(0..tower.depth).filter(|n| (n + 1) % pattern == 0).eq(windows.full.iter().copied()) {
            return Err(Error::UnsupportedModel {
                found: format!("fullatt_block_indexes {:?}", windows.full),
                expected: format!("every {pattern}th of {} blocks, as GGUF has it", tower.depth),
            });
        }
        add("n_wa_pattern", count("n_wa_pattern", pattern)?);
        add("window_size", count("window_size", windows.size)?);
    }
    if tower.position_side.is_some() {
        let flags = (0..tower.depth).map(|block| tower.deepstack.contains(&block)).collect();
        add("is_deepstack_layers", Entry::Flags(flags));
    }
    // A tower with learned positions has one for each patch of a picture of this size.
    let image_size = tower.position_side.map_or(NOMINAL_IMAGE_SIZE, |side| side * tower.patch_size);
    for (key, n) in [
        ("projection_dim", tower.out_hidden_size),
        ("image_size", image_size),
        ("patch_size", tower.patch_size),
        ("embedding_length", tower.hidden_size),
        ("feed_forward_length", tower.intermediate_size),
        ("block_count", tower.depth),
        ("attention.head_count", tower.num_heads),
        ("spatial_merge_size", tower.spatial_merge_size),
    ] {
        add(key, count(key, n)?);
    }
    let sides = (pictures.patch_size, pictures.temporal_patch_size, pictures.merge_size);
    if sides != (tower.patch_size, tower.temporal_patch_size, tower.spatial_merge_size) {
        return Err(Error::UnsupportedModel {
            found: format!("patches, frames and merged patches of pictures {sides:?}"),
            expected: "those of the vision tower, which GGUF has alone".to_owned(),
        });
    }
    add("image_min_pixels", count("min_pixels", pictures.min_pixels)?);
    add("image_max_pixels", count("max_pixels", pictures.max_pixels)?);
    add("image_mean", Entry::Numbers(pictures.image_mean.to_vec()));
    add("image_std", Entry::Numbers(pictures.image_std.to_vec()));
    add("attention.layer_norm_epsilon", Entry::Number(EPS));
    Ok(entries)
}
