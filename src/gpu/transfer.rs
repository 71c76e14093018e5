//! Transfers to the device and back.

use std::sync::Arc;

use super::{Gpu, one_line};
use crate::{Error, Result};
use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};

/// The staging buffers of one inference.
pub(super) struct StagingPair {
    /// Mapped while the pair is idle.
    pub upload: wgpu::Buffer,
    /// Mapped only while outputs are read.
    pub readback: wgpu::Buffer,
}

impl StagingPair {
    /// Allocates buffers for an input and a readback of these sizes in bytes.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has no memory left. In browsers that shows only on use.
    pub fn new(gpu: &Gpu, input: u64, output: u64) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        gpu.guarded_now("an inference's staging buffers", || Self {
            upload: gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("upload"),
                size: input,
                usage: Usage::MAP_WRITE | Usage::COPY_SRC,
                mapped_at_creation: true,
            }),
            readback: buffer(gpu, "readback", output, Usage::MAP_READ | Usage::COPY_DST),
        })
    }

    /// Maps both buffers as soon as the device has finished the commands of `encoder`.
    pub fn map(&self, encoder: &wgpu::CommandEncoder) -> [Mapped; 2] {
        [map(encoder, &self.readback, wgpu::MapMode::Read), map(encoder, &self.upload, wgpu::MapMode::Write)]
    }
}

/// A submitted inference whose outputs have not been collected. Dropping it loses the outputs and
/// frees its staging buffers.
pub struct Pending {
    /// The identity of its executor.
    pub(super) owner: Arc<()>,
    pub(super) pair: StagingPair,
    pub(super) mapped: [Mapped; 2],
    pub(super) submission: wgpu::SubmissionIndex,
}

impl Gpu {
    /// Blocks until the device has finished a submission.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        let polled =
            self.device.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None });
        polled.map(|_| ()).map_err(|e| self.unusable(&e))
    }

    /// Waits until the device has finished a submission. It blocks, except in browsers.
    pub(super) async fn finished(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        if !cfg!(target_arch = "wasm32") {
            return self.wait(submission);
        }
        let (sender, receiver) = oneshot_channel();
        self.queue.on_submitted_work_done(move || {
            let _ = sender.send(());
        });
        receiver.receive().await.ok_or_else(|| Error::Lost("a submission never finished".into()))
    }

    /// Waits until a buffer is mapped.
    pub(super) async fn arrived(&self, mapped: Mapped) -> Result<()> {
        let outcome = mapped.receive().await;
        self.trouble.check()?;
        match outcome {
            Some(Ok(())) => Ok(()),
            // Our buffers are not mapped elsewhere, so the device is lost.
            Some(Err(e)) => Err(Error::Lost(one_line(&e))),
            None => Err(Error::Lost("a buffer was never mapped".into())),
        }
    }
}

/// Receives the outcome of mapping a buffer, or nothing if the device is lost first.
pub(super) type Mapped = OneshotReceiver<Result<(), wgpu::BufferAsyncError>>;

fn map(encoder: &wgpu::CommandEncoder, buffer: &wgpu::Buffer, mode: wgpu::MapMode) -> Mapped {
    let (sender, receiver) = oneshot_channel();
    encoder.map_buffer_on_submit(buffer, mode, .., move |outcome| {
        let _ = sender.send(outcome);
    });
    receiver
}

/// Reads back the first `size` bytes of a buffer, waiting for the device.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn read<T: bytemuck::AnyBitPattern>(
    gpu: &Gpu,
    source: &wgpu::Buffer,
    size: u64,
) -> Result<Vec<T>> {
    pollster::block_on(read_async(gpu, source, size))
}

/// [`read`] where blocking is not possible, as in browsers. Elsewhere it blocks.
pub(super) async fn read_async<T: bytemuck::AnyBitPattern>(
    gpu: &Gpu,
    source: &wgpu::Buffer,
    size: u64,
) -> Result<Vec<T>> {
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let staging = gpu.guarded_now("readback", || buffer(gpu, "readback", size, usage))?;
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(source, 0, &staging, 0, size);
    let mapped = map(&encoder, &staging, wgpu::MapMode::Read);
    let submission = gpu.queue.submit([encoder.finish()]);
    gpu.finished(submission).await?;
    gpu.arrived(mapped).await?;
    let view = staging.get_mapped_range(..).map_err(|e| gpu.unusable(&e))?;
    Ok(bytemuck::cast_slice(&view).to_vec())
}

pub(super) fn buffer(gpu: &Gpu, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size,
        usage,
        mapped_at_creation: false,
    })
}
