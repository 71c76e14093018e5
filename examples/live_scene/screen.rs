//! The window's content: the frame with its mask on top, boxes, and text.

use bytemuck::{Pod, Zeroable};
use goldcrest::{gpu::Boxes, kernels::rank::BoxInstance, tasks::palette, wgpu};

use super::words::Words;

/// Draws the window's content.
pub struct Screen {
    whole: wgpu::RenderPipeline,
    boxes: wgpu::RenderPipeline,
    bindings: wgpu::BindGroup,
    uniforms: wgpu::Buffer,
}

/// What to draw over the frame.
pub struct Shown<'a> {
    /// True to show the mask.
    pub masked: bool,
    /// The boxes, if there are any.
    pub boxes: Option<&'a Boxes>,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Uniforms {
    scene: [f32; 2],
    target: [f32; 2],
    masked: f32,
    unused: [f32; 3],
    colours: [[f32; 4]; 16],
}

/// Vertices per box.
pub const VERTICES: u32 = 10;

impl Screen {
    /// Creates the pipelines for targets of `format`.
    pub fn new(
        device: &wgpu::Device,
        format: wgpu::TextureFormat,
        [frame, mask]: [&wgpu::Texture; 2],
        words: &Words,
    ) -> Self {
        let shader = device.create_shader_module(wgpu::include_wgsl!("screen.wgsl"));
        let stages = wgpu::ShaderStages::VERTEX_FRAGMENT;
        let uniform = wgpu::BindingType::Buffer {
            ty: Default::default(),
            has_dynamic_offset: false,
            min_binding_size: None,
        };
        let texture = wgpu::BindingType::Texture {
            sample_type: Default::default(),
            view_dimension: wgpu::TextureViewDimension::D2,
            multisampled: false,
        };
        let sampler = wgpu::BindingType::Sampler(wgpu::SamplerBindingType::Filtering);
        let types = [uniform, texture, texture, texture, sampler];
        let entries: Vec<_> = (0..)
            .zip(types)
            .map(|(binding, ty)| wgpu::BindGroupLayoutEntry { binding, visibility: stages, ty, count: None })
            .collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("screen"),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let attributes = Boxes::attributes(0);
        let instances = wgpu::VertexBufferLayout {
            array_stride: size_of::<BoxInstance>() as u64,
            step_mode: wgpu::VertexStepMode::Instance,
            attributes: &attributes,
        };
        let pipeline =
            |[vertex, fragment]: [&str; 2], buffers: &[Option<wgpu::VertexBufferLayout>], topology| {
                device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
                    label: Some(vertex),
                    layout: Some(&pipeline_layout),
                    vertex: wgpu::VertexState {
                        module: &shader,
                        entry_point: Some(vertex),
                        compilation_options: Default::default(),
                        buffers,
                    },
                    fragment: Some(wgpu::FragmentState {
                        module: &shader,
                        entry_point: Some(fragment),
                        compilation_options: Default::default(),
                        targets: &[Some(format.into())],
                    }),
                    primitive: wgpu::PrimitiveState { topology, ..Default::default() },
                    depth_stencil: None,
                    multisample: Default::default(),
                    multiview_mask: None,
                    cache: None,
                })
            };
        let uniforms = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("screen"),
            size: size_of::<Uniforms>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let linear = device.create_sampler(&wgpu::SamplerDescriptor {
            mag_filter: wgpu::FilterMode::Linear,
            min_filter: wgpu::FilterMode::Linear,
            ..Default::default()
        });
        let views = [frame, mask, words.texture()].map(|texture| texture.create_view(&Default::default()));
        let [frame, mask, words] = views.each_ref().map(wgpu::BindingResource::TextureView);
        let resources =
            [uniforms.as_entire_binding(), frame, mask, words, wgpu::BindingResource::Sampler(&linear)];
        let entries: Vec<_> = (0..)
            .zip(resources)
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        Self {
            whole: pipeline(["whole", "shown"], &[], wgpu::PrimitiveTopology::TriangleList),
            boxes: pipeline(["box", "side"], &[Some(instances)], wgpu::PrimitiveTopology::TriangleStrip),
            bindings: device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("screen"),
                layout: &layout,
                entries: &entries,
            }),
            uniforms,
        }
    }

    /// Draws to `target`, of `[width, height]` pixels.
    pub fn render(
        &self,
        queue: &wgpu::Queue,
        encoder: &mut wgpu::CommandEncoder,
        (target, size): (&wgpu::TextureView, [u32; 2]),
        shown: &Shown<'_>,
    ) {
        let [width, height] = size.map(|side| side as f32);
        let colours = palette();
        let uniforms = Uniforms {
            scene: [width, (height - Words::HEIGHT as f32).max(1.0)],
            target: [width, height],
            masked: shown.masked.into(),
            unused: [0.0; 3],
            colours: std::array::from_fn(|i| {
                let [red, green, blue] = colours[i].map(|v| f32::from(v) / 255.0);
                [red, green, blue, 1.0]
            }),
        };
        queue.write_buffer(&self.uniforms, 0, bytemuck::bytes_of(&uniforms));
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("screen"),
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: target,
                depth_slice: None,
                resolve_target: None,
                ops: Default::default(),
            })],
            ..Default::default()
        });
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.set_pipeline(&self.whole);
        pass.draw(0..3, 0..1);
        if let Some(boxes) = shown.boxes {
            // An indirect draw: the boxes and their number stay on the device.
            pass.set_pipeline(&self.boxes);
            pass.set_vertex_buffer(0, boxes.instances().slice(..));
            pass.draw_indirect(boxes.draw(), 0);
        }
    }
}
