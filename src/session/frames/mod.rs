//! Pictures from a program's own textures, frame by frame: recorded into its encoder, and not waited for.

mod back;
mod parts;
mod shown;
mod texels;

pub use parts::Parts;
pub use shown::OnDevice;
pub use texels::{Matrix, Range, Yuv};

use super::{Engine, Session, pictures::Reading};
use crate::{
    Error, Result,
    gpu::{Executor, Source},
    kernels::sample::{self, Sampling, Texels},
    plan::Plan,
    tasks, zoo,
};

/// What of a texture is the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Framing {
    /// Left, top, width and height in texels, if not all of it.
    pub region: Option<[u32; 4]>,
    /// The layer of an array; on GL there are none to be read.
    pub layer: u32,
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
    /// A texture of one channel is taken for luminance, one of two for luminance and alpha, and one of more
    /// for colours, whose alpha is dropped too. A format is no proof of meaning: that a texture of such a
    /// format shows a picture, and no normals or distances, is for the program to know.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built [for pictures](Self::for_pictures) on a GPU, and if the
    /// texture cannot be read, its format is no picture's, or it has no such region or layer;
    /// [`Error::Memory`], [`Error::HostLimit`], [`Error::Lost`] and [`Error::Device`] if the device has no
    /// room for it, allows too little, is gone, or refuses it otherwise.
    pub fn source(&self, texture: &wgpu::Texture, framing: Framing) -> Result<Source> {
        pollster::block_on(self.source_async(texture, framing))
    }

    /// [`Session::source`] for where nothing may block.
    ///
    /// # Errors
    /// As [`Session::source`].
    pub async fn source_async(&self, texture: &wgpu::Texture, framing: Framing) -> Result<Source> {
        let (_, executor) = self.on_gpu()?;
        let format = texture.format();
        let texels = texels::shown(format)?;
        let sampling = self.sampling(texture, texels, texels::is_light(format), framing)?;
        let launch = sample::launch(&sampling, self.input);
        executor.source([texture, texture], framing.layer, &launch).await
    }

    /// [`Session::source`] of the two planes that cameras and video decoders give: `luma` of `R8Unorm` and
    /// `chroma` of `Rg8Unorm`, U before V (NV12, NV16, NV24), or of `R16Unorm` and `Rg16Unorm` with the
    /// bits in the high ones (P010, P016). A texture that is `NV12` or `P010` itself is given as both.
    ///
    /// Chroma is as large as luma, half as wide, or half as wide and high, rounded up. Its values lie where
    /// MPEG-2 and H.264 have them, with luma's even columns and between its rows, and those between are
    /// mixed of the nearest two a side. The colours are rounded to 255ths, as those of a decoded picture, and
    /// have sRGB's curve unless [`Framing::values`] says that they are light. Region and layer are luma's.
    ///
    /// # Errors
    /// As [`Session::source`]; [`Error::Input`] if formats or sizes are not those of luma and chroma.
    pub fn source_yuv(
        &self,
        luma: &wgpu::Texture,
        chroma: &wgpu::Texture,
        framing: Framing,
        yuv: Yuv,
    ) -> Result<Source> {
        pollster::block_on(self.source_yuv_async(luma, chroma, framing, yuv))
    }

    /// [`Session::source_yuv`] for where nothing may block.
    ///
    /// # Errors
    /// As [`Session::source_yuv`].
    pub async fn source_yuv_async(
        &self,
        luma: &wgpu::Texture,
        chroma: &wgpu::Texture,
        framing: Framing,
        yuv: Yuv,
    ) -> Result<Source> {
        let (_, executor) = self.on_gpu()?;
        let texels = Texels::Planes(yuv.planes(luma, chroma)?);
        let sampling = self.sampling(luma, texels, false, framing)?;
        executor.source([luma, chroma], framing.layer, &sample::launch(&sampling, self.input)).await
    }

    fn sampling(
        &self,
        texture: &wgpu::Texture,
        texels: Texels,
        light: bool,
        framing: Framing,
    ) -> Result<Sampling> {
        let Reading { preprocessing, .. } = self.reading()?;
        if self.input.n != 1 {
            return Err(Error::Input(format!(
                "a texture is one picture, the session's batch {}",
                self.input.n
            )));
        }
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
        let scale = |from: u32, to: usize| preprocessing.grid.scale(from as usize, to);
        Ok(Sampling {
            region,
            mirrored: framing.mirrored,
            rows_first: fit.rows_first,
            texels,
            encode: match framing.values {
                Values::OfFormat => light,
                Values::Encoded => false,
                Values::Linear => true,
            },
            scaled: fit.scaled,
            scale: [scale(height, fit.scaled[0]), scale(width, fit.scaled[1])],
            crop: fit.crop,
            filter: match preprocessing.filter {
                zoo::Filter::Nearest => sample::Filter::Nearest,
                zoo::Filter::Bilinear => sample::Filter::Bilinear,
                zoo::Filter::Bicubic => sample::Filter::Bicubic,
                zoo::Filter::Lanczos => sample::Filter::Lanczos,
                zoo::Filter::Linear => sample::Filter::Linear,
            },
            grid: match preprocessing.grid {
                zoo::Grid::Area => sample::Grid::Area,
                zoo::Grid::Corners => sample::Grid::Corners,
                zoo::Grid::TopLeft => sample::Grid::TopLeft,
            },
            colours: match preprocessing.colours {
                zoo::Colours::Rgb => sample::Colours::Rgb,
                zoo::Colours::Bgr => sample::Colours::Bgr,
                zoo::Colours::Grey => sample::Colours::Grey,
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

    /// Where the word is that tells, of the inference that was last recorded, whether a value overflowed inside the
    /// network, from the buffer's first byte on: zero if not. For programs whose answers stay on the device; a
    /// [ring](Self::ring) returns [`Error::Overflow`]. Usable as storage and to copy from.
    ///
    /// # Errors
    /// [`Error::Input`] on the CPU.
    pub fn overflow(&self) -> Result<&wgpu::Buffer> {
        Ok(self.on_gpu()?.1.overflow())
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
