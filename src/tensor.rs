//! Shapes, host tensors and device layouts.

use std::{borrow::Cow, fmt};

use half::{
    f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};

use crate::{Error, Result};

/// The element type of feature maps and weights on the device, or of accumulators. Biases are always
/// f32, and accumulators are f32 unless a kernel's arithmetic is f16.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with a significand of 11 bits: half the bytes for every load and store.
    F16,
}

impl Element {
    /// All element types, widest first.
    pub const ALL: [Self; 2] = [Self::F32, Self::F16];

    /// Bytes per value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// Its name in WGSL and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    /// The message for an overflow, with a remedy.
    pub(crate) fn overflows(self) -> &'static str {
        match self {
            Self::F32 => "a sum is not finite: values of the input or of the weights are too large",
            Self::F16 => "a value is beyond f16's 65504, or not finite: use f32",
        }
    }

    /// The first finite value that overflows.
    pub(crate) fn overflow(self, values: &[f32]) -> Option<f32> {
        match self {
            Self::F32 => None,
            Self::F16 => values.iter().copied().find(|v| v.is_finite() && f16::from_f32(*v).is_infinite()),
        }
    }

    /// The device's bytes of `values`; `room` is scratch for converted values.
    pub(crate) fn encode<'a>(self, values: &'a [f32], room: &'a mut Vec<f16>) -> &'a [u8] {
        match self {
            Self::F32 => bytemuck::cast_slice(values),
            Self::F16 => {
                room.resize(values.len(), f16::ZERO);
                room.convert_from_f32_slice(values);
                bytemuck::cast_slice(room)
            }
        }
    }

    /// The values of the device's `bytes`, which must be aligned for f32.
    pub(crate) fn decode(self, bytes: &[u8]) -> Cow<'_, [f32]> {
        match self {
            Self::F32 => Cow::Borrowed(bytemuck::cast_slice(bytes)),
            Self::F16 => {
                let bits: &[u16] = bytemuck::cast_slice(bytes);
                Cow::Owned(bits.reinterpret_cast::<f16>().to_f32_vec())
            }
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The device format of a map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    /// Floating point, in the order of [`layout`].
    Map(Element),
    /// int8, in the order of [`layout`]: q represents `scale (q - zero)`.
    Bytes {
        /// The distance between two integers.
        scale: f32,
        /// The zero point: the integer that represents 0.
        zero: i8,
    },
    /// Labels of one byte per pixel, with rows padded to a multiple of four bytes.
    Labels,
}

impl Form {
    /// The size in bytes of a map of this shape; none if it overflows.
    pub fn bytes(self, shape: Shape) -> Option<u64> {
        match self {
            Self::Map(element) => shape.checked_device_bytes(element),
            Self::Bytes { .. } => shape.checked_device_bytes(Element::F32).map(|bytes| bytes / 4),
            Self::Labels => Shape { c: 4, w: shape.w.div_ceil(4), ..shape }
                .checked_device_bytes(Element::F32)
                .map(|bytes| bytes / 4),
        }
    }

    /// Converts the device's bytes of a map, which must be aligned for f32, to an NCHW tensor.
    pub fn tensor(self, shape: Shape, bytes: &[u8]) -> Tensor {
        match self {
            Self::Map(element) => layout::from_device(shape, &element.decode(bytes)),
            Self::Bytes { scale, zero } => {
                let value = |q: &u8| scale * f32::from(i16::from(q.cast_signed()) - i16::from(zero));
                layout::from_device(shape, &bytes.iter().map(value).collect::<Vec<f32>>())
            }
            Self::Labels => {
                let row = shape.w.next_multiple_of(4);
                Tensor::from_fn([shape.n, 1, shape.h, shape.w], |at| {
                    f32::from(bytes[at / shape.w * row + at % shape.w])
                })
            }
        }
    }
}

/// The shape of a feature map: pictures, channels, rows, columns. A vector of
/// logits has one row and one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(into = "[usize; 4]")]
pub struct Shape {
    /// Pictures in the batch.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Shape {
    /// The shape of a tensor with these dimensions.
    ///
    /// # Errors
    /// [`Error::Input`] unless there are four, none of them zero.
    pub fn of(dims: &[usize]) -> Result<Self> {
        match *dims {
            [n, c, h, w] if !dims.contains(&0) => Ok(Self::new(n, c, h, w)),
            [_, _, _, _] => Err(Error::Input(format!("the shape {dims:?} holds no value"))),
            _ => Err(Error::Input(format!(
                "expected four dimensions [N, C, H, W], got {} in {dims:?}",
                dims.len()
            ))),
        }
    }

    /// `[n, c, h, w]`.
    pub const fn new(n: usize, c: usize, h: usize, w: usize) -> Self {
        Self { n, c, h, w }
    }

    /// Values in a tensor of this shape.
    pub const fn len(&self) -> usize {
        self.n * self.c * self.h * self.w
    }

