//! Servers that lie, stall or send damaged files, and the cache after it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    COMMIT, CONFIG, Change, Files, MODEL, WEIGHTS, classes_of, expected, fetch, folder, honest, is_complete,
    listing, partial,
    server::{Response, Server, Then},
};
use crate::{failure, names, refused};

/// The paths of all files under a folder.
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
fn no_header_is_used_as_a_path() {
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
            let hub = Files::seeded().serve(move |request, response| {
                if request.is_for(CONFIG) { response.with(header, &quoted) } else { response }
            });
            refused(fetch(&hub, &home), &[MODEL, "config.json", &hub.address(), "etag"]);
        }
        let commit = evil.to_owned();
        let hub = Files::seeded().serve(move |request, response| {
            if request.is_for(CONFIG) { response.with("X-Repo-Commit", &commit) } else { response }
        });
        refused(fetch(&hub, &home), &[MODEL, "config.json", "commit"]);
        let commit = evil.to_owned();
        let hub = Files::seeded().serve(move |request, response| {
            let listing = json!({ "sha": commit, "siblings": [{ "rfilename": WEIGHTS }] });
            if request.lists() { Response::new(200, listing.to_string()) } else { response }
        });
        refused(fetch(&hub, &home), &[MODEL, &hub.address(), "not a commit"]);
    }
    // A commit other than the requested one is refused too.
    let hub = Files::seeded().serve(|request, response| {
        if request.is_for(WEIGHTS) { response.with("X-Repo-Commit", "0".repeat(40)) } else { response }
    });
    refused(fetch(&hub, &home), &[WEIGHTS, COMMIT]);
    // The names of files are not used as paths either.
    let names = ["../../../../../../evil", &absolute, "..\\evil", CONFIG, WEIGHTS];
    let listed = listing(&names);
    let hub = Files::seeded()
        .serve(move |request, response| if request.lists() { listed.clone() } else { response });
    classes_of(fetch(&hub, &home));

    let files = files(outside.path());
    let within = |path: &String| Path::new(path).starts_with(home.join("hub")) && !path.contains("evil");
    assert!(files.iter().all(within), "{files:?}");
}

