//! The class of each pixel.

use std::cmp::Reverse;

use crate::tasks::Labels;
use crate::{Error, Result, Shape, Tensor, graph::NO_CLASS};

/// The class of each pixel of a picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Segmentation {
    width: usize,
    height: usize,
    labels: Vec<u8>,
}

/// Converts a label map `[1, 1, H, W]` of class numbers; see [`Op::Argmax`](crate::graph::Op::Argmax).
///
/// # Errors
/// [`Error::Output`] if it is not a label map of one picture, or a pixel has no class because one of its
/// scores is not finite.
pub fn segmentation(labels: &Tensor) -> Result<Segmentation> {
    let shape @ Shape { n, c, h, w } = labels.shape()?;
    if n != 1 || c != 1 {
        return Err(Error::Output(format!("{shape} is not a label map of one picture")));
    }
    if let Some(at) = labels.data().iter().position(|label| *label == f32::from(NO_CLASS)) {
        let (x, y) = (at % w, at / w);
        return Err(Error::Output(format!("the pixel at {x}, {y} has a score that is not finite")));
    }
    if let Some(odd) = labels.data().iter().find(|label| !(0.0..f32::from(NO_CLASS)).contains(*label)) {
        return Err(Error::Output(format!("{odd} is not a class")));
    }
    Segmentation::new(w, h, labels.data().iter().map(|label| *label as u8).collect())
}

/// A class and the share of a picture that it covers.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ClassArea {
    /// Its index in the network's output.
    pub index: usize,
    /// Its name, if known.
    pub label: Option<String>,
    /// The number of pixels that it covers, at least one.
    pub pixels: usize,
    /// Its share of all pixels, in 0..=1.
    pub share: f32,
}

impl Segmentation {
    /// A segmentation of `width` x `height` pixels; `labels` has their classes, row by row from the top.
    ///
    /// # Errors
    /// [`Error::Input`] if the width or height is zero or `labels` does not hold one class per pixel.
    pub fn new(width: usize, height: usize, labels: Vec<u8>) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(Error::Input(format!("a segmentation of {width} x {height} pixels is empty")));
        }
        if width.checked_mul(height) != Some(labels.len()) {
            return Err(Error::Input(format!(
                "{} classes do not match {width} x {height} pixels",
                labels.len()
            )));
        }
        Ok(Self { width, height, labels })
    }

    /// The width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The class of each pixel, row by row from the top.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Converts the segmentation into the class of each pixel, row by row from the top.
    pub fn into_labels(self) -> Vec<u8> {
        self.labels
    }

    /// The class of a pixel; `None` outside the picture.
    pub fn at(&self, x: usize, y: usize) -> Option<u8> {
        (x < self.width && y < self.height).then(|| self.labels[y * self.width + x])
    }

    /// Scales to `width` x `height` pixels: each gets the class of the pixel under its centre.
    ///
    /// # Errors
    /// [`Error::Input`] if the width or height is zero.
    pub fn resized(&self, width: usize, height: usize) -> Result<Self> {
        let columns: Vec<usize> = (0..width).map(|x| (2 * x + 1) * self.width / (2 * width)).collect();
        let row = |y: usize| &self.labels[(2 * y + 1) * self.height / (2 * height) * self.width..];
        let labels = (0..height).flat_map(|y| columns.iter().map(move |&x| row(y)[x]));
        Self::new(width, height, labels.collect())
    }

    /// The classes that occur, sorted by descending share of the picture and then by class.
    pub fn areas(&self, labels: &Labels) -> Vec<ClassArea> {
        let mut counts = [0; 256];
        self.labels.iter().for_each(|&class| counts[usize::from(class)] += 1);
        let area = |(index, pixels): (usize, usize)| ClassArea {
            index,
            label: labels.get(index).map(str::to_owned),
            pixels,
            share: (pixels as f64 / self.labels.len() as f64) as f32,
        };
        let counts = counts.into_iter().enumerate().filter(|&(_, pixels)| pixels > 0);
        let mut areas: Vec<ClassArea> = counts.map(area).collect();
        // A stable sort keeps classes of equal size in order.
        areas.sort_by_key(|area| Reverse(area.pixels));
        areas
    }

    /// Encodes the classes as a PNG file: an indexed 8-bit picture in the colours of [`palette`](super::palette).
    ///
    /// # Errors
    /// [`Error::Output`] if the width or height exceeds PNG's limit.
    #[cfg(feature = "image")]
    pub fn png(&self) -> Result<Vec<u8>> {
        super::picture::file::png_of(self.width, self.height, &self.labels, Some(&super::palette()))
    }
}

impl std::fmt::Debug for Segmentation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Segmentation({} x {})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_fractions_of_all_pixels_in_falling_order() {
        let segmentation = Segmentation::new(4, 2, vec![15, 8, 8, 0, 200, 15, 0, 8]).unwrap();
        let areas = segmentation.areas(&Labels::voc());
        let found: Vec<_> = areas.iter().map(|s| (s.index, s.pixels, s.share)).collect();
        assert_eq!(found, [(8, 3, 0.375), (0, 2, 0.25), (15, 2, 0.25), (200, 1, 0.125)]);
        let json = serde_json::to_value(&areas[2..]).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                { "index": 15, "label": "person", "pixels": 2, "share": 0.25 },
                { "index": 200, "label": null, "pixels": 1, "share": 0.125 },
            ])
        );
    }

    #[test]
    fn a_pixel_is_found_by_column_and_row() {
        let segmentation = Segmentation::new(3, 2, vec![0, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!((segmentation.at(2, 0), segmentation.at(0, 1)), (Some(2), Some(3)));
        assert_eq!((segmentation.at(3, 0), segmentation.at(0, 2)), (None, None));
    }

    #[test]
    fn pixels_must_fit_the_size() {
        assert!(Segmentation::new(3, 2, vec![0; 6]).is_ok());
        for (width, height, len) in [(0, 2, 0), (3, 0, 0), (3, 2, 5), (3, 2, 7), (usize::MAX, 2, 6)] {
            let error = Segmentation::new(width, height, vec![0; len]).unwrap_err();
            assert!(matches!(error, Error::Input(_)), "{width} x {height}, {len} classes");
        }
    }

    #[test]
    #[cfg(feature = "image")]
    fn a_png_holds_the_classes() {
        let labels: Vec<u8> = (0..37 * 11).map(|i| (i * i % 251) as u8).collect();
        let bytes = Segmentation::new(37, 11, labels.clone()).unwrap().png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        let info = reader.info();
        assert_eq!((info.width, info.height), (37, 11));
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Indexed, png::BitDepth::Eight));
        assert_eq!(info.palette.as_deref(), Some(super::super::palette().as_flattened()));
        let mut pixels = vec![0; 37 * 11];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, labels);
    }
}
