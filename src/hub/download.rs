//! Downloads a file of the Hub into the cache. The download is resumed at the byte where it stopped, and gets its final name
//! only after it has been verified.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Digest, Sha256};

use super::cache::{Repo, io, make_parent, temporary};
use super::client::{Client, Fault, Patience, Remote};
use super::pace::Paced;
use super::{Progress, Watch};
use crate::error::{Error, Result};

/// How many bytes are read and written at once.
const CHUNK: usize = 256 << 10;

/// The progress of the whole download, in bytes.
#[derive(Default)]
pub(super) struct Total {
    /// Bytes of the files that are complete.
    pub done: u64,
    /// Bytes of all files.
    pub all: u64,
}

/// Downloads files of one commit.
pub(super) struct Job<'a> {
    pub client: &'a Client,
    pub repo: &'a str,
    pub commit: &'a str,
    pub cache: &'a Repo,
    pub attempts: u32,
}

impl Job<'_> {
    /// Adds `file` to the snapshot, and downloads its content unless it is in the cache.
    ///
    /// # Errors
    /// Those of the server and the disk. After [`Error::Integrity`] the download is deleted. After any other error, the part
    /// that was downloaded is kept for the next time.
    pub fn fetch(&self, file: &str, remote: &Remote, total: &mut Total, watch: &mut dyn Watch) -> Result<()> {
        let digest = remote.digest.as_str();
        let blob = self.cache.blob(digest);
        let have = || std::fs::metadata(&blob).is_ok_and(|data| data.is_file() && data.len() == remote.size);
        let snapshot = self.cache.at(self.commit).join(file);
        // Where symbolic links are not allowed, huggingface_hub stores plain files in the snapshot and no blobs.
        let plain = || std::fs::symlink_metadata(&snapshot).is_ok_and(|d| d.is_file() && d.len() == remote.size);
        if !have() && !plain() {
            let lock = self
                .cache
                .lock(digest, || watch.note(&format!("waiting for another program that is downloading {file}")))?;
            if !have() {
                let part = blob.with_file_name(format!("{digest}.incomplete"));
                // Without a lock, the file must not be shared with other programs, so use a temporary one that cannot be
                // resumed later.
                let part = if lock.is_some() { part } else { temporary(&part) };
                self.download(file, remote, &part, &blob, total, watch)?;
            }
        }
        total.done += remote.size;
        if have() { self.cache.link(self.commit, file, digest) } else { Ok(()) }
    }

    fn download(
        &self,
        file: &str,
        remote: &Remote,
        path: &Path,
        blob: &Path,
        total: &Total,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let url = self.client.file_url(self.repo, self.commit, file);
        let mut part = Part::open(path, remote)?;
        let mut resumed = part.at > 0;
        loop {
            let mut patience = Patience::new(self.attempts);
            let (mut ranges, mut furthest) = (true, part.at);
            while let Err(fault) = self.receive(&url, file, &mut part, &mut ranges, total, watch) {
                // Failures are only forgotten after progress, in case the server always breaks off at the same place.
                if part.at > furthest {
                    furthest = part.at;
                    patience.renew();
                }
                patience.after(fault, watch)?;
            }
            match part.finish(file, blob) {
                // An earlier program may have written the part in another order, so download it again.
                Err(Error::Integrity { .. }) if resumed => {
                    watch.note(&format!(
                        "an earlier, incomplete download of {file} is not usable; downloading it again"
                    ));
                    resumed = false;
                    part = Part::open(path, remote)?;
                }
                done => return done,
            }
        }
    }

    /// Makes one request for the bytes that are missing.
    fn receive(
        &self,
        url: &str,
        file: &str,
        part: &mut Part,
        ranges: &mut bool,
        total: &Total,
        watch: &mut dyn Watch,
    ) -> Result<(), Fault> {
        let size = part.size;
        if part.at == size {
            return Ok(());
        }
        let from = if *ranges { part.at } else { 0 };
        let again =
            |message: String| Fault::Again(Error::Network { url: format!("{file} of {}", self.repo), message }, None);
        let bad = |expected: String, found: String| {
            Fault::Final(Error::Integrity { what: format!("{file} of {}", self.repo), expected, found })
        };
        let mut reply = self.client.get(url, from)?;
        let start = match (reply.status, reply.header("content-range").and_then(content_range)) {
            (200, _) => 0,
            (206, Some((start, _, all))) if start == from && all.is_none_or(|all| all == size) => from,
            (status, range) => {
                // If a range failed once, ranges are not requested again.
                *ranges = false;
                return Err(again(format!("HTTP {status} with the range {range:?} to a request from byte {from} on")));
            }
        };
        if reply.body.mime_type() == Some("text/html") && !file.ends_with(".html") {
            return Err(bad("the file".to_owned(), "an HTML page".to_owned()));
        }
        if let Some(length) = reply.body.content_length().filter(|length| *length != size - start) {
            return Err(bad(format!("{size} bytes, as the repository lists"), format!("{} bytes", start + length)));
        }
        if start < part.at {
            part.restart()?;
        }
        let mut reader = Paced::new(reply.body.as_reader(), self.client.stall());
        let mut chunk = vec![0; CHUNK];
        loop {
            watch.progress(&Progress { file, done: part.at, size, all_done: total.done + part.at, all: total.all });
            // Ask for one byte more than is missing, to notice a body that is too long.
            let room = (size - part.at + 1).min(CHUNK as u64) as usize;
            match reader.read(&mut chunk[..room]) {
                Ok(0) if part.at == size => return Ok(()),
                Ok(0) => return Err(again(format!("the connection ended after {} of {size} bytes", part.at))),
                Ok(count) if count as u64 > size - part.at => {
                    part.restart()?;
                    return Err(bad(format!("{size} bytes, as the repository lists"), "more".to_owned()));
                }
                Ok(count) => part.push(&chunk[..count])?,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                // The file is complete, however the connection ended.
                Err(_) if part.at == size => return Ok(()),
                Err(e) => return Err(again(format!("after {} of {size} bytes: {e}", part.at))),
            }
        }
    }
}

