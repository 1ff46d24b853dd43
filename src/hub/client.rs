//! Requests to the Hub: their URLs, which servers get the token, and which failures are final or may be tried again.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body};

use super::cache::is_commit;
use super::pace::Paced;
use super::{Options, Watch};
use crate::error::{Error, Result, brief};
use crate::weights::source::check_name;

/// The most bytes in an answer of the API. A page of the list of files has 1,000 entries of about 300 bytes.
const MAX_ANSWER: u64 = 16 << 20;
/// The most files in a repository, and the most pages of their list.
const MAX_FILES: usize = 200_000;
const MAX_PAGES: usize = 1000;
/// The most redirects from the first URL to the file.
const MAX_HOPS: usize = 6;
/// The first pause between attempts. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest time that a server may ask to wait.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Why a request failed.
pub(super) enum Fault {
    /// The same request would fail again.
    Final(Error),
    /// The same request may succeed later, after the time that the server asks for, if any.
    Again(Error, Option<Duration>),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Final(error)
    }
}

/// Counts attempts and pauses between them.
pub(super) struct Patience {
    attempts: u32,
    failures: u32,
}

impl Patience {
    pub fn new(attempts: u32) -> Self {
        Patience { attempts: attempts.max(1), failures: 0 }
    }

    /// Forgets earlier failures, after some progress was made.
    pub fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt, twice as long each time, with jitter.
    ///
    /// # Errors
    /// The error of the fault, if it is final or this was the last attempt.
    pub fn after(&mut self, fault: Fault, watch: &mut dyn Watch) -> Result<()> {
        let (error, asked) = match fault {
            Fault::Final(error) => return Err(error),
            Fault::Again(error, asked) => (error, asked),
        };
        self.failures += 1;
        if self.failures >= self.attempts {
            return Err(match error {
                Error::Network { url, message } if self.attempts > 1 => {
                    Error::Network { url, message: format!("{message} ({} attempts)", self.failures) }
                }
                other => other,
            });
        }
        let longest = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST_PAUSE);
        // Pause for a random part between half and all of this time, so that clients that failed together do not return
        // together. The random number comes from the keys of a RandomState.
        let jitter = (RandomState::new().hash_one(0) >> 40) as f64 / (1u64 << 24) as f64;
        let pause = longest.mul_f64(0.5 + 0.5 * jitter);
        watch.pause(pause.max(asked.unwrap_or_default().min(LONGEST_RETRY_AFTER)), &error);
        Ok(())
    }
}

/// A file in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    /// Length in bytes.
    pub size: u64,
    /// sha256 of a large file (LFS, Xet), or sha1 of `blob SIZE\0` and a small one's bytes (git); in hexadecimal.
    pub digest: String,
}

/// An answer with a body, with the status 200, 206 or 416.
pub(super) struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A client for one endpoint, with the user's token.
pub(super) struct Client {
    agent: Agent,
    /// The endpoint, without a slash at its end.
    endpoint: String,
    origin: Origin,
    token: Option<String>,
    stall: Duration,
}

/// The origin of a URL: scheme, host, port.
type Origin = (String, String, u16);

fn origin(uri: &Uri) -> Option<Origin> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = match scheme.as_str() {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
    Some((scheme, host, uri.port_u16().unwrap_or(port)))
}

/// A URL as it may be shown in messages: without its query.
fn shown(url: &str) -> String {
    brief(url.split(['?', '#']).next().unwrap_or(url))
}

fn network(url: &str, message: impl Into<String>) -> Error {
    Error::Network { url: shown(url), message: message.into() }
}

