//! A window with a moving scene that is segmented and detected while it is rendered: nothing waits for
//! the networks, and what they say comes some frames later.
//!
//!     cargo run --release --example live_scene
//!
//! Space pauses, S and D switch the segmenter and the detector, P changes between f32 and f16.

#[path = "stage/screen.rs"]
mod screen;
mod stage;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use goldcrest::{
    Options, Session, demo,
    gpu::{Gpu, Painting, Ring, Source},
    session::{Framing, Precision},
    tasks::{Bounds, palette},
    wgpu,
};
use screen::Screen;
use stage::Stage;
use winit::{
    application::ApplicationHandler,
    event::{ElementState, WindowEvent},
    event_loop::{ActiveEventLoop, EventLoop},
    keyboard::{Key, NamedKey},
    window::{Window, WindowId},
};

/// A window with a moving scene, segmented and detected frame by frame.
#[derive(Parser)]
struct Arguments {
    /// Frames after which it ends; without it, when the window is closed
    #[arg(long)]
    frames: Option<u64>,
}

/// Pixels of the scene's side.
const SIDE: u32 = 384;

fn main() -> Result<()> {
    let mut app = App { arguments: Arguments::parse(), live: None, outcome: Ok(()) };
    EventLoop::new()?.run_app(&mut app)?;
    if let Some(live) = &app.live {
        println!("{}", live.told());
    }
    app.outcome
}

struct App {
    arguments: Arguments,
    live: Option<Live>,
    outcome: Result<()>,
}

impl ApplicationHandler for App {
    fn resumed(&mut self, events: &ActiveEventLoop) {
        if self.live.is_none() {
            match Live::new(events) {
                Ok(live) => self.live = Some(live),
                Err(error) => self.end(events, error),
            }
        }
    }

    fn window_event(&mut self, events: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let Some(live) = &mut self.live else { return };
        let outcome = match event {
            WindowEvent::CloseRequested => {
                events.exit();
                Ok(())
            }
            WindowEvent::Resized(size) => {
                live.resize(size.width, size.height);
                Ok(())
            }
            WindowEvent::KeyboardInput { event, .. } if event.state == ElementState::Pressed => {
                live.key(&event.logical_key)
            }
            WindowEvent::RedrawRequested => {
                let outcome = live.frame();
                if self.arguments.frames.is_some_and(|frames| live.frames >= frames) {
                    events.exit();
                }
                live.window.request_redraw();
                outcome
            }
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            self.end(events, error);
        }
    }
}

impl App {
    fn end(&mut self, events: &ActiveEventLoop, error: anyhow::Error) {
        self.outcome = Err(error);
        events.exit();
    }
}

/// What a renderer has, and what it has added for the networks.
struct Live {
    window: Arc<Window>,
    surface: wgpu::Surface<'static>,
    config: wgpu::SurfaceConfiguration,
    gpu: Gpu,
    stage: Stage,
    screen: Screen,
    frame: wgpu::Texture,
    mask: wgpu::Texture,
    segmenter: Watcher,
    painting: Painting,
    detector: Watcher,
    precision: Precision,
    boxes: Vec<Bounds>,
    time: f32,
    paused: bool,
    frames: u64,
    begun: Instant,
    latest: Instant,
}

/// A network that looks at the frame, and when it last said something.
struct Watcher {
    session: Session,
    source: Source,
    ring: Ring,
    on: bool,
    lag: u64,
}

impl Watcher {
    fn new(
        gpu: &Gpu,
        network: &goldcrest::zoo::Network,
        frame: &wgpu::Texture,
        precision: Precision,
    ) -> Result<Self> {
        let options = Options { precision, ..Options::default() };
        let session = Session::for_pictures(gpu, network, [SIDE as usize; 2], options)?;
        let source = session.source(frame, Framing::default())?;
        let ring = session.ring(3)?;
        Ok(Self { session, source, ring, on: true, lag: 0 })
    }

    /// Records that it looks at the frame.
    fn look(&mut self, encoder: &mut wgpu::CommandEncoder, frame: u64) -> Result<()> {
        self.session.encode(encoder, &self.source)?;
        self.session.read_back(encoder, &mut self.ring, frame)?;
        Ok(())
    }
}

