//! `goldcrest tune`

use std::{fmt::Write, path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use goldcrest::{
    Error, Shape, Tensor, demo,
    measure::{self, Tally, Tuning},
    session::{self, Options, TuningRecord},
    tasks::{self, Picture},
    tensor::Element,
    zoo::{Network, Preprocessing, Resize},
};
use serde::Serialize;
use serde_json::json;

use super::common::{self, Engine, Weights, json, progress};

#[derive(Args)]
#[command(
    after_help = "Tuning needs a graphics adapter, hardware or software, and --fuse auto. It refuses --backend cpu and \
    --threads. With --precision auto, f32 is tuned, and f16 if the adapter supports it."
)]
pub struct Tune {
    #[command(flatten)]
    weights: Weights,

    /// Batch size
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,

    /// Rows and columns of the input [default: the network's own]
    #[arg(long, value_name = "HxW", value_parser = common::size)]
    size: Option<[usize; 2]>,

    /// Pictures to measure the error of f16 on; the largest error decides [default: bundled photographs and
    /// scenes]
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pictures: Vec<PathBuf>,

    /// Time for measuring, in seconds
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
        let inputs = self.inputs(&network, input)?;
        let graph = network.graph_for(network.default_outputs())?;
        if self.engine.fuse() != options.fuse {
            bail!("--fuse: only auto can be tuned");
        }
        let gpu = self.engine.gpu()?;
        let elements = match options.precision.element() {
            Some(element) => vec![element],
            // `auto` chooses the faster type, so tune for all.
            None => gpu.elements().collect(),
        };
        let bar = progress("tuning");
        bar.set_length(100 * elements.len() as u64);
        let budget = Duration::from_secs(self.budget) / elements.len() as u32;
        let weights = session::weights_checksum(&graph);
        let mut tunings = Vec::new();
        for &element in &elements {
            gpu.supports(element)?;
            let done = 100 * tunings.len() as u64;
            let tuning = measure::tune(&gpu, &graph, &network.graph, &inputs, element, budget, |share| {
                bar.set_position(done + (100.0 * share).min(100.0) as u64);
            });
            let tuning = match tuning {
                // An overflow in the only precision is an error.
                Err(error @ Error::Overflow { element: Element::F16, .. }) if elements.len() > 1 => {
                    log::warn!("{error}; --precision auto keeps f32 for {}", network.arch);
                    // Replaces the record of an earlier run, on other pictures.
                    let unusable =
                        TuningRecord { winners: Default::default(), ms: f64::MAX, error: f64::MAX, weights };
                    session::store_tuning(&gpu, &graph, input, element, unusable);
                    continue;
                }
                tuning => tuning?,
            };
            let error = tuning.error;
            if error > session::MAX_F16_ERROR {
                log::warn!(
                    "the relative error of f16 in {} is {error:.1e}, above the limit of {:.0e}: \
                     --precision auto keeps f32",
                    network.arch,
                    session::MAX_F16_ERROR,
                );
            }
            let found = TuningRecord { winners: tuning.winners.clone(), ms: tuning.after_ms, error, weights };
            let kept = session::store_tuning(&gpu, &graph, input, element, found);
            tunings.push(Tuned { precision: element, kept, tuning });
        }
        drop(bar);
        if !tunings.iter().all(|tuned| tuned.kept) {
            log::warn!("the winners could not be stored: there is no writable cache folder");
        }
        if self.json {
            return json(&json!({
                "network": network.arch,
                "adapter": gpu.adapter(),
                "input": input,
                "tuned": tunings,
            }));
        }
        let what = format!("{} for {input} on {}", network.arch, gpu.adapter());
        let each = tunings.iter().map(|tuned| words(tuned, &what));
        Ok(each.collect::<Result<String, _>>()?)
    }

    /// The inputs on which the error of f16 is measured: bundled photographs and scenes, the user's pictures,
    /// or a synthetic wave if the network's input is not a picture.
    fn inputs(&self, network: &Network, input: Shape) -> Result<Vec<Tensor>> {
        let pictures = match &self.pictures[..] {
            [] if !tasks::takes_pictures(&network.preprocessing, input.c) => {
                return Ok(vec![Tensor::wave(input, 0.37)]);
            }
            [] => demo::pictures()?,
            own => own.iter().map(Picture::open).collect::<Result<_, _>>()?,
        };
        // Resized to the tuned input size, which may not be the network's own.
        let how =
            Preprocessing { resize: Resize::Exact([input.h, input.w]), crop: None, ..network.preprocessing };
        let batch = |first: usize| {
            let batch: Vec<Picture> =
                (0..input.n).map(|i| pictures[(first + i) % pictures.len()].clone()).collect();
            tasks::preprocess_batch(&batch, &how)
        };
        Ok((0..pictures.len()).map(batch).collect::<Result<_, _>>()?)
    }
}

/// The result of tuning for one precision.
#[derive(Serialize)]
struct Tuned {
    precision: Element,
    /// True if it was stored, so that sessions use it.
    kept: bool,
    #[serde(flatten)]
    tuning: Tuning,
}

fn words(tuned: &Tuned, what: &str) -> Result<String, std::fmt::Error> {
    let Tuned { precision, tuning, .. } = tuned;
    let mut text = String::new();
    writeln!(text, "{what}, {precision}")?;
    let (kernels, schedules) = (&tuning.winners.kernels, &tuning.winners.schedules);
    let Tally { sets, candidates, rounds } = tuning.layers;
    writeln!(text, "{candidates} kernels of {sets} layers measured, {rounds} rounds")?;
    let gated = &tuning.winners.gated;
    for (layer, kernel) in kernels {
        writeln!(text, "  {layer:<40} {kernel}")?;
    }
    for (layer, kernel) in gated {
        writeln!(text, "  {layer:<40} {kernel}, with the squeeze-excite gate")?;
    }
    let kept = sets - kernels.len() - gated.len();
    writeln!(text, "{kept} layers keep the planner's choice")?;
    let Tally { sets, candidates, rounds } = tuning.blocks;
    writeln!(text, "{candidates} schedules of {sets} blocks measured, {rounds} rounds")?;
    for (block, schedule) in schedules {
        writeln!(text, "  {block:<40} {schedule}")?;
    }
    writeln!(text, "{} blocks keep the planner's choice", sets - schedules.len())?;
    let ratio = tuning.after_ms / tuning.before_ms;
    writeln!(text, "{:.2} ms before, {:.2} ms after: {ratio:.2}", tuning.before_ms, tuning.after_ms)?;
    Ok(text)
}
