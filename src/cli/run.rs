//! `goldcrest run`

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use goldcrest::{
    Shape, Tensor,
    checkpoint::{Checkpoint, Npy},
    files,
    session::Options,
    tasks::{self, Candidate},
    tensor::Element,
    zoo::{Detector, Outputs, Task},
};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use web_time::Instant;

use super::{
    common::{self, Engine, Weights, json, milliseconds, session, startup},
    target::Target,
};

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    weights: Weights,

    /// Input file: .safetensors with a tensor `input` of shape [N, C, H, W], already normalised, or .npy with
    /// that tensor
    #[arg(long, value_name = "FILE")]
    input: PathBuf,

    /// Output file: .safetensors, or .npy for a single tensor. The tensor is `output`, of shape [N, classes] or
    /// [N, classes, H, W]; a detector has `boxes` of shape [K, 4], and `scores` and `labels` of shape [K]
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// Write the network's feature maps instead of its output: the last map of every stride, named after its
    /// module
    #[arg(long)]
    features: bool,

    /// Also write every layer's output, named after its module
    #[arg(long)]
    taps: bool,

    #[command(flatten)]
    engine: Engine,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Run {
    pub fn run(&self) -> Result<String> {
        let input = Source::open(&self.input)?;
        let network = self.weights.open()?;
        let dims = input.dims()?;
        let shape = Shape::of(dims).with_context(|| format!("{}: tensor input", self.input.display()))?;
        if shape.c != network.channels {
            bail!(
                "{}: tensor input: the network takes {} channels, the tensor has {}",
                self.input.display(),
                network.channels,
                shape.c
            );
        }
        let size_warning = network.size_warning([shape.h, shape.w]);
        if let Some(size_warning) = size_warning.filter(|text| !network.warnings.contains(text)) {
            log::warn!("{size_warning}");
        }
        let outputs = match network.task {
            _ if self.features => Outputs::Features,
            Task::Detect(_) => Outputs::Boxes,
            _ => Outputs::Scores,
        };
        let named = || self.output.display().to_string();
        let read = network.files.iter().chain([&self.input]).collect();
        let target = Target::sparing(&self.output, &read).with_context(named)?;
        let format = match target {
            // A pipe or a device needs no file extension.
            Target::Stream(_) => Format::of(&self.output).unwrap_or(Format::Safetensors),
            Target::File(_) => Format::of(&self.output)?,
        };
        let several = self.taps || outputs == Outputs::Boxes || (self.features && network.features.len() > 1);
        if format == Format::Npy && several {
            bail!("{}: a .npy file holds one tensor, and there are several: write .safetensors", named());
        }
        let device = self.engine.open()?;

        let options = Options {
            batch: shape.n,
            size: Some([shape.h, shape.w]),
            outputs,
            taps: self.taps,
            ..self.engine.options()
        };
        // Before the values are read: an input that is too large to run may not fit in memory.
        let begun = Instant::now();
        let mut session = session(&device, &network, options)?;
        let input = input.tensor()?;
        let start = Instant::now();
        let tensors = session.run_all(&input)?;
        let time = start.elapsed();
        let first = begun.elapsed();
        let hint = match session.element() {
            Element::F32 => "",
            Element::F16 => "; the largest f16 value is 65504: try --precision f32",
        };
        let non_finite = tensors.iter().flat_map(|tensor| tensor.data()).copied().find(|v| !v.is_finite());
        let outputs: Vec<Values> = match (&network.task, outputs) {
            (Task::Detect(detector), Outputs::Boxes) => detections(&tensors[0], &tensors[1], detector)
                .with_context(|| format!("{}{hint}", self.input.display()))?,
            _ => session.outputs().iter().zip(tensors).map(|((name, _), t)| Values::of(name, t)).collect(),
        };
        if let Some(value) = non_finite {
            log::warn!("the output is not finite: it contains {value}{hint}");
        }
        let taps = session.taps()?;
        let layers = taps.len();
        // A layer that is also an output is written once.
        let taps = taps.into_iter().filter(|(name, _)| outputs.iter().all(|part| part.name != *name));
        let taps: Vec<Values> = taps.map(|(name, tensor)| Values::of(&name, tensor)).collect();
        let bytes = match (format, &outputs[..]) {
            (Format::Npy, [Values { dims, data: Data::Floats(values), .. }]) => {
                Npy::encode(&Tensor::new(dims.clone(), values.clone())?)
            }
            _ => encode(taps.iter().chain(&outputs))?,
        };
        target.write(&bytes).with_context(named)?;
        let listed: Vec<_> =
            outputs.iter().map(|part| json!({ "name": part.name, "shape": part.dims })).collect();

        if self.json {
            return json(&json!({
                "network": network.arch,
                "adapter": common::device(&device),
                "input": input.dims(),
                "output": outputs[0].dims,
                "outputs": listed,
                "features": self.features.then_some(&network.features),
                "precision": session.element(),
                "scores": network.scores,
                "tensors": taps.len() + outputs.len(),
                "file": self.output.display().to_string(),
                "wall_ms": 1e3 * time.as_secs_f64(),
                "first_ms": 1e3 * first.as_secs_f64(),
                "startup": startup(session.startup()),
            }));
        }
        let parts: Vec<String> =
            outputs.iter().map(|part| format!("{} {:?}", part.name, part.dims)).collect();
        Ok(format!(
            "{}: {}{} by {} on {}, {}\n",
            common::file(&self.output),
            parts.join(", "),
            if self.taps { format!(" and {layers} layers") } else { String::new() },
            network.arch,
            device,
            milliseconds(time)
        ))
    }
}

