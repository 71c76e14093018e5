//! Failures outside the program: full disks, killed runs, pipes and devices in place of files, hostile names.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use super::{
    CAT, SEEDED, adapters, classify, error_lines, failure, goldcrest, json, make, names, on_cpu, refused,
    run_auto, success, text, without_driver,
};

/// Runs a command that must end within a minute, and returns its output.
#[track_caller]
fn finish(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{command:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// Runs a command that must end within a minute, with status 1 and one error line with all of `words`.
#[track_caller]
fn finish_refused(command: Command, words: &[&str]) {
    let output = finish(command);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = error_lines(&output);
    assert!(lines.len() == 1 && words.iter().all(|word| lines[0].contains(word)), "{lines:?}: {words:?}");
}

/// `run` on the CPU with every layer's output: an output file of more than a few kilobytes.
fn run(folder: &Path, output: &Path) -> Command {
    let mut command = run_auto(&make::input(folder, &[1, 3, 16, 16]), output);
    command.args(["--backend", "cpu", "--threads", "1", "--taps"]);
    command
}

#[test]
#[cfg(unix)]
fn a_file_size_limit_is_an_error_and_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    fs::write(&output, "mine").unwrap();
    let command = run(folder.path(), &output);
    // Above one kilobyte, writes fail and the process gets a signal.
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "ulimit -f 1; exec \"$@\"", "bash"])
        .arg(command.get_program())
        .args(command.get_args());
    limited.env("GOLDCREST_CACHE_DIR", "");
    let line = failure(limited, 1);
    assert!(line.contains("out.safetensors: File too large") && !line.contains(".goldcrest-"), "{line}");
    assert_eq!(fs::read(&output).unwrap(), b"mine");
    assert_eq!(names(folder.path()), ["in.safetensors", "out.safetensors"]);
}

#[test]
fn temporary_files_of_a_killed_run_are_removed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path_of = |name: &str| folder.path().join(name);
    fs::write(path_of(".goldcrest-0123456789abcdef"), "half a file").unwrap();
    fs::create_dir(path_of(".goldcrest-fedcba9876543210")).unwrap();
    fs::write(path_of(".goldcrest-fedcba9876543210/.lock"), "").unwrap();
    fs::write(path_of(".goldcrest-fedcba9876543210/half.wgsl"), "half").unwrap();
    fs::write(path_of(".goldcrest-notes"), "mine").unwrap();
    // A temporary file that a living process, this one, still writes.
    let living = fs::File::create(path_of(".goldcrest-00000000deadbeef")).unwrap();
    living.lock().unwrap();
    success(run(folder.path(), &path_of("out.safetensors")));
    let expected = [".goldcrest-00000000deadbeef", ".goldcrest-notes", "in.safetensors", "out.safetensors"];
    assert_eq!(names(folder.path()), expected);

    // In the cache too.
    fs::write(path_of(".goldcrest-0123456789abcdef"), "half a file").unwrap();
    let mut command = goldcrest(["tune", "--weights", SEEDED, "--budget", "1", "--size", "32x32"]);
    success({
        command.env("GOLDCREST_CACHE_DIR", folder.path());
        command
    });
    assert!(!path_of(".goldcrest-0123456789abcdef").exists());
}

/// A study is interrupted at its start. If its JSON cannot be written, it is printed.
#[test]
#[cfg(target_os = "linux")]
fn an_interrupted_study_on_a_full_disk_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let study = |out: &Path| {
        let mut command = without_driver(goldcrest(["study", "--quick", "--threads", "1", "--out"]));
        command.arg(out).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut messages = String::new();
        // After this message, the program handles signals.
        stderr.read_line(&mut messages).unwrap();
        assert!(messages.contains("only the CPU is measured"), "{messages}");
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        stderr.read_to_string(&mut messages).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{messages}");
        (text(&output.stdout), messages.lines().last().unwrap().to_owned())
    };
    let is_report = |text: &str| {
        let report: serde_json::Value = serde_json::from_str(text).unwrap();
        assert!(report["facts"].as_array().unwrap().len() > 3, "{report}");
        assert!(report["lead"][0].as_str().unwrap().starts_with("Interrupted: "), "{report}");
    };
    let page = folder.path().join("page.html");
    let (printed, line) = study(&page);
    assert_eq!(printed, "");
    assert!(line.starts_with("error: interrupted: ") && line.contains("page.json"), "{line}");
    is_report(&fs::read_to_string(folder.path().join("page.json")).unwrap());

    let page = folder.path().join("full.html");
    std::os::unix::fs::symlink("/dev/full", folder.path().join("full.json")).unwrap();
    let (printed, line) = study(&page);
    is_report(&printed);
    assert!(line.contains("full.json: No space") && line.contains("printed"), "{line}");
    // The HTML file is kept.
    assert!(fs::read_to_string(&page).unwrap().contains("</html>"));
}

