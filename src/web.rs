//! The wasm-bindgen surface, nothing else: what `www/src/worker/worker.ts` calls. See `www/src/worker/wasm.ts` for its types.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use js_sys::{Array, Function, Object, Reflect, Uint8Array, Uint32Array};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use crate::chat::grounding::Convention;
use crate::chat::message_json::{self, RawMessage, RawPart, RawVideo};
use crate::chat::tools::{Tool, ToolChoice};
use crate::chat::{
    self, AskOptions, Content, DEFAULT_CONTEXT, Delta, Draft, Hooks, ImageInfo, Message, Part, grounding,
};
use crate::error::{Error, Result};
use crate::generate::constraint::{Constrained, Constraint};
use crate::generate::estimate::{self, Weights, Wish};
use crate::gpu::{Gpu, GpuOptions};
use crate::image::{ImageOptions, Picture, decode, smart_resize};
use crate::model::gguf::GgufModel;
use crate::video::{Track, Video, VideoBuilder, VideoOptions, VideoPlan};
use crate::weights::Checkpoint;
use crate::weights::prepared::{self, Prepared};
use crate::weights::quantize::Formats;
use crate::weights::source::{Expected, Pending, Source};

#[wasm_bindgen]
extern "C" {
    /// Gives byte ranges of the checkpoint's files.
    pub type Reader;
    #[wasm_bindgen(method, catch)]
    async fn size(this: &Reader, file: &str) -> std::result::Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn read(this: &Reader, file: &str, start: f64, end: f64) -> std::result::Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn expect(this: &Reader, reads: JsValue) -> std::result::Result<JsValue, JsValue>;
    #[wasm_bindgen(method)]
    fn sequential(this: &Reader) -> bool;
    #[wasm_bindgen(method)]
    fn prepared(this: &Reader) -> Option<String>;
    #[wasm_bindgen(method)]
    fn keeps(this: &Reader, size: f64) -> bool;
    #[wasm_bindgen(method)]
    fn keep(this: &Reader, offset: f64, bytes: &[u8]);

    /// What an answer may be: made by the module of `fanlight-grammar`.
    pub type Grammatical;
    #[wasm_bindgen(method, catch)]
    fn mask(this: &Grammatical) -> std::result::Result<Uint32Array, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn allows(this: &Grammatical, id: u32) -> std::result::Result<bool, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn commit(this: &Grammatical, id: u32) -> std::result::Result<(), JsValue>;
    #[wasm_bindgen(method, catch)]
    fn complete(this: &Grammatical) -> std::result::Result<bool, JsValue>;

    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn now() -> f64;
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Panics are bugs; their text must not be lost in a bare `unreachable`.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| console_error(&info.to_string())));
}

/// A [`Source`] that asks JavaScript. What JavaScript throws is kept, so that it can be thrown on as it was.
struct JsSource {
    reader: Reader,
    thrown: Rc<Cell<Option<JsValue>>>,
    prepared: Option<Prepared>,
}

impl JsSource {
    /// Opens prepared weights where the reader has some. Those that an older version has written are not used.
    async fn new(reader: Reader, thrown: &Rc<Cell<Option<JsValue>>>) -> Self {
        let file = reader.prepared();
        let mut source = JsSource { reader, thrown: thrown.clone(), prepared: None };
        if let Some(file) = file {
            source.prepared = prepared::open(&source, &file).await.ok();
        }
        source
    }

    fn failed(&self, file: &str, error: JsValue) -> Error {
        let message = text_of(&error, "message").unwrap_or_else(|| format!("{error:?}"));
        self.thrown.set(Some(error));
        Error::Io { path: file.to_owned(), message }
    }
}

impl Source for JsSource {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        Box::pin(async move {
            match self.reader.size(file).await {
                Ok(size) => Ok(size.as_f64().map(|n| n as u64)),
                Err(error) => Err(self.failed(file, error)),
            }
        })
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        Box::pin(async move {
            // Exact: files are far below 2^53 bytes.
            match self.reader.read(file, range.start as f64, range.end as f64).await {
                Ok(bytes) => Ok(Uint8Array::new(&bytes).to_vec()),
                Err(error) => Err(self.failed(file, error)),
            }
        })
    }

    fn expect<'a>(&'a self, reads: &'a [Expected]) -> Pending<'a, ()> {
        let read = |r: &Expected| json!({"file": r.file, "start": r.range.start, "end": r.range.end});
        Box::pin(async move {
            let reads = to_js(&Value::Array(reads.iter().map(read).collect()));
            self.reader.expect(reads).await.map(|_| ()).map_err(|error| self.failed("the checkpoint", error))
        })
    }

    fn sequential(&self) -> bool {
        self.reader.sequential()
    }

    fn tensors(&self) -> Option<&Checkpoint> {
        self.prepared.as_ref().map(|prepared| &prepared.checkpoint)
    }

    fn prepared(&self) -> Option<&Prepared> {
        self.prepared.as_ref()
    }

    fn keeps(&self, size: u64) -> bool {
        self.reader.keeps(size as f64)
    }

    fn keep(&self, offset: u64, bytes: &[u8]) {
        self.reader.keep(offset as f64, bytes);
    }
}

