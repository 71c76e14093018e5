//! Answers that stay on the device: buffers, and what is drawn from them.

use super::Session;
use crate::{
    Error, Result,
    gpu::{Boxes, Painting},
    kernels::{
        mask, paint, rank,
        suppress::{self, Suppression},
    },
    plan::{Output, Value},
    tensor::Form,
    zoo::Task,
};

/// A part of the answer on the device, until the session runs again.
#[derive(Debug, Clone, Copy)]
pub struct OnDevice<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its dimensions.
    pub dims: &'a [usize],
    /// The buffer, from whose beginning it lies: usable as storage, and to copy from.
    pub buffer: &'a wgpu::Buffer,
    /// Its shape, and how it lies there.
    pub value: Value,
}

impl Session {
    /// Where the parts of the latest answer are on the device.
    ///
    /// A label map is a byte a pixel, its rows filled up to whole words; everything else is NHWC with
    /// channels padded to a multiple of four, in the session's [element](Self::element), scores and boxes
    /// of what detects always in f32.
    ///
    /// # Errors
    /// [`Error::Input`] on the CPU.
    pub fn on_device(&self) -> Result<Vec<OnDevice<'_>>> {
        let (plan, executor) = self.on_gpu()?;
        let parts = plan.outputs.iter().map(|Output { name, value, dims }| OnDevice {
            name,
            dims,
            buffer: executor.slot(*value),
            value: *value,
        });
        Ok(parts.collect())
    }

    /// Makes what paints the label map on a texture of `rgba8unorm`, of any size, each class in its
    /// colour and opacity. Once for a texture: every frame it is then only [recorded](Self::encode_painting).
    ///
    /// # Errors
    /// [`Error::Input`] unless the session gives labels on a GPU, or if the texture cannot be stored to; as
    /// [`Session::source`] of the device.
    pub fn painting(&self, texture: &wgpu::Texture, colours: &[[u8; 4]; 256]) -> Result<Painting> {
        pollster::block_on(self.painting_async(texture, colours))
    }

    /// [`Session::painting`] for where nothing may block.
    ///
    /// # Errors
    /// As [`Session::painting`].
    pub async fn painting_async(
        &self,
        texture: &wgpu::Texture,
        colours: &[[u8; 4]; 256],
    ) -> Result<Painting> {
        let labels = self.label_map()?;
        let launch = paint::launch(labels.shape, size(texture));
        self.on_gpu()?.1.painting(labels, texture, colours, &launch).await
    }

    /// Makes what puts the label map on a texture of `r8uint` or `r8unorm`, of any size: a texel is the
    /// class of the pixel under its centre, in `r8unorm` as so many 255ths. Once for a texture: every frame
    /// it is then only [recorded](Self::encode_painting).
    ///
    /// # Errors
    /// [`Error::Input`] unless the session gives labels on a GPU, or if the texture cannot be copied to; as
    /// [`Session::source`] of the device.
    pub fn mask(&self, texture: &wgpu::Texture) -> Result<Painting> {
        pollster::block_on(self.mask_async(texture))
    }

    /// [`Session::mask`] for where nothing may block.
    ///
    /// # Errors
    /// As [`Session::mask`].
    pub async fn mask_async(&self, texture: &wgpu::Texture) -> Result<Painting> {
        let labels = self.label_map()?;
        let launch = mask::launch(labels.shape, size(texture));
        self.on_gpu()?.1.mask(labels, texture, &launch).await
    }

    fn label_map(&self) -> Result<Value> {
        let mut values = self.on_gpu()?.0.outputs.iter().map(|output| output.value);
        let labels = values.find(|value| value.form == Form::Labels);
        labels.ok_or_else(|| Error::Input("the session gives no labels".into()))
    }

    /// Records that the label map of what was last recorded is painted.
    ///
    /// # Errors
    /// As [`Session::encode`].
    pub fn encode_painting(&self, encoder: &mut wgpu::CommandEncoder, painting: &Painting) -> Result<()> {
        self.on_gpu()?.1.record_painting(encoder, painting)
    }

    /// Makes what leaves the boxes that are surer than `least` on the device, each an instance of so many
    /// vertices: suppressed and in the order of [`Session::detections_of`], in shares of what the source
    /// shows. Overlaps within rounding of the limit may fall on its other side; a box or a score that is
    /// not finite is left out. Once: every frame it is then only [recorded](Self::encode_boxes).
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and detects on a GPU, and if a class has
    /// more candidates than [`suppress::MOST`]; as [`Session::source`] of the device.
    pub fn boxes(&self, least: f32, vertices: u32) -> Result<Boxes> {
        pollster::block_on(self.boxes_async(least, vertices))
    }

    /// [`Session::boxes`] for where nothing may block.
    ///
    /// # Errors
    /// As [`Session::boxes`].
    pub async fn boxes_async(&self, least: f32, vertices: u32) -> Result<Boxes> {
        let (plan, executor) = self.on_gpu()?;
        let reading = self.reading_for(|task| matches!(task, Task::Detect(_)))?;
        let (Task::Detect(detector), [candidates, boxes]) = (reading.task, &plan.outputs[..]) else {
            return Err(Error::Input("the session gives no boxes".into()));
        };
        let [candidates, boxes] = [candidates.value, boxes.value];
        let slots = 2 * candidates.shape.w;
        if slots > suppress::MOST {
            return Err(Error::Input(format!("{slots} candidates of a class, at most {}", suppress::MOST)));
        }
        let most = detector.keep.min(slots * candidates.shape.h);
        let suppression = Suppression { least, overlap: detector.overlap, most };
        let suppress = suppress::launch(candidates.shape, boxes.shape.w, suppression);
        let rank = rank::launch(candidates.shape, [self.input.h, self.input.w], most, vertices);
        executor.boxes([candidates, boxes], [&suppress, &rank], most).await
    }

    /// Records that the boxes of what was last recorded are found.
    ///
    /// # Errors
    /// As [`Session::encode`].
    pub fn encode_boxes(&self, encoder: &mut wgpu::CommandEncoder, boxes: &Boxes) -> Result<()> {
        self.on_gpu()?.1.record_boxes(encoder, boxes)
    }
}

/// Rows and columns.
fn size(texture: &wgpu::Texture) -> [usize; 2] {
    [texture.height() as usize, texture.width() as usize]
}
