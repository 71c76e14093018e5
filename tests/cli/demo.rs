//! `goldcrest` without arguments, and `demo`.

use std::{fs, path::Path, process::Command};

use super::{adapters, failure, goldcrest, json, names, refused, success, without_driver};

/// The program without arguments, in a folder.
fn bare(folder: &Path) -> Command {
    let mut command = goldcrest::<&str>([]);
    command.current_dir(folder);
    command
}

#[test]
fn without_arguments_it_prints_correct_results_and_draws_them() {
    let folder = tempfile::tempdir().unwrap();
    let text = success(bare(folder.path()));
    let (_, rest) = text.split_once("its subject is a ").expect("the subject is named");
    let subject = rest.split('.').next().unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(subject)).collect();
    assert!(lines.len() >= 4, "named, classified, detected and segmented: {text}");
    for word in
        ["classified in", "detected in", "segmented in", "written to goldcrest-demo.png", "next: goldcrest"]
    {
        assert!(text.contains(word), "{text} does not mention {word:?}");
    }
    assert_eq!(names(folder.path()), ["goldcrest-demo.png"]);
    let drawn = image::open(folder.path().join("goldcrest-demo.png")).unwrap();
    assert!(drawn.width() >= 384 && drawn.height() > 384, "with a legend");
    // A second run may overwrite the drawing.
    success(bare(folder.path()));
}

#[test]
fn without_a_driver_and_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = without_driver(goldcrest(["demo", "--json", "--seed", "3", "--out", "here.png"]));
    let report = json({
        command.current_dir(folder.path());
        command
    });
    assert_eq!((&report["seed"], &report["overlay"]), (&3.into(), &"here.png".into()));
    assert_eq!(report["adapter"]["backend"], "cpu");
    assert_eq!(report["classify"]["classes"][0]["label"], report["subject"]);
    for (task, key) in [("classify", "classes"), ("detect", "detections"), ("segment", "classes")] {
        let report = &report[task];
        assert!(report["network"].as_str().unwrap().starts_with("torchvision/"), "{report}");
        assert!(report["wall_ms"].as_f64().unwrap() > 0.0);
        assert!(!report[key].as_array().unwrap().is_empty());
    }
    assert_eq!(names(folder.path()), ["here.png"]);
}

#[test]
fn every_adapter_classifies_the_subject() {
    let folder = tempfile::tempdir().unwrap();
    for adapter in adapters() {
        let index = adapter["index"].to_string();
        let mut command = goldcrest(["demo", "--json", "--adapter", &index]);
        command.current_dir(folder.path());
        let report = json(command);
        assert_eq!(report["adapter"]["name"], adapter["name"]);
        assert_eq!(report["classify"]["classes"][0]["label"], report["subject"], "{}", adapter["name"]);
    }
}

#[test]
fn results_are_printed_if_no_file_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    // A folder with that name: even the superuser cannot write the file.
    fs::create_dir(folder.path().join("goldcrest-demo.png")).unwrap();
    let text = success(bare(folder.path()));
    assert!(
        text.contains("not written: goldcrest-demo.png: is a folder") && text.contains("segmented"),
        "{text}"
    );

    let gone = folder.path().join("none/x.png");
    let mut command = goldcrest(["demo", "--out"]);
    command.arg(&gone);
    refused(command, &["none/x.png"]);
    assert!(failure(goldcrest(["demo", "--out", "x.webp"]), 2).contains(".png"));
    assert!(failure(goldcrest(["demo", "--seed", "-1"]), 2).contains("-1"));
}
