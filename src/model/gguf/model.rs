//! A GGUF file as a source of weights that shows the files of a checkpoint folder.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value as Json;

use super::config::{config, generation, preprocessor, with_vision};
use super::mmproj::deepstack;
use super::names::Names;
use super::parts::parts;
use super::tokenizer::{tokenizer, tokenizer_config};
use crate::error::{Error, Result};
use crate::model::family::Family;
use crate::model::registry::FAMILIES;
use crate::weights::folder::Folder;
use crate::weights::gguf::Gguf;
use crate::weights::index::Checkpoint;
use crate::weights::safetensors::TensorInfo;
use crate::weights::source::{Expected, Pending, Source};

/// A model in one GGUF file (or the parts it is split into), seen as a checkpoint folder.
pub struct GgufModel<'a> {
    files: &'a dyn Source,
    small: BTreeMap<&'static str, Vec<u8>>,
    checkpoint: Checkpoint,
}

impl<'a> GgufModel<'a> {
    /// Reads the headers of `file` in `files`, of the other parts if it is the first of several, and of the file of its
    /// vision tower, `mmproj`. Without one it is a text model.
    ///
    /// # Errors
    /// Any error of the source; [`Error::Malformed`] for headers that are none or lack what a model needs;
    /// [`Error::UnsupportedModel`] for another architecture or kind of tokenizer.
    pub async fn open(files: &'a dyn Source, file: &str, mmproj: Option<&str>) -> Result<Self> {
        let gguf = Gguf::read(files, file).await?;
        let mut tensors = gguf.tensors.clone();
        for part in parts(&gguf, file)? {
            tensors.extend(Gguf::read(files, &part).await?.tensors);
        }
        let vision = match mmproj {
            Some(mmproj) => Some(Gguf::read(files, mmproj).await?),
            None => None,
        };
        let family = family(&gguf, vision.as_ref())?;
        let names = match (&family.vision, &vision) {
            (Some(tower), Some(vision)) => Names::new(&tower.names, &deepstack(vision)?),
            _ => Names::default(),
        };
        tensors.extend(vision.iter().flat_map(unswapped));
        let tensors: Vec<TensorInfo> =
            tensors.into_iter().map(|t| TensorInfo { name: names.canonical(&t.name), ..t }).collect();
        let checkpoint = Checkpoint::new(tensors)?;
        let text = config(&gguf, family, &checkpoint)?;
        let mut small = BTreeMap::new();
        let config = match &vision {
            None => text,
            Some(vision) => {
                small.insert("preprocessor_config.json", to_bytes(&preprocessor(family, vision)?));
                with_vision(&gguf, family, text, vision, &checkpoint)?
            }
        };
        small.extend([
            ("config.json", to_bytes(&config)),
            ("generation_config.json", to_bytes(&generation(&gguf)?)),
            ("tokenizer.json", to_bytes(&tokenizer(&gguf)?)),
            ("tokenizer_config.json", to_bytes(&tokenizer_config(&gguf)?)),
        ]);
        Ok(GgufModel { files, small, checkpoint })
    }
}

impl Source for GgufModel<'_> {
    fn place(&self) -> String {
        self.files.place()
    }

    fn size<'b>(&'b self, file: &'b str) -> Pending<'b, Option<u64>> {
        match self.small.get(file) {
            Some(bytes) => Box::pin(async move { Ok(Some(bytes.len() as u64)) }),
            // A file that lies beside the GGUF file and is no part of the model is not in the folder shown here.
            None if !self.checkpoint.tensors().any(|t| t.file == file) => Box::pin(async { Ok(None) }),
            None => self.files.size(file),
        }
    }

    fn read<'b>(&'b self, file: &'b str, range: Range<u64>) -> Pending<'b, Vec<u8>> {
        match self.small.get(file) {
            Some(bytes) => Box::pin(async move {
                let part = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
                let part = part.and_then(|(start, end)| bytes.get(start..end));
                part.map(<[u8]>::to_vec)
                    .ok_or_else(|| Error::malformed(file, format!("{range:?}"), format!("{} bytes", bytes.len())))
            }),
            None => self.files.read(file, range),
        }
    }

    fn expect<'b>(&'b self, reads: &'b [Expected]) -> Pending<'b, ()> {
        self.files.expect(reads)
    }

    fn sequential(&self) -> bool {
        self.files.sequential()
    }
}

impl Folder for GgufModel<'_> {
    fn tensors(&self) -> Option<&Checkpoint> {
        Some(&self.checkpoint)
    }
}

fn to_bytes(json: &Json) -> Vec<u8> {
    json.to_string().into_bytes()
}

/// The family of a decoder of this architecture, with a tower of this projector or without.
fn family(gguf: &Gguf, vision: Option<&Gguf>) -> Result<&'static Family> {
    let arch = gguf.text("general.architecture")?.unwrap_or("no architecture");
    let of_arch: Vec<&Family> = FAMILIES.iter().filter(|f| f.gguf.architecture == arch).copied().collect();
    if of_arch.is_empty() {
        let mut known: Vec<&str> = FAMILIES.iter().map(|f| f.gguf.architecture).collect();
        known.dedup();
        let found = format!("GGUF architecture {arch:?}");
        return Err(Error::UnsupportedModel { found, expected: format!("architecture {}", known.join(" or ")) });
    }
    let Some(vision) = vision else {
        // Without its tower, the decoder of a vision-language model is a model of the text family that it was made of.
        let text = FAMILIES.iter().find(|f| f.vision.is_none() && f.model_type == of_arch[0].gguf.text);
        return text.copied().ok_or_else(|| Error::missing(of_arch[0].gguf.text, "the families"));
    };
    let found = vision.text("clip.projector_type")?.or(vision.text("clip.vision.projector_type")?);
    let projector = |f: &&Family| f.gguf.projector.is_some() && f.gguf.projector == found;
    of_arch.iter().find(|f| projector(f)).copied().ok_or_else(|| {
        let known: Vec<&str> = of_arch.iter().filter_map(|f| f.gguf.projector).collect();
        let expected = match &known[..] {
            [] => format!("no vision tower, for architecture {arch}"),
            known => format!("projector {}", known.join(" or ")),
        };
        Error::UnsupportedModel { found: format!("vision projector {:?}", found.unwrap_or("none")), expected }
    })
}

/// The tensors of a vision tower. Early converters wrote `ffn_up` for `ffn_down` and the reverse; shapes tell.
fn unswapped(vision: &Gguf) -> Vec<TensorInfo> {
    let width = vision.count("clip.vision.embedding_length").unwrap_or(0);
    let up = vision.tensors.iter().find(|t| t.name == "v.blk.0.ffn_up.weight");
    let swapped = up.is_some_and(|up| up.shape.last() != Some(&width));
    let mut tensors = vision.tensors.clone();
    for tensor in tensors.iter_mut().filter(|_| swapped) {
        let swap = |from: &str, to: &str| tensor.name.contains(from).then(|| tensor.name.replace(from, to));
        if let Some(name) = swap(".ffn_up.", ".ffn_down.").or_else(|| swap(".ffn_down.", ".ffn_up.")) {
            tensor.name = name;
        }
    }
    tensors
}
