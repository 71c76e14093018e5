//! The canvas that an animation's frames are drawn on.

use super::Picture;

/// A rectangle of a canvas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Area {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

impl Area {
    /// The column and row of each pixel, row by row.
    pub fn places(self) -> impl Iterator<Item = (usize, usize)> {
        let Self { left, top, width, height } = self;
        (top..top + height).flat_map(move |y| (left..left + width).map(move |x| (x, y)))
    }

    /// Returns whether the area has a pixel at this column and row.
    pub fn contains(self, (x, y): (usize, usize)) -> bool {
        let Self { left, top, width, height } = self;
        (left..left + width).contains(&x) && (top..top + height).contains(&y)
    }
}

/// A canvas of pixels of `N` bytes, initially zero.
pub(super) struct Canvas<const N: usize> {
    width: usize,
    height: usize,
    pixels: Vec<[u8; N]>,
}

impl<const N: usize> Canvas<N> {
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![[0; N]; width * height] }
    }

    /// The whole canvas.
    pub fn area(&self) -> Area {
        Area { left: 0, top: 0, width: self.width, height: self.height }
    }

    /// Returns whether the canvas contains `area`.
    pub fn holds(&self, area: Area) -> bool {
        let within =
            |start: usize, length: usize, all| start.checked_add(length).is_some_and(|end| end <= all);
        within(area.left, area.width, self.width) && within(area.top, area.height, self.height)
    }

    fn rows(&mut self, area: Area) -> impl Iterator<Item = &mut [[u8; N]]> {
        let rows = self.pixels.chunks_exact_mut(self.width).skip(area.top).take(area.height);
        rows.map(move |row| &mut row[area.left..area.left + area.width])
    }

    pub fn fill(&mut self, area: Area, colour: [u8; N]) {
        self.rows(area).for_each(|row| row.fill(colour));
    }

    /// Copies `area`, row by row.
    pub fn cut(&mut self, area: Area) -> Vec<[u8; N]> {
        self.rows(area).flat_map(|row| row.to_vec()).collect()
    }

    /// Draws `frame` on `area`: calls `draw` with each pixel of the canvas and of the frame.
    pub fn draw<T>(&mut self, area: Area, frame: &[T], mut draw: impl FnMut(&mut [u8; N], &T)) {
        for (row, new) in self.rows(area).zip(frame.chunks_exact(area.width.max(1))) {
            row.iter_mut().zip(new).for_each(|(under, over)| draw(under, over));
        }
    }

    /// The canvas as a picture, without alpha.
    pub fn picture(&self) -> Picture {
        let pixels = self.pixels.iter().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Picture { width: self.width, height: self.height, pixels }
    }
}
