//! Invalid files: the error is one line that names the file, and no output is left.

use std::{
    fs,
    path::{Path, PathBuf},
};

use safetensors::tensor::Dtype;

use super::{
    CAT, DEEPLAB, LRASPP, ROCKET, SEEDED, SSDLITE, classify, failure, goldcrest,
    make::{self, Tensors},
    names, on_cpu, refused, run,
};

/// Tensors at the start and the end of the seeded network.
const STEM: &str = "mobilenet_v1.conv_stem.convolution.weight";
const BIAS: &str = "classifier.bias";

/// Asserts that a seeded checkpoint with changed tensors is refused, with these words.
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
fn files_that_are_no_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pth");
    for (start, words) in [
        (&b"PK\x03\x04\0\0\x08\x08\0\0archive/data.pkl"[..], ["zip archive", "cut short"]),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", ["pickle", "cut short"]),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", ["Git LFS", "git lfs pull"]),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", ["a picture", "weights of a network"]),
        (b"\x89HDF\r\n\x1a\n\0", ["Keras", "convert_tf.py"]),
        (b"\x1c\0\0\0TFL3", ["TensorFlow Lite", "names"]),
        (b"\x08\x07\x12\x07pytorch:\x01", ["ONNX", "names"]),
        (b"<!DOCTYPE html><title>Sign in</title>", ["web page", "fetch"]),
    ] {
        fs::write(&path, start).unwrap();
        refused(classify(&path, Path::new(CAT)), &[&["model.pth"], &words[..]].concat());
    }
}

