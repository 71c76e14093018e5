//! Asynchronous readback: results arrive a few frames later, without blocking.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{Ordering::Acquire, fence},
    },
    time::Duration,
};

use super::{
    Executor, Gpu,
    executor::{Flag, read_outputs},
    profile::Clock,
    transfer::buffer,
};
use crate::{Error, Result, Tensor, plan::Value};

/// A ring of staging buffers, each of which reads back the outputs of one frame once the device has
/// finished them. [`Session::ring`](crate::Session::ring) creates one.
///
/// ```no_run
/// # fn program(
/// #     gpu: &goldcrest::gpu::Gpu, session: &goldcrest::Session, source: &goldcrest::gpu::Source,
/// # ) -> goldcrest::Result<()> {
/// let mut ring = session.ring(3)?;
/// for frame in 0..600 {
///     let mut encoder = gpu.device().create_command_encoder(&Default::default());
///     if ring.has_room() {
///         session.encode(&mut encoder, source)?;
///         session.read_back(&mut encoder, &mut ring, frame)?;
///     }
///     gpu.queue().submit([encoder.finish()]);
///     if let Some(result) = ring.poll()? {
///         let classes = session.classes_of(&result.outputs, 5)?;
///         println!("frame {}: {:?}", result.frame, classes[0].label);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Ring {
    gpu: Gpu,
    outputs: Vec<Value>,
    flag: Flag,
    owner: Arc<()>,
    /// The byte offset of the timestamps in the staging buffers, if there are any.
    timed: Option<u64>,
    slots: Vec<Slot>,
    /// The frame of the latest result taken.
    taken: Option<u64>,
    dropped: u64,
}

/// The outputs of a frame, read back.
#[derive(Debug, Clone)]
pub struct Readback {
    /// The frame's number, as given to [`Session::read_back`](crate::Session::read_back).
    pub frame: u64,
    /// The outputs.
    pub outputs: Vec<Tensor>,
    /// Rows and columns of the source's picture; of the input, if the latest inference had no source.
    pub picture: [usize; 2],
    /// The time on the device from the start of the recorded inference to its end, if the program enabled
    /// `TIMESTAMP_QUERY`. If the inference is recorded in parts, it includes
    /// the program's work between them.
    pub device_time: Option<Duration>,
}

struct Slot {
    staging: wgpu::Buffer,
    flight: Option<Flight>,
}

impl Slot {
    fn free(&self) -> bool {
        self.flight.as_ref().is_none_or(Flight::abandoned)
    }
}

/// A readback in flight.
struct Flight {
    frame: u64,
    picture: [usize; 2],
    /// The outcome of mapping the buffer, once known. The encoder holds the other reference.
    mapped: Arc<OnceLock<Result<(), wgpu::BufferAsyncError>>>,
}

impl Flight {
    /// True if the encoder was dropped without being submitted.
    fn abandoned(&self) -> bool {
        // In this order: another thread may be setting the outcome, and drops its reference after that.
        let alone = Arc::strong_count(&self.mapped) == 1;
        fence(Acquire);
        alone && self.mapped.get().is_none()
    }
}

// Timestamps are aligned to eight bytes.
const _: () = assert!(Flag::BYTES + 7 + Clock::BYTES <= crate::plan::READBACK_EXTRA);

impl Ring {
    fn new(executor: &Executor, length: usize) -> Result<Self> {
        if length == 0 {
            return Err(Error::Input("a ring needs at least one buffer".into()));
        }
        use wgpu::BufferUsages as Usage;
        let gpu = executor.gpu.clone();
        let output_bytes = executor.output_bytes();
        // Timestamps are aligned to eight bytes.
        let flagged = (output_bytes + Flag::BYTES).next_multiple_of(8);
        let timed = executor.recording_clock()?.map(|_| flagged);
        let size = timed.map_or(flagged, |at| at + Clock::BYTES);
        let slot = |_| {
            let usage = Usage::MAP_READ | Usage::COPY_DST;
            let staging = gpu.guarded_now("the readback ring", || buffer(&gpu, "readback", size, usage))?;
            Ok(Slot { staging, flight: None })
        };
        let slots = (0..length).map(slot).collect::<Result<_>>()?;
        let (outputs, owner) = (executor.outputs.clone(), executor.identity.clone());
        let flag = executor.flag.clone();
        Ok(Self { gpu, outputs, flag, owner, timed, slots, taken: None, dropped: 0 })
    }

