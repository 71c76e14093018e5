//! The CPU engine compared with an adapter, and flags that it refuses.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::{
    CAT, SEEDED, adapters, classify, goldcrest, json,
    make::{self, Tensors},
    names, only_picture, refused, run, run_auto, success, without_driver,
};

/// Adds the CPU backend with this number of threads.
fn on_cpu(mut command: Command, threads: &str) -> Command {
    command.args(["--backend", "cpu", "--threads", threads]);
    command
}

fn classify_auto() -> Command {
    goldcrest(["classify", CAT, "--weights", SEEDED])
}

/// Index and probability of the five most likely classes.
fn classes(mut command: Command) -> Vec<(u64, f64)> {
    command.arg("--json");
    let report = only_picture(command);
    let classes = report["classes"].as_array().unwrap();
    let pair = |class: &Value| (class["index"].as_u64().unwrap(), class["probability"].as_f64().unwrap());
    classes.iter().map(pair).collect()
}

#[test]
fn classify_agrees_with_an_adapter() {
    let expected = classes(classify(Path::new(SEEDED), Path::new(CAT)));
    for threads in ["1", "3"] {
        let found = classes(on_cpu(classify_auto(), threads));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.0, expected.0, "{threads} threads");
            assert!((found.1 - expected.1).abs() <= 1e-5, "{found:?} {expected:?}");
        }
    }
    let text = success(on_cpu(classify_auto(), "3"));
    assert!(text.lines().last().unwrap().contains("(cpu, ") && text.contains(", 3 threads)"), "{text}");
}

/// ||a - b|| / ||b|| of two f32 tensors' bytes.
fn distance(a: &[u8], b: &[u8]) -> f64 {
    let values = |bytes: &[u8]| -> Vec<f64> {
        bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
    };
    let (a, b) = (values(a), values(b));
    let squares: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    (squares / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

#[track_caller]
fn are_close(found: &Tensors, expected: &Tensors) {
    assert!(found.keys().eq(expected.keys()));
    for (name, (dtype, shape, bytes)) in found {
        let (as_dtype, as_shape, as_bytes) = &expected[name];
        assert_eq!((dtype, shape), (as_dtype, as_shape), "{name}");
        let distance = distance(bytes, as_bytes);
        assert!(distance <= 1e-5, "{name} is {distance:e} off");
    }
}

#[test]
fn run_agrees_with_an_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[2, 3, 37, 50]);
    let [output, reference] =
        ["out.safetensors", "reference.safetensors"].map(|name| folder.path().join(name));
    for taps in [&[][..], &["--taps"]] {
        let mut command = run(&input, &reference);
        command.args(taps);
        success(command);
        for threads in [1, 3] {
            let mut command = on_cpu(run_auto(&input, &output), &threads.to_string());
            command.args(taps).arg("--json");
            let report = json(command);
            let adapter = &report["adapter"];
            assert_eq!((&adapter["backend"], &adapter["threads"]), (&"cpu".into(), &threads.into()));
            assert!(adapter["name"].is_string() && adapter["driver"].is_string(), "{adapter}");
            assert_eq!(report["precision"], "f32");
            let found = make::read(&output);
            assert_eq!(found.len() > 1, !taps.is_empty());
            are_close(&found, &make::read(&reference));
        }
    }
}

#[test]
fn auto_prefers_the_cpu_to_a_software_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[1, 3, 16, 16]);
    let output = folder.path().join("out.safetensors");
    let backend = |command: Command| json(command)["adapter"]["backend"].clone();
    let auto = || {
        let mut command = run_auto(&input, &output);
        command.arg("--json");
        command
    };
    let all_software = adapters().iter().all(|adapter| adapter["software"] == true);
    assert_eq!(backend(auto()) == "cpu", all_software);
    // --adapter selects any adapter, also software. --threads selects the CPU.
    let mut command = auto();
    command.args(["--adapter", "0"]);
    assert_eq!(backend(command), adapters()[0]["backend"]);
    let mut command = auto();
    command.args(["--threads", "1"]);
    assert_eq!(backend(command), "cpu");
}

