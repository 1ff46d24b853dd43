//! What a model takes on a device, known from its small files alone, and the choice of formats, context and picture size
//! for a given amount of memory. Nothing here touches a device; [`of`] reads the small files, the rest is pure.
//!
//! All sizes are those of the buffers that the engine makes (`tests/memory.rs` compares). What is not in them: the driver's
//! own (staging of writes beyond what is counted here, compiled pipelines), and whatever else uses the device.

use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use serde_json::{Value, json};

use super::session::{CHUNK, rehearse};
use crate::dtype::{CacheFormat, Layout};
use crate::error::{Error, Result, in_words};
use crate::gpu::Rehearsal;
use crate::image::PreprocessorConfig;
use crate::model::VisionSizes;
use crate::model::cache::{CacheShape, KvCache};
use crate::model::decoder::DecoderConfig;
use crate::model::load::FLUSH_BYTES;
use crate::model::registry::Tables;
use crate::ops::attention_decode;
use crate::weights::plan::{CHUNK_BYTES, Limits, Plan};
use crate::weights::quantize::Formats;
use crate::weights::source::Source;

/// `auto` does not lower the context below this.
pub const MIN_CONTEXT: usize = 2048;
/// `auto` does not lower max_pixels below so many merged tokens: 512 · 28 · 28 pixels for the released models.
pub const MIN_PICTURE_TOKENS: u64 = 512;

/// In which formats floats are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// The first of [`Formats::LADDER`] that fits the memory.
    Auto,
    /// These, and nothing else is changed either.
    Fixed(Formats),
}

/// `auto`, or what [`Formats`] are written as.
impl FromStr for Weights {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" { Ok(Weights::Auto) } else { text.parse().map(Weights::Fixed) }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weights::Auto => f.write_str("auto"),
            Weights::Fixed(formats) => formats.fmt(f),
        }
    }
}

/// What is wanted. With [`Weights::Auto`] context and max_pixels are the most that is wanted, and a cache that is left open
/// is chosen too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Formats of the weights.
    pub weights: Weights,
    /// Format of keys and values; `None` for f32, which `auto` may lower.
    pub cache: Option<CacheFormat>,
    /// Tokens of the longest conversation.
    pub context: usize,
    /// Pixels of the largest picture; `None` for what the checkpoint's preprocessor says.
    pub max_pixels: Option<u64>,
    /// Bytes that may be used. WebGPU does not say how many there are, so `None` means that nothing is known.
    pub memory: Option<u64>,
}

/// The pool's peak, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivationBytes {
    /// While the tower encodes a picture of max_pixels; 0 for a text model.
    pub vision: u64,
    /// While a prompt is computed and answered, with the embeddings of one such picture; a further one takes
    /// `tokens × hidden × 4` bytes, with DeepStack once more for each of its layers.
    pub prefill: u64,
}

/// A buffer and what the device allows for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargestBuffer {
    /// What it holds.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The smaller of `maxStorageBufferBindingSize` and `maxBufferSize`.
    pub limit: u64,
}

/// What it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// The `model_type`.
    pub model_type: &'static str,
    /// Parameters of the model.
    pub parameters: u64,
    /// Bytes that are read from the files.
    pub download_bytes: u64,
    /// Weights on the device by part: `vision` (absent for a text model), `text`, `embeddings` (with the `lm_head`).
    pub weight_bytes: Vec<(&'static str, u64)>,
    /// Keys and values of the whole context, in segments of whatever sizes.
    pub kv_bytes: u64,
    /// Intermediates.
    pub activation_bytes: ActivationBytes,
    /// What passes: writes of the load on their way; later parameter blocks, uploads and readback.
    pub staging_bytes: u64,
    /// Weights, cache, the larger of the activations, and what passes.
    pub total_bytes: u64,
    /// The largest buffer of all.
    pub largest_buffer: LargestBuffer,
    /// Whether every buffer keeps to the limits, and the total to the memory if that is known.
    pub fits: bool,
    /// Why, in words; where it does not fit, with what to lower.
    pub reason: String,
    /// Tokens of the longest conversation.
    pub context_length: usize,
    /// Pixels of the largest picture; `None` for a text model.
    pub max_pixels: Option<u64>,
    /// The memory that it was held against.
    pub memory: Option<u64>,
    /// Formats of the weights.
    pub formats: Formats,
    /// Format of keys and values.
    pub cache: CacheFormat,
    /// What `auto` changed and why, one sentence each.
    pub decisions: Vec<String>,
}

