//! Messages, pictures and videos in, text out: preprocessing, template, session and decoding put together.

pub mod constraint;
mod encoded;
pub mod grounding;
pub mod messages;
pub mod options;
pub mod plan;
pub mod stream;
pub mod thinking;
pub mod tools;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde::Serialize;
use serde_json::Value;

use crate::chat::constraint::{AfterThinking, Vocabulary};
use crate::chat::encoded::Encoded;
use crate::chat::grounding::{Convention, Located};
pub use crate::chat::plan::Plan;
use crate::chat::stream::Writer;
pub use crate::chat::stream::{Delta, TokenLogprob, TopLogprob};
use crate::chat::thinking::ThinkingSplitter;
use crate::chat::tools::{CallSplitter, Tool, ToolCall, ToolChoice};
use crate::dtype::CacheFormat;
use crate::error::{Error, Result};
use crate::generate::config::GenerationConfig;
use crate::generate::constraint::Constrained;
use crate::generate::sampler::SamplingParams;
use crate::generate::session::{Media, Prompt, Session, prepare};
use crate::generate::{Finish, Flow, GenerateOptions, Reply, Token, generate};
use crate::gpu::Gpu;
use crate::image::{ImageOptions, Patches, Picture, PreprocessorConfig, patchify, preprocess, resized};
use crate::model::config::task_prompts;
use crate::model::positions::{Grid, VideoTime};
use crate::model::{Embeds, Model, registry};
use crate::text::{self, ChatTemplate, RenderOptions, RenderedPrompt, Span, StopMatcher, StreamDecoder, Tokenizer};
use crate::video::{Track, Video, VideoOptions, VideoPlan, frame_pixels, patch_times, stamp};
use crate::weights::folder::Folder;
use crate::weights::quantize::Formats;
use crate::weights::source::{MAX_SMALL_FILE, Source};

/// Longest context unless the caller asks for another: bounds the KV cache.
pub const DEFAULT_CONTEXT: usize = 32768;
/// Most tokens that a video leaves free for words.
pub const WORDS: usize = 4096;
/// Tokens that tell when a pair of frames is shown, where they are written out: `<12345.6 seconds>` between two control tokens.
const STAMP: usize = 12;
/// Most log-probabilities at one place: OpenAI's limit.
pub const MOST_LOGPROBS: usize = 20;
/// Most new tokens unless the caller or the checkpoint says otherwise.
pub const DEFAULT_MAX_TOKENS: usize = 1024;

/// A message with its pictures.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What it says.
    pub content: Content,
    /// What an assistant thought before it said that, for models that are told again.
    pub reasoning: Option<String>,
    /// What an assistant asked to be called.
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool answers; answers without one are to the calls in their order.
    pub tool_call_id: Option<String>,
    /// Of the last message, an assistant's: the model goes on writing it.
    pub prefix: bool,
}

/// Text alone, or parts in order.
#[derive(Debug, Clone)]
pub enum Content {
    /// A plain string.
    Text(String),
    /// Texts and pictures, interleaved.
    Parts(Vec<Part>),
}

impl Default for Content {
    fn default() -> Self {
        Content::Text(String::new())
    }
}

/// A piece of a message.
#[derive(Debug, Clone)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture and how to resize it.
    Image(Rc<Picture>, ImageOptions),
    /// A video's frames, sampled and resized.
    Video(Rc<Video>),
}

/// A picture or a video of a message.
#[derive(Clone, Copy)]
enum Medium<'a> {
    Image(&'a Rc<Picture>, &'a ImageOptions),
    Video(&'a Rc<Video>),
}

impl Message {
    /// A message of text alone.
    pub fn text(role: &str, text: &str) -> Self {
        Message { role: role.into(), content: Content::Text(text.into()), ..Message::default() }
    }

    fn media(&self) -> impl Iterator<Item = Medium<'_>> {
        let parts = match &self.content {
            Content::Text(_) => &[][..],
            Content::Parts(parts) => parts,
        };
        parts.iter().filter_map(|part| match part {
            Part::Image(picture, options) => Some(Medium::Image(picture, options)),
            Part::Video(video) => Some(Medium::Video(video)),
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
    /// What the model may ask to be called. Without any, nothing in its answer is a call.
    pub tools: Vec<Tool>,
    /// Whether it does.
    pub tool_choice: ToolChoice,
    /// Give the log-probability of every token of the answer, and of so many of the likeliest at its place.
    pub logprobs: Option<usize>,
    /// End an answer that only repeats itself.
    pub loop_guard: bool,
    /// The messages are not answered yet: more are going to follow.
    pub unanswered: bool,
    /// What the answer may be; what a model thinks before it is free. A fresh one for each answer.
    pub constraint: Option<Constrained>,
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

/// What became of a video.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VideoInfo {
    /// Width and height of its frames as they came (upright).
    pub original: [u32; 2],
    /// Width and height that the model saw.
    pub resized: [u32; 2],
    /// When each frame that the model saw is shown, in seconds.
    pub timestamps: Vec<f64>,
    /// How many of them a second has.
    pub sample_fps: f64,
    /// Tokens that it takes in the prompt, those of written times not counted.
    pub tokens: usize,
}

/// Token counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that are images.
    pub image_tokens: usize,
    /// Those of them that are videos.
    pub video_tokens: usize,
    /// Those of them that were still in the cache.
    pub cached_tokens: usize,
    /// Tokens of the answer.
    pub completion_tokens: usize,
}

/// Where the time went, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timings {
    /// Resizing and encoding the pictures and frames that were new.
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
    /// The text, without control tokens and stop strings, and without what was thought before it.
    pub text: String,
    /// What a model that thinks first has thought; an answer that was cut off may be nothing else.
    pub reasoning: Option<String>,
    /// Ids as generated, without the one that stopped it.
    pub token_ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// `stop`, `tool_calls`, `length`, `abort` or `repetition`.
    pub finish_reason: &'static str,
    /// What the model asks to be called. Its blocks are not part of the text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Of every token, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// Counts.
    pub usage: Usage,
    /// Times.
    pub timings: Timings,
    /// Every picture of the conversation, in order.
    pub images: Vec<ImageInfo>,
    /// Every video of the conversation, in order.
    pub videos: Vec<VideoInfo>,
}

