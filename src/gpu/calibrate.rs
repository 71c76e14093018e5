//! Calibration of the cost model: no API reports how many units a device has, how fast they are, or how
//! long a launch takes. These are measured at first use, in less than half a second, and saved in the cache
//! folder. The other parameters come from presets.

use serde::{Deserialize, Serialize};
use web_time::Instant;

use super::{AdapterInfo, Executor, Gpu, cache};
use crate::{
    Error, Result, Shape, Tensor,
    kernels::{Launch, Machine, Rates, broadcast, copy, exchange, multiply_add},
    plan::{self, Peaks},
    tensor::Element,
};

/// The measured parameters of the cost model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Calibration {
    /// Peak rates in f32.
    peaks: Peaks,
    /// `vec4` loads from workgroup memory per second.
    shared: f64,
    /// Subgroup broadcasts of a `vec4` per second, if the device has subgroups.
    broadcasts: Option<f64>,
    /// Multiply-adds in f16 per second, if the device has f16.
    half: Option<f64>,
}

/// The effort of a measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeSettings {
    /// The minimum time of a probe in seconds, so that its startup is negligible.
    pub long: f64,
    /// Runs of each probe; the fastest run counts.
    pub runs: usize,
    /// The sides of the square maps of four channels that the probe of memory bandwidth copies.
    pub sides: &'static [usize],
}

impl ProbeSettings {
    /// For interactive starts: a fifth of a second on a GPU, compilation included.
    const FAST: Self = Self { long: 0.003, runs: 3, sides: &[512, 2048] };
}

/// A map with enough quads to fill any GPU; slow devices run fewer rounds over it.
const FILLING: Shape = Shape::new(1, 4, 512, 512);

/// Launches per chain.
const CHAIN: usize = 64;

/// The contents of a calibration file: the calibration, and the device and version that it is for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct CacheEntry {
    adapter: String,
    backend: String,
    driver: String,
    version: String,
    calibration: Calibration,
}

impl CacheEntry {
    fn new(info: &AdapterInfo, calibration: Calibration) -> Self {
        Self {
            adapter: info.name.clone(),
            backend: info.backend.clone(),
            driver: info.driver.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            calibration,
        }
    }

    /// The file's name, which is the same for all drivers and versions: a newer file replaces it.
    fn file(info: &AdapterInfo) -> String {
        let named = format!("{}\0{}", info.name, info.backend);
        format!("probed-{:016x}.json", cache::checksum("file", named.as_bytes()))
    }
}

impl Calibration {
    /// Replaces the preset's rates in `machine` by measured ones. They are clamped to a range around the
    /// preset, since other work may have kept the device busy.
    pub(super) fn correct(self, machine: Machine) -> Machine {
        let Peaks { macs, bytes, launch: launches } = self.peaks;
        let Rates { units, lanes, mac, clock, bandwidth, launch, shared, broadcast, .. } = machine.rates;
        let near = |measured: f64, assumed: f64| measured.clamp(assumed / 32.0, assumed * 4.0);
        // Cycles per operation, from its rate and that of multiply-adds: a unit does four multiply-adds of
        // each lane in `mac` cycles.
        let cycles = |per_second: f64, assumed: f64| near(mac * macs / (4.0 * per_second), assumed);
        let rates = Rates {
            units: near(macs * mac / (4.0 * lanes * clock), units).max(1.0),
            bandwidth: near(bytes / clock, bandwidth),
            launch: near(launches * clock, launch),
            shared: cycles(self.shared, shared),
            broadcast: self.broadcasts.map_or(broadcast, |per_second| cycles(per_second, broadcast)),
            ..machine.rates
        };
        // At most the rate of f32, so that the cost model expects no gain from f16 accumulators, which cost
        // accuracy. The tuner decides whether they are exact enough.
        let half_rate = self.half.map_or(machine.half_rate, |half| near(half / macs, 1.0).min(1.0));
        Machine { rates, half_rate, ..machine }
    }
}

