//! Shared by several subcommands: options for the network and the device, progress bars, formatting.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use goldcrest::{
    Error,
    checkpoint::Overrides,
    cpu::Cpu,
    gpu::{self, Check, Gpu, Trust},
    hub::{Limits, Model, Progress},
    plan::Fuse,
    session::{Device, Options, Precision, Session, Startup},
    tasks::{Detection, Labels, Picture},
    tensor::Element,
    text::{visible, visible_json},
    zoo::Network,
};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use super::quiet::quietly;

/// The log target of notes: information that is printed by default and is no warning.
pub const NOTE: &str = "note";

/// Options for the checkpoint.
#[derive(Args)]
pub struct Weights {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    hub: Hub,

    /// Network name in its library, such as torchvision/mobilenet_v3_large or
    /// timm/tf_mobilenetv3_small_100; needed only if neither tensor names nor config.json identify it
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,

    /// Override of a value that the checkpoint's tensors do not show, such as epsilon=1e-3, stem_stride=1 or
    /// output_stride=16; repeatable. `goldcrest inspect` lists all values and their origins
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

/// Parses `NAME=VALUE`.
fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
    // Report an unknown name as bad usage.
    Overrides::default().set(&name, value.as_str()).map_err(|error| error.to_string())?;
    Ok((name, value))
}

/// The location of the checkpoint.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// Checkpoint file, safetensors or PyTorch (.safetensors, .pth, .pt, .bin, .ckpt), or a folder that holds such
    /// a file or its shards, optionally with a config.json
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,

    /// Model on the Hugging Face hub, such as timm/mobilenetv3_large_100.ra_in1k; downloaded once and cached
    #[arg(long, value_name = "OWNER/NAME[@REVISION]")]
    model: Option<String>,
}

/// Limits on downloads from the hub.
#[derive(Args)]
struct Hub {
    /// Maximum time without data from the hub, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds())]
    #[arg(requires = "model", conflicts_with = "weights")]
    hub_timeout: u64,

    /// Maximum time of a download from the hub, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = seconds())]
    #[arg(requires = "model", conflicts_with = "weights")]
    hub_max_time: u64,

    /// Maximum size of a file from the hub, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 30)]
    #[arg(requires = "model", conflicts_with = "weights")]
    hub_max_size: u64,
}

/// Parses seconds, up to a day.
fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=86_400)
}

impl Hub {
    /// Returns the folder of a model, downloaded with a progress bar if necessary.
    fn fetch(&self, model: &str) -> Result<PathBuf> {
        let defaults = Limits::default();
        let read_timeout = Duration::from_secs(self.hub_timeout);
        let limits = Limits {
            connect: read_timeout.min(defaults.connect),
            read_timeout,
            download_timeout: Duration::from_secs(self.hub_max_time),
            max_bytes: self.hub_max_size,
        };
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes}");
        let bar = ProgressBar::new(0)
            .with_style(style.expect("a valid template").progress_chars("=> "))
            .with_finish(ProgressFinish::AndClear);
        Ok(Model::parse(model)?.fetch(&limits, |progress| match progress {
            Progress::Downloading { file, done, total } => {
                bar.set_message(file.to_owned());
                bar.set_length(total);
                bar.set_position(done);
            }
            Progress::Waiting { file } => {
                bar.suspend(|| log::info!(target: NOTE, "{file}: waiting for another process to fetch it"));
            }
            _ => {}
        })?)
    }
}

impl Weights {
    /// Opens the network, downloading it if necessary, and logs its notes and warnings.
    pub fn open(&self) -> Result<Network> {
        let path = match (&self.source.weights, &self.source.model) {
            (None, Some(model)) => self.hub.fetch(model)?,
            (weights, _) => weights.clone().unwrap_or_default(),
        };
        let mut overrides = Overrides::default();
        if let Some(arch) = &self.arch {
            overrides = overrides.arch(arch);
        }
        for (name, value) in &self.set {
            overrides = overrides.set(name, value)?;
        }
        let network = Network::open_with(path, &overrides)?;
        for note in &network.notes {
            log::info!(target: NOTE, "{note}");
        }
        for warning in &network.warnings {
            log::warn!("{warning}");
        }
        Ok(network)
    }
}

/// The error of `--threads` with a graphics adapter.
pub const THREADS_ON_ADAPTER: &str = "--threads applies to the CPU only, not to graphics adapters";

/// Options for the device and the execution.
#[derive(Args)]
pub struct Engine {
    /// Graphics adapter: its index or part of its name (see `goldcrest adapters`)
    #[arg(long, value_name = "INDEX|NAME")]
    adapter: Option<String>,

    /// Device to run on
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,

    /// Number of CPU threads [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,

    /// Storage type of feature maps and weights
    #[arg(long, value_enum, default_value_t)]
    precision: Stored,

    /// Fusion of layers into shared kernels
    #[arg(long, value_enum, default_value_t)]
    fuse: Fusion,
}

