//! Pictures from a program's own textures, recorded into its own encoder.

use std::{ops::Range, sync::Arc};

use super::{
    Executor,
    executor::{Dispatch, params_binding, params_buffer},
    one_line,
    transfer::filled,
};
use crate::{Error, Result, kernels::Launch, plan::Value};

/// A texture that an executor reads its pictures from.
pub struct Source(Bound);

/// A texture that an executor paints its label map on.
pub struct Painting(Bound);

/// A dispatch over a texture and an executor's buffers.
struct Bound {
    dispatch: Dispatch,
    owner: Arc<()>,
}

impl Executor {
    /// Makes what reads the input from `texture` with `launch`: see
    /// [`kernels::sample`](crate::kernels::sample).
    ///
    /// # Errors
    /// [`Error::Input`] if the texture cannot be read or is smaller than the region;
    /// [`Error::Device`] if the device refuses it.
    pub async fn source(&self, texture: &wgpu::Texture, launch: &Launch) -> Result<Source> {
        let format = texture.format();
        let kind = format.sample_type(None, Some(self.gpu.device.features()));
        if !matches!(kind, Some(wgpu::TextureSampleType::Float { .. })) {
            return Err(refused(format!("has the format {format:?}, not colours")));
        }
        let input = &self.slots[self.input.slot.index()];
        self.bind(texture, wgpu::TextureUsages::TEXTURE_BINDING, launch, &[input]).await.map(Source)
    }

    /// Makes what paints the label map `labels` on `texture` with `launch`, in the colours of its
    /// classes: see [`kernels::paint`](crate::kernels::paint).
    ///
    /// # Errors
    /// [`Error::Input`] if the texture is not of `rgba8unorm` to be stored to; [`Error::Device`] if the
    /// device refuses it.
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
        let colours = filled(&self.gpu, "colours", colours.as_flattened());
        let reads = [self.slot(labels), &colours];
        self.bind(texture, wgpu::TextureUsages::STORAGE_BINDING, launch, &reads).await.map(Painting)
    }

    async fn bind(
        &self,
        texture: &wgpu::Texture,
        usage: wgpu::TextureUsages,
        launch: &Launch,
        buffers: &[&wgpu::Buffer],
    ) -> Result<Bound> {
        if !texture.usage().contains(usage) {
            return Err(refused(format!("was made without TextureUsages::{}", name(usage))));
        }
        if texture.dimension() != wgpu::TextureDimension::D2 || texture.sample_count() != 1 {
            return Err(refused("is not two-dimensional with one sample a texel".into()));
        }
        let validation = self.gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let view = texture.create_view(&wgpu::TextureViewDescriptor {
            dimension: Some(wgpu::TextureViewDimension::D2),
            mip_level_count: Some(1),
            array_layer_count: Some(1),
            ..Default::default()
        });
        let pipeline = self.gpu.pipeline(launch, self.element).await?;
        let params = params_buffer(&self.gpu, [launch]);
        let bindings = self.gpu.bind_group(&pipeline, params_binding(&params, 0, launch), buffers, &[&view]);
        if let Some(error) = validation.pop().await {
            return Err(Error::Device(one_line(&error)));
        }
        let dispatch = Dispatch { pipeline, bindings, workgroups: launch.workgroups };
        Ok(Bound { dispatch, owner: self.identity.clone() })
    }

    /// Records the steps of `range` of an inference of what `source` shows when its first runs: all of
    /// them in order make an inference, in as many encoders as one likes.
    ///
    /// # Errors
    /// [`Error::Input`] if the source is another executor's, or there are no such steps; [`Error::Lost`]
    /// and [`Error::Device`] if the device was lost, or an earlier run failed.
    pub fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        source: &Source,
        range: Range<usize>,
    ) -> Result<()> {
        let first = Some(self.own(&source.0)?).filter(|_| range.start == 0);
        let steps =
            self.dispatches.get(range).ok_or_else(|| Error::Input("there are no such steps".into()))?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        first.into_iter().chain(steps).for_each(|dispatch| dispatch.record(&mut pass));
        Ok(())
    }

    /// Records that the label map of the latest inference is painted.
    ///
    /// # Errors
    /// As [`Executor::record`].
    pub fn record_painting(&self, encoder: &mut wgpu::CommandEncoder, painting: &Painting) -> Result<()> {
        let dispatch = self.own(&painting.0)?;
        dispatch.record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        Ok(())
    }

    fn own<'a>(&self, bound: &'a Bound) -> Result<&'a Dispatch> {
        if !Arc::ptr_eq(&self.identity, &bound.owner) {
            return Err(Error::Input("the texture was prepared for another session".into()));
        }
        self.ready()?;
        Ok(&bound.dispatch)
    }
}

fn refused(reason: String) -> Error {
    Error::Input(format!("the texture {reason}"))
}

fn name(usage: wgpu::TextureUsages) -> String {
    usage.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(" | ")
}
