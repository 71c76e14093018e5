//! Profiling: timestamps between the dispatches of the real sequence.

use std::time::Duration;

use web_time::Instant;

use super::{Executor, Gpu, transfer};
use crate::{Error, Result, Tensor};

/// The features for timestamps between the dispatches of one pass.
pub(super) const FEATURES: wgpu::Features =
    wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);

/// Two timestamps around an inference recorded into a program's own encoder.
pub(super) struct Clock {
    queries: wgpu::QuerySet,
    stamps: wgpu::Buffer,
}

impl Clock {
    /// The size of its two timestamps in bytes.
    pub const BYTES: u64 = 16;

    /// Creates a clock; none if the device has no timestamps.
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
            // Drivers may wait indefinitely for timestamps that were never written.
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            drop(encoder.begin_compute_pass(&clock.pass(true, true)));
            gpu.queue.submit([encoder.finish()]);
            clock
        });
        clock.map(Some)
    }

    /// The descriptor of a pass with an inference's first step, its last, both or neither.
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

    /// Records a copy of both timestamps to a buffer at the byte offset `at`.
    pub fn copy(&self, encoder: &mut wgpu::CommandEncoder, to: &wgpu::Buffer, at: u64) {
        encoder.resolve_query_set(&self.queries, 0..2, &self.stamps, 0);
        encoder.copy_buffer_to_buffer(&self.stamps, 0, to, at, Self::BYTES);
    }

    /// The time between two copied timestamps.
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
    /// Returns whether the device supports [`Executor::profile`].
    pub fn has_timestamps(&self) -> bool {
        self.device().features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Returns whether timestamps are possible between the dispatches of one pass; if not, each interval
    /// needs a separate pass.
    fn stamps_inside_passes(&self) -> bool {
        self.device().features().contains(FEATURES)
    }
}

/// The minimum nanoseconds of a repeated step, so that the time of the submission does not dominate.
const MIN_NANOSECONDS: f64 = 1e6;

/// The maximum number of repetitions of a step.
const MAX_REPETITIONS: u32 = 256;

/// Browsers round timestamps to this many nanoseconds.
const ROUNDED: f64 = if cfg!(target_arch = "wasm32") { 1e5 } else { 0.0 };

/// Work between two rounded timestamps is repeated until it takes this many times the rounding, at most
/// [`MAX_ROUNDS`] times.
const ROUNDED_TIMES: f64 = 5.0;
const MAX_ROUNDS: f64 = 64.0;

impl Executor {
    /// The clock of recorded inferences, if the device has one.
    ///
    /// # Errors
    /// As [`Gpu::guarded_now`].
    pub(super) fn recording_clock(&self) -> Result<Option<&Clock>> {
        if self.clock.get().is_none() {
            // If two threads create a clock, the first one remains.
            let _ = self.clock.set(Clock::new(&self.gpu)?);
        }
        Ok(self.clock.get().and_then(Option::as_ref))
    }

