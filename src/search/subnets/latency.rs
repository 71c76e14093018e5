//! Predicts the time of subnets on a device from the times of their blocks. All blocks of the search space
//! are timed once per device, as steps of a few networks.

use std::{collections::BTreeMap, fs, io::ErrorKind, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    gpu::cache,
    kernels,
    measure::{Case, Sampling, Spread, Timing, time},
    random::Random,
    session::{Device, Options, Precision},
    zoo::{BlockChoice, Network, Space, StageChoice, Subnet, Supernet},
};

use super::evolve::Draw;

/// The times of a supernet's blocks on a device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Milliseconds of each part of a network, by name: the minimum over all runs, because other load on the
    /// machine only adds time.
    parts: BTreeMap<String, f64>,
    /// Milliseconds outside the steps, for each size and width: upload of the picture, readback of the
    /// result, and gaps between steps.
    overhead: BTreeMap<String, f64>,
}

/// A prediction and the measurement of the same subnet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// The subnet, as text.
    pub subnet: String,
    /// The predicted milliseconds.
    pub predicted_ms: f64,
    /// The measured milliseconds.
    pub measured_ms: Spread,
}

impl Checked {
    /// The error of the prediction, relative to the measured median.
    pub fn error(&self) -> f64 {
        (self.predicted_ms / self.measured_ms.median - 1.0).abs()
    }
}

impl Latency {
    /// Times the blocks of `supernet` on a device, except those in the cache file. Calls `progress` with the
    /// number of finished measurements and their total; one measurement times a network of about twenty
    /// blocks.
    ///
    /// # Errors
    /// Those of [`time`]; [`Error::Device`] if the device cannot time steps.
    pub fn measure(
        supernet: &Supernet,
        device: &Device,
        precision: Precision,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let cached = File::new(supernet, device, precision);
        let mut latency = cached.read().unwrap_or_default();
        let space = supernet.space();
        let pairs = space.sizes.iter().flat_map(|size| space.widths.iter().map(|width| (*size, *width)));
        let missing: Vec<(usize, f64)> =
            pairs.filter(|(size, width)| !latency.overhead.contains_key(&size_key(*size, *width))).collect();
        let mut done = 0;
        for (size, width) in &missing {
            let probes = probes(supernet, *size, *width);
            // The minimum over all runs of each probe: of the whole network, and of each part.
            let mut walls = vec![f64::INFINITY; probes.len()];
            let mut steps: Vec<Vec<f64>> = vec![Vec::new(); probes.len()];
            for _ in 0..ROUNDS {
                for (at, subnet) in probes.iter().enumerate() {
                    progress(done, ROUNDS * probes.len() * missing.len());
                    done += 1;
                    let timing = timed(supernet, device, precision, subnet, QUICK)?;
                    let found = by_block(&timing).ok_or_else(|| {
                        Error::Device(format!("{device} has no clock that times the steps of a network"))
                    })?;
                    walls[at] = walls[at].min(timing.wall_ms.min);
                    steps[at].resize(found.len(), f64::INFINITY);
                    steps[at].iter_mut().zip(found).for_each(|(least, ms)| *least = least.min(ms));
                }
            }
            let between = walls.iter().zip(&steps).map(|(wall, steps)| wall - steps.iter().sum::<f64>());
            let overhead = Spread::of(between.collect()).map_or(f64::INFINITY, |spread| spread.median);
            for (part, ms) in
                probes.iter().zip(steps).flat_map(|(probe, steps)| parts(probe).into_iter().zip(steps))
            {
                let least = latency.parts.entry(part).or_insert(f64::INFINITY);
                *least = least.min(ms);
            }
            // Inserted last: it marks this size and width as complete.
            latency.overhead.insert(size_key(*size, *width), overhead);
            cached.keep(&latency);
        }
        progress(done, done);
        Ok(latency)
    }

