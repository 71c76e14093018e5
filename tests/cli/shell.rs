//! Completion scripts and manual pages.

use std::{fs, path::Path, process::Command};

use super::{failure, goldcrest, names, refused, success, text};

/// The commands that `goldcrest --help` lists.
fn commands() -> Vec<String> {
    let help = success(goldcrest(["--help"]));
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // A name, or the next line of a description, which is indented further.
    let names = listed.lines().filter(|line| !line.starts_with("   "));
    let names = names.map(|line| line.split_whitespace().next().unwrap().to_owned());
    let names: Vec<String> = names.filter(|name| name != "help").collect();
    assert!(names.len() >= 16, "{help}");
    names
}

#[test]
fn every_shell_has_a_script_with_every_command() {
    let commands = commands();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = success(goldcrest(["completions", shell]));
        for name in commands.iter().map(String::as_str).chain(["weights", "no-tune", "f16"]) {
            assert!(script.contains(name), "{shell}: {name}");
        }
    }
    let line = failure(goldcrest(["completions", "cmd"]), 2);
    assert!(line.contains("cmd") && line.contains("bash, elvish, fish, powershell, zsh"), "{line}");
}

/// The candidates that bash offers for the last of these words.
#[cfg(unix)]
fn completed(script: &Path, words: &[&str]) -> Vec<String> {
    const COMPLETE: &str = r#"
        source "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _goldcrest "$1" "${@: -1}" "${@: -2:1}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", COMPLETE, "bash"]).arg(script).args(words);
    let output = bash.output().expect("bash");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
#[cfg(unix)]
fn bash_completes_commands_options_values_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("goldcrest");
    fs::write(&script, success(goldcrest(["completions", "bash"]))).unwrap();
    let completed = |words: &[&str]| completed(&script, words);
    assert_eq!(completed(&["goldcrest", "se"]), ["segment", "search"]);
    assert_eq!(completed(&["goldcrest", "classify", "--wei"]), ["--weights"]);
    assert_eq!(completed(&["goldcrest", "classify", "a.png", "--precision", "f"]), ["f32", "f16"]);
    assert_eq!(completed(&["goldcrest", "classify", "--weights", "Cargo.t"]), ["Cargo.toml"]);
    assert_eq!(completed(&["goldcrest", "completions", "po"]), ["powershell"]);
    let all = completed(&["goldcrest", ""]);
    for command in commands() {
        assert!(all.contains(&command), "{command}: {all:?}");
    }
}

#[test]
fn a_manual_page_for_the_program_and_each_command() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("man/man1");
    let write = || {
        let mut command = goldcrest(["man", "--out"]);
        command.arg(&folder);
        success(command)
    };
    let commands = commands();
    let mut expected: Vec<String> = commands.iter().map(|name| format!("goldcrest-{name}.1")).collect();
    expected.push("goldcrest.1".into());
    expected.sort();
    // The second time, files of the same names are replaced.
    for _ in 0..2 {
        assert_eq!(write(), format!("{} pages in {}\n", expected.len(), folder.display()));
        assert_eq!(names(&folder), expected);
    }

    let page = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let program = page("goldcrest.1");
    for words in ["SH \"EXIT STATUS\"", "SH ENVIRONMENT", "GOLDCREST_CACHE_DIR", env!("CARGO_PKG_VERSION")] {
        assert!(program.contains(words), "{words}: {program}");
    }
    for name in &commands {
        assert!(program.contains(&format!("goldcrest\\-{name}(1)")), "{name}: {program}");
        // The page has every option of --help.
        let page = page(&format!("goldcrest-{name}.1"));
        let help = success(goldcrest([name, "--help"]));
        let options = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
        for option in options.map(|line| line.split([' ', '=']).next().unwrap()) {
            let option = format!("\\-\\-{}", option.replace('-', "\\-"));
            assert!(page.contains(&option), "{option}: {page}");
        }
    }

    let file = folder.join("goldcrest.1");
    let mut command = goldcrest(["man", "--out"]);
    command.arg(&file);
    refused(command, &["goldcrest.1", "exists"]);
}
