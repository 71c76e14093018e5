//! What the tests share: the adapters to run on, and comparisons.
#![allow(dead_code)] // each test file uses a part of it

pub mod cases;
pub mod fixture;
pub mod int8;
pub mod textures;

use goldcrest::{Device, Tensor, cpu::Cpu, gpu::Gpu, wgpu};

/// A device on every adapter of the machine. Tests run on all of them; `scripts/test` names
/// the ones that must be there in `GOLDCREST_TEST_ADAPTERS`, separated by commas, so that a
/// missing driver fails instead of testing less. `gl` asks for the adapters of GL too, which are
/// the same chips by another driver. Nothing is kept in the user's cache.
pub fn gpus() -> Vec<Gpu> {
    gpus_with(wgpu::Features::empty())
}

/// The same as devices of a program's own, each with those of these features that its adapter has.
pub fn gpus_with(features: wgpu::Features) -> Vec<Gpu> {
    let _ = env_logger::builder().is_test(true).try_init();
    let wanted = std::env::var("GOLDCREST_TEST_ADAPTERS").unwrap_or_default();
    let wanted: Vec<String> = wanted.split(',').map(str::to_lowercase).collect();
    let mut adapters = pollster::block_on(goldcrest::gpu::adapters());
    if wanted.iter().any(|wanted| wanted == "gl") {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::GL;
        let gl = wgpu::Instance::new(descriptor).enumerate_adapters(wgpu::Backends::GL);
        adapters.extend(pollster::block_on(gl));
    }
    let open = |adapter: &wgpu::Adapter| {
        if features.is_empty() {
            return pollster::block_on(Gpu::from_adapter(adapter)).expect("the adapter gives a device");
        }
        let descriptor = wgpu::DeviceDescriptor {
            required_features: Gpu::wanted_features(adapter) | (adapter.features() & features),
            required_limits: Gpu::wanted_limits(adapter),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a device");
        Gpu::from_device(adapter, device, queue)
    };
    let gpus: Vec<Gpu> = adapters.iter().map(|adapter| open(adapter).cache_in(None)).collect();
    assert!(!gpus.is_empty(), "no adapter: install a Vulkan driver (scripts/test does)");
    for wanted in &wanted {
        let is = |gpu: &Gpu| {
            gpu.adapter().name.to_lowercase().contains(wanted) || gpu.adapter().backend == *wanted
        };
        let found = gpus.iter().any(is);
        assert!(found, "the adapter {wanted} is wanted by GOLDCREST_TEST_ADAPTERS and missing");
    }
    gpus
}

/// Every adapter, and the CPU with one thread and with some.
pub fn devices() -> Vec<Device> {
    let mut devices: Vec<Device> = gpus().iter().map(Device::from).collect();
    devices.extend([1, 3].map(|threads| Device::Cpu(Cpu::new(Some(threads)).unwrap())));
    devices
}

/// ||a - b|| / ||b||, infinite where a value is not finite.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (mut apart, mut norm) = (0.0f64, 0.0f64);
    for (&a, &b) in a.data().iter().zip(b.data()) {
        if !a.is_finite() {
            return f64::INFINITY;
        }
        apart += f64::from(a - b).powi(2);
        norm += f64::from(b).powi(2);
    }
    (apart / norm.max(f64::MIN_POSITIVE)).sqrt()
}

/// `[1, boxes of a pixel x each, 1, pixels]` as torchvision has it, `[1, boxes, each]`.
pub fn by_box(answer: &Tensor, each: usize) -> Tensor {
    let &[1, channels, 1, pixels] = answer.dims() else { panic!("one picture's answers in a row") };
    Tensor::from_fn([1, pixels * channels / each, each], |at| {
        let (pixel, channel) = (at / channels, at % channels);
        answer.data()[channel * pixels + pixel]
    })
}