impl Client {
    /// # Errors
    /// [`Error::Invalid`] if the endpoint is not the URL of a server, or the token cannot be part of a header.
    pub fn new(options: &Options) -> Result<Self> {
        let endpoint = options.endpoint.trim_end_matches('/');
        let uri = endpoint.parse::<Uri>().ok().filter(|uri| uri.query().is_none());
        let parsed = uri.filter(|uri| uri.authority().is_some_and(|host| !host.as_str().contains('@')));
        let Some(origin) = parsed.as_ref().and_then(origin) else {
            return Err(Error::invalid("endpoint", "https://HOST or http://HOST", brief(endpoint)));
        };
        if options.token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::invalid("token", "one word of ASCII letters, digits and signs", "other characters"));
        }
        let here = matches!(origin.1.as_str(), "localhost" | "127.0.0.1" | "[::1]");
        if options.token.is_some() && origin.0 != "https" && !here {
            let expected = "an https server, because a token would be sent without encryption";
            return Err(Error::invalid("endpoint", expected, brief(endpoint)));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed below, which decides for each server whether it gets the token.
            .max_redirects(0)
            .user_agent(concat!("fanlight/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(options.stall))
            .timeout_connect(Some(options.stall))
            .timeout_per_read(Some(options.stall))
            .timeout_per_write(Some(options.stall));
        if here {
            config = config.proxy(None);
        }
        Ok(Client {
            agent: config.build().into(),
            endpoint: endpoint.to_owned(),
            origin,
            token: options.token.clone(),
            stall: options.stall,
        })
    }

    /// Longest silence, and the stretch over which a server has to keep up a least speed.
    pub fn stall(&self) -> Duration {
        self.stall
    }

    /// The URL of a file.
    pub fn file_url(&self, repo: &str, commit: &str, file: &str) -> String {
        // A checked name may still contain these two characters, which have a meaning for some servers.
        let file = file.replace('+', "%2B").replace('=', "%3D");
        format!("{}/{repo}/resolve/{commit}/{file}", self.endpoint)
    }

    /// Requests `url`, from byte `from` on if that is not 0.
    pub fn get(&self, url: &str, from: u64) -> Result<Reply, Fault> {
        let mut url = url.to_owned();
        for _ in 0..MAX_HOPS {
            let uri: Uri = url.parse().map_err(|_| network(&url, "this is not a valid URL"))?;
            let place = origin(&uri).ok_or_else(|| network(&url, "this is not the URL of a server"))?;
            if self.origin.0 == "https" && place.0 != "https" {
                return Err(network(&url, "an https server redirected to a URL without encryption").into());
            }
            let own = place == self.origin;
            let mut request = self.agent.get(uri);
            if let Some(token) = self.token.as_ref().filter(|_| own) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|e| fault(&url, &e))?;
            let status = response.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return self.answer(&url, own, response);
            }
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            url = location
                .and_then(|location| resolve(&url, location))
                .ok_or_else(|| network(&url, format!("HTTP {status} without a URL to redirect to")))?;
        }
        Err(network(&url, format!("more than {MAX_HOPS} redirects")).into())
    }

    fn answer(&self, url: &str, own: bool, response: Response<Body>) -> Result<Reply, Fault> {
        let (parts, body) = response.into_parts();
        let status = parts.status.as_u16();
        let reply = Reply { status, headers: parts.headers, body };
        let words = |name: &str| reply.header(name).map(brief);
        let mut message = format!("HTTP {status}");
        message.extend(words("x-error-code").map(|code| format!(" {code}")));
        message.extend(words("x-error-message").map(|text| format!(": {text}")));
        let sent = if self.token.is_some() { "a token was sent" } else { "no token was sent" };
        match status {
            200 | 206 | 416 => Ok(reply),
            401 | 403 if own => Err(Error::Auth { what: shown(url), message: format!("{message} ({sent})") }.into()),
            404 if own => Err(Error::missing(shown(url), format!("the server ({message}; {sent})")).into()),
            // A signed URL has expired. The next attempt gets a new one.
            400..=404 | 410 if !own => Err(Fault::Again(network(url, message), None)),
            408 | 429 | 500..=599 => {
                let seconds = |text: &str| text.trim().parse().ok().map(Duration::from_secs);
                let limit =
                    || reply.header("ratelimit").and_then(|text| text.rsplit_once(";t=")).and_then(|l| seconds(l.1));
                let after = reply.header("retry-after").and_then(seconds).or_else(limit);
                Err(Fault::Again(network(url, message), after))
            }
            _ => Err(network(url, message).into()),
        }
    }

    /// Reads an answer of the API and the URL of its next page.
    fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        url: &str,
        patience: &mut Patience,
        watch: &mut dyn Watch,
    ) -> Result<(T, Option<String>)> {
        let (text, next) = loop {
            let asked = self.get(url, 0).and_then(|mut reply| {
                let next = reply.header("link").and_then(next_page).and_then(|next| resolve(url, next));
                let mut text = Vec::new();
                let body = Paced::new(reply.body.as_reader(), self.stall);
                let read = body.take(MAX_ANSWER + 1).read_to_end(&mut text);
                read.map_err(|e| Fault::Again(network(url, e.to_string()), None))?;
                if text.len() as u64 > MAX_ANSWER {
                    return Err(network(url, format!("an answer of more than {MAX_ANSWER} bytes")).into());
                }
                Ok((text, next))
            });
            match asked {
                Ok(answer) => break answer,
                Err(fault) => patience.after(fault, watch)?,
            }
        };
        patience.renew();
        let parsed = serde_json::from_slice(&text)
            .map_err(|e| network(url, format!("this is not an answer of the Hub: {}", brief(&e.to_string()))))?;
        Ok((parsed, next))
    }

    /// The commit that a revision means now.
    pub fn commit(&self, repo: &str, revision: &str, patience: &mut Patience, watch: &mut dyn Watch) -> Result<String> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
        }
        let url = format!("{}/api/models/{repo}/revision/{}", self.endpoint, revision.replace('/', "%2F"));
        let (Info { sha }, _) = self.ask(&url, patience, watch)?;
        if is_commit(&sha) {
            return Ok(sha);
        }
        Err(network(&url, format!("expected a commit of 40 hexadecimal digits, found {}", brief(&sha))))
    }

    /// The files of a commit, by path.
    pub fn files(
        &self,
        repo: &str,
        commit: &str,
        patience: &mut Patience,
        watch: &mut dyn Watch,
    ) -> Result<BTreeMap<String, Remote>> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "type")]
            kind: String,
            path: String,
            #[serde(default)]
            size: u64,
            #[serde(default)]
            oid: String,
            lfs: Option<Large>,
        }
        #[derive(Deserialize)]
        struct Large {
            oid: String,
            size: u64,
        }
        let mut url = format!("{}/api/models/{repo}/tree/{commit}?recursive=true", self.endpoint);
        let mut files = BTreeMap::new();
        for _ in 0..MAX_PAGES {
            let (entries, next): (Vec<Entry>, _) = self.ask(&url, patience, watch)?;
            for entry in entries {
                let (remote, digits) = match entry.lfs {
                    Some(large) => (Remote { size: large.size, digest: large.oid }, 64),
                    None => (Remote { size: entry.size, digest: entry.oid }, 40),
                };
                // Digests and paths become file names here, so they are checked. Files that are not needed may have any name.
                let hex = remote.digest.len() == digits && remote.digest.bytes().all(|b| b.is_ascii_hexdigit());
                if entry.kind == "file" && hex && check_name(&entry.path).is_ok() {
                    files.insert(entry.path, Remote { digest: remote.digest.to_ascii_lowercase(), ..remote });
                }
            }
            if files.len() > MAX_FILES {
                return Err(network(&url, format!("more than {MAX_FILES} files")));
            }
            match next {
                Some(next) => url = next,
                None => return Ok(files),
            }
        }
        Err(network(&url, format!("a list of more than {MAX_PAGES} pages")))
    }
}

