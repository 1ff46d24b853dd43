//! What the targets share: a budget of memory, a file of which only the beginning is written out, and a future's end.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use fanlight::Result;
use fanlight::weights::source::Pending;
use fanlight::weights::{Folder, Source};

/// Counts what is allocated, and refuses what goes over the budget: the program then ends with the input and the place.
struct Counter;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

#[global_allocator]
static COUNTER: Counter = Counter;

fn more(bytes: usize) -> bool {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
    if now <= LIMIT.load(Ordering::Relaxed) {
        return true;
    }
    NOW.fetch_sub(bytes, Ordering::Relaxed);
    // The report of what went wrong needs memory too.
    LIMIT.store(usize::MAX, Ordering::Relaxed);
    false
}

// SAFETY: as `System`, which does the work; a refusal is a null pointer, as it may be.
unsafe impl GlobalAlloc for Counter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if more(layout.size()) { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if more(layout.size()) { unsafe { System.alloc_zeroed(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() && !more(size - layout.size()) {
            return std::ptr::null_mut();
        }
        if size < layout.size() {
            NOW.fetch_sub(layout.size() - size, Ordering::Relaxed);
        }
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `work`, which may hold `bytes` of memory at once beyond what is held now.
///
/// With `FANLIGHT_FUZZ_PEAK` set, prints what it did hold, for choosing a budget.
pub fn within<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    LIMIT.store(before.saturating_add(bytes), Ordering::Relaxed);
    let done = work();
    LIMIT.store(usize::MAX, Ordering::Relaxed);
    if std::env::var_os("FANLIGHT_FUZZ_PEAK").is_some() {
        eprintln!("peak {} of {bytes}", PEAK.load(Ordering::Relaxed) - before);
    }
    done
}

/// Ends a future that never waits.
pub fn finish<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("memory does not wait"),
    }
}

/// Longest rest of a file that an input can ask for, in bytes.
const MAX_REST: u32 = 1 << 20;

/// Files of which only the beginning is there; the rest is zeros. So an input has a header's length and not a model's.
#[derive(Default)]
pub struct Beginnings<'a> {
    files: BTreeMap<String, (&'a [u8], u64)>,
}

impl<'a> Beginnings<'a> {
    /// A whole file.
    pub fn whole(mut self, name: &str, bytes: &'a [u8]) -> Self {
        self.files.insert(name.to_owned(), (bytes, bytes.len() as u64));
        self
    }

    /// An input: the length of the rest (u32, little-endian, modulo 2^20), then the beginning. Gives the file's length.
    pub fn input(mut self, name: &str, input: &'a [u8]) -> Option<(Self, u64)> {
        let (rest, beginning) = input.split_first_chunk::<4>()?;
        let size = beginning.len() as u64 + u64::from(u32::from_le_bytes(*rest) % MAX_REST);
        self.files.insert(name.to_owned(), (beginning, size));
        Some((self, size))
    }
}

impl Source for Beginnings<'_> {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        Box::pin(async move { Ok(self.files.get(file).map(|(_, size)| *size)) })
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        Box::pin(async move { Ok(self.bytes(file, range)?) })
    }
}

impl Folder for Beginnings<'_> {}

impl Beginnings<'_> {
    fn bytes(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let &(beginning, size) =
            self.files.get(file).ok_or_else(|| fanlight::Error::Missing { what: file.into(), place: "fuzz".into() })?;
        // Readers ask for the size first, and never for more.
        assert!(range.start <= range.end && range.end <= size, "{range:?} of {size} bytes was asked for");
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let here = range.end.min(beginning.len() as u64);
        if let Some(part) = beginning.get(range.start as usize..here as usize) {
            bytes[..part.len()].copy_from_slice(part);
        }
        Ok(bytes)
    }
}
