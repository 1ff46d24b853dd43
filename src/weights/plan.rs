//! Which bytes of which file go to which device buffer. [`plan`] decides this from what the model wants
//! ([`super::specs`]), what the checkpoint holds ([`super::stored`]) and what the device allows ([`Limits`]); it reads
//! nothing. [`super::steps`] then puts the reads in order, and [`super::stream`] carries them out.
//!
//! **Matrices** keep the checkpoint's precision bit for bit (bf16 stays bf16, a quantized block keeps codes and scales),
//! unless [`Formats`] asks for less. [`super::repack`] describes how a row lies on the device. **Vectors** (norm weights,
//! biases) are small and always become f32.
//!
//! A matrix larger than one binding is cut into shards of whole rows. Where the tensors that it stacks differ in layout
//! (a GGUF file may hold q and k in 4 bits and v in 6), it is cut there too. Rows that only pad a piece are not written:
//! buffers start as zeros, as WebGPU guarantees for a new `GPUBuffer`.

use std::collections::BTreeMap;

use super::index::Checkpoint;
use super::packed::Quantization;
use super::quantize::Formats;
use super::specs::{MatrixSpec, Piece, VectorSpec};
use super::stored::{PackedCopy, Stored, find, find_stored};
use crate::dtype::{Dtype, Layout};
use crate::error::{Error, Result};

/// Longest vector, in elements.
const MAX_VECTOR: u64 = 16 << 20;

/// What a device allows, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `maxStorageBufferBindingSize`.
    pub max_binding: u64,
    /// `maxBufferSize`.
    pub max_buffer: u64,
}

/// A run of rows that lies in one buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its first row in the matrix.
    pub row_start: usize,
    /// Its rows.
    pub rows: usize,
    /// How they lie there.
    pub layout: Layout,
    /// Words from one row to the next: [`Layout::row_words`].
    pub row_words: u64,
}

impl Shard {
    /// The buffer's size, a multiple of 16.
    pub fn bytes(&self) -> u64 {
        self.rows as u64 * self.row_words * 4
    }

    /// Writes columns as [`Sink::columns`](super::stream::Sink::columns) describes, into this shard's bytes in memory.
    pub fn put_columns(&self, bytes: &mut [u8], top: usize, rows: usize, first: usize, words: &[u32]) {
        let stride = self.row_words as usize * 4;
        for row in top.max(self.row_start)..(top + rows).min(self.row_start + self.rows) {
            let to = &mut bytes[(row - self.row_start) * stride + 4 * first..];
            for (to, word) in to.chunks_exact_mut(4).zip(words.iter().skip(row - top).step_by(rows)) {
                to.copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

/// Rows of one tensor that move from a file to one shard (or to one vector, where a "row" is an element).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowCopy {
    /// The file.
    pub file: String,
    /// Where the first row starts in the file.
    pub start: u64,
    /// Element type in the file.
    pub dtype: Dtype,
    /// How the rows lie in the shard.
    pub layout: Layout,
    /// Rows.
    pub rows: u64,
    /// Elements of a row.
    pub cols: usize,
    /// Bytes of a row in the file.
    pub row_bytes: u64,
    /// The shard; 0 for a vector.
    pub shard: usize,
    /// Where the first row starts in the shard, in bytes.
    pub offset: u64,
    /// Bytes of a row in the shard.
    pub dst_row_bytes: u64,
}

/// Where a matrix goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixPlan {
    /// The model's name for it.
    pub name: String,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Its buffers, in row order.
    pub shards: Vec<Shard>,
    /// The rows that fill them.
    pub copies: Vec<RowCopy>,
    /// The packed layers that fill them.
    pub packed: Vec<PackedCopy>,
}

/// Where a vector goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorPlan {
    /// The model's name for it.
    pub name: String,
    /// Elements, padding included.
    pub len: usize,
    /// The elements that fill it.
    pub copies: Vec<RowCopy>,
}

/// All buffers of a model and what fills them. Matrices and vectors have the order of their specs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each [`MatrixSpec`].
    pub matrices: Vec<MatrixPlan>,
    /// One for each [`VectorSpec`].
    pub vectors: Vec<VectorPlan>,
    /// How packed layers are stored, if there are any.
    pub quantization: Option<Quantization>,
}

