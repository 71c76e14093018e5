//! Pipelines by shader text: each is compiled once, and several in parallel.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use web_time::Instant;

use super::{Gpu, Pace, driver_cache::DriverCache};
use crate::{
    Error, Result,
    kernels::{Access, Card, Launch, Shader, WORKGROUP_SIZE},
    tensor::Element,
};

/// The startup times of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Startup {
    /// Planning and weight packing.
    pub plan: Duration,
    /// Buffer allocation and weight upload.
    pub upload: Duration,
    /// Pipeline compilation.
    pub compile: Duration,
    /// The number of pipelines compiled, without those that the device had already.
    pub pipelines: usize,
    /// True if the driver used its cache from an earlier start.
    pub cached: bool,
}

impl fmt::Display for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| 1e3 * time.as_secs_f64();
        let (plan, upload, compile) = (ms(self.plan), ms(self.upload), ms(self.compile));
        let cached = if self.cached { " with the driver's cache" } else { "" };
        write!(
            f,
            "planned in {plan:.1} ms, uploaded in {upload:.1} ms, compiled {} pipelines{cached} in {compile:.1} ms",
            self.pipelines
        )
    }
}

/// A device's pipelines by shader text, and the driver's cache for compiling them.
pub(super) struct Pipelines {
    known: Mutex<HashMap<String, wgpu::ComputePipeline>>,
    /// The name of the driver's cache, if it has one.
    key: Option<String>,
    folder: Option<PathBuf>,
    /// Opened for the first pipeline.
    driver: OnceLock<Option<DriverCache>>,
}

impl Pipelines {
    pub(super) fn new(key: Option<String>, folder: Option<PathBuf>) -> Self {
        Self { known: Mutex::default(), key, folder, driver: OnceLock::new() }
    }

    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// An empty set for the same device, with another cache folder.
    pub(super) fn with_folder(&self, folder: Option<PathBuf>) -> Self {
        Self::new(self.key.clone(), folder)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, wgpu::ComputePipeline>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn driver(&self, device: &wgpu::Device) -> Option<&DriverCache> {
        let open = || DriverCache::open(device, self.folder.clone()?, self.key.clone()?);
        self.driver.get_or_init(open).as_ref()
    }
}

/// A shader text to compile, and a launch that uses it.
type Job<'a> = (&'a String, &'a Launch);

impl Gpu {
    /// Returns the pipelines of launches over maps of `element`, with new ones compiled in parallel, and the
    /// startup times except planning and upload. `progress` gets the number of new ones done and their total.
    pub(super) async fn pipelines(
        &self,
        launches: &[&Launch],
        element: Element,
        pace: Pace,
        progress: &mut impl FnMut(usize, usize),
    ) -> Result<(Vec<wgpu::ComputePipeline>, Startup)> {
        let begun = Instant::now();
        let texts: Vec<String> = launches.iter().map(|launch| launch.wgsl(element)).collect();
        let jobs: Vec<Job<'_>> = {
            let known = self.pipelines.known();
            let mut seen = HashSet::new();
            let jobs = texts.iter().zip(launches.iter().copied());
            jobs.filter(|(text, _)| !known.contains_key(*text) && seen.insert(*text)).collect()
        };
        let mut startup = Startup { pipelines: jobs.len(), ..Startup::default() };
        if !jobs.is_empty() {
            let driver = self.pipelines.driver(&self.device);
            progress(0, jobs.len());
            match pace {
                #[cfg(not(target_arch = "wasm32"))]
                Pace::Blocking => {
                    let made = self.compile_all(&jobs, progress)?;
                    self.pipelines.known().extend(made);
                }
                _ => {
                    for (done, &job) in (1..).zip(&jobs) {
                        let pipeline = self.compile(job).await?;
                        self.pipelines.known().insert(job.0.clone(), pipeline);
                        progress(done, jobs.len());
                        pace.yield_now().await;
                    }
                }
            }
            startup.cached = driver.is_some_and(DriverCache::loaded);
            self.keep_cache(pace);
        }
        let known = self.pipelines.known();
        let pipelines = texts.iter().map(|text| known[text].clone()).collect();
        startup.compile = begun.elapsed();
        Ok((pipelines, startup))
    }

