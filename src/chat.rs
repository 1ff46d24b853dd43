//! Messages and pictures in, text out: preprocessing, template, session and decoding put together.

pub mod grounding;
pub mod messages;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use serde::Serialize;

use crate::dtype::CacheFormat;
use crate::error::{Error, Result};
use crate::generate::config::GenerationConfig;
use crate::generate::sampler::SamplingParams;
use crate::generate::session::{Media, Prompt, Session, prepare};
use crate::generate::{Finish, Flow, GenerateOptions, generate};
use crate::gpu::Gpu;
use crate::image::{ImageOptions, Patches, Picture, PreprocessorConfig, preprocess};
use crate::model::positions::Grid;
use crate::model::{Model, registry};
use crate::text::{self, ChatTemplate, RenderOptions, StopMatcher, StreamDecoder, Tokenizer};
use crate::weights::quantize::Formats;
use crate::weights::source::Source;

/// Largest file beside the weights that is read: Qwen2.5's tokenizer.json has 7 MB, Qwen3.5's 20.
const MAX_SMALL_FILE: u64 = 64 << 20;
/// Longest context unless the caller asks for another: bounds the KV cache.
pub const DEFAULT_CONTEXT: usize = 32768;
/// Most new tokens unless the caller or the checkpoint says otherwise.
pub const DEFAULT_MAX_TOKENS: usize = 1024;

/// A message with its pictures.
#[derive(Debug, Clone)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What it says.
    pub content: Content,
}

/// Text alone, or parts in order.
#[derive(Debug, Clone)]
pub enum Content {
    /// A plain string.
    Text(String),
    /// Texts and pictures, interleaved.
    Parts(Vec<Part>),
}

/// A piece of a message.
#[derive(Debug, Clone)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture and how to resize it.
    Image(Rc<Picture>, ImageOptions),
}

impl Message {
    /// A message of text alone.
    pub fn text(role: &str, text: &str) -> Self {
        Message { role: role.into(), content: Content::Text(text.into()) }
    }

    fn pictures(&self) -> impl Iterator<Item = (&Rc<Picture>, &ImageOptions)> {
        let parts = match &self.content {
            Content::Text(_) => &[][..],
            Content::Parts(parts) => parts,
        };
        parts.iter().filter_map(|part| match part {
            Part::Image(picture, options) => Some((picture, options)),
            Part::Text(_) => None,
        })
    }
}

/// How to answer.
#[derive(Debug, Clone, Default)]
pub struct AskOptions {
    /// How tokens are chosen; `None` for the checkpoint's own defaults.
    pub sampling: Option<SamplingParams>,
    /// Most new tokens.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Prefix pictures with "Picture N: ".
    pub add_vision_id: bool,
}

/// What became of a picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageInfo {
    /// Width and height of the picture as given (upright).
    pub original: [u32; 2],
    /// Width and height that the model saw.
    pub resized: [u32; 2],
    /// Tokens that it takes in the prompt.
    pub tokens: usize,
}

/// Token counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that are images.
    pub image_tokens: usize,
    /// Those of them that were still in the cache.
    pub cached_tokens: usize,
    /// Tokens of the answer.
    pub completion_tokens: usize,
}

/// Where the time went, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timings {
    /// Resizing and encoding the pictures that were new.
    pub image_ms: f64,
    /// From the encoded pictures to the first token.
    pub prefill_ms: f64,
    /// From the first token to the last.
    pub decode_ms: f64,
    /// Tokens per second after the first.
    pub decode_tokens_per_second: f64,
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The text, without control tokens and stop strings.
    pub text: String,
    /// Ids as generated, without the one that stopped it.
    pub token_ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// `stop`, `length` or `abort`.
    pub finish_reason: &'static str,
    /// Counts.
    pub usage: Usage,
    /// Times.
    pub timings: Timings,
    /// Every picture of the conversation, in order.
    pub images: Vec<ImageInfo>,
}