impl Constraint for Grammatical {
    fn mask(&mut self, bits: &mut Vec<u32>) -> Result<()> {
        let mask = Grammatical::mask(self).map_err(refused)?;
        bits.resize(mask.length() as usize, 0);
        mask.copy_to(bits);
        Ok(())
    }

    fn allows(&mut self, id: u32) -> Result<bool> {
        Grammatical::allows(self, id).map_err(refused)
    }

    fn commit(&mut self, id: u32) -> Result<()> {
        Grammatical::commit(self, id).map_err(refused)
    }

    fn complete(&mut self) -> Result<bool> {
        Grammatical::complete(self).map_err(refused)
    }
}

/// What the grammar's module threw: its own error as it is, or the end of that module.
fn refused(error: JsValue) -> Error {
    match (text_of(&error, "what"), text_of(&error, "expected"), text_of(&error, "found")) {
        (Some(what), Some(expected), Some(found)) => Error::Invalid { what, expected, found },
        _ => {
            let found = text_of(&error, "message").unwrap_or_else(|| format!("{error:?}"));
            Error::invalid("responseConstraint", "one that can be followed", found)
        }
    }
}

/// A running sha256, for JavaScript: browsers have none that takes a file piece by piece.
#[wasm_bindgen]
#[derive(Default)]
pub struct Sha256(sha2::Sha256);

#[wasm_bindgen]
impl Sha256 {
    /// Nothing hashed yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    /// The hash in hexadecimal digits; ready for something else then.
    pub fn finish(&mut self) -> String {
        let digest = sha2::Digest::finalize_reset(&mut self.0);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A checkpoint on a device, which may become another one.
#[wasm_bindgen]
pub struct Engine {
    engine: Rc<Current>,
    pixels: ImageOptions,
    context: usize,
    formats: Formats,
    decisions: Vec<String>,
}

/// The engine on the device of now; sessions look it up for every call.
struct Current(RefCell<Rc<chat::Engine>>);

impl Current {
    fn get(&self) -> Rc<chat::Engine> {
        self.0.borrow().clone()
    }
}

/// What loading with these options would take of this device, as [`estimate::Estimate::to_json`]; reads the small files and
/// the headers.
///
/// # Errors
/// As [`Engine::load`].
#[wasm_bindgen]
pub async fn estimate(reader: Reader, options: JsValue) -> std::result::Result<JsValue, JsValue> {
    let thrown = Rc::new(Cell::new(None));
    let source = JsSource::new(reader, &thrown).await;
    let estimating = async {
        let options = plain(&options)?;
        let wish = wish(&options)?;
        let gpu = Gpu::open(&GpuOptions::default()).await?;
        let gguf = gguf(&source, &options).await?;
        let source: &dyn Source = gguf.as_ref().map_or(&source, |gguf| gguf as &dyn Source);
        Ok(to_js(&estimate::of(source, gpu.caps().limits(), &wish).await?.to_json()))
    };
    estimating.await.map_err(|error| thrown.take().unwrap_or_else(|| to_js_error(&error)))
}

async fn gguf<'a>(source: &'a JsSource, options: &Value) -> Result<Option<GgufModel<'a>>> {
    match text(options, "gguf")? {
        Some(file) => GgufModel::open(source, file, text(options, "mmproj")?).await.map(Some),
        None => Ok(None),
    }
}

/// `weights` (`auto` or [`Formats`]), `kvCache` (`f32` or `q8`), `contextLength`, `maxPixels` and `memory` of the options.
fn wish(options: &Value) -> Result<Wish> {
    Ok(Wish {
        weights: text(options, "weights")?.map_or(Ok(Weights::Fixed(Formats::default())), str::parse)?,
        cache: text(options, "kvCache")?.map(str::parse).transpose()?,
        context: natural(options, "contextLength")?.map_or(DEFAULT_CONTEXT, |n| n as usize),
        max_pixels: natural(options, "maxPixels")?,
        memory: natural(options, "memory")?,
    })
}

