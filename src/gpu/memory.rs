//! Counts the memory that is allocated ([`Gpu::memory`]), and predicts without a device which buffers a pass would
//! allocate from the pool ([`Rehearsal`]).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::gpu::device::Gpu;
use crate::gpu::execute::arena_bytes;

/// A number of bytes now, and the most there have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meter {
    /// Bytes now.
    pub current: u64,
    /// The most bytes since the device was opened, or since [`Gpu::forget_peaks`].
    pub peak: u64,
}

impl Meter {
    fn change(&mut self, by: i64) {
        self.current = self.current.saturating_add_signed(by);
        self.peak = self.peak.max(self.current);
    }
}

/// Bytes in buffers of this crate. Memory that the driver uses by itself (staging of writes, pipelines) is not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights and KV caches.
    pub persistent: Meter,
    /// The pool: intermediates and uploads, in use or free.
    pub pooled: Meter,
    /// Parameter blocks and readback.
    pub passing: Meter,
    /// All buffers together.
    pub total: Meter,
}

/// The counters behind [`Gpu::memory`].
#[derive(Default)]
pub(super) struct Ledger(Cell<MemoryUse>);

impl Ledger {
    pub(super) fn persistent(&self, by: i64) {
        self.change(by, |m| &mut m.persistent);
    }

    pub(super) fn pooled(&self, by: i64) {
        self.change(by, |m| &mut m.pooled);
    }

    pub(super) fn passing(&self, by: i64) {
        self.change(by, |m| &mut m.passing);
    }

    fn change(&self, by: i64, part: impl Fn(&mut MemoryUse) -> &mut Meter) {
        let mut now = self.0.get();
        part(&mut now).change(by);
        now.total.change(by);
        self.0.set(now);
    }
}

impl Gpu {
    /// The bytes in buffers of this device, now and at most.
    pub fn memory(&self) -> MemoryUse {
        self.inner.pool.ledger.0.get()
    }

    /// Resets the peaks to what is held now.
    pub fn forget_peaks(&self) {
        let mut now = self.memory();
        for meter in [&mut now.persistent, &mut now.pooled, &mut now.passing, &mut now.total] {
            meter.peak = meter.current;
        }
        self.inner.pool.ledger.0.set(now);
    }
}

/// A class of pooled buffers that are interchangeable. Uploads have their own classes, because `write_buffer` takes effect
/// before the whole next submission: an upload must never overwrite memory that an earlier step of the same recording uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Class {
    pub(super) bytes: u64,
    pub(super) upload: bool,
}

impl Class {
    /// The class of a buffer of at least `bytes`. There are four sizes per power of two, so that a few buffers serve many
    /// shapes. A size that would not fit a binding is reduced to what does.
    pub(super) fn of(bytes: u64, upload: bool, max_binding: u64) -> Self {
        let limit = max_binding / 256 * 256;
        Class { bytes: size_class(bytes).min(limit.max(bytes)), upload }
    }
}

fn size_class(bytes: u64) -> u64 {
    let bytes = bytes.max(256);
    let step = (bytes.checked_next_power_of_two().unwrap_or(1 << 63) / 8).max(256);
    bytes.checked_next_multiple_of(step).unwrap_or(bytes)
}

/// Predicts how much memory the pool will hold after a pass. It is given the buffers that the pass takes and returns, in the
/// same order.
///
/// A [`Lease`] stands for a tensor and is dropped where the pass drops the tensor. Every graph has a rehearsal beside it,
/// and `tests/memory.rs` checks that the two agree.
pub struct Rehearsal(Rc<RefCell<Book>>);

struct Book {
    max_binding: u64,
    /// Each class with the number of its buffers and how many of them are free.
    buffers: Vec<(Class, u64, u64)>,
    uploaded: u64,
    launches: u64,
    largest: (&'static str, u64),
}

/// Stands for a tensor in a [`Rehearsal`].
#[must_use = "the memory is returned to the pool when this is dropped"]
pub struct Lease(Class, Rc<RefCell<Book>>);

impl Drop for Lease {
    fn drop(&mut self) {
        let mut book = self.1.borrow_mut();
        if let Some((_, _, free)) = book.buffers.iter_mut().find(|(class, ..)| *class == self.0) {
            *free += 1;
        }
    }
}

impl Rehearsal {
    /// An empty pool on a device with bindings of at most `max_binding` bytes.
    pub fn new(max_binding: u64) -> Self {
        let book = Book { max_binding, buffers: Vec::new(), uploaded: 0, launches: 0, largest: ("", 0) };
        Rehearsal(Rc::new(RefCell::new(book)))
    }

