//! Preprocessing of pictures into a network's input: scale, centre crop, normalise.

use std::{borrow::Cow, ops::Range};

use crate::tasks::{Picture, resample};
use crate::zoo::{Centre, Colours, Filter, Grid, PerChannel, Preprocessing, Resize};
use crate::{Error, Result, Tensor};

/// The maximum number of pixels in a scaled picture. A long strip one pixel wide, scaled by its shorter side,
/// would take gigabytes.
const SCALED_LIMIT: usize = 1 << 26;

/// Preprocesses one picture into `[1, C, H, W]`, with the channels of [`Preprocessing::colours`].
///
/// The result matches torchvision, timm, transformers and TensorFlow to within 1/255 before normalisation.
///
/// # Errors
/// As [`preprocess_batch`].
pub fn preprocess(picture: &Picture, how: &Preprocessing) -> Result<Tensor> {
    preprocess_batch(std::slice::from_ref(picture), how)
}

/// Preprocesses pictures into `[N, C, H, W]`.
///
/// # Errors
/// [`Error::Input`] if there is no picture, if the scaled picture or the crop would be empty or too large, if
/// the results differ in size (possible without a crop), if an antialiasing filter is combined with a grid other
/// than [`Grid::Area`], or if the means and standard deviations do not match the channels, are not finite, or
/// include a standard deviation of zero.
pub fn preprocess_batch(pictures: &[Picture], how: &Preprocessing) -> Result<Tensor> {
    let [mean, std] = statistics(how)?;
    let channels = how.colours.channels();
    let mut size = None;
    let mut data = Vec::new();
    for (index, picture) in pictures.iter().enumerate() {
        let fit = fit([picture.height(), picture.width()], how)?;
        let [rows, columns] = fit.size;
        let first = *size.get_or_insert([rows, columns]);
        if first != [rows, columns] {
            return Err(Error::Input(format!(
                "picture {index} becomes {columns} x {rows} pixels and the first {} x {}: \
                 one batch needs one size",
                first[1], first[0]
            )));
        }
        let at = data.len();
        data.resize(at + channels * rows * columns, 0.0);
        let visible = Visible::new(picture, &fit, how);
        for (channel, plane) in data[at..].chunks_exact_mut(rows * columns).enumerate() {
            let colour = if how.colours == Colours::Bgr { 2 - channel } else { channel };
            let (mean, std) = (mean[channel], std[channel]);
            visible.normalise(plane, columns, colour, |level| (level / 255.0 - mean) / std);
        }
    }
    let [rows, columns] = size.ok_or_else(|| Error::Input("there is no picture".into()))?;
    Tensor::new([pictures.len(), channels, rows, columns], data)
}

/// The mean and standard deviation of each input channel; 0 and 1 for channels that the input does not have.
///
/// # Errors
/// [`Error::Input`] if their number does not match the channels, or they are not finite or divide by zero.
pub(crate) fn statistics(how: &Preprocessing) -> Result<[[f32; 3]; 2]> {
    let channels = how.colours.channels();
    let each = |name: &str, values: PerChannel, beyond: f32, fits: fn(f32) -> bool| {
        if let Some(odd) = values.values().iter().find(|value| !fits(**value)) {
            return Err(Error::Input(format!("cannot normalise with a {name} of {odd}")));
        }
        let mut all = [beyond; 3];
        match *values.values() {
            [one] => all[..channels].fill(one),
            ref each if values.count() == channels => all[..channels].copy_from_slice(each),
            _ => {
                let found = values.count();
                return Err(Error::Input(format!("{name}: {found} numbers for {channels} channels")));
            }
        }
        Ok(all)
    };
    let std = |value: f32| value.is_normal();
    Ok([each("mean", how.mean, 0.0, f32::is_finite)?, each("std", how.std, 1.0, std)?])
}

/// Returns whether these settings can preprocess pictures for an input with this number of channels. A
/// network that only runs on tensors may lack valid settings.
pub fn takes_pictures(how: &Preprocessing, channels: usize) -> bool {
    how.colours.channels() == channels && statistics(how).is_ok() && fit([1, 1], how).is_ok()
}

/// The `[rows, columns]` of the input for a picture of `[rows, columns]`.
///
/// # Errors
/// [`Error::Input`] if the input would be empty or too large, or [`Preprocessing::filter`] does not support
/// [`Preprocessing::grid`].
pub fn input_size(picture: [usize; 2], how: &Preprocessing) -> Result<[usize; 2]> {
    Ok(fit(picture, how)?.size)
}