impl Estimate {
    /// Refuses what does not fit.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with [`Estimate::reason`] as its hint, or [`Error::DeviceTooSmall`] if it is a single buffer.
    pub fn check(&self) -> Result<()> {
        let LargestBuffer { name, bytes, limit } = &self.largest_buffer;
        if self.fits {
            Ok(())
        } else if bytes > limit {
            let what = name.clone();
            Err(Error::DeviceTooSmall { limit: "buffer size".into(), needed: *bytes, available: *limit, what })
        } else {
            let what = format!("{} with a context of {}", self.model_type, self.context_length);
            Err(Error::OutOfMemory { what, bytes: self.total_bytes, held: 0, advice: self.reason.clone() })
        }
    }

    /// As one object with the names that JavaScript uses.
    pub fn to_json(&self) -> Value {
        let weights: serde_json::Map<String, Value> =
            self.weight_bytes.iter().map(|(part, bytes)| ((*part).to_owned(), json!(bytes))).collect();
        let largest = &self.largest_buffer;
        let format = |layout: Option<Layout>| layout.map_or("keep", Layout::name);
        json!({
            "modelType": self.model_type,
            "parameters": self.parameters,
            "downloadBytes": self.download_bytes,
            "weightBytes": weights,
            "kvBytes": self.kv_bytes,
            "activationBytes": {"vision": self.activation_bytes.vision, "prefill": self.activation_bytes.prefill},
            "stagingBytes": self.staging_bytes,
            "totalBytes": self.total_bytes,
            "largestBuffer": {"name": largest.name, "bytes": largest.bytes, "limit": largest.limit},
            "fits": self.fits,
            "reason": self.reason,
            "contextLength": self.context_length,
            "maxPixels": self.max_pixels,
            "memoryBytes": self.memory,
            "weights": {
                "vision": format(self.formats.vision),
                "text": format(self.formats.text),
                "embeddings": format(self.formats.embeddings),
            },
            "kvCache": self.cache.name(),
            "decisions": self.decisions,
        })
    }
}

/// Reads a number of bytes: `4GiB`, `512MiB`, `1.5GB`, `800000000`.
///
/// # Errors
/// [`Error::Invalid`].
pub fn parse_bytes(text: &str) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1048576.0,
        "gib" => 1073741824.0,
        _ => f64::NAN,
    };
    let bytes = number.parse::<f64>().map_or(f64::NAN, |n| n * scale);
    if bytes >= 1.0 && bytes < 2f64.powi(53) {
        return Ok(bytes as u64);
    }
    Err(Error::invalid("memory size", "bytes such as 4GiB, 512MiB or 800000000", text))
}

/// Reads the small files of a checkpoint, then [`estimate`]s.
///
/// # Errors
/// Any error of the source or of the checkpoint's files, as [`estimate`].
pub async fn of(source: &dyn Source, limits: Limits, wish: &Wish) -> Result<Estimate> {
    const FILE: &str = "preprocessor_config.json";
    let tables = Tables::read(source).await?;
    let mut wish = *wish;
    if wish.max_pixels.is_none() {
        let file = source.read_optional(FILE, 4 << 20).await?;
        wish.max_pixels = file.map(|bytes| PreprocessorConfig::from_json(&bytes)).transpose()?.map(|p| p.max_pixels);
    }
    estimate(&tables, limits, &wish)
}

