//! The Hub's cache on disk, in the layout of `huggingface_hub` (`file_download.py`, `constants.py`), so that Python and this
//! crate can use each other's downloads.
//!
//! In `CACHE/models--ORG--NAME/`, the file `refs/REVISION` holds a commit. `snapshots/COMMIT/` has the files of the commit as
//! links to `blobs/DIGEST` (sha256 of a large file, git's sha1 of a small one). `blobs/DIGEST.incomplete` is the beginning of
//! a download. `CACHE/.locks/models--ORG--NAME/DIGEST.lock` is locked by the program that downloads the file.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fs4::{FileExt, TryLockError};

use crate::error::{Error, Result, brief};

/// The most characters in the name of a repository or revision.
const MAX_NAME: usize = 96;

/// Checks a repository's id: `ORG/NAME`, or only `NAME` for the oldest repositories.
///
/// # Errors
/// [`Error::Invalid`] for anything that the Hub would not accept, so that the id is safe as part of a path.
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

/// The cache folder, according to the environment variables that `huggingface_hub` reads. `var` looks a variable up.
pub fn cache_folder(var: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE")).or_else(|| Some(home_folder(&var)?.join("hub")))
}

/// The folder of `huggingface_hub`, which holds the cache and the token of the user.
pub(super) fn home_folder(var: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("HF_HOME")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface")))
        .or_else(|| Some(folder("HOME").or_else(|| folder("USERPROFILE"))?.join(".cache/huggingface")))
}

/// Whether a revision is safe as part of a path and of a URL.
fn name_ok(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
}

/// Whether this is a full commit: 40 hexadecimal digits.
pub(super) fn is_commit(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A repository in the cache. It need not exist yet.
#[derive(Debug)]
pub(super) struct Repo {
    folder: PathBuf,
    locks: PathBuf,
}

impl Repo {
    /// The repository `repo` in the cache folder `cache`.
    pub fn new(cache: &Path, repo: &str) -> Result<Self> {
        check_repo(repo)?;
        let name = format!("models--{}", repo.replace('/', "--"));
        Ok(Repo { folder: cache.join(&name), locks: cache.join(".locks").join(name) })
    }

    /// The folder with the files of a revision (branch, tag or commit), if it exists.
    pub fn snapshot(&self, revision: &str) -> Result<Option<PathBuf>> {
        check_revision(revision)?;
        let reference = self.folder.join("refs").join(revision);
        let commit = match std::fs::read_to_string(&reference) {
            Ok(commit) => commit.trim().to_owned(),
            // A full commit has no file in `refs`.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => revision.to_owned(),
            Err(e) => return Err(io(&reference, "reading", &e)),
        };
        let snapshot = self.at(&commit);
        Ok((name_ok(&commit) && !commit.contains('/') && snapshot.is_dir()).then_some(snapshot))
    }

    /// The folder with the files of a commit.
    pub fn at(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The path of the content with this digest.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs").join(digest)
    }

    /// Locks the content with this digest, so that no other program downloads it at the same time, `huggingface_hub` included.
    /// The lock ends when the file is closed. `waits` is called if another program holds the lock. `None` if the file system
    /// has no locks.
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

    /// Adds `file` to the snapshot, with the content of this digest, which must exist.
    ///
    /// It is a symbolic link like `../../blobs/DIGEST` or, if the system does not allow these, a hard link or a copy.
    pub fn link(&self, commit: &str, file: &str, digest: &str) -> Result<()> {
        let path = self.at(commit).join(file);
        make_parent(&path)?;
        let target = Path::new(&"../".repeat(2 + file.matches('/').count())).join("blobs").join(digest);
        if std::fs::read_link(&path).is_ok_and(|found| found == target) {
            return Ok(());
        }
        // Rename it into place, so that other programs always find either the old or the new file.
        let fresh = temporary(&path);
        let made = symlink(&target, &fresh).or_else(|_| std::fs::hard_link(self.blob(digest), &fresh));
        made.or_else(|_| std::fs::copy(self.blob(digest), &fresh).map(drop))
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|e| io(&path, "linking", &e))
    }

    /// Stores which commit a revision is. A commit itself is not stored.
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
/// [`Error::Invalid`], which quotes the name.
pub(super) fn check_revision(revision: &str) -> Result<()> {
    if name_ok(revision) { Ok(()) } else { Err(Error::invalid("revision", "a branch, tag or commit", brief(revision))) }
}

/// The folder with the files of a repository at a revision (branch, tag or commit), if it is in the cache.
///
/// # Errors
/// [`Error::Invalid`] for invalid names, [`Error::Io`] for a reference that cannot be read.
pub fn snapshot(cache: &Path, repo: &str, revision: &str) -> Result<Option<PathBuf>> {
    Repo::new(cache, repo)?.snapshot(revision)
}

/// A path in the same folder as `path` that no other program uses.
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
    // On Windows, only administrators can make symbolic links.
    Err(ErrorKind::Unsupported.into())
}

pub(super) fn make_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), |folder| std::fs::create_dir_all(folder).map_err(|e| io(folder, "making", &e)))
}

/// An error of the system for a file.
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
