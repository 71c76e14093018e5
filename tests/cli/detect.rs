//! `detect`, and what `run` writes of a detector.

use std::{fs, path::Path, process::Command};

use goldcrest::{
    tasks::{Picture, preprocess},
    zoo::Network,
};
use safetensors::tensor::Dtype;
use serde_json::{Value, json as value};

use super::{
    COFFEE, ROCKET, SSDLITE, answer, common::fixture::Fixture, failure, goldcrest, json, make, names, on_cpu,
    refused, seen, unsaved,
};

/// Scores that torchvision computed in f64 may differ by so much, and boxes by so many pixels.
const SCORE: f32 = 1e-4;
const PIXELS: f32 = 0.01;

/// Scores nearer than this may change places.
const TIE: f32 = 1e-6;

/// The fixture with many things in its pictures, with few and with none.
fn fixtures() -> [Fixture; 3] {
    ["", "-quiet", "-silent"].map(|kind| Fixture::network(&format!("{SSDLITE}{kind}")))
}

/// A thing that was found: class, score, and left, top, right, bottom.
#[derive(Debug, Clone, Copy)]
struct Thing {
    class: u64,
    score: f32,
    corners: [f32; 4],
}

/// What torchvision finds.
fn torchvisions(fixture: &Fixture, case: usize) -> Vec<Thing> {
    let floats = |name: &str| -> Vec<f32> {
        let bytes = fixture.bytes_of(&format!("{name}/{case}")).1;
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let (boxes, scores) = (floats("boxes"), floats("scores"));
    let classes = fixture.bytes_of(&format!("classes/{case}")).1;
    assert_eq!((boxes.len(), classes.len()), (4 * scores.len(), scores.len()));
    let things = scores.iter().zip(classes).zip(boxes.as_chunks::<4>().0);
    things.map(|((&score, class), &corners)| Thing { class: class.into(), score, corners }).collect()
}

/// The detections of an answer in JSON.
fn things(told: &Value) -> Vec<Thing> {
    let float = |value: &Value| value.as_f64().expect("a number") as f32;
    let thing = |found: &Value| Thing {
        class: found["index"].as_u64().unwrap(),
        score: float(&found["score"]),
        corners: ["left", "top", "right", "bottom"].map(|side| float(&found["bounds"][side])),
    };
    told["detections"].as_array().unwrap().iter().map(thing).collect()
}

/// As many, in the same order but for ties, and each in its place.
#[track_caller]
fn are_the_same(ours: &[Thing], theirs: &[Thing], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    assert!(ours.windows(2).all(|pair| pair[0].score >= pair[1].score), "{what}: {ours:?}");
    let mut left: Vec<(usize, &Thing)> = theirs.iter().enumerate().collect();
    for (at, our) in ours.iter().enumerate() {
        let same = |(place, their): &(usize, &Thing)| {
            let tied = *place == at || (their.score - theirs[at].score).abs() < TIE;
            let near = our.corners.iter().zip(their.corners).all(|(a, b)| (a - b).abs() <= PIXELS);
            tied && our.class == their.class && (our.score - their.score).abs() <= SCORE && near
        };
        let found = left.iter().position(same);
        left.remove(found.unwrap_or_else(|| panic!("{what} {at}: {our:?}, not {:?}", theirs[at])));
    }
}

/// `detect` with the fixture that finds many things, on the CPU.
fn detect(picture: &str, more: &[&str]) -> Command {
    let mut command = on_cpu("detect", &make::golden(SSDLITE), &[picture]);
    command.args(more);
    command
}

#[test]
fn torchvision_finds_the_same() {
    let mut counts = Vec::new();
    for fixture in fixtures() {
        for case in 0..fixture.recipe.cases.len() {
            let expected = torchvisions(&fixture, case);
            let picture = fixture.picture_file(case);
            let command = || {
                let mut command = goldcrest(["detect", "--json", "--score", "0", "--weights"]);
                command.arg(make::golden(&fixture.name)).arg(&picture);
                command
            };
            // An adapter once: what it computes is what the golden tests are for.
            let backends = if counts.is_empty() { &["cpu", "gpu"][..] } else { &["cpu"] };
            for backend in backends {
                let mut command = command();
                command.args(["--backend", backend]);
                let what = format!("{} case {case} on {backend}", fixture.name);
                are_the_same(&things(&seen(command)), &expected, &what);
            }
            counts.push(expected.len());
        }
    }
    assert!(counts.contains(&0) && counts.contains(&300), "{counts:?}");
    assert!(counts.iter().any(|count| (1..300).contains(count)), "{counts:?}");
}

#[test]
fn in_json_with_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("seen.png");
    let mut command = detect(COFFEE, &["--json", "--out"]);
    command.arg(&out);
    let told = seen(command);
    assert_eq!(
        (&told["file"], &told["network"]),
        (&COFFEE.into(), &"torchvision/ssdlite320_mobilenet_v3_large".into())
    );
    assert_eq!((&told["width"], &told["height"]), (&257.into(), &193.into()));
    assert_eq!((&told["device"]["backend"], &told["precision"]), (&"cpu".into(), &"f32".into()));
    assert_eq!(told["overlay"], value!(out));
    let timings = &told["timings"];
    assert!(timings["wall_ms"].as_f64().unwrap() > 0.0 && timings["startup"].is_object(), "{told}");
    let coco: Vec<&str> = include_str!("../../assets/coco_classes.txt").lines().collect();
    let found = told["detections"].as_array().unwrap();
    assert!(!found.is_empty());
    for thing in found {
        let keys: Vec<&str> = thing.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["bounds", "index", "label", "score"]);
        assert_eq!(thing["label"], coco[thing["index"].as_u64().unwrap() as usize]);
    }
    for thing in things(&told) {
        let [left, top, right, bottom] = thing.corners;
        assert!(0.0 <= left && left <= right && right <= 257.0, "{thing:?}");
        assert!(0.0 <= top && top <= bottom && bottom <= 193.0, "{thing:?}");
    }
    let (drawn, before) = (image::open(&out).unwrap().to_rgb8(), image::open(COFFEE).unwrap().to_rgb8());
    assert_eq!(drawn.dimensions(), (257, 193));
    assert_ne!(drawn, before);
    assert_eq!(names(folder.path()), ["seen.png"]);
}

