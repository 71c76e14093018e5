//! A wrapper of plotters with lengths in pixels, palettes, marks and dashes.

use std::io;

use plotters::{
    coord::Shift,
    element::DashedPathElement,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

/// Units per pixel: plotters draws at integer coordinates.
pub(super) const FINE: f64 = 8.0;

/// Font sizes of ticks and labels, and of texts next to values; the approximate width of a letter, as a
/// fraction of the font size.
pub(super) const TEXT: f64 = 13.0;
pub(super) const SMALL: f64 = 11.5;
pub(super) const LETTER: f64 = 0.6;

/// The colours of a page and its figures. Series have a contrast of at least 3:1 to the paper, and are
/// distinguishable with any of the three kinds of colour blindness.
pub(super) struct Palette {
    pub paper: RGBColor,
    pub ink: RGBColor,
    pub faint: RGBColor,
    pub grid: RGBColor,
    pub series: [RGBColor; 7],
}

pub(super) const LIGHT: Palette = Palette {
    paper: RGBColor(0xff, 0xff, 0xff),
    ink: RGBColor(0x1b, 0x1f, 0x24),
    faint: RGBColor(0x57, 0x60, 0x6a),
    grid: RGBColor(0xdf, 0xe3, 0xe8),
    series: [
        RGBColor(0x15, 0x4b, 0xa5),
        RGBColor(0xf0, 0x4a, 0x10),
        RGBColor(0x12, 0x8a, 0x5a),
        RGBColor(0xac, 0x79, 0xba),
        RGBColor(0x6d, 0xa4, 0x29),
        RGBColor(0x4a, 0x94, 0xe8),
        RGBColor(0x6b, 0x1f, 0x2a),
    ],
};

pub(super) const DARK: Palette = Palette {
    paper: RGBColor(0x15, 0x18, 0x1c),
    ink: RGBColor(0xe6, 0xe9, 0xed),
    faint: RGBColor(0xa0, 0xa8, 0xb2),
    grid: RGBColor(0x31, 0x37, 0x3f),
    series: [
        RGBColor(0x4d, 0x84, 0xff),
        RGBColor(0xe7, 0x8d, 0x1a),
        RGBColor(0x1f, 0xe0, 0xa2),
        RGBColor(0xb5, 0x93, 0xe4),
        RGBColor(0xf7, 0xee, 0x78),
        RGBColor(0xc2, 0xee, 0xff),
        RGBColor(0xef, 0x4a, 0x55),
    ],
};

/// The outlines of marks, about as large as a circle of radius 1. The first outline is empty and stands for
/// that circle.
pub(super) const MARKS: [&[At]; 7] = [
    &[],
    &[(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    &[(0.0, -1.15), (1.08, 0.8), (-1.08, 0.8)],
    &[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)],
    &[(0.0, 1.15), (1.08, -0.8), (-1.08, -0.8)],
    &[
        (-0.4, -1.2),
        (0.4, -1.2),
        (0.4, -0.4),
        (1.2, -0.4),
        (1.2, 0.4),
        (0.4, 0.4),
        (0.4, 1.2),
        (-0.4, 1.2),
        (-0.4, 0.4),
        (-1.2, 0.4),
        (-1.2, -0.4),
        (-0.4, -0.4),
    ],
    &[(-1.2, -0.7), (1.2, -0.7), (0.0, 0.25), (1.2, 1.2), (-1.2, 1.2)],
];

/// The lengths of the dashes of dashed series, and of the gaps between them.
pub(super) const DASHES: [(f64, f64); 4] = [(8.0, 5.0), (2.0, 4.0), (16.0, 5.0), (5.0, 9.0)];

/// A position or size in pixels, from the upper left.
pub(super) type At = (f64, f64);

pub(super) type Failure = DrawingAreaErrorKind<io::Error>;

pub(super) type Drawn = Result<(), Failure>;

/// A drawing: its size, and its SVG without the outer element.
pub(super) struct Drawing {
    pub size: At,
    pub svg: String,
}

/// The look of a series, which distinguishes it from the others.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub dashed: bool,
    pub colour: RGBColor,
    /// The index in [`MARKS`] or, if dashed, in [`DASHES`].
    pub shape: usize,
}

pub(super) fn drawing(
    size: At,
    draw: impl FnOnce(DrawingArea<SVGBackend<'_>, Shift>) -> Drawn,
) -> Result<Drawing, Failure> {
    let mut svg = String::new();
    let (width, height) = fine(size);
    let area = SVGBackend::with_string(&mut svg, (width as u32, height as u32)).into_drawing_area();
    draw(area)?;
    // The page writes the outer element, with the drawing's name.
    let inner = svg.split_once('>').and_then(|(_, rest)| rest.rsplit_once("</svg>"));
    let svg = inner.map_or_else(String::new, |(inner, _)| inner.trim().into());
    Ok(Drawing { size: (width as f64, height as f64), svg })
}

/// Converts pixels to integer units.
pub(super) fn fine((x, y): At) -> (i32, i32) {
    ((x * FINE).round() as i32, (y * FINE).round() as i32)
}

pub(super) fn width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * LETTER
}

/// A drawing target: SVG or pixels.
pub(super) trait Canvas: DrawingBackend<ErrorType = io::Error> {}

impl<C: DrawingBackend<ErrorType = io::Error>> Canvas for C {}

/// Returns the part of an area at position `at`, of this size.
pub(super) fn part<C: Canvas>(area: &DrawingArea<C, Shift>, at: At, size: At) -> DrawingArea<C, Shift> {
    area.clone().shrink(fine(at), fine(size))
}

/// A pen with lengths in pixels.
pub(super) struct Pen<'b, C: Canvas> {
    pub area: DrawingArea<C, Shift>,
    pub palette: &'b Palette,
}

