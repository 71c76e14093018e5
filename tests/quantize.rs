//! Int8 networks: the error of their outputs, the contents of their files, and the errors for invalid files.

mod common;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use common::{distance, fixture::Fixture};
use goldcrest::{
    Options, Session, Shape, Tensor,
    checkpoint::{Checkpoint, Overrides},
    cpu::Cpu,
    demo::{self, Scene},
    graph::{Activation, Graph, Op, passes},
    quantize::{self, DEFAULT_MAX_NOISE, Quantized, StoredType},
    tasks::preprocess,
    zoo::{Network, Outputs},
};
use safetensors::{
    SafeTensors,
    tensor::{Dtype, TensorView},
};
use serde_json::{Value, json};

fn cpu() -> Cpu {
    Cpu::new(None).unwrap()
}

/// Scenes, preprocessed for a demo's network.
fn scenes(network: &Network, seeds: std::ops::Range<u64>) -> Vec<Tensor> {
    let [h, w] = network.input;
    let draw = |seed| Scene::new(seed).draw(w, h).unwrap().picture;
    seeds.map(|seed| preprocess(&draw(seed), &network.preprocessing).unwrap()).collect()
}

fn quantized(network: &Network, inputs: &[Tensor], max_noise: f64) -> Quantized {
    quantize::quantize(&cpu(), network, inputs, max_noise, |_| {}).unwrap()
}

/// Opens the network in a file's bytes.
fn opened(bytes: &[u8]) -> goldcrest::Result<Network> {
    let checkpoint = Checkpoint::from_bytes("eight.safetensors", bytes.to_vec(), None, None)?;
    Network::from_checkpoint(&checkpoint, None)
}

/// Asserts that two int8 graphs have the same quantisation, structure, weights and biases.
#[track_caller]
fn assert_same(a: &Graph, b: &Graph) {
    assert_eq!(a.nodes().len(), b.nodes().len());
    for ((_, a), (_, b)) in a.nodes().zip(b.nodes()) {
        assert_eq!(
            (a.quantisation, &a.weight_scales, &a.inputs),
            (b.quantisation, &b.weight_scales, &b.inputs),
            "{}",
            a.name()
        );
        if let (Op::Conv(a), Op::Conv(b)) = (&a.op, &b.op) {
            assert!(a.weight == b.weight && a.activation == b.activation);
            assert_eq!(a.bias.as_ref().map(|bias| bias.data()), b.bias.as_ref().map(|bias| bias.data()));
        }
    }
}

#[test]
fn demo_networks_stay_near_and_reopen_from_their_files() {
    // The largest fraction of changed best classes: of pictures, pixels and boxes.
    for (network, max_changed) in
        [(demo::classifier(), 0.0), (demo::segmenter(), 0.01), (demo::detector(), 0.002)]
    {
        let network = network.unwrap();
        let inputs = scenes(&network, 7_000..7_012);
        let quantized = quantized(&network, &inputs, DEFAULT_MAX_NOISE);
        let report = &quantized.report;
        let [changed, of] = report.changed.unwrap();
        println!("{}: noise {:?}, {changed} of {of} changed", network.arch, report.noise.unwrap());
        assert!(report.noise.unwrap() <= 0.002, "{}: {:?}", network.arch, report.noise);
        assert!(changed as f64 <= max_changed * of as f64, "{}: {changed} of {of}", network.arch);
        assert_eq!(report.int8(), report.layers.len());
        assert!(report.layers.iter().all(|layer| layer.noise.unwrap() < 0.02), "{:?}", report.layers);

        let bytes = quantized.encode(&network).unwrap();
        assert!((bytes.len() as f64) < 0.35 * report.bytes_before as f64, "{} bytes", bytes.len());
        let reopened = opened(&bytes).unwrap();
        assert_eq!((reopened.arch, reopened.labels), (network.arch.clone(), network.labels.clone()));
        assert_eq!((reopened.preprocessing, reopened.input), (network.preprocessing, network.input));
        assert_same(&passes::prepared(&reopened.graph, false), &quantized.graph);

        // Pictures that calibration did not use.
        let reopened = opened(&bytes).unwrap();
        let run = |network: &Network, input: &Tensor| {
            Session::new(cpu(), network, Options::default()).unwrap().run_all(input).unwrap()
        };
        let scenes = scenes(&network, 8_000..8_008);
        let outputs = |network: &Network| -> Vec<Vec<Tensor>> {
            scenes.iter().map(|input| run(network, input)).collect()
        };
        let (found, wanted) = (outputs(&reopened), outputs(&network));
        // Over all scenes together, because the scores of a single one may be small.
        for part in 0..wanted[0].len() {
            let all = |outputs: &[Vec<Tensor>]| {
                let values: Vec<f32> = outputs.iter().flat_map(|parts| parts[part].data()).copied().collect();
                Tensor::new([values.len()], values).unwrap()
            };
            let off = distance(&all(&found), &all(&wanted));
            assert!(off > 0.0 && off < 0.08, "{}: {off}", reopened.arch);
        }
    }
}