/// The fault for an error of ureq.
fn fault(url: &str, error: &ureq::Error) -> Fault {
    let text = network(url, error.to_string());
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            Fault::Final(text)
        }
        _ => Fault::Again(text, None),
    }
}

/// The absolute URL of `location`, as redirected to from `url`.
fn resolve(url: &str, location: &str) -> Option<String> {
    let location = location.split('#').next()?;
    let uri: Uri = url.parse().ok()?;
    let (scheme, host) = (uri.scheme_str()?, uri.authority()?);
    if location.contains("://") && !location.starts_with('/') {
        return Some(location.to_owned());
    }
    match (location.starts_with("//"), location.starts_with('/')) {
        (true, _) => Some(format!("{scheme}:{location}")),
        (_, true) => Some(format!("{scheme}://{host}{location}")),
        _ => {
            let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            Some(format!("{scheme}://{host}{folder}/{location}"))
        }
    }
}

/// The URL with `rel="next"` of a `Link` header (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    link.split(",").find_map(|entry| {
        let (address, rest) = entry.trim().strip_prefix('<')?.split_once('>')?;
        let next = |word: &str| matches!(word.trim(), "rel=\"next\"" | "rel=next");
        rest.split(';').any(next).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_redirects() {
        let from = "https://hub.example:8443/a/b?c=d";
        for (location, url) in [
            ("/api/x?y", "https://hub.example:8443/api/x?y"),
            ("//cdn.example/z", "https://cdn.example/z"),
            ("http://cdn.example/z#f", "http://cdn.example/z"),
            ("c", "https://hub.example:8443/a/c"),
            ("/x?u=http://y", "https://hub.example:8443/x?u=http://y"),
        ] {
            assert_eq!(resolve(from, location).as_deref(), Some(url));
        }
        let of = |url: &str| origin(&url.parse().unwrap());
        assert_eq!(of("https://Hub.Example/x"), of("https://hub.example:443"));
        assert_ne!(of("https://hub.example/x"), of("http://hub.example:443/x"));
        assert_ne!(of("https://hub.example"), of("https://hub.example.evil.example"));
        assert_eq!(of("ftp://hub.example"), None);
    }

    #[test]
    fn pages() {
        let link = r#"<https://e/first>; rel="first", <https://e/t?cursor=a%3D&x=1>; title="x"; rel="next""#;
        assert_eq!(next_page(link), Some("https://e/t?cursor=a%3D&x=1"));
        assert_eq!(next_page(r#"<https://e/p>; rel="prev""#), None);
        assert_eq!(next_page("x"), None);
    }

    #[test]
    fn endpoints() {
        let with = |endpoint: &str, token: Option<&str>| {
            let token = token.map(str::to_owned);
            Client::new(&Options { endpoint: endpoint.to_owned(), token, ..Options::new("cache") }).map(|c| c.endpoint)
        };
        assert_eq!(with("https://mirror.example/hub/", None).unwrap(), "https://mirror.example/hub");
        for bad in ["", "mirror.example", "ftp://x", "https://user:word@x", "https://x?y", "https://", "file:///x"] {
            assert_eq!(with(bad, None).unwrap_err().code(), "bad_request", "{bad}");
        }
        assert!(with("https://x", Some("hf_abc")).is_ok());
        assert!(with("https://x", Some("hf\r\nabc")).is_err());
    }
}
