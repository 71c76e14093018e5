//! What a device was measured to do: no API tells how many units it has, how fast they are, or what a launch takes.
//! Measured at first use, in less than half a second, and kept in the cache folder; presets say the rest.

use serde::{Deserialize, Serialize};
use web_time::Instant;

use super::{AdapterInfo, Executor, Gpu, cache};
use crate::{
    Result, Shape, Tensor,
    kernels::{Launch, Machine, Rates, broadcast, copy, exchange, multiply_add},
    plan,
    tensor::Element,
};

/// The best that a device did at one thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// Multiply-adds a second.
    pub macs: f64,
    /// Bytes a second, read and written.
    pub bytes: f64,
    /// Seconds that a launch takes that has nothing to do and waits for the one before it.
    pub launch: f64,
}

/// What plans assume of a device and no API tells.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Calibration {
    /// In f32.
    probed: Probed,
    /// Loads of a `vec4` from workgroup memory a second.
    shared: f64,
    /// `vec4`s that subgroups hand over a second, where there are subgroups.
    broadcasts: Option<f64>,
    /// Multiply-adds in f16 a second, where there is f16.
    half: Option<f64>,
}

/// How much to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Care {
    /// Seconds that a probe should take, so that its start does not count.
    pub long: f64,
    /// Runs of each, of which the best counts.
    pub runs: usize,
    /// Maps that are copied have so many pixels along a side, and four channels.
    pub sides: &'static [usize],
}

impl Care {
    /// For somebody who waits for it: a fifth of a second on a GPU, compiling included.
    const QUICK: Self = Self { long: 0.003, runs: 3, sides: &[512, 2048] };
}

/// A map of as many quads as fill any GPU; a device that is slow is given fewer rounds.
const FILLING: Shape = Shape::new(1, 4, 512, 512);

/// Launches in a chain.
const CHAIN: usize = 64;

/// A file of it is for one of these.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    adapter: String,
    backend: String,
    driver: String,
    version: String,
    calibration: Calibration,
}

impl Kept {
    fn new(info: &AdapterInfo, calibration: Calibration) -> Self {
        Self {
            adapter: info.name.clone(),
            backend: info.backend.clone(),
            driver: info.driver.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            calibration,
        }
    }

    /// The file's name; other drivers and versions replace it.
    fn file(info: &AdapterInfo) -> String {
        let named = format!("{}\0{}", info.name, info.backend);
        format!("probed-{:016x}.json", cache::checksum("file", named.as_bytes()))
    }
}

impl Calibration {
    /// `machine` with what was measured in place of what its preset assumes. What is far from that is believed only
    /// so far: something else may have kept the device busy.
    pub(super) fn correct(self, machine: Machine) -> Machine {
        let Probed { macs, bytes, launch: launches } = self.probed;
        let Rates { units, lanes, mac, clock, bandwidth, launch, shared, broadcast, .. } = machine.rates;
        let near = |measured: f64, assumed: f64| measured.clamp(assumed / 32.0, assumed * 4.0);
        // Cycles, by what a unit does beside it: multiplies four values in `mac` of them.
        let cycles = |a_second: f64, assumed: f64| near(mac * macs / (4.0 * a_second), assumed);
        let rates = Rates {
            // A unit multiplies four values of each lane in `mac` cycles.
            units: near(macs * mac / (4.0 * lanes * clock), units).max(1.0),
            bandwidth: near(bytes / clock, bandwidth),
            launch: near(launches * clock, launch),
            shared: cycles(self.shared, shared),
            broadcast: self.broadcasts.map_or(broadcast, |handed| cycles(handed, broadcast)),
            ..machine.rates
        };
        // No faster than f32: whether f16 sums are exact enough is for the tuner to find.
        let half_rate = self.half.map_or(machine.half_rate, |half| near(half / macs, 1.0).min(1.0));
        Machine { rates, half_rate, ..machine }
    }
}

