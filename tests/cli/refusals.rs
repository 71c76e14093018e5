//! What is wrong with a file is told in one line that names it, and nothing is left behind.

use std::{
    fs,
    path::{Path, PathBuf},
};

use safetensors::tensor::Dtype;

use super::{
    CAT, SEEDED, classify, goldcrest,
    make::{self, Tensors},
    names, refused, run,
};

/// Layers at the beginning and the end of the seeded network.
const STEM: &str = "mobilenet_v1.conv_stem.convolution.weight";
const BIAS: &str = "classifier.bias";

/// What is said of a checkpoint with these tensors names the key and has these words.
#[track_caller]
fn bad_weights(change: impl FnOnce(&mut Tensors), words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let weights = make::seeded(folder.path(), change);
    refused(classify(&weights, Path::new(CAT)), words);
}

/// Spoils one value of an f16 tensor.
fn spoil(tensors: &mut Tensors, key: &str, value: half::f16) {
    tensors.get_mut(key).unwrap().2[4..6].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn a_truncated_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.safetensors");
    let whole = fs::read(Path::new(SEEDED).join("model.safetensors")).unwrap();
    for len in [0, 7, 8, 1000, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        refused(classify(&path, Path::new(CAT)), &["cut.safetensors"]);
    }
    refused(classify(&path, Path::new(CAT)), &["cut.safetensors", "truncated"]);
}

#[test]
fn a_header_past_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.safetensors");
    for length in [1000u64, u64::MAX] {
        fs::write(&path, [&length.to_le_bytes()[..], b"{}"].concat()).unwrap();
        refused(classify(&path, Path::new(CAT)), &["long.safetensors", "header", "10 bytes"]);
    }
}

#[test]
fn what_people_take_for_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pth");
    for (start, word) in [
        (&b"PK\x03\x04\0\0\x08\x08\0\0archive/data.pkl"[..], "PyTorch"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "not a safetensors file"),
    ] {
        fs::write(&path, start).unwrap();
        refused(classify(&path, Path::new(CAT)), &["model.pth", word]);
    }
}

#[test]
fn a_missing_tensor() {
    bad_weights(|t| drop(t.remove(BIAS)), &[BIAS, "missing"]);
}

#[test]
fn two_files_with_one_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let weights = make::seeded(folder.path(), |_| {});
    for name in ["a.safetensors", "b.safetensors"] {
        fs::copy(weights.join("model.safetensors"), weights.join(name)).unwrap();
    }
    fs::remove_file(weights.join("model.safetensors")).unwrap();
    refused(classify(&weights, Path::new(CAT)), &["b.safetensors", BIAS, "a.safetensors too"]);
}

#[test]
fn tensors_that_do_not_belong() {
    let extra = |t: &mut Tensors| {
        for key in ["mobilenet_v1.extra.weight", "mobilenet_v1.more.weight"] {
            t.insert(key.into(), t[BIAS].clone());
        }
    };
    bad_weights(extra, &["model.safetensors", "mobilenet_v1.extra.weight", "1 more"]);
}

#[test]
fn a_misshapen_tensor() {
    let flatten = |t: &mut Tensors| t.get_mut(STEM).unwrap().1 = vec![8, 27];
    bad_weights(flatten, &["model.safetensors", STEM, "shape", "[8, 27]"]);
    let shorten = |t: &mut Tensors| {
        let bias = t.get_mut(BIAS).unwrap();
        bias.1 = vec![7];
        bias.2.truncate(14);
    };
    bad_weights(shorten, &["model.safetensors", BIAS, "[1001]", "[7]"]);
}

#[test]
fn weights_that_are_not_finite() {
    bad_weights(|t| spoil(t, STEM, half::f16::NAN), &["model.safetensors", STEM, "NaN", "index 2"]);
    bad_weights(|t| spoil(t, BIAS, half::f16::NEG_INFINITY), &["model.safetensors", BIAS, "-inf"]);
}

#[test]
fn integers_for_weights() {
    bad_weights(|t| t.get_mut(BIAS).unwrap().0 = Dtype::I16, &["model.safetensors", BIAS, "I16"]);
}

#[test]
fn keys_of_another_network() {
    let folder = tempfile::tempdir().unwrap();
    let path = make::tensor(folder.path(), "vit.encoder\n.weight", Dtype::F32, &[1], make::f32s(&[1.0]));
    refused(classify(&path, Path::new(CAT)), &["unknown network", "in.safetensors", "vit"]);
}

