//! Networks that torch converted to int8 (`tests/fixtures/quantised`): the distance of our outputs from
//! torch's, and the errors for invalid files. `scripts/make_quantised.py` makes the files.

mod common;

use std::{
    fs,
    io::{Cursor, Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use common::distance;
use goldcrest::{
    Options, Session, Tensor,
    checkpoint::{Checkpoint, Use},
    cpu::Cpu,
    quantize,
    zoo::Network,
};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quantised")
}

fn file(name: &str) -> PathBuf {
    folder().join(format!("{name}.pth"))
}

fn expected(key: &str) -> Tensor {
    let checkpoint = Checkpoint::open_file(folder().join("expected.safetensors")).unwrap();
    let shape: Vec<Option<usize>> = checkpoint.shape(key).expect(key).iter().copied().map(Some).collect();
    checkpoint.tensor(key, &shape).unwrap()
}

fn session(network: &Network, input: &Tensor, taps: bool) -> Session {
    let shape = input.shape().unwrap();
    let size = Some([shape.h, shape.w]);
    Session::new(
        Cpu::new(Some(2)).unwrap(),
        network,
        Options { batch: shape.n, size, taps, ..Options::default() },
    )
    .unwrap()
}

fn output(network: &Network) -> Tensor {
    let input = expected("input");
    session(network, &input, false).run_all(&input).unwrap().remove(0)
}

/// The network with the same weights, computed in floating point.
fn in_floating_point(mut network: Network) -> Network {
    let ids: Vec<_> = network.graph.nodes().map(|(id, _)| id).collect();
    for id in ids {
        let node = network.graph.node_mut(id);
        (node.quantisation, node.weight_scales) = (None, None);
    }
    network
}

#[test]
fn outputs_match_torch_within_rounding() {
    // Layers; the bound of our output's distance from torch's, which rounds differently; and, with the int8
    // weights in floating point, the bound of the output's distance from the original network's.
    let mut faults = Vec::new();
    for (name, arch, layers, torch_bound, weights_bound) in [
        ("mobilenet_v2", "torchvision/mobilenet_v2", 53, 0.13, 0.06),
        ("mobilenet_v2-qnnpack", "torchvision/mobilenet_v2", 53, 0.13, 0.15),
        ("mobilenet_v3_large", "torchvision/mobilenet_v3_large", 64, 0.15, 0.06),
        ("resnet18", "torchvision/resnet18", 21, 0.02, 0.01),
    ] {
        let network = Network::open(file(name)).unwrap();
        assert_eq!(network.arch, arch);
        let note = format!("{layers} of {layers} layers have int8 weights: they are computed in integers");
        assert!(network.notes.iter().any(|found| found.starts_with(&note)), "{name}: {:?}", network.notes);
        let of_mapping = |key: &str| key.ends_with(".scale") || key.ends_with(".zero_point");
        assert!(network.tensors.iter().any(|tensor| of_mapping(&tensor.key)));
        assert!(
            network.tensors.iter().all(|tensor| tensor.usage == Use::Used),
            "{name}: {:?}",
            network.tensors
        );

        let [torch, float] = ["int8", "float"].map(|kind| expected(&format!("{name}/{kind}")));
        let ours = output(&network);
        let (to_torch, torch_to_float, to_float) =
            (distance(&ours, &torch), distance(&torch, &float), distance(&ours, &float));
        let weights_to_float = distance(&output(&in_floating_point(network)), &float);
        println!(
            "{name}: {to_torch:.4} from torch, {to_float:.4} from floating point (torch: {torch_to_float:.4}), weights alone: {weights_to_float:.4}"
        );
        // Once values differ by a step, two ways of rounding are hardly closer to each other than to floating
        // point.
        if to_torch > torch_bound
            || to_float > 1.25 * torch_to_float
            || to_torch > 1.25 * torch_to_float
            || weights_to_float > weights_bound
        {
            faults.push(name);
        }
    }
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn first_layer_is_within_one_step_of_torchs() {
    for (name, module) in
        [("mobilenet_v2", "features.0.2"), ("mobilenet_v2-qnnpack", "features.0.2"), ("resnet18", "relu")]
    {
        let network = Network::open(file(name)).unwrap();
        let wanted = expected(&format!("{name}/stem"));
        let map = network
            .graph
            .nodes()
            .find(|(_, node)| node.output_name() == module)
            .unwrap()
            .1
            .quantisation
            .unwrap();
        let input = expected("input");
        let shape = input.shape().unwrap();
        let first =
            Tensor::new([1, shape.c, shape.h, shape.w], input.data()[..shape.c * shape.h * shape.w].to_vec());
        let first = first.unwrap();
        let mut session = session(&network, &first, true);
        session.run_all(&first).unwrap();
        let taps = session.taps().unwrap();
        let (_, found) = taps.iter().find(|(name, _)| name == module).unwrap();
        assert_eq!(found.dims(), wanted.dims());
        let steps: Vec<f32> =
            found.data().iter().zip(wanted.data()).map(|(a, b)| ((a - b) / map.scale).abs()).collect();
        let different = steps.iter().filter(|steps| **steps > 0.01).count();
        println!("{name}: {different} of {} integers differ", steps.len());
        assert!(steps.iter().all(|steps| *steps < 1.01), "{name}");
        assert!(different * 200 < steps.len(), "{name}: {different} of {} integers differ", steps.len());
    }
}

#[test]
fn int8_dense_layers_run_in_floating_point() {
    let network = Network::open(file("dynamic")).unwrap();
    let note = "1 of 21 layers have int8 weights: they are computed in floating point";
    assert!(network.notes.iter().any(|found| found.starts_with(note)), "{:?}", network.notes);
    assert!(network.graph.nodes().all(|(_, node)| node.quantisation.is_none()));
    let [torch, float] = ["dynamic/int8", "dynamic/float"].map(expected);
    let ours = output(&network);
    // Torch quantises the layer's input, too.
    assert!(distance(&ours, &float) < 0.01 && distance(&ours, &torch) < 0.02);
}

#[test]
fn inspect_lists_int8_layers_and_quantize_rejects_them() {
    let goldcrest = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_goldcrest")).args(args).output().expect("the program starts")
    };
    let path = file("resnet18");
    let path = path.to_str().unwrap();
    let inspected = goldcrest(&["inspect", "--backend", "cpu", "--json", "--weights", path]);
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["int8_layers"], 21, "{inspected}");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let refused =
        goldcrest(&["quantize", "--weights", path, "--weights-only", "--out", out.to_str().unwrap()]);
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && message.contains("resnet18 is already int8"), "{message}");
    let error = quantize::weights_only(&Network::open(path).unwrap()).unwrap_err().to_string();
    assert!(error.contains("resnet18 is already int8"), "{error}");
}