impl Answer {
    /// Adds the answer to what was said: to the message that it goes on with, or as a message of its own.
    pub fn join(&self, messages: &mut Vec<Message>) {
        let mut said = Message {
            reasoning: self.reasoning.clone(),
            tool_calls: self.tool_calls.clone(),
            ..Message::text("assistant", &self.text)
        };
        if let Some(begun) = messages.pop_if(|last| last.prefix) {
            said.content = match begun.content {
                Content::Text(text) => Content::Text(text + &self.text),
                Content::Parts(mut parts) => {
                    parts.push(Part::Text(self.text.clone()));
                    Content::Parts(parts)
                }
            };
            said.reasoning = begun.reasoning.or(said.reasoning);
        }
        messages.push(said);
    }
}

/// What the caller is told while an answer is made.
pub struct Hooks<'a> {
    /// Gets the answer as it comes.
    pub on_delta: &'a mut dyn FnMut(Delta<'_>),
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
    /// The images.
    pub images: TraceMedia,
    /// The videos.
    pub videos: TraceMedia,
    /// Values of a patch.
    pub patch_len: usize,
    /// Width of an embedding.
    pub hidden: usize,
    /// `[n, vocab]`.
    pub logits: Vec<f32>,
    /// Rows of the lm_head.
    pub vocab: usize,
    /// Position minus index of whatever is decoded next.
    pub rope_delta: i64,
}

/// Media of one kind in a [`Trace`], one after the other.
#[derive(Default)]
pub struct TraceMedia {
    /// Patches: `[patches, patch_len]`.
    pub pixel_values: Vec<f32>,
    /// Grids: `[media, 3]`.
    pub grid_thw: Vec<u32>,
    /// Embeddings: `[tokens, hidden]`.
    pub embeds: Vec<f32>,
    /// DeepStack's: for each of its layers `[tokens, hidden]`.
    pub deepstack: Vec<Vec<f32>>,
}

/// A checkpoint ready to answer.
pub struct Engine {
    gpu: Gpu,
    model: Rc<Model>,
    tokenizer: Rc<Tokenizer>,
    template: ChatTemplate,
    preprocessor: PreprocessorConfig,
    generation: GenerationConfig,
    task_prompts: BTreeMap<String, String>,
    cache: CacheFormat,
    encoded: Encoded,
}

/// A conversation: its session on the device and the pictures it has encoded. Frames of videos are encoded when the session
/// needs them and not kept.
pub struct Conversation {
    session: Session,
    encoded: HashMap<u128, Rc<[Embeds]>>,
}

/// An answer that is being written. It outlives the device that it was begun on.
#[derive(Default)]
pub struct Draft {
    reply: Reply,
    /// What it may be; it has followed the reply so far.
    constraint: Option<Constrained>,
    /// When it was begun, when its pictures were there, when its first token came.
    begun: Option<f64>,
    prepared: Option<f64>,
    first: Option<f64>,
    /// Tokens of its prompt that were there already.
    cached: Option<usize>,
}

impl Conversation {
    /// Another conversation that has come as far: it shares memory until one of the two goes on.
    ///
    /// # Errors
    /// Any error of the device.
    pub fn fork(&self) -> Result<Self> {
        Ok(Conversation { session: self.session.fork()?, encoded: self.encoded.clone() })
    }
}

impl Engine {
    /// Loads a checkpoint folder in Hugging Face layout. `progress` gets bytes done and bytes in all.
    ///
    /// # Errors
    /// [`Error::Missing`] for a file that is needed, any error of its content, any error of the device.
    pub async fn load(gpu: &Gpu, source: &dyn Folder, progress: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        Self::load_as(gpu, source, &Formats::default(), progress).await
    }

