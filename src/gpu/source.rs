//! A program's own textures: pictures from them and label maps on them, recorded into its own encoder.

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
pub struct Source(Bound);

/// A texture that an executor puts its label map on.
pub struct Painting {
    bound: Bound,
    /// Where the bytes of a mask come from, which no kernel can store to a texture.
    copied: Option<(wgpu::Buffer, wgpu::Texture)>,
}

/// Dispatches over an executor's buffers and somebody's.
pub(super) struct Bound {
    dispatches: Vec<Dispatch>,
    owner: Arc<()>,
}

impl Executor {
    /// Makes what reads the input from this layer of a texture with `launch`, or from that of luma and
    /// chroma; a texture without chroma is given as both: see [`kernels::sample`](crate::kernels::sample).
    ///
    /// # Errors
    /// [`Error::Input`] if a texture cannot be read or has no such layer;
    /// [`Error::Memory`], [`Error::HostLimit`], [`Error::Lost`] and [`Error::Device`] if the device has no
    /// room for it, allows too little, is gone, or refuses it otherwise.
    pub async fn source(
        &self,
        [picture, chroma]: [&wgpu::Texture; 2],
        layer: u32,
        launch: &Launch,
    ) -> Result<Source> {
        use wgpu::{TextureAspect as Aspect, TextureUsages};
        let plane = |texture: &wgpu::Texture, plane| {
            if texture.format().is_multi_planar_format() { plane } else { Aspect::All }
        };
        let usage = TextureUsages::TEXTURE_BINDING;
        let luma = self.view(picture, usage, layer, plane(picture, Aspect::Plane0)).await?;
        let chroma = self.view(chroma, usage, layer, plane(chroma, Aspect::Plane1)).await?;
        // Made here, not within a frame.
        self.recording_clock()?;
        let input = &self.slots[self.input.slot.index()];
        self.bind([(launch, &[input])], &[&luma, &chroma]).await.map(Source)
    }

    /// Makes what paints the label map `labels` on `texture` with `launch`, in the colours of its
    /// classes: see [`kernels::paint`](crate::kernels::paint).
    ///
    /// # Errors
    /// [`Error::Input`] if the texture is not of `rgba8unorm` to be stored to; as
    /// [`Executor::source`] of the device.
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

    /// Makes what puts the label map `labels` on `texture` with `launch`, a byte a texel: see
    /// [`kernels::mask`](crate::kernels::mask).
    ///
    /// # Errors
    /// [`Error::Input`] if the texture is not of one byte a texel to be copied to; as
    /// [`Executor::source`] of the device.
    pub async fn mask(&self, labels: Value, texture: &wgpu::Texture, launch: &Launch) -> Result<Painting> {
        use wgpu::{BufferUsages, TextureFormat, TextureUsages};
        if !matches!(texture.format(), TextureFormat::R8Unorm | TextureFormat::R8Uint) {
            return Err(refused(format!("has the format {:?}, not R8Unorm or R8Uint", texture.format())));
        }
        flat(texture, TextureUsages::COPY_DST)?;
        let size = mask::row_bytes(texture.width() as usize) as u64 * u64::from(texture.height());
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let bytes = self.gpu.allocate("mask", size, usage).await?;
        let bound = self.bind([(launch, &[self.slot(labels), &bytes])], &[]).await?;
        Ok(Painting { bound, copied: Some((bytes, texture.clone())) })
    }

    async fn view(
        &self,
        texture: &wgpu::Texture,
        usage: wgpu::TextureUsages,
        layer: u32,
        aspect: wgpu::TextureAspect,
    ) -> Result<wgpu::TextureView> {
        flat(texture, usage)?;
        let layers = texture.depth_or_array_layers();
        if layer >= layers {
            return Err(refused(format!("has no layer {layer}, only {layers} from 0")));
        }
        if layers > 1 && self.gpu.info.backend == "gl" {
            // wgpu would bind the first of them, whichever was asked for.
            return Err(refused(
                "has layers, and GL has no view of one: copy it to a texture of its own".into(),
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

    /// Launches over buffers, what they read and then what they write, and textures.
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
            dispatches.push(dispatch.await?);
        }
        Ok(Bound { dispatches, owner: self.identity.clone() })
    }

    /// Records the steps of `range` of an inference of what `source` shows when its first runs: all of
    /// them in order make an inference, in as many encoders as one likes.
    ///
    /// # Errors
    /// [`Error::Input`] if the source is another executor's, or there are no such steps; [`Error::Device`] if
    /// an earlier run failed. That a program's own device was lost shows where answers come back.
    pub fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        source: &Source,
        range: Range<usize>,
    ) -> Result<()> {
        let steps = self
            .dispatches
            .get(range.clone())
            .ok_or_else(|| Error::Input("there are no such steps".into()))?;
        let first = self.own(&source.0)?;
        let first = if range.start == 0 { first } else { &[] };
        let [begins, ends] = [range.start == 0, range.end == self.dispatches.len()];
        if begins {
            self.flag.lower(encoder);
        }
        let pass = self.recording_clock()?.map(|clock| clock.pass(begins, ends)).unwrap_or_default();
        let mut pass = encoder.begin_compute_pass(&pass);
        first.iter().chain(steps).for_each(|dispatch| dispatch.record(&mut pass));
        Ok(())
    }

    /// Records that the label map of the latest inference is put on a texture.
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
        let dispatches = self.own(bound)?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        dispatches.iter().for_each(|dispatch| dispatch.record(&mut pass));
        Ok(())
    }

    fn own<'a>(&self, bound: &'a Bound) -> Result<&'a [Dispatch]> {
        if !Arc::ptr_eq(&self.identity, &bound.owner) {
            return Err(Error::Input("it was prepared for another session".into()));
        }
        self.ready()?;
        Ok(&bound.dispatches)
    }
}

/// Refuses a texture that a kernel or a copy cannot have.
fn flat(texture: &wgpu::Texture, usage: wgpu::TextureUsages) -> Result<()> {
    if !texture.usage().contains(usage) {
        return Err(refused(format!("was made without TextureUsages::{}", name(usage))));
    }
    if texture.dimension() != wgpu::TextureDimension::D2 || texture.sample_count() != 1 {
        return Err(refused("is not two-dimensional with one sample a texel".into()));
    }
    Ok(())
}

fn refused(reason: String) -> Error {
    Error::Input(format!("the texture {reason}"))
}

fn name(usage: wgpu::TextureUsages) -> String {
    usage.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(" | ")
}
