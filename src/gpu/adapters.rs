//! What the machine offers, and which of it to take.

use std::num::NonZero;

use serde::Serialize;

use super::{FEATURES, Gpu};
use crate::{
    Error, Result,
    kernels::Rates,
    plan::{Card, Machine},
};

/// What an adapter says of itself.
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
    /// The card that stands for its maker's, if that is known.
    #[serde(skip)]
    pub card: Option<Card>,
}

impl AdapterInfo {
    /// Of this adapter.
    pub fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        // Some software adapters hide behind another kind, above all through GL.
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
            // Metal numbers no vendors.
            card: Card::of_vendor(info.vendor).or(name.starts_with("apple").then_some(Card::M1)),
            name: info.name,
            software,
        }
    }

    /// What its kind tells of its speed: no API says how many units a GPU has.
    pub(super) fn machine(&self) -> Machine {
        if self.software {
            let swiftshader = self.name.to_lowercase().contains("swiftshader");
            let machine = if swiftshader { Card::SwiftShader } else { Card::Lavapipe }.machine();
            // They compute on all cores.
            let cores = std::thread::available_parallelism().map_or(2, NonZero::get) as f64;
            return Machine { rates: Rates { units: cores, ..machine.rates }, ..machine };
        }
        let machine = self.card.map_or(Machine::default(), Card::machine);
        match (self.kind, self.card) {
            // Those presets are of integrated GPUs themselves.
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
    /// The features of an adapter that a program should ask its device for, so that every kernel
    /// that pays can be taken. None of them is needed.
    ///
    /// - `SHADER_F16`: maps and weights of 16 bits.
    /// - `SUBGROUP`: products whose threads hand each other weights.
    /// - `TIMESTAMP_QUERY` and its like: how long an answer took ([`Answer::took`](super::Answer::took)),
    ///   [`Session::profile`](crate::Session::profile), tuning, benches.
    /// - `PIPELINE_CACHE`: quicker later starts.
    ///
    /// Matrix units are not among them: `EXPERIMENTAL_COOPERATIVE_MATRIX` wants
    /// [`wgpu::ExperimentalFeatures`] too, which is for the program to decide.
    pub fn wanted_features(adapter: &wgpu::Adapter) -> wgpu::Features {
        adapter.features() & FEATURES & !wgpu::Features::all_experimental_mask()
    }

    /// The limits of an adapter that a program should ask its device for: WebGPU's default ones, which
    /// every kernel keeps to, and buffers as large as there are, which large pictures and batches want.
    pub fn wanted_limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
        let offered = adapter.limits();
        wgpu::Limits {
            max_buffer_size: offered.max_buffer_size,
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            ..wgpu::Limits::default().or_worse_values_from(&offered)
        }
    }
}

/// Every adapter of Vulkan, Metal, DX12 and WebGPU, in the machine's order, or GL's where
/// there are none: it drives the same chips, worse. `WGPU_BACKEND` chooses backends instead.
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

/// The adapter at the index `wanted`, or the best of those whose name contains it; the best
/// of all without one.
///
/// # Errors
/// [`Error::Adapter`] that lists what there is, if nothing fits.
pub fn pick<'a>(adapters: &'a [wgpu::Adapter], wanted: Option<&str>) -> Result<&'a wgpu::Adapter> {
    let infos: Vec<AdapterInfo> = adapters.iter().map(AdapterInfo::of).collect();
    if infos.is_empty() {
        return Err(Error::Adapter(
            "no graphics adapter: install a Vulkan driver (on Debian: apt-get install mesa-vulkan-drivers)"
                .into(),
        ));
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
