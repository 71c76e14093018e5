//! Draws a segmentation on its picture.

use crate::tasks::draw::{Area, BLACK, Colour, Pen, mix, name_of, scale, shortened};
use crate::tasks::{ClassArea, Labels, PIXEL_LIMIT, Picture, Segmentation, palette};
use crate::{Error, Result};

/// The maximum number of characters in a name.
const LETTERS: usize = 32;

/// The opacity of a class's colour.
const OPACITY: f32 = 0.6;

/// The minimum fraction of a picture that a class needs for the legend, so that it does not list noise.
const LISTED: f32 = 5e-4;

/// The colours of the legend's background and text.
const PAPER: Colour = [24, 24, 27];
const TEXT: Colour = [236, 236, 240];

/// Draws the classes over the picture, and a legend below it.
///
/// Each class except the background, 0, is tinted with its colour in [`palette`]. Only the brightness of the
/// picture shows through, so that tints have the hues of the legend on any picture. A class's outline is
/// opaque and has a dark edge.
/// The legend lists the classes of at least 0.05 % of the picture, the largest first, with their fractions.
/// If it is wider than the picture, the picture gets margins on both sides.
///
/// # Errors
/// [`Error::Input`] if the picture and the segmentation differ in size, or if a picture is so narrow and tall
/// that the margins would take it above [`PIXEL_LIMIT`].
pub fn overlay(picture: &Picture, segmentation: &Segmentation, labels: &Labels) -> Result<Picture> {
    check(picture, segmentation)?;
    let legend = Legend::new(picture, segmentation.areas(labels));
    let width = picture.width().max(legend.width() as usize);
    let height = picture.height() + legend.height() as usize;
    if width > picture.width() && width as u64 * height as u64 > PIXEL_LIMIT {
        let (w, h) = (picture.width(), picture.height());
        return Err(Error::Input(format!("a picture of {w} x {h} pixels is too narrow for a legend")));
    }
    let mut drawn = Picture::new(width, height, PAPER.repeat(width * height))?;

    let left = (width - picture.width()) / 2;
    let rows = tinted(picture, segmentation);
    for (to, from) in drawn.pixels_mut().chunks_exact_mut(width * 3).zip(rows.chunks_exact(picture.width())) {
        to[left * 3..][..from.len() * 3].copy_from_slice(from.as_flattened());
    }
    legend.draw(&mut drawn, picture.height() as isize);
    Ok(drawn)
}

/// Draws the classes over the picture as [`overlay`] does, without a legend, as for frames of a video.
///
/// # Errors
/// [`Error::Input`] if the picture and the segmentation differ in size.
pub fn tint(picture: &Picture, segmentation: &Segmentation) -> Result<Picture> {
    check(picture, segmentation)?;
    Picture::new(picture.width(), picture.height(), tinted(picture, segmentation).into_flattened())
}

fn check(picture: &Picture, segmentation: &Segmentation) -> Result<()> {
    let [(w, h), (sw, sh)] =
        [(picture.width(), picture.height()), (segmentation.width(), segmentation.height())];
    if (w, h) == (sw, sh) {
        return Ok(());
    }
    Err(Error::Input(format!("a segmentation of {sw} x {sh} pixels for a picture of {w} x {h}")))
}

/// The pixels with the colours of their classes over them.
fn tinted(picture: &Picture, segmentation: &Segmentation) -> Vec<Colour> {
    let palette = palette();
    let edges = edges(segmentation, (scale(picture) / 200.0).round().max(1.0) as usize);
    let pixels = picture.pixels().as_chunks().0.iter().zip(segmentation.labels()).zip(edges);
    let tint = |((&pixel, &class), edge): ((&Colour, &u8), bool)| {
        let colour = palette[usize::from(class)];
        match (class, edge) {
            (0, false) => pixel,
            (0, true) => mix(pixel, BLACK, 0.6),
            (_, true) => colour,
            _ => mix(grey(pixel), colour, OPACITY),
        }
    };
    pixels.map(tint).collect()
}

/// A pixel without its colour, by the weights of JPEG's luma.
fn grey(pixel: Colour) -> Colour {
    let [r, g, b] = pixel.map(u32::from);
    [((299 * r + 587 * g + 114 * b + 500) / 1000) as u8; 3]
}

