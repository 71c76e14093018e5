//! Golden networks: weights from a recipe, statistics and answers from the source libraries.
//! `scripts/make_fixtures.py` makes the files and describes them.

use std::path::{Path, PathBuf};

use goldcrest::{Tensor, tasks::Picture, zoo::Checkpoint};
use half::f16;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;

const NETWORKS: &str = "tests/fixtures/networks";

#[derive(Deserialize)]
pub struct Recipe {
    pub arch: String,
    files: serde_json::Map<String, serde_json::Value>,
    tensors: Vec<Entry>,
    pub parameters: u64,
    pub macs: u64,
    pub cases: Vec<Case>,
    pub taps: Option<Taps>,
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    shape: Vec<usize>,
    #[serde(flatten)]
    fill: Fill,
}

/// How a tensor is re-created; counts have shapes alone, and get zeros.
#[derive(Deserialize)]
#[serde(tag = "fill", rename_all = "lowercase")]
enum Recreate {
    Uniform { offset: f64, scale: f64 },
    Stored,
    Int64,
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

    /// Writes the checkpoint as a user has it: a folder with weights and configuration.
    pub fn write(&self, folder: &Path) {
        for (name, content) in &self.recipe.files {
            std::fs::write(folder.join(name), content.to_string()).unwrap();
        }
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
        safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    }

    fn bytes(&self, entry: &Entry) -> (Dtype, Vec<u8>) {
        let len: usize = entry.shape.iter().product();
        let floats = |values: Vec<f32>| (Dtype::F32, bytemuck::cast_slice(&values).to_vec());
        match entry.fill {
            Fill::Recreate(Recreate::Uniform { offset, scale }) => {
                floats(uniform(&entry.key, len).map(|u| offset as f32 + scale as f32 * u).collect())
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

    /// The source library's logits for a case.
    pub fn logits(&self, case: usize) -> Tensor {
        self.stored(&format!("out/{case}"))
    }

    /// A module's sampled output.
    pub fn tap(&self, module: &str) -> Tensor {
        self.stored(&format!("tap/{module}"))
    }

    /// A case's normalised input, `[1, 3, H, W]`.
    pub fn input(&self, case: usize) -> Tensor {
        let case = &self.recipe.cases[case];
        let picture = Picture::open(Path::new("tests/fixtures/pictures").join(&case.picture)).unwrap();
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
    let len = tensor.data().len();
    if len <= 64 {
        return Tensor::new([len], tensor.data().to_vec()).unwrap();
    }
    let at = |j: usize| ((j as u64).wrapping_mul(SCATTER) % len as u64) as usize;
    Tensor::from_fn([64], |j| tensor.data()[at(j)])
}
