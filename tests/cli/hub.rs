//! `--model`: checkpoints from servers with the API of the Hugging Face hub.

mod hostile;
mod interrupted;
mod server;
mod shared;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{CAT, SEEDED, failure, goldcrest, names, only_picture, refused};
use server::{COMMIT, Files, MODEL, Response, Server};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";

/// The classes in a command's JSON report.
#[track_caller]
fn classes_of(command: Command) -> serde_json::Value {
    only_picture(command)["classes"].clone()
}

/// An honest hub.
fn honest() -> Server {
    Files::seeded().serve(|_, response| response)
}

/// A hub's list of these files of the model.
fn listing(names: &[&str]) -> Response {
    let names: Vec<_> = names.iter().map(|name| serde_json::json!({ "rfilename": name })).collect();
    Response::new(200, serde_json::json!({ "sha": COMMIT, "siblings": names }).to_string())
}

/// `classify` with a model of the hub at `address`, cached in `home`.
fn classify(model: &str, address: &str, home: &Path) -> Command {
    let mut command = goldcrest(["classify", CAT, "--backend", "cpu", "--json", "--model", model]);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_uppercase();
        if text.starts_with("HF_") || text.starts_with("HUGGING") || text.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command.env_remove("TRANSFORMERS_OFFLINE").env_remove("XDG_CACHE_HOME");
    command.env("HF_HOME", home).env("HF_ENDPOINT", address);
    command
}

/// `classify` with the model that the hub serves.
fn fetch(hub: &Server, home: &Path) -> Command {
    classify(MODEL, &hub.address(), home)
}

fn offline(mut command: Command) -> Command {
    command.env("HF_HUB_OFFLINE", "1");
    command
}

/// The classes with the local files of the model.
fn expected() -> serde_json::Value {
    classes_of(goldcrest(["classify", CAT, "--backend", "cpu", "--json", "--weights", SEEDED]))
}

fn folder(home: &Path) -> PathBuf {
    home.join("hub/models--google--mobilenet_v1_0.25_128")
}

fn snapshot(home: &Path) -> PathBuf {
    folder(home).join("snapshots").join(COMMIT)
}

fn blob(home: &Path, file: &str) -> PathBuf {
    folder(home).join("blobs").join(Files::seeded().etag(file))
}

fn partial(home: &Path, file: &str) -> PathBuf {
    blob(home, file).with_extension("incomplete")
}

/// Changes an honest response.
type Change = fn(Response) -> Response;

/// Returns whether this cache counts the model as complete.
fn is_complete(home: &Path) -> bool {
    folder(home).join("refs/main").exists() || snapshot(home).join(WEIGHTS).exists()
}

#[test]
fn a_model_is_fetched_once_and_then_needs_no_network() {
    let home = tempfile::tempdir().unwrap();
    let hub = honest();
    let address = hub.address();
    let expected = expected();
    assert_eq!(classes_of(fetch(&hub, home.path())), expected);
    assert!(!hub.requests().is_empty());
    assert_eq!(classes_of(fetch(&hub, home.path())), expected);
    assert_eq!(hub.requests().len(), 0, "cached files are not requested again");

    drop(hub);
    assert_eq!(classes_of(classify(MODEL, &address, home.path())), expected);
    assert_eq!(classes_of(offline(classify(MODEL, &address, home.path()))), expected);
}

#[test]
fn a_revision_is_a_branch_or_a_commit() {
    let home = tempfile::tempdir().unwrap();
    let hub = honest();
    let at = |revision: &str| classify(&format!("{MODEL}@{revision}"), &hub.address(), home.path());
    classes_of(at("refs/pr/1"));
    assert_eq!(fs::read_to_string(folder(home.path()).join("refs/refs/pr/1")).unwrap(), COMMIT);
    // A cached commit needs neither a branch name nor the network.
    classes_of(offline(at(COMMIT)));
    assert_eq!(names(&folder(home.path()).join("refs")), ["refs"]);
    // A server that returns another commit than the requested one is refused.
    let other = "0123456789".repeat(4);
    let hub = Files::seeded()
        .serve(|request, response| if request.lists() { listing(&[WEIGHTS]) } else { response });
    let pinned = format!("{MODEL}@{other}");
    refused(classify(&pinned, &hub.address(), home.path()), &[MODEL, &hub.address(), COMMIT]);
    refused(at("none"), &[MODEL, "no such model or revision"]);
}

