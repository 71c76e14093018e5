//! The page's own textures.

use goldcrest::{
    gpu::Gpu,
    wgpu::{self, TextureDimension, TextureFormat, webgpu::GpuTexture},
};
use js_sys::{Error, Reflect};

use crate::Result;

/// The formats of pictures, by their names in WebGPU.
const FORMATS: [(&str, TextureFormat); 15] = [
    ("rgba8unorm", TextureFormat::Rgba8Unorm),
    ("rgba8unorm-srgb", TextureFormat::Rgba8UnormSrgb),
    ("bgra8unorm", TextureFormat::Bgra8Unorm),
    ("bgra8unorm-srgb", TextureFormat::Bgra8UnormSrgb),
    ("rgb10a2unorm", TextureFormat::Rgb10a2Unorm),
    ("r8unorm", TextureFormat::R8Unorm),
    ("rg8unorm", TextureFormat::Rg8Unorm),
    ("rgba16float", TextureFormat::Rgba16Float),
    ("r16float", TextureFormat::R16Float),
    ("rg16float", TextureFormat::Rg16Float),
    ("rgba32float", TextureFormat::Rgba32Float),
    ("r32float", TextureFormat::R32Float),
    ("rg32float", TextureFormat::Rg32Float),
    ("rg11b10ufloat", TextureFormat::Rg11b10Ufloat),
    ("rgb9e5ufloat", TextureFormat::Rgb9e5Ufloat),
];

/// Wraps a page's texture, without a copy. Whether it can be read is checked when it is bound.
///
/// # Errors
/// If its format cannot hold a picture.
pub fn wrapped(gpu: &Gpu, texture: &GpuTexture) -> Result<wgpu::Texture> {
    let text = |name: &str| Reflect::get(texture, &name.into()).ok().and_then(|value| value.as_string());
    let format = text("format").unwrap_or_default();
    let Some((_, format)) = FORMATS.iter().find(|(name, _)| *name == format) else {
        let known = FORMATS.map(|(name, _)| name).join(", ");
        return Err(Error::new(&format!("the texture has the format {format}, not one of {known}")));
    };
    let dimension = match text("dimension").as_deref() {
        Some("1d") => TextureDimension::D1,
        Some("3d") => TextureDimension::D3,
        _ => TextureDimension::D2,
    };
    let descriptor = wgpu::TextureDescriptor {
        label: None,
        size: wgpu::Extent3d {
            width: texture.width(),
            height: texture.height(),
            depth_or_array_layers: texture.depth_or_array_layers(),
        },
        mip_level_count: texture.mip_level_count(),
        sample_count: texture.sample_count(),
        dimension,
        format: *format,
        usage: wgpu::TextureUsages::from_bits_truncate(texture.usage()),
        view_formats: &[],
    };
    Ok(gpu.device().create_texture_from_webgpu_handle(texture.clone(), &descriptor, None))
}

/// The error for a texture that the browser refuses.
pub fn unreadable(reason: &str) -> Error {
    Error::new(&format!("the texture cannot be read, perhaps because it was destroyed: {reason}"))
}
