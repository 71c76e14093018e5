//! `detect`, and `run` with a detector.

use std::{fs, path::Path, process::Command};

use goldcrest::{
    tasks::{Picture, preprocess},
    zoo::Network,
};
use safetensors::tensor::Dtype;
use serde_json::{Value, json as value};

use super::{
    COFFEE, ROCKET, SSDLITE, common::fixture::Fixture, failure, goldcrest, json, make, names, on_cpu,
    only_picture, refused, success, unsaved,
};

/// Tolerances against torchvision's f64 results: of scores, and of boxes in pixels.
const SCORE: f32 = 1e-4;
const PIXELS: f32 = 0.01;

/// Detections whose scores differ by less may come in either order.
const TIE: f32 = 1e-6;

/// The fixtures with many detections, with few and with none.
fn fixtures() -> [Fixture; 3] {
    ["", "-quiet", "-silent"].map(|kind| Fixture::network(&format!("{SSDLITE}{kind}")))
}

/// A detection.
#[derive(Debug, Clone, Copy)]
struct Detection {
    class: u64,
    score: f32,
    /// Left, top, right, bottom.
    corners: [f32; 4],
}

/// The detections of torchvision.
fn of_torchvision(fixture: &Fixture, case: usize) -> Vec<Detection> {
    let floats = |name: &str| -> Vec<f32> {
        let bytes = fixture.bytes_of(&format!("{name}/{case}")).1;
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let (boxes, scores) = (floats("boxes"), floats("scores"));
    let classes = fixture.bytes_of(&format!("classes/{case}")).1;
    assert_eq!((boxes.len(), classes.len()), (4 * scores.len(), scores.len()));
    let detections = scores.iter().zip(classes).zip(boxes.as_chunks::<4>().0);
    detections.map(|((&score, class), &corners)| Detection { class: class.into(), score, corners }).collect()
}

/// The detections in a JSON report.
fn of_report(report: &Value) -> Vec<Detection> {
    let float = |value: &Value| value.as_f64().expect("a number") as f32;
    let detection = |found: &Value| Detection {
        class: found["index"].as_u64().unwrap(),
        score: float(&found["score"]),
        corners: ["left", "top", "right", "bottom"].map(|side| float(&found["bounds"][side])),
    };
    report["detections"].as_array().unwrap().iter().map(detection).collect()
}

/// Asserts that both have the same detections, in the same order except for ties.
#[track_caller]
fn are_the_same(ours: &[Detection], theirs: &[Detection], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    assert!(ours.windows(2).all(|pair| pair[0].score >= pair[1].score), "{what}: {ours:?}");
    let mut unmatched: Vec<(usize, &Detection)> = theirs.iter().enumerate().collect();
    for (at, our) in ours.iter().enumerate() {
        let same = |(index, their): &(usize, &Detection)| {
            let tied = *index == at || (their.score - theirs[at].score).abs() < TIE;
            let near = our.corners.iter().zip(their.corners).all(|(a, b)| (a - b).abs() <= PIXELS);
            tied && our.class == their.class && (our.score - their.score).abs() <= SCORE && near
        };
        let found = unmatched.iter().position(same);
        unmatched.remove(found.unwrap_or_else(|| panic!("{what} {at}: {our:?}, not {:?}", theirs[at])));
    }
}

/// `detect` with the fixture that has many detections, on the CPU.
fn detect(picture: &str, more: &[&str]) -> Command {
    let mut command = on_cpu("detect", &make::golden(SSDLITE), &[picture]);
    command.args(more);
    command
}

#[test]
fn detections_agree_with_torchvision() {
    let mut counts = Vec::new();
    for fixture in fixtures() {
        for case in 0..fixture.recipe.cases.len() {
            let expected = of_torchvision(&fixture, case);
            let picture = fixture.picture_file(case);
            let command = || {
                let mut command = goldcrest(["detect", "--json", "--score", "0", "--weights"]);
                command.arg(make::golden(&fixture.name)).arg(&picture);
                command
            };
            // One case on an adapter: the golden tests check what adapters compute.
            let backends = if counts.is_empty() { &["cpu", "gpu"][..] } else { &["cpu"] };
            for backend in backends {
                let mut command = command();
                command.args(["--backend", backend]);
                let what = format!("{} case {case} on {backend}", fixture.name);
                are_the_same(&of_report(&only_picture(command)), &expected, &what);
            }
            counts.push(expected.len());
        }
    }
    assert!(counts.contains(&0) && counts.contains(&300), "{counts:?}");
    assert!(counts.iter().any(|count| (1..300).contains(count)), "{counts:?}");
}

#[test]
fn json_and_overlay() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("seen.png");
    let mut command = detect(COFFEE, &["--json", "--out"]);
    command.arg(&out);
    let report = only_picture(command);
    assert_eq!(
        (&report["file"], &report["network"]),
        (&COFFEE.into(), &"torchvision/ssdlite320_mobilenet_v3_large".into())
    );
    assert_eq!((&report["width"], &report["height"]), (&257.into(), &193.into()));
    assert_eq!((&report["device"]["backend"], &report["precision"]), (&"cpu".into(), &"f32".into()));
    assert_eq!(report["overlay"], value!(out));
    let timings = &report["timings"];
    assert!(timings["wall_ms"].as_f64().unwrap() > 0.0 && timings["startup"].is_object(), "{report}");
    let coco: Vec<&str> = include_str!("../../assets/coco_classes.txt").lines().collect();
    let found = report["detections"].as_array().unwrap();
    assert!(!found.is_empty());
    for detection in found {
        let keys: Vec<&str> = detection.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["bounds", "index", "label", "score"]);
        assert_eq!(detection["label"], coco[detection["index"].as_u64().unwrap() as usize]);
    }
    for detection in of_report(&report) {
        let [left, top, right, bottom] = detection.corners;
        assert!(0.0 <= left && left <= right && right <= 257.0, "{detection:?}");
        assert!(0.0 <= top && top <= bottom && bottom <= 193.0, "{detection:?}");
    }
    let (drawn, before) = (image::open(&out).unwrap().to_rgb8(), image::open(COFFEE).unwrap().to_rgb8());
    assert_eq!(drawn.dimensions(), (257, 193));
    assert_ne!(drawn, before);
    assert_eq!(names(folder.path()), ["seen.png"]);
}

