//! Shared by the commands that process pictures: input options, printing and saving of results, evaluation.

mod print;
mod save;

use std::{ffi::OsString, ops::ControlFlow, path::PathBuf, thread};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use goldcrest::{
    feed::{EXTENSIONS, Inputs, Name, Pipeline, Prediction, Reading, RunStats, Subject, TuneOptions},
    files::FileSet,
    session::{Device, Options, YuvMatrix},
    tasks::{Labels, Picture, PictureLimits},
    zoo::Network,
};
use serde_json::{Map, Value, json};

pub use self::{
    print::Format,
    save::{Place, png_name},
};
use self::{
    print::{Line, Printer},
    save::Saver,
};
use super::common::{self, milliseconds, progress};

/// Options for the pictures and the output format.
#[derive(Args)]
pub struct Pictures {
    /// Pictures: files, folders (searched recursively), patterns such as 'photos/*.jpg', @FILE with one name
    /// per line, or - for standard input (concatenated pictures, y4m video, or --raw frames)
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<OsString>,

    /// File extensions of pictures in folders [default: those of all common formats; a picture of an unsupported
    /// format is reported as an error]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = extension)]
    ext: Vec<String>,

    /// Frame size of raw RGB video, 3 bytes per pixel, on standard input and other pipes
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = raw)]
    raw: Option<[usize; 2]>,

    /// Colour matrix of y4m video, whose headers do not name it
    #[arg(long, value_enum, default_value_t)]
    matrix: Colours,

    /// Maximum number of pixels of a picture
    #[arg(long, value_name = "PIXELS", default_value_t = PictureLimits::default().pixels)]
    max_pixels: u64,

    /// Maximum memory for reading a picture, in MiB
    #[arg(long, value_name = "MIB", default_value_t = PictureLimits::default().memory >> 20,
        value_parser = clap::value_parser!(u64).range(1..1 << 40))]
    max_memory: u64,

    /// Do not tune kernels in the background while many pictures are processed (see `goldcrest tune`)
    #[arg(long)]
    no_tune: bool,

    #[command(flatten)]
    format: Format,
}

/// The matrix that converts YCbCr video to RGB.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Colours {
    /// ITU-R BT.601, the default of video tools
    #[default]
    Bt601,
    /// ITU-R BT.709, high definition
    Bt709,
    /// ITU-R BT.2020, ultra high definition
    Bt2020,
}

/// What a command runs on all pictures.
pub struct Job<'a> {
    pub network: &'a Network,
    pub device: &'a Device,
    pub options: Options,
    pub labels: Labels,
    /// The number of classes per picture.
    pub top: usize,
    /// The message of the progress bar, such as "classifying".
    pub doing: &'static str,
    /// The table columns of this command, without those that all commands have.
    pub columns: &'static [&'static str],
}

/// A picture's result in every output format.
pub struct Description {
    /// The JSON fields.
    pub fields: Map<String, Value>,
    /// The text, with line ends.
    pub text: String,
    /// The table rows.
    pub rows: Vec<Vec<String>>,
}

/// A drawing that is saved for each result.
pub struct Saving<'a> {
    /// The command-line option.
    pub option: &'static str,
    /// The key in JSON.
    pub key: &'static str,
    pub place: &'a Place,
    pub draws: &'a (dyn Fn(&Picture, &Prediction) -> Result<Drawn> + Sync),
}

/// A drawing to save.
pub enum Drawn {
    Picture(Picture),
    /// A PNG file's bytes.
    Png(Vec<u8>),
}

/// Evaluates all results together: accuracy against ground truth, or similarity.
pub trait Evaluation {
    /// Its key in the JSON output.
    fn key(&self) -> &'static str {
        "truth"
    }

    /// Returns whether `finish` writes a file.
    fn writes(&self) -> bool {
        false
    }

    /// Adds the result of one picture.
    fn add(&mut self, name: &Name, size: [usize; 2], prediction: &Prediction) -> Result<()>;

    /// Returns the evaluation as JSON and as text.
    fn finish(self: Box<Self>) -> Result<(Value, String)>;
}

/// The pictures, and all files that the command reads.
pub struct Gathered {
    inputs: Inputs,
    /// Files that must not be overwritten.
    pub read: FileSet,
}