    /// The same with floats quantized on the way.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn load_as(
        gpu: &Gpu,
        source: &dyn Folder,
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
        source: &dyn Folder,
        formats: &Formats,
        cache: CacheFormat,
        progress: &mut dyn FnMut(u64, u64),
        compiling: &dyn Fn(),
    ) -> Result<Self> {
        // Everything small first: a checkpoint that cannot chat fails before its weights are read.
        let (config, bytes) = registry::read_config(source).await?;
        let task_prompts = task_prompts(&bytes)?;
        let tokenizer = Tokenizer::from_json(&source.read_all("tokenizer.json", MAX_SMALL_FILE).await?)?;
        let template = template(source).await?;
        let preprocessor = match source.read_optional("preprocessor_config.json", MAX_SMALL_FILE).await? {
            Some(bytes) => PreprocessorConfig::from_json(&bytes)?,
            None => PreprocessorConfig::default(),
        };
        if let Some((tower, _)) = &config.vision {
            preprocessor.check_tower([tower.patch_size, tower.temporal_patch_size, tower.spatial_merge_size])?;
        }
        let generation = match source.read_optional("generation_config.json", MAX_SMALL_FILE).await? {
            Some(bytes) => GenerationConfig::parse(&bytes)?,
            None => GenerationConfig::default(),
        };
        let begin = |model: &Rc<Model>| {
            compiling();
            prepare(gpu, model, cache)
        };
        let model = registry::load(gpu, source, formats, progress, &begin).await?;
        let tokenizer = Rc::new(tokenizer);
        let (gpu, encoded) = (gpu.clone(), Encoded::default());
        Ok(Engine { gpu, model, tokenizer, template, preprocessor, generation, task_prompts, cache, encoded })
    }

    /// The same checkpoint on another device: its weights are read again. Conversations of this engine go on there from their
    /// messages, with caches that start empty.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn again(
        &self,
        gpu: &Gpu,
        source: &dyn Folder,
        formats: &Formats,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        let cache = self.cache;
        let model = registry::load(gpu, source, formats, progress, &|model| prepare(gpu, model, cache)).await?;
        Ok(Engine {
            gpu: gpu.clone(),
            model,
            tokenizer: self.tokenizer.clone(),
            template: self.template.clone(),
            preprocessor: self.preprocessor.clone(),
            generation: self.generation.clone(),
            task_prompts: self.task_prompts.clone(),
            cache,
            encoded: Encoded::default(),
        })
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

    /// What the checkpoint was trained to be asked, by task, where its config.json says so.
    pub fn task_prompts(&self) -> &BTreeMap<String, String> {
        &self.task_prompts
    }

    /// How many pictures have been through the vision tower. One that a conversation still holds is not encoded again, in whichever
    /// conversation it comes.
    pub fn encoded_pictures(&self) -> usize {
        self.encoded.runs()
    }

    /// How the checkpoint wants pictures.
    pub fn preprocessor(&self) -> &PreprocessorConfig {
        &self.preprocessor
    }

    /// In which unit the model writes coordinates; a text model has none.
    pub fn convention(&self) -> Option<Convention> {
        Convention::of(self.model.family)
    }

    /// What an answer locates in the pictures of its conversation, in their own pixels.
    pub fn locate(&self, answer: &Answer) -> Vec<Located> {
        let Some(convention) = self.convention() else { return Vec::new() };
        // The text is without control tokens, and Qwen2-VL's boxes stand between some.
        let marked = match convention {
            Convention::ThousandTokens => self.tokenizer.decode(&answer.token_ids, false).ok(),
            Convention::ResizedPixels | Convention::ThousandJson => None,
        };
        grounding::locate(marked.as_deref().unwrap_or(&answer.text), convention, &answer.images)
    }

    /// Lets no picture have more pixels than this, unless its own options say so.
    pub fn lower_max_pixels(&mut self, most: u64) {
        self.preprocessor.max_pixels = self.preprocessor.max_pixels.min(most);
    }

    /// Tokens that a part takes in a prompt; 0 of what is refused there.
    pub fn tokens(&self, part: &Part) -> usize {
        match part {
            Part::Text(text) => self.tokenizer.encode_plain(text).map_or(0, |ids| ids.len()),
            Part::Image(picture, options) => {
                let size = resized(picture, &self.preprocessor, options);
                size.and_then(|size| self.grid(1, size).merged(self.model.media.merge)).map_or(0, Grid::count)
            }
            Part::Video(video) => {
                let merged = self.video_grid(video).merged(self.model.media.merge);
                merged.map_or(0, |grid| grid.count() + self.stamps(video.frames.len()))
            }
        }
    }

    /// Tokens of the times that are written between so many frames.
    fn stamps(&self, frames: usize) -> usize {
        let patches = frames.div_ceil(self.preprocessor.temporal_patch_size.max(1));
        if self.model.media.time == VideoTime::Text { patches * STAMP } else { 0 }
    }

    /// Patches of `t` in time of a (width, height) in pixels.
    fn grid(&self, t: usize, (width, height): (u32, u32)) -> Grid {
        let patch = self.preprocessor.patch_size.max(1) as u32;
        Grid::new(t as u32, height / patch, width / patch)
    }

    fn video_grid(&self, video: &Video) -> Grid {
        let size = video.frames.first().map_or((0, 0), |frame| (frame.width, frame.height));
        self.grid(video.frames.len().div_ceil(self.preprocessor.temporal_patch_size.max(1)), size)
    }

    /// Which frames of a video to take, and how large, where `left` tokens of the context are free. An eighth of them, at most
    /// [`WORDS`], stays free for what is said.
    ///
    /// # Errors
    /// As [`plan`](crate::video::plan).
    pub fn plan_video(&self, track: &Track, options: &VideoOptions, left: usize) -> Result<VideoPlan> {
        let left = left.min(self.model.max_positions);
        let most = left - (left / 8).min(WORDS);
        // What no picture may exceed, no frame may.
        let most_pixels = self.preprocessor.max_pixels;
        let [least, usual] = frame_pixels(self.preprocessor.factor()?);
        let max_pixels = match options.max_pixels {
            None => Some(most_pixels).filter(|most| *most < usual),
            Some(wished) => Some(wished.min(most_pixels)),
        };
        // A limit that the caller has not named lowers the least that a frame usually has, too.
        let min_pixels = options.min_pixels.or(max_pixels.filter(|most| *most < least && options.max_pixels.is_none()));
        let options = &VideoOptions { max_pixels, min_pixels, ..options.clone() };
        let planned = |most| crate::video::plan(track, options, &self.preprocessor, most);
        let plan = planned(most)?;
        let all = self.planned_tokens(&plan);
        if all <= most { Ok(plan) } else { planned(most.saturating_sub(all - plan.tokens)) }
    }

    /// Tokens that a planned video takes in a prompt, those of written times included.
    pub fn planned_tokens(&self, plan: &VideoPlan) -> usize {
        plan.tokens + self.stamps(plan.indices.len())
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
        self.go_on(&mut Draft::default(), conversation, messages, options, hooks).await
    }

    /// The same for an answer that may have been begun: after [`Error::DeviceLost`], on an engine of another device
    /// ([`Engine::again`]), with the same conversation, messages and options. It becomes what it would have become, and nothing
    /// is told twice.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn go_on(
        &self,
        draft: &mut Draft,
        conversation: &mut Conversation,
        messages: &[Message],
        options: &AskOptions,
        hooks: Hooks<'_>,
    ) -> Result<Answer> {
        let Hooks { on_delta, cancelled, clock } = hooks;
        let Draft { reply, constraint: wrapped, begun, prepared, first, cached } = draft;
        if options.constraint.is_some() && options.stop.iter().any(|stop| !stop.is_empty()) {
            let expected = "none beside a constraint, which alone says where an answer may end";
            return Err(Error::invalid("stop", expected, format!("{:?}", options.stop)));
        }
        let begin = *begun.get_or_insert_with(clock);
        if let Some(n) = options.logprobs.filter(|n| *n > MOST_LOGPROBS) {
            return Err(Error::invalid("logprobs", format!("a number from 0 to {MOST_LOGPROBS}"), n.to_string()));
        }
        let vocab = self.ids_in_use();
        let sampling = options.sampling.clone().unwrap_or_else(|| self.generation.sampling(0));
        if let Some((id, _)) = sampling.logit_bias.iter().find(|(id, _)| *id as usize >= vocab) {
            return Err(Error::invalid("logit_bias", format!("token ids below {vocab}"), id.to_string()));
        }
        let calls = !options.tool_choice.offered(&options.tools)?.is_empty();
        let messages = &*tools::in_order(messages)?;
        let prompted = self.prompt(conversation, messages, options, cancelled).await?;
        let (prompt, Infos { images, videos, thinking, cancelled: ended }) = prompted;
        let prefill = *prepared.get_or_insert_with(clock);

        let max_new_tokens = options.max_tokens.or(self.generation.max_new_tokens).unwrap_or(DEFAULT_MAX_TOKENS);
        let stop_ids = self.stop_ids();
        if wrapped.is_none() {
            *wrapped = match &options.constraint {
                Some(answer) if self.template.reasons() => {
                    Some(AfterThinking::wrap(answer.clone(), &self.tokenizer, thinking, vocab, &stop_ids)?)
                }
                other => other.clone(),
            };
        }
        let generation = GenerateOptions {
            sampling,
            max_new_tokens,
            stop_ids,
            vocab,
            logprobs: options.logprobs,
            loop_guard: options.loop_guard,
            constraint: wrapped.clone(),
        };
        let mut decoder = StreamDecoder::new(self.tokenizer.clone());
        let mut stops = StopMatcher::new(options.stop.clone());
        // A template that does not know reasoning belongs to a model that has none, whatever it writes.
        let splitter = self.template.reasons().then(|| ThinkingSplitter::new(thinking));
        let calls = calls.then(|| CallSplitter::new(tools::ids(messages)));
        let mut writer = Writer::new(splitter, calls, on_delta);
        let mut stopped = false;
        let cached_tokens = *cached.get_or_insert_with(|| conversation.session.reusable(&prompt));
        let mut on_token = |writer: &mut Writer<'_>, Token { id, logprob }: Token| {
            first.get_or_insert_with(clock);
            writer.logprobs.extend(logprob.map(|logprob| TokenLogprob::new(&logprob, &self.tokenizer)));
            let (piece, hit) = stops.push(&decoder.push(id));
            writer.write(&piece);
            if hit.is_some() {
                stopped = true;
                Flow::Stop
            } else if cancelled() {
                Flow::Cancel
            } else {
                Flow::Continue
            }
        };
        // What was told before the device was lost brings the text to where it was, and is not told again.
        writer.silent = true;
        for token in reply.tokens.clone() {
            on_token(&mut writer, token);
        }
        writer.silent = false;
        let prompt_tokens = prompt.ids.len();
        let session = &mut conversation.session;
        let mut finish = match ended || cancelled() {
            true => Finish::Cancelled,
            false => {
                let mut on_token = |token| on_token(&mut writer, token);
                generate(session, prompt, reply, &generation, &|| !cancelled(), &mut on_token).await?
            }
        };
        let token_ids: Vec<u32> = reply.tokens.iter().map(|token| token.id).collect();
        if !stopped {
            let (piece, hit) = stops.push(&decoder.finish());
            writer.write(&piece);
            if hit.is_some() {
                finish = Finish::Stop;
            } else {
                writer.write(&stops.finish());
            }
        }
        writer.finish();
        let Writer { text, reasoning, tool_calls, logprobs, .. } = writer;
        // What was cut off may have lacked another call.
        let finish_reason = if finish == Finish::Stop && !tool_calls.is_empty() { "tool_calls" } else { finish.name() };
        let end = clock();
        let first = first.unwrap_or(end);
        let completion_tokens = token_ids.len();
        let decode_ms = end - first;
        let per_second =
            if decode_ms > 0.0 { 1000.0 * completion_tokens.saturating_sub(1) as f64 / decode_ms } else { 0.0 };
        Ok(Answer {
            text,
            reasoning: Some(reasoning).filter(|reasoning| !reasoning.is_empty()),
            token_ids,
            prompt_tokens,
            finish_reason,
            tool_calls,
            logprobs: options.logprobs.map(|_| logprobs),
            usage: Usage {
                prompt_tokens,
                image_tokens: images.iter().map(|i| i.tokens).sum(),
                video_tokens: videos.iter().map(|v| v.tokens).sum(),
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
            videos,
        })
    }

    /// Brings the conversation's cache to hold `messages`, so that an answer to these and what follows them begins sooner.
    /// Returns how many tokens they are.
    ///
    /// # Errors
    /// As [`Engine::ask`], and [`Error::Cancelled`].
    pub async fn append(
        &self,
        conversation: &mut Conversation,
        messages: &[Message],
        options: &AskOptions,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<usize> {
        if messages.last().is_some_and(|last| last.prefix) {
            // Nothing could follow it but an answer, so no prompt ever could.
            let expected = "whole messages; one that is gone on with is the last of a prompt";
            return Err(Error::invalid("messages", expected, "a prefix"));
        }
        let options = AskOptions { unanswered: true, ..options.clone() };
        let messages = &*tools::in_order(messages)?;
        let (prompt, infos) = self.prompt(conversation, messages, &options, cancelled).await?;
        if infos.cancelled || cancelled() {
            return Err(Error::Cancelled);
        }
        conversation.session.extend(&prompt, &|| !cancelled()).await?;
        Ok(prompt.ids.len())
    }

    /// Runs the prompt of `messages` and returns everything on the way.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn trace(&self, messages: &[Message], add_vision_id: bool) -> Result<Trace> {
        let mut conversation = self.conversation(usize::MAX)?;
        let options = AskOptions { add_vision_id, ..AskOptions::default() };
        let messages = &*tools::in_order(messages)?;
        let (prompt, _) = self.prompt(&mut conversation, messages, &options, &|| false).await?;
        let (mut images, mut videos) = (TraceMedia::default(), TraceMedia::default());
        for (medium, encoded) in messages.iter().flat_map(Message::media).zip(&prompt.media) {
            let all = if encoded.second_per_grid.is_some() { &mut videos } else { &mut images };
            all.grid_thw.extend([encoded.grid.t, encoded.grid.h, encoded.grid.w]);
            for patches in self.groups(medium) {
                all.pixel_values.extend(patches?.pixel_values);
            }
            for embeds in &encoded.embeds {
                all.embeds.extend(self.gpu.read_f32(&embeds.main, 0, embeds.main.len()).await?);
                all.deepstack.resize_with(embeds.deep.len(), Vec::new);
                for (all, deep) in all.deepstack.iter_mut().zip(&embeds.deep) {
                    all.extend(self.gpu.read_f32(deep, 0, deep.len()).await?);
                }
            }
        }
        let (positions, _) = conversation.session.positions(&prompt)?;
        let logits = conversation.session.all_logits(&prompt).await?;
        let p = &self.preprocessor;
        Ok(Trace {
            position_ids: (0..3).flat_map(|axis| positions.iter().map(move |p| p[axis])).collect(),
            images,
            videos,
            patch_len: 3 * p.temporal_patch_size * p.patch_size * p.patch_size,
            hidden: self.model.decoder.config().hidden,
            logits,
            vocab: self.model.decoder.config().vocab,
            rope_delta: conversation.session.rope_delta(),
            input_ids: prompt.ids,
        })
    }

    /// Ids from here on are padding of the lm_head, or have no row in it.
    fn ids_in_use(&self) -> usize {
        self.tokenizer.len().min(self.model.decoder.config().vocab)
    }

    /// What an answer may be, as [`constraint::compose`] has it, for this model's tokens.
    ///
    /// # Errors
    /// As there.
    pub fn compose(&self, tools: &[Tool], choice: &ToolChoice, form: Option<Value>) -> Result<Option<Value>> {
        let tag = |text: &str| self.tokenizer.id(text).is_some_and(|id| self.tokenizer.is_added(id));
        constraint::compose(tools, choice, form, tag("<tool_call>") && tag("</tool_call>"))
    }

    /// The tokens that an answer can have, for a grammar over them.
    pub fn vocabulary(&self) -> Vocabulary {
        Vocabulary::new(&self.tokenizer, self.ids_in_use(), self.stop_ids())
    }

    fn stop_ids(&self) -> Vec<u32> {
        match &self.generation.eos_token_ids[..] {
            [] => self.model.eos_token_ids.clone(),
            ids => ids.to_vec(),
        }
    }

    /// Token ids and media of a conversation, with the embeddings that its session is going to need.
    async fn prompt(
        &self,
        conversation: &mut Conversation,
        messages: &[Message],
        options: &AskOptions,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(Prompt, Infos)> {
        if !conversation.session.gpu().is(&self.gpu) {
            // What it held was on a device that is lost.
            *conversation = self.conversation(conversation.session.limit())?;
        }
        let (media, mut prompt, mut infos) = self.lay_out(conversation, messages, options)?;
        let limit = conversation.session.limit();
        let needed = prompt.ids.len() + usize::from(!options.unanswered);
        if needed > limit {
            return Err(Error::ContextOverflow { needed, limit });
        }

        // Pictures that are no longer part of the conversation give their memory back; those of others are held from now on.
        conversation.encoded.retain(|key, _| prompt.media.iter().any(|item| item.key == *key));
        for key in prompt.media.iter().map(|item| item.key) {
            if let Some(embeds) = self.encoded.find(key) {
                conversation.encoded.insert(key, embeds);
            }
        }
        for index in conversation.session.wanting(&prompt) {
            let key = prompt.media[index].key;
            // Twice in one conversation, encoded once.
            let known = prompt.media.iter().find(|item| item.key == key && !item.embeds.is_empty());
            let embeds = match known {
                Some(item) => item.embeds.clone(),
                None => match self.encode(media[index], cancelled).await {
                    Err(Error::Cancelled) => {
                        infos.cancelled = true;
                        break;
                    }
                    other => other?,
                },
            };
            if let (Medium::Image(..), None) = (media[index], known) {
                let embeds: Rc<[Embeds]> = embeds.clone().into();
                self.encoded.insert(key, &embeds);
                conversation.encoded.insert(key, embeds);
            }
            prompt.media[index].embeds = embeds;
        }
        Ok((prompt, infos))
    }

    /// Token ids and media of a conversation, with the embeddings that it has already. Answers of tools are in their calls' order.
    fn lay_out<'a>(
        &self,
        conversation: &Conversation,
        messages: &'a [Message],
        options: &AskOptions,
    ) -> Result<(Vec<Medium<'a>>, Prompt, Infos)> {
        let media: Vec<Medium> = messages.iter().flat_map(Message::media).collect();
        if self.model.vision.is_none() && !media.is_empty() {
            let found = "a picture or a video";
            return Err(Error::invalid("messages", "texts alone: this checkpoint has no vision tower", found));
        }
        // Sizes are known before anything is resized or goes to the device.
        let mut infos = Infos::default();
        let mut items = Vec::new();
        for medium in &media {
            let item = self.measure(*medium, &mut infos)?;
            let known = conversation.encoded.get(&item.key).cloned().or_else(|| self.encoded.find(item.key));
            items.push(Media { embeds: known.map_or_else(Vec::new, |known| known.to_vec()), ..item });
        }
        let ids = self.ids(messages, &media, &items, options, &mut infos)?;
        Ok((media, Prompt { ids, media: items }, infos))
    }

    /// Key and grid of a picture or video, without its embeddings.
    fn measure(&self, medium: Medium<'_>, infos: &mut Infos) -> Result<Media> {
        let p = &self.preprocessor;
        let (key, grid, second_per_grid) = match medium {
            Medium::Image(picture, options) => {
                let size = resized(picture, p, options)?;
                (self.encoded.key(picture, size), self.grid(1, size), None)
            }
            Medium::Video(video) => {
                let pace = (p.temporal_patch_size as f64 / video.sample_fps) as f32;
                (video.key, self.video_grid(video), Some(pace))
            }
        };
        let media = Media { key, grid, second_per_grid, embeds: Vec::new() };
        let tokens = media.tokens(self.model.media.merge)?;
        let patch = p.patch_size as u32;
        let resized = [grid.w * patch, grid.h * patch];
        match medium {
            Medium::Image(picture, _) => {
                infos.images.push(ImageInfo { original: [picture.width, picture.height], resized, tokens });
            }
            Medium::Video(video) => infos.videos.push(VideoInfo {
                original: [video.original.0, video.original.1],
                resized,
                timestamps: video.timestamps.clone(),
                sample_fps: video.sample_fps,
                tokens,
            }),
        }
        Ok(media)
    }

    /// Token ids of a conversation, with as many pads as its media have tokens.
    fn ids(
        &self,
        messages: &[Message],
        media: &[Medium<'_>],
        items: &[Media],
        options: &AskOptions,
        infos: &mut Infos,
    ) -> Result<Vec<u32>> {
        let flat = self.model.vision.is_none();
        if let Some(i) = messages.iter().rev().skip(1).position(|message| message.prefix) {
            let at = format!("messages[{}].prefix", messages.len() - 2 - i);
            return Err(Error::invalid(at, "the last message to be the one that is gone on with", "one before it"));
        }
        let prefix = messages.last().is_some_and(|last| last.prefix);
        let tools = options.tool_choice.offered(&options.tools)?;
        let mut rendered = self.template.render(
            &messages.iter().map(|message| message.for_template(flat)).collect::<Vec<_>>(),
            &RenderOptions {
                add_generation_prompt: !prefix && !options.unanswered,
                continue_final_message: prefix,
                add_vision_id: options.add_vision_id,
                control_tokens: self.tokenizer.control_tokens(),
                tools: (!tools.is_empty()).then(|| tools.iter().map(|tool| tool.json().clone()).collect()),
            },
        )?;
        infos.thinking = rendered.to_string_lossy().trim_end().ends_with("<think>");
        let model = self.model.media;
        let (mut images, mut videos) = (Vec::new(), Vec::new());
        for (medium, item) in media.iter().zip(items) {
            let tokens = item.tokens(model.merge)?;
            match medium {
                Medium::Image(..) => images.push(tokens),
                // One pad for each temporal patch in the rendered text.
                Medium::Video(_) if model.time == VideoTime::Text => {
                    let patches = item.grid.t as usize;
                    videos.extend(std::iter::repeat_n(tokens / patches, patches));
                }
                Medium::Video(_) => videos.push(tokens),
            }
        }
        if model.time == VideoTime::Text && !videos.is_empty() {
            let times = media.iter().filter_map(|medium| match medium {
                Medium::Video(video) => Some(patch_times(&video.timestamps, self.preprocessor.temporal_patch_size)),
                Medium::Image(..) => None,
            });
            rendered = self.write_times(rendered, times)?;
        }
        let ids = self.tokenizer.encode(&rendered)?;
        expand_pads(&ids, [(model.image, "image", &images), (model.video, "video", &videos)])
    }

    /// Replaces each video of a rendered prompt, `<|vision_start|><|video_pad|><|vision_end|>`, by one such triple for each of its
    /// temporal patches, its time written before it.
    ///
    /// transformers 4.57: `Qwen3VLProcessor.__call__` (5.23 replaces the pad alone, which leaves the outer two marks around).
    fn write_times(&self, rendered: RenderedPrompt, times: impl Iterator<Item = Vec<f64>>) -> Result<RenderedPrompt> {
        let text = |id: u32| self.tokenizer.decode(&[id], false);
        let pad = text(self.model.media.video)?;
        let mut times = times;
        let mut spans: Vec<Span> = Vec::new();
        let mut rest = rendered.spans.into_iter().peekable();
        while let Some(span) = rest.next() {
            let around = |span: Option<&Span>| match span {
                Some(Span::Control(mark)) => Some(mark.clone()),
                _ => None,
            };
            let (start, end) = (around(spans.last()), around(rest.peek()));
            match (span, start, end) {
                (Span::Control(token), Some(start), Some(end)) if token == pad => {
                    let Some(times) = times.next() else { continue };
                    spans.pop();
                    rest.next();
                    for time in times {
                        push_text(&mut spans, stamp(time));
                        spans.extend([&start, &pad, &end].map(|token| Span::Control(token.clone())));
                    }
                }
                (Span::Text(text), ..) => push_text(&mut spans, text),
                (control, ..) => spans.push(control),
            }
        }
        Ok(RenderedPrompt { spans })
    }

    /// The patches of a picture, or of a video's frames in groups of at most [`GROUP`] patches.
    fn groups<'a>(&'a self, medium: Medium<'a>) -> Box<dyn Iterator<Item = Result<Patches>> + 'a> {
        let p = &self.preprocessor;
        match medium {
            Medium::Image(picture, options) => Box::new(std::iter::once_with(|| preprocess(picture, p, options))),
            Medium::Video(video) => {
                let (frames, depth) = (&video.frames, p.temporal_patch_size.max(1));
                let area =
                    frames.first().map_or(1, |f| f.width as usize * f.height as usize) / p.patch_size.pow(2).max(1);
                let most = (p.max_pixels / p.patch_size.pow(2).max(1) as u64).min(GROUP as u64) as usize;
                let at_once = depth * (most / area.max(1)).max(1);
                Box::new(frames.chunks(at_once).map(|group| patchify(&group.iter().collect::<Vec<_>>(), p)))
            }
        }
    }

    /// Runs the vision tower over a picture, or over a video's frames group by group; [`Error::Cancelled`] between groups.
    async fn encode(&self, medium: Medium<'_>, cancelled: &dyn Fn() -> bool) -> Result<Vec<Embeds>> {
        let Some(vision) = &self.model.vision else { return Ok(Vec::new()) };
        let mut parts = Vec::new();
        // What the decoder took is of no use to the tower and the other way round, so neither stays beside the other.
        self.gpu.trim();
        for patches in self.groups(medium) {
            let patches = patches?;
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let [t, h, w] = patches.grid_thw;
            let encoded = vision.encode(&self.gpu, &patches.pixel_values, Grid::new(t, h, w));
            let settled = self.gpu.settle().await;
            // A device that is lost gives all kinds of errors, of which that is the reason.
            let encoded = if let Err(lost @ Error::DeviceLost { .. }) = &settled { Err(lost.clone()) } else { encoded };
            let embeds = encoded.and_then(|embeds| settled.map(|()| embeds)).map_err(|error| {
                self.gpu.trim();
                let (width, height) = patches.resized;
                error.advise(|| format!("The picture has {width}×{height} pixels for the model: lower max_pixels."))
            })?;
            parts.push(embeds);
        }
        self.gpu.trim();
        Ok(parts)
    }
}

