//! Results and files of commands that succeed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use half::{bf16, f16};
use safetensors::tensor::Dtype;
use serde_json::Value;

use super::{
    CAT, DEEPLAB, LRASPP, SEEDED, SSDLITE, adapters, classify, failure, goldcrest, json,
    make::{self, Tensors},
    names, on_cpu, only_picture, pictures_of, run, success,
};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[track_caller]
fn has(value: &Value, wanted: &[&str]) {
    let found = keys(value);
    assert!(wanted.iter().all(|key| found.contains(key)), "{found:?} lack some of {wanted:?}");
}

#[test]
fn classify_prints_text() {
    let text = success(classify(Path::new(SEEDED), Path::new(CAT)));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (7, CAT));
    assert!(lines[1..6].iter().all(|line| line.contains('%') && line.ends_with(')')), "{text}");
    assert!(lines[6].starts_with("transformers/mobilenet_v1 on "), "{text}");
}

#[test]
fn classify_prints_json() {
    let report = json(goldcrest([
        "classify",
        CAT,
        CAT,
        "--weights",
        SEEDED,
        "--backend",
        "gpu",
        "--json",
        "--top",
        "3",
    ]));
    has(&report, &["device", "network", "scores", "precision", "timings", "pictures"]);
    let pictures = pictures_of(&report);
    assert_eq!(pictures.len(), 2);
    for picture in pictures {
        let expected = vec!["classes", "file", "height", "scores", "width"];
        assert_eq!((keys(picture), &picture["file"]), (expected, &Value::from(CAT)));
        let classes = picture["classes"].as_array().unwrap();
        assert_eq!(classes.len(), 3);
        let mut last = 1.0;
        for class in classes {
            assert_eq!(keys(class), ["index", "label", "probability", "value"]);
            let probability = class["probability"].as_f64().unwrap();
            assert!(class["index"].as_u64().unwrap() < 1001 && class["label"].is_string());
            assert!(probability <= last && probability > 0.0, "{classes:?}");
            last = probability;
        }
    }
}

#[test]
fn labels_from_text_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels");
    let labels: Vec<String> = (0..1001).map(|i| format!("bird {i}")).collect();
    for contents in [labels.join("\n"), serde_json::to_string(&labels).unwrap()] {
        fs::write(&path, contents).unwrap();
        let mut command =
            goldcrest(["classify", CAT, "--weights", SEEDED, "--backend", "gpu", "--json", "--labels"]);
        command.arg(&path);
        let first = &only_picture(command)["classes"][0];
        assert_eq!(first["label"], format!("bird {}", first["index"]));
    }
}

#[test]
fn run_writes_logits_and_taps() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[2, 3, 37, 50]);
    let [plain, tapped] = ["plain.safetensors", "tapped.safetensors"].map(|name| folder.path().join(name));
    // Taps need unfused layers; without fusion here too, both outputs are identical bits.
    let mut command = run(&input, &plain);
    command.args(["--fuse", "none"]);
    let text = success(command);
    assert!(text.contains("output [2, 1001]") && text.lines().count() == 1, "{text}");
    let found = make::read(&plain);
    assert_eq!(found.len(), 1);
    assert_eq!((found["output"].0, &found["output"].1), (Dtype::F32, &vec![2, 1001]));

    let mut command = run(&input, &tapped);
    command.args(["--taps", "--json"]);
    let report = json(command);
    has(
        &report,
        &["network", "adapter", "input", "output", "tensors", "file", "wall_ms", "first_ms", "startup"],
    );
    let taps = make::read(&tapped);
    assert_eq!(report["tensors"], taps.len());
    assert_eq!(taps["output"], found["output"]);
    for (key, shape) in [
        ("mobilenet_v1.conv_stem.activation", vec![2, 8, 19, 25]),
        ("mobilenet_v1.layer.25.activation", vec![2, 256, 2, 2]),
        ("mobilenet_v1.pooler", vec![2, 256, 1, 1]),
        ("classifier", vec![2, 1001]),
    ] {
        assert_eq!(taps[key].1, shape, "{key}");
    }
    assert_eq!(names(folder.path()), ["in.safetensors", "plain.safetensors", "tapped.safetensors"]);
}

