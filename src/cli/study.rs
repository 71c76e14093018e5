//! `goldcrest study`

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use clap::Args;
use goldcrest::{
    cpu::Cpu,
    gpu::Gpu,
    measure::report::page,
    session::Device,
    study::{Mode, study_until},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use super::{
    common::{self, file, json, progress},
    quiet::quietly,
    target::Target,
};

#[derive(Args)]
pub struct Study {
    /// Measure fewer cases with fewer runs: a few minutes instead of an hour
    #[arg(long)]
    quick: bool,

    /// HTML page to write; its data goes next to it, as a .json file
    #[arg(long, value_name = "FILE", default_value = "study.html")]
    out: PathBuf,

    /// Graphics adapter: its index or part of its name (see `goldcrest adapters`) [default: the best one]
    #[arg(long, value_name = "INDEX|NAME")]
    adapter: Option<String>,

    /// Number of CPU threads [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,

    /// Print the JSON instead of the verdicts
    #[arg(long)]
    json: bool,
}

impl Study {
    pub fn run(&self) -> Result<String> {
        let data = self.out.with_extension("json");
        if data == self.out {
            bail!("--out: {} is the name of the page's JSON file: name an .html file", data.display());
        }
        let target = |path: &Path| Target::new(path).with_context(|| path.display().to_string());
        // Fail before the measurements, which take up to an hour.
        let (page_target, data_target) = (target(&self.out)?, target(&data)?);
        let stop = interrupted()?;
        let mut devices = Vec::new();
        match quietly(|| Gpu::open(self.adapter.as_deref())) {
            Ok(gpu) => {
                common::trusted(self.adapter.as_deref())?;
                if gpu.adapter().software {
                    log::warn!("{} is a software adapter: its times are those of the CPU", gpu.adapter());
                }
                devices.push(Device::Gpu(gpu));
            }
            Err(e) if self.adapter.is_some() => return Err(e.into()),
            Err(e) => log::warn!("{e}: only the CPU is measured"),
        }
        devices.push(Device::Cpu(Cpu::new(self.threads.map(|threads| threads as usize))?));

        let mode = if self.quick { Mode::Quick } else { Mode::Full };
        let bar = progress("studying");
        let show = |done, of, what: &str| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            bar.set_message(what.to_string());
        };
        let report = study_until(&devices, mode, show, &stop)?;
        drop(bar);
        let text = json(&report)?;
        // Write both files even if one fails. The JSON took up to an hour, so it is printed after a failure.
        let kept = data_target.write(text.as_bytes()).with_context(|| data.display().to_string());
        let drawn = page::render(&report).map_err(anyhow::Error::from);
        let drawn = drawn.and_then(|html| page_target.write(html.as_bytes()));
        let drawn = drawn.with_context(|| self.out.display().to_string());
        if let Err(error) = kept.and(drawn) {
            super::print(&text)?;
            return Err(error.context("a file could not be written, so the JSON is printed instead"));
        }
        if stop.load(Ordering::Relaxed) {
            let (page, data) = (self.out.display(), data.display());
            bail!("interrupted: {page} and {data} have the results so far");
        }
        if self.json {
            return Ok(text);
        }
        let mut words = String::new();
        for section in &report.sections {
            for verdict in &section.verdict {
                writeln!(words, "{}: {verdict}", section.id)?;
            }
            for failure in &section.failures {
                writeln!(words, "{}: {failure}", section.id)?;
            }
        }
        writeln!(words, "{}, {}", file(&self.out), file(&data))?;
        Ok(words)
    }
}

/// A flag that the first SIGINT or SIGTERM sets. The second one ends the program.
fn interrupted() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Registered in this order, the first signal only sets the flag.
        flag::register_conditional_shutdown(signal, 130, stop.clone())?;
        flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}
