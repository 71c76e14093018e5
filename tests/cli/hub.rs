//! `--model`: checkpoints from a server that serves what the Hugging Face hub does, in its layout.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use tiny_http::{Header, Request, Response, Server};

use super::{CAT, SEEDED, failure, goldcrest, json, names, refused};

const MODEL: &str = "google/mobilenet_v1_0.25_128";

/// A hub of one model, as long as it lives.
struct Hub {
    server: Arc<Server>,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Hub {
    /// Serves the files of a folder.
    fn of(folder: &str) -> Self {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files = entries.map(|path| (name(&path), fs::read(&path).unwrap()));
        let files = Arc::new(Mutex::new(files.collect()));
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let (serving, served) = (server.clone(), files.clone());
        thread::spawn(move || {
            for request in serving.incoming_requests() {
                serve(request, &served.lock().unwrap());
            }
        });
        Self { server, files }
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        self.files.lock().unwrap().insert(name.into(), bytes.into());
    }

    fn remove(&self, name: &str) -> Vec<u8> {
        self.files.lock().unwrap().remove(name).unwrap()
    }

    fn address(&self) -> String {
        format!("http://{}", self.server.server_addr())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.server.unblock();
    }
}

fn serve(request: Request, files: &BTreeMap<String, Vec<u8>>) {
    let header = |name: &str, value: &str| Header::from_bytes(name, value).unwrap();
    let url = request.url().to_owned();
    if url == format!("/api/models/{MODEL}/revision/main") {
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let text = serde_json::json!({ "sha": "c0ffee", "siblings": siblings }).to_string();
        request.respond(Response::from_string(text)).unwrap();
        return;
    }
    let Some(bytes) = url.strip_prefix(&format!("/{MODEL}/resolve/main/")).and_then(|name| files.get(name))
    else {
        let status = if url.contains("/private/") { 401 } else { 404 };
        request.respond(Response::empty(status)).unwrap();
        return;
    };
    // What is asked for is always a range: the first byte, to learn the size, or all from some byte on.
    let range = request.headers().iter().find(|header| header.field.equiv("Range")).expect("a range");
    let (first, last) = range.value.as_str().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, end) =
        (first.parse::<usize>().unwrap(), last.parse().map_or(bytes.len(), |last: usize| last + 1));
    let body = bytes[first..end].to_vec();
    let response = Response::from_data(body)
        .with_status_code(206)
        .with_header(header("Content-Range", &format!("bytes {first}-{}/{}", end - 1, bytes.len())))
        .with_header(header("ETag", &format!("\"{:x}-{}\"", bytes.len(), bytes[0])))
        .with_header(header("X-Repo-Commit", "c0ffee"));
    request.respond(response).unwrap();
}

/// `classify` with a model of the hub at `address`, cached in `home`.
fn classify(model: &str, address: &str, home: &Path) -> Command {
    let mut command = goldcrest(["classify", CAT, "--backend", "cpu", "--json", "--model", model]);
    command.env("HF_HOME", home).env("HF_ENDPOINT", address);
    for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
}

#[test]
fn a_model_is_fetched_once_and_then_needs_no_network() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::of(SEEDED);
    let address = hub.address();
    let expected = json(goldcrest(["classify", CAT, "--backend", "cpu", "--json", "--weights", SEEDED]));
    assert_eq!(json(classify(MODEL, &address, home.path())), expected);

    let snapshot = home.path().join("hub/models--google--mobilenet_v1_0.25_128/snapshots/c0ffee");
    assert_eq!(names(&snapshot), ["config.json", "model.safetensors", "preprocessor_config.json"]);
    drop(hub);
    assert_eq!(json(classify(MODEL, &address, home.path())), expected);
    let mut command = classify(MODEL, &address, home.path());
    command.env("HF_HUB_OFFLINE", "1");
    assert_eq!(json(command), expected);
}

#[test]
fn without_a_network_or_the_model_it_says_so() {
    let home = tempfile::tempdir().unwrap();
    let gone = Hub::of(SEEDED).address();
    refused(classify(MODEL, "http://127.0.0.1:9", home.path()), &[MODEL, "cannot be reached", "127.0.0.1:9"]);
    let mut command = classify(MODEL, &gone, home.path());
    command.env("HF_HUB_OFFLINE", "1");
    refused(command, &[MODEL, "HF_HUB_OFFLINE"]);

    let hub = Hub::of(SEEDED);
    refused(classify("timm/none", &hub.address(), home.path()), &["timm/none", "no such model"]);
    refused(classify("private/one", &hub.address(), home.path()), &["private/one", "HF_TOKEN"]);
    refused(classify("nonsense", &hub.address(), home.path()), &["nonsense", "no model's name"]);
    assert!(failure(goldcrest(["inspect", "--model", MODEL, "--weights", SEEDED]), 2).contains("--model"));
}

#[test]
fn what_comes_damaged_is_not_kept() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::of(SEEDED);
    let whole = hub.remove("model.safetensors");
    refused(classify(MODEL, &hub.address(), home.path()), &[MODEL, "has no model.safetensors"]);
    hub.put("pytorch_model.bin", b"PK");
    refused(classify(MODEL, &hub.address(), home.path()), &["pickle", "README"]);

    hub.put("model.safetensors", &whole[..whole.len() - 9]);
    refused(classify(MODEL, &hub.address(), home.path()), &[MODEL, "damaged", "truncated"]);
    hub.put("model.safetensors", b"<html>sorry</html>");
    refused(classify(MODEL, &hub.address(), home.path()), &[MODEL, "damaged"]);

    hub.put("model.safetensors", &whole);
    json(classify(MODEL, &hub.address(), home.path()));
}

#[test]
#[cfg(target_os = "linux")]
fn a_cache_that_cannot_be_written() {
    let hub = Hub::of(SEEDED);
    refused(
        classify(MODEL, &hub.address(), Path::new("/proc/nowhere")),
        &[MODEL, "cannot be kept", "/proc/nowhere"],
    );
}
