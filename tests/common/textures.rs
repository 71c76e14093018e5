//! Textures that contain pictures, and sessions that read them.

use std::time::{Duration, Instant};

use goldcrest::{
    Session, Tensor,
    gpu::{Gpu, Readback, Ring, Source},
    graph::{Extent, Graph, Op},
    session::SourceOptions,
    tasks::Picture,
    wgpu::{self, TextureFormat, TextureUsages},
    zoo::{Centre, Filter, Network, Preprocessing, Resize, synthetic},
};

/// A picture with edges, gradients and noise.
pub fn picture(width: usize, height: usize) -> Picture {
    let pixels = (0..width * height).flat_map(|i| {
        let (x, y) = (i % width, i / width);
        [x * 255 / width, if (x / 3 + y / 5) % 2 == 0 { 250 } else { 7 }, (i * 7919) % 256].map(|v| v as u8)
    });
    Picture::new(width, height, pixels.collect()).unwrap()
}

/// Creates a texture of a picture. Formats with fewer than three channels get the first ones, from red.
pub fn texture(gpu: &Gpu, picture: &Picture, format: TextureFormat, usage: TextureUsages) -> wgpu::Texture {
    layered(gpu, &[picture], format, usage)
}

/// Creates a texture whose layers are pictures of one size.
pub fn layered(
    gpu: &Gpu,
    pictures: &[&Picture],
    format: TextureFormat,
    usage: TextureUsages,
) -> wgpu::Texture {
    use TextureFormat as F;
    let linear = |v: u8| {
        let v = f64::from(v) / 255.0;
        (if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }) as f32
    };
    let unorm16 = |v: &u8| (u16::from(*v) * 257).to_le_bytes();
    let float16 = |v: &u8| half::f16::from_f32(linear(*v)).to_le_bytes();
    let float32 = |v: &u8| linear(*v).to_le_bytes();
    let texel = |rgb: &[u8]| {
        let rgba = [rgb[0], rgb[1], rgb[2], 255];
        match format {
            F::R8Uint | F::R8Unorm => vec![rgb[0]],
            // The second channel is alpha, which must have no effect: green serves as noise.
            F::Rg8Unorm => vec![rgb[0], rgb[1]],
            F::Bgra8Unorm => vec![rgb[2], rgb[1], rgb[0], 255],
            F::R16Unorm => rgba[..1].iter().flat_map(unorm16).collect(),
            F::Rg16Unorm => rgba[..2].iter().flat_map(unorm16).collect(),
            F::R16Float => rgba[..1].iter().flat_map(float16).collect(),
            F::Rg16Float => rgba[..2].iter().flat_map(float16).collect(),
            F::Rgba16Float => rgba.iter().flat_map(float16).collect(),
            F::R32Float => rgba[..1].iter().flat_map(float32).collect(),
            F::Rg32Float => rgba[..2].iter().flat_map(float32).collect(),
            F::Rgba32Float => rgba.iter().flat_map(float32).collect(),
            _ => rgba.to_vec(),
        }
    };
    let layers: Vec<Vec<u8>> =
        pictures.iter().map(|picture| picture.pixels().chunks_exact(3).flat_map(texel).collect()).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    upload(gpu, [pictures[0].width(), pictures[0].height()], format, usage, &layers)
}

/// Creates a texture whose layers have these bytes.
pub fn upload(
    gpu: &Gpu,
    [width, height]: [usize; 2],
    format: TextureFormat,
    usage: TextureUsages,
    layers: &[&[u8]],
) -> wgpu::Texture {
    let size = wgpu::Extent3d {
        width: width as u32,
        height: height as u32,
        depth_or_array_layers: layers.len() as u32,
    };
    let texture = gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: None,
        size,
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format,
        usage: usage | TextureUsages::COPY_DST,
        view_formats: &[],
    });
    let bytes = layers.concat();
    let layout = wgpu::TexelCopyBufferLayout {
        offset: 0,
        bytes_per_row: Some(layers[0].len() as u32 / size.height),
        rows_per_image: Some(size.height),
    };
    gpu.queue().write_texture(texture.as_image_copy(), &bytes, layout, size);
    texture
}

