//! Writes the demo's scenes, as pictures or as training records.
//!
//!     scenes --out DIR             # PNG files: the picture, and its label map with a palette
//!     scenes --size 192 | train    # records on stdout until the reader closes the pipe
//!
//! `scripts/train_demo.py` reads the records. A record has, in bytes: the picture (size x size x 3), the
//! class of each pixel (size x size), the subject's class, the classes of five things (0: none), and
//! their boxes (5 x 4 f32, little endian: left, top, right, bottom in pixels).
//!
//! With `--hard` the subject is small, among clutter and noise. PNG files are then in one folder per class, as
//! `goldcrest search --pictures` reads them, and records end with the subject's class.

use std::{
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use clap::Parser;
use goldcrest::demo::{Drawing, MOST_THINGS, Scene};
use rayon::prelude::*;

/// The demo's scenes, as PNG files or as records for training.
#[derive(Parser)]
struct Scenes {
    /// The first scene's seed; the others follow
    #[arg(long, default_value_t = 0)]
    first: u64,

    /// The number of scenes; the default is 16 with --out, and unlimited otherwise
    #[arg(long)]
    count: Option<u64>,

    /// Width and height in pixels
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    size: u16,

    /// A folder for PNG files
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Draw small subjects among clutter and noise
    #[arg(long)]
    hard: bool,
}

impl Scenes {
    fn draw(&self, seed: u64) -> goldcrest::Result<Drawing> {
        let scene = if self.hard { Scene::hard(seed) } else { Scene::new(seed) };
        scene.draw(self.size.into(), self.size.into())
    }
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
        let record = |drawing| record(drawing, arguments.hard);
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
    let drawing = arguments.draw(seed)?;
    let folder = if arguments.hard { folder.join(drawing.subject.name()) } else { folder.into() };
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(format!("{seed}.png")), drawing.picture.png()?)?;
    if !arguments.hard {
        std::fs::write(folder.join(format!("{seed}-classes.png")), drawing.classes.png()?)?;
    }
    Ok(())
}

fn record(drawing: Drawing, hard: bool) -> Vec<u8> {
    let mut record = drawing.picture.into_pixels();
    record.extend(drawing.classes.labels());
    record.push(drawing.subject as u8);
    // Hard scenes have more things than a record has room for, and no detector is trained on them.
    if hard {
        return record;
    }
    let mut classes = [0; MOST_THINGS];
    let mut boxes = [[0.0f32; 4]; MOST_THINGS];
    for (i, seen) in drawing.seen.iter().enumerate() {
        let bounds = seen.bounds;
        classes[i] = seen.shape.class() as u8;
        boxes[i] = [bounds.left, bounds.top, bounds.right, bounds.bottom];
    }
    record.extend(classes);
    record.extend(boxes.as_flattened().iter().flat_map(|side| side.to_le_bytes()));
    record
}
