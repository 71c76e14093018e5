//! `search`: keys, files, resuming, and bad input. The measured times are not checked.

use std::{fs, path::Path, process::Command};

use goldcrest::demo::{Scene, Shape};
use serde_json::Value;

use super::{failure, goldcrest, json, refused, success};

/// A small search on one thread of the CPU. Without a cache, every search measures its blocks again.
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
fn the_result_is_a_checkpoint_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("found");
    let plot = folder.path().join("front.svg");
    let search = |more: &[&str]| {
        let mut command = search(&out, more);
        command.env("GOLDCREST_CACHE_DIR", folder.path().join("cache"));
        command
    };
    let more = ["--within", "10s", "--check", "2", "--json", "--plot", plot.to_str().unwrap()];
    let report = json(search(&more));
    for key in ["predicted_ms", "measured_ms", "accuracy", "macs", "weights"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    assert_eq!((&report["backend"], &report["evaluated"]), (&"cpu".into(), &8.into()));
    assert_eq!(report["prediction"]["checked"].as_array().unwrap().len(), 2);
    assert!(report["front"].as_array().unwrap().iter().any(|row| row["subnet"].is_string()), "{report}");
    assert!(report["finalists"].as_array().unwrap().len() <= 5);
    assert!(fs::read_to_string(plot).unwrap().contains("</svg>"));
    let kept: Value = serde_json::from_slice(&fs::read(out.join("search.json")).unwrap()).unwrap();
    assert_eq!(kept["subnet"], report["subnet"]);

    let mut inspect = goldcrest(["inspect", "--json", "--weights"]);
    inspect.arg(&out);
    let inspected = json(inspect);
    assert_eq!(
        (&inspected["parameters"], &inspected["macs"]),
        (&report["weights"], &report["macs"]),
        "{inspected}"
    );
    let scene = folder.path().join("scene.png");
    fs::write(&scene, Scene::new(11).draw(200, 200).unwrap().picture.png().unwrap()).unwrap();
    let mut classify = goldcrest(["classify", "--backend", "cpu", "--json", "--weights"]);
    classify.arg(&out).arg(&scene);
    let classified = json(classify);
    let label = classified["pictures"][0]["classes"][0]["label"].as_str().unwrap().to_owned();
    assert!(Shape::ALL.iter().any(|shape| shape.name() == label), "{label}");

    // A subnet with a truncated line is evaluated again, all others are read from the file.
    let evaluated = out.join("evaluated.jsonl");
    let mut expected = lines(&evaluated);
    assert_eq!(expected.len(), 9);
    let last = expected.pop().unwrap();
    fs::write(&evaluated, format!("{}\n{}", expected.join("\n"), &last[..last.len() / 2])).unwrap();
    let again = json(search(&["--within", "10s", "--json"]));
    assert_eq!(again["evaluated"], 8);
    let mut found = lines(&evaluated);
    found.sort();
    expected.push(last);
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn own_pictures_have_the_class_of_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    for (seed, number) in (500..).zip(0..40) {
        let drawing = Scene::new(seed).draw(120, 100).unwrap();
        let class = pictures.join(drawing.subject.name());
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join(format!("{number}.png")), drawing.picture.png().unwrap()).unwrap();
    }
    // A file that is no picture and in no class.
    fs::write(pictures.join("notes.txt"), "none").unwrap();
    let out = folder.path().join("found");
    let own = ["--weights", "assets/supernet", "--pictures", pictures.to_str().unwrap(), "--within", "10s"];
    let text = success(search(&out, &own));
    assert!(text.contains("goldcrest classify IMAGE --weights") && text.contains("--threads 1"), "{text}");
    // The saved evaluations used other pictures.
    refused(search(&out, &["--within", "10s"]), &["evaluated.jsonl", "other pictures"]);
    // Accuracies depend on the configuration: it has the preprocessing.
    let supernet = folder.path().join("supernet");
    fs::create_dir(&supernet).unwrap();
    for file in fs::read_dir("assets/supernet").unwrap().map(|entry| entry.unwrap()) {
        fs::copy(file.path(), supernet.join(file.file_name())).unwrap();
    }
    let path = supernet.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["pretrained_cfg"]["mean"] = serde_json::json!([0.4, 0.4, 0.4]);
    fs::write(path, config.to_string()).unwrap();
    let changed = ["--weights", supernet.to_str().unwrap(), own[2], own[3], "--within", "10s"];
    refused(search(&out, &changed), &["evaluated.jsonl", "another configuration"]);
    fs::create_dir(pictures.join("nonsense")).unwrap();
    refused(
        search(&folder.path().join("other"), &own),
        &["--pictures", "nonsense", "not the name of a class"],
    );
    assert!(!folder.path().join("other").exists());
}

#[test]
fn impossible_searches_fail_and_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("found");
    let within = |more: &[&str]| search(&out, &[&["--within", "10s"], more].concat());
    refused(search(&out, &["--within", "1us"]), &["even the smallest", "0.001"]);
    refused(within(&["--weights", "assets/demo/classify", "--pictures", "assets"]), &["not a supernet"]);
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
