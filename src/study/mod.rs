//! The paper's claims as experiments: depthwise-separable convolutions cut the arithmetic about
//! ninefold; CPUs come near that in time, parallel devices do not, because there are more layers
//! and each uses less of the chip. Here that is measured, on whatever machine this runs, and what
//! 8 bits cost and gain, with which the paper ends.
//!
//! The paper is Zhang, "Research and Development of Lightweight Neural Network Mobilenet". Its
//! sentences are given in our words.

mod eight_bits;
mod fusing;
mod lab;
mod networks;
mod parts;
mod searched;
mod separable;
mod utilisation;

use std::{cell::Cell, sync::atomic::AtomicBool};

use crate::{
    Result,
    measure::report::{Claim, Report, Section},
    session::Device,
};
use lab::Lab;

/// How much to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Some minutes: few runs of few cases.
    Quick,
    /// For a report: every case, many runs, and the tuner.
    Full,
}

/// Where the claims are from.
const PAPER: &str = "after Zhang, Research and Development of Lightweight Neural Network Mobilenet";

/// An experiment: it measures and says what came of it.
type Experiment = fn(&mut Lab) -> Result<Section>;

/// Each with how many of its verdicts lead the page.
const EXPERIMENTS: [(Experiment, usize); 10] = [
    (separable::layers, 3),
    (separable::whole, 2),
    (networks::generations, 2),
    (utilisation::filling, 2),
    (parts::of_v3, 0),
    (parts::residuals, 0),
    (fusing::recovered, 1),
    (eight_bits::costs_and_gains, 2),
    (searched::for_devices, 1),
    (networks::rooflines, 2),
];

/// Runs every experiment on these devices, a graphics adapter first if there is one. `progress`
/// hears how many experiments are done, of how many, and what is being measured.
///
/// # Errors
/// Those of [`crate::zoo::synthetic`] and of shapes; a measurement that fails is part of the report.
pub fn study(devices: &[Device], mode: Mode, progress: impl Fn(usize, usize, &str)) -> Result<Report> {
    study_until(devices, mode, progress, &AtomicBool::new(false))
}

/// [`study`], until `stop` is set: the report then has what was measured before, and says so.
///
/// # Errors
/// As [`study`].
pub fn study_until(
    devices: &[Device],
    mode: Mode,
    progress: impl Fn(usize, usize, &str),
    stop: &AtomicBool,
) -> Result<Report> {
    let done = Cell::new(0);
    let hear = |what: &str| progress(done.get(), EXPERIMENTS.len(), what);
    let mut lab = Lab::new(devices, mode, hear, stop);
    let mut report = Report {
        title: "What depthwise-separable convolutions save, and what they do not".into(),
        facts: facts(&lab),
        notes: notes(),
        ..Report::default()
    };
    for (experiment, leading) in EXPERIMENTS {
        if lab.is_stopped() {
            break;
        }
        let mut section = experiment(&mut lab)?;
        section.failures.append(&mut lab.failures);
        if section.failures.iter().any(|failure| failure.contains("too noisy")) {
            section
                .verdict
                .push("Some of this was measured while something else was running: see what failed.".into());
        }
        if lab.is_stopped() {
            let (done, all) = (done.get(), EXPERIMENTS.len());
            let reason = format!("interrupted: {done} of {all} experiments are whole, and this one is not");
            section.failures.push(reason);
        }
        report.lead.extend(section.verdict.iter().take(leading).cloned());
        report.sections.push(section);
        done.set(done.get() + 1);
    }
    if lab.is_stopped() {
        let (begun, all) = (report.sections.len(), EXPERIMENTS.len());
        report.lead.insert(
            0,
            format!("Interrupted: {begun} of {all} experiments were begun, the last is not whole."),
        );
    }
    Ok(report)
}

/// A sentence of the paper, in our words.
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
                    if info.software { ": it computes on the CPU and only plays a GPU" } else { "" };
                fact("Graphics adapter", format!("{info}{software}"));
                fact("Driver", info.driver.clone());
            }
            Device::Cpu(cpu) => fact("CPU", cpu.info().to_string()),
        }
        let best = match &bench.peaks {
            Ok(peaks) => format!(
                "{:.0} G multiply-adds/s, {:.0} GB/s, {:.1} µs a launch",
                peaks.macs / 1e9,
                peaks.bytes / 1e9,
                1e6 * peaks.launch
            ),
            Err(reason) => format!("not measured: {reason}"),
        };
        fact(&format!("{} at its best", lab.label(at)), best);
    }
    if lab.gpu().is_none() {
        fact("Graphics adapter", "none: nothing was measured on one".into());
    }
    let mode = if lab.quick() { "quick: few runs of few cases" } else { "full" };
    fact("Mode", mode.into());
    fact("Precision", "f32, and 8 bits in E8; weights random, as times do not depend on them".into());
    fact("Goldcrest", env!("CARGO_PKG_VERSION").into());
    fact("System", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    fact("Date", jiff::Zoned::now().date().to_string());
    facts
}

fn notes() -> Vec<String> {
    [
        "Times are medians, with the least and the most in brackets. A GPU's are by its own clock, from \
         the first step's start to the last one's end, barriers included; the CPU's are the sums of its \
         steps. Neither counts the way of a picture to the device or of the answer back.",
        "MACs are multiply-adds of convolutions and fully connected layers, counted once: what \
         overlapping tiles compute again is not counted as work.",
        "A step's floor is the longer of its MACs at the device's peak and its bytes at its bandwidth, \
         both measured here; utilisation is the floor over the time. More than 100 % means that bytes \
         came from a cache nearer than the one the bandwidth was measured in.",
        "Where standard convolutions are compared with others (E1, E2, E3 and E6) all run on the kernels \
         of WebGPU's baseline. Elsewhere pointwise convolutions use subgroups and matrix units where the \
         adapter has them; standard ones have no such kernels here.",
    ]
    .map(String::from)
    .to_vec()
}
