//! Lines of text in a texture.

use goldcrest::wgpu;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const LETTER: usize = get_raster_width(FontWeight::Regular, RasterHeight::Size16);
const LINE: usize = 20;
const COLUMNS: usize = 128;

/// A texture of white letters on black, one byte per texel.
pub struct Words {
    texture: wgpu::Texture,
}

impl Words {
    /// The number of lines.
    pub const LINES: usize = 4;
    /// The texture's height in pixels.
    pub const HEIGHT: u32 = (LINE * Self::LINES) as u32;

    /// Creates the texture without text.
    pub fn new(device: &wgpu::Device) -> Self {
        let texture = device.create_texture(&wgpu::TextureDescriptor {
            label: Some("words"),
            size: wgpu::Extent3d {
                width: (LETTER * COLUMNS) as u32,
                height: Self::HEIGHT,
                depth_or_array_layers: 1,
            },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::R8Unorm,
            usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        });
        Self { texture }
    }

    /// The texture with the text.
    pub fn texture(&self) -> &wgpu::Texture {
        &self.texture
    }

    /// Writes the lines, cut off at the texture's width.
    pub fn write(&self, queue: &wgpu::Queue, lines: &[String; Self::LINES]) {
        let width = LETTER * COLUMNS;
        let mut texels = vec![0; width * Self::HEIGHT as usize];
        for (row, line) in lines.iter().enumerate() {
            for (column, letter) in line.chars().take(COLUMNS - 1).enumerate() {
                let Some(glyph) = get_raster(letter, FontWeight::Regular, RasterHeight::Size16) else {
                    continue;
                };
                for (y, x) in (0..glyph.height()).flat_map(|y| (0..LETTER).map(move |x| (y, x))) {
                    let at = (row * LINE + 2 + y) * width + column * LETTER + LETTER / 2 + x;
                    texels[at] = glyph.pixel(x, y).unwrap_or(0);
                }
            }
        }
        let layout = wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(width as u32),
            rows_per_image: None,
        };
        queue.write_texture(self.texture.as_image_copy(), &texels, layout, self.texture.size());
    }
}
