//! All new files of one model, and the check that they say what the old ones said.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value as Json;

use super::metadata::{general, text_entries, vision_entries};
use super::outgoing::Outgoing;
use super::tensors::{of_tower, tensors};
use super::tokenizer::{ids_of, tokenizer_entries};
use crate::error::{Error, Result};
use crate::model::gguf::model::GgufModel;
use crate::model::gguf::parts::parts;
use crate::model::positions::VideoTime;
use crate::model::sizes::TextConfig;
use crate::model::{config, head, names, processor, registry};
use crate::weights::gguf::Gguf;
use crate::weights::index::Checkpoint;
use crate::weights::plan::Limits;
use crate::weights::quantize::Formats;
use crate::weights::source::{MAX_SMALL_FILE, Pending, Source};
use crate::weights::transfer::Transfer;

/// What goes into the new files. Only headers, configurations and zeros of packed layers have been read.
#[derive(Debug)]
pub struct Export {
    /// The decoder.
    pub text: Outgoing,
    /// The vision tower, if there is one.
    pub vision: Option<Outgoing>,
    /// What the new files do not say, in sentences.
    pub notes: Vec<String>,
}

impl Export {
    /// The checkpoint in a folder of Hugging Face layout. `name` becomes `general.name`; `template` is its chat template.
    ///
    /// # Errors
    /// Any error of the source or of the checkpoint's files; [`Error::UnsupportedModel`] for what GGUF cannot say.
    pub async fn of_folder(source: &dyn Source, formats: &Formats, name: &str, template: Option<&str>) -> Result<Self> {
        let (mut config, bytes) = registry::read_config(source).await?;
        let mut checkpoint = Checkpoint::open(source).await?.renamed(names::canonical)?;
        checkpoint.quantization = config::quantization(&bytes)?;
        let checkpoint = head::settle(&mut config, checkpoint, source).await?;
        let (matrices, vectors) = names::specs(&config, &|name| checkpoint.get(name).is_some());
        let all = tensors(source, &checkpoint, &config, (&matrices, &vectors), formats).await?;
        let (vision, decoder): (Vec<Transfer>, Vec<Transfer>) = all.into_iter().partition(|t| of_tower(&t.head.name));
        let arch = config.family.gguf.architecture;
        let mut notes = Vec::new();
        let mut entries = general(arch, "model", name, &decoder);
        entries.extend(text_entries(&config)?);
        entries.extend(tokenizer_entries(source, &bytes, &config.text, template, &mut notes).await?);
        let text_file = Outgoing { entries, tensors: decoder };
        let vision = match &config.vision {
            None => None,
            Some((tower, _)) => {
                let preprocessor = processor::read(source).await?.unwrap_or_default();
                let mut entries = general("clip", "mmproj", name, &vision);
                entries.extend(vision_entries(config.family, tower, &preprocessor)?);
                Some(Outgoing { entries, tensors: vision })
            }
        };
        let export = Export { text: text_file, vision, notes };
        export.check(source, &bytes).await
    }

    /// The model in GGUF files: `file` with its further parts, and its vision tower in `mmproj`.
    ///
    /// # Errors
    /// Any error of the source; [`Error::Malformed`] for headers that are none; [`Error::Dtype`] for a tensor of a type
    /// whose size is not known here.
    pub async fn of_gguf(files: &dyn Source, file: &str, mmproj: Option<&str>, formats: &Formats) -> Result<Self> {
        let gguf = Gguf::read(files, file).await?;
        let mut tensors = gguf.tensors.clone();
        for part in parts(&gguf, file)? {
            tensors.extend(Gguf::read(files, &part).await?.tensors);
        }
        let text = Outgoing::same(files, file, &Gguf { tensors, ..gguf }, formats).await?;
        let vision = match mmproj {
            Some(mmproj) => Some(Outgoing::same(files, mmproj, &Gguf::read(files, mmproj).await?, formats).await?),
            None => None,
        };
        Ok(Export { text, vision, notes: Vec::new() })
    }

