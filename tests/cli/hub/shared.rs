//! Caches that another program has filled. timm's Python library downloads the weights alone.

use std::{fs, path::Path};

use super::{
    COMMIT, CONFIG, Files, MODEL, PREPROCESSOR, WEIGHTS, classes_of, classify, fetch, folder, honest,
    offline, snapshot,
};
use crate::{SEEDED, names, text};

/// A cache with the weights alone.
fn weights_alone() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let (snapshot, refs) = (snapshot(home.path()), folder(home.path()).join("refs"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(&refs).unwrap();
    fs::copy(Path::new(SEEDED).join(WEIGHTS), snapshot.join(WEIGHTS)).unwrap();
    fs::write(refs.join("main"), COMMIT).unwrap();
    home
}

/// Records, as the Python client does, that the hub does not have these files.
fn record_absence(home: &Path, files: &[&str]) {
    let records = folder(home).join(".no_exist").join(COMMIT);
    fs::create_dir_all(&records).unwrap();
    for file in files {
        fs::write(records.join(file), "").unwrap();
    }
}

#[test]
fn weights_without_configuration_get_it_from_the_hub() {
    let home = weights_alone();
    let config = text(&Files::seeded().0[CONFIG]).replace("LABEL_", "served ");
    // Like timm's models, this one has no second configuration.
    let hub = Files::seeded().without(PREPROCESSOR).with(CONFIG, config).serve(|_, response| response);
    let classes = classes_of(fetch(&hub, home.path()));
    assert!(classes[0]["label"].as_str().unwrap().starts_with("served "), "{classes}");
    let requests = hub.requests();
    assert!(requests.iter().any(|request| request.gets(CONFIG)), "{requests:?}");
    assert!(!requests.iter().any(|request| request.is_for(WEIGHTS)), "{requests:?}");

    assert_eq!(names(&folder(home.path()).join(".no_exist").join(COMMIT)), [PREPROCESSOR]);
    assert_eq!(classes_of(fetch(&hub, home.path())), classes);
    assert_eq!(hub.requests().len(), 0, "the hub is asked once for a file that it does not have");
    let output = offline(fetch(&hub, home.path())).output().unwrap();
    assert!(output.status.success() && !text(&output.stderr).contains("may be wrong"), "{output:?}");
}

#[test]
fn without_the_hub_a_missing_configuration_is_a_warning() {
    let both = format!("without {CONFIG} and {PREPROCESSOR}");
    let one = format!("without {CONFIG},");
    for (absent, missing) in [(vec![], both), (vec![PREPROCESSOR], one)] {
        let home = weights_alone();
        record_absence(home.path(), &absent);
        let gone = || classify(MODEL, "http://127.0.0.1:9", home.path());
        for (mut command, reason) in [(gone(), "cannot be reached"), (offline(gone()), "HF_HUB_OFFLINE")] {
            let output = command.output().unwrap();
            let stderr = text(&output.stderr);
            let words = ["warning: ", MODEL, &missing, "may be wrong", reason];
            let warned = stderr.lines().any(|line| words.iter().all(|word| line.contains(word)));
            assert!(output.status.success() && warned, "{stderr}");
        }
    }
}

#[test]
fn records_of_the_python_client_save_requests() {
    let home = weights_alone();
    record_absence(home.path(), &[CONFIG, PREPROCESSOR]);
    let hub = honest();
    classes_of(fetch(&hub, home.path()));
    assert_eq!(hub.requests().len(), 0);
}

/// A link to a deleted file is not a configuration.
#[test]
#[cfg(unix)]
fn a_deleted_configuration_is_fetched_again() {
    use super::{blob, expected};

    let home = tempfile::tempdir().unwrap();
    let hub = honest();
    classes_of(fetch(&hub, home.path()));
    fs::remove_file(blob(home.path(), CONFIG)).unwrap();
    hub.requests();
    assert_eq!(classes_of(fetch(&hub, home.path())), expected());
    assert!(hub.requests().iter().any(|request| request.gets(CONFIG)));
}
