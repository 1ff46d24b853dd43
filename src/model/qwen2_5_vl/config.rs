//! `config.json` of Qwen2.5-VL, in both layouts: the hub's flat one (decoder fields at the top level) and the nested one
//! that transformers ≥ 4.52 saves (`text_config`, `rope_parameters`).
//!
//! Fields that are absent have the *class defaults* of `configuration_qwen2_5_vl.py` in transformers 5.23, which differ
//! from every released checkpoint (`rms_norm_eps` 1e-5, `tokens_per_second` 4, …), so that a file means here what it
//! means there. Everything is checked and bounded, so that no product of sizes overflows later.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::positions::{MAX_POSITION, Rope, Yarn};
use crate::weights::packed::Quantization;

/// The file's name.
pub const FILE: &str = "config.json";
/// The `model_type` of this family.
pub const MODEL_TYPE: &str = "qwen2_5_vl";
/// The epsilon of every RMSNorm in the vision tower; `modeling_qwen2_5_vl.py` has it as a constant.
pub const VISION_NORM_EPS: f32 = 1e-6;

/// Longest file, in bytes (the hub's are about 1.5 KB).
const MAX_FILE: usize = 4 << 20;

// Bounds far above any released model. Products of two stay below 2^42, byte counts below 2^46.
const MAX_HIDDEN: usize = 1 << 16;
const MAX_INTERMEDIATE: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 10;
const MAX_HEADS: usize = 1 << 10;
const MAX_VOCAB: usize = 1 << 24;
const MAX_PATCH: usize = 1 << 8;
const MAX_WINDOW: usize = 1 << 16;

/// The whole model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `qwen2_5_vl`.
    pub model_type: String,
    /// The decoder.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// Whether the embedding also serves as `lm_head`.
    pub tie_word_embeddings: bool,
    /// The id that stands for one merged token of an image.
    pub image_token_id: u32,
    /// The id that stands for one merged token of a video.
    pub video_token_id: u32,
    /// The id before an image's or video's tokens.
    pub vision_start_token_id: u32,
    /// The id after them.
    pub vision_end_token_id: u32,
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
    /// `hidden_size` / `num_attention_heads`, even.
    pub head_dim: usize,
    /// Epsilon of the RMSNorms.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// How many frequencies follow time, height, width; sums to `head_dim` / 2.
    pub mrope_section: [usize; 3],
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
        Rope { head_dim: self.head_dim, theta: self.rope_theta, mrope_section: self.mrope_section, yarn: self.yarn }
    }
}

/// The vision tower's sizes.
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
    /// Side of an attention window in pixels.
    pub window_size: usize,
    /// Blocks that attend to their whole frame; sorted, each below `depth`.
    pub fullatt_block_indexes: Vec<usize>,
    /// Width after the merger: the decoder's `hidden_size`.
    pub out_hidden_size: usize,
    /// Time positions per second of video.
    pub tokens_per_second: usize,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// The MLP's activation: `silu`.
    pub hidden_act: String,
}