/// The kinds of devices to run on.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The best hardware graphics adapter, or the CPU if there is none
    #[default]
    Auto,
    /// A graphics adapter through wgpu, including software adapters
    Gpu,
    /// The CPU
    Cpu,
}

/// The storage type of feature maps and weights.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Stored {
    /// f16 if `goldcrest tune` has found it faster and accurate enough here, else f32
    #[default]
    Auto,
    /// 32-bit floating point
    F32,
    /// 16-bit floating point, on adapters whose shaders support it
    F16,
}

/// Which layers share a kernel.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Fusion {
    /// The fastest choice, by measurement or by the cost model
    #[default]
    Auto,
    /// One kernel per layer
    None,
    /// Pairs of convolutions within a block
    Pair,
    /// Whole blocks
    Block,
}

/// The name of an option's value on the command line.
pub fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Stored {
    /// The name of the --precision value.
    pub fn name(self) -> String {
        name_of(&self)
    }

    /// The session option.
    pub fn precision(self) -> Precision {
        match self {
            Self::Auto => Precision::Auto,
            Self::F32 => Precision::F32,
            Self::F16 => Precision::F16,
        }
    }
}

impl Fusion {
    /// The planner option.
    pub fn fuse(self) -> Fuse {
        match self {
            Self::Auto => Fuse::Auto,
            Self::None => Fuse::None,
            Self::Pair => Fuse::Pair,
            Self::Block => Fuse::Block,
        }
    }
}

impl Engine {
    /// True if the user named a device or its kind, so that there is no fallback.
    pub fn is_named(&self) -> bool {
        self.adapter.is_some() || self.backend != Backend::Auto
    }

    /// True if the device is the CPU: by --backend, or implied by --threads.
    pub fn is_cpu(&self) -> bool {
        let implied = self.backend == Backend::Auto && self.adapter.is_none() && self.threads.is_some();
        implied || self.backend == Backend::Cpu
    }

    /// Which layers share a kernel.
    pub fn fuse(&self) -> Fuse {
        self.fuse.fuse()
    }

    /// The name of the --fuse value.
    pub fn fuse_name(&self) -> String {
        name_of(&self.fuse)
    }

    /// The storage type of feature maps and weights.
    pub fn precision(&self) -> Precision {
        self.precision.precision()
    }

    /// The session's options.
    pub fn options(&self) -> Options {
        Options { fuse: self.fuse(), precision: self.precision(), ..Options::default() }
    }

    /// Opens the device. A named adapter is used even if it is a software adapter.
    pub fn open(&self) -> Result<Device> {
        let device = match self.backend {
            Backend::Cpu if self.adapter.is_some() => {
                bail!("--adapter names a graphics adapter, but --backend is cpu")
            }
            _ if self.is_cpu() => self.cpu()?,
            Backend::Auto if self.adapter.is_none() => quietly(Device::best)?,
            _ => Device::Gpu(self.gpu()?),
        };
        if matches!((&device, self.fuse()), (Device::Cpu(_), Fuse::Pair | Fuse::Block)) {
            bail!("--fuse: pair and block are not available on the CPU");
        }
        if self.precision() == Precision::F16 {
            device.supports(Element::F16)?;
        }
        Ok(device)
    }

    /// The CPU, with the requested number of threads.
    fn cpu(&self) -> Result<Device> {
        Ok(Device::Cpu(Cpu::new(self.threads.map(|threads| threads as usize))?))
    }

    /// Opens a graphics adapter, and warns if it is a software adapter.
    pub fn gpu(&self) -> Result<Gpu> {
        if self.backend == Backend::Cpu {
            bail!("--backend cpu: this command needs a graphics adapter");
        }
        if self.threads.is_some() {
            bail!(THREADS_ON_ADAPTER);
        }
        let gpu = quietly(|| Gpu::open(self.adapter.as_deref()))?;
        if gpu.adapter().software {
            log::warn!("{} runs on the CPU: expect it to be slow", gpu.adapter());
        }
        Ok(gpu)
    }
}

/// Fails if an adapter computes wrong results, as its times would mean nothing. The check runs on a separate
/// device and drops it: on a device that was checked, lavapipe's GPU clock hardly advances any more.
pub fn trusted(wanted: Option<&str>) -> Result<()> {
    let gpu = quietly(|| Gpu::open(wanted))?;
    let trust = gpu::check(&gpu)?;
    log::info!("{} was checked in {:.1} s", gpu.adapter(), trust.seconds);
    match worst(&trust) {
        Some(wrong) => bail!("{} computes wrong results: {wrong} (see goldcrest adapters)", gpu.adapter()),
        None => Ok(()),
    }
}

/// The wrong kernel with the largest error.
pub fn worst(trust: &Trust) -> Option<String> {
    // NaN counts as the largest error.
    let error_of = |check: &&Check| if check.error.is_nan() { f64::INFINITY } else { check.error };
    let wrong = trust.checks.iter().filter(|check| !check.passed());
    let Check { kernel, element, error } = wrong.max_by(|a, b| error_of(a).total_cmp(&error_of(b)))?;
    Some(format!("relative error {error:.1e} in {kernel} with {element}"))
}

