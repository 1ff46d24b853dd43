//! A static file server on localhost: GET and HEAD, one byte range per request, several folders under prefixes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::Outcome;

/// The folders to serve: a URL prefix (`/`, `/models/mine/`) and its folder. The longest matching prefix is used.
pub type Mounts = Vec<(String, PathBuf)>;

pub struct Server {
    pub address: SocketAddr,
    thread: std::thread::JoinHandle<()>,
}

impl Server {
    /// Starts a server on the first free port from `port` on.
    pub fn start(mounts: Mounts, port: u16) -> Outcome<Server> {
        Self::with_headers(mounts, &[], port)
    }

    /// The same, with these headers in every response.
    pub fn with_headers(mut mounts: Mounts, headers: &[(&str, String)], port: u16) -> Outcome<Server> {
        mounts.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let headers: Arc<str> =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>().into();
        let listener = (port..port.saturating_add(50))
            .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
            .ok_or_else(|| format!("no free port between {port} and {}", port.saturating_add(49)))?;
        let address = listener.local_addr().map_err(|e| format!("localhost: {e}"))?;
        let mounts = Arc::new(mounts);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mounts, headers) = (mounts.clone(), headers.clone());
                // It is not an error if the browser closes the connection early.
                std::thread::spawn(move || connection(stream, &mounts, &headers).ok());
            }
        });
        Ok(Server { address, thread })
    }

    pub fn url(&self) -> String {
        format!("http://localhost:{}/", self.address.port())
    }

    /// Serves until the process is stopped.
    pub fn forever(self) {
        self.thread.join().ok();
    }
}

struct Request {
    head_only: bool,
    path: String,
    range: Option<String>,
}

fn connection(stream: TcpStream, mounts: &Mounts, headers: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = request(&mut reader)? {
        match request {
            Ok(request) => answer(&request, mounts, headers, &mut out)?,
            Err(status) => return plain(&mut out, status, false),
        }
    }
    Ok(())
}

/// Reads the head of a request. `None` if the browser closed the connection.
fn request(reader: &mut impl BufRead) -> std::io::Result<Option<Result<Request, &'static str>>> {
    // Limit the size of the head, so that an endless line cannot fill the memory.
    let mut reader = reader.take(64 * 1024);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
    let mut range = None;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 {
            return Ok(Some(Err("400 Bad Request")));
        }
        match header.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => range = Some(value.trim().to_owned()),
            None if header.trim_end().is_empty() => break,
            _ => {}
        }
    }
    if method != "GET" && method != "HEAD" {
        return Ok(Some(Err("405 Method Not Allowed")));
    }
    let path = target.split(['?', '#']).next().and_then(percent_decoded);
    Ok(Some(path.map(|path| Request { head_only: method == "HEAD", path, range }).ok_or("400 Bad Request")))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let (high, low) = (char::from(bytes.next()?).to_digit(16)?, char::from(bytes.next()?).to_digit(16)?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// The file for a URL path. It is never outside the folder of its prefix.
fn file_for(path: &str, mounts: &Mounts) -> Option<PathBuf> {
    let (prefix, folder) = mounts.iter().find(|(prefix, _)| path.starts_with(prefix.as_str()))?;
    let relative = Path::new(&path[prefix.len()..]);
    if path.contains('\\') || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let file = folder.join(relative);
    if file.is_dir() { Some(file.join("index.html")) } else { Some(file) }
}

fn answer(request: &Request, mounts: &Mounts, headers: &str, out: &mut TcpStream) -> std::io::Result<()> {
    let opened = file_for(&request.path, mounts).and_then(|path| {
        let file = File::open(&path).ok()?;
        let data = file.metadata().ok().filter(|m| m.is_file())?;
        let age = data.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some((path, file, data.len(), format!("\"{:x}-{:x}\"", age.as_nanos(), data.len())))
    });
    let Some((path, mut file, length, tag)) = opened else {
        return plain(out, "404 Not Found", request.head_only);
    };
    let range = match request.range.as_deref().and_then(|text| byte_range(text, length)) {
        Some(None) => {
            let head = format!(
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{length}\r\nContent-Length: 0\r\n\r\n"
            );
            return out.write_all(head.as_bytes());
        }
        Some(Some(range)) => Some(range),
        None => None,
    };
    let (start, end) = range.unwrap_or((0, length));
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let content_range =
        range.map_or(String::new(), |(start, end)| format!("Content-Range: bytes {start}-{}/{length}\r\n", end - 1));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{content_range}Accept-Ranges: bytes\r\n\
         ETag: {tag}\r\nCache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n{headers}\r\n",
        content_type(&path),
        end - start,
    );
    out.write_all(head.as_bytes())?;
    if request.head_only {
        return Ok(());
    }
    file.seek(SeekFrom::Start(start))?;
    let sent = std::io::copy(&mut file.take(end - start), out)?;
    // If the file became shorter meanwhile, fewer bytes than promised were sent, so the connection must end.
    if sent < end - start { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Parses `bytes=a-b` as a half-open range. `None`: another form, so send the whole file. `Some(None)`: outside the file.
fn byte_range(text: &str, length: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), Ok(last)) if last >= start => (start, last.saturating_add(1).min(length)),
        (Ok(start), Err(_)) if last.is_empty() => (start, length),
        (Err(_), Ok(tail)) if first.is_empty() => (length.saturating_sub(tail), length),
        _ => return None,
    };
    Some(Some(range).filter(|(start, end)| start < end))
}

