//! Outputs that stay on the device: their buffers, and drawing from them.

use super::{super::pictures::is_detect, Session};
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

/// An output on the device, valid until the session runs again.
#[derive(Debug, Clone, Copy)]
pub struct OnDevice<'a> {
    /// The output's name.
    pub name: &'a str,
    /// The output's dimensions, as in [`Session::outputs`].
    pub dims: &'a [usize],
    /// The buffer that holds it from offset 0; it can be bound as storage and copied from.
    pub buffer: &'a wgpu::Buffer,
    /// The output's shape and memory layout.
    pub value: Value,
}

impl Session {
    /// Returns the outputs of the latest inference on the device.
    ///
    /// A label map has one byte per pixel, with rows padded to whole 32-bit words. Everything else is NHWC
    /// with channels padded to a multiple of four, in the session's [element type](Self::element); a detector's
    /// scores and boxes are always f32. A feature map or an embedding of an int8 network has one byte per value:
    /// [`OnDevice::value`] has its form.
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

    /// Creates a painting that draws the label map on an `rgba8unorm` texture of any size, each class in its
    /// entry of `colours`: red, green, blue and opacity, stored as given. Create it once per texture; each frame
    /// only [records](Self::encode_painting) it.
    ///
    /// What to store depends on how the renderer reads and blends the texture. For sRGB-encoded `colours`:
    ///
    /// | the renderer | straight alpha | premultiplied alpha |
    /// |---|---|---|
    /// | blends sRGB-encoded values, as most user interfaces do | `colours` | [`premultiply`](crate::tasks::premultiply) |
    /// | reads a view of `Rgba8UnormSrgb`, and blends in linear space | `colours` | [`premultiply_srgb`](crate::tasks::premultiply_srgb) |
    /// | treats stored values as linear | [`to_linear`](crate::tasks::to_linear) | `premultiply` of `to_linear` |
    ///
    /// To read a view of `Rgba8UnormSrgb`, create the texture with that format among its `view_formats`, and
    /// the view with that format and `TextureUsages::TEXTURE_BINDING`: sRGB formats cannot be storage
    /// textures.
    ///
    /// ```no_run
    /// # fn program(session: &goldcrest::Session, mask: &wgpu::Texture) -> goldcrest::Result<()> {
    /// use goldcrest::tasks::{palette, premultiply};
    ///
    /// // Half transparent, and the background not drawn at all.
    /// let mut colours = palette().map(|[r, g, b]| [r, g, b, 128]);
    /// colours[0] = [0; 4];
    /// let painting = session.painting(mask, &premultiply(&colours))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`] unless the session outputs labels on a GPU, or if the texture is not a storage
    /// texture of `rgba8unorm`; device errors as [`Session::source`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn painting(&self, texture: &wgpu::Texture, colours: &[[u8; 4]; 256]) -> Result<Painting> {
        pollster::block_on(self.painting_async(texture, colours))
    }

    /// [`Session::painting`] for callers that must not block.
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

    /// Creates a painting that copies the label map to an `r8uint` or `r8unorm` texture of any size. Each
    /// texel is the class of the pixel under its centre; in `r8unorm` the class is divided by 255. Create it
    /// once per texture; each frame only [records](Self::encode_painting) it.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session outputs labels on a GPU, or if the texture cannot be copied to;
    /// device errors as [`Session::source`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn mask(&self, texture: &wgpu::Texture) -> Result<Painting> {
        pollster::block_on(self.mask_async(texture))
    }

    /// [`Session::mask`] for callers that must not block.
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
        labels.ok_or_else(|| Error::Input("the session does not output labels".into()))
    }

    /// Records the painting of the label map of the inference recorded last.
    ///
    /// # Errors
    /// As [`Session::encode`].
    pub fn encode_painting(&self, encoder: &mut wgpu::CommandEncoder, painting: &Painting) -> Result<()> {
        self.on_gpu()?.1.record_painting(encoder, painting)
    }

    /// Creates non-maximum suppression on the device. Its results stay there for instanced drawing: one
    /// instance of `vertices` vertices per box with a score of at least `min_score`, in the order of
    /// [`Session::detections_of`], with coordinates as fractions of the source's picture. Device and CPU may
    /// differ for two boxes whose overlap is within rounding of the detector's `iou_threshold`. Boxes and
    /// scores that are not finite are left out. Create it once; each frame only [records](Self::encode_boxes)
    /// it.
    ///
    /// ```no_run
    /// # use goldcrest::{Session, gpu::Boxes, kernels::rank::BoxInstance};
    /// # fn program(
    /// #     session: &Session, source: &goldcrest::gpu::Source, encoder: &mut wgpu::CommandEncoder,
    /// #     pass: &mut wgpu::RenderPass<'_>,
    /// # ) -> goldcrest::Result<()> {
    /// let boxes = session.boxes(0.5, 5)?; // scores of at least 0.5, each box as a line strip of five vertices
    ///
    /// // For the pipeline: one instance per box.
    /// let attributes = Boxes::attributes(0);
    /// let layout = wgpu::VertexBufferLayout {
    ///     array_stride: size_of::<BoxInstance>() as u64,
    ///     step_mode: wgpu::VertexStepMode::Instance,
    ///     attributes: &attributes,
    /// };
    ///
    /// // In every frame:
    /// session.encode(encoder, source)?;
    /// session.encode_boxes(encoder, &boxes)?;
    /// pass.set_vertex_buffer(0, boxes.instances().slice(..));
    /// pass.draw_indirect(boxes.draw(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The vertex shader for it:
    ///
    /// ```wgsl
    /// @vertex
    /// fn corner(
    ///     @builtin(vertex_index) index: u32,
    ///     @location(0) bounds: vec4<f32>, // left, top, right, bottom, 0 to 1
    ///     @location(1) score: f32,
    ///     @location(2) class: u32,
    /// ) -> @builtin(position) vec4<f32> {
    ///     let right = index == 1u || index == 2u;
    ///     let bottom = index == 2u || index == 3u;
    ///     let at = vec2(select(bounds.x, bounds.z, right), select(bounds.y, bounds.w, bottom));
    ///     return vec4(2.0 * at.x - 1.0, 1.0 - 2.0 * at.y, 0.0, 1.0);
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built for pictures and detects on a GPU, or if a class has
    /// more candidates than [`suppress::MOST`]; device errors as [`Session::source`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn boxes(&self, min_score: f32, vertices: u32) -> Result<Boxes> {
        pollster::block_on(self.boxes_async(min_score, vertices))
    }

    /// [`Session::boxes`] for callers that must not block.
    ///
    /// # Errors
    /// As [`Session::boxes`].
    pub async fn boxes_async(&self, min_score: f32, vertices: u32) -> Result<Boxes> {
        let (plan, executor) = self.on_gpu()?;
        let picture_setup = self.picture_setup_for(is_detect)?;
        let (Task::Detect(detector), [candidates, boxes]) = (picture_setup.task, &plan.outputs[..]) else {
            return Err(Error::Input("the session does not output boxes".into()));
        };
        let [candidates, boxes] = [candidates.value, boxes.value];
        let slots = 2 * candidates.shape.w;
        if slots > suppress::MOST {
            return Err(Error::Input(format!("{slots} candidates per class, at most {}", suppress::MOST)));
        }
        let most = detector.max_boxes.min(slots * candidates.shape.h);
        let suppression = Suppression { min_score, overlap: detector.iou_threshold, most };
        let suppress = suppress::launch(candidates.shape, boxes.shape.w, suppression);
        let rank = rank::launch(candidates.shape, [self.input.h, self.input.w], most, vertices);
        executor.boxes([candidates, boxes], [&suppress, &rank], most).await
    }

    /// Records the suppression of the boxes of the inference recorded last.
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
