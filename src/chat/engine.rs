//! A checkpoint that is loaded and ready to answer, and a conversation with it.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde_json::Value;

use super::answer::Answer;
use super::constraint::{self, Vocabulary};
use super::encoded::Encoded;
use super::grounding::{self, Convention, Located};
use super::tools::{Tool, ToolChoice};
use crate::dtype::CacheFormat;
use crate::error::{Error, Result};
use crate::generate::config::GenerationConfig;
use crate::generate::session::{Session, prepare};
use crate::gpu::Gpu;
use crate::image::PreprocessorConfig;
use crate::model::config::task_prompts;
use crate::model::{Embeds, Model, processor, registry};
use crate::text::{ChatTemplate, Tokenizer};
use crate::weights::folder::Folder;
use crate::weights::quantize::Formats;
use crate::weights::source::{MAX_SMALL_FILE, MAX_TOKENIZER_CONFIG, Source};

/// Most tokens of a conversation unless the caller asks for another limit. It bounds the memory of keys and values.
pub const DEFAULT_CONTEXT: usize = 32768;

/// A checkpoint ready to answer.
pub struct Engine {
    pub(super) gpu: Gpu,
    pub(super) model: Rc<Model>,
    pub(super) tokenizer: Rc<Tokenizer>,
    pub(super) template: ChatTemplate,
    pub(super) preprocessor: PreprocessorConfig,
    pub(super) generation: GenerationConfig,
    task_prompts: BTreeMap<String, String>,
    cache: CacheFormat,
    pub(super) encoded: Encoded,
}

/// A conversation: its session on the device and the embeddings of its pictures. Frames of videos are encoded whenever the session
/// needs them, and their embeddings are not kept.
pub struct Conversation {
    pub(super) session: Session,
    pub(super) encoded: HashMap<u128, Rc<[Embeds]>>,
}

impl Conversation {
    /// A second conversation with the same past. Both share the memory of that past until one of them continues.
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
    /// [`Error::Missing`](crate::Error::Missing) for a file that is needed, any error of its content, any error of the device.
    pub async fn load(gpu: &Gpu, source: &dyn Folder, progress: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        Self::load_as(gpu, source, &Formats::default(), progress).await
    }

    /// The same, with float weights quantized while they are loaded.
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

    /// The same, for conversations that keep keys and values in the format `cache`. `compiling` is called when compiling the shaders
    /// begins, which happens while the weights are still being read.
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
        // Small files are read first, so that a checkpoint that cannot chat fails before its weights are read.
        let (config, bytes) = registry::read_config(source).await?;
        let task_prompts = task_prompts(&bytes)?;
        let tokenizer = tokenizer(source).await?;
        let template = template(source).await?;
        let found = processor::read(source).await?;
        let preprocessor = found.clone().unwrap_or_default();
        if let Some((tower, _)) = &config.vision {
            if found.is_none() {
                return Err(Error::missing(processor::FILES.join(" or "), source.place()));
            }
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

    /// The same checkpoint on another device: its weights are read again. Conversations of this engine can be continued there; their
    /// caches start empty, so their messages are computed again.
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

    /// The questions that the checkpoint was trained with, by task, if its config.json lists them.
    pub fn task_prompts(&self) -> &BTreeMap<String, String> {
        &self.task_prompts
    }

    /// How many pictures have been through the vision tower. As long as one conversation holds a picture, no other one encodes it
    /// again.
    pub fn encoded_pictures(&self) -> usize {
        self.encoded.runs()
    }

    /// How pictures are resized and normalised for this checkpoint.
    pub fn preprocessor(&self) -> &PreprocessorConfig {
        &self.preprocessor
    }

    /// In which unit the model writes coordinates. `None` for a text model.
    pub fn convention(&self) -> Option<Convention> {
        Convention::of(self.model.family)
    }

    /// What an answer locates in the pictures of its conversation, in their own pixels.
    pub fn locate(&self, answer: &Answer) -> Vec<Located> {
        let Some(convention) = self.convention() else { return Vec::new() };
        // Qwen2-VL, and fine-tunes of every family, write boxes between control tokens, which the answer's text is without.
        let marks: Vec<u32> = grounding::CONTROL_TOKENS.iter().filter_map(|token| self.tokenizer.id(token)).collect();
        let marked = answer.token_ids.iter().any(|id| marks.contains(id));
        let marked = marked.then(|| self.tokenizer.decode(&answer.token_ids, false).ok()).flatten();
        // With its control tokens, the text also has the reasoning before it again.
        let said = marked.as_deref().map(|text| match (&answer.reasoning, text.rsplit_once("</think>")) {
            (Some(_), Some((_, said))) => said,
            _ => text,
        });
        let mut located = grounding::locate(said.unwrap_or(&answer.text), convention, &answer.images);
        for call in &answer.tool_calls {
            located.extend(grounding::located_in(&call.described(), convention, &answer.images));
        }
        located
    }

    /// Allows pictures no more pixels than this, unless a picture's own options say otherwise.
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

    /// How many ids stand for a token and have a row in the lm_head. Rows from here on are padding.
    pub(super) fn ids_in_use(&self) -> usize {
        self.tokenizer.len().min(self.model.decoder.config().vocab)
    }

    /// What an answer may be, as [`constraint::compose`] puts it together, for this model's tokens.
    ///
    /// # Errors
    /// As [`constraint::compose`].
    pub fn compose(&self, tools: &[Tool], choice: &ToolChoice, form: Option<Value>) -> Result<Option<Value>> {
        let tag = |text: &str| self.added(text).is_some();
        constraint::compose(tools, choice, form, tag("<tool_call>") && tag("</tool_call>"))
    }

    /// The id of a token that was added to the tokenizer, so that ordinary text never has it.
    pub(super) fn added(&self, token: &str) -> Option<u32> {
        self.tokenizer.id(token).filter(|id| self.tokenizer.is_added(*id))
    }

    /// The tokens that an answer may consist of, as a grammar over them needs them.
    pub fn vocabulary(&self) -> Vocabulary {
        Vocabulary::new(&self.tokenizer, self.ids_in_use(), self.stop_ids())
    }

    /// The ids that end an answer.
    pub(super) fn stop_ids(&self) -> Vec<u32> {
        match &self.generation.eos_token_ids[..] {
            [] => self.model.eos_token_ids.clone(),
            ids => ids.to_vec(),
        }
    }
}

/// The tokenizer of a checkpoint.
///
/// # Errors
/// Any error of the source; as [`Tokenizer::from_files`].
pub async fn tokenizer(source: &dyn Source) -> Result<Tokenizer> {
    let json = source.read_all("tokenizer.json", MAX_SMALL_FILE).await?;
    let config = source.read_optional("tokenizer_config.json", MAX_TOKENIZER_CONFIG).await?;
    let added = source.read_optional("added_tokens.json", MAX_TOKENIZER_CONFIG).await?;
    Tokenizer::from_files(&json, config.as_deref(), added.as_deref())
}

/// The chat template of a checkpoint.
///
/// # Errors
/// Any error of the source; as [`ChatTemplate::find`].
pub async fn template(source: &dyn Source) -> Result<ChatTemplate> {
    let config = source.read_optional("tokenizer_config.json", MAX_TOKENIZER_CONFIG).await?;
    let json = source.read_optional("chat_template.json", MAX_SMALL_FILE).await?;
    let jinja = source.read_optional("chat_template.jinja", MAX_SMALL_FILE).await?;
    ChatTemplate::find(config.as_deref(), json.as_deref(), jinja.as_deref())
}