/// Parses the first byte, last byte and length of `bytes 5-9/10`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, all) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let all = if all == "*" { None } else { Some(all.parse().ok()?) };
    Some((start.parse().ok()?, end.parse().ok()?, all))
}

/// The part of a file that has been downloaded, on disk, and its hash so far.
struct Part {
    path: PathBuf,
    file: File,
    hash: Box<dyn DynDigest>,
    at: u64,
    size: u64,
    digest: String,
}

impl Part {
    /// Opens the part that earlier runs left, and hashes it again.
    fn open(path: &Path, remote: &Remote) -> Result<Self> {
        make_parent(path)?;
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(|e| io(path, "opening", &e))?;
        let path = path.to_owned();
        let hash = hash(remote.size, &remote.digest);
        let mut part = Part { path, file, hash, at: 0, size: remote.size, digest: remote.digest.clone() };
        let mut chunk = vec![0; CHUNK];
        loop {
            match part.file.read(&mut chunk).map_err(|e| io(&part.path, "reading", &e))? {
                0 => return Ok(part),
                count if count as u64 > part.size - part.at => {
                    part.restart()?;
                    return Ok(part);
                }
                count => {
                    part.hash.update(&chunk[..count]);
                    part.at += count as u64;
                }
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| io(&self.path, "writing", &e))?;
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|e| io(&self.path, "emptying", &e))?;
        self.hash = hash(self.size, &self.digest);
        self.at = 0;
        Ok(())
    }

    /// Gives the file its final name, if it has the right digest.
    fn finish(self, file: &str, blob: &Path) -> Result<()> {
        let hex: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if hex != self.digest {
            std::fs::remove_file(&self.path).map_err(|e| io(&self.path, "discarding", &e))?;
            let kind = if hex.len() == 64 { "sha256" } else { "git's sha1" };
            let found = format!("{hex}; the file was discarded");
            return Err(Error::Integrity { what: file.to_owned(), expected: format!("{kind} {}", self.digest), found });
        }
        self.file.sync_all().map_err(|e| io(&self.path, "writing", &e))?;
        drop(self.file);
        std::fs::rename(&self.path, blob).map_err(|e| io(&self.path, "renaming", &e))
    }
}

/// The hash function whose digest has as many digits as `digest`, for a file of `size` bytes.
fn hash(size: u64, digest: &str) -> Box<dyn DynDigest> {
    if digest.len() == 64 { Box::new(Sha256::new()) } else { Box::new(Sha1::new_with_prefix(format!("blob {size}\0"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_answers() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, 0, None)));
        for bad in ["bytes */10", "5-9/10", "bytes 5-9", "bytes a-b/c", ""] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn digests_as_git_and_lfs_have_them() {
        let of = |digits: usize| {
            let mut hash = hash(6, &"0".repeat(digits));
            hash.update(b"hello\n");
            hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(of(40), "ce013625030ba8dba906f756967f9e9ca394464a"); // git hash-object
        assert_eq!(of(64), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"); // sha256sum
    }
}
