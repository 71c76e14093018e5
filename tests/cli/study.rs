//! `goldcrest study --only` and `--compare`.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{goldcrest, refused, success, without_driver};

/// A study of one experiment on one thread of the CPU.
fn studied(folder: &Path, name: &str, experiments: &str) -> String {
    let page = folder.join(name).with_extension("html");
    let arguments = ["study", "--quick", "--threads", "1", "--only", experiments, "--out"];
    let mut command = without_driver(goldcrest(arguments));
    command.arg(&page);
    success(command);
    let data = page.with_extension("json");
    let report: Value = serde_json::from_str(&fs::read_to_string(&data).unwrap()).unwrap();
    assert_eq!((report["format"].as_str(), report["version"].as_u64()), (Some("goldcrest study"), Some(2)));
    let ids: Vec<&str> = report["sections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|section| section["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.join(","), experiments);
    data.to_str().unwrap().to_owned()
}

#[test]
fn studies_of_two_machines_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (desk, lap) = (studied(folder.path(), "desk", "E1,E2"), studied(folder.path(), "lap", "E2"));
    let page = at("both.html");
    let words = success(goldcrest(["study", "--compare", &desk, &lap, "--out", &page]));
    assert!(words.contains("E2: The paper's claim ") && words.contains("both.json"), "{words}");
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("desk: time") && html.contains("lap: time"));
    let json = success(goldcrest(["study", "--compare", &desk, &lap, "--out", &page, "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["format"], "goldcrest study comparison");
    assert_eq!(json["sections"][0]["id"], "E2");

    // What cannot be compared is named.
    let write = |name: &str, text: &str| {
        fs::write(at(name), text).unwrap();
        at(name)
    };
    let (text, other) = (write("text.json", "hello"), write("other.json", "{\"layers\": []}"));
    let copy = write("copy.json", &fs::read_to_string(&desk).unwrap());
    let old = format!("{}/benches/runs/2026-11-28-h200-study.json", env!("CARGO_MANIFEST_DIR"));
    let compare = |a: &str, b: &str| goldcrest(["study", "--compare", a, b, "--out", &page]);
    refused(compare(&desk, &at("missing.json")), &["missing.json", "No such file"]);
    refused(compare(&text, &desk), &["text.json", "is not JSON", "goldcrest study"]);
    refused(compare(&desk, &other), &["other.json", "not a report of `goldcrest study`"]);
    refused(compare(&desk, &old), &["h200-study.json", "older version", "again"]);
    refused(compare(&desk, &copy), &["desk.json", "copy.json", "the same study"]);
    refused(compare(&desk, &desk), &["desk.json", "the same study"]);
    let layers = studied(folder.path(), "layers", "E1");
    refused(compare(&lap, &layers), &["lap has E2", "layers has E1", "in common"]);
    let over = desk.replace(".json", ".html");
    refused(goldcrest(["study", "--compare", &desk, &lap, "--out", &over]), &["desk.json", "also an input"]);
}
