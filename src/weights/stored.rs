//! How a checkpoint stores what a [`Piece`] asks for: as the rows of one tensor, or packed in several tensors
//! ([`super::packed`]). Looking that up is where a tensor that is missing, or has another shape or type, is noticed.

use std::ops::Range;

use super::index::Checkpoint;
use super::packed::Quantization;
use super::safetensors::TensorInfo;
use super::source::Expected;
use super::specs::Piece;
use crate::dtype::{Dtype, Layout};
use crate::error::{Error, Result};

/// A packed layer (see [`super::packed`]) that becomes rows of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedCopy {
    /// The words with the codes.
    pub qweight: Expected,
    /// The words with the zeros.
    pub qzeros: Expected,
    /// The scales.
    pub scales: Expected,
    /// Element type of the scales.
    pub scale_dtype: Dtype,
    /// The group of each input, if the checkpoint has such a list (GPTQ's `g_idx`).
    pub g_idx: Option<Expected>,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Its first row in the matrix.
    pub top: usize,
}

impl PackedCopy {
    /// Bytes that are read of the files.
    pub(super) fn bytes(&self) -> u64 {
        self.spans().map(Expected::bytes).fold(0, u64::saturating_add)
    }

    /// What is read of the files, in the order in which [`super::stream`] reads it.
    pub(super) fn spans(&self) -> impl Iterator<Item = &Expected> {
        [&self.scales, &self.qzeros].into_iter().chain(&self.g_idx).chain([&self.qweight])
    }
}

/// A piece that is the rows of one tensor, and where its bytes are.
pub(super) struct Found<'a> {
    pub(super) piece: &'a Piece,
    pub(super) dtype: Dtype,
    pub(super) file: &'a str,
    pub(super) range: Range<u64>,
}

/// A piece of a matrix: the rows of one tensor, or packed in several tensors.
pub(super) enum Stored<'a> {
    Rows(Found<'a>),
    Packed { piece: &'a Piece, quantization: Quantization, copy: PackedCopy },
}

impl Stored<'_> {
    /// What was asked for.
    pub(super) fn piece(&self) -> &Piece {
        match self {
            Stored::Rows(found) => found.piece,
            Stored::Packed { piece, .. } => piece,
        }
    }

    /// How it lies on the device, if floats become `format`.
    pub(super) fn layout(&self, format: Option<Layout>) -> Layout {
        match self {
            Stored::Rows(f) => format.filter(|_| f.dtype.block() == 1).unwrap_or(f.dtype.layout()),
            Stored::Packed { quantization, .. } => quantization.layout(),
        }
    }
}

/// A piece that has to be the rows of one tensor.
pub(super) fn find<'a>(checkpoint: &'a Checkpoint, piece: &'a Piece) -> Result<Found<'a>> {
    let tensor = shaped(checkpoint, &piece.tensor, piece.shape.iter().map(|&d| d as u64))?;
    let dtype = tensor.dtype.known(&piece.tensor)?;
    Ok(Found { piece, dtype, file: &tensor.file, range: tensor.range.clone() })
}

/// The tensor of this name, which must have this shape.
fn shaped<'a>(
    checkpoint: &'a Checkpoint,
    name: &str,
    shape: impl IntoIterator<Item = u64, IntoIter: Clone>,
) -> Result<&'a TensorInfo> {
    let tensor = checkpoint.get(name).ok_or_else(|| Error::missing(name, "the checkpoint"))?;
    let shape = shape.into_iter();
    if tensor.shape.iter().copied().eq(shape.clone()) {
        return Ok(tensor);
    }
    // Saturating only on 32 bits, where such a dimension is wrong anyway.
    let sizes =
        |shape: &mut dyn Iterator<Item = u64>| shape.map(|d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
    Err(Error::Shape {
        what: name.to_owned(),
        expected: sizes(&mut shape.into_iter()),
        found: sizes(&mut tensor.shape.iter().copied()),
    })
}

/// A piece of a matrix, which may be packed where the checkpoint has no tensor of its name.
pub(super) fn find_stored<'a>(checkpoint: &'a Checkpoint, piece: &'a Piece) -> Result<Stored<'a>> {
    let base = piece.tensor.strip_suffix(".weight");
    let (Some(base), Some(quantization), None) = (base, checkpoint.quantization, checkpoint.get(&piece.tensor)) else {
        return find(checkpoint, piece).map(Stored::Rows);
    };
    let name = |part: &str| format!("{base}.{part}");
    if checkpoint.get(&name("qweight")).is_none() {
        return find(checkpoint, piece).map(Stored::Rows);
    }
    let Some([qweight, qzeros, scales]) = quantization.shapes(piece.rows, piece.cols) else {
        let expected = "rows and columns that fill whole words";
        return Err(Error::malformed(&piece.tensor, expected, format!("[{}, {}]", piece.rows, piece.cols)));
    };
    let words = |part: &str, shape: &[u64]| {
        let tensor = shaped(checkpoint, &name(part), shape.iter().copied())?;
        if tensor.dtype.name() == "I32" {
            return Ok(Expected { file: tensor.file.clone(), range: tensor.range.clone() });
        }
        let found = tensor.dtype.name().to_owned();
        Err(Error::Dtype { what: name(part), expected: "I32".to_owned(), found })
    };
    let tensor = shaped(checkpoint, &name("scales"), scales)?;
    let scale_dtype = tensor.dtype.known(&name("scales"))?;
    let copy = PackedCopy {
        qweight: words("qweight", &qweight)?,
        qzeros: words("qzeros", &qzeros)?,
        scales: Expected { file: tensor.file.clone(), range: tensor.range.clone() },
        scale_dtype,
        g_idx: match checkpoint.get(&name("g_idx")) {
            None => None,
            Some(_) => Some(words("g_idx", &[piece.cols as u64])?),
        },
        rows: piece.rows,
        cols: piece.cols,
        top: 0,
    };
    Ok(Stored::Packed { piece, quantization, copy })
}
