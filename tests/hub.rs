//! Downloads from a server that plays the Hub: two origins, redirects, ranges, pages; and every way it may misbehave.
//!
//! Each case ends with the files or with the right error, and with a cache in which everything that is called complete
//! has the digest that is its name.

#![expect(clippy::disallowed_methods, reason = "a server has threads")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fanlight::hub::{Options, Snapshot, Want, Watch, checkpoint};
use fanlight::{Error, Result};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

const REPO: &str = "org/model";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const LARGE: usize = 300_000;

/// What goes wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing comes after so many bytes, until the client gives up.
    Stall(usize),
    /// A range is answered with one that begins later.
    WrongRange,
    /// The whole file, whatever was asked for.
    NoRanges,
    /// Both: from the beginning to here, every time.
    Short(usize),
    /// A body that ends early and says so.
    Truncated,
    /// A body that goes on and does not say so (no length).
    Longer,
    /// One byte is another one.
    Flipped,
    /// A page of a hotel's network.
    Html,
    /// A status, with a header.
    Status(u16, &'static str),
}

#[derive(Clone, Debug)]
struct Request {
    origin: &'static str,
    target: String,
    from: Option<usize>,
    authorization: Option<String>,
    /// Bytes of the body that it was answered with.
    sent: usize,
    number: usize,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Part of a target, how often, what.
    faults: Vec<(&'static str, usize, Fault)>,
    log: Vec<Request>,
    count: usize,
    /// The only token that is let in, if there must be one.
    token: Option<&'static str>,
}

struct Hub {
    state: Arc<Mutex<State>>,
    url: String,
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn git(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".gguf")
}

fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i as u64 * 2_654_435_761) >> 7) as u8 ^ seed).collect()
}

impl Hub {
    fn start(files: &[(&str, Vec<u8>)]) -> Hub {
        let files = files.iter().map(|(path, bytes)| (path.to_string(), bytes.clone())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (hub, cdn) = (bind(), bind());
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let urls = (url(&hub), url(&cdn));
        for (origin, listener) in [("hub", hub), ("cdn", cdn)] {
            let (state, urls) = (state.clone(), urls.clone());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, urls) = (state.clone(), urls.clone());
                    thread::spawn(move || answer(origin, stream, &state, &urls));
                }
            });
        }
        Hub { state, url: urls.0 }
    }

    /// A checkpoint of one weights file.
    fn single() -> Hub {
        Hub::start(&[
            ("config.json", b"{}".to_vec()),
            ("tokenizer.json", b"{\"t\": 1}".to_vec()),
            ("README.md", b"# not needed".to_vec()),
            ("model.safetensors", content(1, LARGE)),
            ("pytorch_model.bin", content(9, 10)),
        ])
    }

    fn fail(&self, target: &'static str, times: usize, fault: Fault) {
        self.state.lock().unwrap().faults.push((target, times, fault));
    }

    fn log(&self) -> Vec<Request> {
        self.state.lock().unwrap().log.clone()
    }

    fn forget(&self) {
        let mut state = self.state.lock().unwrap();
        state.log.clear();
        state.faults.clear();
    }

    /// Requests to the second origin, where the large files are.
    fn downloads(&self) -> Vec<Request> {
        self.log().into_iter().filter(|request| request.origin == "cdn").collect()
    }
}

