//! In which order the bytes of a [`Plan`] are read, and in which pieces: decided beforehand, so that a source can be told
//! about all reads before the first one. [`super::stream`] then carries the steps out.

use std::collections::BTreeSet;
use std::ops::Range;

use super::plan::{Plan, RowCopy};
use super::source::Expected;

/// Up to this many bytes between two tensors are read and thrown away, because another request would take longer.
const MAX_GAP: u64 = 64 << 10;
/// Smallest chunk. With smaller ones the list of reads would be longer than the bytes that it describes.
pub(super) const MIN_CHUNK: u64 = 4 << 10;

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

/// In which order a plan's bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The vision tower first, wherever it lies in the files: a picture can be encoded while the rest arrives.
    VisionFirst,
    /// Every file from front to back, those with parts of the vision tower first.
    Sequential,
}

/// One step of [`stream`](super::stream::stream).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read these rows.
    Rows(Read),
    /// Read the packed layer `plan.matrices[_].packed[_]` and turn its columns into rows.
    Packed(usize, usize),
}

/// One request to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The file.
    pub file: String,
    /// The bytes to ask for.
    pub range: Range<u64>,
    /// What lies in these bytes.
    pub parts: Vec<Part>,
}

impl Plan {
    /// The model's name for a matrix or a vector.
    fn name(&self, target: Target) -> &str {
        match target {
            Target::Matrix(i) => &self.matrices[i].name,
            Target::Vector(i) => &self.vectors[i].name,
        }
    }

    /// Every run of rows: what it fills, its number among the copies of that, and itself.
    fn copies(&self) -> impl Iterator<Item = (Target, usize, &RowCopy)> {
        let matrices = self.matrices.iter().enumerate().map(|(i, m)| (Target::Matrix(i), &m.copies));
        let vectors = self.vectors.iter().enumerate().map(|(i, v)| (Target::Vector(i), &v.copies));
        matrices.chain(vectors).flat_map(|(t, copies)| copies.iter().enumerate().map(move |(i, c)| (t, i, c)))
    }

    /// The copy that a part of a read belongs to.
    pub(super) fn copy(&self, part: &Part) -> &RowCopy {
        match part.target {
            Target::Matrix(i) => &self.matrices[i].copies[part.copy],
            Target::Vector(i) => &self.vectors[i].copies[part.copy],
        }
    }

    /// All steps in order. Rows come in reads of at most `chunk_bytes` (at least 4 KiB, or one row if a row
    /// is longer). Small neighbours, such as biases, share a read.
    pub fn steps(&self, chunk_bytes: u64, order: Order) -> Vec<Step> {
        let chunk = chunk_bytes.max(MIN_CHUNK);
        let mut copies: Vec<_> = self.copies().collect();
        let mut packed: Vec<_> = self.packed().collect();
        let of_vision = |target: Target| self.name(target).starts_with("vision");
        let files: BTreeSet<&str> =
            copies.iter().filter(|(t, ..)| of_vision(*t)).map(|(_, _, copy)| copy.file.as_str()).collect();
        let later = |target: Target, file: &str| match order {
            Order::VisionFirst => !of_vision(target),
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
