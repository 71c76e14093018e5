//! A Bevy program that classifies its camera's picture on Bevy's own device, frame by frame. No window.
//!
//!     cargo run --manifest-path examples/bevy/Cargo.toml
//!
//! Bevy 0.20 requires Rust 1.97; with `--ignore-rust-version`, 1.95 worked too.

use std::time::Duration;

use bevy::{
    app::ScheduleRunnerPlugin,
    asset::RenderAssetUsages,
    camera::RenderTarget,
    prelude::*,
    render::{
        Render, RenderApp, RenderSystems,
        extract_resource::{ExtractResource, ExtractResourcePlugin},
        render_asset::RenderAssets,
        render_resource::{Extent3d, TextureDimension, TextureFormat},
        renderer::{RenderAdapter, RenderDevice, RenderQueue},
        texture::GpuImage,
    },
    window::ExitCondition,
};
use goldcrest::{
    Options, Session, demo,
    gpu::{Gpu, Ring, Source},
    session::SourceOptions,
};

const SIDE: u32 = 384;

/// Results after which the program ends.
const RESULTS: usize = 30;

fn main() -> AppExit {
    let window = WindowPlugin { primary_window: None, exit_condition: ExitCondition::DontExit, ..default() };
    App::new()
        .add_plugins(DefaultPlugins.set(window))
        .add_plugins((ScheduleRunnerPlugin::run_loop(Duration::from_millis(16)), WatchPlugin))
        .add_systems(Startup, set_up)
        .add_systems(Update, turn)
        .run()
}

/// Spawns a scene of shapes, which `turn` rotates, and the camera that renders it.
fn set_up(mut commands: Commands, mut images: ResMut<Assets<Image>>) -> Result {
    let drawn = demo::Scene::new(7).draw(SIDE as usize, SIDE as usize)?;
    let texels = drawn.picture.pixels().as_chunks().0.iter().flat_map(|&[r, g, b]| [r, g, b, 255]);
    let size = Extent3d { width: SIDE, height: SIDE, depth_or_array_layers: 1 };
    let usage = RenderAssetUsages::RENDER_WORLD;
    let format = TextureFormat::Rgba8UnormSrgb;
    let scene = Image::new(size, TextureDimension::D2, texels.collect(), format, usage);
    let target = images.add(Image::new_target_texture(SIDE, SIDE, format, None));
    commands.spawn(Sprite::from_image(images.add(scene)));
    commands.spawn((Camera2d, RenderTarget::Image(target.clone().into())));
    commands.insert_resource(Watched(target));
    Ok(())
}

fn turn(time: Res<Time>, mut sprites: Query<&mut Transform, With<Sprite>>) {
    for mut sprite in &mut sprites {
        sprite.rotation = Quat::from_rotation_z(0.2 * time.elapsed_secs().sin());
    }
}

/// The image to classify.
#[derive(Resource, Clone, ExtractResource)]
#[extract_app(RenderApp)]
struct Watched(Handle<Image>);

/// Classifies the watched image after each frame.
struct WatchPlugin;

impl Plugin for WatchPlugin {
    fn build(&self, app: &mut App) {
        app.add_plugins(ExtractResourcePlugin::<Watched>::default());
        app.sub_app_mut(RenderApp).add_systems(Render, watch.in_set(RenderSystems::Cleanup));
    }
}

/// The network on Bevy's device.
struct Watcher {
    gpu: Gpu,
    session: Session,
    source: Source,
    ring: Ring,
    frame: u64,
    results: usize,
}

fn watch(
    mut watcher: Local<Option<Watcher>>,
    watched: Option<Res<Watched>>,
    images: Res<RenderAssets<GpuImage>>,
    adapter: Res<RenderAdapter>,
    device: Res<RenderDevice>,
    queue: Res<RenderQueue>,
) -> Result {
    let Some(image) = watched.and_then(|watched| images.get(&watched.0)) else { return Ok(()) };
    let watcher = match &mut *watcher {
        Some(watcher) => watcher,
        none => {
            // Built once, when the image exists. A larger network is better built over several frames, with
            // `Session::building`.
            let gpu = Gpu::from_device(&adapter, device.wgpu_device().clone(), (**queue).clone());
            let network = demo::classifier()?;
            let session = Session::for_pictures(&gpu, &network, [SIDE as usize; 2], Options::default())?;
            let source = session.source(&image.texture, SourceOptions::default())?;
            let ring = session.ring(3)?;
            none.insert(Watcher { gpu, session, source, ring, frame: 0, results: 0 })
        }
    };
    if watcher.ring.has_room() {
        let mut encoder = device.wgpu_device().create_command_encoder(&Default::default());
        watcher.session.encode(&mut encoder, &watcher.source)?;
        watcher.session.read_back(&mut encoder, &mut watcher.ring, watcher.frame)?;
        watcher.gpu.queue().submit([encoder.finish()]);
    }
    watcher.frame += 1;
    if let Some(answer) = watcher.ring.poll()? {
        let class = watcher.session.classes_of(&answer.outputs, 1)?.remove(0);
        let label = class.label.unwrap_or_default();
        println!(
            "frame {}: {label} {:.0}%, {:?}",
            answer.frame,
            100.0 * class.probability.unwrap_or_default(),
            answer.device_time
        );
        watcher.results += 1;
        if watcher.results == RESULTS {
            std::process::exit(0);
        }
    }
    Ok(())
}
