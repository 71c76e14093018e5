//! The anchor boxes of a single-shot detector, and the scale of the offsets that move them.

use super::Op;

/// The divisor of a box's centre offsets; [`SIZE_WEIGHT`] is the divisor of its size offsets.
/// torchvision's `BoxCoder(10, 10, 5, 5)`, from "SSD: Single Shot MultiBox Detector", arXiv 1512.02325.
pub const CENTRE_WEIGHT: u32 = 10;
/// The divisor of a box's size offsets; see [`CENTRE_WEIGHT`].
pub const SIZE_WEIGHT: u32 = 5;

/// The maximum growth of a box's width or height, as a natural logarithm: ln(1000 / 16). torchvision's
/// `bbox_xform_clip`.
pub const MOST_GROWTH: f32 = 4.135_166_6;

/// SSD's anchor boxes. Every pixel of level k has two squares, with sides s(k) and sqrt(s(k) s(k + 1)),
/// and for every ratio r a rectangle of s(k) sqrt(r) by s(k) / sqrt(r), in both orientations. Sides are
/// fractions of the picture's size, at most 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchors {
    /// The scale s of every level, plus one for the second square of the last level.
    pub scales: Vec<f64>,
    /// The aspect ratios, width over height.
    pub ratios: Vec<f64>,
}

/// A box as its centre, width and height, in pixels of the network's input.
pub type Anchor = [f32; 4];

impl Anchors {
    /// The number of boxes per pixel.
    pub fn each(&self) -> usize {
        2 + 2 * self.ratios.len()
    }

    /// All anchor boxes for maps of these rows and columns, level by level, row by row, for a picture of
    /// `height` x `width` pixels.
    pub fn over(&self, maps: &[[usize; 2]], [height, width]: [usize; 2]) -> Vec<Anchor> {
        let (height, width) = (height as f64, width as f64);
        let mut boxes = Vec::new();
        for (&[rows, columns], scales) in maps.iter().zip(self.scales.windows(2)) {
            let (own, next) = (scales[0], (scales[0] * scales[1]).sqrt());
            let mut sides = vec![[own, own], [next, next]];
            for ratio in &self.ratios {
                let [long, short] = [own * ratio.sqrt(), own / ratio.sqrt()];
                sides.extend([[long, short], [short, long]]);
            }
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                let centre = [(column as f64 + 0.5) / columns as f64, (row as f64 + 0.5) / rows as f64];
                boxes.extend(sides.iter().map(|side| {
                    let [w, h] = side.map(|side| side.clamp(0.0, 1.0));
                    [centre[0] * width, centre[1] * height, w * width, h * height].map(|v| v as f32)
                }));
            }
        }
        boxes
    }
}

impl Op {
    /// The anchors of [`Op::Boxes`]; none for other operations.
    pub fn anchors(&self) -> Option<&Anchors> {
        match self {
            Self::Boxes(anchors) => Some(anchors),
            _ => None,
        }
    }
}
