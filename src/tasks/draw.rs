//! Draws areas, frames and text on a picture, clipped to its edges.

use std::ops::Range;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

use crate::tasks::{Picture, colours::luminance};

/// An RGB colour.
pub type Colour = [u8; 3];

pub const BLACK: Colour = [0; 3];
pub const WHITE: Colour = [255; 3];

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    pub left: isize,
    pub top: isize,
    pub width: isize,
    pub height: isize,
}

impl Area {
    pub fn right(self) -> isize {
        self.left + self.width
    }

    pub fn bottom(self) -> isize {
        self.top + self.height
    }

    pub fn overlaps(self, other: Self) -> bool {
        let apart = self.right() <= other.left
            || other.right() <= self.left
            || self.bottom() <= other.top
            || other.bottom() <= self.top;
        !apart
    }

    pub fn fill(self, picture: &mut Picture, colour: Colour) {
        let columns = within(self.left, self.right(), picture.width());
        let width = picture.width();
        for row in within(self.top, self.bottom(), picture.height()) {
            let row = &mut picture.pixels_mut()[row * width * 3..][..width * 3];
            row[columns.start * 3..columns.end * 3].as_chunks_mut().0.fill(colour);
        }
    }

    /// The area with `border` more pixels on every side.
    pub fn grown(self, border: isize) -> Self {
        Self {
            left: self.left - border,
            top: self.top - border,
            width: self.width + 2 * border,
            height: self.height + 2 * border,
        }
    }

    /// Draws a frame, `line` pixels thick, along the inside of the edge.
    pub fn frame(self, picture: &mut Picture, line: isize, colour: Colour) {
        let line = line.min(self.width).min(self.height);
        let (across, down) = (Self { height: line, ..self }, Self { width: line, ..self });
        across.fill(picture, colour);
        Self { top: self.bottom() - line, ..across }.fill(picture, colour);
        down.fill(picture, colour);
        Self { left: self.right() - line, ..down }.fill(picture, colour);
    }
}

/// Clips the range `start..end` to `0..limit`.
fn within(start: isize, end: isize, limit: usize) -> Range<usize> {
    let start = usize::try_from(start).unwrap_or(0).min(limit);
    start..usize::try_from(end).unwrap_or(0).clamp(start, limit)
}

/// Blends one colour over another.
pub fn mix(under: Colour, over: Colour, opacity: f32) -> Colour {
    std::array::from_fn(|i| {
        let (under, over) = (f32::from(under[i]), f32::from(over[i]));
        (under + (over - under) * opacity).round() as u8
    })
}

/// The more readable of black and white on a colour.
pub fn ink(paper: Colour) -> Colour {
    // The luminance whose contrasts with black and with white are equal.
    if luminance(paper) > 0.179 { BLACK } else { WHITE }
}

/// The reference length for drawing on a picture: the side of a square with the same number of pixels.
pub fn scale(picture: &Picture) -> f32 {
    (picture.width() as f32 * picture.height() as f32).sqrt()
}

/// Writes monospaced text of one size.
#[derive(Debug, Clone, Copy)]
pub struct Pen {
    raster: RasterHeight,
    /// The scale factor from the raster to the picture.
    factor: f32,
}

impl Pen {
    /// A pen whose lines are about `height` pixels high, and at least 16.
    pub fn new(height: f32) -> Self {
        let raster = match height {
            ..18.0 => RasterHeight::Size16,
            ..22.0 => RasterHeight::Size20,
            ..28.0 => RasterHeight::Size24,
            _ => RasterHeight::Size32,
        };
        // Small glyphs are sharpest unscaled.
        Self { raster, factor: (height / 32.0).max(1.0) }
    }

    /// The line height in pixels.
    pub fn height(self) -> isize {
        (self.raster.val() as f32 * self.factor).round() as isize
    }

    /// The width of this number of characters, in pixels.
    pub fn width(self, letters: usize) -> isize {
        let letter = get_raster_width(FontWeight::Regular, self.raster) as f32 * self.factor;
        letter.round() as isize * letters as isize
    }

    /// Writes one line from its top left corner. Characters without a glyph become `?`.
    pub fn write(self, picture: &mut Picture, left: isize, top: isize, text: &str, colour: Colour) {
        for (i, letter) in text.chars().enumerate() {
            let glyph = |letter| get_raster(letter, FontWeight::Regular, self.raster);
            let Some(glyph) = glyph(letter).or_else(|| glyph('?')) else { continue };
            let left = left + self.width(i);
            let width = picture.width();
            for y in within(top, top + self.height(), picture.height()) {
                for x in within(left, left + self.width(1), width) {
                    let opacity = self.opacity(glyph, x as isize - left, y as isize - top);
                    if opacity > 0.0 {
                        let pixel = &mut picture.pixels_mut().as_chunks_mut().0[y * width + x];
                        *pixel = mix(*pixel, colour, opacity);
                    }
                }
            }
        }
    }

