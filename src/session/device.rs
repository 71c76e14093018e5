//! Devices: a graphics adapter or the CPU.

use std::fmt;

use crate::{
    Error, Result,
    cpu::Cpu,
    gpu::{self, AdapterInfo, Gpu},
    tensor::Element,
};

/// A graphics adapter, or the CPU. Clones share the device.
#[derive(Clone)]
pub enum Device {
    /// An adapter through wgpu.
    Gpu(Gpu),
    /// The CPU's cores.
    Cpu(Cpu),
}

impl Device {
    /// Returns the machine's best hardware graphics adapter, or its CPU if there is none or the best one
    /// cannot be opened.
    ///
    /// # Errors
    /// As [`Cpu::new`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn best() -> Result<Self> {
        pollster::block_on(Self::best_async())
    }

    /// [`Device::best`] for callers that must not block.
    ///
    /// # Errors
    /// As [`Device::best`].
    pub async fn best_async() -> Result<Self> {
        let adapters = gpu::adapters().await;
        let adapter = gpu::pick(&adapters, None).ok().filter(|adapter| !AdapterInfo::of(adapter).software);
        if let Some(adapter) = adapter {
            match Gpu::from_adapter(adapter).await {
                Ok(gpu) => return Ok(Self::Gpu(gpu)),
                Err(e) => log::warn!("{e}: running on the CPU"),
            }
        }
        Ok(Self::Cpu(Cpu::new(None)?))
    }

    /// Measures the planner's parameters of the device, once; see [`Gpu::calibrate`].
    pub(super) async fn calibrate(&self) -> Result<()> {
        match self {
            Self::Gpu(gpu) => gpu.calibrate().await,
            Self::Cpu(_) => Ok(()),
        }
    }

    /// Checks that the device can store feature maps and weights as `element`.
    ///
    /// # Errors
    /// [`Error::NoF16`] if `element` is f16 and the device lacks it.
    pub fn supports(&self, element: Element) -> Result<()> {
        match (self, element) {
            (Self::Gpu(gpu), element) => gpu.supports(element),
            (Self::Cpu(_), Element::F32) => Ok(()),
            (Self::Cpu(cpu), Element::F16) => Err(Error::NoF16 { adapter: cpu.info().to_string() }),
        }
    }

    /// Returns `gpu` or `cpu`.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Gpu(_) => "gpu",
            Self::Cpu(_) => "cpu",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpu(gpu) => gpu.adapter().fmt(f),
            Self::Cpu(cpu) => cpu.info().fmt(f),
        }
    }
}

impl From<&Device> for Device {
    fn from(device: &Device) -> Self {
        device.clone()
    }
}

impl From<Gpu> for Device {
    fn from(gpu: Gpu) -> Self {
        Self::Gpu(gpu)
    }
}

impl From<Cpu> for Device {
    fn from(cpu: Cpu) -> Self {
        Self::Cpu(cpu)
    }
}

impl From<&Gpu> for Device {
    fn from(gpu: &Gpu) -> Self {
        Self::Gpu(gpu.clone())
    }
}

impl From<&Cpu> for Device {
    fn from(cpu: &Cpu) -> Self {
        Self::Cpu(cpu.clone())
    }
}
