//! Carries a [`Plan`] out: reads the files of a source, a few MiB at a time, and hands rows, columns and vectors to a
//! [`Sink`].

use std::collections::BTreeMap;
use std::ops::Range;

use super::packed::{Put, Quantization, Turning, words};
use super::plan::Plan;
use super::quantize::convert_row;
use super::source::{Expected, Source, read_exact};
use super::steps::{MIN_CHUNK, Order, Part, Step, Target};
use super::stored::PackedCopy;
use crate::error::{Error, Result};

/// How many bytes [`stream`] should read at a time: 8 MiB suit disks and networks alike.
pub const CHUNK_BYTES: u64 = 8 << 20;

/// Takes what [`stream`] reads. All buffers start as zeros.
///
/// An error from a sink stops the stream, which returns it; [`Error::Cancelled`] is the way to cancel.
pub trait Sink {
    /// The source has been told what will be read, and nothing has arrived yet: time to prepare something meanwhile.
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
/// [`CHUNK_BYTES`] is a good choice). After each read, `progress` is called with the bytes read so far and
/// [`Plan::source_bytes`].
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

/// What turns the rows of a read into what the sink takes.
struct Rows<'a> {
    plan: &'a Plan,
    /// Vectors that are not complete yet: their values, and how many of these are still missing.
    vectors: BTreeMap<usize, (Vec<f32>, u64)>,
    out: Vec<u8>,
}

impl Rows<'_> {
    /// Hands one part of a read to the sink and returns how many bytes of the read that part has.
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

/// Reads a packed layer and gives its columns to `put` (see [`Turning`]); `heard` is called with the bytes of each read.
/// The codes that are in memory at a time, and the columns made from them, take at most half of `chunk_bytes` each (or
/// one run). In addition all scales and zeros of the layer are in memory, 5 bytes for each pair.
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
    heard(span.bytes());
    Ok(bytes)
}
