//! The zoo, tested with the key lists of real checkpoints (`tests/fixtures`), complete and damaged.

use std::{collections::HashMap, fs, path::Path};

use goldcrest::{
    Error,
    graph::{Activation, Conv, Op, Padding},
    zoo::{
        Centre, Checkpoint, Family, Filter, HALF, IMAGENET_MEAN, IMAGENET_STD, Network, PerChannel,
        Preprocessing, Resize, Task,
    },
};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

/// A network's key list, with its library's counts and shapes.
struct Fixture {
    arch: String,
    json: Value,
}

/// A tensor to write.
#[derive(Clone)]
struct Item {
    key: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

fn fixture(path: &str) -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path);
    let json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    Fixture { arch: json["arch"].as_str().unwrap().into(), json }
}

/// The names and fixtures of all key lists.
fn fixtures() -> Vec<(String, Fixture)> {
    let mut all = Vec::new();
    for folder in ["networks", "counts"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
        for entry in fs::read_dir(path).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".json") {
                let name = format!("{folder}/{name}");
                all.push((name.clone(), fixture(&name)));
            }
        }
    }
    assert!(all.len() >= 27, "only {} key lists", all.len());
    all
}

impl Fixture {
    /// Its tensors, all 0.5.
    fn items(&self) -> Vec<Item> {
        let item = |t: &Value| {
            let shape: Vec<usize> =
                t["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
            let n = shape.iter().product();
            let (dtype, data) = match t["fill"].as_str() {
                Some("int64") => (Dtype::I64, vec![0; 8 * n]),
                None if t["key"].as_str().unwrap().ends_with("num_batches_tracked") => {
                    (Dtype::I64, vec![0; 8])
                }
                _ => (Dtype::F32, 0.5f32.to_le_bytes().repeat(n)),
            };
            Item { key: t["key"].as_str().unwrap().into(), dtype, shape, data }
        };
        self.json["tensors"].as_array().unwrap().iter().map(item).collect()
    }

    /// The input shape that its multiply-adds are counted for.
    fn input(&self) -> goldcrest::Shape {
        let side = |i: usize| self.json["input"][i].as_u64().unwrap_or(224) as usize;
        goldcrest::Shape::new(1, 3, side(0), side(1))
    }

    fn file(&self, name: &str) -> Option<String> {
        self.json["files"].get(name).map(Value::to_string)
    }

    /// Opens it with its configuration files.
    fn open(&self) -> Network {
        let (config, preprocessor) = (self.file("config.json"), self.file("preprocessor_config.json"));
        let bytes = bytes(&self.items());
        let checkpoint =
            Checkpoint::from_bytes("weights", bytes, config.as_deref(), preprocessor.as_deref()).unwrap();
        Network::from_checkpoint(&checkpoint, None).unwrap()
    }
}

fn bytes(items: &[Item]) -> Vec<u8> {
    let views =
        items.iter().map(|i| (i.key.clone(), TensorView::new(i.dtype, i.shape.clone(), &i.data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn open(items: &[Item], config: Option<&str>, arch: Option<&str>) -> Result<Network, Error> {
    Network::from_checkpoint(&Checkpoint::from_bytes("weights", bytes(items), config, None)?, arch)
}

/// Returns the error of opening these, which must be one line.
#[track_caller]
fn error_of(items: &[Item], config: Option<&str>, arch: Option<&str>) -> String {
    let message = open(items, config, arch).expect_err("must be an error").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[track_caller]
fn assert_contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not contain {part:?}");
    }
}

/// Small networks of each naming scheme, fast to write.
fn small() -> [Vec<Item>; 4] {
    [
        fixture("counts/torchvision-mobilenet_v2-w0.35.json"),
        fixture("networks/torchvision-mobilenet_v3_small.json"),
        fixture("networks/timm-mobilenetv3_small_050.json"),
        fixture("counts/transformers-mobilenet_v2-w0.35.json"),
    ]
    .map(|fixture| fixture.items())
}

/// A ResNet with a sixteenth of its channels.
fn resnet(depth: usize) -> Vec<Item> {
    let narrow = |mut item: Item| {
        for extent in item.shape.iter_mut().filter(|extent| **extent % 64 == 0) {
            *extent /= 16;
        }
        if item.dtype == Dtype::F32 {
            item.data = 0.5f32.to_le_bytes().repeat(item.shape.iter().product());
        }
        item
    };
    fixture(&format!("networks/torchvision-resnet{depth}.json")).items().into_iter().map(narrow).collect()
}

/// Two segmenters, a detector and a V4, with an eighth of their channels.
fn heads() -> [Vec<Item>; 4] {
    let narrow = |mut item: Item| {
        // The numbers of boxes and classes do not depend on the width.
        let predictor = item.key.starts_with("head.") && item.shape.first().is_some_and(|n| n % 6 == 0);
        let predictor = predictor && item.key.split('.').nth(4) == Some("1");
        let widths = item.shape.iter_mut().skip(usize::from(predictor));
        widths.filter(|extent| **extent % 8 == 0).for_each(|extent| *extent /= 8);
        if item.dtype == Dtype::F32 {
            item.data = 0.5f32.to_le_bytes().repeat(item.shape.iter().product());
        }
        item
    };
    [
        "torchvision-lraspp_mobilenet_v3_large",
        "torchvision-deeplabv3_mobilenet_v3_large",
        "torchvision-ssdlite320_mobilenet_v3_large",
        "timm-mobilenetv4_conv_small",
    ]
    .map(|name| fixture(&format!("networks/{name}.json")).items().into_iter().map(narrow).collect())
}

fn convs(network: &Network) -> impl Iterator<Item = &Conv> {
    network.graph.nodes().filter_map(|(_, node)| match &node.op {
        Op::Conv(conv) => Some(conv),
        _ => None,
    })
}

fn activations(network: &Network, wanted: Activation) -> usize {
    network.graph.nodes().filter(|(_, n)| matches!(n.op, Op::Activation(a) if a == wanted)).count()
}

#[test]
fn counts_match_the_libraries() {
    for (name, fixture) in fixtures() {
        let network = fixture.open();
        let shapes = network.graph.shapes(fixture.input()).unwrap();
        let cost: goldcrest::graph::Cost = network.graph.costs(&shapes).into_iter().sum();
        assert_eq!(network.arch, fixture.arch, "{name}");
        assert_eq!(Some(cost.parameters), fixture.json["parameters"].as_u64(), "{name}");
        assert_eq!(Some(cost.macs), fixture.json["macs"].as_u64(), "{name}");
        if network.task == Task::Classify {
            let last = shapes.last().unwrap();
            assert_eq!((last.c, last.h, last.w), (network.classes, 1, 1), "{name}");
        }
        if fixture.file("config.json").is_some() {
            assert!(network.notes.is_empty(), "{name}: {:?}", network.notes);
        }
    }
}

#[test]
fn counts_match_the_published_ones() {
    let counts = |name: &str| {
        let network = fixture(name).open();
        let shapes = network.graph.shapes(network.input_shape(1)).unwrap();
        let cost: goldcrest::graph::Cost = network.graph.costs(&shapes).into_iter().sum();
        (network.family, cost.parameters, (cost.macs as f64 / 1e3).round() / 1e3)
    };
    assert_eq!(counts("networks/timm-mobilenetv1_100.json"), (Family::V1, 4_231_976, 568.740));
    assert_eq!(counts("networks/torchvision-mobilenet_v2.json"), (Family::V2, 3_504_872, 300.774));
    assert_eq!(
        counts("networks/torchvision-mobilenet_v3_large.json"),
        (Family::V3_LARGE, 5_483_032, 216.590)
    );
    assert_eq!(counts("networks/torchvision-mobilenet_v3_small.json"), (Family::V3_SMALL, 2_542_856, 56.510));
    assert_eq!(
        counts("networks/torchvision-lraspp_mobilenet_v3_large.json"),
        (Family::LR_ASPP, 3_221_538, 2086.220)
    );
    assert_eq!(
        counts("networks/torchvision-deeplabv3_mobilenet_v3_large.json"),
        (Family::DEEPLAB_V3, 11_029_328, 10_452.448)
    );
    assert_eq!(
        counts("networks/torchvision-ssdlite320_mobilenet_v3_large.json"),
        (Family::SSDLITE, 3_440_060, 583.172)
    );
    assert_eq!(counts("networks/torchvision-resnet18.json"), (Family::RESNET, 11_689_512, 1814.073));
    assert_eq!(counts("networks/torchvision-resnet50.json"), (Family::RESNET, 25_557_032, 4089.184));
    assert_eq!(
        fixture("networks/timm-tf_mobilenetv3_small_minimal_100.json").open().family,
        Family::V3_SMALL_MINIMALISTIC
    );
    assert_eq!(
        fixture("networks/timm-tf_mobilenetv3_large_minimal_100.json").open().family,
        Family::V3_LARGE_MINIMALISTIC
    );
}

#[test]
fn nodes_are_named_after_modules_of_the_same_shape() {
    let mut checked = 0;
    for (name, fixture) in fixtures() {
        let taps = &fixture.json["taps"];
        let Some(modules) = taps["modules"].as_array() else { continue };
        let modules: HashMap<&str, Vec<usize>> = modules
            .iter()
            .map(|m| {
                let shape = m["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize);
                (m["name"].as_str().unwrap(), shape.collect())
            })
            .collect();
        let picture = &fixture.json["cases"][taps["case"].as_u64().unwrap() as usize]["picture"];
        // The file's name ends in its rows and columns.
        let size: Vec<usize> =
            picture.as_str().unwrap().split(['_', 'x', '.']).flat_map(str::parse).collect();
        let network = fixture.open();
        let input = match network.task {
            // Detectors resize every picture to their input size.
            Task::Detect(_) => network.input_shape(1),
            _ => goldcrest::Shape::new(1, 3, size[0], size[size.len() - 1]),
        };
        let shapes = network.graph.shapes(input).unwrap();
        let mut names = std::collections::HashSet::new();
        for (id, node) in network.graph.nodes() {
            assert!(names.insert(node.output_name()), "{name}: {} twice", node.output_name());
            let shape = shapes[id.index()];
            match modules.get(node.name()) {
                Some(module) => {
                    let shape = [shape.n, shape.c, shape.h, shape.w];
                    // A dense layer's module returns a matrix.
                    assert_eq!(module[..], shape[..module.len()], "{name}: {}", node.name());
                    checked += 1;
                }
                // Functions in the libraries, not modules: pooling in timm's squeeze-excite and torchvision's
                // V2, sums in ResNets, and products, resizing, concatenation and postprocessing in heads.
                None => assert!(
                    matches!(node.op, Op::Input(_))
                        || [".se.pool", ".add", ".mul", ".interpolate", ".cat"]
                            .iter()
                            .any(|end| node.name().ends_with(end))
                        || ["avgpool", "output", "aux"].contains(&node.name())
                        || (name.contains("_aa_") || name.contains("_blur_"))
                            && [".conv", ".drop"].iter().any(|end| node.name().ends_with(end))
                        || node.name().starts_with("postprocess."),
                    "{name}: no module {}",
                    node.name()
                ),
            }
        }
        // Names are still unique after folding and fusing.
        let fused = goldcrest::graph::passes::optimise(&network.graph);
        let last: std::collections::HashSet<&str> = fused.nodes().map(|(_, n)| n.output_name()).collect();
        assert_eq!(last.len(), fused.nodes().len(), "{name}");
    }
    assert!(checked > 1500, "{checked}");
}

#[test]
fn any_missing_tensor_is_named() {
    for items in small().into_iter().chain([resnet(18), resnet(50)]).chain(heads()) {
        for (i, item) in items.iter().enumerate() {
            if item.dtype == Dtype::I64 {
                continue;
            }
            let mut rest: Vec<Item> = items.clone();
            rest.remove(i);
            match open(&rest, None, None) {
                Err(Error::Checkpoint { key, reason, .. }) => {
                    assert_eq!((key, reason.as_str()), (item.key.clone(), "is missing"));
                }
                // V4's has no bias that would reveal the missing weight.
                Err(Error::UnknownNetwork(reason)) if item.key == "conv_head.weight" => {
                    assert_contains(
                        &reason,
                        &["no layer between the pool and the classifier", "MobileNetV4"],
                    );
                }
                other => panic!("without {}: {other:?}", item.key),
            }
        }
    }
}

#[test]
fn any_misshapen_tensor_is_named() {
    for items in small().into_iter().chain([resnet(18), resnet(50)]).chain(heads()) {
        for (i, item) in items.iter().enumerate() {
            if item.dtype == Dtype::I64 {
                continue;
            }
            let mut changed = items.clone();
            changed[i].shape.push(1);
            let message = error_of(&changed, None, None);
            assert_contains(
                &message,
                &[&item.key, "expected shape [", &format!("found {:?}", changed[i].shape)],
            );
        }
    }
}

#[test]
fn shapes_of_consecutive_layers_must_match() {
    let items = fixture("counts/torchvision-mobilenet_v2-w0.35.json").items();
    let mut changed = items.clone();
    let expand = changed.iter_mut().find(|i| i.key == "features.3.conv.0.0.weight").unwrap();
    let (outputs, inputs) = (expand.shape[0], expand.shape[1]);
    expand.shape = vec![outputs, inputs + 1, 1, 1];
    expand.data = vec![0; 4 * outputs * (inputs + 1)];
    assert_contains(
        &error_of(&changed, None, None),
        &[
            "features.3.conv.0.0.weight",
            &format!("[*, {inputs}, 1, 1], found [{outputs}, {}, 1, 1]", inputs + 1),
        ],
    );
}

#[test]
fn values_and_types_of_tensors_are_checked() {
    let items = fixture("counts/torchvision-mobilenet_v2-w0.35.json").items();
    let with = |key: &str, value: f32| {
        let mut items = items.clone();
        let item = items.iter_mut().find(|i| i.key == key).unwrap();
        item.data[8..12].copy_from_slice(&value.to_le_bytes());
        items
    };
    let key = "features.3.conv.0.1.running_var";
    assert_contains(&error_of(&with(key, f32::NAN), None, None), &["weights", key, "NaN at index 2"]);
    assert_contains(&error_of(&with(key, f32::NEG_INFINITY), None, None), &[key, "-inf at index 2"]);
    assert_contains(&error_of(&with(key, -1.0), None, None), &[key, "negative: -1"]);
    assert!(open(&with("features.3.conv.0.1.running_mean", -1.0), None, None).is_ok());

    let mut integers = items.clone();
    let item = integers.iter_mut().find(|i| i.key == key).unwrap();
    item.dtype = Dtype::I32;
    assert_contains(
        &error_of(&integers, None, None),
        &[key, "expected F32, F16, BF16, F64 or I8, found I32"],
    );

    let mut extra = items.clone();
    extra.push(Item { key: "features.3.extra".into(), dtype: Dtype::F32, shape: vec![1], data: vec![0; 4] });
    extra.push(Item { key: "zebra\nstripe".into(), dtype: Dtype::F32, shape: vec![1], data: vec![0; 4] });
    assert_contains(
        &error_of(&extra, None, None),
        &["features.3.extra", "not part of MobileNetV2", "nor is another tensor"],
    );
    extra.remove(extra.len() - 2);
    assert_contains(&error_of(&extra, None, None), &["zebra\\nstripe"]);
}

#[test]
fn half_precision_becomes_f32() {
    let mut items = fixture("counts/torchvision-mobilenet_v2-w0.35.json").items();
    for (i, item) in items.iter_mut().enumerate().filter(|(_, item)| item.dtype == Dtype::F32) {
        let n = item.data.len() / 4;
        // 0.5 in f16 and in bf16.
        let (dtype, half) = if i % 2 == 0 { (Dtype::F16, 0x3800u16) } else { (Dtype::BF16, 0x3f00) };
        (item.dtype, item.data) = (dtype, half.to_le_bytes().repeat(n));
    }
    let network = open(&items, None, None).unwrap();
    assert!(convs(&network).count() == 53);
    assert!(convs(&network).all(|conv| conv.weight.data().iter().all(|v| *v == 0.5)));
}

#[test]
fn files_folders_and_shards_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let fails = |path: &Path, parts: &[&str]| {
        let message = Network::open(path).expect_err("must be an error").to_string();
        assert!(!message.contains('\n'));
        assert_contains(&message, parts);
    };
    fails(folder.path(), &["is empty"]);
    fails(&at("gone.safetensors"), &["gone.safetensors"]);
    fs::write(at("readme.txt"), "hello").unwrap();
    fails(folder.path(), &["no .safetensors"]);
    fails(&at("readme.txt"), &["readme.txt", "is a text", "hello"]);
    fs::write(at("empty.safetensors"), "").unwrap();
    fails(&at("empty.safetensors"), &["is empty"]);
    fs::remove_file(at("empty.safetensors")).unwrap();
    fs::write(at("text"), "this is no safetensors file").unwrap();
    fails(&at("text"), &["is a text"]);

    let items = fixture("counts/torchvision-mobilenet_v2-w0.35.json").items();
    let whole = bytes(&items);
    fs::write(at("cut"), &whole[..whole.len() - 10]).unwrap();
    fails(&at("cut"), &["truncated"]);
    fs::write(at("cut"), &whole[..100]).unwrap();
    fails(&at("cut"), &["truncated", "100 bytes"]);

    // A single file, the only one of a folder, then two shards, with and without an index.
    fs::write(at("any.safetensors"), &whole).unwrap();
    for path in [folder.path(), &at("any.safetensors")] {
        assert_eq!(Network::open(path).unwrap().arch, "torchvision/mobilenet_v2");
    }
    fs::write(at("twice.safetensors"), &whole).unwrap();
    fails(folder.path(), &["twice.safetensors", "also in", "any.safetensors"]);
    let (a, b) = items.split_at(100);
    fs::write(at("any.safetensors"), bytes(a)).unwrap();
    fs::write(at("twice.safetensors"), bytes(b)).unwrap();
    assert_eq!(Network::open(folder.path()).unwrap().classes, 1000);
    let index = |first: &str| {
        let entry = |(i, item): (usize, &Item)| {
            let file = if i < 100 { first } else { "twice.safetensors" };
            (item.key.clone(), json!(file))
        };
        let map: serde_json::Map<String, Value> = items.iter().enumerate().map(entry).collect();
        fs::write(at("model.safetensors.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
    };
    fs::write(at("unrelated.safetensors"), &whole).unwrap();
    index("any.safetensors");
    assert_eq!(Network::open(folder.path()).unwrap().classes, 1000);
    index("absent.safetensors");
    fails(folder.path(), &["absent.safetensors"]);
    index("../any.safetensors");
    fails(folder.path(), &["index.json", "not a file name"]);
    index("unrelated.safetensors");
    fails(folder.path(), &["also in"]);
    fs::remove_file(at("model.safetensors.index.json")).unwrap();

    // In a folder, `model.safetensors` has priority.
    fs::write(at("model.safetensors"), &whole).unwrap();
    assert_eq!(Network::open(folder.path()).unwrap().classes, 1000);
    fs::write(at("config.json"), "{ not json").unwrap();
    fails(folder.path(), &["config.json"]);
    fs::write(at("config.json"), r#"{"architecture": "mobilenetv2_100"}"#).unwrap();
    fails(folder.path(), &["timm/mobilenetv2_100", "torchvision"]);
    assert!(Network::open_as(folder.path(), Some("torchvision/mobilenet_v2")).is_ok());
}

#[test]
fn architecture_names_are_checked() {
    let [v2, v3, timm, _] = small();
    assert_contains(
        &error_of(&v2, None, Some("torchvision/mnasnet1_0")),
        &["torchvision", "mnasnet1_0", "mobilenet_v3_small"],
    );
    assert_contains(
        &error_of(&v2, None, Some("torchvision/resnet50")),
        &["torchvision/resnet50", "MobileNetV2", "torchvision/mobilenet_v2"],
    );
    assert_contains(
        &error_of(&resnet(18), None, Some("torchvision/resnet50")),
        &["torchvision/resnet50", "those of ResNet, such as torchvision/resnet"],
    );
    assert_contains(
        &error_of(&timm, None, Some("timm/lcnet_100")),
        &["lcnet_100", "tf_mobilenetv3_small_075"],
    );
    assert_contains(&error_of(&v2, None, Some("mobilenet_v2")), &["torchvision/mobilenet_v2"]);
    assert_contains(&error_of(&v2, None, Some("keras/x")), &["keras/x"]);
    assert_contains(&error_of(&v2, None, Some("torchvision/mobilenet_v2.V9")), &["V9", "IMAGENET1K_V1"]);
    assert_contains(
        &error_of(&v3, None, Some("torchvision/mobilenet_v3_large")),
        &["torchvision/mobilenet_v3_large", "torchvision/mobilenet_v3_small"],
    );
    assert_contains(
        &error_of(&v2, None, Some("timm/mobilenetv2_035")),
        &["timm/mobilenetv2_035", "torchvision"],
    );
    assert_contains(
        &error_of(&timm, None, Some("timm/tf_mobilenetv3_small_100")),
        &["timm/tf_mobilenetv3_small_100", "timm/mobilenetv3_small_050", "48 channels, not 96"],
    );
    assert_contains(&error_of(&timm, Some(r#"{"architecture": "fbnetv3_b"}"#), None), &["fbnetv3_b"]);
    assert!(
        open(&timm, Some(r#"{"architecture": "fbnetv3_b"}"#), Some("timm/mobilenetv3_small_050")).is_ok()
    );
    assert_contains(&error_of(&v2, Some(r#"{"model_type": "resnet"}"#), None), &["transformers", "resnet"]);
}

#[test]
fn other_networks_are_refused() {
    let [v2, v3, timm, transformers] = small();
    let without = |items: &[Item], part: &str| -> Vec<Item> {
        items.iter().filter(|i| !i.key.starts_with(part)).cloned().collect()
    };
    // Without its classifier a network returns its features, and so does a base model, whose names have no
    // prefix.
    let bare = without(&transformers, "classifier")
        .into_iter()
        .map(|i| Item { key: i.key.replace("mobilenet_v2.", ""), ..i })
        .collect::<Vec<_>>();
    for items in
        [&v2, &v3, &timm, &transformers].map(|items| without(items, "classifier")).iter().chain([&bare])
    {
        let network = open(items, None, None).unwrap();
        assert_eq!((network.task, network.classes), (Task::Embed, 0));
    }
    let segmentation = v3
        .iter()
        .map(|i| Item { key: i.key.replace("features", "backbone"), ..i.clone() })
        .collect::<Vec<_>>();
    assert_contains(
        &error_of(&segmentation, None, None),
        &["classifier.0.bias", "under backbone.", "--set ignore=classifier."],
    );
    assert_contains(&error_of(&[], None, None), &["found 0 tensors"]);

    // MnasNet and EfficientNet-Lite have V2's modules, but 5x5 kernels.
    let mut mnasnet = fixture("networks/timm-mobilenetv2_050.json").items();
    let depthwise = mnasnet.iter_mut().find(|i| i.key == "blocks.2.1.conv_dw.weight").unwrap();
    (depthwise.shape[2], depthwise.shape[3]) = (5, 5);
    depthwise.data = vec![0; 4 * depthwise.shape.iter().product::<usize>()];
    assert_contains(&error_of(&mnasnet, None, None), &["5x5", "blocks.2.1.conv_dw", "MobileNetV2"]);

    // A ResNet of another depth, ResNeXt, whose convolutions are grouped, and one whose residual does not
    // fit.
    let shallow = without(&resnet(50), "layer3.5.");
    assert_contains(&error_of(&shallow, None, None), &["no ResNet", "[3, 4, 5, 3] blocks, not [3, 4, 6, 3]"]);
    let change = |depth, key: &str, shape: &[usize]| {
        let mut items = resnet(depth);
        let item = items.iter_mut().find(|item| item.key == key).unwrap();
        item.shape = shape.into();
        item.data = 0.5f32.to_le_bytes().repeat(shape.iter().product());
        error_of(&items, None, None)
    };
    assert_contains(
        &change(50, "layer2.0.conv2.weight", &[8, 1, 3, 3]),
        &["layer2.0.conv2.weight", "[*, 8, 3, 3]"],
    );
    let mut wide = resnet(18);
    for item in wide.iter_mut().filter(|item| item.key.starts_with("layer2.0.downsample.")) {
        if let Some(outputs) = item.shape.first_mut() {
            *outputs = 12;
            item.data = 0.5f32.to_le_bytes().repeat(item.shape.iter().product());
        }
    }
    assert_contains(&error_of(&wide, None, None), &["layer2.0.downsample.0.weight", "12 outputs", "has 8"]);

    // LCNet has V1's blocks, and two more stages; V4 has other blocks.
    let v1 = fixture("networks/timm-mobilenetv1_100.json").items();
    let mut lcnet = v1.clone();
    lcnet.extend(
        v1.iter()
            .filter(|i| i.key.starts_with("blocks.4.1."))
            .map(|i| Item { key: i.key.replace("blocks.4.1.", "blocks.5.0."), ..i.clone() }),
    );
    assert_contains(&error_of(&lcnet, None, None), &["unknown network", "The closest is"]);
    let v4: Vec<Item> = timm
        .iter()
        .map(|i| Item { key: i.key.replace(".conv_", ".dw_mid.").replace(".bn", ".dw_mid.bn"), ..i.clone() })
        .collect();
    assert_contains(&error_of(&v4, None, None), &["unknown network", "blocks.0.0"]);
}

#[test]
fn tensorflow_networks_have_other_padding_and_epsilons() {
    let rules = |network: &Network| {
        let epsilons: Vec<f64> = network
            .graph
            .nodes()
            .filter_map(|(_, n)| match &n.op {
                Op::BatchNorm(norm) => Some(norm.epsilon),
                _ => None,
            })
            .collect();
        assert!(epsilons.windows(2).all(|w| w[0] == w[1]));
        let same = convs(network).filter(|conv| conv.padding == Padding::Same).count();
        assert!(same == 0 || same == convs(network).count());
        (epsilons[0], same > 0)
    };
    let opened = |name: &str| rules(&fixture(&format!("{name}.json")).open());
    assert_eq!(opened("networks/torchvision-mobilenet_v2"), (1e-5, false));
    assert_eq!(opened("networks/torchvision-mobilenet_v3_large"), (1e-3, false));
    assert_eq!(opened("networks/timm-mobilenetv1_100"), (1e-5, false));
    assert_eq!(opened("networks/timm-mobilenetv3_large_100"), (1e-5, false));
    assert_eq!(opened("networks/timm-tf_mobilenetv3_large_100"), (1e-3, true));
    assert_eq!(opened("networks/timm-tf_mobilenetv3_small_minimal_100"), (1e-3, true));
    assert_eq!(opened("counts/timm-mobilenetv3_rw"), (1e-3, false));
    assert_eq!(opened("networks/transformers-mobilenet_v1"), (1e-3, true));

    let tf = fixture("counts/timm-tf_mobilenetv3_small_075.json").items();
    // Keys do not distinguish twins whose outputs differ.
    let names = ["timm/mobilenetv3_small_075 and timm/tf_mobilenetv3_small_075", "--arch"];
    assert_contains(&error_of(&tf, None, None), &names);
    let plain = open(&tf, None, Some("timm/mobilenetv3_small_075")).unwrap();
    assert_eq!((plain.arch.as_str(), rules(&plain)), ("timm/mobilenetv3_small_075", (1e-5, false)));
    let named = open(&tf, None, Some("timm/tf_mobilenetv3_small_075")).unwrap();
    assert_eq!(rules(&named), (1e-3, true));
    assert!(named.notes.is_empty());
    // Keys do identify a minimalistic network.
    let minimal = fixture("networks/timm-tf_mobilenetv3_small_minimal_100.json").items();
    let minimal = open(&minimal, None, None).unwrap();
    assert_eq!(
        (minimal.arch.as_str(), rules(&minimal)),
        ("timm/tf_mobilenetv3_small_minimal_100", (1e-3, true))
    );
    assert!(minimal.notes.is_empty());
}

#[test]
fn mobilenetv3_rw_differs_in_three_places() {
    let published = fixture("networks/timm-mobilenetv3_large_100.json").open();
    let rw = fixture("counts/timm-mobilenetv3_rw.json").open();
    let sums = |n: &Network| n.graph.nodes().filter(|(_, n)| matches!(n.op, Op::Add)).count();
    assert_eq!((sums(&published), sums(&rw)), (10, 9));
    // There are eight squeeze-excites. In rw they have their block's activation instead of ReLU, and five are
    // in blocks with hard-swish.
    let relus = |n: &Network| (activations(n, Activation::Relu), activations(n, Activation::HardSwish));
    let ((a, b), (c, d)) = (relus(&published), relus(&rw));
    assert_eq!((a - c, d - b), (5, 5));
    assert_eq!(activations(&rw, Activation::HardSigmoid), 8);
}

#[test]
fn preprocessing_follows_the_preset() {
    let [v2, v3, _, _] = small();
    let tagged = open(&v2, None, Some("torchvision/mobilenet_v2.IMAGENET1K_V1")).unwrap();
    assert_eq!((tagged.preprocessing.resize, tagged.notes.len()), (Resize::Short(256), 0));
    let plain = open(&v2, None, None).unwrap();
    assert_eq!((plain.preprocessing.resize, plain.notes.len()), (Resize::Short(232), 1));
    let small = open(&v3, None, None).unwrap();
    assert_eq!((small.preprocessing.resize, small.notes.len()), (Resize::Short(256), 0));
    assert_eq!(small.preprocessing.centre, Centre::HalfToEven);
    for (depth, short) in [(18, 256), (50, 232)] {
        let network = open(&resnet(depth), None, None).unwrap();
        assert_eq!(network.arch, format!("torchvision/resnet{depth}"));
        assert_eq!((network.preprocessing.resize, network.input), (Resize::Short(short), [224, 224]));
    }

    // A tag, the configuration next to the weights, and the table agree.
    for (name, fixture) in fixtures().iter().filter(|(_, f)| f.arch.starts_with("timm/")) {
        let configured = fixture.open();
        let tag = fixture.json["files"]["config.json"]["pretrained_cfg"]["tag"].as_str().unwrap();
        let arch = format!("{}.{tag}", fixture.arch);
        let tagged = open(&fixture.items(), None, Some(&arch)).unwrap();
        assert_eq!(configured.preprocessing, tagged.preprocessing, "{name}");
        assert_eq!(configured.input, tagged.input, "{name}");
    }
    let large = fixture("networks/timm-mobilenetv3_large_100.json");
    let items = large.items();
    let arch = Some("timm/mobilenetv3_large_100.ra4_e3600_r224_in1k");
    let config = large.file("config.json");
    for config in [None, config.as_deref()] {
        let network = open(&items, config, arch).unwrap();
        assert_eq!(network.preprocessing.resize, Resize::Short(235));
        assert_eq!(network.preprocessing.mean.values(), HALF);
    }
    let network = open(&items, config.as_deref(), None).unwrap();
    assert_eq!(network.preprocessing.mean.values(), IMAGENET_MEAN);
    assert_eq!(network.preprocessing.filter, Filter::Bicubic);
}

#[test]
fn timm_configurations_are_applied_or_rejected() {
    let items = fixture("networks/timm-mobilenetv3_small_050.json").items();
    let with = |field: &str, value: Value| {
        json!({"architecture": "mobilenetv3_small_050", "pretrained_cfg": {field: value}}).to_string()
    };
    let squash = open(&items, Some(&with("crop_mode", json!("squash"))), None).unwrap();
    assert_eq!(squash.preprocessing.resize, Resize::Exact([256, 256]));
    let sized = open(&items, Some(&with("input_size", json!([3, 160, 160]))), None).unwrap();
    assert_eq!((sized.preprocessing.resize, sized.input), (Resize::Short(182), [160, 160]));
    for (field, value) in [
        ("crop_mode", json!("border")),
        ("interpolation", json!("random")),
        ("crop_pct", json!(-1)),
        ("mean", json!("grey")),
        ("input_size", json!([3, 224, 256])),
    ] {
        assert_contains(&error_of(&items, Some(&with(field, value)), None), &["config.json", field]);
    }
    let made = |args: Value| json!({"architecture": "mobilenetv3_small_050", "model_args": args}).to_string();
    for (field, value) in [
        ("output_stride", json!(3)),
        ("act_layer", json!("mish")),
        ("aa_layer", json!("blur")),
        ("se_layer", json!("eca")),
        ("bn_eps", json!("small")),
    ] {
        assert_contains(
            &error_of(&items, Some(&made(json!({field: value}))), None),
            &["config.json", &format!("{field} = ")],
        );
    }
    let strided = open(&items, Some(&made(json!({"output_stride": 16, "drop_rate": 0.2}))), None).unwrap();
    assert_eq!(strided.features.iter().map(|f| f.stride).collect::<Vec<_>>(), [2, 4, 8, 16]);
    let names: Vec<String> = (0..1000).map(|i| format!("n{i}")).collect();
    let mut labelled = json!({"architecture": "mobilenetv3_small_050", "label_names": names});
    labelled["label_descriptions"] = json!({"n1": "goldfish"});
    let labels = open(&items, Some(&labelled.to_string()), None).unwrap().labels.unwrap();
    assert_eq!(labels[..3], ["n0", "goldfish", "n2"]);
}

#[test]
fn transformers_configurations_are_applied_or_rejected() {
    let items = fixture("counts/transformers-mobilenet_v2-w0.35.json").items();
    let config = |field: &str, value: Value| json!({"model_type": "mobilenet_v2", field: value}).to_string();

    let symmetric = open(&items, Some(&config("tf_padding", json!(false))), None).unwrap();
    assert!(convs(&symmetric).all(|conv| conv.padding == Padding::Symmetric));
    let relu = open(&items, Some(&config("hidden_act", json!("relu"))), None).unwrap();
    assert_eq!((activations(&relu, Activation::Relu), activations(&relu, Activation::Relu6)), (35, 0));
    assert_contains(
        &error_of(&items, Some(&config("hidden_act", json!("gelu"))), None),
        &["hidden_act", "gelu"],
    );

    // Strides and dilations of the depthwise convolutions, as in the library.
    let strides_of = |stride: usize| {
        let network = open(&items, Some(&config("output_stride", json!(stride))), None).unwrap();
        let shapes = network.graph.shapes(network.input_shape(1)).unwrap();
        let last = network.graph.nodes().filter(|(_, n)| n.name().ends_with("conv_1x1.convolution"));
        let rows = last.map(|(id, _)| shapes[id.index()].h).next().unwrap();
        let strides: Vec<(usize, usize)> =
            convs(&network).filter(|c| c.groups > 1).map(|c| (c.stride, c.dilation)).collect();
        (rows, strides[13], strides[14])
    };
    assert_eq!(strides_of(32), (7, (2, 1), (1, 1)));
    assert_eq!(strides_of(16), (14, (1, 1), (1, 2)));
    assert_eq!(strides_of(8), (28, (1, 2), (1, 4)));

    let names: serde_json::Map<String, Value> =
        (0..1001).map(|i| (i.to_string(), json!(format!("thing {i}")))).collect();
    let labels = open(&items, Some(&config("id2label", json!(names))), None).unwrap().labels.unwrap();
    assert_eq!((labels.len(), labels[1000].as_str()), (1001, "thing 1000"));
    let few = open(&items, Some(&config("id2label", json!({"0": "a", "1": "b"}))), None).unwrap();
    assert!(few.labels.is_none() && few.notes[0].contains("2 class names, but the network has 1001 classes"));
    assert!(fixture("networks/transformers-mobilenet_v1.json").open().labels.is_none());

    let processed = |processor: Value| {
        let processor = processor.to_string();
        let checkpoint = Checkpoint::from_bytes("weights", bytes(&items), None, Some(&processor))?;
        Network::from_checkpoint(&checkpoint, None).map(|n| (n.preprocessing, n.input))
    };
    let (p, input) =
        processed(json!({"size": {"height": 192, "width": 160}, "do_center_crop": false})).unwrap();
    assert_eq!((p.resize, p.crop, input), (Resize::Exact([192, 160]), None, [192, 160]));
    let (p, _) =
        processed(json!({"size": 300, "crop_size": 280, "resample": 3, "do_normalize": false})).unwrap();
    assert_eq!((p.resize, p.crop, p.filter), (Resize::Short(300), Some([280, 280]), Filter::Bicubic));
    assert_eq!((p.mean.values(), p.std.values(), p.centre), (&[0.0][..], &[1.0][..], Centre::Down));
    for (field, value) in [
        ("do_resize", json!(false)),
        ("do_rescale", json!(false)),
        ("rescale_factor", json!(1)),
        ("do_center_crop", json!(false)),
        ("do_pad", json!(true)),
        ("resample", json!(4)),
        ("size", json!({"longest_edge": 5})),
        ("crop_size", json!("big")),
    ] {
        let message = processed(json!({field: value})).expect_err(field).to_string();
        assert_contains(&message, &["preprocessor_config.json", field]);
    }
}

#[test]
fn any_number_of_classes_and_channels_opens() {
    let mut items = fixture("counts/torchvision-mobilenet_v2-w0.35.json").items();
    for (key, shape) in [
        ("features.0.0.weight", vec![16, 1, 3, 3]),
        ("classifier.1.weight", vec![7, 1280]),
        ("classifier.1.bias", vec![7]),
    ] {
        let item = items.iter_mut().find(|i| i.key == key).unwrap();
        item.data = vec![0; 4 * shape.iter().product::<usize>()];
        item.shape = shape;
    }
    let network = open(&items, None, None).unwrap();
    assert_eq!((network.channels, network.classes), (1, 7));
    assert!(network.notes.iter().any(|note| note.contains("1 channel:")));
    assert!(network.graph.shapes(network.input_shape(2)).is_ok());
}

#[test]
fn segmenters_and_detectors_are_recognised_by_their_keys() {
    let voc = Preprocessing {
        resize: Resize::Short(520),
        filter: Filter::Bilinear,
        crop: None,
        centre: Centre::HalfToEven,
        mean: PerChannel::new(&IMAGENET_MEAN),
        std: PerChannel::new(&IMAGENET_STD),
        ..Preprocessing::default()
    };
    let coco = Preprocessing {
        resize: Resize::Exact([320, 320]),
        filter: Filter::Linear,
        mean: PerChannel::new(&HALF),
        std: PerChannel::new(&HALF),
        ..voc
    };
    let dilated = ["1", "3", "6", "16"].map(|i| format!("backbone.{i}")).to_vec();
    let whole = ["0.1", "0.3", "0.6", "0.12", "1.3"].map(|i| format!("backbone.features.{i}")).to_vec();
    for (name, family, classes, preprocessing, tag, modules) in [
        ("lraspp", Family::LR_ASPP, 21, &voc, "COCO_WITH_VOC_LABELS_V1", &dilated),
        ("deeplabv3", Family::DEEPLAB_V3, 21, &voc, "COCO_WITH_VOC_LABELS_V1", &dilated),
        ("ssdlite320", Family::SSDLITE, 91, &coco, "COCO_V1", &whole),
    ] {
        let arch = format!("torchvision/{name}_mobilenet_v3_large");
        let items = fixture(&format!("networks/{}.json", arch.replace('/', "-"))).items();
        let tagged = format!("{arch}.{tag}");
        for requested in [None, Some(arch.as_str()), Some(tagged.as_str())] {
            let network = open(&items, None, requested).unwrap();
            assert_eq!(network.arch, arch);
            assert_eq!((network.family, network.classes, network.channels), (family, classes, 3), "{name}");
            assert_eq!(network.preprocessing, *preprocessing, "{name}");
            let side = if family == Family::SSDLITE { 320 } else { 520 };
            assert_eq!(
                (network.input, &network.labels, network.notes.len()),
                ([side; 2], &None, 0),
                "{name}"
            );
            let task = match network.task {
                Task::Classify | Task::Embed => "classifies",
                Task::Segment { .. } => "segments",
                Task::Detect(_) => "detects",
            };
            assert_eq!(task, if family == Family::SSDLITE { "detects" } else { "segments" });
            let features: Vec<(String, usize)> =
                network.features.iter().map(|f| (f.module.clone(), f.stride)).collect();
            let expected = modules.iter().cloned().zip([2, 4, 8, 16, 32]);
            assert_eq!(features, expected.collect::<Vec<_>>(), "{name}");
        }
        assert_contains(&error_of(&items, None, Some(&format!("{arch}.V9"))), &["V9", tag]);
        assert_contains(
            &error_of(&items, None, Some("torchvision/mobilenet_v3_large")),
            &["opened as", &arch],
        );
    }
    // The auxiliary head is for training, and may be missing.
    let deeplab = fixture("networks/torchvision-deeplabv3_mobilenet_v3_large.json").items();
    let alone: Vec<Item> = deeplab.into_iter().filter(|i| !i.key.starts_with("aux_classifier.")).collect();
    let network = open(&alone, None, None).unwrap();
    assert_eq!((network.family, network.classes), (Family::DEEPLAB_V3, 21));
    assert!(network.graph.nodes().all(|(_, node)| !node.name().starts_with("aux")));
}

#[test]
fn v4_networks_are_recognised_by_their_keys() {
    for (name, family, side, short, modules) in [
        (
            "conv_small_050",
            Family::V4_CONV_SMALL,
            224,
            256,
            ["bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.4"],
        ),
        (
            "conv_small",
            Family::V4_CONV_SMALL,
            224,
            256,
            ["bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.4"],
        ),
        (
            "conv_medium",
            Family::V4_CONV_MEDIUM,
            256,
            269,
            ["bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.4"],
        ),
        (
            "conv_large",
            Family::V4_CONV_LARGE,
            384,
            404,
            ["bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.4"],
        ),
    ] {
        let items = fixture(&format!("networks/timm-mobilenetv4_{name}.json")).items();
        // timm's aa_ and blur_ networks have the same keys, but other outputs.
        let twins = matches!(family, Family::V4_CONV_MEDIUM | Family::V4_CONV_LARGE);
        let arch = format!("timm/mobilenetv4_{name}");
        if twins {
            assert_contains(&error_of(&items, None, None), &[&arch, "_aa_", "--arch"]);
        }
        let network = open(&items, None, twins.then_some(arch.as_str())).unwrap();
        assert_eq!((network.arch, network.family), (format!("timm/mobilenetv4_{name}"), family));
        assert_eq!((network.task, network.classes, network.input), (Task::Classify, 1000, [side; 2]));
        let how = &network.preprocessing;
        assert_eq!((how.resize, how.crop), (Resize::Short(short), Some([side; 2])), "{name}");
        let mean = if name == "conv_small_050" { HALF } else { IMAGENET_MEAN };
        assert_eq!((how.filter, how.mean.values()), (Filter::Bicubic, &mean[..]), "{name}");
        // A note mentions the preprocessing of other tags.
        assert_eq!(network.notes.len(), usize::from(name != "conv_small_050"), "{:?}", network.notes);
        let found: Vec<(&str, usize)> =
            network.features.iter().map(|f| (f.module.as_str(), f.stride)).collect();
        assert_eq!(found, modules.into_iter().zip([2, 4, 8, 16, 32]).collect::<Vec<_>>(), "{name}");
    }
    let small = fixture("networks/timm-mobilenetv4_conv_small.json").items();
    for other in ["conv_small_050", "conv_medium", "conv_large"] {
        let arch = format!("timm/mobilenetv4_{other}");
        assert_contains(
            &error_of(&small, None, Some(&arch)),
            &["opened as", &arch, "but its tensors are those of"],
        );
    }
}
