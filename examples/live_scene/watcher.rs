//! A network that processes every frame for which the device has time.

use std::time::Duration;

use anyhow::Result;
use goldcrest::{
    Options, Session,
    gpu::{Boxes, Gpu, Painting, Readback, Ring, Source},
    session::{Building, Precision, SourceOptions},
    tasks::palette,
    wgpu,
    zoo::{Network, Task},
};

use super::screen::VERTICES;

/// The time per frame for building a session.
const BUDGET: Duration = Duration::from_millis(3);

/// The most results in flight.
const IN_FLIGHT: usize = 3;

/// A network, its session once that is built, and its latest result as text.
pub struct Watcher {
    name: &'static str,
    network: Network,
    building: Option<Building>,
    looking: Option<Looking>,
    /// True if the network runs.
    pub on: bool,
    status: String,
}

struct Looking {
    session: Session,
    source: Source,
    ring: Ring,
    /// The part of its result that is drawn without leaving the device.
    drawn: Drawn,
}

enum Drawn {
    Mask(Painting),
    Boxes(Boxes),
    Nothing,
}

impl Watcher {
    /// Creates a watcher and starts to build its session.
    pub fn new(
        name: &'static str,
        network: Network,
        gpu: &Gpu,
        side: u32,
        precision: Precision,
    ) -> Result<Self> {
        let mut watcher =
            Self { name, network, building: None, looking: None, on: true, status: String::new() };
        watcher.build(gpu, side, precision)?;
        Ok(watcher)
    }

    /// Starts to build another session; the current one runs until then.
    pub fn build(&mut self, gpu: &Gpu, side: u32, precision: Precision) -> Result<()> {
        let options = Options { precision, ..Options::default() };
        self.building = Some(Session::building(gpu, &self.network, [side as usize; 2], options)?);
        Ok(())
    }

    /// Continues to build, if a session is being built. Then records an inference on the frame, if there is
    /// room in the ring. A mask is painted in the same frame.
    pub fn look(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        frame: &wgpu::Texture,
        mask: &wgpu::Texture,
        number: u64,
    ) -> Result<()> {
        if let Some(building) = &mut self.building {
            let [done, of] = building.progress();
            self.status = format!("building: {done} of {of} pipelines");
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

    /// Takes the newest result, if one was read back.
    pub fn poll(&mut self, number: u64) -> Result<()> {
        let Some(looking) = &mut self.looking else { return Ok(()) };
        if let Some(answer) = looking.ring.poll()? {
            let took = match answer.device_time {
                Some(took) => format!("{:5.1} ms", 1e3 * took.as_secs_f64()),
                None => "no clock".into(),
            };
            let late = number - answer.frame;
            let words = looking.words(&answer)?;
            self.status = format!("{took}, {late} frames late, {} dropped: {words}", looking.ring.dropped());
        }
        Ok(())
    }

    /// The boxes, if it is a detector and runs.
    pub fn boxes(&self) -> Option<&Boxes> {
        match &self.looking.as_ref()?.drawn {
            Drawn::Boxes(boxes) if self.on => Some(boxes),
            _ => None,
        }
    }

    /// Results that are not read back yet.
    pub fn in_flight(&self) -> usize {
        self.looking.as_ref().map_or(0, |looking| looking.ring.in_flight())
    }

    /// The name and the status, in one line.
    pub fn line(&self) -> String {
        let status = if self.on || self.building.is_some() { &self.status } else { "off" };
        format!("{:12} {status}", self.name)
    }
}

impl Looking {
    fn new(
        session: Session,
        network: &Network,
        frame: &wgpu::Texture,
        mask: &wgpu::Texture,
    ) -> goldcrest::Result<Self> {
        let source = session.source(frame, SourceOptions::default())?;
        let ring = session.ring(IN_FLIGHT)?;
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

    /// A summary of a result.
    fn words(&self, result: &Readback) -> goldcrest::Result<String> {
        let unnamed = || "?".to_owned();
        let words: Vec<String> = match &self.drawn {
            Drawn::Nothing => {
                let classes = self.session.classes_of(&result.outputs, 1)?.into_iter();
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
                let found = self.session.detections_of(&result.outputs, result.picture)?;
                let found = found.into_iter().filter(|found| found.score > 0.5);
                found.map(|found| found.label.unwrap_or_else(unnamed)).collect()
            }
            Drawn::Mask(_) => {
                let names = self.session.labels().cloned().unwrap_or_default();
                let labels = self.session.segmentation_of(&result.outputs, result.picture)?;
                let areas = labels.areas(&names).into_iter();
                areas
                    .filter(|area| area.index > 0 && area.share > 0.005)
                    .map(|area| format!("{} {:.0}%", area.label.unwrap_or_else(unnamed), 100.0 * area.share))
                    .collect()
            }
        };
        Ok(words.join(", "))
    }
}

/// The classes' colours, half transparent; the background is fully transparent.
fn colours() -> [[u8; 4]; 256] {
    let mut colours = palette().map(|[r, g, b]| [r, g, b, 140]);
    colours[0] = [0; 4];
    colours
}
