//! Interrupted and partial downloads, damaged caches, and two processes that download the same file.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
    sync::{Mutex, mpsc},
    time::Duration,
};

use super::{
    CONFIG, Change, Files, MODEL, WEIGHTS, blob, classes_of, classify, expected, fetch, honest, is_complete,
    offline, partial,
    server::{Response, Server, Then},
    snapshot,
};
use crate::{refused, text};

/// The classes in a JSON report.
fn classes(stdout: &[u8]) -> serde_json::Value {
    let report: serde_json::Value = serde_json::from_slice(stdout).unwrap();
    report["pictures"][0]["classes"].clone()
}

/// A hub that sends half of the weights; `change` says how it stops.
fn broken(change: Change) -> Server {
    Files::seeded().serve(move |request, mut response| {
        if request.gets(WEIGHTS) {
            response.body.truncate(response.body.len() / 2);
            return change(response);
        }
        response
    })
}

#[test]
fn interrupted_downloads_are_continued() {
    let size = Files::seeded().0[WEIGHTS].len();
    let ways: [(Change, &str); 3] = [
        (|response| response.then(Then::Stall), "sent nothing for 3s"),
        (|response| response, "stopped sending"),
        (|response| response.chunked(), "bytes were downloaded"),
    ];
    for (way, words) in ways {
        let home = tempfile::tempdir().unwrap();
        let hub = broken(way);
        let mut command = fetch(&hub, home.path());
        if words.contains("3s") {
            command.args(["--hub-timeout", "3"]);
        }
        refused(command, &[MODEL, WEIGHTS, words]);
        assert!(!is_complete(home.path()));
        let part = fs::metadata(partial(home.path(), WEIGHTS)).unwrap().len();
        assert_eq!(part, size as u64 / 2);

        let hub = honest();
        assert_eq!(classes_of(fetch(&hub, home.path())), expected());
        let requests = hub.requests();
        let ranges: Vec<_> = requests
            .iter()
            .filter(|request| request.gets(WEIGHTS))
            .map(|request| request.header("range"))
            .collect();
        assert_eq!(ranges, [Some(&*format!("bytes={part}-"))]);
        assert!(!partial(home.path(), WEIGHTS).exists());
    }
}

#[test]
fn partial_files_of_every_kind() {
    let weights = &Files::seeded().0[WEIGHTS];
    let half = weights.len() / 2;
    // The partial file, the number of requests for the weights, and the response to a range request.
    let fits: Change = |response| response;
    let whole: Change = |_| Response::new(200, Files::seeded().0[WEIGHTS].as_slice());
    let other: Change = |response| response.with("Content-Range", "bytes 0-9/10");
    let none: Change = |_| Response::new(416, "");
    for (what, part, requests, rest) in [
        ("complete", weights.clone(), 0, fits),
        ("complete and damaged", vec![7; weights.len()], 1, fits),
        ("longer", [weights.as_slice(), b"x"].concat(), 1, fits),
        ("empty", vec![], 1, fits),
        ("half", weights[..half].to_vec(), 1, fits),
        ("half and damaged", vec![7; half], 2, fits),
        ("half, from a server that ignores ranges", weights[..half].to_vec(), 1, whole),
        ("half, from a server that sends another range", weights[..half].to_vec(), 2, other),
        ("half, from a server that refuses ranges", weights[..half].to_vec(), 2, none),
    ] {
        let home = tempfile::tempdir().unwrap();
        let hub = Files::seeded().serve(move |request, response| {
            if request.gets(WEIGHTS) && request.header("range").is_some() { rest(response) } else { response }
        });
        let partial = partial(home.path(), WEIGHTS);
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(&partial, part).unwrap();
        assert_eq!(classes_of(fetch(&hub, home.path())), expected(), "{what}");
        assert_eq!(hub.requests().iter().filter(|request| request.gets(WEIGHTS)).count(), requests, "{what}");
        assert!(!partial.exists(), "{what}");
    }
}

#[test]
fn damaged_cached_files_are_fetched_again() {
    for file in [CONFIG, WEIGHTS] {
        let home = tempfile::tempdir().unwrap();
        let hub = honest();
        classes_of(fetch(&hub, home.path()));
        hub.requests();
        fs::write(blob(home.path(), file), "<html>").unwrap();
        refused(offline(fetch(&hub, home.path())), &[MODEL, file, "damaged", "HF_HUB_OFFLINE"]);
        // A damaged file stays until it is replaced: without a configuration, the model would look complete.
        let gone = classify(MODEL, "http://127.0.0.1:9", home.path());
        refused(gone, &[MODEL, "cannot be reached"]);
        assert!(snapshot(home.path()).join(file).exists());

        let output = fetch(&hub, home.path()).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(
            output.status.success() && stderr.contains(file) && stderr.contains("fetched again"),
            "{stderr}"
        );
        assert_eq!(classes(&output.stdout), expected());
        let requests = hub.requests();
        let got: Vec<_> =
            requests.iter().filter(|request| request.method == "GET" && !request.lists()).collect();
        assert!(got.len() == 1 && got[0].gets(file), "{got:?}");
        assert_eq!(classes_of(offline(fetch(&hub, home.path()))), expected());
    }
}

#[test]
fn two_processes_fetch_a_file_once() {
    let home = tempfile::tempdir().unwrap();
    let (arrive, arrived) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let gate = Mutex::new((arrive, released));
    let hub = Files::seeded().serve(move |request, response| {
        if request.gets(WEIGHTS) {
            let gate = gate.lock().unwrap();
            gate.0.send(()).unwrap();
            // An error means that the test failed and dropped its sender.
            let _ = gate.1.recv();
        }
        response
    });
    let spawn = || {
        let mut command = fetch(&hub, home.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let first = spawn();
    arrived.recv_timeout(Duration::from_secs(60)).expect("the first process asks for the weights");
    let mut second = spawn();
    let mut note = String::new();
    BufReader::new(second.stderr.as_mut().unwrap()).read_line(&mut note).unwrap();
    assert!(
        note.starts_with("note: ") && note.contains(WEIGHTS) && note.contains("another process"),
        "{note:?}"
    );
    release.send(()).unwrap();
    for process in [first, second] {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(classes(&output.stdout), expected());
    }
    let requests = hub.requests();
    for file in [CONFIG, WEIGHTS] {
        assert_eq!(requests.iter().filter(|request| request.gets(file)).count(), 1, "{file}");
    }
}

/// A limit on the file size stands for a full disk.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_a_partial_file() {
    use std::process::Command;

    let home = tempfile::tempdir().unwrap();
    let hub = honest();
    let whole = fetch(&hub, home.path());
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 500; exec \"$@\"", "sh"]);
    limited.arg(whole.get_program()).args(whole.get_args());
    for (name, value) in whole.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    refused(limited, &[MODEL, WEIGHTS, "cannot be stored"]);
    assert!(!is_complete(home.path()));
    assert!(fs::metadata(partial(home.path(), WEIGHTS)).unwrap().len() > 0);
    hub.requests();
    assert_eq!(classes_of(whole), expected());
    assert!(hub.requests().iter().any(|request| request.gets(WEIGHTS) && request.header("range").is_some()));
}
