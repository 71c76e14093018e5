//! Readback of outputs, a few frames later.

use super::{
    super::pictures::{is_classify, is_embed, is_segment},
    Session,
};
use crate::{
    Error, Result, Tensor,
    gpu::Ring,
    tasks::{self, Class, Detection, Segmentation},
    zoo::Task,
};

impl Session {
    /// Creates a ring of `length` buffers for the readback of outputs a few frames later. Two or three are
    /// enough: one per frame in flight.
    ///
    /// # Errors
    /// [`Error::Input`] on the CPU or if `length` is zero, [`Error::Memory`] if the device is out of memory.
    pub fn ring(&self, length: usize) -> Result<Ring> {
        self.on_gpu()?.1.ring(length)
    }

    /// Records the readback of the outputs recorded last into a buffer of `ring`; [`Ring::poll`] returns them
    /// later, with the number `frame`. Returns false if all buffers of the ring are in flight: the outputs are
    /// then not read back.
    ///
    /// # Errors
    /// [`Error::Input`] if the ring is another session's.
    pub fn read_back(&self, encoder: &mut wgpu::CommandEncoder, ring: &mut Ring, frame: u64) -> Result<bool> {
        self.on_gpu()?.1.read_back(encoder, ring, frame)
    }

    /// Returns the `top` most likely classes, from outputs that were read back.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and classifies, or if the outputs are those
    /// of several pictures; [`Error::Output`] if a logit is not finite.
    pub fn classes_of(&self, outputs: &[Tensor], top: usize) -> Result<Vec<Class>> {
        let [scores] = of_one_picture(outputs)? else { return Err(foreign_outputs()) };
        let picture_setup = self.picture_setup_for(is_classify)?;
        tasks::top(scores.data(), top, &picture_setup.labels, picture_setup.scores)
    }

    /// Returns the picture's embedding vector, from outputs that were read back.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and embeds, or if the outputs are those of
    /// several pictures; [`Error::Output`] if a value is not finite.
    pub fn embedding_of(&self, outputs: &[Tensor]) -> Result<Vec<f32>> {
        let [vector] = of_one_picture(outputs)? else { return Err(foreign_outputs()) };
        self.picture_setup_for(is_embed)?;
        match vector.data().iter().position(|value| !value.is_finite()) {
            None => Ok(vector.data().to_vec()),
            Some(at) => Err(Error::Output(format!("value {at} of the vector is {}", vector.data()[at]))),
        }
    }

    /// Returns the class of each pixel, from outputs that were read back. `picture` is the picture's
    /// `[rows, columns]`: pass [`Readback::picture`](crate::gpu::Readback::picture). It may differ from the
    /// size that the session was built for.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and segments; [`Error::Output`] if a
    /// score is not finite.
    pub fn segmentation_of(&self, outputs: &[Tensor], picture: [usize; 2]) -> Result<Segmentation> {
        let [labels] = outputs else { return Err(foreign_outputs()) };
        self.picture_setup_for(is_segment)?;
        let [rows, columns] = picture;
        let labels = tasks::segmentation(labels)?;
        if [labels.height(), labels.width()] == picture { Ok(labels) } else { labels.resized(columns, rows) }
    }

    /// Returns the detections, in pixels of the picture, from outputs that were read back. `picture` is the
    /// picture's `[rows, columns]`: pass [`Readback::picture`](crate::gpu::Readback::picture).
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and detects, or if the outputs are those of
    /// several pictures; [`Error::Output`] if a box is not finite.
    pub fn detections_of(&self, outputs: &[Tensor], picture: [usize; 2]) -> Result<Vec<Detection>> {
        let picture_setup = self.picture_setup()?;
        let ([candidates, boxes], Task::Detect(detector)) = (of_one_picture(outputs)?, picture_setup.task)
        else {
            return Err(self.wrong_task());
        };
        let (x, y) = (picture[1] as f32 / self.input.w as f32, picture[0] as f32 / self.input.h as f32);
        let found = tasks::decode_boxes(candidates, boxes, &detector)?;
        let found = found.into_iter().flatten().map(|candidate| {
            let detection = candidate.named(&picture_setup.labels);
            Detection { bounds: detection.bounds.scaled(x, y), ..detection }
        });
        Ok(found.collect())
    }
}

/// Refuses the outputs of a batch, whose pictures would be mixed.
fn of_one_picture(outputs: &[Tensor]) -> Result<&[Tensor]> {
    match outputs.iter().filter_map(|output| output.dims().first()).find(|pictures| **pictures != 1) {
        None => Ok(outputs),
        Some(pictures) => {
            Err(Error::Input(format!("these are outputs of {pictures} pictures, expected one's")))
        }
    }
}

fn foreign_outputs() -> Error {
    Error::Input("these are not outputs of this session".into())
}
