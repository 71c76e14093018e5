//! `goldcrest detect`

use std::{fmt::Write, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use goldcrest::{
    session::Options,
    tasks::{Detection, Labels, Picture, draw},
    zoo::Task,
};
use serde_json::json;
use web_time::Instant;

use super::{
    common::{self, Engine, Weights, json, milliseconds, session_for_pictures},
    target::Target,
};

#[derive(Args)]
pub struct Detect {
    /// A JPEG or PNG file
    #[arg(value_name = "IMAGE")]
    image: PathBuf,

    #[command(flatten)]
    weights: Weights,

    /// A PNG file to write: the picture with its boxes, their names and scores
    #[arg(long, value_name = "FILE", value_parser = common::png)]
    out: Option<PathBuf>,

    /// The least score of a box, 0 to 1
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    score: f32,

    /// Class names: a text file, a line each, or JSON
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    #[command(flatten)]
    engine: Engine,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Detect {
    pub fn run(&self) -> Result<String> {
        let network = self.weights.open()?;
        if !matches!(network.task, Task::Detect(_)) {
            bail!("{} {}: detect wants one that finds boxes", network.arch, network.task);
        }
        let labels = common::labels(self.labels.as_deref(), &network)?;
        let picture = Picture::open(&self.image)?;
        let target = |path: &PathBuf| Target::new(path).with_context(|| path.display().to_string());
        let out = self.out.as_ref().map(target).transpose()?;
        let device = self.engine.open()?;

        let start = Instant::now();
        let options =
            Options { fuse: self.engine.fuse(), precision: self.engine.precision(), ..Options::default() };
        let name = || self.image.display().to_string();
        let mut session = session_for_pictures(&device, &network, (&self.image, &picture), options)?;
        let begun = Instant::now();
        let found = session.detect(&picture).with_context(name)?;
        let time = begun.elapsed();
        let found = found.into_iter().filter(|detection| detection.score >= self.score);
        let found: Vec<Detection> = found.map(|detection| named(detection, &labels)).collect();
        if let (Some(target), Some(path)) = (out, &self.out) {
            let drawn = draw(&picture, &found).png().with_context(name)?;
            target.write(&drawn).with_context(|| path.display().to_string())?;
        }

        if self.json {
            return json(&json!({
                "file": name(),
                "network": network.arch,
                "adapter": common::device(&device),
                "precision": session.element(),
                "width": picture.width(),
                "height": picture.height(),
                "detections": found,
                "overlay": self.out,
                "wall_ms": 1e3 * time.as_secs_f64(),
                "startup": common::startup(session.startup()),
            }));
        }
        let mut text = format!("{}\n", name());
        for detection in &found {
            writeln!(text, "  {}", common::detection(detection))?;
        }
        if found.is_empty() {
            writeln!(text, "  nothing with a score of {} or more", self.score)?;
        }
        writeln!(text, "{} on {}, {} in all", network.arch, device, milliseconds(start.elapsed()))?;
        Ok(text)
    }
}

/// With the name that the user gave its class.
fn named(detection: Detection, labels: &Labels) -> Detection {
    Detection { label: labels.get(detection.index).map(str::to_owned), ..detection }
}

fn share(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(score) if (0.0..=1.0).contains(&score) => Ok(score),
        _ => Err("expected a number from 0 to 1".into()),
    }
}
