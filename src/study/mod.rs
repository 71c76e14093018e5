//! Experiments on the claims of a paper: depthwise-separable convolutions cut the arithmetic about
//! ninefold; CPUs save nearly as much time, but parallel devices do not, because there are more
//! layers and each uses less of the chip. The study measures this on the current machine. It also
//! measures the costs and gains of int8, the paper's last topic.
//!
//! The paper is Zhang, "Research and Development of Lightweight Neural Network Mobilenet". Its
//! sentences are paraphrased.

mod answer;
mod compare;
mod file;
mod fusing;
#[cfg(all(feature = "demo", not(target_arch = "wasm32")))]
mod int8;
mod lab;
mod networks;
mod parts;
#[cfg(all(feature = "demo", not(target_arch = "wasm32")))]
mod searched;
mod separable;
mod utilisation;

use std::{cell::Cell, fmt, future::Future, pin::Pin, rc::Rc, str::FromStr, sync::atomic::AtomicBool};

use crate::{
    Error, Result,
    measure::{
        clock_resolution,
        report::{Claim, Report, Section},
    },
    session::Device,
};
use lab::Lab;

pub use compare::{Study, compare, comparison_json};
pub use file::{json, read};

/// The extent of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A few runs of a few cases; takes some minutes.
    Quick,
    /// Every case, many runs, and the tuner; for a report.
    Full,
}

/// An experiment, by its identifier in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Experiment {
    /// Single layers: standard against separable convolutions.
    E1,
    /// A whole network: V1 against V1 with standard convolutions.
    E2,
    /// The generations of networks.
    E3,
    /// Layers and utilisation.
    E4,
    /// V3's components.
    E5,
    /// Inverted residuals against bottlenecks.
    E6,
    /// Fusing layers.
    E7,
    /// int8.
    #[cfg(all(feature = "demo", not(target_arch = "wasm32")))]
    E8,
    /// Searched networks.
    #[cfg(all(feature = "demo", not(target_arch = "wasm32")))]
    E9,
    /// Rooflines.
    R,
}

impl Experiment {
    /// All experiments, in the order of the report.
    pub const ALL: &[Self] = &[
        Self::E1,
        Self::E2,
        Self::E3,
        Self::E4,
        Self::E5,
        Self::E6,
        Self::E7,
        #[cfg(all(feature = "demo", not(target_arch = "wasm32")))]
        Self::E8,
        #[cfg(all(feature = "demo", not(target_arch = "wasm32")))]
        Self::E9,
        Self::R,
    ];

    /// Measures it, and returns its section of the report.
    async fn measure(self, lab: &mut Lab<'_>) -> Result<Section> {
        match self {
            Self::E1 => separable::layers(lab).await,
            Self::E2 => separable::whole(lab).await,
            Self::E3 => networks::generations(lab).await,
            Self::E4 => utilisation::utilisation(lab).await,
            Self::E5 => parts::of_v3(lab).await,
            Self::E6 => parts::residuals(lab).await,
            Self::E7 => fusing::gains(lab).await,
            #[cfg(all(feature = "demo", not(target_arch = "wasm32")))]
            Self::E8 => int8::costs_and_gains(lab).await,
            #[cfg(all(feature = "demo", not(target_arch = "wasm32")))]
            Self::E9 => searched::for_devices(lab).await,
            Self::R => networks::rooflines(lab).await,
        }
    }
}

impl fmt::Display for Experiment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Experiment {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        let known = || Self::ALL.iter().map(Self::to_string).collect::<Vec<_>>();
        let found = Self::ALL.iter().find(|experiment| experiment.to_string().eq_ignore_ascii_case(id));
        found.copied().ok_or_else(|| {
            Error::Input(format!("there is no experiment {id:?}: the experiments are {}", listed(&known())))
        })
    }
}

/// The extent and the experiments of a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The extent.
    pub mode: Mode,
    /// The experiments, in any order.
    pub experiments: Vec<Experiment>,
}

impl Settings {
    /// Every experiment.
    pub fn new(mode: Mode) -> Self {
        Self { mode, experiments: Experiment::ALL.to_vec() }
    }
}