#[test]
fn invalid_overrides() {
    let with =
        |set: &str| goldcrest(["classify", CAT, "--weights", SEEDED, "--backend", "cpu", "--set", set]);
    for (set, words) in
        [("epsilon", ["--set", "expected NAME=VALUE"]), ("stride=1", ["stride cannot be set", "stem_stride"])]
    {
        let line = failure(with(set), 2);
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
    refused(with("epsilon=small"), &["epsilon = small", "batch norm's"]);
    refused(with("stage_strides=1,2"), &["stage_strides = 1,2", "each stage"]);
    refused(with("output_stride=3"), &["output_stride = 3"]);
    refused(with("interpolation=cubic"), &["interpolation = cubic", "bicubic"]);
    refused(with("root=model."), &["root = model.", "networks are under"]);
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
    refused(
        classify(&weights, Path::new(CAT)),
        &["b.safetensors", BIAS, "is also in", "a.safetensors: open one"],
    );
}

#[test]
fn unknown_tensors() {
    let extra = |t: &mut Tensors| {
        for key in ["mobilenet_v1.extra.weight", "mobilenet_v1.more.weight"] {
            t.insert(key.into(), t[BIAS].clone());
        }
    };
    bad_weights(extra, &["model.safetensors", "mobilenet_v1.extra.weight", "nor is another tensor"]);
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
        // A known name that does not match the tensors.
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
    // Larger than any adapter's buffer limit: must be refused before the file is read.
    refused(make::sparse_input(at, [1, 3, 70_000, 70_000]), &["layer input", "limit"]);

    fs::write(at.join("in.safetensors"), "Dear diary").unwrap();
    refused(at.join("in.safetensors"), &["in.safetensors", "a text", "Dear diary"]);
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

#[test]
fn a_network_for_another_task() {
    let seeded = Path::new(SEEDED).to_owned();
    for (subcommand, weights, words) in [
        ("segment", &seeded, ["transformers/mobilenet_v1", "classifies pictures", "segment needs"]),
        ("segment", &make::golden(SSDLITE), ["torchvision/ssdlite320", "finds boxes", "segment needs"]),
        ("detect", &seeded, ["transformers/mobilenet_v1", "classifies pictures", "detect needs"]),
        ("detect", &make::golden(LRASPP), ["torchvision/lraspp", "labels pixels", "detect needs"]),
        ("classify", &make::golden(DEEPLAB), ["torchvision/deeplabv3", "labels pixels", "classify needs"]),
        ("classify", &make::golden(SSDLITE), ["torchvision/ssdlite320", "finds boxes", "classify needs"]),
    ] {
        // Refused before the picture is read.
        refused(on_cpu(subcommand, weights, &["absent.png"]), &words);
    }
}

#[test]
fn a_damaged_segmenter_or_detector() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.png");
    let bad = |name: &str, change: &dyn Fn(&mut Tensors), words: &[&str]| {
        let weights = make::changed(folder.path(), name, change);
        let subcommand = if name == SSDLITE { "detect" } else { "segment" };
        let mut command = on_cpu(subcommand, &weights, &[ROCKET, "--out"]);
        command.arg(&out);
        refused(command, &[&["changed.safetensors"], words].concat());
        assert_eq!(names(folder.path()), ["changed.safetensors"]);
    };
    let missing = |name, key: &str| bad(name, &|t| drop(t.remove(key).unwrap()), &[key, "is missing"]);
    missing(DEEPLAB, "classifier.0.convs.2.0.weight");
    missing(DEEPLAB, "aux_classifier.4.bias");
    missing(LRASPP, "classifier.scale.1.weight");
    missing(SSDLITE, "backbone.extra.3.0.0.weight");
    missing(SSDLITE, "head.classification_head.module_list.3.1.bias");

    // Half of the input channels, or one class fewer than the other tensors.
    let misshapen = |name, key: &str, dim: usize, extent: usize, words: &[&str]| {
        let change = |tensors: &mut Tensors| {
            let tensor = tensors.get_mut(key).unwrap();
            tensor.1[dim] = extent;
            tensor.2.truncate(4 * tensor.1.iter().product::<usize>());
        };
        bad(name, &change, &[&["expected shape"], words].concat());
    };
    let key = "classifier.4.weight";
    misshapen(DEEPLAB, key, 1, 128, &[key, "[*, 256, 1, 1]", "[21, 128, 1, 1]"]);
    let key = "aux_classifier.4.weight";
    misshapen(DEEPLAB, key, 0, 20, &[key, "[21, 10, 1, 1]", "[20, 10, 1, 1]"]);
    let key = "classifier.low_classifier.weight";
    misshapen(LRASPP, key, 0, 20, &[key, "[21, 40, 1, 1]", "[20, 40, 1, 1]"]);
    let first = "head.classification_head.module_list.0.1";
    misshapen(SSDLITE, &format!("{first}.weight"), 0, 545, &[&format!("{first}.bias"), "[545]", "[546]"]);
    let key = "head.regression_head.module_list.5.1.weight";
    misshapen(SSDLITE, key, 0, 20, &[key, "[24, 128, 1, 1]", "[20, 128, 1, 1]"]);

    for (name, key) in [
        (LRASPP, "classifier.high_classifier.weight"),
        (SSDLITE, "head.regression_head.module_list.0.1.weight"),
    ] {
        let spoil = |value: f32| {
            move |t: &mut Tensors| t.get_mut(key).unwrap().2[8..12].copy_from_slice(&value.to_le_bytes())
        };
        bad(name, &spoil(f32::NAN), &[key, "NaN at index 2"]);
        bad(name, &spoil(f32::INFINITY), &[key, "inf at index 2"]);
    }

    // Finite weights whose sums overflow.
    let huge = |name, key: &str| {
        let huge = |t: &mut Tensors| {
            t.get_mut(key).unwrap().2.as_chunks_mut().0.fill(3e38f32.to_le_bytes());
        };
        make::changed(folder.path(), name, huge)
    };
    let weights = huge(LRASPP, "classifier.high_classifier.weight");
    refused(
        on_cpu("segment", &weights, &[ROCKET, "--size", "33"]),
        &["rocket", "layer classifier.high_classifier overflows"],
    );
    // With every precision overflowing there is nothing to tune.
    let mut command = goldcrest(["tune", "--budget", "1", "--size", "33x33", "--weights"]);
    command.arg(&weights);
    refused(command, &["overflows"]);
    for head in ["classification_head", "regression_head"] {
        let weights = huge(SSDLITE, &format!("head.{head}.module_list.0.1.weight"));
        for backend in ["cpu", "gpu"] {
            let mut command = goldcrest(["detect", ROCKET, "--backend", backend, "--weights"]);
            command.arg(&weights);
            // On a GPU, the error may name the preceding layer, which is fused into the same step.
            refused(command, &["rocket", &format!("layer head.{head}.module_list.0."), "overflows"]);
        }
    }

    for (name, key, network) in [
        (LRASPP, "classifier.extra.weight", "LR-ASPP"),
        (DEEPLAB, "classifier.0.convs.5.0.weight", "DeepLabV3"),
        (SSDLITE, "head.extra.weight", "SSDLite"),
    ] {
        let add = |t: &mut Tensors| {
            t.insert(key.into(), (Dtype::F32, vec![1], make::f32s(&[1.0])));
        };
        bad(name, &add, &[key, "not part of", network]);
    }
}

#[test]
fn a_name_that_the_weights_contradict() {
    let v4 = make::golden("timm-mobilenetv4_conv_small");
    for (subcommand, weights, arch, found) in [
        ("segment", make::golden(LRASPP), "torchvision/deeplabv3_mobilenet_v3_large", "LR-ASPP"),
        ("segment", make::golden(DEEPLAB), "torchvision/lraspp_mobilenet_v3_large", "DeepLabV3"),
        ("segment", make::golden(LRASPP), "torchvision/mobilenet_v3_large", "LR-ASPP"),
        ("detect", make::golden(SSDLITE), "torchvision/mobilenet_v3_large", "SSDLite"),
        ("classify", v4.clone(), "timm/mobilenetv4_conv_medium", "MobileNetV4-Conv-Small"),
        ("classify", v4.clone(), "timm/mobilenetv4_conv_small_050", "128 channels, not 64"),
        ("classify", v4.clone(), "torchvision/lraspp_mobilenet_v3_large", "timm"),
    ] {
        let command = on_cpu(subcommand, &weights, &[ROCKET, "--arch", arch]);
        refused(command, &[weights.to_str().unwrap(), "opened as", arch, found]);
    }
    for arch in ["timm/mobilenetv4_hybrid_medium", "torchvision/deeplabv3_resnet50"] {
        let known = ["unknown network", arch.split_once('/').unwrap().1, "mobilenet"];
        refused(on_cpu("segment", &v4, &[ROCKET, "--arch", arch]), &known);
    }
}

#[test]
fn unsupported_options_and_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.jpg");
    fs::write(&cut, &fs::read(CAT).unwrap()[..5000]).unwrap();
    for (subcommand, name) in [("segment", LRASPP), ("detect", SSDLITE)] {
        let refused = |arguments: &[&str], words: &[&str]| {
            refused(on_cpu(subcommand, &make::golden(name), arguments), words);
        };
        refused(&[ROCKET, "--precision", "f16"], &["f16", "(cpu, ", "f32"]);
        refused(&[ROCKET, "--fuse", "block"], &["--fuse", "CPU"]);
        refused(&[cut.to_str().unwrap()], &["cut.jpg", "cut short"]);
        refused(&["absent.png"], &["absent.png", "No such file"]);
        refused(&["Cargo.toml"], &["Cargo.toml", "not a picture"]);
    }
    let input = make::input(folder.path(), &[1, 3, 32, 32]);
    let output = folder.path().join("out.safetensors");
    for (shape, words) in [([1, 4, 32, 32], ["3 channels", "4"]), ([0, 3, 32, 32], ["input", "no value"])] {
        make::input(folder.path(), &shape);
        let mut command = on_cpu("run", &make::golden(SSDLITE), &["--input"]);
        command.arg(&input).arg("--output").arg(&output);
        refused(command, &[&["in.safetensors"], &words[..]].concat());
    }
    assert_eq!(names(folder.path()), ["cut.jpg", "in.safetensors"]);
}
