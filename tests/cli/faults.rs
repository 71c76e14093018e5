//! What goes wrong outside the program: full disks, killed runs, files that are none, names that are hostile.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use super::{
    CAT, SEEDED, answer, classify, complaints, failure, goldcrest, json, make, names, on_cpu, refused,
    run_anywhere, text, without_driver,
};

/// What came of a command that must end by itself.
#[track_caller]
fn ends(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{command:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// Ends with status 1 and one line that says all of `words`.
#[track_caller]
fn ends_refused(command: Command, words: &[&str]) {
    let output = ends(command);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = complaints(&output);
    assert!(lines.len() == 1 && words.iter().all(|word| lines[0].contains(word)), "{lines:?}: {words:?}");
}

/// `run` of some pixels on the CPU, with every layer's output: more than a few kilobytes.
fn run(folder: &Path, output: &Path) -> Command {
    let mut command = run_anywhere(&make::input(folder, &[1, 3, 16, 16]), output);
    command.args(["--backend", "cpu", "--threads", "1", "--taps"]);
    command
}

#[test]
#[cfg(unix)]
fn a_file_that_may_not_grow_is_an_error_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    fs::write(&output, "mine").unwrap();
    let command = run(folder.path(), &output);
    // Beyond a kilobyte the system refuses to write, and sends a signal.
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
fn what_a_killed_run_left_is_removed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let left = |name: &str| folder.path().join(name);
    fs::write(left(".goldcrest-0123456789abcdef"), "half a file").unwrap();
    fs::create_dir(left(".goldcrest-fedcba9876543210")).unwrap();
    fs::write(left(".goldcrest-fedcba9876543210/.lock"), "").unwrap();
    fs::write(left(".goldcrest-fedcba9876543210/half.wgsl"), "half").unwrap();
    fs::write(left(".goldcrest-notes"), "mine").unwrap();
    // One that is being written, by this process.
    let living = fs::File::create(left(".goldcrest-00000000deadbeef")).unwrap();
    living.lock().unwrap();
    answer(run(folder.path(), &left("out.safetensors")));
    let expected = [".goldcrest-00000000deadbeef", ".goldcrest-notes", "in.safetensors", "out.safetensors"];
    assert_eq!(names(folder.path()), expected);

    // In the cache too.
    fs::write(left(".goldcrest-0123456789abcdef"), "half a file").unwrap();
    let mut command = goldcrest(["tune", "--weights", SEEDED, "--budget", "1", "--size", "32x32"]);
    answer({
        command.env("GOLDCREST_CACHE_DIR", folder.path());
        command
    });
    assert!(!left(".goldcrest-0123456789abcdef").exists());
}

/// The study of a CPU is interrupted at once, its JSON cannot be written, and what it had is printed.
#[test]
#[cfg(target_os = "linux")]
fn a_study_that_is_interrupted_on_a_full_disk_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let study = |out: &Path| {
        let mut command = without_driver(goldcrest(["study", "--quick", "--threads", "1", "--out"]));
        command.arg(out).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut heard = String::new();
        // It has begun, and hears signals.
        stderr.read_line(&mut heard).unwrap();
        assert!(heard.contains("only the CPU is measured"), "{heard}");
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        stderr.read_to_string(&mut heard).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{heard}");
        (text(&output.stdout), heard.lines().last().unwrap().to_owned())
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
    // The other is kept.
    assert!(fs::read_to_string(&page).unwrap().contains("</html>"));
}

#[test]
#[cfg(unix)]
fn what_never_ends_is_not_read() {
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
    ends_refused(on(&pipe), &["pipe: is a pipe"]);
    ends_refused(on(zero), &["/dev/zero: is a device"]);
    ends_refused(labelled(&pipe), &["pipe: is a pipe"]);
    ends_refused(labelled(zero), &["/dev/zero: is a device"]);
    let held = |subject: &str, weights: &str, truth: &Path| {
        let mut command = on_cpu(subject, Path::new(weights), &[CAT, "--truth"]);
        command.arg(truth);
        command
    };
    for (truth, words) in [(pipe.as_path(), "pipe: is a pipe"), (zero, "/dev/zero: is a device")] {
        ends_refused(held("classify", SEEDED, truth), &[words]);
        ends_refused(held("detect", "assets/demo/detect", truth), &[words]);
    }
    // Among other pictures, and as their list.
    fs::create_dir(at("album")).unwrap();
    fs::copy(CAT, at("album/a.jpg")).unwrap();
    assert!(Command::new("mkfifo").arg(at("album/b.jpg")).status().unwrap().success());
    fs::write(at("list"), at("album/b.jpg").to_str().unwrap()).unwrap();
    let [album, each, list, lists] =
        ["album", "album/*.jpg", "list", "pipe"].map(|name| at(name).to_str().unwrap().to_owned());
    for name in [album, each, format!("@{list}"), format!("@{lists}")] {
        let output = ends(on_cpu("classify", Path::new(SEEDED), &[&name]));
        let told = super::complaints(&output);
        assert!(output.status.code() == Some(1) && told[0].contains("is a pipe"), "{name}: {told:?}");
    }
    ends_refused(run_anywhere(&pipe, &at("out.npy")), &["pipe: is a pipe"]);
    ends_refused(run_anywhere(zero, &at("out.npy")), &["/dev/zero: is a device"]);
    for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        for (source, word) in [(pipe.as_path(), "is a pipe"), (zero, "is a device")] {
            let folder = tempfile::tempdir().unwrap();
            let weights = make::seeded(folder.path(), |_| {});
            fs::remove_file(weights.join(name)).unwrap();
            std::os::unix::fs::symlink(source, weights.join(name)).unwrap();
            ends_refused(on(&weights), &[name, word]);
        }
    }
    // A pipe without end that the shell made, and one with: names of classes.
    let shell = |script: &str| {
        let command = on(Path::new(SEEDED));
        let mut shell = Command::new("bash");
        shell.args(["-c", script, "bash"]).arg(command.get_program()).args(command.get_args());
        shell.env("GOLDCREST_CACHE_DIR", "");
        shell
    };
    ends_refused(shell("exec \"$@\" --labels <(cat /dev/zero)"), &["/dev/fd/", "more than 33554432 bytes"]);
    let text = answer(shell("\"$@\" --labels <(seq -f 'the %g' 0 1000)"));
    assert!(text.contains("%  the "), "{text}");
}

