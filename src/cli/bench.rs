//! `goldcrest bench`

use std::{fmt::Write, hint, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use goldcrest::{
    Shape,
    cpu::Cpu,
    gpu::Gpu,
    measure::{Case, Effort, Peaks, Spread, StepTime, Timing, time},
    plan::Fuse,
    session::{Device, Options, Precision},
    tensor::Element,
    zoo::{Network, synthetic},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::common::{self, Fusion, json, progress};

#[derive(Args)]
#[command(after_help = "Lists take commas. Every network is measured at every batch, size and precision \
    on every device. Networks without a checkpoint have random weights: their time is the same.")]
pub struct Bench {
    /// Networks by name, such as mobilenet_v2 or mobilenet_v2@0.35 for another width
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    networks: Vec<String>,

    /// Checkpoints: files or folders
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    weights: Vec<PathBuf>,

    /// The checkpoints' network by its library's name, where neither keys nor config.json tell
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,

    /// Pictures in a run
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    batches: Vec<u32>,

    /// Rows and columns of a picture, if not each network's own
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = common::size)]
    sizes: Vec<[usize; 2]>,

    /// What maps and weights are stored as on GPUs; the CPU computes in f32
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum, default_value = "f32")]
    precisions: Vec<common::Stored>,

    /// Which layers may share a kernel on GPUs
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum, default_value = "auto")]
    fuse: Vec<Fusion>,

    /// What computes: gpu, cpu, or both
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum, default_value = "auto")]
    backend: Vec<common::Backend>,

    /// Adapters by index or part of their names, if not the best one (see `goldcrest adapters`)
    #[arg(long, value_name = "LIST", value_delimiter = ',', visible_alias = "adapter")]
    adapters: Vec<String>,

    /// The CPU's threads, if not one a core
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Vec<u32>,

    /// Runs of each measurement at least
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Seconds that each measurement may take if its runs took less
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    seconds: f64,

    /// A row a step: its work, its time, and what bounds it
    #[arg(long)]
    layers: bool,

    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let parsed = text.parse::<f64>().ok().filter(|s| (0.0..=3600.0).contains(s));
    parsed.ok_or_else(|| "expected seconds, 3600 at most".into())
}

/// A device with what it can do at its best, in each precision.
struct Bencher {
    device: Device,
    peaks: Vec<(Element, Result<Peaks, String>)>,
}

impl Bencher {
    /// Measures a device in every precision that its networks may turn out to have.
    fn new(device: Device, precisions: &[Precision]) -> Self {
        // The CPU has one precision, whatever GPUs are to store.
        let on_cpu = matches!(device, Device::Cpu(_));
        let asked = |element| on_cpu || precisions.iter().any(|p| p.element().is_none_or(|e| e == element));
        let elements = Element::ALL.into_iter().filter(|e| asked(*e) && device.supports(*e).is_ok());
        let measured = |element| (element, Peaks::measure(&device, element).map_err(|e| e.to_string()));
        let peaks = elements.map(measured).collect();
        Self { device, peaks }
    }
}

/// One network, measured or not, one way.
struct Row<'a> {
    network: &'a Network,
    bencher: &'a Bencher,
    options: Options,
    timing: Result<Timing, String>,
}

