//! Shader texts to pipelines, each compiled once.

use std::collections::HashMap;

use super::{Gpu, one_line};
use crate::{Error, Result, kernels::Launch, tensor::Element};

/// A device's pipelines by their text.
#[derive(Default)]
pub(super) struct Pipelines(HashMap<String, wgpu::ComputePipeline>);

impl Gpu {
    /// The pipeline of a launch over maps of `element`: compiled the first time, found again later.
    pub(super) async fn pipeline(&self, launch: &Launch, element: Element) -> Result<wgpu::ComputePipeline> {
        let text = launch.wgsl(element);
        if let Some(pipeline) = self.known_pipeline(&text) {
            return Ok(pipeline);
        }
        let name = launch.shader.name;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(name),
            source: wgpu::ShaderSource::Wgsl(text.as_str().into()),
        };
        let module = compile(&self.device, descriptor);
        let layout = self.bind_group_layout(launch);
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Our kernels write all of it before they read any.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        if let Some(error) = scope.pop().await {
            return Err(Error::Device(format!("kernel {name}: {}", one_line(&error))));
        }
        if let Ok(mut known) = self.pipelines.lock() {
            known.0.insert(text, pipeline.clone());
        }
        Ok(pipeline)
    }

    fn known_pipeline(&self, text: &str) -> Option<wgpu::ComputePipeline> {
        self.pipelines.lock().ok()?.0.get(text).cloned()
    }

    fn bind_group_layout(&self, launch: &Launch) -> wgpu::BindGroupLayout {
        let reads = launch.shader.reads.len() as u32;
        let writes = launch.shader.writes.len() as u32;
        let entries: Vec<wgpu::BindGroupLayoutEntry> = (0..1 + reads + writes)
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: if binding == 0 {
                        wgpu::BufferBindingType::Uniform
                    } else {
                        wgpu::BufferBindingType::Storage { read_only: binding <= reads }
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(launch.shader.name),
            entries: &entries,
        })
    }

    /// The bind group of a launch: parameters, what it reads, what it writes.
    pub(super) fn bind_group(
        &self,
        pipeline: &wgpu::ComputePipeline,
        params: wgpu::BindingResource<'_>,
        buffers: &[&wgpu::Buffer],
    ) -> wgpu::BindGroup {
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: params }];
        entries.extend(
            buffers.iter().zip(1..).map(|(buffer, binding)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            }),
        );
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    }
}

/// Compiles a kernel of ours without the counters that keep a hostile loop from running for
/// ever; they keep drivers from unrolling. Bounds of buffers stay checked.
#[allow(unsafe_code)]
fn compile(device: &wgpu::Device, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
    let checks =
        wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() };
    // SAFETY: every loop in `shaders/` counts up to a constant or a parameter.
    unsafe { device.create_shader_module_trusted(descriptor, checks) }
}