#[test]
fn names_from_files_reach_a_terminal_written_out() {
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
    let text = answer(labelled(&[]));
    assert_eq!(text.matches(visible).count(), 5, "{text}");
    assert!(!text.contains(|c: char| c != '\n' && c.is_control()) && !text.contains('\u{202e}'), "{text:?}");
    assert_eq!(text.lines().count(), 7, "{text}");
    // JSON says what the file does, and is as safe to look at.
    let text = answer(labelled(&["--json"]));
    assert!(!text.contains(|c: char| c != '\n' && c.is_control()) && !text.contains('\u{202e}'), "{text:?}");
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["pictures"][0]["classes"][0]["label"], hostile);

    // Errors, warnings and notes keep to a line.
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
    // Whatever else lies there, hidden.
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
    let told = json(command);
    let (told, expected) = (&told["pictures"][0]["classes"][0], &expected["pictures"][0]["classes"][0]);
    assert_eq!(told["index"], expected["index"]);
    assert_eq!(told["label"], format!("the {}", told["index"]));

    fs::rename(make::input(folder.path(), &[1, 3, 16, 16]), odd("in.safetensors")).unwrap();
    for more in [&[][..], &["--json"]] {
        let mut command = on_cpu("run", &odd("weights"), more);
        command.arg("--input").arg(odd("in.safetensors")).arg("--output").arg(odd("out.npy"));
        answer(command);
        assert!(odd("out.npy").exists());
        let mut command = goldcrest(["inspect", "--baseline", "--weights"]);
        command.arg(odd("weights")).arg("--shaders").arg(odd("shaders")).args(more);
        answer(command);
        let mut command = without_driver(goldcrest(["demo", "--out"]));
        command.arg(odd("demo.png")).args(more);
        answer(command);
        assert!(odd("demo.png").exists());
    }
    assert!(names_in(&odd("shaders")) > 10);
    let mut command = on_cpu("classify", Path::new(SEEDED), &["--json"]);
    command.arg(folder.path().join("*.jpg"));
    assert_eq!(super::pictures_of(&json(command)).len(), 1);
}

/// A folder in which no file can be made: looking on for a name that is free would never end.
#[test]
#[cfg(target_os = "linux")]
fn a_folder_that_takes_no_file() {
    let out = Path::new("/proc/goldcrest.npy");
    let mut command = on_cpu("embed", Path::new(SEEDED), &[CAT, "--out"]);
    command.arg(out);
    ends_refused(command, &["/proc/goldcrest.npy"]);
}

fn names_in(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn what_drivers_print_is_not_ours() {
    for adapter in json(goldcrest(["adapters", "--json"])).as_array().unwrap() {
        let index = adapter["index"].to_string();
        for mut command in [classify(Path::new(SEEDED), Path::new(CAT)), goldcrest(["adapters"])] {
            if command.get_args().next() != Some("adapters".as_ref()) {
                command.args(["--adapter", &index]);
            }
            command.env_remove("XDG_RUNTIME_DIR");
            answer(command);
        }
    }
}

#[test]
fn an_adapter_that_computes_wrong_is_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let page = page.to_str().unwrap();
    for arguments in [
        &["bench", "--networks", "mobilenet_v1@0.25", "--sizes", "32", "--runs", "1"][..],
        &["bench", "--networks", "mobilenet_v1@0.25", "--sizes", "32", "--runs", "1", "--backend", "gpu"],
        &["study", "--quick", "--out", page],
    ] {
        let mut command = goldcrest(arguments);
        // wgpu's own device that does nothing.
        command.env("WGPU_BACKEND", "noop").env("WGPU_NOOP_BACKEND", "1");
        refused(command, &["noop", "computes wrong", "relative error"]);
    }
    assert!(names(folder.path()).is_empty());
}
