//! Detected boxes that remain on the device, for drawing.

use super::{Executor, source::Bound};
use crate::{
    Result,
    kernels::{Launch, rank::BoxInstance},
    plan::Value,
};

/// The best boxes of the latest inference, on the device: instances and their number.
pub struct Boxes {
    bound: Bound,
    instances: wgpu::Buffer,
    draw: wgpu::Buffer,
}

impl Boxes {
    /// The boxes as records of [`BoxInstance`], by descending score; unused entries are zero. The buffer can be
    /// bound as vertices and as storage, and copied from.
    pub fn instances(&self) -> &wgpu::Buffer {
        &self.instances
    }

    /// The arguments of [`wgpu::RenderPass::draw_indirect`], with one instance per box. The buffer can
    /// also be bound as storage and copied from.
    pub fn draw(&self) -> &wgpu::Buffer {
        &self.draw
    }

    /// The vertex attributes of [`Boxes::instances`]: bounds, score and class, at locations from `first`.
    pub fn attributes(first: u32) -> [wgpu::VertexAttribute; 3] {
        use wgpu::VertexFormat::{Float32, Float32x4, Uint32};
        let mut at = (first, 0);
        [Float32x4, Float32, Uint32].map(|format| {
            let (shader_location, offset) = at;
            at = (shader_location + 1, offset + format.size());
            wgpu::VertexAttribute { format, offset, shader_location }
        })
    }
}

impl Executor {
    /// Prepares the search for the best `most` boxes on the device. The values are the candidates and their
    /// boxes. The launches are those of [`kernels::suppress`](crate::kernels::suppress) and
    /// [`kernels::rank`](crate::kernels::rank), which run in this order.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) and [`Error::Device`](crate::Error::Device) if the device
    /// rejects it.
    pub async fn boxes(
        &self,
        [candidates, boxes]: [Value; 2],
        [suppress, rank]: [&Launch; 2],
        most: usize,
    ) -> Result<Boxes> {
        use wgpu::BufferUsages as Usage;
        let shared = Usage::STORAGE | Usage::COPY_SRC;
        let kept = self.gpu.allocate("the remaining candidates", candidates.bytes(), shared).await?;
        let size = (most.max(1) * size_of::<BoxInstance>()) as u64;
        let instances = self.gpu.allocate("the boxes' instances", size, shared | Usage::VERTEX).await?;
        let size = size_of::<wgpu::util::DrawIndirectArgs>() as u64;
        let draw = self.gpu.allocate("the boxes' draw arguments", size, shared | Usage::INDIRECT).await?;
        let boxes = self.slot(boxes);
        let suppressed = [self.slot(candidates), boxes, &kept];
        let ranked = [&kept, boxes, &instances, &draw];
        let bound = self.bind([(suppress, &suppressed), (rank, &ranked)], &[]).await?;
        Ok(Boxes { bound, instances, draw })
    }

    /// Records the search for the boxes of the latest inference.
    ///
    /// # Errors
    /// As [`Executor::record`].
    pub fn record_boxes(&self, encoder: &mut wgpu::CommandEncoder, boxes: &Boxes) -> Result<()> {
        self.record_bound(encoder, &boxes.bound)
    }
}
