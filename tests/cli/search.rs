//! `search`: its keys, its files, going on where it was, and bad input. How long anything took is not asked.

use std::{fs, path::Path, process::Command};

use goldcrest::demo::{Scene, Shape};
use serde_json::Value;

use super::{answer, failure, goldcrest, json, refused};

/// A small search on one thread of the CPU. Every search times its blocks anew, as tests have no cache.
fn search(out: &Path, more: &[&str]) -> Command {
    let mut command = goldcrest(["search", "--backend", "cpu", "--threads", "1", "--sizes", "96"]);
    command.args(["--widths", "0.5", "--population", "4", "--generations", "2", "--samples", "32", "--out"]);
    command.arg(out).args(more);
    command
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_winner_is_a_checkpoint_that_every_command_opens() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("found");
    let plot = folder.path().join("front.svg");
    let more = ["--within", "10s", "--check", "2", "--json", "--plot", plot.to_str().unwrap()];
    let told = json(search(&out, &more));
    for key in ["predicted_ms", "measured_ms", "accuracy", "macs", "weights"] {
        assert!(told[key].as_f64().unwrap() > 0.0, "{key}: {told}");
    }
    assert_eq!((&told["backend"], &told["judged"]), (&"cpu".into(), &8.into()));
    assert_eq!(told["prediction"]["checked"].as_array().unwrap().len(), 2);
    assert!(told["front"].as_array().unwrap().iter().any(|row| row["subnet"].is_string()), "{told}");
    assert!(told["finalists"].as_array().unwrap().len() <= 5);
    assert!(fs::read_to_string(plot).unwrap().contains("</svg>"));
    let kept: Value = serde_json::from_slice(&fs::read(out.join("search.json")).unwrap()).unwrap();
    assert_eq!(kept["subnet"], told["subnet"]);

    let mut inspect = goldcrest(["inspect", "--json", "--weights"]);
    inspect.arg(&out);
    let seen = json(inspect);
    assert_eq!((&seen["parameters"], &seen["macs"]), (&told["weights"], &told["macs"]), "{seen}");
    let scene = folder.path().join("scene.png");
    fs::write(&scene, Scene::new(11).draw(200, 200).unwrap().picture.png().unwrap()).unwrap();
    let mut classify = goldcrest(["classify", "--backend", "cpu", "--json", "--weights"]);
    classify.arg(&out).arg(&scene);
    let seen = json(classify);
    let label = seen["pictures"][0]["classes"][0]["label"].as_str().unwrap().to_owned();
    assert!(Shape::ALL.iter().any(|shape| shape.name() == label), "{label}");

    // A line that was broken off is judged again, all others are known.
    let judged = out.join("judged.jsonl");
    let mut known = lines(&judged);
    assert_eq!(known.len(), 9);
    let last = known.pop().unwrap();
    fs::write(&judged, format!("{}\n{}", known.join("\n"), &last[..last.len() / 2])).unwrap();
    let again = json(search(&out, &["--within", "10s", "--json"]));
    assert_eq!(again["judged"], 8);
    let mut now = lines(&judged);
    now.sort();
    known.push(last);
    known.sort();
    assert_eq!(now, known);
}

#[test]
fn pictures_of_ones_own_are_judged_by_their_folders() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    for (seed, number) in (500..).zip(0..40) {
        let drawing = Scene::new(seed).draw(120, 100).unwrap();
        let class = pictures.join(drawing.subject.name());
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join(format!("{number}.png")), drawing.picture.png().unwrap()).unwrap();
    }
    // Neither a picture nor of a class.
    fs::write(pictures.join("notes.txt"), "none").unwrap();
    let out = folder.path().join("found");
    let own = ["--weights", "assets/supernet", "--pictures", pictures.to_str().unwrap(), "--within", "10s"];
    let text = answer(search(&out, &own));
    assert!(text.contains("goldcrest classify IMAGE --weights") && text.contains("--threads 1"), "{text}");
    // Others were judged on other pictures.
    refused(search(&out, &["--within", "10s"]), &["judged.jsonl", "other pictures"]);
    fs::create_dir(pictures.join("nonsense")).unwrap();
    refused(
        search(&folder.path().join("other"), &own),
        &["--pictures", "nonsense", "not the name of a class"],
    );
    assert!(!folder.path().join("other").exists());
}

#[test]
fn what_cannot_be_is_told_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("found");
    let within = |more: &[&str]| search(&out, &[&["--within", "10s"], more].concat());
    refused(search(&out, &["--within", "1us"]), &["even the smallest", "0.001"]);
    refused(within(&["--weights", "assets/demo/classify", "--pictures", "assets"]), &["no supernet"]);
    refused(within(&["--sizes", "97"]), &["size"]);
    refused(search(&folder.path().join("none/found"), &["--within", "10s"]), &["--out", "create it first"]);
    refused(
        search(
            Path::new("assets/supernet"),
            &["--within", "10s", "--weights", "assets/supernet", "--pictures", "assets"],
        ),
        &["is the folder of the supernet"],
    );
    assert!(failure(search(&out, &[]), 2).contains("--within"));
    assert!(failure(within(&["--weights", "assets/supernet"]), 2).contains("--pictures"));
    assert!(!out.exists());
}