pub fn readable(gpu: &Gpu, picture: &Picture) -> wgpu::Texture {
    texture(gpu, picture, TextureFormat::Rgba8Unorm, TextureUsages::TEXTURE_BINDING)
}

/// A network that returns its input.
pub fn identity_network(preprocessing: Preprocessing, input: [usize; 2]) -> Network {
    let mut graph = Graph::default();
    let channels = preprocessing.colours.channels();
    let x = graph.push("input", Op::Input(channels), &[]);
    graph.push("same", Op::Resize(Extent::Exact(input)), &[x]);
    Network { graph, preprocessing, input, channels, ..synthetic::network("mobilenet_v1@0.25").unwrap() }
}

/// Records an inference on a texture, and waits for its outputs.
pub fn run_texture(
    gpu: &Gpu,
    session: &Session,
    texture: &wgpu::Texture,
    options: SourceOptions,
) -> Vec<Tensor> {
    run_source(gpu, session, &session.source(texture, options).unwrap())
}

/// [`run_texture`] for any source.
pub fn run_source(gpu: &Gpu, session: &Session, source: &Source) -> Vec<Tensor> {
    let mut ring = session.ring(1).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    session.encode(&mut encoder, source).unwrap();
    assert!(session.read_back(&mut encoder, &mut ring, 7).unwrap());
    gpu.queue().submit([encoder.finish()]);
    let readback = newest(gpu, &mut ring).unwrap();
    assert_eq!((readback.frame, ring.dropped()), (7, 0));
    readback.outputs
}

/// Waits for the device, and returns the ring's newest readback. Another test's wait on the same device may
/// have taken the mapping, and reports it a moment later.
pub fn newest(gpu: &Gpu, ring: &mut Ring) -> goldcrest::Result<Readback> {
    let begun = Instant::now();
    loop {
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        if let Some(readback) = ring.poll()? {
            return Ok(readback);
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the ring has no readback");
        std::thread::yield_now();
    }
}

/// Preprocessing with crops that are centred half to even.
pub fn preprocessing(resize: Resize, crop: Option<[usize; 2]>, filter: Filter) -> Preprocessing {
    Preprocessing { resize, crop, filter, centre: Centre::HalfToEven, ..Preprocessing::default() }
}

/// Reads back a texture of `each` bytes per texel, without the padding of rows.
pub fn read_texels(gpu: &Gpu, texture: &wgpu::Texture, each: usize) -> Vec<u8> {
    let (width, height) = (texture.width() as usize, texture.height() as usize);
    // A copy's rows are multiples of 256 bytes.
    let row = (each * width).next_multiple_of(256);
    let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: (row * height) as u64,
        usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    let layout =
        wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(row as u32), rows_per_image: None };
    let copy = wgpu::TexelCopyBufferInfo { buffer: &buffer, layout };
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    encoder.copy_texture_to_buffer(texture.as_image_copy(), copy, texture.size());
    submit_and_read(gpu, encoder, &buffer)
        .chunks(row)
        .flat_map(|bytes| &bytes[..each * width])
        .copied()
        .collect()
}

/// Reads back a buffer.
pub fn read_buffer(gpu: &Gpu, from: &wgpu::Buffer) -> Vec<u8> {
    let to = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: from.size(),
        usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(from, 0, &to, 0, from.size());
    submit_and_read(gpu, encoder, &to)
}

/// Submits the recorded commands, and returns the contents of `buffer` after them.
fn submit_and_read(gpu: &Gpu, encoder: wgpu::CommandEncoder, buffer: &wgpu::Buffer) -> Vec<u8> {
    encoder.map_buffer_on_submit(buffer, wgpu::MapMode::Read, .., |_| {});
    gpu.queue().submit([encoder.finish()]);
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    buffer.get_mapped_range(..).unwrap().to_vec()
}