/// The archive `resnet18.pth`, with its entries edited by `change`.
fn changed(change: &dyn Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(fs::read(file("resnet18")).unwrap())).unwrap();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).unwrap();
        let name = entry.name().unwrap().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let inner = name.split_once('/').unwrap().1.to_owned();
        writer.start_file(name, options).unwrap();
        writer.write_all(&change(&inner, content)).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn opened(bytes: Vec<u8>) -> goldcrest::Result<Network> {
    let checkpoint = Checkpoint::from_bytes("changed.pth", bytes, None, None)?;
    Network::from_checkpoint(&checkpoint, None)
}

/// The bytes with the first or all occurrences of `from` replaced.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8], all: bool) -> Vec<u8> {
    let (mut out, mut rest, mut found) = (Vec::new(), bytes, 0);
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend([&rest[..at], to].concat());
        rest = &rest[at + from.len()..];
        found += 1;
        if !all {
            break;
        }
    }
    assert!(found > 0, "{} was not found", from.escape_ascii());
    [&out, rest].concat()
}

#[track_caller]
fn refused(bytes: Vec<u8>, words: &[&str]) {
    let error = opened(bytes).expect_err("it is refused").to_string();
    let missing = words.iter().find(|word| !error.contains(*word));
    assert!(error.contains("changed.pth") && missing.is_none(), "{error} does not contain {missing:?}");
}

/// Torch gives such weights to a channel with a batch-norm scale near zero.
#[test]
fn channels_with_tiny_weights_keep_their_biases_and_residuals() {
    // The scales of conv1 and of layer1.0.conv2, whose sum has a residual.
    let tiny = changed(&|name, mut content| {
        if ["data/1", "data/13"].contains(&name) {
            content[..8].copy_from_slice(&1e-10f64.to_le_bytes());
        }
        content
    });
    let network = opened(tiny).unwrap();
    let float = output(&in_floating_point(network.clone()));
    let off = distance(&output(&network), &float);
    assert!(off < 0.03, "{off}");
}