impl Bench {
    pub fn run(&self) -> Result<String> {
        let networks = self.networks()?;
        let devices = self.devices()?;
        let precisions: Vec<Precision> = self.precisions.iter().map(|stored| stored.precision()).collect();
        let sizes: Vec<Option<[usize; 2]>> =
            if self.sizes.is_empty() { vec![None] } else { self.sizes.iter().copied().map(Some).collect() };

        let mut ways = Vec::new();
        for (at, device) in devices.iter().enumerate() {
            // The CPU has one precision and one way to fuse.
            let (precisions, fuses) = match device {
                Device::Gpu(_) => (&precisions[..], &self.fuse[..]),
                Device::Cpu(_) => (&[Precision::F32][..], &[Fusion::None][..]),
            };
            for network in 0..networks.len() {
                for &size in &sizes {
                    for &batch in &self.batches {
                        for &precision in precisions {
                            for fuse in fuses {
                                let fuse = fuse.fuse();
                                let batch = batch as usize;
                                let options = Options { batch, size, fuse, precision, ..Options::default() };
                                ways.push((at, network, options));
                            }
                        }
                    }
                }
            }
        }

        let bar = progress("measuring");
        bar.set_length((ways.len() + devices.len()) as u64);
        let mut benchers = Vec::new();
        for device in devices {
            benchers.push(Bencher::new(device, &precisions));
            bar.inc(1);
        }
        let effort =
            Effort { warmup: 3, runs: self.runs as usize, time: Duration::from_secs_f64(self.seconds) };
        let mut rows = Vec::new();
        for (at, network, options) in ways {
            let (bencher, network) = (&benchers[at], &networks[network]);
            let input = options.input_shape(network);
            let case = Case { graph: &network.graph, input, options };
            let timing = room(network, input)
                .and_then(|()| time(&bencher.device, case, effort).map_err(|e| e.to_string()));
            rows.push(Row { network, bencher, options, timing });
            bar.inc(1);
        }
        drop(bar);
        if let Some(Row { timing: Err(reason), .. }) = rows.first()
            && rows.iter().all(|row| row.timing.is_err())
        {
            bail!("nothing could be measured: {reason}");
        }
        match (self.json, self.csv) {
            (true, _) => self.json(&benchers, &rows),
            (_, true) => self.csv(&rows),
            _ => Ok(self.words(&benchers, &rows)?),
        }
    }

    fn networks(&self) -> Result<Vec<Network>> {
        const USUAL: [&str; 4] = ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"];
        let mut networks = Vec::new();
        for path in &self.weights {
            let network = Network::open_as(path, self.arch.as_deref())?;
            for note in &network.notes {
                log::warn!("{}: {note}", path.display());
            }
            networks.push(network);
        }
        let named: Vec<&str> = match (self.networks.is_empty(), networks.is_empty()) {
            (true, true) => USUAL.to_vec(),
            _ => self.networks.iter().map(String::as_str).collect(),
        };
        for name in named {
            networks.push(synthetic::network(name)?);
        }
        Ok(networks)
    }

    /// The adapters, then the CPU with each number of threads. A GPU that was not asked for may be
    /// missing.
    fn devices(&self) -> Result<Vec<Device>> {
        use common::Backend::{Auto, Cpu as OnCpu, Gpu as OnGpu};
        let wants = |backend| self.backend.contains(&backend) || self.backend.contains(&Auto);
        if !self.adapters.is_empty() && !wants(OnGpu) {
            bail!("--adapters names graphics adapters, and --backend is cpu");
        }
        let mut devices = Vec::new();
        for wanted in &self.adapters {
            devices.push(Device::Gpu(Gpu::open(Some(wanted))?));
        }
        if self.adapters.is_empty() && wants(OnGpu) {
            match Gpu::new() {
                Ok(gpu) => devices.push(Device::Gpu(gpu)),
                Err(e) if self.backend.contains(&OnGpu) => return Err(e.into()),
                Err(e) => log::warn!("{e}: the CPU alone is measured"),
            }
        }
        if wants(OnCpu) {
            let threads: Vec<Option<usize>> = match self.threads.is_empty() {
                true => vec![None],
                false => self.threads.iter().map(|threads| Some(*threads as usize)).collect(),
            };
            for threads in threads {
                devices.push(Device::Cpu(Cpu::new(threads)?));
            }
        }
        Ok(devices)
    }

    fn json(&self, benchers: &[Bencher], rows: &[Row]) -> Result<String> {
        let devices = benchers.iter().map(|bencher| {
            let peaks: serde_json::Map<String, Value> =
                bencher.peaks.iter().map(|(element, peaks)| (element.to_string(), told(peaks))).collect();
            let mut device = common::device(&bencher.device);
            device["peaks"] = Value::Object(peaks);
            device
        });
        let first = common::device(&benchers.first().context("no device")?.device);
        json(&json!({
            "adapter": first["name"],
            "software": first["software"],
            "devices": devices.collect::<Vec<_>>(),
            "results": rows.iter().map(|row| row.json(self.layers)).collect::<Vec<_>>(),
        }))
    }