impl VisionConfig {
    /// Values of one patch, in the order channel, frame, row, column: 1176 for the released models.
    pub fn patch_len(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Patches in one merged token.
    pub fn merge_unit(&self) -> usize {
        self.spatial_merge_size * self.spatial_merge_size
    }
}

impl Config {
    /// Reads and checks the file's bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] naming the field; [`Error::UnsupportedModel`] for another `model_type`,
    /// sliding-window attention, an activation other than SiLU, or a rotary scaling other than YaRN.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_FILE {
            let found = format!("{} bytes", bytes.len());
            return Err(Error::malformed(FILE, format!("at most {MAX_FILE} bytes"), found));
        }
        let json: Value =
            serde_json::from_slice(bytes).map_err(|e| Error::malformed(FILE, "a JSON object", e.to_string()))?;
        let root = Section::new("", &json)?;
        let model_type = root.text("model_type", "nothing")?;
        if model_type != MODEL_TYPE {
            return Err(unsupported(format!("model_type {model_type}"), MODEL_TYPE));
        }
        // As in transformers: with a text_config, decoder fields at the top level mean nothing.
        let text = root.section("text_config")?;
        let tie = root.flag("tie_word_embeddings", false)?
            || text.as_ref().map_or(Ok(false), |t| t.flag("tie_word_embeddings", false))?;
        let empty = Map::new();
        let vision = root.section("vision_config")?.unwrap_or(Section { path: "vision_config.".into(), map: &empty });
        let config = Config {
            text: TextConfig::read(text.as_ref().unwrap_or(&root))?,
            vision: VisionConfig::read(&vision)?,
            tie_word_embeddings: tie,
            image_token_id: root.id("image_token_id", 151_655)?,
            video_token_id: root.id("video_token_id", 151_656)?,
            vision_start_token_id: root.id("vision_start_token_id", 151_652)?,
            vision_end_token_id: root.id("vision_end_token_id", 151_653)?,
            model_type,
        };
        if config.vision.out_hidden_size != config.text.hidden_size {
            let expected = format!("the decoder's hidden_size {}", config.text.hidden_size);
            return Err(bad("vision_config.out_hidden_size", expected, config.vision.out_hidden_size));
        }
        for (name, id) in [
            ("image_token_id", config.image_token_id),
            ("video_token_id", config.video_token_id),
            ("vision_start_token_id", config.vision_start_token_id),
            ("vision_end_token_id", config.vision_end_token_id),
        ] {
            if id as usize >= config.text.vocab_size {
                return Err(bad(name, format!("an id below vocab_size {}", config.text.vocab_size), id));
            }
        }
        Ok(config)
    }
}

/// The decoder's part of a file that describes nothing else, and whether its embedding also serves as `lm_head`.
///
/// # Errors
/// As [`Config::parse`], for the fields of the decoder.
pub fn parse_text(json: &Value) -> Result<(TextConfig, bool)> {
    let root = Section::new("", json)?;
    Ok((TextConfig::read(&root)?, root.flag("tie_word_embeddings", false)?))
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
    fn read(c: &Section) -> Result<Self> {
        let hidden_size = c.count("hidden_size", 8192, MAX_HIDDEN)?;
        let num_attention_heads = c.count("num_attention_heads", 64, MAX_HEADS)?;
        // The class default is 8, but an explicit null means one per query head.
        let num_key_value_heads = match c.map.get("num_key_value_heads") {
            Some(Value::Null) => num_attention_heads,
            _ => c.count("num_key_value_heads", 8, MAX_HEADS)?,
        };
        c.divides("num_attention_heads", num_attention_heads, "hidden_size", hidden_size)?;
        c.divides("num_key_value_heads", num_key_value_heads, "num_attention_heads", num_attention_heads)?;
        let derived = hidden_size / num_attention_heads;
        let head_dim = c.count("head_dim", derived, MAX_HIDDEN)?;
        if head_dim != derived || head_dim % 2 != 0 {
            let expected = format!("hidden_size / num_attention_heads = {derived}, and that even");
            return Err(bad(c.at("head_dim"), expected, head_dim));
        }
        c.silu()?;
        let num_hidden_layers = c.count("num_hidden_layers", 80, MAX_LAYERS)?;
        let sliding = c.flag("use_sliding_window", false)?
            && !c.map.get("sliding_window").is_some_and(Value::is_null)
            && c.natural("max_window_layers", 80, MAX_LAYERS)? < num_hidden_layers;
        let other_layers = c.get("layer_types").and_then(Value::as_array);
        if sliding || other_layers.is_some_and(|list| list.iter().any(|kind| kind != "full_attention")) {
            return Err(unsupported("sliding-window attention", "full attention in every layer"));
        }
        let max_position_embeddings = c.count("max_position_embeddings", 32768, MAX_POSITION as usize)?;
        let (rope_theta, mrope_section, yarn) = read_rope(c, max_position_embeddings)?;
        if mrope_section.iter().sum::<usize>() != head_dim / 2 {
            let expected = format!("three counts that sum to head_dim / 2 = {}", head_dim / 2);
            return Err(bad(c.at("mrope_section"), expected, format!("{mrope_section:?}")));
        }
        let eos_token_ids = match c.get("eos_token_id") {
            None => vec![151_645],
            Some(Value::Array(list)) => list.iter().map(|v| c.as_id("eos_token_id", v)).collect::<Result<_>>()?,
            Some(one) => vec![c.as_id("eos_token_id", one)?],
        };
        Ok(TextConfig {
            vocab_size: c.count("vocab_size", 152_064, MAX_VOCAB)?,
            hidden_size,
            intermediate_size: c.count("intermediate_size", 29568, MAX_INTERMEDIATE)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: c.number("rms_norm_eps", 1e-5, 0.0, 1.0)?,
            rope_theta,
            mrope_section,
            yarn,
            max_position_embeddings,
            eos_token_ids,
        })
    }
}

