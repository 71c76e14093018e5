//! Figures as PNG files: drawn at four times the file's resolution, for smooth edges, with the font of
//! `tasks::draw`.

use std::io;

use plotters::{
    coord::Shift,
    drawing::{DrawingArea, IntoDrawingArea},
    style::text_anchor::{HPos, VPos},
};
use plotters_backend::{
    BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontTransform,
};

use super::pen::{At, Drawn, FINE, Failure, fine};
use crate::tasks::{Picture, draw};

/// Units per pixel of the file. The file has twice the drawing's resolution.
const SHRINK: usize = FINE as usize / 2;

/// A drawing target of pixels.
pub(super) struct Raster<'a> {
    width: usize,
    height: usize,
    /// RGB pixels, row by row.
    pixels: &'a mut Vec<[u8; 3]>,
    words: &'a mut Vec<Words>,
}

/// A line of text. Texts are written after everything else is drawn.
struct Words {
    text: String,
    at: BackendCoord,
    anchor: (HPos, VPos),
    height: f64,
    colour: [u8; 3],
    vertical: bool,
}

/// Returns the drawing of `draw` as the bytes of a PNG file.
pub(super) fn png(
    size: At,
    draw: impl FnOnce(DrawingArea<Raster<'_>, Shift>) -> Drawn,
) -> Result<Vec<u8>, Failure> {
    let shrink = SHRINK as i32;
    let (width, height) = fine(size);
    // Round down to whole pixels of the file.
    let (width, height) = ((width / shrink * shrink) as usize, (height / shrink * shrink) as usize);
    let (mut pixels, mut words) = (vec![[255; 3]; width * height], Vec::new());
    let raster = Raster { width, height, pixels: &mut pixels, words: &mut words };
    draw(raster.into_drawing_area())?;

    let mut small = Vec::new();
    let area = (SHRINK * SHRINK) as u32;
    for rows in pixels.chunks_exact(width * SHRINK) {
        for x in (0..width).step_by(SHRINK) {
            let covered = rows.chunks_exact(width).flat_map(|row| &row[x..x + SHRINK]);
            let sums = covered
                .fold([0; 3], |sums: [u32; 3], pixel| [0, 1, 2].map(|c| sums[c] + u32::from(pixel[c])));
            small.extend(sums.map(|sum| ((sum + area / 2) / area) as u8));
        }
    }
    let failed =
        |error: crate::Error| Failure::BackendError(DrawingErrorKind::DrawingError(io::Error::other(error)));
    let mut picture = Picture::new(width / SHRINK, height / SHRINK, small).map_err(failed)?;
    for words in words {
        words.write(&mut picture);
    }
    picture.png().map_err(failed)
}

impl Words {
    fn write(self, picture: &mut Picture) {
        let text = plain(&self.text);
        let pen = draw::Pen::new(self.height as f32 / SHRINK as f32);
        let (wide, high) = (pen.width(text.chars().count()), pen.height());
        let (x, y) = (self.at.0 as isize / SHRINK as isize, self.at.1 as isize / SHRINK as isize);
        let along = match self.anchor.0 {
            HPos::Left => 0,
            HPos::Center => -wide / 2,
            HPos::Right => -wide,
        };
        let across = match self.anchor.1 {
            VPos::Top => 0,
            VPos::Center => -high / 2,
            VPos::Bottom => -high,
        };
        if !self.vertical {
            return pen.write(picture, x + along, y + across, &text, self.colour);
        }
        // Written horizontally on a strip, which is then rotated.
        let (Ok(columns), Ok(rows)) = (usize::try_from(wide), usize::try_from(high)) else { return };
        let Ok(mut strip) = Picture::new(columns, rows, vec![255; 3 * columns * rows]) else { return };
        pen.write(&mut strip, 0, 0, &text, self.colour);
        let width = picture.width();
        for (i, colour) in strip.pixels().as_chunks::<3>().0.iter().enumerate() {
            let (u, v) = ((i % columns) as isize, (i / columns) as isize);
            let (x, y) = (x + across + v, y - along - u - 1);
            let inside = (0..width as isize).contains(&x) && (0..picture.height() as isize).contains(&y);
            if inside && *colour != [255; 3] {
                picture.pixels_mut().as_chunks_mut().0[y as usize * width + x as usize] = *colour;
            }
        }
    }
}

/// Replaces characters that the font lacks.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut raised = false;
    for letter in text.chars() {
        let digit = "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|raised| raised == letter);
        let exponent = digit.is_some() || letter == '⁻';
        if exponent && !raised {
            plain.push('^');
        }
        raised = exponent;
        match (letter, digit) {
            (_, Some(digit)) => plain += &digit.to_string(),
            ('⁻' | '−', _) => plain.push('-'),
            ('\u{202f}', _) => plain.push(' '),
            (letter, _) => plain.push(letter),
        }
    }
    plain
}

impl DrawingBackend for Raster<'_> {
    type ErrorType = io::Error;

    fn get_size(&self) -> (u32, u32) {
        (self.width as u32, self.height as u32)
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<io::Error>> {
        Ok(())
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<io::Error>> {
        Ok(())
    }

    fn draw_pixel(
        &mut self,
        (x, y): BackendCoord,
        colour: BackendColor,
    ) -> Result<(), DrawingErrorKind<io::Error>> {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return Ok(()) };
        if x < self.width && y < self.height {
            let pixel = &mut self.pixels[y * self.width + x];
            *pixel = draw::mix(*pixel, colour.rgb.into(), colour.alpha as f32);
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        at: BackendCoord,
    ) -> Result<(), DrawingErrorKind<io::Error>> {
        let anchor = style.anchor();
        self.words.push(Words {
            text: text.into(),
            at,
            anchor: (anchor.h_pos, anchor.v_pos),
            // Undoes the factor of 1.24 in `Pen::text`.
            height: style.size() / 1.24,
            colour: style.color().rgb.into(),
            vertical: !matches!(style.transform(), FontTransform::None),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn characters_that_the_font_lacks_are_replaced() {
        assert_eq!(plain("−0.5·10⁻⁶ 12\u{202f}000"), "-0.5·10^-6 12 000");
        assert_eq!(plain("10⁶ ms"), "10^6 ms");
    }
}
