//! Tensors on the device: a matrix of f32 or u32 words in one buffer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use crate::error::{Error, Result};
use crate::gpu::device::Gpu;

/// What a tensor's 4-byte words are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floats: activations, norms, biases, caches.
    F32,
    /// 32-bit unsigned integers: token ids, row maps, packed weights.
    U32,
}

/// A row-major matrix `[rows, cols]` of 4-byte words on the device. Cloning shares the memory.
///
/// Scratch tensors come from a pool and go back to it when the last clone is dropped. That is safe while recording:
/// whatever is recorded later also runs later.
#[derive(Clone)]
pub struct Tensor {
    pub(super) memory: Rc<Memory>,
    /// Number of rows.
    pub rows: usize,
    /// Number of words in a row.
    pub cols: usize,
    /// What the words are.
    pub element: Element,
}

pub(super) struct Memory {
    pub(super) raw: wgpu::Buffer,
    pub(super) id: u32,
    home: Weak<Pool>,
    class: Class,
}

/// Buffers are interchangeable within a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Class {
    bytes: u64,
    upload: bool,
}

/// Free buffers by class. Uploads have their own: `write_buffer` runs before the whole next submission, so an
/// upload must never land in memory that an earlier step of the same recording still uses.
#[derive(Default)]
pub(super) struct Pool {
    free: RefCell<HashMap<Class, Vec<(wgpu::Buffer, u32)>>>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.home.upgrade() {
            Some(pool) => pool.free.borrow_mut().entry(self.class).or_default().push((self.raw.clone(), self.id)),
            // Work already submitted still finishes. Without this a browser frees weights when its collector likes.
            None => self.raw.destroy(),
        }
    }
}

impl Tensor {
    /// Number of words.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether there are no words.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in bytes of the words (the buffer behind them may be larger).
    pub fn bytes(&self) -> u64 {
        4 * self.len() as u64
    }

    /// The same words seen as another matrix.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `rows * cols` words fit in the tensor.
    pub fn reshape(&self, rows: usize, cols: usize) -> Result<Tensor> {
        if rows.checked_mul(cols).is_none_or(|n| n > self.len()) {
            return Err(Error::Shape {
                what: "reshape".into(),
                expected: vec![self.rows, self.cols],
                found: vec![rows, cols],
            });
        }
        Ok(Tensor { rows, cols, ..self.clone() })
    }
}

/// Rounds up to one of four sizes per power of two, so that a few buffers serve many shapes.
fn size_class(bytes: u64) -> u64 {
    let bytes = bytes.max(256);
    let step = (bytes.next_power_of_two() / 8).max(256);
    bytes.next_multiple_of(step)
}

impl Gpu {
    /// Memory that lives until the last clone is dropped: weights, caches. Zero-filled.
    ///
    /// # Errors
    /// [`Error::DeviceTooSmall`] if one binding cannot hold it.
    pub fn persistent(&self, what: &str, rows: usize, cols: usize, element: Element) -> Result<Tensor> {
        let bytes = self.fits(what, rows, cols)?.next_multiple_of(16).max(16);
        let raw = self.create(what, bytes);
        let memory = Memory { raw, id: self.fresh_id(), home: Weak::new(), class: Class { bytes, upload: false } };
        Ok(Tensor { memory: Rc::new(memory), rows, cols, element })
    }

    /// Memory from the pool, with whatever its last user left in it.
    ///
    /// # Errors
    /// [`Error::DeviceTooSmall`] if one binding cannot hold it.
    pub(super) fn pooled(
        &self,
        what: &str,
        rows: usize,
        cols: usize,
        element: Element,
        upload: bool,
    ) -> Result<Tensor> {
        let bytes = self.fits(what, rows, cols)?;
        let limit = self.caps().max_binding / 256 * 256;
        let class = Class { bytes: size_class(bytes).min(limit.max(bytes)), upload };
        let pool = &self.inner.pool;
        let free = pool.free.borrow_mut().get_mut(&class).and_then(Vec::pop);
        let (raw, id) = free.unwrap_or_else(|| (self.create(what, class.bytes), self.fresh_id()));
        let memory = Memory { raw, id, home: Rc::downgrade(pool), class };
        Ok(Tensor { memory: Rc::new(memory), rows, cols, element })
    }

    /// Writes words into a persistent tensor, before the next submission.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is outside the tensor or not of whole words.
    pub fn write(&self, tensor: &Tensor, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len() as u64);
        let capacity = tensor.bytes().next_multiple_of(16);
        if end.is_none_or(|end| end > capacity) || !offset.is_multiple_of(4) || !bytes.len().is_multiple_of(4) {
            let found = format!("{} bytes at {offset}", bytes.len());
            return Err(Error::invalid("buffer write", format!("whole words within {capacity} bytes"), found));
        }
        self.inner.queue.write_buffer(&tensor.memory.raw, offset, bytes);
        Ok(())
    }

    /// Gives all pooled memory back to the driver.
    pub fn trim(&self) {
        self.forget_bind_groups();
        for (raw, _) in self.inner.pool.free.borrow_mut().drain().flat_map(|(_, buffers)| buffers) {
            raw.destroy();
        }
    }

    fn fits(&self, what: &str, rows: usize, cols: usize) -> Result<u64> {
        let needed = (rows as u64).saturating_mul(cols as u64).saturating_mul(4);
        if needed > self.caps().max_binding {
            return Err(Error::DeviceTooSmall {
                limit: "maxStorageBufferBindingSize".into(),
                needed,
                available: self.caps().max_binding,
                what: format!("{what} [{rows}, {cols}]"),
            });
        }
        Ok(needed)
    }

    fn create(&self, label: &str, size: u64) -> wgpu::Buffer {
        self.inner.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn size_classes_hold_what_they_are_for_and_waste_at_most_a_quarter() {
        for bytes in [1, 255, 256, 257, 1000, 4097, 123_456, 1 << 20, (1 << 20) + 1, 100_000_001] {
            let class = size_class(bytes);
            assert!(class >= bytes && class.is_multiple_of(256));
            assert!(class <= bytes + bytes / 4 + 512, "{bytes} -> {class}");
        }
    }
}
