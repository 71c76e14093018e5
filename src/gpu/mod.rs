//! The one module that speaks wgpu: adapters, pipelines, execution, readback. It runs plans
//! and knows no network.

mod adapters;
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
mod source;
mod tiers;
mod transfer;
mod trust;
#[cfg(not(any(target_arch = "wasm32", target_vendor = "apple")))]
mod vulkan;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

pub use adapters::{AdapterInfo, adapters, pick};
pub use calibrate::{Care, Probed};
pub use executor::Executor;
pub use found::Boxes;
pub use pace::Pace;
pub use pipelines::Startup;
pub use ring::{Answer, Ring};
pub use source::{Painting, Source};
pub use transfer::Pending;
pub(crate) use trust::distance;
pub use trust::{Check, Trust, check};

use crate::{Error, Result, plan::Machine, tensor::Element};
use pipelines::Pipelines;
use tiers::Tiers;

/// Every feature that is of use here.
const FEATURES: wgpu::Features = profile::FEATURES
    .union(tiers::FEATURES)
    .union(wgpu::Features::PIPELINE_CACHE)
    .union(wgpu::Features::SHADER_F16);

/// A device to run on. Clones share it.
#[derive(Clone)]
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: AdapterInfo,
    pipelines: Arc<Pipelines>,
    tiers: Tiers,
    /// What was measured of it, once somebody asked.
    calibration: Arc<OnceLock<Option<calibrate::Calibration>>>,
    /// Whether its driver keeps accesses within buffers and textures.
    robust: bool,
    trouble: Trouble,
}

/// The first thing that a device of our own reported outside of any call that could return it.
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
    /// The machine's best adapter: a discrete GPU before an integrated one before software.
    ///
    /// # Errors
    /// [`Error::Adapter`] if there is none or it gives no device.
    pub fn new() -> Result<Self> {
        Self::open(None)
    }

    /// The adapter at an index of [`adapters`], or whose name contains `wanted`; without one
    /// the best.
    ///
    /// # Errors
    /// [`Error::Adapter`] if there is none such or it gives no device.
    pub fn open(wanted: Option<&str>) -> Result<Self> {
        pollster::block_on(Self::open_async(wanted))
    }

    /// [`Gpu::open`] for where nothing may block.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub async fn open_async(wanted: Option<&str>) -> Result<Self> {
        let adapters = adapters().await;
        let adapter = pick(&adapters, wanted)?;
        Self::from_adapter(adapter).await
    }

    /// A device of our own on `adapter`.
    ///
    /// # Errors
    /// [`Error::Adapter`] if it gives none.
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
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|e| Error::Adapter(format!("adapter {name} gives no device: {}", one_line(&e))))?;
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

    /// A program's own device. No handler of it is touched. With
    /// [`wgpu::Features::PIPELINE_CACHE`] later starts are quicker, where the driver plays along.
    pub fn from_device(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let has_cache = device.features().contains(wgpu::Features::PIPELINE_CACHE);
        let key = has_cache.then(|| wgpu::util::pipeline_cache_key(&adapter.get_info())).flatten();
        let gpu = Self {
            tiers: Tiers::of(adapter, &device),
            device,
            queue,
            info: AdapterInfo::of(adapter),
            pipelines: Arc::new(Pipelines::new(key, cache::folder())),
            calibration: Arc::default(),
            robust: false,
            trouble: Trouble::default(),
        };
        #[cfg(not(any(target_vendor = "apple", target_arch = "wasm32")))]
        let gpu = Self { robust: gpu.is_robust(), ..gpu };
        gpu
    }

    /// Keeps what may spare a later start some work in this folder, or nowhere. Unless told, it
    /// is the one that `GOLDCREST_CACHE_DIR` names (empty: nowhere), or else the user's cache
    /// folder. For before sessions are built: pipelines made so far are forgotten.
    #[must_use]
    pub fn cache_in(mut self, folder: Option<PathBuf>) -> Self {
        self.pipelines = Arc::new(self.pipelines.moved_to(folder));
        self.calibration = Arc::default();
        self
    }

    /// Where it keeps what may spare a later start some work.
    pub fn cache_folder(&self) -> Option<&Path> {
        self.pipelines.folder()
    }

    /// What it runs on.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.info
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// The device's queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// Whether maps and weights can be f16 on it. A program's own device must have been asked
    /// for `SHADER_F16`.
    pub fn has_f16(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F16)
    }

    /// Refuses what maps and weights cannot be on it.
    ///
    /// # Errors
    /// [`Error::NoF16`] if it is f16.
    pub fn supports(&self, element: Element) -> Result<()> {
        match element {
            Element::F16 if !self.has_f16() => Err(Error::NoF16 { adapter: self.info.to_string() }),
            _ => Ok(()),
        }
    }

    /// What maps and weights can be on it.
    pub fn elements(&self) -> impl Iterator<Item = Element> {
        Element::ALL.into_iter().filter(|&element| self.supports(element).is_ok())
    }

    /// What the planner has to know of it, for maps and weights of `element`.
    pub fn machine(&self, element: Element) -> Machine {
        let limits = self.device.limits();
        let assumed = self.info.machine();
        Machine {
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            workgroup_threads: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            subgroup: self.subgroup(),
            matrices: self.matrix_units(element),
            element,
            ..self.calibration().map_or(assumed, |found| found.correct(assumed))
        }
    }
}

/// Matrices are an experiment of wgpu's. What it warns of, that they may be wrong, is why their
/// units are tried before they are used.
#[allow(unsafe_code)]
fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: the one such feature that we ask for runs texts of ours alone, which keep its rules:
    // every subgroup takes part whole, and matrices are read within their buffers.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// wgpu's errors run over many lines; ours take one.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
