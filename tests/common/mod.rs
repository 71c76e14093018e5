//! Shared by the tests: devices to run on, fixtures and comparisons.
#![allow(dead_code)] // each test file uses only a part

pub mod cases;
pub mod fixture;
pub mod int8;
pub mod textures;

use std::{
    sync::{LazyLock, Mutex},
    thread,
};

use goldcrest::{Device, Tensor, cpu::Cpu, gpu::Gpu, wgpu};

/// Returns a device on every adapter of the machine, without the user's cache. `GOLDCREST_TEST_ADAPTERS`
/// lists the required adapters, separated by commas, so that a missing driver is a failure. `gl` adds the
/// adapters of GL: the same chips with another driver.
///
/// The tests of a program share the devices, so that SwiftShader rarely compiles a pipeline twice. GL's
/// devices are not shared: wgpu panics if a thread waits for GL's context for more than six seconds.
pub fn gpus() -> Vec<Gpu> {
    static SHARED: LazyLock<Vec<Gpu>> = LazyLock::new(|| {
        let shared = adapters().into_iter().filter(|adapter| !is_gl(adapter));
        opened(shared.collect(), wgpu::Features::empty())
    });
    // `adapters` has those of GL too, if there are no others.
    let gl = adapters().into_iter().filter(is_gl).chain(gl_adapters());
    complete(SHARED.iter().cloned().chain(opened(gl.collect(), wgpu::Features::empty())).collect())
}

/// [`gpus`] for one test alone: for tests that measure times, count compiled pipelines, or expect several
/// readbacks at once.
pub fn own_gpus() -> Vec<Gpu> {
    gpus_with(wgpu::Features::empty())
}

fn is_gl(adapter: &wgpu::Adapter) -> bool {
    adapter.get_info().backend == wgpu::Backend::Gl
}

/// [`own_gpus`] as a host program creates them, with those of `features` that each adapter has.
pub fn gpus_with(features: wgpu::Features) -> Vec<Gpu> {
    complete(opened(adapters().into_iter().chain(gl_adapters()).collect(), features))
}

fn adapters() -> Vec<wgpu::Adapter> {
    let _ = env_logger::builder().is_test(true).try_init();
    pollster::block_on(goldcrest::gpu::adapters())
}

fn gl_adapters() -> Vec<wgpu::Adapter> {
    if !required().iter().any(|required| required == "gl") {
        return Vec::new();
    }
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::GL;
    pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(wgpu::Backends::GL))
}

fn required() -> Vec<String> {
    let required = std::env::var("GOLDCREST_TEST_ADAPTERS").unwrap_or_default();
    required.split(',').map(str::to_lowercase).collect()
}

fn opened(adapters: Vec<wgpu::Adapter>, features: wgpu::Features) -> Vec<Gpu> {
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
    adapters.iter().map(|adapter| open(adapter).cache_in(None)).collect()
}

/// Fails if an adapter is missing.
fn complete(gpus: Vec<Gpu>) -> Vec<Gpu> {
    assert!(!gpus.is_empty(), "no adapter: install a Vulkan driver (scripts/test does)");
    for required in required() {
        let matches = |gpu: &Gpu| {
            gpu.adapter().name.to_lowercase().contains(&required) || gpu.adapter().backend == required
        };
        let found = gpus.iter().any(matches);
        assert!(found, "GOLDCREST_TEST_ADAPTERS requires the adapter {required}, which is missing");
    }
    gpus
}

/// Every adapter, and the CPU with one thread and with three.
pub fn devices() -> Vec<Device> {
    let mut devices: Vec<Device> = gpus().iter().map(Device::from).collect();
    devices.extend([1, 3].map(|threads| Device::Cpu(Cpu::new(Some(threads)).unwrap())));
    devices
}

/// True if small inputs suffice on this device: SwiftShader runs the same shaders as lavapipe, five times as slowly, and
/// GL's adapters are the same chips as Vulkan's.
pub fn is_repeated(device: &Device) -> bool {
    let Device::Gpu(gpu) = device else { return false };
    gpu.adapter().backend == "gl" || gpu.adapter().name.starts_with("SwiftShader")
}

/// Calls `check` with every item, on all cores.
pub fn for_each<T: Send>(items: Vec<T>, check: impl Fn(T) + Sync) {
    let items = Mutex::new(items.into_iter());
    let next = || items.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(item) = next() {
                    check(item);
                }
            });
        }
    });
}

/// ||a - b|| / ||b||, or infinity if a value of `a` is not finite.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (mut difference, mut norm) = (0.0f64, 0.0f64);
    for (&a, &b) in a.data().iter().zip(b.data()) {
        if !a.is_finite() {
            return f64::INFINITY;
        }
        difference += f64::from(a - b).powi(2);
        norm += f64::from(b).powi(2);
    }
    (difference / norm.max(f64::MIN_POSITIVE)).sqrt()
}

/// Reorders `[1, boxes per pixel x each, 1, pixels]` to torchvision's `[1, boxes, each]`.
pub fn by_box(output: &Tensor, each: usize) -> Tensor {
    let &[1, channels, 1, pixels] = output.dims() else {
        panic!("one picture's outputs, with all pixels in one row")
    };
    Tensor::from_fn([1, pixels * channels / each, each], |at| {
        let (pixel, channel) = (at / channels, at % channels);
        output.data()[channel * pixels + pixel]
    })
}