/// What the caller is told while an answer is made.
pub struct Hooks<'a> {
    /// Gets text as it comes, whole characters only.
    pub on_text: &'a mut dyn FnMut(&str),
    /// Asked often; `true` stops the answer.
    pub cancelled: &'a dyn Fn() -> bool,
    /// Milliseconds from any fixed moment.
    pub clock: &'a dyn Fn() -> f64,
}

/// Everything that a prefill computes, for comparing with other implementations. Shapes are those of transformers.
pub struct Trace {
    /// Token ids, pads expanded: `[n]`.
    pub input_ids: Vec<u32>,
    /// Positions: `[3, n]`.
    pub position_ids: Vec<i32>,
    /// Patches of all images: `[patches, patch_len]`.
    pub pixel_values: Vec<f32>,
    /// Values of a patch.
    pub patch_len: usize,
    /// Grids: `[images, 3]`.
    pub image_grid_thw: Vec<u32>,
    /// Embeddings of all images: `[tokens, hidden]`.
    pub image_embeds: Vec<f32>,
    /// Width of an embedding.
    pub hidden: usize,
    /// `[n, vocab]`.
    pub logits: Vec<f32>,
    /// Rows of the lm_head.
    pub vocab: usize,
    /// Position minus index of whatever is decoded next.
    pub rope_delta: i64,
}

/// A checkpoint ready to answer.
pub struct Engine {
    gpu: Gpu,
    model: Rc<Model>,
    tokenizer: Rc<Tokenizer>,
    template: ChatTemplate,
    preprocessor: PreprocessorConfig,
    generation: GenerationConfig,
    cache: CacheFormat,
}

/// A conversation: its session on the device and the pictures it has encoded.
pub struct Conversation {
    session: Session,
    encoded: HashMap<u64, (Media, ImageInfo)>,
}

impl Engine {
    /// Loads a checkpoint folder in Hugging Face layout. `progress` gets bytes done and bytes in all.
    ///
    /// # Errors
    /// [`Error::Missing`] for a file that is needed, any error of its content, any error of the device.
    pub async fn load(gpu: &Gpu, source: &dyn Source, progress: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        Self::load_as(gpu, source, &Formats::default(), progress).await
    }