    /// Deletes the cached times of a supernet's blocks on a device, so that [`Latency::measure`] times them
    /// again.
    pub fn forget(supernet: &Supernet, device: &Device, precision: Precision) {
        if let Some(folder) = cache::folder() {
            let path = folder.join(File::new(supernet, device, precision).name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    log::warn!("{}: {error}: its block times are used again", path.display());
                }
                _ => {}
            }
        }
    }

    /// Predicts the milliseconds of a subnet of the supernet, from a picture in memory to the result in
    /// memory. Infinite if a part of it was not measured.
    pub fn predict(&self, subnet: &Subnet) -> f64 {
        let of = |part: &String| self.parts.get(part).copied().unwrap_or(f64::INFINITY);
        let overhead = self.overhead.get(&size_key(subnet.size, subnet.width)).copied();
        parts(subnet).iter().map(of).sum::<f64>() + overhead.unwrap_or(f64::INFINITY)
    }

    /// Times `count` random subnets and compares them with their predictions.
    ///
    /// # Errors
    /// Those of [`time`].
    pub fn check(
        &self,
        supernet: &Supernet,
        device: &Device,
        precision: Precision,
        count: usize,
        seed: u64,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Vec<Checked>> {
        let mut draw = Draw { supernet, random: Random::new(seed) };
        let subnets: Vec<Subnet> = (0..count).map(|_| draw.any()).collect();
        let mut best: Vec<Option<Spread>> = vec![None; count];
        for round in 0..ROUNDS {
            for (at, (subnet, best)) in subnets.iter().zip(&mut best).enumerate() {
                progress(round * count + at, ROUNDS * count);
                let found = timed(supernet, device, precision, subnet, CAREFUL)?.wall_ms;
                if best.is_none_or(|best| found.median < best.median) {
                    *best = Some(found);
                }
            }
        }
        let checked = subnets.iter().zip(best).filter_map(|(subnet, measured_ms)| {
            let (subnet, predicted_ms) = (subnet.to_string(), self.predict(subnet));
            Some(Checked { subnet, predicted_ms, measured_ms: measured_ms? })
        });
        Ok(checked.collect())
    }
}

const QUICK: Sampling = Sampling { warmup: 2, runs: 5, time: Duration::from_millis(30) };
const CAREFUL: Sampling = Sampling { warmup: 3, runs: 15, time: Duration::from_millis(150) };

/// Measurements per network. The measurements of several networks alternate, because another process may slow
/// all runs of one measurement.
const ROUNDS: usize = 3;

/// Times a subnet several times and returns the measurement with the lowest median.
///
/// # Errors
/// Those of [`time`].
pub fn measured(
    supernet: &Supernet,
    device: &Device,
    precision: Precision,
    subnet: &Subnet,
) -> Result<Timing> {
    let mut best = timed(supernet, device, precision, subnet, CAREFUL)?;
    for _ in 1..ROUNDS {
        let other = timed(supernet, device, precision, subnet, CAREFUL)?;
        if other.wall_ms.median < best.wall_ms.median {
            best = other;
        }
    }
    Ok(best)
}

fn timed(
    supernet: &Supernet,
    device: &Device,
    precision: Precision,
    subnet: &Subnet,
    sampling: Sampling,
) -> Result<Timing> {
    let network: Network = supernet.slice(subnet)?.network()?;
    let options = Options { precision, ..Options::default() };
    time(device, Case { graph: &network.graph, input: network.input_shape(1), options }, sampling)
}

fn size_key(size: usize, width: f64) -> String {
    format!("r{size},w{width}")
}

/// Returns the names of a network's parts: the ends (stem, first block and head), which all networks of a
/// size and width share, then the blocks in order. Equal blocks with maps of equal shapes share a name; in a
/// stage, the maps of the first block differ from those of the later ones.
fn parts(subnet: &Subnet) -> Vec<String> {
    let key = size_key(subnet.size, subnet.width);
    let mut parts = vec![format!("{key} ends")];
    for (i, StageChoice { squeeze, blocks }) in subnet.stages.iter().enumerate() {
        let squeeze = if *squeeze { "+se" } else { "" };
        parts.extend(blocks.iter().enumerate().map(|(at, BlockChoice { kernel, expansion })| {
            let position = if at == 0 { "first" } else { "later" };
            format!("{key} stage {} {position} k{kernel}e{expansion}{squeeze}", i + 1)
        }));
    }
    parts
}

