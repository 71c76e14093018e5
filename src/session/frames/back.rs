//! Answers that come back some frames later.

use super::Session;
use crate::{
    Error, Result, Tensor,
    gpu::Ring,
    tasks::{self, Class, Detection, Segmentation},
    zoo::Task,
};

impl Session {
    /// A ring through which answers come back some frames later: two or three places are as many as
    /// there are frames in flight.
    ///
    /// # Errors
    /// [`Error::Input`] on the CPU, [`Error::Memory`] if it ran out.
    pub fn ring(&self, places: usize) -> Result<Ring> {
        self.on_gpu()?.1.ring(places)
    }

    /// Records that the answer of what was last recorded comes back through `ring`, as that of `frame`:
    /// [`Ring::poll`] gives it. False if all of the ring is still in flight: then it stays on the device.
    ///
    /// # Errors
    /// [`Error::Input`] if the ring is another session's.
    pub fn read_back(&self, encoder: &mut wgpu::CommandEncoder, ring: &mut Ring, frame: u64) -> Result<bool> {
        self.on_gpu()?.1.read_back(encoder, ring, frame)
    }

    /// The `top` likeliest classes, of an answer that came back.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and classifies; [`Error::Output`] if a
    /// logit is not finite.
    pub fn classes_of(&self, answers: &[Tensor], top: usize) -> Result<Vec<Class>> {
        let [scores] = answers else { return Err(odd()) };
        let reading = self.reading_for(|task| matches!(task, Task::Classify))?;
        tasks::top(scores.data(), top, &reading.labels, reading.scores)
    }

    /// The vector of a picture, of an answer that came back.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and embeds; [`Error::Output`] if a value is not
    /// finite.
    pub fn embedding_of(&self, answers: &[Tensor]) -> Result<Vec<f32>> {
        let [vector] = answers else { return Err(odd()) };
        self.reading_for(|task| matches!(task, Task::Embed))?;
        match vector.data().iter().position(|value| !value.is_finite()) {
            None => Ok(vector.data().to_vec()),
            Some(at) => Err(Error::Output(format!("value {at} of the vector is {}", vector.data()[at]))),
        }
    }

    /// The class of each pixel, of an answer that came back.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and segments; [`Error::Output`] if a
    /// score is not finite.
    pub fn segmentation_of(&self, answers: &[Tensor]) -> Result<Segmentation> {
        let [labels] = answers else { return Err(odd()) };
        self.reading_for(|task| matches!(task, Task::Segment { .. }))?;
        tasks::segmentation(labels)
    }

    /// What is where, in pixels of the size that the session was built for, of an answer that came back.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and detects; [`Error::Output`] if a box
    /// is not finite.
    pub fn detections_of(&self, answers: &[Tensor]) -> Result<Vec<Detection>> {
        let size = self.reading()?.size;
        self.found(answers, size)
    }
}

fn odd() -> Error {
    Error::Input("these are no answers of this session".into())
}