    /// Stands for [`crate::gpu::Recorder::scratch`].
    pub fn scratch(&self, what: &'static str, rows: usize, cols: usize) -> Lease {
        self.take(what, rows, cols, false)
    }

    /// Stands for [`crate::gpu::Recorder::upload_f32`] and [`crate::gpu::Recorder::upload_u32`]. The recorder also holds an
    /// upload, until the recording is executed.
    pub fn upload(&self, what: &'static str, rows: usize, cols: usize) -> Lease {
        self.take(what, rows, cols, true)
    }

    fn take(&self, what: &'static str, rows: usize, cols: usize, upload: bool) -> Lease {
        let bytes = (rows as u64).saturating_mul(cols as u64).saturating_mul(4);
        let mut book = self.0.borrow_mut();
        let class = Class::of(bytes, upload, book.max_binding);
        if bytes > book.largest.1 {
            book.largest = (what, bytes);
        }
        if upload {
            book.uploaded = book.uploaded.saturating_add(bytes);
        }
        match book.buffers.iter_mut().find(|(known, ..)| *known == class) {
            Some((_, count, free @ 0)) => (*count, *free) = (*count + 1, 0),
            Some((.., free)) => *free -= 1,
            None => book.buffers.push((class, 1, 0)),
        }
        Lease(class, self.0.clone())
    }

    /// The device's largest binding in bytes.
    pub fn max_binding(&self) -> u64 {
        self.0.borrow().max_binding
    }

    /// Counts launches of kernels.
    pub fn launch(&self, count: usize) {
        self.0.borrow_mut().launches += count as u64;
    }

    /// The bytes that the pool holds by now. It keeps buffers that are returned, so this is also its peak.
    pub fn bytes(&self) -> u64 {
        self.0.borrow().buffers.iter().fold(0, |sum, (class, count, _)| sum.saturating_add(class.bytes * count))
    }

    /// The bytes that a pool holds after both passes ran in any order: for each class, the larger of the two counts.
    pub fn bytes_with(&self, other: &Rehearsal) -> u64 {
        let (a, b) = (self.0.borrow(), other.0.borrow());
        let count = |book: &Book, class| book.buffers.iter().find(|(c, ..)| *c == class).map_or(0, |(_, n, _)| *n);
        let ours = a.buffers.iter().map(|(class, n, _)| class.bytes * count(&b, *class).max(*n));
        let theirs = b.buffers.iter().filter(|(class, ..)| count(&a, *class) == 0);
        ours.chain(theirs.map(|(class, n, _)| class.bytes * n)).fold(0, u64::saturating_add)
    }

    /// The number of launches counted so far.
    pub fn launches(&self) -> u64 {
        self.0.borrow().launches
    }

    /// The number of bytes that were uploaded.
    pub fn uploaded(&self) -> u64 {
        self.0.borrow().uploaded
    }

    /// The name and the bytes of the largest tensor.
    pub fn largest(&self) -> (&'static str, u64) {
        self.0.borrow().largest
    }

    /// Bytes of the parameter buffer for a recording of `dispatches` launches, with the widest alignment of WebGPU.
    pub fn params(dispatches: u64) -> u64 {
        arena_bytes(dispatches.saturating_mul(256).min(1 << 40))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_hold_what_they_are_for_and_waste_at_most_a_quarter() {
        for bytes in [1, 255, 256, 257, 1000, 4097, 123_456, 1 << 20, (1 << 20) + 1, 100_000_001] {
            let class = size_class(bytes);
            assert!(class >= bytes && class.is_multiple_of(256));
            assert!(class <= bytes + bytes / 4 + 512, "{bytes} -> {class}");
        }
        assert_eq!(size_class(u64::MAX), u64::MAX);
    }

    #[test]
    fn the_pool_on_paper_takes_back_and_gives_again() {
        let pool = Rehearsal::new(1 << 20);
        let (a, b) = (pool.scratch("a", 1, 64), pool.scratch("b", 1, 64));
        drop(a);
        let c = pool.scratch("c", 1, 60);
        let d = pool.upload("d", 64, 1);
        assert_eq!((pool.bytes(), pool.uploaded(), pool.largest()), (3 * 256, 256, ("a", 256)));
        drop((b, c, d));
        let other = Rehearsal::new(1 << 20);
        let three = [(); 3].map(|()| other.scratch("e", 1, 64));
        assert_eq!((other.bytes(), other.bytes_with(&pool), pool.bytes_with(&other)), (768, 1024, 1024));
        drop(three);
        drop(pool.scratch("wide", 1 << 18, 1));
        assert_eq!(pool.bytes(), 3 * 256 + (1 << 20));
    }
}
