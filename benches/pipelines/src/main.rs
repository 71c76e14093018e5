//! Compiles kernels on the first Vulkan device as wgpu 30 does, and prints the compiler statistics of
//! each: registers, spills, occupancy, instructions.
//!
//! ```sh
//! goldcrest inspect --networks mobilenet_v2 --shaders DIR
//! cargo run --release --manifest-path benches/pipelines/Cargo.toml -- DIR/manifest.tsv
//! ```
//!
//! One line per pipeline, columns split by tabs: the file, `ms=` with the compile time (the median of
//! `--repeat` times), `subgroup=` with the subgroup size, then the driver's statistics under the
//! driver's names. `ERROR=` says why a pipeline failed, `SKIPPED=` which feature the device lacks.
//! `--isa FOLDER` saves the driver's disassembly and intermediate representations.

use std::{
    error::Error,
    ffi::{CStr, c_char},
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use ash::{ext, khr, vk};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Args {
    manifest: PathBuf,
    repeat: usize,
    isa: Option<PathBuf>,
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let (mut manifest, mut repeat, mut isa) = (None, 1, None);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--repeat" => repeat = args.next()?.parse().ok().filter(|&count| count > 0)?,
                "--isa" => isa = Some(args.next()?.into()),
                _ if arg.starts_with('-') || manifest.is_some() => return None,
                _ => manifest = Some(arg.into()),
            }
        }
        Some(Self { manifest: manifest?, repeat, isa })
    }
}

fn main() -> ExitCode {
    let Some(args) = Args::parse(std::env::args().skip(1)) else {
        eprintln!("usage: pipelines MANIFEST [--repeat N] [--isa FOLDER]");
        return ExitCode::from(2);
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pipelines: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let path = args.manifest.display();
    let manifest = fs::read_to_string(&args.manifest).map_err(|error| format!("{path}: {error}"))?;
    if let Some(isa) = &args.isa {
        fs::create_dir_all(isa).map_err(|error| format!("{}: {error}", isa.display()))?;
    }
    let gpu = Gpu::open().map_err(|error| format!("the first Vulkan device: {error}"))?;
    eprintln!("device: {}", gpu.name);
    for line in manifest.lines() {
        let kernel = Kernel::parse(line).ok_or_else(|| format!("{path}: invalid line: {line}"))?;
        let row = match gpu.lacks(&kernel) {
            Some(feature) => format!("SKIPPED={feature}"),
            None => gpu.measure(&kernel, args).unwrap_or_else(|error| format!("ERROR={error}")),
        };
        // Flushed, so that the first kernel without a line is the one that crashed the compiler.
        let mut out = io::stdout().lock();
        writeln!(out, "{}\t{row}", kernel.file)?;
        out.flush()?;
    }
    Ok(())
}

/// A line of the manifest: the columns that determine a pipeline's layout.
struct Kernel {
    /// The SPIR-V file without its suffix, relative to the manifest.
    file: String,
    f16: bool,
    matrices: bool,
    bindings: Vec<vk::DescriptorType>,
}

impl Kernel {
    fn parse(line: &str) -> Option<Self> {
        let mut columns = line.split('\t');
        let file = columns.next()?.to_owned();
        let (_shader, element, tier) = (columns.next()?, columns.next()?, columns.next()?);
        let buffers = columns.next()?.parse::<usize>().ok()? + columns.next()?.parse::<usize>().ok()?;
        let mut bindings = vec![vk::DescriptorType::UNIFORM_BUFFER];
        bindings.resize(1 + buffers, vk::DescriptorType::STORAGE_BUFFER);
        bindings.extend(columns.next()?.chars().filter_map(|access| match access {
            'r' => Some(vk::DescriptorType::SAMPLED_IMAGE),
            'w' => Some(vk::DescriptorType::STORAGE_IMAGE),
            _ => None,
        }));
        Some(Self { file, f16: element == "f16", matrices: tier == "Matrices", bindings })
    }
}

/// The device features that affect compilers.
#[derive(Default)]
struct Features {
    core: vk::PhysicalDeviceFeatures,
    v11: vk::PhysicalDeviceVulkan11Features<'static>,
    v12: vk::PhysicalDeviceVulkan12Features<'static>,
    v13: vk::PhysicalDeviceVulkan13Features<'static>,
    robustness2: vk::PhysicalDeviceRobustness2FeaturesEXT<'static>,
    matrices: vk::PhysicalDeviceCooperativeMatrixFeaturesKHR<'static>,
    executables: vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR<'static>,
}

impl Features {
    /// The feature chain: a query fills it, device creation then enables the features found.
    fn chain(&mut self, extensions: &[&CStr]) -> vk::PhysicalDeviceFeatures2<'_> {
        (self.v11.p_next, self.v12.p_next, self.v13.p_next) = Default::default();
        let mut chain = vk::PhysicalDeviceFeatures2::default()
            .features(self.core)
            .push_next(&mut self.v11)
            .push_next(&mut self.v12)
            .push_next(&mut self.v13);
        if extensions.contains(&ext::robustness2::NAME) {
            self.robustness2.p_next = Default::default();
            chain = chain.push_next(&mut self.robustness2);
        }
        if extensions.contains(&khr::cooperative_matrix::NAME) {
            self.matrices.p_next = Default::default();
            chain = chain.push_next(&mut self.matrices);
        }
        if extensions.contains(&khr::pipeline_executable_properties::NAME) {
            self.executables.p_next = Default::default();
            chain = chain.push_next(&mut self.executables);
        }
        chain
    }
}