    /// The same with floats quantized on the way.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn load_as(
        gpu: &Gpu,
        source: &dyn Source,
        formats: &Formats,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        Self::load_with(gpu, source, formats, CacheFormat::F32, progress, &|| {}).await
    }

    /// The same, for conversations whose keys and values are kept in `cache`; `compiling` is called when pipelines are about to be
    /// compiled, while weights are on their way.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn load_with(
        gpu: &Gpu,
        source: &dyn Source,
        formats: &Formats,
        cache: CacheFormat,
        progress: &mut dyn FnMut(u64, u64),
        compiling: &dyn Fn(),
    ) -> Result<Self> {
        // Everything small first: a checkpoint that cannot chat fails before its weights are read.
        registry::read_config(source).await?;
        let tokenizer = Tokenizer::from_json(&source.read_all("tokenizer.json", MAX_SMALL_FILE).await?)?;
        let template = template(source).await?;
        let preprocessor = match optional(source, "preprocessor_config.json").await? {
            Some(bytes) => PreprocessorConfig::from_json(&bytes)?,
            None => PreprocessorConfig::default(),
        };
        let generation = match optional(source, "generation_config.json").await? {
            Some(bytes) => GenerationConfig::parse(&bytes)?,
            None => GenerationConfig::default(),
        };
        let begin = |model: &Rc<Model>| {
            compiling();
            prepare(gpu, model, cache)
        };
        let model = registry::load(gpu, source, formats, progress, &begin).await?;
        let tokenizer = Rc::new(tokenizer);
        Ok(Engine { gpu: gpu.clone(), model, tokenizer, template, preprocessor, generation, cache })
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How conversations keep keys and values.
    pub fn cache_format(&self) -> CacheFormat {
        self.cache
    }

    /// The checkpoint's own sampling defaults and stop ids.
    pub fn generation_config(&self) -> &GenerationConfig {
        &self.generation
    }

    /// How the checkpoint wants pictures.
    pub fn preprocessor(&self) -> &PreprocessorConfig {
        &self.preprocessor
    }

    /// Lets no picture have more pixels than this, unless its own options say so.
    pub fn lower_max_pixels(&mut self, most: u64) {
        self.preprocessor.max_pixels = self.preprocessor.max_pixels.min(most);
    }

    /// An empty conversation of at most `context` tokens (and never more than the checkpoint is made for).
    ///
    /// # Errors
    /// Any error of the device.
    pub fn conversation(&self, context: usize) -> Result<Conversation> {
        let session = Session::with_cache(&self.gpu, &self.model, context, self.cache)?;
        Ok(Conversation { session, encoded: HashMap::new() })
    }

    /// Answers the last of `messages`. What the conversation's cache already holds of them is not computed again, and
    /// no picture is encoded twice.
    ///
    /// # Errors
    /// [`Error::Invalid`] for messages that the template refuses, [`Error::ContextOverflow`] with the numbers, or any
    /// error of the device. A cancelled answer is not an error: it has what came so far and the finish reason `abort`.
    pub async fn ask(
        &self,
        conversation: &mut Conversation,
        messages: &[Message],
        options: &AskOptions,
        hooks: Hooks<'_>,
    ) -> Result<Answer> {
        let Hooks { on_text, cancelled, clock } = hooks;
        let begin = clock();
        let (prompt, images) = self.prompt(conversation, messages, options.add_vision_id).await?;
        let prefill = clock();

        let sampling = options.sampling.clone().unwrap_or_else(|| self.generation.sampling(0));
        let max_new_tokens = options.max_tokens.or(self.generation.max_new_tokens).unwrap_or(DEFAULT_MAX_TOKENS);
        let generation = GenerateOptions {
            sampling,
            max_new_tokens,
            stop_ids: self.stop_ids(),
            vocab: self.tokenizer.len().min(self.model.decoder.config().vocab),
        };
        let mut decoder = StreamDecoder::new(self.tokenizer.clone());
        let mut stops = StopMatcher::new(options.stop.clone());
        let mut text = String::new();
        let mut token_ids = Vec::new();
        let mut first = None;
        let mut stopped = false;
        let cached_tokens = conversation.session.reusable(&prompt);
        let mut emit = |piece: &str| {
            if !piece.is_empty() {
                text.push_str(piece);
                on_text(piece);
            }
        };
        let mut on_token = |id: u32| {
            first.get_or_insert_with(clock);
            token_ids.push(id);
            let (piece, hit) = stops.push(&decoder.push(id));
            emit(&piece);
            if hit.is_some() {
                stopped = true;
                Flow::Stop
            } else if cancelled() {
                Flow::Cancel
            } else {
                Flow::Continue
            }
        };
        let session = &mut conversation.session;
        let mut finish = generate(session, &prompt, &generation, &|| !cancelled(), &mut on_token).await?;
        if !stopped {
            let (piece, hit) = stops.push(&decoder.finish());
            emit(&piece);
            if hit.is_some() {
                finish = Finish::Stop;
            } else {
                emit(&stops.finish());
            }
        }
        let end = clock();
        let first = first.unwrap_or(end);
        let completion_tokens = token_ids.len();
        let decode_ms = end - first;
        let per_second =
            if decode_ms > 0.0 { 1000.0 * completion_tokens.saturating_sub(1) as f64 / decode_ms } else { 0.0 };
        Ok(Answer {
            text,
            token_ids,
            prompt_tokens: prompt.ids.len(),
            finish_reason: finish.name(),
            usage: Usage {
                prompt_tokens: prompt.ids.len(),
                image_tokens: images.iter().map(|i| i.tokens).sum(),
                cached_tokens,
                completion_tokens,
            },
            timings: Timings {
                image_ms: prefill - begin,
                prefill_ms: first - prefill,
                decode_ms,
                decode_tokens_per_second: per_second,
            },
            images,
        })
    }

    /// Runs the prompt of `messages` and returns everything on the way.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn trace(&self, messages: &[Message], add_vision_id: bool) -> Result<Trace> {
        let mut conversation = self.conversation(usize::MAX)?;
        let (prompt, _) = self.prompt(&mut conversation, messages, add_vision_id).await?;
        let mut pixel_values = Vec::new();
        for (picture, options) in messages.iter().flat_map(Message::pictures) {
            pixel_values.extend(preprocess(picture, &self.preprocessor, options)?.pixel_values);
        }
        let mut image_embeds = Vec::new();
        for media in &prompt.images {
            image_embeds.extend(self.gpu.read_f32(&media.embeds, 0, media.embeds.len()).await?);
        }
        let (positions, _) = conversation.session.positions(&prompt)?;
        let logits = conversation.session.all_logits(&prompt).await?;
        let p = &self.preprocessor;
        Ok(Trace {
            position_ids: (0..3).flat_map(|axis| positions.iter().map(move |p| p[axis])).collect(),
            pixel_values,
            patch_len: 3 * p.temporal_patch_size * p.patch_size * p.patch_size,
            image_grid_thw: prompt.images.iter().flat_map(|m| [m.grid.t, m.grid.h, m.grid.w]).collect(),
            image_embeds,
            hidden: self.model.decoder.config().hidden,
            logits,
            vocab: self.model.decoder.config().vocab,
            rope_delta: conversation.session.rope_delta(),
            input_ids: prompt.ids,
        })
    }

    fn stop_ids(&self) -> Vec<u32> {
        match &self.generation.eos_token_ids[..] {
            [] => self.model.eos_token_ids.clone(),
            ids => ids.to_vec(),
        }
    }

    /// Token ids and encoded images of a conversation.
    async fn prompt(
        &self,
        conversation: &mut Conversation,
        messages: &[Message],
        add_vision_id: bool,
    ) -> Result<(Prompt, Vec<ImageInfo>)> {
        let media = self.model.media;
        if self.model.vision.is_none() && messages.iter().any(|message| message.pictures().next().is_some()) {
            return Err(Error::invalid("messages", "texts alone: this checkpoint has no vision tower", "a picture"));
        }
        let rendered = self.template.render(
            &messages.iter().map(|message| message.for_template(self.model.vision.is_none())).collect::<Vec<_>>(),
            &RenderOptions {
                add_generation_prompt: true,
                add_vision_id,
                control_tokens: self.tokenizer.control_tokens(),
                tools: None,
            },
        )?;
        let ids = self.tokenizer.encode(&rendered)?;

        // Preprocess what is new; sizes are known before anything goes to the device.
        enum Image {
            Known(u64),
            New(u64, Patches),
        }
        let mut images = Vec::new();
        for (picture, options) in messages.iter().flat_map(Message::pictures) {
            let key = key(picture, options);
            let seen = images.iter().any(|image| matches!(image, Image::New(k, _) if *k == key));
            images.push(if seen || conversation.encoded.contains_key(&key) {
                Image::Known(key)
            } else {
                Image::New(key, preprocess(picture, &self.preprocessor, options)?)
            });
        }
        let merge = media.merge as usize;
        let mut sizes: HashMap<u64, usize> = conversation.encoded.iter().map(|(k, (_, i))| (*k, i.tokens)).collect();
        for image in &images {
            if let Image::New(key, patches) = image {
                sizes.insert(*key, patches.tokens(merge));
            }
        }
        let keys: Vec<u64> = images
            .iter()
            .map(|image| match image {
                Image::Known(k) | Image::New(k, _) => *k,
            })
            .collect();
        let counts: Vec<usize> = keys.iter().map(|key| sizes[key]).collect();
        let ids = expand_pads(&ids, media.image, &counts)?;
        let limit = conversation.session.limit();
        if ids.len() >= limit {
            return Err(Error::ContextOverflow { needed: ids.len() + 1, limit });
        }

        // Pictures that are no longer part of the conversation give their memory back.
        conversation.encoded.retain(|key, _| keys.contains(key));
        for image in images {
            let (Image::New(key, patches), Some(vision)) = (image, &self.model.vision) else { continue };
            let [t, h, w] = patches.grid_thw;
            let grid = Grid::new(t, h, w);
            // What the decoder took is of no use to the tower and the other way round, so neither stays beside the other.
            self.gpu.trim();
            let encoded = vision.encode(&self.gpu, &patches.pixel_values, grid);
            let settled = self.gpu.settle().await;
            self.gpu.trim();
            let embeds = encoded.and_then(|embeds| settled.map(|()| embeds)).map_err(|error| {
                let (width, height) = patches.resized;
                error.advise(|| format!("The picture has {width}×{height} pixels for the model: lower max_pixels."))
            })?;
            let info = ImageInfo {
                original: [patches.original.0, patches.original.1],
                resized: [patches.resized.0, patches.resized.1],
                tokens: embeds.rows,
            };
            conversation.encoded.insert(key, (Media { key, grid, embeds }, info));
        }
        let (images, infos) = keys.iter().map(|key| conversation.encoded[key].clone()).unzip();
        Ok((Prompt { ids, images }, infos))
    }
}

