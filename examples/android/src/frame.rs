//! From a camera's frame to an upright picture.

use goldcrest::tasks::Picture;

use crate::Error;

/// A frame in Android's format `YUV_420_888`: luma, and two planes of chroma with half the columns and rows.
pub struct Frame<'a> {
    /// The number of columns.
    pub width: usize,
    /// The number of rows.
    pub height: usize,
    /// Y, U and V.
    pub planes: [Plane<'a>; 3],
    /// The clockwise rotation that brings it upright, in degrees.
    pub rotation: usize,
}

/// A plane of samples. Planes may share memory: often U and V alternate.
pub struct Plane<'a> {
    /// The bytes from the first sample to the last. The last row may be shorter than the others.
    pub samples: &'a [u8],
    /// Bytes from one row to the next.
    pub row_stride: usize,
    /// Bytes from one sample to the next.
    pub pixel_stride: usize,
}

impl Frame<'_> {
    /// The upright picture in RGB.
    pub fn picture(&self) -> Result<Picture, Error> {
        let [y, u, v] = &self.planes;
        let (columns, rows) = (self.width, self.height);
        y.check("luma", columns, rows)?;
        u.check("U", columns.div_ceil(2), rows.div_ceil(2))?;
        v.check("V", columns.div_ceil(2), rows.div_ceil(2))?;
        let (width, height) = match self.rotation {
            0 | 180 => (columns, rows),
            90 | 270 => (rows, columns),
            other => return Err(Error::Frame(format!("cannot be rotated by {other} degrees"))),
        };
        let mut pixels = Vec::with_capacity(3 * width * height);
        for row in 0..height {
            for column in 0..width {
                let (x, y_) = match self.rotation {
                    0 => (column, row),
                    90 => (row, rows - 1 - column),
                    180 => (columns - 1 - column, rows - 1 - row),
                    _ => (columns - 1 - row, column),
                };
                pixels.extend(rgb(y.at(x, y_), u.at(x / 2, y_ / 2), v.at(x / 2, y_ / 2)));
            }
        }
        Ok(Picture::new(width, height, pixels)?)
    }
}

impl Plane<'_> {
    fn check(&self, name: &str, columns: usize, rows: usize) -> Result<(), Error> {
        let last = rows.saturating_sub(1).checked_mul(self.row_stride);
        let last =
            last.and_then(|row| row.checked_add(columns.saturating_sub(1).checked_mul(self.pixel_stride)?));
        match last {
            Some(last) if last < self.samples.len() => Ok(()),
            _ => Err(Error::Frame(format!(
                "{columns} columns and {rows} rows do not fit the {} bytes of {name}",
                self.samples.len()
            ))),
        }
    }

    fn at(&self, column: usize, row: usize) -> f32 {
        self.samples[row * self.row_stride + column * self.pixel_stride].into()
    }
}

/// Android's cameras use BT.601 with the full range, like JPEG.
fn rgb(y: f32, u: f32, v: f32) -> [u8; 3] {
    let (u, v) = (u - 128.0, v - 128.0);
    [y + 1.402 * v, y - 0.344_136 * u - 0.714_136 * v, y + 1.772 * u].map(|value| value.round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four columns and two rows. Luma counts up; chroma is grey on the left and red on the right.
    fn frame<'a>(luma: &'a [u8], chroma: &'a [u8], rotation: usize) -> Frame<'a> {
        // V and U alternate, as on most devices, and luma's rows are padded to five bytes.
        let plane = |samples, row_stride, pixel_stride| Plane { samples, row_stride, pixel_stride };
        let planes = [plane(luma, 5, 1), plane(&chroma[1..], 4, 2), plane(&chroma[..3], 4, 2)];
        Frame { width: 4, height: 2, planes, rotation }
    }

    const LUMA: [u8; 9] = [0, 1, 2, 3, 99, 4, 5, 6, 7];
    const CHROMA: [u8; 4] = [128, 128, 228, 128];

    #[test]
    fn samples_follow_the_strides() {
        let picture = frame(&LUMA, &CHROMA, 0).picture().unwrap();
        assert_eq!([picture.width(), picture.height()], [4, 2]);
        let red = |y: u8| [y + 140, 0, y];
        let expected = [[0; 3], [1; 3], red(2), red(3), [4; 3], [5; 3], red(6), red(7)];
        assert_eq!(picture.pixels(), expected.as_flattened());
    }

    #[test]
    fn rotations_are_clockwise() {
        for (rotation, width, blue) in [
            (0, 4, [0, 1, 2, 3, 4, 5, 6, 7]),
            (90, 2, [4, 0, 5, 1, 6, 2, 7, 3]),
            (180, 4, [7, 6, 5, 4, 3, 2, 1, 0]),
            (270, 2, [3, 7, 2, 6, 1, 5, 0, 4]),
        ] {
            let picture = frame(&LUMA, &CHROMA, rotation).picture().unwrap();
            assert_eq!(picture.width(), width);
            assert_eq!(picture.pixels().iter().skip(2).step_by(3).copied().collect::<Vec<_>>(), blue);
        }
    }

    #[test]
    fn frames_that_do_not_fit_their_planes() {
        for (frame, words) in [
            (frame(&LUMA[..8], &CHROMA, 0), "luma"),
            (frame(&LUMA, &CHROMA[..3], 0), "U"),
            (frame(&LUMA, &CHROMA, 45), "45"),
            (Frame { height: usize::MAX, ..frame(&LUMA, &CHROMA, 0) }, "luma"),
        ] {
            let error = frame.picture().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
