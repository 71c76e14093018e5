//! The devices of a browser: WebGPU, and the CPU.

use goldcrest::{cpu::Cpu, gpu::Gpu};
use wasm_bindgen::prelude::*;

use crate::{Result, thrown};

/// A device that runs networks.
#[wasm_bindgen]
pub struct Device(pub(crate) goldcrest::Device);

#[wasm_bindgen]
impl Device {
    /// Opens the browser's WebGPU adapter.
    ///
    /// # Errors
    /// If the browser has no WebGPU, or no adapter for it.
    pub async fn gpu() -> Result<Device> {
        let gpu = Gpu::open_async(None).await.map_err(thrown)?;
        Ok(Self(goldcrest::Device::Gpu(gpu)))
    }

    /// The CPU, in this thread.
    ///
    /// # Errors
    /// None in a browser.
    pub fn cpu() -> Result<Device> {
        Ok(Self(goldcrest::Device::Cpu(Cpu::new(None).map_err(thrown)?)))
    }

    /// `gpu` or `cpu`.
    #[wasm_bindgen(getter)]
    pub fn backend(&self) -> String {
        self.0.backend().into()
    }

    /// A description for people.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.0.to_string()
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