    fn csv(&self, rows: &[Row]) -> Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in rows {
            match &row.timing {
                _ if !self.layers => writer.serialize((row.record(), NetworkRecord::new(row)))?,
                // A table of steps has no line for a network without any.
                Err(reason) => log::warn!("{} is not measured: {reason}", row.name()),
                Ok(timing) => {
                    for step in &timing.steps {
                        writer.serialize((row.record(), LayerRecord::new(row, step)))?;
                    }
                }
            }
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }

    fn words(&self, benchers: &[Bencher], rows: &[Row]) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        for bencher in benchers {
            writeln!(text, "{}", bencher.device)?;
            for (element, peaks) in &bencher.peaks {
                match peaks {
                    Ok(Peaks { macs, bytes, launch }) => writeln!(
                        text,
                        "  {element} at best: {:.1} G multiply-adds/s, {:.1} GB/s, {:.1} us a launch",
                        macs / 1e9,
                        bytes / 1e9,
                        1e6 * launch
                    )?,
                    Err(reason) => writeln!(text, "  {element} at best: not measured: {reason}")?,
                }
            }
        }
        writeln!(
            text,
            "\n{:<24} {:>5} {:>9} {:>5} {:<7} {:<5} {:>5}  {:>24}  {:>24} {:>9} {:>9} {:>7}",
            "network",
            "batch",
            "size",
            "store",
            "on",
            "fuse",
            "steps",
            "GPU ms (min to max)",
            "wall ms (min to max)",
            "first ms",
            "images/s",
            "at best"
        )?;
        for row in rows {
            row.words(&mut text)?;
        }
        if self.layers {
            for row in rows {
                row.layers(&mut text)?;
            }
        }
        Ok(text)
    }
}

/// Peaks for programs; null where they could not be measured.
fn told(peaks: &Result<Peaks, String>) -> Value {
    match peaks {
        Ok(peaks) => json!({
            "macs_per_s": peaks.macs,
            "bytes_per_s": peaks.bytes,
            "launch_us": 1e6 * peaks.launch,
        }),
        Err(reason) => json!({ "missing": reason }),
    }
}