#[test]
fn run_names_features_after_their_modules() {
    let folder = tempfile::tempdir().unwrap();
    let [h, w] = [65, 97];
    let input = make::input(folder.path(), &[1, 3, h, w]);
    let [plain, tapped] = ["plain.safetensors", "tapped.safetensors"].map(|name| folder.path().join(name));
    let v4 = ("timm-mobilenetv4_conv_small", ["bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.4"]);
    let v3 = ("torchvision-mobilenet_v3_large", [1, 3, 6, 12, 16].map(|i| format!("features.{i}")));
    // A segmentation network dilates its last stage, so it has no map of stride 32.
    let dilated = [1, 3, 6, 16].map(|i| format!("backbone.{i}"));
    let ssdlite = ["0.1", "0.3", "0.6", "0.12", "1.3"].map(|part| format!("backbone.features.{part}"));
    for (name, modules) in [
        (v4.0, v4.1.map(str::to_owned).to_vec()),
        (v3.0, v3.1.to_vec()),
        (LRASPP, dilated.to_vec()),
        (DEEPLAB, dilated.to_vec()),
        (SSDLITE, ssdlite.to_vec()),
    ] {
        let run = |output: &Path, more: &[&str]| {
            let mut command = on_cpu("run", &make::golden(name), &["--json", "--input"]);
            command.arg(&input).arg("--output").arg(output).args(more);
            (json(command), make::read(output))
        };
        let (report, found) = run(&plain, &["--features"]);
        let features = report["features"].as_array().unwrap();
        assert_eq!(
            (features.len(), found.len(), &report["tensors"]),
            (modules.len(), modules.len(), &found.len().into())
        );
        for (i, (feature, module)) in features.iter().zip(&modules).enumerate() {
            let stride = 2usize << i;
            assert_eq!(*feature, serde_json::json!({ "module": module, "stride": stride }), "{name}");
            let (dtype, dims, _) = &found[module];
            assert_eq!(
                (*dtype, dims[0], &dims[2..]),
                (Dtype::F32, 1, &[h.div_ceil(stride), w.div_ceil(stride)][..])
            );
            assert_eq!(report["outputs"][i], serde_json::json!({ "name": module, "shape": dims }));
        }
        let (report, all) = run(&tapped, &["--features", "--taps"]);
        assert!(all.len() > found.len() + 20 && report["tensors"] == all.len(), "{name}: {}", all.len());
        for (module, tensor) in &found {
            assert_eq!(all[module], *tensor, "{name}: {module}");
        }
        assert!(run(&plain, &[]).0["features"].is_null());
    }
}

/// The logits for an input file.
fn logits(input: &Path) -> Vec<f32> {
    let output = input.with_file_name("out.safetensors");
    success(run(input, &output));
    let bytes = make::read(&output).remove("output").unwrap().2;
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn run_reads_half_precision() {
    let folder = tempfile::tempdir().unwrap();
    let shape = [1, 3, 8, 8];
    // Values that are exact in all three types.
    let values: Vec<f32> = (0..192).map(|i| (i % 16) as f32 / 8.0 - 1.0).collect();
    let input = |dtype, bytes| make::tensor(folder.path(), "input", dtype, &shape, bytes);
    let whole = logits(&input(Dtype::F32, make::f32s(&values)));
    let bytes = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    assert_eq!(logits(&input(Dtype::F16, bytes)), whole);
    let bytes = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
    assert_eq!(logits(&input(Dtype::BF16, bytes)), whole);
}

#[test]
fn run_replaces_its_output_and_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    make::input(folder.path(), &[1, 3, 1, 1]);
    // Only a config.json next to the weights counts, not one next to the input.
    fs::write(folder.path().join("config.json"), "[]").unwrap();
    let output = folder.path().join("out.safetensors");
    fs::write(&output, "old").unwrap();
    let weights = fs::canonicalize(SEEDED).unwrap();
    let mut command = goldcrest([
        "run",
        "--backend",
        "gpu",
        "--input",
        "in.safetensors",
        "--output",
        "out.safetensors",
        "--weights",
    ]);
    command.arg(weights).current_dir(folder.path());
    success(command);
    assert_eq!(make::read(&output)["output"].1, [1, 1001]);
    assert_eq!(names(folder.path()), ["config.json", "in.safetensors", "out.safetensors"]);
}

