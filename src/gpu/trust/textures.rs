//! Checks of the kernels that read and write textures.

use super::Check;
use crate::{
    Result, Shape, Tensor,
    gpu::{
        Gpu,
        transfer::{buffer, read},
    },
    kernels::{
        mask, paint,
        sample::{self, Colours, Filter, Grid, Sampling, Texels},
    },
    tensor::{Element, distance, layout},
};

/// Texels per row: copies need rows of 256 bytes.
const WIDTH: u32 = 64;
const HEIGHT: u32 = 9;

/// Checks all kernels that read or write textures, with maps of `element`.
pub(super) fn checks(gpu: &Gpu, element: Element) -> Result<[Check; 3]> {
    // The linear filter: all others round to 8-bit levels, which would enlarge small errors.
    let sampling = Sampling {
        region: [3, 1, 41, 8],
        mirrored: [true, false],
        rows_first: false,
        texels: Texels::Colours,
        encode: true,
        scaled: [11, 23],
        scale: [8.0 / 11.0, 41.0 / 23.0],
        crop: [-1, 2],
        filter: Filter::Linear,
        grid: Grid::Area,
        colours: Colours::Rgb,
        mean: [0.4, 0.5, 0.6],
        std: [0.2, 0.3, 0.4],
    };
    let other = Sampling {
        texels: Texels::Luminance,
        encode: false,
        scale: [7.0 / 10.0, 40.0 / 22.0],
        grid: Grid::Corners,
        colours: Colours::Bgr,
        ..sampling
    };
    let [sampled, other] = [sample_check(gpu, element, &sampling)?, sample_check(gpu, element, &other)?];
    Ok([sampled, other, paint_check(gpu, element)?])
}

fn sample_check(gpu: &Gpu, element: Element, sampling: &Sampling) -> Result<Check> {
    let byte = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
    let bytes: Vec<u8> = (0..4 * WIDTH * HEIGHT).map(byte).collect();
    let texel =
        |x: u32, y: u32| [0, 1, 2].map(|i| f32::from(bytes[(4 * (y * WIDTH + x) + i) as usize]) / 255.0);
    let y = Shape::new(1, 3, 12, 19);
    let texture = texture(gpu, wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST);
    let layout_of_bytes =
        wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(4 * WIDTH), rows_per_image: None };
    gpu.queue.write_texture(texture.as_image_copy(), &bytes, layout_of_bytes, texture.size());
    let view = texture.create_view(&Default::default());
    let launch = sample::launch(sampling, y);
    let out = gpu.dispatch_over(&launch, element, &[], &[layout::len(y)], &[&view, &view])?;
    let error = distance(&layout::from_device(y, &out[0]), &sample::reference(sampling, y, texel));
    Ok(Check { kernel: sample::SHADER.name, element, error })
}

fn paint_check(gpu: &Gpu, element: Element) -> Result<Check> {
    let labels = Shape::new(1, 1, 5, 14);
    let class = |at: usize| (at * at % 23) as u8;
    let classes: Vec<u8> = (0..labels.len()).map(class).collect();
    let words = mask::pack(&classes, labels.w);
    let colour = |class: u32| [class as u8, (7 * class) as u8, (31 * class) as u8, 64];
    let colours: Vec<f32> = (0..256).map(|class| f32::from_bits(u32::from_le_bytes(colour(class)))).collect();
    let texture = texture(gpu, wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_SRC);
    let size = [HEIGHT as usize, WIDTH as usize];
    let view = texture.create_view(&Default::default());
    gpu.dispatch_over(&paint::launch(labels, size), element, &[&words, &colours], &[], &[&view])?;

    let bytes = u64::from(4 * WIDTH * HEIGHT);
    let copied = buffer(gpu, "painted", bytes, wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC);
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    encoder.copy_texture_to_buffer(
        texture.as_image_copy(),
        wgpu::TexelCopyBufferInfo {
            buffer: &copied,
            layout: wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(4 * WIDTH),
                rows_per_image: None,
            },
        },
        texture.size(),
    );
    gpu.queue.submit([encoder.finish()]);
    let painted: Vec<u8> = read(gpu, &copied, bytes)?;
    let expected = paint::reference(&classes, labels, size).into_iter();
    let expected: Vec<u8> = expected.flat_map(|class| colour(class.into())).collect();
    let tensor =
        |bytes: &[u8]| Tensor::new([bytes.len()], bytes.iter().map(|v| f32::from(*v)).collect::<Vec<_>>());
    Ok(Check {
        kernel: paint::SHADER.name,
        element,
        error: distance(&tensor(&painted)?, &tensor(&expected)?),
    })
}

fn texture(gpu: &Gpu, usage: wgpu::TextureUsages) -> wgpu::Texture {
    gpu.device.create_texture(&wgpu::TextureDescriptor {
        label: Some("checked"),
        size: wgpu::Extent3d { width: WIDTH, height: HEIGHT, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba8Unorm,
        usage,
        view_formats: &[],
    })
}
