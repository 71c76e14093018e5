//! Answers that come back some frames later, without anyone waiting.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{Ordering::Acquire, fence},
    },
    time::Duration,
};

use super::{
    Executor, Gpu,
    executor::{Flag, answers_in},
    profile::Clock,
    transfer::buffer,
};
use crate::{Error, Result, Tensor, plan::Value};

/// A ring of staging buffers: each takes a frame's answer, and gives it back once the device has
/// come so far.
pub struct Ring {
    gpu: Gpu,
    outputs: Vec<Value>,
    flag: Flag,
    owner: Arc<()>,
    /// Where timestamps are in the staging buffers, if anywhere.
    timed: Option<u64>,
    places: Vec<Place>,
    /// The frame of the latest answer that was taken.
    taken: Option<u64>,
    dropped: u64,
}

/// An answer that came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The frame that it is of.
    pub frame: u64,
    /// Its parts.
    pub parts: Vec<Tensor>,
    /// How long the device took from the beginning of what was recorded to its end, by its own clock,
    /// if it has one that the program asked for (`TIMESTAMP_QUERY`). What lay between the parts of an
    /// inference counts.
    pub took: Option<Duration>,
}

struct Place {
    staging: wgpu::Buffer,
    flight: Option<Flight>,
}

impl Place {
    fn free(&self) -> bool {
        self.flight.as_ref().is_none_or(Flight::abandoned)
    }
}

/// An answer on its way.
struct Flight {
    frame: u64,
    /// Whether the buffer could be mapped, once it is known. The encoder holds the other reference.
    mapped: Arc<OnceLock<Result<(), wgpu::BufferAsyncError>>>,
}

impl Flight {
    /// True if the encoder that was to bring it was thrown away.
    fn abandoned(&self) -> bool {
        // In this order: another thread may be telling it right now, and lets go of it after that.
        let alone = Arc::strong_count(&self.mapped) == 1;
        fence(Acquire);
        alone && self.mapped.get().is_none()
    }
}

impl Ring {
    fn new(executor: &Executor, length: usize) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        let gpu = executor.gpu.clone();
        let answer = executor.answer_bytes();
        // Timestamps are words of eight bytes.
        let flagged = (answer + Flag::BYTES).next_multiple_of(8);
        let timed = executor.recording_clock()?.map(|_| flagged);
        let size = timed.map_or(flagged, |at| at + Clock::BYTES);
        let place = |_| {
            let usage = Usage::MAP_READ | Usage::COPY_DST;
            let staging = gpu.guarded_now("a ring of answers", || buffer(&gpu, "answer", size, usage))?;
            Ok(Place { staging, flight: None })
        };
        let places = (0..length.max(1)).map(place).collect::<Result<_>>()?;
        let (outputs, owner) = (executor.outputs.clone(), executor.identity.clone());
        let flag = executor.flag.clone();
        Ok(Self { gpu, outputs, flag, owner, timed, places, taken: None, dropped: 0 })
    }

    /// Answers that were not taken: later ones had come by then, or all places were in use.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Answers that have not come yet, or not been taken.
    pub fn under_way(&self) -> usize {
        self.places.iter().filter(|place| !place.free()).count()
    }

    /// Whether a place is free. A program that records an inference only then never gives the device
    /// more of them than it can do.
    pub fn has_room(&self) -> bool {
        self.places.iter().any(Place::free)
    }

    /// Takes the newest answer that has come, if any has since the last call. Older ones are dropped. It
    /// never blocks: somebody has to submit or poll, as a renderer does every frame.
    ///
    /// # Errors
    /// [`Error::Overflow`] of an answer that means nothing, since a value overflowed on the way to it: the next may
    /// be right again. [`Error::Lost`] if the device was lost.
    pub fn poll(&mut self) -> Result<Option<Answer>> {
        // Where the device is shared, this only looks.
        self.gpu.device.poll(wgpu::PollType::Poll).map_err(|e| self.gpu.unusable(&e))?;
        let mut newest: Option<(u64, usize)> = None;
        for (i, place) in self.places.iter_mut().enumerate() {
            let Some(flight) = &place.flight else { continue };
            if flight.abandoned() {
                place.flight = None;
                self.dropped += 1;
                continue;
            }
            match flight.mapped.get() {
                None => {}
                Some(Err(_)) => return Err(self.gpu.lost()),
                Some(Ok(())) if newest.is_none_or(|(frame, _)| flight.frame > frame) => {
                    newest = Some((flight.frame, i));
                }
                Some(Ok(())) => {}
            }
        }
        let Some((frame, at)) = newest else { return Ok(None) };
        let answer = self.read(frame, &self.places[at].staging);
        for place in &mut self.places {
            if let Some(flight) = place.flight.take_if(|flight| flight.mapped.get().is_some()) {
                place.staging.unmap();
                self.dropped += u64::from(flight.frame != frame);
            }
        }
        // One that was submitted out of its turn is older than what is known.
        if self.taken.is_some_and(|taken| frame <= taken) {
            self.dropped += 1;
            return Ok(None);
        }
        self.taken = Some(frame);
        answer.map(Some)
    }

    /// The answer in a staging buffer that is mapped.
    fn read(&self, frame: u64, staging: &wgpu::Buffer) -> Result<Answer> {
        let view = staging.get_mapped_range(..).map_err(|e| self.gpu.unusable(&e))?;
        let parts = answers_in(&view, &self.outputs, &self.flag)?;
        let took = self.timed.map(|at| Clock::between(&self.gpu, &view[at as usize..]));
        Ok(Answer { frame, parts, took })
    }
}

impl Executor {
    /// A ring of `length` answers: two or three are as many frames as are in flight.
    ///
    /// # Errors
    /// [`Error::Memory`] if it ran out.
    pub fn ring(&self, length: usize) -> Result<Ring> {
        Ring::new(self, length)
    }

    /// Records that the latest inference's answer is to come back through `ring`, as that of `frame`.
    /// False if every place of the ring is still in flight: the answer then stays on the device.
    ///
    /// # Errors
    /// [`Error::Input`] if the ring is another executor's.
    pub fn read_back(&self, encoder: &mut wgpu::CommandEncoder, ring: &mut Ring, frame: u64) -> Result<bool> {
        if !Arc::ptr_eq(&self.identity, &ring.owner) {
            return Err(Error::Input("the ring is another session's".into()));
        }
        let Some(place) = ring.places.iter_mut().find(|place| place.free()) else {
            ring.dropped += 1;
            return Ok(false);
        };
        ring.dropped += u64::from(place.flight.is_some());
        self.copy_answers(encoder, &place.staging);
        if let (Some(clock), Some(at)) = (self.recording_clock()?, ring.timed) {
            clock.copy(encoder, &place.staging, at);
        }
        let mapped = Arc::new(OnceLock::new());
        let heard = mapped.clone();
        encoder.map_buffer_on_submit(&place.staging, wgpu::MapMode::Read, .., move |outcome| {
            let _ = heard.set(outcome);
        });
        place.flight = Some(Flight { frame, mapped });
        Ok(true)
    }
}
