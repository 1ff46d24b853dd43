//! The Hub's cache on disk as `huggingface_hub` lays it out (`file_download.py`, `constants.py`), so that what was
//! downloaded once for Python serves here too.
//!
//! `CACHE/models--ORG--NAME/refs/REVISION` holds a commit, `CACHE/models--ORG--NAME/snapshots/COMMIT/` its files.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::weights::brief;

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
    let var = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("HF_HUB_CACHE")
        .or_else(|| var("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(var("HF_HOME")?.join("hub")))
        .or_else(|| Some(var("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(var("HOME").or_else(|| var("USERPROFILE"))?.join(".cache/huggingface/hub")))
}

/// The folder of a repository's files at a revision (branch, tag or commit), if the cache has it.
///
/// # Errors
/// [`Error::Invalid`] for names that are none, [`Error::Io`] for a reference that cannot be read.
pub fn snapshot(cache: &Path, repo: &str, revision: &str) -> Result<Option<PathBuf>> {
    check_repo(repo)?;
    let name_ok = |name: &str| {
        !name.is_empty()
            && name.len() <= MAX_NAME
            && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
    };
    if !name_ok(revision) {
        return Err(Error::invalid("revision", "a branch, tag or commit", brief(revision)));
    }
    let folder = cache.join(format!("models--{}", repo.replace('/', "--")));
    let reference = folder.join("refs").join(revision);
    let commit = match std::fs::read_to_string(&reference) {
        Ok(commit) => commit.trim().to_owned(),
        // Whole commits have no reference.
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            revision.to_owned()
        }
        Err(e) => return Err(Error::Io { path: reference.display().to_string(), message: e.to_string() }),
    };
    let snapshot = folder.join("snapshots").join(&commit);
    Ok((name_ok(&commit) && !commit.contains('/') && snapshot.is_dir()).then_some(snapshot))
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