impl Gpu {
    /// Measures what plans assume of the device, unless that is known or one has been planned already, and keeps it.
    /// Software drivers are left to their presets, and so is a device without a cache folder: each start would
    /// measure again.
    ///
    /// # Errors
    /// As [`Executor::new`] and [`Executor::run`].
    pub async fn calibrate(&self) -> Result<()> {
        if self.info.software || self.calibration.get().is_some() {
            return Ok(());
        }
        let (Some(_), None) = (self.cache_folder(), self.recall()) else { return Ok(()) };
        let begun = Instant::now();
        let found = self.measured().await?;
        log::debug!("{}: {found:?}, measured in {:.2} s", self.info, begun.elapsed().as_secs_f64());
        // Of two that measure at once the first stays.
        let _ = self.calibration.set(Some(found));
        self.remember(found);
        Ok(())
    }

    /// What was measured of it, if it was.
    pub(super) fn calibration(&self) -> Option<Calibration> {
        *self.calibration.get_or_init(|| self.recall())
    }

    /// What was kept of an earlier start.
    fn recall(&self) -> Option<Calibration> {
        let name = Kept::file(&self.info);
        let bytes = cache::read(self.cache_folder()?, &name)?;
        let found: Kept = serde_json::from_slice(cache::unseal(&name, &bytes)?).ok()?;
        (found == Kept::new(&self.info, found.calibration)).then_some(found.calibration)
    }

    fn remember(&self, found: Calibration) {
        let (name, kept) = (Kept::file(&self.info), Kept::new(&self.info, found));
        if let (Some(folder), Ok(data)) = (self.cache_folder(), serde_json::to_vec_pretty(&kept)) {
            cache::write_whole(folder, &name, &cache::seal(&name, &data));
        }
    }

