//! Where bytes come from: anything that reads a byte range of a named file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use crate::error::{Error, Result, brief};

/// A boxed future without a `Send` bound: in the browser everything lives on one thread.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// A range of a file that will be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The file.
    pub file: String,
    /// Which of its bytes.
    pub range: Range<u64>,
}

impl Expected {
    /// How many bytes these are.
    pub(super) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Files that can be read in byte ranges: a directory, a table in memory, the browser's cache and network.
///
/// File names are relative, with `/` between parts. They may come from an `index.json` that somebody else wrote, so
/// every implementation calls [`check_name`] before it looks anything up. Callers use [`read_exact`] rather than
/// [`Source::read`]: it also checks what an implementation gives back.
pub trait Source {
    /// Where the files are, in words for error messages.
    fn place(&self) -> String {
        "the checkpoint".to_owned()
    }

    /// Length of `file` in bytes, `None` if it does not exist.
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>>;

    /// The bytes `range` of `file`, all of them. [`Error::Missing`] if the file does not exist, [`Error::Malformed`] if
    /// it ends before `range.end`.
    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>>;

    /// Is told which ranges will be read from now on, in order, so that it can fetch them ahead of time.
    fn expect<'a>(&'a self, reads: &'a [Expected]) -> Pending<'a, ()> {
        let _ = reads;
        Box::pin(async { Ok(()) })
    }

    /// Whether files should be read from front to back, because bytes that were skipped cannot be read later without
    /// fetching them again.
    fn sequential(&self) -> bool {
        false
    }

    /// The whole of a small file. [`Error::Missing`] if it does not exist, [`Error::Malformed`] if it is longer than
    /// `max` bytes.
    fn read_all<'a>(&'a self, file: &'a str, max: u64) -> Pending<'a, Vec<u8>> {
        Box::pin(async move {
            let size = self.size(file).await?.ok_or_else(|| Error::missing(file, self.place()))?;
            if size > max {
                return Err(Error::malformed(file, format!("at most {max} bytes"), format!("{size} bytes")));
            }
            let bytes = self.read(file, 0..size).await?;
            check_length(file, &(0..size), &bytes)?;
            Ok(bytes)
        })
    }

    /// As [`Source::read_all`], but `None` if the file does not exist.
    fn read_optional<'a>(&'a self, file: &'a str, max: u64) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            match self.size(file).await? {
                Some(_) => self.read_all(file, max).await.map(Some),
                None => Ok(None),
            }
        })
    }
}

/// Largest file beside the weights that is read: Qwen2.5's tokenizer.json has 7 MB, Qwen3.5's 20.
pub const MAX_SMALL_FILE: u64 = 64 << 20;

/// Largest tokenizer_config.json. The longest in use, with templates and thousands of added tokens, have 2 MB.
pub const MAX_TOKENIZER_CONFIG: u64 = 4 << 20;

/// [`Source::read`] with its name checked before and its length checked after.
///
/// # Errors
/// Those of [`check_name`] and of the source; [`Error::Io`] if the source gave back another number of bytes.
pub async fn read_exact(source: &dyn Source, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
    check_name(file)?;
    let bytes = source.read(file, range.clone()).await?;
    check_length(file, &range, &bytes)?;
    Ok(bytes)
}

fn check_length(file: &str, range: &Range<u64>, bytes: &[u8]) -> Result<()> {
    let wanted = range.end.saturating_sub(range.start);
    if bytes.len() as u64 != wanted {
        let message = format!("asked for {wanted} bytes at {}, got {}", range.start, bytes.len());
        return Err(Error::Io { path: file.to_owned(), message });
    }
    Ok(())
}

/// Refuses every file name that could leave the checkpoint's folder or mean something else to a URL parser.
///
/// Allowed are parts of ASCII letters, digits, `-`, `_`, `+`, `=` and `.`, joined by single `/`, no part ending in a
/// dot, 255 bytes in all. That leaves out `..`, `\`, absolute paths, schemes and drives (`:`), control characters,
/// percent-encoding, queries, fragments, and Unicode that a file system may fold into any of these.
///
/// # Errors
/// [`Error::Malformed`] quoting the name.
pub fn check_name(file: &str) -> Result<()> {
    let part_ok = |part: &str| {
        !part.is_empty()
            && !part.ends_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'=' | b'.'))
    };
    if file.len() <= 255 && file.split('/').all(part_ok) {
        return Ok(());
    }
    let found = brief(&format!("{file:?}"));
    Err(Error::malformed("file name", "a plain relative path inside the checkpoint", found))
}

/// A folder on disk. Compiles on wasm32 too, where the standard library answers "unsupported".
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    aliases: BTreeMap<String, PathBuf>,
}

impl Directory {
    /// The folder at `root`. Nothing is read yet.
    pub fn new(root: impl AsRef<Path>) -> Self {
        Directory { root: root.as_ref().to_owned(), aliases: BTreeMap::new() }
    }

