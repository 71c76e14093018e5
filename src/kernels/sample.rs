//! A network's input from a texture, or from the planes of a video frame: `shaders/sample.wgsl`.

use super::{Access, Launch, Shader, Tier, WORKGROUP_SIZE, spread};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "sample",
    source: include_str!("../../shaders/sample.wgsl"),
    reads: &[],
    writes: &["y"],
    textures: &[("picture", Access::Read), ("chroma", Access::Read)],
    always_32_bit: &[],
    tier: Tier::Baseline,
};

/// The interpolation filter. All except `Nearest` and `Linear` antialias when downscaling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The pixel that contains the centre.
    Nearest,
    /// A triangle.
    Bilinear,
    /// The cubic with a = -0.5.
    Bicubic,
    /// A sinc of three lobes.
    Lanczos,
    /// Two taps per axis at any scale.
    Linear,
}

/// The points of the picture that a filter is centred on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// Half-pixel centres: both pictures cover the same area.
    Area,
    /// Aligned corners: the centres of the corner pixels coincide.
    Corners,
    /// Asymmetric: pixel `i` lies at `i` times the scale.
    TopLeft,
}

/// The contents of texels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Texels {
    /// Red, green and blue.
    Colours,
    /// Luminance, in red.
    Luminance,
    /// Luma in one texture, chroma in another.
    Planes(Planes),
}

/// The conversion of luma and chroma, as loaded from textures in 0..=1, to red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planes {
    /// The luma of black.
    pub black: f32,
    /// The factor of luma minus black.
    pub gain: f32,
    /// The chroma of grey, in U and V.
    pub grey: f32,
    /// The factor with which V minus grey is added to red.
    pub red_of_v: f32,
    /// The factor of U for green.
    pub green_of_u: f32,
    /// The factor of V for green.
    pub green_of_v: f32,
    /// The factor of U for blue.
    pub blue_of_u: f32,
    /// Two flags: chroma has half as many columns as luma; it has half as many rows.
    pub halved: [bool; 2],
    /// True if V comes before U.
    pub swapped: bool,
}

/// The channels of an input, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luminance.
    Grey,
}

/// The conversion of a texture to an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The picture in the texture: left, top, width, height, in texels.
    pub region: [u32; 4],
    /// Two flags: it is read from right to left; it is read from bottom to top.
    pub mirrored: [bool; 2],
    /// True if the vertical pass precedes the horizontal one. The order matters, because levels are clamped
    /// and rounded between the passes.
    pub rows_first: bool,
    /// The contents of texels.
    pub texels: Texels,
    /// True if texels are linear and get sRGB's transfer curve, which training pictures have.
    pub encode: bool,
    /// Rows and columns of the scaled picture.
    pub scaled: [usize; 2],
    /// Texels from one row of the scaled picture to the next, and from one column to the next.
    pub scale: [f32; 2],
    /// Row and column of the scaled picture where the input starts; outside the picture the input is black.
    pub crop: [isize; 2],
    /// The filter.
    pub filter: Filter,
    /// The filter's grid; only filters without antialiasing allow another than [`Grid::Area`].
    pub grid: Grid,
    /// The channels of the input.
    pub colours: Colours,
    /// Subtracted from each channel.
    pub mean: [f32; 3],
    /// The divisor of the difference.
    pub std: [f32; 3],
}

impl Texels {
    fn code(self) -> u32 {
        match self {
            Self::Colours => 0,
            Self::Luminance => 1,
            Self::Planes(_) => 2,
        }
    }
}

impl Planes {
    /// Values for parameters that are not read.
    const NONE: Self = Self {
        black: 0.0,
        gain: 1.0,
        grey: 0.0,
        red_of_v: 0.0,
        green_of_u: 0.0,
        green_of_v: 0.0,
        blue_of_u: 0.0,
        halved: [false; 2],
        swapped: false,
    };
}

