//! The Hub's cache on disk as `huggingface_hub` lays it out (`file_download.py`, `constants.py`), so that what was
//! downloaded once for Python serves here too, and the other way round.
//!
//! In `CACHE/models--ORG--NAME/`, `refs/REVISION` holds a commit, `snapshots/COMMIT/` its files as links to
//! `blobs/DIGEST` (sha256 of a large file, git's sha1 of a small one), `blobs/DIGEST.incomplete` the beginning of one.
//! `CACHE/.locks/models--ORG--NAME/DIGEST.lock` is locked by whoever downloads it.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fs4::{FileExt, TryLockError};

use crate::error::{Error, Result, brief};

/// Longest name of a repository or revision.
const MAX_NAME: usize = 96;

/// A repository's id: `ORG/NAME`, or `NAME` alone for the oldest ones.
///
/// # Errors
/// [`Error::Invalid`] for anything that the Hub would not accept as one, so that it can be part of a path.
pub fn check_repo(repo: &str) -> Result<()> {
    let part_ok = |part: &str| {
        !part.is_empty()
            && !part.contains("..")
            && !part.contains("--")
            && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let parts: Vec<&str> = repo.split('/').collect();
    if repo.len() <= MAX_NAME && parts.len() <= 2 && parts.iter().all(|part| part_ok(part)) {
        return Ok(());
    }
    Err(Error::invalid("repository", "ORG/NAME of the Hub", brief(repo)))
}

/// Where the cache is, by the variables that `huggingface_hub` reads; `var` looks one up.
pub fn cache_folder(var: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE")).or_else(|| Some(home_folder(&var)?.join("hub")))
}

/// Where `huggingface_hub` keeps what is its own: the cache, and the token of who logged in.
pub(super) fn home_folder(var: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("HF_HOME")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface")))
        .or_else(|| Some(folder("HOME").or_else(|| folder("USERPROFILE"))?.join(".cache/huggingface")))
}

/// Whether a revision can be part of a path and an address.
fn name_ok(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
}

/// A whole commit's name: 40 hexadecimal digits.
pub(super) fn is_commit(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A repository in the cache, whether it is there or not.
#[derive(Debug)]
pub(super) struct Repo {
    folder: PathBuf,
    locks: PathBuf,
}

impl Repo {
    /// The place of `repo` in `cache`.
    pub fn new(cache: &Path, repo: &str) -> Result<Self> {
        check_repo(repo)?;
        let name = format!("models--{}", repo.replace('/', "--"));
        Ok(Repo { folder: cache.join(&name), locks: cache.join(".locks").join(name) })
    }

    /// The folder of the files at a revision (branch, tag or commit), if it is there.
    pub fn snapshot(&self, revision: &str) -> Result<Option<PathBuf>> {
        check_revision(revision)?;
        let reference = self.folder.join("refs").join(revision);
        let commit = match std::fs::read_to_string(&reference) {
            Ok(commit) => commit.trim().to_owned(),
            // Whole commits have no reference.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => revision.to_owned(),
            Err(e) => return Err(io(&reference, "reading", &e)),
        };
        let snapshot = self.at(&commit);
        Ok((name_ok(&commit) && !commit.contains('/') && snapshot.is_dir()).then_some(snapshot))
    }

    /// The folder of the files at a commit.
    pub fn at(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where the content of this digest is.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs").join(digest)
    }

    /// Lets nobody else download the content of this digest, neither here nor in `huggingface_hub`, until the file is
    /// closed. `waits` is called if somebody else is at it. `None` if the file system has no locks.
    pub fn lock(&self, digest: &str, waits: impl FnOnce()) -> Result<Option<File>> {
        let path = self.locks.join(format!("{digest}.lock"));
        make_parent(&path)?;
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(|e| io(&path, "opening", &e))?;
        match FileExt::try_lock(&file) {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => waits(),
            Err(TryLockError::Error(_)) => return Ok(None),
        }
        FileExt::lock(&file).map_err(|e| io(&path, "locking", &e))?;
        Ok(Some(file))
    }

    /// Makes `file` of the snapshot the content of this digest, which must be there.
    ///
    /// A link like `../../blobs/DIGEST`; where there are none, a second name or a copy.
    pub fn link(&self, commit: &str, file: &str, digest: &str) -> Result<()> {
        let path = self.at(commit).join(file);
        make_parent(&path)?;
        let target = Path::new(&"../".repeat(2 + file.matches('/').count())).join("blobs").join(digest);
        if std::fs::read_link(&path).is_ok_and(|found| found == target) {
            return Ok(());
        }
        // Renamed into place, so that somebody who reads meanwhile finds the old or the new.
        let fresh = temporary(&path);
        let made = symlink(&target, &fresh).or_else(|_| std::fs::hard_link(self.blob(digest), &fresh));
        made.or_else(|_| std::fs::copy(self.blob(digest), &fresh).map(drop))
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|e| io(&path, "linking", &e))
    }

    /// Notes what commit a revision was; a commit needs no note.
    pub fn remember(&self, revision: &str, commit: &str) -> Result<()> {
        let path = self.folder.join("refs").join(revision);
        if revision == commit || std::fs::read_to_string(&path).is_ok_and(|old| old.trim() == commit) {
            return Ok(());
        }
        make_parent(&path)?;
        let fresh = temporary(&path);
        std::fs::write(&fresh, commit)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|e| io(&path, "writing", &e))
    }
}