#[test]
fn same_pictures_give_the_same_bytes() {
    let network = demo::classifier().unwrap();
    let inputs = scenes(&network, 0..4);
    let bytes = |threads| {
        let cpu = Cpu::new(Some(threads)).unwrap();
        let quantized = quantize::quantize(&cpu, &network, &inputs, DEFAULT_MAX_NOISE, |_| {}).unwrap();
        quantized.encode(&network).unwrap()
    };
    let first = bytes(1);
    assert!(first == bytes(1) && first == bytes(3));
}

#[test]
fn layers_stay_in_floating_point_until_the_bound_holds() {
    let network = demo::classifier().unwrap();
    let inputs = scenes(&network, 0..6);
    let whole = quantized(&network, &inputs, 1.0);
    assert!(whole.report.layers.iter().all(|layer| layer.alone.is_none()));
    let all = whole.report.noise.unwrap();
    let max_noise = all / 3.0;
    let some = quantized(&network, &inputs, max_noise);
    let report = &some.report;
    assert!(report.noise.unwrap() <= max_noise && report.noise_of_all == Some(all), "{report:?}");
    assert!(report.bytes_after > whole.report.bytes_after);
    let (int8, float): (Vec<_>, Vec<_>) =
        report.layers.iter().partition(|layer| layer.precision == StoredType::Int8);
    assert!(!int8.is_empty() && !float.is_empty());
    let noise_per_cost = |layers: &[&quantize::LayerReport]| -> Vec<f64> {
        layers.iter().map(|layer| layer.alone.unwrap() / layer.cost.unwrap()).collect()
    };
    // The layers with the most quantisation noise per cost stay in floating point.
    let least = noise_per_cost(&float).into_iter().fold(f64::INFINITY, f64::min);
    assert!(noise_per_cost(&int8).into_iter().all(|ratio| ratio <= least));
    let reopened = opened(&some.encode(&network).unwrap()).unwrap();
    assert_same(&passes::prepared(&reopened.graph, false), &some.graph);

    let error = quantize::quantize(&cpu(), &network, &inputs, 1e-12, |_| {}).unwrap_err().to_string();
    for word in ["no layer of torchvision/mobilenet_v3_small", "at most 1.0e-10 %", "mostly from "] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn weight_only_quantisation_needs_no_pictures() {
    let network = demo::classifier().unwrap();
    let quantized = quantize::weights_only(&network).unwrap();
    assert!(quantized.graph.nodes().all(|(_, node)| node.quantisation.is_none()));
    let reopened = opened(&quantized.encode(&network).unwrap()).unwrap();
    assert_same(&passes::prepared(&reopened.graph, false), &quantized.graph);
    let input = &scenes(&network, 3..4)[0];
    let output = |network: &Network| {
        Session::new(cpu(), network, Options::default()).unwrap().run_all(input).unwrap().remove(0)
    };
    let off = distance(&output(&reopened), &output(&network));
    assert!(off > 0.0 && off < 0.03, "{off}");
    assert!(
        reopened.notes.iter().any(|note| note.contains("54 of 54 layers have int8 weights")),
        "{:?}",
        reopened.notes
    );

    let error = quantize::weights_only(&reopened).unwrap_err().to_string();
    assert!(error.contains("mobilenet_v3_small is already int8"), "{error}");
}

/// Covers the tensor names of every library, and of every head.
/// Each channel of a feature map is near that of the network in floating point: equalisation scales no map that a
/// program may request.
#[test]
fn feature_maps_keep_their_magnitudes() {
    for name in ["transformers-mobilenet_v1", "timm-mobilenetv4_conv_small"] {
        let network = Fixture::network(name).open_network();
        let inputs: Vec<Tensor> =
            [0.37, 0.011, 0.173].map(|wave| Tensor::wave(Shape::new(1, 3, 64, 64), wave)).into();
        let bytes = quantized(&network, &inputs, 1.0).encode(&network).unwrap();
        let features = |network: &Network| {
            let options = Options { outputs: Outputs::Features, size: Some([64, 64]), ..Options::default() };
            Session::new(cpu(), network, options).unwrap().run_all(&inputs[0]).unwrap()
        };
        for (map, (exact, found)) in
            features(&network).iter().zip(&features(&opened(&bytes).unwrap())).enumerate()
        {
            assert_eq!(exact.dims(), found.dims());
            let pixels = exact.dims()[2] * exact.dims()[3];
            let sums = |map: &Tensor| -> Vec<f32> {
                map.data()
                    .chunks(pixels)
                    .map(|channel| channel.iter().map(|value| value.abs()).sum())
                    .collect()
            };
            let (exact, found) = (sums(exact), sums(found));
            let largest = exact.iter().copied().fold(0.0, f32::max);
            for (at, (exact, found)) in exact.iter().zip(&found).enumerate() {
                let off = (exact - found).abs();
                assert!(
                    off < 0.5 * exact.max(0.2 * largest),
                    "{name}, map {map}, channel {at}: {found} for {exact}"
                );
            }
        }
    }
}

#[test]
fn golden_networks_reopen_from_their_files() {
    for fixture in Fixture::networks() {
        let network = fixture.open_network();
        let quantized = quantize::weights_only(&network).unwrap();
        let bytes = quantized.encode(&network).unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
        let reopened = opened(&bytes).unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
        assert_eq!(reopened.arch, network.arch);
        assert_eq!(reopened.preprocessing, network.preprocessing, "{}", fixture.name);
        assert_same(&passes::prepared(&reopened.graph, false), &quantized.graph);
    }
}

/// Checkpoints as users have them: with prefixed names, folded batch norms, or overrides.
#[test]
fn every_valid_checkpoint_can_be_quantised() {
    let folder = Path::new("tests/fixtures/checkpoints");
    let cases: Vec<Value> = serde_json::from_slice(&fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let mut written = 0;
    for case in cases.iter().filter(|case| case.get("refused").is_none() && case.get("with").is_none()) {
        let mut overrides =
            case["arch"].as_str().map_or_else(Overrides::default, |arch| Overrides::default().arch(arch));
        for (name, value) in case["set"].as_object().into_iter().flatten() {
            overrides = overrides.set(name, value.as_str().unwrap()).unwrap();
        }
        let network = Network::open_with(folder.join(case["path"].as_str().unwrap()), &overrides).unwrap();
        let quantized = quantize::weights_only(&network).unwrap();
        let bytes = quantized.encode(&network).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        let reopened = opened(&bytes).unwrap();
        assert_same(&passes::prepared(&reopened.graph, false), &quantized.graph);
        assert_eq!(
            (reopened.scores, reopened.classes),
            (network.scores, network.classes),
            "{}",
            case["name"]
        );
        written += 1;
    }
    assert!(written >= 60, "only {written}");
}

#[test]
fn every_kind_of_layer_is_quantised() {
    for (name, side, modules) in [
        (
            "torchvision-mobilenet_v3_large",
            64,
            &["input", "features.0.2", "features.4.block.2.avgpool", "features.4.block.2", "classifier.1"][..],
        ),
        ("torchvision-deeplabv3_mobilenet_v3_large", 65, &["classifier.0.cat", "classifier.0.convs.4"]),
        ("torchvision-ssdlite320_mobilenet_v3_large", 96, &["head.classification_head.module_list.0.0.2"]),
        ("timm-mobilenetv4_conv_aa_medium", 64, &["blocks.1.0.dw_mid.aa"]),
        ("torchvision-resnet18", 64, &["maxpool", "layer1.0.relu"]),
        ("transformers-mobilenet_v1", 64, &["mobilenet_v1.layer.0.activation"]),
    ] {
        let network = Fixture::network(name).open_network();
        let inputs: Vec<Tensor> =
            [0.37, 0.011].map(|wave| Tensor::wave(Shape::new(1, 3, side, side), wave)).into();
        // Untrained weights have more quantisation noise.
        let quantized = quantize::quantize(&cpu(), &network, &inputs, 1.0, |_| {}).unwrap();
        println!("{name}: noise {:?}", quantized.report.noise.unwrap());
        assert!(quantized.report.noise.unwrap() < 0.3, "{name}: {:?}", quantized.report.noise);
        let reopened = opened(&quantized.encode(&network).unwrap()).unwrap();
        assert_same(&passes::prepared(&reopened.graph, false), &quantized.graph);
        let mapped: Vec<&str> = reopened
            .graph
            .nodes()
            .filter(|(_, n)| n.quantisation.is_some())
            .map(|(_, n)| n.output_name())
            .collect();
        for module in modules {
            assert!(mapped.contains(module), "{name}: {module} is not in {mapped:?}");
        }
        // An int8 layer reads int8 maps, and writes one unless it is an output.
        for (_, node) in quantized.graph.nodes().filter(|(_, node)| node.weight_scales.is_some()) {
            let Op::Conv(conv) = &node.op else { panic!("{} has scales", node.name()) };
            assert!(
                node.inputs.iter().all(|id| quantized.graph.node(*id).quantisation.is_some()),
                "{}",
                node.name()
            );
            assert!(
                node.quantisation.is_some() || conv.activation == Activation::Identity,
                "{}",
                node.name()
            );
        }
    }
}

/// The tensors of a file, by name.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// An int8 file with edited tensors and metadata.
fn changed(change: impl FnOnce(&mut Tensors, &mut Value)) -> Vec<u8> {
    static WRITTEN: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let network = demo::classifier().unwrap();
        quantized(&network, &scenes(&network, 0..2), 1.0).encode(&network).unwrap()
    });
    let file = SafeTensors::deserialize(&WRITTEN).unwrap();
    let tensors = file.tensors().into_iter();
    let mut tensors: Tensors =
        tensors.map(|(key, t)| (key, (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect();
    let (_, metadata) = SafeTensors::read_metadata(&WRITTEN).unwrap();
    let record = &metadata.metadata().as_ref().unwrap()["goldcrest.int8"];
    let mut record: Value = serde_json::from_str(record).unwrap();
    change(&mut tensors, &mut record);
    let views = tensors
        .iter()
        .map(|(key, (dtype, shape, bytes))| (key, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    let metadata =
        (!record.is_null()).then(|| HashMap::from([("goldcrest.int8".into(), record.to_string())]));
    safetensors::serialize(views, metadata).unwrap()
}

const STEM: &str = "features.0.0.weight";

#[test]
fn invalid_files_are_errors_that_name_the_tensor() {
    type Change = Box<dyn FnOnce(&mut Tensors, &mut Value)>;
    let scale = |value: f32| -> Change {
        Box::new(move |tensors, _| {
            let (_, _, bytes) = tensors.get_mut("features.0.0.weight_scale").unwrap();
            bytes[4..8].copy_from_slice(&value.to_le_bytes());
        })
    };
    let metadata = |path: &'static [&'static str], value: Value| -> Change {
        Box::new(move |_, record| {
            let entry = path.iter().fold(record, |entry, key| &mut entry[*key]);
            *entry = value;
        })
    };
    let cases: Vec<(Change, &[&str])> = vec![
        (scale(0.0), &["features.0.0.weight_scale", "a scale cannot be 0", "above 0"]),
        (scale(-1.0), &["features.0.0.weight_scale", "a scale cannot be -1"]),
        (scale(1e-42), &["features.0.0.weight_scale", "a scale cannot be"]),
        (scale(f32::NAN), &["features.0.0.weight_scale", "1 of 16 values are not finite"]),
        (scale(f32::INFINITY), &["features.0.0.weight_scale", "not finite"]),
        (scale(3e38), &[STEM, "not finite"]),
        (
            Box::new(|tensors, _| drop(tensors.remove("features.0.0.weight_scale"))),
            &[STEM, "is I8 but has no scales features.0.0.weight_scale"],
        ),
        (
            Box::new(|tensors, _| {
                let (_, shape, bytes) = tensors.get_mut("features.0.0.weight_scale").unwrap();
                bytes.truncate(4 * 15);
                shape[0] = 15;
            }),
            &["features.0.0.weight_scale", "expected shape [16], found [15]"],
        ),
        (
            Box::new(|tensors, _| tensors.get_mut(STEM).unwrap().2[5] = 128),
            &[STEM, "holds -128 at index 5: weights are from -127 to 127"],
        ),
        (Box::new(|tensors, _| tensors.get_mut(STEM).unwrap().0 = Dtype::U8), &["features.0.0.weight", "U8"]),
        (
            Box::new(|tensors, _| {
                let scale = tensors["features.0.0.weight_scale"].clone();
                drop(tensors.insert("features.0.0.bias_scale".into(), scale));
            }),
            &["features.0.0.bias_scale", "is not part of"],
        ),
        (metadata(&["version"], json!(7)), &["eight.safetensors", "has version 7"]),
        (
            metadata(&["maps", "nothing.9"], json!({"scale": 1.0, "zero": 0})),
            &["eight.safetensors", "nothing.9"],
        ),
        (metadata(&["maps", "input"], json!({"scale": 0.0, "zero": 0})), &["input", "the scale 0"]),
        (metadata(&["maps", "input"], json!({"scale": 0.1, "zero": 200})), &["input", "the zero point 200"]),
        (metadata(&["maps", "input"], json!("wide")), &["eight.safetensors", "goldcrest.int8"]),
        (metadata(&["values", "mean"], json!("grey")), &["eight.safetensors", "sets mean = grey"]),
        (metadata(&["values", "root"], json!("nowhere")), &["eight.safetensors", "root = nowhere"]),
        (
            metadata(&["architecture"], json!("torchvision/mobilenet_v9")),
            &["eight.safetensors", "mobilenet_v9"],
        ),
        (metadata(&["architecture"], json!("timm/mobilenetv3_small_100")), &["eight.safetensors", "timm"]),
    ];
    for (change, words) in cases {
        let opened = opened(&changed(change)).map(|network| network.arch);
        let error = opened.expect_err(&format!("{words:?}")).to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        for word in words {
            assert!(error.contains(word), "{error:?} does not contain {word:?}");
        }
    }
    // Labels are dropped if there are too few, as in any file.
    let network = opened(&changed(metadata(&["labels"], json!(["one"])))).unwrap();
    assert!(network.labels.is_none() && network.notes.iter().any(|note| note.contains("the file has 1")));
    // Without the record, only the weights are int8.
    let network = opened(&changed(|_, record| *record = Value::Null)).unwrap();
    assert!(network.graph.nodes().all(|(_, node)| node.quantisation.is_none()));
    assert!(network.graph.nodes().any(|(_, node)| node.weight_scales.is_some()));
}

/// Runs the program in a controlled environment.
fn goldcrest(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goldcrest"));
    command.args(arguments).env_remove("RUST_LOG").env("GOLDCREST_CACHE_DIR", "");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Checks that the program fails with this status and one line that contains all `words`, and leaves `folder`
/// unchanged.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], status: i32, words: &[&str]) {
    let names = || {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = names();
    let output = goldcrest(arguments);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
    let lines = text(&output.stderr);
    let errors: Vec<&str> = lines.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    for word in words {
        assert!(errors[0].contains(word), "{:?} does not contain {word:?}", errors[0]);
    }
    assert_eq!(names(), before, "{arguments:?}");
}

/// A folder to write to, and a folder of scenes in it.
fn pictures(count: u64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("scenes");
    fs::create_dir(&inside).unwrap();
    for seed in 0..count {
        let picture = Scene::new(seed).draw(96, 96).unwrap().picture;
        save(&inside.join(format!("{seed}.png")), picture.pixels());
    }
    (folder, inside)
}

fn save(path: &Path, pixels: &[u8]) {
    image::save_buffer(path, pixels, 96, 96, image::ExtendedColorType::Rgb8).unwrap();
}

const CLASSIFY: &str = "assets/demo/classify";

#[test]
fn quantize_writes_a_file_that_every_command_opens() {
    let (folder, scenes) = pictures(3);
    fs::write(scenes.join("broken.png"), "no picture").unwrap();
    let out = folder.path().join("eight.safetensors");
    let (scenes, file) = (scenes.to_str().unwrap(), out.to_str().unwrap());
    let arguments = ["quantize", "--weights", CLASSIFY, "--pictures", scenes, "--out", file];
    let output = goldcrest(&[&arguments[..], &["--json", "--max-noise", "1%"]].concat());
    let warnings = text(&output.stderr);
    assert!(output.status.success(), "{output:?}");
    assert!(warnings.contains("warning: skipped: ") && warnings.contains("broken.png"), "{warnings}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in
        ["network", "pictures", "max_noise", "noise", "noise_of_all", "changed", "equalised", "layers", "ms"]
    {
        assert!(!report[key].is_null(), "{key}: {report}");
    }
    assert_eq!((report["pictures"].as_u64(), report["max_noise"].as_f64()), (Some(3), Some(0.01)));
    assert_eq!(report["bytes"].as_u64(), Some(fs::metadata(&out).unwrap().len()));
    for key in ["name", "precision", "bytes_before", "bytes_after", "noise"] {
        assert!(!report["layers"][0][key].is_null(), "{key}: {report}");
    }
    // The times in f32 and in int8.
    for ms in [&report["ms"], &report["layers"][0]["ms"]] {
        assert!([0, 1].iter().all(|at| ms[at].as_f64().is_some_and(|ms| ms > 0.0)), "{report}");
    }

    // An existing file is overwritten.
    let output = goldcrest(&[&arguments[..], &["--limit", "2", "--per-layer"]].concat());
    let words = text(&output.stdout);
    assert!(output.status.success() && text(&output.stderr).contains("2 of 4 pictures"), "{output:?}");
    assert!(words.contains("54 of 54 layers in int8") && words.contains("classifier.3"), "{words}");

    // A list is no picture; a name in it without a file is skipped.
    let list = folder.path().join("list.txt");
    fs::write(&list, format!("{scenes}/0.png\n{scenes}/1.png\n{scenes}/absent.png\n")).unwrap();
    let list = format!("@{}", list.display());
    let listed = ["quantize", "--weights", CLASSIFY, "--pictures", &list, "--out", file, "--json"];
    let output = goldcrest(&listed);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings = text(&output.stderr);
    assert_eq!(report["pictures"], 2);
    assert!(warnings.contains("absent.png") && !warnings.contains("list.txt"), "{warnings}");

    let inspected = goldcrest(&["inspect", "--backend", "cpu", "--json", "--weights", file]);
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["network"], "torchvision/mobilenet_v3_small");
    assert_eq!(inspected["int8_layers"], 54);
    assert!(inspected["notes"].to_string().contains("54 of 54 layers have int8 weights"), "{inspected}");
    let scene = format!("{scenes}/1.png");
    let class = |weights: &str| {
        let output = goldcrest(&["classify", "--backend", "cpu", "--json", "--weights", weights, &scene]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["pictures"][0]["classes"][0].clone()
    };
    let (found, wanted) = (class(file), class(CLASSIFY));
    assert_eq!((&found["index"], &found["label"]), (&wanted["index"], &wanted["label"]));

    refused(
        folder.path(),
        &["quantize", "--weights", file, "--weights-only", "--out", &format!("{file}.2.safetensors")],
        1,
        &["mobilenet_v3_small is already int8"],
    );
}

#[test]
fn invalid_networks_pictures_and_paths_are_errors() {
    let (folder, scenes) = pictures(2);
    let inside = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (scenes, out) = (scenes.to_str().unwrap(), inside("out.safetensors"));
    let check_error = |weights: &str, pictures: &str, out: &str, status, words: &[&str]| {
        let arguments = ["quantize", "--weights", weights, "--pictures", pictures, "--out", out];
        refused(folder.path(), &arguments, status, words);
    };
    let empty = inside("empty");
    fs::create_dir(&empty).unwrap();
    check_error(CLASSIFY, &empty, &out, 1, &["empty: the folder has no file that ends in"]);
    check_error(CLASSIFY, &inside("absent"), &out, 1, &["absent: No such file"]);
    check_error(CLASSIFY, scenes, &inside("nowhere/out.safetensors"), 1, &["its folder was not found"]);
    check_error(CLASSIFY, scenes, &inside("out.bin"), 2, &["expected the name of a .safetensors file"]);
    fs::create_dir(inside("folder.safetensors")).unwrap();
    check_error(CLASSIFY, scenes, &inside("folder.safetensors"), 1, &["is a folder"]);
    check_error("nothing.safetensors", scenes, &out, 1, &["nothing.safetensors: No such file"]);

    let plain = inside("plain");
    fs::create_dir(&plain).unwrap();
    save(&Path::new(&plain).join("black.png"), &[0; 96 * 96 * 3]);
    save(&Path::new(&plain).join("grey.png"), &[99; 96 * 96 * 3]);
    check_error(CLASSIFY, &plain, &out, 1, &["all 2 pictures are uniform"]);
    let broken = inside("broken");
    fs::create_dir(&broken).unwrap();
    fs::write(Path::new(&broken).join("a.png"), "no picture").unwrap();
    check_error(CLASSIFY, &broken, &out, 1, &["no picture could be read: ", "a.png"]);

    let damaged = |name: &str, change: &dyn Fn(&mut Tensors)| {
        let weights = inside(name);
        fs::create_dir(&weights).unwrap();
        fs::copy(Path::new(CLASSIFY).join("config.json"), Path::new(&weights).join("config.json")).unwrap();
        let bytes = fs::read(Path::new(CLASSIFY).join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter();
        let mut tensors: Tensors =
            tensors.map(|(key, t)| (key, (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect();
        change(&mut tensors);
        let views = tensors.iter().map(|(key, (dtype, shape, bytes))| {
            (key, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        let path = Path::new(&weights).join("model.safetensors");
        safetensors::serialize_to_file(views, None, &path).unwrap();
        weights
    };
    let nan = damaged("nan", &|tensors| {
        let (dtype, _, bytes) = tensors.get_mut(STEM).unwrap();
        let length = if *dtype == Dtype::F16 { 2 } else { 4 };
        bytes[..length].fill(0xff);
    });
    check_error(
        &nan,
        scenes,
        &out,
        1,
        &["model.safetensors: tensor features.0.0.weight", "not finite: the first is NaN"],
    );
    let stem = |channels: usize| {
        move |tensors: &mut Tensors| {
            let (_, shape, bytes) = tensors.get_mut(STEM).unwrap();
            let each = bytes.len() / shape[0] / 3;
            let rows =
                bytes.chunks_exact(3 * each).flat_map(|row| [row, row].concat()[..channels * each].to_vec());
            (*bytes, shape[1]) = (rows.collect(), channels);
        }
    };
    let four = damaged("four", &stem(4));
    check_error(&four, scenes, &out, 1, &["its input has 4 channels and is not a picture"]);
    // Networks with one channel read grey pictures; without pictures, any number of channels is valid.
    let one = damaged("one", &stem(1));
    let set = ["--set", "mean=0.5", "--set", "std=0.5"];
    for (weights, pictures) in [(&one, &["--pictures", scenes][..]), (&four, &["--weights-only"])] {
        let output =
            goldcrest(&[&["quantize", "--weights", weights, "--out", &out], pictures, &set].concat());
        assert!(output.status.success(), "{output:?}");
        fs::remove_file(&out).unwrap();
    }

    // The input file is not overwritten.
    let own = inside("own");
    fs::create_dir(&own).unwrap();
    let weights = format!("{own}/model.safetensors");
    fs::copy(Path::new(CLASSIFY).join("model.safetensors"), &weights).unwrap();
    check_error(&weights, scenes, &weights, 1, &["model.safetensors: is also an input"]);
    for more in
        [&["--weights-only", "--pictures", scenes][..], &["--pictures", scenes, "--max-noise", "0%"], &[]]
    {
        let arguments = [&["quantize", "--weights", CLASSIFY, "--out", &out], more].concat();
        refused(folder.path(), &arguments, 2, &[]);
    }

    // One picture suffices, with a warning.
    fs::remove_file(Path::new(scenes).join("1.png")).unwrap();
    let output = goldcrest(&[
        "quantize",
        "--weights",
        CLASSIFY,
        "--pictures",
        scenes,
        "--out",
        &out,
        "--max-noise",
        "10%",
    ]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stderr).contains("the ranges are those of a single picture"), "{output:?}");
}
