//! `goldcrest embed`

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use goldcrest::{
    Tensor,
    checkpoint::Npy,
    feed::{Name, Prediction, Subject},
    session::Options,
    tasks::Labels,
    text::visible,
    zoo,
};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};

use super::{
    common::{Engine, Weights},
    pictures::{Description, Evaluation, Job, Pictures},
    target::Target,
};

#[derive(Args)]
pub struct Embed {
    #[command(flatten)]
    pictures: Pictures,

    #[command(flatten)]
    weights: Weights,

    /// Scale each vector to unit length
    #[arg(long)]
    normalize: bool,

    /// Number of nearest pictures to list for each picture, by cosine similarity
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    nearest: Option<u32>,

    /// Output file: .npy of shape [pictures, values]; .safetensors with a tensor `embeddings`, and the
    /// pictures' names in its metadata; or .jsonl with one line per picture. Pictures that cannot be read
    /// have no row
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().try_map(vectors_name))]
    out: Option<PathBuf>,

    /// Batch size on a GPU; on the CPU each thread runs one picture
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,

    #[command(flatten)]
    engine: Engine,
}

impl Embed {
    pub fn run(&self) -> Result<()> {
        let network = self.weights.open()?;
        if network.embedding.is_none() {
            bail!(
                "{} {}: embed needs a network that classifies pictures or ends in an embedding",
                network.arch,
                network.task
            );
        }
        let gathered = self.pictures.gather(&network, [], self.out.is_some());
        let target = |path: &PathBuf| {
            Target::sparing(path, &gathered.read).with_context(|| path.display().to_string())
        };
        let target = self.out.as_ref().map(target).transpose()?;
        let device = self.engine.open()?;
        let options =
            Options { batch: self.batch as usize, outputs: zoo::Outputs::Embedding, ..self.engine.options() };
        let job = Job {
            network: &network,
            device: &device,
            options,
            labels: Labels::default(),
            top: 1,
            doing: "embedding",
            columns: &["vector"],
        };
        let describe =
            |_: &Subject, prediction: &Prediction| Ok(described(&scaled(prediction, self.normalize)?));
        let nearest = self.nearest.unwrap_or(0) as usize;
        let flags = Flags { normalize: self.normalize, nearest, out: self.out.clone() };
        let collector = Collector { flags, names: Vec::new(), vectors: Vec::new(), dims: 0, target };
        let collects = self.out.is_some() || self.nearest.is_some();
        let collector = collects.then(|| Box::new(collector) as Box<dyn Evaluation>);
        self.pictures.process(gathered, &job, describe, &[], collector)
    }
}

/// Options for the collected vectors.
struct Flags {
    normalize: bool,
    nearest: usize,
    out: Option<PathBuf>,
}

/// Collects the vectors of all pictures.
struct Collector {
    flags: Flags,
    names: Vec<Name>,
    vectors: Vec<f32>,
    dims: usize,
    target: Option<Target>,
}