impl Row<'_> {
    /// The best that its device can do in its precision.
    fn peaks(&self) -> Option<&Peaks> {
        let element = self.timing.as_ref().ok()?.precision;
        self.bencher.peaks.iter().find(|(of, _)| *of == element)?.1.as_ref().ok()
    }

    fn name(&self) -> &str {
        self.network.arch.strip_prefix("synthetic/").unwrap_or(&self.network.arch)
    }

    fn fuse(&self) -> &'static str {
        match self.options.fuse {
            Fuse::Auto => "auto",
            Fuse::None => "none",
            Fuse::Pair => "pair",
            Fuse::Block => "block",
        }
    }

    /// `gpu`, or `cpu` and its threads.
    fn on(&self) -> String {
        match &self.bencher.device {
            Device::Gpu(_) => "gpu".into(),
            Device::Cpu(cpu) => format!("cpu x{}", cpu.info().threads),
        }
    }

    fn images_per_second(&self, timing: &Timing) -> f64 {
        1e3 * self.options.batch as f64 / timing.wall_ms.median
    }

    fn json(&self, layers: bool) -> Value {
        let device = common::device(&self.bencher.device);
        let shape = self.options.input_shape(self.network);
        let mut row = json!({
            "network": self.name(),
            "adapter": device["name"],
            "software": device["software"],
            "threads": device["threads"],
            "batch": self.options.batch,
            "size": [shape.h, shape.w],
            "backend": self.bencher.device.backend(),
            "fuse": self.fuse(),
            "precision": self.options.precision.element(),
            "steps": null,
            "gpu_ms": null,
            "wall_ms": null,
            "first_ms": null,
        });
        match &self.timing {
            Err(reason) => row["error"] = json!(reason),
            Ok(timing) => {
                row["precision"] = json!(timing.precision);
                row["steps"] = json!(timing.steps.len());
                row["gpu_ms"] = json!(timing.gpu_ms);
                row["gpu_missing"] = json!(timing.gpu_missing);
                row["wall_ms"] = json!(timing.wall_ms);
                row["stream_ms"] = json!(timing.stream_ms);
                row["first_ms"] = json!(timing.first_ms);
                row["noisy"] = json!(timing.noisy);
                row["peak_bytes"] = json!(timing.peak_bytes);
                row["images_per_s"] = json!(self.images_per_second(timing));
                row["macs"] = json!(timing.steps.iter().map(|step| step.needed.macs).sum::<u64>());
                row["bytes"] = json!(timing.steps.iter().map(|step| step.needed.bytes).sum::<u64>());
                row["utilisation"] = json!(self.peaks().and_then(|peaks| timing.utilisation(peaks)));
                row["split_s"] = json!(self.peaks().and_then(|peaks| timing.split(peaks)));
                if layers {
                    let layer = |step: &StepTime| LayerRecord::new(self, step);
                    row["layers"] = json!(timing.steps.iter().map(layer).collect::<Vec<_>>());
                }
            }
        }
        row
    }

    fn record(&self) -> Record {
        let shape = self.options.input_shape(self.network);
        let element = self.timing.as_ref().ok().map(|timing| timing.precision);
        Record {
            network: self.name().into(),
            adapter: self.bencher.device.to_string(),
            backend: self.bencher.device.backend(),
            batch: self.options.batch,
            height: shape.h,
            width: shape.w,
            precision: element.or(self.options.precision.element()),
            fuse: self.fuse(),
        }
    }

    fn words(&self, text: &mut String) -> std::fmt::Result {
        let shape = self.options.input_shape(self.network);
        let size = format!("{}x{}", shape.h, shape.w);
        let (name, batch, on, fuse) = (self.name(), self.options.batch, self.on(), self.fuse());
        write!(text, "{name:<24} {batch:>5} {size:>9} ")?;
        match &self.timing {
            Err(reason) => writeln!(text, "{:>5} {on:<7} {fuse:<5} not measured: {reason}", "-"),
            Ok(timing) => {
                let none = || "-".to_string();
                let gpu = timing.gpu_ms.map_or_else(none, in_words);
                let best = self.peaks().and_then(|peaks| timing.utilisation(peaks));
                writeln!(
                    text,
                    "{:>5} {on:<7} {fuse:<5} {:>5}  {gpu:>24}  {:>24} {:>9.1} {:>9.1} {:>7}{}",
                    timing.precision.name(),
                    timing.steps.len(),
                    in_words(timing.wall_ms),
                    timing.first_ms,
                    self.images_per_second(timing),
                    best.map_or_else(none, percent),
                    if timing.noisy { "  noisy" } else { "" },
                )
            }
        }
    }

    fn layers(&self, text: &mut String) -> std::fmt::Result {
        let Ok(timing) = &self.timing else { return Ok(()) };
        let wide = timing.steps.iter().map(|step| step.summary.name().len()).max().unwrap_or(0).max(4);
        writeln!(
            text,
            "\n{}, batch {}, {}, on {}",
            self.name(),
            self.options.batch,
            timing.precision,
            self.bencher.device
        )?;
        writeln!(
            text,
            "{:<wide$}  {:<18} {:>16} {:>9} {:>9} {:>10} {:>7}  bound by",
            "step", "kernel", "shape", "M MACs", "MB", "ms", "at best"
        )?;
        for step in &timing.steps {
            let (peaks, summary) = (self.peaks(), &step.summary);
            let none = || "-".to_string();
            writeln!(
                text,
                "{:<wide$}  {:<18} {:>16} {:>9.3} {:>9.3} {:>10} {:>7}  {}",
                summary.name(),
                summary.kernel,
                summary.shape.to_string(),
                step.needed.macs as f64 / 1e6,
                step.needed.bytes as f64 / 1e6,
                step.ms.map_or_else(none, |ms| format!("{:.4}", ms.median)),
                peaks.and_then(|peaks| step.utilisation(peaks)).map_or_else(none, percent),
                peaks
                    .and_then(|peaks| step.split(peaks))
                    .map_or_else(none, |split| split.bound().to_string()),
            )?;
        }
        let sum: Option<f64> = timing.steps.iter().map(StepTime::seconds).sum();
        if let (Some(sum), Some(split)) = (sum, self.peaks().and_then(|peaks| timing.split(peaks))) {
            let share = |part: f64| percent(part / split.seconds());
            writeln!(
                text,
                "{:.3} ms in all steps; the whole run {:.3} ms. Arithmetic {}, bytes beyond it {}, launches {}, idle {}",
                1e3 * sum,
                timing.ms().median,
                share(split.arithmetic),
                share(split.bytes),
                share(split.launch),
                share(split.idle)
            )?;
        }
        Ok(())
    }
}

