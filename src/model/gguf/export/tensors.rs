//! The tensors of the new files: under llama.cpp's names and cut as it has them.

use crate::dtype::Layout;
use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::gguf::names::Names;
use crate::weights::index::Checkpoint;
use crate::weights::quantize::Formats;
use crate::weights::source::Source;
use crate::weights::specs::{MatrixSpec, VectorSpec};
use crate::weights::transfer::Transfer;

/// Whether a tensor of llama.cpp's name belongs to a vision tower.
pub(super) fn of_tower(name: &str) -> bool {
    name.starts_with("v.") || name.starts_with("mm.")
}

/// The tensors of the specs, in their order, matrices and vectors of a layer together.
pub(super) async fn tensors(
    source: &dyn Source,
    checkpoint: &Checkpoint,
    config: &Config,
    (matrices, vectors): (&[MatrixSpec], &[VectorSpec]),
    formats: &Formats,
) -> Result<Vec<Transfer>> {
    let matrices = matrices.iter().flat_map(|m| m.sources.iter().map(move |piece| (piece, formats.of(&m.name))));
    let vectors = vectors.iter().flat_map(|v| v.sources.iter().map(|piece| (piece, None::<Layout>)));
    let names = match (&config.family.vision, &config.vision) {
        (Some(family), Some((tower, _))) => Names::new(&family.names, &tower.deepstack),
        _ => Names::default(),
    };
    let mut all = Vec::new();
    for (piece, format) in matrices.chain(vectors) {
        let named = |tensor: &str| names.gguf(tensor).ok_or_else(|| Error::missing(tensor, "llama.cpp's names"));
        let frames = if piece.shape.len() == 5 { piece.shape[2] } else { 0 };
        if frames > 0 {
            for frame in 0..frames {
                // The first frame has the name of the whole.
                let number = if frame == 0 { String::new() } else { format!(".{frame}") };
                let name = named(&format!("{}{number}", piece.tensor))?;
                all.push(Transfer::frame(checkpoint, piece, frame, name, format)?);
            }
        } else if piece.tensor.contains(".attn.qkv.") && !config.family.gguf.fused_qkv {
            let third = piece.rows / 3;
            for (n, part) in ["q", "k", "v"].into_iter().enumerate() {
                let name = named(&piece.tensor.replace(".qkv.", &format!(".{part}.")))?;
                let rows = n * third..(n + 1) * third;
                all.push(Transfer::piece(source, checkpoint, piece, rows, name, format).await?);
            }
        } else {
            let name = named(&piece.tensor)?;
            all.push(Transfer::piece(source, checkpoint, piece, 0..piece.rows, name, format).await?);
        }
    }
    // Embeddings first, then layer by layer.
    all.sort_by_cached_key(|t| {
        let layer = t.head.name.split('.').find_map(|part| part.parse::<u32>().ok());
        let outer = if t.head.name.contains("blk.") { 1 } else { 2 * u8::from(!t.head.name.contains("_embd")) };
        (outer, layer, t.head.name.clone())
    });
    Ok(all)
}
