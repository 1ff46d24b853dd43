//! Weights that were prepared while loading: a second load reads them and nothing else of the large files, and computes the
//! same to the bit.
#![expect(clippy::disallowed_methods, reason = "a test harness blocks")]

use std::cell::RefCell;
use std::ops::Range;
use std::path::PathBuf;

use fanlight::chat::{AskOptions, Engine, Hooks, Message};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::weights::prepared::{self, Prepared};
use fanlight::weights::source::Pending;
use fanlight::weights::{Checkpoint, Directory, Folder, Source};
use pollster::block_on;

const FILE: &str = "prepared.fanlight";

/// A folder that keeps what is prepared of it.
struct Keeping {
    folder: Directory,
    kept: RefCell<Vec<u8>>,
    prepared: Option<Prepared>,
    read: RefCell<Vec<String>>,
}

impl Source for Keeping {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        self.folder.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        self.read.borrow_mut().push(file.to_owned());
        if file == FILE {
            let bytes = self.kept.borrow()[range.start as usize..range.end as usize].to_vec();
            return Box::pin(async { Ok(bytes) });
        }
        self.folder.read(file, range)
    }
}

impl Folder for Keeping {
    fn tensors(&self) -> Option<&Checkpoint> {
        self.prepared.as_ref().map(|prepared| &prepared.checkpoint)
    }

    fn prepared(&self) -> Option<&Prepared> {
        self.prepared.as_ref()
    }

    fn keeps(&self, size: u64) -> bool {
        *self.kept.borrow_mut() = vec![0; size as usize];
        true
    }

    fn keep(&self, offset: u64, bytes: &[u8]) {
        self.kept.borrow_mut()[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
    }
}

fn answer(gpu: &Gpu, source: &Keeping, formats: &str) -> (Vec<u32>, u64) {
    let engine = block_on(Engine::load_as(gpu, source, &formats.parse().unwrap(), &mut |_, _| {})).unwrap();
    let mut conversation = engine.conversation(512).unwrap();
    let options = AskOptions { max_tokens: Some(24), ..AskOptions::default() };
    let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &|| false, clock: &|| 0.0 };
    let messages = [Message::text("user", "What does the red button say?")];
    let answer = block_on(engine.ask(&mut conversation, &messages, &options, hooks)).unwrap();
    (answer.token_ids, engine.model().weight_bytes.iter().map(|(_, bytes)| bytes).sum())
}

#[test]
fn a_second_start_reads_prepared_weights_alone() {
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    let folder = Directory::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/screen-reader"));
    let mut source = Keeping { folder, kept: RefCell::default(), prepared: None, read: RefCell::default() };
    for formats in ["text=q4,embeddings=q8", "q8"] {
        source.prepared = None;
        let first = answer(&gpu, &source, formats);
        assert!(source.kept.borrow().len() as u64 > first.1);
        source.prepared = Some(block_on(prepared::open(&source, FILE)).unwrap());
        source.read.borrow_mut().clear();
        assert_eq!(answer(&gpu, &source, formats), first);
        let read = source.read.borrow();
        assert!(read.iter().any(|file| file == FILE));
        assert!(!read.iter().any(|file| file.ends_with(".safetensors")), "{read:?}");
    }
}

#[test]
fn weights_prepared_for_something_else_are_not_used() {
    let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
    let folder = Directory::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/screen-reader"));
    let mut source = Keeping { folder, kept: RefCell::default(), prepared: None, read: RefCell::default() };
    let q8 = answer(&gpu, &source, "q8");
    source.prepared = Some(block_on(prepared::open(&source, FILE)).unwrap());
    assert_ne!(answer(&gpu, &source, "keep").1, q8.1);
    let whole = source.kept.borrow().clone();
    for (at, byte) in [(0, b'f'), (8, 9), (15, 255), (16, b'?')] {
        let mut bad = whole.clone();
        bad[at] = byte;
        *source.kept.borrow_mut() = bad;
        assert!(block_on(prepared::open(&source, FILE)).is_err());
    }
}
