//! `goldcrest study`

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use goldcrest::{
    cpu::Cpu,
    gpu::Gpu,
    measure::{
        report::page,
        study::{Mode, study},
    },
    session::Device,
};

use super::{
    common::{json, progress},
    target::Target,
};

#[derive(Args)]
pub struct Study {
    /// Few runs of few cases: some minutes instead of an hour
    #[arg(long)]
    quick: bool,

    /// The page to write; its JSON goes beside it
    #[arg(long, value_name = "FILE", default_value = "study.html")]
    out: PathBuf,

    /// The adapter's index, or part of its name, if not the best one (see `goldcrest adapters`)
    #[arg(long, value_name = "INDEX|NAME")]
    adapter: Option<String>,

    /// The CPU's threads, if not one a core
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,

    /// Print the JSON too, instead of the verdicts
    #[arg(long)]
    json: bool,
}

impl Study {
    pub fn run(&self) -> Result<String> {
        let data = self.out.with_extension("json");
        if data == self.out {
            bail!("--out: {} is to be the page; its JSON goes beside it", data.display());
        }
        let target = |path: &Path| Target::new(path).with_context(|| path.display().to_string());
        // Told before an hour is spent.
        let (page_target, data_target) = (target(&self.out)?, target(&data)?);
        let mut devices = Vec::new();
        match Gpu::open(self.adapter.as_deref()) {
            Ok(gpu) => {
                if gpu.adapter().software {
                    log::warn!("{} computes on the CPU and only plays a GPU", gpu.adapter());
                }
                devices.push(Device::Gpu(gpu));
            }
            Err(e) if self.adapter.is_some() => return Err(e.into()),
            Err(e) => log::warn!("{e}: the CPU alone is studied"),
        }
        devices.push(Device::Cpu(Cpu::new(self.threads.map(|threads| threads as usize))?));

        let mode = if self.quick { Mode::Quick } else { Mode::Full };
        let bar = progress("studying");
        let report = study(&devices, mode, |done, of, what| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            bar.set_message(what.to_string());
        })?;
        drop(bar);
        let (text, html) = (json(&report)?, page::render(&report)?);
        data_target.write(text.as_bytes()).with_context(|| data.display().to_string())?;
        page_target.write(html.as_bytes()).with_context(|| self.out.display().to_string())?;
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
        writeln!(words, "{}, {}", self.out.display(), data.display())?;
        Ok(words)
    }
}