#[wasm_bindgen]
impl Engine {
    /// Opens the device and loads a checkpoint: a folder, or with `options.gguf` a file of it, whose vision tower is
    /// `options.mmproj`. `options.weights` are the [`Formats`] of floats, or `auto`.
    ///
    /// # Errors
    /// An `Error` with `code`, `hint` and `retryable`, or whatever the reader threw.
    pub async fn load(reader: Reader, options: JsValue, on_progress: Function) -> std::result::Result<Engine, JsValue> {
        let thrown = Rc::new(Cell::new(None));
        let source = JsSource::new(reader, &thrown).await;
        let loading = async {
            let options = plain(&options)?;
            let wish = wish(&options)?;
            let gpu = Gpu::open(&GpuOptions::default()).await?;
            let gguf = gguf(&source, &options).await?;
            let source: &dyn Source = gguf.as_ref().map_or(&source, |gguf| gguf as &dyn Source);
            let (formats, cache, chosen) = match wish.weights {
                Weights::Fixed(formats) => (formats, wish.cache.unwrap_or_default(), None),
                Weights::Auto => {
                    let chosen = estimate::of(source, gpu.caps().limits(), &wish).await?;
                    chosen.check()?;
                    (chosen.formats, chosen.cache, Some(chosen))
                }
            };
            let quantizes = formats != Formats::default() && source.prepared().is_none();
            let phase = if quantizes { "quantize" } else { "upload" };
            // What the listener throws is its own affair.
            let tell = |phase: &str, done: u64, total: u64| {
                let event = json!({"phase": phase, "loaded": done, "total": total});
                let _ = on_progress.call1(&JsValue::NULL, &to_js(&event));
            };
            let mut progress = |done, total| tell(phase, done, total);
            let compiling = || tell("compile", 0, 0);
            let mut engine = chat::Engine::load_with(&gpu, source, &formats, cache, &mut progress, &compiling).await?;
            let mut context = wish.context;
            if let Some(chosen) = &chosen {
                context = chosen.context_length;
                chosen.max_pixels.into_iter().for_each(|most| engine.lower_max_pixels(most));
            }
            let min_pixels = natural(&options, "minPixels")?;
            // The chosen one is the engine's own now.
            let max_pixels = wish.max_pixels.filter(|_| chosen.is_none());
            let pixels = ImageOptions { min_pixels, max_pixels, ..ImageOptions::default() };
            let decisions = chosen.map_or(Vec::new(), |chosen| chosen.decisions);
            let engine = Rc::new(Current(RefCell::new(Rc::new(engine))));
            Ok(Engine { engine, pixels, context, formats, decisions })
        };
        loading.await.map_err(|error| thrown.take().unwrap_or_else(|| to_js_error(&error)))
    }

    /// Loads the checkpoint again, on a new device in place of the one that was lost, from the same files in the same formats.
    /// Sessions stay: what they hold is computed again when it is needed.
    ///
    /// # Errors
    /// As [`Engine::load`]; `webgpu_unavailable` where the browser gives no device any more.
    pub async fn reload(&self, reader: Reader, options: JsValue) -> std::result::Result<(), JsValue> {
        let thrown = Rc::new(Cell::new(None));
        let source = JsSource::new(reader, &thrown).await;
        let loading = async {
            let options = plain(&options)?;
            let old = self.engine.get();
            old.gpu().close("another device takes its place");
            let gpu = Gpu::open(&GpuOptions::default()).await?;
            let gguf = gguf(&source, &options).await?;
            let source: &dyn Source = gguf.as_ref().map_or(&source, |gguf| gguf as &dyn Source);
            let engine = old.again(&gpu, source, &self.formats, &mut |_, _| {}).await?;
            *self.engine.0.borrow_mut() = Rc::new(engine);
            Ok(())
        };
        loading.await.map_err(|error: Error| thrown.take().unwrap_or_else(|| to_js_error(&error)))
    }

    /// Resolves with the reason when the device of now is lost.
    pub async fn lost(&self) -> String {
        let lost = self.engine.get().gpu().lost();
        lost.await
    }

    /// What was loaded: `{modelType, parameters, weightBytes, contextLength, maxPixels, weights, kvCache, decisions, taskPrompts}`.
    pub fn info(&self) -> JsValue {
        let engine = self.engine.get();
        let model = engine.model();
        to_js(&json!({
            "modelType": model.family,
            "parameters": model.parameters,
            "weightBytes": model.weight_bytes.iter().map(|(_, bytes)| bytes).sum::<u64>(),
            "contextLength": self.context.min(model.max_positions),
            "weights": self.formats.to_string(),
            "kvCache": engine.cache_format().name(),
            "decisions": self.decisions,
            "maxPixels": self.pixels.max_pixels.unwrap_or(engine.preprocessor().max_pixels),
            "taskPrompts": engine.task_prompts(),
        }))
    }

    /// Which frames of a video to take, and how large: `{indices, times, sampleFps, width, height, tokens, decisions}`. Both
    /// arguments are JSON: [`Track`] and [`VideoOptions`], among these `mostTokens`, what is left of the context for it.
    ///
    /// # Errors
    /// As [`Engine::load`].
    #[wasm_bindgen(js_name = planVideo)]
    pub fn plan_video(&self, track: &str, options: &str) -> std::result::Result<JsValue, JsValue> {
        let planning = || {
            let options = parsed(options, "options")?;
            let track = Track::from_json(&parsed(track, "track")?)?;
            let left = natural(&options, "mostTokens")?.map_or(self.context, |n| self.context.min(n as usize));
            self.engine.get().plan_video(&track, &VideoOptions::from_json(&options, "options")?, left)
        };
        let json = |plan: VideoPlan| {
            let mut json = plan.to_json();
            json["promptTokens"] = self.engine.get().planned_tokens(&plan).into();
            to_js(&json)
        };
        planning().map(json).map_err(|e| to_js_error(&e))
    }

