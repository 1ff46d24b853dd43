//! Checkpoints of the Hugging Face Hub, downloaded into the cache that `huggingface_hub` uses too.
//!
//! Reading order: [`cache`] (folders, links, locks) · `files` (which files a model needs) · `client` (requests, the
//! token, retries) · `download` (one file). Everything blocks and only native programs have it.
//!
//! A revision is made a commit first, and everything else is asked for at that commit. What is complete under its name
//! in the cache has had its length and digest checked; everything else is called incomplete.

pub mod cache;
mod client;
mod download;
mod files;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use files::Want;

use crate::error::{Error, Result};
use crate::weights::index::{INDEX, MAX_INDEX, shards};
use cache::{Repo, io};
use client::{Client, Patience};
use download::{Job, Total};
use files::{Choice, choose};

/// Where the Hub is.
const ENDPOINT: &str = "https://huggingface.co";
/// Requests for one thing, all in all.
const ATTEMPTS: u32 = 6;
/// Longest silence of a server.
const STALL: Duration = Duration::from_secs(30);

/// What the world outside does for a download, and hears of it.
pub trait Watch {
    /// Waits so long before it is tried again; `error` is why.
    fn pause(&mut self, time: Duration, error: &Error);

    /// Some bytes came.
    fn progress(&mut self, progress: &Progress<'_>) {
        let _ = progress;
    }

    /// Something that a person may want to know.
    fn note(&mut self, text: &str) {
        let _ = text;
    }
}

/// How far a download is, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The file that is being downloaded.
    pub file: &'a str,
    /// Of this file.
    pub done: u64,
    /// This file's length.
    pub size: u64,
    /// Of all files that are known to be needed.
    pub all_done: u64,
    /// Their length.
    pub all: u64,
}

/// Whom to ask, as whom, and where to keep the answers.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The cache's folder.
    pub cache: PathBuf,
    /// Address of the Hub, or of a mirror of it.
    pub endpoint: String,
    /// Sent to the endpoint's own host and nowhere else.
    pub token: Option<String>,
    /// Makes no request at all.
    pub offline: bool,
    /// Longest silence of a server. For tests.
    #[doc(hidden)]
    pub stall: Duration,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All but the token.
        let Options { cache, endpoint, token, offline, stall } = self;
        let token = token.as_ref().map(|_| "…");
        write!(f, "Options {{ {cache:?}, {endpoint:?}, token: {token:?}, offline: {offline}, stall: {stall:?} }}")
    }
}

impl Options {
    /// The Hub itself, without a token.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Options { cache: cache.into(), endpoint: ENDPOINT.to_owned(), token: None, offline: false, stall: STALL }
    }

    /// As the variables say that `huggingface_hub` reads: `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`,
    /// `HF_TOKEN`, or else the file `HF_TOKEN_PATH` or `HF_HOME/token`. `var` looks one up.
    ///
    /// # Errors
    /// [`Error::Missing`] if none of them, nor a home, says where the cache is; [`Error::Io`] if there is a token's file
    /// that cannot be read.
    pub fn from_env(var: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let var = |name: &str| var(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let no_home = || Error::missing("HF_HOME or HOME", "the environment");
        let mut options = Options::new(cache::cache_folder(var).ok_or_else(no_home)?);
        options.endpoint = var("HF_ENDPOINT").unwrap_or(options.endpoint);
        let yes = |value: String| ["1", "ON", "YES", "TRUE"].contains(&&*value.to_uppercase());
        options.offline = var("HF_HUB_OFFLINE").is_some_and(yes);
        let file = var("HF_TOKEN_PATH").map(PathBuf::from);
        let file = file.or_else(|| cache::home_folder(var).map(|home| home.join("token")));
        options.token = match (var("HF_TOKEN"), file) {
            (Some(token), _) => Some(token),
            (None, Some(file)) if file.is_file() => {
                let text = std::fs::read_to_string(&file).map_err(|e| io(&file, "reading", &e))?;
                Some(text.trim().to_owned()).filter(|token| !token.is_empty())
            }
            _ => None,
        };
        Ok(options)
    }
}

/// A complete model on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder of its files.
    pub folder: PathBuf,
    /// The GGUF file and that of its vision tower, relative to the folder; `None` for a folder in Hugging Face layout.
    pub gguf: Option<(String, Option<String>)>,
}

