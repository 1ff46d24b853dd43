//! Runs a program and reads what it writes to its pipes, so that the caller can cancel at any time.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};

/// How often the caller is asked whether it has cancelled.
const PATIENCE: Duration = Duration::from_millis(50);
/// How many bytes of a program's error messages are kept. The first messages are enough, since they name the causes.
const MOST_WORDS: usize = 4096;

/// A running program. It is killed when this is dropped.
pub struct Running {
    name: String,
    child: Child,
    chunks: Receiver<std::io::Result<Vec<u8>>>,
    words: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a program. Its output is read in pieces of `chunk` bytes, of which at most three are buffered.
    ///
    /// # Errors
    /// [`Error::Program`]: the program does not exist, or may not be started.
    #[expect(clippy::disallowed_methods, reason = "only in native programs: two pipes have to be read at once")]
    pub fn start(program: &Path, args: &[OsString], chunk: usize) -> Result<Self> {
        let name = program.display().to_string();
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let fail = |message: String| Error::Program { name: name.clone(), message };
        let mut child = command.spawn().map_err(|e| match e.kind() {
            ErrorKind::NotFound => fail("it is not installed, or not in PATH".into()),
            _ => fail(e.to_string()),
        })?;
        let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(fail("it has no pipes".into()));
        };
        let (send, chunks) = sync_channel(2);
        // Both threads end when their pipe is closed, or when the receiver is dropped.
        std::thread::spawn(move || {
            loop {
                let read = next(&mut out, chunk);
                let last = read.as_ref().is_ok_and(Vec::is_empty) || read.is_err();
                if send.send(read).is_err() || last {
                    return;
                }
            }
        });
        let words = std::thread::spawn(move || {
            let mut kept = Vec::new();
            while let Ok(some) = next(&mut err, MOST_WORDS)
                && !some.is_empty()
            {
                kept.extend(some.into_iter().take(MOST_WORDS - kept.len().min(MOST_WORDS)));
            }
            String::from_utf8_lossy(&kept).into_owned()
        });
        Ok(Running { name, child, chunks, words: Some(words) })
    }

    /// The next piece of output, or `None` at the end. Only the last piece may be shorter than the others.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or [`Error::Io`] if the pipe cannot be read.
    pub fn next(&mut self, cancelled: &dyn Fn() -> bool) -> Result<Option<Vec<u8>>> {
        loop {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            match self.chunks.recv_timeout(PATIENCE) {
                Ok(Ok(chunk)) => return Ok(Some(chunk).filter(|chunk| !chunk.is_empty())),
                Ok(Err(e)) => return Err(Error::Io { path: self.name.clone(), message: e.to_string() }),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Whether the program succeeded, and its error messages. Call it after the last piece.
    pub fn end(mut self) -> (bool, String) {
        let success = self.child.wait().is_ok_and(|status| status.success());
        let words = self.words.take().and_then(|words| words.join().ok());
        (success, words.unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If the program has ended already, both calls do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads `size` bytes, or fewer at the end.
fn next(from: &mut dyn Read, size: usize) -> std::io::Result<Vec<u8>> {
    let mut chunk = Vec::new();
    from.take(size as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}
