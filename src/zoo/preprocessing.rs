//! How a network wants its pictures: plain data that the zoo fills in and `tasks` carries out.

/// How a picture becomes a network's input.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Preprocessing {
    /// The size that the picture is scaled to.
    pub resize: Resize,
    /// The filter it is scaled with.
    pub filter: Filter,
    /// Which points of the picture the filter is centred on; only filters that do not widen can be on
    /// another grid than [`Grid::Area`].
    pub grid: Grid,
    /// Rows and columns cut from the middle afterwards.
    pub crop: Option<[usize; 2]>,
    /// Which pixel the middle starts at where the margin is odd.
    pub centre: Centre,
    /// The channels of the input.
    pub colours: Colours,
    /// Subtracted from each channel of the input, itself in 0..=1.
    pub mean: PerChannel,
    /// What the difference is divided by.
    pub std: PerChannel,
}

impl Preprocessing {
    /// Rows and columns of the input; where only the shorter side is fixed, those of a square picture.
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
    /// The shorter side gets this length; the longer one follows, rounded down.
    Short(usize),
    /// Rows and columns exactly, whatever the aspect.
    Exact([usize; 2]),
}

/// A resampling filter. Pillow's widen as a picture shrinks, and round to whole levels of 255.
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
    /// torch's `interpolate(mode="bilinear")`: two taps a side however far a picture shrinks, and
    /// nothing rounded. torchvision's detectors scale with it.
    Linear,
}

/// Where the pixels of a scaled picture lie on the original.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grid {
    /// Both pictures cover the same area: Pillow, PyTorch, TensorFlow 2.
    #[default]
    Area,
    /// The centres of the four corner pixels lie on one another: TensorFlow's and PyTorch's
    /// `align_corners=True`.
    Corners,
    /// Pixel `i` lies at `i` times the scale: TensorFlow 1 and TensorFlow.js without
    /// `half_pixel_centers`.
    TopLeft,
}

impl Grid {
    /// How many pixels of the original a pixel of the scaled picture is apart from the next, for a
    /// side of `from` pixels that becomes `to`. In f32 as TensorFlow has it: where the grid hits a
    /// pixel, rounding decides which is the nearest.
    pub fn scale(self, from: usize, to: usize) -> f32 {
        match self {
            Self::Corners if to > 1 => from.saturating_sub(1) as f32 / (to - 1) as f32,
            // All there is of it is the first pixel.
            Self::Corners => 0.0,
            Self::Area | Self::TopLeft => from as f32 / to as f32,
        }
    }
}

/// The channels that a network takes, in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Colours {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red, as OpenCV reads pictures.
    Bgr,
    /// One channel: luminance, as Pillow's mode `L` has it.
    Grey,
}

impl Colours {
    /// How many channels.
    pub const fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// A number for each channel, or one for all. That there are too few or too many is an error only
/// where a picture is prepared: a network that is run on tensors needs none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerChannel {
    count: usize,
    first: [f32; Self::MOST],
}

impl PerChannel {
    /// No picture has more channels: of longer lists the first are kept, and the count.
    const MOST: usize = 4;

    /// As many as there are in `values`.
    pub const fn new(values: &[f32]) -> Self {
        let (mut first, mut i) = ([0.0; Self::MOST], 0);
        while i < Self::MOST && i < values.len() {
            first[i] = values[i];
            i += 1;
        }
        Self { count: values.len(), first }
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The numbers, the first four of more.
    pub fn values(&self) -> &[f32] {
        &self.first[..self.count.min(Self::MOST)]
    }
}

impl serde::Serialize for PerChannel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.values().serialize(serializer)
    }
}

/// How half a pixel of margin is rounded when a crop is centred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Centre {
    /// To the even neighbour: torchvision's transforms, and so timm's.
    HalfToEven,
    /// Down: transformers' image processors.
    Down,
}

/// ImageNet's statistics, as torchvision and timm use them.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's statistics, as torchvision and timm use them.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
/// The statistics that map 0..=1 to -1..=1, as TensorFlow's networks want it.
pub const HALF: [f32; 3] = [0.5; 3];

impl Default for Preprocessing {
    /// Scaled to 256, cropped to 224, ImageNet's statistics.
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
