//! Files as people have them (`tests/fixtures/checkpoints`): each gives its library's answer, or one line that
//! says what it is. `scripts/make_checkpoints.py` makes the files and describes them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use goldcrest::{
    Options, Session, Shape, Tensor,
    checkpoint::{Checkpoint, Said, Use},
    cpu::Cpu,
    zoo::{Answer, Network},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    path: PathBuf,
    arch: Option<String>,
    #[serde(default)]
    set: std::collections::BTreeMap<String, String>,
    /// Files that are copied beside `path`.
    #[serde(default)]
    with: Vec<PathBuf>,
    #[serde(default)]
    features: bool,
    input: Option<String>,
    #[serde(default)]
    outputs: std::collections::BTreeMap<String, String>,
    /// Words of a note.
    #[serde(default)]
    taken: Vec<String>,
    scores: Option<String>,
    /// Words of the error, of those with bars between any.
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
    /// Opens it where its files lie, or a copy with those that are to lie beside.
    fn open(&self) -> goldcrest::Result<(Checkpoint, Network)> {
        let open = |path: PathBuf, said: &Said| {
            let checkpoint = Checkpoint::open(path)?;
            let network = Network::from_checkpoint_with(&checkpoint, said)?;
            Ok((checkpoint, network))
        };
        let mut said = Said::default();
        if let Some(arch) = &self.arch {
            said = said.arch(arch);
        }
        for (name, value) in &self.set {
            said = said.set(name, value.as_str())?;
        }
        let path = folder().join(&self.path);
        if self.with.is_empty() {
            return open(path, &said);
        }
        let copy = tempfile::tempdir().unwrap();
        let inside = if path.is_dir() { path.clone() } else { path.parent().unwrap().to_owned() };
        let files = fs::read_dir(&inside).unwrap().map(|entry| entry.unwrap().path());
        for file in files.chain(self.with.iter().map(|with| folder().join(with))) {
            fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
        let inner = path.strip_prefix(&inside).unwrap();
        open(copy.path().join(inner), &said)
    }

    /// What is wrong with its answer, if anything is.
    fn fault(&self, expected: &Checkpoint) -> Option<String> {
        let network = match (self.open(), &self.refused[..]) {
            (Ok((_, network)), []) => network,
            (Ok((_, network)), _) => return Some(format!("loads, as {}", network.arch)),
            (Err(error), []) => return Some(format!("refused: {error}")),
            (Err(error), words) => {
                let message = error.to_string();
                let lower = message.to_lowercase();
                let said = |words: &String| words.split('|').any(|word| lower.contains(&word.to_lowercase()));
                let missing = words.iter().find(|words| !said(words));
                let lines = message.lines().count();
                return missing
                    .map(|words| format!("{message:?} does not say {words:?}"))
                    .or((lines > 1).then(|| format!("{lines} lines: {message:?}")));
            }
        };
        let notes = network.notes.join(" ").to_lowercase();
        if let Some(word) = self.taken.iter().find(|word| !notes.contains(&word.to_lowercase())) {
            return Some(format!("no note says {word:?}: {:?}", network.notes));
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
        let answer = if self.features { Answer::Features } else { Answer::Scores };
        let options =
            Options { batch: shape.n, size: Some([shape.h, shape.w]), answer, ..Options::default() };
        let cpu = Cpu::new(Some(1)).unwrap();
        let mut session = match Session::new(&cpu, &network, options) {
            Ok(session) => session,
            Err(error) => return Some(format!("no session: {error}")),
        };
        let answers = session.run_all(&input).unwrap();
        let names: Vec<&str> = session.outputs().iter().map(|(name, _)| name.as_str()).collect();
        for (name, key) in &self.outputs {
            let Some(at) = names.iter().position(|found| found == name) else {
                return Some(format!("no output {name}, but {names:?}"));
            };
            let (found, wanted) = (&answers[at], read(key));
            if found.dims() != wanted.dims() {
                return Some(format!("{name} is {:?}, not {:?}", found.dims(), wanted.dims()));
            }
            let error = relative(found, &wanted);
            if error > 3e-5 {
                return Some(format!("{name} is {error:e} off"));
            }
        }
        (names.len() != self.outputs.len()).then(|| format!("outputs {names:?}"))
    }
}

/// The length of the difference over that of what is wanted.
fn relative(found: &Tensor, wanted: &Tensor) -> f64 {
    let sum = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = found.data().iter().zip(wanted.data());
    let off = sum(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
    off / sum(&mut wanted.data().iter().map(|v| f64::from(*v)))
}

#[test]
fn every_file_gives_its_librarys_answer_or_says_what_it_is() {
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
fn every_tensor_is_accounted_for_and_every_value_has_an_origin() {
    for case in cases().iter().filter(|case| case.refused.is_empty()) {
        let (checkpoint, network) = case.open().unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let keys: Vec<&str> = checkpoint.keys().collect();
        let told: Vec<&str> = network.tensors.iter().map(|tensor| tensor.key.as_str()).collect();
        assert_eq!(told, keys, "{}", case.name);
        let used = network.tensors.iter().filter(|tensor| matches!(tensor.became, Use::Used)).count();
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
