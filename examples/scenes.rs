//! The demo's scenes, for people and for training.
//!
//!     scenes --out DIR             # PNG files: the picture, and its classes as a palette
//!     scenes --size 192 | train    # records on stdout until the reader goes away
//!
//! A record is what `scripts/train_demo.py` reads, in bytes: the picture (size x size x 3), the
//! class of each pixel (size x size), the subject's class, the classes of five things (0: none), and
//! their boxes (5 x 4 f32, little endian: left, top, right, bottom in pixels).
//!
//! With `--hard` the subject is small, among clutter and noise, and its class says its coat too: one of
//! forty, such as "dotted heart". PNG files then lie in a folder for each class, as `goldcrest search --pictures`
//! reads them, and records end with the subject's class.

use std::{
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use clap::Parser;
use goldcrest::demo::{Drawing, MOST_THINGS, Pattern, Scene, Shape};
use rayon::prelude::*;

/// The demo's scenes, as PNG files or as records for training.
#[derive(Parser)]
struct Scenes {
    /// The first scene's seed; the others follow
    #[arg(long, default_value_t = 0)]
    first: u64,

    /// How many; with --out 16 if it is not said, else no end
    #[arg(long)]
    count: Option<u64>,

    /// Pixels of a side
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    size: u16,

    /// A folder for PNG files
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Small subjects among clutter and noise, of forty classes
    #[arg(long)]
    hard: bool,
}

/// Coats, in the order of the hard scenes' classes.
const COATS: [&str; 4] = ["even", "striped", "checked", "dotted"];

impl Scenes {
    fn draw(&self, seed: u64) -> goldcrest::Result<(Scene, Drawing)> {
        let scene = if self.hard { Scene::hard(seed) } else { Scene::new(seed) };
        let size = usize::from(self.size);
        let drawing = scene.draw(size, size)?;
        Ok((scene, drawing))
    }
}

/// The place of a hard scene's coat and shape in [`COATS`] and [`Shape::ALL`].
fn coat_and_shape(scene: &Scene) -> (usize, Shape) {
    let subject = &scene.things[scene.subject];
    let coat = match subject.paint.pattern {
        Pattern::Stripes => 1,
        Pattern::Checks => 2,
        Pattern::Dots => 3,
        Pattern::Plain | Pattern::Gradient | Pattern::Clouds => 0,
    };
    (coat, subject.shape)
}

fn main() -> anyhow::Result<()> {
    let arguments = Scenes::parse();
    if let Some(folder) = &arguments.out {
        let end = arguments.first.saturating_add(arguments.count.unwrap_or(16));
        return (arguments.first..end).into_par_iter().try_for_each(|seed| write(folder, &arguments, seed));
    }
    let mut out = io::stdout().lock();
    let end = arguments.count.map_or(u64::MAX, |count| arguments.first.saturating_add(count));
    let mut next = arguments.first;
    while next < end {
        let several = next..end.min(next.saturating_add(256));
        next = several.end;
        let record = |(scene, drawing)| if arguments.hard { hard(&scene, drawing) } else { record(drawing) };
        let records = several.into_par_iter().map(|seed| arguments.draw(seed).map(record));
        for record in records.collect::<goldcrest::Result<Vec<_>>>()? {
            match out.write_all(&record) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
    Ok(())
}

fn write(folder: &Path, arguments: &Scenes, seed: u64) -> anyhow::Result<()> {
    let (scene, drawing) = arguments.draw(seed)?;
    if arguments.hard {
        let (coat, shape) = coat_and_shape(&scene);
        let folder = folder.join(format!("{} {}", COATS[coat], shape.name()));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{seed}.png")), drawing.picture.png()?)?;
    } else {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{seed}.png")), drawing.picture.png()?)?;
        std::fs::write(folder.join(format!("{seed}-classes.png")), drawing.classes.png()?)?;
    }
    Ok(())
}

fn hard(scene: &Scene, drawing: Drawing) -> Vec<u8> {
    let (coat, shape) = coat_and_shape(scene);
    let mut record = drawing.picture.into_pixels();
    record.extend(drawing.classes.labels());
    record.push((coat * Shape::ALL.len() + shape as usize) as u8);
    record
}

fn record(drawing: Drawing) -> Vec<u8> {
    let mut classes = [0; MOST_THINGS];
    let mut boxes = [[0.0f32; 4]; MOST_THINGS];
    for (i, seen) in drawing.seen.iter().enumerate() {
        let bounds = seen.bounds;
        classes[i] = seen.shape.class() as u8;
        boxes[i] = [bounds.left, bounds.top, bounds.right, bounds.bottom];
    }
    let mut record = drawing.picture.into_pixels();
    record.extend(drawing.classes.labels());
    record.push(drawing.subject as u8);
    record.extend(classes);
    record.extend(boxes.as_flattened().iter().flat_map(|side| side.to_le_bytes()));
    record
}
