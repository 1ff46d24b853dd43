//! What several of these tests use: a way to run futures, random numbers, files in memory.

use std::cell::RefCell;
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fanlight::weights::source::Pending;
use fanlight::weights::{Checkpoint, Memory, Source, safetensors as ours};

/// Runs a future that never waits: memory and disk answer at once.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a source in these tests waited"),
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// Memory that notes what is asked of it.
pub struct Noting {
    files: Memory,
    pub reads: RefCell<Vec<(String, Range<u64>)>>,
}

impl Noting {
    pub fn new(files: Memory) -> Self {
        Noting { files, reads: RefCell::default() }
    }
}

impl Source for Noting {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        self.files.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        self.reads.borrow_mut().push((file.to_owned(), range.clone()));
        self.files.read(file, range)
    }
}

pub fn memory(files: &[(&str, &[u8])]) -> Memory {
    let mut memory = Memory::new();
    for (name, bytes) in files {
        memory.insert(*name, bytes.to_vec());
    }
    memory
}

pub fn open(files: Memory) -> fanlight::Result<Checkpoint> {
    block_on(Checkpoint::open(&files))
}

/// A tensor to write: name, type, shape, data.
pub type Written = (String, &'static str, Vec<u64>, Vec<u8>);

pub fn write(tensors: &[Written]) -> Vec<u8> {
    let borrowed: Vec<_> = tensors.iter().map(|(n, d, s, b)| (n.as_str(), *d, s.as_slice(), b.as_slice())).collect();
    ours::write(&borrowed).unwrap()
}

/// A file with this tensor alone.
pub fn one(name: &str) -> Vec<u8> {
    ours::write(&[(name, "F32", &[1], &[0, 0, 128, 63])]).unwrap()
}
