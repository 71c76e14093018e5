//! Inference on a program's textures, frame by frame: recorded into its command encoder, without waiting.

mod on_device;
mod parts;
mod readback;
mod texels;

pub use on_device::OnDevice;
pub use parts::Parts;
pub use texels::{Yuv, YuvMatrix, YuvRange};

use super::{Engine, Session, pictures::PictureSetup};
use crate::{
    Error, Result,
    gpu::{Executor, Source},
    kernels::sample::{self, Sampling, Texels},
    plan::Plan,
    tasks, zoo,
};

/// The part of a texture that is the picture, and how to read it.
///
/// ```
/// use goldcrest::session::{ColourEncoding, SourceOptions};
///
/// // The left half of a camera's frame of 1280 x 720, whose values are linear although its format does not
/// // imply it.
/// let half = SourceOptions {
///     region: Some([0, 0, 640, 720]),
///     encoding: ColourEncoding::Linear,
///     ..SourceOptions::default()
/// };
/// // The whole texture, mirrored horizontally, with the encoding that its format implies.
/// let mirror = SourceOptions { mirrored: [true, false], ..SourceOptions::default() };
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// Left, top, width and height in texels; `None` for the whole texture.
    pub region: Option<[u32; 4]>,
    /// The layer of an array texture. GL cannot read array textures.
    pub layer: u32,
    /// Horizontal and vertical flip.
    pub mirrored: [bool; 2],
    /// The encoding of the texture's values.
    pub encoding: ColourEncoding,
}

/// The encoding of a texture's values. Networks are trained on sRGB-encoded pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ColourEncoding {
    /// Linear for `*Srgb` formats, which the texture unit decodes, and for float formats; sRGB-encoded for all others.
    #[default]
    FromFormat,
    /// sRGB-encoded, as in an image file.
    Srgb,
    /// Linear values, after any sRGB decoding by the texture unit.
    Linear,
}