impl Message {
    /// Templates of text models know strings alone, so `flat` joins the texts of a message.
    fn for_template(&self, flat: bool) -> text::Message {
        let content = match &self.content {
            Content::Text(text) => text::Content::Text(text.clone()),
            Content::Parts(parts) if flat => text::Content::Text(
                parts.iter().map(|part| if let Part::Text(text) = part { text.as_str() } else { "" }).collect(),
            ),
            Content::Parts(parts) => text::Content::Parts(
                parts
                    .iter()
                    .map(|part| match part {
                        Part::Text(text) => text::Part::Text(text.clone()),
                        Part::Image(..) => text::Part::Image,
                    })
                    .collect(),
            ),
        };
        text::Message { role: self.role.clone(), content }
    }
}

/// Each pad of the template becomes as many as its image has tokens.
fn expand_pads(ids: &[u32], pad: u32, counts: &[usize]) -> Result<Vec<u32>> {
    let pads = ids.iter().filter(|id| **id == pad).count();
    if pads != counts.len() {
        return Err(Error::invalid(
            "rendered messages",
            format!("{} image pads, one for each picture", counts.len()),
            format!("{pads} from the chat template"),
        ));
    }
    let mut counts = counts.iter();
    let mut out = Vec::with_capacity(ids.len());
    for &id in ids {
        let n = if id == pad { counts.next().copied().unwrap_or(1) } else { 1 };
        out.extend(std::iter::repeat_n(id, n));
    }
    Ok(out)
}