    /// A new conversation. Options: `{addVisionId}`.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn session(&self, options: JsValue) -> std::result::Result<Session, JsValue> {
        let options = plain(&options).map_err(|e| to_js_error(&e))?;
        let conversation = self.engine.get().conversation(self.context).map_err(|e| to_js_error(&e))?;
        Ok(Session {
            engine: self.engine.clone(),
            pixels: self.pixels,
            add_vision_id: options["addVisionId"] == true,
            state: RefCell::new(Some(State { conversation, messages: Vec::new(), unfinished: None })),
        })
    }

    /// The tokens of the model, for a grammar over them: `{bytes, ends, control, stop}`.
    pub fn vocabulary(&self) -> JsValue {
        let all = self.engine.get().vocabulary();
        let control: Vec<u8> = all.control.iter().map(|&control| control.into()).collect();
        let object = Object::new();
        let fields: [(&str, JsValue); 4] = [
            ("bytes", Uint8Array::from(&all.bytes[..]).into()),
            ("ends", Uint32Array::from(&all.ends[..]).into()),
            ("control", Uint8Array::from(&control[..]).into()),
            ("stop", Uint32Array::from(&all.stop[..]).into()),
        ];
        for (name, value) in fields {
            // Setting a field of a fresh object cannot fail.
            let _ = Reflect::set(&object, &JsValue::from_str(name), &value);
        }
        object.into()
    }

    /// What an answer may be, as JSON for the grammar's module, of `{tools, toolChoice, responseConstraint}`; nothing where it
    /// may be anything. The last is `{jsonSchema}`, `{regex, flags}` or `{lark}`.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn constraint(&self, options: JsValue) -> std::result::Result<Option<String>, JsValue> {
        let composed = plain(&options).and_then(|options| {
            let form = Some(&options["responseConstraint"]).filter(|form| !form.is_null()).cloned();
            let (tools, choice) = (Tool::list(&options["tools"])?, ToolChoice::from_json(&options["toolChoice"])?);
            self.engine.get().compose(&tools, &choice, form)
        });
        composed.map(|spec| spec.map(|spec| spec.to_string())).map_err(|e| to_js_error(&e))
    }

    /// What a text of this model locates in pictures `[{original, resized}]`, as an answer's `located`.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn locate(&self, text: &str, pictures: JsValue) -> std::result::Result<JsValue, JsValue> {
        located(self.engine.get().convention(), text, &pictures).map_err(|e| to_js_error(&e))
    }

    /// The blocks of a page that this model wrote as HTML, of a picture `{original, resized}`.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn document(&self, html: &str, picture: JsValue) -> std::result::Result<JsValue, JsValue> {
        blocks(self.engine.get().convention(), html, &picture).map_err(|e| to_js_error(&e))
    }

    /// The events that a text tells of, in seconds.
    pub fn events(&self, text: &str) -> JsValue {
        to_js(&json!(grounding::events(text)))
    }
}

/// A video of which the frames come one by one, as `planVideo` wants them.
#[wasm_bindgen]
pub struct VideoInput(VideoBuilder);

#[wasm_bindgen]
impl VideoInput {
    /// Waits for the frames of what `planVideo` gave.
    ///
    /// # Errors
    /// As [`Engine::load`].
    #[wasm_bindgen(constructor)]
    pub fn new(plan: JsValue) -> std::result::Result<VideoInput, JsValue> {
        let plan = plain(&plan).and_then(VideoPlan::from_json);
        plan.map(|plan| VideoInput(VideoBuilder::new(plan))).map_err(|e| to_js_error(&e))
    }

    /// Takes the next frame: upright pixels of four bytes, of which the fourth is not looked at.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn push(&mut self, rgba: &[u8], width: u32, height: u32, timestamp: f64) -> std::result::Result<(), JsValue> {
        let rgb = rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        let frame = Picture::new(width, height, rgb);
        frame.and_then(|frame| self.0.push(&frame, timestamp)).map_err(|e| to_js_error(&e))
    }

    /// Takes the next frame as the file of a picture.
    ///
    /// # Errors
    /// As [`Engine::load`].
    #[wasm_bindgen(js_name = pushEncoded)]
    pub fn push_encoded(&mut self, bytes: &[u8], timestamp: f64) -> std::result::Result<(), JsValue> {
        decode(bytes).and_then(|frame| self.0.push(&frame, timestamp)).map_err(|e| to_js_error(&e))
    }
}

/// Width and height of the file of a picture, upright.
///
/// # Errors
/// As [`Engine::load`].
#[wasm_bindgen(js_name = imageSize)]
pub fn image_size(bytes: &[u8]) -> std::result::Result<JsValue, JsValue> {
    let picture = decode(bytes).map_err(|e| to_js_error(&e))?;
    Ok(to_js(&json!({"width": picture.width, "height": picture.height})))
}