    /// Opens the driver's cache in advance, since that reads a file.
    pub(crate) fn open_cache(&self) {
        self.pipelines.driver(&self.device);
    }

    /// Writes the driver's cache, on another thread if the build must not delay frames.
    fn keep_cache(&self, pace: Pace) {
        let gpu = self.clone();
        let keep = move || {
            if let Some(driver) = gpu.pipelines.driver(&gpu.device) {
                driver.keep();
            }
        };
        match pace {
            // If no thread starts, the next start compiles again.
            #[cfg(not(target_arch = "wasm32"))]
            Pace::Cooperative => drop(std::thread::Builder::new().name("goldcrest-cache".into()).spawn(keep)),
            _ => keep(),
        }
    }

    /// The pipeline of a single launch.
    pub(super) async fn pipeline(&self, launch: &Launch, element: Element) -> Result<wgpu::ComputePipeline> {
        let text = launch.wgsl(element);
        let known = self.pipelines.known().get(&text).cloned();
        if let Some(pipeline) = known {
            return Ok(pipeline);
        }
        let pipeline = self.compile((&text, launch)).await?;
        self.pipelines.known().insert(text, pipeline.clone());
        Ok(pipeline)
    }

    /// Compiles on one thread per core. The calling thread only collects the results, so that it
    /// can report progress.
    #[cfg(not(target_arch = "wasm32"))]
    fn compile_all(
        &self,
        jobs: &[Job<'_>],
        progress: &mut impl FnMut(usize, usize),
    ) -> Result<Vec<(String, wgpu::ComputePipeline)>> {
        use std::{
            sync::atomic::{AtomicUsize, Ordering::Relaxed},
            sync::mpsc,
            thread,
        };

        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        let work = |sender: mpsc::Sender<_>| {
            loop {
                let at = next.fetch_add(1, Relaxed);
                let Some(&job) = jobs.get(at) else { break };
                // Does not wait: native error scopes resolve immediately.
                if sender.send((at, pollster::block_on(self.compile(job)))).is_err() {
                    break;
                }
            }
        };
        let mut made = Vec::with_capacity(jobs.len());
        let mut failed = None;
        thread::scope(|scope| {
            let threads = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
            let started = (0..threads).filter(|_| {
                let sender = sender.clone();
                thread::Builder::new().spawn_scoped(scope, || work(sender)).is_ok()
            });
            if started.count() == 0 {
                // No thread could be started: compile here, without progress.
                work(sender.clone());
            }
            drop(sender);
            for (at, outcome) in receiver {
                match outcome {
                    Ok(pipeline) => {
                        made.push((jobs[at].0.clone(), pipeline));
                        progress(made.len(), jobs.len());
                    }
                    Err(error) => {
                        // Skip the rest. Report the first error in plan order.
                        next.store(jobs.len(), Relaxed);
                        if failed.as_ref().is_none_or(|&(first, _)| at < first) {
                            failed = Some((at, error));
                        }
                    }
                }
            }
        });
        failed.map_or(Ok(made), |(_, error)| Err(error))
    }

    async fn compile(&self, (text, launch): Job<'_>) -> Result<wgpu::ComputePipeline> {
        self.admits(launch.shader)?;
        let name = launch.shader.name;
        // Opening the cache may read a file.
        let cache = self.pipelines.driver(&self.device).map(DriverCache::cache);
        let unrolls = self.adapter().card.is_none_or(Card::unrolls);
        let text = if unrolls { text.into() } else { launch.unrolled(text) };
        self.guarded(&format!("kernel {name}"), || {
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(name),
                source: wgpu::ShaderSource::Wgsl(text.as_ref().into()),
            };
            let module = self.module(descriptor);
            let layout = self.bind_group_layout(launch);
            let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(name),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // Kernels write all of their workgroup memory before they read it.
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache,
            })
        })
        .await
    }

    /// Rejects a kernel that exceeds the limits with which the device was opened.
    fn admits(&self, shader: &Shader) -> Result<()> {
        let limits = self.device.limits();
        let buffers = shader.buffers() as u32;
        let stored = shader.textures.iter().filter(|(_, access)| *access == Access::Written).count() as u32;
        for (name, needed, limit) in [
            ("max_storage_buffers_per_shader_stage", buffers, limits.max_storage_buffers_per_shader_stage),
            ("max_storage_textures_per_shader_stage", stored, limits.max_storage_textures_per_shader_stage),
            (
                "max_compute_invocations_per_workgroup",
                WORKGROUP_SIZE,
                limits.max_compute_invocations_per_workgroup,
            ),
            ("max_compute_workgroup_size_x", WORKGROUP_SIZE, limits.max_compute_workgroup_size_x),
        ] {
            if needed > limit {
                return Err(Error::DeviceLimit { kernel: shader.name, name, needed, limit });
            }
        }
        Ok(())
    }

    fn bind_group_layout(&self, launch: &Launch) -> wgpu::BindGroupLayout {
        let reads = launch.shader.reads.len() as u32;
        let buffers = (0..=launch.shader.buffers() as u32).map(|binding| wgpu::BindingType::Buffer {
            ty: if binding == 0 {
                wgpu::BufferBindingType::Uniform
            } else {
                wgpu::BufferBindingType::Storage { read_only: binding <= reads }
            },
            has_dynamic_offset: false,
            min_binding_size: None,
        });
        let view_dimension = wgpu::TextureViewDimension::D2;
        let textures = launch.shader.textures.iter().map(|(_, access)| match access {
            Access::Read => wgpu::BindingType::Texture {
                // Loads need no filtering, so every format works.
                sample_type: wgpu::TextureSampleType::Float { filterable: false },
                view_dimension,
                multisampled: false,
            },
            Access::Written => wgpu::BindingType::StorageTexture {
                access: wgpu::StorageTextureAccess::WriteOnly,
                format: wgpu::TextureFormat::Rgba8Unorm,
                view_dimension,
            },
        });
        let visibility = wgpu::ShaderStages::COMPUTE;
        let entry = |(binding, ty)| wgpu::BindGroupLayoutEntry { binding, visibility, ty, count: None };
        let entries: Vec<wgpu::BindGroupLayoutEntry> =
            (0..).zip(buffers.chain(textures)).map(entry).collect();
        self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(launch.shader.name),
            entries: &entries,
        })
    }

    /// The bind group of a launch: parameters, buffers, textures.
    pub(super) fn bind_group(
        &self,
        pipeline: &wgpu::ComputePipeline,
        params: wgpu::BindingResource<'_>,
        buffers: &[&wgpu::Buffer],
        textures: &[&wgpu::TextureView],
    ) -> wgpu::BindGroup {
        let buffers = buffers.iter().map(|buffer| buffer.as_entire_binding());
        let textures = textures.iter().copied().map(wgpu::BindingResource::TextureView);
        let all = std::iter::once(params).chain(buffers).chain(textures);
        let entries: Vec<wgpu::BindGroupEntry> =
            (0..).zip(all).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    }

    /// Compiles a kernel without wgpu's loop bounding, which keeps drivers from unrolling loops. Where the
    /// driver bounds-checks buffers and textures, wgpu's bounds checks are off too: they would add an
    /// instruction to every access to workgroup memory.
    #[allow(unsafe_code)]
    fn module(&self, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
        let checks = wgpu::ShaderRuntimeChecks {
            force_loop_bounding: false,
            bounds_checks: !self.robust,
            ..wgpu::ShaderRuntimeChecks::checked()
        };
        // SAFETY: every loop in `shaders/` ends: it counts up to a constant or a parameter, halves a range,
        // or has fewer candidates in each iteration. Indices into workgroup memory and private arrays depend
        // on constants, loop counters, and the indices of invocation and subgroup, never on data, and stay
        // within the arrays.
        unsafe { self.device.create_shader_module_trusted(descriptor, checks) }
    }
}
