//! What a device could do at its best, measured by kernels that do one thing only.

use web_time::Instant;

use super::Peaks;
use crate::{
    Result, Shape, Tensor,
    cpu::Cpu,
    gpu::{Executor, Gpu},
    kernels::{Launch, copy, multiply_add},
    plan,
    session::Device,
    tensor::Element,
};

/// Seconds that a probe should take, so that its start does not count.
const LONG: f64 = 0.02;

/// Launches in a chain.
const CHAIN: usize = 64;

/// Runs of each probe, of which the best counts.
const RUNS: usize = 5;

impl Peaks {
    /// Measures `device`, with maps of `element` on a GPU. Takes a second or two.
    ///
    /// # Errors
    /// As [`Executor::new`] and [`Executor::run`].
    pub fn measure(device: &Device, element: Element) -> Result<Self> {
        match device {
            Device::Gpu(gpu) => of_gpu(gpu, element),
            Device::Cpu(cpu) => Ok(of_cpu(cpu)),
        }
    }
}

fn of_cpu(cpu: &Cpu) -> Peaks {
    Peaks { macs: cpu.multiply_adds(), bytes: cpu.bandwidth(), launch: cpu.launch() }
}

fn of_gpu(gpu: &Gpu, element: Element) -> Result<Peaks> {
    // As many quads as fill any GPU; a device that is slow at it is given less to do.
    let x = Shape::new(1, 4, 512, 512);
    let mut rounds = 4;
    let macs = loop {
        let seconds = chain(gpu, &multiply_add::launch(x, rounds, element), 1, x, element)?;
        if seconds > LONG || rounds >= 1 << 20 {
            break multiply_add::macs(x, rounds) as f64 / seconds;
        }
        rounds *= if seconds < LONG / 16.0 { 8 } else { 2 };
    };
    // Maps as networks have them and, where there is room, some that no cache holds.
    let mut bytes = 0.0f64;
    for side in [512, 1024, 4096] {
        let x = Shape::new(1, 4, side, side);
        let machine = gpu.machine(element);
        if x.device_bytes(element) > machine.max_binding.min(machine.max_buffer) {
            break;
        }
        let seconds = chain(gpu, &copy::launch(x), 4, x, element)?;
        bytes = bytes.max(4.0 * 2.0 * x.device_bytes(element) as f64 / seconds);
        // A device this slow has no cache that larger maps would leave.
        if seconds > LONG / 8.0 {
            break;
        }
    }
    // A workgroup each, which is as little as can be launched.
    let x = Shape::new(1, 4, 8, 8);
    let launch = chain(gpu, &copy::launch(x), CHAIN, x, element)? / CHAIN as f64;
    Ok(Peaks { macs, bytes, launch })
}

/// The fewest seconds that so many launches took, by the device's own clock if it has one.
fn chain(gpu: &Gpu, launch: &Launch, count: usize, x: Shape, element: Element) -> Result<f64> {
    let plan = plan::chain(launch, count, x, element);
    let mut executor = pollster::block_on(Executor::new(gpu, &plan, |_, _| {}))?;
    let input = Tensor::from_fn(<[usize; 4]>::from(plan.input.shape), |_| 0.0);
    executor.run(&input)?;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let seconds = if gpu.has_timestamps() {
            executor.clock(&input)? / 1e9
        } else {
            let start = Instant::now();
            executor.run(&input)?;
            start.elapsed().as_secs_f64()
        };
        // A clock that stood still has measured nothing.
        if seconds > 0.0 {
            best = best.min(seconds);
        }
    }
    Ok(best)
}
