//! `goldcrest choose`

mod answers;
mod picture;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{
    Args, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use globset::{Glob, GlobSet, GlobSetBuilder};
use goldcrest::{
    quantize::Precision,
    search::{self, Catalogue, Depth, Limits, Published},
    session::Device,
};

use super::{
    common::{NOTE, progress},
    devices::{self, Devices},
    plot,
    target::Target,
};

#[derive(Args)]
#[command(
    after_help = "Accuracies are those that were published, of f32; times are measured here, from a tensor to \
    the answer, with seeded weights. Without limits the knee of the front is recommended. Where nothing keeps to the limits, \
    what comes nearest is named and nothing recommended; that is an answer, and the exit status 0."
)]
pub struct Choose {
    /// The longest that a picture may take in the median, such as 4ms or 0.5s
    #[arg(long, value_name = "TIME", value_parser = search::milliseconds)]
    within: Option<f64>,

    /// The same as pictures a second
    #[arg(long, value_name = "RATE", value_parser = devices::rate, conflicts_with = "within")]
    fps: Option<f64>,

    /// The least published accuracy, in percent
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    min_accuracy: Option<f64>,

    /// The most that maps and weights may take on the device, such as 64MB or 64MiB
    #[arg(long, value_name = "SIZE", value_parser = search::bytes)]
    memory: Option<u64>,

    /// The largest file of weights, such as 10MB
    #[arg(long, value_name = "SIZE", value_parser = search::bytes)]
    download: Option<u64>,

    /// What networks are for
    #[arg(long, value_enum, default_value = "classify")]
    task: Task,

    /// Networks whose names match, such as 'mobilenet_v3*' or 'timm/*'; all of them otherwise
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<String>,

    /// What maps and weights are stored as; f32, and f16 on adapters that have it, if nothing is said. What accuracy
    /// 8 bits cost is not known without pictures: they have f32's, and take part only if they are named
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    precision: Vec<Stored>,

    #[command(flatten)]
    devices: Devices,

    /// Measure everything, and longer, whatever a bound on its time says
    #[arg(long)]
    thorough: bool,

    /// Draw accuracy over time: a .svg, .png or .html file
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().try_map(plot::name))]
    plot: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What networks are for, by the command that runs them.
#[derive(Clone, Copy, ValueEnum)]
enum Task {
    /// Classes of whole pictures
    Classify,
    /// A class for each pixel
    Segment,
    /// Boxes
    Detect,
}

/// What maps and weights are stored as.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stored {
    /// 32 bits
    F32,
    /// 16 bits, on adapters that have them in shaders
    F16,
    /// 8 bits
    Int8,
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
    percent.ok_or_else(|| "expected a percentage from 0 to 100, such as 75".into())
}

impl Choose {
    pub fn run(&self) -> Result<String> {
        let catalogue = Catalogue::new()?;
        let networks = self.networks(&catalogue)?;
        let limits = Limits {
            within_ms: self.within.or(self.fps.map(|rate| 1e3 / rate)),
            accuracy: self.min_accuracy,
            memory: self.memory,
            download: self.download,
        };
        // Told before a minute is spent.
        let target = self.plot.as_deref().map(|path| Ok::<_, anyhow::Error>((path, Target::new(path)?)));
        let target = target.transpose().context("--plot")?;
        let devices = self.devices.open()?;
        let names: Vec<String> = devices.iter().map(Device::to_string).collect();
        log::info!(target: NOTE, "choosing on {}", names.join(" and "));
        let depth = if self.thorough { Depth::Thorough } else { Depth::Quick };

        let bar = progress("choosing");
        let choice = search::choose(&devices, &networks, &self.precisions(), &limits, depth, |told| {
            bar.set_length(told.of as u64);
            bar.set_position(told.done as u64);
            bar.set_message(told.what);
        })?;
        drop(bar);
        for failure in &choice.failures {
            log::warn!("{} is not measured: {}", failure.what, failure.reason);
        }
        if choice.front.rows().next().is_none() {
            bail!("nothing could be measured");
        }
        if let Some((path, target)) = target {
            let drawn = picture::draw(path, &choice, &limits)?;
            target.write(&drawn).with_context(|| path.display().to_string())?;
        }
        match self.json {
            true => answers::json(&choice, &limits, &|row| self.devices.flags(row.backend)),
            false => Ok(answers::words(&choice, &limits, &|row| self.devices.flags(row.backend))?),
        }
    }

    /// Of the networks that are for the task and go by one of the names the best training of each.
    fn networks<'a>(&self, catalogue: &'a Catalogue) -> Result<Vec<&'a Published>> {
        let mut names = GlobSetBuilder::new();
        for name in &self.only {
            names.add(Glob::new(name).with_context(|| format!("--only {name}"))?);
        }
        let names: GlobSet = names.build()?;
        let task = self.task.to_possible_value().map(|task| task.get_name().to_owned()).unwrap_or_default();
        let is_of_task = |network: &Published| network.metric.task() == task;
        // With and without the library, with and without the training.
        let goes_by = |name: &str| {
            let bare = name.split_once('/').map_or(name, |(_, bare)| bare);
            names.is_match(name) || names.is_match(bare)
        };
        let networks = catalogue.best(|network| {
            let named = || goes_by(&network.to_string()) || goes_by(&network.network);
            is_of_task(network) && (self.only.is_empty() || named())
        });
        if !networks.is_empty() {
            return Ok(networks);
        }
        let only = self.only.join(",");
        let untrained = |name: &str| name.split_once('.').is_some_and(|(name, _)| goes_by(name));
        if let Some((name, why)) =
            catalogue.left_out.iter().find(|(name, _)| goes_by(name) || untrained(name))
        {
            bail!("--only {only}: {name} {why}");
        }
        let mut known: Vec<&str> =
            catalogue.best(is_of_task).into_iter().map(|n| n.network.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        bail!("--only {only}: no published network is called so; known are {}", known.join(", "))
    }

    fn precisions(&self) -> Vec<Precision> {
        let asked: &[Stored] =
            if self.precision.is_empty() { &[Stored::F32, Stored::F16] } else { &self.precision };
        let mut precisions = Vec::new();
        for stored in asked {
            let precision = match stored {
                Stored::F32 => Precision::F32,
                Stored::F16 => Precision::F16,
                Stored::Int8 => Precision::Int8,
            };
            if !precisions.contains(&precision) {
                precisions.push(precision);
            }
        }
        precisions
    }
}