#[test]
#[cfg(unix)]
fn pipes_and_devices_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pipe = at("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let on = |weights: &Path| on_cpu("classify", weights, &[CAT]);
    let labelled = |labels: &Path| {
        let mut command = on(Path::new(SEEDED));
        command.arg("--labels").arg(labels);
        command
    };
    let zero = Path::new("/dev/zero");
    finish_refused(on(&pipe), &["pipe: is a pipe"]);
    finish_refused(on(zero), &["/dev/zero: is a device"]);
    finish_refused(labelled(&pipe), &["pipe: is a pipe"]);
    finish_refused(labelled(zero), &["/dev/zero: is a device"]);
    let with_truth = |subcommand: &str, weights: &str, truth: &Path| {
        let mut command = on_cpu(subcommand, Path::new(weights), &[CAT, "--truth"]);
        command.arg(truth);
        command
    };
    for (truth, words) in [(pipe.as_path(), "pipe: is a pipe"), (zero, "/dev/zero: is a device")] {
        finish_refused(with_truth("classify", SEEDED, truth), &[words]);
        finish_refused(with_truth("detect", "assets/demo/detect", truth), &[words]);
    }
    // In a folder of pictures, and as a list of pictures.
    fs::create_dir(at("album")).unwrap();
    fs::copy(CAT, at("album/a.jpg")).unwrap();
    assert!(Command::new("mkfifo").arg(at("album/b.jpg")).status().unwrap().success());
    fs::write(at("list"), at("album/b.jpg").to_str().unwrap()).unwrap();
    let [album, each, list, lists] =
        ["album", "album/*.jpg", "list", "pipe"].map(|name| at(name).to_str().unwrap().to_owned());
    for name in [album, each, format!("@{list}"), format!("@{lists}")] {
        let output = finish(on_cpu("classify", Path::new(SEEDED), &[&name]));
        let errors = super::error_lines(&output);
        assert!(output.status.code() == Some(1) && errors[0].contains("is a pipe"), "{name}: {errors:?}");
    }
    finish_refused(run_auto(&pipe, &at("out.npy")), &["pipe: is a pipe"]);
    finish_refused(run_auto(zero, &at("out.npy")), &["/dev/zero: is a device"]);
    for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        for (source, word) in [(pipe.as_path(), "is a pipe"), (zero, "is a device")] {
            let folder = tempfile::tempdir().unwrap();
            let weights = make::seeded(folder.path(), |_| {});
            fs::remove_file(weights.join(name)).unwrap();
            std::os::unix::fs::symlink(source, weights.join(name)).unwrap();
            finish_refused(on(&weights), &[name, word]);
        }
    }
    // Labels through pipes of the shell: one without an end, one with.
    let shell = |script: &str| {
        let command = on(Path::new(SEEDED));
        let mut shell = Command::new("bash");
        shell.args(["-c", script, "bash"]).arg(command.get_program()).args(command.get_args());
        shell.env("GOLDCREST_CACHE_DIR", "");
        shell
    };
    finish_refused(shell("exec \"$@\" --labels <(cat /dev/zero)"), &["/dev/fd/", "more than 33554432 bytes"]);
    let text = success(shell("\"$@\" --labels <(seq -f 'the %g' 0 1000)"));
    assert!(text.contains("%  the "), "{text}");
}

#[test]
fn control_characters_in_names_are_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = "\u{1b}[2J\u{202e}cat\u{9b}31m\r\n100.0%  forged";
    let visible = r"\u{1b}[2J\u{202e}cat\u{9b}31m\r\n100.0%  forged";
    let labels = folder.path().join("labels.json");
    fs::write(&labels, serde_json::to_string(&vec![hostile; 1001]).unwrap()).unwrap();
    let labelled = |more: &[&str]| {
        let mut command = on_cpu("classify", Path::new(SEEDED), &[CAT]);
        command.arg("--labels").arg(&labels).args(more);
        command
    };
    let text = success(labelled(&[]));
    assert_eq!(text.matches(visible).count(), 5, "{text}");
    assert!(!text.contains(|c: char| c != '\n' && c.is_control()) && !text.contains('\u{202e}'), "{text:?}");
    assert_eq!(text.lines().count(), 7, "{text}");
    // JSON holds the exact label, also without raw control characters.
    let text = success(labelled(&["--json"]));
    assert!(!text.contains(|c: char| c != '\n' && c.is_control()) && !text.contains('\u{202e}'), "{text:?}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["pictures"][0]["classes"][0]["label"], hostile);

    // Errors, warnings and notes stay on one line.
    let name = "\u{1b}]0;x\u{7}\u{2066}\nerror: forged";
    let visible = r"\u{1b}]0;x\u{7}\u{2066}\nerror: forged";
    refused(on_cpu("classify", &folder.path().join(name), &[CAT]), &[visible, "No such file"]);
    let weights = make::seeded(folder.path(), |tensors| {
        let bias = tensors["classifier.bias"].clone();
        tensors.insert(format!("mobilenet_v1.{name}"), bias);
    });
    refused(on_cpu("classify", &weights, &[CAT]), &[visible]);
    let odd = folder.path().join(name);
    fs::rename(weights, &odd).unwrap();
    make::write(&odd.join("model.safetensors"), &make::read(&Path::new(SEEDED).join("model.safetensors")));
    fs::write(odd.join("config.json"), format!("{{\"architecture\": {}}}", serde_json::json!(name))).unwrap();
    refused(on_cpu("classify", &odd, &[CAT]), &[visible]);
}