fn scaled(prediction: &Prediction, normalize: bool) -> Result<Vec<f32>> {
    let Prediction::Vector(vector) = prediction else { bail!("the result is not a vector") };
    let length = length(vector);
    // A zero vector has no direction and stays zero.
    let by = if normalize && length > 0.0 { length } else { 1.0 };
    Ok(vector.iter().map(|value| (f64::from(*value) / by) as f32).collect())
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

fn described(vector: &[f32]) -> Description {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = writeln!(text, "  {} values, length {:.4}", vector.len(), length(vector));
    let values: Vec<String> = vector.iter().map(f32::to_string).collect();
    let fields = Map::from_iter([("embedding".into(), json!(vector))]);
    Description { fields, text, rows: vec![vec![values.join(" ")]] }
}

impl Evaluation for Collector {
    fn key(&self) -> &'static str {
        "vectors"
    }

    fn writes(&self) -> bool {
        self.target.is_some()
    }

    fn add(&mut self, name: &Name, _: [usize; 2], prediction: &Prediction) -> Result<()> {
        let vector = scaled(prediction, self.flags.normalize)?;
        self.dims = vector.len();
        self.vectors.extend(vector);
        self.names.push(name.clone());
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(Value, String)> {
        let Self { flags, names, vectors, dims, target } = *self;
        let mut words = String::new();
        if let (Some(path), true) = (&flags.out, names.is_empty()) {
            bail!("{}: not written, because no picture could be processed", path.display());
        }
        if let (Some(target), Some(path)) = (target, &flags.out) {
            let bytes = encode(path, &names, &vectors, dims)?;
            target.write(&bytes).with_context(|| path.display().to_string())?;
            writeln!(words, "{}: {} x {dims}", visible(&path.display().to_string()), names.len())?;
        }
        let mut found = Vec::new();
        if flags.nearest > 0 {
            for (at, near) in nearest(&vectors, dims.max(1), flags.nearest).into_iter().enumerate() {
                writeln!(words, "{} is nearest to", visible(&names[at].to_string()))?;
                for &(other, cosine) in &near {
                    writeln!(words, "  {cosine:7.4}  {}", visible(&names[other].to_string()))?;
                }
                let near: Vec<Value> = near
                    .iter()
                    .map(|(other, cosine)| json!({ "file": names[*other].to_string(), "cosine": cosine }))
                    .collect();
                found.push(json!({ "file": names[at].to_string(), "nearest": near }));
            }
        }
        Ok((json!({ "count": names.len(), "values": dims, "nearest": found }), words))
    }
}

/// For each vector, the `k` others with the largest cosine similarity, the largest first.
fn nearest(vectors: &[f32], dims: usize, k: usize) -> Vec<Vec<(usize, f32)>> {
    let rows: Vec<(&[f32], f64)> = vectors.chunks_exact(dims).map(|row| (row, length(row))).collect();
    let cosine = |(a, a_length): (&[f32], f64), (b, b_length): (&[f32], f64)| {
        let product: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let lengths = a_length * b_length;
        if lengths > 0.0 { (product / lengths) as f32 } else { 0.0 }
    };
    let of = |(at, row): (usize, &(&[f32], f64))| {
        let others = rows.iter().enumerate().filter(|(other, _)| *other != at);
        let mut all: Vec<(usize, f32)> = others.map(|(other, with)| (other, cosine(*row, *with))).collect();
        let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if all.len() > k {
            all.select_nth_unstable_by(k - 1, order);
            all.truncate(k);
        }
        all.sort_by(order);
        all
    };
    rows.iter().enumerate().map(of).collect()
}

fn encode(path: &Path, names: &[Name], vectors: &[f32], dims: usize) -> Result<Vec<u8>> {
    match extension(path).as_deref() {
        Some("npy") => Ok(Npy::encode(&Tensor::new([names.len(), dims], vectors.to_vec())?)),
        Some("jsonl") => {
            let lines = names.iter().zip(vectors.chunks_exact(dims.max(1))).map(|(name, vector)| {
                let mut line = json!({ "file": name.file.display().to_string(), "embedding": vector });
                if let Some(frame) = name.frame {
                    line["frame"] = frame.into();
                }
                format!("{line}\n")
            });
            Ok(lines.collect::<String>().into_bytes())
        }
        _ => {
            let view = TensorView::new(Dtype::F32, vec![names.len(), dims], bytemuck::cast_slice(vectors))?;
            let files: Vec<String> = names.iter().map(Name::to_string).collect();
            let metadata = HashMap::from([("files".to_owned(), serde_json::to_string(&files)?)]);
            Ok(safetensors::serialize([("embeddings", view)], Some(metadata))?)
        }
    }
}

/// A file's extension in lower case.
fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_lowercase())
}

/// Parses the name of a file for vectors.
fn vectors_name(name: OsString) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    match extension(&path).as_deref() {
        Some("npy" | "safetensors" | "jsonl") => Ok(path),
        _ => Err("expected the name of a .npy, .safetensors or .jsonl file".into()),
    }
}
