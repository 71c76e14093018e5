//! `goldcrest segment`

use std::{fmt::Write, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use goldcrest::{
    session::Options,
    tasks::{Picture, overlay},
    zoo::Task,
};
use serde_json::json;
use web_time::Instant;

use super::{
    common::{self, Engine, Weights, json, milliseconds, session_for_pictures},
    target::Target,
};

#[derive(Args)]
pub struct Segment {
    /// A JPEG or PNG file
    #[arg(value_name = "IMAGE")]
    image: PathBuf,

    #[command(flatten)]
    weights: Weights,

    /// A PNG file to write: the picture under its classes' colours, and a legend
    #[arg(long, value_name = "FILE", value_parser = common::png)]
    out: Option<PathBuf>,

    /// A PNG file to write: each pixel's class as its palette index
    #[arg(long, value_name = "FILE", value_parser = common::png)]
    mask: Option<PathBuf>,

    /// Class names: a text file, a line each, or JSON
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Rows and columns that the network sees, if not those of its own preprocessing
    #[arg(long, value_name = "HxW", value_parser = common::size)]
    size: Option<[usize; 2]>,

    #[command(flatten)]
    engine: Engine,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Segment {
    pub fn run(&self) -> Result<String> {
        let network = self.weights.open()?;
        if !matches!(network.task, Task::Segment { .. }) {
            bail!("{} {}: segment wants one that labels pixels", network.arch, network.task);
        }
        let labels = common::labels(self.labels.as_deref(), &network)?;
        let picture = Picture::open(&self.image)?;
        let target = |path: &PathBuf| Target::new(path).with_context(|| path.display().to_string());
        let out = self.out.as_ref().map(target).transpose()?;
        let mask = self.mask.as_ref().map(target).transpose()?;
        if let (Some(out), Some(mask)) = (&out, &mask)
            && out.is(mask)
        {
            bail!("--out and --mask are one file");
        }
        let device = self.engine.open()?;

        let start = Instant::now();
        let options = Options {
            size: self.size,
            fuse: self.engine.fuse(),
            precision: self.engine.precision(),
            ..Options::default()
        };
        let name = || self.image.display().to_string();
        let mut session = session_for_pictures(&device, &network, (&self.image, &picture), options)?;
        let begun = Instant::now();
        let segmentation = session.segment(&picture).with_context(name)?;
        let time = begun.elapsed();
        let shares = segmentation.shares(&labels);
        let mut files = Vec::new();
        if let (Some(target), Some(path)) = (out, &self.out) {
            let drawn = overlay(&picture, &segmentation, &labels).and_then(|drawn| drawn.png());
            files.push((target, path, drawn.with_context(name)?));
        }
        if let (Some(target), Some(path)) = (mask, &self.mask) {
            files.push((target, path, segmentation.png().with_context(name)?));
        }
        // None before all are made.
        for (target, path, bytes) in files {
            target.write(&bytes).with_context(|| path.display().to_string())?;
        }

        if self.json {
            return json(&json!({
                "file": name(),
                "network": network.arch,
                "adapter": common::device(&device),
                "precision": session.element(),
                "width": picture.width(),
                "height": picture.height(),
                "input": session.input_shape(),
                "scores": network.scores,
                "classes": shares,
                "overlay": self.out,
                "mask": self.mask,
                "wall_ms": 1e3 * time.as_secs_f64(),
                "startup": common::startup(session.startup()),
            }));
        }
        let mut text = format!("{}\n", name());
        for share in &shares {
            let class = common::class(share.index, share.label.as_deref());
            writeln!(text, "  {:5.1}%  {class}", 100.0 * share.share)?;
        }
        writeln!(text, "{} on {}, {} in all", network.arch, device, milliseconds(start.elapsed()))?;
        Ok(text)
    }
}