/// What the wish takes under the limits, or with [`Weights::Auto`] what should be taken instead.
///
/// `auto` first lowers max_pixels until every buffer keeps to the limits and a picture takes at most three quarters of the
/// context. Then, where a memory is given, it goes down [`Formats::LADDER`] until the total fits, with the cache's format before
/// the text's would get 4 bits, since the cache in 8 loses far less; then with the context to [`MIN_CONTEXT`], then with
/// max_pixels to [`MIN_PICTURE_TOKENS`]. What does not fit even then comes back with `fits` false. Less memory never makes
/// any of the five larger.
///
/// # Errors
/// As [`Tables::plan`]: tensors that are not there or not as they should be, rows that no binding holds.
pub fn estimate(tables: &Tables, limits: Limits, wish: &Wish) -> Result<Estimate> {
    let context = wish.context.min(tables.max_positions).max(1);
    let max_pixels =
        tables.vision.as_ref().map(|_| wish.max_pixels.unwrap_or(PreprocessorConfig::default().max_pixels));
    let cache = wish.cache.unwrap_or_default();
    let case = |weights| Case { tables, limits, memory: wish.memory, weights, cache };
    match wish.weights {
        Weights::Fixed(formats) => Ok(case(Loadable::new(tables, limits, formats)?).estimate(context, max_pixels)),
        Weights::Auto => {
            let mut ladder = Formats::LADDER.into_iter().map(|formats| Loadable::new(tables, limits, formats));
            let Some(kept) = ladder.next() else { return Err(Error::missing("a format", "the ladder")) };
            choose(case(kept?), ladder, wish.cache.is_none(), context, max_pixels)
        }
    }
}

fn choose(
    mut case: Case<'_>,
    ladder: impl Iterator<Item = Result<Loadable>>,
    any_cache: bool,
    context: usize,
    wanted_pixels: Option<u64>,
) -> Result<Estimate> {
    let mut decisions = Vec::new();
    // Single buffers, which no format changes.
    let pixels = wanted_pixels.map(|wanted| {
        let small = |pixels: &u64| case.vision(context, *pixels).largest().1 <= case.limit();
        let pixels = case.pixel_steps(wanted).find(small).unwrap_or_else(|| case.least_pixels(wanted));
        if pixels < wanted {
            let (name, bytes) = case.vision(context, wanted).largest();
            let (needed, limit) = (in_words(bytes), in_words(case.limit()));
            decisions.push(format!(
                "max_pixels: {pixels} instead of {wanted} because \"{name}\" in the vision tower would take {needed} and a buffer \
                 holds {limit}"
            ));
        }
        pixels
    });
    // A picture leaves room in the context for words.
    let room =
        |case: &Case<'_>, context: usize| pixels.map(|pixels| pixels.min(case.pixels_of(context as u64 * 3 / 4)));
    let mut best = case.estimate(context, room(&case, context));

    let memory = in_words(case.memory.unwrap_or(u64::MAX));
    let mut tried = Vec::new();
    let mut cached = None;
    for lighter in ladder {
        if case.affords(&best) {
            break;
        }
        let lighter = lighter?;
        if any_cache && cached.is_none() && lighter.formats.text == Some(Layout::Q4) {
            cached = Some(best.total_bytes);
            case.cache = CacheFormat::Q8;
            best = case.estimate(context, room(&case, context));
            if case.affords(&best) {
                break;
            }
        }
        // What is quantized already stays as it is.
        if lighter.bytes() < case.weights.bytes() {
            tried.push((best.formats, best.total_bytes));
            case.weights = lighter;
            best = case.estimate(context, room(&case, context));
        }
    }
    let name = |layout: Option<Layout>| layout.map_or("the weights kept", Layout::name);
    for (part, of) in
        [("text", (|f: &Formats| f.text) as fn(&Formats) -> Option<Layout>), ("embeddings", |f| f.embeddings)]
    {
        let Some(layout) = of(&best.formats) else { continue };
        // What was too much in another format of this part, with the others as they came to be.
        let others =
            tried.iter().filter(|(f, _)| of(f) != Some(layout) && (part == "text" || f.text == best.formats.text));
        let totals: Vec<String> =
            others.map(|(f, total)| format!("{} with {}", in_words(*total), name(of(f)))).collect();
        decisions.push(format!("{part}: {layout} because {} in all exceed {memory}", totals.join(" and ")));
    }
    let exceed = |total: u64| format!("because {} in all exceed {memory}", in_words(total));
    if let Some(before) = cached {
        decisions.push(format!("KV cache: q8 {}", exceed(before)));
    }
    let floor = MIN_CONTEXT.min(context);
    let before = best.total_bytes;
    for shorter in steps(context, floor, 256).skip(1) {
        if case.affords(&best) {
            break;
        }
        best = case.estimate(shorter, room(&case, shorter));
    }
    if best.context_length < context {
        decisions.push(format!("context: {} instead of {context} {}", best.context_length, exceed(before)));
    }
    let roomy = best.max_pixels;
    if let (Some(pixels), Some(roomy)) = (pixels, roomy)
        && roomy < pixels
    {
        let context = best.context_length;
        decisions
            .push(format!("max_pixels: {roomy} instead of {pixels} to leave room in a context of {context} tokens"));
    }
    if let Some(roomy) = roomy {
        let before = best.total_bytes;
        for fewer in case.pixel_steps(roomy).skip(1) {
            if case.affords(&best) {
                break;
            }
            best = case.estimate(best.context_length, Some(fewer));
        }
        if let Some(now) = best.max_pixels.filter(|now| *now < roomy) {
            decisions.push(format!("max_pixels: {now} instead of {roomy} {}", exceed(before)));
        }
    }
    Ok(Estimate { decisions, ..best })
}

