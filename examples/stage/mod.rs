//! Stands in for a game: renders moving shapes to a texture with its own pipeline.

use bytemuck::{Pod, Zeroable};
use goldcrest::{demo::Shape, wgpu};

/// Renders shapes on a gradient.
pub struct Stage {
    pipeline: wgpu::RenderPipeline,
    bindings: wgpu::BindGroup,
    uniforms: wgpu::Buffer,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Actor {
    centre: [f32; 2],
    radius: f32,
    angle: f32,
    colour: [f32; 3],
    shape: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Uniforms {
    /// The upper and the lower colour; their w are the target's width and height.
    gradient: [[f32; 4]; 2],
    actors: [Actor; 5],
}

impl Stage {
    /// Creates the pipeline for targets of `format`.
    pub fn new(device: &wgpu::Device, format: wgpu::TextureFormat) -> Self {
        let shader = device.create_shader_module(wgpu::include_wgsl!("stage.wgsl"));
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("stage"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &shader,
                entry_point: Some("vertex"),
                compilation_options: Default::default(),
                buffers: &[],
            },
            fragment: Some(wgpu::FragmentState {
                module: &shader,
                entry_point: Some("fragment"),
                compilation_options: Default::default(),
                targets: &[Some(format.into())],
            }),
            primitive: Default::default(),
            depth_stencil: None,
            multisample: Default::default(),
            multiview_mask: None,
            cache: None,
        });
        let uniforms = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("stage"),
            size: size_of::<Uniforms>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("stage"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: uniforms.as_entire_binding() }],
        });
        Self { pipeline, bindings, uniforms }
    }

    /// Renders the scene at `time`, in seconds.
    pub fn render(
        &self,
        queue: &wgpu::Queue,
        encoder: &mut wgpu::CommandEncoder,
        target: &wgpu::Texture,
        time: f32,
    ) {
        let size = [target.width() as f32, target.height() as f32];
        queue.write_buffer(&self.uniforms, 0, bytemuck::bytes_of(&uniforms(size, time)));
        let view = target.create_view(&Default::default());
        let attachment = wgpu::RenderPassColorAttachment {
            view: &view,
            depth_slice: None,
            resolve_target: None,
            ops: Default::default(),
        };
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("stage"),
            color_attachments: &[Some(attachment)],
            ..Default::default()
        });
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.draw(0..3, 0..1);
    }
}

/// Creates a square texture that can be sampled, with `usage` in addition.
pub fn texture(
    device: &wgpu::Device,
    side: u32,
    format: wgpu::TextureFormat,
    usage: wgpu::TextureUsages,
) -> wgpu::Texture {
    device.create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: wgpu::Extent3d { width: side, height: side, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format,
        usage: usage | wgpu::TextureUsages::TEXTURE_BINDING,
        view_formats: &[],
    })
}

/// The shapes at `time`: a large one in the middle, and four that orbit it.
fn uniforms(size: [f32; 2], time: f32) -> Uniforms {
    let cast = [
        (Shape::Star, [0.95, 0.75, 0.1]),
        (Shape::Heart, [0.9, 0.1, 0.3]),
        (Shape::Ring, [0.1, 0.8, 0.9]),
        (Shape::Crescent, [0.95, 0.95, 0.9]),
        (Shape::Cross, [0.3, 0.9, 0.3]),
    ];
    let mut i = 0.0;
    let actors = cast.map(|(shape, colour)| {
        let orbit = 0.4 * time + i * std::f32::consts::FRAC_PI_2;
        let (centre, radius) = match i {
            0.0 => ([0.5 + 0.03 * time.sin(), 0.5], 0.24),
            _ => ([0.5 + 0.36 * orbit.cos(), 0.5 + 0.36 * orbit.sin()], 0.1),
        };
        i += 1.0;
        Actor { centre, radius, angle: 0.3 * time * i, colour, shape: shape as u32 }
    });
    let [width, height] = size;
    Uniforms { gradient: [[0.08, 0.1, 0.3, width], [0.3, 0.15, 0.4, height]], actors }
}