#[test]
fn a_token_is_sent_to_the_hub_only() {
    let home = tempfile::tempdir().unwrap();
    let login = tempfile::NamedTempFile::new().unwrap();
    fs::write(&login, "hf_from_a_file\n").unwrap();
    let store = honest();
    let elsewhere = store.address();
    let hub = Server::new(move |request| {
        // The weights are on another port, the configuration on the same port of another host name.
        if request.is_for(WEIGHTS) {
            let moved = Response::to(format!("{elsewhere}{}", request.path));
            let etag = format!("\"{}\"", Files::seeded().etag(WEIGHTS));
            let size = Files::seeded().0[WEIGHTS].len().to_string();
            moved.with("X-Linked-Etag", etag).with("X-Linked-Size", size).with("X-Repo-Commit", COMMIT)
        } else if request.gets(CONFIG) && request.header("host").unwrap().starts_with("127") {
            let host = request.header("host").unwrap().replace("127.0.0.1", "localhost");
            Response::to(format!("http://{host}{}", request.path))
        } else {
            Files::seeded().respond(request)
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
        assert_eq!(classes_of(command), expected());

        let bearer = format!("Bearer {token}");
        let (own, others): (Vec<_>, Vec<_>) = hub
            .requests()
            .into_iter()
            .partition(|request| request.header("host").unwrap().starts_with("127"));
        assert!(own.len() >= 6 && own.iter().all(|request| request.header("authorization") == Some(&bearer)));
        let others = [others, store.requests()].concat();
        assert!(
            others.iter().any(|request| request.gets(WEIGHTS))
                && others.iter().any(|request| request.gets(CONFIG))
        );
        assert!(others.iter().all(|request| request.header("authorization").is_none()), "{others:?}");
    }
    // A token that is no valid header value is an error that does not print the token.
    let mut command = fetch(&hub, &home.path().join("third"));
    command.env("HF_TOKEN", "hf_sëcret");
    let line = failure(command, 1);
    assert!(line.contains("HF_TOKEN") && !line.contains("cret"), "{line}");
}

#[test]
fn redirects_are_limited() {
    let home = tempfile::tempdir().unwrap();
    let hub = Files::seeded().serve(|request, response| {
        if request.gets(CONFIG) { Response::to(request.path.clone()) } else { response }
    });
    refused(fetch(&hub, home.path()), &["config.json", &hub.address(), "redirects more than"]);
    assert!(hub.requests().iter().filter(|request| request.gets(CONFIG)).count() <= 11);
    // Redirects to invalid addresses.
    for nowhere in ["ftp://127.0.0.1/x", "http://user@127.0.0.1/x", "x", "http://127.0.0.1:1/\u{fc}"] {
        let hub = Files::seeded().serve(
            move |request, response| {
                if request.gets(CONFIG) { Response::to(nowhere) } else { response }
            },
        );
        refused(fetch(&hub, home.path()), &["config.json", &hub.address(), "not an address"]);
    }
    assert!(!is_complete(home.path()));
}

#[test]
fn a_silent_server_times_out() {
    let home = tempfile::tempdir().unwrap();
    for silent in ["/api/", CONFIG] {
        let hub = Files::seeded().serve(move |request, mut response| {
            if request.path.contains(silent) {
                (response.instead, response.then) = (Some(""), Then::Stall);
            }
            response
        });
        let mut command = fetch(&hub, home.path());
        command.args(["--hub-timeout", "1"]);
        let start = Instant::now();
        refused(command, &[MODEL, &hub.address(), "sent nothing for 1s"]);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    // A byte from time to time, of the headers or of the body, does not extend the time limit.
    let headers = "HTTP/1.1 200 OK\r\nX-Slow: ";
    for instead in [Some(headers), None] {
        let hub = Files::seeded().serve(move |request, mut response| {
            if request.gets(CONFIG) {
                (response.instead, response.then) = (instead, Then::Drip);
                response.body.clear();
            }
            response
        });
        let mut command = fetch(&hub, home.path());
        command.args(["--hub-max-time", "2"]);
        let start = Instant::now();
        refused(command, &["config.json", &hub.address(), "took longer than 2s"]);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn lengths_are_checked() {
    let home = tempfile::tempdir().unwrap();
    let longer = |mut response: Response| {
        response.body.extend(b"and more");
        response
    };
    let ways: [Change; 2] = [
        |response| {
            let length = response.body.len().to_string();
            response.with("Content-Length", length)
        },
        |response| response.chunked(),
    ];
    for (way, words) in ways.into_iter().zip(["where it announced", "more than the"]) {
        let hub = Files::seeded().serve(
            move |request, response| {
                if request.gets(WEIGHTS) { way(longer(response)) } else { response }
            },
        );
        refused(fetch(&hub, home.path()), &[MODEL, WEIGHTS, words]);
        assert!(!partial(home.path(), WEIGHTS).exists() && !is_complete(home.path()));
    }
    for length in ["-1", "1e6", "0x10", "18446744073709551616", "many"] {
        let hub = Files::seeded().serve(move |request, response| {
            if request.is_for(WEIGHTS) { response.with("X-Linked-Size", length) } else { response }
        });
        refused(fetch(&hub, home.path()), &[WEIGHTS, &hub.address(), length, "size"]);
    }
    let hub = Files::seeded().serve(|request, response| {
        if request.is_for(WEIGHTS) { response.without("Content-Length") } else { response }
    });
    refused(fetch(&hub, home.path()), &[WEIGHTS, &hub.address(), "sends nothing", "size"]);
    // An announced size above the limit is refused.
    let hub = honest();
    let mut command = fetch(&hub, home.path());
    command.args(["--hub-max-size", "500000"]);
    refused(command, &[WEIGHTS, &hub.address(), "969522", "500000"]);
    let hub = Files::seeded().serve(|request, response| {
        if request.is_for(CONFIG) { response.with("X-Linked-Size", "999999999") } else { response }
    });
    refused(fetch(&hub, &home.path().join("new")), &[CONFIG, &hub.address(), "999999999", "limit"]);
    // A response without an announced size is limited too.
    let hub = Files::seeded().serve(|request, response| {
        if request.lists() { Response::new(200, vec![b' '; 20 << 20]).chunked() } else { response }
    });
    refused(fetch(&hub, home.path()), &[&hub.address(), "more than 16777216 bytes"]);
    assert!(!is_complete(home.path()));
}

#[test]
fn damaged_downloads_are_deleted() {
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
    // Damaged before the hub computed the hash; and damaged on the way: the right size, but another hash.
    let hubs = served.map(|(file, bytes, words)| {
        (file, Files::seeded().with(file, bytes).serve(|_, response| response), words.to_owned())
    });
    let flipped = [CONFIG, WEIGHTS].map(|file| {
        let hub = Files::seeded().serve(move |request, mut response| {
            if request.gets(file) {
                let last = response.body.len() - 2;
                response.body[last] ^= 1;
            }
            response
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
        assert_eq!(classes_of(fetch(&honest(), home.path())), expected());
    }
}

/// Without hashes, a file counts as complete if it can be read, and partial downloads are not continued.
#[test]
fn etags_that_are_no_hashes() {
    let home = tempfile::tempdir().unwrap();
    let hub = Files::seeded().serve(|request, response| {
        let name = request.path.rsplit('/').next().unwrap();
        if request.lists() { response } else { response.with("ETag", format!("W/\"v1-{}\"", name.len())) }
    });
    let part = folder(home.path()).join("blobs/v1-17.incomplete");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, &Files::seeded().0[WEIGHTS][..1000]).unwrap();
    assert_eq!(classes_of(fetch(&hub, home.path())), expected());
    assert!(hub.requests().iter().all(|request| request.header("range").is_none()));
    assert_eq!(names(&folder(home.path()).join("blobs")), ["v1-11", "v1-17", "v1-24"]);
}

#[test]
fn texts_of_a_server_are_escaped() {
    let home = tempfile::tempdir().unwrap();
    let evil = "\u{1b}]0;evil\u{7}\u{202e}\u{9b}31m\nerror: evil";
    let listing = json!({ "sha": evil, "siblings": [] }).to_string();
    let hub = Server::new(move |_| Response::new(200, listing.clone()));
    let wrong = json!({ "sha": COMMIT, "siblings": evil }).to_string();
    let worse = Server::new(move |_| Response::new(200, wrong.clone()));
    for hub in [hub, worse] {
        let line = failure(fetch(&hub, home.path()), 1);
        let steers = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(line.contains("evil") && !line.contains(steers), "{line:?}");
    }
}
