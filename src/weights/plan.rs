//! Which bytes of which file go to which device buffer: decided purely, from what the model wants, what the checkpoint
//! holds and what the device allows. Then [`stream`] follows the plan in file order, a few MiB at a time.
//!
//! **Matrices** keep the checkpoint's precision bit for bit (bf16 stays bf16, a quantized block keeps codes and scales), unless
//! [`Formats`] asks for less; a row becomes planes as [`super::repack`] says. **Vectors** (norm weights, biases) are small and always become f32.
//!
//! A matrix larger than one binding is cut into shards of whole rows, and where the tensors that it stacks differ in layout
//! (a GGUF's q and k in 4 bits, its v in 6), it is cut there too. Rows that only pad a piece are not written: a sink's
//! buffers start as zeros, as WebGPU guarantees for a new `GPUBuffer`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::index::Checkpoint;
use super::packed::{Put, Quantization, Turning};
use super::quantize::{Formats, convert_row};
use super::safetensors::TensorInfo;
use super::source::{Expected, Source, read_exact};
use crate::dtype::{Dtype, Layout};
use crate::error::{Error, Result};

/// How many bytes [`stream`] reads at a time unless told otherwise: 8 MiB.
pub const CHUNK_BYTES: u64 = 8 << 20;

/// Reading over a hole up to this many bytes is cheaper than another request.
const MAX_GAP: u64 = 64 << 10;
/// Smallest chunk; below it the list of reads would outgrow what it describes.
const MIN_CHUNK: u64 = 4 << 10;
/// Longest vector, in elements.
const MAX_VECTOR: u64 = 16 << 20;

/// One tensor that becomes part of a matrix (`rows` × `cols`) or of a vector (`rows` elements, `cols` 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The tensor's canonical name.
    pub tensor: String,
    /// The shape that it must have, outermost first.
    pub shape: Vec<usize>,
    /// Its first dimension: output features.
    pub rows: usize,
    /// The product of its other dimensions: input features.
    pub cols: usize,
    /// Rows that it takes in the matrix; those from `rows` on are zero.
    pub padded_rows: usize,
}

impl Piece {
    /// A tensor of shape `[rows, cols]`.
    pub fn matrix(tensor: impl Into<String>, rows: usize, cols: usize) -> Self {
        Piece { tensor: tensor.into(), shape: vec![rows, cols], rows, cols, padded_rows: rows }
    }

    /// A tensor of shape `[len]`.
    pub fn vector(tensor: impl Into<String>, len: usize) -> Self {
        Piece { tensor: tensor.into(), shape: vec![len], rows: len, cols: 1, padded_rows: len }
    }

    /// The same with this shape in the file instead, e.g. a convolution's `[rows, 3, 2, 14, 14]` for `[rows, 1176]`.
    pub fn shaped(mut self, shape: &[usize]) -> Self {
        self.shape = shape.to_vec();
        self
    }

    /// The same with zero rows appended up to a multiple of `unit`.
    pub fn padded(mut self, unit: usize) -> Self {
        self.padded_rows = self.rows.checked_next_multiple_of(unit).unwrap_or(usize::MAX);
        self
    }
}

/// A matrix that the model wants on the device: `sources` stacked on top of each other, e.g. q, k and v.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixSpec {
    /// The model's name for it; the part before the first `.` is the part of the model that [`Plan::device_bytes`]
    /// counts it under.
    pub name: String,
    /// Its pieces, topmost first.
    pub sources: Vec<Piece>,
    /// Output features: the sum of the pieces' padded rows.
    pub rows: usize,
    /// Input features: the same for all pieces.
    pub cols: usize,
}

impl MatrixSpec {
    /// A matrix of these pieces.
    pub fn new(name: impl Into<String>, sources: Vec<Piece>) -> Self {
        let rows = sources.iter().fold(0, |n: usize, p| n.saturating_add(p.padded_rows));
        let cols = sources.first().map_or(0, |p| p.cols);
        MatrixSpec { name: name.into(), sources, rows, cols }
    }
}

