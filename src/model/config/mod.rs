//! `config.json` of every family, in both layouts: the hub's flat one (decoder fields at the top level) and the nested one
//! that transformers ≥ 4.52 saves (`text_config`, `rope_parameters`).
//!
//! A [`Family`] says what its classes in transformers 5.23 have for fields that are absent (they differ from every released
//! checkpoint), so that a file means here what it means there. Everything is checked and bounded, so that no product of sizes
//! overflows later.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::gguf::Mmproj;
use crate::model::names::TowerNames;
use crate::model::positions::{MAX_POSITION, Rope, VideoTime, Yarn};
use crate::ops::Activation;
use crate::weights::packed::Quantization;

/// The file's name.
pub const FILE: &str = "config.json";

/// Longest file, in bytes (the hub's are about 1.5 KB).
pub const MAX_FILE: usize = 4 << 20;

// Bounds far above any released model. Products of two stay below 2^48, byte counts below 2^52.
/// Widest residual stream.
pub const MAX_HIDDEN: usize = 1 << 16;
/// Widest MLP.
pub const MAX_INTERMEDIATE: usize = 1 << 20;
/// Most layers or blocks.
pub const MAX_LAYERS: usize = 1 << 10;
const MAX_HEADS: usize = 1 << 10;
/// Widest head that the attention kernels take.
const MAX_HEAD: usize = 256;
const MAX_VOCAB: usize = 1 << 24;
const MAX_PATCH: usize = 1 << 8;

/// What is special about a family: all that stands between its `config.json` and the shared graphs.
pub struct Family {
    /// Its `model_type`.
    pub model_type: &'static str,
    /// Its decoder.
    pub text: TextFamily,
    /// Its vision tower; a text model has none.
    pub vision: Option<VisionFamily>,
    /// What llama.cpp calls it.
    pub gguf: GgufFamily,
}

/// A family in GGUF files.
pub struct GgufFamily {
    /// `general.architecture` of its decoder.
    pub architecture: &'static str,
    /// The `model_type` of its decoder without the tower.
    pub text: &'static str,
    /// `clip.projector_type` of its tower.
    pub projector: Option<&'static str>,
    /// Whether its tower's q, k and v are one tensor; as three they are read too.
    pub fused_qkv: bool,
    /// `vision_config` from the tower's file.
    pub vision_config: fn(&Mmproj<'_>) -> Result<Value>,
    /// Fewest and most pixels of a picture, where they are not in the file and differ from the default.
    pub pixels: Option<[u64; 2]>,
}

/// A family's decoder: flags of its graph, then its class defaults.
pub struct TextFamily {
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether q and k are normalised head by head before they are rotated.
    pub qk_norm: bool,
    /// Whether frequencies take turns among time, height and width, instead of one section after the other.
    pub interleaved: bool,
    /// Default `mrope_section`; `None` for a decoder whose positions have one axis.
    pub mrope_section: Option<[usize; 3]>,
    /// Whether `head_dim` is a field of its own, with this default; else it is `hidden_size` / `num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Default `vocab_size`.
    pub vocab_size: usize,
    /// Default `hidden_size`.
    pub hidden_size: usize,
    /// Default `intermediate_size`.
    pub intermediate_size: usize,
    /// Default `num_hidden_layers`.
    pub num_hidden_layers: usize,
    /// Default `num_attention_heads`.
    pub num_attention_heads: usize,
    /// Default `num_key_value_heads`.
    pub num_key_value_heads: usize,
    /// Default `rms_norm_eps`.
    pub rms_norm_eps: f64,
    /// Default `rope_theta`.
    pub rope_theta: f64,
    /// Default `max_position_embeddings`.
    pub max_position_embeddings: usize,
    /// Default `max_window_layers`.
    pub max_window_layers: usize,
}

/// A family's vision tower.
pub struct VisionFamily {
    /// Reads `vision_config`.
    pub read: fn(&Section<'_>) -> Result<VisionConfig>,
    /// What the checkpoint calls its tensors.
    pub names: TowerNames,
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type)
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

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

/// Ids in the place of pictures. What stands around them is the template's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisionIds {
    /// Stands for one merged token of an image: `image_token_id`.
    pub image: u32,
    /// Stands for one merged token of a video: `video_token_id`.
    pub video: u32,
}

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
    /// Whether they take turns ([`TextFamily::interleaved`]).
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

impl Config {
    /// Reads and checks the bytes of a file of `family`.
    ///
    /// # Errors
    /// [`Error::Malformed`] naming the field; [`Error::UnsupportedModel`] for another `model_type`, sliding-window
    /// attention, an activation other than the family's, or a rotary scaling other than YaRN.
    pub fn parse(family: &'static Family, bytes: &[u8]) -> Result<Self> {
        Self::read(family, &json(bytes)?)
    }

