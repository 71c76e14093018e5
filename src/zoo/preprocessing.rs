//! How a network wants its pictures: plain data that the zoo fills in and `tasks` carries out.

/// How a picture becomes a network's input.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Preprocessing {
    /// The size that the picture is scaled to.
    pub resize: Resize,
    /// The filter it is scaled with.
    pub filter: Filter,
    /// Rows and columns cut from the middle afterwards.
    pub crop: Option<[usize; 2]>,
    /// Which pixel the middle starts at where the margin is odd.
    pub centre: Centre,
    /// Subtracted from each of red, green and blue, themselves in 0..=1.
    pub mean: [f32; 3],
    /// What the difference is divided by.
    pub std: [f32; 3],
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
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
        }
    }
}
