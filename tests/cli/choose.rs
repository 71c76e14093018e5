//! `choose`: keys, the recommended network and the reason, and bad input. The measured times are not checked.

use std::process::Command;

use serde_json::Value;

use super::{failure, goldcrest, json, refused, success};

/// The two fastest networks.
const SMALL: [&str; 2] = ["--only", "mobilenetv3_small_050,mobilenet_v2_0.35_96"];

/// `choose` between these networks, on one thread of the CPU.
fn choose(more: &[&str]) -> Command {
    let mut command = goldcrest(["choose", "--backend", "cpu", "--threads", "1"]);
    command.args(SMALL).args(more);
    command
}

/// The networks of a list of rows.
fn networks(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["network"].as_str().unwrap()).collect()
}

#[test]
fn rows_have_the_documented_keys() {
    let report = json(choose(&["--within", "60s", "--thorough", "--json"]));
    let best = &report["recommended"];
    assert_eq!(best["network"], "timm/mobilenetv3_small_050");
    assert_eq!((&best["weights"], &best["size"]), (&"lamb_in1k".into(), &224.into()));
    assert_eq!((&best["precision"], &best["backend"]), (&"f32".into(), &"cpu".into()));
    assert_eq!((&best["top1"], &best["accuracy"]), (&57.918.into(), &57.918.into()));
    assert_eq!((&best["metric"], &best["accuracy_known"]), (&"top1".into(), &true.into()));
    assert_eq!((&best["source"], &best["date"]), (&"timm".into(), &"August 2026".into()));
    let command = best["command"].as_str().unwrap();
    assert_eq!(
        command,
        "goldcrest classify IMAGE --model timm/mobilenetv3_small_050.lamb_in1k --backend cpu --threads 1"
    );
    let ms = ["ms_min", "ms", "ms_max"].map(|key| best[key].as_f64().unwrap());
    assert!(0.0 < ms[0] && ms[0] <= ms[1] && ms[1] <= ms[2], "{best}");
    assert!(best["memory_bytes"].as_u64() > best["parameters"].as_u64(), "{best}");
    assert_eq!((&best["fits"], &report["rule"]), (&true.into(), &"most_accurate".into()));
    assert_eq!(networks(&report["measured"]).len(), 2);
    assert_eq!((&report["counts"]["candidates"], &report["counts"]["measured"]), (&2.into(), &2.into()));
    // The most accurate network is on the Pareto front, however slow it is.
    assert!(networks(&report["front"]).contains(&"timm/mobilenetv3_small_050"));
    for row in report["measured"].as_array().unwrap() {
        let front = networks(&report["front"]).contains(&row["network"].as_str().unwrap());
        assert_eq!(row["dominated"], !front, "{row}");
    }
}

#[test]
fn text_names_the_network_its_source_and_the_command() {
    let text = success(choose(&["--min-accuracy", "50"]));
    assert!(
        text.contains("the fastest with at least 50 % accuracy: timm/mobilenetv3_small_050.lamb_in1k"),
        "{text}"
    );
    assert!(text.contains("goldcrest classify IMAGE --model timm/mobilenetv3_small_050.lamb_in1k"), "{text}");
    assert!(text.contains("timm, August 2026") && text.contains("1 of 2 measured, 1 excluded"), "{text}");
}

#[test]
fn an_unreachable_limit_reports_the_nearest_network() {
    for (flags, limit, network) in [
        (["--within", "1us"], "within", None),
        (["--min-accuracy", "99"], "accuracy", Some("timm/mobilenetv3_small_050")),
        (["--memory", "1kB"], "memory", None),
        (["--download", "1MB"], "download", Some("timm/mobilenetv3_small_050")),
    ] {
        let report = json(choose(&[&flags[..], &["--json"]].concat()));
        assert_eq!((&report["recommended"], &report["rule"]), (&Value::Null, &Value::Null), "{flags:?}");
        let nearest = report["nearest"].as_array().unwrap();
        assert_eq!((nearest.len(), &nearest[0]["nearest_to"]), (1, &limit.into()), "{flags:?}: {report}");
        assert_eq!(nearest[0]["fits"], false, "{flags:?}");
        assert!(network.is_none_or(|network| nearest[0]["network"] == network), "{flags:?}: {report}");
        let text = success(choose(&flags));
        let what = ["the fastest: ", "the most accurate: ", "the least memory: ", "the smallest file: "];
        assert!(text.contains("no network ") && what.iter().any(|what| text.contains(what)), "{text}");
    }
}

