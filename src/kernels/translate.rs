//! Translation of kernels to the languages of drivers, by naga, as in wgpu.

use naga::{
    ShaderStage,
    back::{
        glsl,
        hlsl::{self, ShaderModel},
        msl, spv,
    },
    proc::{BoundsCheckPolicies, BoundsCheckPolicy},
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};

use super::{Launch, Tier};
use crate::{Error, Result, tensor::Element};

/// The properties of a Vulkan driver that SPIR-V depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vulkan {
    /// The version of SPIR-V that it accepts.
    pub version: (u8, u8),
    /// True if it keeps loads and stores within buffers (`robustBufferAccess2`), so that kernels need no
    /// checks.
    pub robust_buffers: bool,
    /// True if it keeps loads within textures.
    pub robust_images: bool,
}

impl Vulkan {
    /// Returns whether it keeps all accesses within buffers and textures, so that wgpu is asked to add no
    /// checks.
    pub fn robust(self) -> bool {
        self.robust_buffers && self.robust_images
    }
}

impl Default for Vulkan {
    /// Vulkan 1.3, and a driver that keeps accesses within bounds, as those of all desktop GPUs do.
    fn default() -> Self {
        Self { version: (1, 6), robust_buffers: true, robust_images: true }
    }
}

/// A launch's text, parsed and validated.
///
/// ```
/// use goldcrest::{Shape, kernels::{copy, translate::{Translation, Vulkan}}, tensor::Element};
/// let launch = copy::launch(Shape::new(1, 4, 8, 8));
/// let text = Translation::of(&launch, Element::F32)?;
/// assert!(text.msl()?.contains("kernel void"));
/// assert_eq!(text.spirv(Vulkan::default())?[..4], [3, 2, 35, 7]);
/// # Ok::<(), goldcrest::Error>(())
/// ```
#[derive(Debug)]
pub struct Translation {
    kernel: &'static str,
    tier: Tier,
    element: Element,
    module: naga::Module,
    info: ModuleInfo,
}

impl Translation {
    /// Parses and validates the text of `launch` over maps of `element`. The text may use no capability
    /// beyond WebGPU's baseline, its f16 feature and the kernel's tier.
    ///
    /// # Errors
    /// [`Error::Translation`] if naga refuses the text.
    pub fn of(launch: &Launch, element: Element) -> Result<Self> {
        let (kernel, tier, text) = (launch.shader.name, launch.shader.tier, launch.wgsl(element));
        let refused = |reason| Error::Translation { kernel, language: "WGSL", reason };
        let module = naga::front::wgsl::parse_str(&text).map_err(|e| refused(e.emit_to_string(&text)))?;
        // Packing two f16 into 32 bits is part of WebGPU's baseline.
        let baseline = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        let mut capabilities = match tier {
            Tier::Baseline => baseline,
            Tier::Subgroups => baseline | Capabilities::SUBGROUP,
            Tier::Matrices => baseline | Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX,
        };
        capabilities.set(Capabilities::SHADER_FLOAT16, element == Element::F16);
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .map_err(|e| refused(e.emit_to_string(&text)))?;
        Ok(Self { kernel, tier, element, module, info })
    }

    /// Returns the parsed module.
    pub fn module(&self) -> &naga::Module {
        &self.module
    }

    /// Returns the bytes of its SPIR-V.
    ///
    /// # Errors
    /// [`Error::Translation`] if naga cannot write it.
    pub fn spirv(&self, vulkan: Vulkan) -> Result<Vec<u8>> {
        let kept_by_driver =
            |kept| if kept { BoundsCheckPolicy::Unchecked } else { BoundsCheckPolicy::Restrict };
        let options = spv::Options {
            lang_version: vulkan.version,
            bounds_check_policies: BoundsCheckPolicies {
                index: kept_by_driver(vulkan.robust()),
                buffer: kept_by_driver(vulkan.robust_buffers),
                image_load: kept_by_driver(vulkan.robust_images),
                binding_array: BoundsCheckPolicy::Unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            ..spv::Options::default()
        };
        let entry = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
        let words = spv::write_vec(&self.module, &self.info, &options, Some(&entry))
            .map_err(|e| self.error("SPIR-V", e))?;
        Ok(words.into_iter().flat_map(u32::to_le_bytes).collect())
    }

    /// Returns the lowest shader model of Direct3D that has the features that it needs; none if it needs
    /// matrix units, which no shader model has.
    pub fn shader_model(&self) -> Option<ShaderModel> {
        match (self.tier, self.element) {
            (Tier::Matrices, _) => None,
            (_, Element::F16) => Some(ShaderModel::V6_2),
            (Tier::Subgroups, _) => Some(ShaderModel::V6_0),
            (Tier::Baseline, _) => Some(ShaderModel::V5_1),
        }
    }

    /// Returns its HLSL, if Direct3D has the features that it needs.
    ///
    /// # Errors
    /// [`Error::Translation`] if naga cannot write it.
    pub fn hlsl(&self) -> Result<Option<String>> {
        let Some(shader_model) = self.shader_model() else { return Ok(None) };
        let options = hlsl::Options {
            shader_model,
            // The binding in which wgpu passes the number of workgroups.
            special_constants_binding: Some(hlsl::BindTarget { space: 255, ..Default::default() }),
            zero_initialize_workgroup_memory: false,
            force_loop_bounding: false,
            ..hlsl::Options::default()
        };
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
            .write(&self.module, &self.info, None)
            .map_err(|e| self.error("HLSL", e))?;
        Ok(Some(text))
    }

    /// Returns its Metal Shading Language.
    ///
    /// # Errors
    /// [`Error::Translation`] if naga cannot write it.
    pub fn msl(&self) -> Result<String> {
        let options = msl::Options {
            // Version 2.3 is the first with matrices.
            lang_version: if self.tier == Tier::Baseline { (1, 2) } else { (2, 3) },
            fake_missing_bindings: true,
            zero_initialize_workgroup_memory: false,
            force_loop_bounding: false,
            ..msl::Options::default()
        };
        let written = msl::write_string(&self.module, &self.info, &options, &msl::PipelineOptions::default());
        let (text, _) = written.map_err(|e| self.error("MSL", e))?;
        Ok(text)
    }

    /// Returns its GLSL ES 3.1; none if the text needs f16 or subgroups, because GLSL ES 3.1 has neither.
    ///
    /// # Errors
    /// [`Error::Translation`] if naga cannot write it.
    pub fn glsl(&self) -> Result<Option<String>> {
        if self.tier != Tier::Baseline || self.element != Element::F32 {
            return Ok(None);
        }
        let entry = glsl::PipelineOptions {
            shader_stage: ShaderStage::Compute,
            entry_point: "main".into(),
            multiview: None,
        };
        let options = glsl::Options { zero_initialize_workgroup_memory: false, ..glsl::Options::default() };
        let mut text = String::new();
        glsl::Writer::new(
            &mut text,
            &self.module,
            &self.info,
            &options,
            &entry,
            BoundsCheckPolicies::default(),
        )
        .and_then(|mut writer| writer.write())
        .map_err(|e| self.error("GLSL", e))?;
        Ok(Some(text))
    }

    fn error(&self, language: &'static str, reason: impl ToString) -> Error {
        Error::Translation { kernel: self.kernel, language, reason: reason.to_string() }
    }
}
