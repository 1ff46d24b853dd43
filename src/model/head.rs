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

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::dtype::Element;
    use crate::model::config::tests::HUB_3B;
    use crate::model::qwen2_5_vl;
    use crate::weights::source::Memory;

    /// A file with an embedding and a head, of which the last byte differs from the embedding's if `trained`.
    async fn settled(tie: bool, stored: &[&str], trained: bool) -> (bool, Vec<String>) {
        const SIZE: u64 = 3000;
        let mut bytes: Vec<u8> = (0..2 * SIZE).map(|at| (at % SIZE % 251) as u8).collect();
        *bytes.last_mut().unwrap() ^= u8::from(trained);
        let mut files = Memory::default();
        files.insert("model.safetensors", bytes);
        let tensor = |(at, name): (u64, &&str)| TensorInfo {
            name: (*name).to_owned(),
            dtype: Element::parse("F32"),
            shape: vec![SIZE / 4],
            file: "model.safetensors".into(),
            range: at * SIZE..(at + 1) * SIZE,
        };
        let checkpoint = Checkpoint::new((0..).zip(stored).map(tensor).collect()).unwrap();
        let mut config = Config::parse(&qwen2_5_vl::FAMILY, HUB_3B.as_bytes()).unwrap();
        config.tie_word_embeddings = tie;
        let checkpoint = settle(&mut config, checkpoint, &files).await.unwrap();
        (config.tie_word_embeddings, checkpoint.tensors().map(|tensor| tensor.name.clone()).collect())
    }

    /// The rule of transformers 5: "both are present in the checkpoints with different values, so we will NOT tie them".
    #[test]
    fn what_is_stored_decides() {
        fn block<T>(future: impl Future<Output = T>) -> T {
            match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(value) => value,
                Poll::Pending => panic!("memory does not wait"),
            }
        }
        let both = [EMBED, HEAD];
        let sorted = vec![HEAD.to_owned(), EMBED.to_owned()];
        assert_eq!(block(settled(true, &both, true)), (false, sorted.clone()));
        assert_eq!(block(settled(true, &both, false)), (true, sorted.clone()));
        assert_eq!(block(settled(false, &both, false)), (false, sorted));
        assert_eq!(block(settled(true, &[EMBED], false)), (true, vec![EMBED.to_owned()]));
        assert_eq!(block(settled(true, &[HEAD], false)), (true, vec![EMBED.to_owned()]), "the head is both");
    }
}