#[test]
#[cfg(unix)]
fn run_writes_through_links_and_to_devices() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[1, 3, 8, 8]);
    let [real, link] = ["real.safetensors", "link.safetensors"].map(|name| folder.path().join(name));
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("real.safetensors", &link).unwrap();
    success(run(&input, &link));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(make::read(&real).len(), 1);
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    success(run(&input, Path::new("/dev/null")));
}

#[test]
fn shards_are_one_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let weights = make::seeded(folder.path(), |_| {});
    let whole = weights.join("model.safetensors");
    let mut shards = [Tensors::new(), Tensors::new()];
    for (i, (key, tensor)) in make::read(&whole).into_iter().enumerate() {
        shards[i % 2].insert(key, tensor);
    }
    fs::remove_file(whole).unwrap();
    let mut map = serde_json::Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = format!("model-0000{}-of-00002.safetensors", i + 1);
        make::write(&weights.join(&name), shard);
        map.extend(shard.keys().map(|key| (key.clone(), name.clone().into())));
    }
    let whole = json(goldcrest(["classify", CAT, "--weights", SEEDED, "--backend", "gpu", "--json"]));
    let expected = pictures_of(&whole);
    let sharded = || {
        let mut command = goldcrest(["classify", CAT, "--backend", "gpu", "--json", "--weights"]);
        command.arg(&weights);
        json(command)
    };
    assert_eq!(pictures_of(&sharded()), expected);
    let index = serde_json::json!({ "weight_map": map });
    fs::write(weights.join("model.safetensors.index.json"), index.to_string()).unwrap();
    assert_eq!(pictures_of(&sharded()), expected);
}

#[test]
fn inspect_prints_json() {
    let found =
        json(goldcrest(["inspect", "--weights", SEEDED, "--json", "--batch", "2", "--size", "64x96"]));
    has(&found, &["network", "parameters", "macs", "layers", "steps", "slots", "peak_bytes"]);
    assert_eq!(found["network"], "transformers/mobilenet_v1");
    let layers = found["layers"].as_array().unwrap();
    layers.iter().for_each(|layer| has(layer, &["name", "op", "shape", "macs"]));
    let total: u64 = layers.iter().map(|layer| layer["macs"].as_u64().unwrap()).sum();
    assert_eq!(found["macs"], total);
    assert_eq!(layers[0]["shape"], serde_json::json!([2, 8, 32, 48]));

    let slots = found["slots"].as_array().unwrap();
    let bytes: u64 = slots.iter().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert!(found["peak_bytes"].as_u64().unwrap() > bytes);
    for step in found["steps"].as_array().unwrap() {
        has(step, &["name", "kernel", "workgroups", "reads", "writes", "layers"]);
        let reads = step["reads"].as_array().unwrap();
        let writes = step["writes"].as_array().unwrap();
        assert!(!reads.is_empty() && !writes.iter().any(|slot| reads.contains(slot)), "{step}");
        let used = reads.iter().chain(writes);
        assert!(used.into_iter().all(|slot| slot.as_u64().unwrap() < slots.len() as u64), "{step}");
        assert_eq!(step["layers"][0], step["name"]);
    }
}

#[test]
fn inspect_segmenters_and_detectors() {
    for (name, parameters, macs, side, classes, last) in [
        (LRASPP, 3_221_538, 2086.220, 520, 21, "postprocess.argmax"),
        (DEEPLAB, 11_029_328, 10_452.448, 520, 21, "postprocess.argmax"),
        (SSDLITE, 3_440_060, 583.172, 320, 91, "postprocess.decode"),
    ] {
        let mut command = goldcrest(["inspect", "--json", "--weights"]);
        command.arg(make::golden(name));
        let found = json(command);
        assert_eq!(found["network"], name.replacen('-', "/", 1));
        assert_eq!((&found["parameters"], &found["classes"]), (&parameters.into(), &classes.into()));
        let millions = found["macs"].as_u64().unwrap() as f64 / 1e6;
        assert!((millions - macs).abs() <= 0.0005, "{name}: {millions}");
        assert_eq!(found["input"], serde_json::json!([1, 3, side, side]));
        // The plan of `segment` and `detect`: it ends at the result and has no other outputs.
        let steps = found["steps"].as_array().unwrap();
        assert_eq!(steps.last().unwrap()["name"], last);
        assert!(steps.iter().all(|step| step["name"] != "aux" && step["name"] != "output"), "{name}");
        for key in ["macs", "parameters"] {
            let layers = found["layers"].as_array().unwrap().iter();
            assert_eq!(layers.map(|layer| layer[key].as_u64().unwrap()).sum::<u64>(), found[key]);
        }

        let mut command = goldcrest(["inspect", "--weights"]);
        command.arg(make::golden(name));
        let text = success(command);
        assert!(text.contains(&format!("{parameters} parameters, {macs:.3} M multiply-adds")), "{text}");
    }
}

