//! Readback of outputs, some frames later.

use super::Session;
use crate::{
    Error, Result, Tensor,
    gpu::Ring,
    tasks::{self, Class, Detection, Segmentation},
    zoo::Task,
};

impl Session {
    /// Creates a ring of `length` buffers for the readback of outputs some frames later. Two or three
    /// suffice: one per frame in flight.
    ///
    /// # Errors
    /// [`Error::Input`] on the CPU, [`Error::Memory`] if device memory ran out.
    pub fn ring(&self, length: usize) -> Result<Ring> {
        self.on_gpu()?.1.ring(length)
    }

    /// Records the readback through `ring` of the outputs recorded last, as those of `frame`; [`Ring::poll`]
    /// returns them. Returns false if all buffers of the ring are in flight: the outputs then stay on the
    /// device.
    ///
    /// # Errors
    /// [`Error::Input`] if the ring is another session's.
    pub fn read_back(&self, encoder: &mut wgpu::CommandEncoder, ring: &mut Ring, frame: u64) -> Result<bool> {
        self.on_gpu()?.1.read_back(encoder, ring, frame)
    }

    /// Converts outputs that were read back to the `top` most likely classes.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and classifies; [`Error::Output`] if a
    /// logit is not finite.
    pub fn classes_of(&self, outputs: &[Tensor], top: usize) -> Result<Vec<Class>> {
        let [scores] = outputs else { return Err(foreign_outputs()) };
        let picture_setup = self.picture_setup_for(|task| matches!(task, Task::Classify))?;
        tasks::top(scores.data(), top, &picture_setup.labels, picture_setup.scores)
    }

    /// Converts outputs that were read back to the picture's embedding vector.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and embeds; [`Error::Output`] if a value is not
    /// finite.
    pub fn embedding_of(&self, outputs: &[Tensor]) -> Result<Vec<f32>> {
        let [vector] = outputs else { return Err(foreign_outputs()) };
        self.picture_setup_for(|task| matches!(task, Task::Embed))?;
        match vector.data().iter().position(|value| !value.is_finite()) {
            None => Ok(vector.data().to_vec()),
            Some(at) => Err(Error::Output(format!("value {at} of the vector is {}", vector.data()[at]))),
        }
    }

    /// Converts outputs that were read back to the class of each pixel.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and segments; [`Error::Output`] if a
    /// score is not finite.
    pub fn segmentation_of(&self, outputs: &[Tensor]) -> Result<Segmentation> {
        let [labels] = outputs else { return Err(foreign_outputs()) };
        self.picture_setup_for(|task| matches!(task, Task::Segment { .. }))?;
        tasks::segmentation(labels)
    }

    /// Converts outputs that were read back to detections, in pixels of the picture size that the session was
    /// built for.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and detects; [`Error::Output`] if a box
    /// is not finite.
    pub fn detections_of(&self, outputs: &[Tensor]) -> Result<Vec<Detection>> {
        let size = self.picture_setup()?.size;
        self.detections_in(outputs, size)
    }
}

fn foreign_outputs() -> Error {
    Error::Input("these are not outputs of this session".into())
}
