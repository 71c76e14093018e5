//! A network in one configuration: a row of the output, and a table of its steps.

use std::fmt::Write;

use goldcrest::{
    measure::{Peaks, Spread, StepTime, Timing},
    plan::Fuse,
    session::{Device, Options},
    zoo::Network,
};
use serde_json::{Value, json};

use super::{
    super::common,
    Bencher,
    record::{LayerRecord, Record},
};

/// A network in one configuration, with its timing or the reason why there is none.
pub struct Row<'a> {
    pub network: &'a Network,
    pub bencher: &'a Bencher,
    pub options: Options,
    pub timing: Result<Timing, String>,
}

impl Row<'_> {
    /// The device's peaks in the row's precision.
    pub fn peaks(&self) -> Option<&Peaks> {
        let element = self.timing.as_ref().ok()?.precision;
        self.bencher.peaks.iter().find(|(of, _)| *of == element)?.1.as_ref().ok()
    }

    pub fn name(&self) -> &str {
        self.network.arch.strip_prefix("synthetic/").unwrap_or(&self.network.arch)
    }

    pub fn fuse(&self) -> &'static str {
        match self.options.fuse {
            Fuse::Auto => "auto",
            Fuse::None => "none",
            Fuse::Pair => "pair",
            Fuse::Block => "block",
        }
    }

    /// `gpu`, or `cpu` with its number of threads.
    pub fn on(&self) -> String {
        match &self.bencher.device {
            Device::Gpu(_) => "gpu".into(),
            Device::Cpu(cpu) => format!("cpu x{}", cpu.info().threads),
        }
    }

    pub fn pictures_per_second(&self, timing: &Timing) -> f64 {
        1e3 * self.options.batch as f64 / timing.wall_ms.median
    }

    pub fn json(&self, layers: bool) -> Value {
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
                row["pictures_per_s"] = json!(self.pictures_per_second(timing));
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

    pub fn record(&self) -> Record {
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

    /// The row as text, with a name of at least `wide` columns.
    pub fn words(&self, wide: usize, text: &mut String) -> std::fmt::Result {
        let shape = self.options.input_shape(self.network);
        let size = format!("{}x{}", shape.h, shape.w);
        let (name, batch, on, fuse) = (self.name(), self.options.batch, self.on(), self.fuse());
        write!(text, "{name:<wide$} {batch:>5} {size:>9} ")?;
        match &self.timing {
            Err(reason) => writeln!(text, "{:>5} {on:<7} {fuse:<5} not measured: {reason}", "-"),
            Ok(timing) => {
                let none = || "-".to_string();
                let gpu = timing.gpu_ms.map_or_else(none, in_words);
                let best = self.peaks().and_then(|peaks| timing.utilisation(peaks));
                writeln!(
                    text,
                    "{:>5} {on:<7} {fuse:<5} {:>5}  {gpu:>24}  {:>24} {:>9.1} {:>10.1} {:>7}{}",
                    timing.precision.name(),
                    timing.steps.len(),
                    in_words(timing.wall_ms),
                    timing.first_ms,
                    self.pictures_per_second(timing),
                    best.map_or_else(none, percent),
                    if timing.noisy { "  noisy" } else { "" },
                )
            }
        }
    }

    pub fn layers(&self, text: &mut String) -> std::fmt::Result {
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
            "step", "kernel", "shape", "M MACs", "MB", "ms", "of peak"
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
                "{:.3} ms in all steps, {:.3} ms for the whole run. \
                 Arithmetic {}, memory traffic {}, launches {}, idle {}",
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

fn in_words(ms: Spread) -> String {
    format!("{:.2} ({:.2} to {:.2})", ms.median, ms.min, ms.max)
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}
