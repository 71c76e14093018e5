//! An HTTP server whose responses a test defines, valid or invalid.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The name of the served model.
pub const MODEL: &str = "google/mobilenet_v1_0.25_128";

/// Its commit.
pub const COMMIT: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// An HTTP request.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns whether this is a GET of the file.
    pub fn gets(&self, file: &str) -> bool {
        self.method == "GET" && self.is_for(file)
    }

    /// Returns whether this request, GET or HEAD, is for the file.
    pub fn is_for(&self, file: &str) -> bool {
        self.path.ends_with(&format!("/{file}"))
    }

    /// Returns whether this request is for the model's list of files.
    pub fn lists(&self) -> bool {
        self.path.starts_with("/api/")
    }

    fn read(stream: &TcpStream) -> Option<Self> {
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next()?.ok()?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let mut headers = BTreeMap::new();
        for line in lines {
            let line = line.ok()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        Some(Self { method, path, headers })
    }
}

/// The server's behaviour after it has sent a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Close,
    /// Keeps the connection open and sends nothing, until the client closes it.
    Stall,
    /// Sends a byte every 100 ms, until the client closes the connection.
    Drip,
}

/// An HTTP response. Its parts may contradict each other.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub then: Then,
    /// Bytes to send in place of status, headers and body.
    pub instead: Option<&'static str>,
}

impl Response {
    /// A response with the correct Content-Length.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let new = Self { status, headers: BTreeMap::new(), body, then: Then::Close, instead: None };
        let length = new.body.len().to_string();
        new.with("Content-Length", length)
    }

    /// A redirect.
    pub fn to(address: impl Into<String>) -> Self {
        Self::new(302, "moved").with("Location", address)
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    pub fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    /// Sends the body as one chunk, without Content-Length.
    pub fn chunked(mut self) -> Self {
        let chunk = [format!("{:x}\r\n", self.body.len()).as_bytes(), &self.body, b"\r\n0\r\n\r\n"].concat();
        self.body = chunk;
        self.without("Content-Length").with("Transfer-Encoding", "chunked")
    }

    fn write(&self, mut stream: &TcpStream, request: &Request) -> std::io::Result<()> {
        let mut bytes = format!("HTTP/1.1 {} Whatever\r\nConnection: close\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend(b"\r\n");
        if request.method != "HEAD" {
            bytes.extend(&self.body);
        }
        stream.write_all(self.instead.map_or(bytes.as_slice(), str::as_bytes))?;
        match self.then {
            Then::Close => {}
            // Wait until the client closes the connection.
            Then::Stall => drop(stream.read(&mut [0])?),
            Then::Drip => loop {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(100));
            },
        }
        Ok(())
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    closed: Arc<AtomicBool>,
}

impl Server {
    pub fn new(respond: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let new = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            closed: Arc::default(),
        };
        let (requests, closed, respond) = (new.requests.clone(), new.closed.clone(), Arc::new(respond));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    break;
                }
                let (requests, respond) = (requests.clone(), respond.clone());
                thread::spawn(move || {
                    let stream = stream.unwrap();
                    let Some(request) = Request::read(&stream) else { return };
                    requests.lock().unwrap().push(request.clone());
                    // In many tests, the client closes the connection early.
                    let _ = respond(&request).write(&stream, &request);
                });
            }
        });
        new
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// The files of a model, and how a hub serves them.
#[derive(Clone)]
pub struct Files(pub BTreeMap<String, Vec<u8>>);

impl Files {
    /// The files of the seeded network.
    pub fn seeded() -> Self {
        let entries = fs::read_dir(super::SEEDED).unwrap().map(|entry| entry.unwrap());
        let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
        Self(entries.map(|entry| (name(&entry), fs::read(entry.path()).unwrap())).collect())
    }

    /// Replaces or adds a file.
    pub fn with(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.insert(name.into(), bytes.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// The etag of a file: SHA-256 for the weights, git's SHA-1 for small files.
    pub fn etag(&self, name: &str) -> String {
        let bytes = &self.0[name];
        let hash = if name == "model.safetensors" {
            Sha256::digest(bytes).to_vec()
        } else {
            let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
            Sha1::digest(blob).to_vec()
        };
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The response of an honest hub.
    pub fn respond(&self, request: &Request) -> Response {
        let revision = request.path.strip_prefix(&format!("/api/models/{MODEL}/revision/"));
        if revision.is_some_and(|revision| ["main", "refs%2Fpr%2F1", COMMIT].contains(&revision)) {
            let names: Vec<_> = self.0.keys().map(|name| json!({ "rfilename": name })).collect();
            return Response::new(200, json!({ "sha": COMMIT, "siblings": names }).to_string());
        }
        let file = request.path.strip_prefix(&format!("/{MODEL}/resolve/{COMMIT}/"));
        let Some((name, bytes)) = file.and_then(|name| self.0.get_key_value(name)) else {
            return Response::new(if request.path.contains("/private/") { 401 } else { 404 }, "");
        };
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let response = match range.map(|first| first.parse::<usize>().unwrap()) {
            Some(first) => {
                let range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
                Response::new(206, &bytes[first..]).with("Content-Range", range)
            }
            None => Response::new(200, bytes.as_slice()),
        };
        response.with("ETag", format!("\"{}\"", self.etag(name))).with("X-Repo-Commit", COMMIT)
    }

    /// A hub that serves these files and passes every response through `change`.
    pub fn serve(self, change: impl Fn(&Request, Response) -> Response + Send + Sync + 'static) -> Server {
        Server::new(move |request| change(request, self.respond(request)))
    }
}
