//! Downloads that break off, parts, damaged caches, and two processes at once.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
    sync::{Mutex, mpsc},
    time::Duration,
};

use super::{
    CONFIG, Change, Files, MODEL, WEIGHTS, blob, classify, expected, fetch, honest, is_complete, json,
    offline, partial,
    server::{Answer, Server, Then},
    snapshot,
};
use crate::{refused, text};

/// The classes that a program's answer says.
fn classes(stdout: &[u8]) -> serde_json::Value {
    let told: serde_json::Value = serde_json::from_slice(stdout).unwrap();
    told["pictures"][0]["classes"].clone()
}

/// A hub whose weights break off half-way, in whichever way.
fn broken(change: Change) -> Server {
    Files::seeded().served(move |asked, mut answer| {
        if asked.gets(WEIGHTS) {
            answer.body.truncate(answer.body.len() / 2);
            return change(answer);
        }
        answer
    })
}

#[test]
fn what_broke_off_is_continued() {
    let size = Files::seeded().0[WEIGHTS].len();
    let ways: [(Change, &str); 3] = [
        (|answer| answer.then(Then::Stall), "sent nothing for 3s"),
        (|answer| answer, "stopped sending"),
        (|answer| answer.chunked(), "bytes were downloaded"),
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
        assert_eq!(json(fetch(&hub, home.path())), expected());
        let asked = hub.asked();
        let ranges: Vec<_> =
            asked.iter().filter(|asked| asked.gets(WEIGHTS)).map(|asked| asked.header("range")).collect();
        assert_eq!(ranges, [Some(&*format!("bytes={part}-"))]);
        assert!(!partial(home.path(), WEIGHTS).exists());
    }
}

#[test]
fn a_part_is_used_for_what_it_is() {
    let weights = &Files::seeded().0[WEIGHTS];
    let half = weights.len() / 2;
    // A part, how often the weights are asked for then, and how the server takes being asked for the rest.
    let fits: Change = |answer| answer;
    let whole: Change = |_| Answer::new(200, Files::seeded().0[WEIGHTS].as_slice());
    let other: Change = |answer| answer.with("Content-Range", "bytes 0-9/10");
    let none: Change = |_| Answer::new(416, "");
    for (what, part, requests, rest) in [
        ("complete", weights.clone(), 0, fits),
        ("complete and damaged", vec![7; weights.len()], 1, fits),
        ("longer", [weights.as_slice(), b"x"].concat(), 1, fits),
        ("empty", vec![], 1, fits),
        ("half", weights[..half].to_vec(), 1, fits),
        ("half and damaged", vec![7; half], 2, fits),
        ("half, of a server that only sends all", weights[..half].to_vec(), 1, whole),
        ("half, of a server that sends another part", weights[..half].to_vec(), 2, other),
        ("half, of a server that has no parts", weights[..half].to_vec(), 2, none),
    ] {
        let home = tempfile::tempdir().unwrap();
        let hub = Files::seeded().served(move |asked, answer| {
            if asked.gets(WEIGHTS) && asked.header("range").is_some() { rest(answer) } else { answer }
        });
        let partial = partial(home.path(), WEIGHTS);
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(&partial, part).unwrap();
        assert_eq!(json(fetch(&hub, home.path())), expected(), "{what}");
        assert_eq!(hub.asked().iter().filter(|asked| asked.gets(WEIGHTS)).count(), requests, "{what}");
        assert!(!partial.exists(), "{what}");
    }
}

#[test]
fn what_is_damaged_in_the_cache_is_fetched_again() {
    for file in [CONFIG, WEIGHTS] {
        let home = tempfile::tempdir().unwrap();
        let hub = honest();
        json(fetch(&hub, home.path()));
        hub.asked();
        fs::write(blob(home.path(), file), "<html>").unwrap();
        refused(offline(fetch(&hub, home.path())), &[MODEL, file, "damaged", "HF_HUB_OFFLINE"]);
        // Until there is another it stays: without a configuration the rest would seem complete.
        let gone = classify(MODEL, "http://127.0.0.1:9", home.path());
        refused(gone, &[MODEL, "cannot be reached"]);
        assert!(snapshot(home.path()).join(file).exists());

        let output = fetch(&hub, home.path()).output().unwrap();
        let told = text(&output.stderr);
        assert!(output.status.success() && told.contains(file) && told.contains("fetched again"), "{told}");
        assert_eq!(classes(&output.stdout), expected());
        let asked = hub.asked();
        let got: Vec<_> = asked.iter().filter(|asked| asked.method == "GET" && !asked.lists()).collect();
        assert!(got.len() == 1 && got[0].gets(file), "{got:?}");
        assert_eq!(json(offline(fetch(&hub, home.path()))), expected());
    }
}

#[test]
fn two_processes_fetch_a_file_once() {
    let home = tempfile::tempdir().unwrap();
    let (started, begun) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let gate = Mutex::new((started, released));
    let hub = Files::seeded().served(move |asked, answer| {
        if asked.gets(WEIGHTS) {
            let gate = gate.lock().unwrap();
            gate.0.send(()).unwrap();
            // An error is a test that has failed and let go.
            let _ = gate.1.recv();
        }
        answer
    });
    let spawn = || {
        let mut command = fetch(&hub, home.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let first = spawn();
    begun.recv_timeout(Duration::from_secs(60)).expect("the first process asks for the weights");
    let mut second = spawn();
    let mut told = String::new();
    BufReader::new(second.stderr.as_mut().unwrap()).read_line(&mut told).unwrap();
    assert!(
        told.starts_with("note: ") && told.contains(WEIGHTS) && told.contains("another process"),
        "{told:?}"
    );
    release.send(()).unwrap();
    for process in [first, second] {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(classes(&output.stdout), expected());
    }
    let asked = hub.asked();
    for file in [CONFIG, WEIGHTS] {
        assert_eq!(asked.iter().filter(|asked| asked.gets(file)).count(), 1, "{file}");
    }
}

/// A disk that is full: here, a limit on the size of files.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_a_part() {
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
    refused(limited, &[MODEL, WEIGHTS, "cannot be kept"]);
    assert!(!is_complete(home.path()));
    assert!(fs::metadata(partial(home.path(), WEIGHTS)).unwrap().len() > 0);
    hub.asked();
    assert_eq!(json(whole), expected());
    assert!(hub.asked().iter().any(|asked| asked.gets(WEIGHTS) && asked.header("range").is_some()));
}
