//! Requests to the hub. The server is not trusted: redirects are checked one by one, the token is sent only
//! to the hub itself, and every response is bounded in time and size.

use std::{io::Read, time::Duration};

use serde::Deserialize;
use ureq::{
    Agent, Body, Timeout,
    http::{HeaderMap, Response, StatusCode, Uri, header},
};
use web_time::Instant;

use super::{
    Limits, SMALL,
    address::{Origin, redirected},
    environment,
    names::{Etag, is_commit, shown},
};

/// The maximum number of redirects per request. The hub redirects once or twice.
const REDIRECTS: usize = 10;

/// The kind of a request for a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Query {
    /// Its etag and size, which come from the hub itself, even if another server stores the file.
    Facts,
    /// Its content from this byte on.
    Bytes(u64),
}

/// A client of the hub.
pub struct Client {
    agent: Agent,
    endpoint: String,
    origin: Origin,
    token: Option<String>,
    limits: Limits,
}

/// The content of a model at a revision.
#[derive(Deserialize)]
pub struct Listing {
    /// The commit.
    pub sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Listing {
    /// The names of its files. They are not trusted: compare them, and never use them as paths.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.siblings.iter().map(|file| file.rfilename.as_str())
    }
}

/// The etag and size that the hub announces for a file.
pub struct Facts {
    pub etag: Etag,
    pub size: u64,
}

/// A running download.
pub struct Download {
    /// The position of the first byte in the file.
    pub from: u64,
    origin: Origin,
    body: ureq::BodyReader<'static>,
}