/// Equal for equal pixels and options.
fn key(picture: &Picture, options: &ImageOptions) -> u64 {
    let mut hasher = DefaultHasher::new();
    (picture.width, picture.height).hash(&mut hasher);
    picture.rgb.hash(&mut hasher);
    (options.min_pixels, options.max_pixels, options.resized_height, options.resized_width).hash(&mut hasher);
    hasher.finish()
}

/// The chat template of a checkpoint.
///
/// # Errors
/// Any error of the source; as [`ChatTemplate::find`].
pub async fn template(source: &dyn Source) -> Result<ChatTemplate> {
    let config = optional(source, "tokenizer_config.json").await?;
    let json = optional(source, "chat_template.json").await?;
    let jinja = optional(source, "chat_template.jinja").await?;
    ChatTemplate::find(config.as_deref(), json.as_deref(), jinja.as_deref())
}

async fn optional(source: &dyn Source, file: &str) -> Result<Option<Vec<u8>>> {
    match source.size(file).await? {
        Some(_) => source.read_all(file, MAX_SMALL_FILE).await.map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_expand_in_order() {
        assert_eq!(expand_pads(&[1, 9, 2, 9], 9, &[3, 1]).unwrap(), [1, 9, 9, 9, 2, 9]);
        assert_eq!(expand_pads(&[1, 2], 9, &[3]).unwrap_err().code(), "bad_request");
    }

    #[test]
    fn equal_pictures_have_equal_keys() {
        let a = Picture::new(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let b = Picture::new(1, 2, a.rgb.clone()).unwrap();
        let o = ImageOptions::default();
        assert_eq!(key(&a, &o), key(&a.clone(), &o));
        assert_ne!(key(&a, &o), key(&b, &o));
        assert_ne!(key(&a, &o), key(&a, &ImageOptions { max_pixels: Some(1), ..o }));
    }
}