/// Marks pixels at most `line` away, in their row or column, from a pixel of another class.
fn edges(segmentation: &Segmentation, line: usize) -> Vec<bool> {
    let (width, height) = (segmentation.width(), segmentation.height());
    let labels = segmentation.labels();
    let mut edges = vec![false; labels.len()];
    let mut mark = |start: usize, step: usize, length: usize| {
        for i in 1..length {
            if labels[start + (i - 1) * step] != labels[start + i * step] {
                (i.saturating_sub(line)..length.min(i + line)).for_each(|i| edges[start + i * step] = true);
            }
        }
    };
    (0..height).for_each(|y| mark(y * width, 1, width));
    (0..width).for_each(|x| mark(x, width, height));
    edges
}

/// A legend of colours, names and fractions, in columns.
struct Legend {
    pen: Pen,
    /// The colour, name and percentage of each class.
    entries: Vec<(Colour, String, String)>,
    columns: usize,
    rows: usize,
    /// The number of characters in the longest name.
    letters: usize,
}

impl Legend {
    fn new(picture: &Picture, areas: Vec<ClassArea>) -> Self {
        let palette = palette();
        let entry = |area: ClassArea| {
            let name = shortened(&name_of(area.index, area.label.as_deref()), LETTERS);
            (palette[area.index], name, format!("{:.1}%", 100.0 * area.share))
        };
        let entries: Vec<_> = areas.into_iter().filter(|area| area.share >= LISTED).map(entry).collect();
        let letters = entries.iter().map(|(_, name, _)| name.chars().count()).max().unwrap_or(0);
        let pen = Pen::new(scale(picture) / 36.0);
        let mut legend = Self { pen, entries, columns: 1, rows: 0, letters };
        let room = picture.width() as isize - 2 * legend.margin() + legend.gap();
        let fit = usize::try_from(room / (legend.column() + legend.gap())).unwrap_or(0);
        legend.rows = legend.entries.len().div_ceil(fit.max(1));
        // No more columns than these rows need, so that the columns are about equally long.
        legend.columns = legend.entries.len().div_ceil(legend.rows.max(1));
        legend
    }

    /// The margin around the legend, in pixels.
    fn margin(&self) -> isize {
        self.pen.height() / 2
    }

    /// The space between two columns, in pixels.
    fn gap(&self) -> isize {
        self.pen.width(3)
    }

    /// The distance between two rows, in pixels.
    fn line(&self) -> isize {
        self.pen.height() * 5 / 4
    }

    /// The size of a colour square, in pixels.
    fn swatch(&self) -> isize {
        self.pen.height() * 3 / 4
    }

    /// The width of a column with colour, name and percentage, in pixels.
    fn column(&self) -> isize {
        self.swatch() + self.pen.width(1 + self.letters + 1 + "100.0%".len())
    }

    fn width(&self) -> isize {
        let columns = self.columns as isize;
        2 * self.margin() + columns * self.column() + (columns - 1) * self.gap()
    }

    fn height(&self) -> isize {
        2 * self.margin() + (self.rows as isize - 1) * self.line() + self.pen.height()
    }

