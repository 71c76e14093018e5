//! `goldcrest bench`

mod output;
mod record;
mod row;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use goldcrest::{
    cpu::Cpu,
    gpu::Gpu,
    graph::Graph,
    measure::{Case, Peaks, Sampling, time},
    quantize,
    session::{Device, Options, Precision},
    tensor::Element,
    zoo::{Network, synthetic},
};

use self::row::Row;
use super::{
    common::{self, Fusion, progress},
    devices::Backend,
    quiet::quietly,
};

#[derive(Args)]
#[command(
    after_help = "Lists are comma-separated. Every network is measured with every batch size, input size \
    and precision on every device. Networks without a checkpoint have random weights, which do not affect times."
)]
pub struct Bench {
    /// Network names, such as mobilenet_v2, mobilenet_v2@0.35 for another width, or
    /// torchvision/ssdlite320_mobilenet_v3_large
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    networks: Vec<String>,

    /// Checkpoint files or folders
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    weights: Vec<PathBuf>,

    /// Name of the checkpoints' network in the library that they come from, if neither tensor names nor config.json
    /// identify it
    #[arg(long, value_name = "NAME", requires = "weights")]
    arch: Option<String>,

    /// Also measure the networks with all layers in int8, without calibration, which does not affect times
    #[arg(long)]
    int8: bool,

    /// Batch sizes
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    batches: Vec<u32>,

    /// Rows and columns of the input [default: each network's own]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = common::size)]
    sizes: Vec<[usize; 2]>,

    /// Storage types of feature maps and weights on GPUs; the CPU computes in f32
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum, default_value = "f32")]
    precisions: Vec<common::Stored>,

    /// Fusion of layers into shared kernels on GPUs
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum, default_value = "auto")]
    fuse: Vec<Fusion>,

    /// Devices to measure; without a graphics adapter, `both` measures the CPU only
    #[arg(long, value_enum, default_value = "both")]
    backend: Backend,

    /// Graphics adapters: indices or parts of their names (see `goldcrest adapters`) [default: the best one]
    #[arg(long, value_name = "LIST", value_delimiter = ',', visible_alias = "adapter")]
    adapters: Vec<String>,

    /// Numbers of CPU threads [default: one per core]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Vec<u32>,

    /// Minimum number of runs per measurement
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Time per measurement, in seconds, unless the minimum number of runs takes longer
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    seconds: f64,

    /// Show one row per step: its work, its time and what limits its speed
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

/// A device and its peak performance in each precision.
struct Bencher {
    device: Device,
    peaks: Vec<(Element, Result<Peaks, String>)>,
}

impl Bencher {
    /// Measures the device's peaks in every precision that a network may use.
    fn new(device: Device, precisions: &[Precision]) -> Self {
        // The CPU has one precision, regardless of --precisions.
        let on_cpu = matches!(device, Device::Cpu(_));
        let asked = |element| on_cpu || precisions.iter().any(|p| p.element().is_none_or(|e| e == element));
        let elements = Element::ALL.into_iter().filter(|e| asked(*e) && device.supports(*e).is_ok());
        let measured = |element| (element, Peaks::measure(&device, element).map_err(|e| e.to_string()));
        let peaks = elements.map(measured).collect();
        Self { device, peaks }
    }
}

impl Bench {
    pub fn run(&self) -> Result<String> {
        let mut networks = self.networks()?;
        let first_int8 = networks.len();
        if self.int8 {
            let is_int8 =
                |network: &Network| network.graph.nodes().any(|(_, node)| node.weight_scales.is_some());
            let named =
                |network: &Network| Network { arch: format!("{} in int8", network.arch), ..network.clone() };
            let others: Vec<Network> = networks.iter().filter(|n| !is_int8(n)).map(named).collect();
            networks.extend(others);
        }
        let devices = self.devices()?;
        let precisions: Vec<Precision> = self.precisions.iter().map(|stored| stored.precision()).collect();
        let sizes: Vec<Option<[usize; 2]>> =
            if self.sizes.is_empty() { vec![None] } else { self.sizes.iter().copied().map(Some).collect() };

        let mut configurations = Vec::new();
        for (at, device) in devices.iter().enumerate() {
            // The CPU has one precision and no fusion.
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
                                configurations.push((at, network, options));
                            }
                        }
                    }
                }
            }
        }

        let bar = progress("measuring");
        bar.set_length((configurations.len() + devices.len()) as u64);
        let mut benchers = Vec::new();
        for device in devices {
            benchers.push(Bencher::new(device, &precisions));
            bar.inc(1);
        }
        let sampling =
            Sampling { warmup: 3, runs: self.runs as usize, time: Duration::from_secs_f64(self.seconds) };
        let graph = |(at, network)| graph_of(first_int8, at, network);
        let graphs: Vec<_> = networks.iter().enumerate().map(graph).collect::<Result<_>>()?;
        let mut rows = Vec::new();
        for (at, network, options) in configurations {
            let (bencher, graph, network) = (&benchers[at], network, &networks[network]);
            let input = options.input_shape(network);
            let case = Case { graph: &graphs[graph], input, options };
            let timing = time(&bencher.device, case, sampling).map_err(|e| e.to_string());
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
            (true, _) => self.in_json(&benchers, &rows),
            (_, true) => self.in_csv(&rows),
            _ => Ok(self.in_words(&benchers, &rows)?),
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

    /// The adapters, then the CPU with each number of threads. Without a GPU, fails only if it was requested.
    fn devices(&self) -> Result<Vec<Device>> {
        if !self.adapters.is_empty() && self.backend == Backend::Cpu {
            bail!("--adapters names graphics adapters, but --backend is cpu");
        }
        let mut backend = self.backend;
        if backend == Backend::Auto {
            // As for other commands, adapters or threads imply the device.
            let on_cpu = self.adapters.is_empty()
                && (!self.threads.is_empty() || matches!(quietly(Device::best)?, Device::Cpu(_)));
            backend = if on_cpu { Backend::Cpu } else { Backend::Gpu };
        }
        if !self.threads.is_empty() && backend == Backend::Gpu {
            bail!(common::THREADS_ON_ADAPTER);
        }
        let mut devices = Vec::new();
        for wanted in &self.adapters {
            common::trusted(Some(wanted))?;
            devices.push(Device::Gpu(quietly(|| Gpu::open(Some(wanted)))?));
        }
        if self.adapters.is_empty() && backend != Backend::Cpu {
            match quietly(Gpu::new) {
                Ok(gpu) => {
                    common::trusted(None)?;
                    devices.push(Device::Gpu(gpu));
                }
                Err(e) if backend == Backend::Gpu => return Err(e.into()),
                Err(e) => log::warn!("{e}: only the CPU is measured"),
            }
        }
        if backend != Backend::Gpu {
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
}

/// The graph of the network at index `at`, quantised from index `first_int8` on.
fn graph_of(first_int8: usize, at: usize, network: &Network) -> Result<Graph> {
    let graph = network.graph_for(network.default_outputs())?;
    Ok(if at < first_int8 { graph.into_owned() } else { quantize::nominal(network, &graph)? })
}
