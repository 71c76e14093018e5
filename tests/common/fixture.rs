//! Golden networks: weights from a recipe, statistics and expected outputs from the source libraries.
//! `scripts/make_fixtures.py` makes and documents the files; `scripts/make_supernet_fixtures.py` those of
//! supernets.

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
    /// Rows and columns of the input that the multiply-adds are counted for.
    #[serde(default = "default_input")]
    pub input: [usize; 2],
    pub cases: Vec<Case>,
    pub taps: Option<Taps>,
    /// The feature maps that the library extracts from the network.
    #[serde(default)]
    pub features: Vec<Feature>,
    /// Supernets only: the tensors of the first case's subnet as a plain network.
    #[serde(default)]
    pub plain: Vec<Entry>,
}

fn default_input() -> [usize; 2] {
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

/// How a tensor is recreated. The fixtures of `counts` have only shapes, and get zeros.
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

/// `by` is added to every `every`th element, from `first` on.
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
    /// Supernets only: the subnet, as text.
    pub subnet: Option<String>,
    /// True if the batch norms have the subnet's statistics, not the supernet's.
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

    /// The golden networks without duplicates: among checkpoints of the same network, the one with taps.
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

    /// Opens the network as a user does.
    pub fn open_network(&self) -> Network {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        // Without a configuration, the architecture must be given.
        let arch = Some(self.recipe.arch.as_str()).filter(|_| !folder.path().join("config.json").exists());
        Network::open_as(folder.path(), arch).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Writes the checkpoint as users have it: a folder with weights and configuration.
    pub fn write(&self, folder: &Path) {
        for (name, content) in &self.recipe.files {
            std::fs::write(folder.join(name), content.to_string()).unwrap();
        }
        self.write_weights(&folder.join("model.safetensors"));
    }

    /// Writes only the weights.
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
            // Counting needs only shapes; half precision is faster to write and read.
            Fill::Shape {} => (Dtype::F16, bytemuck::cast_slice(&vec![f16::ZERO; len]).to_vec()),
        }
    }

    fn stored(&self, key: &str) -> Tensor {
        let stored = self.stored.as_ref().expect("the fixture has tensors");
        let dims: Vec<Option<usize>> = stored.shape(key).expect(key).iter().map(|&d| Some(d)).collect();
        stored.tensor(key, &dims).unwrap()
    }

    /// The source library's output in a case, whole or sampled.
    pub fn expected(&self, name: &str, case: usize) -> Tensor {
        self.stored(&format!("{name}/{case}"))
    }

    /// The dimensions and bytes of a stored tensor of any type, which may be empty.
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

    /// Normalises a picture like a case's.
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

/// The recipe's values in -1..1: SplitMix64, seeded with the FNV-1a hash of the key.
fn uniform(key: &str, len: usize) -> impl Iterator<Item = f32> + use<> {
    let seed = key
        .bytes()
        .fold(0xcbf29ce484222325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100000001b3));
    (1..=len as u64).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(GOLDEN_GAMMA));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB);
        z ^= z >> 31;
        (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

/// 2^64 over the golden ratio.
const GOLDEN_GAMMA: u64 = 0x9E3779B97F4A7C15;

/// Samples an output like the stored taps: up to 64 values.
pub fn tap_sample(tensor: &Tensor) -> Tensor {
    subsample(tensor, 64)
}

/// Samples `count` values of a tensor, or returns all if it has no more.
pub fn subsample(tensor: &Tensor, count: usize) -> Tensor {
    let len = tensor.data().len();
    if len <= count {
        return Tensor::new([len], tensor.data().to_vec()).unwrap();
    }
    let at = |j: usize| ((j as u64).wrapping_mul(GOLDEN_GAMMA) % len as u64) as usize;
    Tensor::from_fn([count], |j| tensor.data()[at(j)])
}