    /// The fraction of a pixel that a glyph covers, in 0..=1.
    fn opacity(self, glyph: RasterizedChar, x: isize, y: isize) -> f32 {
        let at = |x: f32, y: f32| {
            let inside = x >= 0.0 && y >= 0.0;
            let level = if inside { glyph.pixel(x as usize, y as usize) } else { None };
            f32::from(level.unwrap_or(0)) / 255.0
        };
        let [u, v] = [x, y].map(|n| (n as f32 + 0.5) / self.factor - 0.5);
        let ([l, t], [fu, fv]) = ([u.floor(), v.floor()], [u - u.floor(), v - v.floor()]);
        let upper = at(l, t) * (1.0 - fu) + at(l + 1.0, t) * fu;
        let lower = at(l, t + 1.0) * (1.0 - fu) + at(l + 1.0, t + 1.0) * fu;
        let level = upper * (1.0 - fv) + lower * fv;
        // Edges stay one pixel wide at any scale.
        ((level - 0.5) * self.factor + 0.5).clamp(0.0, 1.0)
    }
}

/// Shortens a name to at most `letters` characters.
pub fn shortened(name: &str, letters: usize) -> String {
    let name = name.trim_matches(|c: char| c == '_' || c.is_whitespace());
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    let dots = letters.min(2);
    name.chars().take(letters - dots).chain(std::iter::repeat_n('.', dots)).collect()
}

/// The name of a class, or "class" and its number.
pub fn name_of(index: usize, label: Option<&str>) -> String {
    label.map_or_else(|| format!("class {index}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paper(width: usize, height: usize) -> Picture {
        Picture::new(width, height, vec![0; width * height * 3]).unwrap()
    }

    /// The rows of a picture as text, with `#` for pixels that are not black.
    fn rows(picture: &Picture) -> Vec<String> {
        let mark = |pixel: &Colour| if *pixel == BLACK { '.' } else { '#' };
        let pixels: Vec<char> = picture.pixels().as_chunks().0.iter().map(mark).collect();
        pixels.chunks(picture.width()).map(|row| row.iter().collect()).collect()
    }

    #[test]
    fn frames_are_drawn_inside_the_edge() {
        let mut picture = paper(6, 5);
        Area { left: 1, top: 0, width: 5, height: 4 }.frame(&mut picture, 1, WHITE);
        assert_eq!(rows(&picture), [".#####", ".#...#", ".#...#", ".#####", "......"]);
        // A frame thicker than the area fills it.
        let mut picture = paper(5, 3);
        Area { left: 1, top: 1, width: 2, height: 1 }.frame(&mut picture, 9, WHITE);
        assert_eq!(rows(&picture), [".....", ".##..", "....."]);
    }

    #[test]
    fn drawing_is_clipped_to_the_picture() {
        let far = isize::MAX / 4;
        let mut picture = paper(4, 3);
        Area { left: -2, top: 1, width: 4, height: far }.fill(&mut picture, WHITE);
        assert_eq!(rows(&picture), ["....", "##..", "##.."]);
        let before = picture.clone();
        for (left, top) in [(4, 0), (0, 3), (-9, 0), (0, -9), (far, far), (-far, -far)] {
            Area { left, top, width: 9, height: 9 }.frame(&mut picture, 2, [9; 3]);
            Pen::new(16.0).write(&mut picture, left.min(-500), top, "words", [9; 3]);
        }
        assert_eq!(picture, before);
    }

    #[test]
    fn touching_areas_do_not_overlap() {
        let at = |left, top| Area { left, top, width: 3, height: 2 };
        assert!(at(0, 0).overlaps(at(2, 1)) && at(0, 0).overlaps(at(-2, -1)));
        for (left, top) in [(3, 0), (-3, 0), (0, 2), (0, -2)] {
            assert!(!at(0, 0).overlaps(at(left, top)), "{left} {top}");
        }
    }

    #[test]
    fn ink_is_readable() {
        assert_eq!((ink([255, 255, 0]), ink([0, 0, 255])), (BLACK, WHITE));
        assert_eq!((ink([120; 3]), ink([115; 3])), (BLACK, WHITE));
    }

    #[test]
    fn letters_fill_their_line_at_every_size() {
        for height in [0.0, 16.0, 19.0, 25.0, 32.0, 50.0, 133.0] {
            let pen = Pen::new(height);
            assert!((pen.height() as f32 - height.max(16.0)).abs() <= 4.0, "{height}");
            let (width, lines) = (pen.width(3) as usize, pen.height() as usize);
            let mut picture = paper(width, lines);
            pen.write(&mut picture, 0, 0, "|_|", WHITE);
            let tall = rows(&picture).iter().filter(|row| row.contains('#')).count();
            assert!(tall * 2 > lines, "{height}: {tall} of {lines} rows");
            assert!(picture.pixels().iter().max() > Some(&200), "{height}");
        }
    }

    #[test]
    fn missing_glyphs_become_question_marks() {
        let written = |text| {
            let mut picture = paper(40, 16);
            Pen::new(16.0).write(&mut picture, 0, 0, text, WHITE);
            picture
        };
        assert_eq!(written("a猫\n"), written("a??"));
        assert_ne!(written("a"), written("ä"));
        assert_ne!(written("l"), written("ł"));
    }

    #[test]
    fn names_are_shortened_to_fit() {
        for (name, letters, expected) in [
            ("__background__", 10, "background"),
            ("potted plant", 12, "potted plant"),
            ("potted plant", 8, "potted.."),
            ("łódźłódź", 5, "łód.."),
            ("cat", 2, ".."),
            ("cat", 0, ""),
        ] {
            assert_eq!(shortened(name, letters), expected, "{name} {letters}");
        }
    }
}
