//! A program's own textures: pictures are read from them and label maps written to them, in the program's own
//! encoder.

use std::{ops::Range, sync::Arc};

use super::{
    Executor,
    executor::{Dispatch, params_buffer},
};
use crate::{
    Error, Result,
    kernels::{Launch, mask},
    plan::Value,
};

/// A texture that an executor reads its pictures from.
pub struct Source {
    bound: Bound,
    /// Rows and columns of the picture.
    picture: [usize; 2],
}

/// A texture that an executor writes its label map to.
pub struct Painting {
    bound: Bound,
    /// The buffer of a mask and the texture it is copied to: kernels cannot store single bytes to textures.
    copied: Option<(wgpu::Buffer, wgpu::Texture)>,
}

/// Dispatches, bound to an executor's buffers and to other buffers or textures.
pub(super) struct Bound {
    dispatches: Vec<Dispatch>,
    owner: Arc<()>,
}

impl Executor {
    /// Prepares reading a picture of `[rows, columns]` from this layer of a texture, or of a luma and a chroma
    /// texture, with `launch`. A texture without chroma is given twice: see [`kernels::sample`](crate::kernels::sample).
    ///
    /// # Errors
    /// [`Error::Input`] if a texture cannot be read or has no such layer;
    /// [`Error::Memory`], [`Error::DeviceLimit`], [`Error::Lost`] and [`Error::Device`] if the device has no
    /// memory left, has too low limits, is lost, or reports another error.
    pub async fn source(
        &self,
        [luma, chroma]: [&wgpu::Texture; 2],
        layer: u32,
        picture: [usize; 2],
        launch: &Launch,
    ) -> Result<Source> {
        use wgpu::{TextureAspect as Aspect, TextureUsages};
        let plane = |texture: &wgpu::Texture, plane| {
            if texture.format().is_multi_planar_format() { plane } else { Aspect::All }
        };
        let usage = TextureUsages::TEXTURE_BINDING;
        let luma = self.view(luma, usage, layer, plane(luma, Aspect::Plane0)).await?;
        let chroma = self.view(chroma, usage, layer, plane(chroma, Aspect::Plane1)).await?;
        // Created here, so that no frame has to.
        self.recording_clock()?;
        let input = &self.slots[self.input.slot.index()];
        let bound = self.bind([(launch, &[input])], &[&luma, &chroma]).await?;
        Ok(Source { bound, picture })
    }

    /// Prepares painting the label map `labels` on `texture` with `launch`, in the colours of its
    /// classes: see [`kernels::paint`](crate::kernels::paint).
    ///
    /// # Errors
    /// [`Error::Input`] if the texture is not a storage texture of `rgba8unorm`; the device's errors as
    /// for [`Executor::source`].
    pub async fn painting(
        &self,
        labels: Value,
        texture: &wgpu::Texture,
        colours: &[[u8; 4]; 256],
        launch: &Launch,
    ) -> Result<Painting> {
        if texture.format() != wgpu::TextureFormat::Rgba8Unorm {
            return Err(refused(format!("has the format {:?}, not Rgba8Unorm", texture.format())));
        }
        let storage = wgpu::BufferUsages::STORAGE;
        let colours = self.gpu.filled("colours", colours.as_flattened(), storage).await?;
        let reads = [self.slot(labels), &colours];
        let usage = wgpu::TextureUsages::STORAGE_BINDING;
        let view = self.view(texture, usage, 0, wgpu::TextureAspect::All).await?;
        let bound = self.bind([(launch, &reads)], &[&view]).await?;
        Ok(Painting { bound, copied: None })
    }

    /// Prepares writing the label map `labels` to `texture` with `launch`, one byte per texel: see
    /// [`kernels::mask`](crate::kernels::mask).
    ///
    /// # Errors
    /// [`Error::Input`] if the texture does not have one byte per texel or cannot be copied to; the
    /// device's errors as for [`Executor::source`].
    pub async fn mask(&self, labels: Value, texture: &wgpu::Texture, launch: &Launch) -> Result<Painting> {
        use wgpu::{BufferUsages, TextureFormat, TextureUsages};
        if !matches!(texture.format(), TextureFormat::R8Unorm | TextureFormat::R8Uint) {
            return Err(refused(format!("has the format {:?}, not R8Unorm or R8Uint", texture.format())));
        }
        check_texture(texture, TextureUsages::COPY_DST)?;
        self.check_device(texture).await?;
        let size = mask::row_bytes(texture.width() as usize) as u64 * u64::from(texture.height());
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let bytes = self.gpu.allocate("mask", size, usage).await?;
        let bound = self.bind([(launch, &[self.slot(labels), &bytes])], &[]).await?;
        Ok(Painting { bound, copied: Some((bytes, texture.clone())) })
    }