/// A vector that the model wants on the device as f32: `sources` one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorSpec {
    /// The model's name for it; see [`MatrixSpec::name`].
    pub name: String,
    /// Its pieces in order.
    pub sources: Vec<Piece>,
    /// Elements: the sum of the pieces' padded rows.
    pub len: usize,
}

impl VectorSpec {
    /// A vector of these pieces.
    pub fn new(name: impl Into<String>, sources: Vec<Piece>) -> Self {
        let len = sources.iter().fold(0, |n: usize, p| n.saturating_add(p.padded_rows));
        VectorSpec { name: name.into(), sources, len }
    }
}

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

    /// What [`Sink::columns`] means, for a sink that has this shard in memory as `bytes`.
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
    /// What fills them.
    pub copies: Vec<RowCopy>,
    /// And what fills them from packed layers.
    pub packed: Vec<PackedCopy>,
}

/// A packed layer (see [`super::packed`]) that becomes rows of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedCopy {
    /// The words with the codes.
    pub qweight: Expected,
    /// The words with the zeros.
    pub qzeros: Expected,
    /// The scales.
    pub scales: Expected,
    /// Their type.
    pub scale_dtype: Dtype,
    /// The group of each input, where the checkpoint says.
    pub g_idx: Option<Expected>,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Its first row in the matrix.
    pub top: usize,
}

impl PackedCopy {
    pub(super) fn bytes(&self) -> u64 {
        self.spans().map(len).fold(0, u64::saturating_add)
    }

    /// What is read of the files, in the order in which [`turn`] reads it.
    fn spans(&self) -> impl Iterator<Item = &Expected> {
        [&self.scales, &self.qzeros].into_iter().chain(&self.g_idx).chain([&self.qweight])
    }
}

fn len(span: &Expected) -> u64 {
    span.range.end - span.range.start
}

/// Where a vector goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorPlan {
    /// The model's name for it.
    pub name: String,
    /// Elements, padding included.
    pub len: usize,
    /// What fills it.
    pub copies: Vec<RowCopy>,
}

/// All buffers of a model and what fills them. Indices follow the specs'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each [`MatrixSpec`].
    pub matrices: Vec<MatrixPlan>,
    /// One for each [`VectorSpec`].
    pub vectors: Vec<VectorPlan>,
    /// How packed layers are stored, if any are.
    pub quantization: Option<Quantization>,
}

/// Decides every buffer. Only headers have been read so far, and nothing is read here.
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

/// A piece found in the checkpoint.
pub(super) struct Found<'a> {
    piece: &'a Piece,
    pub(super) dtype: Dtype,
    pub(super) file: &'a str,
    pub(super) range: Range<u64>,
}

/// A piece of a matrix: as rows of one tensor, or packed in several.
pub(super) enum Stored<'a> {
    Rows(Found<'a>),
    Packed { piece: &'a Piece, quantization: Quantization, copy: PackedCopy },
}

impl Stored<'_> {
    fn piece(&self) -> &Piece {
        match self {
            Stored::Rows(found) => found.piece,
            Stored::Packed { piece, .. } => piece,
        }
    }

    /// How it lies on the device, if floats become `format`.
    fn layout(&self, format: Option<Layout>) -> Layout {
        match self {
            Stored::Rows(f) => format.filter(|_| f.dtype.block() == 1).unwrap_or(f.dtype.layout()),
            Stored::Packed { quantization, .. } => quantization.layout(),
        }
    }
}

fn find<'a>(checkpoint: &'a Checkpoint, piece: &'a Piece) -> Result<Found<'a>> {
    let tensor = shaped(checkpoint, &piece.tensor, piece.shape.iter().map(|&d| d as u64))?;
    let dtype = tensor.dtype.known(&piece.tensor)?;
    Ok(Found { piece, dtype, file: &tensor.file, range: tensor.range.clone() })
}

/// The tensor of this name and shape.
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

/// What a part of a read belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `plan.matrices[_]`.
    Matrix(usize),
    /// `plan.vectors[_]`.
    Vector(usize),
}