    /// Lets `name` stand for a file somewhere else.
    pub fn alias(&mut self, name: impl Into<String>, path: impl AsRef<Path>) {
        self.aliases.insert(name.into(), path.as_ref().to_owned());
    }

    fn path(&self, file: &str) -> PathBuf {
        self.aliases.get(file).cloned().unwrap_or_else(|| self.root.join(file))
    }

    fn io_error(&self, file: &str, error: &std::io::Error) -> Error {
        if error.kind() == ErrorKind::NotFound {
            return Error::missing(file, self.root.display().to_string());
        }
        Error::Io { path: self.path(file).display().to_string(), message: error.to_string() }
    }

    fn size_now(&self, file: &str) -> Result<Option<u64>> {
        check_name(file)?;
        match std::fs::metadata(self.path(file)) {
            Ok(data) if data.is_file() => Ok(Some(data.len())),
            Ok(_) => Err(Error::malformed(file, "a file", "something else")),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.io_error(file, &e)),
        }
    }

    fn read_now(&self, file: &str, range: &Range<u64>) -> Result<Vec<u8>> {
        let size = self.size_now(file)?.ok_or_else(|| Error::missing(file, self.root.display().to_string()))?;
        // Checked against the real length first, so that a forged range allocates nothing.
        let count = check_range(file, range, size)?;
        let mut bytes = vec![0; count];
        let mut open = File::open(self.path(file)).map_err(|e| self.io_error(file, &e))?;
        open.seek(SeekFrom::Start(range.start)).map_err(|e| self.io_error(file, &e))?;
        open.read_exact(&mut bytes).map_err(|e| self.io_error(file, &e))?;
        Ok(bytes)
    }
}

impl Source for Directory {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        Box::pin(async move { self.size_now(file) })
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        Box::pin(async move { self.read_now(file, &range) })
    }
}

/// Files in memory: for tests and for checkpoints embedded in the program.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    files: BTreeMap<String, Cow<'static, [u8]>>,
}

impl Memory {
    /// No files yet.
    pub fn new() -> Self {
        Memory::default()
    }

    /// Adds or replaces a file; takes a `Vec<u8>` or an `include_bytes!` slice.
    pub fn insert(&mut self, file: impl Into<String>, bytes: impl Into<Cow<'static, [u8]>>) {
        self.files.insert(file.into(), bytes.into());
    }

    /// The files' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

impl Source for Memory {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        Box::pin(async move {
            check_name(file)?;
            Ok(self.files.get(file).map(|bytes| bytes.len() as u64))
        })
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        Box::pin(async move {
            check_name(file)?;
            let bytes = self.files.get(file).ok_or_else(|| Error::missing(file, "memory"))?;
            check_range(file, &range, bytes.len() as u64)?;
            Ok(bytes[range.start as usize..range.end as usize].to_vec())
        })
    }
}

/// The length of `range` as a `usize`, if the range lies inside a file of `size` bytes.
fn check_range(file: &str, range: &Range<u64>, size: u64) -> Result<usize> {
    if range.start <= range.end
        && range.end <= size
        && let Ok(count) = usize::try_from(range.end - range.start)
    {
        return Ok(count);
    }
    let expected = format!("a file that has the bytes {}..{}", range.start, range.end);
    Err(Error::malformed(file, expected, format!("one of {size} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_stay_inside() {
        for name in ["model.safetensors", "model-00001-of-00005.safetensors", "a/b_c/d+e=f.json", ".hidden", "a..b"] {
            check_name(name).unwrap();
        }
    }

    #[test]
    fn names_that_could_leave() {
        let long = "a".repeat(256);
        for name in [
            "",
            "/",
            "/etc/passwd",
            "a//b",
            "a/",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "./a",
            "a/.",
            "...",
            "x.",
            "a\\b",
            "..\\x",
            "C:x",
            "C:\\x",
            "https://e.com/x",
            "file:x",
            "//e.com/x",
            "a%2e%2e",
            "%2e%2e/x",
            "%2F",
            "a?b",
            "a#b",
            "a b",
            "a\nb",
            "a\0b",
            "\u{7f}",
            "a\tb",
            "．．/x",
            "a／b",
            "~/x",
            "a:b",
            "a*b",
            "a|b",
            "\u{202e}x",
            &long,
        ] {
            assert!(matches!(check_name(name), Err(Error::Malformed { .. })), "{name:?}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(check_range("f", &(2..5), 5).unwrap(), 3);
        assert_eq!(check_range("f", &(5..5), 5).unwrap(), 0);
        #[allow(clippy::reversed_empty_ranges)]
        for bad in [3..2, 0..6, u64::MAX..u64::MAX, 5..u64::MAX] {
            assert!(check_range("f", &bad, 5).is_err(), "{bad:?}");
        }
    }
}