#[test]
#[cfg(target_os = "linux")]
fn names_that_are_not_utf_8_work() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let folder = tempfile::tempdir().unwrap();
    let odd = |end: &str| folder.path().join(OsStr::from_bytes(&[b"caf\xe9 ", end.as_bytes()].concat()));
    let weights = make::seeded(folder.path(), |_| {});
    // Hidden files, which are ignored.
    fs::write(weights.join("._model.safetensors"), "macOS").unwrap();
    fs::write(weights.join(".model.safetensors.swp"), "an editor").unwrap();
    fs::rename(weights.join("model.safetensors"), weights.join(odd("x.safetensors").file_name().unwrap()))
        .unwrap();
    fs::rename(&weights, odd("weights")).unwrap();
    fs::write(odd("labels"), (0..1001).map(|i| format!("the {i}\n")).collect::<String>()).unwrap();
    fs::copy(CAT, odd("cat.jpg")).unwrap();
    let expected = json(on_cpu("classify", Path::new(SEEDED), &[CAT, "--json"]));
    let mut command = on_cpu("classify", &odd("weights"), &["--json"]);
    command.arg(odd("cat.jpg")).arg("--labels").arg(odd("labels"));
    let report = json(command);
    let (report, expected) = (&report["pictures"][0]["classes"][0], &expected["pictures"][0]["classes"][0]);
    assert_eq!(report["index"], expected["index"]);
    assert_eq!(report["label"], format!("the {}", report["index"]));

    fs::rename(make::input(folder.path(), &[1, 3, 16, 16]), odd("in.safetensors")).unwrap();
    for more in [&[][..], &["--json"]] {
        let mut command = on_cpu("run", &odd("weights"), more);
        command.arg("--input").arg(odd("in.safetensors")).arg("--output").arg(odd("out.npy"));
        success(command);
        assert!(odd("out.npy").exists());
        let mut command = goldcrest(["inspect", "--baseline", "--weights"]);
        command.arg(odd("weights")).arg("--shaders").arg(odd("shaders")).args(more);
        success(command);
        let mut command = without_driver(goldcrest(["demo", "--out"]));
        command.arg(odd("demo.png")).args(more);
        success(command);
        assert!(odd("demo.png").exists());
    }
    assert!(count_files(&odd("shaders")) > 10);
    let mut command = on_cpu("classify", Path::new(SEEDED), &["--json"]);
    command.arg(folder.path().join("*.jpg"));
    assert_eq!(super::pictures_of(&json(command)).len(), 1);
}

/// In /proc no file can be created. A search for a free temporary name there would never end.
#[test]
#[cfg(target_os = "linux")]
fn a_folder_where_no_file_can_be_created() {
    let out = Path::new("/proc/goldcrest.npy");
    let mut command = on_cpu("embed", Path::new(SEEDED), &[CAT, "--out"]);
    command.arg(out);
    finish_refused(command, &["/proc/goldcrest.npy"]);
}

fn count_files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn messages_of_drivers_are_hidden() {
    let quiet = |mut command: Command| {
        command.env_remove("XDG_RUNTIME_DIR");
        success(command);
    };
    quiet(goldcrest(["adapters"]));
    for adapter in adapters() {
        let mut command = classify(Path::new(SEEDED), Path::new(CAT));
        command.args(["--adapter", &adapter["index"].to_string()]);
        quiet(command);
    }
}

#[test]
fn an_adapter_with_wrong_results_is_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let page = page.to_str().unwrap();
    for arguments in [
        &["bench", "--networks", "mobilenet_v1@0.25", "--sizes", "32", "--runs", "1"][..],
        &["bench", "--networks", "mobilenet_v1@0.25", "--sizes", "32", "--runs", "1", "--backend", "gpu"],
        &["study", "--quick", "--out", page],
    ] {
        let mut command = goldcrest(arguments);
        // wgpu's noop backend, which computes nothing.
        command.env("WGPU_BACKEND", "noop").env("WGPU_NOOP_BACKEND", "1");
        refused(command, &["noop", "computes wrong", "relative error"]);
    }
    assert!(names(folder.path()).is_empty());
}