#[test]
fn the_weak_are_hidden() {
    let scores = |more: &[&str]| -> Vec<f32> {
        let told = seen(detect(ROCKET, &[&["--json"], more].concat()));
        things(&told).iter().map(|thing| thing.score).collect()
    };
    let all = scores(&["--score", "0"]);
    for (more, least) in [(&[][..], 0.5), (&["--score", "0.9"], 0.9), (&["--score", "1"], 1.0)] {
        let expected: Vec<f32> = all.iter().copied().filter(|score| *score >= least).collect();
        assert_eq!(scores(more), expected);
        assert!(expected.len() < all.len());
    }
    for score in ["2", "-0.1", "nan", "inf", "half", ""] {
        let line = failure(detect(ROCKET, &[&format!("--score={score}")]), 2);
        assert!(line.contains("--score"), "{line}");
    }
}

#[test]
fn in_words() {
    let text = answer(detect(ROCKET, &["--score", "0.95"]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], ROCKET);
    let expected = torchvisions(&Fixture::network(SSDLITE), 1);
    let expected: Vec<&Thing> = expected.iter().filter(|thing| thing.score >= 0.95).collect();
    assert_eq!(lines.len(), expected.len() + 2, "{text}");
    for (line, thing) in lines[1..].iter().zip(expected) {
        let percent = format!("{:.1}%  ", 100.0 * thing.score);
        assert!(
            line.trim_start().starts_with(&percent) && line.contains(&format!(" ({}) from ", thing.class)),
            "{line}"
        );
    }
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("torchvision/ssdlite320_mobilenet_v3_large on ") && last.contains("(cpu, "),
        "{text}"
    );
}

