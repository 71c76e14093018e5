//! File formats of `run`, chosen by extension; `run` never overwrites a file that it reads.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use goldcrest::{Tensor, checkpoint::Npy};

use super::{LRASPP, SSDLITE, json, make, names, on_cpu, refused, run_auto, success};

const SHAPE: [usize; 4] = [1, 3, 9, 13];

/// `run` with the seeded network on the CPU.
fn run(input: &Path, output: &Path) -> Command {
    let mut command = run_auto(input, output);
    command.args(["--backend", "cpu"]);
    command
}

/// Writes a .npy file with this header and these values.
fn npy(path: PathBuf, version: u8, header: &str, values: &[u8]) -> PathBuf {
    let length = header.len() as u32;
    let length = &length.to_le_bytes()[..if version == 1 { 2 } else { 4 }];
    let bytes = [&b"\x93NUMPY"[..], &[version, 0], length, header.as_bytes(), values].concat();
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn arrays_of_every_order_give_the_same_output() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let values = make::values(&SHAPE);
    let output = at("out.safetensors");
    success(run(&make::input(folder.path(), &SHAPE), &output));
    let expected = make::read(&output)["output"].clone();

    let [_, channels, rows, columns] = SHAPE;
    let reversed = (0..values.len()).map(|at| {
        let (c, rest) = (at % channels, at / channels);
        let (y, x) = (rest % rows, rest / rows);
        values[(c * rows + y) * columns + x]
    });
    let header = |descr: &str, fortran: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': (1, 3, 9, 13), }}\n")
    };
    let big: Vec<u8> = values.iter().flat_map(|v| f64::from(*v).to_be_bytes()).collect();
    let fortran: Vec<u8> = reversed.flat_map(f32::to_be_bytes).collect();
    for input in [
        npy(at("plain.npy"), 1, &header("<f4", "False"), &make::f32s(&values)),
        npy(at("BIG.NPY"), 2, &header(">f8", "False"), &big),
        npy(at("fortran.npy"), 3, &header(">f4", "True"), &fortran),
    ] {
        fs::remove_file(&output).unwrap();
        success(run(&input, &output));
        assert_eq!(make::read(&output)["output"], expected, "{}", input.display());
    }
    // The output can be an array too.
    let array = at("out.npy");
    let mut command = run(&at("plain.npy"), &array);
    command.arg("--json");
    assert_eq!(json(command)["output"], serde_json::json!([1, 1001]));
    let found = Npy::open(&array).unwrap().tensor().unwrap();
    assert_eq!(found, Tensor::new([1, 1001], make::floats(&expected)).unwrap());
}

#[test]
fn invalid_arrays() {
    let folder = tempfile::tempdir().unwrap();
    let (path, output) = (folder.path().join("in.npy"), folder.path().join("out.npy"));
    let refused = |bytes: Vec<u8>, words: &[&str]| {
        fs::write(&path, bytes).unwrap();
        refused(run(&path, &output), &[&["in.npy"], words].concat());
        assert_eq!(names(folder.path()), ["in.npy"]);
    };
    let of = |dims: &[usize]| Npy::encode(&Tensor::new(dims, make::values(dims)).unwrap());
    let with = |from: &str, to: &str| {
        let bytes = of(&SHAPE);
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
    };
    refused(b"Dear diary".to_vec(), &["not a NumPy array"]);
    refused(of(&SHAPE)[..200].to_vec(), &["[1, 3, 9, 13]", "cut short"]);
    refused(with("<f4", "<i4"), &["<i4", "float32"]);
    refused(with("<f4", "|O8"), &["|O8", "float32"]);
    refused(with("9, 13), ", "9, -3), "), &["header"]);
    refused(b"\x93NUMPY\x02\0\xff\xff\xff\x7f{".to_vec(), &["2147483647 bytes"]);
    refused(of(&[3, 9, 13]), &["four dimensions"]);
    refused(of(&[1, 4, 9, 13]), &["3 channels", "4"]);
    let mut values = make::values(&SHAPE);
    values[7] = f32::NAN;
    refused(Npy::encode(&Tensor::new(SHAPE, values).unwrap()), &["NaN at index 7"]);
}

#[test]
fn other_names_and_several_tensors_are_refused_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &SHAPE);
    let text = folder.path().join("in.txt");
    fs::copy(&input, &text).unwrap();
    let named = |name: &str| folder.path().join(name);
    for output in ["out", "out.pt", "out.npz"] {
        refused(run(&input, &named(output)), &[output, ".safetensors", ".npy"]);
    }
    refused(run(&text, &named("out.npy")), &["in.txt", ".safetensors", ".npy"]);
    for (name, more, several) in [
        (LRASPP, &["--taps"][..], true),
        (LRASPP, &["--features"], true),
        (LRASPP, &[], false),
        (SSDLITE, &[], true),
    ] {
        let output = named("out.npy");
        let mut command = on_cpu("run", &make::golden(name), more);
        command.arg("--input").arg(make::input(folder.path(), &[1, 3, 33, 33])).arg("--output").arg(&output);
        if several {
            refused(command, &["out.npy", "one tensor", ".safetensors"]);
        } else {
            success(command);
            assert_eq!(Npy::open(&output).unwrap().dims(), [1, 21, 33, 33]);
            fs::remove_file(output).unwrap();
        }
    }
    assert_eq!(names(folder.path()), ["in.safetensors", "in.txt"]);
}

#[test]
fn inputs_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let weights = make::seeded(folder.path(), |_| {});
    // A sharded checkpoint: its index is an input too.
    let shard = weights.join("shard-1.safetensors");
    fs::rename(weights.join("model.safetensors"), &shard).unwrap();
    let keys: serde_json::Map<String, serde_json::Value> =
        make::read(&shard).into_keys().map(|key| (key, "shard-1.safetensors".into())).collect();
    let index = weights.join("model.safetensors.index.json");
    fs::write(&index, serde_json::json!({ "weight_map": keys }).to_string()).unwrap();

    let input = make::input(folder.path(), &SHAPE);
    let alias = folder.path().join("alias.safetensors");
    let files =
        [&input, &shard, &index, &weights.join("config.json"), &weights.join("preprocessor_config.json")];
    let before = files.map(|file| fs::read(file).unwrap());
    let into = |output: &Path| {
        let mut command = on_cpu("run", &weights, &["--input"]);
        command.arg(&input).arg("--output").arg(output);
        command
    };
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        refused(into(file), &[name, "is also an input"]);
        fs::hard_link(file, &alias).unwrap();
        refused(into(&alias), &["alias.safetensors", name, "is also an input"]);
        fs::remove_file(&alias).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(file, &alias).unwrap();
            refused(into(&alias), &["alias.safetensors", name, "is also an input"]);
            fs::remove_file(&alias).unwrap();
        }
    }
    assert_eq!(files.map(|file| fs::read(file).unwrap()), before);
    // A file next to the inputs that is not read may be overwritten.
    fs::write(weights.join("old.safetensors"), "old").unwrap();
    success(into(&weights.join("old.safetensors")));
    assert_eq!(make::read(&weights.join("old.safetensors"))["output"].1, [1, 1001]);
}