/// A prompt of a conversation on a device.
pub struct Work<'a> {
    /// The decoder.
    pub decoder: DecoderConfig,
    /// The vision tower.
    pub vision: Option<Rc<dyn VisionSizes>>,
    /// Keys and values that there are.
    pub cache: &'a KvCache,
    /// Bytes of the largest binding.
    pub max_binding: u64,
    /// Tokens of the prompt that need not be computed again.
    pub cached: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of the conversation when the answer is written.
    pub end: usize,
    /// Tokens that it may have.
    pub limit: usize,
    /// Of each picture or video that is to be encoded: patches that pass through the tower at once, all of them, those of a frame.
    pub encode: Vec<(usize, usize, usize)>,
    /// Merged tokens of each picture or video of which the embeddings lie on the device.
    pub held: Vec<usize>,
}

/// What [`work`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// On the device at most, beside the weights.
    pub bytes: u64,
    /// Multiplications and additions up to the first token of the answer.
    pub flops: u64,
}

/// What a prompt and its answer take, from the graphs' rehearsals.
pub fn work(work: &Work<'_>) -> Taken {
    let Work { decoder, vision, cache, cached, prompt, end, .. } = work;
    let format = cache.shape().format;
    let parts = 1 + vision.as_ref().map_or(0, |vision| vision.deepstack());
    let embeds = |pool: &Rehearsal, held: &[usize]| {
        let each = held.iter().flat_map(|tokens| std::iter::repeat_n(*tokens, parts)).filter(|tokens| *tokens > 0);
        each.map(|tokens| pool.scratch("image_embeds", tokens, decoder.hidden)).collect::<Vec<_>>()
    };
    let (mut bytes, mut flops) = (0u64, 0u64);
    if let Some(vision) = vision {
        let merged = (vision.merge() * vision.merge()).max(1);
        for (group, all, frame) in &work.encode {
            let mut others = work.held.clone();
            if let Some(own) = others.iter_mut().find(|tokens| **tokens == all / merged) {
                *own -= group / merged; // which the tower's rehearsal has
            }
            let pool = Rehearsal::new(work.max_binding);
            let _others = embeds(&pool, &others);
            drop(vision.rehearse(&pool, *group));
            let passing = pool.uploaded().saturating_add(Rehearsal::params(pool.launches()));
            bytes = bytes.max(pool.bytes().saturating_add(passing));
            flops = flops.saturating_add(vision.flops(*all as u64, *frame as u64));
        }
        // Keys and values are those from before.
        bytes = bytes.saturating_add(cache.shape().bytes(cache.segments().sum()));
    }
    let keys = cache.shape().bytes(cache.room_for(*cached, *prompt, *end, work.limit, work.max_binding));
    let new = prompt.saturating_sub(*cached).max(1);
    let decode = Rehearsal::new(work.max_binding);
    let steps =
        (prompt / attention_decode::CHUNK..=end / attention_decode::CHUNK).map(|n| (n + 1) * attention_decode::CHUNK);
    for keys in steps {
        rehearse(&decode, decoder, 1, 0, keys.min(*end).max(1), format, &[keys.min(*end).max(1)]);
    }
    let mut passes = vec![new.min(CHUNK)];
    if new > CHUNK && !new.is_multiple_of(CHUNK) {
        passes.push(new % CHUNK);
    }
    for n in passes {
        let pass = Rehearsal::new(work.max_binding);
        let _held = embeds(&pass, &work.held);
        rehearse(&pass, decoder, n, work.held.len(), *prompt, format, &[*prompt]);
        // Parameters, uploads on their way, logits that are read, and two words of 16 bytes as in an estimate.
        let passing = Rehearsal::params(pass.launches()) + 4 * decoder.vocab as u64 + 32;
        let all = pass.bytes_with(&decode).saturating_add(pass.uploaded()).saturating_add(passing);
        bytes = bytes.max(all.saturating_add(keys));
    }
    flops = flops.saturating_add(decoder.flops(*cached as u64, new as u64));
    Taken { bytes, flops }
}

