//! A cache on disk for each test, downloads into it, and what must hold of it after every one of them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanlight::hub::{Options, Snapshot, Want, Watch, checkpoint};
use fanlight::{Error, Result};

use crate::server::{Hub, LARGE, REPO, content, git, sha256};

/// Waits for nothing, and remembers everything that it is told.
#[derive(Default)]
pub struct Log {
    pub pauses: Vec<(Duration, String)>,
    pub notes: Vec<String>,
    pub last: Option<(u64, u64)>,
}

impl Watch for Log {
    fn pause(&mut self, time: Duration, error: &Error) {
        self.pauses.push((time, error.to_string()));
    }

    fn progress(&mut self, progress: &fanlight::hub::Progress<'_>) {
        assert!(progress.done <= progress.size && progress.all_done <= progress.all, "{progress:?}");
        self.last = Some((progress.all_done, progress.all));
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

/// A cache of its own for each test.
pub struct Cache(pub PathBuf);

impl Cache {
    pub fn new() -> Cache {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Cache(std::env::temp_dir().join(format!("fanlight-download-{}-{number}", std::process::id())))
    }

    pub fn options(&self, hub: &Hub) -> Options {
        let mut options = Options::new(&self.0);
        options.endpoint = hub.url.clone();
        options
    }

    pub fn get(&self, hub: &Hub) -> (Result<Snapshot>, Log) {
        self.get_as(&self.options(hub), &Want::default())
    }

    pub fn get_as(&self, options: &Options, want: &Want) -> (Result<Snapshot>, Log) {
        let mut log = Log::default();
        let result = checkpoint(options, REPO, "main", want, &mut log);
        self.audit();
        (result, log)
    }

    pub fn repo(&self) -> PathBuf {
        self.0.join("models--org--model")
    }

    /// Fails unless every file that is called complete has the digest that is its name, and every link leads to a file.
    pub fn audit(&self) {
        for entry in list(&self.repo().join("blobs")) {
            let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
            let bytes = std::fs::read(&entry).unwrap();
            let digest = if name.len() == 64 { sha256(&bytes) } else { git(&bytes) };
            assert!(name.ends_with(".incomplete") || name == digest, "{name} holds {digest}");
        }
        for snapshot in list(&self.repo().join("snapshots")) {
            for file in list(&snapshot) {
                assert!(!file.to_str().unwrap().ends_with(".tmp"), "{file:?}");
                assert!(file.exists(), "{file:?} leads nowhere");
            }
        }
    }

    pub fn incomplete(&self) -> Vec<(PathBuf, u64)> {
        let blobs = list(&self.repo().join("blobs"));
        let parts = blobs.into_iter().filter(|path| path.extension().is_some_and(|e| e == "incomplete"));
        parts.map(|path| (path.clone(), std::fs::metadata(&path).unwrap().len())).collect()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn list(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The download has succeeded, and its files are the server's.
pub fn assert_whole(result: &Result<Snapshot>) {
    let snapshot = result.as_ref().unwrap();
    assert_eq!(std::fs::read(snapshot.folder.join("model.safetensors")).unwrap(), content(1, LARGE));
    assert_eq!(std::fs::read(snapshot.folder.join("config.json")).unwrap(), b"{}");
}
