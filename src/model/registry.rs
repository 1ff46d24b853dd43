//! `model_type` → family. A new family is one folder and one line here.

use std::rc::Rc;

use crate::dtype::CacheFormat;
use crate::error::{Error, Result, in_words};
use crate::gpu::Gpu;
use crate::model::config::{Config, quantization};
use crate::model::decoder::{Decoder, DecoderConfig};
use crate::model::family::Family;
use crate::model::load::Loaded;
use crate::model::positions::MediaTokens;
use crate::model::vision::{Sizes, Vision};
use crate::model::{
    Model, VisionSizes, VisionTower, head, names, qwen2, qwen2_5_vl, qwen2_vl, qwen3, qwen3_vl, section,
};
use crate::weights::folder::{self, Folder};
use crate::weights::index::Checkpoint;
use crate::weights::plan::{self, Limits, Plan};
use crate::weights::quantize::Formats;
use crate::weights::source::Source;
use crate::weights::specs::{MatrixSpec, VectorSpec};

/// The families that can be loaded.
pub static FAMILIES: [&Family; 5] =
    [&qwen3_vl::FAMILY, &qwen2_5_vl::FAMILY, &qwen2_vl::FAMILY, &qwen3::FAMILY, &qwen2::FAMILY];

/// Reads the bytes of a `config.json` of any family.
///
/// # Errors
/// [`Error::UnsupportedModel`] for another `model_type`, or as [`Config::parse`].
pub fn parse_config(bytes: &[u8]) -> Result<Config> {
    let json = section::json(bytes)?;
    let found = json.get("model_type").and_then(serde_json::Value::as_str).unwrap_or("no model_type");
    match FAMILIES.iter().find(|family| family.model_type == found) {
        Some(family) => Config::read(family, &json),
        None => {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
            let found = format!("model_type {found:?}");
            Err(Error::UnsupportedModel { found, expected: known.join(" or ") })
        }
    }
}

/// Reads `config.json`; also its bytes.
///
/// # Errors
/// [`Error::Missing`], or as [`parse_config`].
pub async fn read_config(source: &dyn Source) -> Result<(Config, Vec<u8>)> {
    let bytes = source.read_all(section::FILE, section::MAX_FILE as u64).await?;
    Ok((parse_config(&bytes)?, bytes))
}

/// Loads the checkpoint in `source` onto the device, floats in the given formats. `progress` gets bytes done and in all;
/// `begin` gets the model before its weights are there, to prepare what needs only their shapes.
///
/// # Errors
/// Any error of the source, of the checkpoint's files, or of the device.
pub async fn load(
    gpu: &Gpu,
    source: &dyn Folder,
    formats: &Formats,
    progress: &mut dyn FnMut(u64, u64),
    begin: &dyn Fn(&Rc<Model>) -> Result<()>,
) -> Result<Rc<Model>> {
    let tables = Tables::read(source).await?;
    let mut pending = tables.allocate(gpu, formats).await?;
    let model = pending.model()?;
    let model = Rc::new(model);
    let Pending { tables, plan, loaded } = pending;
    let filled = loaded.fill(gpu, &plan, &tables.checkpoint, source, progress, &|| begin(&model)).await;
    filled.map_err(|error| error.advise(|| tables.lighter(gpu.caps().limits(), &plan)))?;
    Ok(model)
}

/// A model whose buffers are there and whose weights are not.
pub struct Pending {
    /// What the checkpoint has.
    pub tables: Tables,
    /// What goes where.
    pub plan: Plan,
    /// The buffers.
    pub loaded: Loaded,
}

impl Pending {
    /// The model, before its weights are there.
    fn model(&mut self) -> Result<Model> {
        let Pending { tables: Tables { config, decoder, .. }, plan, loaded } = self;
        let (vision, media) = match &config.vision {
            None => (None, MediaTokens::NONE),
            Some((vision, ids)) => {
                let merge = vision.spatial_merge_size as u32;
                let media = MediaTokens { image: ids.image, video: ids.video, merge, time: vision.time };
                let tower: Box<dyn VisionTower> = Box::new(Vision::new(vision.clone(), loaded)?);
                (Some(tower), media)
            }
        };
        Ok(Model {
            family: config.family.model_type,
            decoder: Decoder::new(decoder.clone(), config.tie_word_embeddings, loaded)?,
            vision,
            rope: config.text.rope(),
            media,
            max_positions: config.text.max_position_embeddings,
            eos_token_ids: config.text.eos_token_ids.clone(),
            parameters: plan.parameters(),
            weight_bytes: plan.device_bytes().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect(),
        })
    }
}

/// What [`load`] would do, known without a device.
#[derive(Debug, Clone)]
pub struct Description {
    /// The `model_type`.
    pub family: &'static str,
    /// Which bytes go to which buffer.
    pub plan: Plan,
    /// Parameters in the checkpoint's tensors that the model uses.
    pub parameters: u64,
    /// The decoder.
    pub decoder: DecoderConfig,
    /// Longest context that the checkpoint is made for.
    pub max_positions: usize,
    /// Blocks and width of the vision tower, if there is one.
    pub vision: Option<(usize, usize)>,
}

