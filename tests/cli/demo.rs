//! The first command of a stranger: no arguments, and `demo` with some.

use std::{fs, path::Path, process::Command};

use super::{answer, failure, goldcrest, json, names, refused, without_driver};

/// The program without arguments, in a folder.
fn bare(folder: &Path) -> Command {
    let mut command = goldcrest::<&str>([]);
    command.current_dir(folder);
    command
}

#[test]
fn without_arguments_right_answers_and_a_drawing() {
    let folder = tempfile::tempdir().unwrap();
    let text = answer(bare(folder.path()));
    let (_, rest) = text.split_once("its subject is a ").expect("the subject is named");
    let subject = rest.split('.').next().unwrap();
    let told: Vec<&str> = text.lines().filter(|line| line.contains(subject)).collect();
    assert!(told.len() >= 4, "told, classified, detected and segmented: {text}");
    for word in
        ["classified in", "detected in", "segmented in", "written to goldcrest-demo.png", "next: goldcrest"]
    {
        assert!(text.contains(word), "{text} does not say {word:?}");
    }
    assert_eq!(names(folder.path()), ["goldcrest-demo.png"]);
    let drawn = image::open(folder.path().join("goldcrest-demo.png")).unwrap();
    assert!(drawn.width() >= 384 && drawn.height() > 384, "with a legend");
    // Again, over its own drawing.
    answer(bare(folder.path()));
}

#[test]
fn without_a_driver_and_for_programs() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = without_driver(goldcrest(["demo", "--json", "--seed", "3", "--out", "here.png"]));
    let told = json({
        command.current_dir(folder.path());
        command
    });
    assert_eq!((&told["seed"], &told["overlay"]), (&3.into(), &"here.png".into()));
    assert_eq!(told["adapter"]["backend"], "cpu");
    assert_eq!(told["classify"]["classes"][0]["label"], told["subject"]);
    for (task, answers) in [("classify", "classes"), ("detect", "detections"), ("segment", "classes")] {
        let told = &told[task];
        assert!(told["network"].as_str().unwrap().starts_with("torchvision/"), "{told}");
        assert!(told["wall_ms"].as_f64().unwrap() > 0.0);
        assert!(!told[answers].as_array().unwrap().is_empty());
    }
    assert_eq!(names(folder.path()), ["here.png"]);
}

#[test]
fn on_every_adapter() {
    let folder = tempfile::tempdir().unwrap();
    for adapter in json(goldcrest(["adapters", "--json"])).as_array().unwrap() {
        let index = adapter["index"].to_string();
        let mut command = goldcrest(["demo", "--json", "--adapter", &index]);
        command.current_dir(folder.path());
        let told = json(command);
        assert_eq!(told["adapter"]["name"], adapter["name"]);
        assert_eq!(told["classify"]["classes"][0]["label"], told["subject"], "{}", adapter["name"]);
    }
}

#[test]
fn where_nothing_can_be_written_it_only_prints() {
    let folder = tempfile::tempdir().unwrap();
    // A folder of that name is in the way, for the superuser too.
    fs::create_dir(folder.path().join("goldcrest-demo.png")).unwrap();
    let text = answer(bare(folder.path()));
    assert!(
        text.contains("not written: goldcrest-demo.png: is a folder") && text.contains("segmented"),
        "{text}"
    );

    let gone = folder.path().join("none/x.png");
    let mut command = goldcrest(["demo", "--out"]);
    command.arg(&gone);
    refused(command, &["none/x.png"]);
    assert!(failure(goldcrest(["demo", "--out", "x.jpg"]), 2).contains(".png"));
    assert!(failure(goldcrest(["demo", "--seed", "-1"]), 2).contains("-1"));
}