/// Refuses revisions that could leave the cache's folder.
///
/// # Errors
/// [`Error::Invalid`] quoting the name.
pub(super) fn check_revision(revision: &str) -> Result<()> {
    if name_ok(revision) { Ok(()) } else { Err(Error::invalid("revision", "a branch, tag or commit", brief(revision))) }
}

/// The folder of a repository's files at a revision (branch, tag or commit), if the cache has it.
///
/// # Errors
/// [`Error::Invalid`] for names that are none, [`Error::Io`] for a reference that cannot be read.
pub fn snapshot(cache: &Path, repo: &str, revision: &str) -> Result<Option<PathBuf>> {
    Repo::new(cache, repo)?.snapshot(revision)
}

/// A name beside `path` that nobody else uses.
pub(super) fn temporary(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    name.into()
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    // Windows has them for administrators alone.
    Err(ErrorKind::Unsupported.into())
}

pub(super) fn make_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), |folder| std::fs::create_dir_all(folder).map_err(|e| io(folder, "making", &e)))
}

/// What the system says of a file.
pub(super) fn io(path: &Path, doing: &str, error: &std::io::Error) -> Error {
    Error::Io { path: path.display().to_string(), message: format!("{doing} it: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for good in ["Qwen/Qwen2.5-VL-3B-Instruct", "gpt2", "a/b_c.d-e", "_x/y"] {
            check_repo(good).unwrap();
        }
        let long = format!("a/{}", "b".repeat(100));
        for bad in [
            "", "/", "a/", "/a", "a/b/c", "../x", "a/..", "a--b/c", "a/b..c", "-a/b", "a/b-", "a b", "a\\b", "C:x",
            &long,
        ] {
            assert_eq!(check_repo(bad).unwrap_err().code(), "bad_request", "{bad}");
        }
    }

    #[test]
    fn the_variables_in_their_order() {
        let find = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            cache_folder(move |name| set.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
        };
        assert_eq!(find(&[("HOME", "/h")]), Some(PathBuf::from("/h/.cache/huggingface/hub")));
        assert_eq!(find(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Some(PathBuf::from("/x/huggingface/hub")));
        assert_eq!(find(&[("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")]), Some(PathBuf::from("/f/hub")));
        assert_eq!(find(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), Some(PathBuf::from("/c")));
        assert_eq!(find(&[("HF_HOME", "")]), None);
    }

    #[test]
    fn snapshots() {
        let cache = std::env::temp_dir().join(format!("fanlight-hub-{}", std::process::id()));
        let folder = cache.join("models--Org--Name");
        let commit = "0123456789abcdef0123456789abcdef01234567";
        std::fs::create_dir_all(folder.join("snapshots").join(commit)).unwrap();
        std::fs::create_dir_all(folder.join("refs/pr")).unwrap();
        std::fs::write(folder.join("refs/main"), commit).unwrap();
        std::fs::write(folder.join("refs/pr/1"), format!("{commit}\n")).unwrap();
        std::fs::write(folder.join("refs/evil"), "../../..").unwrap();
        let there = Some(folder.join("snapshots").join(commit));
        assert_eq!(snapshot(&cache, "Org/Name", "main").unwrap(), there);
        assert_eq!(snapshot(&cache, "Org/Name", "pr/1").unwrap(), there);
        assert_eq!(snapshot(&cache, "Org/Name", commit).unwrap(), there);
        assert_eq!(snapshot(&cache, "Org/Name", "other").unwrap(), None);
        assert_eq!(snapshot(&cache, "Org/Name", "evil").unwrap(), None);
        assert_eq!(snapshot(&cache, "Org/Other", "main").unwrap(), None);
        for bad in ["", "..", "../main", "a/../b", "/main", "a\\b"] {
            assert_eq!(snapshot(&cache, "Org/Name", bad).unwrap_err().code(), "bad_request", "{bad}");
        }
        std::fs::remove_dir_all(cache).unwrap();
    }
}
