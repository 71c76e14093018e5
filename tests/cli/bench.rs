//! `bench`: keys, lists, and failed measurements. The measured times are not checked.

use std::{collections::BTreeSet, process::Command};

use serde_json::{Value, json as value};

use super::{SEEDED, adapters, failure, goldcrest, json, refused, success};

/// The shortest measurement.
fn bench(more: &[&str]) -> Command {
    let mut command = goldcrest(["bench", "--runs", "2", "--seconds", "0"]);
    command.args(more);
    command
}

/// One small network, small pictures.
fn tiny(more: &[&str]) -> Command {
    let mut command = bench(&["--networks", "mobilenet_v3_small@0.25", "--sizes", "32"]);
    command.args(more);
    command
}

fn on_cpu() -> Command {
    tiny(&["--backend", "cpu", "--threads", "1"])
}

fn results(mut command: Command) -> Vec<Value> {
    command.arg("--json");
    json(command)["results"].as_array().unwrap().clone()
}

/// The rows of the CSV output, by column name.
fn table(mut command: Command) -> Vec<std::collections::HashMap<String, String>> {
    command.arg("--csv");
    let text = success(command);
    csv::Reader::from_reader(text.as_bytes()).deserialize().collect::<Result<_, _>>().expect(&text)
}

/// Asserts that the median lies between the minimum and the maximum.
#[track_caller]
fn is_spread(ms: &Value) {
    let [median, min, max] = ["median", "min", "max"].map(|key| ms[key].as_f64().expect("a number"));
    assert!(0.0 < min && min <= median && median <= max, "{ms}");
}