#[test]
fn nothing_is_found_in_words_and_in_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("seen.png");
    // Something, but little more than nothing; and nothing at all.
    for (kind, score, said) in [("-quiet", None, "0.5"), ("-silent", Some("0"), "0")] {
        let mut command = on_cpu("detect", &make::golden(&format!("{SSDLITE}{kind}")), &[ROCKET, "--out"]);
        command.arg(&out);
        command.args(score.map(|score| ["--score", score]).iter().flatten());
        let text = answer(command);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], [ROCKET, &format!("  nothing with a score of {said} or more")]);
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(image::open(&out).unwrap().to_rgb8(), image::open(ROCKET).unwrap().to_rgb8());
    }
}

#[test]
fn labels_and_pictures_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("birds.txt");
    let labels = |count: usize| (0..count).map(|i| format!("bird {i}\n")).collect::<String>();
    let dot = make::plain_picture(folder.path(), 1, 1);
    let tall = make::plain_picture(folder.path(), 1, 60_000);
    let out = folder.path().join("out.png");
    for (picture, size) in [(&dot, (1, 1)), (&tall, (1, 60_000))] {
        fs::write(&file, labels(91)).unwrap();
        let mut command = detect(picture.to_str().unwrap(), &["--json", "--score", "0", "--labels"]);
        command.arg(&file).arg("--out").arg(&out);
        let told = seen(command);
        let found = told["detections"].as_array().unwrap();
        assert!(!found.is_empty());
        assert!(found.iter().all(|thing| thing["label"] == format!("bird {}", thing["index"])));
        assert_eq!(image::open(&out).unwrap().to_rgb8().dimensions(), size);
        fs::write(&file, labels(90)).unwrap();
        let mut command = detect(picture.to_str().unwrap(), &["--labels"]);
        command.arg(&file);
        refused(command, &["birds.txt", "90 labels", "91 classes"]);
    }
}

#[test]
fn what_cannot_be_written_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &Path| {
        let mut command = detect(ROCKET, &["--out"]);
        command.arg(path);
        command
    };
    let line = failure(write(Path::new("x.jpeg")), 2);
    assert!(line.contains("--out") && line.contains("x.jpeg"), "{line}");
    refused(write(&folder.path().join("none/x.png")), &["none/x.png", "not found"]);
    #[cfg(target_os = "linux")]
    {
        let full = folder.path().join("full.png");
        std::os::unix::fs::symlink("/dev/full", &full).unwrap();
        unsaved(write(&full), &["full.png", "No space"]);
        fs::remove_file(full).unwrap();
    }
    assert_eq!(names(folder.path()), [""; 0]);
}