/// How large a model of `model_type` that runs elsewhere sees a picture that is `width` × `height`, by the rule of its family and
/// the limits of its server, those of the family's checkpoints if not given:
/// `{original, resized, tokens}`.
///
/// # Errors
/// As [`Engine::load`].
#[wasm_bindgen(js_name = sizesFor)]
pub fn sizes_for(model_type: &str, width: u32, height: u32, limits: JsValue) -> std::result::Result<JsValue, JsValue> {
    let sizes = || {
        let limits = plain(&limits)?;
        // Of the checkpoints on the Hub: a token is a square of 28 pixels, from Qwen3-VL on of 32.
        let (factor, least, most) =
            if model_type.starts_with("qwen3") { (32, 65_536, 16_777_216) } else { (28, 3136, 12_845_056) };
        let most = natural(&limits, "maxPixels")?.unwrap_or(most);
        let least = natural(&limits, "minPixels")?.unwrap_or(least).min(most);
        let (h, w) = smart_resize(height, width, factor, least, most)?;
        let size = |width: u32, height: u32| json!({"width": width, "height": height});
        let tokens = u64::from(w / factor) * u64::from(h / factor);
        Ok(to_js(&json!({"original": size(width, height), "resized": size(w, h), "tokens": tokens})))
    };
    sizes().map_err(|e: Error| to_js_error(&e))
}

/// As [`Engine::locate`], for a text that a model of `model_type` has written elsewhere.
///
/// # Errors
/// As [`Engine::load`].
#[wasm_bindgen(js_name = locateFor)]
pub fn locate_for(model_type: &str, text: &str, pictures: JsValue) -> std::result::Result<JsValue, JsValue> {
    located(Convention::of(model_type), text, &pictures).map_err(|e| to_js_error(&e))
}

/// As [`Engine::document`], for a page that a model of `model_type` has written elsewhere.
///
/// # Errors
/// As [`Engine::load`].
#[wasm_bindgen(js_name = documentFor)]
pub fn document_for(model_type: &str, html: &str, picture: JsValue) -> std::result::Result<JsValue, JsValue> {
    blocks(Convention::of(model_type), html, &picture).map_err(|e| to_js_error(&e))
}

fn located(convention: Option<Convention>, text: &str, pictures: &JsValue) -> Result<JsValue> {
    let list = plain(pictures)?;
    let pictures = list.as_array().into_iter().flatten().map(image_info).collect::<Result<Vec<_>>>()?;
    let located = convention.map(|convention| grounding::locate(text, convention, &pictures));
    Ok(to_js(&json!(located.unwrap_or_default())))
}

fn blocks(convention: Option<Convention>, html: &str, picture: &JsValue) -> Result<JsValue> {
    let picture = image_info(&plain(picture)?)?;
    let blocks = convention.map(|convention| grounding::document(html, convention, &picture));
    Ok(to_js(&json!(blocks.unwrap_or_default())))
}

/// A conversation: it remembers its messages.
#[wasm_bindgen]
pub struct Session {
    engine: Rc<Current>,
    pixels: ImageOptions,
    add_vision_id: bool,
    /// Taken out while a call runs.
    state: RefCell<Option<State>>,
}

struct State {
    conversation: chat::Conversation,
    messages: Vec<Message>,
    /// What the device was lost over; its messages are among the others.
    unfinished: Option<Unfinished>,
}

struct Unfinished {
    before: Before,
    work: Work,
}

/// What was said before.
enum Before {
    /// So many of the messages.
    First(usize),
    /// These, and none of the messages of now.
    Others(Vec<Message>),
}

enum Work {
    Append(Box<AskOptions>),
    Answer(Box<Answering>),
}

struct Answering {
    draft: Draft,
    options: AskOptions,
    new_pictures: usize,
    /// When the call came.
    begun: f64,
}

impl State {
    /// The messages that count: all but those of what was not finished.
    fn settled(&self) -> &[Message] {
        match &self.unfinished {
            None => &self.messages,
            Some(Unfinished { before: Before::First(n), .. }) => &self.messages[..self.messages.len().min(*n)],
            Some(Unfinished { before: Before::Others(messages), .. }) => messages,
        }
    }

    fn undo(&mut self, before: Before) {
        match before {
            Before::First(n) => self.messages.truncate(n),
            Before::Others(messages) => self.messages = messages,
        }
    }
}

