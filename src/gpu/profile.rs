//! Where the time goes: timestamps between the dispatches of the real sequence.

use super::{Executor, Gpu, transfer};
use crate::{Error, Result, Tensor};

/// What timestamps between the dispatches of one pass take.
pub(super) const FEATURES: wgpu::Features =
    wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);

impl Gpu {
    /// Whether [`Executor::profile`] works on it.
    pub fn has_timestamps(&self) -> bool {
        self.device().features().contains(FEATURES)
    }
}

impl Executor {
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
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("steps"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let size = 8 * u64::from(count);
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let stamps = transfer::buffer(&self.gpu, "timestamps", size, usage);
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
