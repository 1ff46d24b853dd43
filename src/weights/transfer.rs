//! Tensors on their way from a checkpoint's files into a GGUF file, a few MiB at a time: copied, widened, quantized
//! ([`super::quantize`]) or taken out of packed layers ([`super::packed`]).
//!
//! A packed layer is stored in columns and the new file in rows, so all rows of one such layer are in memory at a time. Of
//! every other tensor only a few MiB are.

use std::ops::Range;

use half::f16;

use super::gguf_write::{Head, padding};
use super::index::Checkpoint;
use super::packed::{Quantization, words};
use super::plan::Shard;
use super::quantize::{blocks_of, quantize_row};
use super::safetensors::TensorInfo;
use super::source::{Source, read_exact};
use super::specs::Piece;
use super::stored::{Found, PackedCopy, Stored, find_stored};
use super::stream::{CHUNK_BYTES, turn};
use crate::dtype::{Dtype, Layout};
use crate::error::{Error, Result};

/// Elements in a block of every type that floats or packed codes become.
const BLOCK: usize = 32;

/// A tensor of the new file and where its rows come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// What it is in the new file.
    pub head: Head,
    /// Why it is not in the type that was asked for, or that it had.
    pub remark: Option<String>,
    from: Origin,
    /// Elements of a row.
    cols: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Origin {
    /// Whole rows, one after the other.
    Rows { file: String, range: Range<u64>, dtype: Dtype },
    /// One frame of each row `[channels, frames, cols / channels]`.
    Frame { file: String, range: Range<u64>, dtype: Dtype, frame: usize, frames: usize, channels: usize },
    /// A packed layer.
    Packed { quantization: Quantization, copy: PackedCopy },
}

impl Transfer {
    /// A tensor of another GGUF file, unchanged, or converted to `format` if it is a matrix of floats.
    ///
    /// # Errors
    /// [`Error::Dtype`] for elements that are not known here.
    pub fn same(tensor: &TensorInfo, format: Option<Layout>) -> Result<Self> {
        let dtype = tensor.dtype.known(&tensor.name)?;
        let cols = tensor.shape.last().map_or(1, |n| usize::try_from(*n).unwrap_or(usize::MAX));
        let format = format.filter(|_| dtype.block() == 1 && tensor.shape.len() > 1);
        let (target, remark) = target(dtype, format, &tensor.shape);
        let head = Head { name: tensor.name.clone(), dtype: target, shape: tensor.shape.clone() };
        let from = Origin::Rows { file: tensor.file.clone(), range: tensor.range.clone(), dtype };
        Ok(Transfer { head, remark, from, cols })
    }

    /// Rows `rows` of a piece of the model under the name `name`: a vector as F32, a matrix of floats in `format` (`None`
    /// keeps it), packed codes in blocks.
    ///
    /// 4 bits become Q4_0 if all zeros are 8 and Q4_1 otherwise, with the minimum −zero · scale: the one thing that is
    /// rounded, by at most 2⁻¹¹ of itself. 8 bits become Q8_0 if all zeros are 128; otherwise F16, since no type of 8
    /// bits has a minimum and scaling anew would cost a whole step of the code, F16 2⁻¹¹ of the weight. Scattered groups
    /// become F32, as on the device.
    ///
    /// # Errors
    /// Those of [`super::plan::plan`] for a piece that is not there or not as it should be, and the source's.
    pub async fn piece(
        source: &dyn Source,
        checkpoint: &Checkpoint,
        piece: &Piece,
        rows: Range<usize>,
        name: String,
        format: Option<Layout>,
    ) -> Result<Self> {
        let cols = piece.cols;
        // Pieces of one column are vectors. One may be a table in the checkpoint, and then keeps that shape.
        let vector = cols == 1;
        let count = (rows.end - rows.start) as u64;
        let shape = match vector {
            true if rows == (0..piece.rows) => piece.shape.iter().map(|d| *d as u64).collect(),
            true => vec![count],
            false => vec![count, cols as u64],
        };
        let head = |dtype| Head { name, dtype, shape: shape.clone() };
        match find_stored(checkpoint, piece)? {
            Stored::Rows(Found { dtype, file, range, .. }) => {
                let row = dtype.bytes_of(cols as u64).filter(|_| dtype.block() == 1);
                let row = row.ok_or_else(|| Error::invalid(&piece.tensor, "floats", dtype.name()))?;
                let range = range.start + rows.start as u64 * row..range.start + rows.end as u64 * row;
                let (target, remark) = match vector {
                    true => (Dtype::F32, None),
                    false => target(dtype, format, &shape),
                };
                let from = Origin::Rows { file: file.to_owned(), range, dtype };
                Ok(Transfer { head: head(target), remark, from, cols })
            }
            Stored::Packed { quantization, copy, .. } => {
                if rows != (0..piece.rows) {
                    return Err(Error::invalid(&piece.tensor, "a packed layer as a whole", format!("rows {rows:?}")));
                }
                let qzeros = words(&read_exact(source, &copy.qzeros.file, copy.qzeros.range.clone()).await?);
                let symmetric = quantization.symmetric(&qzeros);
                let widened = |dtype, why: &str| (dtype, Some(why.to_owned()));
                let (target, remark) = match quantization.layout() {
                    Layout::F32 => widened(Dtype::F32, "its groups are scattered over the inputs (desc_act)"),
                    _ if !cols.is_multiple_of(BLOCK) => widened(Dtype::F16, &ragged(cols as u64)),
                    Layout::G4 { .. } if symmetric => (Dtype::Q4_0, None),
                    Layout::G4 { .. } => (Dtype::Q4_1, None),
                    _ if symmetric => (Dtype::Q8_0, None),
                    _ => widened(Dtype::F16, "its zeros differ from 128, and no GGUF type of 8 bits can hold that"),
                };
                Ok(Transfer { head: head(target), remark, from: Origin::Packed { quantization, copy }, cols })
            }
        }
    }