/// Returns the launch that makes the input `y`, a picture of three channels or of one.
pub fn launch(sampling: &Sampling, y: Shape) -> Launch {
    let Sampling { region: [left, top, width, height], mirrored, rows_first, encode, scaled, crop, .. } =
        *sampling;
    let bits = |v: f32| v.to_bits();
    let [mean, std] = [sampling.mean.map(bits), sampling.std.map(bits)];
    let planes = if let Texels::Planes(planes) = sampling.texels { planes } else { Planes::NONE };
    Launch {
        shader: &SHADER,
        constants: vec![
            ("WORKGROUP_SIZE", WORKGROUP_SIZE),
            ("FILTER", sampling.filter as u32),
            ("GRID", sampling.grid as u32),
            ("TEXELS", sampling.texels.code()),
            ("COLOURS", sampling.colours as u32),
        ],
        params: vec![
            ("left", left),
            ("top", top),
            ("width", width),
            ("height", height),
            ("mirror_x", mirrored[0].into()),
            ("mirror_y", mirrored[1].into()),
            ("rows_first", rows_first.into()),
            ("encode", encode.into()),
            ("scaled_width", scaled[1] as u32),
            ("scaled_height", scaled[0] as u32),
            ("scale_x", bits(sampling.scale[1])),
            ("scale_y", bits(sampling.scale[0])),
            ("crop_left", crop[1] as i32 as u32),
            ("crop_top", crop[0] as i32 as u32),
            ("out_width", y.w as u32),
            ("out_height", y.h as u32),
            ("mean_0", mean[0]),
            ("mean_1", mean[1]),
            ("mean_2", mean[2]),
            ("std_0", std[0]),
            ("std_1", std[1]),
            ("std_2", std[2]),
            ("luma_black", bits(planes.black)),
            ("luma_gain", bits(planes.gain)),
            ("chroma_grey", bits(planes.grey)),
            ("red_of_v", bits(planes.red_of_v)),
            ("green_of_u", bits(planes.green_of_u)),
            ("green_of_v", bits(planes.green_of_v)),
            ("blue_of_u", bits(planes.blue_of_u)),
            ("chroma_half_x", planes.halved[0].into()),
            ("chroma_half_y", planes.halved[1].into()),
            ("chroma_swapped", planes.swapped.into()),
        ],
        workgroups: spread((y.h * y.w).div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "1 pixel per invocation".into(),
    }
}

/// Computes the reference in plain loops: `[1, channels, h, w]`. `texel` returns the colour at a column and
/// row of the texture; see [`colours`] for planes.
pub fn reference(sampling: &Sampling, y: Shape, texel: impl Fn(u32, u32) -> [f32; 3]) -> Tensor {
    let Sampling { region: [left, top, width, height], mirrored, scaled, scale, crop, filter, .. } =
        *sampling;
    let curve = |v: f64| if v <= 0.0031308 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
    let whole = |v: f64| (255.0 * v).round() / 255.0;
    let pixel = |column: u32, row: u32, channel: usize| {
        let x = if mirrored[0] { width - 1 - column } else { column };
        let y = if mirrored[1] { height - 1 - row } else { row };
        let shown = texel(left + x, top + y).map(|v| f64::from(v.clamp(0.0, 1.0)));
        let shown = match sampling.texels {
            Texels::Colours => shown,
            Texels::Luminance => [shown[0]; 3],
            Texels::Planes(_) => shown.map(whole),
        };
        let shown = if sampling.encode { shown.map(curve) } else { shown };
        match sampling.colours {
            Colours::Rgb => shown[channel],
            Colours::Bgr => shown[2 - channel],
            Colours::Grey => {
                let [r, g, b] = shown.map(whole);
                whole((19595.0 * r + 38470.0 * g + 7471.0 * b) / 65536.0)
            }
        }
    };
    Tensor::from_fn([1, y.c, y.h, y.w], |at| {
        let (column, row, channel) = (at % y.w, at / y.w % y.h, at / (y.w * y.h));
        let position = [row as isize + crop[0], column as isize + crop[1]];
        let inside = (0..2).all(|i| (0..scaled[i] as isize).contains(&position[i]));
        let level = if inside {
            let of_axis = |i: usize, size: u32| {
                let centre = centre(position[i] as usize, size, scaled[i], scale[i], sampling);
                weights(centre, size, scaled[i], filter)
            };
            let (rows, columns) = (of_axis(0, height), of_axis(1, width));
            let pass_output = |level: f64| match level.clamp(0.0, 1.0) {
                inside if filter == Filter::Linear => inside,
                inside => whole(inside),
            };
            let sum = |of: &[(u32, f64)], value: &dyn Fn(u32) -> f64| {
                pass_output(of.iter().map(|&(at, weight)| weight * value(at)).sum())
            };
            match sampling.rows_first {
                true => sum(&columns, &|u| sum(&rows, &|v| pixel(u, v, channel))),
                false => sum(&rows, &|v| sum(&columns, &|u| pixel(u, v, channel))),
            }
        } else {
            0.0
        };
        ((level - f64::from(sampling.mean[channel])) / f64::from(sampling.std[channel])) as f32
    })
}

/// Returns the reference for planes: a function from a column and row of luma to the colour there. `size` is
/// the columns and rows of chroma.
pub fn colours(
    planes: &Planes,
    size: [u32; 2],
    luma: impl Fn(u32, u32) -> f32,
    chroma: impl Fn(u32, u32) -> [f32; 2],
) -> impl Fn(u32, u32) -> [f32; 3] {
    move |x, y| {
        let position = [
            if planes.halved[0] { f64::from(x) / 2.0 } else { x.into() },
            if planes.halved[1] { (f64::from(y) / 2.0 - 0.25).max(0.0) } else { y.into() },
        ];
        let mut uv = [0.0; 2];
        for (row, down) in [(0, 1.0 - position[1].fract()), (1, position[1].fract())] {
            for (column, across) in [(0, 1.0 - position[0].fract()), (1, position[0].fract())] {
                let at = |i: usize, step: u32| (position[i] as u32 + step).min(size[i] - 1);
                let near = chroma(at(0, column), at(1, row)).map(f64::from);
                (0..2).for_each(|i| uv[i] += down * across * near[i]);
            }
        }
        if planes.swapped {
            uv.reverse();
        }
        let [u, v] = uv.map(|v| v - f64::from(planes.grey));
        let luma = (f64::from(luma(x, y)) - f64::from(planes.black)) * f64::from(planes.gain);
        let of = |of_u: f32, of_v: f32| (luma + f64::from(of_u) * u + f64::from(of_v) * v) as f32;
        [of(0.0, planes.red_of_v), of(planes.green_of_u, planes.green_of_v), of(planes.blue_of_u, 0.0)]
    }
}

/// Returns the centre of output `at` of `outputs` on an axis of `size` pixels, whose centres are at
/// half-integers.
fn centre(at: usize, size: u32, outputs: usize, scale: f32, sampling: &Sampling) -> f64 {
    // The product is in f32, as on the CPU: points can lie exactly between two pixels, so that rounding
    // matters.
    let point = f64::from(at as f32 * scale);
    match (sampling.grid, sampling.filter) {
        (Grid::Area, _) => (at as f64 + 0.5) * (f64::from(size) / outputs as f64),
        // The pixel that contains the point, not the one with the nearest centre.
        (Grid::TopLeft, Filter::Nearest) => point,
        _ => point + 0.5,
    }
}

/// Returns the pixels of an axis of `size` that an output of `outputs` is made of, with their weights.
fn weights(centre: f64, size: u32, outputs: usize, filter: Filter) -> Vec<(u32, f64)> {
    let scale = f64::from(size) / outputs as f64;
    if filter == Filter::Nearest {
        return vec![((centre as u32).min(size - 1), 1.0)];
    }
    let (centre, stretch) = match filter {
        Filter::Linear => (centre.clamp(0.5, f64::from(size) - 0.5), 1.0),
        _ => (centre, scale.max(1.0)),
    };
    let radius = match filter {
        Filter::Bicubic => 2.0,
        Filter::Lanczos => 3.0,
        _ => 1.0,
    };
    let sinc =
        |x: f64| if x == 0.0 { 1.0 } else { (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x) };
    let weight = |x: f64| match filter {
        _ if x >= radius => 0.0,
        Filter::Lanczos => sinc(x) * sinc(x / 3.0),
        Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        Filter::Bicubic => ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0,
        _ => 1.0 - x,
    };
    let all = (0..size).map(|pixel| (pixel, weight((f64::from(pixel) + 0.5 - centre).abs() / stretch)));
    let found: Vec<(u32, f64)> = all.filter(|(_, weight)| *weight != 0.0).collect();
    let total: f64 = found.iter().map(|(_, weight)| weight).sum();
    found.into_iter().map(|(pixel, weight)| (pixel, weight / total)).collect()
}