/// A device as JSON.
pub fn device(device: &Device) -> serde_json::Value {
    match device {
        Device::Gpu(gpu) => serde_json::json!(gpu.adapter()),
        Device::Cpu(cpu) => {
            let info = cpu.info();
            serde_json::json!({
                "name": info.name,
                "backend": "cpu",
                "driver": info.vectors,
                "kind": "cpu",
                "software": true,
                "threads": info.threads,
            })
        }
    }
}

/// Builds a session with a progress bar.
pub fn session(device: &Device, network: &Network, options: Options) -> Result<Session> {
    let bar = progress("compiling");
    let session = pollster::block_on(Session::new_async(device, network, options, shown_on(&bar)))?;
    drop(bar);
    log::info!("{}", session.startup());
    Ok(session)
}

/// Builds a session for pictures of the size of `picture`, with a progress bar. Errors name `file`.
pub fn session_for_pictures(
    device: &Device,
    network: &Network,
    (file, picture): (&Path, &Picture),
    options: Options,
) -> Result<Session> {
    let picture = [picture.height(), picture.width()];
    let bar = progress("compiling");
    let build = Session::for_pictures_async(device, network, picture, options, shown_on(&bar));
    let session = pollster::block_on(build).map_err(|error| match error {
        // The cause is this picture, not the device.
        Error::Input(_) => anyhow!(error).context(file.display().to_string()),
        other => other.into(),
    })?;
    drop(bar);
    log::info!("{}", session.startup());
    Ok(session)
}

/// A callback that shows the progress on a bar.
fn shown_on(bar: &ProgressBar) -> impl FnMut(usize, usize) {
    |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    }
}

/// A file's name for display, on one line.
pub fn file(path: &Path) -> String {
    visible(&path.display().to_string()).into_owned()
}

/// A class for display: its label and its index, or the index alone.
pub fn class(index: usize, label: Option<&str>) -> String {
    label.map_or_else(|| format!("class {index}"), |label| format!("{} ({index})", visible(label)))
}

/// A detection for display, with its box rounded to pixels.
pub fn detection(Detection { index, label, score, bounds }: &Detection) -> String {
    let class = class(*index, label.as_deref());
    let [left, top, right, bottom] = [bounds.left, bounds.top, bounds.right, bounds.bottom];
    format!("{:5.1}%  {class} from {left:.0}, {top:.0} to {right:.0}, {bottom:.0}", 100.0 * score)
}

/// The labels in `file`, or else those of the checkpoint or its task.
pub fn labels(file: Option<&Path>, network: &Network) -> Result<Labels> {
    let labels = match file {
        Some(path) => Labels::open(path)?,
        None => Labels::of(network),
    };
    labels.check(network.label_count())?;
    Ok(labels)
}

/// The startup times as JSON.
pub fn startup(startup: Startup) -> serde_json::Value {
    let ms = |time: Duration| 1e3 * time.as_secs_f64();
    serde_json::json!({
        "plan_ms": ms(startup.plan),
        "upload_ms": ms(startup.upload),
        "compile_ms": ms(startup.compile),
        "pipelines": startup.pipelines,
        "cached": startup.cached,
    })
}

/// A progress bar on stderr, if that is a terminal. Dropping it clears it, also after a failure.
pub fn progress(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>12} [{bar:30}] {pos}/{len}").expect("a valid template");
    ProgressBar::new(0)
        .with_style(style.progress_chars("=> "))
        .with_message(what)
        .with_finish(ProgressFinish::AndClear)
}

/// The style of a progress bar of unknown length.
pub fn counting() -> ProgressStyle {
    ProgressStyle::with_template("{msg:>12} {spinner} {pos}, {per_sec}").expect("a valid template")
}

/// A duration for display.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", 1e3 * time.as_secs_f64())
}

/// Pretty-printed JSON with a newline at the end.
pub fn json(value: &impl serde::Serialize) -> Result<String> {
    Ok(visible_json(&serde_json::to_string_pretty(value)?).into_owned() + "\n")
}

/// Returns whether a file's extension is one of these, in any case; `.jpeg` counts as `jpg`.
pub fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().map(|own| own.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|own| extensions.contains(&if own == "jpeg" { "jpg" } else { own.as_str() }))
}

/// Parses the name of a .safetensors file, which need not be UTF-8.
pub fn safetensors_name(name: OsString) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    if has_extension(&path, &["safetensors"]) {
        Ok(path)
    } else {
        Err("expected the name of a .safetensors file".into())
    }
}

/// Parses rows and columns from `224x160`, or `224` for a square.
pub fn size(text: &str) -> Result<[usize; 2], String> {
    let (h, w) = text.split_once('x').unwrap_or((text, text));
    match (h.parse(), w.parse()) {
        (Ok(h), Ok(w)) if h > 0 && w > 0 => Ok([h, w]),
        _ => Err("expected rows x columns, such as 224x160".into()),
    }
}