#[wasm_bindgen]
impl Session {
    /// Tokens that the texts, calls and pictures of these messages take, and `tools` (JSON), which their videos have to leave free.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn tokens(&self, messages: &str, images: Array, tools: &str) -> std::result::Result<f64, JsValue> {
        let engine = self.engine.get();
        let count = || {
            let mut tokens = engine.tokens(&Part::Text(tools.to_owned()));
            for message in message_json::parse(messages.as_bytes())? {
                tokens += message.text.map_or(0, |text| engine.tokens(&Part::Text(text)));
                for call in &message.tool_calls {
                    tokens += engine.tokens(&Part::Text(json!(call).to_string()));
                }
                for part in message.parts {
                    tokens += match part {
                        RawPart::Text(text) => engine.tokens(&Part::Text(text)),
                        RawPart::Image(name, own) => {
                            let index = name.parse::<u32>().unwrap_or(u32::MAX);
                            let picture = decode(&Uint8Array::new(&images.get(index)).to_vec())?;
                            engine.tokens(&Part::Image(Rc::new(picture), self.limited(own)))
                        }
                        RawPart::Video(..) => 0,
                    };
                }
            }
            Ok(tokens as f64)
        };
        count().map_err(|e: Error| to_js_error(&e))
    }

    /// What `prompt` with the same arguments would take: `Plan` of `www/src/types/generate.ts`, less what JavaScript knows of its videos.
    ///
    /// # Errors
    /// As [`Engine::load`]. The conversation stays as it is.
    pub fn plan(
        &self,
        messages: &str,
        images: Array,
        videos: Vec<VideoInput>,
        options: JsValue,
    ) -> std::result::Result<JsValue, JsValue> {
        let plan = || {
            let state = self.state.borrow();
            let state = state.as_ref().ok_or_else(busy)?;
            let options = self.options(&plain(&options)?)?;
            let (turn, [pictures, _]) = self.turn(messages, &images, videos)?;
            let all: Vec<Message> = state.settled().iter().cloned().chain(turn).collect();
            let mut plan = self.engine.get().plan(&state.conversation, &all, &options)?;
            plan.images.drain(..plan.images.len().saturating_sub(pictures));
            Ok(to_js(&json!(plan)))
        };
        plan().map_err(|error: Error| to_js_error(&error))
    }

    /// Another conversation that has come as far. It shares memory with this one until one of the two goes on.
    ///
    /// # Errors
    /// As [`Engine::load`].
    #[wasm_bindgen(js_name = clone)]
    pub fn fork(&self) -> std::result::Result<Session, JsValue> {
        let state = self.state.borrow();
        let state = state.as_ref().ok_or_else(|| to_js_error(&busy()))?;
        let conversation = state.conversation.fork().map_err(|error| to_js_error(&error))?;
        let state = State { conversation, messages: state.settled().to_vec(), unfinished: None };
        let (engine, pixels, add_vision_id) = (self.engine.clone(), self.pixels, self.add_vision_id);
        Ok(Session { engine, pixels, add_vision_id, state: RefCell::new(Some(state)) })
    }

    /// Adds messages as `prompt` does and computes all that is known before an answer. Returns the conversation's tokens.
    ///
    /// # Errors
    /// As [`Session::prompt`]; `aborted` if it is cancelled.
    pub async fn append(
        &self,
        messages: String,
        images: Array,
        videos: Vec<VideoInput>,
        options: JsValue,
        cancelled: Function,
    ) -> std::result::Result<JsValue, JsValue> {
        let begin = || {
            let options = self.options(&plain(&options)?)?;
            let (turn, _) = self.turn(&messages, &images, videos)?;
            Ok((turn, Work::Append(Box::new(options))))
        };
        self.begin(begin, false, None, &cancelled).await
    }

    /// Adds messages (JSON; pictures are indices into `images`, which are encoded files, and videos into `videos`, which are
    /// used up) and answers. With `options.replace` they take the place of all that was said before; what the cache holds of
    /// their beginning is not computed again. `constraint`: a fresh one, for this answer.
    ///
    /// # Errors
    /// As [`Engine::load`]. The conversation is then as it was before the call; only `device_lost` leaves it open for `resume`.
    #[expect(clippy::too_many_arguments, reason = "JavaScript calls it, and half of them are callbacks")]
    pub async fn prompt(
        &self,
        messages: String,
        images: Array,
        videos: Vec<VideoInput>,
        options: JsValue,
        on_delta: Function,
        cancelled: Function,
        constraint: Option<Grammatical>,
    ) -> std::result::Result<JsValue, JsValue> {
        let replace = Reflect::get(&options, &JsValue::from_str("replace")).is_ok_and(|value| value.is_truthy());
        let begin = || {
            let (draft, begun) = (Draft::default(), now());
            let constraint = constraint.map(Constrained::new);
            let options = AskOptions { constraint, ..self.options(&plain(&options)?)? };
            let (turn, [new_pictures, _]) = self.turn(&messages, &images, videos)?;
            Ok((turn, Work::Answer(Box::new(Answering { draft, options, new_pictures, begun }))))
        };
        self.begin(begin, replace, Some(&on_delta), &cancelled).await
    }

    /// Goes on with what ended with `device_lost`, when the engine has another device, and returns what that would have.
    ///
    /// # Errors
    /// As there.
    pub async fn resume(&self, on_delta: Function, cancelled: Function) -> std::result::Result<JsValue, JsValue> {
        let mut state = self.state.borrow_mut().take().ok_or_else(|| to_js_error(&busy()))?;
        let result = match state.unfinished.take() {
            Some(unfinished) => self.run(&mut state, unfinished, Some(&on_delta), &cancelled).await,
            None => Err(Error::invalid("resume", "a call that lost its device", "none")),
        };
        *self.state.borrow_mut() = Some(state);
        result.map(|value| to_js(&value)).map_err(|error| to_js_error(&error))
    }
}

