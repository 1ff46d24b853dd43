//! A loaded checkpoint: what it tells of itself, and what it makes for a session.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::{Function, Object, Reflect, Uint8Array, Uint32Array};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use super::convert::{natural, parsed, plain, text, to_js, to_js_error, whole};
use super::current::Current;
use super::grounding::{blocks, located};
use super::session::Session;
use super::source::{JsSource, Reader};
use crate::chat::tools::{Tool, ToolChoice};
use crate::chat::{self, DEFAULT_CONTEXT, grounding};
use crate::error::{Error, Result};
use crate::generate::estimate::{self, Weights, Wish};
use crate::gpu::{Gpu, GpuOptions};
use crate::image::ImageOptions;
use crate::model::gguf::GgufModel;
use crate::video::{Track, VideoOptions, VideoPlan};
use crate::weights::folder::Folder;
use crate::weights::quantize::Formats;

/// A checkpoint on a device. When that device is lost, another one can take its place ([`Engine::reload`]).
#[wasm_bindgen]
pub struct Engine {
    engine: Rc<Current>,
    pixels: ImageOptions,
    context: usize,
    formats: Formats,
    decisions: Vec<String>,
}

/// What loading with these options would take of this device, as [`estimate::Estimate::to_json`]. Only the small files and the
/// headers of the large ones are read.
///
/// # Errors
/// As [`Engine::load`].
#[wasm_bindgen]
pub async fn estimate(reader: Reader, options: JsValue) -> Result<JsValue, JsValue> {
    let thrown = Rc::new(Cell::new(None));
    let source = JsSource::new(reader, &thrown).await;
    let estimating = async {
        let options = plain(&options)?;
        let wish = wish(&options)?;
        let gpu = Gpu::open(&GpuOptions::default()).await?;
        let gguf = gguf(&source, &options).await?;
        let source: &dyn Folder = gguf.as_ref().map_or(&source, |gguf| gguf as &dyn Folder);
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
        context: natural(options, "contextLength")?.map_or(DEFAULT_CONTEXT, whole),
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
    pub async fn load(reader: Reader, options: JsValue, on_progress: Function) -> Result<Engine, JsValue> {
        let thrown = Rc::new(Cell::new(None));
        let source = JsSource::new(reader, &thrown).await;
        let loading = async {
            let options = plain(&options)?;
            let wish = wish(&options)?;
            let gpu = Gpu::open(&GpuOptions::default()).await?;
            let gguf = gguf(&source, &options).await?;
            let source: &dyn Folder = gguf.as_ref().map_or(&source, |gguf| gguf as &dyn Folder);
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
            // An error that the listener throws does not stop the load.
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
            // If it was chosen, the engine has it already.
            let max_pixels = wish.max_pixels.filter(|_| chosen.is_none());
            let pixels = ImageOptions { min_pixels, max_pixels, ..ImageOptions::default() };
            let decisions = chosen.map_or(Vec::new(), |chosen| chosen.decisions);
            let engine = Rc::new(Current::new(engine));
            Ok(Engine { engine, pixels, context, formats, decisions })
        };
        loading.await.map_err(|error| thrown.take().unwrap_or_else(|| to_js_error(&error)))
    }

    /// Loads the same files in the same formats onto a new device, in place of the one that was lost. Sessions stay; their caches
    /// are computed again when they are needed.
    ///
    /// # Errors
    /// As [`Engine::load`]; `webgpu_unavailable` where the browser gives no device any more.
    pub async fn reload(&self, reader: Reader, options: JsValue) -> Result<(), JsValue> {
        let thrown = Rc::new(Cell::new(None));
        let source = JsSource::new(reader, &thrown).await;
        let loading = async {
            let options = plain(&options)?;
            let old = self.engine.get();
            old.gpu().close("another device takes its place");
            let gpu = Gpu::open(&GpuOptions::default()).await?;
            let gguf = gguf(&source, &options).await?;
            let source: &dyn Folder = gguf.as_ref().map_or(&source, |gguf| gguf as &dyn Folder);
            let engine = old.again(&gpu, source, &self.formats, &mut |_, _| {}).await?;
            self.engine.replace(engine);
            Ok(())
        };
        loading.await.map_err(|error: Error| thrown.take().unwrap_or_else(|| to_js_error(&error)))
    }

    /// Resolves with the reason when the present device is lost.
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
    /// arguments are JSON: a [`Track`], and [`VideoOptions`] with `mostTokens`, the tokens that are left for the video.
    ///
    /// # Errors
    /// As [`Engine::load`].
    #[wasm_bindgen(js_name = planVideo)]
    pub fn plan_video(&self, track: &str, options: &str) -> Result<JsValue, JsValue> {
        let planning = || {
            let options = parsed(options, "options")?;
            let track = Track::from_json(&parsed(track, "track")?)?;
            let left = natural(&options, "mostTokens")?.map_or(self.context, |n| self.context.min(whole(n)));
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
    pub fn session(&self, options: JsValue) -> Result<Session, JsValue> {
        let options = plain(&options).map_err(|e| to_js_error(&e))?;
        let conversation = self.engine.get().conversation(self.context).map_err(|e| to_js_error(&e))?;
        Ok(Session::new(self.engine.clone(), conversation, self.pixels, options["addVisionId"] == true))
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

    /// What an answer may be under the options `{tools, toolChoice, responseConstraint}`, as JSON for the grammar's module.
    /// Nothing if it may be anything. `responseConstraint` is `{jsonSchema}`, `{regex, flags}` or `{lark}`.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn constraint(&self, options: JsValue) -> Result<Option<String>, JsValue> {
        let composed = plain(&options).and_then(|options| {
            let form = Some(&options["responseConstraint"]).filter(|form| !form.is_null()).cloned();
            let (tools, choice) = (Tool::list(&options["tools"])?, ToolChoice::from_json(&options["toolChoice"])?);
            self.engine.get().compose(&tools, &choice, form)
        });
        composed.map(|spec| spec.map(|spec| spec.to_string())).map_err(|e| to_js_error(&e))
    }

    /// What a text of this model locates in pictures `[{original, resized}]`, in the form of an answer's `located`.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn locate(&self, text: &str, pictures: JsValue) -> Result<JsValue, JsValue> {
        located(self.engine.get().convention(), text, &pictures).map_err(|e| to_js_error(&e))
    }

    /// The blocks of a page, which this model wrote as HTML from a picture `{original, resized}`.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn document(&self, html: &str, picture: JsValue) -> Result<JsValue, JsValue> {
        blocks(self.engine.get().convention(), html, &picture).map_err(|e| to_js_error(&e))
    }

    /// The events with times that a text mentions, in seconds.
    pub fn events(&self, text: &str) -> JsValue {
        to_js(&json!(grounding::events(text)))
    }
}