impl Session {
    /// Creates a source that reads pictures from a texture. The texture may have any size, as long as
    /// preprocessing scales it to the session's input size. Create it once per texture; each frame only
    /// [records](Self::encode) it.
    ///
    /// One channel is read as luminance, two as luminance and alpha, three or four as colours. Alpha is
    /// ignored. The caller must make sure that the texture holds a picture, and not normals or
    /// depth.
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built [for pictures](Self::for_pictures) on a GPU, or if the
    /// texture cannot be read, its format cannot hold a picture, or it has no such region or layer;
    /// [`Error::Memory`] if the device is out of memory, [`Error::DeviceLimit`] if it was opened with limits that
    /// are too low, [`Error::Lost`] if it was lost, [`Error::Device`] if it reports another error.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn source(&self, texture: &wgpu::Texture, options: SourceOptions) -> Result<Source> {
        pollster::block_on(self.source_async(texture, options))
    }

    /// [`Session::source`] for callers that must not block.
    ///
    /// # Errors
    /// As [`Session::source`].
    pub async fn source_async(&self, texture: &wgpu::Texture, options: SourceOptions) -> Result<Source> {
        let (_, executor) = self.on_gpu()?;
        let format = texture.format();
        let texels = texels::shown(format)?;
        let sampling = self.sampling(texture, texels, texels::is_light(format), options)?;
        let launch = sample::launch(&sampling, self.input);
        executor.source([texture, texture], options.layer, size_of(&sampling), &launch).await
    }

    /// [`Session::source`] for the two planes of cameras and video decoders: `luma` and `chroma` are
    /// `R8Unorm` and `Rg8Unorm` (NV12, NV16, NV24), or `R16Unorm` and `Rg16Unorm` with the samples in the
    /// high bits (P010, P016). U comes before V, unless [`Yuv::swapped`] is set. Pass one texture of format
    /// `NV12` or `P010` as both.
    ///
    /// Chroma is as large as luma, half as wide, or half as wide and high, rounded up. Its samples are sited
    /// as in MPEG-2 and H.264: on luma's even columns, and midway between two of its rows. Values in between
    /// are interpolated bilinearly. The colours are rounded to 1/255, like those of a decoded picture, and
    /// are sRGB-encoded unless [`SourceOptions::encoding`] is [`ColourEncoding::Linear`]. The region is in
    /// texels of luma; the layer is that of both textures.
    ///
    /// # Errors
    /// As [`Session::source`]; [`Error::Input`] if formats or sizes are not those of luma and chroma.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn source_yuv(
        &self,
        luma: &wgpu::Texture,
        chroma: &wgpu::Texture,
        options: SourceOptions,
        yuv: Yuv,
    ) -> Result<Source> {
        pollster::block_on(self.source_yuv_async(luma, chroma, options, yuv))
    }

    /// [`Session::source_yuv`] for callers that must not block.
    ///
    /// # Errors
    /// As [`Session::source_yuv`].
    pub async fn source_yuv_async(
        &self,
        luma: &wgpu::Texture,
        chroma: &wgpu::Texture,
        options: SourceOptions,
        yuv: Yuv,
    ) -> Result<Source> {
        let (_, executor) = self.on_gpu()?;
        let texels = Texels::Planes(yuv.planes(luma, chroma)?);
        let sampling = self.sampling(luma, texels, false, options)?;
        let launch = sample::launch(&sampling, self.input);
        executor.source([luma, chroma], options.layer, size_of(&sampling), &launch).await
    }

    fn sampling(
        &self,
        texture: &wgpu::Texture,
        texels: Texels,
        light: bool,
        options: SourceOptions,
    ) -> Result<Sampling> {
        let PictureSetup { preprocessing, .. } = self.picture_setup()?;
        if self.input.n != 1 {
            return Err(Error::Input(format!(
                "a texture is one picture, but the session's batch is {}",
                self.input.n
            )));
        }
        let all = [0, 0, texture.width(), texture.height()];
        let region @ [left, top, width, height] = options.region.unwrap_or(all);
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
                "{width} x {height} texels become {columns} x {rows}, but the session takes {} x {}",
                self.input.w, self.input.h
            )));
        }
        let scale = |from: u32, to: usize| preprocessing.grid.scale(from as usize, to);
        Ok(Sampling {
            region,
            mirrored: options.mirrored,
            rows_first: fit.rows_first,
            texels,
            encode: match options.encoding {
                ColourEncoding::FromFormat => light,
                ColourEncoding::Srgb => false,
                ColourEncoding::Linear => true,
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

    /// Records an inference on the picture that `source` holds when the commands run, without waiting.
    /// Commands recorded after it can use its outputs on the device: see [`Session::on_device`] and
    /// [`Session::read_back`]. An encoder may contain any number of a session's inferences.
    ///
    /// # Errors
    /// [`Error::Input`] if the source is another session's; [`Error::Device`] if an earlier run failed. The loss
    /// of a program's own device is reported only by [`Ring::poll`](crate::gpu::Ring::poll).
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, source: &Source) -> Result<()> {
        let (plan, executor) = self.on_gpu()?;
        executor.record(encoder, source, 0..plan.steps.len())
    }

    /// Returns the buffer whose first 32-bit word is non-zero if a value overflowed inside the network in the
    /// inference recorded last. It is for programs whose outputs stay on the device; a [ring](Self::ring)
    /// returns [`Error::Overflow`] instead. The buffer can be bound as storage and copied from.
    ///
    /// # Errors
    /// [`Error::Input`] on the CPU.
    pub fn overflow_flag(&self) -> Result<&wgpu::Buffer> {
        Ok(self.on_gpu()?.1.overflow_flag())
    }

    fn on_gpu(&self) -> Result<(&Plan, &Executor)> {
        match &self.engine {
            Engine::Gpu { plan, executor } if plan.input.shape.n == self.input.n => Ok((plan, executor)),
            Engine::Gpu { .. } => {
                Err(Error::Input("a batch that exceeds the device's limits cannot be recorded".into()))
            }
            Engine::Cpu(_) => Err(Error::Input("the session is on the CPU, textures are on a GPU".into())),
        }
    }
}

/// Rows and columns of the picture in a texture.
fn size_of(sampling: &Sampling) -> [usize; 2] {
    let [_, _, width, height] = sampling.region;
    [height as usize, width as usize]
}