impl Live {
    fn new(events: &ActiveEventLoop) -> Result<Self> {
        let size = winit::dpi::PhysicalSize::new(768, 768);
        let window = events
            .create_window(Window::default_attributes().with_title("live_scene").with_inner_size(size))?;
        let window = Arc::new(window);
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let surface = instance.create_surface(window.clone())?;
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions {
            compatible_surface: Some(&surface),
            ..Default::default()
        }))?;
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            required_features: Gpu::wanted_features(&adapter),
            required_limits: Gpu::wanted_limits(&adapter),
            ..Default::default()
        }))?;
        let gpu = Gpu::from_device(&adapter, device.clone(), queue);
        let (width, height) = (window.inner_size().width.max(1), window.inner_size().height.max(1));
        let config =
            surface.get_default_config(&adapter, width, height).context("no surface for this adapter")?;
        surface.configure(&device, &config);

        let texture = |format, usage| {
            device.create_texture(&wgpu::TextureDescriptor {
                label: None,
                size: wgpu::Extent3d { width: SIDE, height: SIDE, depth_or_array_layers: 1 },
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format,
                usage: usage | wgpu::TextureUsages::TEXTURE_BINDING,
                view_formats: &[],
            })
        };
        let frame = texture(wgpu::TextureFormat::Rgba8UnormSrgb, wgpu::TextureUsages::RENDER_ATTACHMENT);
        let mask = texture(wgpu::TextureFormat::Rgba8Unorm, wgpu::TextureUsages::STORAGE_BINDING);
        let precision = Precision::F32;
        let segmenter = Watcher::new(&gpu, &demo::segmenter()?, &frame, precision)?;
        let painting = segmenter.session.painting(&mask, &colours())?;
        let detector = Watcher::new(&gpu, &demo::detector()?, &frame, precision)?;
        window.request_redraw();
        Ok(Self {
            stage: Stage::new(&device, frame.format()),
            screen: Screen::new(&device, config.format, &frame, &mask),
            window,
            surface,
            config,
            gpu,
            frame,
            mask,
            segmenter,
            painting,
            detector,
            precision,
            boxes: Vec::new(),
            time: 0.0,
            paused: false,
            frames: 0,
            begun: Instant::now(),
            latest: Instant::now(),
        })
    }

    fn resize(&mut self, width: u32, height: u32) {
        (self.config.width, self.config.height) = (width.max(1), height.max(1));
        self.surface.configure(self.gpu.device(), &self.config);
    }

    fn key(&mut self, key: &Key) -> Result<()> {
        match key.as_ref() {
            Key::Named(NamedKey::Space) => self.paused = !self.paused,
            Key::Character("s") => self.segmenter.on = !self.segmenter.on,
            Key::Character("d") => self.detector.on = !self.detector.on,
            Key::Character("p") if self.gpu.has_f16() => {
                self.precision =
                    if self.precision == Precision::F32 { Precision::F16 } else { Precision::F32 };
                self.segmenter = Watcher::new(&self.gpu, &demo::segmenter()?, &self.frame, self.precision)?;
                self.painting = self.segmenter.session.painting(&self.mask, &colours())?;
                self.detector = Watcher::new(&self.gpu, &demo::detector()?, &self.frame, self.precision)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<()> {
        let step = self.latest.elapsed();
        self.latest = Instant::now();
        if !self.paused {
            self.time += step.as_secs_f32().min(0.1);
        }
        let target = match self.surface.get_current_texture() {
            wgpu::CurrentSurfaceTexture::Success(target)
            | wgpu::CurrentSurfaceTexture::Suboptimal(target) => target,
            wgpu::CurrentSurfaceTexture::Outdated | wgpu::CurrentSurfaceTexture::Lost => {
                self.surface.configure(self.gpu.device(), &self.config);
                return Ok(());
            }
            // Hidden or late: the next frame, then.
            _ => return Ok(()),
        };
        let queue = self.gpu.queue();
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.stage.render(queue, &mut encoder, &self.frame, self.time);
        if self.segmenter.on {
            self.segmenter.look(&mut encoder, self.frames)?;
            // Painted in the same frame: nothing of it leaves the device.
            self.segmenter.session.encode_painting(&mut encoder, &self.painting)?;
        }
        if self.detector.on {
            self.detector.look(&mut encoder, self.frames)?;
        } else {
            self.boxes.clear();
        }
        let view = target.texture.create_view(&Default::default());
        let size = [self.config.width, self.config.height];
        self.screen.render(queue, &mut encoder, (&view, size), self.segmenter.on, &self.boxes, SIDE as f32);
        queue.submit([encoder.finish()]);
        queue.present(target);

        // What came back meanwhile.
        if let Some((frame, _)) = self.segmenter.ring.poll()? {
            self.segmenter.lag = self.frames - frame;
        }
        if let Some((frame, answers)) = self.detector.ring.poll()? {
            self.detector.lag = self.frames - frame;
            let found = self.detector.session.detections_of(&answers)?;
            self.boxes = found.iter().filter(|found| found.score > 0.5).map(|found| found.bounds).collect();
        }
        self.frames += 1;
        if self.frames.is_multiple_of(30) {
            self.window.set_title(&self.told());
        }
        Ok(())
    }

    /// The state of things in a line.
    fn told(&self) -> String {
        let each =
            self.begun.elapsed().max(Duration::from_nanos(1)).as_secs_f64() / self.frames.max(1) as f64;
        format!(
            "{} frames of {:.1} ms on {}; answers {} and {} frames late, {} and {} dropped",
            self.frames,
            1e3 * each,
            self.gpu.adapter(),
            self.segmenter.lag,
            self.detector.lag,
            self.segmenter.ring.dropped(),
            self.detector.ring.dropped(),
        )
    }
}

/// Each class in its colour, half transparent; the background not at all.
fn colours() -> [[u8; 4]; 256] {
    let mut colours = palette().map(|[r, g, b]| [r, g, b, 140]);
    colours[0] = [0; 4];
    colours
}
