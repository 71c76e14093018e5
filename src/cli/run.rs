//! `goldcrest run`

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use goldcrest::{Shape, Tensor, session::Options, tensor::Element, zoo::Checkpoint};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::{
    common::{self, Engine, Weights, json, milliseconds, session, startup},
    target::Target,
};

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
        // Not as a checkpoint: a config.json that happens to lie beside it plays no part.
        let file = Checkpoint::open_file(&self.input)?;
        let missing = || format!("{}: tensor input: is missing", self.input.display());
        let dims = file.shape("input").with_context(missing)?;
        let shape = Shape::of(dims).with_context(|| self.input.display().to_string())?;
        if shape.c != network.channels {
            bail!(
                "{}: tensor input: the network takes {} channels, it has {}",
                self.input.display(),
                network.channels,
                shape.c
            );
        }
        let target = Target::new(&self.output).with_context(|| self.output.display().to_string())?;
        let device = self.engine.open()?;

        let options = Options {
            batch: shape.n,
            size: Some([shape.h, shape.w]),
            fuse: self.engine.fuse(),
            precision: self.engine.precision(),
            taps: self.taps,
            ..Options::default()
        };
        // Before its values are read: what is too large to run may be too large to hold.
        let begun = Instant::now();
        let mut session = session(&device, &network, options)?;
        let input = file.tensor("input", &dims.iter().copied().map(Some).collect::<Vec<_>>())?;
        let start = Instant::now();
        let output = session.run(&input)?;
        let time = start.elapsed();
        let first = begun.elapsed();
        let mut tensors = session.taps()?;
        let dims = output.dims().to_vec();
        if let Some(odd) = output.data().iter().find(|v| !v.is_finite()) {
            let hint = match session.element() {
                Element::F32 => "",
                Element::F16 => "; f16 ends at 65504, f32 may do",
            };
            log::warn!("the output is not finite: it holds {odd}{hint}");
        }
        tensors.push(("output".into(), output));
        target.write(&encode(&tensors)?).with_context(|| self.output.display().to_string())?;

        if self.json {
            return json(&json!({
                "network": network.arch,
                "adapter": common::device(&device),
                "input": input.dims(),
                "output": dims,
                "precision": session.element(),
                "tensors": tensors.len(),
                "file": self.output.display().to_string(),
                "wall_ms": 1e3 * time.as_secs_f64(),
                "first_ms": 1e3 * first.as_secs_f64(),
                "startup": startup(session.startup()),
            }));
        }
        Ok(format!(
            "{}: output {dims:?}{} by {} on {}, {}\n",
            self.output.display(),
            if self.taps { format!(" and {} layers", tensors.len() - 1) } else { String::new() },
            network.arch,
            device,
            milliseconds(time)
        ))
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
