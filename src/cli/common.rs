//! What several subcommands share: where the network comes from, what it runs on, progress.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use goldcrest::{
    Error,
    checkpoint::Said,
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

/// What is told without being asked for, though nothing is amiss.
pub const NOTE: &str = "note";

/// The checkpoint.
#[derive(Args)]
pub struct Weights {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    hub: Hub,

    /// The network by its library's name, such as torchvision/mobilenet_v3_large or
    /// timm/tf_mobilenetv3_small_100; needed only where neither keys nor config.json tell
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,

    /// A value that no key of a checkpoint shows, such as epsilon=1e-3, stem_stride=1 or output_stride=16, as often
    /// as need be; `goldcrest inspect` lists those there are and who said them
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

/// A name and a value.
fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected a name, =, and a value")?;
    let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
    // A name that there is not is bad usage, and told as such.
    Said::default().set(&name, value.as_str()).map_err(|error| error.to_string())?;
    Ok((name, value))
}

/// Where the checkpoint is.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// A file of safetensors or PyTorch (.pth, .pt, .bin, .ckpt), or a folder with one or its shards, and
    /// config.json
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,

    /// A model of the Hugging Face hub, such as timm/mobilenetv3_large_100.ra_in1k: fetched once
    #[arg(long, value_name = "OWNER/NAME[@REVISION]")]
    model: Option<String>,
}

/// What a hub may take and send.
#[derive(Args)]
struct Hub {
    /// How long the hub may send nothing before it is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds())]
    #[arg(requires = "model", conflicts_with = "weights")]
    hub_timeout: u64,

    /// How long a download from the hub may take
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = seconds())]
    #[arg(requires = "model", conflicts_with = "weights")]
    hub_max_time: u64,

    /// The largest file that is fetched from the hub
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 30)]
    #[arg(requires = "model", conflicts_with = "weights")]
    hub_max_size: u64,
}

/// Up to a day.
fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=86_400)
}

impl Hub {
    /// The folder of a model, fetched under a progress bar if need be.
    fn fetch(&self, model: &str) -> Result<PathBuf> {
        let defaults = Limits::default();
        let silence = Duration::from_secs(self.hub_timeout);
        let limits = Limits {
            connect: silence.min(defaults.connect),
            silence,
            total: Duration::from_secs(self.hub_max_time),
            largest: self.hub_max_size,
        };
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes}");
        let bar = ProgressBar::new(0)
            .with_style(style.expect("a valid template").progress_chars("=> "))
            .with_finish(ProgressFinish::AndClear);
        Ok(Model::parse(model)?.fetch(&limits, |progress| match progress {
            Progress::Coming { file, done, total } => {
                bar.set_message(file.to_owned());
                bar.set_length(total);
                bar.set_position(done);
            }
            Progress::Waiting { file } => {
                bar.suspend(|| log::info!(target: NOTE, "{file}: another process fetches it: waiting"));
            }
            _ => {}
        })?)
    }
}

impl Weights {
    /// Reads the network, fetching it if need be, and says what had to be assumed.
    pub fn open(&self) -> Result<Network> {
        let path = match (&self.source.weights, &self.source.model) {
            (None, Some(model)) => self.hub.fetch(model)?,
            (weights, _) => weights.clone().unwrap_or_default(),
        };
        let mut said = Said::default();
        if let Some(arch) = &self.arch {
            said = said.arch(arch);
        }
        for (name, value) in &self.set {
            said = said.set(name, value)?;
        }
        let network = Network::open_with(path, &said)?;
        for note in &network.notes {
            log::info!(target: NOTE, "{note}");
        }
        for warning in &network.warnings {
            log::warn!("{warning}");
        }
        Ok(network)
    }
}

/// What to run on and how.
#[derive(Args)]
pub struct Engine {
    /// The adapter's index, or part of its name (see `goldcrest adapters`)
    #[arg(long, value_name = "INDEX|NAME")]
    adapter: Option<String>,

    /// What computes
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,

    /// The CPU's threads, if not one a core
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,

    /// What maps and weights are stored as
    #[arg(long, value_enum, default_value_t)]
    precision: Stored,

    /// Which layers may share a kernel
    #[arg(long, value_enum, default_value_t)]
    fuse: Fusion,
}

