//! Renders a scene to a texture on the program's own device, segments it in the same command encoder,
//! and continues to render. Results are read back some frames later. No window.
//!
//!     cargo run --release --example headless_texture -- --out segmented.png

#[path = "stage/memory.rs"]
mod memory;
mod stage;

use std::{collections::VecDeque, path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use clap::Parser;
use goldcrest::{
    Options, Session, demo,
    gpu::{self, Gpu},
    session::SourceOptions,
    tasks::{Labels, Picture, overlay},
    wgpu,
};
use stage::Stage;

/// Renders a scene to a texture and segments it, frame by frame.
#[derive(Parser)]
struct Arguments {
    /// Frames to render
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    frames: u64,

    /// The PNG file to write: the last segmented frame with its classes' colours
    #[arg(long, default_value = "segmented.png")]
    out: PathBuf,

    /// Print the memory in use every so many frames
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    memory_every: Option<u64>,

    /// The adapter's index, or part of its name
    #[arg(long)]
    adapter: Option<String>,
}

const SIDE: u32 = 384;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // A renderer has these already.
    let adapters = pollster::block_on(gpu::adapters());
    let adapter = gpu::pick(&adapters, arguments.adapter.as_deref())?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: Gpu::wanted_features(adapter),
        required_limits: Gpu::wanted_limits(adapter),
        ..Default::default()
    }))?;
    let usage = wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC;
    let texture = stage::texture(&device, SIDE, wgpu::TextureFormat::Rgba8UnormSrgb, usage);
    let stage = Stage::new(&device, texture.format());

    // Segmentation adds these.
    let gpu = Gpu::from_device(adapter, device.clone(), queue.clone());
    let network = demo::segmenter()?;
    let session = Session::for_pictures(&gpu, &network, [SIDE as usize; 2], Options::default())?;
    let source = session.source(&texture, SourceOptions::default())?;
    let mut ring = session.ring(3)?;

    let begun = Instant::now();
    let (mut latest, mut results) = (None, 0);
    let mut in_flight = VecDeque::new();
    for frame in 0..arguments.frames {
        let mut encoder = device.create_command_encoder(&Default::default());
        stage.render(&queue, &mut encoder, &texture, frame as f32 / 30.0);
        // If earlier inferences are still running, the frame is only rendered.
        if ring.has_room() {
            session.encode(&mut encoder, &source)?;
            session.read_back(&mut encoder, &mut ring, frame)?;
        }
        in_flight.push_back(queue.submit([encoder.finish()]));
        // Limits the frames in flight, as a window's swap chain does.
        if in_flight.len() > 2 {
            let submission_index = in_flight.pop_front();
            device.poll(wgpu::PollType::Wait { submission_index, timeout: None })?;
        }
        if let Some(answer) = ring.poll()? {
            (latest, results) = (
                Some((answer.frame, session.segmentation_of(&answer.outputs, answer.picture)?)),
                results + 1,
            );
        }
        if arguments.memory_every.is_some_and(|every| frame.is_multiple_of(every)) {
            println!("frame {frame}: {}", memory::in_use(&device));
        }
    }
    // At the end the program may wait.
    device.poll(wgpu::PollType::wait_indefinitely())?;
    if let Some(answer) = ring.poll()? {
        (latest, results) =
            (Some((answer.frame, session.segmentation_of(&answer.outputs, answer.picture)?)), results + 1);
    }
    let each = 1e3 * begun.elapsed().as_secs_f64() / arguments.frames as f64;

    let (frame, segmentation) = latest.context("no result was read back")?;
    let mut encoder = device.create_command_encoder(&Default::default());
    stage.render(&queue, &mut encoder, &texture, frame as f32 / 30.0);
    queue.submit([encoder.finish()]);
    let labels = Labels::of(&network);
    let drawn = overlay(&read(&device, &queue, &texture)?, &segmentation, &labels)?;
    std::fs::write(&arguments.out, drawn.png()?).with_context(|| arguments.out.display().to_string())?;
    println!(
        "{} on {}: {} frames of {each:.1} ms, {results} results, {} dropped; frame {frame} is in {}",
        network.arch,
        gpu.adapter(),
        arguments.frames,
        ring.dropped(),
        arguments.out.display()
    );
    for area in segmentation.areas(&labels) {
        println!("  {:5.1}%  {}", 100.0 * area.share, area.label.unwrap_or_default());
    }
    Ok(())
}

/// Reads the texture back as a picture, and waits for it.
fn read(device: &wgpu::Device, queue: &wgpu::Queue, texture: &wgpu::Texture) -> Result<Picture> {
    // Rows of 4 x 384 bytes are multiples of 256, as the copy requires.
    let bytes_per_row = 4 * SIDE;
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("picture"),
        size: u64::from(bytes_per_row * SIDE),
        usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_texture_to_buffer(
        texture.as_image_copy(),
        wgpu::TexelCopyBufferInfo {
            buffer: &buffer,
            layout: wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(bytes_per_row),
                rows_per_image: None,
            },
        },
        texture.size(),
    );
    encoder.map_buffer_on_submit(&buffer, wgpu::MapMode::Read, .., |_| {});
    queue.submit([encoder.finish()]);
    device.poll(wgpu::PollType::wait_indefinitely())?;
    let view = buffer.get_mapped_range(..)?;
    let pixels = view.chunks_exact(4).flat_map(|rgba| rgba[..3].to_vec()).collect();
    Ok(Picture::new(SIDE as usize, SIDE as usize, pixels)?)
}