/// The progress of a study.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// A measurement begins.
    Measuring {
        /// The number of finished experiments.
        done: usize,
        /// The number of all experiments.
        of: usize,
        /// What is measured.
        what: &'a str,
    },
    /// An experiment has finished.
    Finished {
        /// The report so far.
        report: &'a Report,
    },
}

/// The future that a study awaits between measurements.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The source of the claims.
const PAPER: &str = "after Zhang, Research and Development of Lightweight Neural Network Mobilenet";

/// Runs the experiments on a graphics adapter, the CPU, or both, in any order. Calls `progress` with the
/// number of finished experiments, their total, and what is being measured.
///
/// ```no_run
/// use goldcrest::{cpu::Cpu, measure::report::page, session::Device, study::{Mode, Settings, study}};
///
/// let cpu = Device::Cpu(Cpu::new(None)?);
/// let report = study(&[cpu], &Settings::new(Mode::Quick), |done, of, what| eprintln!("{done} of {of}: {what}"))?;
/// let html = page::render(&report)?; // and its data: `goldcrest::study::json(&report)?`
/// # Ok::<(), goldcrest::Error>(())
/// ```
///
/// # Errors
/// Those of [`crate::zoo::synthetic`] and of shape inference; a failed measurement is part of the report.
#[cfg(not(target_arch = "wasm32"))]
pub fn study(
    devices: &[Device],
    settings: &Settings,
    progress: impl Fn(usize, usize, &str),
) -> Result<Report> {
    study_until(devices, settings, progress, &AtomicBool::new(false))
}

/// [`study`], until `stop` is set: the report then contains the measurements so far, and a note that it is
/// incomplete.
///
/// # Errors
/// As [`study`].
#[cfg(not(target_arch = "wasm32"))]
pub fn study_until(
    devices: &[Device],
    settings: &Settings,
    progress: impl Fn(usize, usize, &str),
    stop: &AtomicBool,
) -> Result<Report> {
    // Not generic, and so compiled once: a future is compiled by every crate that waits for it.
    fn study(
        devices: &[Device],
        settings: &Settings,
        progress: &dyn Fn(usize, usize, &str),
        stop: &AtomicBool,
    ) -> Result<Report> {
        let watch = |event: Progress<'_>| -> Waiting<'_> {
            if let Progress::Measuring { done, of, what } = event {
                progress(done, of, what);
            }
            Box::pin(std::future::ready(()))
        };
        pollster::block_on(study_async(devices, settings, watch, stop))
    }
    study(devices, settings, &progress, stop)
}

/// [`study_until`] for browsers, where nothing may block: before each measurement and after each experiment,
/// it calls `watch` and waits for the future that it returns. The CPU computes in the calling thread. On
/// native targets `study_async` blocks.
///
/// # Errors
/// As `study`.
pub async fn study_async<'a>(
    devices: &[Device],
    settings: &Settings,
    watch: impl Fn(Progress<'_>) -> Waiting<'a> + 'a,
    stop: &'a AtomicBool,
) -> Result<Report> {
    let watch = Rc::new(watch);
    let wanted = Experiment::ALL.iter().filter(|experiment| settings.experiments.contains(experiment));
    let wanted: Vec<Experiment> = wanted.copied().collect();
    let (done, of) = (Rc::new(Cell::new(0)), wanted.len());
    let announced = (watch.clone(), done.clone());
    let on_progress = move |what: &str| {
        let (watch, done) = &announced;
        watch(Progress::Measuring { done: done.get(), of, what })
    };
    let mut lab = Lab::new(devices, settings.mode, on_progress, stop).await;
    let mut report = Report {
        title: "Do separable convolutions save time where they save arithmetic?".into(),
        facts: facts(&lab),
        notes: notes(),
        ..Report::default()
    };
    for experiment in wanted {
        if lab.is_stopped() {
            break;
        }
        let mut section = experiment.measure(&mut lab).await?;
        section.failures.append(&mut lab.failures);
        if section.failures.iter().any(|failure| failure.contains("too noisy")) {
            section
                .verdict
                .push("Other programs disturbed some of these measurements: see the failures.".into());
        }
        if lab.is_stopped() {
            let done = done.get();
            section
                .failures
                .push(format!("interrupted: {done} of {of} experiments are complete, and this one is not"));
        }
        report.sections.push(section);
        done.set(done.get() + 1);
        answer::answer(&lab, &mut report);
        watch(Progress::Finished { report: &report }).await;
    }
    if lab.is_stopped() {
        let begun = report.sections.len();
        let incomplete =
            format!("Interrupted: {begun} of {of} experiments were started, and the last one is incomplete.");
        report.lead.insert(0, incomplete);
    }
    Ok(report)
}

