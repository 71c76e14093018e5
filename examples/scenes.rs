//! The demo's scenes, for people and for training.
//!
//!     scenes --out DIR             # PNG files: the picture, and its classes as a palette
//!     scenes --size 192 | train    # records on stdout until the reader goes away
//!
//! A record is what `scripts/train_demo.py` reads, in bytes: the picture (size x size x 3), the
//! class of each pixel (size x size), the subject's shape, the classes of five things (0: none), and
//! their boxes (5 x 4 f32, little endian: left, top, right, bottom in pixels).

use std::{
    io::{self, ErrorKind, Write},
    path::PathBuf,
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

    /// How many; with --out 16 if it is not said, else no end
    #[arg(long)]
    count: Option<u64>,

    /// Pixels of a side
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    size: u16,

    /// A folder for PNG files
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Scenes::parse();
    let size = usize::from(arguments.size);
    if let Some(folder) = &arguments.out {
        std::fs::create_dir_all(folder)?;
        for seed in (arguments.first..).take(arguments.count.unwrap_or(16) as usize) {
            let drawing = Scene::new(seed).draw(size, size)?;
            std::fs::write(folder.join(format!("{seed}.png")), drawing.picture.png()?)?;
            std::fs::write(folder.join(format!("{seed}-classes.png")), drawing.classes.png()?)?;
        }
        return Ok(());
    }
    let mut out = io::stdout().lock();
    let end = arguments.count.map_or(u64::MAX, |count| arguments.first.saturating_add(count));
    let mut next = arguments.first;
    while next < end {
        let several = next..end.min(next.saturating_add(256));
        next = several.end;
        let records = several.into_par_iter().map(|seed| Scene::new(seed).draw(size, size).map(record));
        for record in records.collect::<goldcrest::Result<Vec<_>>>()? {
            match out.write_all(&record) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
    Ok(())
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