/// Milliseconds of the network's ends and of each of its blocks, in the order of [`parts`].
fn by_block(timing: &Timing) -> Option<Vec<f64>> {
    let mut parts = vec![0.0];
    for step in &timing.steps {
        // Block 0, after the stem, belongs to the ends: it has no choices.
        let block = step.summary.name().strip_prefix("blocks.").and_then(|rest| rest.split('.').next());
        let at = block.and_then(|block| block.parse::<usize>().ok()).unwrap_or(0);
        if parts.len() <= at {
            parts.resize(at + 1, 0.0);
        }
        parts[at] += step.ms?.min;
    }
    Some(parts)
}

/// Networks of one size and width that together contain every part; all have the maximum depth.
fn probes(supernet: &Supernet, size: usize, width: f64) -> Vec<Subnet> {
    let space = supernet.space();
    let blocks: Vec<BlockChoice> = space
        .kernels
        .iter()
        .flat_map(|&kernel| space.expansions.iter().map(move |&expansion| BlockChoice { kernel, expansion }))
        .collect();
    let depth = space.depths.last().copied().unwrap_or(1);
    let squeezes = |stage: usize, wanted: bool| match (supernet.squeezes(stage), supernet.plain(stage)) {
        (true, true) => wanted,
        (squeezes, _) => squeezes,
    };
    let choice = (0..supernet.stages()).any(|stage| supernet.squeezes(stage) && supernet.plain(stage));
    let wanted: &[bool] = if choice { &[false, true] } else { &[true] };
    // In the probes of one squeeze choice, each pair of kernel size and expansion occurs in every stage once
    // as the first block and `others` times among the later blocks.
    let others = depth.saturating_sub(1).max(1);
    let mut probes = Vec::new();
    for &squeeze in wanted {
        for first in 0..blocks.len() {
            let block = |at: usize| match at {
                0 => blocks[first],
                at => blocks[(first * others + at) % blocks.len()],
            };
            let choice = |stage: usize| StageChoice {
                squeeze: squeezes(stage, squeeze),
                blocks: (0..depth).map(block).collect(),
            };
            probes.push(Subnet { size, width, stages: (0..supernet.stages()).map(choice).collect() });
        }
    }
    probes
}

/// The cache file with the times of a supernet's blocks on a device.
struct File {
    name: String,
}

impl File {
    fn new(supernet: &Supernet, device: &Device, precision: Precision) -> Self {
        let shapes: Vec<String> =
            supernet.tensors().map(|(name, tensor)| format!("{name} {:?}", tensor.dims())).collect();
        let driver = match device {
            Device::Gpu(gpu) => format!("{} {}", gpu.adapter().driver, gpu.adapter().backend),
            Device::Cpu(_) => String::new(),
        };
        let texts: String = kernels::texts().chain([env!("CARGO_PKG_VERSION")]).collect();
        // Sizes and widths are keys within the file.
        let Space { kernels, expansions, depths, squeeze, .. } = supernet.space();
        let space = format!("{kernels:?} {expansions:?} {depths:?} {squeeze:?}");
        let key = format!("{device} {driver} {precision:?} {space} {shapes:?} {texts}");
        Self { name: format!("blocks-{:016x}.json", cache::checksum("blocks", key.as_bytes())) }
    }

    fn read(&self) -> Option<Latency> {
        let bytes = cache::read(&cache::folder()?, &self.name)?;
        serde_json::from_slice(cache::unseal(&self.name, &bytes)?).ok()
    }

    fn keep(&self, latency: &Latency) {
        let kept = cache::folder().zip(serde_json::to_vec(latency).ok());
        if let Some((folder, bytes)) = kept {
            cache::write_whole(&folder, &self.name, &cache::seal(&self.name, &bytes));
        }
    }
}