struct Gpu {
    name: String,
    // Keeps Vulkan loaded.
    _entry: ash::Entry,
    device: ash::Device,
    executables: Option<khr::pipeline_executable_properties::Device>,
    f16: bool,
    matrices: bool,
    stage_flags: vk::PipelineShaderStageCreateFlags,
}

fn text(chars: &[c_char]) -> String {
    // SAFETY: Vulkan ends its fixed-size strings with a zero.
    unsafe { CStr::from_ptr(chars.as_ptr()) }.to_string_lossy().into_owned()
}

impl Gpu {
    fn open() -> Result<Self> {
        // SAFETY: all arguments outlive their calls.
        unsafe {
            let entry = ash::Entry::load()?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&info, None)?;
            let physical = *instance.enumerate_physical_devices()?.first().ok_or("not found")?;

            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut subgroups = vk::PhysicalDeviceSubgroupProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default();
            properties = properties.push_next(&mut driver).push_next(&mut subgroups);
            instance.get_physical_device_properties2(physical, &mut properties);
            let properties = properties.properties;
            let name = format!("{}, {}", text(&properties.device_name), text(&driver.driver_info));
            if properties.api_version < vk::API_VERSION_1_3 {
                return Err(format!("{name} lacks Vulkan 1.3").into());
            }

            let listed = instance.enumerate_device_extension_properties(physical)?;
            let mut extensions = vec![
                ext::robustness2::NAME,
                khr::cooperative_matrix::NAME,
                khr::pipeline_executable_properties::NAME,
            ];
            extensions.retain(|&name| listed.iter().any(|e| e.extension_name_as_c_str() == Ok(name)));

            // wgpu enables fewer features, but those do not affect code. Robustness is the same: all
            // except null descriptors.
            let mut features = Features::default();
            let mut chain = features.chain(&extensions);
            instance.get_physical_device_features2(physical, &mut chain);
            features.core = chain.features;
            features.robustness2.null_descriptor = vk::FALSE;
            // wgpu also requires 16-bit uniform buffers, which goldcrest does not use. Turnip lacks
            // them, so wgpu has no f16 there, but here it stands in for Qualcomm's compiler.
            let f16 = features.v12.shader_float16 == vk::TRUE
                && features.v11.storage_buffer16_bit_access == vk::TRUE;
            let matrices = features.matrices.cooperative_matrix == vk::TRUE;

            let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let names: Vec<_> = extensions.iter().map(|name| name.as_ptr()).collect();
            let mut chain = features.chain(&extensions);
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&names)
                .push_next(&mut chain);
            let device = instance.create_device(physical, &info, None)?;
            let executables = extensions
                .contains(&khr::pipeline_executable_properties::NAME)
                .then(|| khr::pipeline_executable_properties::Device::new(&instance, &device));

