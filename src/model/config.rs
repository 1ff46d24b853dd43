//! `config.json` of every family, in both layouts: the hub's flat one (decoder fields at the top level) and the nested one
//! that transformers ≥ 4.52 saves (`text_config`, `rope_parameters`).
//!
//! A [`Family`] says what its classes in transformers 5.23 have for fields that are absent (they differ from every released
//! checkpoint), so that a file means here what it means there. Everything is checked and bounded, so that no product of sizes
//! overflows later.

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
const MAX_FILE: usize = 4 << 20;

// Bounds far above any released model. Products of two stay below 2^42, byte counts below 2^46.
/// Widest residual stream.
pub const MAX_HIDDEN: usize = 1 << 16;
/// Widest MLP.
pub const MAX_INTERMEDIATE: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 10;
const MAX_HEADS: usize = 1 << 10;
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

/// Ids around and in the place of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisionIds {
    /// Stands for one merged token of an image: `image_token_id`.
    pub image: u32,
    /// Stands for one merged token of a video: `video_token_id`.
    pub video: u32,
    /// Before an image's or video's tokens: `vision_start_token_id`.
    pub start: u32,
    /// After them: `vision_end_token_id`.
    pub end: u32,
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

    /// Rows of the first layer of the MLP: for SwiGLU gate and up, each filled up to a multiple of 4.
    pub fn mlp_rows(&self) -> usize {
        match self.mlp {
            Mlp::SwiGlu => 2 * self.intermediate_size.next_multiple_of(4),
            Mlp::Plain(_) => self.intermediate_size,
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
        if bytes.len() > MAX_FILE {
            let found = format!("{} bytes", bytes.len());
            return Err(Error::malformed(FILE, format!("at most {MAX_FILE} bytes"), found));
        }
        let json: Value =
            serde_json::from_slice(bytes).map_err(|e| Error::malformed(FILE, "a JSON object", e.to_string()))?;
        let root = Section::new("", &json)?;
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
                return Err(bad("vision_config: the width after the merger", expected, vision.out_hidden_size));
            }
            if vision.deepstack.len() > text.num_hidden_layers {
                let expected = format!("at most one for each of the decoder's {} layers", text.num_hidden_layers);
                let found = format!("{} blocks", vision.deepstack.len());
                return Err(bad("vision_config.deepstack_visual_indexes", expected, found));
            }
        }
        // They read four values at a time.
        for (what, size) in [("hidden_size", text.hidden_size), ("head_dim", text.head_dim)] {
            if !size.is_multiple_of(4) || (what == "head_dim" && size > 256) {
                let expected = format!("a {what} that is a multiple of 4 (a head_dim of at most 256)");
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
        Ok(VisionIds {
            image: id("image_token_id", 151_655)?,
            video: id("video_token_id", 151_656)?,
            start: id("vision_start_token_id", 151_652)?,
            end: id("vision_end_token_id", 151_653)?,
        })
    }
}

/// How the packed layers of a checkpoint are stored, from the bytes of its `config.json`.
///
/// # Errors
/// As [`Quantization::parse`].
pub fn quantization(bytes: &[u8]) -> Result<Option<Quantization>> {
    let json: Value =
        serde_json::from_slice(bytes).map_err(|e| Error::malformed(FILE, "a JSON object", e.to_string()))?;
    // Files that were saved again may have it beside the decoder's fields.
    match &json["quantization_config"] {
        Value::Null => Quantization::parse(&json["text_config"]["quantization_config"]),
        found => Quantization::parse(found),
    }
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
        if head_dim % 2 != 0 {
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
        if head_dim % 4 != 0 {
            return Err(bad(c.at("the tower's width / num_heads"), "a multiple of 4", head_dim));
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