/// θ, sections and scaling from `rope_scaling` (old) or `rope_parameters` (new), in transformers' order of preference.
fn read_rope(c: &Section, max_position_embeddings: usize) -> Result<(f64, [usize; 3], Option<Yarn>)> {
    const MAX_THETA: f64 = 1e12;
    let empty = Map::new();
    let given = match c.section("rope_scaling")?.filter(|s| !s.map.is_empty()) {
        Some(old) => Some(old),
        None => c.section("rope_parameters")?,
    };
    let r = given.unwrap_or(Section { path: c.at("rope_parameters."), map: &empty });
    let outer = c.number("rope_theta", 1e6, 1e-6, MAX_THETA)?;
    let theta = r.number("rope_theta", outer, 1e-6, MAX_THETA)?;
    let section = match r.get("mrope_section") {
        None => [16, 24, 24],
        Some(value) => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            let counts: Vec<usize> = list.iter().take(4).filter_map(|v| usize::try_from(v.as_u64()?).ok()).collect();
            match counts[..] {
                [t, h, w] if list.len() == 3 && [t, h, w].iter().all(|&n| n <= MAX_HIDDEN) => [t, h, w],
                _ => return Err(bad(r.at("mrope_section"), "three counts", kind(value))),
            }
        }
    };
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
fn read_yarn(r: &Section, theta: f64, max_position_embeddings: usize) -> Result<Yarn> {
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

impl VisionConfig {
    fn read(c: &Section) -> Result<Self> {
        let depth = c.count("depth", 32, MAX_LAYERS)?;
        let hidden_size = c.count("hidden_size", 3584, MAX_HIDDEN)?;
        let num_heads = c.count("num_heads", 16, MAX_HEADS)?;
        c.divides("num_heads", num_heads, "hidden_size", hidden_size)?;
        let head_dim = hidden_size / num_heads;
        if head_dim % 4 != 0 {
            return Err(bad(c.at("hidden_size / num_heads"), "a multiple of 4", head_dim));
        }
        let patch_size = c.side("patch_size", 14)?;
        let spatial_merge_size = c.count("spatial_merge_size", 2, 16)?;
        let window_size = c.count("window_size", 112, MAX_WINDOW)?;
        if window_size < patch_size * spatial_merge_size {
            let expected = format!("at least patch_size × spatial_merge_size = {}", patch_size * spatial_merge_size);
            return Err(bad(c.at("window_size"), expected, window_size));
        }
        let mut full = match c.get("fullatt_block_indexes") {
            None => vec![7, 15, 23, 31],
            Some(value) => {
                let list = value.as_array().filter(|list| list.len() <= MAX_LAYERS);
                let indexes = list.and_then(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>());
                let indexes = indexes
                    .ok_or_else(|| bad(c.at("fullatt_block_indexes"), "a list of block numbers", kind(value)))?;
                indexes.into_iter().map(|i| usize::try_from(i).unwrap_or(usize::MAX)).collect()
            }
        };
        // transformers asks "is this block in the list", so numbers beyond the last block mean nothing.
        full.retain(|&i| i < depth);
        full.sort_unstable();
        full.dedup();
        // The hub's files say in_chans, which transformers 5.23 ignores; its class says in_channels.
        let in_channels = match c.get("in_channels") {
            Some(_) => c.count("in_channels", 3, 16)?,
            None => c.count("in_chans", 3, 16)?,
        };
        c.silu()?;
        let empty = Map::new();
        let rope = c.section("rope_parameters")?.unwrap_or(Section { path: c.at("rope_parameters."), map: &empty });
        Ok(VisionConfig {
            depth,
            hidden_size,
            intermediate_size: c.count("intermediate_size", 3420, MAX_INTERMEDIATE)?,
            num_heads,
            head_dim,
            patch_size,
            temporal_patch_size: c.side("temporal_patch_size", 2)?,
            spatial_merge_size,
            in_channels,
            window_size,
            fullatt_block_indexes: full,
            out_hidden_size: c.count("out_hidden_size", 3584, MAX_HIDDEN)?,
            tokens_per_second: c.natural("tokens_per_second", 4, 10_000)?,
            rope_theta: rope.number("rope_theta", 10_000.0, 1e-6, 1e12)?,
            hidden_act: "silu".to_owned(),
        })
    }
}

fn bad(field: impl AsRef<str>, expected: impl Into<String>, found: impl ToString) -> Error {
    Error::malformed(format!("{FILE}: {}", field.as_ref()), expected, found.to_string())
}

fn unsupported(found: impl Into<String>, expected: impl Into<String>) -> Error {
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

/// An object of the file and the way to it, for messages. `null` members count as absent.
struct Section<'a> {
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

    fn at(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn section(&self, name: &str) -> Result<Option<Section<'a>>> {
        self.get(name).map(|value| Section::new(&self.at(name), value)).transpose()
    }

    /// A whole number from 0 to `most`.
    fn natural(&self, name: &str, default: usize, most: usize) -> Result<usize> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= most);
        number.ok_or_else(|| bad(self.at(name), format!("a whole number up to {most}"), kind(value)))
    }

    /// A whole number from 1 to `most`.
    fn count(&self, name: &str, default: usize, most: usize) -> Result<usize> {
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
    fn number(&self, name: &str, default: f64, least: f64, most: f64) -> Result<f64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.as_f64().filter(|n| (least..=most).contains(n));
        number.ok_or_else(|| bad(self.at(name), format!("a number from {least} to {most}"), kind(value)))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| bad(self.at(name), "true or false", kind(value)))
    }

    fn text(&self, name: &str, default: &str) -> Result<String> {
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

    fn silu(&self) -> Result<()> {
        let act = self.text("hidden_act", "silu")?;
        if act == "silu" { Ok(()) } else { Err(unsupported(format!("{}hidden_act {act}", self.path), "silu")) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

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
        Config::parse(json.to_string().as_bytes())
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
        let v = &flat.vision;
        assert_eq!((v.depth, v.hidden_size, v.intermediate_size, v.num_heads, v.head_dim), (32, 1280, 3420, 16, 80));
        assert_eq!((v.patch_len(), v.merge_unit(), v.window_size, v.tokens_per_second), (1176, 4, 112, 2));
        assert_eq!((&v.fullatt_block_indexes[..], v.out_hidden_size), (&[7, 15, 23, 31][..], 2048));
        assert!(flat.tie_word_embeddings);
        assert_eq!((flat.image_token_id, flat.video_token_id), (151655, 151656));
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
        let config = Config::parse(json.as_bytes()).unwrap();
        let t = config.text;
        assert_eq!((t.vocab_size, t.hidden_size, t.intermediate_size), (152064, 8192, 29568));
        assert_eq!((t.num_hidden_layers, t.num_attention_heads, t.num_key_value_heads), (80, 64, 8));
        assert_eq!((t.rms_norm_eps, t.rope_theta, t.max_position_embeddings), (1e-5, 1e6, 32768));
        let v = config.vision;
        assert_eq!((v.hidden_size, v.tokens_per_second, v.in_channels, v.rope_theta), (3584, 4, 3, 1e4));
        assert!(!config.tie_word_embeddings);
        assert!(Config::parse(br#"{"model_type": "qwen2_5_vl"}"#).is_err());
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
            assert!(matches!(Config::parse(text.as_bytes()), Err(Error::Malformed { .. })), "{text}");
        }
        assert!(Config::parse(&vec![b' '; MAX_FILE + 1]).is_err());
        assert!(Config::parse("[".repeat(10_000).as_bytes()).is_err());
    }

    #[test]
    fn lenient_where_transformers_is() {
        let config = parse(&with("vision_config.fullatt_block_indexes", serde_json::json!([31, 1, 99, 1]))).unwrap();
        assert_eq!(config.vision.fullatt_block_indexes, [1, 31]);
        let config = parse(&with("vision_config.patch_size", serde_json::json!([14, 14]))).unwrap();
        assert_eq!(config.vision.patch_size, 14);
        let config = parse(&with("eos_token_id", serde_json::json!([151645, 151643]))).unwrap();
        assert_eq!(config.text.eos_token_ids, [151645, 151643]);
    }
}
