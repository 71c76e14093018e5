//! Pictures from a program's own textures, frame by frame: recorded into its encoder, and not waited for.

mod back;
mod parts;
mod shown;

pub use parts::Parts;
pub use shown::OnDevice;

use super::{Engine, Session, pictures::Reading};
use crate::{
    Error, Result,
    gpu::{Executor, Source},
    kernels::sample::{self, Sampling},
    plan::Plan,
    tasks, zoo,
};

/// What of a texture is the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Framing {
    /// Left, top, width and height in texels, if not all of it.
    pub region: Option<[u32; 4]>,
    /// Whether it is read from right to left, and from bottom to top.
    pub mirrored: [bool; 2],
    /// What its values mean.
    pub values: Values,
}

/// What a texture's values mean. Networks have learnt from pictures with sRGB's curve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Values {
    /// Light where the format is `*Srgb` or has floats, sRGB's curve where it is another.
    #[default]
    OfFormat,
    /// They have sRGB's curve, as in a picture's file.
    Encoded,
    /// They are light: shaders see them as such.
    Linear,
}

impl Session {
    /// Makes what reads pictures from a texture, of any size that the session's preprocessing scales to
    /// what it was built for. Once for a texture: every frame it is then only [recorded](Self::encode).
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built [for pictures](Self::for_pictures) on a GPU, and if the
    /// texture cannot be read or the region is not in it; [`Error::Memory`], [`Error::HostLimit`],
    /// [`Error::Lost`] and [`Error::Device`] if the device has no room for it, allows too little, is gone, or
    /// refuses it otherwise.
    pub fn source(&self, texture: &wgpu::Texture, framing: Framing) -> Result<Source> {
        pollster::block_on(self.source_async(texture, framing))
    }

    /// [`Session::source`] for where nothing may block.
    ///
    /// # Errors
    /// As [`Session::source`].
    pub async fn source_async(&self, texture: &wgpu::Texture, framing: Framing) -> Result<Source> {
        let (_, executor) = self.on_gpu()?;
        let sampling = self.sampling(texture, framing)?;
        executor.source(texture, &sample::launch(&sampling, self.input)).await
    }

    fn sampling(&self, texture: &wgpu::Texture, framing: Framing) -> Result<Sampling> {
        let Reading { preprocessing, .. } = self.reading()?;
        let all = [0, 0, texture.width(), texture.height()];
        let region @ [left, top, width, height] = framing.region.unwrap_or(all);
        let within = |first: u32, length: u32, all: u32| {
            length > 0 && first.checked_add(length).is_some_and(|end| end <= all)
        };
        if !within(left, width, all[2]) || !within(top, height, all[3]) {
            return Err(Error::Input(format!(
                "the region {width} x {height} at {left}, {top} is not in a texture of {} x {}",
                all[2], all[3]
            )));
        }
        let [mean, std] = tasks::statistics(preprocessing)?;
        let fit = tasks::fit([height as usize, width as usize], preprocessing)?;
        if fit.size != [self.input.h, self.input.w] {
            let [rows, columns] = fit.size;
            return Err(Error::Input(format!(
                "{width} x {height} texels become {columns} x {rows}, planned were {} x {}",
                self.input.w, self.input.h
            )));
        }
        let format = texture.format();
        let light = format.is_srgb() || is_float(format);
        Ok(Sampling {
            region,
            mirrored: framing.mirrored,
            rows_first: fit.rows_first,
            encode: match framing.values {
                Values::OfFormat => light,
                Values::Encoded => false,
                Values::Linear => true,
            },
            scaled: fit.scaled,
            crop: fit.crop,
            filter: match preprocessing.filter {
                zoo::Filter::Nearest => sample::Filter::Nearest,
                zoo::Filter::Bilinear => sample::Filter::Bilinear,
                zoo::Filter::Bicubic => sample::Filter::Bicubic,
                zoo::Filter::Lanczos => sample::Filter::Lanczos,
                zoo::Filter::Linear => sample::Filter::Linear,
            },
            mean,
            std,
        })
    }

    /// Records an inference of what `source` shows by then, and returns at once. What it answers is on
    /// the device for what is recorded next: see [`Session::on_device`] and [`Session::read_back`].
    /// A session may be recorded many times in one encoder.
    ///
    /// # Errors
    /// [`Error::Input`] if the source is another session's; [`Error::Device`] if an earlier run failed. That a
    /// program's own device was lost shows where answers come back.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, source: &Source) -> Result<()> {
        let (plan, executor) = self.on_gpu()?;
        executor.record(encoder, source, 0..plan.steps.len())
    }

    fn on_gpu(&self) -> Result<(&Plan, &Executor)> {
        match &self.engine {
            Engine::Gpu { plan, executor } if plan.input.shape.n == self.input.n => Ok((plan, executor)),
            Engine::Gpu { .. } => {
                Err(Error::Input("a batch that is run in shares cannot be recorded".into()))
            }
            Engine::Cpu(_) => Err(Error::Input("the session is on the CPU, a texture on a GPU".into())),
        }
    }
}

fn is_float(format: wgpu::TextureFormat) -> bool {
    use wgpu::TextureFormat as F;
    matches!(
        format,
        F::Rgba16Float
            | F::Rgba32Float
            | F::Rg11b10Ufloat
            | F::Rgb9e5Ufloat
            | F::R16Float
            | F::Rg16Float
            | F::R32Float
            | F::Rg32Float
    )
}