/// From `from` down to `floor`, four steps for each halving, on multiples of `unit` in between.
fn steps(from: usize, floor: usize, unit: usize) -> impl Iterator<Item = usize> {
    let between = (0..usize::BITS - 3).rev().flat_map(move |bit| (4..8).rev().map(move |n| n << bit));
    let between = between.filter(move |n| *n < from && *n > floor && n.is_multiple_of(unit));
    [from].into_iter().chain(between).chain((floor < from).then_some(floor))
}

/// Merged tokens of the largest picture: as many squares of `side` pixels as max_pixels holds, or a strip one high and as
/// wide as 200 times that area's side, which `smart_resize` does not make smaller.
fn most_tokens(side: u64, max_pixels: u64) -> u64 {
    (max_pixels / (side * side)).max(max_pixels.saturating_mul(200).isqrt() / side).max(1)
}

/// The weights in some formats.
struct Loadable {
    formats: Formats,
    parts: Vec<(&'static str, u64)>,
    parameters: u64,
    source_bytes: u64,
    /// The largest shard.
    largest: (String, u64),
    /// Most shards of one matrix.
    shards: usize,
    /// Whether any of them comes in columns.
    packed: bool,
}

impl Loadable {
    fn new(tables: &Tables, limits: Limits, formats: Formats) -> Result<Self> {
        let plan: Plan = tables.plan(limits, &formats)?;
        let mut parts = [("vision", 0u64), ("text", 0), ("embeddings", 0)];
        for (name, bytes) in plan.buffers() {
            let part = match name {
                "text.embed" | "lm_head" => 2,
                _ if name.starts_with("vision.") => 0,
                _ => 1,
            };
            parts[part].1 = parts[part].1.saturating_add(bytes);
        }
        let largest = plan.buffers().max_by_key(|(_, bytes)| *bytes).unwrap_or(("", 0));
        Ok(Loadable {
            formats,
            parts: parts.into_iter().filter(|(_, bytes)| *bytes > 0).collect(),
            parameters: plan.parameters(),
            source_bytes: plan.source_bytes(),
            largest: (largest.0.to_owned(), largest.1),
            shards: plan.matrices.iter().map(|m| m.shards.len()).max().unwrap_or(1),
            packed: plan.matrices.iter().any(|m| !m.packed.is_empty()),
        })
    }

    fn bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// Everything that an estimate depends on but the context and max_pixels.
struct Case<'a> {
    tables: &'a Tables,
    limits: Limits,
    memory: Option<u64>,
    weights: Loadable,
    cache: CacheFormat,
}

impl Case<'_> {
    fn limit(&self) -> u64 {
        self.limits.max_binding.min(self.limits.max_buffer)
    }

    fn affords(&self, estimate: &Estimate) -> bool {
        self.memory.is_none_or(|memory| estimate.total_bytes <= memory)
    }

    fn shape(&self) -> CacheShape {
        self.tables.decoder.cache(self.cache)
    }

    /// Side in pixels of what one merged token sees, and patches in it.
    fn token(&self) -> (u64, usize) {
        let sizes = self.tables.vision.as_ref().map_or((1, 1), |vision| (vision.patch_size(), vision.merge()));
        ((sizes.0 * sizes.1).max(1) as u64, sizes.1 * sizes.1)
    }

    fn pixels_of(&self, tokens: u64) -> u64 {
        let (side, _) = self.token();
        tokens.max(1).saturating_mul(side * side)
    }

    fn least_pixels(&self, wanted: u64) -> u64 {
        self.pixels_of(MIN_PICTURE_TOKENS).min(wanted)
    }