impl Pictures {
    /// Finds the pictures. If the command `writes` files, all pictures are listed first, so that no input is
    /// overwritten and no output is read as a picture. `read` then also has the network's files and `others`.
    pub fn gather<'a>(
        &self,
        network: &Network,
        others: impl IntoIterator<Item = Option<&'a PathBuf>>,
        writes: bool,
    ) -> Gathered {
        let mut inputs = Inputs::new(self.images.iter().cloned(), self.reading());
        let mut read = FileSet::default();
        if writes {
            inputs.settle();
            read.extend(&network.files);
            read.extend(others.into_iter().flatten());
            read.extend(inputs.files());
        }
        Gathered { inputs, read }
    }

    /// Processes all pictures, printing and saving results in order. Fails at the end if a picture failed.
    pub fn process(
        &self,
        Gathered { inputs, read }: Gathered,
        job: &Job,
        describe: impl Fn(&Subject, &Prediction) -> Result<Description> + Sync,
        savings: &[Saving],
        mut evaluation: Option<Box<dyn Evaluation>>,
    ) -> Result<()> {
        let &Job { network, device, options, ref labels, top, doing, columns } = job;
        let limits = self.limits();
        let saver = Saver::new(savings, read, inputs.is_settled())?;
        if saver.streams() && !self.format.is_text() {
            bail!("--out -: frames and results cannot both go to standard output");
        }
        let bar = progress(doing);
        match inputs.known() {
            Some(count) => bar.set_length(count as u64),
            None => bar.set_style(common::counting()),
        }
        let compiling = |done, of| bar.set_message(format!("compiling {done}/{of}"));
        let threads = match device {
            Device::Cpu(cpu) => cpu.info().threads,
            Device::Gpu(_) => thread::available_parallelism().map_or(1, usize::from),
        };
        let pipeline = Pipeline {
            device: device.clone(),
            network,
            options,
            labels: labels.clone(),
            top,
            threads,
            limits,
            pictures: !savings.is_empty(),
            background_tuning: self.background_tuning(device),
            compiling: &compiling,
            sessions: None,
        };
        let evaluated = evaluation.is_some();
        // Then all pictures are processed, even if nobody reads standard output.
        let writes = savings.iter().any(|saving| saving.place.is_files())
            || evaluation.as_ref().is_some_and(|evaluation| evaluation.writes());
        let finish = |subject: Subject, prediction: goldcrest::Result<Prediction>| {
            let mut line = Line::of(&subject);
            match prediction {
                Err(error) => line.fail(&error.into()),
                Ok(prediction) => {
                    match describe(&subject, &prediction) {
                        Ok(description) => line.describe(description),
                        Err(error) => line.fail(&error),
                    }
                    match saver.save(&subject, &prediction) {
                        Ok((saved, frame)) => line.save(saved, frame),
                        Err(error) => line.fail(&error),
                    }
                    line.prediction = evaluated.then_some(prediction);
                }
            }
            line
        };

        let mut printer = Printer::new(self.format.kind(), columns, saver.streams());
        let (mut all, mut failed) = (0u64, 0u64);
        let head = json!({
            "device": common::device(device),
            "network": network.arch,
            "scores": network.scores,
        });
        let mut closed = printer.begin(&head)?.is_break();
        if closed && !writes {
            return Ok(());
        }
        let each = |mut line: Line| {
            bar.inc(1);
            all += 1;
            if bar.message() != doing {
                bar.set_message(doing);
            }
            if let (Some(evaluation), Some(prediction), Some(size)) =
                (&mut evaluation, line.prediction.take(), line.size)
                && let Err(error) = evaluation.add(&line.name, size, &prediction)
            {
                line.fail(&error);
            }
            printer.admit(&mut line);
            if let Some(error) = &line.error {
                failed += 1;
                bar.suspend(|| super::complain(&format!("error: {error}")));
            }
            if !closed {
                closed = bar.suspend(|| printer.print(line))?.is_break();
            }
            anyhow::Ok(if closed && !writes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        // Complete the JSON document even if the run ended early.
        let (spent, mut ended) = match pipeline.run(inputs, finish, each) {
            Ok(spent) => (Some(spent), Ok(())),
            Err(error) => (None, Err(error)),
        };
        drop(bar);
        if closed && !writes {
            // The reader closed the pipe, which is no failure.
            return if failed == 0 { ended } else { Err(super::Reported.into()) };
        }
        let (mut verdict, mut words) = (None, String::new());
        if let (Some(evaluation), Ok(())) = (evaluation, &ended) {
            let key = evaluation.key();
            match evaluation.finish() {
                Ok((found, text)) => (verdict, words) = (Some((key, found)), text),
                Err(error) => ended = Err(error),
            }
        }
        let processed = all - failed;
        if let Some(spent) = &spent {
            words += &format!("{}\n", summary(network, device, processed, spent));
        }
        let tail = tail(spent.as_ref(), [processed, failed], verdict);
        if !closed {
            // Whether anybody still reads does not matter now.
            let _ = printer.end(&tail, &words)?;
        }
        match (failed, all) {
            _ if ended.is_err() => ended,
            (0, _) => Ok(()),
            // The error is reported already.
            (_, 1) => Err(super::Reported.into()),
            _ => bail!("{failed} of {all} pictures could not be processed"),
        }
    }

    /// Options of background tuning. A software adapter is not tuned: it would use the cores that decode.
    fn background_tuning(&self, device: &Device) -> Option<TuneOptions> {
        let pays = matches!(device, Device::Gpu(gpu) if !gpu.adapter().software);
        (pays && !self.no_tune).then(TuneOptions::default)
    }

    fn limits(&self) -> PictureLimits {
        PictureLimits { pixels: self.max_pixels, memory: self.max_memory << 20 }
    }

    fn reading(&self) -> Reading {
        let extensions = match &self.ext[..] {
            [] => EXTENSIONS.map(str::to_owned).to_vec(),
            own => own.to_vec(),
        };
        let matrix = match self.matrix {
            Colours::Bt601 => YuvMatrix::Bt601,
            Colours::Bt709 => YuvMatrix::Bt709,
            Colours::Bt2020 => YuvMatrix::Bt2020,
        };
        Reading { extensions, raw: self.raw, matrix, limits: self.limits() }
    }
}

/// The fields after the pictures in the JSON document.
fn tail(spent: Option<&RunStats>, [processed, failed]: [u64; 2], verdict: Option<(&str, Value)>) -> Value {
    let ms = |time: std::time::Duration| 1e3 * time.as_secs_f64();
    let timings = |spent: &RunStats| {
        json!({
            "wall_ms": ms(spent.wall),
            "pictures_per_s": rate(processed, spent),
            "decode_ms": ms(spent.decode),
            "prepare_ms": ms(spent.prepare),
            "infer_ms": ms(spent.infer),
            "startup": common::startup(spent.startup),
        })
    };
    let mut tail = json!({
        "precision": spent.map(|spent| spent.precision),
        "timings": spent.map(timings),
        "succeeded": processed,
        "failed": failed,
    });
    if let Some((key, verdict)) = verdict {
        tail[key] = verdict;
    }
    tail
}

/// The last line of the text output.
fn summary(network: &Network, device: &Device, processed: u64, spent: &RunStats) -> String {
    let (arch, took, rate) = (&network.arch, milliseconds(spent.wall), rate(processed, spent));
    match processed {
        0 | 1 => format!("{arch} on {device}, {took} in total"),
        count => format!("{arch} on {device}, {count} pictures in {took}, {rate:.1} per second"),
    }
}

/// Pictures per second.
fn rate(processed: u64, spent: &RunStats) -> f64 {
    processed as f64 / spent.wall.as_secs_f64().max(1e-9)
}

/// Parses a file extension, with or without its dot.
fn extension(text: &str) -> Result<String, String> {
    match text.trim_start_matches('.').to_lowercase() {
        extension if extension.is_empty() => Err("expected a file extension, such as jpg".into()),
        extension => Ok(extension),
    }
}

/// Parses columns and rows, in the order of video tools.
fn raw(text: &str) -> Result<[usize; 2], String> {
    let sides = text.split_once('x').map(|(width, height)| (width.parse(), height.parse()));
    match sides {
        Some((Ok(width @ 1..), Ok(height @ 1..))) => Ok([width, height]),
        _ => Err("expected columns x rows, such as 640x480".into()),
    }
}

/// Continues after a successful write. A closed pipe ends the output without an error.
fn unless_closed(done: std::io::Result<()>) -> Result<ControlFlow<()>> {
    match done {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(e) => Err(anyhow::Error::new(e).context("standard output")),
    }
}