    /// Checks that a destination texture belongs to the executor's device, by recording an empty copy that is not
    /// submitted.
    async fn check_device(&self, texture: &wgpu::Texture) -> Result<()> {
        let source = wgpu::TexelCopyBufferInfo {
            buffer: &self.flag.buffer,
            layout: wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: None, rows_per_image: None },
        };
        let copy = || {
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_texture(
                source,
                texture.as_image_copy(),
                wgpu::Extent3d { width: 0, ..Default::default() },
            );
            encoder.finish();
        };
        self.gpu.guarded("the texture", copy).await.map_err(foreign_texture)
    }

    async fn view(
        &self,
        texture: &wgpu::Texture,
        usage: wgpu::TextureUsages,
        layer: u32,
        aspect: wgpu::TextureAspect,
    ) -> Result<wgpu::TextureView> {
        check_texture(texture, usage)?;
        let layers = texture.depth_or_array_layers();
        if layer >= layers {
            return Err(refused(format!("has no layer {layer}: it has {layers}, counted from 0")));
        }
        if layers > 1 && self.gpu.info.backend == "gl" {
            // wgpu would bind the first layer, whichever is requested.
            return Err(refused(
                "has several layers, and GL cannot view a single one: copy it to a separate texture".into(),
            ));
        }
        let descriptor = wgpu::TextureViewDescriptor {
            dimension: Some(wgpu::TextureViewDimension::D2),
            aspect,
            mip_level_count: Some(1),
            base_array_layer: layer,
            array_layer_count: Some(1),
            ..Default::default()
        };
        self.gpu.guarded("the texture", || texture.create_view(&descriptor)).await
    }

    /// Binds launches to buffers, inputs before outputs, and to textures.
    pub(super) async fn bind<const N: usize>(
        &self,
        launches: [(&Launch, &[&wgpu::Buffer]); N],
        textures: &[&wgpu::TextureView],
    ) -> Result<Bound> {
        let params = params_buffer(&self.gpu, launches.iter().map(|(launch, _)| *launch)).await?;
        let mut dispatches = Vec::with_capacity(N);
        for (i, (launch, buffers)) in launches.into_iter().enumerate() {
            let pipeline = self.gpu.pipeline(launch, self.element).await?;
            let dispatch = Dispatch::new(&self.gpu, launch, pipeline, (&params, i), buffers, textures);
            dispatches.push(dispatch.await.map_err(foreign_texture)?);
        }
        Ok(Bound { dispatches, owner: self.identity.clone() })
    }

    /// Records the steps of `range` of an inference. The first step reads the picture from `source` when it
    /// runs. All steps in order make one inference; they may be recorded in several encoders.
    ///
    /// # Errors
    /// [`Error::Input`] if the source belongs to another executor, or the plan does not have these steps;
    /// [`Error::Device`] if an earlier run failed. The loss of a program's own device shows at readback.
    pub fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        source: &Source,
        range: Range<usize>,
    ) -> Result<()> {
        let steps = self
            .dispatches
            .get(range.clone())
            .ok_or_else(|| Error::Input("the plan does not have these steps".into()))?;
        let first = self.dispatches_of(&source.bound)?;
        let first = if range.start == 0 { first } else { &[] };
        let [begins, ends] = [range.start == 0, range.end == self.dispatches.len()];
        if begins {
            self.flag.lower(encoder);
            self.recorded.store(source.picture);
        }
        let pass = self.recording_clock()?.map(|clock| clock.pass(begins, ends)).unwrap_or_default();
        let mut pass = encoder.begin_compute_pass(&pass);
        first.iter().chain(steps).for_each(|dispatch| dispatch.record(&mut pass));
        Ok(())
    }

    /// Records writing the label map of the latest inference to a texture.
    ///
    /// # Errors
    /// As [`Executor::record`].
    pub fn record_painting(&self, encoder: &mut wgpu::CommandEncoder, painting: &Painting) -> Result<()> {
        self.record_bound(encoder, &painting.bound)?;
        if let Some((bytes, texture)) = &painting.copied {
            let layout = wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(mask::row_bytes(texture.width() as usize) as u32),
                rows_per_image: None,
            };
            let bytes = wgpu::TexelCopyBufferInfo { buffer: bytes, layout };
            let size = wgpu::Extent3d { depth_or_array_layers: 1, ..texture.size() };
            encoder.copy_buffer_to_texture(bytes, texture.as_image_copy(), size);
        }
        Ok(())
    }

    pub(super) fn record_bound(&self, encoder: &mut wgpu::CommandEncoder, bound: &Bound) -> Result<()> {
        let dispatches = self.dispatches_of(bound)?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        dispatches.iter().for_each(|dispatch| dispatch.record(&mut pass));
        Ok(())
    }

    fn dispatches_of<'a>(&self, bound: &'a Bound) -> Result<&'a [Dispatch]> {
        if !Arc::ptr_eq(&self.identity, &bound.owner) {
            return Err(Error::Input("the source, painting or boxes belong to another session".into()));
        }
        self.ready()?;
        Ok(&bound.dispatches)
    }
}

/// Rejects a texture that kernels or copies cannot use.
fn check_texture(texture: &wgpu::Texture, usage: wgpu::TextureUsages) -> Result<()> {
    if !texture.usage().contains(usage) {
        return Err(refused(format!("was created without TextureUsages::{}", name(usage))));
    }
    if texture.dimension() != wgpu::TextureDimension::D2 || texture.sample_count() != 1 {
        return Err(refused("is not two-dimensional with one sample per texel".into()));
    }
    Ok(())
}

/// Names the cause of a device mismatch. Buffers are always the executor's own, so it must be a texture.
fn foreign_texture(error: Error) -> Error {
    match error {
        Error::Device(text)
            if text.contains("doesn't match Device") || text.contains("is associated with [Device") =>
        {
            refused("belongs to another device: create it on the session's device".into())
        }
        error => error,
    }
}

fn refused(reason: String) -> Error {
    Error::Input(format!("the texture {reason}"))
}

fn name(usage: wgpu::TextureUsages) -> String {
    usage.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(" | ")
}