    /// True if the shape holds no value.
    pub const fn is_empty(&self) -> bool {
        self.n == 0 || self.c == 0 || self.h == 0 || self.w == 0
    }

    /// Pixels over the whole batch: the rows of a pointwise convolution's matrix product.
    pub const fn pixels(&self) -> usize {
        self.n * self.h * self.w
    }

    /// `vec4`s per pixel on the device: channels / 4, rounded up.
    pub const fn quads(&self) -> usize {
        self.c.div_ceil(4)
    }

    /// Bytes on the device: NHWC with channels padded to a multiple of four.
    pub const fn device_bytes(&self, element: Element) -> u64 {
        (self.pixels() * self.quads() * 4 * element.bytes()) as u64
    }

    /// [`Shape::device_bytes`]; none if it overflows.
    pub fn checked_device_bytes(&self, element: Element) -> Option<u64> {
        [self.n, self.h, self.w, self.quads(), 4 * element.bytes()]
            .into_iter()
            .try_fold(1u64, |bytes, extent| bytes.checked_mul(extent as u64))
    }
}

impl From<Shape> for [usize; 4] {
    fn from(s: Shape) -> Self {
        [s.n, s.c, s.h, s.w]
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}x{}", self.n, self.c, self.h, self.w)
    }
}

/// A host tensor in f32, row-major. Feature maps are NCHW; weights have the checkpoint's layout.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    dims: Vec<usize>,
    data: Vec<f32>,
}

impl Tensor {
    /// A tensor over `data`.
    ///
    /// # Errors
    /// [`Error::Input`] if the length of `data` does not match `dims`.
    pub fn new(dims: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        let dims = dims.into();
        let len = dims.iter().try_fold(1usize, |len, &d| len.checked_mul(d));
        if len != Some(data.len()) {
            return Err(Error::Input(format!("{} values do not fill the shape {dims:?}", data.len())));
        }
        Ok(Self { dims, data })
    }

    /// A tensor whose value at each flat index is `f(index)`.
    pub fn from_fn(dims: impl Into<Vec<usize>>, f: impl FnMut(usize) -> f32) -> Self {
        let dims = dims.into();
        let data = (0..dims.iter().product()).map(f).collect();
        Self { dims, data }
    }

    /// A test pattern: a sine of `frequency` radians per value. It does not repeat, and its values use all
    /// bits of an f32, so that errors show.
    pub fn wave(shape: Shape, frequency: f32) -> Self {
        Self::from_fn(<[usize; 4]>::from(shape), |i| (i as f32 * frequency).sin())
    }

    /// Rejects NaN and infinities: floating-point results show them, int8 would hide them.
    pub(crate) fn quantisable(&self) -> Result<()> {
        match self.data.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(Error::Input(format!(
                "the input has the value {} at index {at}, which cannot be quantised",
                self.data[at]
            ))),
            None => Ok(()),
        }
    }

    /// The extent of each dimension.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The values, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values, row-major, mutable.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Returns the values, without the dimensions.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// The shape of the tensor as a feature map.
    ///
    /// # Errors
    /// As [`Shape::of`].
    pub fn shape(&self) -> Result<Shape> {
        Shape::of(&self.dims)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor{:?}", self.dims)
    }
}

/// The device's layout: NHWC with channels padded to a multiple of four.
pub mod layout {
    use super::{Shape, Tensor};

    /// The number of values of a map on the device, padding included.
    pub const fn len(shape: Shape) -> usize {
        shape.pixels() * shape.quads() * 4
    }

    /// Writes an NCHW tensor of `shape` to `values` in device layout; the padding becomes zero.
    pub fn to_device(tensor: &Tensor, shape: Shape, values: &mut [f32]) {
        let (plane, padded) = (shape.h * shape.w, shape.quads() * 4);
        for (n, picture) in values.chunks_exact_mut(plane * padded).enumerate() {
            for (p, pixel) in picture.chunks_exact_mut(padded).enumerate() {
                for (c, value) in pixel.iter_mut().enumerate() {
                    *value = if c < shape.c { tensor.data()[(n * shape.c + c) * plane + p] } else { 0.0 };
                }
            }
        }
    }

    /// Reads the NCHW tensor of `shape` from `values` in device layout.
    pub fn from_device(shape: Shape, values: &[f32]) -> Tensor {
        let (plane, padded) = (shape.h * shape.w, shape.quads() * 4);
        Tensor::from_fn([shape.n, shape.c, shape.h, shape.w], |at| {
            let (p, c, n) = (at % plane, at / plane % shape.c, at / (plane * shape.c));
            values[(n * plane + p) * padded + c]
        })
    }
}

/// The relative distance, ||a - b|| / ||b||.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (mut apart, mut norm) = (0.0, 0.0);
    for (&a, &b) in a.data().iter().zip(b.data()) {
        apart += f64::from(a - b).powi(2);
        norm += f64::from(b).powi(2);
    }
    (apart / norm.max(f64::MIN_POSITIVE)).sqrt()
}
