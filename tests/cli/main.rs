//! The command line, held to its contract through the program itself. What needs an adapter
//! asks for one, software or not; where there is none these tests fail.

mod answers;
mod bench;
mod choose;
#[path = "../common/mod.rs"]
mod common;
mod cpu;
mod demo;
mod detect;
mod faults;
mod formats;
mod hub;
mod make;
mod pictures;
mod refusals;
mod search;
mod segment;
mod shaders;
mod streams;
mod tensors;
mod truth;
mod usage;

use std::{
    path::Path,
    process::{Command, Output},
};

/// A real network, small and quick.
const SEEDED: &str = "assets/seeded";
const CAT: &str = "assets/cat.jpg";

/// Golden networks that do more than classify; see `make::golden`.
const LRASPP: &str = "torchvision-lraspp_mobilenet_v3_large";
const DEEPLAB: &str = "torchvision-deeplabv3_mobilenet_v3_large";
const SSDLITE: &str = "torchvision-ssdlite320_mobilenet_v3_large";

/// Pictures of theirs, of odd sizes.
const COFFEE: &str = "tests/fixtures/pictures/coffee_193x257.png";
const ROCKET: &str = "tests/fixtures/pictures/rocket_97x131.png";

/// The program, in an environment without surprises.
fn goldcrest<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goldcrest"));
    // Without that folder Mesa's libraries complain on stderr in our name.
    command.args(arguments).env("XDG_RUNTIME_DIR", std::env::temp_dir()).env_remove("RUST_LOG");
    // Nor does a test leave files in the user's cache.
    command.env("GOLDCREST_CACHE_DIR", "");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8")
}

/// What stderr says apart from warnings and notes.
fn complaints(output: &Output) -> Vec<String> {
    text(&output.stderr)
        .lines()
        .filter(|line| !line.starts_with("warning: ") && !line.starts_with("note: "))
        .map(str::to_owned)
        .collect()
}

/// Runs to success, with nothing but warnings and notes on stderr, and gives stdout.
#[track_caller]
fn answer(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success() && complaints(&output).is_empty(), "{command:?}: {output:?}");
    text(&output.stdout)
}

#[track_caller]
fn json(command: Command) -> serde_json::Value {
    serde_json::from_str(&answer(command)).expect("stdout is JSON and nothing else")
}

/// The entries of an answer in JSON, one a picture.
#[track_caller]
fn pictures_of(told: &serde_json::Value) -> &[serde_json::Value] {
    told["pictures"].as_array().expect("a list of pictures")
}

/// What the answer in JSON says of the only picture, and of all under the names that no picture has.
#[track_caller]
fn seen(command: Command) -> serde_json::Value {
    let mut told = json(command);
    let serde_json::Value::Array(mut pictures) = told["pictures"].take() else {
        panic!("a list of pictures")
    };
    assert_eq!(pictures.len(), 1);
    for (key, value) in pictures.remove(0).as_object().unwrap() {
        told[key] = value.clone();
    }
    told
}

/// Runs to a failure that keeps to the contract: this status, nothing on stdout, one line on
/// stderr. Gives that line.
#[track_caller]
fn failure(mut command: Command, status: i32) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{command:?}: {output:?}");
    assert_eq!(text(&output.stdout), "", "{command:?}");
    let lines = complaints(&output);
    assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{command:?}: {lines:?}");
    lines[0].clone()
}

/// Fails with status 1 and says all of `words`.
#[track_caller]
fn refused(command: Command, words: &[&str]) {
    let line = failure(command, 1);
    for word in words {
        assert!(line.contains(word), "{line:?} does not say {word:?}");
    }
}

/// Fails with status 1 and says all of `words`, but prints the answer that could not be saved.
#[track_caller]
fn unsaved(mut command: Command, words: &[&str]) {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {output:?}");
    assert!(text(&output.stdout).contains('%'), "{command:?}: {output:?}");
    let lines = complaints(&output);
    assert!(lines.len() == 1 && words.iter().all(|word| lines[0].contains(word)), "{command:?}: {lines:?}");
}

/// `classify` on one picture with these weights, on an adapter.
fn classify(weights: &Path, picture: &Path) -> Command {
    let mut command = goldcrest(["classify", "--backend", "gpu", "--weights"]);
    command.arg(weights).arg(picture);
    command
}

/// A subcommand with these weights, on the CPU.
fn on_cpu(subject: &str, weights: &Path, more: &[&str]) -> Command {
    let mut command = goldcrest([subject, "--backend", "cpu", "--weights"]);
    command.arg(weights).args(more);
    command
}

/// `run` with the seeded network, on an adapter.
fn run(input: &Path, output: &Path) -> Command {
    let mut command = run_anywhere(input, output);
    command.args(["--backend", "gpu"]);
    command
}

/// `run` with the seeded network, on whatever the program takes.
fn run_anywhere(input: &Path, output: &Path) -> Command {
    let mut command = goldcrest(["run", "--weights", SEEDED, "--input"]);
    command.arg(input).arg("--output").arg(output);
    command
}

/// A machine without a driver, as far as the program can tell.
fn without_driver(mut command: Command) -> Command {
    command.env("VK_ICD_FILENAMES", "/nonexistent").env("VK_DRIVER_FILES", "/nonexistent");
    command.env("WGPU_BACKEND", "vulkan");
    command
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
