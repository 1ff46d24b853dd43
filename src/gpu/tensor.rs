//! Tensors on the device: a matrix of f32 or u32 words in one buffer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use crate::error::{Error, Result};
use crate::gpu::device::Gpu;
use crate::gpu::memory::{Class, Ledger};

/// The type of a tensor's 4-byte words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floats: activations, norms, biases, caches.
    F32,
    /// 32-bit unsigned integers: token ids, row maps, packed weights.
    U32,
}

/// A row-major matrix `[rows, cols]` of 4-byte words on the device. Clones share the memory.
///
/// Scratch tensors are taken from a pool and return to it when the last clone is dropped. This is safe while recording,
/// since whatever is recorded later also runs later.
#[derive(Clone)]
pub struct Tensor {
    pub(super) memory: Rc<Memory>,
    /// Number of rows.
    pub rows: usize,
    /// Number of words in a row.
    pub cols: usize,
    /// The type of the words.
    pub element: Element,
}

pub(super) struct Memory {
    pub(super) raw: wgpu::Buffer,
    pub(super) id: u32,
    pool: Weak<Pool>,
    /// The class of the pool that the memory returns to. `None` for persistent memory, which is freed.
    class: Option<Class>,
}

/// A run of words that [`Gpu::copy`] copies from one tensor to another.
pub struct Run<'a> {
    /// The tensor to copy from.
    pub from: &'a Tensor,
    /// The first word in `from`.
    pub first: usize,
    /// The tensor to copy to, which must not be `from`.
    pub to: &'a Tensor,
    /// Where the first word goes in `to`.
    pub start: usize,
    /// The number of words.
    pub words: usize,
}

/// The free buffers of each class, and the counters of all allocated memory.
#[derive(Default)]
pub(super) struct Pool {
    free: RefCell<HashMap<Class, Vec<(wgpu::Buffer, u32)>>>,
    pub(super) ledger: Ledger,
}

impl Drop for Memory {
    fn drop(&mut self) {
        let pool = self.pool.upgrade();
        match (&pool, self.class) {
            (Some(pool), Some(class)) => {
                pool.free.borrow_mut().entry(class).or_default().push((self.raw.clone(), self.id));
            }
            // Work that is submitted already still finishes. Without this call, a browser would free weights only when its
            // garbage collector runs.
            _ => {
                self.raw.destroy();
                pool.inspect(|pool| pool.ledger.persistent(-(self.raw.size() as i64)));
            }
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

    /// The same memory seen as a matrix of another shape.
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

impl Gpu {
    /// Allocates a zero-filled tensor that lives until its last clone is dropped, for weights and caches.
    ///
    /// # Errors
    /// [`Error::DeviceTooSmall`] if one binding cannot hold it, [`Error::OutOfMemory`] if the device is full. A browser
    /// reports a full device only at the next [`Gpu::settle`].
    pub fn persistent(&self, what: &str, rows: usize, cols: usize, element: Element) -> Result<Tensor> {
        let bytes = self.fits(what, rows, cols)?.next_multiple_of(16).max(16);
        let raw = self.create(what, bytes)?;
        self.inner.pool.ledger.persistent(bytes as i64);
        let memory = Memory { raw, id: self.fresh_id(), pool: Rc::downgrade(&self.inner.pool), class: None };
        Ok(Tensor { memory: Rc::new(memory), rows, cols, element })
    }

    /// Takes a tensor from the pool. Its content is what its last user left in it.
    ///
    /// # Errors
    /// As [`Gpu::persistent`].
    pub(super) fn pooled(
        &self,
        what: &str,
        rows: usize,
        cols: usize,
        element: Element,
        upload: bool,
    ) -> Result<Tensor> {
        let bytes = self.fits(what, rows, cols)?;
        let class = Class::of(bytes, upload, self.caps().max_binding);
        let pool = &self.inner.pool;
        let free = pool.free.borrow_mut().get_mut(&class).and_then(Vec::pop);
        let (raw, id) = match free {
            Some(free) => free,
            None => {
                let raw = self.create(what, class.bytes)?;
                pool.ledger.pooled(class.bytes as i64);
                (raw, self.fresh_id())
            }
        };
        let memory = Memory { raw, id, pool: Rc::downgrade(pool), class: Some(class) };
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
        self.write_buffer(&tensor.memory.raw, offset, bytes);
        Ok(())
    }

    /// Copies words on the device, after everything submitted so far.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a range is outside its tensor, in which case nothing is copied. Otherwise as [`Gpu::check`].
    pub fn copy(&self, runs: &[Run<'_>]) -> Result<()> {
        self.check()?;
        let mut encoder = self.inner.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for run in runs.iter().filter(|run| run.words > 0) {
            for (tensor, at) in [(run.from, run.first), (run.to, run.start)] {
                if at.checked_add(run.words).is_none_or(|end| end > tensor.len()) {
                    let expected = format!("a range within {} words", tensor.len());
                    return Err(Error::invalid("copy", expected, format!("{} words at {at}", run.words)));
                }
            }
            let [first, start, words] = [run.first, run.start, run.words].map(|words| 4 * words as u64);
            encoder.copy_buffer_to_buffer(&run.from.memory.raw, first, &run.to.memory.raw, start, words);
        }
        self.submit(Some(encoder.finish()));
        Ok(())
    }

    /// Frees the pooled and staging buffers that are not in use. Must not be called between recording and executing.
    pub fn trim(&self) {
        self.forget_bind_groups();
        self.trim_staging();
        let pool = &self.inner.pool;
        for (raw, _) in pool.free.borrow_mut().drain().flat_map(|(_, buffers)| buffers) {
            pool.ledger.pooled(-(raw.size() as i64));
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

    fn create(&self, what: &str, size: u64) -> Result<wgpu::Buffer> {
        let held = self.memory().total.current;
        let full = || Error::OutOfMemory { what: what.to_owned(), bytes: size, held, advice: String::new() };
        if self.inner.max_memory.is_some_and(|most| held.saturating_add(size) > most) {
            return Err(full());
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let raw = self.create_buffer(what, size, usage);
        // Natively, the driver has reported a failed allocation by now.
        if self.take_out_of_memory() { Err(full()) } else { Ok(raw) }
    }
}
