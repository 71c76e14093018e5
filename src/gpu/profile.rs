//! Where the time goes: timestamps between the dispatches of the real sequence.

use std::time::Duration;

use super::{Executor, Gpu, transfer};
use crate::{Error, Result, Tensor};

/// What timestamps between the dispatches of one pass take.
pub(super) const FEATURES: wgpu::Features =
    wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);

/// Two timestamps round what is recorded into a program's own encoder.
pub(super) struct Clock {
    queries: wgpu::QuerySet,
    stamps: wgpu::Buffer,
}

impl Clock {
    /// Bytes that its two timestamps take.
    pub const BYTES: u64 = 16;

    /// None where the device has no timestamps.
    ///
    /// # Errors
    /// As [`Gpu::guarded_now`].
    fn new(gpu: &Gpu) -> Result<Option<Self>> {
        if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let clock = gpu.guarded_now("timestamps", || {
            let stamps = transfer::buffer(gpu, "timestamps", Self::BYTES, usage);
            let clock = Self { queries: queries(gpu, "inference", 2), stamps };
            // Drivers may wait for ever for timestamps that nothing has written.
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            drop(encoder.begin_compute_pass(&clock.pass(true, true)));
            gpu.queue.submit([encoder.finish()]);
            clock
        });
        clock.map(Some)
    }

    /// A pass that has an inference's first step, its last, both or neither.
    pub fn pass(&self, first: bool, last: bool) -> wgpu::ComputePassDescriptor<'_> {
        let writes = wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: first.then_some(0),
            end_of_pass_write_index: last.then_some(1),
        };
        wgpu::ComputePassDescriptor {
            label: Some("inference"),
            timestamp_writes: (first || last).then_some(writes),
        }
    }

    /// Records that both go to a buffer, from the byte `at` on.
    pub fn copy(&self, encoder: &mut wgpu::CommandEncoder, to: &wgpu::Buffer, at: u64) {
        encoder.resolve_query_set(&self.queries, 0..2, &self.stamps, 0);
        encoder.copy_buffer_to_buffer(&self.stamps, 0, to, at, Self::BYTES);
    }

    /// What lies between two that were copied.
    pub fn between(gpu: &Gpu, stamps: &[u8]) -> Duration {
        let [begun, ended] = [0, 8].map(|at| bytemuck::pod_read_unaligned::<u64>(&stamps[at..at + 8]));
        let ticks = ended.saturating_sub(begun) as f64;
        Duration::from_secs_f64(1e-9 * ticks * f64::from(gpu.queue.get_timestamp_period()))
    }
}

fn queries(gpu: &Gpu, label: &str, count: u32) -> wgpu::QuerySet {
    gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
        label: Some(label),
        ty: wgpu::QueryType::Timestamp,
        count,
    })
}

impl Gpu {
    /// Whether [`Executor::profile`] works on it.
    pub fn has_timestamps(&self) -> bool {
        self.device().features().contains(FEATURES)
    }
}

impl Executor {
    /// The clock of what is recorded, if the device has any.
    ///
    /// # Errors
    /// As [`Gpu::guarded_now`].
    pub(super) fn recording_clock(&self) -> Result<Option<&Clock>> {
        if self.clock.get().is_none() {
            // Of two that are made at once the first stays.
            let _ = self.clock.set(Clock::new(&self.gpu)?);
        }
        Ok(self.clock.get().and_then(Option::as_ref))
    }

    /// Runs once and gives the nanoseconds of each step, the barrier before it included.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has no timestamps, or as [`Executor::run`].
    pub fn profile(&mut self, input: &Tensor) -> Result<Vec<f64>> {
        self.stamped(input, 1)
    }

    /// Runs once and gives the nanoseconds of all steps together, with nothing between them.
    ///
    /// # Errors
    /// As [`Executor::profile`].
    pub fn clock(&mut self, input: &Tensor) -> Result<f64> {
        Ok(self.stamped(input, self.dispatches.len())?.iter().sum())
    }

    /// The nanoseconds of every so many steps.
    fn stamped(&mut self, input: &Tensor, every: usize) -> Result<Vec<f64>> {
        if !self.gpu.has_timestamps() {
            return Err(Error::Device(format!("{} has no timestamps", self.gpu.adapter())));
        }
        // The maps hold an input from here on.
        self.run(input)?;
        let device = self.gpu.device();
        let count = self.dispatches.len().div_ceil(every.max(1)) as u32 + 1;
        let size = 8 * u64::from(count);
        let (queries, stamps) = self.gpu.guarded_now("timestamps", || {
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let stamps = transfer::buffer(&self.gpu, "timestamps", size, usage);
            (queries(&self.gpu, "steps", count), stamps)
        })?;
        let mut encoder = device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (i, dispatches) in self.dispatches.chunks(every.max(1)).enumerate() {
                pass.write_timestamp(&queries, i as u32);
                dispatches.iter().for_each(|dispatch| dispatch.record(&mut pass));
            }
            pass.write_timestamp(&queries, count - 1);
        }
        encoder.resolve_query_set(&queries, 0..count, &stamps, 0);
        self.gpu.queue().submit([encoder.finish()]);
        let stamps: Vec<u64> = transfer::read(&self.gpu, &stamps, size)?;
        let period = f64::from(self.gpu.queue().get_timestamp_period());
        Ok(stamps.windows(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 * period).collect())
    }
}