/// Decides every buffer. `checkpoint` was made from headers alone, and nothing more is read here.
///
/// # Errors
/// [`Error::Missing`] for a tensor that the checkpoint lacks, [`Error::Shape`] and [`Error::Dtype`] for one that is
/// not as specified, [`Error::DeviceTooSmall`] if four rows (or the whole of a smaller matrix) exceed a binding, and
/// [`Error::Invalid`] for a spec that contradicts itself.
pub fn plan(
    checkpoint: &Checkpoint,
    matrices: &[MatrixSpec],
    vectors: &[VectorSpec],
    limits: Limits,
    formats: &Formats,
) -> Result<Plan> {
    Ok(Plan {
        matrices: matrices
            .iter()
            .map(|spec| plan_matrix(checkpoint, spec, limits, formats.of(&spec.name)))
            .collect::<Result<_>>()?,
        vectors: vectors.iter().map(|spec| plan_vector(checkpoint, spec)).collect::<Result<_>>()?,
        quantization: checkpoint.quantization,
    })
}

fn contradiction(name: &str, expected: &str) -> Error {
    Error::invalid(format!("plan of {name}"), expected, "a spec that contradicts itself")
}

fn check_piece(name: &str, piece: &Piece, cols: usize) -> Result<()> {
    let count = piece.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
    let agrees = piece.rows > 0
        && piece.cols == cols
        && piece.padded_rows >= piece.rows
        // The elements of a vector may be those of a table.
        && (cols == 1 || piece.shape.first() == Some(&piece.rows))
        && count.is_some()
        && count == (piece.rows as u64).checked_mul(cols as u64);
    if agrees { Ok(()) } else { Err(contradiction(name, "pieces of one width whose shape gives rows × cols")) }
}

fn sum_rows(sources: &[Piece]) -> Option<usize> {
    sources.iter().try_fold(0usize, |n, p| n.checked_add(p.padded_rows))
}

fn plan_matrix(
    checkpoint: &Checkpoint,
    spec: &MatrixSpec,
    limits: Limits,
    format: Option<Layout>,
) -> Result<MatrixPlan> {
    if spec.rows == 0 || spec.cols == 0 || sum_rows(&spec.sources) != Some(spec.rows) {
        return Err(contradiction(&spec.name, "as many rows as its pieces have, not zero"));
    }
    spec.sources.iter().try_for_each(|piece| check_piece(&spec.name, piece, spec.cols))?;
    let found: Vec<Stored> = spec.sources.iter().map(|piece| find_stored(checkpoint, piece)).collect::<Result<_>>()?;
    let mut shards: Vec<Shard> = Vec::new();
    let (mut copies, mut packed) = (Vec::new(), Vec::new());
    let mut top = 0; // the piece's first row in the matrix
    let mut found = found.as_slice();
    while let Some(first) = found.first() {
        // A run of pieces of one layout shares its shards.
        let layout = first.layout(format);
        let run = found.iter().take_while(|f| f.layout(format) == layout).count();
        let (pieces, rest) = found.split_at(run);
        found = rest;
        let rows = pieces.iter().map(|f| f.piece().padded_rows).sum();
        let row_words = layout.row_words(spec.cols as u64);
        let row_bytes = row_words.and_then(|n| n.checked_mul(4));
        let total = row_bytes.and_then(|n| n.checked_mul(spec.rows as u64));
        let (Some(row_words), Some(row_bytes), Some(_)) = (row_words, row_bytes, total) else {
            return Err(contradiction(&spec.name, "a size below 2^64 bytes"));
        };
        let first_shard = shards.len();
        shards.extend(cut(&spec.name, rows, row_bytes, limits)?.map(|(row_start, rows)| Shard {
            row_start: top + row_start,
            rows,
            layout,
            row_words,
        }));
        for stored in pieces {
            let f = match stored {
                Stored::Rows(found) => found,
                Stored::Packed { piece, copy, .. } => {
                    packed.push(PackedCopy { top, ..copy.clone() });
                    top += piece.padded_rows;
                    continue;
                }
            };
            let src_row_bytes = f.dtype.bytes_of(f.piece.cols as u64).ok_or_else(|| {
                let expected = format!("rows of a multiple of {} elements, as {} needs", f.dtype.block(), f.dtype);
                Error::malformed(&f.piece.tensor, expected, f.piece.cols.to_string())
            })?;
            for (shard, s) in shards.iter().enumerate().skip(first_shard) {
                let begin = top.max(s.row_start);
                let end = (top + f.piece.rows).min(s.row_start + s.rows);
                if begin < end {
                    copies.push(RowCopy {
                        file: f.file.to_owned(),
                        start: f.range.start + (begin - top) as u64 * src_row_bytes,
                        dtype: f.dtype,
                        layout,
                        rows: (end - begin) as u64,
                        cols: f.piece.cols,
                        row_bytes: src_row_bytes,
                        shard,
                        offset: (begin - s.row_start) as u64 * row_bytes,
                        dst_row_bytes: row_bytes,
                    });
                }
            }
            top += f.piece.padded_rows;
        }
    }
    Ok(MatrixPlan { name: spec.name.clone(), rows: spec.rows, cols: spec.cols, shards, copies, packed })
}

