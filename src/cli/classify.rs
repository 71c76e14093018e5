//! `goldcrest classify`

use std::{fmt::Write, path::PathBuf, time::Instant};

use anyhow::Result;
use clap::Args;
use goldcrest::{
    session::Options,
    tasks::{Class, Labels, Picture, preprocess_batch, top},
    zoo::Network,
};
use serde::Serialize;

use super::common::{Engine, Weights, json, milliseconds, progress, session};

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
    classes: Vec<Class>,
}

impl Classify {
    pub fn run(&self) -> Result<String> {
        let network = self.weights.open()?;
        let labels = self.labels(&network)?;
        let gpu = self.engine.open()?;

        let mut answers = Vec::new();
        let mut sessions = Vec::new();
        let start = Instant::now();
        let bar = progress("classifying");
        bar.set_length(self.images.len() as u64);
        for files in self.images.chunks(self.batch as usize) {
            let pictures = files.iter().map(Picture::open).collect::<goldcrest::Result<Vec<_>>>()?;
            let input = preprocess_batch(&pictures, &network.preprocessing)?;
            // The last chunk may be shorter: a second session then.
            if sessions.last().is_none_or(|(batch, _)| *batch != files.len()) {
                let options = Options { batch: files.len(), ..Options::default() };
                sessions.push((files.len(), session(&gpu, &network, options)?));
            }
            let Some((_, session)) = sessions.last_mut() else { continue };
            let logits = session.run(&input)?;
            for (file, logits) in files.iter().zip(logits.data().chunks_exact(network.classes)) {
                let classes = top(logits, self.top as usize, &labels)?;
                answers.push(Answer { file: file.display().to_string(), classes });
            }
            bar.inc(files.len() as u64);
        }
        bar.finish_and_clear();
        if self.json {
            return json(&answers);
        }
        let mut text = String::new();
        for answer in &answers {
            writeln!(text, "{}", answer.file)?;
            for class in &answer.classes {
                let percent = 100.0 * class.probability;
                match &class.label {
                    Some(label) => writeln!(text, "  {percent:5.1}%  {label} ({})", class.index)?,
                    None => writeln!(text, "  {percent:5.1}%  class {}", class.index)?,
                }
            }
        }
        writeln!(text, "{} on {}, {} in all", network.arch, gpu.adapter(), milliseconds(start.elapsed()))?;
        Ok(text)
    }

    /// The names that the user gave, or the checkpoint, or ImageNet's if the count fits.
    fn labels(&self, network: &Network) -> Result<Labels> {
        let labels = match (&self.labels, &network.labels) {
            (Some(path), _) => Labels::open(path)?,
            (None, Some(names)) => Labels::from(names.clone()),
            (None, None) => Labels::for_count(network.classes),
        };
        labels.check(network.classes)?;
        Ok(labels)
    }
}