/// Rows of one copy inside a [`Read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The matrix or vector.
    pub target: Target,
    /// Which of its copies.
    pub copy: usize,
    /// Which of the copy's rows.
    pub rows: Range<u64>,
    /// Where they start in the read's bytes.
    pub at: u64,
}

/// In which order [`stream`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The vision tower first, wherever it lies: a picture can be looked at while the rest arrives.
    VisionFirst,
    /// Every file from front to back, those with parts of the vision tower first.
    Sequential,
}

/// What [`stream`] does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Reads rows.
    Rows(Read),
    /// Reads and turns the packed layer `plan.matrices[_].packed[_]`.
    Packed(usize, usize),
}

/// One request to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The file.
    pub file: String,
    /// The bytes to ask for.
    pub range: Range<u64>,
    /// What they contain.
    pub parts: Vec<Part>,
}

impl Plan {
    /// Parameters in the tensors that the plan reads.
    pub fn parameters(&self) -> u64 {
        let rows = self.copies().map(|(_, _, c)| c.rows.saturating_mul(c.cols as u64));
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

    /// Bytes that [`stream`] takes from the files: the total that it reports progress against.
    pub fn source_bytes(&self) -> u64 {
        let rows = self.copies().map(|(_, _, c)| c.rows * c.row_bytes);
        rows.chain(self.packed().map(|(_, _, c)| c.bytes())).fold(0, u64::saturating_add)
    }

    fn packed(&self) -> impl Iterator<Item = (usize, usize, &PackedCopy)> {
        let matrices = self.matrices.iter().enumerate();
        matrices.flat_map(|(i, m)| m.packed.iter().enumerate().map(move |(n, c)| (i, n, c)))
    }

    fn name(&self, target: Target) -> &str {
        match target {
            Target::Matrix(i) => &self.matrices[i].name,
            Target::Vector(i) => &self.vectors[i].name,
        }
    }

    fn copies(&self) -> impl Iterator<Item = (Target, usize, &RowCopy)> {
        let matrices = self.matrices.iter().enumerate().map(|(i, m)| (Target::Matrix(i), &m.copies));
        let vectors = self.vectors.iter().enumerate().map(|(i, v)| (Target::Vector(i), &v.copies));
        matrices.chain(vectors).flat_map(|(t, copies)| copies.iter().enumerate().map(move |(i, c)| (t, i, c)))
    }

    fn copy(&self, part: &Part) -> &RowCopy {
        match part.target {
            Target::Matrix(i) => &self.matrices[i].copies[part.copy],
            Target::Vector(i) => &self.vectors[i].copies[part.copy],
        }
    }

    /// What [`stream`] does, in order. Rows come in reads of at most `chunk_bytes` (at least 4 KiB, or one row if a row
    /// is longer). Small neighbours, such as biases, share a read.
    pub fn steps(&self, chunk_bytes: u64, order: Order) -> Vec<Step> {
        let chunk = chunk_bytes.max(MIN_CHUNK);
        let mut copies: Vec<_> = self.copies().collect();
        let mut packed: Vec<_> = self.packed().collect();
        let seen = |target: Target| self.name(target).starts_with("vision");
        let files: BTreeSet<&str> =
            copies.iter().filter(|(t, ..)| seen(*t)).map(|(_, _, copy)| copy.file.as_str()).collect();
        let later = |target: Target, file: &str| match order {
            Order::VisionFirst => !seen(target),
            Order::Sequential => !files.contains(file),
        };
        copies.sort_by_key(|(target, _, c)| (later(*target, &c.file), &c.file, c.start));
        packed.sort_by_key(|(m, _, c)| {
            (later(Target::Matrix(*m), &c.qweight.file), &c.qweight.file, c.qweight.range.start)
        });
        let mut packed = packed.into_iter().peekable();
        let mut steps: Vec<Step> = Vec::new();
        for (target, copy, c) in copies {
            let here = (later(target, &c.file), &c.file, c.start);
            while let Some((m, n, _)) = packed.next_if(|(m, _, p)| {
                (later(Target::Matrix(*m), &p.qweight.file), &p.qweight.file, p.qweight.range.start) < here
            }) {
                steps.push(Step::Packed(m, n));
            }
            let mut row = 0;
            while row < c.rows {
                let start = c.start + row * c.row_bytes;
                // How many rows the last read has room for, counting the hole before them.
                let room = match steps.last() {
                    Some(Step::Rows(r)) => {
                        let near = r.file == c.file && start >= r.range.end && start - r.range.end <= MAX_GAP;
                        if near { chunk.saturating_sub(start - r.range.start) / c.row_bytes } else { 0 }
                    }
                    _ => 0,
                };
                if room == 0 {
                    steps.push(Step::Rows(Read { file: c.file.clone(), range: start..start, parts: Vec::new() }));
                }
                let Some(Step::Rows(read)) = steps.last_mut() else { break }; // pushed just above if there was none
                let most = if room == 0 { (chunk / c.row_bytes).max(1) } else { room };
                let end = c.rows.min(row + most);
                read.parts.push(Part { target, copy, rows: row..end, at: start - read.range.start });
                read.range.end = c.start + end * c.row_bytes;
                row = end;
            }
        }
        steps.extend(packed.map(|(m, n, _)| Step::Packed(m, n)));
        steps
    }

    /// The ranges of files that these steps read, in order.
    pub fn expected(&self, steps: &[Step]) -> Vec<Expected> {
        let spans = |step: &Step| match step {
            Step::Rows(read) => vec![Expected { file: read.file.clone(), range: read.range.clone() }],
            Step::Packed(matrix, n) => self.matrices[*matrix].packed[*n].spans().cloned().collect(),
        };
        steps.iter().flat_map(spans).collect()
    }
}

/// Where [`stream`] puts the bytes. All buffers start as zeros.
///
/// An error stops the stream and comes back from it; [`Error::Cancelled`] is the way to cancel.
pub trait Sink {
    /// Everything has been asked for and nothing has come yet: time to prepare something meanwhile.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// Bytes of `plan.matrices[matrix].shards[shard]` from byte `offset` on. Offset and length are multiples of 16.
    fn write(&mut self, matrix: usize, shard: usize, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Columns of words of a packed layer, `[n, rows]`: words `first ..` of each of the rows `top .. top + rows` of
    /// `plan.matrices[matrix]`, which may lie in several shards.
    fn columns(&mut self, matrix: usize, top: usize, rows: usize, first: usize, words: &[u32]) -> Result<()>;

    /// The whole of `plan.vectors[index]`, once.
    fn vector(&mut self, index: usize, values: &[f32]) -> Result<()>;
}

/// Reads everything in the plan from `source` into `sink`, at most `chunk_bytes` at a time (see [`Plan::steps`];
/// [`CHUNK_BYTES`] is a good choice). After each read, `progress` hears the bytes done and [`Plan::source_bytes`].
///
/// # Errors
/// The source's and the sink's own.
pub async fn stream(
    plan: &Plan,
    source: &dyn Source,
    chunk_bytes: u64,
    sink: &mut dyn Sink,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let order = if source.sequential() { Order::Sequential } else { Order::VisionFirst };
    let steps = plan.steps(chunk_bytes, order);
    source.expect(&plan.expected(&steps)).await?;
    sink.begin()?;
    let total = plan.source_bytes();
    let mut done = 0;
    let mut rows = Rows { plan, vectors: BTreeMap::new(), out: Vec::new() };
    for step in steps {
        match step {
            Step::Rows(read) => {
                let bytes = read_exact(source, &read.file, read.range).await?;
                for part in &read.parts {
                    done += rows.take(part, &bytes, sink)?;
                }
                progress(done, total);
            }
            Step::Packed(matrix, n) => {
                let copy = &plan.matrices[matrix].packed[n];
                let Some(quantization) = &plan.quantization else {
                    return Err(Error::missing("quantization_config", "a plan with packed layers"));
                };
                let mut heard = |bytes| {
                    done += bytes;
                    progress(done, total);
                };
                let mut put = |first, words: &[u32]| sink.columns(matrix, copy.top, copy.rows, first, words);
                turn(quantization, copy, source, chunk_bytes, &mut heard, &mut put).await?;
            }
        }
    }
    Ok(())
}

/// Rows on their way.
struct Rows<'a> {
    plan: &'a Plan,
    /// Vectors that are not complete: the values and how many copies' rows are still to come.
    vectors: BTreeMap<usize, (Vec<f32>, u64)>,
    out: Vec<u8>,
}

impl Rows<'_> {
    /// Hands one part of a read to the sink; gives the bytes that it took.
    fn take(&mut self, part: &Part, bytes: &[u8], sink: &mut dyn Sink) -> Result<u64> {
        let copy = self.plan.copy(part);
        let count = part.rows.end - part.rows.start;
        // Within `bytes`: the read spans all its parts, and read_exact checked its length.
        let src = &bytes[part.at as usize..(part.at + count * copy.row_bytes) as usize];
        match part.target {
            Target::Matrix(i) => {
                let offset = copy.offset + part.rows.start * copy.dst_row_bytes;
                let same = copy.dtype.block() == 1 && copy.layout == copy.dtype.layout();
                if same && copy.row_bytes == copy.dst_row_bytes {
                    sink.write(i, copy.shard, offset, src)?;
                } else {
                    self.out.clear();
                    for row in src.chunks_exact(copy.row_bytes as usize) {
                        convert_row(copy.dtype, copy.layout, row, copy.cols, &mut self.out)?;
                    }
                    sink.write(i, copy.shard, offset, &self.out)?;
                }
            }
            Target::Vector(i) => {
                let vector = &self.plan.vectors[i];
                let (values, missing) = self
                    .vectors
                    .entry(i)
                    .or_insert_with(|| (vec![0.0; vector.len], vector.copies.iter().map(|c| c.rows).sum()));
                let at = (copy.offset / 4 + part.rows.start) as usize;
                values[at..at + count as usize].copy_from_slice(&copy.dtype.to_f32(src)?);
                *missing -= count;
                if *missing == 0 {
                    sink.vector(i, values)?;
                    self.vectors.remove(&i);
                }
            }
        }
        Ok(src.len() as u64)
    }
}

