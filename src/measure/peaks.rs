//! Peak rates of a device, measured by kernels that do one thing only.

use super::Peaks;
use crate::{Result, cpu::Cpu, gpu::ProbeSettings, session::Device, tensor::Element};

/// Map sizes that networks use, and one that exceeds every cache.
const SETTINGS: ProbeSettings = ProbeSettings { long: 0.02, runs: 5, sides: &[512, 1024, 4096] };

impl Peaks {
    /// Measures `device`, with maps of `element` on a GPU. Takes a second or two.
    ///
    /// # Errors
    /// As [`Gpu::probe`](crate::gpu::Gpu::probe).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn measure(device: &Device, element: Element) -> Result<Self> {
        pollster::block_on(Self::measure_async(device, element))
    }

    /// [`Peaks::measure`] for browsers, where nothing may block. On native targets it blocks.
    ///
    /// # Errors
    /// As [`Gpu::probe`](crate::gpu::Gpu::probe).
    pub async fn measure_async(device: &Device, element: Element) -> Result<Self> {
        match device {
            Device::Gpu(gpu) => gpu.probe(element, SETTINGS).await,
            Device::Cpu(cpu) => Ok(of_cpu(cpu)),
        }
    }
}

fn of_cpu(cpu: &Cpu) -> Peaks {
    Peaks { macs: cpu.multiply_adds(), bytes: cpu.bandwidth(), launch: cpu.launch() }
}