/// What `run` found, of each picture, in pixels of a picture that the input was made of.
fn found(file: &Path, pictures: &[&Picture]) -> Vec<Vec<Thing>> {
    let mut tensors = make::read(file);
    let mut take = |name: &str, dtype: Dtype| {
        let tensor = tensors.remove(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(tensor.0, dtype, "{name}");
        tensor
    };
    let (boxes, scores, labels) =
        (take("boxes", Dtype::F32), take("scores", Dtype::F32), take("labels", Dtype::I64));
    let count = labels.1[0];
    assert_eq!((&boxes.1[..], &scores.1[..], &labels.1[..]), (&[count, 4][..], &[count][..], &[count][..]));
    let of = match pictures.len() {
        1 => vec![0; count],
        _ => {
            let of = take("pictures", Dtype::I64);
            assert_eq!(of.1, [count]);
            make::integers(&of)
        }
    };
    assert!(tensors.is_empty(), "{:?}", tensors.keys());
    // One picture after another.
    assert!(of.is_sorted() && of.iter().all(|of| (0..pictures.len() as i64).contains(of)), "{of:?}");
    let mut found = vec![Vec::new(); pictures.len()];
    let (boxes, scores, labels) = (make::floats(&boxes), make::floats(&scores), make::integers(&labels));
    for (((of, label), score), corners) in of.iter().zip(labels).zip(scores).zip(boxes.as_chunks::<4>().0) {
        let picture = pictures[*of as usize];
        let [x, y] = [picture.width(), picture.height()].map(|side| side as f32 / 320.0);
        let [left, top, right, bottom] = *corners;
        let corners = [left * x, top * y, right * x, bottom * y];
        found[*of as usize].push(Thing { class: label as u64, score, corners });
    }
    found
}

#[test]
fn run_writes_boxes_scores_and_labels() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    for fixture in fixtures() {
        let weights = make::golden(&fixture.name);
        let how = Network::open(&weights).unwrap().preprocessing;
        let cases: Vec<usize> = (0..fixture.recipe.cases.len()).collect();
        let pictures: Vec<Picture> = cases.iter().map(|case| fixture.picture(*case)).collect();
        let inputs: Vec<_> = pictures.iter().map(|picture| preprocess(picture, &how).unwrap()).collect();
        // Each alone, and the last two in a batch; where there is one, twice.
        let last = cases.len() - 1;
        let pair = vec![last.saturating_sub(1), last];
        for batch in cases.into_iter().map(|case| vec![case]).chain([pair]) {
            let data = batch.iter().flat_map(|case| inputs[*case].data()).copied().collect();
            let input = goldcrest::Tensor::new([batch.len(), 3, 320, 320], data).unwrap();
            let mut command = on_cpu("run", &weights, &["--json", "--input"]);
            command.arg(make::input_of(folder.path(), &input)).arg("--output").arg(&output);
            let told = json(command);
            let pictures: Vec<&Picture> = batch.iter().map(|case| &pictures[*case]).collect();
            let found = found(&output, &pictures);
            let count: usize = found.iter().map(Vec::len).sum();
            let mut outputs = vec![
                value!({ "name": "boxes", "shape": [count, 4] }),
                value!({ "name": "scores", "shape": [count] }),
                value!({ "name": "labels", "shape": [count] }),
            ];
            if batch.len() > 1 {
                outputs.push(value!({ "name": "pictures", "shape": [count] }));
            }
            assert_eq!((&told["outputs"], &told["output"]), (&Value::from(outputs), &value!([count, 4])));
            for (case, found) in batch.iter().zip(found) {
                let what = format!("{} case {case} of {batch:?}", fixture.name);
                are_the_same(&found, &torchvisions(&fixture, *case), &what);
            }
        }
    }
}

#[test]
fn run_writes_a_detectors_layers_too() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[1, 3, 64, 96]);
    let [plain, tapped] = ["plain.safetensors", "tapped.safetensors"].map(|name| folder.path().join(name));
    let run = |output: &Path, more: &[&str]| {
        let mut command = on_cpu("run", &make::golden(SSDLITE), &["--json", "--input"]);
        command.arg(&input).arg("--output").arg(output).args(more);
        (json(command), make::read(output))
    };
    let (_, answer) = run(&plain, &[]);
    let (told, taps) = run(&tapped, &["--taps"]);
    assert!(answer.iter().all(|(name, tensor)| taps[name] == *tensor));
    assert_eq!(told["tensors"], taps.len());
    for (key, shape) in [
        ("backbone.features.0.0.2", [1, 16, 32, 48]),
        ("backbone.extra.3.2.2", [1, 128, 1, 1]),
        ("head.classification_head.module_list.0.1", [1, 546, 4, 6]),
        ("head.regression_head.module_list.1.1", [1, 24, 2, 3]),
    ] {
        assert_eq!(taps[key].1, shape, "{key}");
    }
}
