//! Checkpoints as users have them (`tests/fixtures/checkpoints`): each gives its library's outputs, or an
//! error of one line that says what the file is. `scripts/make_checkpoints.py` makes and documents the files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use goldcrest::{
    Options, Session, Shape, Tensor,
    checkpoint::{Checkpoint, Overrides, Use},
    cpu::Cpu,
    zoo::{Colours, Filter, Grid, Network, Outputs, Resize, ScoreKind, Task},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    path: PathBuf,
    arch: Option<String>,
    #[serde(default)]
    set: std::collections::BTreeMap<String, String>,
    /// Files that are copied next to `path`.
    #[serde(default)]
    with: Vec<PathBuf>,
    #[serde(default)]
    features: bool,
    input: Option<String>,
    #[serde(default)]
    outputs: std::collections::BTreeMap<String, String>,
    /// Words that the notes must contain.
    #[serde(default)]
    taken: Vec<String>,
    scores: Option<String>,
    /// Words that the error must contain; bars separate alternatives.
    #[serde(default)]
    refused: Vec<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints")
}

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(folder().join("cases.json")).unwrap()).unwrap();
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    let wanted = std::env::var("GOLDCREST_TEST_CASE").unwrap_or_default();
    cases.into_iter().filter(|case| case.name.contains(&wanted)).collect()
}