#[test]
fn invalid_numbers_are_errors_that_name_the_tensor() {
    assert_eq!(opened(changed(&|_, content| content)).unwrap().arch, "torchvision/resnet18");
    let storage = |number: usize, value: &[u8]| {
        changed(&|name, mut content| {
            if name == format!("data/{number}") {
                content[..value.len()].copy_from_slice(value);
            }
            content
        })
    };
    // The storages of conv1: integers, scales, zero points, bias, and the output's scale and zero point.
    for scale in [f64::NAN, 0.0, -1.0, f64::INFINITY, 1e39, 1e-60] {
        refused(storage(1, &scale.to_le_bytes()), &["conv1.weight", "has the scale", "output 0", "above 0"]);
    }
    let words = ["conv1.weight", "the zero point 3 for output 0", "per_channel_symmetric"];
    refused(storage(2, &3i64.to_le_bytes()), &words);
    for scale in [f32::NAN, 0.0, -1.0, f32::INFINITY] {
        refused(storage(4, &scale.to_le_bytes()), &["conv1.scale", "a scale cannot be", "above 0"]);
    }
    for zero in [-1i64, 256, i64::MAX] {
        refused(storage(5, &zero.to_le_bytes()), &["conv1.zero_point", "a zero point cannot be", "0 to 255"]);
    }
    refused(storage(3, &f32::NAN.to_le_bytes()), &["conv1.bias", "not finite"]);
}

#[test]
fn unsupported_forms_are_errors_that_name_the_tensor() {
    let pickle = |from: &[u8], to: &[u8], all: bool| {
        changed(&|name, content| if name == "data.pkl" { replaced(&content, from, to, all) } else { content })
    };
    refused(pickle(b"QInt8Storage", b"QUInt8Storage", false), &["conv1.weight", "quint8", "qint8"]);
    refused(pickle(b"QInt8Storage", b"QInt32Storage", false), &["quantised tensors", "qint8"]);
    let scheme = b"per_channel_affine";
    let words = ["conv1.weight", "per_tensor_affine", "per_channel_affine"];
    refused(pickle(scheme, b"per_channel_affine_float_qparams", false), &words);
    refused(pickle(scheme, b"per_tensor_affine", false), &words);
    // The first vector of length four contains conv1's scales.
    let words = ["conv1.weight", "has 3 scales, and 4 outputs"];
    refused(pickle(b"K\x00K\x04\x85", b"K\x00K\x03\x85", false), &words);
    for (from, to, word) in [
        (&b"quant."[..], &b"quart."[..], "quant.scale"),
        (b"layer1.0.conv2.scale", b"layer1.0.conv2.scald", "layer1.0.conv2.scale"),
        (b"layer1.0.conv2.zero_point", b"layer1.0.conv2.zero_paint", "layer1.0.conv2.zero_point"),
        (b"layer1.0.add_relu.", b"layer1.0.add_rely.", "layer1.0.add_relu.scale"),
    ] {
        refused(pickle(from, to, true), &[word, "is missing"]);
    }
    let both = changed(&|name, content| match name {
        "data.pkl" => {
            let content = replaced(&content, b"layer1.0.conv2.scale", b"layer1.0.conv9.scale", true);
            replaced(&content, b"layer1.0.conv2.zero_point", b"layer1.0.conv9.zero_point", true)
        }
        _ => content,
    });
    refused(both, &["layer1.0.conv2.scale", "is missing", "torch.ao.quantization.convert"]);
    // The names that torch first used for a dense layer's parts.
    let packed = pickle(b"fc._packed_params._packed_params", b"fc._packed_params", true);
    assert!(opened(packed).is_err());
}

#[test]
fn corrupt_bytes_never_panic() {
    let bytes = fs::read(file("mobilenet_v2-qnnpack")).unwrap();
    let (mut read, mut random) = (0, 1u64);
    for _ in 0..300 {
        let mut bytes = bytes.clone();
        for _ in 0..2 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 33) as usize % 40_000;
            bytes[at] = (random >> 20) as u8;
        }
        let Ok(checkpoint) = Checkpoint::from_bytes("changed.pth", bytes, None, None) else { continue };
        for key in checkpoint.keys() {
            let shape: Vec<_> = checkpoint.shape(key).unwrap().iter().copied().map(Some).collect();
            let _ = checkpoint.tensor(key, &shape);
        }
        let _ = Network::from_checkpoint(&checkpoint, None);
        read += 1;
    }
    assert!((10..300).contains(&read), "{read} of 300 were read");
}