impl Client {
    pub fn new(limits: &Limits) -> Result<Self, String> {
        // Instants and sockets accept neither a zero nor an infinite timeout.
        let sane = |time: Duration| time.clamp(Duration::from_millis(1), Duration::from_secs(365 * 86_400));
        let limits = Limits {
            connect: sane(limits.connect),
            read_timeout: sane(limits.read_timeout),
            download_timeout: sane(limits.download_timeout),
            ..limits.clone()
        };
        let endpoint = environment::endpoint();
        let address = endpoint.parse().ok().filter(|uri: &Uri| uri.query().is_none());
        let origin = address.as_ref().and_then(Origin::of).ok_or_else(|| {
            format!("HF_ENDPOINT, {}, is not an address such as https://huggingface.co", shown(&endpoint))
        })?;
        let config = Agent::config_builder()
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_per_read(Some(limits.read_timeout))
            .timeout_per_write(Some(limits.read_timeout))
            .max_redirects(0)
            // Idle connections are not reused, because the server may have closed them.
            .max_idle_connections(0)
            .http_status_as_error(false)
            .user_agent(concat!("goldcrest/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .build();
        Ok(Self { agent: config.into(), endpoint, origin, token: environment::token()?, limits })
    }

    /// The time limit of one download.
    pub fn timeout(&self) -> Duration {
        self.limits.download_timeout
    }

    /// Lists the content of a model.
    pub fn listing(&self, model: &str, revision: &str) -> Result<Listing, String> {
        let path = format!("/api/models/{model}/revision/{}", revision.replace('/', "%2F"));
        let (origin, mut response) = self.follow(&path, Query::Bytes(0), "such model or revision")?;
        let mut text = Vec::new();
        let mut body = response.body_mut().as_reader().take(SMALL + 1);
        body.read_to_end(&mut text)
            .map_err(|error| self.failure(error.into(), &origin, "stopped sending"))?;
        if text.len() as u64 > SMALL {
            return Err(format!("{origin} sends a listing of more than {SMALL} bytes"));
        }
        let listing: Listing = serde_json::from_slice(&text)
            .map_err(|error| format!("{origin} sends an invalid listing: {}", shown(&error.to_string())))?;
        if !is_commit(&listing.sha) {
            return Err(format!(
                "{origin} names {} as the commit, which is not a commit hash",
                shown(&listing.sha)
            ));
        }
        if is_commit(revision) && listing.sha != revision {
            return Err(format!("{origin} offers the commit {} instead of the requested one", listing.sha));
        }
        Ok(listing)
    }

    /// Asks the hub itself for the etag and size of a file, even if another server stores it.
    pub fn facts(&self, path: &str, commit: &str, largest: u64) -> Result<Facts, String> {
        let (origin, response) = self.follow(path, Query::Facts, "such file")?;
        let headers = response.headers();
        let first = |names: &[&str]| names.iter().find_map(|name| text(headers, name));
        let wrong = |what: &str, found: Option<&str>| {
            let found = found.map_or_else(|| "nothing".into(), shown);
            format!("{origin} sends {found} instead of {what}")
        };
        let at = first(&["x-repo-commit"]);
        if at != Some(commit) {
            return Err(wrong(&format!("the commit {commit}"), at));
        }
        let etag = first(&["x-linked-etag", "etag"]);
        let etag = etag.and_then(Etag::parse).ok_or_else(|| wrong("the file's etag", etag))?;
        // The content length of a redirect is not the file's size.
        let lengths = ["x-linked-size", "content-length"];
        let size = first(&lengths[..if response.status().is_redirection() { 1 } else { 2 }]);
        let size = size.and_then(number).ok_or_else(|| wrong("the file's size", size))?;
        let largest = largest.min(self.limits.max_bytes);
        if size > largest {
            return Err(format!("{origin} announces {size} bytes, but the limit is {largest}"));
        }
        Ok(Facts { etag, size })
    }

    /// Starts the download of a file of `size` bytes, from byte `from` on if the server supports ranges.
    pub fn download(&self, path: &str, from: u64, size: u64) -> Result<Download, String> {
        let (origin, response) = self.follow(path, Query::Bytes(from), "such file")?;
        let headers = response.headers();
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {from}-{}/{size}", size.saturating_sub(1));
        let unfit = response.status() == StatusCode::RANGE_NOT_SATISFIABLE
            || partial && text(headers, "content-range") != Some(&range);
        if unfit && from > 0 {
            return self.download(path, 0, size);
        }
        if unfit || partial && from == 0 {
            return Err(format!("{origin} sends another part of the file than requested"));
        }
        let from = if partial { from } else { 0 };
        if text(headers, "content-encoding").is_some_and(|coding| coding != "identity") {
            return Err(format!("{origin} sends the file compressed, although it was asked not to"));
        }
        let length = text(headers, "content-length");
        if let Some(length) = length.filter(|length| number(length) != Some(size - from)) {
            let length = shown(length);
            return Err(format!("{origin} sends {length} bytes where it announced {}", size - from));
        }
        Ok(Download { from, origin, body: response.into_body().into_reader() })
    }

    /// Reads the next bytes; returns 0 at the end.
    pub fn read(&self, download: &mut Download, buffer: &mut [u8]) -> Result<usize, String> {
        let read = download.body.read(buffer);
        read.map_err(|error| self.failure(error.into(), &download.origin, "stopped sending"))
    }

    /// Sends a request and follows redirects. For [`Query::Facts`] a redirect to another server is itself the
    /// response, since the facts come from the hub.
    fn follow(&self, path: &str, query: Query, what: &str) -> Result<(Origin, Response<Body>), String> {
        let until = Instant::now() + self.limits.download_timeout;
        let address = format!("{}{path}", self.endpoint);
        let mut uri: Uri = address.parse().map_err(|_| format!("{} is not an address", shown(&address)))?;
        let mut origin = self.origin.clone();
        for _ in 0..=REDIRECTS {
            let response = self.send(&uri, &origin, query, until)?;
            let status = response.status();
            let moved = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !moved {
                return match status.as_u16() {
                    200 | 206 => Ok((origin, response)),
                    416 if query != Query::Facts => Ok((origin, response)),
                    code => Err(self.refusal(code, &origin, what)),
                };
            }
            let location = text(response.headers(), "location").unwrap_or_default();
            let (next, target) = redirected(&uri, &origin, location)?;
            if query == Query::Facts && target != self.origin {
                return Ok((origin, response));
            }
            (uri, origin) = (next, target);
        }
        Err(format!("{} redirects more than {REDIRECTS} times", self.origin))
    }

    /// Sends one request.
    fn send(
        &self,
        uri: &Uri,
        origin: &Origin,
        query: Query,
        until: Instant,
    ) -> Result<Response<Body>, String> {
        let request = match query {
            Query::Facts => self.agent.head(uri),
            Query::Bytes(_) => self.agent.get(uri),
        };
        let left = until.saturating_duration_since(Instant::now());
        let mut request = request.config().timeout_global(Some(left)).build();
        if let Query::Bytes(from @ 1..) = query {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| *origin == self.origin) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.call().map_err(|error| self.failure(error, origin, "cannot be reached"))
    }

    /// The error message for a status that is not a success.
    fn refusal(&self, status: u16, origin: &Origin, what: &str) -> String {
        match (status, &self.token) {
            // The hub does not tell who is not logged in whether a model is private or does not exist.
            (401 | 403, None) if *origin == self.origin => format!(
                "{origin} has no {what}, or requires a login for it: check the name, log in there, \
                 or set HF_TOKEN"
            ),
            // The hub refuses an invalid token for public models too.
            (401 | 403, Some(_)) if *origin == self.origin => format!(
                "{origin} refuses the access token (HF_TOKEN or the login's token file), \
                 or the token gives no access to this model"
            ),
            (404, _) => format!("{origin} has no {what}"),
            _ => format!("{origin} answers with status {status}"),
        }
    }

    /// The error message for a failed request.
    fn failure(&self, error: ureq::Error, origin: &Origin, otherwise: &str) -> String {
        let Limits { connect, read_timeout, download_timeout, .. } = &self.limits;
        match error {
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                format!("{origin} cannot be reached within {connect:?}")
            }
            ureq::Error::Timeout(Timeout::PerRead | Timeout::PerWrite) => {
                format!("{origin} sent nothing for {read_timeout:?}: try again, or allow more time")
            }
            ureq::Error::Timeout(_) => {
                format!("{origin} took longer than {download_timeout:?}: allow more time")
            }
            ureq::Error::Protocol(error) => {
                format!("{origin} does not send valid HTTP: {}", shown(&error.to_string()))
            }
            other => format!("{origin} {otherwise}: {}", shown(&other.to_string())),
        }
    }
}

/// A header's text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Parses a number of decimal digits only.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_digits() {
        assert_eq!(number("0123"), Some(123));
        for wrong in ["", "-1", "+1", "1e3", "0x10", " 1", "18446744073709551616"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