/// What every line of comma-separated values begins with.
#[derive(Serialize)]
struct Record {
    network: String,
    adapter: String,
    backend: &'static str,
    batch: usize,
    height: usize,
    width: usize,
    precision: Option<Element>,
    fuse: &'static str,
}

/// A network's line.
#[derive(Serialize)]
struct NetworkRecord {
    steps: Option<usize>,
    gpu_ms: Option<f64>,
    gpu_ms_min: Option<f64>,
    gpu_ms_max: Option<f64>,
    wall_ms: Option<f64>,
    wall_ms_min: Option<f64>,
    wall_ms_max: Option<f64>,
    first_ms: Option<f64>,
    utilisation: Option<f64>,
    error: Option<String>,
}

impl NetworkRecord {
    fn new(row: &Row) -> Self {
        let timing = row.timing.as_ref().ok();
        let (gpu, wall) = (timing.and_then(|timing| timing.gpu_ms), timing.map(|timing| timing.wall_ms));
        Self {
            steps: timing.map(|timing| timing.steps.len()),
            gpu_ms: gpu.map(|ms| ms.median),
            gpu_ms_min: gpu.map(|ms| ms.min),
            gpu_ms_max: gpu.map(|ms| ms.max),
            wall_ms: wall.map(|ms| ms.median),
            wall_ms_min: wall.map(|ms| ms.min),
            wall_ms_max: wall.map(|ms| ms.max),
            first_ms: timing.map(|timing| timing.first_ms),
            utilisation: row.peaks().zip(timing).and_then(|(peaks, timing)| timing.utilisation(peaks)),
            error: row.timing.as_ref().err().cloned(),
        }
    }
}

/// A step's line.
#[derive(Serialize)]
struct LayerRecord {
    name: String,
    kernel: &'static str,
    shape: String,
    macs: u64,
    bytes: u64,
    ms: Option<f64>,
    ms_min: Option<f64>,
    ms_max: Option<f64>,
    floor_ms: Option<f64>,
    utilisation: Option<f64>,
    bound: Option<String>,
}

impl LayerRecord {
    fn new(row: &Row, step: &StepTime) -> Self {
        let peaks = row.peaks();
        Self {
            name: step.summary.name().into(),
            kernel: step.summary.kernel,
            shape: step.summary.shape.to_string(),
            macs: step.needed.macs,
            bytes: step.needed.bytes,
            ms: step.ms.map(|ms| ms.median),
            ms_min: step.ms.map(|ms| ms.min),
            ms_max: step.ms.map(|ms| ms.max),
            floor_ms: peaks.map(|peaks| 1e3 * peaks.floor(step.needed)),
            utilisation: peaks.and_then(|peaks| step.utilisation(peaks)),
            bound: peaks.and_then(|peaks| step.split(peaks)).map(|split| split.bound().to_string()),
        }
    }
}

/// Refuses an input that there is no memory for: to make it would end the program, and what
/// others measured with it.
fn room(network: &Network, input: Shape) -> Result<(), String> {
    // First that its values can be counted.
    network.graph.shapes(input).map_err(|e| e.to_string())?;
    let mut values = Vec::<f32>::new();
    let outcome = values.try_reserve_exact(input.len());
    // What nobody looks at need not be allocated.
    hint::black_box(&values);
    outcome.map_err(|_| format!("an input of {input} is larger than memory"))
}

fn in_words(ms: Spread) -> String {
    format!("{:.2} ({:.2} to {:.2})", ms.median, ms.min, ms.max)
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}