impl<C: Canvas> Pen<'_, C> {
    pub fn line(&self, points: &[At], colour: RGBColor, wide: f64) -> Drawn {
        let points: Vec<_> = points.iter().copied().map(fine).collect();
        self.area.draw(&PathElement::new(points, colour.stroke_width((wide * FINE) as u32)))
    }

    pub fn dashes(&self, points: &[At], look: Look) -> Drawn {
        let (dash, gap) = fine(DASHES[look.shape]);
        let points = points.iter().copied().map(fine);
        let style = look.colour.stroke_width((1.75 * FINE) as u32);
        self.area.draw(&DashedPathElement::new(points, dash, gap, style))
    }

    pub fn rectangle(&self, from: At, to: At, colour: RGBColor) -> Drawn {
        self.area.draw(&Rectangle::new([fine(from), fine(to)], colour.filled()))
    }

    pub fn mark(&self, (x, y): At, look: Look, size: f64, alpha: f64) -> Drawn {
        let (outline, style) = (MARKS[look.shape], look.colour.mix(alpha).filled());
        if outline.is_empty() {
            return self.area.draw(&Circle::new(fine((x, y)), (size * FINE) as i32, style));
        }
        let points: Vec<_> = outline.iter().map(|&(dx, dy)| fine((x + size * dx, y + size * dy))).collect();
        self.area.draw(&Polygon::new(points, style))
    }

    pub fn text(
        &self,
        text: &str,
        at: At,
        pos: (HPos, VPos),
        size: f64,
        colour: RGBColor,
        vertical: bool,
    ) -> Drawn {
        // The backend divides by 1.24, its ratio of line height to font size.
        let style = TextStyle::from(("system-ui, sans-serif", 1.24 * size * FINE).into_font())
            .color(&colour)
            .pos(Pos::new(pos.0, pos.1))
            .transform(if vertical { FontTransform::Rotate270 } else { FontTransform::None });
        self.area.draw(&Text::new(text.to_string(), fine(at), style))
    }
}
