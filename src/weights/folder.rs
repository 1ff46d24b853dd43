//! A checkpoint's folder: files in byte ranges, as a [`Source`] gives them, and what is already known of the weights in
//! them. Whatever opens or loads a checkpoint takes a [`Folder`]; whatever only reads files takes a [`Source`].

use super::index::Checkpoint;
use super::prepared::Prepared;
use super::source::{Directory, Memory, Source};
use crate::error::Result;

/// A [`Source`] that may know more about its weights than their bytes. For one that does not, `impl Folder for X {}` is
/// enough.
pub trait Folder: Source {
    /// The table of tensors, if it is known without reading the headers of safetensors files.
    fn tensors(&self) -> Option<&Checkpoint> {
        None
    }

    /// Weights that an earlier load has prepared (see [`super::prepared`]), if there are any.
    fn prepared(&self) -> Option<&Prepared> {
        None
    }

    /// Whether the prepared weights, `size` bytes in all, should be kept for the next load. If so, [`Folder::keep`] is
    /// called with all of their bytes except those that are zero.
    fn keeps(&self, size: u64) -> bool {
        let _ = size;
        false
    }

    /// Takes bytes of the prepared weights, which belong at `offset`. Loading goes on whether or not they can be stored, so
    /// nothing is returned.
    fn keep(&self, offset: u64, bytes: &[u8]) {
        let _ = (offset, bytes);
    }
}

impl Folder for Directory {}
impl Folder for Memory {}

/// The tensors of a checkpoint: the folder's own table, or else what [`Checkpoint::open`] reads.
///
/// # Errors
/// As [`Checkpoint::open`].
pub async fn checkpoint(folder: &dyn Folder) -> Result<Checkpoint> {
    match folder.tensors() {
        Some(checkpoint) => Ok(checkpoint.clone()),
        None => Checkpoint::open(folder).await,
    }
}