    /// Measures the device, with maps of `element`. It blocks where anything may.
    ///
    /// # Errors
    /// As [`Executor::new`] and [`Executor::run`].
    pub async fn probe(&self, element: Element, care: Care) -> Result<Probed> {
        let macs = self.macs(element, care).await?;
        // Maps as networks have them and, where there is room, some that no cache holds.
        let mut bytes = 0.0f64;
        for &side in care.sides {
            let x = Shape::new(1, 4, side, side);
            let limits = self.device.limits();
            if x.device_bytes(element) > limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) {
                break;
            }
            let seconds = self.chain(&copy::launch(x), 4, x, element, care).await?;
            bytes = bytes.max(4.0 * 2.0 * x.device_bytes(element) as f64 / seconds);
            // A device this slow has no cache that larger maps would leave.
            if seconds > care.long / 8.0 {
                break;
            }
        }
        // A workgroup each, which is as little as can be launched.
        let x = Shape::new(1, 4, 8, 8);
        let launch = self.chain(&copy::launch(x), CHAIN, x, element, care).await? / CHAIN as f64;
        Ok(Probed { macs, bytes, launch })
    }

    /// Everything that a plan's [`Machine`] is corrected with.
    async fn measured(&self) -> Result<Calibration> {
        let care = Care::QUICK;
        let probed = self.probe(Element::F32, care).await?;
        let half = if self.supports(Element::F16).is_ok() {
            Some(self.macs(Element::F16, care).await?)
        } else {
            None
        };
        let handed = |at_once: usize| (at_once * FILLING.pixels()) as f64;
        let shared = self.rounds(|rounds| exchange::launch(FILLING, rounds), Element::F32, care).await?;
        let broadcasts = match self.subgroup() {
            None => None,
            Some(_) => {
                let launch = |rounds| broadcast::launch(FILLING, rounds);
                Some(handed(broadcast::AT_ONCE) * self.rounds(launch, Element::F32, care).await?)
            }
        };
        Ok(Calibration { probed, shared: handed(exchange::AT_ONCE) * shared, broadcasts, half })
    }

    /// Multiply-adds a second, with maps and sums of `element`.
    async fn macs(&self, element: Element, care: Care) -> Result<f64> {
        let launch = |rounds| multiply_add::launch(FILLING, rounds, element);
        Ok(multiply_add::macs(FILLING, 1) as f64 * self.rounds(launch, element, care).await?)
    }

    /// Rounds a second of a launch over [`FILLING`] that has nothing else to do, as many as take long enough.
    async fn rounds(&self, launch: impl Fn(u32) -> Launch, element: Element, care: Care) -> Result<f64> {
        let mut rounds = 4;
        loop {
            let seconds = self.chain(&launch(rounds), 1, FILLING, element, care).await?;
            if seconds > care.long || rounds >= 1 << 20 {
                return Ok(f64::from(rounds) / seconds);
            }
            rounds *= if seconds < care.long / 16.0 { 8 } else { 2 };
        }
    }

    /// The fewest seconds that so many launches took, by the device's own clock if it has one.
    async fn chain(
        &self,
        launch: &Launch,
        count: usize,
        x: Shape,
        element: Element,
        care: Care,
    ) -> Result<f64> {
        let plan = plan::chain(launch, count, x, element);
        let mut executor = Executor::new(self, &plan, |_, _| {}).await?;
        let input = Tensor::from_fn(<[usize; 4]>::from(plan.input.shape), |_| 0.0);
        executor.run_async(&input).await?;
        let mut best = f64::INFINITY;
        for _ in 0..care.runs {
            let seconds = if self.has_timestamps() {
                executor.clock_async(&input).await? / 1e9
            } else {
                let start = Instant::now();
                executor.run_async(&input).await?;
                start.elapsed().as_secs_f64()
            };
            // A clock that stood still has measured nothing.
            if seconds > 0.0 {
                best = best.min(seconds);
            }
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Card;

    #[test]
    fn what_was_measured_replaces_what_is_assumed_within_reason() {
        let ada = Card::Ada.machine();
        let Rates { units, lanes, mac, clock, bandwidth, launch, shared, broadcast, .. } = ada.rates;
        // A card of half as many units, a third of the bandwidth, launches and workgroup memory that take twice as
        // long, broadcasts that take half as long, and f16 that is quick, or slow.
        let macs = 0.5 * units * 4.0 * lanes * clock / mac;
        let probed = Probed { macs, bytes: bandwidth * clock / 3.0, launch: 2.0 * launch / clock };
        let each = 0.5 * units * lanes * clock;
        let calibration = Calibration {
            probed,
            shared: each / (2.0 * shared),
            broadcasts: Some(each / (0.5 * broadcast)),
            half: Some(2.0 * macs),
        };
        let corrected = calibration.correct(ada);
        let found = corrected.rates;
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
        assert!(near(found.units, 0.5 * units) && near(found.bandwidth, bandwidth / 3.0), "{found:?}");
        assert!(near(found.launch, 2.0 * launch) && found.latency == ada.rates.latency, "{found:?}");
        assert!(near(found.shared, 2.0 * shared) && near(found.broadcast, 0.5 * broadcast), "{found:?}");
        assert_eq!(corrected.half_rate, 1.0);
        assert_eq!(Calibration { half: Some(0.5 * macs), ..calibration }.correct(ada).half_rate, 0.5);
        let unknown = Calibration { half: None, broadcasts: None, ..calibration }.correct(ada);
        assert_eq!((unknown.half_rate, unknown.rates.broadcast), (ada.half_rate, broadcast));
        // One that was busy with something else.
        let busy = Probed { macs: 1.0, bytes: 1.0, launch: 10.0 };
        let busy = Calibration { probed: busy, ..calibration }.correct(ada).rates;
        assert!(near(busy.units, units / 32.0) && near(busy.launch, 4.0 * launch), "{busy:?}");
    }

    #[test]
    fn what_was_measured_is_found_again_by_the_same_device_alone() {
        let Ok(gpu) = Gpu::new() else { return };
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        // As a software driver is not calibrated by itself.
        let found = pollster::block_on(gpu.measured()).unwrap();
        let Calibration { probed: Probed { macs, bytes, launch }, shared, broadcasts, half } = found;
        let all = [macs, bytes, launch, shared, broadcasts.unwrap_or(1.0), half.unwrap_or(1.0)];
        assert!(all.iter().all(|measured| *measured > 0.0 && measured.is_finite()), "{found:?}");
        assert_eq!(broadcasts.is_some(), gpu.subgroup().is_some());
        assert_eq!(gpu.recall(), None);
        gpu.remember(found);
        assert_eq!((gpu.recall(), gpu.calibration()), (Some(found), Some(found)));
        let other = Gpu { info: AdapterInfo { driver: "another".into(), ..gpu.info.clone() }, ..gpu.clone() };
        assert_eq!(other.recall(), None);
        let file = folder.path().join(Kept::file(&gpu.info));
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(gpu.recall(), None, "damaged");
        assert_eq!(gpu.clone().cache_in(None).recall(), None);
    }
}
