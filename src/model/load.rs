//! Weights on their way from a source to the device: what the plan says, as tensors by name.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::gpu::{Element, Gpu, Recorder, Tensor, WeightFormat};
use crate::ops::columns::columns;
use crate::ops::{Weight, WeightShard};
use crate::weights::folder::Folder;
use crate::weights::index::Checkpoint;
use crate::weights::plan::Plan;
use crate::weights::prepared::{self, Places};
use crate::weights::stream::{CHUNK_BYTES, Sink, stream};

/// Tensors on the device by the names of the specs: zeros until they are filled.
pub struct Loaded {
    matrices: HashMap<String, Weight>,
    vectors: HashMap<String, Tensor>,
    /// The same tensors in the plan's order, in which they are filled.
    filling: (Vec<Weight>, Vec<Tensor>),
}

impl Loaded {
    /// Allocates everything that the plan names.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the device cannot hold it (all of it is freed then).
    pub async fn allocate(gpu: &Gpu, plan: &Plan) -> Result<Self> {
        let (mut matrices, mut vectors) = (Vec::new(), Vec::new());
        for matrix in &plan.matrices {
            let shards = matrix
                .shards
                .iter()
                .map(|shard| {
                    // Fits: the plan has checked both against the device's limits.
                    let stride = shard.row_words as usize;
                    Ok(WeightShard {
                        tensor: gpu.persistent(&matrix.name, shard.rows, stride, Element::U32)?,
                        row_start: shard.row_start,
                        rows: shard.rows,
                        stride,
                        groups: shard.layout.groups(matrix.cols as u64).unwrap_or(0) as usize,
                        format: WeightFormat::of(shard.layout, gpu.caps().shader_f16),
                    })
                })
                .collect::<Result<_>>()?;
            matrices.push(Weight { shards, rows: matrix.rows, cols: matrix.cols });
        }
        for vector in &plan.vectors {
            vectors.push(gpu.persistent(&vector.name, 1, vector.len, Element::F32)?);
        }
        // A browser says here that one of them failed, but not which.
        gpu.settle().await.map_err(|error| match error {
            Error::OutOfMemory { bytes: 0, held, advice, .. } => {
                let bytes = plan.device_bytes().values().sum();
                Error::OutOfMemory { what: "the weights".into(), bytes, held: held.saturating_sub(bytes), advice }
            }
            other => other,
        })?;
        Ok(Loaded {
            matrices: plan.matrices.iter().map(|m| m.name.clone()).zip(matrices.iter().cloned()).collect(),
            vectors: plan.vectors.iter().map(|v| v.name.clone()).zip(vectors.iter().cloned()).collect(),
            filling: (matrices, vectors),
        })
    }

    /// Streams the weights in: from `source`, or from the prepared ones that it has. `begin` is called when the source has been told what will be read: while that arrives,
    /// pipelines can be compiled.
    ///
    /// # Errors
    /// Any error of the source or of the device.
    pub async fn fill(
        self,
        gpu: &Gpu,
        plan: &Plan,
        checkpoint: &Checkpoint,
        source: &dyn Folder,
        progress: &mut dyn FnMut(u64, u64),
        begin: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let (matrices, vectors) = self.filling;
        let ready = source.prepared().and_then(|prepared| prepared.plan(plan));
        let keep = if ready.is_none() { keeping(plan, checkpoint, source) } else { None };
        let plan = ready.as_ref().unwrap_or(plan);
        let mut sink = Device { gpu, plan, matrices, vectors, columns: None, written: 0, begin, keep };
        stream(plan, source, CHUNK_BYTES, &mut sink, progress).await?;
        drop(sink);
        gpu.forget_bind_groups(); // of `columns`
        gpu.settle().await
    }