/// Uses enough networks that some are excluded without a measurement.
#[test]
fn skipping_measurements_does_not_change_the_result() {
    let many = |more: &[&str]| {
        let only = "mobilenetv3_small_*,mobilenet_v2_0.35_96,tf_mobilenetv3_small_*";
        let mut command =
            goldcrest(["choose", "--backend", "cpu", "--threads", "1", "--json", "--only", only]);
        command.args(more);
        json(command)
    };
    // The most accurate network within the memory limit.
    let fast = many(&["--memory", "9MB"]);
    let thorough = many(&["--memory", "9MB", "--thorough"]);
    let best = |report: &Value| report["recommended"]["network"].as_str().unwrap().to_owned();
    assert_eq!(best(&fast), best(&thorough));
    for report in [&fast, &thorough] {
        assert!(networks(&report["front"]).contains(&best(report).as_str()), "{report}");
        assert!(report["front"].as_array().unwrap().iter().all(|row| row["fits"] == true), "{report}");
    }
    assert!(thorough["measured"].as_array().unwrap().iter().any(|row| row["fits"] == false), "{thorough}");

    // The network with the smallest weights and maps.
    let tiny = many(&["--precision", "f32,int8", "--memory", "1kB"]);
    let nearest = &tiny["nearest"][0];
    assert_eq!(
        (&nearest["network"], &nearest["precision"]),
        (&"google/mobilenet_v2_0.35_96".into(), &"int8".into())
    );
    assert_eq!(tiny["recommended"], Value::Null);

    for limits in [["--within", "1us", "--min-accuracy", "99"], ["--within", "1us", "--memory", "1kB"]] {
        let report = many(&limits);
        let to: Vec<&Value> =
            report["nearest"].as_array().unwrap().iter().map(|row| &row["nearest_to"]).collect();
        let second = if limits[2] == "--memory" { "memory" } else { "accuracy" };
        assert_eq!((to, &report["recommended"]), (vec![&"within".into(), &second.into()], &Value::Null));
    }
}

#[test]
fn int8_is_measured_on_request_and_has_no_known_accuracy() {
    let flags = ["--only", "mobilenetv3_small_050", "--precision", "f32,int8", "--thorough"];
    let mut command = goldcrest(["choose", "--backend", "cpu", "--threads", "1", "--json"]);
    command.args(flags);
    let report = json(command);
    let rows = report["measured"].as_array().unwrap();
    let mut variants: Vec<String> =
        rows.iter().map(|row| format!("{} {}", row["precision"], row["accuracy_known"])).collect();
    variants.sort();
    assert_eq!(variants, ["\"f32\" true", "\"int8\" false"]);
    let int8 = rows.iter().find(|row| row["precision"] == "int8").unwrap();
    assert!(int8["command"].as_str().unwrap().contains("goldcrest quantize --model timm/"), "{int8}");
    // The CPU has no f16. That is an error only if f16 is the only requested precision.
    let mut command = goldcrest(["choose", "--backend", "cpu", "--precision", "f16"]);
    command.args(SMALL);
    refused(command, &["has no f16"]);
}

#[test]
fn detection_accuracy_is_coco_map() {
    let mut command =
        goldcrest(["choose", "--backend", "cpu", "--json", "--task", "detect", "--min-accuracy", "20"]);
    command.args(["--only", "ssdlite*"]);
    let report = json(command);
    let best = &report["recommended"];
    assert_eq!((&best["metric"], &best["accuracy"]), (&"coco_map".into(), &21.3.into()));
    assert!(
        best["top1"].is_null() && best["command"].as_str().unwrap().contains("goldcrest detect IMAGE"),
        "{best}"
    );
}

#[test]
fn the_front_is_plotted() {
    let folder = tempfile::tempdir().unwrap();
    for (name, start) in
        [("front.svg", &b"<svg"[..]), ("front.png", b"\x89PNG"), ("front.html", b"<!DOCTYPE html>")]
    {
        let path = folder.path().join(name);
        let mut command = choose(&["--within", "60s", "--plot"]);
        command.arg(&path);
        success(command);
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(start), "{name}: {:?}", &bytes[..16]);
        if name != "front.png" {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains("V3_small_050 224") && text.contains("60000 ms"), "{name}");
        }
    }
    refused(choose(&["--plot", "/nonexistent/front.svg"]), &["--plot", "folder"]);
}

#[test]
fn invalid_flags_are_reported_before_measuring() {
    for (flags, words) in [
        (&["--within", "4"][..], &["--within", "4ms"][..]),
        (&["--within=-4ms"], &["--within"]),
        (&["--within", "soon"], &["--within", "soon", "0.5s"]),
        (&["--fps", "0"], &["--fps", "60"]),
        (&["--fps", "inf"], &["--fps"]),
        (&["--fps", "1e-306"], &["--fps"]),
        (&["--fps", "60", "--within", "4ms"], &["--fps", "--within"]),
        (&["--min-accuracy", "175"], &["--min-accuracy", "100"]),
        (&["--memory", "64XB"], &["--memory", "64MiB"]),
        (&["--download", "0"], &["--download"]),
        (&["--precision", "f8"], &["--precision", "int8"]),
        (&["--task", "embed"], &["--task", "segment"]),
        (&["--plot", "front.jpg"], &["--plot", ".svg"]),
    ] {
        let line = failure(goldcrest([&["choose"], flags].concat()), 2);
        for word in words {
            assert!(line.contains(word), "{line:?} does not mention {word:?}");
        }
    }
    refused(
        goldcrest(["choose", "--only", "mobilenet_v9*"]),
        &["mobilenet_v9*", "timm/mobilenetv3_large_100"],
    );
    refused(goldcrest(["choose", "--only", "mobilenetv4_hybrid*"]), &["mobilenetv4_hybrid", "attention"]);
    refused(goldcrest(["choose", "--only", "a["]), &["--only a["]);
    refused(goldcrest(["choose", "--backend", "cpu", "--adapter", "0"]), &["--adapter", "cpu"]);
    refused(goldcrest(["choose", "--adapter", "0", "--threads", "2"]), &["--threads"]);
}