/// The model `repo` (`ORG/NAME`) at `revision`, downloaded as far as it is not in the cache.
///
/// Without a network, the revision that the cache has is used, if it is complete.
///
/// # Errors
/// [`Error::Invalid`] for names that are none, and if [`Want`] has to say which of several files is wanted;
/// [`Error::Auth`], [`Error::Missing`], [`Error::Network`] and [`Error::Integrity`] as the server answers;
/// [`Error::Io`] for the disk; [`Error::Malformed`] for an index that is none.
pub fn checkpoint(
    options: &Options,
    repo: &str,
    revision: &str,
    want: &Want,
    watch: &mut dyn Watch,
) -> Result<Snapshot> {
    let cache = Repo::new(&options.cache, repo)?;
    cache::check_revision(revision)?;
    let here = || match cache.snapshot(revision)? {
        Some(folder) => complete(&folder, want),
        None => {
            let place = format!("the Hub's cache {} (revision {revision})", options.cache.display());
            Err(Error::missing(repo, place))
        }
    };
    if options.offline {
        return here();
    }
    let client = Client::new(options)?;
    let present = here();
    // Who has it already does not wait for a network that is not there.
    let mut patience = Patience::new(if present.is_ok() { 1 } else { ATTEMPTS });
    let listed = client.commit(repo, revision, &mut patience, watch).and_then(|commit| {
        let files = client.files(repo, &commit, &mut patience, watch)?;
        Ok((commit, files))
    });
    let (commit, listed) = match (listed, present) {
        (Ok(listed), _) => listed,
        (Err(error @ Error::Network { .. }), Ok(present)) => {
            watch.note(&format!("{error}; taking {repo} as it is in the cache"));
            return Ok(present);
        }
        (Err(error), _) => return Err(error),
    };
    let names: BTreeSet<String> = listed.keys().cloned().collect();
    let place = format!("{repo} at {}", &commit[..8]);
    let mut choice = choose(&names, want, &place)?;
    let job = Job { client: &client, repo, commit: &commit, cache: &cache, attempts: ATTEMPTS };
    let mut total = Total::default();
    let mut fetch = |files: &[String]| {
        let mut found = Vec::new();
        for file in files {
            found.push((file, listed.get(file).ok_or_else(|| Error::missing(file, &place))?));
        }
        total.all += found.iter().map(|(_, remote)| remote.size).sum::<u64>();
        found.into_iter().try_for_each(|(file, remote)| job.fetch(file, remote, &mut total, watch))
    };
    fetch(&choice.files)?;
    let folder = cache.at(&commit);
    if choice.sharded {
        let shards: Vec<String> = shards_of(&folder)?.into_iter().collect();
        fetch(&shards)?;
    }
    // Last: until then the revision is what it was.
    cache.remember(revision, &commit)?;
    Ok(Snapshot { folder, gguf: choice.gguf.take() })
}

/// The shards that the index in this folder names.
fn shards_of(folder: &Path) -> Result<BTreeSet<String>> {
    let path = folder.join(INDEX);
    let length = std::fs::metadata(&path).map_err(|e| io(&path, "reading", &e))?.len();
    if length > MAX_INDEX {
        return Err(Error::malformed(INDEX, format!("at most {MAX_INDEX} bytes"), format!("{length} bytes")));
    }
    shards(&std::fs::read(&path).map_err(|e| io(&path, "reading", &e))?)
}

/// The snapshot in this folder, if nothing of it is missing.
fn complete(folder: &Path, want: &Want) -> Result<Snapshot> {
    let mut names = BTreeSet::new();
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((inside, depth)) = folders.pop() {
        let path = folder.join(&inside);
        let entries = std::fs::read_dir(&path).map_err(|e| io(&path, "reading", &e))?;
        for entry in entries.flatten() {
            let inside = inside.join(entry.file_name());
            match std::fs::metadata(entry.path()) {
                Ok(data) if data.is_dir() && depth < 3 => folders.push((inside, depth + 1)),
                Ok(data) if data.is_file() => names.extend(inside.to_str().map(|name| name.replace('\\', "/"))),
                // A link whose content is gone.
                _ => {}
            }
        }
    }
    let place = folder.display().to_string();
    let Choice { sharded, gguf, .. } = choose(&names, want, &place)?;
    if sharded && let Some(shard) = shards_of(folder)?.into_iter().find(|shard| !names.contains(shard)) {
        return Err(Error::missing(shard, place));
    }
    Ok(Snapshot { folder: folder.to_owned(), gguf })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment() {
        let home = std::env::temp_dir().join(format!("fanlight-hub-env-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("token"), "hf_file\n").unwrap();
        std::fs::write(home.join("other"), "hf_other").unwrap();
        let home_text = home.to_str().unwrap().to_owned();
        let options = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(k, _)| *k == name).map(|(_, v)| v.to_string());
            Options::from_env(|name| find(name).or((name == "HF_HOME").then(|| home_text.clone()))).unwrap()
        };
        let plain = options(&[]);
        assert_eq!((plain.endpoint.as_str(), plain.offline), (ENDPOINT, false));
        assert_eq!((plain.cache.clone(), plain.token.as_deref()), (home.join("hub"), Some("hf_file")));
        assert!(!format!("{plain:?}").contains("hf_file"));
        let other = home.join("other");
        assert_eq!(options(&[("HF_TOKEN_PATH", other.to_str().unwrap())]).token.as_deref(), Some("hf_other"));
        let set = [("HF_TOKEN", "hf_env"), ("HF_ENDPOINT", "https://mirror.example"), ("HF_HUB_OFFLINE", "true")];
        let set = options(&set);
        assert_eq!((set.token.as_deref(), set.offline), (Some("hf_env"), true));
        assert_eq!(set.endpoint, "https://mirror.example");
        assert!(!options(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(Options::from_env(|_| None).unwrap_err().code(), "not_found");
        std::fs::remove_dir_all(home).unwrap();
    }
}
