//! A checkpoint's table of tensors: one `model.safetensors`, or the shards that `model.safetensors.index.json` names.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::packed::Quantization;
use super::safetensors::{MAX_TENSORS, TensorInfo, Unique, read_header};
use super::source::{Source, check_name};
use crate::error::{Error, Result, brief};

/// The file that holds all tensors of a checkpoint that is not sharded.
pub const SINGLE: &str = "model.safetensors";
/// The list of the shards of a checkpoint that is sharded.
pub const INDEX: &str = "model.safetensors.index.json";

/// Longest index, in bytes (the 72B model's is about 100 KB).
pub const MAX_INDEX: u64 = 32 << 20;
/// Most shards (the 72B model has 38).
const MAX_SHARDS: usize = 1024;

/// All tensors of a checkpoint by name. Only headers have been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    tensors: BTreeMap<String, TensorInfo>,
    /// How packed layers are stored, according to `config.json`. `None`: no layer is packed.
    pub quantization: Option<Quantization>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: Unique<String>,
}

impl Checkpoint {
    /// Reads the headers: that of `model.safetensors` if this file exists (transformers prefers it too), else that of every
    /// shard.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is neither file, or if a shard is not there; [`Error::Malformed`] for a header that
    /// [`super::safetensors::parse`] refuses, a shard name that [`check_name`] refuses, an index that names another
    /// shard for a tensor than the one that holds it, or a tensor that two shards hold.
    pub async fn open(source: &dyn Source) -> Result<Self> {
        if source.size(SINGLE).await?.is_some() {
            return Self::new(read_header(source, SINGLE).await?);
        }
        if source.size(INDEX).await?.is_none() {
            // What people have instead, and what to do with it.
            for (other, what) in [("adapter_model.safetensors", "an adapter"), ("pytorch_model.bin", "pickled weights")]
            {
                if source.size(other).await?.is_some() {
                    let expected = format!("{SINGLE} or {INDEX}: merge or convert it with transformers first");
                    return Err(Error::malformed(other, expected, format!("{what} alone")));
                }
            }
            return Err(Error::missing(format!("{SINGLE} or {INDEX}"), source.place()));
        }
        let weight_map = weight_map(&source.read_all(INDEX, MAX_INDEX).await?)?;
        let mut tensors = Vec::new();
        // `weight_map` has checked all names, so no shard is read if one of the names is hostile.
        for file in weight_map.values().collect::<BTreeSet<_>>() {
            tensors.extend(read_header(source, file).await?);
            check_count(tensors.len())?;
        }
        let checkpoint = Self::new(tensors)?;
        for (name, file) in &weight_map {
            // A tensor that no shard holds may be one that nobody wants, such as a tied head: whoever wants it will miss it.
            if checkpoint.tensors.get(name).is_some_and(|tensor| &tensor.file != file) {
                let expected = format!("tensor {} in {file}, as {INDEX} says", brief(name));
                return Err(Error::malformed(file, expected, "a header without it"));
            }
        }
        Ok(checkpoint)
    }

    /// A table of these tensors.
    ///
    /// # Errors
    /// [`Error::Malformed`] if two have one name or there are more than [`MAX_TENSORS`].
    pub fn new(tensors: Vec<TensorInfo>) -> Result<Self> {
        check_count(tensors.len())?;
        let mut table = BTreeMap::new();
        for tensor in tensors {
            let file = tensor.file.clone();
            if let Some(first) = table.insert(tensor.name.clone(), tensor) {
                let what = format!("tensor {}", brief(&first.name));
                return Err(Error::malformed(
                    what,
                    "one definition",
                    format!("one in {} and one in {file}", first.file),
                ));
            }
        }
        Ok(Checkpoint { tensors: table, quantization: None })
    }

    /// The same tensors under other names, e.g. a family's canonical ones.
    ///
    /// # Errors
    /// [`Error::Malformed`] if two tensors get the same name.
    pub fn renamed(self, name: impl Fn(&str) -> String) -> Result<Self> {
        let renamed = self.tensors.into_values().map(|tensor| TensorInfo { name: name(&tensor.name), ..tensor });
        Ok(Checkpoint { quantization: self.quantization, ..Self::new(renamed.collect())? })
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values()
    }
}

/// The file of every tensor, as the text of an [`INDEX`] says.
fn weight_map(index: &[u8]) -> Result<BTreeMap<String, String>> {
    let Index { weight_map: Unique(weight_map) } = serde_json::from_slice(index)
        .map_err(|e| Error::malformed(INDEX, "a weight_map of tensor names to files", brief(&e.to_string())))?;
    let files: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    if files.is_empty() || files.len() > MAX_SHARDS {
        let found = format!("{} shards", files.len());
        return Err(Error::malformed(INDEX, format!("1 to {MAX_SHARDS} shards"), found));
    }
    files.iter().try_for_each(|file| check_name(file))?;
    Ok(weight_map)
}

/// The shards that the text of an [`INDEX`] names.
///
/// # Errors
/// [`Error::Malformed`] for anything but an index of 1 to 1024 files, each with a name that [`check_name`] takes.
pub fn shards(index: &[u8]) -> Result<BTreeSet<String>> {
    Ok(weight_map(index)?.into_values().collect())
}

fn check_count(count: usize) -> Result<()> {
    if count > MAX_TENSORS {
        return Err(Error::malformed("checkpoint", format!("at most {MAX_TENSORS} tensors"), count.to_string()));
    }
    Ok(())
}