/// A file format of tensors.
#[derive(Clone, Copy, PartialEq)]
enum Format {
    Npy,
    Safetensors,
}

impl Format {
    /// The format of a file, by its extension.
    fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        match extension.as_deref().and_then(OsStr::to_str) {
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::Safetensors),
            _ => bail!("{}: expected the name of a .safetensors or a .npy file", path.display()),
        }
    }
}

/// The opened input file; its values are not read yet.
enum Source<'a> {
    Npy(Npy),
    Safetensors(&'a Path, Checkpoint),
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        // Report a missing file, or a folder, before a wrong extension.
        files::open(path)?;
        Ok(match Format::of(path)? {
            Format::Npy => Self::Npy(Npy::open(path)?),
            // Not opened as a checkpoint: a config.json next to it is ignored.
            Format::Safetensors => Self::Safetensors(path, Checkpoint::open_file(path)?),
        })
    }

    fn dims(&self) -> Result<&[usize]> {
        match self {
            Self::Npy(array) => Ok(array.dims()),
            Self::Safetensors(path, file) => {
                file.shape("input").with_context(|| format!("{}: tensor input is missing", path.display()))
            }
        }
    }

    fn tensor(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Npy(array) => array.tensor()?,
            Self::Safetensors(_, file) => {
                let dims: Vec<_> = self.dims()?.iter().copied().map(Some).collect();
                file.tensor("input", &dims)?
            }
        })
    }
}

/// A tensor to write.
struct Values {
    name: String,
    dims: Vec<usize>,
    data: Data,
}

enum Data {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

impl Values {
    fn of(name: &str, tensor: Tensor) -> Self {
        let dims = tensor.dims().to_vec();
        Self { name: name.into(), dims, data: Data::Floats(tensor.into_data()) }
    }

    fn integers(name: &str, values: Vec<i64>) -> Self {
        Self { name: name.into(), dims: vec![values.len()], data: Data::Integers(values) }
    }

    fn view(&self) -> Result<TensorView<'_>> {
        let (kind, bytes) = match &self.data {
            Data::Floats(values) => (Dtype::F32, bytemuck::cast_slice(values)),
            Data::Integers(values) => (Dtype::I64, bytemuck::cast_slice(values)),
        };
        Ok(TensorView::new(kind, self.dims.clone(), bytes)?)
    }
}

/// The boxes of a detector, in pixels of the input, picture by picture. For a batch, `pictures` holds the
/// index of each box's picture.
fn detections(candidates: &Tensor, boxes: &Tensor, detector: &Detector) -> Result<Vec<Values>> {
    let pictures = tasks::decode_boxes(candidates, boxes, detector)?;
    let all: Vec<&Candidate> = pictures.iter().flatten().collect();
    let corners = all.iter().flat_map(|c| [c.bounds.left, c.bounds.top, c.bounds.right, c.bounds.bottom]);
    let mut values = vec![
        Values::of("boxes", Tensor::new([all.len(), 4], corners.collect())?),
        Values::of("scores", Tensor::new([all.len()], all.iter().map(|c| c.score).collect())?),
        Values::integers("labels", all.iter().map(|c| c.class as i64).collect()),
    ];
    if pictures.len() > 1 {
        let of = pictures.iter().enumerate();
        let of = of.flat_map(|(at, found)| std::iter::repeat_n(at as i64, found.len()));
        values.push(Values::integers("pictures", of.collect()));
    }
    Ok(values)
}

/// Encodes tensors as a .safetensors file.
fn encode<'a>(tensors: impl Iterator<Item = &'a Values>) -> Result<Vec<u8>> {
    let views = tensors.map(|tensor| Ok((&tensor.name, tensor.view()?))).collect::<Result<Vec<_>>>()?;
    Ok(safetensors::serialize(views, None)?)
}
