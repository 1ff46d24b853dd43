//! Tensors on the device: a matrix of f32 or u32 words in one buffer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use crate::error::{Error, Result};
use crate::gpu::device::Gpu;
use crate::gpu::memory::{Class, Ledger};

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
    pool: Weak<Pool>,
    /// Where it goes back to; persistent memory is freed.
    class: Option<Class>,
}

/// Words that [`Gpu::copy`] moves from one tensor to another.
pub struct Run<'a> {
    /// Where they are.
    pub from: &'a Tensor,
    /// The first of them there.
    pub first: usize,
    /// Where they go: another tensor.
    pub to: &'a Tensor,
    /// The place of the first of them there.
    pub start: usize,
    /// How many.
    pub words: usize,
}

/// Free buffers by class, and the count of everything that is allocated.
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
            // Work already submitted still finishes. Without this a browser frees weights when its collector likes.
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

impl Gpu {
    /// Memory that lives until the last clone is dropped: weights, caches. Zero-filled.
    ///
    /// # Errors
    /// [`Error::DeviceTooSmall`] if one binding cannot hold it, [`Error::OutOfMemory`] if the device is full. Natively a
    /// full device is noticed here, in a browser at the next [`Gpu::settle`].
    pub fn persistent(&self, what: &str, rows: usize, cols: usize, element: Element) -> Result<Tensor> {
        let bytes = self.fits(what, rows, cols)?.next_multiple_of(16).max(16);
        let raw = self.create(what, bytes)?;
        self.inner.pool.ledger.persistent(bytes as i64);
        let memory = Memory { raw, id: self.fresh_id(), pool: Rc::downgrade(&self.inner.pool), class: None };
        Ok(Tensor { memory: Rc::new(memory), rows, cols, element })
    }

    /// Memory from the pool, with whatever its last user left in it.
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
        self.inner.queue.write_buffer(&tensor.memory.raw, offset, bytes);
        Ok(())
    }

    /// Copies words on the device, after everything submitted so far.
    ///
    /// # Errors
    /// [`Error::Invalid`] outside a tensor, before anything is copied; as [`Gpu::check`].
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
        self.inner.queue.submit([encoder.finish()]);
        Ok(())
    }

    /// Gives pooled memory that nobody holds back to the driver. Not while something is recorded and not yet executed.
    pub fn trim(&self) {
        self.forget_bind_groups();
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
        let raw = self.inner.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        // Natively the driver's answer is there already.
        if self.take_out_of_memory() { Err(full()) } else { Ok(raw) }
    }
}