    /// Reads the new headers back and compares with the old configuration.
    async fn check(mut self, source: &dyn Source, old: &[u8]) -> Result<Self> {
        let (text, mmproj) = ("model.gguf", "mmproj.gguf");
        let mut headers = Headers(BTreeMap::new());
        for (file, name) in [(Some(&self.text), text), (self.vision.as_ref(), mmproj)] {
            if let Some(file) = file {
                headers.0.insert(name, (file.header()?, file.bytes()?));
            }
        }
        let gguf = GgufModel::open(&headers, text, self.vision.as_ref().map(|_| mmproj)).await?;
        // Every tensor is there in the right shape.
        let limits = Limits { max_binding: u64::MAX, max_buffer: u64::MAX };
        registry::describe(&gguf, limits, &Formats::default()).await?;
        let (new, _) = registry::read_config(&gguf).await?;
        let same = |field: &str, old: String, new: String| {
            let differs = old.lines().zip(new.lines()).find(|(old, new)| old != new);
            match differs {
                None => Ok(()),
                Some((old, new)) => Err(Error::UnsupportedModel {
                    found: format!("{field}: {}", old.trim()),
                    expected: format!("what GGUF can say, which reads as {}", new.trim()),
                }),
            }
        };
        let (mut old, mut new) = (registry::parse_config(old)?, new);
        if let (Some((old, _)), Some((new, _))) = (&mut old.vision, &new.vision)
            && let (VideoTime::Seconds(found), true) = (old.time, old.time != new.time)
        {
            self.notes.push(format!("GGUF does not hold tokens_per_second ({found}): videos get the usual 2"));
            old.time = new.time;
        }
        [&mut old.text, &mut new.text].into_iter().for_each(as_stored);
        same("config.json", format!("{old:#?}"), format!("{new:#?}"))?;
        // Which ids end a reply.
        let ids = |bytes: Option<Vec<u8>>| {
            let json = bytes.and_then(|bytes| serde_json::from_slice::<Json>(&bytes).ok()).unwrap_or_default();
            let mut ids = ids_of(&json["eos_token_id"]);
            ids.sort_unstable();
            ids
        };
        let old = ids(source.read_optional("generation_config.json", MAX_SMALL_FILE).await?);
        let new = ids(gguf.read_optional("generation_config.json", MAX_SMALL_FILE).await?);
        if !old.is_empty() && old != new {
            self.notes.push(format!("replies end at the tokens {new:?}, before at {old:?}"));
        }
        Ok(self)
    }
}

/// The headers of the new files as a source, from which they can be read back; behind each header are zeros.
struct Headers(BTreeMap<&'static str, (Vec<u8>, u64)>);

impl Source for Headers {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        Box::pin(async move { Ok(self.0.get(file).map(|(_, size)| *size)) })
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        Box::pin(async move {
            let (header, _) = self.0.get(file).ok_or_else(|| Error::missing(file, "the new files"))?;
            // The reader asks for more than the header at first; nobody looks at what follows it.
            let mut bytes = header.clone();
            bytes.resize(range.end as usize, 0);
            Ok(bytes.split_off(range.start as usize))
        })
    }
}

/// Rounds the numbers as GGUF stores them, and drops the ids that end a reply, which are compared by themselves.
fn as_stored(text: &mut TextConfig) {
    let narrow = |x: &mut f64| *x = f64::from(*x as f32);
    narrow(&mut text.rms_norm_eps);
    narrow(&mut text.rope_theta);
    if let Some(yarn) = &mut text.yarn {
        [&mut yarn.factor, &mut yarn.beta_fast, &mut yarn.beta_slow].into_iter().for_each(narrow);
        // Not stored but inferred, from a factor that may have lost bits.
        yarn.attention_factor = (yarn.attention_factor * 1e5).round() / 1e5;
    }
    text.eos_token_ids.clear();
}