#[test]
fn low_scores_are_hidden() {
    let scores = |more: &[&str]| -> Vec<f32> {
        let report = only_picture(detect(ROCKET, &[&["--json"], more].concat()));
        of_report(&report).iter().map(|detection| detection.score).collect()
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
fn text_lists_the_detections() {
    let text = success(detect(ROCKET, &["--score", "0.95"]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], ROCKET);
    let expected = of_torchvision(&Fixture::network(SSDLITE), 1);
    let expected: Vec<&Detection> = expected.iter().filter(|detection| detection.score >= 0.95).collect();
    assert_eq!(lines.len(), expected.len() + 2, "{text}");
    for (line, detection) in lines[1..].iter().zip(expected) {
        let percent = format!("{:.1}%  ", 100.0 * detection.score);
        assert!(
            line.trim_start().starts_with(&percent)
                && line.contains(&format!(" ({}) from ", detection.class)),
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
fn no_detections_in_text_and_overlay() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("seen.png");
    // Few detections, all below the default threshold; and none.
    for (kind, score, threshold) in [("-quiet", None, "0.5"), ("-silent", Some("0"), "0")] {
        let mut command = on_cpu("detect", &make::golden(&format!("{SSDLITE}{kind}")), &[ROCKET, "--out"]);
        command.arg(&out);
        command.args(score.map(|score| ["--score", score]).iter().flatten());
        let text = success(command);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], [ROCKET, &format!("  nothing with a score of {threshold} or more")]);
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(image::open(&out).unwrap().to_rgb8(), image::open(ROCKET).unwrap().to_rgb8());
    }
}

#[test]
fn custom_labels_and_extreme_picture_sizes() {
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
        let report = only_picture(command);
        let found = report["detections"].as_array().unwrap();
        assert!(!found.is_empty());
        assert!(found.iter().all(|detection| detection["label"] == format!("bird {}", detection["index"])));
        assert_eq!(image::open(&out).unwrap().to_rgb8().dimensions(), size);
        fs::write(&file, labels(90)).unwrap();
        let mut command = detect(picture.to_str().unwrap(), &["--labels"]);
        command.arg(&file);
        refused(command, &["birds.txt", "90 labels", "91 classes"]);
    }
}

#[test]
fn unwritable_outputs_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &Path| {
        let mut command = detect(ROCKET, &["--out"]);
        command.arg(path);
        command
    };
    let line = failure(write(Path::new("x.gif")), 2);
    assert!(line.contains("--out") && line.contains("x.gif"), "{line}");
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

/// The detections that `run` wrote, per picture, scaled to the pixels of the original picture.
fn found(file: &Path, pictures: &[&Picture]) -> Vec<Vec<Detection>> {
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
    // Sorted by picture.
    assert!(of.is_sorted() && of.iter().all(|of| (0..pictures.len() as i64).contains(of)), "{of:?}");
    let mut found = vec![Vec::new(); pictures.len()];
    let (boxes, scores, labels) = (make::floats(&boxes), make::floats(&scores), make::integers(&labels));
    for (((of, label), score), corners) in of.iter().zip(labels).zip(scores).zip(boxes.as_chunks::<4>().0) {
        let picture = pictures[*of as usize];
        let [x, y] = [picture.width(), picture.height()].map(|side| side as f32 / 320.0);
        let [left, top, right, bottom] = *corners;
        let corners = [left * x, top * y, right * x, bottom * y];
        found[*of as usize].push(Detection { class: label as u64, score, corners });
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
        // Each alone, and the last two in a batch; a single picture twice.
        let last = cases.len() - 1;
        let pair = vec![last.saturating_sub(1), last];
        for batch in cases.into_iter().map(|case| vec![case]).chain([pair]) {
            let data = batch.iter().flat_map(|case| inputs[*case].data()).copied().collect();
            let input = goldcrest::Tensor::new([batch.len(), 3, 320, 320], data).unwrap();
            let mut command = on_cpu("run", &weights, &["--json", "--input"]);
            command.arg(make::input_of(folder.path(), &input)).arg("--output").arg(&output);
            let report = json(command);
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
            assert_eq!((&report["outputs"], &report["output"]), (&Value::from(outputs), &value!([count, 4])));
            for (case, found) in batch.iter().zip(found) {
                let what = format!("{} case {case} of {batch:?}", fixture.name);
                are_the_same(&found, &of_torchvision(&fixture, *case), &what);
            }
        }
    }
}

#[test]
fn run_writes_taps_of_a_detector() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[1, 3, 64, 96]);
    let [plain, tapped] = ["plain.safetensors", "tapped.safetensors"].map(|name| folder.path().join(name));
    let run = |output: &Path, more: &[&str]| {
        let mut command = on_cpu("run", &make::golden(SSDLITE), &["--json", "--input"]);
        command.arg(&input).arg("--output").arg(output).args(more);
        (json(command), make::read(output))
    };
    let (_, outputs) = run(&plain, &[]);
    let (report, taps) = run(&tapped, &["--taps"]);
    assert!(outputs.iter().all(|(name, tensor)| taps[name] == *tensor));
    assert_eq!(report["tensors"], taps.len());
    for (key, shape) in [
        ("backbone.features.0.0.2", [1, 16, 32, 48]),
        ("backbone.extra.3.2.2", [1, 128, 1, 1]),
        ("head.classification_head.module_list.0.1", [1, 546, 4, 6]),
        ("head.regression_head.module_list.1.1", [1, 24, 2, 3]),
    ] {
        assert_eq!(taps[key].1, shape, "{key}");
    }
}
