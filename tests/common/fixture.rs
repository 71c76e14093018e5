//! Golden networks: weights from a recipe, statistics and answers from the source libraries.
//! `scripts/make_fixtures.py` makes the files and describes them;
//! `scripts/make_supernet_fixtures.py` those of supernets.

use std::path::{Path, PathBuf};

use goldcrest::{
    Tensor,
    tasks::Picture,
    zoo::{Checkpoint, Network},
};
use half::f16;
use safetensors::{
    SafeTensors,
    tensor::{Dtype, TensorView},
};
use serde::Deserialize;

const NETWORKS: &str = "tests/fixtures/networks";

#[derive(Deserialize)]
pub struct Recipe {
    pub arch: String,
    files: serde_json::Map<String, serde_json::Value>,
    tensors: Vec<Entry>,
    pub parameters: u64,
    pub macs: u64,
    /// Rows and columns that the multiply-adds are counted for.
    #[serde(default = "usual")]
    pub input: [usize; 2],
    pub cases: Vec<Case>,
    pub taps: Option<Taps>,
    /// The maps that the library takes from the network for others to be built on.
    #[serde(default)]
    pub features: Vec<Feature>,
    /// Of a supernet: the tensors of the first case's subnet as a network by itself.
    #[serde(default)]
    pub plain: Vec<Entry>,
}

fn usual() -> [usize; 2] {
    [224; 2]
}

#[derive(Deserialize)]
pub struct Feature {
    pub module: String,
    pub stride: usize,
}

#[derive(Deserialize)]
pub struct Entry {
    pub key: String,
    pub shape: Vec<usize>,
    #[serde(flatten)]
    fill: Fill,
}

/// How a tensor is re-created; counts have shapes alone, and get zeros.
#[derive(Deserialize)]
#[serde(tag = "fill", rename_all = "lowercase")]
enum Recreate {
    Uniform {
        offset: f64,
        scale: f64,
        #[serde(default)]
        lifts: Vec<Lift>,
    },
    Stored,
    Int64,
}

/// Added to every so many elements from the first on.
#[derive(Deserialize)]
struct Lift {
    first: usize,
    every: usize,
    by: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Fill {
    Recreate(Recreate),
    Shape {},
}

#[derive(Deserialize)]
pub struct Case {
    picture: String,
    mean: [f64; 3],
    std: [f64; 3],
    /// Of a supernet: which of its networks answers, as text.
    pub subnet: Option<String>,
    /// Whether its batch norms have statistics of its own.
    #[serde(default)]
    pub calibrated: bool,
}

#[derive(Deserialize)]
pub struct Taps {
    pub case: usize,
    pub modules: Vec<Module>,
}

#[derive(Deserialize)]
pub struct Module {
    pub name: String,
    pub shape: Vec<usize>,
}

pub struct Fixture {
    pub name: String,
    pub recipe: Recipe,
    stored: Option<Checkpoint>,
}

impl Fixture {
    /// The fixture in a JSON file, with its tensors if it has any.
    pub fn open(json: &Path) -> Self {
        let recipe = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        let tensors = json.with_extension("safetensors");
        Self {
            name: json.file_stem().unwrap().to_str().unwrap().into(),
            recipe,
            stored: tensors.exists().then(|| Checkpoint::open(tensors).unwrap()),
        }
    }

    /// The golden network of this name.
    pub fn network(name: &str) -> Self {
        Self::open(&Path::new(NETWORKS).join(name).with_extension("json"))
    }

    /// The golden networks, each once: of several checkpoints of a network the one with taps.
    pub fn networks() -> Vec<Self> {
        let mut fixtures = Self::all("networks");
        let network = |fixture: &Self| (fixture.recipe.arch.clone(), fixture.recipe.macs);
        fixtures.sort_by_key(|fixture| (network(fixture), fixture.recipe.taps.is_none()));
        fixtures.dedup_by_key(|fixture| network(fixture));
        fixtures
    }

    /// Every fixture in a folder of `tests/fixtures`.
    pub fn all(folder: &str) -> Vec<Self> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(Path::new("tests/fixtures").join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
            .collect();
        files.sort();
        files.iter().map(|file| Self::open(file)).collect()
    }