#[test]
fn an_unknown_architecture() {
    for (arch, words) in [
        ("torchvision/mnasnet1_0", &["mnasnet1_0", "mobilenet_v2"][..]),
        ("mobilenet", &["mobilenet", "torchvision/"]),
        // A name that exists but is not what the tensors show.
        ("torchvision/mobilenet_v2", &["seeded", "transformers"]),
    ] {
        refused(goldcrest(["classify", CAT, "--weights", SEEDED, "--arch", arch]), words);
    }
}

#[test]
fn a_folder_without_weights() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("nothing");
    fs::create_dir(&weights).unwrap();
    refused(classify(&weights, Path::new(CAT)), &["nothing", "empty"]);
    fs::write(weights.join("README"), "").unwrap();
    refused(classify(&weights, Path::new(CAT)), &["nothing", "no .safetensors file"]);
    refused(classify(&weights.join("absent"), Path::new(CAT)), &["absent", "No such file"]);
}

#[test]
fn an_input_that_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let output = at.join("out.safetensors");
    fs::write(&output, "mine").unwrap();
    let refused = |input: PathBuf, words: &[&str]| {
        refused(run(&input, &output), words);
        assert_eq!(fs::read(&output).unwrap(), b"mine", "an existing file was touched");
        assert_eq!(names(at), ["in.safetensors", "out.safetensors"]);
    };
    refused(make::input(at, &[3, 32, 32]), &["in.safetensors", "four dimensions", "[3, 32, 32]"]);
    refused(make::input(at, &[1, 4, 32, 32]), &["in.safetensors", "input", "3 channels", "4"]);
    refused(make::input(at, &[0, 3, 32, 32]), &["in.safetensors", "input", "no value"]);
    let floats = make::f32s(&make::values(&[1, 3, 8, 8]));
    refused(
        make::tensor(at, "x", Dtype::F32, &[1, 3, 8, 8], floats.clone()),
        &["in.safetensors", "input", "missing"],
    );
    refused(
        make::tensor(at, "input", Dtype::I32, &[1, 3, 8, 8], floats),
        &["in.safetensors", "input", "I32"],
    );
    let mut values = make::values(&[1, 3, 8, 8]);
    values[5] = f32::NAN;
    refused(
        make::tensor(at, "input", Dtype::F32, &[1, 3, 8, 8], make::f32s(&values)),
        &["in.safetensors", "input", "NaN"],
    );
    // More than any adapter binds as one buffer; must be told before it is read.
    refused(make::hole(at, [1, 3, 70_000, 70_000]), &["layer input", "limit"]);

    fs::write(at.join("in.safetensors"), "Dear diary").unwrap();
    refused(at.join("in.safetensors"), &["in.safetensors", "not a safetensors file"]);
    refused(at.join("absent"), &["absent", "No such file"]);
    refused(at.to_owned(), &["irectory"]);
}

#[test]
fn an_output_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let input = make::input(folder.path(), &[1, 3, 16, 16]);
    refused(run(&input, &folder.path().join("none/out")), &["none/out", "not found"]);
    refused(run(&input, folder.path()), &[folder.path().to_str().unwrap(), "folder"]);
    refused(run(&input, &input.join("out")), &["in.safetensors/out"]);
    if cfg!(target_os = "linux") {
        refused(run(&input, Path::new("/dev/full")), &["/dev/full", "No space"]);
    }
    let kept = folder.path().join("kept");
    fs::write(&kept, "mine").unwrap();
    let mut permissions = fs::metadata(&kept).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&kept, permissions).unwrap();
    refused(run(&input, &kept), &["kept", "read-only"]);
    assert_eq!(fs::read(&kept).unwrap(), b"mine");
    assert_eq!(names(folder.path()), ["in.safetensors", "kept"]);
}

#[test]
fn labels_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("pets.txt");
    let refused = |contents: &str, words: &[&str]| {
        fs::write(&labels, contents).unwrap();
        let mut command = classify(Path::new(SEEDED), Path::new(CAT));
        command.arg("--labels").arg(&labels);
        refused(command, words);
    };
    refused("cat\ndog\n", &["pets.txt", "2 labels", "1001 classes"]);
    refused("[\"cat\",", &["pets.txt"]);
    refused("", &["pets.txt", "no label"]);
}
