//! Textures that show pictures, and what sessions make of them.

use goldcrest::{
    Session, Tensor,
    gpu::Gpu,
    graph::{Extent, Graph, Op},
    session::Framing,
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

/// The picture as a texture that shows it.
pub fn texture(gpu: &Gpu, picture: &Picture, format: TextureFormat, usage: TextureUsages) -> wgpu::Texture {
    let size = wgpu::Extent3d {
        width: picture.width() as u32,
        height: picture.height() as u32,
        depth_or_array_layers: 1,
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
    let light = |v: u8| {
        let v = f64::from(v) / 255.0;
        (if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }) as f32
    };
    let bytes: Vec<u8> = picture
        .pixels()
        .chunks_exact(3)
        .flat_map(|rgb| match format {
            TextureFormat::R8Uint | TextureFormat::R8Unorm => vec![rgb[0]],
            TextureFormat::Bgra8Unorm => vec![rgb[2], rgb[1], rgb[0], 255],
            TextureFormat::Rgba16Float => [light(rgb[0]), light(rgb[1]), light(rgb[2]), 1.0]
                .iter()
                .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
                .collect(),
            TextureFormat::Rgba32Float => [light(rgb[0]), light(rgb[1]), light(rgb[2]), 1.0]
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
            _ => vec![rgb[0], rgb[1], rgb[2], 255],
        })
        .collect();
    let layout = wgpu::TexelCopyBufferLayout {
        offset: 0,
        bytes_per_row: Some(bytes.len() as u32 / size.height),
        rows_per_image: None,
    };
    gpu.queue().write_texture(texture.as_image_copy(), &bytes, layout, size);
    texture
}

pub fn readable(gpu: &Gpu, picture: &Picture) -> wgpu::Texture {
    texture(gpu, picture, TextureFormat::Rgba8Unorm, TextureUsages::TEXTURE_BINDING)
}

/// A network whose answer is what it sees.
pub fn mirror(preprocessing: Preprocessing, input: [usize; 2]) -> Network {
    let mut graph = Graph::default();
    let x = graph.push("input", Op::Input(3), &[]);
    graph.push("same", Op::Resize(Extent::Exact(input)), &[x]);
    Network { graph, preprocessing, input, ..synthetic::network("mobilenet_v1@0.25").unwrap() }
}

/// Records an inference of a texture, and waits for its answer.
pub fn answer(gpu: &Gpu, session: &Session, texture: &wgpu::Texture, framing: Framing) -> Vec<Tensor> {
    let source = session.source(texture, framing).unwrap();
    let mut ring = session.ring(1).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    session.encode(&mut encoder, &source).unwrap();
    assert!(session.read_back(&mut encoder, &mut ring, 7).unwrap());
    gpu.queue().submit([encoder.finish()]);
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let answer = ring.poll().unwrap().expect("the device is done");
    assert_eq!((answer.frame, ring.dropped()), (7, 0));
    answer.parts
}

/// What a network wants of pictures.
pub fn how(resize: Resize, crop: Option<[usize; 2]>, filter: Filter) -> Preprocessing {
    Preprocessing { resize, crop, filter, centre: Centre::HalfToEven, ..Preprocessing::default() }
}

/// The bytes of a texture's texels, each of so many.
pub fn texels(gpu: &Gpu, texture: &wgpu::Texture, each: usize) -> Vec<u8> {
    let (width, height) = (texture.width() as usize, texture.height() as usize);
    // Rows of a copy are whole multiples of 256 bytes.
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
    bytes(gpu, encoder, &buffer).chunks(row).flat_map(|bytes| &bytes[..each * width]).copied().collect()
}

/// The bytes of a buffer that a kernel wrote.
pub fn copied(gpu: &Gpu, from: &wgpu::Buffer) -> Vec<u8> {
    let to = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: from.size(),
        usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(from, 0, &to, 0, from.size());
    bytes(gpu, encoder, &to)
}

/// What is in `buffer` once the device has done what was recorded.
fn bytes(gpu: &Gpu, encoder: wgpu::CommandEncoder, buffer: &wgpu::Buffer) -> Vec<u8> {
    encoder.map_buffer_on_submit(buffer, wgpu::MapMode::Read, .., |_| {});
    gpu.queue().submit([encoder.finish()]);
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    buffer.get_mapped_range(..).unwrap().to_vec()
}