fn answer(origin: &'static str, mut stream: TcpStream, state: &Mutex<State>, urls: &(String, String)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(count) if count > 2 => lines.push(line.trim_end().to_owned()),
            Ok(2) => break,
            _ => return,
        }
    }
    let target = lines[0].split(' ').nth(1).unwrap().to_owned();
    let header = |name: &str| {
        lines[1..].iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let from = header("range")
        .map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse::<usize>().unwrap());
    let authorization = header("authorization");
    let (fault, files, token, number) = {
        let mut state = state.lock().unwrap();
        state.count += 1;
        let (target, authorization, number) = (target.clone(), authorization.clone(), state.count);
        state.log.push(Request { origin, target: target.clone(), from, authorization, sent: 0, number });
        let fault = state.faults.iter_mut().find(|(part, times, _)| *times > 0 && target.contains(part));
        let fault = fault.map(|(_, times, fault)| {
            *times -= 1;
            *fault
        });
        (fault, state.files.clone(), state.token, number)
    };
    let mut send = |head: String, body: &[u8]| {
        // Before it is sent: the client may be quicker than this thread afterwards.
        if let Some(request) = state.lock().unwrap().log.iter_mut().find(|request| request.number == number) {
            request.sent = body.len();
        }
        let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
        // The client may have hung up.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        let _ = stream.flush();
    };
    if let Some(Fault::Status(status, more)) = fault {
        return send(format!("{status} So\r\nContent-Length: 5{more}"), b"sorry");
    }
    if let Some(Fault::Html) = fault {
        let page = "<!DOCTYPE html><html>Log in to the hotel's network</html>";
        return send(
            format!("200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}", page.len()),
            page.as_bytes(),
        );
    }
    if origin == "hub" && token.is_some_and(|token| authorization != Some(format!("Bearer {token}"))) {
        let more = "X-Error-Code: GatedRepo\r\nX-Error-Message: Access to model org/model is restricted.";
        return send(format!("401 Unauthorized\r\n{more}\r\nContent-Length: 0"), b"");
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let api = format!("/api/models/{REPO}");
    let small = format!("/api/resolve-cache/models/{REPO}/{COMMIT}/");
    let resolve = format!("/{REPO}/resolve/{COMMIT}/");
    let json_answer = |body: Value, more: String| {
        let body = body.to_string();
        (format!("200 OK\r\nContent-Type: application/json\r\nContent-Length: {}{more}", body.len()), body)
    };
    if let Some(rest) = path.strip_prefix(&api) {
        if matches!(
            rest,
            "/revision/main" | "/revision/refs%2Fpr%2F1" | "/revision/0123456789abcdef0123456789abcdef01234567"
        ) {
            let (head, body) = json_answer(json!({"id": REPO, "sha": COMMIT, "private": false}), String::new());
            return send(head, body.as_bytes());
        }
        if rest == format!("/tree/{COMMIT}") {
            // Two entries a page.
            let page: usize =
                query.split('&').find_map(|q| q.strip_prefix("cursor=")).map_or(0, |n| n.parse().unwrap());
            let entry = |(path, bytes): (&String, &Vec<u8>)| {
                let mut entry = json!({"type": "file", "oid": git(bytes), "size": bytes.len(), "path": path});
                if is_large(path) {
                    entry["oid"] = json!(git(b"pointer"));
                    entry["lfs"] = json!({"oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134});
                }
                entry
            };
            let folder = json!({"type": "directory", "oid": git(b""), "size": 0, "path": "folder"});
            let entries: Vec<Value> = [folder].into_iter().chain(files.iter().map(entry)).collect();
            let next =
                format!("\r\nLink: <{}{api}/tree/{COMMIT}?recursive=true&cursor={}>; rel=\"next\"", urls.0, page + 1);
            let more = if entries.len() > 2 * page + 2 { next } else { String::new() };
            let these: Vec<Value> = entries.into_iter().skip(2 * page).take(2).collect();
            let (head, body) = json_answer(json!(these), more);
            return send(head, body.as_bytes());
        }
    } else if let Some(file) = path.strip_prefix(&resolve)
        && let Some(bytes) = files.get(file)
    {
        let commit = format!("X-Repo-Commit: {COMMIT}");
        return if is_large(file) {
            let linked = format!("X-Linked-Etag: \"{}\"\r\nX-Linked-Size: {}", sha256(bytes), bytes.len());
            let place = format!("{}/blob/{}?X-Signature=secret", urls.1, sha256(bytes));
            send(format!("302 Found\r\nLocation: {place}\r\n{linked}\r\n{commit}\r\nContent-Length: 0"), b"")
        } else {
            let place = format!("{small}{file}?etag=%22{}%22", git(bytes));
            let head = format!("307 Temporary Redirect\r\nLocation: {place}\r\n{commit}\r\nContent-Length: 0");
            send(head, b"")
        };
    }
    let found = match origin {
        "cdn" => files.values().find(|bytes| path == format!("/blob/{}", sha256(bytes))),
        _ => path.strip_prefix(&small).and_then(|file| files.get(file)),
    };
    let Some(bytes) = found else {
        return send("404 Not Found\r\nX-Error-Code: EntryNotFound\r\nContent-Length: 0".to_owned(), b"");
    };
    let mut body = bytes.clone();
    if let Some(Fault::Flipped) = fault {
        let middle = body.len() / 2;
        body[middle] ^= 1;
    }
    let (mut status, mut start) = ("200 OK".to_owned(), 0);
    if let Some(from) = from.filter(|_| !matches!(fault, Some(Fault::NoRanges | Fault::Short(_)))) {
        if from >= body.len() {
            return send("416 Range Not Satisfiable\r\nContent-Length: 0".to_owned(), b"");
        }
        start = if fault == Some(Fault::WrongRange) { from + 1 } else { from };
        status = format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{}", body.len() - 1, body.len());
    }
    let etag = if origin == "cdn" { format!("\"{}\"", sha256(b"xet")) } else { format!("\"{}\"", git(bytes)) };
    let body = &body[start..];
    let length = match fault {
        Some(Fault::Truncated) => format!("\r\nContent-Length: {}", body.len() - 7),
        Some(Fault::Longer) => String::new(),
        _ => format!("\r\nContent-Length: {}", body.len()),
    };
    let body = match fault {
        Some(Fault::Cut(count) | Fault::Stall(count) | Fault::Short(count)) => &body[..count],
        Some(Fault::Truncated) => &body[..body.len() - 7],
        Some(Fault::Longer) => &[body, b"and more"].concat(),
        _ => body,
    };
    send(format!("{status}\r\nETag: {etag}\r\nAccept-Ranges: bytes{length}"), body);
    if let Some(Fault::Stall(_)) = fault {
        // Until the client has hung up.
        let _ = reader.read_to_end(&mut Vec::new());
    }
}

/// Waits for nothing and remembers what it was told.
#[derive(Default)]
struct Log {
    pauses: Vec<(Duration, String)>,
    notes: Vec<String>,
    last: Option<(u64, u64)>,
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
struct Cache(PathBuf);

impl Cache {
    fn new() -> Cache {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Cache(std::env::temp_dir().join(format!("fanlight-download-{}-{number}", std::process::id())))
    }

    fn options(&self, hub: &Hub) -> Options {
        let mut options = Options::new(&self.0);
        options.endpoint = hub.url.clone();
        options
    }

    fn get(&self, hub: &Hub) -> (Result<Snapshot>, Log) {
        self.get_as(&self.options(hub), &Want::default())
    }

    fn get_as(&self, options: &Options, want: &Want) -> (Result<Snapshot>, Log) {
        let mut log = Log::default();
        let result = checkpoint(options, REPO, "main", want, &mut log);
        self.audit();
        (result, log)
    }

    fn repo(&self) -> PathBuf {
        self.0.join("models--org--model")
    }

    /// Everything that is called complete is.
    fn audit(&self) {
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

    fn incomplete(&self) -> Vec<(PathBuf, u64)> {
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

fn list(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The weights have come, whole.
fn assert_whole(result: &Result<Snapshot>) {
    let snapshot = result.as_ref().unwrap();
    assert_eq!(std::fs::read(snapshot.folder.join("model.safetensors")).unwrap(), content(1, LARGE));
    assert_eq!(std::fs::read(snapshot.folder.join("config.json")).unwrap(), b"{}");
}

#[test]
fn a_checkpoint_comes_into_the_layout_of_huggingface_hub() {
    let (hub, cache) = (Hub::single(), Cache::new());
    let (result, log) = cache.get(&hub);
    assert_whole(&result);
    assert_eq!(result.unwrap(), Snapshot { folder: cache.repo().join("snapshots").join(COMMIT), gguf: None });
    assert!(log.pauses.is_empty() && log.notes.is_empty());
    let total = (LARGE + 2 + 8) as u64;
    assert_eq!(log.last, Some((total, total)));
    assert_eq!(std::fs::read_to_string(cache.repo().join("refs/main")).unwrap(), COMMIT);
    // Of five files three are needed; the list has three pages.
    let blobs: Vec<_> = list(&cache.repo().join("blobs"));
    assert_eq!(blobs.len(), 3);
    assert_eq!(hub.log().iter().filter(|r| r.target.contains("/tree/")).count(), 3);
    let snapshot = cache.repo().join("snapshots").join(COMMIT);
    assert_eq!(list(&snapshot).len(), 3);
    let mut digest = PathBuf::from("../../blobs");
    digest.push(git(b"{}"));
    if cfg!(unix) {
        assert_eq!(std::fs::read_link(snapshot.join("config.json")).unwrap(), digest);
    }
    let lock = cache.0.join(".locks/models--org--model").join(format!("{}.lock", git(b"{}")));
    assert!(lock.is_file());

    // Again: two questions and no file. Offline: nothing at all.
    hub.forget();
    assert_whole(&cache.get(&hub).0);
    assert!(hub.log().iter().all(|request| request.target.starts_with("/api/models/")), "{:?}", hub.log());
    hub.forget();
    let mut offline = cache.options(&hub);
    offline.offline = true;
    assert_whole(&cache.get_as(&offline, &Want::default()).0);
    assert_whole(&checkpoint(&offline, REPO, COMMIT, &Want::default(), &mut Log::default()));
    assert!(hub.log().is_empty());
    // A content that is gone is missed offline and fetched otherwise.
    std::fs::remove_file(cache.repo().join("blobs").join(git(b"{}"))).unwrap();
    let error = checkpoint(&offline, REPO, "main", &Want::default(), &mut Log::default()).unwrap_err();
    assert!(error.code() == "not_found" && error.to_string().contains("config.json"), "{error}");
    assert!(hub.log().is_empty());
    assert_whole(&cache.get(&hub).0);
    assert!(hub.downloads().is_empty());
    // Another revision of the same commit has nothing to download.
    hub.forget();
    assert_whole(&checkpoint(&cache.options(&hub), REPO, "refs/pr/1", &Want::default(), &mut Log::default()));
    assert!(hub.downloads().is_empty() && cache.repo().join("refs/refs/pr/1").is_file());
}

#[test]
fn offline_and_not_there() {
    let (hub, cache) = (Hub::single(), Cache::new());
    let mut offline = cache.options(&hub);
    offline.offline = true;
    let error = cache.get_as(&offline, &Want::default()).0.unwrap_err();
    assert!(error.code() == "not_found" && error.to_string().contains(REPO), "{error}");
    assert!(hub.log().is_empty() && !cache.0.exists());
}

#[test]
fn without_a_network_the_cache_serves() {
    let (hub, cache) = (Hub::single(), Cache::new());
    let nowhere = {
        // A port that nobody listens on any more.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let mut options = cache.options(&hub);
    options.endpoint = nowhere;
    let (result, log) = cache.get_as(&options, &Want::default());
    let error = result.unwrap_err();
    assert!(error.code() == "network" && error.retryable() && error.to_string().contains("6 attempts"), "{error}");
    let pauses: Vec<f64> = log.pauses.iter().map(|(time, _)| time.as_secs_f64()).collect();
    assert_eq!(pauses.len(), 5);
    for (n, pause) in pauses.iter().enumerate() {
        let longest = f64::from(1 << n);
        assert!((longest / 2.0..=longest).contains(pause), "{pauses:?}");
    }
    assert_whole(&cache.get(&hub).0);
    // At once, with a word.
    let (result, log) = cache.get_as(&options, &Want::default());
    assert_whole(&result);
    assert!(log.pauses.is_empty() && log.notes[0].contains("from the cache"), "{:?}", log.notes);
}

#[test]
fn shards_come_from_the_index() {
    let index = json!({"metadata": {}, "weight_map": {
        "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors",
        "c": "model-00001-of-00002.safetensors",
    }});
    let files = |index: &Value| {
        Hub::start(&[
            ("config.json", b"{}".to_vec()),
            ("tokenizer.json", b"{}".to_vec()),
            ("model.safetensors.index.json", index.to_string().into_bytes()),
            ("model-00001-of-00002.safetensors", content(1, 1000)),
            ("model-00002-of-00002.safetensors", content(2, 2000)),
            ("consolidated.safetensors", content(3, 3000)),
        ])
    };
    let (hub, cache) = (files(&index), Cache::new());
    let snapshot = cache.get(&hub).0.unwrap();
    assert_eq!(std::fs::read(snapshot.folder.join("model-00002-of-00002.safetensors")).unwrap(), content(2, 2000));
    assert_eq!(hub.downloads().len(), 2);
    let mut offline = cache.options(&hub);
    offline.offline = true;
    assert_eq!(cache.get_as(&offline, &Want::default()).0.unwrap(), snapshot);
    std::fs::remove_file(snapshot.folder.join("model-00001-of-00002.safetensors")).unwrap();
    let error = cache.get_as(&offline, &Want::default()).0.unwrap_err();
    assert!(error.to_string().contains("model-00001-of-00002"), "{error}");
    // Names that would leave the cache, or are not in the repository.
    for (name, code) in
        [("../../../evil", "bad_model"), ("/etc/passwd", "bad_model"), ("absent.safetensors", "not_found")]
    {
        let (hub, cache) = (files(&json!({"weight_map": {"a": name}})), Cache::new());
        assert_eq!(cache.get(&hub).0.unwrap_err().code(), code, "{name}");
        assert!(hub.downloads().is_empty());
    }
}

#[test]
fn gguf_files_are_chosen() {
    let hub = Hub::start(&[
        ("config.json", b"{}".to_vec()),
        ("model-Q4_K_M.gguf", content(4, 1000)),
        ("sub/model-Q8_0-00001-of-00002.gguf", content(8, 1000)),
        ("sub/model-Q8_0-00002-of-00002.gguf", content(9, 1000)),
        ("mmproj-F16.gguf", content(16, 1000)),
        ("mmproj-F32.gguf", content(32, 1000)),
    ]);
    let cache = Cache::new();
    let error = cache.get(&hub).0.unwrap_err();
    let text = error.to_string();
    assert!(error.code() == "bad_request" && text.contains("Q4_K_M") && text.contains("Q8_0-00001"), "{text}");
    assert!(hub.downloads().is_empty() && !cache.repo().exists());
    let want = |file: &str| Want { file: Some(file.to_owned()), mmproj: None };
    let found = cache.get_as(&cache.options(&hub), &want("model-Q4_K_M.gguf")).0.unwrap();
    assert_eq!(found.gguf, Some(("model-Q4_K_M.gguf".to_owned(), Some("mmproj-F16.gguf".to_owned()))));
    assert_eq!(hub.downloads().len(), 2);
    let split = "sub/model-Q8_0-00001-of-00002.gguf";
    let found = cache.get_as(&cache.options(&hub), &want(split)).0.unwrap();
    assert_eq!(std::fs::read(found.folder.join(split.replace("-00001-", "-00002-"))).unwrap(), content(9, 1000));
    if cfg!(unix) {
        let link = std::fs::read_link(found.folder.join(split)).unwrap();
        assert_eq!(link, Path::new("../../../blobs").join(sha256(&content(8, 1000))));
    }
    let mut offline = cache.options(&hub);
    offline.offline = true;
    assert_eq!(cache.get_as(&offline, &want(split)).0.unwrap(), found);
    assert!(cache.get_as(&cache.options(&hub), &want("other.gguf")).0.unwrap_err().to_string().contains("Q4_K_M"));
}

/// What was cut off goes on at the byte, in the same run and in the next one.
#[test]
fn resumes_at_the_byte() {
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Cut(100_000));
    hub.fail("/blob/", 1, Fault::Cut(50_000));
    let (result, log) = cache.get(&hub);
    assert_whole(&result);
    assert_eq!(log.pauses.len(), 2);
    let froms: Vec<_> = hub.downloads().iter().map(|request| request.from).collect();
    assert_eq!(froms, [None, Some(100_000), Some(150_000)]);
    assert_eq!(hub.downloads().iter().map(|request| request.sent).sum::<usize>(), LARGE);
    // Every time at a fresh address: signed ones expire.
    assert_eq!(hub.log().iter().filter(|r| r.target.ends_with("/model.safetensors")).count(), 3);

    // A run that fails for good leaves what it has.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Cut(123_456));
    hub.fail("/blob/", 9, Fault::Cut(0));
    let (result, log) = cache.get(&hub);
    assert_eq!((result.unwrap_err().code(), log.pauses.len()), ("network", 5));
    let digest = sha256(&content(1, LARGE));
    let part = cache.repo().join("blobs").join(format!("{digest}.incomplete"));
    assert_eq!(cache.incomplete(), [(part.clone(), 123_456)]);
    assert!(!cache.repo().join("refs").exists());
    hub.forget();
    assert_whole(&cache.get(&hub).0);
    assert_eq!(
        hub.downloads().iter().map(|r| (r.from, r.sent)).collect::<Vec<_>>(),
        [(Some(123_456), LARGE - 123_456)]
    );
    assert!(cache.incomplete().is_empty());

    // What lies there and is whole, too long, or something else.
    let whole = content(1, LARGE);
    for (left, sent) in [(whole.clone(), 0), ([&whole[..], b"x"].concat(), LARGE), (content(7, 1000), 2 * LARGE - 1000)]
    {
        let (hub, cache) = (Hub::single(), Cache::new());
        let part = cache.repo().join("blobs").join(part.file_name().unwrap());
        std::fs::create_dir_all(part.parent().unwrap()).unwrap();
        std::fs::write(&part, left).unwrap();
        let (result, log) = cache.get(&hub);
        assert_whole(&result);
        assert_eq!(hub.downloads().iter().map(|request| request.sent).sum::<usize>(), sent);
        assert_eq!(log.notes.len(), usize::from(sent > LARGE), "{:?}", log.notes);
    }
}

#[test]
fn servers_that_cannot_resume() {
    // No ranges: from the beginning.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Cut(100_000));
    hub.fail("/blob/", 1, Fault::NoRanges);
    assert_whole(&cache.get(&hub).0);
    assert_eq!(hub.downloads().iter().map(|request| request.sent).collect::<Vec<_>>(), [100_000, LARGE]);
    // Another range than was asked for: from the beginning, and no more ranges.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Cut(100_000));
    hub.fail("/blob/", 1, Fault::WrongRange);
    let (result, log) = cache.get(&hub);
    assert_whole(&result);
    assert_eq!(hub.downloads().iter().map(|request| request.from).collect::<Vec<_>>(), [None, Some(100_000), None]);
    assert!(log.pauses[1].1.contains("range"), "{:?}", log.pauses);
    // One that breaks off at the same place for ever does not go on for ever.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 99, Fault::Short(100_000));
    assert_eq!(cache.get(&hub).0.unwrap_err().code(), "network");
    assert_eq!(hub.downloads().len(), 6);
}

#[test]
fn silence_is_a_fault() {
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Stall(200_000));
    let mut options = cache.options(&hub);
    options.stall = Duration::from_millis(300);
    let (result, log) = cache.get_as(&options, &Want::default());
    assert_whole(&result);
    assert!(log.pauses.iter().any(|(_, error)| error.contains("200000 of 300000")), "{:?}", log.pauses);
    assert_eq!(hub.downloads().last().unwrap().from, Some(200_000));
}

#[test]
fn contents_that_are_not_the_listed_ones() {
    for (fault, word) in
        [(Fault::Flipped, "sha256"), (Fault::Truncated, "299993 bytes"), (Fault::Longer, "more"), (Fault::Html, "HTML")]
    {
        let (hub, cache) = (Hub::single(), Cache::new());
        hub.fail("/blob/", 1, fault);
        let (result, log) = cache.get(&hub);
        let error = result.unwrap_err();
        assert!(error.code() == "integrity" && error.to_string().contains(word), "{fault:?}: {error}");
        assert!(log.pauses.is_empty() && !cache.repo().join("refs").exists(), "{fault:?}");
        assert!(cache.incomplete().iter().all(|(_, length)| *length == 0), "{fault:?}: {:?}", cache.incomplete());
        if fault == Fault::Flipped {
            assert!(error.to_string().contains("discarded") && cache.incomplete().is_empty());
        }
        hub.forget();
        assert_whole(&cache.get(&hub).0);
    }
    // Small files have git's sha1.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("resolve-cache", 1, Fault::Flipped);
    let error = cache.get(&hub).0.unwrap_err();
    assert!(error.code() == "integrity" && error.to_string().contains("sha1"), "{error}");
    // A page instead of the API's answer.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/revision/", 1, Fault::Html);
    let error = cache.get(&hub).0.unwrap_err();
    assert!(error.code() == "network" && error.to_string().contains("this is not an answer of the Hub"), "{error}");
}

#[test]
fn servers_that_are_busy() {
    // Whatever is asked for: the commit, the list, a redirect, a file.
    for place in ["/revision/", "/tree/", "/resolve/", "/blob/"] {
        let (hub, cache) = (Hub::single(), Cache::new());
        hub.fail(place, 1, Fault::Status(429, "\r\nRetry-After: 17"));
        hub.fail(place, 1, Fault::Status(429, "\r\nRateLimit: \"api\";r=0;t=19"));
        hub.fail(place, 1, Fault::Status(503, "\r\nRetry-After: 86400"));
        hub.fail(place, 1, Fault::Status(500, ""));
        let (result, log) = cache.get(&hub);
        assert_whole(&result);
        let pauses: Vec<u64> = log.pauses.iter().map(|(time, _)| time.as_secs()).collect();
        assert_eq!((pauses.len(), &pauses[..3]), (4, &[17, 19, 300][..]), "{place}");
        assert!(pauses[3] <= 8 && log.pauses[0].1.contains("429"), "{:?}", log.pauses);
    }
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/revision/", 99, Fault::Status(503, ""));
    let error = cache.get(&hub).0.unwrap_err();
    assert!(error.code() == "network" && error.to_string().contains("503"), "{error}");
    assert_eq!(hub.log().len(), 6);
    // A signed address that has expired is asked for again; its secret is shown to nobody.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Status(403, ""));
    let (result, log) = cache.get(&hub);
    assert_whole(&result);
    assert!(log.pauses.len() == 1 && !log.pauses[0].1.contains("secret"), "{:?}", log.pauses);
}

#[test]
fn the_token_stays_with_the_endpoint() {
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.state.lock().unwrap().token = Some("hf_right");
    let with = |token: Option<&str>| {
        let mut options = cache.options(&hub);
        options.token = token.map(str::to_owned);
        cache.get_as(&options, &Want::default()).0
    };
    for (token, word) in [(None, "no token was sent"), (Some("hf_wrong"), "a token was sent")] {
        let error = with(token).unwrap_err();
        let text = error.to_string();
        assert!(error.code() == "auth" && text.contains(word) && text.contains("GatedRepo"), "{text}");
        assert!(text.contains("restricted") && !text.contains("hf_wrong") && error.hint().contains("HF_TOKEN"));
        assert!(!error.retryable() && hub.log().len() == 1);
        hub.forget();
    }
    assert_whole(&with(Some("hf_right")));
    let (own, others): (Vec<_>, Vec<_>) = hub.log().into_iter().partition(|request| request.origin == "hub");
    assert!(!others.is_empty() && others.iter().all(|request| request.authorization.is_none()), "{others:?}");
    assert!(own.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_right")), "{own:?}");
    // In nothing that was written.
    for folder in ["blobs", "refs"] {
        for file in list(&cache.repo().join(folder)) {
            assert!(!String::from_utf8_lossy(&std::fs::read(file).unwrap()).contains("hf_right"));
        }
    }
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/revision/", 1, Fault::Status(403, "\r\nX-Error-Message: no"));
    assert_eq!(cache.get(&hub).0.unwrap_err().code(), "auth");
}

#[test]
fn what_is_not_there() {
    let (hub, cache) = (Hub::single(), Cache::new());
    let get = |repo: &str, revision: &str| {
        checkpoint(&cache.options(&hub), repo, revision, &Want::default(), &mut Log::default()).unwrap_err()
    };
    for (repo, revision) in [("org/other", "main"), (REPO, "other")] {
        let error = get(repo, revision);
        assert!(error.code() == "not_found" && error.to_string().contains(repo), "{error}");
    }
    for (repo, revision) in [("../x", "main"), (REPO, "../x"), (REPO, "")] {
        hub.forget();
        assert_eq!(get(repo, revision).code(), "bad_request");
        assert!(hub.log().is_empty());
    }
    let hub = Hub::start(&[("config.json", b"{}".to_vec()), ("pytorch_model.bin", b"".to_vec())]);
    let error = cache.get(&hub).0.unwrap_err();
    assert!(error.code() == "not_found" && error.to_string().contains("model.safetensors"), "{error}");
}

/// Two programs at once: one downloads, the other waits, both have it.
#[test]
fn two_at_once_download_once() {
    let (hub, cache) = (Hub::single(), Cache::new());
    let options = cache.options(&hub);
    thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| checkpoint(&options, REPO, "main", &Want::default(), &mut Log::default())))
            .collect();
        runs.into_iter().for_each(|run| assert_whole(&run.join().unwrap()));
    });
    cache.audit();
    assert_eq!(hub.downloads().iter().map(|request| request.sent).sum::<usize>(), LARGE);
    assert!(cache.incomplete().is_empty());
}

/// The command line, with a real checkpoint.
#[test]
fn the_command_line_downloads_and_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/base");
    let files: Vec<(String, Vec<u8>)> = list(&folder)
        .into_iter()
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let (hub, cache) = (Hub::start(&files), Cache::new());
    hub.state.lock().unwrap().token = Some("hf_right");
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanlight"));
        for name in
            ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "HF_TOKEN", "HF_ENDPOINT"]
        {
            command.env_remove(name);
        }
        command.env("HF_HOME", &cache.0).args(["inspect", "--model", REPO]).args(more);
        let out = command.output().expect("the binary runs");
        (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    std::fs::create_dir_all(&cache.0).unwrap();
    let endpoint = ["--endpoint", hub.url.as_str()];
    let (ok, text) = run(&endpoint);
    assert!(!ok && text.contains("GatedRepo") && text.contains("hf auth login"), "{text}");
    std::fs::write(cache.0.join("token"), "hf_right\n").unwrap();
    let (ok, text) = run(&endpoint);
    assert!(ok && text.contains("qwen2_5_vl"), "{text}");
    hub.forget();
    let (ok, text) = run(&["--offline"]);
    assert!(ok && text.contains("qwen2_5_vl"), "{text}");
    let (ok, text) = run(&["--offline", "--revision", "other"]);
    assert!(!ok && text.contains(REPO), "{text}");
    assert!(hub.log().is_empty());
}
