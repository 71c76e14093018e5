//! `goldcrest tune`

use std::{fmt::Write, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use goldcrest::{
    measure::{self, Tally, Tuning},
    plan::Tuned,
    session::Options,
};
use serde_json::json;

use super::common::{self, Engine, Weights, json, progress};

#[derive(Args)]
pub struct Tune {
    #[command(flatten)]
    weights: Weights,

    /// Pictures in a run
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,

    /// Rows and columns of a picture, if not the network's own
    #[arg(long, value_name = "HxW", value_parser = common::size)]
    size: Option<[usize; 2]>,

    /// Seconds to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    budget: u64,

    #[command(flatten)]
    engine: Engine,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Tune {
    pub fn run(&self) -> Result<String> {
        let network = self.weights.open()?;
        let options = Options {
            batch: self.batch as usize,
            size: self.size,
            precision: self.engine.precision(),
            ..Options::default()
        };
        let input = options.input_shape(&network);
        if self.engine.fuse() != options.fuse {
            bail!("--fuse: tuning is for the planner's own choice, auto");
        }
        let gpu = self.engine.open()?;
        let element = options.precision.element();
        gpu.supports(element)?;
        let bar = progress("tuning");
        bar.set_length(100);
        let budget = Duration::from_secs(self.budget);
        let tuning = measure::tune(&gpu, &network.graph, input, element, budget, |share| {
            bar.set_position((100.0 * share).min(100.0) as u64);
        })?;
        drop(bar);
        let kept = measure::keep(&gpu, &network.graph, input, element, &tuning.winners);
        if !kept {
            log::warn!("the winners could not be kept: no cache folder that can be written");
        }
        if self.json {
            return json(&json!({
                "network": network.arch,
                "adapter": gpu.adapter(),
                "input": input,
                "kept": kept,
                "tuning": tuning,
            }));
        }
        Ok(words(&tuning, &format!("{} for {input} on {}", network.arch, gpu.adapter()))?)
    }
}

fn words(tuning: &Tuning, what: &str) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "{what}")?;
    let Tuned { kernels, schedules } = &tuning.winners;
    let Tally { contests, entered, rounds } = tuning.layers;
    writeln!(text, "{entered} kernels of {contests} layers measured, {rounds} rounds")?;
    for (layer, kernel) in kernels {
        writeln!(text, "  {layer:<40} {kernel}")?;
    }
    writeln!(text, "{} layers stay as the planner has them", contests - kernels.len())?;
    let Tally { contests, entered, rounds } = tuning.blocks;
    writeln!(text, "{entered} schedules of {contests} blocks measured, {rounds} rounds")?;
    for (block, schedule) in schedules {
        writeln!(text, "  {block:<40} {schedule}")?;
    }
    writeln!(text, "{} blocks stay as the planner has them", contests - schedules.len())?;
    let ratio = tuning.after_ms / tuning.before_ms;
    writeln!(text, "{:.2} ms before, {:.2} ms after: {ratio:.2}", tuning.before_ms, tuning.after_ms)?;
    Ok(text)
}