    /// The network, opened as a user opens it.
    pub fn open_network(&self) -> Network {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        // A configuration names the network; where there is none, its name must be given.
        let arch = Some(self.recipe.arch.as_str()).filter(|_| !folder.path().join("config.json").exists());
        Network::open_as(folder.path(), arch).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Writes the checkpoint as a user has it: a folder with weights and configuration.
    pub fn write(&self, folder: &Path) {
        for (name, content) in &self.recipe.files {
            std::fs::write(folder.join(name), content.to_string()).unwrap();
        }
        self.write_weights(&folder.join("model.safetensors"));
    }

    /// Writes the weights alone.
    pub fn write_weights(&self, file: &Path) {
        let tensors: Vec<(&str, Dtype, &[usize], Vec<u8>)> = self
            .recipe
            .tensors
            .iter()
            .map(|entry| {
                let (dtype, bytes) = self.bytes(entry);
                (entry.key.as_str(), dtype, &entry.shape[..], bytes)
            })
            .collect();
        let views = tensors.iter().map(|(key, dtype, shape, bytes)| {
            (*key, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
        });
        safetensors::serialize_to_file(views, None, file).unwrap();
    }

    fn bytes(&self, entry: &Entry) -> (Dtype, Vec<u8>) {
        let len: usize = entry.shape.iter().product();
        let floats = |values: Vec<f32>| (Dtype::F32, bytemuck::cast_slice(&values).to_vec());
        match entry.fill {
            Fill::Recreate(Recreate::Uniform { offset, scale, ref lifts }) => {
                let value = |u| offset as f32 + scale as f32 * u;
                let mut values: Vec<f32> = uniform(&entry.key, len).map(value).collect();
                for &Lift { first, every, by } in lifts {
                    values[first..].iter_mut().step_by(every).for_each(|value| *value += by as f32);
                }
                floats(values)
            }
            Fill::Recreate(Recreate::Stored) => {
                floats(self.stored(&format!("stat/{}", entry.key)).into_data())
            }
            Fill::Recreate(Recreate::Int64) => (Dtype::I64, vec![0; 8 * len]),
            Fill::Shape {} if entry.key.ends_with("num_batches_tracked") => (Dtype::I64, vec![0; 8 * len]),
            // Counting needs shapes alone; half precision is quicker to write and read.
            Fill::Shape {} => (Dtype::F16, bytemuck::cast_slice(&vec![f16::ZERO; len]).to_vec()),
        }
    }

    fn stored(&self, key: &str) -> Tensor {
        let stored = self.stored.as_ref().expect("the fixture has tensors");
        let dims: Vec<Option<usize>> = stored.shape(key).expect(key).iter().map(|&d| Some(d)).collect();
        stored.tensor(key, &dims).unwrap()
    }

    /// What the source library answers to a case, whole or sampled.
    pub fn answer(&self, name: &str, case: usize) -> Tensor {
        self.stored(&format!("{name}/{case}"))
    }

    /// A tensor of any type, which may be empty: its dimensions, and its bytes.
    pub fn bytes_of(&self, key: &str) -> (Vec<usize>, Vec<u8>) {
        let file = std::fs::read(Path::new(NETWORKS).join(&self.name).with_extension("safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let view = tensors.tensor(key).unwrap();
        (view.shape().to_vec(), view.data().to_vec())
    }

    /// The file of a case's picture.
    pub fn picture_file(&self, case: usize) -> PathBuf {
        Path::new("tests/fixtures/pictures").join(&self.recipe.cases[case].picture)
    }

    /// A case's picture.
    pub fn picture(&self, case: usize) -> Picture {
        Picture::open(self.picture_file(case)).unwrap()
    }

    /// A module's sampled output.
    pub fn tap(&self, module: &str) -> Tensor {
        self.stored(&format!("tap/{module}"))
    }

    /// A case's normalised input, `[1, 3, H, W]`.
    pub fn input(&self, case: usize) -> Tensor {
        self.normalised(&self.picture(case), case)
    }

    /// A picture, normalised as a case's is.
    pub fn normalised(&self, picture: &Picture, case: usize) -> Tensor {
        let case = &self.recipe.cases[case];
        let plane = picture.width() * picture.height();
        Tensor::from_fn([1, 3, picture.height(), picture.width()], |at| {
            let (channel, pixel) = (at / plane, at % plane);
            let level = f64::from(picture.pixels()[3 * pixel + channel]) / 255.0;
            ((level - case.mean[channel]) / case.std[channel]) as f32
        })
    }
}

/// The recipe's values in -1..1: a hash of the key, counted up and mixed.
fn uniform(key: &str, len: usize) -> impl Iterator<Item = f32> + use<> {
    let seed = key
        .bytes()
        .fold(0xcbf29ce484222325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100000001b3));
    (1..=len as u64).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(SCATTER));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB);
        z ^= z >> 31;
        (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

const SCATTER: u64 = 0x9E3779B97F4A7C15;

/// The values of an output that a tap holds.
pub fn sample(tensor: &Tensor) -> Tensor {
    scattered(tensor, 64)
}

/// `count` values of a tensor, or all if there are no more.
pub fn scattered(tensor: &Tensor, count: usize) -> Tensor {
    let len = tensor.data().len();
    if len <= count {
        return Tensor::new([len], tensor.data().to_vec()).unwrap();
    }
    let at = |j: usize| ((j as u64).wrapping_mul(SCATTER) % len as u64) as usize;
    Tensor::from_fn([count], |j| tensor.data()[at(j)])
}
