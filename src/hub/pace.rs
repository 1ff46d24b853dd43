//! How slow a server may be. A limit on silence alone lets one byte each half minute keep a program waiting for ever.

use std::io::{self, ErrorKind, Read};
use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "the hub does not exist on wasm, and it may look at a clock")]
fn now() -> Instant {
    Instant::now()
}

/// Least bytes a second, over a whole stretch.
const LEAST: u64 = 1024;

/// A reader that fails where a stretch of `stretch` brought fewer than [`LEAST`] bytes a second.
pub(super) struct Paced<R> {
    inner: R,
    stretch: Duration,
    begun: Instant,
    bytes: u64,
}

impl<R: Read> Paced<R> {
    pub(super) fn new(inner: R, stretch: Duration) -> Self {
        Paced { inner, stretch, begun: now(), bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        let passed = self.begun.elapsed();
        if passed < self.stretch || count == 0 {
            return Ok(count);
        }
        if self.bytes as f64 / passed.as_secs_f64() < LEAST as f64 {
            let text = format!("only {} bytes came in {:.0} seconds", self.bytes, passed.as_secs_f64());
            return Err(io::Error::new(ErrorKind::TimedOut, text));
        }
        (self.begun, self.bytes) = (now(), 0);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many bytes every five milliseconds.
    struct Drops(usize);

    impl Read for Drops {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let begun = now();
            while begun.elapsed() < Duration::from_millis(5) {}
            Ok(self.0.min(buffer.len()))
        }
    }

    #[test]
    fn drops_are_too_slow_and_a_stream_is_not() {
        let read = |size| {
            let mut reader = Paced::new(Drops(size), Duration::from_millis(40));
            (0..30).try_for_each(|_| reader.read(&mut [0; 4096]).map(drop))
        };
        assert_eq!(read(1).unwrap_err().kind(), ErrorKind::TimedOut);
        read(4096).unwrap();
    }
}