impl Session {
    async fn begin(
        &self,
        begin: impl FnOnce() -> Result<(Vec<Message>, Work)>,
        replace: bool,
        on_delta: Option<&Function>,
        cancelled: &Function,
    ) -> std::result::Result<JsValue, JsValue> {
        let mut state = self.state.borrow_mut().take().ok_or_else(|| to_js_error(&busy()))?;
        // Nobody goes on with it any more.
        if let Some(unfinished) = state.unfinished.take() {
            state.undo(unfinished.before);
        }
        let result = match begin() {
            Ok((turn, work)) => {
                let before = match replace {
                    true => Before::Others(std::mem::take(&mut state.messages)),
                    false => Before::First(state.messages.len()),
                };
                state.messages.extend(turn);
                self.run(&mut state, Unfinished { before, work }, on_delta, cancelled).await
            }
            Err(error) => Err(error),
        };
        *self.state.borrow_mut() = Some(state);
        result.map(|value| to_js(&value)).map_err(|error| to_js_error(&error))
    }

    async fn run(
        &self,
        state: &mut State,
        mut unfinished: Unfinished,
        on_delta: Option<&Function>,
        cancelled: &Function,
    ) -> Result<Value> {
        let cancelled = || cancelled.call0(&JsValue::NULL).is_ok_and(|stop| stop.is_truthy());
        let result = match &mut unfinished.work {
            Work::Append(options) => {
                let engine = self.engine.get();
                let tokens = engine.append(&mut state.conversation, &state.messages, options, &cancelled).await;
                tokens.map(|tokens| json!(tokens))
            }
            Work::Answer(answering) => self.answer(state, answering, on_delta, &cancelled).await,
        };
        match result {
            Err(Error::DeviceLost { .. }) => state.unfinished = Some(unfinished),
            Err(_) => state.undo(unfinished.before),
            Ok(_) => {}
        }
        result
    }