#[test]
fn rows_have_the_documented_keys() {
    let report = json(tiny(&["--backend", "both", "--threads", "1,3", "--json"]));
    let rows = report["results"].as_array().unwrap();
    let backends: Vec<&str> = rows.iter().map(|row| row["backend"].as_str().unwrap()).collect();
    assert_eq!(backends, ["gpu", "cpu", "cpu"]);
    for row in rows {
        assert_eq!(row["network"], "mobilenet_v3_small@0.25");
        assert_eq!((&row["batch"], &row["precision"]), (&1.into(), &"f32".into()));
        assert!(row["steps"].as_u64().unwrap() > 10 && row["first_ms"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["size"], value!([32, 32]));
        is_spread(&row["wall_ms"]);
    }
    // Without timestamp queries, the row says why there is no GPU time. CPU rows have none either.
    match &rows[0]["gpu_ms"] {
        Value::Null => assert!(rows[0]["gpu_missing"].is_string(), "{}", rows[0]),
        ms => is_spread(ms),
    }
    assert_eq!((&rows[0]["fuse"], &rows[0]["threads"]), (&"auto".into(), &Value::Null));
    for (row, threads) in rows[1..].iter().zip([1, 3]) {
        assert_eq!((&row["fuse"], &row["threads"]), (&"none".into(), &threads.into()));
        assert!(row["gpu_ms"].is_null());
    }
    // The first device is marked as software if `adapters` marks it so.
    let adapter = adapters().iter().find(|adapter| adapter["name"] == report["adapter"]);
    let adapter = adapter.expect("the adapter is one of the machine's");
    for found in [&report, &rows[0]] {
        assert_eq!(found["software"], adapter["software"]);
    }
    assert_eq!(report["devices"].as_array().unwrap().len(), 3);
}

#[test]
fn a_chosen_software_adapter_is_marked() {
    let adapter = adapters().last().unwrap();
    let text = success(tiny(&["--backend", "gpu", "--adapter", &adapter["index"].to_string()]));
    let first = text.lines().next().unwrap();
    assert!(first.starts_with(adapter["name"].as_str().unwrap()), "{text}");
    assert_eq!(adapter["software"] == true, first.ends_with(", software)"), "{text}");
}

#[test]
fn lists_are_combined() {
    let networks = ["mobilenet_v3_small@0.25", "mobilenet_v1@0.25"];
    let mut command = bench(&["--backend", "cpu", "--threads", "1,3", "--sizes", "32,40x48"]);
    command.args(["--batches", "1,2", "--networks", &networks.join(",")]);
    let found: Vec<String> = results(command)
        .iter()
        .map(|row| value!([row["network"], row["size"], row["batch"], row["threads"]]).to_string())
        .collect();
    let mut expected = BTreeSet::new();
    for network in networks {
        for size in [[32, 32], [40, 48]] {
            for batch in [1, 2] {
                expected.extend([1, 3].map(|threads| value!([network, size, batch, threads]).to_string()));
            }
        }
    }
    assert_eq!(found.len(), 16);
    assert_eq!(BTreeSet::from_iter(found), expected);
}

#[test]
fn precisions_and_fusions_apply_to_adapters_only() {
    let command = tiny(&["--backend", "both", "--threads", "1", "--precisions", "f16,f32"]);
    let mut fused = command;
    fused.args(["--fuse", "none,block"]);
    let rows = results(fused);
    let ways: Vec<String> =
        rows.iter().map(|row| value!([row["backend"], row["precision"], row["fuse"]]).to_string()).collect();
    let expected = [("gpu", "f16", "none"), ("gpu", "f16", "block"), ("gpu", "f32", "none")]
        .into_iter()
        .chain([("gpu", "f32", "block"), ("cpu", "f32", "none")]);
    assert_eq!(ways, expected.map(|way| value!(way).to_string()).collect::<Vec<_>>());
    assert!(rows[3]["steps"].as_u64() < rows[2]["steps"].as_u64(), "blocks share kernels");
    // On an adapter without f16, only the f16 rows fail.
    for row in &rows {
        match &row["wall_ms"] {
            Value::Null => assert!(row["error"].as_str().unwrap().contains("f16"), "{row}"),
            ms => is_spread(ms),
        }
    }
    assert!(rows[2..].iter().all(|row| row["wall_ms"].is_object()));
}

#[test]
fn cpu_peaks_do_not_depend_on_the_gpu_precision() {
    let mut command = on_cpu();
    command.args(["--precisions", "f16", "--json"]);
    let report = json(command);
    assert!(report["devices"][0]["peaks"]["f32"]["macs_per_s"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["results"][0]["utilisation"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn layers_are_listed_in_every_format() {
    let layers = |command: Command| {
        let mut command = command;
        command.arg("--layers");
        command
    };
    let rows = results(layers(on_cpu()));
    let steps = rows[0]["layers"].as_array().unwrap();
    assert_eq!(rows[0]["steps"], steps.len());
    let macs: u64 = steps.iter().map(|step| step["macs"].as_u64().unwrap()).sum();
    assert_eq!(rows[0]["macs"], macs);

    let lines = table(layers(on_cpu()));
    let text = success(layers(on_cpu()));
    assert_eq!(lines.len(), steps.len());
    for (line, step) in lines.iter().zip(steps) {
        assert_eq!(line["network"], "mobilenet_v3_small@0.25");
        for key in ["name", "kernel", "shape", "macs", "bytes"] {
            let expected = step[key].as_str().map_or_else(|| step[key].to_string(), str::to_owned);
            assert_eq!(line[key], expected);
        }
        assert!(line["ms"].parse::<f64>().unwrap() > 0.0 && step["ms"].as_f64().unwrap() > 0.0, "{line:?}");
        assert!(text.contains(&line["name"]), "{text}");
    }
}

#[test]
fn csv_quotes_names_with_commas() {
    let mut command = on_cpu();
    command.args(["--batches", "1,2"]);
    let lines = table(command);
    for (line, batch) in lines.iter().zip(["1", "2"]) {
        assert!(line["adapter"].contains("(cpu, ") && line["adapter"].ends_with(", 1 thread)"), "{line:?}");
        assert_eq!((&line["backend"][..], &line["batch"][..], &line["height"][..]), ("cpu", batch, "32"));
        assert!(line["wall_ms"].parse::<f64>().unwrap() > 0.0);
        assert_eq!((&line["gpu_ms"][..], &line["error"][..]), ("", ""));
    }
    assert_eq!(lines.len(), 2);
}

#[test]
fn checkpoints_are_measured_too() {
    let on_cpu = ["--weights", SEEDED, "--sizes", "32", "--backend", "cpu", "--threads", "1"];
    let names =
        |command| -> Vec<Value> { results(command).iter().map(|row| row["network"].clone()).collect() };
    assert_eq!(names(bench(&on_cpu)), ["transformers/mobilenet_v1"]);
    let mut command = bench(&on_cpu);
    command.args(["--networks", "mobilenet_v1@0.25"]);
    assert_eq!(names(command), ["transformers/mobilenet_v1", "mobilenet_v1@0.25"]);
    refused(bench(&["--weights", "assets/absent"]), &["assets/absent", "No such file"]);
}

#[test]
fn an_unknown_network_error_lists_the_known_ones() {
    for name in ["mobilenet_v9", "mobilenet_v2@0", "resnet50@2", ""] {
        let known = ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "resnet50"];
        let mut words = vec!["unknown network", name];
        words.extend(known);
        refused(bench(&["--networks", name]), &words);
    }
}

/// One valid size and two that are too large.
const SIZES: &str = "32,1000000x1000000,18446744073709551615";

#[test]
fn a_failed_measurement_does_not_stop_the_others() {
    let bench = |backend: &str, more: &[&str]| {
        let mut command = bench(&["--networks", "mobilenet_v1@0.25", "--backend", backend]);
        if backend == "cpu" {
            command.args(["--threads", "1"]);
        }
        command.args(more);
        command
    };
    for backend in ["cpu", "gpu"] {
        let rows = results(bench(backend, &["--sizes", SIZES, "--batches", "1,4294967295"]));
        assert_eq!(rows.len(), 6);
        is_spread(&rows[0]["wall_ms"]);
        assert!(rows[0].get("error").is_none());
        for row in &rows[1..] {
            assert!(row["error"].is_string(), "{row}");
            assert!(["steps", "gpu_ms", "wall_ms", "first_ms"].iter().all(|key| row[key].is_null()), "{row}");
        }
    }
    // In text and CSV too.
    assert!(success(bench("cpu", &["--sizes", SIZES])).contains("not measured: "));
    let lines = table(bench("cpu", &["--sizes", SIZES]));
    assert!(lines[0]["error"].is_empty() && !lines[1]["error"].is_empty() && lines[1]["wall_ms"].is_empty());
    let output = bench("cpu", &["--sizes", SIZES, "--layers", "--csv"]).output().unwrap();
    assert!(super::text(&output.stderr).contains("mobilenet_v1@0.25 is not measured: "), "{output:?}");

    let absurd = SIZES.strip_prefix("32,").unwrap();
    refused(bench("cpu", &["--sizes", absurd]), &["nothing could be measured: "]);
    refused(bench("cpu", &["--batches", "4294967295"]), &["nothing could be measured: "]);
}

#[test]
fn invalid_lists_are_usage_errors() {
    for (flag, list) in [
        ("--batches", "1,0"),
        ("--batches", "1,x"),
        ("--sizes", "32,0x8"),
        ("--sizes", "8x8x8"),
        ("--precisions", "f32,f8"),
        ("--fuse", "some"),
        ("--backend", "tpu"),
        ("--threads", "0"),
        ("--runs", "0"),
        ("--seconds", "-1"),
        ("--seconds", "nan"),
    ] {
        let line = failure(goldcrest(["bench", &format!("{flag}={list}")]), 2);
        let wrong = list.rsplit(',').next().unwrap();
        assert!(line.contains(flag) && line.contains(wrong), "{line}");
    }
    let line = failure(goldcrest(["bench", "--json", "--csv"]), 2);
    assert!(line.contains("--json") && line.contains("--csv"), "{line}");
}

#[test]
fn an_adapter_option_needs_the_gpu_backend() {
    refused(bench(&["--backend", "cpu", "--adapter", "0"]), &["--adapter", "--backend"]);
    refused(bench(&["--adapter", "nonsense"]), &["no adapter", "nonsense", "there are 0: "]);
}

#[test]
fn without_an_adapter_the_cpu_alone_is_measured() {
    let output = super::without_driver(tiny(&["--json"])).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(super::text(&output.stderr).contains("only the CPU is measured"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["results"].as_array().unwrap();
    assert!(rows.len() == 1 && rows[0]["backend"] == "cpu", "{report}");
}

#[test]
fn options_without_effect_are_refused() {
    refused(tiny(&["--backend", "gpu", "--threads", "2"]), &["--threads", "graphics adapters"]);
    assert!(failure(tiny(&["--arch", "torchvision/mobilenet_v2"]), 2).contains("--weights"));
}

#[test]
fn auto_is_a_single_device() {
    let backends = |more: &[&str]| -> Vec<String> {
        let rows = results(tiny(&[&["--backend", "auto"], more].concat()));
        rows.iter().map(|row| row["backend"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(backends(&[]).len(), 1);
    assert_eq!(backends(&["--threads", "1"]), ["cpu"]);
    assert_eq!(backends(&["--adapter", "0"]), ["gpu"]);
}