    /// The same of what [`json`] gave.
    ///
    /// # Errors
    /// As there.
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
        let text = TextConfig::read(nested.as_ref().unwrap_or(&root), &family.text)?;
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

/// The file's bytes as JSON.
///
/// # Errors
/// [`Error::Malformed`] for anything else, or for more than [`MAX_FILE`] of them.
pub fn json(bytes: &[u8]) -> Result<Value> {
    if bytes.len() > MAX_FILE {
        let found = format!("{} bytes", bytes.len());
        return Err(Error::malformed(FILE, format!("at most {MAX_FILE} bytes"), found));
    }
    serde_json::from_slice(bytes).map_err(|e| Error::malformed(FILE, "a JSON object", e.to_string()))
}

/// How the packed layers of a checkpoint are stored, from the bytes of its `config.json`.
///
/// # Errors
/// As [`Quantization::parse`].
pub fn quantization(bytes: &[u8]) -> Result<Option<Quantization>> {
    let json = json(bytes)?;
    // Files that were saved again may have it beside the decoder's fields.
    match &json["quantization_config"] {
        Value::Null => Quantization::parse(&json["text_config"]["quantization_config"]),
        found => Quantization::parse(found),
    }
}

/// What the checkpoint was trained to be asked for each task, from the bytes of its `config.json`: transformers'
/// `task_specific_params` (as T5 has it), `{"detect": {"prompt": "Locate the {what}."}}`. Empty for those that say nothing.
///
/// # Errors
/// As [`json`].
pub fn task_prompts(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let json = json(bytes)?;
    let tasks = json["task_specific_params"].as_object().into_iter().flatten();
    Ok(tasks.filter_map(|(task, params)| Some((task.clone(), params["prompt"].as_str()?.to_owned()))).collect())
}

impl TextConfig {
    fn read(c: &Section<'_>, family: &TextFamily) -> Result<Self> {
        let hidden_size = c.count("hidden_size", family.hidden_size, MAX_HIDDEN)?;
        let num_attention_heads = c.count("num_attention_heads", family.num_attention_heads, MAX_HEADS)?;
        // Absent means the class default, but an explicit null means one per query head.
        let num_key_value_heads = match c.map.get("num_key_value_heads") {
            Some(Value::Null) => num_attention_heads,
            _ => c.count("num_key_value_heads", family.num_key_value_heads, MAX_HEADS)?,
        };
        c.divides("num_key_value_heads", num_key_value_heads, "num_attention_heads", num_attention_heads)?;
        let derived = hidden_size / num_attention_heads;
        let head_dim = c.count("head_dim", family.head_dim.unwrap_or(derived), MAX_HIDDEN)?;
        if family.head_dim.is_none() {
            c.divides("num_attention_heads", num_attention_heads, "hidden_size", hidden_size)?;
            if head_dim != derived {
                let expected = format!("hidden_size / num_attention_heads = {derived}");
                return Err(bad(c.at("head_dim"), expected, head_dim));
            }
        }
        if !head_dim.is_multiple_of(2) {
            return Err(bad(c.at("head_dim"), "an even number", head_dim));
        }
        c.activation("silu")?;
        if !family.qkv_bias && c.flag("attention_bias", false)? {
            return Err(unsupported("attention_bias true", "attention without biases"));
        }
        let num_hidden_layers = c.count("num_hidden_layers", family.num_hidden_layers, MAX_LAYERS)?;
        let sliding = c.flag("use_sliding_window", false)?
            && !c.map.get("sliding_window").is_some_and(Value::is_null)
            && c.natural("max_window_layers", family.max_window_layers, MAX_LAYERS)? < num_hidden_layers;
        let other_layers = c.get("layer_types").and_then(Value::as_array);
        if sliding || other_layers.is_some_and(|list| list.iter().any(|kind| kind != "full_attention")) {
            return Err(unsupported("sliding-window attention", "full attention in every layer"));
        }
        let max_position_embeddings =
            c.count("max_position_embeddings", family.max_position_embeddings, MAX_POSITION as usize)?;
        let (rope_theta, mrope_section, yarn) = read_rope(c, family, head_dim, max_position_embeddings)?;
        let eos_token_ids = match c.get("eos_token_id") {
            None => vec![151_645],
            Some(Value::Array(list)) => list.iter().map(|v| c.as_id("eos_token_id", v)).collect::<Result<_>>()?,
            Some(one) => vec![c.as_id("eos_token_id", one)?],
        };
        Ok(TextConfig {
            vocab_size: c.count("vocab_size", family.vocab_size, MAX_VOCAB)?,
            hidden_size,
            intermediate_size: c.count("intermediate_size", family.intermediate_size, MAX_INTERMEDIATE)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: c.number("rms_norm_eps", family.rms_norm_eps, 0.0, 1.0)?,
            rope_theta,
            mrope_section,
            interleaved: family.interleaved,
            yarn,
            max_position_embeddings,
            eos_token_ids,
        })
    }
}

/// θ, sections and scaling from `rope_scaling` (old) or `rope_parameters` (new), in transformers' order of preference.
fn read_rope(
    c: &Section<'_>,
    family: &TextFamily,
    head_dim: usize,
    max_position_embeddings: usize,
) -> Result<(f64, [usize; 3], Option<Yarn>)> {
    const MAX_THETA: f64 = 1e12;
    let empty = Map::new();
    let given = match c.section("rope_scaling")?.filter(|s| !s.map.is_empty()) {
        Some(old) => Some(old),
        None => c.section("rope_parameters")?,
    };
    let r = given.unwrap_or(Section { path: c.at("rope_parameters."), map: &empty });
    let outer = c.number("rope_theta", family.rope_theta, 1e-6, MAX_THETA)?;
    let theta = r.number("rope_theta", outer, 1e-6, MAX_THETA)?;
    let half = head_dim / 2;
    let section = match (family.mrope_section, r.get("mrope_section")) {
        // All frequencies turn with the one position there is.
        (None, _) => [half, 0, 0],
        (Some(default), None) => default,
        (Some(_), Some(value)) => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            let counts: Vec<usize> = list.iter().take(4).filter_map(|v| usize::try_from(v.as_u64()?).ok()).collect();
            match counts[..] {
                [t, h, w] if list.len() == 3 && [t, h, w].iter().all(|&n| n <= MAX_HIDDEN) => [t, h, w],
                _ => return Err(bad(r.at("mrope_section"), "three counts", kind(value))),
            }
        }
    };
    if section.iter().sum::<usize>() != half {
        let expected = format!("three counts that sum to head_dim / 2 = {half}");
        return Err(bad(r.at("mrope_section"), expected, format!("{section:?}")));
    }
    if r.number("partial_rotary_factor", 1.0, 0.0, 1.0)? != 1.0 {
        return Err(unsupported("partial rotary embedding", "rotation of whole heads"));
    }
    // `rope_type` is the new name of `type`; configs saved in between have both.
    let kind = match r.get("rope_type") {
        Some(_) => r.text("rope_type", "default")?,
        None => r.text("type", "default")?,
    };
    let yarn = match kind.as_str() {
        "default" | "mrope" => None,
        "yarn" => Some(read_yarn(&r, theta, max_position_embeddings)?),
        other => return Err(unsupported(format!("rotary scaling {other}"), "default, mrope or yarn")),
    };
    Ok((theta, section, yarn))
}

/// `_compute_yarn_parameters` of transformers' `modeling_rope_utils.py`, as far as it is independent of the frequency.
fn read_yarn(r: &Section<'_>, theta: f64, max_position_embeddings: usize) -> Result<Yarn> {
    const MOST: f64 = 1e6;
    if theta <= 1.0 {
        return Err(bad(r.at("rope_theta"), "more than 1 for YaRN", theta));
    }
    let name = "original_max_position_embeddings";
    let original = r.count(name, max_position_embeddings, MAX_POSITION as usize)?;
    let factor = r.number("factor", max_position_embeddings as f64 / original as f64, 1e-3, MOST)?;
    // Python's `or`: absent and 0 both mean the default.
    let or = |value: f64, default: f64| if value == 0.0 { default } else { value };
    let (mscale, all) = (r.number("mscale", 0.0, 0.0, MOST)?, r.number("mscale_all_dim", 0.0, 0.0, MOST)?);
    let magnitude = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    let inferred = if mscale != 0.0 && all != 0.0 { magnitude(mscale) / magnitude(all) } else { magnitude(1.0) };
    Ok(Yarn {
        factor,
        original_max_position_embeddings: original,
        beta_fast: or(r.number("beta_fast", 32.0, 0.0, MOST)?, 32.0),
        beta_slow: or(r.number("beta_slow", 1.0, 0.0, MOST)?, 1.0),
        attention_factor: r.number("attention_factor", inferred, 0.0, MOST)?,
        truncate: r.flag("truncate", true)?,
    })
}

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
    /// [`Error::Malformed`] naming the field.
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

/// A field of the file that is not as it has to be.
pub fn bad(field: impl AsRef<str>, expected: impl Into<String>, found: impl ToString) -> Error {
    Error::malformed(format!("{FILE}: {}", field.as_ref()), expected, found.to_string())
}

/// Something that the file may say and no graph here computes.
pub fn unsupported(found: impl Into<String>, expected: impl Into<String>) -> Error {
    Error::UnsupportedModel { found: found.into(), expected: expected.into() }
}

/// A value in few words.
fn kind(value: &Value) -> String {
    clip(&value.to_string())
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// An object of the file and the way to it, for messages. `null` members count as absent; each reader gives [`Error::Malformed`]
/// naming the field where it holds something else.
pub struct Section<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    fn new(path: &str, value: &'a Value) -> Result<Self> {
        match value.as_object() {
            Some(map) if path.is_empty() => Ok(Section { path: String::new(), map }),
            Some(map) => Ok(Section { path: format!("{path}."), map }),
            None => Err(bad(path, "an object", kind(value))),
        }
    }

    /// The field with the way to it.
    pub fn at(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// A field that is there.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn section(&self, name: &str) -> Result<Option<Section<'a>>> {
        self.get(name).map(|value| Section::new(&self.at(name), value)).transpose()
    }

    /// A whole number from 0 to `most`.
    pub fn natural(&self, name: &str, default: usize, most: usize) -> Result<usize> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= most);
        number.ok_or_else(|| bad(self.at(name), format!("a whole number up to {most}"), kind(value)))
    }

    /// A whole number from 1 to `most`.
    pub fn count(&self, name: &str, default: usize, most: usize) -> Result<usize> {
        match self.natural(name, default, most)? {
            0 => Err(bad(self.at(name), format!("a number from 1 to {most}"), 0)),
            n => Ok(n),
        }
    }

    /// A patch side: a number, or a list that repeats one.
    fn side(&self, name: &str, default: usize) -> Result<usize> {
        if let Some(value @ Value::Array(list)) = self.get(name) {
            let side = list.first().and_then(Value::as_u64).filter(|_| list.iter().all(|v| v == &list[0]));
            return side
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| (1..=MAX_PATCH).contains(n))
                .ok_or_else(|| bad(self.at(name), "equal sides", kind(value)));
        }
        self.count(name, default, MAX_PATCH)
    }

    /// A number from `least` to `most`.
    pub fn number(&self, name: &str, default: f64, least: f64, most: f64) -> Result<f64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.as_f64().filter(|n| (least..=most).contains(n));
        number.ok_or_else(|| bad(self.at(name), format!("a number from {least} to {most}"), kind(value)))
    }

    /// True or false.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| bad(self.at(name), "true or false", kind(value)))
    }

    /// A string, cut off if it is long.
    pub fn text(&self, name: &str, default: &str) -> Result<String> {
        let Some(value) = self.get(name) else { return Ok(default.to_owned()) };
        value.as_str().map(clip).ok_or_else(|| bad(self.at(name), "a string", kind(value)))
    }

    fn id(&self, name: &str, default: u32) -> Result<u32> {
        self.get(name).map_or(Ok(default), |value| self.as_id(name, value))
    }

    fn as_id(&self, name: &str, value: &Value) -> Result<u32> {
        let id = value.as_u64().and_then(|n| u32::try_from(n).ok());
        id.ok_or_else(|| bad(self.at(name), "a token id", kind(value)))
    }

    fn divides(&self, name: &str, divisor: usize, of: &str, number: usize) -> Result<()> {
        if number.is_multiple_of(divisor) {
            return Ok(());
        }
        Err(bad(self.at(name), format!("a divisor of {of} {number}"), divisor))
    }

    /// Refuses another activation than the one that the family's graph has.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`].
    pub fn activation(&self, expected: &str) -> Result<()> {
        let act = self.text("hidden_act", expected)?;
        if act == expected { Ok(()) } else { Err(unsupported(format!("{}hidden_act {act}", self.path), expected)) }
    }

    /// A list of numbers of blocks below `depth`, in the file's order.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn blocks(&self, name: &str, default: &[usize]) -> Result<Vec<usize>> {
        let Some(value) = self.get(name) else { return Ok(default.to_vec()) };
        let list = value.as_array().filter(|list| list.len() <= MAX_LAYERS);
        let blocks = list.and_then(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>());
        let blocks = blocks.ok_or_else(|| bad(self.at(name), "a list of block numbers", kind(value)))?;
        Ok(blocks.into_iter().map(|i| usize::try_from(i).unwrap_or(usize::MAX)).collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{qwen2, qwen2_5_vl, qwen2_vl, qwen3_vl};

    /// The hub's file for 3B, without the fields that say nothing about the model.
    pub(crate) const HUB_3B: &str = r#"{"architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645, "vision_start_token_id": 151652,
        "vision_end_token_id": 151653, "vision_token_id": 151654, "image_token_id": 151655, "video_token_id": 151656,
        "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 11008, "max_position_embeddings": 128000,
        "max_window_layers": 70, "model_type": "qwen2_5_vl", "num_attention_heads": 16, "num_hidden_layers": 36,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false,
        "vision_config": {"depth": 32, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420,
            "num_heads": 16, "in_chans": 3, "out_hidden_size": 2048, "patch_size": 14, "spatial_merge_size": 2,
            "spatial_patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 2, "temporal_patch_size": 2},
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "vocab_size": 151936}"#;

    fn hub() -> Value {
        serde_json::from_str(HUB_3B).unwrap()
    }

    fn parse(json: &Value) -> Result<Config> {
        Config::parse(&qwen2_5_vl::FAMILY, json.to_string().as_bytes())
    }

    /// The hub's file with the member at `path` replaced.
    fn with(path: &str, value: Value) -> Value {
        let mut json = hub();
        let mut at = &mut json;
        for part in path.split('.') {
            at = &mut at[part];
        }
        *at = value;
        json
    }

    /// The same in the nested layout.
    fn nested() -> Value {
        let mut root = hub();
        let mut text = Map::new();
        for name in [
            "hidden_act",
            "hidden_size",
            "intermediate_size",
            "max_position_embeddings",
            "num_attention_heads",
            "num_hidden_layers",
            "num_key_value_heads",
            "rms_norm_eps",
            "vocab_size",
            "eos_token_id",
        ] {
            text.insert(name.into(), root.as_object_mut().unwrap().remove(name).unwrap());
        }
        for name in ["rope_scaling", "rope_theta"] {
            root.as_object_mut().unwrap().remove(name);
        }
        let rope = r#"{"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]}"#;
        text.insert("rope_parameters".into(), serde_json::from_str(rope).unwrap());
        text.insert("layer_types".into(), Value::from(vec!["full_attention"; 36]));
        root["text_config"] = Value::Object(text);
        root["vision_config"]["in_channels"] = 3.into();
        root["vision_config"]["rope_parameters"] = serde_json::from_str(r#"{"rope_type": "axial"}"#).unwrap();
        root
    }

    #[test]
    fn both_layouts_mean_the_same() {
        let flat = parse(&hub()).unwrap();
        assert_eq!(flat, parse(&nested()).unwrap());
        let t = &flat.text;
        assert_eq!((t.vocab_size, t.hidden_size, t.intermediate_size, t.num_hidden_layers), (151936, 2048, 11008, 36));
        assert_eq!((t.num_attention_heads, t.num_key_value_heads, t.head_dim), (16, 2, 128));
        assert_eq!((t.rms_norm_eps, t.rope_theta, t.mrope_section), (1e-6, 1e6, [16, 24, 24]));
        assert_eq!((t.max_position_embeddings, t.yarn, &t.eos_token_ids[..]), (128_000, None, &[151645][..]));
        let (v, ids) = flat.vision.as_ref().unwrap();
        assert_eq!((v.depth, v.hidden_size, v.intermediate_size, v.num_heads, v.head_dim), (32, 1280, 3420, 16, 80));
        assert_eq!((v.patch_len(), v.merge_unit(), v.out_hidden_size), (1176, 4, 2048));
        assert_eq!(v.windows, Some(Windows { size: 112, full: vec![7, 15, 23, 31] }));
        assert_eq!((v.layer_norm, v.mlp, v.time), (false, Mlp::SwiGlu, VideoTime::Seconds(2)));
        assert!(flat.tie_word_embeddings);
        assert_eq!((ids.image, ids.video), (151_655, 151_656));
    }

    #[test]
    fn task_prompts_are_those_that_are_texts() {
        let prompts =
            |params: Value| task_prompts(with("task_specific_params", params).to_string().as_bytes()).unwrap();
        let params =
            serde_json::json!({"ocr": {"prompt": "Read."}, "summarization": {"prefix": "summarize: "}, "point": 3});
        assert_eq!(prompts(params), BTreeMap::from([("ocr".to_owned(), "Read.".to_owned())]));
        assert!(prompts(Value::Null).is_empty());
        assert!(task_prompts(b"{").is_err());
    }

    #[test]
    fn a_text_config_hides_the_top_level() {
        let mut json = nested();
        json["hidden_size"] = 4096.into();
        json["tie_word_embeddings"] = Value::Null;
        json["text_config"]["tie_word_embeddings"] = true.into();
        let config = parse(&json).unwrap();
        assert_eq!(config.text.hidden_size, 2048);
        assert!(config.tie_word_embeddings, "found where transformers 4 saved it");
    }

    // The numbers are those of `Qwen2_5_VLConfig()` in transformers 5.23.
    #[test]
    fn absent_fields_are_the_classes() {
        // The classes' own defaults do not fit together (3584 ≠ 8192), so one field is needed.
        let json = r#"{"model_type": "qwen2_5_vl", "vision_config": {"out_hidden_size": 8192}}"#;
        let config = Config::parse(&qwen2_5_vl::FAMILY, json.as_bytes()).unwrap();
        let t = config.text;
        assert_eq!((t.vocab_size, t.hidden_size, t.intermediate_size), (152064, 8192, 29568));
        assert_eq!((t.num_hidden_layers, t.num_attention_heads, t.num_key_value_heads), (80, 64, 8));
        assert_eq!((t.rms_norm_eps, t.rope_theta, t.max_position_embeddings), (1e-5, 1e6, 32768));
        let (v, _) = config.vision.unwrap();
        assert_eq!((v.hidden_size, v.time, v.in_channels, v.rope_theta), (3584, VideoTime::Seconds(4), 3, 1e4));
        assert!(!config.tie_word_embeddings);
        assert!(Config::parse(&qwen2_5_vl::FAMILY, br#"{"model_type": "qwen2_5_vl"}"#).is_err());
        let heads = parse(&with("num_key_value_heads", Value::Null)).unwrap().text.num_key_value_heads;
        assert_eq!(heads, 16, "null means one per query head");
    }

    #[test]
    fn yarn_as_the_readme_writes_it() {
        let rope = r#"{"type": "yarn", "mrope_section": [16, 24, 24], "factor": 4,
            "original_max_position_embeddings": 32768}"#;
        let config = parse(&with("rope_scaling", serde_json::from_str(rope).unwrap())).unwrap();
        let yarn = config.text.yarn.unwrap();
        assert_eq!((yarn.factor, yarn.original_max_position_embeddings), (4.0, 32768));
        assert_eq!((yarn.beta_fast, yarn.beta_slow, yarn.truncate), (32.0, 1.0, true));
        assert!((yarn.attention_factor - 1.138_629_436).abs() < 1e-9);
        assert_eq!(config.text.rope().yarn, Some(yarn));
    }

    #[test]
    fn what_is_not_supported_says_so() {
        let rope = |text: &str| with("rope_scaling", serde_json::from_str(text).unwrap());
        let mut sliding = with("use_sliding_window", true.into());
        sliding["max_window_layers"] = 3.into();
        let mut layers = nested();
        layers["text_config"]["layer_types"][1] = "sliding_attention".into();
        for (json, word) in [
            (with("model_type", "qwen2_vl".into()), "qwen2_vl"),
            (with("model_type", Value::Null), "nothing"),
            (with("hidden_act", "gelu".into()), "gelu"),
            (with("vision_config.hidden_act", "quick_gelu".into()), "quick_gelu"),
            (rope(r#"{"rope_type": "longrope"}"#), "longrope"),
            (sliding, "sliding"),
            (layers, "sliding"),
        ] {
            let error = parse(&json).unwrap_err();
            assert!(matches!(error, Error::UnsupportedModel { .. }) && error.to_string().contains(word), "{error}");
        }
        parse(&with("use_sliding_window", true.into())).expect("70 layers stay full, there are 36");
    }

    #[test]
    fn every_field_is_checked() {
        for (path, value) in [
            ("hidden_size", serde_json::json!(0)),
            ("hidden_size", serde_json::json!(2047)),
            ("hidden_size", serde_json::json!(u64::MAX)),
            ("hidden_size", serde_json::json!(-1)),
            ("hidden_size", serde_json::json!(2048.0)),
            ("hidden_size", serde_json::json!("2048")),
            ("hidden_size", serde_json::json!(1 << 17)),
            ("num_key_value_heads", serde_json::json!(3)),
            ("num_attention_heads", serde_json::json!(0)),
            ("head_dim", serde_json::json!(64)),
            ("num_hidden_layers", serde_json::json!(1 << 20)),
            ("rms_norm_eps", serde_json::json!(-1e-6)),
            ("rope_theta", serde_json::json!(0)),
            ("rope_scaling.mrope_section", serde_json::json!([16, 24])),
            ("rope_scaling.mrope_section", serde_json::json!([16, 24, 23])),
            ("rope_scaling.mrope_section", serde_json::json!([16, 24, 24, 0])),
            ("rope_scaling.mrope_section", serde_json::json!([u64::MAX, 1, 64])),
            ("rope_scaling", serde_json::json!([])),
            ("tie_word_embeddings", serde_json::json!("yes")),
            ("image_token_id", serde_json::json!(151936)),
            ("vocab_size", serde_json::json!(1 << 30)),
            ("eos_token_id", serde_json::json!(["a"])),
            ("max_position_embeddings", serde_json::json!(1u64 << 40)),
            ("vision_config", serde_json::json!(3)),
            ("vision_config.num_heads", serde_json::json!(15)),
            ("vision_config.num_heads", serde_json::json!(640)),
            ("vision_config.patch_size", serde_json::json!([14, 16])),
            ("vision_config.patch_size", serde_json::json!([])),
            ("vision_config.patch_size", serde_json::json!(0)),
            ("vision_config.spatial_merge_size", serde_json::json!(0)),
            ("vision_config.window_size", serde_json::json!(27)),
            ("vision_config.fullatt_block_indexes", serde_json::json!([-1])),
            ("vision_config.fullatt_block_indexes", serde_json::json!(7)),
            ("vision_config.out_hidden_size", serde_json::json!(3584)),
            ("vision_config.in_chans", serde_json::json!(1000)),
        ] {
            let error = parse(&with(path, value.clone())).expect_err(path);
            assert!(matches!(error, Error::Malformed { .. }), "{path} {value}: {error}");
            let field = path.rsplit('.').next().unwrap();
            assert!(error.to_string().contains(field), "{path} {value}: {error}");
        }
        for text in ["", "[]", "{", "null", "\"x\""] {
            assert!(
                matches!(Config::parse(&qwen2_5_vl::FAMILY, text.as_bytes()), Err(Error::Malformed { .. })),
                "{text}"
            );
        }
        assert!(Config::parse(&qwen2_5_vl::FAMILY, &vec![b' '; MAX_FILE + 1]).is_err());
        assert!(Config::parse(&qwen2_5_vl::FAMILY, "[".repeat(10_000).as_bytes()).is_err());
    }

    #[test]
    fn lenient_where_transformers_is() {
        let config = parse(&with("vision_config.fullatt_block_indexes", serde_json::json!([31, 1, 99, 1]))).unwrap();
        assert_eq!(config.vision.unwrap().0.windows.unwrap().full, [1, 31]);
        let config = parse(&with("vision_config.patch_size", serde_json::json!([14, 14]))).unwrap();
        assert_eq!(config.vision.unwrap().0.patch_size, 14);
        let config = parse(&with("eos_token_id", serde_json::json!([151645, 151643]))).unwrap();
        assert_eq!(config.text.eos_token_ids, [151645, 151643]);
    }

    // The hub's files of Qwen2.5-0.5B, Qwen2-VL-2B and Qwen3-VL-4B, without what says nothing about the model.

    #[test]
    fn a_text_model() {
        let hub = r#"{"eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
            "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 14,
            "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
            "sliding_window": 32768, "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936}"#;
        let config = Config::parse(&qwen2::FAMILY, hub.as_bytes()).unwrap();
        let text = config.text;
        assert!(config.tie_word_embeddings && config.vision.is_none());
        assert_eq!((text.head_dim, text.mrope_section, text.rope_theta), (64, [32, 0, 0], 1e6));
        assert_eq!((text.num_hidden_layers, text.vocab_size, text.eos_token_ids), (24, 151_936, vec![151_645]));
        let text = Config::parse(&qwen2::FAMILY, br#"{"model_type": "qwen2"}"#).unwrap().text;
        assert_eq!((text.hidden_size, text.head_dim, text.rope_theta), (4096, 128, 1e4));
        for bad in [
            "[]",
            r#"{"model_type": "qwen2", "num_attention_heads": 0}"#,
            r#"{"model_type": "qwen2", "hidden_size": "x"}"#,
            r#"{"model_type": "qwen2", "rope_parameters": 1}"#,
        ] {
            assert_eq!(Config::parse(&qwen2::FAMILY, bad.as_bytes()).unwrap_err().code(), "bad_model", "{bad}");
        }
    }

    #[test]
    fn the_width_of_qwen2s_tower_is_not_its_hidden_size() {
        let hub = r#"{"model_type": "qwen2_vl", "hidden_act": "silu", "hidden_size": 1536, "intermediate_size": 8960,
            "max_position_embeddings": 32768, "max_window_layers": 28, "num_attention_heads": 12,
            "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
            "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936,
            "vision_config": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3,
                "hidden_size": 1536, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
                "temporal_patch_size": 2},
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}"#;
        let config = Config::parse(&qwen2_vl::FAMILY, hub.as_bytes()).unwrap();
        let (v, _) = config.vision.as_ref().unwrap();
        assert_eq!((v.hidden_size, v.intermediate_size, v.head_dim, v.out_hidden_size), (1280, 5120, 80, 1536));
        assert_eq!((v.layer_norm, v.mlp, v.time), (true, Mlp::Plain(Activation::QuickGelu), VideoTime::Frames));
        assert_eq!((&v.windows, v.patch_bias, v.position_side, v.deepstack.len()), (&None, false, None, 0));
        assert!(Config::parse(&qwen2_vl::FAMILY, hub.replace("1280", "1536000").as_bytes()).is_err());
    }

    #[test]
    fn heads_of_qwen3_have_a_size_of_their_own() {
        let hub = r#"{"model_type": "qwen3_vl", "image_token_id": 151655, "video_token_id": 151656,
            "vision_start_token_id": 151652, "vision_end_token_id": 151653, "tie_word_embeddings": true,
            "text_config": {"attention_bias": false, "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128,
                "hidden_act": "silu", "hidden_size": 2560, "intermediate_size": 9728, "max_position_embeddings": 262144,
                "model_type": "qwen3_vl_text", "num_attention_heads": 32, "num_hidden_layers": 36,
                "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_theta": 5000000, "tie_word_embeddings": true,
                "rope_scaling": {"mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_type": "default"},
                "vocab_size": 151936},
            "vision_config": {"deepstack_visual_indexes": [5, 11, 17], "depth": 24, "hidden_act": "gelu_pytorch_tanh",
                "hidden_size": 1024, "in_channels": 3, "intermediate_size": 4096, "model_type": "qwen3_vl",
                "num_heads": 16, "num_position_embeddings": 2304, "out_hidden_size": 2560, "patch_size": 16,
                "spatial_merge_size": 2, "temporal_patch_size": 2}}"#;
        let parse = |json: &str| Config::parse(&qwen3_vl::FAMILY, json.as_bytes());
        let config = parse(hub).unwrap();
        let t = &config.text;
        assert_eq!((t.hidden_size, t.num_attention_heads, t.head_dim), (2560, 32, 128));
        assert_eq!((t.mrope_section, t.interleaved, t.rope_theta), ([24, 20, 20], true, 5e6));
        let (v, _) = config.vision.as_ref().unwrap();
        assert_eq!((v.hidden_size, v.head_dim, v.patch_len(), v.position_side), (1024, 64, 1536, Some(48)));
        assert_eq!((&v.deepstack[..], v.patch_bias, v.time), (&[5, 11, 17][..], true, VideoTime::Text));
        assert_eq!(v.mlp, Mlp::Plain(Activation::GeluTanh));
        for (from, to) in [
            ("2304", "2305"),
            ("[5, 11, 17]", "[5, 5]"),
            ("[5, 11, 17]", "[11, 5]"),
            ("[5, 11, 17]", "[24]"),
            ("\"attention_bias\": false", "\"attention_bias\": true"),
            ("gelu_pytorch_tanh", "gelu"),
            ("\"head_dim\": 128", "\"head_dim\": 127"),
        ] {
            assert!(parse(&hub.replace(from, to)).is_err(), "{to}");
        }
    }
}
