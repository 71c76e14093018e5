//! The devices of a browser: WebGPU, and the CPU.

use goldcrest::{
    gpu::{self, Gpu},
    wgpu,
};
use wasm_bindgen::prelude::*;

use crate::{Result, device_error, threads, thrown};

/// A device that runs networks.
#[wasm_bindgen]
pub struct Device(pub(crate) goldcrest::Device);

#[wasm_bindgen]
impl Device {
    /// Opens the browser's WebGPU adapter.
    ///
    /// # Errors
    /// If the browser has no WebGPU, no adapter for it, or cannot create a device.
    pub async fn gpu() -> Result<Device> {
        let adapters = gpu::adapters().await;
        let adapter = gpu::pick(&adapters, None).map_err(thrown)?;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("goldcrest"),
            required_features: Gpu::wanted_features(adapter),
            required_limits: Gpu::wanted_limits(adapter),
            ..Default::default()
        };
        let device = adapter.request_device(&descriptor).await;
        let (device, queue) = device.map_err(|e| device_error(&e.to_string()))?;
        // As a program's own device: the page uses it too, and its mistakes are not the sessions'.
        Ok(Self(goldcrest::Device::Gpu(Gpu::from_device(adapter, device, queue))))
    }

    /// The CPU. With one thread, that is the calling one. Several threads need a module with shared memory, and a
    /// worker each.
    ///
    /// # Errors
    /// None in a browser.
    pub fn cpu(threads: usize) -> Result<Device> {
        Ok(Self(goldcrest::Device::Cpu(threads::cpu(threads).map_err(thrown)?)))
    }

    /// `gpu` or `cpu`.
    #[wasm_bindgen(getter)]
    pub fn backend(&self) -> String {
        self.0.backend().into()
    }

    /// A description for people.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        match &self.0 {
            goldcrest::Device::Gpu(gpu) => format!("{} (WebGPU)", gpu.adapter().name),
            cpu => cpu.to_string(),
        }
    }

    /// The `GPUDevice`, on which a page creates the textures that sessions read; undefined for the CPU.
    #[wasm_bindgen(getter, unchecked_return_type = "GPUDevice | undefined")]
    pub fn handle(&self) -> JsValue {
        match &self.0 {
            goldcrest::Device::Gpu(gpu) => gpu.device().as_webgpu().map_or(JsValue::UNDEFINED, JsValue::from),
            goldcrest::Device::Cpu(_) => JsValue::UNDEFINED,
        }
    }
}
