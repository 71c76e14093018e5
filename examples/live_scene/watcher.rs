//! A network that looks at every frame that it has time for.

use std::time::Duration;

use anyhow::Result;
use goldcrest::{
    Options, Session,
    gpu::{Boxes, Gpu, Painting, Ring, Source},
    session::{Building, Framing, Precision},
    tasks::palette,
    wgpu,
    zoo::{Network, Task},
};

use super::screen::VERTICES;

/// How much of a frame building may take.
const BUDGET: Duration = Duration::from_millis(3);

/// Answers that may be on their way.
const PLACES: usize = 3;

/// A network, its session once that is built, and what it said last.
pub struct Watcher {
    name: &'static str,
    network: Network,
    building: Option<Building>,
    looking: Option<Looking>,
    /// Whether it is wanted.
    pub on: bool,
    said: String,
}

struct Looking {
    session: Session,
    source: Source,
    ring: Ring,
    /// What is drawn of its answer without leaving the device.
    drawn: Drawn,
}

enum Drawn {
    Mask(Painting),
    Boxes(Boxes),
    Nothing,
}

impl Watcher {
    /// That begins to be built.
    pub fn new(
        name: &'static str,
        network: Network,
        gpu: &Gpu,
        side: u32,
        precision: Precision,
    ) -> Result<Self> {
        let mut watcher =
            Self { name, network, building: None, looking: None, on: true, said: String::new() };
        watcher.build(gpu, side, precision)?;
        Ok(watcher)
    }

    /// Builds another session; the one that there is looks on until then.
    pub fn build(&mut self, gpu: &Gpu, side: u32, precision: Precision) -> Result<()> {
        let options = Options { precision, ..Options::default() };
        self.building = Some(Session::building(gpu, &self.network, [side as usize; 2], options)?);
        Ok(())
    }

    /// Goes on building, if it does, and records that it looks at the frame, unless it still has
    /// enough to do. Its mask is painted in the same frame.
    pub fn look(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        frame: &wgpu::Texture,
        mask: &wgpu::Texture,
        number: u64,
    ) -> Result<()> {
        if let Some(building) = &mut self.building {
            let [done, of] = building.progress();
            self.said = format!("is built: {done} of {of} pipelines");
            if let Some(session) = building.advance(BUDGET)? {
                self.building = None;
                self.looking = Some(Looking::new(session, &self.network, frame, mask)?);
            }
        }
        match &mut self.looking {
            Some(looking) if self.on => looking.record(encoder, number),
            _ => Ok(()),
        }
    }

    /// Hears what has come back, if anything has.
    pub fn hear(&mut self, number: u64) -> Result<()> {
        let Some(looking) = &mut self.looking else { return Ok(()) };
        if let Some(answer) = looking.ring.poll()? {
            let took = match answer.took {
                Some(took) => format!("{:5.1} ms", 1e3 * took.as_secs_f64()),
                None => "no clock".into(),
            };
            let late = number - answer.frame;
            let words = looking.words(&answer.parts)?;
            self.said = format!("{took}, {late} frames late, {} dropped: {words}", looking.ring.dropped());
        }
        Ok(())
    }

    /// The boxes, if it finds any.
    pub fn boxes(&self) -> Option<&Boxes> {
        match &self.looking.as_ref()?.drawn {
            Drawn::Boxes(boxes) if self.on => Some(boxes),
            _ => None,
        }
    }

    /// Answers that have not come back yet.
    pub fn under_way(&self) -> usize {
        self.looking.as_ref().map_or(0, |looking| looking.ring.under_way())
    }

    /// Itself in a line.
    pub fn line(&self) -> String {
        let said = if self.on || self.building.is_some() { &self.said } else { "is off" };
        format!("{:12} {said}", self.name)
    }
}

impl Looking {
    fn new(
        session: Session,
        network: &Network,
        frame: &wgpu::Texture,
        mask: &wgpu::Texture,
    ) -> goldcrest::Result<Self> {
        let source = session.source(frame, Framing::default())?;
        let ring = session.ring(PLACES)?;
        let drawn = match network.task {
            Task::Segment { .. } => Drawn::Mask(session.painting(mask, &colours())?),
            Task::Detect(_) => Drawn::Boxes(session.boxes(0.5, VERTICES)?),
            _ => Drawn::Nothing,
        };
        Ok(Self { session, source, ring, drawn })
    }

    fn record(&mut self, encoder: &mut wgpu::CommandEncoder, number: u64) -> Result<()> {
        if !self.ring.has_room() {
            return Ok(());
        }
        self.session.encode(encoder, &self.source)?;
        match &self.drawn {
            Drawn::Mask(painting) => self.session.encode_painting(encoder, painting)?,
            Drawn::Boxes(boxes) => self.session.encode_boxes(encoder, boxes)?,
            Drawn::Nothing => {}
        }
        self.session.read_back(encoder, &mut self.ring, number)?;
        Ok(())
    }

    /// What an answer says, in short.
    fn words(&self, parts: &[goldcrest::Tensor]) -> goldcrest::Result<String> {
        let unnamed = || "?".to_owned();
        let words: Vec<String> = match &self.drawn {
            Drawn::Nothing => {
                let classes = self.session.classes_of(parts, 1)?.into_iter();
                classes
                    .map(|c| {
                        format!(
                            "{} {:.0}%",
                            c.label.unwrap_or_else(unnamed),
                            100.0 * c.probability.unwrap_or_default()
                        )
                    })
                    .collect()
            }
            Drawn::Boxes(_) => {
                let found = self.session.detections_of(parts)?.into_iter().filter(|found| found.score > 0.5);
                found.map(|found| found.label.unwrap_or_else(unnamed)).collect()
            }
            Drawn::Mask(_) => {
                let names = self.session.labels().cloned().unwrap_or_default();
                let shares = self.session.segmentation_of(parts)?.shares(&names).into_iter();
                shares
                    .filter(|share| share.index > 0 && share.share > 0.005)
                    .map(|s| format!("{} {:.0}%", s.label.unwrap_or_else(unnamed), 100.0 * s.share))
                    .collect()
            }
        };
        Ok(words.join(", "))
    }
}

/// Each class in its colour, half transparent; the background not at all.
fn colours() -> [[u8; 4]; 256] {
    let mut colours = palette().map(|[r, g, b]| [r, g, b, 140]);
    colours[0] = [0; 4];
    colours
}
