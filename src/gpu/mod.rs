//! The wgpu backend: adapters, pipelines, execution, readback. It executes plans and does not depend on the zoo.
//!
//! Programs use [`Gpu`], [`adapters`] and [`pick`] to choose a device, and [`Ring`] to read results back. The rest
//! works inside [`Session`](crate::Session).

mod adapters;
#[cfg(target_arch = "wasm32")]
mod browser;
pub(crate) mod cache;
mod calibrate;
mod driver_cache;
mod executor;
mod found;
mod guard;
mod pace;
mod pipelines;
mod profile;
mod ring;
#[cfg(not(target_arch = "wasm32"))]
mod single;
mod source;
mod tiers;
mod transfer;
#[cfg(not(target_arch = "wasm32"))]
mod trust;
#[cfg(not(any(target_arch = "wasm32", target_vendor = "apple")))]
mod vulkan;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

pub use adapters::{AdapterInfo, adapters, pick};
pub use calibrate::ProbeSettings;
pub use executor::Executor;
pub use found::Boxes;
pub use pace::Pace;
pub use pipelines::Startup;
pub use ring::{Readback, Ring};
pub use source::{Painting, Source};
pub use transfer::Pending;
#[cfg(not(target_arch = "wasm32"))]
pub use trust::{Check, Trust, check};

use crate::{Error, Result, plan::Machine, tensor::Element};
use pipelines::Pipelines;
use tiers::Tiers;

/// Every feature that the backend can use.
const FEATURES: wgpu::Features = profile::FEATURES
    .union(tiers::FEATURES)
    .union(wgpu::Features::PIPELINE_CACHE)
    .union(wgpu::Features::SHADER_F16);

/// A graphics device to run on: opened by Goldcrest, or a program's own ([`Gpu::from_device`]). Clones share it.
///
/// ```no_run
/// # fn program(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> goldcrest::Result<()> {
/// use goldcrest::gpu::Gpu;
///
/// let best = Gpu::new()?;
/// let radeon = Gpu::open(Some("radeon"))?; // part of a name, or an index
/// let shared = Gpu::from_device(adapter, device, queue); // opened with Gpu::wanted_features and wanted_limits
/// println!("{}", shared.adapter());
/// # drop((best, radeon));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: AdapterInfo,
    pipelines: Arc<Pipelines>,
    tiers: Tiers,
    /// The device's calibration, once loaded or measured.
    calibration: Arc<OnceLock<Option<calibrate::Calibration>>>,
    /// True if the driver bounds-checks accesses to buffers and textures.
    robust: bool,
    trouble: Trouble,
}

/// The first error that a device reported when no call could return it. Only devices that [`Gpu`] opened itself
/// report here.
#[derive(Clone, Default)]
struct Trouble(Arc<OnceLock<Fault>>);

enum Fault {
    Lost(String),
    Refused(String),
}

impl Trouble {
    fn report(&self, fault: Fault) {
        let (Fault::Lost(what) | Fault::Refused(what)) = &fault;
        log::debug!("{what}");
        let _ = self.0.set(fault);
    }

    fn check(&self) -> Result<()> {
        match self.0.get() {
            None => Ok(()),
            Some(Fault::Lost(what)) => Err(Error::Lost(what.clone())),
            Some(Fault::Refused(what)) => Err(Error::Device(what.clone())),
        }
    }
}