impl Gpu {
    /// Measures and saves the cost-model parameters of the device, unless they are known or a plan has
    /// already used the presets. Software drivers keep their presets, and so do devices without a cache
    /// folder, which would measure at every start, and those on which the measurement fails.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn calibrate(&self) -> Result<()> {
        if self.info.software || self.calibration.get().is_some() {
            return Ok(());
        }
        let (Some(_), None) = (self.cache_folder(), self.load_calibration()) else { return Ok(()) };
        let begun = Instant::now();
        let found = match self.measured().await {
            Ok(found) => found,
            Err(lost @ Error::Lost(_)) => return Err(lost),
            // Presets will do: a network may need less memory than the measurement.
            Err(error) => {
                log::debug!("{}: the cost model keeps its presets: {error}", self.info);
                let _ = self.calibration.set(None);
                return Ok(());
            }
        };
        log::debug!("{}: {found:?}, measured in {:.2} s", self.info, begun.elapsed().as_secs_f64());
        // If two threads measure, the first result remains.
        let _ = self.calibration.set(Some(found));
        self.save_calibration(found);
        Ok(())
    }

    /// The device's calibration, if there is one.
    pub(super) fn calibration(&self) -> Option<Calibration> {
        *self.calibration.get_or_init(|| self.load_calibration())
    }

    /// The calibration that an earlier start saved.
    fn load_calibration(&self) -> Option<Calibration> {
        let name = CacheEntry::file(&self.info);
        let bytes = cache::read(self.cache_folder()?, &name)?;
        let found: CacheEntry = serde_json::from_slice(cache::unseal(&name, &bytes)?).ok()?;
        (found == CacheEntry::new(&self.info, found.calibration)).then_some(found.calibration)
    }

    fn save_calibration(&self, found: Calibration) {
        let (name, kept) = (CacheEntry::file(&self.info), CacheEntry::new(&self.info, found));
        if let (Some(folder), Ok(data)) = (self.cache_folder(), serde_json::to_vec_pretty(&kept)) {
            cache::write_whole(folder, &name, &cache::seal(&name, &data));
        }
    }

    /// Measures the device's peak rates, with maps of `element`. It blocks, except in browsers.
    ///
    /// # Errors
    /// As [`Executor::new`] and [`Executor::run`].
    pub async fn probe(&self, element: Element, settings: ProbeSettings) -> Result<Peaks> {
        let macs = self.macs(element, settings).await?;
        // Maps of the sizes in networks and, if memory allows, some that exceed all caches.
        let mut bytes = 0.0f64;
        for &side in settings.sides {
            let x = Shape::new(1, 4, side, side);
            let limits = self.device.limits();
            if x.device_bytes(element) > limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) {
                break;
            }
            let seconds = self.chain(&copy::launch(x), 4, x, element, settings).await?;
            bytes = bytes.max(4.0 * 2.0 * x.device_bytes(element) as f64 / seconds);
            // A device this slow has no cache that larger maps would exceed.
            if seconds > settings.long / 8.0 {
                break;
            }
        }
        // One workgroup per launch, which is the minimum.
        let x = Shape::new(1, 4, 8, 8);
        let launch = self.chain(&copy::launch(x), CHAIN, x, element, settings).await? / CHAIN as f64;
        Ok(Peaks { macs, bytes, launch })
    }

    /// Measures all parameters that correct a [`Machine`].
    async fn measured(&self) -> Result<Calibration> {
        let settings = ProbeSettings::FAST;
        let peaks = self.probe(Element::F32, settings).await?;
        let half = if self.supports(Element::F16).is_ok() {
            Some(self.macs(Element::F16, settings).await?)
        } else {
            None
        };
        let per_round = |at_once: usize| (at_once * FILLING.pixels()) as f64;
        let shared = self.rounds(|rounds| exchange::launch(FILLING, rounds), Element::F32, settings).await?;
        let broadcasts = match self.subgroup() {
            None => None,
            Some(_) => {
                let launch = |rounds| broadcast::launch(FILLING, rounds);
                Some(per_round(broadcast::AT_ONCE) * self.rounds(launch, Element::F32, settings).await?)
            }
        };
        Ok(Calibration { peaks, shared: per_round(exchange::AT_ONCE) * shared, broadcasts, half })
    }

    /// Multiply-adds per second, with maps and accumulators of `element`.
    async fn macs(&self, element: Element, settings: ProbeSettings) -> Result<f64> {
        let launch = |rounds| multiply_add::launch(FILLING, rounds, element);
        Ok(multiply_add::macs(FILLING, 1) as f64 * self.rounds(launch, element, settings).await?)
    }

    /// Rounds per second of a launch over [`FILLING`], with enough rounds for a run of `settings.long`
    /// seconds.
    async fn rounds(
        &self,
        launch: impl Fn(u32) -> Launch,
        element: Element,
        settings: ProbeSettings,
    ) -> Result<f64> {
        let mut rounds = 4;
        loop {
            let seconds = self.chain(&launch(rounds), 1, FILLING, element, settings).await?;
            // Infinite: too short for the timestamps.
            if seconds.is_finite() && seconds > settings.long || rounds >= 1 << 20 {
                return Ok(f64::from(rounds) / seconds);
            }
            rounds *= if seconds.is_infinite() || seconds < settings.long / 16.0 { 8 } else { 2 };
        }
    }

    /// The shortest time of `count` launches in seconds, by timestamps if the device has them.
    async fn chain(
        &self,
        launch: &Launch,
        count: usize,
        x: Shape,
        element: Element,
        settings: ProbeSettings,
    ) -> Result<f64> {
        let plan = plan::chain(launch, count, x, element);
        let mut executor = Executor::new(self, &plan, |_, _| {}).await?;
        let input = Tensor::from_fn(<[usize; 4]>::from(plan.input.shape), |_| 0.0);
        executor.run_async(&input).await?;
        let mut best = f64::INFINITY;
        for _ in 0..settings.runs {
            let seconds = if self.has_timestamps() {
                executor.gpu_time_async(&input).await? / 1e9
            } else {
                let start = Instant::now();
                executor.run_async(&input).await?;
                start.elapsed().as_secs_f64()
            };
            // Zero means that the timestamps' resolution is too coarse.
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
    fn measurements_replace_presets_within_limits() {
        let ada = Card::Ada.machine();
        let Rates { units, lanes, mac, clock, bandwidth, launch, shared, broadcast, .. } = ada.rates;
        // A card with half the units and a third of the bandwidth. Launches and workgroup memory take twice
        // as long, broadcasts half as long, and f16 is fast or slow.
        let macs = 0.5 * units * 4.0 * lanes * clock / mac;
        let peaks = Peaks { macs, bytes: bandwidth * clock / 3.0, launch: 2.0 * launch / clock };
        let each = 0.5 * units * lanes * clock;
        let calibration = Calibration {
            peaks,
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
        // A device that was busy with other work.
        let busy = Peaks { macs: 1.0, bytes: 1.0, launch: 10.0 };
        let busy = Calibration { peaks: busy, ..calibration }.correct(ada).rates;
        assert!(near(busy.units, units / 32.0) && near(busy.launch, 4.0 * launch), "{busy:?}");
    }

    #[test]
    fn a_calibration_is_loaded_for_the_same_device_only() {
        let Ok(gpu) = Gpu::new() else { return };
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        // Called directly, since software drivers are not calibrated automatically.
        let found = pollster::block_on(gpu.measured()).unwrap();
        let Calibration { peaks: Peaks { macs, bytes, launch }, shared, broadcasts, half } = found;
        let all = [macs, bytes, launch, shared, broadcasts.unwrap_or(1.0), half.unwrap_or(1.0)];
        assert!(all.iter().all(|measured| *measured > 0.0 && measured.is_finite()), "{found:?}");
        assert_eq!(broadcasts.is_some(), gpu.subgroup().is_some());
        assert_eq!(gpu.load_calibration(), None);
        gpu.save_calibration(found);
        assert_eq!((gpu.load_calibration(), gpu.calibration()), (Some(found), Some(found)));
        let other = Gpu { info: AdapterInfo { driver: "another".into(), ..gpu.info.clone() }, ..gpu.clone() };
        assert_eq!(other.load_calibration(), None);
        let file = folder.path().join(CacheEntry::file(&gpu.info));
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(gpu.load_calibration(), None, "damaged");
        assert_eq!(gpu.clone().cache_in(None).load_calibration(), None);
    }
}
