//! `goldcrest search`

mod output;
mod samples;
mod scores;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use goldcrest::{
    cpu::Cpu,
    demo, files,
    search::{self, Checked, Finalist, Found, Latency, Outcome, Settings, Trial},
    session::{Device, Precision},
    zoo::{Network, Supernet},
};

use super::{
    common::{NOTE, Stored, progress},
    devices::{self, Devices},
    plot,
    target::Target,
};
use output::Output;
use scores::Evaluated;

#[derive(Args)]
#[command(
    after_help = "A supernet holds many networks that share weights. Each of its blocks is timed once on this \
    device, and the times are cached; the time of a network is predicted from its blocks. An evolutionary search \
    finds the most accurate networks within the limit. The best ones are timed, and the most accurate of those within \
    the limit wins. Its accuracy is measured again, on pictures that the search did not use. The winner is written to \
    --out as a checkpoint that every command opens. If the search is interrupted, the same command continues it."
)]
pub struct Search {
    /// Once-for-all supernet, such as ofa_mbv3_d234_e346_k357_w1.0: a file or folder [default: the built-in
    /// one, which classifies shapes]
    #[arg(long, value_name = "PATH", requires = "pictures")]
    weights: Option<PathBuf>,

    /// Maximum median time per picture, such as 2ms
    #[arg(long, value_name = "TIME", value_parser = search::milliseconds, required_unless_present = "fps")]
    within: Option<f64>,

    /// Minimum number of pictures per second, instead of --within
    #[arg(long, value_name = "RATE", value_parser = devices::rate, conflicts_with = "within")]
    fps: Option<f64>,

    /// Labelled pictures to evaluate networks on: a folder with one subfolder per class. A quarter of them is
    /// for batch-norm statistics, half for comparing candidates, and a quarter for evaluating the best
    /// candidates
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,

    /// Maximum number of pictures for comparing candidates
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=100_000))]
    samples: u32,

    /// Folder for the winner: model.safetensors, config.json, and search.json with all results; with one
    /// subfolder per backend if there are several
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Picture sizes to choose from, such as 128,160 [default: all that the supernet was trained for]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    sizes: Vec<usize>,

    /// Width multipliers to choose from, such as 0.5,0.75 [default: all that the supernet was trained for]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    widths: Vec<f64>,

    #[command(flatten)]
    devices: Devices,

    /// Storage type of feature maps and weights
    #[arg(long, value_enum, default_value = "f32")]
    precision: Stored,

    /// Number of candidates per generation
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    population: u32,

    /// Number of generations
    #[arg(long, value_name = "COUNT", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    generations: u32,

    /// Seed of the random choices: the same seed finds the same network unless blocks are timed again
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Number of random networks to time, to report the error of the predicted times
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    check: u32,

    /// Time the blocks again instead of using cached times
    #[arg(long)]
    remeasure: bool,

    /// Plot of accuracy against time to write (.svg, .png or .html)
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().try_map(plot::name))]
    plot: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A search on one device.
struct Searched {
    device: Device,
    out: PathBuf,
    outcome: Outcome,
    checked: Vec<Checked>,
}

impl Searched {
    fn winner(&self) -> Option<&Finalist> {
        self.outcome.finalists.first()
    }
}

impl Search {
    pub fn run(&self) -> Result<String> {
        let within_ms = self.within.or(self.fps.map(|rate| 1e3 / rate)).unwrap_or(f64::INFINITY);
        let supernet = self.supernet()?;
        let read = || [Some(supernet.path()), self.pictures.as_deref()].into_iter().flatten().collect();
        let target =
            self.plot.as_deref().map(|path| Ok::<_, anyhow::Error>((path, Target::sparing(path, &read())?)));
        let target = target.transpose().context("--plot")?;
        let devices = self.devices.open()?;
        let precision = self.precision.precision();
        let several = devices.len() > 1;
        let folder = |device: &Device| match several {
            true => self.out.join(device.backend()),
            false => self.out.clone(),
        };
        for device in &devices {
            if precision == Precision::F16 {
                device.supports(goldcrest::tensor::Element::F16)?;
            }
            check_writable(&folder(device), &self.out, &supernet)?;
        }
        let network = supernet.slice(&supernet.largest())?.network()?;
        let samples = match &self.pictures {
            Some(folder) => samples::of_folder(folder, &network, self.samples as usize)?,
            None => samples::scenes(self.samples as usize)?,
        };
        let mut evaluated = Evaluated::open(&self.out, &supernet, &samples)?;
        let mut trial = Trial::new(&supernet, Cpu::new(None)?, samples)?;
        for (subnet, right) in evaluated.all() {
            trial.recall(subnet, right);
        }
        let mut all = Vec::new();
        for device in devices {
            log::info!(target: NOTE, "searching for {device}, within {} ms", search::short(within_ms));
            if self.remeasure {
                Latency::forget(&supernet, &device, precision);
            }
            let latency = times(&supernet, &device, precision)?;
            let checked = self.checked(&supernet, &device, precision, &latency)?;
            let settings = Settings {
                within_ms,
                population: self.population as usize,
                generations: self.generations as usize,
                seed: self.seed,
            };
            let bar = progress("evolving");
            bar.set_length((settings.population * settings.generations) as u64);
            let mut best = 0.0_f64;
            let on_candidate = |Found { subnet, search_accuracy, .. }: &Found, count| {
                evaluated.keep(&subnet.to_string(), *search_accuracy);
                best = best.max(*search_accuracy);
                bar.set_position(count as u64);
                bar.set_message(format!("best {:.1} %", 100.0 * best));
            };
            let outcome =
                search::search_subnets(&mut trial, &device, precision, &latency, settings, on_candidate)?;
            drop(bar);
            warn_of_drift(&outcome, &device);
            let out = folder(&device);
            all.push(Searched { device, out, outcome, checked });
        }
        if all.iter().all(|searched| searched.winner().is_none()) {
            let fastest =
                all.iter().map(|searched| searched.outcome.fastest_ms).fold(f64::INFINITY, f64::min);
            bail!(
                "no timed candidate stayed within {} ms: the fastest took {fastest:.3} ms",
                search::short(within_ms)
            );
        }
        let crossed = self.crossed(&supernet, &all, precision)?;
        let output = Output { search: self, supernet: &supernet, within_ms, searches: &all, crossed };
        for searched in &all {
            write(searched, &output)?;
        }
        if let Some((path, target)) = target {
            let drawn = output.draw(path)?;
            target.write(&drawn).with_context(|| path.display().to_string())?;
        }
        if self.json { output.json() } else { Ok(output.words()?) }
    }

