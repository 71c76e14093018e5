//! `--model`: checkpoints from servers that serve what the Hugging Face hub does, in its layout.

mod hostile;
mod interrupted;
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{CAT, SEEDED, failure, goldcrest, names, refused, seen};
use server::{Answer, COMMIT, Files, MODEL, Server};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";

/// The classes that a command finds, in JSON.
#[track_caller]
fn json(command: Command) -> serde_json::Value {
    seen(command)["classes"].clone()
}

/// An honest hub.
fn honest() -> Server {
    Files::seeded().served(|_, answer| answer)
}

/// What a hub says of a model that has these files.
fn listing(names: &[&str]) -> Answer {
    let names: Vec<_> = names.iter().map(|name| serde_json::json!({ "rfilename": name })).collect();
    Answer::new(200, serde_json::json!({ "sha": COMMIT, "siblings": names }).to_string())
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

/// The same with a model that is there.
fn fetch(hub: &Server, home: &Path) -> Command {
    classify(MODEL, &hub.address(), home)
}

fn offline(mut command: Command) -> Command {
    command.env("HF_HUB_OFFLINE", "1");
    command
}

/// What the network says, with the files where they always are.
fn expected() -> serde_json::Value {
    json(goldcrest(["classify", CAT, "--backend", "cpu", "--json", "--weights", SEEDED]))
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

/// What a server makes of an honest answer.
type Change = fn(Answer) -> Answer;

/// Whether a model of this cache counts as there.
fn is_complete(home: &Path) -> bool {
    folder(home).join("refs/main").exists() || snapshot(home).join(WEIGHTS).exists()
}

#[test]
fn a_model_is_fetched_once_and_then_needs_no_network() {
    let home = tempfile::tempdir().unwrap();
    let hub = honest();
    let address = hub.address();
    let expected = expected();
    assert_eq!(json(fetch(&hub, home.path())), expected);
    assert!(!hub.asked().is_empty());
    assert_eq!(json(fetch(&hub, home.path())), expected);
    assert_eq!(hub.asked().len(), 0, "what is there is not asked for again");

    drop(hub);
    assert_eq!(json(classify(MODEL, &address, home.path())), expected);
    assert_eq!(json(offline(classify(MODEL, &address, home.path()))), expected);
}

#[test]
fn a_revision_is_a_branch_or_a_commit() {
    let home = tempfile::tempdir().unwrap();
    let hub = honest();
    let at = |revision: &str| classify(&format!("{MODEL}@{revision}"), &hub.address(), home.path());
    json(at("refs/pr/1"));
    assert_eq!(fs::read_to_string(folder(home.path()).join("refs/refs/pr/1")).unwrap(), COMMIT);
    // What is there of a commit needs neither a name nor a network.
    json(offline(at(COMMIT)));
    assert_eq!(names(&folder(home.path()).join("refs")), ["refs"]);
    // A commit that somebody names is that one and no other.
    let other = "0123456789".repeat(4);
    let hub =
        Files::seeded().served(|asked, answer| if asked.lists() { listing(&[WEIGHTS]) } else { answer });
    let pinned = format!("{MODEL}@{other}");
    refused(classify(&pinned, &hub.address(), home.path()), &[MODEL, &hub.address(), COMMIT]);
    refused(at("none"), &[MODEL, "no such model or revision"]);
}

/// As huggingface_hub's Python client writes it, and reads it.
#[test]
fn the_cache_has_the_hubs_own_layout() {
    let home = tempfile::tempdir().unwrap();
    json(fetch(&honest(), home.path()));
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

    // Where the cache may be, the strongest first.
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
        json(command);
        assert!(other.path().join(cache).join(cached).join("refs/main").exists(), "{name}");
    }
}

#[test]
fn without_a_network_or_the_model_it_says_so() {
    let home = tempfile::tempdir().unwrap();
    refused(classify(MODEL, "http://127.0.0.1:9", home.path()), &[MODEL, "cannot be reached", "127.0.0.1:9"]);
    refused(offline(classify(MODEL, "http://127.0.0.1:9", home.path())), &[MODEL, "HF_HUB_OFFLINE"]);
    let unlike = ["huggingface.co", "ftp://huggingface.co", "https://", "http://user:secret@127.0.0.1"];
    for address in unlike {
        refused(classify(MODEL, address, home.path()), &[MODEL, "HF_ENDPOINT"]);
    }

    let hub = honest();
    let address = hub.address();
    refused(classify("timm/none", &address, home.path()), &["timm/none", &address, "no such model"]);
    refused(classify("private/one", &address, home.path()), &["private/one", &address, "HF_TOKEN"]);
    refused(classify("nonsense", &address, home.path()), &["nonsense", "not a model's name"]);
    assert!(failure(goldcrest(["inspect", "--model", MODEL, "--weights", SEEDED]), 2).contains("--model"));
    let without = ["inspect", "--weights", SEEDED, "--hub-timeout", "9"];
    assert!(failure(goldcrest(without), 2).contains("--hub-timeout"));
}

#[test]
fn a_model_without_safetensors_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let without = Files::seeded().without(WEIGHTS);
    let hub = without.clone().served(|_, answer| answer);
    refused(fetch(&hub, home.path()), &[MODEL, "has no model.safetensors"]);
    let hub = without.with("pytorch_model.bin", b"PK").served(|_, answer| answer);
    refused(fetch(&hub, home.path()), &["pickle", "README"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_cache_that_cannot_be_written() {
    refused(fetch(&honest(), Path::new("/proc/nowhere")), &[MODEL, "cannot be kept", "/proc/nowhere"]);
}

/// Without HOME the system's list of users is asked; a user that is not in it either has to name a folder.
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
    // Only root may become somebody else, and only if that user can read the program.
    let mut trial = nobody(None);
    if let Err(error) = trial.arg("--help").output() {
        eprintln!("not tested without HOME: no other user can be had here: {error}");
        return;
    }
    refused(nobody(None), &[MODEL, "no home folder", "HF_HOME"]);
    assert_eq!(json(nobody(Some(home.path()))), expected());
    // A login's token is not searched for where there is no home.
    let mut command = nobody(None);
    command.env("HF_HUB_CACHE", home.path().join("hub"));
    assert_eq!(json(command), expected());
}