/// What computes.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The best graphics adapter, or the CPU where there is none but software
    #[default]
    Auto,
    /// A graphics adapter through wgpu, software too
    Gpu,
    /// The CPU's cores
    Cpu,
}

/// What maps and weights are stored as.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Stored {
    /// f16 if `goldcrest tune` found it quicker and exact enough, or else f32
    #[default]
    Auto,
    /// 32 bits
    F32,
    /// 16 bits, on adapters that have them in shaders
    F16,
}

/// Which layers may share a kernel.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Fusion {
    /// What the planner finds quickest
    #[default]
    Auto,
    /// None: a kernel a layer
    None,
    /// Two convolutions of a block
    Pair,
    /// Whole blocks
    Block,
}

impl Stored {
    /// As sessions know it.
    pub fn precision(self) -> Precision {
        match self {
            Self::Auto => Precision::Auto,
            Self::F32 => Precision::F32,
            Self::F16 => Precision::F16,
        }
    }
}

impl Fusion {
    /// As planners know it.
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
    /// Whether it was asked for by name or by kind, so that nothing else will do.
    pub fn is_named(&self) -> bool {
        self.adapter.is_some() || self.backend != Backend::Auto
    }

    /// Whether it is the CPU: named, or meant by its threads.
    pub fn is_cpu(&self) -> bool {
        let meant = self.backend == Backend::Auto && self.adapter.is_none() && self.threads.is_some();
        meant || self.backend == Backend::Cpu
    }

    /// Which layers may share a kernel.
    pub fn fuse(&self) -> Fuse {
        self.fuse.fuse()
    }

    /// As it is written.
    pub fn fuse_name(&self) -> String {
        self.fuse.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What maps and weights are stored as.
    pub fn precision(&self) -> Precision {
        self.precision.precision()
    }

    /// What a session is built with.
    pub fn options(&self) -> Options {
        Options { fuse: self.fuse(), precision: self.precision(), ..Options::default() }
    }

    /// Opens what is to compute. An adapter that is named is taken, whatever it is.
    pub fn open(&self) -> Result<Device> {
        if self.threads.is_some() && (self.backend == Backend::Gpu || self.adapter.is_some()) {
            bail!("--threads: they are the CPU's, and a graphics adapter was asked for");
        }
        let device = match self.backend {
            Backend::Cpu if self.adapter.is_some() => {
                bail!("--adapter names a graphics adapter, and --backend is cpu")
            }
            _ if self.is_cpu() => self.cpu()?,
            Backend::Auto if self.adapter.is_none() => quietly(Device::best)?,
            _ => Device::Gpu(self.gpu()?),
        };
        if matches!((&device, self.fuse()), (Device::Cpu(_), Fuse::Pair | Fuse::Block)) {
            bail!("--fuse: on the CPU every layer is by itself");
        }
        if self.precision() == Precision::F16 {
            device.supports(Element::F16)?;
        }
        Ok(device)
    }

    /// The CPU, with as many threads as were asked for.
    fn cpu(&self) -> Result<Device> {
        Ok(Device::Cpu(Cpu::new(self.threads.map(|threads| threads as usize))?))
    }

    /// Opens a graphics adapter, and warns if it only plays one.
    pub fn gpu(&self) -> Result<Gpu> {
        if self.backend == Backend::Cpu {
            bail!("--backend: this is about graphics adapters");
        }
        let gpu = quietly(|| Gpu::open(self.adapter.as_deref()))?;
        if gpu.adapter().software {
            log::warn!("{} computes on the CPU: expect it to be slow", gpu.adapter());
        }
        Ok(gpu)
    }
}

/// Refuses an adapter that computes wrong: how quick it is at that says nothing. It is tried on a device of its
/// own, of which nothing is left where times are measured: lavapipe's clock all but stands still after that.
pub fn trusted(wanted: Option<&str>) -> Result<()> {
    let gpu = quietly(|| Gpu::open(wanted))?;
    let trust = gpu::check(&gpu)?;
    log::info!("{} was checked in {:.1} s", gpu.adapter(), trust.seconds);
    match worst(&trust) {
        Some(wrong) => bail!("{} computes wrong: {wrong} (see goldcrest adapters)", gpu.adapter()),
        None => Ok(()),
    }
}

/// The kernel that is furthest off, of those that are wrong.
pub fn worst(trust: &Trust) -> Option<String> {
    // A NaN is further off than any number.
    let far = |check: &&Check| if check.error.is_nan() { f64::INFINITY } else { check.error };
    let wrong = trust.checks.iter().filter(|check| !check.right());
    let Check { kernel, element, error } = wrong.max_by(|a, b| far(a).total_cmp(&far(b)))?;
    Some(format!("relative error {error:.1e} in {kernel} with {element}"))
}

/// What computes, for programs.
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

/// Builds a session under a progress bar.
pub fn session(device: &Device, network: &Network, options: Options) -> Result<Session> {
    let bar = progress("compiling");
    let session = pollster::block_on(Session::build(device, network, options, shown_on(&bar)))?;
    drop(bar);
    log::info!("{}", session.startup());
    Ok(session)
}

/// The same for pictures like the one in `file`.
pub fn session_for_pictures(
    device: &Device,
    network: &Network,
    (file, picture): (&Path, &Picture),
    options: Options,
) -> Result<Session> {
    let picture = [picture.height(), picture.width()];
    let bar = progress("compiling");
    let build = Session::build_for_pictures(device, network, picture, options, shown_on(&bar));
    let session = pollster::block_on(build).map_err(|error| match error {
        // Of this picture, not of the device.
        Error::Input(_) => anyhow!(error).context(file.display().to_string()),
        other => other.into(),
    })?;
    drop(bar);
    log::info!("{}", session.startup());
    Ok(session)
}

/// What shows on a bar how much is done, of how much.
fn shown_on(bar: &ProgressBar) -> impl FnMut(usize, usize) {
    |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    }
}

