//! A window with a moving scene, which three networks process while it is rendered: a classifier names its
//! subject, a segmenter colours its shapes, a detector draws boxes around them. No frame waits for a network.
//!
//!     cargo run --release --example live_scene
//!
//! Space pauses; C, S and D toggle the classifier, the segmenter and the detector; P toggles f32 and f16, and
//! the networks are built again between frames.

#[path = "../stage/memory.rs"]
mod memory;
mod screen;
#[path = "../stage/mod.rs"]
mod stage;
mod watcher;
mod words;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use goldcrest::{demo, gpu::Gpu, session::Precision, wgpu};
use screen::{Screen, Shown};
use stage::Stage;
use watcher::Watcher;
use winit::{
    application::ApplicationHandler,
    event::{ElementState, WindowEvent},
    event_loop::{ActiveEventLoop, EventLoop},
    keyboard::{Key, NamedKey},
    window::{Window, WindowId},
};
use words::Words;

/// A window with a moving scene that networks process, frame by frame.
#[derive(Parser)]
struct Arguments {
    /// Frames after which the program ends; by default, it ends when the window is closed
    #[arg(long)]
    frames: Option<u64>,

    /// Print the memory in use every so many frames
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    memory_every: Option<u64>,
}

/// The scene's width and height, in pixels.
const SIDE: u32 = 384;

fn main() -> Result<()> {
    let mut app = App { arguments: Arguments::parse(), live: None, outcome: Ok(()) };
    EventLoop::new()?.run_app(&mut app)?;
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
                if self.arguments.memory_every.is_some_and(|every| live.frames.is_multiple_of(every)) {
                    println!("frame {}: {}", live.frames, live.status());
                }
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

/// A renderer, with the networks that it runs.
struct Live {
    window: Arc<Window>,
    surface: wgpu::Surface<'static>,
    config: wgpu::SurfaceConfiguration,
    gpu: Gpu,
    stage: Stage,
    screen: Screen,
    words: Words,
    frame: wgpu::Texture,
    mask: wgpu::Texture,
    watchers: [Watcher; 3],
    precision: Precision,
    time: f32,
    paused: bool,
    frames: u64,
    /// The start of the latest frame, and the moving average of the frame time.
    latest: Instant,
    each: Duration,
}

impl Live {
    fn new(events: &ActiveEventLoop) -> Result<Self> {
        let size = winit::dpi::PhysicalSize::new(2 * SIDE, 2 * SIDE + Words::HEIGHT);
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

        let texture = |format, usage| stage::texture(&device, SIDE, format, usage);
        let frame = texture(wgpu::TextureFormat::Rgba8UnormSrgb, wgpu::TextureUsages::RENDER_ATTACHMENT);
        let mask = texture(wgpu::TextureFormat::Rgba8Unorm, wgpu::TextureUsages::STORAGE_BINDING);
        let words = Words::new(&device);
        let precision = Precision::F32;
        let watcher = |name, network| Watcher::new(name, network, &gpu, SIDE, precision);
        let watchers = [
            watcher("[C]lassifier", demo::classifier()?)?,
            watcher("[S]egmenter", demo::segmenter()?)?,
            watcher("[D]etector", demo::detector()?)?,
        ];
        window.request_redraw();
        Ok(Self {
            stage: Stage::new(&device, frame.format()),
            screen: Screen::new(&device, config.format, [&frame, &mask], &words),
            words,
            window,
            surface,
            config,
            gpu,
            frame,
            mask,
            watchers,
            precision,
            time: 0.0,
            paused: false,
            frames: 0,
            latest: Instant::now(),
            each: Duration::ZERO,
        })
    }

    fn resize(&mut self, width: u32, height: u32) {
        (self.config.width, self.config.height) = (width.max(1), height.max(1));
        self.surface.configure(self.gpu.device(), &self.config);
    }

    fn key(&mut self, key: &Key) -> Result<()> {
        match key.as_ref() {
            Key::Named(NamedKey::Space) => self.paused = !self.paused,
            Key::Character("c") => self.watchers[0].on = !self.watchers[0].on,
            Key::Character("s") => self.watchers[1].on = !self.watchers[1].on,
            Key::Character("d") => self.watchers[2].on = !self.watchers[2].on,
            Key::Character("p") if self.gpu.has_f16() => {
                self.precision =
                    if self.precision == Precision::F32 { Precision::F16 } else { Precision::F32 };
                for watcher in &mut self.watchers {
                    watcher.build(&self.gpu, SIDE, self.precision)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<()> {
        let step = self.latest.elapsed();
        self.latest = Instant::now();
        self.each = if self.frames < 2 { step } else { (self.each * 15 + step) / 16 };
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
            // Hidden or timed out: skip this frame.
            _ => return Ok(()),
        };
        let queue = self.gpu.queue();
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.stage.render(queue, &mut encoder, &self.frame, self.time);
        for watcher in &mut self.watchers {
            watcher.look(&mut encoder, &self.frame, &self.mask, self.frames)?;
        }
        if self.frames.is_multiple_of(8) {
            self.words.write(queue, &self.lines());
        }
        let view = target.texture.create_view(&Default::default());
        let size = [self.config.width, self.config.height];
        let boxes = self.watchers.iter().find_map(Watcher::boxes);
        let shown = Shown { masked: self.watchers[1].on, boxes };
        self.screen.render(queue, &mut encoder, (&view, size), &shown);
        queue.submit([encoder.finish()]);
        queue.present(target);
        for watcher in &mut self.watchers {
            watcher.poll(self.frames)?;
        }
        self.frames += 1;
        Ok(())
    }

    fn lines(&self) -> [String; Words::LINES] {
        let precision = if self.precision == Precision::F16 { "f16" } else { "f32" };
        let pause = if self.paused { "paused" } else { "[space] pauses" };
        let [a, b, c] = self.watchers.each_ref().map(Watcher::line);
        let ms = 1e3 * self.each.as_secs_f64();
        let adapter = &self.gpu.adapter().name;
        [format!("frame        {ms:5.1} ms on {adapter}, [P]recision {precision}, {pause}"), a, b, c]
    }

    /// The time and memory in use, as text.
    fn status(&self) -> String {
        let in_flight: usize = self.watchers.iter().map(Watcher::in_flight).sum();
        let ms = 1e3 * self.each.as_secs_f64();
        format!("{ms:.1} ms, {in_flight} results in flight, {}", memory::in_use(self.gpu.device()))
    }
}
