//! Enumeration and choice of adapters.

use std::num::NonZero;

use serde::Serialize;

use super::{FEATURES, Gpu};
use crate::{
    Error, Result,
    kernels::Rates,
    plan::{Card, Machine},
};

/// A description of an adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterInfo {
    /// The adapter's name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12`, `gl` or `webgpu`.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: &'static str,
    /// True if it computes on the CPU.
    pub software: bool,
    /// The cost model starts from this card's preset. `None` if the adapter's vendor has no preset.
    #[serde(skip)]
    pub card: Option<Card>,
}

impl AdapterInfo {
    /// Describes an adapter.
    pub fn of(adapter: &wgpu::Adapter) -> Self {
        Self::from_wgpu(adapter.get_info())
    }

    /// Describes a device's adapter. In a browser the device knows more about it than wgpu's adapter.
    pub(super) fn of_device(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Self {
        let info = adapter.get_info();
        #[cfg(target_arch = "wasm32")]
        let info = super::browser::completed(info, device);
        #[cfg(not(target_arch = "wasm32"))]
        let _ = device;
        Self::from_wgpu(info)
    }

    fn from_wgpu(info: wgpu::AdapterInfo) -> Self {
        // Some software adapters report another device type, mostly through GL.
        const SOFTWARE: [&str; 5] = ["llvmpipe", "softpipe", "swiftshader", "lavapipe", "basic render"];
        let name = info.name.to_lowercase();
        let software = info.device_type == wgpu::DeviceType::Cpu || SOFTWARE.iter().any(|s| name.contains(s));
        Self {
            backend: info.backend.to_str().to_string(),
            driver: [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_string(),
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete",
                wgpu::DeviceType::IntegratedGpu => "integrated",
                wgpu::DeviceType::VirtualGpu => "virtual",
                wgpu::DeviceType::Cpu => "cpu",
                wgpu::DeviceType::Other => "other",
            },
            card: match software {
                true if name.contains("swiftshader") => Some(Card::SwiftShader),
                true => Some(Card::Lavapipe),
                // Metal reports no vendor ids.
                false => Card::of_vendor(info.vendor).or(name.starts_with("apple").then_some(Card::M1)),
            },
            name: info.name,
            software,
        }
    }

    /// The preset for its kind: no API reports how many units a GPU has.
    pub(super) fn machine(&self) -> Machine {
        let machine = self.card.map_or(Machine::default(), Card::machine);
        if self.software {
            // Software drivers use all cores.
            let cores = std::thread::available_parallelism().map_or(2, NonZero::get) as f64;
            return Machine { rates: Rates { units: cores, ..machine.rates }, ..machine };
        }
        match (self.kind, self.card) {
            // The other presets are integrated GPUs already.
            ("integrated", Some(Card::Rdna3 | Card::Ada | Card::Xe) | None) => machine.smaller(8.0),
            _ => machine,
        }
    }

    /// Worse adapters have higher ranks.
    fn rank(&self) -> (bool, u8) {
        let kind = match self.kind {
            "discrete" => 0,
            "integrated" => 1,
            "virtual" => 2,
            _ => 3,
        };
        (self.software, kind)
    }
}

impl std::fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.backend, if self.software { "software" } else { self.kind })
    }
}

impl Gpu {
    /// The features of an adapter that a program should enable on its device, so that the fastest
    /// kernels can run. All are optional.
    ///
    /// - `SHADER_F16`: f16 feature maps and weights.
    /// - `SUBGROUP`: products that share weights within a subgroup.
    /// - `TIMESTAMP_QUERY` and its variants: inference times ([`Readback::device_time`](super::Readback::device_time)),
    ///   [`Session::profile`](crate::Session::profile), tuning, benches.
    /// - `PIPELINE_CACHE`: faster later starts.
    ///
    /// Matrix units are not included: `EXPERIMENTAL_COOPERATIVE_MATRIX` also needs
    /// [`wgpu::ExperimentalFeatures`], which the program has to decide on.
    pub fn wanted_features(adapter: &wgpu::Adapter) -> wgpu::Features {
        adapter.features() & FEATURES & !wgpu::Features::all_experimental_mask()
    }

    /// The limits of an adapter that a program should request for its device: WebGPU's defaults, which
    /// are enough for every kernel, and the largest buffers, for large pictures and batches.
    pub fn wanted_limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
        let offered = adapter.limits();
        wgpu::Limits {
            max_buffer_size: offered.max_buffer_size,
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            ..wgpu::Limits::default().or_worse_values_from(&offered)
        }
    }
}

/// Every adapter of Vulkan, Metal, DX12 and WebGPU, in the system's order. GL's adapters are listed only if there
/// are no others, because GL supports the same GPUs less well. `WGPU_BACKEND` overrides the choice of backends.
pub async fn adapters() -> Vec<wgpu::Adapter> {
    if let Some(backends) = wgpu::Backends::from_env() {
        return enumerate(backends).await;
    }
    match enumerate(wgpu::Backends::PRIMARY).await {
        none if none.is_empty() => enumerate(wgpu::Backends::SECONDARY).await,
        some => some,
    }
}

async fn enumerate(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    descriptor.backends = backends;
    wgpu::Instance::new(descriptor).enumerate_adapters(backends).await
}

/// The adapter at the index `wanted`, or the best one whose name contains `wanted`; the best of all if `wanted` is
/// `None`.
///
/// # Errors
/// [`Error::Adapter`] with a list of the adapters, if none matches.
pub fn pick<'a>(adapters: &'a [wgpu::Adapter], wanted: Option<&str>) -> Result<&'a wgpu::Adapter> {
    let infos: Vec<AdapterInfo> = adapters.iter().map(AdapterInfo::of).collect();
    if infos.is_empty() {
        if let Some(backends) = wgpu::Backends::from_env() {
            return Err(Error::Adapter(format!(
                "no graphics adapter: WGPU_BACKEND allows only {backends:?}"
            )));
        }
        let missing = if cfg!(target_arch = "wasm32") {
            "no graphics adapter: this browser has no WebGPU, or it is switched off"
        } else if cfg!(target_os = "linux") {
            "no graphics adapter: install a Vulkan driver (on Debian: apt-get install mesa-vulkan-drivers)"
        } else {
            "no graphics adapter: install the driver of the graphics card"
        };
        return Err(Error::Adapter(missing.into()));
    }
    let fits = |(i, info): &(usize, &AdapterInfo)| match wanted.map(|w| (w, w.parse::<usize>())) {
        None => true,
        Some((_, Ok(index))) => index == *i,
        Some((name, _)) => info.name.to_lowercase().contains(&name.to_lowercase()),
    };
    let best = infos.iter().enumerate().filter(fits).min_by_key(|(i, info)| (info.rank(), *i));
    let Some((index, _)) = best else {
        let list: Vec<String> = infos.iter().enumerate().map(|(i, info)| format!("{i}: {info}")).collect();
        let wanted = wanted.unwrap_or_default();
        return Err(Error::Adapter(format!("no adapter {wanted}; there are {}", list.join(", "))));
    };
    Ok(&adapters[index])
}
