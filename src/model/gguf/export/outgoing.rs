//! One new file: its metadata and its tensors, written from front to back.

use std::collections::BTreeMap;

use super::metadata::{QUANTIZATION_VERSION, file_type};
use super::tensors::of_tower;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::model::gguf::names::Names;
use crate::weights::gguf::Gguf;
use crate::weights::gguf_write::{ALIGNMENT, Entry, header};
use crate::weights::quantize::Formats;
use crate::weights::source::{Source, read_exact};
use crate::weights::transfer::Transfer;

/// One new file.
#[derive(Debug)]
pub struct Outgoing {
    pub(super) entries: Vec<(String, Entry)>,
    pub(super) tensors: Vec<Transfer>,
}

impl Outgoing {
    /// What a GGUF file holds, with floats in `formats`.
    pub(super) async fn same(files: &dyn Source, file: &str, gguf: &Gguf, formats: &Formats) -> Result<Self> {
        let tensors = gguf.tensors.iter().map(|tensor| {
            let name = Names::default().canonical(&tensor.name);
            let part = match name.as_str() {
                "model.language_model.embed_tokens.weight" => "text.embed",
                "lm_head.weight" => "lm_head",
                _ if of_tower(&tensor.name) => "vision.",
                _ => "text.",
            };
            Transfer::same(tensor, formats.of(part))
        });
        let tensors: Vec<Transfer> = tensors.collect::<Result<_>>()?;
        let changed = tensors.iter().any(|t| !t.is_copy());
        let mut entries = Vec::new();
        for (key, place) in &gguf.places {
            // The new file is in one part, aligned as usual.
            if !key.starts_with("split.") && key != "general.alignment" {
                entries.push((key.clone(), Entry::Raw(read_exact(files, file, place.clone()).await?)));
            }
        }
        let mut set = |key: &str, value: u32| {
            entries.retain(|(k, _)| k != key);
            entries.push((key.to_owned(), Entry::Count(value)));
        };
        if changed {
            set("general.file_type", file_type(&tensors));
            set("general.quantization_version", QUANTIZATION_VERSION);
        }
        Ok(Outgoing { entries, tensors })
    }

    /// The tensors in the file's order.
    pub fn tensors(&self) -> &[Transfer] {
        &self.tensors
    }

    /// Tensors and bytes of each element type.
    ///
    /// # Errors
    /// As [`header`].
    pub fn totals(&self) -> Result<BTreeMap<Dtype, (usize, u64)>> {
        let mut totals: BTreeMap<Dtype, (usize, u64)> = BTreeMap::new();
        for tensor in &self.tensors {
            let (count, bytes) = totals.entry(tensor.head.dtype).or_default();
            (*count, *bytes) = (*count + 1, *bytes + tensor.head.bytes()?);
        }
        Ok(totals)
    }

    /// Bytes that [`Outgoing::write`] reads.
    pub fn source_bytes(&self) -> u64 {
        self.tensors.iter().map(Transfer::source_bytes).fold(0, u64::saturating_add)
    }

    pub(super) fn header(&self) -> Result<Vec<u8>> {
        header(&self.entries, self.tensors.iter().map(|t| &t.head))
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// As [`header`].
    pub fn bytes(&self) -> Result<u64> {
        let mut bytes = self.header()?.len() as u64;
        for tensor in &self.tensors {
            let end = bytes.saturating_add(tensor.head.bytes()?);
            bytes = end.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
        }
        Ok(bytes)
    }

    /// Gives the file's bytes to `put` from front to back. `heard` hears how many were read.
    ///
    /// # Errors
    /// Those of the source and of `put`; [`crate::Error::Malformed`] for weights that their new type does not hold.
    pub async fn write(
        &self,
        source: &dyn Source,
        put: &mut dyn FnMut(&[u8]) -> Result<()>,
        heard: &mut dyn FnMut(u64),
    ) -> Result<()> {
        put(&self.header()?)?;
        for tensor in &self.tensors {
            tensor.run(source, put, heard).await?;
        }
        Ok(())
    }
}
