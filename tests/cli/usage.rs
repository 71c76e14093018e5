//! Flags: help, usage errors, adapters, sizes, and closed output pipes.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use super::{
    CAT, SEEDED, adapters, classify, error_lines, failure, goldcrest, json, make, refused, run, success,
    without_driver,
};

#[test]
fn help_and_version() {
    for flag in ["--help", "-h", "help"] {
        assert!(success(goldcrest([flag])).contains("classify"));
    }
    assert!(success(goldcrest(["run", "--help"])).contains("--taps"));
    assert_eq!(success(goldcrest(["--version"])), concat!("goldcrest ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_usage_error_is_one_line_that_names_the_flag() {
    for (arguments, words) in [
        (&["classify"][..], &["--weights", "<IMAGE>"][..]),
        (&["classify", CAT, "--weight", "x"], &["--weight", "tip"]),
        (&["classify", CAT, "--weights", SEEDED, "--top", "0"], &["--top"]),
        (&["classify", CAT, "--weights", SEEDED, "--batch", "-1"], &["-1"]),
        (&["classify", CAT, "--weights", SEEDED, "--backend", "tpu"], &["--backend", "tpu", "gpu"]),
        (&["classify", CAT, "--weights", SEEDED, "--precision", "f8"], &["--precision", "f8", "f16"]),
        (&["inspect", "--weights", SEEDED, "--size", "0x8"], &["--size", "0x8", "224x160"]),
        (&["inspect", "--weights", SEEDED, "--size", "8x8x8"], &["--size"]),
        (&["inspect", "--weights", SEEDED, "--size", "99999999999999999999"], &["--size"]),
        (&["inspect", "--weights", SEEDED, "--batch", "4294967296"], &["--batch"]),
        (&["run", "--weights", SEEDED, "--input", ""], &["--input"]),
        (&["fly"], &["fly"]),
    ] {
        let line = failure(goldcrest(arguments), 2);
        for word in words {
            assert!(line.contains(word), "{line:?} does not mention {word:?}");
        }
    }
}

#[test]
fn too_large_sizes() {
    for arguments in [
        &["--size", "1000000x1000000"][..],
        &["--size", "4294967295x4294967295"],
        &["--size", "18446744073709551615"],
        &["--batch", "4294967295"],
        &["--batch", "4294967295", "--size", "18446744073709551615x1"],
    ] {
        let mut command = goldcrest(["inspect", "--weights", SEEDED, "--json"]);
        command.args(arguments);
        refused(command, &["layer"]);
    }
}

#[test]
fn an_unknown_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[1, 3, 16, 16]);
    for wanted in ["nonsense", "99"] {
        let output = folder.path().join("out.safetensors");
        for mut command in [
            classify(Path::new(SEEDED), Path::new(CAT)),
            run(&input, &output),
            goldcrest(["inspect", "--weights", SEEDED]),
        ] {
            command.args(["--adapter", wanted]);
            refused(command, &["no adapter", wanted, "there are 0: "]);
        }
        assert!(!output.exists());
    }
}

#[test]
fn f16_is_used_or_refused_by_adapter_features() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[1, 3, 32, 32]);
    for adapter in adapters() {
        let f16 = adapter["features"].as_array().unwrap().contains(&"shader_f16".into());
        let index = adapter["index"].to_string();
        let output = folder.path().join(format!("{index}.safetensors"));
        let choose = |mut command: Command| {
            command.args(["--precision", "f16", "--adapter", &index, "--json"]);
            command
        };
        let inspect = choose(goldcrest(["inspect", "--weights", SEEDED]));
        if f16 {
            assert_eq!(json(inspect)["precision"], "f16");
            assert_eq!(json(choose(run(&input, &output)))["precision"], "f16");
            let whole = folder.path().join("f32.safetensors");
            let mut command = run(&input, &whole);
            command.args(["--adapter", &index]);
            success(command);
            let [ours, theirs] = [&output, &whole].map(|file| make::read(file));
            assert_ne!(ours["output"], theirs["output"], "f16 has fewer bits than f32");
        } else {
            for command in
                [inspect, choose(run(&input, &output)), choose(classify(Path::new(SEEDED), Path::new(CAT)))]
            {
                refused(command, &["f16", adapter["name"].as_str().unwrap()]);
            }
            assert!(!output.exists());
        }
    }
}

#[test]
fn no_adapter_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[1, 3, 16, 16]);
    let output = folder.path().join("out.safetensors");
    for command in [
        classify(Path::new(SEEDED), Path::new(CAT)),
        run(&input, &output),
        goldcrest(["bench", "--backend", "gpu"]),
        goldcrest(["tune", "--weights", SEEDED]),
        goldcrest(["adapters"]),
        goldcrest(["adapters", "--json"]),
    ] {
        refused(without_driver(command), &["no graphics adapter"]);
    }
    assert!(!output.exists());
    let inspect = success(without_driver(goldcrest(["inspect", "--weights", SEEDED])));
    assert!(inspect.contains("WebGPU's default limits (no graphics adapter"), "{inspect}");
}

#[test]
fn a_closed_output_pipe() {
    // The output of `inspect --json` exceeds the capacity of a pipe.
    for lines in [0, 1] {
        let mut command = goldcrest(["inspect", "--weights", SEEDED, "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pipe = child.stdout.take().unwrap();
        assert_eq!(BufReader::new(pipe).lines().take(lines).count(), lines);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && error_lines(&output).is_empty(), "{output:?}");
    }
    let mut command = goldcrest(["fly"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
#[cfg(target_os = "linux")]
fn stdout_on_a_full_disk() {
    let mut command = classify(Path::new(SEEDED), Path::new(CAT));
    command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    refused(command, &["standard output", "No space"]);
}
