//! Segments a scene on egui's own device and draws the mask over it, without a copy to the CPU.
//!
//!     cargo run --release --manifest-path examples/egui/Cargo.toml

use std::sync::Arc;

use eframe::{
    egui,
    egui_wgpu::{RenderState, WgpuSetup},
};
use goldcrest::{
    Options, Session,
    demo::{self, Scene},
    gpu::{Gpu, Painting, Readback, Ring, Source},
    session::SourceOptions,
    tasks::{palette, premultiply},
    wgpu::{self, TextureFormat::Rgba8Unorm, TextureUsages as Usage},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Width and height of the scene.
const SIDE: usize = 320;

fn main() -> eframe::Result {
    let mut options = eframe::NativeOptions { renderer: eframe::Renderer::Wgpu, ..Default::default() };
    // All optional: 16-bit floats, subgroups and timestamps, where the adapter has them, and its limits.
    if let WgpuSetup::CreateNew(setup) = &mut options.wgpu_options.wgpu_setup {
        setup.device_descriptor = Arc::new(|adapter| wgpu::DeviceDescriptor {
            required_features: Gpu::wanted_features(adapter),
            required_limits: Gpu::wanted_limits(adapter),
            ..Default::default()
        });
    }
    eframe::run_native("Goldcrest in egui", options, Box::new(|context| Ok(Box::new(Demo::new(context)?))))
}

struct Demo {
    gpu: Gpu,
    session: Session,
    ring: Ring,
    source: Source,
    painting: Painting,
    picture: wgpu::Texture,
    /// The picture and the mask, as egui names them.
    shown: [egui::TextureId; 2],
    scene: u64,
    masked: bool,
    /// The number of inferences so far.
    frame: u64,
    result: Option<Readback>,
}

impl Demo {
    fn new(context: &eframe::CreationContext<'_>) -> Result<Self> {
        let state = context.wgpu_render_state.as_ref().ok_or("eframe runs without wgpu")?;
        let gpu = Gpu::from_device(&state.adapter, state.device.clone(), state.queue.clone());
        let session = Session::for_pictures(&gpu, &demo::segmenter()?, [SIDE, SIDE], Options::default())?;
        let picture = texture(&gpu, Usage::TEXTURE_BINDING | Usage::COPY_DST);
        let mask = texture(&gpu, Usage::TEXTURE_BINDING | Usage::STORAGE_BINDING);
        // egui blends premultiplied sRGB values. The background is transparent.
        let mut colours = palette().map(|[r, g, b]| [r, g, b, 150]);
        colours[0] = [0; 4];
        let mut demo = Self {
            ring: session.ring(2)?,
            source: session.source(&picture, SourceOptions::default())?,
            painting: session.painting(&mask, &premultiply(&colours))?,
            shown: [&picture, &mask].map(|texture| register(state, texture)),
            gpu,
            session,
            picture,
            scene: 11,
            masked: true,
            frame: 0,
            result: None,
        };
        demo.segment()?;
        Ok(demo)
    }

    /// Draws the chosen scene, none of which the network was trained on, and submits an inference of it.
    fn segment(&mut self) -> Result<()> {
        let scene = Scene::new(demo::HELD_OUT + self.scene).draw(SIDE, SIDE)?.picture;
        let texels: Vec<u8> = scene.pixels().chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
        let row = wgpu::TexelCopyBufferLayout { bytes_per_row: Some(4 * SIDE as u32), ..Default::default() };
        self.gpu.queue().write_texture(self.picture.as_image_copy(), &texels, row, self.picture.size());
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.session.encode(&mut encoder, &self.source)?;
        self.session.encode_painting(&mut encoder, &self.painting)?;
        self.frame += 1;
        self.session.read_back(&mut encoder, &mut self.ring, self.frame)?;
        self.gpu.queue().submit([encoder.finish()]);
        Ok(())
    }

    /// Describes the newest result.
    fn describe(&mut self) -> Result<String> {
        self.result = self.ring.poll()?.or(self.result.take());
        let Some(result) = &self.result else { return Ok("...".into()) };
        let classes = self.session.segmentation_of(&result.outputs, result.picture)?;
        let names = self.session.labels().cloned().unwrap_or_default();
        let line = |area: goldcrest::tasks::ClassArea| {
            format!("{:5.1} %  {}", 100.0 * area.share, area.label.unwrap_or_default())
        };
        let time =
            result.device_time.map(|time| format!("{:.1} ms on the device\n", 1e3 * time.as_secs_f64()));
        let lines: Vec<String> = classes.areas(&names).into_iter().take(6).map(line).collect();
        Ok(time.unwrap_or_default() + &lines.join("\n"))
    }
}

impl eframe::App for Demo {
    fn ui(&mut self, ui: &mut egui::Ui, _: &mut eframe::Frame) {
        egui::Panel::left("settings").show(ui, |ui| {
            let changed = ui.add(egui::Slider::new(&mut self.scene, 0..=200).text("scene")).changed();
            ui.checkbox(&mut self.masked, "mask");
            let text = if changed { self.segment() } else { Ok(()) }.and_then(|()| self.describe());
            ui.monospace(text.unwrap_or_else(|error| error.to_string()));
        });
        egui::CentralPanel::default().show(ui, |ui| {
            let side = ui.available_size().min_elem();
            let area = egui::Rect::from_center_size(
                ui.available_rect_before_wrap().center(),
                egui::Vec2::splat(side),
            );
            for texture in &self.shown[..1 + usize::from(self.masked)] {
                egui::Image::new((*texture, area.size())).paint_at(ui, area);
            }
        });
        // Until the result of the latest scene has arrived.
        if self.result.as_ref().is_none_or(|result| result.frame != self.frame) {
            ui.ctx().request_repaint();
        }
    }
}

fn texture(gpu: &Gpu, usage: Usage) -> wgpu::Texture {
    gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: Some("scene"),
        size: wgpu::Extent3d { width: SIDE as u32, height: SIDE as u32, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: Rgba8Unorm,
        usage,
        view_formats: &[],
    })
}

fn register(state: &RenderState, texture: &wgpu::Texture) -> egui::TextureId {
    let view = texture.create_view(&Default::default());
    state.renderer.write().register_native_texture(&state.device, &view, wgpu::FilterMode::Linear)
}
