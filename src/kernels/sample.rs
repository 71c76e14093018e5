//! A network's input from a texture: `shaders/sample.wgsl`.

use super::{Access, LANES, Launch, Shader, Tier, spread};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "sample",
    source: include_str!("../../shaders/sample.wgsl"),
    reads: &[],
    writes: &["y"],
    textures: &[("picture", Access::Read)],
    sums: &[],
    tier: Tier::Baseline,
};

/// How values between pixels are made. All but the last widen as a picture shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The pixel that the centre falls on.
    Nearest,
    /// A triangle.
    Bilinear,
    /// The cubic with a = -0.5.
    Bicubic,
    /// A sinc of three lobes.
    Lanczos,
    /// Two taps a side however far a picture shrinks.
    Linear,
}

/// What of a texture becomes what of an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The picture in the texture: left, top, width, height, in texels.
    pub region: [u32; 4],
    /// Whether it is read from right to left, and from bottom to top.
    pub mirrored: [bool; 2],
    /// Whether it is scaled from top to bottom before from left to right: in between, levels beyond black
    /// and white are cut off, and whole ones kept.
    pub rows_first: bool,
    /// Whether texels are linear, and get sRGB's curve as the pictures had that networks learnt from.
    pub encode: bool,
    /// Rows and columns of the picture once scaled.
    pub scaled: [usize; 2],
    /// Row and column of it where the input begins; before and behind it all is black.
    pub crop: [isize; 2],
    /// The filter.
    pub filter: Filter,
    /// Subtracted from each of red, green and blue.
    pub mean: [f32; 3],
    /// What the difference is divided by.
    pub std: [f32; 3],
}

/// One run, making the input `y`: a picture of three channels.
pub fn launch(sampling: &Sampling, y: Shape) -> Launch {
    let Sampling { region: [left, top, width, height], mirrored, rows_first, encode, scaled, crop, .. } =
        *sampling;
    let bits = |v: f32| v.to_bits();
    let [mean, std] = [sampling.mean.map(bits), sampling.std.map(bits)];
    Launch {
        shader: &SHADER,
        constants: vec![("LANES", LANES), ("FILTER", sampling.filter as u32)],
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
            ("crop_left", crop[1] as i32 as u32),
            ("crop_top", crop[0] as i32 as u32),
            ("out_width", y.w as u32),
            ("out_height", y.h as u32),
            ("mean_red", mean[0]),
            ("mean_green", mean[1]),
            ("mean_blue", mean[2]),
            ("std_red", std[0]),
            ("std_green", std[1]),
            ("std_blue", std[2]),
        ],
        workgroups: spread((y.h * y.w).div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: "1 pixel a thread".into(),
    }
}

/// The same in plain loops: `[1, 3, h, w]` of a texture's `texel`, which is asked for column and row.
pub fn reference(sampling: &Sampling, y: Shape, texel: impl Fn(u32, u32) -> [f32; 3]) -> Tensor {
    let Sampling { region: [left, top, width, height], mirrored, scaled, crop, filter, .. } = *sampling;
    let curve = |v: f64| if v <= 0.0031308 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
    let pixel = |column: u32, row: u32, channel: usize| {
        let x = if mirrored[0] { width - 1 - column } else { column };
        let y = if mirrored[1] { height - 1 - row } else { row };
        let value = f64::from(texel(left + x, top + y)[channel].clamp(0.0, 1.0));
        if sampling.encode { curve(value) } else { value }
    };
    Tensor::from_fn([1, 3, y.h, y.w], |at| {
        let (column, row, channel) = (at % y.w, at / y.w % y.h, at / (y.w * y.h));
        let place = [row as isize + crop[0], column as isize + crop[1]];
        let inside = (0..2).all(|i| (0..scaled[i] as isize).contains(&place[i]));
        let level = if inside {
            let rows = shares(place[0] as usize, height, scaled[0], filter);
            let columns = shares(place[1] as usize, width, scaled[1], filter);
            let settled = |level: f64| match level.clamp(0.0, 1.0) {
                inside if filter == Filter::Linear => inside,
                inside => (255.0 * inside).round() / 255.0,
            };
            let sum = |of: &[(u32, f64)], value: &dyn Fn(u32) -> f64| {
                settled(of.iter().map(|&(at, part)| part * value(at)).sum())
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

/// The pixels of a side of `size` that output `at` of `outputs` is made of, with their shares.
fn shares(at: usize, size: u32, outputs: usize, filter: Filter) -> Vec<(u32, f64)> {
    let scale = f64::from(size) / outputs as f64;
    let centre = (at as f64 + 0.5) * scale;
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
    let found: Vec<(u32, f64)> = all.filter(|(_, share)| *share != 0.0).collect();
    let whole: f64 = found.iter().map(|(_, share)| share).sum();
    found.into_iter().map(|(pixel, share)| (pixel, share / whole)).collect()
}
