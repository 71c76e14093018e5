//! What a device was measured to do: no API tells how many units it has, how fast they are, or what a launch takes.
//! Measured at first use, in less than half a second, and kept in the cache folder; the planner's presets say the rest.

use serde::{Deserialize, Serialize};
use web_time::Instant;

use super::{AdapterInfo, Executor, Gpu, cache};
use crate::{
    Result, Shape, Tensor,
    kernels::{Launch, Machine, Rates, copy, multiply_add},
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

/// Launches in a chain.
const CHAIN: usize = 64;

/// A file of it is for one of these.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    adapter: String,
    backend: String,
    driver: String,
    version: String,
    probed: Probed,
}

impl Kept {
    fn new(info: &AdapterInfo, probed: Probed) -> Self {
        Self {
            adapter: info.name.clone(),
            backend: info.backend.clone(),
            driver: info.driver.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            probed,
        }
    }

    /// The file's name; other drivers and versions replace it.
    fn file(info: &AdapterInfo) -> String {
        let named = format!("{}\0{}", info.name, info.backend);
        format!("probed-{:016x}.json", cache::checksum("file", named.as_bytes()))
    }
}

impl Probed {
    /// `machine` with what was measured in place of what its preset assumes. What is far from that is believed only
    /// so far: something else may have kept the device busy.
    pub(super) fn correct(self, machine: Machine) -> Machine {
        let Rates { units, lanes, mac, clock, bandwidth, launch, .. } = machine.rates;
        let near = |measured: f64, assumed: f64| measured.clamp(assumed / 32.0, assumed * 4.0);
        let rates = Rates {
            // A unit multiplies four values of each lane in `mac` cycles.
            units: near(self.macs * mac / (4.0 * lanes * clock), units).max(1.0),
            bandwidth: near(self.bytes / clock, bandwidth),
            launch: near(self.launch * clock, launch),
            ..machine.rates
        };
        Machine { rates, ..machine }
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
        if self.info.software || self.probed.get().is_some() {
            return Ok(());
        }
        let (Some(_), None) = (self.cache_folder(), self.recall()) else { return Ok(()) };
        let begun = Instant::now();
        let probed = self.probe(Element::F32, Care::QUICK).await?;
        log::debug!("{}: {probed:?}, measured in {:.2} s", self.info, begun.elapsed().as_secs_f64());
        // Of two that measure at once the first stays.
        let _ = self.probed.set(Some(probed));
        self.remember(probed);
        Ok(())
    }

    /// What was measured of it, if it was.
    pub(super) fn probed(&self) -> Option<Probed> {
        *self.probed.get_or_init(|| self.recall())
    }

    /// What was kept of an earlier start.
    fn recall(&self) -> Option<Probed> {
        let name = Kept::file(&self.info);
        let bytes = cache::read(self.cache_folder()?, &name)?;
        let found: Kept = serde_json::from_slice(cache::unseal(&name, &bytes)?).ok()?;
        (found == Kept::new(&self.info, found.probed)).then_some(found.probed)
    }

    fn remember(&self, probed: Probed) {
        let (name, kept) = (Kept::file(&self.info), Kept::new(&self.info, probed));
        if let (Some(folder), Ok(data)) = (self.cache_folder(), serde_json::to_vec_pretty(&kept)) {
            cache::write_whole(folder, &name, &cache::seal(&name, &data));
        }
    }

    /// Measures the device, with maps of `element`. It blocks where anything may.
    ///
    /// # Errors
    /// As [`Executor::new`] and [`Executor::run`].
    pub async fn probe(&self, element: Element, care: Care) -> Result<Probed> {
        // As many quads as fill any GPU; a device that is slow at it is given less to do.
        let x = Shape::new(1, 4, 512, 512);
        let mut rounds = 4;
        let macs = loop {
            let launch = multiply_add::launch(x, rounds, element);
            let seconds = self.chain(&launch, 1, x, element, care).await?;
            if seconds > care.long || rounds >= 1 << 20 {
                break multiply_add::macs(x, rounds) as f64 / seconds;
            }
            rounds *= if seconds < care.long / 16.0 { 8 } else { 2 };
        };
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
        let Rates { units, lanes, mac, clock, bandwidth, launch, .. } = ada.rates;
        // A card of half as many units, a third of the bandwidth, and launches that take twice as long.
        let macs = 0.5 * units * 4.0 * lanes * clock / mac;
        let probed = Probed { macs, bytes: bandwidth * clock / 3.0, launch: 2.0 * launch / clock };
        let found = probed.correct(ada).rates;
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
        assert!(near(found.units, 0.5 * units) && near(found.bandwidth, bandwidth / 3.0), "{found:?}");
        assert!(near(found.launch, 2.0 * launch) && found.latency == ada.rates.latency, "{found:?}");
        // One that was busy with something else.
        let busy = Probed { macs: 1.0, bytes: 1.0, launch: 10.0 }.correct(ada).rates;
        assert!(near(busy.units, units / 32.0) && near(busy.launch, 4.0 * launch), "{busy:?}");
    }

    #[test]
    fn what_was_measured_is_found_again_by_the_same_device_alone() {
        let Ok(gpu) = Gpu::new() else { return };
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        let probed = Probed { macs: 2e12, bytes: 3e11, launch: 4e-6 };
        assert_eq!(gpu.recall(), None);
        gpu.remember(probed);
        assert_eq!((gpu.recall(), gpu.probed()), (Some(probed), Some(probed)));
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