    /// The number of results dropped: newer ones had arrived, all buffers were in use, or the encoder was
    /// never submitted.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The number of results that are in flight or not taken yet.
    pub fn in_flight(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.free()).count()
    }

    /// Returns whether a buffer is free. Record an inference only if one is, so that its result can be
    /// read back.
    pub fn has_room(&self) -> bool {
        self.slots.iter().any(Slot::free)
    }

    /// Takes the newest result that has arrived since the last call, if any, and drops older ones. Call
    /// it in every frame: it polls the device without waiting.
    ///
    /// # Errors
    /// [`Error::Overflow`] if a value overflowed, so that the result is invalid: the next one may be valid
    /// again. [`Error::Lost`] if the device was lost.
    pub fn poll(&mut self) -> Result<Option<Readback>> {
        // This does not wait, so that other users of the device are not affected.
        self.gpu.device.poll(wgpu::PollType::Poll).map_err(|e| self.gpu.unusable(&e))?;
        let mut newest: Option<(u64, [usize; 2], usize)> = None;
        for (i, slot) in self.slots.iter_mut().enumerate() {
            let Some(flight) = &slot.flight else { continue };
            if flight.abandoned() {
                slot.flight = None;
                self.dropped += 1;
                continue;
            }
            match flight.mapped.get() {
                None => {}
                Some(Err(_)) => return Err(self.gpu.lost()),
                Some(Ok(())) if newest.is_none_or(|(frame, ..)| flight.frame > frame) => {
                    newest = Some((flight.frame, flight.picture, i));
                }
                Some(Ok(())) => {}
            }
        }
        let Some((frame, picture, at)) = newest else { return Ok(None) };
        let readback = self.read(frame, picture, &self.slots[at].staging);
        for slot in &mut self.slots {
            if let Some(flight) = slot.flight.take_if(|flight| flight.mapped.get().is_some()) {
                slot.staging.unmap();
                self.dropped += u64::from(flight.frame != frame);
            }
        }
        // A frame submitted out of order is older than the latest one taken.
        if self.taken.is_some_and(|taken| frame <= taken) {
            self.dropped += 1;
            return Ok(None);
        }
        self.taken = Some(frame);
        readback.map(Some)
    }

    /// Reads the result from a mapped staging buffer.
    fn read(&self, frame: u64, picture: [usize; 2], staging: &wgpu::Buffer) -> Result<Readback> {
        let view = staging.get_mapped_range(..).map_err(|e| self.gpu.unusable(&e))?;
        let outputs = read_outputs(&view, &self.outputs, &self.flag)?;
        let device_time = self.timed.map(|at| Clock::between(&self.gpu, &view[at as usize..]));
        Ok(Readback { frame, outputs, picture, device_time })
    }
}

impl Executor {
    /// Creates a ring of `length` buffers: two or three are enough for the usual number of frames in flight.
    ///
    /// # Errors
    /// [`Error::Input`] if `length` is zero, [`Error::Memory`] if the device has no memory left.
    pub fn ring(&self, length: usize) -> Result<Ring> {
        Ring::new(self, length)
    }

    /// Records the readback of the latest inference's outputs into a buffer of `ring`; [`Ring::poll`] returns
    /// them with the number `frame`. Returns false if all buffers are in flight: the outputs are then not read
    /// back.
    ///
    /// # Errors
    /// [`Error::Input`] if the ring belongs to another executor.
    pub fn read_back(&self, encoder: &mut wgpu::CommandEncoder, ring: &mut Ring, frame: u64) -> Result<bool> {
        if !Arc::ptr_eq(&self.identity, &ring.owner) {
            return Err(Error::Input("the ring belongs to another session".into()));
        }
        let picture = self.recorded.load();
        let Some(slot) = ring.slots.iter_mut().find(|slot| slot.free()) else {
            ring.dropped += 1;
            return Ok(false);
        };
        ring.dropped += u64::from(slot.flight.is_some());
        self.copy_outputs(encoder, &slot.staging);
        if let (Some(clock), Some(at)) = (self.recording_clock()?, ring.timed) {
            clock.copy(encoder, &slot.staging, at);
        }
        let mapped = Arc::new(OnceLock::new());
        let outcome_cell = mapped.clone();
        encoder.map_buffer_on_submit(&slot.staging, wgpu::MapMode::Read, .., move |outcome| {
            let _ = outcome_cell.set(outcome);
        });
        slot.flight = Some(Flight { frame, picture, mapped });
        Ok(true)
    }
}
