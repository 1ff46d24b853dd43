//! Sources: a directory and memory give the same bytes and the same errors, and what a source gives back is checked.

use std::ops::Range;

use fanlight::Error;
use fanlight::weights::index::SINGLE;
use fanlight::weights::source::{Pending, read_exact};
use fanlight::weights::{Checkpoint, Directory, Memory, Source};

use crate::support::{Random, block_on, memory, one};

#[test]
fn a_directory_reads_what_memory_reads() {
    let root = std::env::temp_dir().join(format!("fanlight-weights-{}", std::process::id()));
    std::fs::create_dir_all(root.join("sub")).unwrap();
    let bytes = Random(4).bytes(1000);
    std::fs::write(root.join("sub/f.bin"), &bytes).unwrap();
    let directory = Directory::new(&root);
    let memory = memory(&[("sub/f.bin", &bytes)]);
    for source in [&directory as &dyn Source, &memory] {
        assert_eq!(block_on(source.size("sub/f.bin")).unwrap(), Some(1000));
        assert_eq!(block_on(source.size("nothing")).unwrap(), None);
        assert_eq!(block_on(read_exact(source, "sub/f.bin", 10..20)).unwrap(), bytes[10..20]);
        assert_eq!(block_on(read_exact(source, "sub/f.bin", 1000..1000)).unwrap(), [0u8; 0]);
        assert_eq!(block_on(source.read_all("sub/f.bin", 1000)).unwrap(), bytes);
        assert!(matches!(block_on(source.read_all("sub/f.bin", 999)), Err(Error::Malformed { .. })));
        assert!(matches!(block_on(source.read_all("nothing", 9)), Err(Error::Missing { .. })));
        assert!(matches!(block_on(source.read("nothing", 0..1)), Err(Error::Missing { .. })));
        assert!(matches!(block_on(source.read("sub/f.bin", 990..1001)), Err(Error::Malformed { .. })));
        assert!(matches!(block_on(source.read("sub/f.bin", 0..u64::MAX)), Err(Error::Malformed { .. })));
        for bad in ["../f.bin", "sub/../sub/f.bin", "/etc/passwd", "sub//f.bin", ""] {
            assert!(matches!(block_on(source.size(bad)), Err(Error::Malformed { .. })), "{bad}");
            assert!(matches!(block_on(source.read(bad, 0..1)), Err(Error::Malformed { .. })), "{bad}");
        }
    }
    assert!(block_on(directory.size("sub")).is_err(), "a folder is not a file");
    std::fs::remove_dir_all(root).unwrap();
}

/// A source that answers with one byte too few.
struct Short(Memory);

impl Source for Short {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        self.0.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        self.0.read(file, range.start..range.end - 1)
    }
}

#[test]
fn a_short_answer_is_an_error() {
    let short = Short(memory(&[(SINGLE, &one("a"))]));
    assert!(matches!(block_on(short.read_all(SINGLE, 1 << 20)), Err(Error::Io { .. })));
    assert!(matches!(block_on(Checkpoint::open(&short)), Err(Error::Io { .. })));
}
