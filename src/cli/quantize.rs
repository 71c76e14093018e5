//! `goldcrest quantize`

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use goldcrest::{
    Tensor,
    cpu::Cpu,
    feed::{Inputs, Reading},
    files::FileSet,
    measure::{Case, Sampling, time},
    quantize::{self, LayerReport, Quantized, Report, StoredType},
    session::{Device, Options},
    tasks::{self, Picture},
    zoo::{Network, Preprocessing, Resize},
};
use serde_json::json;

use super::{
    common::{self, Weights, json, progress},
    target::Target,
};

#[derive(Args)]
pub struct Quantize {
    #[command(flatten)]
    weights: Weights,

    /// Calibration pictures, similar to those that the network will process: a folder (searched recursively),
    /// a pattern such as 'photos/*.jpg', or @FILE with one name per line. About a hundred are enough, without
    /// labels
    #[arg(long, value_name = "DIR", required_unless_present = "weights_only")]
    pictures: Option<OsString>,

    /// Output file (.safetensors)
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().try_map(common::safetensors_name))]
    out: PathBuf,

    /// Maximum quantisation noise of the outputs: the sum of squared errors divided by the sum of squared
    /// outputs, over all pictures. 0.5% is a relative error of 7%, a little more than that of MobileNetV2
    /// with all layers in int8. Layers that add too much noise stay in floating point
    #[arg(long, value_name = "PERCENT", default_value = "0.5%", value_parser = percent)]
    max_noise: f64,

    /// Maximum number of pictures to use, evenly spaced in the list
    #[arg(long, value_name = "COUNT", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,

    /// Quantise only the weights, which needs no pictures: a quarter of the size, computed in floating point
    #[arg(long, conflicts_with_all = ["pictures", "max_noise", "limit", "threads"])]
    weights_only: bool,

    /// Show every layer, not only those that stay in floating point
    #[arg(long)]
    per_layer: bool,

    /// Number of CPU threads [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Quantize {
    pub fn run(&self) -> Result<String> {
        let network = self.weights.open()?;
        let mut read: FileSet = network.files.iter().collect();
        let files =
            self.pictures.as_ref().map(|name| listed(name, &mut read)).transpose()?.unwrap_or_default();
        let named = || self.out.display().to_string();
        let target = Target::sparing(&self.out, &read).with_context(named)?;
        let cpu = Cpu::new(self.threads.map(|threads| threads as usize))?;
        let quantized = match self.weights_only {
            true => quantize::weights_only(&network)?,
            false => self.with_pictures(&cpu, &network, &files)?,
        };
        let bytes = quantized.encode(&network)?;
        target.write(&bytes).with_context(named)?;
        let report = &quantized.report;
        // The file is written already, so a failed measurement is only a warning.
        let times = match self.weights_only {
            true => None,
            false => Times::measure(&cpu, &network, &quantized)
                .inspect_err(|error| log::warn!("times could not be measured: {error:#}"))
                .ok(),
        };
        for warning in &report.warnings {
            log::warn!("{warning}");
        }
        let float: u64 =
            report.layers.iter().filter(|l| l.precision != StoredType::Int8).map(|l| l.bytes_before).sum();
        if 2 * float > report.bytes_before {
            log::warn!(
                "more than half of the weights stay in floating point: raise --max-noise to quantise more"
            );
        }
        if self.json {
            let mut object = json!(report);
            object["file"] = json!(named());
            object["bytes"] = json!(bytes.len());
            if let Some(times) = &times {
                object["ms"] = json!(times.whole);
                for (layer, row) in
                    report.layers.iter().zip(object["layers"].as_array_mut().into_iter().flatten())
                {
                    row["ms"] = json!(times.of(&layer.name));
                }
            }
            return json(&object);
        }
        Ok(self.words(report, bytes.len(), times.as_ref())?)
    }

    fn with_pictures(&self, cpu: &Cpu, network: &Network, files: &[PathBuf]) -> Result<Quantized> {
        if !tasks::takes_pictures(&network.preprocessing, network.channels) {
            let channels = network.channels;
            bail!(
                "{}: its input has {channels} channels and is not a picture: --weights-only needs no pictures",
                network.arch
            );
        }
        let chosen = quantize::evenly(&files.iter().collect::<Vec<_>>(), self.limit as usize);
        let bar = progress("decoding");
        bar.set_length(chosen.len() as u64);
        let how = preprocessing(network);
        let (mut inputs, mut first) = (Vec::new(), None);
        for path in &chosen {
            match prepared(path, &how) {
                Ok(input) => inputs.push(input),
                Err(error) => {
                    bar.suspend(|| log::warn!("skipped: {error}"));
                    first.get_or_insert(error);
                }
            }
            bar.inc(1);
        }
        if let (true, Some(error)) = (inputs.is_empty(), first) {
            return Err(anyhow!(error).context("no picture could be read"));
        }
        if chosen.len() < files.len() {
            let (some, all) = (chosen.len(), files.len());
            log::info!(target: common::NOTE, "using {some} of {all} pictures, evenly spaced in the list: raise --limit for more");
        }
        let quantized = quantize::quantize(
            cpu,
            network,
            &inputs,
            self.max_noise,
            |quantize::Progress { stage, done, of }| {
                bar.set_message(stage);
                bar.set_length(of as u64);
                bar.set_position(done as u64);
            },
        )?;
        drop(bar);
        Ok(quantized)
    }

    fn words(&self, report: &Report, bytes: usize, times: Option<&Times>) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        writeln!(
            text,
            "{}: {}, {} of {} layers in int8, {:.2} MB, in f32 {:.2} MB",
            common::file(&self.out),
            report.network,
            report.int8(),
            report.layers.len(),
            megabytes(bytes as u64),
            megabytes(report.bytes_before),
        )?;
        if let (Some(noise), Some(all), Some(max_noise)) =
            (report.noise, report.noise_of_all, report.max_noise)
        {
            let relative = 100.0 * noise.sqrt();
            writeln!(
                text,
                "noise of the outputs over {} pictures: {:.3}%, a relative error of {relative:.1}%; \
                 limit {:.3}%; noise with all layers in int8: {:.3}%",
                report.pictures,
                100.0 * noise,
                100.0 * max_noise,
                100.0 * all,
            )?;
        }
        if let Some([changed, of]) = report.changed {
            writeln!(text, "top classes that changed: {changed} of {of}")?;
        }
        if let Some(Times { whole: [before, after], .. }) = times {
            writeln!(text, "{after:.2} ms per picture on the CPU, in f32 {before:.2} ms")?;
        }
        let shown = |layer: &&LayerReport| self.per_layer || layer.precision != StoredType::Int8;
        let shown: Vec<&LayerReport> = report.layers.iter().filter(shown).collect();
        let wide = shown.iter().map(|layer| layer.name.len()).max().unwrap_or(0).max(5);
        if !shown.is_empty() {
            let (noise, alone) = ("noise", "only this");
            writeln!(
                text,
                "\n{:<wide$}  {:<5} {:>10} {:>10} {noise:>9} {alone:>9} {:>8} {:>8}",
                "layer", "type", "f32 bytes", "bytes", "f32 ms", "ms"
            )?;
        }
        let percent = |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.4}%", 100.0 * share));
        for layer in shown {
            let LayerReport { name, precision, bytes_before, bytes_after, noise, alone, .. } = layer;
            let (noise, alone) = (percent(*noise), percent(*alone));
            let [before, after] = times
                .map_or([None; 2], |times| times.of(name))
                .map(|ms| ms.map_or("-".into(), |ms| format!("{ms:.3}")));
            writeln!(
                text,
                "{name:<wide$}  {precision:<5} {bytes_before:>10} {bytes_after:>10} {noise:>9} {alone:>9} {before:>8} {after:>8}"
            )?;
        }
        Ok(text)
    }
}