    /// Draws the legend, with its upper edge at the row `top`.
    fn draw(&self, picture: &mut Picture, top: isize) {
        for (i, (colour, name, percent)) in self.entries.iter().enumerate() {
            let (column, row) = ((i / self.rows) as isize, (i % self.rows) as isize);
            let left = self.margin() + column * (self.column() + self.gap());
            let top = top + self.margin() + row * self.line();
            let side = self.swatch();
            let swatch = Area { left, top: top + (self.pen.height() - side) / 2, width: side, height: side };
            // The background is not tinted: its square is empty.
            match *colour {
                BLACK => swatch.frame(picture, 1 + side / 24, mix(PAPER, TEXT, 0.5)),
                colour => swatch.fill(picture, colour),
            }
            self.pen.write(picture, left + side + self.pen.width(1), top, name, TEXT);
            let right = left + self.column() - self.pen.width(percent.len());
            self.pen.write(picture, right, top, percent, TEXT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(width: usize, height: usize) -> Picture {
        Picture::new(width, height, vec![100; width * height * 3]).unwrap()
    }

    /// A segmentation whose classes are a function of column and row.
    fn classes(width: usize, height: usize, class: impl Fn(usize, usize) -> usize) -> Segmentation {
        let labels = (0..width * height).map(|i| class(i % width, i / width) as u8).collect();
        Segmentation::new(width, height, labels).unwrap()
    }

    fn pixel(picture: &Picture, x: usize, y: usize) -> Colour {
        picture.pixels().as_chunks().0[y * picture.width() + x]
    }

    #[test]
    fn sizes_must_agree() {
        for (width, height) in [(4, 6), (5, 5), (6, 4)] {
            let error = overlay(&blank(6, 5), &classes(width, height, |_, _| 1), &Labels::voc()).unwrap_err();
            assert!(matches!(error, Error::Input(_)) && error.to_string().contains("6 x 5"), "{error}");
        }
        let tall = overlay(&blank(1, 2_000_000), &classes(1, 2_000_000, |_, _| 1), &Labels::voc());
        assert!(tall.unwrap_err().to_string().contains("too narrow"));
    }

    #[test]
    fn classes_are_tinted_and_outlined_and_the_background_is_not() {
        let segmentation = classes(400, 300, |x, _| if x < 200 { 0 } else { 9 });
        let drawn = overlay(&blank(400, 300), &segmentation, &Labels::voc()).unwrap();
        let tinted = mix([100; 3], palette()[9], OPACITY);
        assert_eq!(pixel(&drawn, 300, 150), tinted);
        for x in [200, 201] {
            assert_eq!((pixel(&drawn, 399 - x, 150), pixel(&drawn, x, 150)), ([40; 3], palette()[9]));
        }
        assert_eq!((pixel(&drawn, 202, 150), pixel(&drawn, 399, 0)), (tinted, tinted));
        assert!((0..198).all(|x| pixel(&drawn, x, 150) == [100; 3]));
    }

    #[test]
    fn edges_have_the_given_width() {
        let edges = edges(&classes(7, 7, |x, y| usize::from(x >= 5 && y >= 5)), 2);
        let rows: Vec<String> =
            edges.chunks(7).map(|row| row.iter().map(|&e| if e { '#' } else { '.' }).collect()).collect();
        assert_eq!(rows, [".......", ".......", ".......", ".....##", ".....##", "...####", "...####"]);
    }

    #[test]
    fn the_legend_lists_what_occurs() {
        // Class 9 is a single pixel of 10000.
        let segmentation = classes(1000, 10, |x, y| match (x, y) {
            (..600, _) => 15,
            (600, ..5) => 30,
            (999, 9) => 9,
            _ => 0,
        });
        let legend = Legend::new(&blank(1000, 10), segmentation.areas(&Labels::voc()));
        let [person, background, unknown] = legend.entries.as_slice() else { panic!("{:?}", legend.entries) };
        assert_eq!((person.1.as_str(), person.2.as_str()), ("person", "60.0%"));
        assert_eq!((background.1.as_str(), background.2.as_str()), ("background", "39.9%"));
        assert_eq!((unknown.1.as_str(), unknown.2.as_str()), ("class 30", "0.1%"));
        assert_eq!((person.0, legend.columns, legend.rows), (palette()[15], 3, 1));
    }

    #[test]
    fn the_legend_fits_below() {
        for (width, height) in [(1, 1), (7, 3), (3, 700), (900, 3), (300, 300), (1600, 1200)] {
            let many = classes(width, height, |x, y| x / 3 + y * 7);
            let drawn = overlay(&blank(width, height), &many, &Labels::coco()).unwrap();
            let legend = Legend::new(&blank(width, height), many.areas(&Labels::coco()));
            assert!(legend.columns * legend.rows >= legend.entries.len());
            assert_eq!(drawn.height(), height + legend.height() as usize, "{width} x {height}");
            assert_eq!(drawn.width(), width.max(legend.width() as usize), "{width} x {height}");
            assert!(legend.columns == 1 || legend.width() as usize <= width, "{width} x {height}");
            // The margin stays empty on all sides.
            let margin = legend.margin() as usize;
            for i in 0..drawn.width() {
                assert_eq!(pixel(&drawn, i, drawn.height() - 1), PAPER);
                assert_eq!(pixel(&drawn, i, height + margin - 1), PAPER);
            }
            assert!((height..drawn.height()).all(|y| pixel(&drawn, drawn.width() - 1, y) == PAPER));
        }
    }

    #[test]
    fn long_names_are_shortened() {
        let labels = Labels::from(vec!["猫 und Hund ".repeat(40)]);
        let drawn = overlay(&blank(50, 50), &classes(50, 50, |_, _| 0), &labels).unwrap();
        assert!(drawn.width() < 400, "{}", drawn.width());
    }
}
