//! Preprocessing as plain data: the zoo fills it in, `tasks` applies it.

/// The steps that turn a picture into a network's input.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Preprocessing {
    /// The size that the picture is scaled to.
    pub resize: Resize,
    /// The filter for scaling.
    pub filter: Filter,
    /// How the scaled pixels are aligned with the original ones. Only [`Filter::Nearest`] and
    /// [`Filter::Linear`] support grids other than [`Grid::Area`].
    pub grid: Grid,
    /// Rows and columns of the centre crop after scaling.
    pub crop: Option<[usize; 2]>,
    /// Rounding of the crop's offset if the margin is odd.
    pub centre: Centre,
    /// The channels of the input.
    pub colours: Colours,
    /// Subtracted from each channel, whose values are in 0..=1.
    pub mean: PerChannel,
    /// Divides each channel after the subtraction.
    pub std: PerChannel,
}

impl Preprocessing {
    /// Rows and columns of the input. If only the shorter side is fixed, those of a square picture.
    pub(super) fn size(&self) -> [usize; 2] {
        match (self.crop, self.resize) {
            (Some(size), _) | (None, Resize::Exact(size)) => size,
            (None, Resize::Short(side)) => [side, side],
        }
    }
}

/// The size that a picture is scaled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The shorter side gets this length. The longer side is scaled by the same factor and rounded down.
    Short(usize),
    /// Exact rows and columns, which may change the aspect ratio.
    Exact([usize; 2]),
}

/// A resampling filter. Pillow's filters, except `Nearest`, antialias when downscaling, and round to 8-bit levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Pillow's `NEAREST`.
    Nearest,
    /// Pillow's `BILINEAR`: a triangle.
    Bilinear,
    /// Pillow's `BICUBIC`: the cubic with a = -0.5.
    Bicubic,
    /// Pillow's `LANCZOS` with three lobes.
    Lanczos,
    /// torch's `interpolate(mode="bilinear")`: two taps per direction for any scale, without rounding.
    /// torchvision's detectors use it.
    Linear,
}

/// How the pixels of a scaled picture are aligned with those of the original.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grid {
    /// Both pictures cover the same area: Pillow, PyTorch, TensorFlow 2.
    #[default]
    Area,
    /// The centres of the corner pixels coincide: TensorFlow's and PyTorch's `align_corners=True`.
    Corners,
    /// Pixel `i` lies at `i` times the scale: TensorFlow 1 and TensorFlow.js without
    /// `half_pixel_centers`.
    TopLeft,
}

impl Grid {
    /// The distance between two scaled pixels, in pixels of the original, if `from` pixels are scaled to
    /// `to`. In f32, as in TensorFlow, because in borderline cases rounding decides which pixel
    /// [`Filter::Nearest`] picks.
    pub fn scale(self, from: usize, to: usize) -> f32 {
        match self {
            Self::Corners if to > 1 => from.saturating_sub(1) as f32 / (to - 1) as f32,
            // The single pixel is the original's first.
            Self::Corners => 0.0,
            Self::Area | Self::TopLeft => from as f32 / to as f32,
        }
    }
}

/// The input channels, in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Colours {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red, as in OpenCV.
    Bgr,
    /// Luminance alone, as in Pillow's mode `L`.
    Grey,
}

impl Colours {
    /// The number of channels.
    pub const fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// One number per channel, or one for all channels. A wrong count is an error only when a picture is
/// prepared, because running on tensors needs no preprocessing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerChannel {
    count: usize,
    first: [f32; Self::MOST],
}

impl PerChannel {
    /// The maximum number of values stored: no picture has more channels.
    const MOST: usize = 4;

    /// Stores the number of `values` and the first four of them.
    pub const fn new(values: &[f32]) -> Self {
        let (mut first, mut i) = ([0.0; Self::MOST], 0);
        while i < Self::MOST && i < values.len() {
            first[i] = values[i];
            i += 1;
        }
        Self { count: values.len(), first }
    }

    /// The number of values given.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The values, at most four.
    pub fn values(&self) -> &[f32] {
        &self.first[..self.count.min(Self::MOST)]
    }
}

impl serde::Serialize for PerChannel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.values().serialize(serializer)
    }
}

/// Rounding of a centre crop's offset that ends in half a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Centre {
    /// To the nearest even integer: torchvision's transforms, which timm uses.
    HalfToEven,
    /// Down: transformers' image processors.
    Down,
}

/// ImageNet's channel means, as in torchvision and timm.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's channel standard deviations, as in torchvision and timm.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
/// The mean and standard deviation that map 0..=1 to -1..=1, as in TensorFlow's networks.
pub const HALF: [f32; 3] = [0.5; 3];

impl Default for Preprocessing {
    /// Scales the shorter side to 256, crops to 224 x 224, and normalises with ImageNet's statistics.
    fn default() -> Self {
        Self {
            resize: Resize::Short(256),
            filter: Filter::Bilinear,
            crop: Some([224, 224]),
            centre: Centre::HalfToEven,
            grid: Grid::Area,
            colours: Colours::Rgb,
            mean: PerChannel::new(&IMAGENET_MEAN),
            std: PerChannel::new(&IMAGENET_STD),
        }
    }
}
