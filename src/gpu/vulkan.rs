//! The properties of a Vulkan device that wgpu writes SPIR-V for.

use ash::{ext::robustness2, vk};

use super::Gpu;
#[cfg(feature = "translate")]
use crate::kernels::translate::Vulkan;

/// What wgpu asks of a device.
struct Asked {
    /// SPIR-V's version that it takes.
    #[cfg_attr(not(feature = "translate"), expect(dead_code))]
    version: (u8, u8),
    robust_buffers: bool,
    robust_images: bool,
}

impl Gpu {
    /// What SPIR-V is written for on it; none unless it is Vulkan's.
    #[cfg(feature = "translate")]
    pub fn vulkan(&self) -> Option<Vulkan> {
        let Asked { version, robust_buffers, robust_images } = self.asked()?;
        Some(Vulkan { version, robust_buffers, robust_images })
    }

    /// Whether its driver keeps all accesses within buffers and textures.
    pub(super) fn is_robust(&self) -> bool {
        self.asked().is_some_and(|asked| asked.robust_buffers && asked.robust_images)
    }

    #[allow(unsafe_code)]
    fn asked(&self) -> Option<Asked> {
        // SAFETY: nothing of the device is changed or destroyed.
        let device = unsafe { self.device.as_hal::<wgpu::hal::api::Vulkan>() }?;
        let (instance, physical) = (device.shared_instance().raw_instance(), device.raw_physical_device());
        // SAFETY: the instance and its device live as long as `device` does.
        let (properties, extensions) = unsafe {
            let extensions = instance.enumerate_device_extension_properties(physical);
            (instance.get_physical_device_properties(physical), extensions.unwrap_or_default())
        };
        // As `wgpu_hal::vulkan` chooses it.
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
            // SAFETY: as above; Vulkan 1.1 has the call, and the device the extension of what it fills in.
            unsafe { instance.get_physical_device_features2(physical, &mut features) };
        }
        Some(Asked {
            version,
            robust_buffers: robust.robust_buffer_access2 == vk::TRUE,
            robust_images: robust.robust_image_access2 == vk::TRUE,
        })
    }
}