            // wgpu's condition for `Features::SUBGROUP`, which goldcrest enables if available.
            let operations = vk::SubgroupFeatureFlags::BASIC
                | vk::SubgroupFeatureFlags::VOTE
                | vk::SubgroupFeatureFlags::ARITHMETIC
                | vk::SubgroupFeatureFlags::BALLOT
                | vk::SubgroupFeatureFlags::SHUFFLE
                | vk::SubgroupFeatureFlags::SHUFFLE_RELATIVE
                | vk::SubgroupFeatureFlags::QUAD;
            let stages = vk::ShaderStageFlags::COMPUTE | vk::ShaderStageFlags::FRAGMENT;
            let mut stage_flags = vk::PipelineShaderStageCreateFlags::empty();
            if subgroups.supported_operations.contains(operations)
                && subgroups.supported_stages.contains(stages)
            {
                stage_flags |= vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE;
            }
            Ok(Self { name, _entry: entry, device, executables, f16, matrices, stage_flags })
        }
    }

    /// A feature that the kernel needs and this device lacks.
    fn lacks(&self, kernel: &Kernel) -> Option<&'static str> {
        match kernel {
            Kernel { f16: true, .. } if !self.f16 => Some("f16"),
            Kernel { matrices: true, .. } if !self.matrices => Some("cooperative matrices"),
            _ => None,
        }
    }

    /// Compiles a kernel and returns its row: the compile time and the driver's statistics.
    fn measure(&self, kernel: &Kernel, args: &Args) -> Result<String> {
        let path = args.manifest.with_file_name(format!("{}.spv", kernel.file));
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let words = ash::util::read_spv(&mut io::Cursor::new(bytes))?;
        let binding = |(binding, &kind)| {
            vk::DescriptorSetLayoutBinding::default()
                .binding(binding)
                .descriptor_type(kind)
                .descriptor_count(1)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let bindings: Vec<_> = (0..).zip(&kernel.bindings).map(binding).collect();
        // SAFETY: the layout matches the shader, and each object outlives its dependants. An error leaks
        // objects until the process ends.
        unsafe {
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [self.device.create_descriptor_set_layout(&info, None)?];
            let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = self.device.create_pipeline_layout(&info, None)?;
            let (mut times, mut statistics) = (vec![], String::new());
            for _ in 0..args.repeat {
                let start = Instant::now();
                let pipeline = self.pipeline(&words, layout, args.isa.is_some())?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
                statistics = self.describe(pipeline, &kernel.file, args.isa.as_deref())?;
                self.device.destroy_pipeline(pipeline, None);
            }
            self.device.destroy_pipeline_layout(layout, None);
            self.device.destroy_descriptor_set_layout(sets[0], None);
            times.sort_by(f64::total_cmp);
            Ok(format!("ms={:.2}{statistics}", times[times.len() / 2]))
        }
    }

    /// Creates module and pipeline like wgpu-hal 30, with flags that keep statistics and disassembly.
    unsafe fn pipeline(&self, words: &[u32], layout: vk::PipelineLayout, isa: bool) -> Result<vk::Pipeline> {
        let mut flags = vk::PipelineCreateFlags::empty();
        if self.executables.is_some() {
            flags |= vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR;
            if isa {
                flags |= vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            }
        }
        // SAFETY: the layout is alive, and the module lives until the pipeline exists.
        unsafe {
            let info = vk::ShaderModuleCreateInfo::default().code(words);
            let module = self.device.create_shader_module(&info, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(self.stage_flags)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let infos = [vk::ComputePipelineCreateInfo::default().flags(flags).layout(layout).stage(stage)];
            let made = self.device.create_compute_pipelines(vk::PipelineCache::null(), &infos, None);
            self.device.destroy_shader_module(module, None);
            Ok(made.map_err(|(_, error)| error)?[0])
        }
    }

    /// Returns the driver's statistics of a pipeline and writes its disassembly to the folder `isa`.
    unsafe fn describe(&self, pipeline: vk::Pipeline, file: &str, isa: Option<&Path>) -> Result<String> {
        use vk::PipelineExecutableStatisticFormatKHR as Format;
        let Some(executables) = &self.executables else { return Ok(String::new()) };
        let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
        let mut row = String::new();
        // SAFETY: the pipeline's flags keep both; `format` says which field of the union is set.
        unsafe {
            for (index, executable) in (0..).zip(executables.get_pipeline_executable_properties(&info)?) {
                row += &format!("\tsubgroup={}", executable.subgroup_size);
                let info =
                    vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(index);
                for statistic in executables.get_pipeline_executable_statistics(&info)? {
                    let value = match statistic.format {
                        Format::UINT64 => statistic.value.u64.to_string(),
                        Format::INT64 => statistic.value.i64.to_string(),
                        Format::FLOAT64 => statistic.value.f64.to_string(),
                        _ => statistic.value.b32.to_string(),
                    };
                    row += &format!("\t{}={value}", text(&statistic.name));
                }
                if let Some(folder) = isa {
                    let file = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
                    self.write_texts(executables, &info, &folder.join(format!("{file}.{index}")))?;
                }
            }
        }
        Ok(row)
    }

    /// Writes the driver's disassembly and intermediate representations to `PREFIX.NAME.txt`.
    unsafe fn write_texts(
        &self,
        executables: &khr::pipeline_executable_properties::Device,
        info: &vk::PipelineExecutableInfoKHR<'_>,
        prefix: &Path,
    ) -> Result<()> {
        // SAFETY: the buffers have the lengths that the first call returned.
        unsafe {
            let mut kept = executables.get_pipeline_executable_internal_representations(info)?;
            let mut texts: Vec<Vec<u8>> = kept.iter().map(|kept| vec![0; kept.data_size]).collect();
            for (kept, text) in kept.iter_mut().zip(&mut texts) {
                kept.p_data = text.as_mut_ptr().cast();
            }
            let mut count = kept.len() as u32;
            let get = executables.fp().get_pipeline_executable_internal_representations_khr;
            get(self.device.handle(), info, &mut count, kept.as_mut_ptr()).result()?;
            for (kept, bytes) in kept.iter().zip(&texts) {
                let name = text(&kept.name).replace(|c: char| !c.is_ascii_alphanumeric(), "_");
                let path = format!("{}.{name}.txt", prefix.display());
                let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
                fs::write(&path, bytes).map_err(|error| format!("{path}: {error}"))?;
            }
        }
        Ok(())
    }
}
