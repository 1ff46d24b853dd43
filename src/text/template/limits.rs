//! How long, how deep and how slow a template may be: it is foreign code, and a small value may take up gigabytes when it is written out.

use crate::error::Error;

/// Longest template: the longest in use have 20 KB.
pub(super) const MAX_SOURCE: usize = 256 << 10;
/// Longest rendered prompt in bytes, not counting four times the length of the messages, which is allowed on top.
pub(super) const MAX_OUTPUT: usize = 1 << 20;
/// Steps that a template may take, not counting one for each byte of the messages. 64 bytes of memory cost a step, too.
pub(super) const FUEL: u64 = 1_000_000;
/// Deepest nesting of tools and of what a template serialises.
pub(super) const MAX_DEPTH: usize = 64;

/// An error of the template.
pub(super) fn failed(message: impl Into<String>) -> Error {
    Error::Template { message: message.into() }
}

/// A prompt that is being written, and its greatest length in bytes.
pub(super) struct Bounded {
    pub bytes: Vec<u8>,
    pub limit: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            return Err(std::io::Error::other(format!(
                "expected a prompt of at most {} bytes, found more",
                self.limit
            )));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