/// The placement of a picture in a network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fit {
    /// The rows and columns of the scaled picture.
    pub scaled: [usize; 2],
    /// The row and column of the scaled picture at which the input begins; negative if the input has a black
    /// margin there.
    pub crop: [isize; 2],
    /// The rows and columns of the input.
    pub size: [usize; 2],
    /// True if the vertical pass of scaling comes first.
    pub rows_first: bool,
}

impl Fit {
    /// The rows and columns of the scaled picture inside the input, and their position in the input.
    fn visible(&self) -> [[Range<usize>; 2]; 2] {
        let sides = [0, 1].map(|side| {
            let (crop, size, scaled) = (self.crop[side], self.size[side], self.scaled[side]);
            let (first, start) = (crop.max(0) as usize, (-crop).max(0) as usize);
            let length = size.saturating_sub(start).min(scaled.saturating_sub(first));
            [first..first + length, start..start + length]
        });
        let [[rows, to_rows], [columns, to_columns]] = sides;
        [[rows, columns], [to_rows, to_columns]]
    }
}

/// The placement of a picture of `[rows, columns]`.
///
/// # Errors
/// As [`input_size`].
pub(crate) fn fit(picture: [usize; 2], how: &Preprocessing) -> Result<Fit> {
    if how.grid != Grid::Area && !matches!(how.filter, Filter::Nearest | Filter::Linear) {
        return Err(Error::Input(format!(
            "cannot scale with {:?} on the grid {:?}: this grid supports only filters without antialiasing, \
             Nearest and Linear",
            how.filter, how.grid
        )));
    }
    let scaled = scaled_size(picture.map(|side| side.max(1)), how.resize);
    check_size("scaling", scaled[0], scaled[1])?;
    let size = how.crop.unwrap_or(scaled);
    check_size("cropping", size[0], size[1])?;
    let crop = [0, 1].map(|i| crop_start(scaled[i], size[i], how.centre));
    Ok(Fit { scaled, crop, size, rows_first: height_first(picture, scaled) })
}

/// The part of a picture inside the input, scaled.
struct Visible {
    /// Its rows and columns in the input; the rest of the input is black.
    position: [Range<usize>; 2],
    channels: usize,
    levels: Levels,
}

/// Interleaved channel values in 0..=255.
enum Levels {
    Integer(Vec<u8>),
    Float(Vec<f32>),
}

impl Visible {
    fn new(picture: &Picture, fit: &Fit, how: &Preprocessing) -> Self {
        let from = [picture.height(), picture.width()];
        let (pixels, channels) = match how.colours {
            Colours::Rgb | Colours::Bgr => (Cow::Borrowed(picture.pixels()), 3),
            Colours::Grey => (Cow::Owned(luminance(picture.pixels())), 1),
        };
        let [part, position] = fit.visible();
        let kernel = match (how.grid, how.filter) {
            (Grid::Area, Filter::Bilinear) => Some(resample::Kernel::Bilinear),
            (Grid::Area, Filter::Bicubic) => Some(resample::Kernel::Bicubic),
            (Grid::Area, Filter::Lanczos) => Some(resample::Kernel::Lanczos),
            _ => None,
        };
        let levels = match kernel {
            Some(kernel) => {
                let order = fit.rows_first;
                Levels::Integer(resample::scale(&pixels, channels, from, fit.scaled, part, order, kernel))
            }
            None => {
                let (grid, filter) = (how.grid, how.filter);
                Levels::Float(resample::by_points(&pixels, channels, from, fit.scaled, part, grid, filter))
            }
        };
        Self { position, channels, levels }
    }

    /// Fills a plane of the input, whose rows have `columns` values, with a channel's levels normalised by
    /// `normal`.
    fn normalise(&self, plane: &mut [f32], columns: usize, channel: usize, normal: impl Fn(f32) -> f32) {
        let [rows, within] = &self.position;
        // A lookup table, since integer levels have only 256 values.
        let values: [f32; 256] = std::array::from_fn(|level| normal(level as f32));
        plane.fill(values[0]);
        let row = within.len() * self.channels;
        for (at, y) in rows.clone().enumerate() {
            let to = &mut plane[y * columns..][within.clone()];
            let from = at * row + channel..(at + 1) * row;
            match &self.levels {
                Levels::Integer(levels) => {
                    let levels = levels[from].iter().step_by(self.channels);
                    to.iter_mut().zip(levels).for_each(|(to, &level)| *to = values[usize::from(level)]);
                }
                Levels::Float(levels) => {
                    let levels = levels[from].iter().step_by(self.channels);
                    to.iter_mut().zip(levels).for_each(|(to, &level)| *to = normal(level));
                }
            }
        }
    }
}