impl Case {
    /// Opens the checkpoint in place, or a copy with the files of `with` next to it.
    fn open(&self) -> goldcrest::Result<(Checkpoint, Network)> {
        let open = |path: PathBuf, overrides: &Overrides| {
            let checkpoint = Checkpoint::open(path)?;
            let network = Network::from_checkpoint_with(&checkpoint, overrides)?;
            Ok((checkpoint, network))
        };
        let mut overrides = Overrides::default();
        if let Some(arch) = &self.arch {
            overrides = overrides.arch(arch);
        }
        for (name, value) in &self.set {
            overrides = overrides.set(name, value.as_str())?;
        }
        let path = folder().join(&self.path);
        if self.with.is_empty() {
            return open(path, &overrides);
        }
        let copy = tempfile::tempdir().unwrap();
        let parent = if path.is_dir() { path.clone() } else { path.parent().unwrap().to_owned() };
        let files = fs::read_dir(&parent).unwrap().map(|entry| entry.unwrap().path());
        for file in files.chain(self.with.iter().map(|with| folder().join(with))) {
            fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
        let inner = path.strip_prefix(&parent).unwrap();
        open(copy.path().join(inner), &overrides)
    }

    /// Returns what is wrong with the outcome, if anything.
    fn fault(&self, expected: &Checkpoint) -> Option<String> {
        let network = match (self.open(), &self.refused[..]) {
            (Ok((_, network)), []) => network,
            (Ok((_, network)), _) => return Some(format!("opens as {} without an error", network.arch)),
            (Err(error), []) => return Some(format!("error: {error}")),
            (Err(error), words) => {
                let message = error.to_string();
                let lower = message.to_lowercase();
                let contains_any =
                    |words: &String| words.split('|').any(|word| lower.contains(&word.to_lowercase()));
                let missing = words.iter().find(|words| !contains_any(words));
                let lines = message.lines().count();
                return missing
                    .map(|words| format!("{message:?} does not contain {words:?}"))
                    .or((lines > 1).then(|| format!("{lines} lines: {message:?}")));
            }
        };
        let notes = network.notes.join(" ").to_lowercase();
        if let Some(word) = self.taken.iter().find(|word| !notes.contains(&word.to_lowercase())) {
            return Some(format!("no note contains {word:?}: {:?}", network.notes));
        }
        if let Some(scores) = self.scores.as_ref().filter(|scores| **scores != network.scores.to_string()) {
            return Some(format!("scores are {}, not {scores}", network.scores));
        }
        let read = |key: &str| {
            let shape: Vec<Option<usize>> =
                expected.shape(key).expect(key).iter().copied().map(Some).collect();
            expected.tensor(key, &shape).unwrap()
        };
        let input = read(self.input.as_ref().expect("an input"));
        let shape: Shape = input.shape().unwrap();
        let outputs = if self.features { Outputs::Features } else { Outputs::Scores };
        let options =
            Options { batch: shape.n, size: Some([shape.h, shape.w]), outputs, ..Options::default() };
        let cpu = Cpu::new(Some(1)).unwrap();
        let mut session = match Session::new(&cpu, &network, options) {
            Ok(session) => session,
            Err(error) => return Some(format!("no session: {error}")),
        };
        let values = session.run_all(&input).unwrap();
        let names: Vec<&str> = session.outputs().iter().map(|(name, _)| name.as_str()).collect();
        for (name, key) in &self.outputs {
            let Some(at) = names.iter().position(|found| found == name) else {
                return Some(format!("no output {name}, but {names:?}"));
            };
            let (found, wanted) = (&values[at], read(key));
            if found.dims() != wanted.dims() {
                return Some(format!("{name} is {:?}, not {:?}", found.dims(), wanted.dims()));
            }
            let error = relative_error(found, &wanted);
            if error > 3e-5 {
                return Some(format!("{name} is {error:e} off"));
            }
        }
        (names.len() != self.outputs.len()).then(|| format!("outputs {names:?}"))
    }
}

/// ||found - wanted|| / ||wanted||.
fn relative_error(found: &Tensor, wanted: &Tensor) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = found.data().iter().zip(wanted.data());
    let off = norm(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
    off / norm(&mut wanted.data().iter().map(|v| f64::from(*v)))
}

#[test]
fn every_checkpoint_gives_its_librarys_outputs_or_an_error() {
    let expected = Checkpoint::open_file(folder().join("expected.safetensors")).unwrap();
    let mut faults = Vec::new();
    for case in cases() {
        if let Some(fault) = case.fault(&expected) {
            faults.push(format!("{}: {fault}", case.name));
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_converted_checkpoint_holds_the_same_tensors() {
    let mut torch = 0;
    for case in cases().iter().filter(|case| case.refused.is_empty()) {
        let (checkpoint, network) = case.open().unwrap();
        torch += usize::from(case.path.extension().is_some_and(|extension| extension != "safetensors"));
        let bytes = checkpoint.to_safetensors().unwrap();
        let converted = Checkpoint::from_bytes("converted", bytes, None, None).unwrap();
        assert!(checkpoint.keys().eq(converted.keys()), "{}", case.name);
        for key in checkpoint.keys() {
            let shape: Vec<Option<usize>> =
                checkpoint.shape(key).unwrap().iter().copied().map(Some).collect();
            let [found, wanted] = [&converted, &checkpoint].map(|from| from.tensor(key, &shape));
            assert_eq!(found.is_ok(), wanted.is_ok(), "{}: {key}", case.name);
            if let (Ok(found), Ok(wanted)) = (found, wanted) {
                assert!(
                    found.data() == wanted.data() && found.dims() == wanted.dims(),
                    "{}: {key}",
                    case.name
                );
            }
        }
        // Warnings about the file are those of its content, which a conversion keeps.
        if let Ok(again) = Network::from_checkpoint(&converted, case.arch.as_deref()) {
            let attack = |network: &Network| network.warnings.iter().any(|text| text.contains("attack"));
            assert_eq!(attack(&again), attack(&network), "{}", case.name);
        }
    }
    assert!(torch >= 20 || std::env::var_os("GOLDCREST_TEST_CASE").is_some(), "only {torch} PyTorch files");
}

#[test]
fn every_tensor_is_accounted_for_and_every_value_has_an_origin() {
    for case in cases().iter().filter(|case| case.refused.is_empty()) {
        let (checkpoint, network) = case.open().unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let keys: Vec<&str> = checkpoint.keys().collect();
        let listed: Vec<&str> = network.tensors.iter().map(|tensor| tensor.key.as_str()).collect();
        assert_eq!(listed, keys, "{}", case.name);
        let used = network.tensors.iter().filter(|tensor| matches!(tensor.usage, Use::Used)).count();
        assert!(used >= 20, "{}: {used} used", case.name);
        for name in
            ["padding", "epsilon", "activation", "stem_stride", "stage_strides", "output_stride", "mean"]
        {
            assert!(network.origins.iter().any(|origin| origin.name == name), "{}: {name}", case.name);
        }
        for name in case.set.keys() {
            let from = network
                .origins
                .iter()
                .find(|origin| origin.name == name)
                .map(|origin| origin.from.to_string());
            assert_eq!(from.as_deref(), Some("--set"), "{}: {name}", case.name);
        }
    }
}

/// Opens a copy of a fixture under another name.
fn open_renamed(from: &str, name: &str, overrides: &Overrides) -> Network {
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join(name);
    fs::copy(folder().join(from), &path).unwrap();
    Network::open_with(path, overrides).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn origin<'n>(network: &'n Network, name: &str) -> (&'n str, String) {
    let found = network.origins.iter().find(|origin| origin.name == name);
    found
        .map(|origin| (origin.value.as_str(), origin.from.to_string()))
        .unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn published_file_names_select_the_preprocessing() {
    let v2 = "constants-v2/model.safetensors";
    let resize = |from: &str, name: &str| {
        let network = open_renamed(from, name, &Overrides::default());
        assert!(network.warnings.iter().all(|warning| !warning.contains("name")), "{:?}", network.warnings);
        let (value, from) = origin(&network, "resize");
        (value.to_owned(), from, network.notes.iter().any(|note| note.contains("TAG")))
    };
    let by_name = |side: &str| (side.to_owned(), "the file's name".to_owned(), false);
    assert_eq!(resize(v2, "mobilenet_v2-b0353104.pth"), by_name("256"));
    assert_eq!(resize(v2, "mobilenet_v2-7ebf99e0.pth"), by_name("232"));
    assert_eq!(resize(v2, "mobilenet_v2.safetensors"), ("232".into(), "default of torchvision".into(), true));
    assert_eq!(resize("zip/resnet18.pth", "resnet18-f37072fd.pth"), by_name("256"));
    assert_eq!(resize("zip/resnet18.pth", "resnet18-5c106cde.pth"), by_name("256"));
    let segmenter = "lraspp-one-class/model.safetensors";
    assert_eq!(resize(segmenter, "lraspp_mobilenet_v3_large-d234d4ea.pth"), by_name("520"));

    // A file name that contradicts `--arch` or the tensors is a warning, and has no effect.
    let warned = |name: &str, overrides: &Overrides, words: &[&str]| {
        let network = open_renamed(v2, name, overrides);
        let warnings = network.warnings.join(" ");
        assert!(words.iter().all(|word| warnings.contains(word)), "{name}: {warnings}");
        network
    };
    let overrides = Overrides::default().arch("torchvision/mobilenet_v2");
    let network = open_renamed(v2, "mobilenet_v2-b0353104.pth", &overrides);
    assert_eq!(origin(&network, "resize"), ("256", "the file's name".into()));
    let overrides = Overrides::default().arch("torchvision/mobilenet_v2.IMAGENET1K_V2");
    let network = warned("mobilenet_v2-b0353104.pth", &overrides, &["IMAGENET1K_V1", "IMAGENET1K_V2"]);
    assert_eq!(origin(&network, "resize"), ("232", "--arch".into()));
    let network = warned("resnet50-0676ba61.pth", &Overrides::default(), &["resnet50", "MobileNetV2"]);
    assert_eq!(network.arch, "torchvision/mobilenet_v2");
}

#[test]
fn small_inputs_warn_about_the_assumed_stem_stride() {
    let small = [32, 32];
    let network = open_renamed("constants-v2/model.safetensors", "model.safetensors", &Overrides::default());
    let size_warning = network.size_warning(small).unwrap();
    assert!(["32x32", "1x1", "stem_stride"].iter().all(|word| size_warning.contains(word)), "{size_warning}");
    assert_eq!(network.size_warning([224, 224]), None);
    let overrides = Overrides::default().set("stem_stride", "1").unwrap();
    let strided = open_renamed("constants-v2/model.safetensors", "model.safetensors", &overrides);
    assert_eq!(strided.size_warning(small), None);
}

#[test]
fn preprocessing_overrides_are_applied_and_listed() {
    let mut overrides = Overrides::default();
    for (name, value) in [
        ("size", "160"),
        ("interpolation", "bilinear"),
        ("resize_antialias", "false"),
        ("align_corners", "true"),
        ("channels", "bgr"),
        ("mean", "0.5"),
        ("std", "0.25, 0.5, 1"),
        ("scores", "sigmoid"),
    ] {
        overrides = overrides.set(name, value).unwrap();
    }
    let network = open_renamed("constants-v2/model.safetensors", "model.safetensors", &overrides);
    let how = network.preprocessing;
    assert_eq!((network.input, how.resize, how.crop), ([160; 2], Resize::Short(165), Some([160; 2])));
    assert_eq!((how.filter, how.grid, how.colours), (Filter::Linear, Grid::Corners, Colours::Bgr));
    assert_eq!((how.mean.values(), how.std.values()), (&[0.5][..], &[0.25, 0.5, 1.0][..]));
    assert_eq!(network.scores, ScoreKind::Sigmoid);
    for name in ["resize", "crop", "interpolation", "align_corners", "channels", "mean", "std", "scores"] {
        assert_eq!(origin(&network, name).1, "--set", "{name}");
    }
    // config.json takes the same names, and errors in its values name that file.
    let bytes = fs::read(folder().join("constants-v2/model.safetensors")).unwrap();
    let opened = |config: &str| {
        let checkpoint = Checkpoint::from_bytes("weights", bytes.clone(), Some(config), None)?;
        Network::from_checkpoint(&checkpoint, None)
    };
    let network = opened(r#"{"epsilon": 0.001, "mean": [0.1, 0.2, 0.3], "stem_stride": 1}"#).unwrap();
    assert_eq!(origin(&network, "epsilon"), ("0.001", "config.json: epsilon".into()));
    assert_eq!(origin(&network, "mean"), ("0.1,0.2,0.3", "config.json: mean".into()));
    let note = "config.json names no network, but sets epsilon, stem_stride, mean";
    assert!(network.notes.iter().any(|found| found == note), "{:?}", network.notes);
    let network = opened(r#"{"interpolation": "bicubic", "output_stride": 16}"#).unwrap();
    assert_eq!(origin(&network, "interpolation"), ("bicubic", "config.json: interpolation".into()));
    assert_eq!(origin(&network, "output_stride"), ("16", "config.json: output_stride".into()));
    // A config.json that names no network leaves all other values at their defaults.
    assert_eq!(origin(&network, "resize"), ("232", "default of torchvision".into()));
    let error = opened(r#"{"padding": "reflect"}"#).unwrap_err().to_string();
    assert!(error.contains("config.json: padding: expected symmetric"), "{error}");
    // Antialiasing filters do not support aligned corners.
    let overrides =
        Overrides::default().set("interpolation", "bicubic").unwrap().set("align_corners", "true").unwrap();
    let error = Network::open_with(folder().join("constants-v2/model.safetensors"), &overrides)
        .unwrap_err()
        .to_string();
    assert!(error.contains("bicubic") && error.contains("antialiasing"), "{error}");
}

/// A fixture's tensors in f32, edited by `change`, which gets a name and its values, and returns the new
/// name, or `None` to drop the tensor.
fn changed(path: &str, change: impl Fn(&str, &mut Vec<f32>) -> Option<String>) -> Checkpoint {
    let whole = Checkpoint::open(folder().join(path)).unwrap();
    let mut tensors = Vec::new();
    for key in whole.keys().filter(|key| !key.ends_with("num_batches_tracked")) {
        let shape = whole.shape(key).unwrap().to_vec();
        let wanted: Vec<Option<usize>> = shape.iter().copied().map(Some).collect();
        let mut data = whole.tensor(key, &wanted).unwrap().into_data();
        if let Some(name) = change(key, &mut data) {
            tensors.push((name, shape, data));
        }
    }
    let views = tensors.iter().map(|(key, shape, data)| {
        let bytes = bytemuck::cast_slice(data);
        (key, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    Checkpoint::from_bytes("weights", safetensors::serialize(views, None).unwrap(), None, None).unwrap()
}

#[test]
fn label_map_of_one_class_separates_foreground_from_background() {
    let expected = Checkpoint::open_file(folder().join("expected.safetensors")).unwrap();
    let [input, scores] = ["input/odd", "lraspp-one-class/output"].map(|key| {
        let shape: Vec<Option<usize>> = expected.shape(key).unwrap().iter().copied().map(Some).collect();
        expected.tensor(key, &shape).unwrap()
    });
    // Shifted, so that half of the pixels are foreground.
    let mut sorted = scores.data().to_vec();
    sorted.sort_by(f32::total_cmp);
    let middle = sorted[sorted.len() / 2];
    let shifted = changed("lraspp-one-class/model.safetensors", |key, data| {
        if key == "classifier.low_classifier.bias" {
            data[0] -= middle;
        }
        Some(key.to_owned())
    });
    let network = Network::from_checkpoint(&shifted, None).unwrap();
    assert_eq!((network.classes, network.label_count(), network.scores), (1, 2, ScoreKind::Sigmoid));
    let shape = input.shape().unwrap();
    let size = Some([shape.h, shape.w]);
    let options = Options { batch: shape.n, size, outputs: Outputs::Labels(None), ..Options::default() };
    let mut session = Session::new(Cpu::new(Some(1)).unwrap(), &network, options).unwrap();
    let labels = session.run(&input).unwrap();
    let (mut foreground, mut near) = (0, 0);
    for (label, score) in labels.data().iter().zip(scores.data().iter().map(|score| score - middle)) {
        // Rounding decides the label of a logit near zero.
        if score.abs() < 1e-4 {
            near += 1;
        } else {
            assert_eq!(*label, f32::from(u8::from(score > 0.0)), "{score}");
            foreground += usize::from(score > 0.0);
        }
    }
    let all = labels.data().len();
    assert!(
        foreground > all / 4 && foreground < 3 * all / 4 && near < all / 100,
        "{foreground} foreground and {near} near zero of {all}"
    );
    let names = goldcrest::tasks::Labels::of(&network);
    assert_eq!((names.get(0), names.get(1)), (Some("background"), Some("foreground")));
}

#[test]
fn backbone_without_a_head_opens_as_a_network() {
    for prefix in ["", "backbone.", "encoder.module."] {
        let backbone = changed("constants-v2/model.safetensors", |key, _| {
            Some(format!("{prefix}{}", key.strip_prefix("features.")?))
        });
        let network = Network::from_checkpoint(&backbone, None).unwrap();
        assert_eq!(
            (network.task, network.arch.as_str()),
            (Task::Embed, "torchvision/mobilenet_v2"),
            "{prefix}"
        );
    }
}

#[test]
fn file_truncated_after_opening_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    fs::copy("assets/seeded/model.safetensors", &path).unwrap();
    let checkpoint = Checkpoint::open_file(&path).unwrap();
    let read = || checkpoint.tensor("classifier.weight", &[None, None]);
    assert!(read().is_ok());
    // With a memory map, a signal would end the program here.
    fs::File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("weights: tensor classifier.weight: was cut off"), "{error}");
}
