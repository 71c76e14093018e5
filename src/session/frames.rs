//! Pictures from a program's own textures, frame by frame: recorded into its encoder, and not waited for.

use std::{ops::Range, time::Duration};

use web_time::Instant;

use super::{Engine, Session, pictures::Reading};
use crate::{
    Error, Result, Tensor,
    gpu::{Executor, Painting, Ring, Source},
    kernels::{
        paint,
        sample::{self, Sampling},
    },
    plan::{Output, Plan, Value},
    tasks::{self, Class, Detection, Segmentation},
    tensor::Form,
    zoo::{self, Task},
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

/// An inference cut into parts; see [`Session::parts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts(Vec<Range<usize>>);

impl Parts {
    /// Steps of so many nanoseconds, as many together as the budget allows, one at least.
    fn of(times: &[f64], budget: f64) -> Self {
        let (mut parts, mut first, mut spent) = (Vec::new(), 0, 0.0);
        for (at, ns) in times.iter().enumerate() {
            if at > first && spent + ns > budget {
                parts.push(first..at);
                (first, spent) = (at, 0.0);
            }
            spent += ns;
        }
        parts.push(first..times.len());
        Self(parts)
    }

    /// How many there are, one at least.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Session {
    /// Makes what reads pictures from a texture, of any size that the session's preprocessing scales to
    /// what it was built for. Once for a texture: every frame it is then only [recorded](Self::encode).
    ///
    /// # Errors
    /// [`Error::Input`] unless the session was built [for pictures](Self::for_pictures) on a GPU, and if the
    /// texture cannot be read or the region is not in it; [`Error::Device`] if the device refuses it.
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
            mean: preprocessing.mean,
            std: preprocessing.std,
        })
    }

    /// Records an inference of what `source` shows by then, and returns at once. What it answers is on
    /// the device for what is recorded next: see [`Session::on_device`] and [`Session::read_back`].
    /// A session may be recorded many times in one encoder.
    ///
    /// # Errors
    /// [`Error::Input`] if the source is another session's; [`Error::Lost`] if the device was lost,
    /// [`Error::Device`] if an earlier run failed.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, source: &Source) -> Result<()> {
        let (plan, executor) = self.on_gpu()?;
        executor.record(encoder, source, 0..plan.steps.len())
    }

    /// Cuts an inference into parts of no more than `budget` each, as far as single steps are no longer,
    /// for a program that has little time in each frame. The steps are measured first, by the device's
    /// clock where it has one: not for the hot path.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Input`] on the CPU.
    pub fn parts(&mut self, budget: Duration) -> Result<Parts> {
        let (plan, executor) = self.on_gpu()?;
        let (clocked, count) = (executor.has_timestamps(), plan.steps.len());
        let input = Tensor::from_fn(<[usize; 4]>::from(self.input), |i| (i as f32 * 0.37).sin());
        self.run_all(&input)?;
        let mut least = vec![f64::INFINITY; count];
        for _ in 0..3 {
            let times = if clocked { self.profile(&input)? } else { self.estimate(&input)? };
            least.iter_mut().zip(times).for_each(|(least, ns)| *least = least.min(ns));
        }
        Ok(Parts::of(&least, budget.as_nanos() as f64))
    }

    /// Nanoseconds of each step where no clock tells them: of a whole run their shares of its arithmetic.
    fn estimate(&mut self, input: &Tensor) -> Result<Vec<f64>> {
        let begun = Instant::now();
        self.run_all(input)?;
        let whole = begun.elapsed().as_nanos() as f64;
        let works: Vec<u64> = self.steps().iter().map(|step| step.work.macs + step.work.bytes).collect();
        let all: u64 = works.iter().sum();
        Ok(works.into_iter().map(|work| whole * work as f64 / all.max(1) as f64).collect())
    }

    /// Records part `at` of an inference. The parts have to be submitted in their order, and nothing else
    /// of this session between them; the answer is there after the last.
    ///
    /// # Errors
    /// As [`Session::encode`]; [`Error::Input`] if there is no such part.
    pub fn encode_part(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        source: &Source,
        parts: &Parts,
        at: usize,
    ) -> Result<()> {
        let range = parts.0.get(at).ok_or_else(|| Error::Input(format!("there is no part {at}")))?;
        self.on_gpu()?.1.record(encoder, source, range.clone())
    }

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
    /// [`Error::Input`] unless the session gives labels on a GPU, or if the texture cannot be stored to;
    /// [`Error::Device`] if the device refuses it.
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
        let (plan, executor) = self.on_gpu()?;
        let labels = plan.outputs.iter().map(|output| output.value).find(|value| value.form == Form::Labels);
        let labels = labels.ok_or_else(|| Error::Input("the session gives no labels".into()))?;
        let size = [texture.height() as usize, texture.width() as usize];
        executor.painting(labels, texture, colours, &paint::launch(labels.shape, size)).await
    }

    /// Records that the label map of what was last recorded is painted.
    ///
    /// # Errors
    /// As [`Session::encode`].
    pub fn encode_painting(&self, encoder: &mut wgpu::CommandEncoder, painting: &Painting) -> Result<()> {
        self.on_gpu()?.1.record_painting(encoder, painting)
    }

    /// A ring through which answers come back some frames later: two or three places are as many as
    /// there are frames in flight.
    ///
    /// # Errors
    /// [`Error::Input`] on the CPU.
    pub fn ring(&self, places: usize) -> Result<Ring> {
        Ok(self.on_gpu()?.1.ring(places))
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
        tasks::top(scores.data(), top, &self.reading_for(|task| matches!(task, Task::Classify))?.labels)
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

fn odd() -> Error {
    Error::Input("these are no answers of this session".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_to_the_budget_and_leave_nothing_out() {
        let times = [3.0, 4.0, 9.0, 1.0, 1.0, 1.0, 2.0];
        assert_eq!(Parts::of(&times, 7.0).0, [0..2, 2..3, 3..7]);
        assert_eq!(Parts::of(&times, 0.0).count(), times.len());
        assert_eq!(Parts::of(&times, 1e9).count(), 1);
    }
}
