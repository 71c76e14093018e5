//! `goldcrest detect`

use std::{fmt::Write, path::PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use goldcrest::{
    feed::{Prediction, Subject},
    tasks::{Detection, Picture, draw},
    zoo::Task,
};
use serde_json::{Map, json};

use super::{
    common::{self, Engine, Weights},
    pictures::{Description, Drawn, Evaluation, Job, Pictures, Place, Saving},
    truth::Boxes,
};

#[derive(Args)]
pub struct Detect {
    #[command(flatten)]
    pictures: Pictures,

    #[command(flatten)]
    weights: Weights,

    /// Destination of the pictures with their boxes, labels and scores drawn: a .png or .jpg file, a
    /// folder, a pattern such as 'out/{stem}-boxes.jpg', or - for frames on standard output
    #[arg(long, value_name = "PATH", value_parser = Place::drawings())]
    out: Option<Place>,

    /// Minimum score of a box, from 0 to 1
    #[arg(long, default_value_t = 0.5, value_parser = fraction)]
    score: f32,

    /// Class names: a text file with one name per line, or JSON
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Ground truth: a JSON file in COCO format. --score does not affect the mean average precision
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,

    #[command(flatten)]
    engine: Engine,
}

impl Detect {
    pub fn run(&self) -> Result<()> {
        let network = self.weights.open()?;
        if !matches!(network.task, Task::Detect(_)) {
            bail!("{} {}: detect needs a network that finds boxes", network.arch, network.task);
        }
        let labels = common::labels(self.labels.as_deref(), &network)?;
        let truth = self.truth.as_deref().map(|path| Boxes::open(path, &labels)).transpose()?;
        let device = self.engine.open()?;
        let options = self.engine.options();
        let confident = |prediction: &Prediction| match prediction {
            Prediction::Boxes(found) => {
                Ok(found.iter().filter(|found| found.score >= self.score).cloned().collect())
            }
            _ => bail!("the result is not a list of boxes"),
        };
        let drawn = |picture: &Picture, prediction: &Prediction| {
            let found: Vec<Detection> = confident(prediction)?;
            Ok(Drawn::Picture(draw(picture, &found)))
        };
        let out =
            self.out.as_ref().map(|place| Saving { option: "--out", key: "overlay", place, draws: &drawn });
        let job = Job {
            network: &network,
            device: &device,
            options,
            labels,
            top: 1,
            doing: "detecting",
            columns: &["index", "label", "score", "left", "top", "right", "bottom"],
        };
        let describe = |_: &Subject, prediction: &Prediction| Ok(self.described(&confident(prediction)?));
        let evaluation = truth.map(|truth| Box::new(truth) as Box<dyn Evaluation>);
        let read = [self.labels.as_ref(), self.truth.as_ref()];
        let writes = self.out.as_ref().is_some_and(Place::is_files);
        let gathered = self.pictures.gather(&network, read, writes);
        self.pictures.process(gathered, &job, describe, out.as_slice(), evaluation)
    }

    fn described(&self, found: &[Detection]) -> Description {
        let mut text = String::new();
        let mut rows = Vec::new();
        for detection @ Detection { index, label, score, bounds } in found {
            // Writing into a string does not fail.
            let _ = writeln!(text, "  {}", common::detection(detection));
            let numbers = [*score, bounds.left, bounds.top, bounds.right, bounds.bottom];
            let names = [index.to_string(), label.clone().unwrap_or_default()];
            rows.push(names.into_iter().chain(numbers.map(|number| number.to_string())).collect());
        }
        if found.is_empty() {
            let _ = writeln!(text, "  nothing with a score of {} or more", self.score);
        }
        Description { fields: Map::from_iter([("detections".into(), json!(found))]), text, rows }
    }
}

fn fraction(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(score) if (0.0..=1.0).contains(&score) => Ok(score),
        _ => Err("expected a number from 0 to 1".into()),
    }
}