    /// Frame `frame` of a patch embedding `[rows, channels, frames, side, side]`: `[rows, channels, side, side]`. ggml
    /// convolves in F32 and F16 alone, so BF16 becomes F32.
    ///
    /// # Errors
    /// As [`Transfer::piece`].
    pub fn frame(
        checkpoint: &Checkpoint,
        piece: &Piece,
        frame: usize,
        name: String,
        format: Option<Layout>,
    ) -> Result<Self> {
        let (Stored::Rows(Found { dtype, file, range, .. }), &[rows, channels, frames, side, other]) =
            (find_stored(checkpoint, piece)?, &piece.shape[..])
        else {
            return Err(Error::invalid(
                &piece.tensor,
                "a convolution in five dimensions",
                format!("{:?}", piece.shape),
            ));
        };
        let shape = [rows, channels, side, other].map(|n| n as u64).to_vec();
        let (target, remark) = match target(dtype, format, &shape) {
            (Dtype::BF16, _) => (Dtype::F32, Some("ggml has convolutions for F32 and F16 alone".to_owned())),
            other => other,
        };
        let from = Origin::Frame { file: file.to_owned(), range, dtype, frame, frames, channels };
        Ok(Transfer { head: Head { name, dtype: target, shape }, remark, from, cols: piece.cols / frames.max(1) })
    }

    /// Bytes that are read of the source.
    pub fn source_bytes(&self) -> u64 {
        match &self.from {
            Origin::Rows { range, .. } | Origin::Frame { range, .. } => range.end - range.start,
            Origin::Packed { copy, .. } => copy.bytes(),
        }
    }

    /// Whether the source's bytes are copied as they are.
    pub fn is_copy(&self) -> bool {
        matches!(&self.from, Origin::Rows { dtype, .. } if *dtype == self.head.dtype)
    }

    /// Gives the tensor's bytes to `put`, and padding up to where the next tensor starts. `heard` is called with the number of
    /// bytes of each read.
    ///
    /// # Errors
    /// Those of the source and of `put`; [`Error::Malformed`] for weights that the new type does not hold.
    pub async fn run(
        &self,
        source: &dyn Source,
        put: &mut dyn FnMut(&[u8]) -> Result<()>,
        heard: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let named = |error: Error| match error {
            Error::Malformed { what, expected, found } => {
                Error::Malformed { what: format!("{} ({what})", self.head.name), expected, found }
            }
            other => other,
        };
        let (mut out, mut written) = (Vec::new(), 0u64);
        let mut flush = |out: &mut Vec<u8>, least: u64| {
            if out.len() as u64 >= least {
                written += out.len() as u64;
                put(out)?;
                out.clear();
            }
            Ok(())
        };
        match &self.from {
            Origin::Packed { quantization, copy } => {
                let layout = quantization.layout();
                // Cannot overflow: the layer's bytes in the file are counted in u64.
                let row_words = layout.row_words(copy.cols as u64).unwrap_or(0);
                let all = Shard { row_start: 0, rows: copy.rows, layout, row_words };
                let mut rows = vec![0; all.bytes() as usize];
                let mut put = |first, words: &[u32]| {
                    all.put_columns(&mut rows, 0, copy.rows, first, words);
                    Ok(())
                };
                turn(quantization, copy, source, CHUNK_BYTES, heard, &mut put).await.map_err(named)?;
                for row in rows.chunks_exact(rows.len() / copy.rows) {
                    packed_row(layout, self.head.dtype, row, self.cols, &mut out).map_err(named)?;
                    flush(&mut out, CHUNK_BYTES)?;
                }
            }
            Origin::Rows { file, range, dtype } | Origin::Frame { file, range, dtype, .. } => {
                let frames = if let Origin::Frame { frames, .. } = self.from { frames } else { 1 };
                let row_bytes = dtype.bytes_of((self.cols * frames) as u64).unwrap_or(0).max(1);
                // What is copied as it is need not be read in whole rows.
                let step = if self.is_copy() { CHUNK_BYTES } else { (CHUNK_BYTES / row_bytes).max(1) * row_bytes };
                let mut start = range.start;
                while start < range.end {
                    let end = range.end.min(start + step);
                    let bytes = read_exact(source, file, start..end).await?;
                    heard(end - start);
                    start = end;
                    if self.is_copy() {
                        out.extend(&bytes);
                    } else {
                        for row in bytes.chunks_exact(row_bytes as usize) {
                            self.convert(*dtype, row, &mut out).map_err(named)?;
                        }
                    }
                    flush(&mut out, CHUNK_BYTES)?;
                }
            }
        }
        flush(&mut out, 0)?;
        if written != self.head.bytes()? {
            let expected = format!("{} bytes, as its header says", self.head.bytes()?);
            return Err(Error::malformed(&self.head.name, expected, format!("{written} bytes")));
        }
        put(&[0; 32][..padding(written) as usize])
    }

