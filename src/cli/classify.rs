//! `goldcrest classify`

use std::{fmt::Write, path::PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use goldcrest::{
    feed::{Prediction, Subject},
    session::Options,
    tasks::Class,
    zoo::{Network, Task},
};
use serde_json::{Map, json};

use super::{
    common::{self, Engine, Weights},
    pictures::{Description, Evaluation, Job, Pictures},
    truth::Classes,
};

#[derive(Args)]
pub struct Classify {
    #[command(flatten)]
    pictures: Pictures,

    #[command(flatten)]
    weights: Weights,

    /// Number of classes to show per picture, the most likely first
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,

    /// Class names: a text file with one name per line, or JSON
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Ground truth: a CSV file of pictures and classes, by name or index, or a folder with one subfolder per
    /// class, named after it
    #[arg(long, value_name = "CSV|FOLDER")]
    truth: Option<PathBuf>,

    /// Batch size on a GPU; on the CPU each thread runs one picture
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,

    #[command(flatten)]
    engine: Engine,
}

impl Classify {
    pub fn run(&self) -> Result<()> {
        let network = self.weights.open()?;
        if !matches!(network.task, Task::Classify) {
            bail!("{} {}: classify needs a network that classifies pictures", network.arch, network.task);
        }
        let labels = common::labels(self.labels.as_deref(), &network)?;
        let truth =
            self.truth.as_deref().map(|path| Classes::open(path, &labels, network.classes)).transpose()?;
        // The top-5 accuracy needs five classes.
        let shown = self.top as usize;
        let top = if truth.is_some() { shown.max(5) } else { shown };
        let device = self.engine.open()?;
        let options = Options { batch: self.batch as usize, ..self.engine.options() };
        let job = Job {
            network: &network,
            device: &device,
            options,
            labels,
            top,
            doing: "classifying",
            columns: &["rank", "index", "label", "probability", "value"],
        };
        let evaluation = truth.map(|truth| Box::new(truth) as Box<dyn Evaluation>);
        let describe = |_: &Subject, prediction: &Prediction| match prediction {
            Prediction::Classes(classes) => Ok(described(&classes[..shown.min(classes.len())], &network)),
            _ => bail!("the result is not a list of classes"),
        };
        let gathered = self.pictures.gather(&network, [], false);
        self.pictures.process(gathered, &job, describe, &[], evaluation)
    }
}

fn described(classes: &[Class], network: &Network) -> Description {
    let mut text = String::new();
    let mut rows = Vec::new();
    for (rank, class) in classes.iter().enumerate() {
        let named = common::class(class.index, class.label.as_deref());
        // Writing into a string does not fail.
        let _ = match class.probability {
            Some(probability) => writeln!(text, "  {:5.1}%  {named}", 100.0 * probability),
            None => writeln!(text, "  {:8.4}  {named}", class.value),
        };
        let probability = class.probability.map(|probability| probability.to_string());
        rows.push(vec![
            (rank + 1).to_string(),
            class.index.to_string(),
            class.label.clone().unwrap_or_default(),
            probability.unwrap_or_default(),
            class.value.to_string(),
        ]);
    }
    let fields = [("scores".into(), json!(network.scores)), ("classes".into(), json!(classes))];
    Description { fields: Map::from_iter(fields), text, rows }
}
