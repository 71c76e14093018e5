//! `goldcrest segment`

use std::{fmt::Write, path::PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use goldcrest::{
    Shape,
    feed::{Prediction, Subject},
    session::Options,
    tasks::{ClassArea, Picture, overlay, tint},
    zoo::Task,
};
use serde_json::{Map, json};

use super::{
    common::{self, Engine, Weights},
    pictures::{Description, Drawn, Evaluation, Job, Pictures, Place, Saving},
    truth::Masks,
};

#[derive(Args)]
pub struct Segment {
    #[command(flatten)]
    pictures: Pictures,

    #[command(flatten)]
    weights: Weights,

    /// Destination of the pictures overlaid with their classes' colours and a legend: a .png or .jpg file,
    /// a folder, a pattern such as 'out/{stem}-classes.jpg', or - for frames on standard output
    #[arg(long, value_name = "PATH", value_parser = Place::drawings())]
    out: Option<Place>,

    /// Destination of the label maps, as palette PNG files: a .png file, a folder or a pattern
    #[arg(long, value_name = "PATH", value_parser = Place::masks())]
    mask: Option<Place>,

    /// Class names: a text file with one name per line, or JSON
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Ground truth: a folder with one PNG mask per picture, of the same name, whose palette indices or grey
    /// levels are the classes; 255 is ignored
    #[arg(long, value_name = "FOLDER")]
    truth: Option<PathBuf>,

    /// Rows and columns of the network's input [default: as the network's preprocessing defines]
    #[arg(long, value_name = "HxW", value_parser = common::size)]
    size: Option<[usize; 2]>,

    #[command(flatten)]
    engine: Engine,
}

impl Segment {
    pub fn run(&self) -> Result<()> {
        let network = self.weights.open()?;
        if !matches!(network.task, Task::Segment { .. }) {
            bail!("{} {}: segment needs a network that labels pixels", network.arch, network.task);
        }
        let labels = common::labels(self.labels.as_deref(), &network)?;
        if self.mask == Some(Place::Stdout) {
            bail!("--mask -: only --out can go to standard output");
        }
        let truth = self
            .truth
            .as_deref()
            .map(|path| Masks::open(path, &labels, network.label_count()))
            .transpose()?;
        let device = self.engine.open()?;
        let options = Options { size: self.size, ..self.engine.options() };
        let video = self.out == Some(Place::Stdout);
        let draw = |picture: &Picture, prediction: &Prediction| match prediction {
            // The frames of a video have one size, so there is no legend.
            Prediction::Pixels(pixels) if video => Ok(Drawn::Picture(tint(picture, pixels)?)),
            Prediction::Pixels(pixels) => Ok(Drawn::Picture(overlay(picture, pixels, &labels)?)),
            _ => bail!("the result is not a label map"),
        };
        let mask = |_: &Picture, prediction: &Prediction| match prediction {
            Prediction::Pixels(pixels) => Ok(Drawn::Png(pixels.png()?)),
            _ => bail!("the result is not a label map"),
        };
        let out =
            self.out.as_ref().map(|place| Saving { option: "--out", key: "overlay", place, draws: &draw });
        let mask =
            self.mask.as_ref().map(|place| Saving { option: "--mask", key: "mask", place, draws: &mask });
        let savings: Vec<Saving> = out.into_iter().chain(mask).collect();
        let job = Job {
            network: &network,
            device: &device,
            options,
            labels: labels.clone(),
            top: 1,
            doing: "segmenting",
            columns: &["index", "label", "pixels", "share"],
        };
        let describe = |subject: &Subject, prediction: &Prediction| match prediction {
            Prediction::Pixels(pixels) => Ok(described(&pixels.areas(&labels), subject.input)),
            _ => bail!("the result is not a label map"),
        };
        let evaluation = truth.map(|truth| Box::new(truth) as Box<dyn Evaluation>);
        let read = [self.labels.as_ref(), self.truth.as_ref()];
        let writes = savings.iter().any(|saving| saving.place.is_files());
        let gathered = self.pictures.gather(&network, read, writes);
        self.pictures.process(gathered, &job, describe, &savings, evaluation)
    }
}

fn described(areas: &[ClassArea], input: Option<Shape>) -> Description {
    let mut text = String::new();
    let mut rows = Vec::new();
    for ClassArea { index, label, pixels, share } in areas {
        // Writing into a string does not fail.
        let _ = writeln!(text, "  {:5.1}%  {}", 100.0 * share, common::class(*index, label.as_deref()));
        let label = label.clone().unwrap_or_default();
        rows.push(vec![index.to_string(), label, pixels.to_string(), share.to_string()]);
    }
    let fields = [("input".into(), json!(input)), ("classes".into(), json!(areas))];
    Description { fields: Map::from_iter(fields), text, rows }
}
