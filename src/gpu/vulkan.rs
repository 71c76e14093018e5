//! The properties of a Vulkan device on which wgpu's SPIR-V depends.

use ash::{ext::robustness2, vk};

use super::Gpu;
#[cfg(feature = "translate")]
use crate::kernels::translate::Vulkan;

/// The device properties that wgpu queries to write SPIR-V.
struct SpirvProperties {
    /// The SPIR-V version that the device accepts.
    #[cfg_attr(not(feature = "translate"), expect(dead_code))]
    version: (u8, u8),
    robust_buffers: bool,
    robust_images: bool,
}

impl Gpu {
    /// The device's properties as a target of SPIR-V; none unless it is a Vulkan device.
    #[cfg(feature = "translate")]
    pub fn vulkan(&self) -> Option<Vulkan> {
        let SpirvProperties { version, robust_buffers, robust_images } = self.spirv_properties()?;
        Some(Vulkan { version, robust_buffers, robust_images })
    }

    /// Returns whether the driver bounds-checks all accesses to buffers and textures.
    pub(super) fn is_robust(&self) -> bool {
        self.spirv_properties().is_some_and(|found| found.robust_buffers && found.robust_images)
    }

    #[allow(unsafe_code)]
    fn spirv_properties(&self) -> Option<SpirvProperties> {
        // SAFETY: the raw device is neither changed nor destroyed.
        let device = unsafe { self.device.as_hal::<wgpu::hal::api::Vulkan>() }?;
        let (instance, physical) = (device.shared_instance().raw_instance(), device.raw_physical_device());
        // SAFETY: the instance and its device live as long as `device` does.
        let (properties, extensions) = unsafe {
            let extensions = instance.enumerate_device_extension_properties(physical);
            (instance.get_physical_device_properties(physical), extensions.unwrap_or_default())
        };
        // The same choice as in `wgpu_hal::vulkan`.
        let version = match vk::api_version_minor(properties.api_version) {
            0 => (1, 0),
            1 => (1, 3),
            2 => (1, 5),
            _ => (1, 6),
        };
        let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
        let named = |e: &vk::ExtensionProperties| e.extension_name_as_c_str() == Ok(robustness2::NAME);
        if version > (1, 0) && extensions.iter().any(named) {
            let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut robust);
            // SAFETY: as above; Vulkan 1.1 has the call, and the device has the filled struct's extension.
            unsafe { instance.get_physical_device_features2(physical, &mut features) };
        }
        Some(SpirvProperties {
            version,
            robust_buffers: robust.robust_buffer_access2 == vk::TRUE,
            robust_images: robust.robust_image_access2 == vk::TRUE,
        })
    }
}
