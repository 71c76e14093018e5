//! `goldcrest classify`

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use goldcrest::{
    Tensor,
    session::{Options, Session},
    tasks::{Class, Picture, preprocess, top},
    zoo::{Network, Scores, Task},
};
use serde::Serialize;
use web_time::Instant;

use super::common::{self, Engine, Weights, json, milliseconds, progress, session};

#[derive(Args)]
pub struct Classify {
    /// JPEG or PNG files
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,

    #[command(flatten)]
    weights: Weights,

    /// How many classes to show
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,

    /// Class names: a text file, a line each, or JSON
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Pictures in a run
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,

    #[command(flatten)]
    engine: Engine,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    file: String,
    scores: Scores,
    classes: Vec<Class>,
}

impl Classify {
    pub fn run(&self) -> Result<String> {
        let network = self.weights.open()?;
        let gives = network.preprocessing.colours.channels();
        if network.channels != gives {
            bail!(
                "{} takes {} channels, a picture gives {gives}: `goldcrest run` takes tensors",
                network.arch,
                network.channels
            );
        }
        if network.task != Task::Classify {
            bail!("{} {}: classify wants one that classifies", network.arch, network.task);
        }
        let labels = common::labels(self.labels.as_deref(), &network)?;
        for image in &self.images {
            // The last of a thousand is missing: better told before the others are run.
            fs::File::open(image).with_context(|| image.display().to_string())?;
        }
        let device = self.engine.open()?;

        let mut answers = Vec::new();
        let mut latest: Option<Session> = None;
        let start = Instant::now();
        let bar = progress("classifying");
        bar.set_length(self.images.len() as u64);
        for files in self.images.chunks(self.batch as usize) {
            let options = Options {
                batch: files.len(),
                fuse: self.engine.fuse(),
                precision: self.engine.precision(),
                ..Options::default()
            };
            let shape = options.input_shape(&network);
            // Grows as it is filled: a configuration may ask for more than there is.
            let mut values = Vec::new();
            for file in files {
                values.extend(input(file, &network)?.into_data());
            }
            // The last chunk may be shorter: a second session then.
            let mut session = match latest.take().filter(|ready| ready.input_shape() == shape) {
                Some(ready) => ready,
                None => bar.suspend(|| session(&device, &network, options))?,
            };
            let logits = session.run(&Tensor::new(<[usize; 4]>::from(shape), values)?)?;
            for (file, logits) in files.iter().zip(logits.data().chunks_exact(network.classes)) {
                let file = file.display().to_string();
                let scores = network.scores;
                let classes =
                    top(logits, self.top as usize, &labels, scores).with_context(|| file.clone())?;
                answers.push(Answer { file, scores, classes });
            }
            bar.inc(files.len() as u64);
            latest = Some(session);
        }
        drop(bar);
        if self.json {
            return json(&answers);
        }
        let mut text = String::new();
        for answer in &answers {
            writeln!(text, "{}", answer.file)?;
            for class in &answer.classes {
                let named = common::class(class.index, class.label.as_deref());
                match class.probability {
                    Some(probability) => writeln!(text, "  {:5.1}%  {named}", 100.0 * probability)?,
                    None => writeln!(text, "  {:8.4}  {named}", class.value)?,
                }
            }
        }
        writeln!(text, "{} on {}, {} in all", network.arch, device, milliseconds(start.elapsed()))?;
        Ok(text)
    }
}

/// A picture as the network wants it; an error names the file.
fn input(file: &Path, network: &Network) -> Result<Tensor> {
    let picture = Picture::open(file)?;
    preprocess(&picture, &network.preprocessing).with_context(|| file.display().to_string())
}
