//! `goldcrest study`

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use clap::Args;
use goldcrest::{
    Error,
    cpu::Cpu,
    files::FileSet,
    gpu::Gpu,
    measure::report::{Report, page},
    session::Device,
    study::{self, Experiment, Mode, Settings, study_until},
    text::{visible, visible_json},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use super::{
    common::{self, file, progress},
    quiet::quietly,
    target::Target,
};

#[derive(Args)]
pub struct Study {
    /// Measure fewer cases with fewer runs: a few minutes instead of an hour
    #[arg(long)]
    quick: bool,

    /// Only these experiments, such as E1,E4 [default: all]
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    only: Vec<Experiment>,

    /// Compare studies of several machines instead: the .json files that `goldcrest study` wrote, or that the
    /// page of bindings/web saved
    #[arg(long, value_name = "FILE", num_args = 2.., conflicts_with_all = ["quick", "only", "adapter", "threads"])]
    compare: Vec<PathBuf>,

    /// HTML page to write; its data goes next to it, as a .json file [default: study.html, or comparison.html]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Graphics adapter: its index or part of its name (see `goldcrest adapters`) [default: the best one]
    #[arg(long, value_name = "INDEX|NAME")]
    adapter: Option<String>,

    /// Number of CPU threads [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,

    /// Print the results as JSON instead of a verdict on each claim
    #[arg(long)]
    json: bool,
}

impl Study {
    pub fn run(&self) -> Result<String> {
        // Fail before the measurements, which take up to an hour.
        let output = Output::new(self)?;
        let (page, data) = (output.page.clone(), output.data.clone());
        if !self.compare.is_empty() {
            let report = study::compare(&studies(&self.compare)?)?;
            let text = output.write(&report, &study::comparison_json(&report)?)?;
            return if self.json { Ok(text) } else { words(&report, &page, &data) };
        }
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

        let mut settings = Settings::new(if self.quick { Mode::Quick } else { Mode::Full });
        if !self.only.is_empty() {
            settings.experiments.clone_from(&self.only);
        }
        let bar = progress("studying");
        let show = |done, of, what: &str| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            bar.set_message(what.to_string());
        };
        let report = study_until(&devices, &settings, show, &stop)?;
        drop(bar);
        let text = output.write(&report, &study::json(&report)?)?;
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted: {} and {} have the results so far", page.display(), data.display());
        }
        if self.json { Ok(text) } else { words(&report, &page, &data) }
    }
}

/// Reads the studies to compare. A study's name is its file's, without folder and extension if that is unique.
fn studies(files: &[PathBuf]) -> Result<Vec<study::Study>> {
    let mut known: Vec<(&Path, Vec<u8>)> = Vec::new();
    let mut studies = Vec::new();
    for path in files {
        let bytes = fs::read(path).map_err(Error::io(path))?;
        if let Some((same, _)) = known.iter().find(|(_, other)| *other == bytes) {
            bail!("{} and {} are the same study: name two different ones", same.display(), path.display());
        }
        let report = study::read(path, &bytes)?;
        let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let unique = files.iter().filter(|other| stem(other) == stem(path)).count() == 1;
        let name = stem(path).filter(|_| unique).unwrap_or_else(|| path.display().to_string());
        studies.push(study::Study { name: visible(&name).into_owned(), report });
        known.push((path, bytes));
    }
    Ok(studies)
}

/// The two files to write.
struct Output {
    page: PathBuf,
    data: PathBuf,
    targets: [Target; 2],
}

impl Output {
    /// Fails early if the files could not be written later, or are inputs.
    fn new(command: &Study) -> Result<Self> {
        let fallback = if command.compare.is_empty() { "study.html" } else { "comparison.html" };
        let page = command.out.clone().unwrap_or_else(|| fallback.into());
        let data = page.with_extension("json");
        if data == page {
            bail!("--out: {} is the name of the page's JSON file: name an .html file", data.display());
        }
        let read: FileSet = command.compare.iter().collect();
        let target = |path: &Path| Target::sparing(path, &read).with_context(|| path.display().to_string());
        let targets = [target(&page)?, target(&data)?];
        Ok(Self { page, data, targets })
    }

    /// Writes both files even if one fails, and returns the JSON. The measurements took up to an hour, so it is
    /// printed after a failure.
    fn write(self, report: &Report, data: &str) -> Result<String> {
        let text = visible_json(data).into_owned();
        let Self { page, data, targets: [page_target, data_target] } = self;
        let kept = data_target.write(text.as_bytes()).with_context(|| data.display().to_string());
        let drawn = page::render(report).map_err(anyhow::Error::from);
        let drawn = drawn.and_then(|html| page_target.write(html.as_bytes()));
        match kept.and(drawn.with_context(|| page.display().to_string())) {
            Ok(()) => Ok(text),
            Err(error) => {
                super::print(&text)?;
                Err(error.context("a file could not be written, so the JSON is printed instead"))
            }
        }
    }
}

/// The answer, the verdicts, and the names of the files.
fn words(report: &Report, page: &Path, data: &Path) -> Result<String> {
    let mut words = String::new();
    for sentence in &report.lead {
        writeln!(words, "{}", visible(sentence))?;
    }
    for section in &report.sections {
        for text in section.verdict.iter().chain(&section.failures) {
            writeln!(words, "{}: {}", visible(&section.id), visible(text))?;
        }
    }
    writeln!(words, "{}, {}", file(page), file(data))?;
    Ok(words)
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
