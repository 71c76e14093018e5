//! `goldcrest`, and `goldcrest demo` with options: the built-in networks on a scene.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use goldcrest::{
    demo::{self, Scene},
    session::{Device, Session},
    tasks::{Labels, Picture, draw, overlay},
    zoo::Network,
};
use serde_json::{Value, json};
use web_time::Instant;

use super::{
    common::{self, Engine, json, milliseconds, session_for_pictures},
    drawing,
    target::Target,
};

/// The default scene's seed.
const SEED: u64 = 1_000_000_034;

/// A scene's height and width, in pixels.
const SIDE: usize = 384;

/// Minimum score of the boxes to show.
const SCORE: f32 = 0.5;

/// The default output file.
const DRAWING: &str = "goldcrest-demo.png";

const NEXT: &str = "
next: goldcrest demo --seed 1    draw another scene
      goldcrest classify PHOTO --model timm/mobilenetv3_large_100.ra_in1k
                                 classify a photograph with a network of the Hugging Face hub
      goldcrest bench            measure how fast networks are on this machine
      goldcrest --help           list all commands
";

#[derive(Args)]
pub struct Demo {
    /// Seed of the scene
    #[arg(long, default_value_t = SEED)]
    seed: u64,

    /// PNG or JPEG file to write: the scene overlaid with class colours and boxes [default:
    /// goldcrest-demo.png, if it can be written]
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().try_map(drawing::name))]
    out: Option<PathBuf>,

    #[command(flatten)]
    engine: Engine,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A network's result, and the time it took.
struct Timed<T> {
    network: Network,
    result: T,
    time: Duration,
}

impl Demo {
    pub fn run(&self) -> Result<String> {
        let path = self.out.as_deref().unwrap_or(Path::new(DRAWING));
        let target = match (Target::new(path), &self.out) {
            (Err(error), Some(_)) => return Err(error.context(path.display().to_string())),
            // The default file is optional: it is skipped if it cannot be written.
            (target, _) => target,
        };
        let device = self.engine.open()?;
        let drawing = Scene::new(self.seed).draw(SIDE, SIDE)?;
        let picture = &drawing.picture;

        let begun = Instant::now();
        let class =
            self.timed(&device, demo::classifier()?, picture, |session| session.classify(picture, 3))?;
        let mut boxes = self.timed(&device, demo::detector()?, picture, |session| session.detect(picture))?;
        let areas = self.timed(&device, demo::segmenter()?, picture, |session| session.segment(picture))?;
        let time = begun.elapsed();
        boxes.result.retain(|detection| detection.score >= SCORE);
        let labels = Labels::of(&areas.network);
        let classes = areas.result.areas(&labels);
        let written = match target {
            Ok(target) => {
                let drawn = draw(&overlay(picture, &areas.result, &labels)?, &boxes.result);
                target.write(&drawing::encoded(&drawn, path)?).with_context(|| path.display().to_string())?;
                Ok(path)
            }
            Err(error) => Err(error),
        };

        if self.json {
            return json(&json!({
                "seed": self.seed,
                "subject": drawing.subject.name(),
                "adapter": common::device(&device),
                "classify": class.json("classes", &class.result),
                "detect": boxes.json("detections", &boxes.result),
                "segment": areas.json("classes", &classes),
                "overlay": written.ok().map(|path| path.display().to_string()),
                "wall_ms": 1e3 * time.as_secs_f64(),
            }));
        }
        let mut text = format!("A synthetic scene of shapes; its subject is a {}.\n", drawing.subject.name());
        writeln!(text, "\nclassified in {}", milliseconds(class.time))?;
        for class in &class.result {
            let name = class.label.as_deref().unwrap_or_default();
            writeln!(text, "  {:5.1}%  {name}", 100.0 * class.probability.unwrap_or_default())?;
        }
        writeln!(text, "detected in {}", milliseconds(boxes.time))?;
        for found in &boxes.result {
            writeln!(text, "  {}", common::detection(found))?;
        }
        writeln!(text, "segmented in {}", milliseconds(areas.time))?;
        // Smaller shares would be shown as 0.0%.
        for area in classes.iter().filter(|area| area.share >= 0.0005) {
            let name = area.label.as_deref().unwrap_or_default();
            writeln!(text, "  {:5.1}%  {name}", 100.0 * area.share)?;
        }
        match written {
            Ok(path) => writeln!(text, "\nwritten to {}", common::file(path))?,
            Err(error) => writeln!(text, "\nnot written: {}: {error}", common::file(path))?,
        }
        writeln!(text, "on {device}, {} in total, without any files or downloads", milliseconds(time))?;
        Ok(text + NEXT)
    }

    /// Runs a network on the picture.
    fn timed<T>(
        &self,
        device: &Device,
        network: Network,
        picture: &Picture,
        run: impl FnOnce(&mut Session) -> goldcrest::Result<T>,
    ) -> Result<Timed<T>> {
        let options = self.engine.options();
        let mut session = session_for_pictures(device, &network, (Path::new("the scene"), picture), options)?;
        let begun = Instant::now();
        let result = run(&mut session)?;
        Ok(Timed { network, result, time: begun.elapsed() })
    }
}

impl<T> Timed<T> {
    fn json(&self, key: &str, result: impl serde::Serialize) -> Value {
        json!({ "network": self.network.arch, key: result, "wall_ms": 1e3 * self.time.as_secs_f64() })
    }
}