/// Converts RGB to grey with one byte per pixel, as Pillow's `convert("L")` does.
fn luminance(rgb: &[u8]) -> Vec<u8> {
    let level = |rgb: &[u8]| {
        let [r, g, b] = [0, 1, 2].map(|i| u32::from(rgb[i]));
        ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8
    };
    rgb.chunks_exact(3).map(level).collect()
}

/// Returns whether Pillow scales the height before the width. Since version 13 it does if the height loses
/// more than twice as many pixels as the width. The order affects the result because the intermediate picture
/// is rounded. With this choice, the intermediate picture is never larger than both the original and the
/// result.
fn height_first([tall, wide]: [usize; 2], [rows, columns]: [usize; 2]) -> bool {
    rows < tall && tall - rows > 2 * wide.saturating_sub(columns)
}

/// The rows and columns of a scaled picture; saturates on overflow.
fn scaled_size([rows, columns]: [usize; 2], resize: Resize) -> [usize; 2] {
    let longer = |short: usize, long: usize, new: usize| match new.checked_mul(long) {
        Some(product) => product / short,
        None => usize::MAX,
    };
    match resize {
        Resize::Exact(size) => size,
        Resize::Short(short) if columns <= rows => [longer(columns, rows, short), short],
        Resize::Short(short) => [short, longer(rows, columns, short)],
    }
}

fn check_size(what: &str, rows: usize, columns: usize) -> Result<()> {
    match rows.checked_mul(columns) {
        Some(1..=SCALED_LIMIT) => Ok(()),
        Some(0) => {
            Err(Error::Input(format!("the picture would be empty after {what} to {columns} x {rows} pixels")))
        }
        _ => Err(Error::Input(format!(
            "after {what}, the picture would have {columns} x {rows} pixels: the limit is {SCALED_LIMIT} in all"
        ))),
    }
}

