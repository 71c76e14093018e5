//! Shader texts to pipelines: each compiled once, and several at a time.

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
    kernels::{Access, LANES, Launch, Shader},
    tensor::Element,
};

/// How long a session took to get ready, and with how many new pipelines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Startup {
    /// Planning it, and packing the weights.
    pub plan: Duration,
    /// Making its buffers and filling those of the weights.
    pub upload: Duration,
    /// Compiling its pipelines.
    pub compile: Duration,
    /// How many were compiled: those that the device had already are not counted.
    pub pipelines: usize,
    /// Whether the driver compiled them with what it kept from an earlier start.
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

/// A device's pipelines by their text, and the driver's cache that they are compiled with.
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

    /// None yet, of the same device, with another folder.
    pub(super) fn moved_to(&self, folder: Option<PathBuf>) -> Self {
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

/// A text to compile, and a launch that it is for.
type Job<'a> = (&'a String, &'a Launch);

impl Gpu {
    /// The pipelines of launches over maps of `element`, those that are new compiled side by side; what it took, but
    /// for plan and upload. `progress` hears of the new ones.
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
                Pace::AtOnce => {
                    let made = self.compile_all(&jobs, progress)?;
                    self.pipelines.known().extend(made);
                }
                _ => {
                    for (done, &job) in (1..).zip(&jobs) {
                        let pipeline = self.compile(job).await?;
                        self.pipelines.known().insert(job.0.clone(), pipeline);
                        progress(done, jobs.len());
                        pace.breathe().await;
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

    /// Opens the driver's cache, which reads a file, before it is needed.
    pub(crate) fn open_cache(&self) {
        self.pipelines.driver(&self.device);
    }

    /// Writes the driver's cache, where that is not to take time from a frame on another thread.
    fn keep_cache(&self, pace: Pace) {
        let gpu = self.clone();
        let keep = move || {
            if let Some(driver) = gpu.pipelines.driver(&gpu.device) {
                driver.keep();
            }
        };
        match pace {
            // Without a thread the next start compiles once more.
            #[cfg(not(target_arch = "wasm32"))]
            Pace::Piecewise => drop(std::thread::Builder::new().name("goldcrest keeps".into()).spawn(keep)),
            _ => keep(),
        }
    }

    /// The pipeline of one launch, for a kernel by itself.
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

    /// Compiles on as many threads as there are cores. The calling thread only hears of what is
    /// done, so that progress is told on it.
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
                // Waits for nothing: natively an error scope has its answer at once.
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
                // A system that gives no thread: then here, without progress.
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
                        // Nobody needs the rest. Of several errors the plan's first is told.
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
        // Opening it reads a file.
        let cache = self.pipelines.driver(&self.device).map(DriverCache::cache);
        self.guarded(&format!("kernel {name}"), || {
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(name),
                source: wgpu::ShaderSource::Wgsl(text.as_str().into()),
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
                    // Our kernels write all of it before they read any.
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache,
            })
        })
        .await
    }

    /// Refuses a kernel that takes more than a program asked for when it opened the device.
    fn admits(&self, shader: &Shader) -> Result<()> {
        let limits = self.device.limits();
        let buffers = shader.buffers() as u32;
        let stored = shader.textures.iter().filter(|(_, access)| *access == Access::Written).count() as u32;
        for (name, needed, limit) in [
            ("max_storage_buffers_per_shader_stage", buffers, limits.max_storage_buffers_per_shader_stage),
            ("max_storage_textures_per_shader_stage", stored, limits.max_storage_textures_per_shader_stage),
            ("max_compute_invocations_per_workgroup", LANES, limits.max_compute_invocations_per_workgroup),
            ("max_compute_workgroup_size_x", LANES, limits.max_compute_workgroup_size_x),
        ] {
            if needed > limit {
                return Err(Error::HostLimit { kernel: shader.name, name, needed, limit });
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
                // Loads need no filter, so that every format will do.
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

    /// The bind group of a launch: parameters, what it reads, what it writes, its textures.
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

    /// Compiles a kernel of ours without the counters that keep a hostile loop from running for ever, which keep
    /// drivers from unrolling. Where the driver keeps accesses within buffers and textures, no others are checked
    /// either: each of workgroup memory would cost an instruction beside the one that it is.
    #[allow(unsafe_code)]
    fn module(&self, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
        let checks = wgpu::ShaderRuntimeChecks {
            force_loop_bounding: false,
            bounds_checks: !self.robust,
            ..wgpu::ShaderRuntimeChecks::checked()
        };
        // SAFETY: every loop in `shaders/` ends: it counts up to a constant or a parameter, halves a range, or has
        // fewer candidates in each turn. Places in workgroup memory and in arrays of an invocation's own follow from
        // constants and from the invocation's number, which the arrays are as long as; none follows from data.
        unsafe { self.device.create_shader_module_trusted(descriptor, checks) }
    }
}