    /// Runs once and returns the nanoseconds of each step. They include the preceding barrier if the device
    /// supports timestamps within a pass.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has no timestamps, or as [`Executor::run`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile(&mut self, input: &Tensor) -> Result<Vec<f64>> {
        pollster::block_on(self.profile_async(input))
    }

    /// [`Executor::profile`] where blocking is not possible, as in browsers. Elsewhere it blocks.
    ///
    /// # Errors
    /// As [`Executor::profile`].
    pub async fn profile_async(&mut self, input: &Tensor) -> Result<Vec<f64>> {
        let rounds = self.rounds(input, self.dispatches.len()).await?;
        self.stamped(input, 1, rounds).await
    }

    /// Runs once and returns the nanoseconds of all steps together, without timestamps between them.
    ///
    /// # Errors
    /// As [`Executor::profile`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn gpu_time(&mut self, input: &Tensor) -> Result<f64> {
        pollster::block_on(self.gpu_time_async(input))
    }

    /// [`Executor::gpu_time`] where blocking is not possible, as in browsers. Elsewhere it blocks.
    ///
    /// # Errors
    /// As [`Executor::profile`].
    pub async fn gpu_time_async(&mut self, input: &Tensor) -> Result<f64> {
        let rounds = self.rounds(input, 1).await?;
        Ok(self.stamped(input, self.dispatches.len(), rounds).await?.iter().sum())
    }

    /// How often each of `groups` groups of steps has to run between two timestamps: once, unless they are
    /// rounded.
    async fn rounds(&mut self, input: &Tensor, groups: usize) -> Result<usize> {
        if ROUNDED == 0.0 {
            return Ok(1);
        }
        let whole: f64 = self.stamped(input, self.dispatches.len(), 1).await?.iter().sum();
        let wanted = groups as f64 * ROUNDED_TIMES * ROUNDED / whole.max(ROUNDED / 2.0);
        Ok(wanted.ceil().clamp(1.0, MAX_ROUNDS) as usize)
    }

    /// The nanoseconds of each step, by timestamps or else by wall-clock time over many repetitions. It
    /// blocks, except in browsers.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub async fn step_times(&mut self, input: &Tensor) -> Result<Vec<f64>> {
        if self.gpu.has_timestamps() {
            return self.profile_async(input).await;
        }
        self.run_async(input).await?;
        let mut times = Vec::with_capacity(self.dispatches.len());
        for step in 0..self.dispatches.len() {
            let mut more = 4;
            times.push(loop {
                // Both include the time of a submission, which the difference cancels.
                let (once, often) = (self.repeated(step, 1).await?, self.repeated(step, 1 + more).await?);
                if often > MIN_NANOSECONDS || more >= MAX_REPETITIONS {
                    break (often - once).max(0.0) / f64::from(more);
                }
                more *= 4;
            });
        }
        Ok(times)
    }

    /// The wall-clock nanoseconds of a step, run `times` times in sequence.
    async fn repeated(&self, step: usize, times: u32) -> Result<f64> {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            (0..times).for_each(|_| self.dispatches[step].record(&mut pass));
        }
        let begun = Instant::now();
        let submission = self.gpu.queue.submit([encoder.finish()]);
        self.gpu.finished(submission).await?;
        Ok(1e9 * begun.elapsed().as_secs_f64())
    }

    /// The nanoseconds of each group of `every` steps, which runs `rounds` times.
    async fn stamped(&mut self, input: &Tensor, every: usize, rounds: usize) -> Result<Vec<f64>> {
        if !self.gpu.has_timestamps() {
            return Err(Error::Device(format!("{} has no timestamps", self.gpu.adapter())));
        }
        // Fills the maps with values of a real input.
        self.run_async(input).await?;
        let groups: Vec<_> = self.dispatches.chunks(every.max(1)).collect();
        let inside = self.gpu.stamps_inside_passes();
        // One timestamp between groups, or two per group.
        let count = if inside { groups.len() as u32 + 1 } else { 2 * groups.len() as u32 };
        let size = 8 * u64::from(count);
        let (queries, stamps) = self.gpu.guarded_now("timestamps", || {
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let stamps = transfer::buffer(&self.gpu, "timestamps", size, usage);
            (queries(&self.gpu, "steps", count), stamps)
        })?;
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        if inside {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (i, dispatches) in groups.iter().enumerate() {
                pass.write_timestamp(&queries, i as u32);
                for dispatch in (0..rounds).flat_map(|_| dispatches.iter()) {
                    dispatch.record(&mut pass);
                }
            }
            pass.write_timestamp(&queries, count - 1);
        } else {
            for (i, dispatches) in groups.iter().enumerate() {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &queries,
                        beginning_of_pass_write_index: Some(2 * i as u32),
                        end_of_pass_write_index: Some(2 * i as u32 + 1),
                    }),
                });
                for dispatch in (0..rounds).flat_map(|_| dispatches.iter()) {
                    dispatch.record(&mut pass);
                }
            }
        }
        encoder.resolve_query_set(&queries, 0..count, &stamps, 0);
        self.gpu.queue().submit([encoder.finish()]);
        let stamps: Vec<u64> = transfer::read_async(&self.gpu, &stamps, size).await?;
        let period = f64::from(self.gpu.queue().get_timestamp_period());
        let between = |pair: &[u64]| pair[1].saturating_sub(pair[0]) as f64 * period / rounds as f64;
        Ok(if inside {
            stamps.windows(2).map(between).collect()
        } else {
            stamps.chunks_exact(2).map(between).collect()
        })
    }
}
