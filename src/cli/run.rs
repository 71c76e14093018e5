//! `goldcrest run`

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use goldcrest::{Tensor, session::Options, zoo::Checkpoint};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::common::{Engine, Weights, json, milliseconds, session};

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    weights: Weights,

    /// A .safetensors file with `input`, [N, 3, H, W], already normalised
    #[arg(long, value_name = "FILE")]
    input: PathBuf,

    /// The .safetensors file to write, with `output`, [N, classes]
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// Write every layer's output too, under its module's name
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
        let network = self.weights.open()?;
        let input = self.read_input()?;
        let shape = input.shape().with_context(|| self.input.display().to_string())?;
        let target = Target::new(&self.output)?;
        let gpu = self.engine.open()?;

        let options = Options { batch: shape.n, size: Some([shape.h, shape.w]), taps: self.taps };
        if shape.c != network.channels {
            bail!(
                "{}: tensor input: the network takes {} channels, it has {}",
                self.input.display(),
                network.channels,
                shape.c
            );
        }
        let mut session = session(&gpu, &network, options)?;
        let start = Instant::now();
        let output = session.run(&input)?;
        let time = start.elapsed();
        let mut tensors = session.taps()?;
        let dims = output.dims().to_vec();
        tensors.push(("output".into(), output));
        target.write(&encode(&tensors)?)?;

        if self.json {
            return json(&json!({
                "network": network.arch,
                "adapter": gpu.adapter(),
                "input": input.dims(),
                "output": dims,
                "tensors": tensors.len(),
                "file": self.output,
                "wall_ms": 1e3 * time.as_secs_f64(),
            }));
        }
        Ok(format!(
            "{}: output {dims:?}{} by {} on {}, {}\n",
            self.output.display(),
            if self.taps { format!(" and {} layers", tensors.len() - 1) } else { String::new() },
            network.arch,
            gpu.adapter(),
            milliseconds(time)
        ))
    }

    fn read_input(&self) -> Result<Tensor> {
        let file = Checkpoint::open(&self.input)?;
        let dims: Vec<Option<usize>> =
            file.shape("input").map(|dims| dims.iter().map(|&d| Some(d)).collect()).unwrap_or_default();
        Ok(file.tensor("input", &dims)?)
    }
}

/// Tensors as the bytes of a .safetensors file.
fn encode(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let views = tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice(tensor.data());
            Ok((name.as_str(), TensorView::new(Dtype::F32, tensor.dims().to_vec(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(safetensors::serialize(views, None)?)
}

/// A file that appears whole or not at all.
enum Target<'a> {
    /// Written beside its place and then moved there.
    File(tempfile::NamedTempFile, &'a Path),
    /// A pipe or a device, which must not be replaced.
    Stream(&'a Path),
}

impl<'a> Target<'a> {
    /// Fails now if the file could not be written later.
    fn new(path: &'a Path) -> Result<Self> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => bail!("{}: is a folder", path.display()),
            Ok(found) if !found.is_file() => Ok(Self::Stream(path)),
            _ => {
                let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let mut builder = tempfile::Builder::new();
                builder.prefix(".goldcrest-");
                #[cfg(unix)]
                builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
                // The kind alone: the temporary name would only confuse.
                let file = builder.tempfile_in(folder).map_err(|e| std::io::Error::from(e.kind()));
                Ok(Self::File(file.with_context(|| path.display().to_string())?, path))
            }
        }
    }

    fn write(self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::File(file, path) => {
                fs::write(file.path(), bytes).with_context(|| path.display().to_string())?;
                file.persist(path).map_err(|e| e.error).with_context(|| path.display().to_string())?;
            }
            Self::Stream(path) => {
                fs::write(path, bytes).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }
}