/// The time per picture on the CPU, in milliseconds: in f32 and quantised.
struct Times {
    whole: [f64; 2],
    /// Per layer, including the conversions of its value between int8 and floating point.
    layers: [BTreeMap<String, f64>; 2],
}

impl Times {
    fn measure(cpu: &Cpu, network: &Network, quantized: &Quantized) -> Result<Self> {
        let bar = progress("measuring times");
        let device = Device::Cpu(cpu.clone());
        let sampling = Sampling { warmup: 2, runs: 7, time: Duration::from_millis(500) };
        let mut times = Self { whole: [0.0; 2], layers: Default::default() };
        for (at, graph) in [&network.graph, &quantized.graph].into_iter().enumerate() {
            let case = Case { graph, input: network.input_shape(1), options: Options::default() };
            let timing = time(&device, case, sampling)?;
            times.whole[at] = timing.wall_ms.median;
            for step in &timing.steps {
                let ms = step.ms.as_ref().map_or(0.0, |ms| ms.median);
                *times.layers[at].entry(step.summary.name().to_string()).or_default() += ms;
            }
        }
        drop(bar);
        Ok(times)
    }

    fn of(&self, layer: &str) -> [Option<f64>; 2] {
        self.layers.each_ref().map(|layers| layers.get(layer).copied())
    }
}

/// Lists the picture files that a folder, pattern or list stands for, in order. `read` gets them and the list.
fn listed(name: &OsString, read: &mut FileSet) -> Result<Vec<PathBuf>> {
    let mut inputs = Inputs::new([name.clone()], Reading::default());
    inputs.settle();
    read.extend(inputs.files());
    let (mut files, mut failures) = (Vec::new(), Vec::new());
    for file in inputs.into_files() {
        match file {
            Ok(file) => files.push(file),
            Err(error) => failures.push(error),
        }
    }
    if files.is_empty() {
        return Err(failures
            .into_iter()
            .next()
            .map_or_else(|| anyhow!("{}: matches no picture", name.display()), anyhow::Error::from));
    }
    for error in failures {
        log::warn!("skipped: {error}");
    }
    // Those of a list that is a pipe.
    read.extend(&files);
    Ok(files)
}

/// The preprocessing, which gives all pictures the same size.
fn preprocessing(network: &Network) -> Preprocessing {
    match network.preprocessing {
        how @ Preprocessing { crop: None, .. } => {
            Preprocessing { resize: Resize::Exact(network.input), ..how }
        }
        how => how,
    }
}

fn prepared(path: &Path, how: &Preprocessing) -> goldcrest::Result<Tensor> {
    let of_file = |error| match error {
        goldcrest::Error::Input(reason) => goldcrest::Error::file(path, reason),
        other => other,
    };
    tasks::preprocess(&Picture::open(path)?, how).map_err(of_file)
}

/// Parses a percentage, `0.5%` or `0.5`, as a fraction.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end().parse::<f64>();
    let share = number.ok().map(|percent| percent / 100.0).filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "expected a percentage above 0, such as 0.5%".into())
}
