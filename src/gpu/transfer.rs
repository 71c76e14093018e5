//! Bytes to the device and back.

use std::sync::Arc;

use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};
use half::f16;

use super::{Gpu, one_line};
use crate::{Error, Result, tensor::Element};

/// The staging buffers of one inference.
pub(super) struct Lane {
    /// Mapped while nobody uses the lane.
    pub upload: wgpu::Buffer,
    /// Mapped only while an answer is read.
    pub readback: wgpu::Buffer,
}

impl Lane {
    /// For an input and an answer of so many bytes.
    ///
    /// # Errors
    /// [`Error::Memory`] if it ran out. In a browser that shows when the lane is used.
    pub fn new(gpu: &Gpu, input: u64, answer: u64) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        gpu.guarded_now("an inference's staging buffers", || Self {
            upload: gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("upload"),
                size: input,
                usage: Usage::MAP_WRITE | Usage::COPY_SRC,
                mapped_at_creation: true,
            }),
            readback: buffer(gpu, "readback", answer, Usage::MAP_READ | Usage::COPY_DST),
        })
    }

    /// Has both buffers mapped as soon as the device has done what `encoder` holds.
    pub fn map(&self, encoder: &wgpu::CommandEncoder) -> [Mapped; 2] {
        [map(encoder, &self.readback, wgpu::MapMode::Read), map(encoder, &self.upload, wgpu::MapMode::Write)]
    }
}

/// An inference that was submitted and whose answer nobody has collected. Dropped, its answer is
/// lost, and its staging buffers are freed.
pub struct Pending {
    /// Of the executor that it belongs to.
    pub(super) owner: Arc<()>,
    pub(super) lane: Lane,
    pub(super) mapped: [Mapped; 2],
    pub(super) submission: wgpu::SubmissionIndex,
}

impl Gpu {
    /// Blocks until the device has done a submission.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        let polled =
            self.device.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None });
        polled.map(|_| ()).map_err(|e| self.unusable(&e))
    }

    /// Waits until the device has done a submission: blocking, but in a browser, which lets nobody.
    pub(super) async fn finished(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        if !cfg!(target_arch = "wasm32") {
            return self.wait(submission);
        }
        let (sender, receiver) = oneshot_channel();
        self.queue.on_submitted_work_done(move || {
            let _ = sender.send(());
        });
        receiver.receive().await.ok_or_else(|| Error::Lost("nothing came of it".into()))
    }

    /// Waits until a buffer is mapped.
    pub(super) async fn arrived(&self, mapped: Mapped) -> Result<()> {
        let outcome = mapped.receive().await;
        self.trouble.check()?;
        match outcome {
            Some(Ok(())) => Ok(()),
            // A buffer of ours is not mapped elsewhere: there is nothing left to map.
            Some(Err(e)) => Err(Error::Lost(one_line(&e))),
            None => Err(Error::Lost("nothing came of it".into())),
        }
    }
}

/// Hears when a buffer is mapped; nothing comes if the device is lost first.
pub(super) type Mapped = OneshotReceiver<Result<(), wgpu::BufferAsyncError>>;

fn map(encoder: &wgpu::CommandEncoder, buffer: &wgpu::Buffer, mode: wgpu::MapMode) -> Mapped {
    let (sender, receiver) = oneshot_channel();
    encoder.map_buffer_on_submit(buffer, mode, .., move |outcome| {
        let _ = sender.send(outcome);
    });
    receiver
}

/// Copies the first `len` values of a buffer back.
pub(super) fn read_values(
    gpu: &Gpu,
    source: &wgpu::Buffer,
    len: usize,
    element: Element,
) -> Result<Vec<f32>> {
    let size = (element.bytes() * len) as u64;
    Ok(match element {
        Element::F32 => read(gpu, source, size)?,
        Element::F16 => read::<f16>(gpu, source, size)?.into_iter().map(f16::to_f32).collect(),
    })
}

/// Copies the first `size` bytes of a buffer back, waiting for the device.
pub(super) fn read<T: bytemuck::AnyBitPattern>(
    gpu: &Gpu,
    source: &wgpu::Buffer,
    size: u64,
) -> Result<Vec<T>> {
    pollster::block_on(read_async(gpu, source, size))
}

/// [`read`] for where nothing may block. Elsewhere it blocks all the same.
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
