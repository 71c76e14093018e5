//! Servers that lie, stall or send what is damaged, and what is left in the cache of it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    COMMIT, CONFIG, Change, Files, MODEL, WEIGHTS, expected, fetch, folder, honest, is_complete, json,
    listing, partial,
    server::{Answer, Server, Then},
};
use crate::{failure, names, refused};

/// Every file below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_dir() {
            found.append(&mut files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[test]
fn no_header_becomes_a_path() {
    let outside = tempfile::tempdir().unwrap();
    let home = outside.path().join("a/b/c");
    let absolute = outside.path().join("evil").display().to_string();
    for evil in [
        "../../evil",
        "../../../../../../evil",
        &absolute,
        "..",
        "evil/x",
        ".evil",
        "evil.lock",
        "C:evil",
        "",
    ] {
        let quoted = format!("\"{evil}\"");
        for header in ["ETag", "X-Linked-Etag"] {
            let quoted = quoted.clone();
            let hub = Files::seeded().served(move |asked, answer| {
                if asked.is_of(CONFIG) { answer.with(header, &quoted) } else { answer }
            });
            refused(fetch(&hub, &home), &[MODEL, "config.json", &hub.address(), "etag"]);
        }
        let commit = evil.to_owned();
        let hub = Files::seeded().served(move |asked, answer| {
            if asked.is_of(CONFIG) { answer.with("X-Repo-Commit", &commit) } else { answer }
        });
        refused(fetch(&hub, &home), &[MODEL, "config.json", "commit"]);
        let commit = evil.to_owned();
        let hub = Files::seeded().served(move |asked, answer| {
            let listing = json!({ "sha": commit, "siblings": [{ "rfilename": WEIGHTS }] });
            if asked.lists() { Answer::new(200, listing.to_string()) } else { answer }
        });
        refused(fetch(&hub, &home), &[MODEL, &hub.address(), "not a commit"]);
    }
    // Another commit than the one that was asked for is no better.
    let hub = Files::seeded().served(|asked, answer| {
        if asked.is_of(WEIGHTS) { answer.with("X-Repo-Commit", "0".repeat(40)) } else { answer }
    });
    refused(fetch(&hub, &home), &[WEIGHTS, COMMIT]);
    // Neither do the names of files.
    let names = ["../../../../../../evil", &absolute, "..\\evil", CONFIG, WEIGHTS];
    let listed = listing(&names);
    let hub =
        Files::seeded().served(move |asked, answer| if asked.lists() { listed.clone() } else { answer });
    json(fetch(&hub, &home));

    let files = files(outside.path());
    let within = |path: &String| Path::new(path).starts_with(home.join("hub")) && !path.contains("evil");
    assert!(files.iter().all(within), "{files:?}");
}

#[test]
fn a_token_goes_to_the_hub_alone() {
    let home = tempfile::tempdir().unwrap();
    let login = tempfile::NamedTempFile::new().unwrap();
    fs::write(&login, "hf_from_a_file\n").unwrap();
    let store = honest();
    let elsewhere = store.address();
    let hub = Server::new(move |asked| {
        // Weights lie on another port, and a configuration on the same one under another name.
        if asked.is_of(WEIGHTS) {
            let moved = Answer::to(format!("{elsewhere}{}", asked.path));
            let etag = format!("\"{}\"", Files::seeded().etag(WEIGHTS));
            let size = Files::seeded().0[WEIGHTS].len().to_string();
            moved.with("X-Linked-Etag", etag).with("X-Linked-Size", size).with("X-Repo-Commit", COMMIT)
        } else if asked.gets(CONFIG) && asked.header("host").unwrap().starts_with("127") {
            let host = asked.header("host").unwrap().replace("127.0.0.1", "localhost");
            Answer::to(format!("http://{host}{}", asked.path))
        } else {
            Files::seeded().answer(asked)
        }
    });
    for token in ["hf_from_the_environment", "hf_from_a_file"] {
        let home = home.path().join(token);
        let mut command = fetch(&hub, &home);
        if token == "hf_from_a_file" {
            command.env("HF_TOKEN_PATH", login.path());
        } else {
            command.env("HF_TOKEN", token);
        }
        assert_eq!(json(command), expected());

        let bearer = format!("Bearer {token}");
        let (own, others): (Vec<_>, Vec<_>) =
            hub.asked().into_iter().partition(|asked| asked.header("host").unwrap().starts_with("127"));
        assert!(own.len() >= 6 && own.iter().all(|asked| asked.header("authorization") == Some(&bearer)));
        let others = [others, store.asked()].concat();
        assert!(
            others.iter().any(|asked| asked.gets(WEIGHTS)) && others.iter().any(|asked| asked.gets(CONFIG))
        );
        assert!(others.iter().all(|asked| asked.header("authorization").is_none()), "{others:?}");
    }
    // A token that no header can hold is no panic, and not told.
    let mut command = fetch(&hub, &home.path().join("third"));
    command.env("HF_TOKEN", "hf_sëcret");
    let line = failure(command, 1);
    assert!(line.contains("HF_TOKEN") && !line.contains("cret"), "{line}");
}

#[test]
fn redirects_end() {
    let home = tempfile::tempdir().unwrap();
    let hub = Files::seeded()
        .served(|asked, answer| if asked.gets(CONFIG) { Answer::to(asked.path.clone()) } else { answer });
    refused(fetch(&hub, home.path()), &["config.json", &hub.address(), "redirects more than"]);
    assert!(hub.asked().iter().filter(|asked| asked.gets(CONFIG)).count() <= 11);
    // Nor is every address one.
    for nowhere in ["ftp://127.0.0.1/x", "http://user@127.0.0.1/x", "x", "http://127.0.0.1:1/\u{fc}"] {
        let hub = Files::seeded().served(
            move |asked, answer| {
                if asked.gets(CONFIG) { Answer::to(nowhere) } else { answer }
            },
        );
        refused(fetch(&hub, home.path()), &["config.json", &hub.address(), "not an address"]);
    }
    assert!(!is_complete(home.path()));
}

#[test]
fn nobody_waits_for_a_silent_server() {
    let home = tempfile::tempdir().unwrap();
    for silent in ["/api/", CONFIG] {
        let hub = Files::seeded().served(move |asked, mut answer| {
            if asked.path.contains(silent) {
                (answer.instead, answer.then) = (Some(""), Then::Stall);
            }
            answer
        });
        let mut command = fetch(&hub, home.path());
        command.args(["--hub-timeout", "1"]);
        let start = Instant::now();
        refused(command, &[MODEL, &hub.address(), "sent nothing for 1s"]);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    // Now and then a byte, of headers or of a body, is no better.
    let headers = "HTTP/1.1 200 OK\r\nX-Slow: ";
    for instead in [Some(headers), None] {
        let hub = Files::seeded().served(move |asked, mut answer| {
            if asked.gets(CONFIG) {
                (answer.instead, answer.then) = (instead, Then::Drip);
                answer.body.clear();
            }
            answer
        });
        let mut command = fetch(&hub, home.path());
        command.args(["--hub-max-time", "2"]);
        let start = Instant::now();
        refused(command, &["config.json", &hub.address(), "took longer than 2s"]);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn lengths_are_kept_to() {
    let home = tempfile::tempdir().unwrap();
    let longer = |mut answer: Answer| {
        answer.body.extend(b"and more");
        answer
    };
    let ways: [Change; 2] = [
        |answer| {
            let length = answer.body.len().to_string();
            answer.with("Content-Length", length)
        },
        |answer| answer.chunked(),
    ];
    for (way, words) in ways.into_iter().zip(["where it announced", "more than the"]) {
        let hub = Files::seeded().served(
            move |asked, answer| {
                if asked.gets(WEIGHTS) { way(longer(answer)) } else { answer }
            },
        );
        refused(fetch(&hub, home.path()), &[MODEL, WEIGHTS, words]);
        assert!(!partial(home.path(), WEIGHTS).exists() && !is_complete(home.path()));
    }
    for length in ["-1", "1e6", "0x10", "18446744073709551616", "many"] {
        let hub = Files::seeded().served(move |asked, answer| {
            if asked.is_of(WEIGHTS) { answer.with("X-Linked-Size", length) } else { answer }
        });
        refused(fetch(&hub, home.path()), &[WEIGHTS, &hub.address(), length, "size"]);
    }
    let hub = Files::seeded()
        .served(|asked, answer| if asked.is_of(WEIGHTS) { answer.without("Content-Length") } else { answer });
    refused(fetch(&hub, home.path()), &[WEIGHTS, &hub.address(), "sends nothing", "size"]);
    // A size that is believed is a size that is allowed.
    let hub = honest();
    let mut command = fetch(&hub, home.path());
    command.args(["--hub-max-size", "500000"]);
    refused(command, &[WEIGHTS, &hub.address(), "969522", "500000"]);
    let hub = Files::seeded().served(|asked, answer| {
        if asked.is_of(CONFIG) { answer.with("X-Linked-Size", "999999999") } else { answer }
    });
    refused(fetch(&hub, &home.path().join("new")), &[CONFIG, &hub.address(), "999999999", "limit"]);
    // What has no announced size ends too.
    let hub = Files::seeded().served(|asked, answer| {
        if asked.lists() { Answer::new(200, vec![b' '; 20 << 20]).chunked() } else { answer }
    });
    refused(fetch(&hub, home.path()), &[&hub.address(), "more than 16777216 bytes"]);
    assert!(!is_complete(home.path()));
}

#[test]
fn what_comes_damaged_is_not_kept() {
    let weights = &Files::seeded().0[WEIGHTS];
    let page = "<html>sorry</html>";
    let served: [(&str, &[u8], &str); 7] = [
        (WEIGHTS, &weights[..weights.len() - 9], "truncated"),
        (WEIGHTS, page.as_bytes(), "damaged"),
        (CONFIG, page.as_bytes(), "not a JSON object"),
        (CONFIG, b"[1, 2]", "not a JSON object"),
        (CONFIG, b"", "not a JSON object"),
        ("preprocessor_config.json", b"{\"size\": \"\xff\"}", "UTF-8"),
        ("preprocessor_config.json", &[b'['; 100_000], "not a JSON object"),
    ];
    // Damaged before the hub made its hash, or on its way: then it has the size, and another hash.
    let hubs = served.map(|(file, bytes, words)| {
        (file, Files::seeded().with(file, bytes).served(|_, answer| answer), words.to_owned())
    });
    let flipped = [CONFIG, WEIGHTS].map(|file| {
        let hub = Files::seeded().served(move |asked, mut answer| {
            if asked.gets(file) {
                let last = answer.body.len() - 2;
                answer.body[last] ^= 1;
            }
            answer
        });
        (file, hub, Files::seeded().etag(file))
    });
    for (file, hub, words) in hubs.into_iter().chain(flipped) {
        let home = tempfile::tempdir().unwrap();
        refused(fetch(&hub, home.path()), &[MODEL, file, "was deleted", &words]);
        assert!(!is_complete(home.path()));
        let blobs = names(&folder(home.path()).join("blobs"));
        let before =
            ["config.json", "preprocessor_config.json", WEIGHTS].iter().position(|name| *name == file);
        assert_eq!(Some(blobs.len()), before, "{blobs:?}");
        assert_eq!(json(fetch(&honest(), home.path())), expected());
    }
}

/// A server without hashes is believed as far as its files can be read; nothing is built on their parts.
#[test]
fn an_etag_that_is_no_hash() {
    let home = tempfile::tempdir().unwrap();
    let hub = Files::seeded().served(|asked, answer| {
        let name = asked.path.rsplit('/').next().unwrap();
        if asked.lists() { answer } else { answer.with("ETag", format!("W/\"v1-{}\"", name.len())) }
    });
    let part = folder(home.path()).join("blobs/v1-17.incomplete");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, &Files::seeded().0[WEIGHTS][..1000]).unwrap();
    assert_eq!(json(fetch(&hub, home.path())), expected());
    assert!(hub.asked().iter().all(|asked| asked.header("range").is_none()));
    assert_eq!(names(&folder(home.path()).join("blobs")), ["v1-11", "v1-17", "v1-24"]);
}

#[test]
fn a_servers_words_steer_no_terminal() {
    let home = tempfile::tempdir().unwrap();
    let evil = "\u{1b}]0;evil\u{7}\u{202e}\u{9b}31m\nerror: evil";
    let listing = json!({ "sha": evil, "siblings": [] }).to_string();
    let hub = Server::new(move |_| Answer::new(200, listing.clone()));
    let wrong = json!({ "sha": COMMIT, "siblings": evil }).to_string();
    let worse = Server::new(move |_| Answer::new(200, wrong.clone()));
    for hub in [hub, worse] {
        let line = failure(fetch(&hub, home.path()), 1);
        let steers = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(line.contains("evil") && !line.contains(steers), "{line:?}");
    }
}