fn plain(out: &mut TcpStream, status: &str, head_only: bool) -> std::io::Result<()> {
    let body = if head_only { "" } else { status };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", status.len());
    out.write_all(format!("{head}{body}").as_bytes())
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()).unwrap_or("") {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "wasm" => "application/wasm",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "webmanifest" => "application/manifest+json",
        "txt" | "md" | "jinja" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(byte_range("bytes=0-3", 10), Some(Some((0, 4))));
        assert_eq!(byte_range("bytes=8-99", 10), Some(Some((8, 10))));
        assert_eq!(byte_range("bytes=4-", 10), Some(Some((4, 10))));
        assert_eq!(byte_range("bytes=-3", 10), Some(Some((7, 10))));
        assert_eq!(byte_range("bytes=10-12", 10), Some(None));
        assert_eq!(byte_range("bytes=0-1,4-5", 10), None);
        assert_eq!(byte_range("bytes=5-2", 10), None);
        assert_eq!(byte_range(&format!("bytes=0-{}", u64::MAX), 10), Some(Some((0, 10))));
    }

    #[test]
    fn a_path_never_leaves_its_mount() {
        let mounts = vec![("/models/m/".to_owned(), PathBuf::from("/m")), ("/".to_owned(), PathBuf::from("/site"))];
        assert_eq!(file_for("/a/b.js", &mounts), Some(PathBuf::from("/site/a/b.js")));
        assert_eq!(file_for("/models/m/config.json", &mounts), Some(PathBuf::from("/m/config.json")));
        for bad in ["/../x", "/a/../../x", "/models/m/../x", "//etc/passwd", "/a\\..\\x"] {
            assert_eq!(file_for(bad, &mounts), None, "{bad}");
        }
        assert_eq!(percent_decoded("/%2e%2e/x").as_deref(), Some("/../x"));
        assert_eq!(percent_decoded("/%f"), None);
    }

    #[test]
    fn serves_a_file_whole_in_ranges_and_refuses_the_rest() {
        let folder = std::env::temp_dir().join(format!("fanlight-serve-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a.txt"), "0123456789").unwrap();
        let server = Server::start(vec![("/".into(), folder.clone())], 18_787).unwrap();
        let asked = |address: SocketAddr, head: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        let get = |head: &str| asked(server.address, head);
        assert!(get("GET /a.txt HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n0123456789"));
        let part = get("GET /a.txt?x=1 HTTP/1.1\r\nRange: bytes=2-4\r\n\r\n");
        assert!(part.starts_with("HTTP/1.1 206") && part.ends_with("\r\n\r\n234"), "{part}");
        assert!(part.contains("Content-Range: bytes 2-4/10"));
        assert!(get("HEAD /a.txt HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
        assert!(get("GET /b.txt HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(get("GET /a.txt HTTP/1.1\r\nRange: bytes=20-\r\n\r\n").starts_with("HTTP/1.1 416"));
        assert!(get("POST /a.txt HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        let policy = [("Content-Security-Policy", "default-src 'none'".to_owned())];
        let strict = Server::with_headers(vec![("/".into(), folder.clone())], &policy, 18_887).unwrap();
        let answer = asked(strict.address, "GET /a.txt HTTP/1.1\r\n\r\n");
        assert!(answer.contains("\r\nContent-Security-Policy: default-src 'none'\r\n"), "{answer}");
        let two = get("GET /a.txt HTTP/1.1\r\n\r\nGET /a.txt HTTP/1.1\r\n\r\n");
        assert_eq!(two.matches("0123456789").count(), 2);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