impl Gpu {
    /// Opens the machine's best adapter: discrete GPUs before integrated ones before software.
    ///
    /// # Errors
    /// [`Error::Adapter`] if there is none or it cannot create a device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new() -> Result<Self> {
        Self::open(None)
    }

    /// Opens the adapter at the index `wanted` of [`adapters`], or the best one whose name contains
    /// `wanted`; the best of all if `wanted` is `None`.
    ///
    /// # Errors
    /// [`Error::Adapter`] if no adapter matches or it cannot create a device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(wanted: Option<&str>) -> Result<Self> {
        pollster::block_on(Self::open_async(wanted))
    }

    /// [`Gpu::open`] where blocking is not possible, as in browsers.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub async fn open_async(wanted: Option<&str>) -> Result<Self> {
        let adapters = adapters().await;
        let adapter = pick(&adapters, wanted)?;
        Self::from_adapter(adapter).await
    }

    /// Opens a device on `adapter`.
    ///
    /// # Errors
    /// [`Error::Adapter`] if it cannot create one.
    pub async fn from_adapter(adapter: &wgpu::Adapter) -> Result<Self> {
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("goldcrest"),
            required_features: adapter.features() & FEATURES,
            experimental_features: experimental(),
            required_limits: Self::wanted_limits(adapter),
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        let name = adapter.get_info().name;
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| {
            Error::Adapter(format!("adapter {name} cannot create a device: {}", one_line(&e)))
        })?;
        let gpu = Self::from_device(adapter, device, queue);
        let trouble = gpu.trouble.clone();
        gpu.device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            trouble.report(Fault::Refused(one_line(&e)))
        }));
        let trouble = gpu.trouble.clone();
        gpu.device.set_device_lost_callback(move |reason, message| {
            trouble.report(Fault::Lost(format!("{reason:?}: {message}")));
        });
        Ok(gpu)
    }

    /// Uses a program's own device, without changing its error handlers. Enable [`Gpu::wanted_features`] and
    /// request [`Gpu::wanted_limits`] when opening it.
    pub fn from_device(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let has_cache = device.features().contains(wgpu::Features::PIPELINE_CACHE);
        let key = has_cache.then(|| wgpu::util::pipeline_cache_key(&adapter.get_info())).flatten();
        let gpu = Self {
            tiers: Tiers::of(adapter, &device),
            info: AdapterInfo::of_device(adapter, &device),
            device,
            queue,
            pipelines: Arc::new(Pipelines::new(key, cache::folder())),
            calibration: Arc::default(),
            robust: false,
            trouble: Trouble::default(),
        };
        #[cfg(not(any(target_vendor = "apple", target_arch = "wasm32")))]
        let gpu = Self { robust: gpu.is_robust(), ..gpu };
        gpu
    }

    /// Sets the folder of the cache files, or disables them. The default is `GOLDCREST_CACHE_DIR`
    /// (empty: disabled), or else the user's cache folder. Call this before building sessions: it
    /// discards compiled pipelines.
    #[must_use]
    pub fn cache_in(mut self, folder: Option<PathBuf>) -> Self {
        self.pipelines = Arc::new(self.pipelines.with_folder(folder));
        self.calibration = Arc::default();
        self
    }

    /// The folder of the cache files, if they are enabled.
    pub fn cache_folder(&self) -> Option<&Path> {
        self.pipelines.folder()
    }

    /// The device's adapter.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.info
    }

    /// The wgpu device.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// The device's queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// Returns whether maps and weights can be f16. A program's own device needs the feature
    /// `SHADER_F16` for that.
    pub fn has_f16(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F16)
    }

    /// Checks that maps and weights can be `element`.
    ///
    /// # Errors
    /// [`Error::NoF16`] for f16, if the device does not support it.
    pub fn supports(&self, element: Element) -> Result<()> {
        match element {
            Element::F16 if !self.has_f16() => Err(Error::NoF16 { adapter: self.info.to_string() }),
            _ => Ok(()),
        }
    }

    /// The element types that maps and weights can have.
    pub fn elements(&self) -> impl Iterator<Item = Element> {
        Element::ALL.into_iter().filter(|&element| self.supports(element).is_ok())
    }

    /// The device's cost-model parameters and limits, for maps and weights of `element`.
    pub fn machine(&self, element: Element) -> Machine {
        let limits = self.device.limits();
        let assumed = self.info.machine();
        Machine {
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_workgroup_size: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            subgroup: self.subgroup(),
            matrices: self.matrix_units(element),
            element,
            ..self.calibration().map_or(assumed, |found| found.correct(assumed))
        }
    }
}

/// Cooperative matrices are experimental in wgpu and may compute wrong results, so matrix units are
/// checked before they are used.
#[allow(unsafe_code)]
fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: the only experimental feature that we enable runs our own shaders alone, which follow its
    // rules: whole subgroups execute matrix operations, and matrix loads stay within their buffers.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// Formats an error and its sources on one line, where wgpu uses several.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