    /// A matrix by name.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn matrix(&mut self, name: &str) -> Result<Weight> {
        self.matrices.remove(name).ok_or_else(|| Error::missing(name, "the plan"))
    }

    /// A vector by name.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn vector(&mut self, name: &str) -> Result<Tensor> {
        self.vectors.remove(name).ok_or_else(|| Error::missing(name, "the plan"))
    }

    /// A matrix that not every checkpoint has.
    pub fn optional_matrix(&mut self, name: &str) -> Option<Weight> {
        self.matrices.remove(name)
    }

    /// A vector that not every family has.
    pub fn optional_vector(&mut self, name: &str) -> Option<Tensor> {
        self.vectors.remove(name)
    }
}

struct Device<'a> {
    gpu: &'a Gpu,
    plan: &'a Plan,
    matrices: Vec<Weight>,
    vectors: Vec<Tensor>,
    /// Where columns of a packed layer wait for their kernel: one buffer for all, as large as the most of them so far.
    columns: Option<Tensor>,
    /// Bytes written since the last flush.
    written: usize,
    begin: &'a dyn Fn() -> Result<()>,
    keep: Option<(Places, &'a dyn Folder)>,
}

/// Where the source is to keep what is made of the weights, if it wants that.
fn keeping<'a>(plan: &Plan, checkpoint: &Checkpoint, source: &'a dyn Folder) -> Option<(Places, &'a dyn Folder)> {
    let head = prepared::head(checkpoint, plan)?;
    let places = Places::new(plan, head.len() as u64);
    if !source.keeps(places.size) {
        return None;
    }
    source.keep(0, &head);
    Some((places, source))
}

/// Writes wait in staging memory until something is submitted; this much may wait.
pub const FLUSH_BYTES: usize = 32 << 20;

impl Device<'_> {
    fn count(&mut self, bytes: usize) -> Result<()> {
        self.written += bytes;
        if self.written >= FLUSH_BYTES {
            self.written = 0;
            self.gpu.flush()?;
        }
        Ok(())
    }
}

impl Sink for Device<'_> {
    fn begin(&mut self) -> Result<()> {
        (self.begin)()
    }

    fn write(&mut self, matrix: usize, n: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let weight = self.matrices.get(matrix).and_then(|m| m.shards.get(n));
        let shard = weight.ok_or_else(|| Error::missing("a shard", "the plan"))?;
        self.gpu.write(&shard.tensor, offset, bytes)?;
        if let Some((places, source)) = &self.keep {
            source.keep(places.matrices[matrix][n] + offset, bytes);
        }
        self.count(bytes.len())
    }

    fn columns(&mut self, matrix: usize, top: usize, rows: usize, first: usize, words: &[u32]) -> Result<()> {
        // As many columns as one binding holds.
        let most = (self.gpu.caps().max_binding / 4 / rows as u64).max(1) as usize;
        for (n, words) in words.chunks(most * rows).enumerate() {
            let weight = self.matrices.get(matrix).ok_or_else(|| Error::missing("a matrix", "the plan"))?;
            let waiting = match self.columns.take().filter(|tensor| tensor.len() >= words.len()) {
                Some(tensor) => tensor,
                None => self.gpu.persistent("columns of a packed layer", 1, words.len(), Element::U32)?,
            };
            self.gpu.write(&waiting, 0, bytemuck::cast_slice(words))?;
            let mut rec = Recorder::new(self.gpu);
            columns(&mut rec, &waiting.reshape(words.len() / rows, rows)?, weight, top, first + n * most)?;
            self.gpu.execute(rec.finish())?;
            self.columns = Some(waiting);
            self.count(4 * words.len())?;
        }
        Ok(())
    }

    fn vector(&mut self, index: usize, values: &[f32]) -> Result<()> {
        let name = self.plan.vectors.get(index).map_or("a vector", |v| v.name.as_str());
        let tensor = self.vectors.get(index).ok_or_else(|| Error::missing(name, "the plan"))?;
        let bytes = bytemuck::cast_slice(values);
        if let Some((places, source)) = &self.keep {
            source.keep(places.vectors[index], bytes);
        }
        self.gpu.write(tensor, 0, bytes)
    }
}
