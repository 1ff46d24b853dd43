//! Weights as they lie on the device, in one file: the result of quantizing, kept so that the next load reads only this.
//!
//! A folder is given this file while the weights are loaded, if it [keeps](super::folder::Folder::keeps) such files, and says
//! at the next load that it [has](super::folder::Folder::prepared) it. The file starts with `FANLIGHT`, a version, the length of a JSON header (both u32, little-endian) and that header, which is padded with
//! spaces to a multiple of 16 bytes in all: the checkpoint's table of tensors, so that no other file is asked for it, and
//! the size of every buffer. The buffers follow in the plan's order: each matrix's shards, then the vectors as f32. All
//! numbers lie as they do on the device and may lie differently in the next version, so this is no format to pass on to others
//! (`fanlight convert` writes one).

use serde::{Deserialize, Serialize};

use super::index::Checkpoint;
use super::plan::{Plan, RowCopy};
use super::safetensors::TensorInfo;
use super::source::{Source, read_exact};
use crate::dtype::{Dtype, Element, Layout};
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"FANLIGHT";
/// Changes with any layout of [`Layout`].
const VERSION: u32 = 1;
/// Longest header.
const MAX_HEADER: u32 = 32 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    tensors: Vec<Row>,
    buffers: Vec<String>,
}

/// Name, type, shape, file, first byte, byte after the last.
#[derive(Serialize, Deserialize)]
struct Row(String, String, Vec<u64>, String, u64, u64);

/// What the header of a file of prepared weights says.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The file's name in its source.
    pub file: String,
    /// The tensors of the checkpoint that it was made of.
    pub checkpoint: Checkpoint,
    /// Name, layout and bytes of every buffer.
    buffers: Vec<String>,
    /// Where the first buffer starts.
    start: u64,
}

/// Every buffer of a plan in words. Two plans with the same words have the same bytes in their buffers.
fn buffers(plan: &Plan) -> Vec<String> {
    let shards = |m: &super::plan::MatrixPlan| {
        let shard = |s: &super::plan::Shard| format!("{} {} {}", m.name, s.layout.name(), s.bytes());
        m.shards.iter().map(shard).collect::<Vec<_>>()
    };
    let vectors = plan.vectors.iter().map(|v| format!("{} {}", v.name, v.len));
    plan.matrices.iter().flat_map(shards).chain(vectors).collect()
}

/// Where each shard of each matrix and each vector is in the file, and how long the file is.
pub struct Places {
    /// By matrix and shard.
    pub matrices: Vec<Vec<u64>>,
    /// By vector.
    pub vectors: Vec<u64>,
    /// Bytes in all.
    pub size: u64,
}

impl Places {
    /// Of a plan's buffers, one after the other from `start` on.
    pub fn new(plan: &Plan, start: u64) -> Self {
        let mut size = start;
        let mut next = |bytes: u64| {
            let at = size;
            size += bytes;
            at
        };
        let matrices = plan.matrices.iter().map(|m| m.shards.iter().map(|s| next(s.bytes())).collect()).collect();
        let vectors = plan.vectors.iter().map(|v| next((v.len as u64 * 4).next_multiple_of(16))).collect();
        Places { matrices, vectors, size }
    }
}

/// The beginning of the file for a plan. `None` if the plan has packed layers: these are turned on the device, so their final
/// bytes are never seen here.
pub fn head(checkpoint: &Checkpoint, plan: &Plan) -> Option<Vec<u8>> {
    if plan.matrices.iter().any(|m| !m.packed.is_empty()) {
        return None;
    }
    let row = |t: &TensorInfo| {
        Row(t.name.clone(), t.dtype.name().into(), t.shape.clone(), t.file.clone(), t.range.start, t.range.end)
    };
    let header = Header { tensors: checkpoint.tensors().map(row).collect(), buffers: buffers(plan) };
    let mut json = serde_json::to_vec(&header).ok()?;
    json.resize((16 + json.len()).next_multiple_of(16) - 16, b' ');
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(u32::try_from(json.len()).ok().filter(|n| *n <= MAX_HEADER)?.to_le_bytes());
    bytes.extend(json);
    Some(bytes)
}

/// Reads the header of `file`.
///
/// # Errors
/// The source's, and [`Error::Malformed`].
pub async fn open(source: &dyn Source, file: &str) -> Result<Prepared> {
    let wrong = |found: String| Error::malformed(file, "weights prepared by this version", found);
    let start = read_exact(source, file, 0..16).await?;
    let word = |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
    if start[..8] != *MAGIC || word(8) != VERSION || word(12) > MAX_HEADER {
        return Err(wrong(format!("version {}", word(8))));
    }
    let start = 16 + u64::from(word(12));
    let json = read_exact(source, file, 16..start).await?;
    let Header { tensors, buffers } = serde_json::from_slice(&json).map_err(|e| wrong(e.to_string()))?;
    let tensors = tensors.into_iter().map(|Row(name, dtype, shape, file, start, end)| TensorInfo {
        name,
        dtype: Element::parse(&dtype),
        shape,
        file,
        range: start..end,
    });
    Ok(Prepared { file: file.to_owned(), checkpoint: Checkpoint::new(tensors.collect())?, buffers, start })
}

impl Prepared {
    /// The same plan, but with everything read from this file. `None` if its buffers are not those of this file, for instance on a
    /// device with other limits.
    pub fn plan(&self, plan: &Plan) -> Option<Plan> {
        if self.buffers != buffers(plan) {
            return None;
        }
        let places = Places::new(plan, self.start);
        let copy = |start: u64, shard: usize, rows: u64, cols: usize| RowCopy {
            file: self.file.clone(),
            start,
            dtype: Dtype::F32,
            layout: Layout::F32,
            rows,
            cols,
            row_bytes: 4 * cols as u64,
            shard,
            offset: 0,
            dst_row_bytes: 4 * cols as u64,
        };
        let mut prepared = plan.clone();
        prepared.quantization = None;
        for (matrix, starts) in prepared.matrices.iter_mut().zip(&places.matrices) {
            let shards = matrix.shards.iter().zip(starts).enumerate();
            // Called floats, but they are written as they are, whatever these words mean.
            matrix.copies =
                shards.map(|(n, (s, start))| copy(*start, n, s.rows as u64, s.row_words as usize)).collect();
        }
        for (vector, start) in prepared.vectors.iter_mut().zip(&places.vectors) {
            vector.copies = vec![copy(*start, 0, vector.len as u64, 1)];
        }
        Some(prepared)
    }
}
