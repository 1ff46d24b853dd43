//! `model_type` → family. A new family is one folder and one line here.

use std::rc::Rc;

use crate::dtype::CacheFormat;
use crate::error::{Error, Result, in_words};
use crate::gpu::Gpu;
use crate::model::decoder::DecoderConfig;
use crate::model::load::Loaded;
use crate::model::{Model, VisionSizes, qwen2, qwen2_5_vl};
use crate::weights::index::Checkpoint;
use crate::weights::plan::{self, Limits, MatrixSpec, Plan, VectorSpec};
use crate::weights::quantize::Formats;
use crate::weights::source::Source;

/// The `model_type`s that can be loaded.
pub const FAMILIES: [&str; 2] = [qwen2_5_vl::config::MODEL_TYPE, qwen2::MODEL_TYPE];

/// Largest config.json that is read.
const MAX_CONFIG: u64 = 4 << 20;

/// Reads `config.json` and says which family it is.
///
/// # Errors
/// [`Error::Missing`], [`Error::Malformed`], or [`Error::UnsupportedModel`] for another `model_type`.
pub async fn read_config(source: &dyn Source) -> Result<(&'static str, Vec<u8>)> {
    let bytes = source.read_all("config.json", MAX_CONFIG).await?;
    let json: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::malformed("config.json", "a JSON object", e.to_string()))?;
    let found = json.get("model_type").and_then(serde_json::Value::as_str).unwrap_or("no model_type");
    match FAMILIES.iter().find(|family| **family == found) {
        Some(family) => Ok((family, bytes)),
        None => {
            Err(Error::UnsupportedModel { found: format!("model_type {found:?}"), expected: FAMILIES.join(" or ") })
        }
    }
}

/// Loads the checkpoint in `source` onto the device, floats in the given formats. `progress` gets bytes done and in all;
/// `begin` gets the model before its weights are there, to prepare what needs only their shapes.
///
/// # Errors
/// Any error of the source, of the checkpoint's files, or of the device.
pub async fn load(
    gpu: &Gpu,
    source: &dyn Source,
    formats: &Formats,
    progress: &mut dyn FnMut(u64, u64),
    begin: &dyn Fn(&Rc<Model>) -> Result<()>,
) -> Result<Rc<Model>> {
    let (family, config) = read_config(source).await?;
    let (model, pending) = match family {
        qwen2_5_vl::config::MODEL_TYPE => qwen2_5_vl::build(gpu, source, &config, formats).await?,
        qwen2::MODEL_TYPE => qwen2::build(gpu, source, &config, formats).await?,
        other => return Err(Error::UnsupportedModel { found: other.into(), expected: FAMILIES.join(" or ") }),
    };
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
    /// The `model_type`.
    pub family: &'static str,
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
    /// Reads them.
    ///
    /// # Errors
    /// As [`load`], less the device's.
    pub async fn read(source: &dyn Source) -> Result<Self> {
        let (family, config) = read_config(source).await?;
        match family {
            qwen2_5_vl::config::MODEL_TYPE => qwen2_5_vl::tables(source, &config).await.map(|(_, tables)| tables),
            qwen2::MODEL_TYPE => qwen2::tables(source, &config).await.map(|(.., tables)| tables),
            other => Err(Error::UnsupportedModel { found: other.into(), expected: FAMILIES.join(" or ") }),
        }
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
pub async fn describe(source: &dyn Source, limits: Limits, formats: &Formats) -> Result<Description> {
    let tables = Tables::read(source).await?;
    let plan = tables.plan(limits, formats)?;
    Ok(Description {
        family: tables.family,
        parameters: plan.parameters(),
        vision: tables.vision.as_ref().map(|vision| (vision.blocks(), vision.hidden())),
        decoder: tables.decoder,
        max_positions: tables.max_positions,
        plan,
    })
}
