//! `goldcrest choose`

mod output;
mod picture;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{
    Args, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use globset::{Glob, GlobSet, GlobSetBuilder};
use goldcrest::{
    quantize::StoredType,
    search::{self, Catalogue, Depth, Limits, Published},
    session::Device,
};

use super::{
    common::{NOTE, name_of, progress},
    devices::{self, Devices},
    plot,
    target::Target,
};

#[derive(Args)]
#[command(
    after_help = "Accuracies are the published ones, for f32. Times are measured on this machine, from input \
    tensor to output, with random weights. Without limits, the knee of the Pareto front is recommended. If no \
    network meets the limits, the nearest networks are listed and none is recommended; the exit status is still 0."
)]
pub struct Choose {
    /// Maximum median time per picture, such as 4ms or 0.5s
    #[arg(long, value_name = "TIME", value_parser = search::milliseconds)]
    within: Option<f64>,

    /// Minimum number of pictures per second, instead of --within
    #[arg(long, value_name = "RATE", value_parser = devices::rate, conflicts_with = "within")]
    fps: Option<f64>,

    /// Minimum published accuracy, in percent
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    min_accuracy: Option<f64>,

    /// Maximum memory of feature maps and weights on the device, such as 64MB or 64MiB
    #[arg(long, value_name = "SIZE", value_parser = search::bytes)]
    memory: Option<u64>,

    /// Maximum size of the weights file, such as 10MB
    #[arg(long, value_name = "SIZE", value_parser = search::bytes)]
    download: Option<u64>,

    /// Task of the networks
    #[arg(long, value_enum, default_value = "classify")]
    task: Task,

    /// Patterns of network names to consider, such as 'mobilenet_v3*' or 'timm/*' [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<String>,

    /// Storage types of feature maps and weights [default: f32, and f16 on adapters that support it]. The
    /// accuracy of int8 networks is not known, so they are listed only on request, with the accuracy of f32
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    precision: Vec<Stored>,

    #[command(flatten)]
    devices: Devices,

    /// Measure every network, even those that a lower bound on time would rule out, and spend longer on each
    #[arg(long)]
    thorough: bool,

    /// Plot of accuracy against time to write (.svg, .png or .html)
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().try_map(plot::name))]
    plot: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The task of networks, named after the command that runs them.
#[derive(Clone, Copy, ValueEnum)]
enum Task {
    /// Classification of pictures
    Classify,
    /// Classification of every pixel
    Segment,
    /// Detection of boxes
    Detect,
}

/// The storage type of feature maps and weights.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stored {
    /// 32-bit floating point
    F32,
    /// 16-bit floating point, on adapters whose shaders support it
    F16,
    /// 8-bit integers
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
        // Fail before the measurements, which take a minute.
        let target = self.plot.as_deref().map(|path| Ok::<_, anyhow::Error>((path, Target::new(path)?)));
        let target = target.transpose().context("--plot")?;
        let devices = self.devices.open()?;
        let names: Vec<String> = devices.iter().map(Device::to_string).collect();
        log::info!(target: NOTE, "choosing on {}", names.join(" and "));
        let depth = if self.thorough { Depth::Thorough } else { Depth::Quick };

        let bar = progress("choosing");
        let choice = search::choose(&devices, &networks, &self.precisions(), &limits, depth, |state| {
            bar.set_length(state.of as u64);
            bar.set_position(state.done as u64);
            bar.set_message(state.what);
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
            true => output::json(&choice, &limits, &|row| self.devices.flags(row.backend)),
            false => Ok(output::words(&choice, &limits, &|row| self.devices.flags(row.backend))?),
        }
    }

    /// For each network of the task whose name matches --only, the best published training.
    fn networks<'a>(&self, catalogue: &'a Catalogue) -> Result<Vec<&'a Published>> {
        let mut names = GlobSetBuilder::new();
        for name in &self.only {
            names.add(Glob::new(name).with_context(|| format!("--only {name}"))?);
        }
        let names: GlobSet = names.build()?;
        let task = name_of(&self.task);
        let is_of_task = |network: &Published| network.metric.task() == task;
        // Names match with and without the library, and with and without the training.
        let matches_only = |name: &str| {
            let bare = name.split_once('/').map_or(name, |(_, bare)| bare);
            names.is_match(name) || names.is_match(bare)
        };
        let networks = catalogue.best(|network| {
            let named = || matches_only(&network.to_string()) || matches_only(&network.network);
            is_of_task(network) && (self.only.is_empty() || named())
        });
        if !networks.is_empty() {
            return Ok(networks);
        }
        let only = self.only.join(",");
        let matches_untrained = |name: &str| name.split_once('.').is_some_and(|(name, _)| matches_only(name));
        if let Some((name, why)) =
            catalogue.left_out.iter().find(|(name, _)| matches_only(name) || matches_untrained(name))
        {
            bail!("--only {only}: {name} {why}");
        }
        let mut known: Vec<&str> =
            catalogue.best(is_of_task).into_iter().map(|n| n.network.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        bail!("--only {only}: no published network matches; known are {}", known.join(", "))
    }

    fn precisions(&self) -> Vec<StoredType> {
        let asked: &[Stored] =
            if self.precision.is_empty() { &[Stored::F32, Stored::F16] } else { &self.precision };
        let mut precisions = Vec::new();
        for stored in asked {
            let precision = match stored {
                Stored::F32 => StoredType::F32,
                Stored::F16 => StoredType::F16,
                Stored::Int8 => StoredType::Int8,
            };
            if !precisions.contains(&precision) {
                precisions.push(precision);
            }
        }
        precisions
    }
}