    fn pixel_steps(&self, most: u64) -> impl Iterator<Item = u64> + use<> {
        let unit = self.pixels_of(1);
        let (top, floor) = ((most / unit) as usize, (self.least_pixels(most) / unit) as usize);
        // The first is `most` itself, which need not be a whole number of tokens.
        [most].into_iter().chain(steps(top, floor, 1).skip(1).map(move |tokens| tokens as u64 * unit))
    }

    /// Merged tokens of the largest picture that a context has room for beside one other token.
    fn picture_tokens(&self, context: usize, max_pixels: u64) -> usize {
        most_tokens(self.token().0, max_pixels).min(context.saturating_sub(1).max(1) as u64) as usize
    }

    /// The tower on paper, and its embeddings' share of the pool.
    fn vision(&self, context: usize, max_pixels: u64) -> Rehearsal {
        let pool = Rehearsal::new(self.limits.max_binding);
        if let Some(vision) = &self.tables.vision {
            let _embeds = vision.rehearse(&pool, self.picture_tokens(context, max_pixels) * self.token().1);
        }
        pool
    }

    /// The largest pool of a prompt's passes and what is decoded after them, the launches of a pass and its largest tensor.
    fn prefill(&self, context: usize, max_pixels: Option<u64>) -> (u64, u64, (&'static str, u64)) {
        let decoder = &self.tables.decoder;
        let empty = || Rehearsal::new(self.limits.max_binding);
        let tokens = max_pixels.map(|max_pixels| self.picture_tokens(context, max_pixels));
        let parts = 1 + self.tables.vision.as_ref().map_or(0, |vision| vision.deepstack());
        let embeds = |pool: &Rehearsal| {
            let tokens = std::iter::repeat_n(tokens, parts).flatten();
            tokens.map(|tokens| pool.scratch("image_embeds", tokens, decoder.hidden)).collect::<Vec<_>>()
        };
        let images = usize::from(tokens.is_some());
        // Decoding takes buffers of ever more classes as the keys and the ids seen become more.
        let decode = empty();
        let held = embeds(&decode);
        for keys in (1..=context.div_ceil(attention_decode::CHUNK)).map(|n| n * attention_decode::CHUNK) {
            rehearse(&decode, decoder, 1, 0, keys, self.cache, &[keys - attention_decode::CHUNK / 2, keys]);
        }
        drop(held);
        let (mut bytes, mut launches, mut largest) = (0, 0, decode.largest());
        for n in 1..=CHUNK.min(context) {
            let pass = empty();
            let _held = embeds(&pass);
            rehearse(&pass, decoder, n, images, context, self.cache, &[context]);
            pass.launch(images * (parts - 1));
            bytes = bytes.max(pass.bytes_with(&decode));
            launches = launches.max(pass.launches());
            if pass.largest().1 > largest.1 {
                largest = pass.largest();
            }
        }
        (bytes, launches, largest)
    }

    fn estimate(&self, context: usize, max_pixels: Option<u64>) -> Estimate {
        let Case { tables, weights, memory, .. } = self;
        let decoder = &tables.decoder;
        let vision = max_pixels.map(|max_pixels| self.vision(context, max_pixels));
        let (prefill, launches, widest) = self.prefill(context, max_pixels);
        let activation_bytes = ActivationBytes { vision: vision.as_ref().map_or(0, Rehearsal::bytes), prefill };
        let kv_bytes = self.shape().bytes(context);

        // Writes that wait; columns of a packed layer wait twice, and for a kernel that has parameters.
        let most = FLUSH_BYTES as u64 + 2 * CHUNK_BYTES;
        let loading = if weights.packed {
            weights.bytes().saturating_mul(2).min(most) + Rehearsal::params(weights.shards as u64)
        } else {
            weights.bytes().min(most)
        };
        let launches = launches.max(vision.as_ref().map_or(0, Rehearsal::launches));
        let params = Rehearsal::params(launches.saturating_mul(weights.shards as u64));
        let uploads = vision.as_ref().map_or(0, Rehearsal::uploaded);
        // Two words of 16 bytes: the chosen id, and what is read to wait for the device.
        let running = params + uploads + 4 * decoder.vocab as u64 + 32;
        let staging_bytes = loading.max(running);
        let total_bytes = [weights.bytes(), kv_bytes, activation_bytes.vision.max(prefill), staging_bytes]
            .into_iter()
            .fold(0, u64::saturating_add);

        let keys = ("keys of a layer", self.shape().largest_buffer(context, self.limit()));
        let seen = vision.as_ref().map_or(("", 0), Rehearsal::largest);
        let buffers = [
            (weights.largest.0.clone(), weights.largest.1, "quantize it"),
            (keys.0.to_owned(), keys.1, "lower the context length"),
            (format!("{} of the vision tower", seen.0), seen.1, "lower max_pixels"),
            (format!("{} of the decoder", widest.0), widest.1, "choose a smaller model"),
        ];
        let limit = self.limit();
        let [first, rest @ ..] = buffers;
        let (name, bytes, remedy) = rest.into_iter().fold(first, |a, b| if b.1 > a.1 { b } else { a });
        let largest_buffer = LargestBuffer { name, bytes, limit };
        let mut estimate = Estimate {
            model_type: tables.config.family.model_type,
            parameters: weights.parameters,
            download_bytes: weights.source_bytes,
            weight_bytes: weights.parts.clone(),
            kv_bytes,
            activation_bytes,
            staging_bytes,
            total_bytes,
            largest_buffer,
            fits: false,
            reason: String::new(),
            context_length: context,
            max_pixels,
            memory: *memory,
            formats: weights.formats,
            cache: self.cache,
            decisions: Vec::new(),
        };
        (estimate.fits, estimate.reason) = self.verdict(&estimate, remedy);
        estimate
    }

    fn verdict(&self, e: &Estimate, remedy: &str) -> (bool, String) {
        let LargestBuffer { name, bytes, limit } = &e.largest_buffer;
        let (total, limit_words) = (in_words(e.total_bytes), in_words(*limit));
        if bytes > limit {
            let needed = in_words(*bytes);
            return (
                false,
                format!("{name} needs {needed} in one buffer and the device allows {limit_words}: {remedy}"),
            );
        }
        match e.memory {
            None => (
                true,
                format!("every buffer keeps to {limit_words}; {total} in all, and how much there is is not known"),
            ),
            Some(memory) if e.total_bytes <= memory => (true, format!("{total} of {}", in_words(memory))),
            Some(memory) => {
                let parts = [
                    (self.weights.bytes(), "the weights (quantize them, or choose a smaller model)"),
                    (e.kv_bytes, "the context (lower its length)"),
                    (e.activation_bytes.vision.max(e.activation_bytes.prefill), "intermediates (lower max_pixels)"),
                    (e.staging_bytes, "in passing"),
                ];
                let parts = parts.map(|(bytes, what)| format!("{} {what}", in_words(bytes)));
                (false, format!("{total} in all are more than {}: {}", in_words(memory), parts.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::smart_resize;

    #[test]
    fn no_picture_has_more_tokens() {
        for max_pixels in [784, 5000, 100_000, 156_800, 401_408, 1_003_520, 12_845_056] {
            let mut most = 0;
            for height in [1, 7, 28, 29, 100, 333, 1000, 4000, 9999] {
                for width in [1, 5, 28, 57, 199, 1000, 5599, 5600, 20_000, 66_600] {
                    if let Ok((h, w)) = smart_resize(height, width, 28, 1, max_pixels) {
                        most = most.max(u64::from(h / 28) * u64::from(w / 28));
                    }
                }
            }
            let bound = most_tokens(28, max_pixels);
            assert!(most <= bound && most >= bound * 8 / 10, "{max_pixels} pixels: {most} tokens, at most {bound}");
        }
    }

    #[test]
    fn steps_go_down_to_the_floor() {
        assert_eq!(steps(16384, 2048, 256).collect::<Vec<_>>()[..5], [16384, 14336, 12288, 10240, 8192]);
        assert_eq!(steps(3000, 2048, 256).collect::<Vec<_>>(), [3000, 2560, 2048]);
        assert_eq!(steps(700, 512, 1).collect::<Vec<_>>(), [700, 640, 512]);
        assert_eq!((steps(9, 9, 1).count(), steps(1, 5, 1).count()), (1, 1));
    }
}
