//! Shows a frame, its mask and boxes.

use bytemuck::{Pod, Zeroable};
use goldcrest::{tasks::Bounds, wgpu};

use crate::stage;

/// What puts all of it on the window.
pub struct Screen {
    pipeline: wgpu::RenderPipeline,
    bindings: wgpu::BindGroup,
    uniforms: wgpu::Buffer,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Uniforms {
    size: [f32; 2],
    boxes: u32,
    masked: u32,
    bounds: [[f32; 4]; 16],
}

impl Screen {
    /// For targets of `format`.
    pub fn new(
        device: &wgpu::Device,
        format: wgpu::TextureFormat,
        frame: &wgpu::Texture,
        mask: &wgpu::Texture,
    ) -> Self {
        let pipeline = stage::pipeline(device, wgpu::include_wgsl!("screen.wgsl"), format);
        let uniforms = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("screen"),
            size: size_of::<Uniforms>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let smooth = device.create_sampler(&wgpu::SamplerDescriptor {
            mag_filter: wgpu::FilterMode::Linear,
            min_filter: wgpu::FilterMode::Linear,
            ..Default::default()
        });
        let [frame, mask] = [frame, mask].map(|texture| texture.create_view(&Default::default()));
        let entries = [
            uniforms.as_entire_binding(),
            wgpu::BindingResource::TextureView(&frame),
            wgpu::BindingResource::TextureView(&mask),
            wgpu::BindingResource::Sampler(&smooth),
        ];
        let entries: Vec<wgpu::BindGroupEntry> = (0..)
            .zip(entries)
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("screen"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Self { pipeline, bindings, uniforms }
    }

    /// Draws to `target`, of `[width, height]` pixels, the mask if there is one, and boxes, in pixels of
    /// a frame of `side`.
    pub fn render(
        &self,
        queue: &wgpu::Queue,
        encoder: &mut wgpu::CommandEncoder,
        (target, size): (&wgpu::TextureView, [u32; 2]),
        masked: bool,
        boxes: &[Bounds],
        side: f32,
    ) {
        let mut bounds = [[0.0; 4]; 16];
        for (to, from) in bounds.iter_mut().zip(boxes) {
            *to = [from.left, from.top, from.right, from.bottom].map(|edge| edge / side);
        }
        let uniforms = Uniforms {
            size: size.map(|side| side as f32),
            boxes: boxes.len().min(bounds.len()) as u32,
            masked: masked.into(),
            bounds,
        };
        queue.write_buffer(&self.uniforms, 0, bytemuck::bytes_of(&uniforms));
        stage::draw(encoder, target, &self.pipeline, &self.bindings);
    }
}