/// Little-endian words.
pub(super) fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Makes columns of a packed layer ([`Turning`]): what is read of its codes at a time and what is made of that take at most
/// half of `chunk_bytes` each (or one run). Beside that its scales and zeros are in memory, 5 bytes for each pair.
pub(super) async fn turn(
    quantization: &Quantization,
    copy: &PackedCopy,
    source: &dyn Source,
    chunk_bytes: u64,
    heard: &mut dyn FnMut(u64),
    put: &mut Put<'_>,
) -> Result<()> {
    let scales = copy.scale_dtype.to_f32(&read_span(source, &copy.scales, heard).await?)?;
    let qzeros = words(&read_span(source, &copy.qzeros, heard).await?);
    let g_idx = match &copy.g_idx {
        Some(span) => Some(words(&read_span(source, span, heard).await?)),
        None => None,
    };
    let g_idx = g_idx.as_deref().map(bytemuck::cast_slice);
    let half = chunk_bytes.max(MIN_CHUNK) / 2;
    let mut turning = Turning::new(quantization, (copy.rows, copy.cols), scales, &qzeros, g_idx, half)?;
    drop(qzeros);
    turning.pairs(put)?;
    let run = 4 * copy.rows as u64;
    let step = (half / run / quantization.columns_of_run() as u64).max(1) * run;
    let Range { mut start, end } = copy.qweight.range;
    let first = start;
    while start < end {
        let next = end.min(start + step);
        let bytes = read_exact(source, &copy.qweight.file, start..next).await?;
        turning.runs(((start - first) / run) as usize, &bytes, put)?;
        heard(next - start);
        start = next;
    }
    Ok(())
}

async fn read_span(source: &dyn Source, span: &Expected, heard: &mut dyn FnMut(u64)) -> Result<Vec<u8>> {
    let bytes = read_exact(source, &span.file, span.range.clone()).await?;
    heard(len(span));
    Ok(bytes)
}
