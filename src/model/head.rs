//! Whether the embedding also serves as `lm_head`: what a checkpoint stores decides, as in transformers 5, and the flag of its
//! `config.json` only where it stores one of the two.

use crate::error::Result;
use crate::model::config::Config;
use crate::weights::index::Checkpoint;
use crate::weights::safetensors::TensorInfo;
use crate::weights::source::{Source, read_exact};

const HEAD: &str = "lm_head.weight";
const EMBED: &str = "model.language_model.embed_tokens.weight";

/// How many places of the two matrices are compared, and how many bytes at each.
const PLACES: u64 = 16;
const BYTES: u64 = 16 << 10;

/// Settles `config.tie_word_embeddings` by the tensors of `checkpoint`, which have canonical names.
///
/// A head of other values than the embedding's is used, whatever the flag says: fine-tunes train it apart and leave the flag. One of the
/// same values is not loaded a second time. With a flag and a head alone, the head is also the embedding.
///
/// # Errors
/// Any error of the source; [`crate::Error::Malformed`] for names that occur twice.
pub(super) async fn settle(config: &mut Config, checkpoint: Checkpoint, source: &dyn Source) -> Result<Checkpoint> {
    if !config.tie_word_embeddings {
        return Ok(checkpoint);
    }
    match (checkpoint.get(HEAD), checkpoint.get(EMBED)) {
        (Some(head), Some(embed)) => {
            config.tie_word_embeddings = same(head, embed, source).await?;
            Ok(checkpoint)
        }
        (Some(_), None) => checkpoint.renamed(|name| if name == HEAD { EMBED.to_owned() } else { name.to_owned() }),
        _ => Ok(checkpoint),
    }
}

/// Whether two tensors are alike in all places that are looked at, spread over their whole length. Training changes rows everywhere, so
/// a trained head differs in some of them. A source that should be read from front to back is not asked: then both are loaded.
async fn same(head: &TensorInfo, embed: &TensorInfo, source: &dyn Source) -> Result<bool> {
    let length = |tensor: &TensorInfo| tensor.range.end.saturating_sub(tensor.range.start);
    let size = length(head);
    if (&head.dtype, &head.shape, size) != (&embed.dtype, &embed.shape, length(embed)) || source.sequential() {
        return Ok(false);
    }
    let step = size.div_ceil(PLACES).max(1);
    for place in 0..PLACES {
        let begin = (place * step).min(size);
        let end = (begin + BYTES.min(step)).min(size);
        let read = |tensor: &TensorInfo| tensor.range.start + begin..tensor.range.start + end;
        if read_exact(source, &head.file, read(head)).await? != read_exact(source, &embed.file, read(embed)).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