    async fn answer(
        &self,
        state: &mut State,
        Answering { draft, options, new_pictures, begun }: &mut Answering,
        on_delta: Option<&Function>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Value> {
        let engine = self.engine.get();
        let mut tell = |delta: Delta| {
            let mut event = json!({"text": delta.text});
            if !delta.reasoning.is_empty() {
                event["reasoning"] = json!(delta.reasoning);
            }
            if let Some(call) = delta.call {
                event["toolCall"] = json!(call);
            }
            if !delta.logprobs.is_empty() {
                event["logprobs"] = json!(delta.logprobs);
            }
            // What the listener throws is its own affair.
            let _ = on_delta.map(|on_delta| on_delta.call1(&JsValue::NULL, &to_js(&event)));
        };
        let hooks = Hooks { on_delta: &mut tell, cancelled, clock: &now };
        let answer = engine.go_on(draft, &mut state.conversation, &state.messages, options, hooks).await?;
        answer.join(&mut state.messages);
        let t = answer.timings;
        let size = |[width, height]: [u32; 2]| json!({"width": width, "height": height});
        let new = answer.images.len().saturating_sub(*new_pictures);
        let mut result = json!({
            "located": engine.locate(&answer),
            "text": answer.text,
            "reasoning": answer.reasoning,
            "tokenIds": answer.token_ids,
            "finishReason": answer.finish_reason,
            "usage": {
                "promptTokens": answer.usage.prompt_tokens,
                "imageTokens": answer.usage.image_tokens,
                "videoTokens": answer.usage.video_tokens,
                "completionTokens": answer.usage.completion_tokens,
                "cachedTokens": answer.usage.cached_tokens,
            },
            "timings": {
                "imageMs": t.image_ms,
                "prefillMs": t.prefill_ms,
                "ttftMs": now() - *begun - t.decode_ms,
                "decodeMs": t.decode_ms,
                "decodeTps": t.decode_tokens_per_second,
            },
            "images": answer.images[new..].iter().map(|i| json!({
                "original": size(i.original), "resized": size(i.resized), "tokens": i.tokens,
            })).collect::<Vec<_>>(),
        });
        if !answer.tool_calls.is_empty() {
            result["toolCalls"] = json!(answer.tool_calls);
        }
        if let Some(logprobs) = &answer.logprobs {
            result["logprobs"] = json!(logprobs);
        }
        Ok(result)
    }

    /// Messages as they cross from JavaScript, and how many pictures and videos they brought.
    fn turn(&self, messages: &str, images: &Array, videos: Vec<VideoInput>) -> Result<(Vec<Message>, [usize; 2])> {
        let turn = message_json::parse(messages.as_bytes())?;
        let pictures = images.iter().map(|bytes| decode(&Uint8Array::new(&bytes).to_vec()).map(Rc::new));
        let pictures = pictures.collect::<Result<Vec<_>>>()?;
        let videos = videos.into_iter().map(|video| video.0.finish().map(Rc::new)).collect::<Result<Vec<_>>>()?;
        let turn = turn.into_iter().map(|m| self.message(m, &pictures, &videos)).collect::<Result<Vec<_>>>()?;
        Ok((turn, [pictures.len(), videos.len()]))
    }

    /// A picture's own options, and the engine's where it has none.
    fn limited(&self, own: ImageOptions) -> ImageOptions {
        ImageOptions {
            min_pixels: own.min_pixels.or(self.pixels.min_pixels),
            max_pixels: own.max_pixels.or(self.pixels.max_pixels),
            ..own
        }
    }

    fn message(&self, raw: RawMessage, pictures: &[Rc<Picture>], videos: &[Rc<Video>]) -> Result<Message> {
        let content = match raw.text {
            Some(text) => Content::Text(text),
            None => {
                let part = |part| match part {
                    RawPart::Text(text) => Ok(Part::Text(text)),
                    RawPart::Image(name, own) => {
                        let picture = name.parse::<usize>().ok().and_then(|i| pictures.get(i));
                        let picture = picture.ok_or_else(|| Error::invalid("image", "the index of a picture", name))?;
                        Ok(Part::Image(picture.clone(), self.limited(own)))
                    }
                    RawPart::Video(raw, _) => {
                        let RawVideo::File(name) = raw else {
                            return Err(Error::invalid("video", "the index of a video", "a list"));
                        };
                        let video = name.parse::<usize>().ok().and_then(|i| videos.get(i));
                        let video = video.ok_or_else(|| Error::invalid("video", "the index of a video", name))?;
                        Ok(Part::Video(video.clone()))
                    }
                };
                Content::Parts(raw.parts.into_iter().map(part).collect::<Result<_>>()?)
            }
        };
        let RawMessage { role, reasoning, tool_calls, tool_call_id, prefix, .. } = raw;
        Ok(Message { role, content, reasoning, tool_calls, tool_call_id, prefix })
    }

    /// The checkpoint's sampling defaults, changed by what the caller names.
    fn options(&self, o: &Value) -> Result<AskOptions> {
        let mut own = o.clone();
        // The second is in the constraint that comes beside.
        own.as_object_mut().map(|fields| ["replace", "responseConstraint"].map(|name| fields.remove(name)));
        let options = AskOptions::from_json(&own, self.engine.get().generation_config())?;
        Ok(AskOptions { add_vision_id: self.add_vision_id, ..options })
    }
}

/// Calls to a worker come one after another, so nobody should see this.
fn busy() -> Error {
    Error::invalid("session", "one call at a time", "a second one")
}

/// An options object as JSON; `undefined` is an empty one.
fn plain(value: &JsValue) -> Result<Value> {
    let text = js_sys::JSON::stringify(value).ok().and_then(|text| text.as_string());
    let json = text.map_or(Ok(Value::Null), |text| serde_json::from_str(&text));
    json.map_err(|e| Error::invalid("options", "an object of plain values", e.to_string()))
}

/// A picture's sizes: `{original: {width, height}, resized: {width, height}}`.
fn image_info(picture: &Value) -> Result<ImageInfo> {
    let size = |name: &str| {
        let side = |side: &str| picture[name][side].as_f64().filter(|n| *n >= 1.0 && *n <= f64::from(u32::MAX));
        match (side("width"), side("height")) {
            (Some(width), Some(height)) => Ok([width as u32, height as u32]),
            _ => Err(Error::invalid(name, "a size {width, height} in pixels", picture[name].to_string())),
        }
    };
    Ok(ImageInfo { original: size("original")?, resized: size("resized")?, tokens: 0 })
}

fn parsed(json: &str, what: &str) -> Result<Value> {
    serde_json::from_str(json).map_err(|e| Error::invalid(what, "JSON", e.to_string()))
}

fn text<'a>(options: &'a Value, name: &str) -> Result<Option<&'a str>> {
    match &options[name] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        other => Err(Error::invalid(name, "a string", other.to_string())),
    }
}

fn natural(options: &Value, name: &str) -> Result<Option<u64>> {
    match &options[name] {
        Value::Null => Ok(None),
        value => match value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0 && *n < 9e15) {
            Some(n) => Ok(Some(n as u64)),
            None => Err(Error::invalid(name, "a whole number that is not negative", value.to_string())),
        },
    }
}

fn to_js(value: &Value) -> JsValue {
    js_sys::JSON::parse(&value.to_string()).unwrap_or(JsValue::NULL)
}

/// A JavaScript `Error` with the fields of `www/src/errors.ts`.
fn to_js_error(error: &Error) -> JsValue {
    let object: Object = js_sys::Error::new(&error.to_string()).into();
    let fields = [
        ("code", JsValue::from_str(error.code())),
        ("hint", JsValue::from_str(error.hint())),
        ("retryable", JsValue::from_bool(error.retryable())),
    ];
    for (name, value) in fields {
        // Setting a field of a fresh object cannot fail.
        let _ = Reflect::set(&object, &JsValue::from_str(name), &value);
    }
    object.into()
}

fn text_of(object: &JsValue, field: &str) -> Option<String> {
    Reflect::get(object, &JsValue::from_str(field)).ok()?.as_string()
}