/// Patches of a video that pass through the vision tower at once: bounds its memory however long the video is.
const GROUP: usize = 4096;

/// What becomes of a conversation besides its ids.
#[derive(Default)]
struct Infos {
    images: Vec<ImageInfo>,
    videos: Vec<VideoInfo>,
    /// Whether the prompt ends in the middle of reasoning.
    thinking: bool,
    /// Whether the caller ended it before all was encoded.
    cancelled: bool,
}

/// Texts are not neighbours.
fn push_text(spans: &mut Vec<Span>, text: String) {
    match spans.last_mut() {
        Some(Span::Text(before)) => before.push_str(&text),
        _ => spans.push(Span::Text(text)),
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
                        Part::Video(_) => text::Part::Video,
                    })
                    .collect(),
            ),
        };
        let calls: Vec<_> = self.tool_calls.iter().map(ToolCall::for_template).collect();
        text::Message {
            role: self.role.clone(),
            content,
            reasoning: self.reasoning.clone(),
            tool_calls: (!calls.is_empty()).then(|| calls.into()),
        }
    }
}

/// Each pad of the template becomes as many as its picture or video has tokens: for each kind the pad, its name and the
/// counts.
fn expand_pads(ids: &[u32], kinds: [(u32, &str, &[usize]); 2]) -> Result<Vec<u32>> {
    for (pad, kind, counts) in kinds {
        let pads = ids.iter().filter(|id| **id == pad).count();
        if pads != counts.len() {
            let expected = format!("{} {kind} pads, one for each {kind}", counts.len());
            return Err(Error::invalid("rendered messages", expected, format!("{pads} from the chat template")));
        }
    }
    let mut kinds = kinds.map(|(pad, _, counts)| (pad, counts.iter()));
    let mut out = Vec::with_capacity(ids.len());
    for &id in ids {
        let counts = kinds.iter_mut().find(|(pad, _)| *pad == id);
        let n = counts.and_then(|(_, counts)| counts.next().copied()).unwrap_or(1);
        out.extend(std::iter::repeat_n(id, n));
    }
    Ok(out)
}

/// The chat template of a checkpoint.
///
/// # Errors
/// Any error of the source; as [`ChatTemplate::find`].
pub async fn template(source: &dyn Source) -> Result<ChatTemplate> {
    let config = source.read_optional("tokenizer_config.json", MAX_SMALL_FILE).await?;
    let json = source.read_optional("chat_template.json", MAX_SMALL_FILE).await?;
    let jinja = source.read_optional("chat_template.jinja", MAX_SMALL_FILE).await?;
    ChatTemplate::find(config.as_deref(), json.as_deref(), jinja.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_expand_in_order() {
        let expand = |ids: &[u32], images: &[usize], videos: &[usize]| {
            expand_pads(ids, [(9, "image", images), (8, "video", videos)])
        };
        assert_eq!(expand(&[1, 9, 2, 8, 9], &[3, 1], &[2]).unwrap(), [1, 9, 9, 9, 2, 8, 8, 9]);
        for (images, videos) in [(&[3][..], &[][..]), (&[3], &[1]), (&[], &[2])] {
            assert_eq!(expand(&[1, 9, 9, 8], images, videos).unwrap_err().code(), "bad_request");
        }
    }
}