/// The first row or column of a centre crop; negative if the crop has a black margin there.
fn crop_start(length: usize, crop: usize, centre: Centre) -> isize {
    if crop > length {
        return -(((crop - length) / 2) as isize);
    }
    let margin = length - crop;
    let half = margin / 2;
    match centre {
        Centre::Down => half as isize,
        Centre::HalfToEven => (half + (margin & half & 1)) as isize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize) -> Picture {
        Picture::new(width, height, vec![128; width * height * 3]).unwrap()
    }

    fn how(resize: Resize, crop: Option<[usize; 2]>) -> Preprocessing {
        Preprocessing { resize, crop, ..Preprocessing::default() }
    }

    #[test]
    fn sizes_follow_the_shorter_side() {
        assert_eq!(scaled_size([300, 451], Resize::Short(256)), [256, 384]);
        assert_eq!(scaled_size([451, 300], Resize::Short(256)), [384, 256]);
        assert_eq!(scaled_size([7, 7], Resize::Short(3)), [3, 3]);
        assert_eq!(scaled_size([1, usize::MAX], Resize::Short(2)), [2, usize::MAX]);
    }

    #[test]
    fn odd_margins_round_as_specified() {
        for (margin, even, down) in [(0, 0, 0), (1, 0, 0), (2, 1, 1), (3, 2, 1), (5, 2, 2), (7, 4, 3)] {
            assert_eq!(crop_start(224 + margin, 224, Centre::HalfToEven), even, "{margin}");
            assert_eq!(crop_start(224 + margin, 224, Centre::Down), down, "{margin}");
        }
        assert_eq!(crop_start(3, 6, Centre::Down), -1);
    }

    #[test]
    fn a_small_picture_is_framed_in_black() {
        let how = Preprocessing {
            mean: PerChannel::new(&[0.0]),
            std: PerChannel::new(&[1.0]),
            ..how(Resize::Exact([1, 2]), Some([4, 3]))
        };
        let tensor = preprocess(&grey(2, 1), &how).unwrap();
        let v = 128.0 / 255.0;
        let plane = [0.0, 0.0, 0.0, v, v, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(tensor.dims(), [1, 3, 4, 3]);
        assert_eq!(tensor.data(), [plane, plane, plane].concat());
    }

    #[test]
    fn channels_have_the_given_order_and_statistics() {
        let picture = Picture::new(1, 1, vec![51, 102, 204]).unwrap();
        let of = |colours, mean: &[f32], std: &[f32]| {
            let [mean, std] = [mean, std].map(PerChannel::new);
            let how = Preprocessing { colours, mean, std, ..how(Resize::Exact([1, 1]), None) };
            preprocess(&picture, &how).unwrap()
        };
        let close = |tensor: Tensor, expected: &[f32]| {
            assert_eq!(tensor.dims(), [1, expected.len(), 1, 1]);
            let apart = tensor.data().iter().zip(expected).map(|(a, b)| (a - b).abs());
            assert!(apart.fold(0.0, f32::max) < 1e-6, "{tensor:?}, {expected:?}");
        };
        let (mean, std) = ([0.1, 0.2, 0.3], [1.0, 2.0, 4.0]);
        close(of(Colours::Rgb, &mean, &std), &[0.1, 0.1, 0.125]);
        close(of(Colours::Bgr, &mean, &std), &[0.7, 0.1, -0.025]);
        // 0.299 * 51 + 0.587 * 102 + 0.114 * 204 = 98.379.
        close(of(Colours::Grey, &[0.5], &[0.5]), &[98.0 / 127.5 - 1.0]);
    }

    #[test]
    fn grids_of_points_begin_at_the_first_pixel() {
        let picture = Picture::new(3, 1, [0, 100, 200].map(|v| [v; 3]).concat()).unwrap();
        let scaled = |grid, filter, columns| {
            let one = |v| PerChannel::new(&[v]);
            let how = Preprocessing {
                grid,
                filter,
                colours: Colours::Grey,
                mean: one(0.0),
                std: one(1.0 / 255.0),
                ..how(Resize::Exact([1, columns]), None)
            };
            preprocess(&picture, &how).unwrap().into_data().iter().map(|v| v.round()).collect::<Vec<_>>()
        };
        use {Filter::*, Grid::*};
        assert_eq!(scaled(Corners, Linear, 5), [0.0, 50.0, 100.0, 150.0, 200.0]);
        assert_eq!(scaled(Corners, Linear, 2), [0.0, 200.0]);
        assert_eq!(scaled(Corners, Linear, 1), [0.0]);
        assert_eq!(scaled(Corners, Nearest, 5), [0.0, 100.0, 100.0, 200.0, 200.0]);
        assert_eq!(scaled(TopLeft, Linear, 6), [0.0, 50.0, 100.0, 150.0, 200.0, 200.0]);
        assert_eq!(scaled(TopLeft, Nearest, 6), [0.0, 0.0, 100.0, 100.0, 200.0, 200.0]);
        assert_eq!(scaled(TopLeft, Linear, 2), [0.0, 150.0]);
    }

    #[test]
    fn a_batch_holds_its_pictures_in_order() {
        let [a, b] = [grey(40, 30), Picture::new(1, 1, vec![9, 99, 199]).unwrap()];
        let how = how(Resize::Short(12), Some([10, 8]));
        let apart = [&a, &b].map(|p| preprocess(p, &how).unwrap().into_data()).concat();
        let batch = preprocess_batch(&[a, b], &how).unwrap();
        assert_eq!(batch.dims(), [2, 3, 10, 8]);
        assert_eq!(batch.data(), apart);
    }

    #[test]
    fn invalid_settings_are_refused() {
        let refusal = |picture: Picture, how: Preprocessing| {
            preprocess(&picture, &how).expect_err("should be refused").to_string()
        };
        assert!(refusal(grey(1, 60_000), Preprocessing::default()).contains("256 x 15360000"));
        assert!(refusal(grey(2, 2), how(Resize::Exact([0, 4]), None)).contains("empty"));
        assert!(refusal(grey(2, 2), how(Resize::Short(4), Some([usize::MAX, 2]))).contains("cropping"));
        assert!(
            refusal(
                grey(2, 2),
                Preprocessing { std: PerChannel::new(&[1.0, 0.0, 1.0]), ..Default::default() }
            )
            .contains("std")
        );
        for grid in [Grid::Corners, Grid::TopLeft] {
            for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
                let how = Preprocessing { grid, filter, ..Default::default() };
                let reason = refusal(grey(2, 2), how);
                assert!(reason.contains("without antialiasing") && reason.lines().count() == 1, "{reason}");
                assert!(input_size([2, 2], &how).is_err());
            }
        }
        let how_grey = Preprocessing { colours: Colours::Grey, ..Default::default() };
        assert!(refusal(grey(2, 2), how_grey).contains("mean: 3 numbers for 1 channels"));
        assert!(preprocess_batch(&[], &Preprocessing::default()).is_err());
        let sizes = preprocess_batch(&[grey(4, 4), grey(8, 4)], &how(Resize::Short(4), None));
        assert!(sizes.unwrap_err().to_string().contains("picture 1 becomes 8 x 4"));
    }
}