/// A file's name for people, on one line.
pub fn file(path: &Path) -> String {
    visible(&path.display().to_string()).into_owned()
}

/// A class for people: its name and its number, or the number alone.
pub fn class(index: usize, label: Option<&str>) -> String {
    label.map_or_else(|| format!("class {index}"), |label| format!("{} ({index})", visible(label)))
}

/// A box for people, in whole pixels.
pub fn detection(Detection { index, label, score, bounds }: &Detection) -> String {
    let class = class(*index, label.as_deref());
    let [left, top, right, bottom] = [bounds.left, bounds.top, bounds.right, bounds.bottom];
    format!("{:5.1}%  {class} from {left:.0}, {top:.0} to {right:.0}, {bottom:.0}", 100.0 * score)
}

/// The names that the user gave, or those of the checkpoint or its task.
pub fn labels(file: Option<&Path>, network: &Network) -> Result<Labels> {
    let labels = match file {
        Some(path) => Labels::open(path)?,
        None => Labels::of(network),
    };
    labels.check(network.label_count())?;
    Ok(labels)
}

/// What a start took, for programs.
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

/// A bar on stderr, where stderr is a terminal; it is gone once dropped, on failure too.
pub fn progress(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>12} [{bar:30}] {pos}/{len}").expect("a valid template");
    ProgressBar::new(0)
        .with_style(style.progress_chars("=> "))
        .with_message(what)
        .with_finish(ProgressFinish::AndClear)
}

/// How a bar looks that does not know how much there is.
pub fn counting() -> ProgressStyle {
    ProgressStyle::with_template("{msg:>12} {spinner} {pos}, {per_sec}").expect("a valid template")
}

/// A duration for people.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", 1e3 * time.as_secs_f64())
}

/// An answer for programs: pretty JSON and a newline.
pub fn json(answer: &impl serde::Serialize) -> Result<String> {
    Ok(visible_json(&serde_json::to_string_pretty(answer)?).into_owned() + "\n")
}

/// The name of a PNG file, whatever bytes it has.
pub fn png_name(name: OsString) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    let is = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if is { Ok(path) } else { Err("expected the name of a .png file".into()) }
}

/// The name of a file of safetensors, whatever bytes it has.
pub fn safetensors_name(name: OsString) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    let is = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
    if is { Ok(path) } else { Err("expected the name of a .safetensors file".into()) }
}

/// Rows and columns from `224x160`, or `224` for a square.
pub fn size(text: &str) -> Result<[usize; 2], String> {
    let (h, w) = text.split_once('x').unwrap_or((text, text));
    match (h.parse(), w.parse()) {
        (Ok(h), Ok(w)) if h > 0 && w > 0 => Ok([h, w]),
        _ => Err("expected rows x columns, such as 224x160".into()),
    }
}