#[test]
fn inspect_prints_aligned_columns() {
    let text = success(goldcrest(["inspect", "--weights", SEEDED]));
    let rows: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("layer ")).collect();
    let rows: Vec<&str> = rows.into_iter().take_while(|line| !line.is_empty()).collect();
    assert!(rows.len() > 50 && rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
}

#[test]
fn adapters_print_text_and_json() {
    let found = adapters();
    let text = success(goldcrest(["adapters"]));
    for (i, adapter) in found.iter().enumerate() {
        has(adapter, &["index", "name", "backend", "driver", "kind", "software", "limits", "features"]);
        assert_eq!(adapter["index"], i);
        assert!(adapter["trust"]["trusted"].is_boolean() || adapter["error"].is_string());
        assert!(text.contains(&format!("{i}: {}", adapter["name"].as_str().unwrap())), "{text}");
    }
    // Selected by index and by a part of the name.
    let name = found[0]["name"].as_str().unwrap().to_uppercase();
    for wanted in ["0", &name] {
        let mut command = classify(Path::new(SEEDED), Path::new(CAT));
        command.args(["--adapter", wanted]);
        assert!(success(command).to_uppercase().contains(&name));
    }
}

#[test]
#[cfg(unix)]
fn weights_from_a_pipe() {
    let mut command =
        goldcrest(["classify", CAT, "--backend", "gpu", "--arch", "transformers/mobilenet_v1", "--weights"]);
    let file: PathBuf = [SEEDED, "model.safetensors"].iter().collect();
    let mut cat =
        std::process::Command::new("cat").arg(file).stdout(std::process::Stdio::piped()).spawn().unwrap();
    command.arg("/dev/stdin").stdin(cat.stdout.take().unwrap());
    assert!(success(command).contains('%'));
    cat.wait().unwrap();
}

#[test]
fn inspect_uses_the_tuning_that_tune_saved() {
    let folder = tempfile::tempdir().unwrap();
    let with_cache = |mut command: Command| {
        command.env("GOLDCREST_CACHE_DIR", folder.path()).args(["--weights", SEEDED, "--json"]);
        command
    };
    let tuned = json(with_cache(goldcrest(["tune", "--size", "32x32", "--budget", "1"])));
    let each = tuned["tuned"].as_array().unwrap();
    assert!(!each.is_empty(), "{tuned}");
    for tuning in each {
        assert!(tuning["after_ms"].as_f64().unwrap() <= tuning["before_ms"].as_f64().unwrap(), "{tuning}");
        assert_eq!(tuning["kept"], true);
        // MobileNetV1 has 13 blocks of two convolutions; with stem and classifier, 28 layers.
        assert_eq!((&tuning["blocks"]["sets"], &tuning["layers"]["sets"]), (&13.into(), &28.into()));
    }
    // The plan uses the precision that tuned faster.
    let fastest = each.iter().min_by(|a, b| {
        let ms = |t: &serde_json::Value| t["after_ms"].as_f64().unwrap();
        ms(a).total_cmp(&ms(b))
    });
    let planned = json(with_cache(goldcrest(["inspect", "--size", "32x32"])));
    assert_eq!(planned["precision"], fastest.unwrap()["precision"]);
}

#[test]
fn tune_a_network_with_four_input_channels() {
    let mut command = goldcrest(["tune", "--budget", "1", "--size", "32x32", "--json", "--weights"]);
    command.arg("tests/fixtures/checkpoints/stem-rgba");
    let tuned = json(command);
    assert_eq!(tuned["input"]["c"].as_u64().or(tuned["input"][1].as_u64()), Some(4), "{tuned}");
    // --pictures fails: pictures have three channels.
    let mut command = goldcrest(["tune", "--budget", "1", "--size", "32x32", "--pictures", CAT, "--weights"]);
    command.arg("tests/fixtures/checkpoints/stem-rgba");
    failure(command, 1);
}
