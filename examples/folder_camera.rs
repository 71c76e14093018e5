//! A folder of pictures stands in for a camera. Each picture is a frame that arrives on time, even if the
//! device is not done with the preceding ones. Its result is read back a few frames later; if the device has
//! no time for the frame, it is skipped.
//!
//!     cargo run --release --example folder_camera -- FOLDER --fps 30

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use goldcrest::{
    Options, Session, demo,
    gpu::{Gpu, Readback, Ring, Source},
    session::SourceOptions,
    tasks::Picture,
    wgpu,
    zoo::{Network, Task},
};

/// Prints the results of frames as they arrive.
#[derive(Parser)]
struct Arguments {
    /// The folder of JPEG and PNG files, all of one size, in the order of their names
    folder: PathBuf,

    /// Frames per second
    #[arg(long, default_value_t = 30.0)]
    fps: f64,

    /// A checkpoint, if not the built-in detector
    #[arg(long)]
    weights: Option<PathBuf>,

    /// The adapter's index, or part of its name
    #[arg(long)]
    adapter: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let gpu = Gpu::open(arguments.adapter.as_deref())?;
    let network = arguments.weights.as_ref().map_or_else(demo::detector, Network::open)?;
    let files = pictures(&arguments.folder)?;
    let first = Picture::open(
        files.first().with_context(|| format!("{} has no JPEG or PNG file", arguments.folder.display()))?,
    )?;
    let mut camera = Camera::new(gpu, &network, [first.height(), first.width()])?;

    let each = Duration::try_from_secs_f64(1.0 / arguments.fps)
        .with_context(|| format!("--fps {}: expected a positive number", arguments.fps))?;
    let begun = Instant::now();
    for (number, file) in (0u32..).zip(&files) {
        // A camera's frame is in memory already: reading the file does not count.
        let picture = Picture::open(file)?;
        std::thread::sleep((each * number).saturating_sub(begun.elapsed()));
        camera.frame(number.into(), &picture).with_context(|| file.display().to_string())?;
        camera.print_newest(&network, &files, number.into())?;
    }
    camera.gpu.device().poll(wgpu::PollType::wait_indefinitely())?;
    camera.print_newest(&network, &files, files.len() as u64)?;
    println!("{} frames on {}, {} without a result", files.len(), camera.gpu.adapter(), camera.missed());
    Ok(())
}

/// The pictures of a folder, sorted by name.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    let is_picture = |file: &PathBuf| {
        let ending = file.extension().map(|ending| ending.to_ascii_lowercase());
        ending.is_some_and(|ending| ["jpg", "jpeg", "png"].iter().any(|known| ending == *known))
    };
    files.retain(is_picture);
    files.sort();
    Ok(files)
}

/// Runs a network on frames in memory.
struct Camera {
    gpu: Gpu,
    texture: wgpu::Texture,
    session: Session,
    source: Source,
    ring: Ring,
    /// Frames for which the device had no time.
    skipped: u64,
}

impl Camera {
    /// Creates a camera for frames of `[height, width]`.
    fn new(gpu: Gpu, network: &Network, [height, width]: [usize; 2]) -> Result<Self> {
        let session = Session::for_pictures(&gpu, network, [height, width], Options::default())?;
        let texture = gpu.device().create_texture(&wgpu::TextureDescriptor {
            label: Some("frame"),
            size: wgpu::Extent3d { width: width as u32, height: height as u32, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::Rgba8Unorm,
            usage: wgpu::TextureUsages::COPY_DST | wgpu::TextureUsages::TEXTURE_BINDING,
            view_formats: &[],
        });
        let source = session.source(&texture, SourceOptions::default())?;
        let ring = session.ring(2)?;
        Ok(Self { gpu, texture, session, source, ring, skipped: 0 })
    }

    /// Uploads a frame and submits an inference on it, if the ring has room for another result.
    fn frame(&mut self, number: u64, picture: &Picture) -> Result<()> {
        let size = self.texture.size();
        let [width, height] = [picture.width(), picture.height()];
        ensure!(
            [width as u32, height as u32] == [size.width, size.height],
            "{width} x {height} pixels, the first frame has {} x {}",
            size.width,
            size.height
        );
        if !self.ring.has_room() {
            self.skipped += 1;
            return Ok(());
        }
        let texels: Vec<u8> = picture
            .pixels()
            .as_chunks()
            .0
            .iter()
            .flat_map(|&[red, green, blue]| [red, green, blue, 255])
            .collect();
        let rows = wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(4 * size.width),
            rows_per_image: None,
        };
        self.gpu.queue().write_texture(self.texture.as_image_copy(), &texels, rows, size);
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.session.encode(&mut encoder, &self.source)?;
        self.session.read_back(&mut encoder, &mut self.ring, number)?;
        self.gpu.queue().submit([encoder.finish()]);
        Ok(())
    }

    /// Prints the newest result, if one was read back.
    fn print_newest(&mut self, network: &Network, files: &[PathBuf], number: u64) -> Result<()> {
        let Some(answer) = self.ring.poll()? else { return Ok(()) };
        let file = files[answer.frame as usize].file_name().unwrap_or_default().display();
        let late = number - answer.frame;
        println!("{file} (+{late}): {}", self.words(network, &answer)?);
        Ok(())
    }

    fn words(&self, network: &Network, answer: &Readback) -> goldcrest::Result<String> {
        let of = |label: Option<String>, share: f32| {
            format!("{} {:.0}%", label.as_deref().unwrap_or("?"), 100.0 * share)
        };
        let words: Vec<String> = match network.task {
            Task::Classify => {
                let classes = self.session.classes_of(&answer.outputs, 3)?.into_iter();
                classes.map(|class| of(class.label, class.probability.unwrap_or_default())).collect()
            }
            Task::Segment { .. } => {
                let labels = self.session.labels().cloned().unwrap_or_default();
                let areas =
                    self.session.segmentation_of(&answer.outputs, answer.picture)?.areas(&labels).into_iter();
                areas.map(|area| of(area.label, area.share)).collect()
            }
            Task::Embed => Vec::new(),
            Task::Detect(_) => {
                let found = self.session.detections_of(&answer.outputs, answer.picture)?.into_iter();
                found.filter(|found| found.score > 0.5).map(|found| of(found.label, found.score)).collect()
            }
        };
        Ok(words.join(", "))
    }

    /// Frames that were skipped, or whose results were dropped for a newer one.
    fn missed(&self) -> u64 {
        self.skipped + self.ring.dropped()
    }
}
