//! A server of HTTP that says whatever a test wants of it, right or wrong.

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

/// The name of the model that is served.
pub const MODEL: &str = "google/mobilenet_v1_0.25_128";

/// Its commit.
pub const COMMIT: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    headers: BTreeMap<String, String>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether it asks for a file's bytes.
    pub fn gets(&self, file: &str) -> bool {
        self.method == "GET" && self.is_of(file)
    }

    /// Whether it is about a file.
    pub fn is_of(&self, file: &str) -> bool {
        self.path.ends_with(&format!("/{file}"))
    }

    /// Whether it asks what is in the model.
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

/// What a server does once it has sent its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Close,
    /// Sends nothing more, for as long as the other side waits.
    Stall,
    /// Sends a byte now and then, for as long as the other side waits.
    Drip,
}

/// An answer. Nothing in it has to fit.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub then: Then,
    /// Sent in place of all that, if anything.
    pub instead: Option<&'static str>,
}

impl Answer {
    /// With a length that is right.
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

    /// In one chunk, without a length.
    pub fn chunked(mut self) -> Self {
        let chunk = [format!("{:x}\r\n", self.body.len()).as_bytes(), &self.body, b"\r\n0\r\n\r\n"].concat();
        self.body = chunk;
        self.without("Content-Length").with("Transfer-Encoding", "chunked")
    }

    fn write(&self, mut stream: &TcpStream, asked: &Asked) -> std::io::Result<()> {
        let mut bytes = format!("HTTP/1.1 {} Whatever\r\nConnection: close\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend(b"\r\n");
        if asked.method != "HEAD" {
            bytes.extend(&self.body);
        }
        stream.write_all(self.instead.map_or(bytes.as_slice(), str::as_bytes))?;
        match self.then {
            Then::Close => {}
            // Until the other side has had enough.
            Then::Stall => drop(stream.read(&mut [0])?),
            Then::Drip => loop {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(100));
            },
        }
        Ok(())
    }
}

/// A server, as long as it lives.
pub struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    closed: Arc<AtomicBool>,
}

impl Server {
    pub fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let new =
            Self { address: listener.local_addr().unwrap(), asked: Arc::default(), closed: Arc::default() };
        let (asked, closed, answer) = (new.asked.clone(), new.closed.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    break;
                }
                let (asked, answer) = (asked.clone(), answer.clone());
                thread::spawn(move || {
                    let stream = stream.unwrap();
                    let Some(request) = Asked::read(&stream) else { return };
                    asked.lock().unwrap().push(request.clone());
                    // A client that goes away early is part of many tests.
                    let _ = answer(&request).write(&stream, &request);
                });
            }
        });
        new
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
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
    /// Those of the seeded network.
    pub fn seeded() -> Self {
        let entries = fs::read_dir(super::SEEDED).unwrap().map(|entry| entry.unwrap());
        let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
        Self(entries.map(|entry| (name(&entry), fs::read(entry.path()).unwrap())).collect())
    }

    /// The same with one file changed.
    pub fn with(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.insert(name.into(), bytes.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// A file's etag: sha256 of what is large, else git's sha1.
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

    /// What an honest hub answers.
    pub fn answer(&self, asked: &Asked) -> Answer {
        let revision = asked.path.strip_prefix(&format!("/api/models/{MODEL}/revision/"));
        if revision.is_some_and(|revision| ["main", "refs%2Fpr%2F1", COMMIT].contains(&revision)) {
            let names: Vec<_> = self.0.keys().map(|name| json!({ "rfilename": name })).collect();
            return Answer::new(200, json!({ "sha": COMMIT, "siblings": names }).to_string());
        }
        let file = asked.path.strip_prefix(&format!("/{MODEL}/resolve/{COMMIT}/"));
        let Some((name, bytes)) = file.and_then(|name| self.0.get_key_value(name)) else {
            return Answer::new(if asked.path.contains("/private/") { 401 } else { 404 }, "");
        };
        let range = asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let answer = match range.map(|first| first.parse::<usize>().unwrap()) {
            Some(first) => {
                let range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
                Answer::new(206, &bytes[first..]).with("Content-Range", range)
            }
            None => Answer::new(200, bytes.as_slice()),
        };
        answer.with("ETag", format!("\"{}\"", self.etag(name))).with("X-Repo-Commit", COMMIT)
    }

    /// A hub that serves them, with a change to some answers.
    pub fn served(self, change: impl Fn(&Asked, Answer) -> Answer + Send + Sync + 'static) -> Server {
        Server::new(move |asked| change(asked, self.answer(asked)))
    }
}