    /// One row of floats.
    fn convert(&self, dtype: Dtype, row: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let row = match self.from {
            Origin::Frame { frame, frames, channels, .. } => {
                let plane = row.len() / (channels * frames);
                let planes = row.chunks_exact(plane).skip(frame).step_by(frames);
                planes.flatten().copied().collect()
            }
            _ => row.to_vec(),
        };
        match self.head.dtype {
            target if target == dtype => out.extend(row),
            Dtype::F32 => dtype.to_f32(&row)?.iter().for_each(|x| out.extend(x.to_le_bytes())),
            target => quantize_row(dtype, target, &row, self.cols, out)?,
        }
        Ok(())
    }
}

/// The type that floats of this shape become, and if it is not the one asked for, why.
fn target(dtype: Dtype, format: Option<Layout>, shape: &[u64]) -> (Dtype, Option<String>) {
    let Some(blocks) = format.and_then(blocks_of) else { return (dtype, None) };
    let row = shape.last().copied().unwrap_or(0);
    match shape.len() {
        2 if row.is_multiple_of(blocks.block()) => (blocks, None),
        2 => (dtype, Some(ragged(row))),
        _ => (dtype, Some("only matrices are quantized, not convolutions".to_owned())),
    }
}

fn ragged(row: u64) -> String {
    format!("its rows have {row} elements, which is not a multiple of {BLOCK}")
}

/// One row of a packed layer, from how it lies on the device ([`Layout::G4`], [`Layout::G8`], F32) to a file's blocks.
fn packed_row(layout: Layout, target: Dtype, row: &[u8], cols: usize, out: &mut Vec<u8>) -> Result<()> {
    if layout == Layout::F32 {
        out.extend(&row[..4 * cols]);
        return Ok(());
    }
    let (group, four) = (layout.group() as usize, matches!(layout, Layout::G4 { .. }));
    // Scales and zeros follow the codes.
    let pairs = &row[(layout.groups(cols as u64).unwrap_or(0) * layout.planes().low) as usize..];
    let code = |i: usize| if four { row[i / 2] >> (i % 2 * 4) & 15 } else { row[i] };
    let half = |bits: [u8; 2]| f16::from_le_bytes(bits);
    for start in (0..cols).step_by(BLOCK) {
        let pair = &pairs[start / group * 4..][..4];
        let (d, zero) = (half([pair[0], pair[1]]), half([pair[2], pair[3]]).to_f32());
        let nibbles = || (start..start + BLOCK / 2).map(|i| code(i) | code(i + BLOCK / 2) << 4);
        match target {
            Dtype::Q4_0 => {
                out.extend(d.to_le_bytes());
                out.extend(nibbles());
            }
            Dtype::Q4_1 => {
                out.extend(d.to_le_bytes());
                out.extend(narrow(-zero * d.to_f32())?.to_le_bytes());
                out.extend(nibbles());
            }
            Dtype::Q8_0 => {
                out.extend(d.to_le_bytes());
                out.extend((start..start + BLOCK).map(|i| code(i) ^ 0x80)); // code − 128 as a signed byte
            }
            _ => {
                for i in start..cols.min(start + BLOCK) {
                    out.extend(narrow(d.to_f32() * (f32::from(code(i)) - zero))?.to_le_bytes());
                }
            }
        }
    }
    Ok(())
}

/// The nearest half float, which must be finite.
fn narrow(x: f32) -> Result<f16> {
    let near = f16::from_f32(x);
    if near.is_finite() { Ok(near) } else { Err(Error::malformed("weights", "magnitudes below 65504", x.to_string())) }
}
