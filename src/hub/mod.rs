//! Checkpoints of the Hugging Face Hub, downloaded into the cache that `huggingface_hub` uses too.
//!
//! Reading order: [`cache`] (folders, links, locks) · `files` (which files a model needs) · `client` (requests, the
//! token, retries) · `pace` (how slow a server may be) · `download` (one file). Everything here blocks, and exists only in native programs.
//!
//! First the revision is resolved to a commit, and then all requests name that commit. A file gets its final name in the cache
//! only after its length and digest have been checked. Until then its name ends in `incomplete`.

pub mod cache;
mod client;
mod download;
mod files;
mod pace;

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

/// The URL of the Hub.
const ENDPOINT: &str = "https://huggingface.co";
/// The most attempts for one request.
const ATTEMPTS: u32 = 6;
/// The longest time that a server may send nothing.
const STALL: Duration = Duration::from_secs(30);

/// What the caller does during a download: it sleeps between attempts and reports the progress.
pub trait Watch {
    /// Sleeps for this time before the next attempt. `error` is the reason.
    fn pause(&mut self, time: Duration, error: &Error);

    /// Called when bytes have been received.
    fn progress(&mut self, progress: &Progress<'_>) {
        let _ = progress;
    }

    /// Called with a message for the user.
    fn note(&mut self, text: &str) {
        let _ = text;
    }
}

/// The progress of a download, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The file that is being downloaded.
    pub file: &'a str,
    /// Bytes of this file that have been downloaded.
    pub done: u64,
    /// This file's length.
    pub size: u64,
    /// Bytes that have been downloaded, of all files that are known to be needed.
    pub all_done: u64,
    /// The length of all these files.
    pub all: u64,
}

/// Options for downloads: the server, the token and the cache.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The folder of the cache.
    pub cache: PathBuf,
    /// URL of the Hub, or of a mirror.
    pub endpoint: String,
    /// The user's token. It is sent only to the host of the endpoint.
    pub token: Option<String>,
    /// Use only the cache, and make no request at all.
    pub offline: bool,
    /// The longest time that a server may send nothing. Tests lower it.
    #[doc(hidden)]
    pub stall: Duration,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Everything but the token.
        let Options { cache, endpoint, token, offline, stall } = self;
        let token = token.as_ref().map(|_| "…");
        write!(f, "Options {{ {cache:?}, {endpoint:?}, token: {token:?}, offline: {offline}, stall: {stall:?} }}")
    }
}

impl Options {
    /// Options for the Hub itself, without a token.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Options { cache: cache.into(), endpoint: ENDPOINT.to_owned(), token: None, offline: false, stall: STALL }
    }

    /// Reads the environment variables of `huggingface_hub`: `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, and
    /// `HF_TOKEN` or else the token in the file `HF_TOKEN_PATH` or `HF_HOME/token`. `var` looks a variable up.
    ///
    /// # Errors
    /// [`Error::Missing`] if neither these variables nor a home folder say where the cache is. [`Error::Io`] if the file with
    /// the token exists but cannot be read.
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
    /// The folder with its files.
    pub folder: PathBuf,
    /// The GGUF file and the file of its vision tower, relative to the folder. `None` for a folder in Hugging Face layout.
    pub gguf: Option<(String, Option<String>)>,
}

/// Finds the model `repo` (`ORG/NAME`) at `revision`, and downloads the files that are not in the cache.
///
/// Without a network, the revision in the cache is used, if it is complete.
///
/// # Errors
/// [`Error::Invalid`] for invalid names, and if there are several files and [`Want`] does not say which one is wanted;
/// [`Error::Auth`], [`Error::Missing`], [`Error::Network`] and [`Error::Integrity`] depending on the server's answers;
/// [`Error::Io`] for the disk; [`Error::Malformed`] for an invalid index.
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
    // If the cache has a complete snapshot, do not try long to reach the network.
    let mut patience = Patience::new(if present.is_ok() { 1 } else { ATTEMPTS });
    let listed = client.commit(repo, revision, &mut patience, watch).and_then(|commit| {
        let files = client.files(repo, &commit, &mut patience, watch)?;
        Ok((commit, files))
    });
    let (commit, listed) = match (listed, present) {
        (Ok(listed), _) => listed,
        (Err(error @ Error::Network { .. }), Ok(present)) => {
            watch.note(&format!("{error}; using {repo} from the cache"));
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
    // Store the revision last, so that until then it means the commit before.
    cache.remember(revision, &commit)?;
    Ok(Snapshot { folder, gguf: choice.gguf.take() })
}

/// The names of the shards in the index of this folder.
fn shards_of(folder: &Path) -> Result<BTreeSet<String>> {
    let path = folder.join(INDEX);
    let length = std::fs::metadata(&path).map_err(|e| io(&path, "reading", &e))?.len();
    if length > MAX_INDEX {
        return Err(Error::malformed(INDEX, format!("at most {MAX_INDEX} bytes"), format!("{length} bytes")));
    }
    shards(&std::fs::read(&path).map_err(|e| io(&path, "reading", &e))?)
}

/// The snapshot in this folder, if no file is missing.
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
                // This is a link whose target has been deleted.
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
