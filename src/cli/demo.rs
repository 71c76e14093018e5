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
    target::Target,
};

/// The scene of those who ask for none.
const SEED: u64 = 1_000_000_034;

/// Pixels of a scene's side.
const SIDE: usize = 384;

/// The least score of a box that is shown.
const SCORE: f32 = 0.5;

/// The drawing of those who name no file.
const DRAWING: &str = "goldcrest-demo.png";

const NEXT: &str = "
next: goldcrest demo --seed 1    another scene
      goldcrest classify PHOTO --model timm/mobilenetv3_large_100.ra_in1k
                                 a photograph, by a network of the Hugging Face hub
      goldcrest bench            how long networks take on this machine
      goldcrest --help           everything else
";

#[derive(Args)]
pub struct Demo {
    /// Which scene: each number is another
    #[arg(long, default_value_t = SEED)]
    seed: u64,

    /// The PNG file to write, the scene under its classes' colours and boxes [default:
    /// goldcrest-demo.png, if it can be written]
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().try_map(common::png_name))]
    out: Option<PathBuf>,

    #[command(flatten)]
    engine: Engine,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a network said, and how long that took.
struct Answer<T> {
    network: Network,
    said: T,
    time: Duration,
}

impl Demo {
    pub fn run(&self) -> Result<String> {
        let path = self.out.as_deref().unwrap_or(Path::new(DRAWING));
        let target = match (Target::new(path), &self.out) {
            (Err(error), Some(_)) => return Err(error.context(path.display().to_string())),
            // Nobody asked for a file: then none is written.
            (target, _) => target,
        };
        let device = self.engine.open()?;
        let drawing = Scene::new(self.seed).draw(SIDE, SIDE)?;
        let picture = &drawing.picture;

        let begun = Instant::now();
        let class =
            self.ask(&device, demo::classifier()?, picture, |session| session.classify(picture, 3))?;
        let mut boxes = self.ask(&device, demo::detector()?, picture, |session| session.detect(picture))?;
        let areas = self.ask(&device, demo::segmenter()?, picture, |session| session.segment(picture))?;
        let time = begun.elapsed();
        boxes.said.retain(|detection| detection.score >= SCORE);
        let labels = Labels::of(&areas.network);
        let shares = areas.said.shares(&labels);
        let written = match target {
            Ok(target) => {
                let drawn = draw(&overlay(picture, &areas.said, &labels)?, &boxes.said);
                target.write(&drawn.png()?).with_context(|| path.display().to_string())?;
                Ok(path)
            }
            Err(error) => Err(error),
        };

        if self.json {
            return json(&json!({
                "seed": self.seed,
                "subject": drawing.subject.name(),
                "adapter": common::device(&device),
                "classify": class.json("classes", &class.said),
                "detect": boxes.json("detections", &boxes.said),
                "segment": areas.json("classes", &shares),
                "overlay": written.ok().map(|path| path.display().to_string()),
                "wall_ms": 1e3 * time.as_secs_f64(),
            }));
        }
        let mut text = format!(
            "A scene of shapes, drawn for the occasion; its subject is a {}.\n",
            drawing.subject.name()
        );
        writeln!(text, "\nclassified in {}", milliseconds(class.time))?;
        for class in &class.said {
            let name = class.label.as_deref().unwrap_or_default();
            writeln!(text, "  {:5.1}%  {name}", 100.0 * class.probability.unwrap_or_default())?;
        }
        writeln!(text, "detected in {}", milliseconds(boxes.time))?;
        for found in &boxes.said {
            writeln!(text, "  {}", common::detection(found))?;
        }
        writeln!(text, "segmented in {}", milliseconds(areas.time))?;
        // Less than is shown would be shown as nothing.
        for share in shares.iter().filter(|share| share.share >= 0.0005) {
            let name = share.label.as_deref().unwrap_or_default();
            writeln!(text, "  {:5.1}%  {name}", 100.0 * share.share)?;
        }
        match written {
            Ok(path) => writeln!(text, "\ndrawn in {}", common::file(path))?,
            Err(error) => writeln!(text, "\nnot drawn: {}: {error}", common::file(path))?,
        }
        writeln!(text, "on {device}, {} in all, no file and no network needed", milliseconds(time))?;
        Ok(text + NEXT)
    }

    /// What a network says of the picture.
    fn ask<T>(
        &self,
        device: &Device,
        network: Network,
        picture: &Picture,
        question: impl FnOnce(&mut Session) -> goldcrest::Result<T>,
    ) -> Result<Answer<T>> {
        let options = self.engine.options();
        let mut session = session_for_pictures(device, &network, (Path::new("the scene"), picture), options)?;
        let begun = Instant::now();
        let said = question(&mut session)?;
        Ok(Answer { network, said, time: begun.elapsed() })
    }
}

impl<T> Answer<T> {
    fn json(&self, key: &str, said: impl serde::Serialize) -> Value {
        json!({ "network": self.network.arch, key: said, "wall_ms": 1e3 * self.time.as_secs_f64() })
    }
}
