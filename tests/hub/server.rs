//! A server that plays the Hub on two origins: one for the API and small files, one for large files. It answers as the
//! Hub does, or misbehaves in one of the ways of [`Fault`].

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const REPO: &str = "org/model";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const LARGE: usize = 300_000;

/// What goes wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// After so many bytes of the body nothing more is sent, until the client gives up.
    Stall(usize),
    /// A range is answered with another one, which begins one byte later.
    WrongRange,
    /// The whole file, whatever range was asked for.
    NoRanges,
    /// Whatever range was asked for, the connection ends after so many bytes from the file's beginning.
    Short(usize),
    /// The body lacks its last bytes, and its header gives the shorter length.
    Truncated,
    /// The body has more bytes than the file, and its header gives no length.
    Longer,
    /// One byte of the body is changed.
    Flipped,
    /// The login page of a hotel's network in place of the answer.
    Html,
    /// An error status, with further headers.
    Status(u16, &'static str),
}

#[derive(Clone, Debug)]
pub struct Request {
    pub origin: &'static str,
    pub target: String,
    pub from: Option<usize>,
    pub authorization: Option<String>,
    /// Bytes of the body of its answer.
    pub sent: usize,
    number: usize,
}

#[derive(Default)]
pub struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Requests whose target contains this text fail this many times in this way.
    faults: Vec<(&'static str, usize, Fault)>,
    log: Vec<Request>,
    count: usize,
    /// If there is one, the first origin answers only requests that carry this token.
    pub token: Option<&'static str>,
}

pub struct Hub {
    pub state: Arc<Mutex<State>>,
    pub url: String,
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn git(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".gguf")
}

pub fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i as u64 * 2_654_435_761) >> 7) as u8 ^ seed).collect()
}

impl Hub {
    pub fn start(files: &[(&str, Vec<u8>)]) -> Hub {
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

    /// A server with a checkpoint whose weights are in one file.
    pub fn single() -> Hub {
        Hub::start(&[
            ("config.json", b"{}".to_vec()),
            ("tokenizer.json", b"{\"t\": 1}".to_vec()),
            ("README.md", b"# not needed".to_vec()),
            ("model.safetensors", content(1, LARGE)),
            ("pytorch_model.bin", content(9, 10)),
        ])
    }

    pub fn fail(&self, target: &'static str, times: usize, fault: Fault) {
        self.state.lock().unwrap().faults.push((target, times, fault));
    }

    pub fn log(&self) -> Vec<Request> {
        self.state.lock().unwrap().log.clone()
    }

    pub fn forget(&self) {
        let mut state = self.state.lock().unwrap();
        state.log.clear();
        state.faults.clear();
    }

    /// Requests to the second origin, where the large files are.
    pub fn downloads(&self) -> Vec<Request> {
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