/// "a", "a and b", "a, b and c".
fn listed<T: AsRef<str>>(parts: &[T]) -> String {
    let joined = |parts: &[T]| parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match parts {
        [all @ .., last] if !all.is_empty() => format!("{} and {}", joined(all), last.as_ref()),
        parts => joined(parts),
    }
}

/// A sentence of the paper, paraphrased.
fn claim(text: &str) -> Option<Claim> {
    Some(Claim::new(text, PAPER))
}

fn facts(lab: &Lab) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_string(), value));
    for (at, bench) in lab.benches.iter().enumerate() {
        match &bench.device {
            Device::Gpu(gpu) => {
                let info = gpu.adapter();
                let software =
                    if info.software { ": a software adapter, which computes on the CPU" } else { "" };
                fact("Graphics adapter", format!("{info}{software}"));
                fact("Driver", info.driver.clone());
            }
            Device::Cpu(cpu) => fact("CPU", cpu.info().to_string()),
        }
        let best = match &bench.peaks {
            Ok(peaks) => format!(
                "{:.0} G multiply-adds/s, {:.0} GB/s, {:.1} µs per launch",
                peaks.macs / 1e9,
                peaks.bytes / 1e9,
                1e6 * peaks.launch
            ),
            Err(reason) => format!("not measured: {reason}"),
        };
        fact(&format!("{} peaks", lab.label(at)), best);
    }
    if lab.gpu().is_none() {
        fact("Graphics adapter", "none: only the CPU was measured".into());
    }
    let mode = if lab.quick() { "quick: a few runs of a few cases" } else { "full" };
    fact("Mode", mode.into());
    let precision = "f32, and int8 in E8; random weights, because times do not depend on them, except for the trained \
                     networks of E8 and E9";
    fact("Precision", precision.into());
    let step = clock_resolution().as_secs_f64();
    let clock = match step < 1e-5 {
        true => format!("steps of {:.2} µs", 1e6 * step),
        false => format!("steps of {:.2} ms", 1e3 * step),
    };
    let rounded = match cfg!(target_arch = "wasm32") && lab.gpu().is_some() {
        true => {
            "; GPU timestamps are rounded to 0.1 ms, so that shorter work is repeated between two of them"
        }
        false => "",
    };
    fact("Clock", clock + rounded);
    fact("Goldcrest", env!("CARGO_PKG_VERSION").into());
    let os = if cfg!(target_arch = "wasm32") { "browser" } else { std::env::consts::OS };
    fact("System", format!("{os} {}", std::env::consts::ARCH));
    fact("Date", jiff::Zoned::now().date().to_string());
    facts
}

fn notes() -> Vec<String> {
    [
        "Times are medians, with the minimum and maximum in brackets. GPU times are measured with GPU \
         timestamps, from the start of the first step to the end of the last one, barriers included; CPU \
         times are sums over the steps. Neither includes the upload of the picture or the readback of the \
         result, except in E9.",
        "MACs are multiply-adds of convolutions and fully connected layers, counted once: \
         recomputation in overlapping tiles is not counted.",
        "The lower bound of a step's time is the longer of two times: its MACs at the device's peak rate, \
         and its bytes at the device's bandwidth, both measured here. Utilisation is the lower bound \
         divided by the time. More than 100 % means that bytes came from a faster cache than the one in \
         which the bandwidth was measured.",
        "Where standard convolutions are compared with others (E1, E2, E3 and E6), all use the kernels of \
         WebGPU's baseline. Elsewhere, if the adapter has them, pointwise convolutions use subgroups and \
         matrix units, and standard convolutions use matrix units.",
    ]
    .map(String::from)
    .to_vec()
}