    /// The supernet, restricted to the requested sizes and widths.
    fn supernet(&self) -> Result<Supernet> {
        let supernet = match &self.weights {
            Some(path) => Supernet::open(path)?,
            None => demo::supernet()?,
        };
        let mut space = supernet.space().clone();
        if !self.sizes.is_empty() {
            space.sizes.clone_from(&self.sizes);
        }
        if !self.widths.is_empty() {
            space.widths.clone_from(&self.widths);
        }
        Ok(supernet.restrict(space)?)
    }

    /// Compares predicted times with measured times of --check random networks.
    fn checked(
        &self,
        supernet: &Supernet,
        device: &Device,
        precision: Precision,
        latency: &Latency,
    ) -> Result<Vec<Checked>> {
        let count = self.check as usize;
        let bar = progress("checking");
        let tell = |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        };
        Ok(latency.check(supernet, device, precision, count, self.seed, tell)?)
    }

    /// Times each device's winner on every other device: index of the winner's device, index of the other
    /// device, milliseconds.
    fn crossed(
        &self,
        supernet: &Supernet,
        all: &[Searched],
        precision: Precision,
    ) -> Result<Vec<(usize, usize, f64)>> {
        let mut crossed = Vec::new();
        for (of, searched) in all.iter().enumerate() {
            let Some(winner) = searched.winner() else { continue };
            for (on, other) in all.iter().enumerate().filter(|(on, _)| *on != of) {
                let timing = search::measured(supernet, &other.device, precision, &winner.subnet)?;
                crossed.push((of, on, timing.wall_ms.median));
            }
        }
        Ok(crossed)
    }
}

/// Times the blocks of a supernet that are not in the cache.
fn times(supernet: &Supernet, device: &Device, precision: Precision) -> Result<Latency> {
    let bar = progress("timing blocks");
    Ok(Latency::measure(supernet, device, precision, |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    })?)
}

/// A median of measured over predicted times that is closer to 1 is within the noise.
const DRIFT: f64 = 0.15;

/// Warns if cached block times no longer fit the device, which may have been busy when they were measured.
fn warn_of_drift(outcome: &Outcome, device: &Device) {
    if let Some(drift) = outcome.drift.filter(|drift| (drift.median - 1.0).abs() > DRIFT) {
        let percent = 100.0 * drift.median;
        log::warn!(
            "networks take {percent:.0} % of their predicted time on {device}: \
             --remeasure times the supernet's blocks there again"
        );
    }
}

/// Checks that a winner can be written to a folder, which need not exist, without overwriting an input.
fn check_writable(folder: &Path, out: &Path, supernet: &Supernet) -> Result<()> {
    let named = || format!("--out {}", out.display());
    if !folder.exists() {
        let parent = files::folder_of(out);
        if !parent.is_dir() {
            bail!("{}: its folder was not found: create it first", named());
        }
        files::Unfinished::file_in(if out.is_dir() { out } else { parent }).with_context(named)?;
        return Ok(());
    }
    if !folder.is_dir() {
        bail!("{}: is not a folder", named());
    }
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    let read = supernet.path();
    if same(read, folder) || (read.is_file() && same(files::folder_of(read), folder)) {
        bail!("{}: is the folder of the supernet: name another folder", named());
    }
    for name in FILES {
        Target::new(&folder.join(name)).with_context(|| folder.join(name).display().to_string())?;
    }
    Ok(())
}

/// The files of a winner, in the order of writing: a config.json without weights would look complete.
const FILES: [&str; 3] = ["model.safetensors", "config.json", "search.json"];

fn write(searched: &Searched, output: &Output) -> Result<()> {
    let Some(winner) = searched.winner() else { return Ok(()) };
    let object = output.one(searched);
    let contents = [
        winner.slice().encode()?,
        winner.slice().config().into_bytes(),
        super::common::json(&object)?.into_bytes(),
    ];
    std::fs::create_dir_all(&searched.out).with_context(|| searched.out.display().to_string())?;
    for (name, bytes) in FILES.into_iter().zip(contents) {
        let path = searched.out.join(name);
        files::write_whole(&path, &bytes).with_context(|| path.display().to_string())?;
    }
    // Check that the checkpoint opens.
    Network::open(&searched.out)?;
    Ok(())
}