/// The layout that the Python client huggingface_hub writes and reads.
#[test]
fn the_cache_has_the_layout_of_huggingface_hub() {
    let home = tempfile::tempdir().unwrap();
    classes_of(fetch(&honest(), home.path()));
    let files = ["config.json", "model.safetensors", "preprocessor_config.json"];
    assert_eq!(names(&snapshot(home.path())), files);
    assert_eq!(fs::read_to_string(folder(home.path()).join("refs/main")).unwrap(), COMMIT);
    let mut etags = files.map(|name| Files::seeded().etag(name));
    let locks = home.path().join("hub/.locks/models--google--mobilenet_v1_0.25_128");
    for (name, etag) in files.iter().zip(&etags) {
        let served = fs::read(Path::new(SEEDED).join(name)).unwrap();
        assert!(fs::read(snapshot(home.path()).join(name)).unwrap() == served);
        assert!(locks.join(format!("{etag}.lock")).exists());
        #[cfg(unix)]
        assert_eq!(
            fs::read_link(snapshot(home.path()).join(name)).unwrap(),
            Path::new("../../blobs").join(etag)
        );
    }
    etags.sort();
    assert_eq!(names(&folder(home.path()).join("blobs")), etags);

    // Variables that set the folder of the cache, in ascending priority.
    let (hub, other) = (honest(), tempfile::tempdir().unwrap());
    let cached = "models--google--mobilenet_v1_0.25_128";
    for (name, value, cache) in [
        ("XDG_CACHE_HOME", other.path().join("x"), "x/huggingface/hub"),
        ("HF_HOME", "~/y".into(), "y/hub"),
        ("HF_HUB_CACHE", other.path().join("z"), "z"),
    ] {
        let mut command = fetch(&hub, home.path());
        command.env("HOME", other.path());
        if name != "HF_HUB_CACHE" {
            command.env_remove("HF_HOME");
        }
        command.env(name, value);
        classes_of(command);
        assert!(other.path().join(cache).join(cached).join("refs/main").exists(), "{name}");
    }
}

#[test]
fn a_missing_network_or_model_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    refused(classify(MODEL, "http://127.0.0.1:9", home.path()), &[MODEL, "cannot be reached", "127.0.0.1:9"]);
    for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let mut command = classify(MODEL, "http://127.0.0.1:9", home.path());
        command.env(variable, "1");
        refused(command, &[MODEL, &format!("{variable} forbids")]);
    }
    let invalid = ["huggingface.co", "ftp://huggingface.co", "https://", "http://user:secret@127.0.0.1"];
    for address in invalid {
        refused(classify(MODEL, address, home.path()), &[MODEL, "HF_ENDPOINT"]);
    }

    let hub = honest();
    let address = hub.address();
    refused(classify("timm/none", &address, home.path()), &["timm/none", &address, "no such model"]);
    let private = || classify("private/one", &address, home.path());
    refused(private(), &["private/one", &address, "no such model", "check the name", "set HF_TOKEN"]);
    let mut command = private();
    command.env("HF_TOKEN", "hf_expired");
    refused(command, &["private/one", &address, "refuses the access token", "HF_TOKEN"]);
    refused(classify("nonsense", &address, home.path()), &["nonsense", "not a model's name"]);
    assert!(failure(goldcrest(["inspect", "--model", MODEL, "--weights", SEEDED]), 2).contains("--model"));
    let without = ["inspect", "--weights", SEEDED, "--hub-timeout", "9"];
    assert!(failure(goldcrest(without), 2).contains("--hub-timeout"));
}

#[test]
fn a_model_without_safetensors_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let without = Files::seeded().without(WEIGHTS);
    let hub = without.clone().serve(|_, response| response);
    refused(fetch(&hub, home.path()), &[MODEL, "has no model.safetensors"]);
    let hub = without.with("pytorch_model.bin", b"PK").serve(|_, response| response);
    refused(fetch(&hub, home.path()), &[".bin", ".pth"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_cache_that_cannot_be_written() {
    refused(fetch(&honest(), Path::new("/proc/nowhere")), &[MODEL, "cannot be stored", "/proc/nowhere"]);
}

/// Without HOME, the user database gives the home folder. A user who is not in it has to set HF_HOME.
#[test]
#[cfg(unix)]
fn a_user_without_a_home() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};

    let hub = honest();
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let nobody = |home: Option<&Path>| {
        let mut command = fetch(&hub, Path::new(""));
        command.env_remove("HOME").env_remove("HF_HOME").uid(54_321);
        if let Some(home) = home {
            command.env("HF_HOME", home);
        }
        command
    };
    // Only root may change the user, and only if that user can read the program.
    let mut help = nobody(None);
    if let Err(error) = help.arg("--help").output() {
        eprintln!("not tested without HOME: cannot run as another user: {error}");
        return;
    }
    refused(nobody(None), &[MODEL, "no home folder", "HF_HOME"]);
    assert_eq!(classes_of(nobody(Some(home.path()))), expected());
    // Without a home folder, no login token is read.
    let mut command = nobody(None);
    command.env("HF_HUB_CACHE", home.path().join("hub"));
    assert_eq!(classes_of(command), expected());
}