/// Cuts `rows` rows of `row_bytes` into runs (first row, rows) that fit a binding and a buffer: multiples of 4 rows,
/// except for the last.
fn cut(name: &str, rows: usize, row_bytes: u64, limits: Limits) -> Result<impl Iterator<Item = (usize, usize)>> {
    let (limit, available) = if limits.max_binding <= limits.max_buffer {
        ("maxStorageBufferBindingSize", limits.max_binding)
    } else {
        ("maxBufferSize", limits.max_buffer)
    };
    let fit = available / row_bytes;
    let most = if fit >= rows as u64 { rows } else { (fit / 4 * 4) as usize };
    if most == 0 {
        // row_bytes × rows fits in u64, as the caller checked.
        let needed = row_bytes * rows.min(4) as u64;
        return Err(Error::DeviceTooSmall { limit: limit.to_owned(), needed, available, what: name.to_owned() });
    }
    Ok((0..rows).step_by(most).map(move |row_start| (row_start, most.min(rows - row_start))))
}

fn plan_vector(checkpoint: &Checkpoint, spec: &VectorSpec) -> Result<VectorPlan> {
    if spec.len == 0 || spec.len as u64 > MAX_VECTOR || sum_rows(&spec.sources) != Some(spec.len) {
        return Err(contradiction(&spec.name, "as many elements as its pieces have, not zero"));
    }
    spec.sources.iter().try_for_each(|piece| check_piece(&spec.name, piece, 1))?;
    let mut copies = Vec::new();
    let mut at = 0u64;
    for piece in &spec.sources {
        let f = find(checkpoint, piece)?;
        if f.dtype.block() != 1 {
            return Err(Error::Dtype {
                what: piece.tensor.clone(),
                expected: Dtype::FLOATS.map(Dtype::name).join(", "),
                found: f.dtype.name().to_owned(),
            });
        }
        copies.push(RowCopy {
            file: f.file.to_owned(),
            start: f.range.start,
            dtype: f.dtype,
            layout: Layout::F32,
            rows: piece.rows as u64,
            cols: 1,
            row_bytes: f.dtype.block_bytes(),
            shard: 0,
            offset: at * 4,
            dst_row_bytes: 4,
        });
        at += piece.padded_rows as u64;
    }
    Ok(VectorPlan { name: spec.name.clone(), len: spec.len, copies })
}

impl Plan {
    /// Parameters in the tensors that the plan reads.
    pub fn parameters(&self) -> u64 {
        let rows = self.rows().map(|copy| copy.rows.saturating_mul(copy.cols as u64));
        let packed = self.packed().map(|(_, _, c)| c.rows as u64 * c.cols as u64);
        rows.chain(packed).fold(0, u64::saturating_add)
    }

    /// Every buffer: the name of what is in it, and its bytes, which for a vector are a multiple of 16.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, u64)> {
        let matrices = self.matrices.iter().flat_map(|m| m.shards.iter().map(|s| (m.name.as_str(), s.bytes())));
        matrices.chain(self.vectors.iter().map(|v| (v.name.as_str(), (v.len as u64 * 4).next_multiple_of(16))))
    }

    /// Bytes on the device, by the part of the model that a name starts with (`vision`, `text`, `lm_head`).
    pub fn device_bytes(&self) -> BTreeMap<&str, u64> {
        let mut parts = BTreeMap::new();
        let matrices = self.matrices.iter().map(|m| (&m.name, m.shards.iter().map(Shard::bytes).sum()));
        let vectors = self.vectors.iter().map(|v| (&v.name, v.len as u64 * 4));
        for (name, bytes) in matrices.chain(vectors) {
            let part = name.split('.').next().unwrap_or(name);
            let sum: &mut u64 = parts.entry(part).or_default();
            *sum = sum.saturating_add(bytes);
        }
        parts
    }

    /// Bytes that [`stream`](super::stream::stream) reads: the total in its progress reports.
    pub fn source_bytes(&self) -> u64 {
        let rows = self.rows().map(|copy| copy.rows * copy.row_bytes);
        rows.chain(self.packed().map(|(_, _, c)| c.bytes())).fold(0, u64::saturating_add)
    }

    /// Every packed layer: its matrix, its number among the packed layers of that matrix, and itself.
    pub(super) fn packed(&self) -> impl Iterator<Item = (usize, usize, &PackedCopy)> {
        let matrices = self.matrices.iter().enumerate();
        matrices.flat_map(|(i, m)| m.packed.iter().enumerate().map(move |(n, c)| (i, n, c)))
    }

    /// All rows that are copied, those of matrices first.
    fn rows(&self) -> impl Iterator<Item = &RowCopy> {
        self.matrices.iter().flat_map(|m| &m.copies).chain(self.vectors.iter().flat_map(|v| &v.copies))
    }
}