impl Description {
    /// Bytes of KV cache for a context of `tokens`.
    pub fn cache_bytes(&self, tokens: usize, format: CacheFormat) -> u64 {
        self.decoder.cache(format).bytes(tokens)
    }

    /// Most patches of one picture whose widest intermediate `[patches, vision width]` in f32 fits one binding.
    pub fn max_patches(&self, max_binding: u64) -> Option<u64> {
        self.vision.map(|(_, width)| max_binding / (4 * width as u64).max(1))
    }
}

/// What a checkpoint's small files say: enough to plan every buffer of the model before any weight is read.
#[derive(Debug, Clone)]
pub struct Tables {
    /// What its `config.json` says.
    pub config: Config,
    /// The tensors that there are.
    pub checkpoint: Checkpoint,
    /// The matrices that the model wants.
    pub matrices: Vec<MatrixSpec>,
    /// The vectors that the model wants.
    pub vectors: Vec<VectorSpec>,
    /// The decoder.
    pub decoder: DecoderConfig,
    /// Longest context that the checkpoint is made for.
    pub max_positions: usize,
    /// The vision tower, if there is one.
    pub vision: Option<Rc<dyn VisionSizes>>,
}

impl Tables {
    /// Reads the small files of the checkpoint in `source`.
    ///
    /// # Errors
    /// As [`load`], less the device's.
    pub async fn read(source: &dyn Folder) -> Result<Self> {
        let (mut config, bytes) = read_config(source).await?;
        let mut checkpoint = folder::checkpoint(source).await?.renamed(names::canonical)?;
        checkpoint.quantization = quantization(&bytes)?;
        let checkpoint = head::settle(&mut config, checkpoint, source).await?;
        Ok(Tables::new(config, checkpoint))
    }

    /// What `config` makes of the tensors of `checkpoint`, which have canonical names.
    pub fn new(config: Config, checkpoint: Checkpoint) -> Self {
        let (matrices, vectors) = names::specs(&config, &|name| checkpoint.get(name).is_some());
        let frames = matrices.iter().filter(|m| m.name.starts_with("vision.patch_embed")).count();
        let vision = config.vision.as_ref().map(|(vision, _)| {
            let sizes: Rc<dyn VisionSizes> = Rc::new(Sizes { config: vision.clone(), frames });
            sizes
        });
        let decoder = DecoderConfig::of(&config);
        let max_positions = config.text.max_position_embeddings;
        Tables { config, checkpoint, matrices, vectors, decoder, max_positions, vision }
    }

    /// Which bytes go to which buffer, with floats in the given formats.
    ///
    /// # Errors
    /// As [`plan::plan`].
    pub fn plan(&self, limits: Limits, formats: &Formats) -> Result<Plan> {
        plan::plan(&self.checkpoint, &self.matrices, &self.vectors, limits, formats)
    }

    /// Plans, and allocates the weights' buffers.
    ///
    /// # Errors
    /// As [`Tables::plan`] and [`Loaded::allocate`]; [`Error::OutOfMemory`] hints at what lighter formats would take.
    pub async fn allocate(self, gpu: &Gpu, formats: &Formats) -> Result<Pending> {
        let limits = gpu.caps().limits();
        let plan = self.plan(limits, formats)?;
        match Loaded::allocate(gpu, &plan).await {
            Ok(loaded) => Ok(Pending { tables: self, plan, loaded }),
            Err(error) => Err(error.advise(|| self.lighter(limits, &plan))),
        }
    }

    /// What the weights take, and what they would take in lighter formats.
    fn lighter(&self, limits: Limits, plan: &Plan) -> String {
        let mut bytes = plan.device_bytes().values().sum::<u64>();
        let mut text = format!("The weights take {}", in_words(bytes));
        for formats in &Formats::LADDER[1..] {
            let lighter = self.plan(limits, formats).map_or(u64::MAX, |p| p.device_bytes().values().sum());
            if lighter < bytes {
                text.push_str(&format!(", {} with {formats}", in_words(lighter)));
                bytes = lighter;
            }
        }
        text + "; the context length and max_pixels decide what is needed beside them."
    }
}

/// Reads configuration and tensor tables and plans under the given limits, without touching a device.
///
/// # Errors
/// As [`load`], less the device's.
pub async fn describe(source: &dyn Folder, limits: Limits, formats: &Formats) -> Result<Description> {
    let tables = Tables::read(source).await?;
    let plan = tables.plan(limits, formats)?;
    Ok(Description {
        family: tables.config.family.model_type,
        parameters: plan.parameters(),
        vision: tables.vision.as_ref().map(|vision| (vision.blocks(), vision.hidden())),
        decoder: tables.decoder,
        max_positions: tables.max_positions,
        plan,
    })
}
