//! Experiments on the claims of a paper: depthwise-separable convolutions cut the arithmetic about
//! ninefold; CPUs save nearly as much time, but parallel devices do not, because there are more
//! layers and each uses less of the chip. The study measures this on the current machine. It also
//! measures the costs and gains of int8, the paper's last topic.
//!
//! The paper is Zhang, "Research and Development of Lightweight Neural Network Mobilenet". Its
//! sentences are paraphrased.

mod answer;
mod fusing;
mod int8;
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

/// The extent of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A few runs of a few cases; takes some minutes.
    Quick,
    /// Every case, many runs, and the tuner; for a report.
    Full,
}

/// The source of the claims.
const PAPER: &str = "after Zhang, Research and Development of Lightweight Neural Network Mobilenet";

/// An experiment: measures, and returns its section of the report.
type Experiment = fn(&mut Lab) -> Result<Section>;

/// The experiments, in order.
const EXPERIMENTS: [Experiment; 10] = [
    separable::layers,
    separable::whole,
    networks::generations,
    utilisation::filling,
    parts::of_v3,
    parts::residuals,
    fusing::recovered,
    int8::costs_and_gains,
    searched::for_devices,
    networks::rooflines,
];

/// Runs every experiment on `devices`, which start with a graphics adapter if there is one. Calls `progress`
/// with the number of finished experiments, their total, and what is being measured.
///
/// # Errors
/// Those of [`crate::zoo::synthetic`] and of shape inference; a failed measurement is part of the report.
pub fn study(devices: &[Device], mode: Mode, progress: impl Fn(usize, usize, &str)) -> Result<Report> {
    study_until(devices, mode, progress, &AtomicBool::new(false))
}

/// [`study`], until `stop` is set: the report then contains the measurements so far, and a note that it is
/// incomplete.
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
    let on_progress = |what: &str| progress(done.get(), EXPERIMENTS.len(), what);
    let mut lab = Lab::new(devices, mode, on_progress, stop);
    let mut report = Report {
        title: "Do separable convolutions save time where they save arithmetic?".into(),
        facts: facts(&lab),
        notes: notes(),
        ..Report::default()
    };
    for experiment in EXPERIMENTS {
        if lab.is_stopped() {
            break;
        }
        let mut section = experiment(&mut lab)?;
        section.failures.append(&mut lab.failures);
        if section.failures.iter().any(|failure| failure.contains("too noisy")) {
            section
                .verdict
                .push("Other programs disturbed some of these measurements: see the failures.".into());
        }
        if lab.is_stopped() {
            let (done, all) = (done.get(), EXPERIMENTS.len());
            let reason =
                format!("interrupted: {done} of {all} experiments are complete, and this one is not");
            section.failures.push(reason);
        }
        report.sections.push(section);
        done.set(done.get() + 1);
    }
    if lab.is_stopped() {
        let (begun, all) = (report.sections.len(), EXPERIMENTS.len());
        report.lead.push(format!(
            "Interrupted: {begun} of {all} experiments were started, and the last one is incomplete."
        ));
    }
    answer::answer(&lab, &mut report);
    Ok(report)
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
    fact("Precision", "f32, and int8 in E8; weights are random, because times do not depend on them".into());
    fact("Goldcrest", env!("CARGO_PKG_VERSION").into());
    fact("System", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
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
