//! The KV cache: keys and values of every decoder layer, by head, with room to grow.

use crate::error::Result;
use crate::gpu::{Element, Gpu, Recorder, Tensor};
use crate::ops::gather_rows::{KEEP, gather_rows};
use crate::ops::rope::Heads;

/// Keys and values of one layer, each `[kv_heads * capacity, head_dim]` f32.
#[derive(Clone)]
pub struct LayerCache {
    /// Rotated keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
}

/// The cache of one conversation.
pub struct KvCache {
    /// Layers in order.
    pub layers: Vec<LayerCache>,
    /// Positions that each head has room for.
    pub capacity: usize,
    /// Positions filled.
    pub len: usize,
    heads: Heads,
}

/// Capacities are multiples of this, so that a growing conversation reallocates rarely.
const STEP: usize = 256;

impl KvCache {
    /// An empty cache for `layers` layers without any memory yet.
    pub fn new(layers: usize, heads: Heads) -> Self {
        KvCache { layers: Vec::with_capacity(layers), capacity: 0, len: 0, heads }
    }

    /// Bytes that a cache of this capacity takes.
    pub fn bytes(layers: usize, heads: Heads, capacity: usize) -> u64 {
        2 * 4 * layers as u64 * heads.kv as u64 * capacity as u64 * heads.dim as u64
    }

    /// Makes room for `needed` positions, at most `limit`: half again as many as before, so that the copies of a long
    /// conversation stay proportional to its length. Layer by layer, so that one layer at a time is there twice.
    ///
    /// # Errors
    /// [`crate::Error::DeviceTooSmall`] if a layer's keys do not fit one binding, [`crate::Error::OutOfMemory`]. The cache has
    /// then no layers and no positions.
    pub fn reserve(&mut self, gpu: &Gpu, layers: usize, needed: usize, limit: usize) -> Result<()> {
        if needed <= self.capacity {
            return Ok(());
        }
        let capacity = needed.max(self.capacity * 3 / 2).next_multiple_of(STEP).min(limit.max(needed));
        let grown = self.grow(gpu, layers, capacity);
        self.capacity = capacity;
        if grown.is_err() {
            *self = KvCache::new(layers, self.heads);
        }
        // Cached bind groups name the old buffers, and the index is of no further use.
        gpu.trim();
        grown
    }

    fn grow(&mut self, gpu: &Gpu, layers: usize, capacity: usize) -> Result<()> {
        let make = |what| gpu.persistent(what, self.heads.kv * capacity, self.heads.dim, Element::F32);
        if self.len == 0 {
            self.layers.clear();
            for _ in 0..layers {
                self.layers.push(LayerCache { k: make("keys")?, v: make("values")? });
            }
            return Ok(());
        }
        let mut index = vec![KEEP; self.heads.kv * capacity];
        for head in 0..self.heads.kv {
            for i in 0..self.len {
                index[head * capacity + i] = (head * self.capacity + i) as u32;
            }
        }
        for layer in &mut self.layers {
            let fresh = LayerCache { k: make("keys")?, v: make("values")? };
            let mut rec = Recorder::new(gpu);
            let index = rec.upload_u32("cache rows", index.len(), &index)?;
            gather_rows(&mut rec, &layer.k, &index, &fresh.k)?;
            gather_rows(&mut rec, &layer.v, &index, &fresh.v)?;
            gpu.execute(rec.finish())?;
            *layer = fresh;
            gpu.flush()?;
        }
        Ok(())
    }

    /// Forgets everything after the first `len` positions.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}
