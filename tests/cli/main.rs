//! Tests of the command line, through the program. Tests that need an adapter take any, also software, and
//! fail on a machine without one.

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
mod results;
mod search;
mod segment;
mod shaders;
mod shell;
mod streams;
mod study;
mod tensors;
mod truth;
mod usage;

use std::{
    path::Path,
    process::{Command, Output},
    sync::LazyLock,
};

/// A real network, small and fast.
const SEEDED: &str = "assets/seeded";
const CAT: &str = "assets/cat.jpg";

/// Golden networks for segmentation and detection; see `make::golden`.
const LRASPP: &str = "torchvision-lraspp_mobilenet_v3_large";
const DEEPLAB: &str = "torchvision-deeplabv3_mobilenet_v3_large";
const SSDLITE: &str = "torchvision-ssdlite320_mobilenet_v3_large";

/// Pictures of the golden networks, with odd sizes.
const COFFEE: &str = "tests/fixtures/pictures/coffee_193x257.png";
const ROCKET: &str = "tests/fixtures/pictures/rocket_97x131.png";

/// The program, in a defined environment.
fn goldcrest<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goldcrest"));
    // Without this folder, Mesa's libraries print warnings to the program's stderr.
    command.args(arguments).env("XDG_RUNTIME_DIR", std::env::temp_dir()).env_remove("RUST_LOG");
    // Do not write to the user's cache.
    command.env("GOLDCREST_CACHE_DIR", "");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8")
}

/// The lines of stderr except warnings and notes.
fn error_lines(output: &Output) -> Vec<String> {
    text(&output.stderr)
        .lines()
        .filter(|line| !line.starts_with("warning: ") && !line.starts_with("note: "))
        .map(str::to_owned)
        .collect()
}

/// Runs a command that must succeed, with only warnings and notes on stderr, and returns its stdout.
#[track_caller]
fn success(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success() && error_lines(&output).is_empty(), "{command:?}: {output:?}");
    text(&output.stdout)
}

#[track_caller]
fn json(command: Command) -> serde_json::Value {
    serde_json::from_str(&success(command)).expect("stdout is JSON and nothing else")
}

/// What `adapters` reports. It checks every kernel on each, so it runs once for all tests.
fn adapters() -> &'static [serde_json::Value] {
    static FOUND: LazyLock<serde_json::Value> = LazyLock::new(|| json(goldcrest(["adapters", "--json"])));
    FOUND.as_array().unwrap()
}

/// The `pictures` of a JSON report, one entry per picture.
#[track_caller]
fn pictures_of(report: &serde_json::Value) -> &[serde_json::Value] {
    report["pictures"].as_array().expect("a list of pictures")
}

/// The JSON report on a single picture: the entries of that picture and of the report in one object.
#[track_caller]
fn only_picture(command: Command) -> serde_json::Value {
    let mut report = json(command);
    let serde_json::Value::Array(mut pictures) = report["pictures"].take() else {
        panic!("a list of pictures")
    };
    assert_eq!(pictures.len(), 1);
    for (key, value) in pictures.remove(0).as_object().unwrap() {
        report[key] = value.clone();
    }
    report
}

/// Runs a command that must fail with this status, nothing on stdout and one error line on stderr. Returns
/// that line.
#[track_caller]
fn failure(mut command: Command, status: i32) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{command:?}: {output:?}");
    assert_eq!(text(&output.stdout), "", "{command:?}");
    let lines = error_lines(&output);
    assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{command:?}: {lines:?}");
    lines[0].clone()
}

/// Runs a command that must fail with status 1 and an error line that contains all of `words`.
#[track_caller]
fn refused(command: Command, words: &[&str]) {
    let line = failure(command, 1);
    for word in words {
        assert!(line.contains(word), "{line:?} does not mention {word:?}");
    }
}

/// The same for a command that cannot save its results: it still prints them.
#[track_caller]
fn unsaved(mut command: Command, words: &[&str]) {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {output:?}");
    assert!(text(&output.stdout).contains('%'), "{command:?}: {output:?}");
    let lines = error_lines(&output);
    assert!(lines.len() == 1 && words.iter().all(|word| lines[0].contains(word)), "{command:?}: {lines:?}");
}

/// `classify` for one picture with these weights, on an adapter.
fn classify(weights: &Path, picture: &Path) -> Command {
    let mut command = goldcrest(["classify", "--backend", "gpu", "--weights"]);
    command.arg(weights).arg(picture);
    command
}

/// A subcommand with these weights, on the CPU.
fn on_cpu(subcommand: &str, weights: &Path, more: &[&str]) -> Command {
    let mut command = goldcrest([subcommand, "--backend", "cpu", "--weights"]);
    command.arg(weights).args(more);
    command
}

/// `run` with the seeded network, on an adapter.
fn run(input: &Path, output: &Path) -> Command {
    let mut command = run_auto(input, output);
    command.args(["--backend", "gpu"]);
    command
}

/// `run` with the seeded network, on the default backend.
fn run_auto(input: &Path, output: &Path) -> Command {
    let mut command = goldcrest(["run", "--weights", SEEDED, "--input"]);
    command.arg(input).arg("--output").arg(output);
    command
}

/// Hides all graphics drivers from the program.
fn without_driver(mut command: Command) -> Command {
    command.env("VK_ICD_FILENAMES", "/nonexistent").env("VK_DRIVER_FILES", "/nonexistent");
    command.env("WGPU_BACKEND", "vulkan");
    command
}

/// The file names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