#[test]
fn auto_without_an_adapter_runs_on_the_cpu_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[1, 3, 16, 16]);
    let output = folder.path().join("out.safetensors");
    for command in [classify_auto(), run_auto(&input, &output)] {
        let text = success(without_driver(command));
        assert!(text.contains("transformers/mobilenet_v1 on ") && text.contains("(cpu, "), "{text}");
    }
    assert_eq!(names(folder.path()), ["in.safetensors", "out.safetensors"]);
}

#[test]
fn inspect_shows_the_plan_of_the_cpu() {
    let inspect = |more: &[&str]| {
        let mut command = goldcrest(["inspect", "--weights", SEEDED]);
        command.args(more);
        command
    };
    let report = json(inspect(&["--backend", "cpu", "--threads", "3", "--batch", "2", "--json"]));
    assert!(report["planned_for"].as_str().unwrap().ends_with(", 3 threads)"), "{report}");
    assert_eq!((&report["precision"], &report["input"][0]), (&"f32".into(), &2.into()));
    let steps = report["steps"].as_array().unwrap();
    let of = |name: &str| steps.iter().find(|step| step["name"] == name).unwrap();
    assert_eq!(of("classifier")["kernel"], "connected");
    let total = |steps: &[Value]| steps.iter().map(|step| step["macs"].as_u64().unwrap()).sum::<u64>();
    assert!(total(steps) > 0 && total(steps) == report["macs"].as_u64().unwrap(), "{report}");
    let bytes = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(bytes("slot_bytes") + bytes("weight_bytes"), bytes("peak_bytes"));
    // --threads selects the CPU, and then no adapter is opened.
    let text = success(without_driver(inspect(&["--threads", "1"])));
    for words in
        ["1 thread) in f32: ", "mobilenet_v1.layer.0.convolution", "connected", "memory: buffers for maps "]
    {
        assert!(text.contains(words), "{text}");
    }
    assert!(text.contains(&format!("in f32: {}\n", steps.len())), "{text}");
}

#[test]
fn unsupported_options_are_refused_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[1, 3, 16, 16]);
    let output = folder.path().join("out.safetensors");
    for (more, words) in [
        (&["--precision", "f16"][..], &["f16", "(cpu, ", "f32"][..]),
        (&["--fuse", "pair"], &["--fuse", "CPU"]),
        (&["--fuse", "block"], &["--fuse", "CPU"]),
        (&["--adapter", "0"], &["--adapter", "--backend", "cpu"]),
    ] {
        for mut command in [classify_auto(), run_auto(&input, &output)] {
            command.args(["--backend", "cpu"]).args(more);
            refused(command, words);
        }
    }
    refused(goldcrest(["tune", "--weights", SEEDED, "--backend", "cpu"]), &["--backend", "graphics adapter"]);
    refused(goldcrest(["tune", "--weights", SEEDED, "--threads", "1"]), &["--threads", "graphics adapters"]);
    let inspect = |more: &[&str]| {
        let mut command = goldcrest(["inspect", "--weights", SEEDED, "--backend", "cpu"]);
        command.args(more);
        command
    };
    let shaders = folder.path().join("shaders");
    refused(inspect(&["--shaders", shaders.to_str().unwrap()]), &["--shaders", "the CPU runs no shaders"]);
    assert!(!shaders.exists());
    refused(inspect(&["--precision", "f16"]), &["f16", "(cpu, ", "f32"]);
    refused(inspect(&["--fuse", "block"]), &["--fuse", "CPU"]);
    // Larger than any machine's memory: refused before the file is read.
    let absurd = make::sparse_input(folder.path(), [1, 3, 300_000, 300_000]);
    refused(on_cpu(run_auto(&absurd, &output), "1"), &["limit"]);
    assert!(!fs::exists(output).unwrap());
}
