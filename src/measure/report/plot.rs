//! A figure as SVG, in one palette.
//!
//! Lengths are in pixels of a figure that is [`WIDTH`] wide; the page scales it. Series differ in
//! colour and in the shape of their marks, theories in their dashes, so that colour is never
//! needed to tell them apart.

use std::io;

use plotters::{
    coord::Shift,
    element::DashedPathElement,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Figure, Kind, Point, Scale, Series, Style, axis::Ruler, digits, number};
use crate::Error;

/// plotters draws on whole units: so many of them are a pixel.
const FINE: f64 = 8.0;

/// A figure's size; names of categories may make it higher.
const WIDTH: f64 = 660.0;
const HEIGHT: f64 = 380.0;

/// Sizes of letters: of ticks and labels, and of what is written beside values. A letter is about
/// so wide, of one that is high.
const TEXT: f64 = 13.0;
const SMALL: f64 = 11.5;
const LETTER: f64 = 0.6;

/// Between lines of text.
const LEADING: f64 = 15.0;

/// The longest name of a category that stands upright.
const LONGEST: usize = 30;

/// More points than this are drawn smaller, and one shines through another.
const MANY: usize = 120;

/// What a page and its figures are coloured with. Series have three times the paper's contrast at
/// least, and stay apart in the three kinds of colour blindness.
pub(super) struct Palette {
    /// The class of what is drawn with it.
    pub name: &'static str,
    pub paper: RGBColor,
    pub ink: RGBColor,
    pub faint: RGBColor,
    pub grid: RGBColor,
    pub series: [RGBColor; 7],
}

pub(super) const LIGHT: Palette = Palette {
    name: "light",
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
    name: "dark",
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

/// The outlines of marks within a circle of radius 1; the first is that circle.
const MARKS: [&[At]; 7] = [
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

/// Dashes of theories, and the gaps between them.
const DASHES: [(f64, f64); 4] = [(8.0, 5.0), (2.0, 4.0), (16.0, 5.0), (5.0, 9.0)];

/// A place in pixels, from the upper left.
type At = (f64, f64);

type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// A drawing: its size, and SVG without the element around it.
pub(super) struct Drawing {
    pub size: At,
    pub svg: String,
}

/// How a series is told from the others.
#[derive(Clone, Copy)]
struct Look {
    dashed: bool,
    colour: RGBColor,
    /// Of [`MARKS`], or of [`DASHES`].
    shape: usize,
}

impl Figure {
    /// The points of a series that have a place in the figure.
    pub(super) fn shown<'a>(&'a self, series: &'a Series) -> impl Iterator<Item = &'a Point> {
        series.points.iter().filter(|point| self.x.scale.holds(point.x) && self.y.scale.holds(point.y))
    }

    fn looks(&self, palette: &Palette) -> Vec<Look> {
        let (mut solid, mut theories) = (0.., 0..);
        let look = |series: &Series| {
            let dashed = series.style == Style::Dashed;
            let nth: usize = if dashed { &mut theories } else { &mut solid }.next().unwrap_or(0);
            let shapes = if dashed { DASHES.len() } else { MARKS.len() };
            let colour = if dashed { palette.ink } else { palette.series[nth % palette.series.len()] };
            Look { dashed, colour, shape: nth % shapes }
        };
        self.series.iter().map(look).collect()
    }
}

/// The figure.
///
/// # Errors
/// [`Error::Figure`], with its title.
pub(super) fn figure(figure: &Figure, palette: &Palette) -> Result<Drawing, Error> {
    let frame = Frame::new(figure);
    drawing((WIDTH, frame.height), |area| {
        let mut plot = Plot { pen: Pen { area, palette }, figure, frame: &frame, taken: Vec::new() };
        plot.axes()?;
        match figure.kind {
            Kind::Points => plot.points(),
            Kind::Bars | Kind::StackedBars => plot.bars(),
        }
    })
    .map_err(|cause| failed(figure, cause))
}

/// What stands for each series in the legend.
///
/// # Errors
/// [`Error::Figure`], with its title.
pub(super) fn legend(figure: &Figure, palette: &Palette) -> Result<Vec<Drawing>, Error> {
    let swatch = |(look, series): (Look, &Series)| {
        drawing((28.0, 14.0), |area| {
            let pen = Pen { area, palette };
            if look.dashed {
                return pen.dashes(&[(1.0, 7.0), (27.0, 7.0)], look);
            }
            if figure.kind != Kind::Points {
                return pen.rectangle((2.0, 2.0), (26.0, 12.0), look.colour);
            }
            if series.style == Style::Line {
                pen.line(&[(1.0, 7.0), (27.0, 7.0)], look.colour, 2.0)?;
            }
            pen.mark((14.0, 7.0), look, 4.0, 1.0)
        })
    };
    let looks = figure.looks(palette);
    let swatches: Result<_, _> = looks.into_iter().zip(&figure.series).map(swatch).collect();
    swatches.map_err(|cause| failed(figure, cause))
}

fn failed(figure: &Figure, cause: DrawingAreaErrorKind<io::Error>) -> Error {
    Error::Figure { figure: figure.title.clone(), reason: cause.to_string() }
}

fn drawing(
    size: At,
    draw: impl FnOnce(DrawingArea<SVGBackend<'_>, Shift>) -> Drawn,
) -> Result<Drawing, DrawingAreaErrorKind<io::Error>> {
    let mut svg = String::new();
    let (width, height) = fine(size);
    let area = SVGBackend::with_string(&mut svg, (width as u32, height as u32)).into_drawing_area();
    draw(area)?;
    // The page writes the element around it, with what it is called there.
    let inner = svg.split_once('>').and_then(|(_, rest)| rest.rsplit_once("</svg>"));
    let svg = inner.map_or_else(String::new, |(inner, _)| inner.trim().into());
    Ok(Drawing { size: (width as f64, height as f64), svg })
}

/// A place in whole units.
fn fine((x, y): At) -> (i32, i32) {
    ((x * FINE).round() as i32, (y * FINE).round() as i32)
}

fn width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * LETTER
}

/// Where the axes are.
struct Frame {
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Ruler,
    y: Ruler,
    names: Names,
}

/// How categories are named below the axis.
enum Names {
    /// None are.
    Numbers,
    /// On lines below one another.
    Lines(Vec<Vec<String>>),
    /// Upright, each so many-th.
    Upright(Vec<String>, usize),
}

impl Frame {
    fn new(figure: &Figure) -> Self {
        let points = || figure.series.iter().flat_map(|series| figure.shown(series));
        let x = Ruler::new(&figure.x.scale, points().map(|point| point.x));
        let (mut values, mut scale) = (vec![], figure.y.scale.clone());
        if figure.kind != Kind::Points {
            values.push(0.0);
        }
        for point in points() {
            values.extend([Some(point.y), point.low, point.high].into_iter().flatten());
        }
        if figure.kind == Kind::StackedBars {
            // Lengths are added, which logarithms are not.
            scale = Scale::Linear;
            let bars = figure.series.iter().filter(|series| series.style != Style::Dashed);
            let mut sums = std::collections::BTreeMap::new();
            for point in bars.flat_map(|series| figure.shown(series)) {
                *sums.entry(point.x.round() as i64).or_insert(0.0) += point.y.max(0.0);
            }
            values.extend(sums.into_values());
        }
        let y = Ruler::new(&scale, values.into_iter());
        let ticks = y.ticks.iter().map(|tick| width(&tick.text, TEXT)).fold(0.0, f64::max);
        let (left, right, top) = (ticks + 14.0, WIDTH - 14.0, 32.0);
        let (names, below) = match &figure.x.scale {
            Scale::Categories(names) => Names::new(names, right - left),
            _ => (Names::Numbers, LEADING),
        };
        let label = if figure.x.label.is_empty() { 4.0 } else { LEADING + 10.0 };
        let bottom = HEIGHT - 2.0 * LEADING - 18.0;
        Self { height: bottom + 8.0 + below + label, left, right, top, bottom, x, y, names }
    }

    fn place(&self, x: f64, y: f64) -> At {
        (
            self.left + self.x.place(x) * (self.right - self.left),
            self.bottom - self.y.place(y) * (self.bottom - self.top),
        )
    }
}

impl Names {
    /// The names of a row of categories, and how high they are.
    fn new(names: &[String], room: f64) -> (Self, f64) {
        let slot = room / names.len().max(1) as f64;
        let letters = (slot / (TEXT * LETTER)) as usize;
        let lines: Vec<Vec<String>> = names.iter().map(|name| lines(name, letters)).collect();
        let fits =
            |lines: &Vec<String>| lines.len() <= 3 && lines.iter().all(|l| l.chars().count() <= letters);
        if lines.iter().all(fits) {
            let most = lines.iter().map(Vec::len).max().unwrap_or(0);
            return (Self::Lines(lines), most as f64 * LEADING);
        }
        let names: Vec<String> = names.iter().map(|name| shortened(name)).collect();
        let high = names.iter().map(|name| width(name, TEXT)).fold(0.0, f64::max);
        let every = (LEADING / slot).ceil() as usize;
        (Self::Upright(names, every.max(1)), high)
    }
}

/// A name on lines of so many letters, broken between words, and within those that are too long.
fn lines(name: &str, letters: usize) -> Vec<String> {
    let pieces = name.split_inclusive(' ').flat_map(|word| {
        let long = word.chars().count() > letters;
        word.split_inclusive(move |c| long && "/_-×,".contains(c))
    });
    let mut lines: Vec<String> = vec![];
    for piece in pieces {
        match lines.last_mut() {
            Some(line) if (line.clone() + piece).trim_end().chars().count() <= letters => {
                line.push_str(piece);
            }
            _ => lines.push(piece.into()),
        }
    }
    lines.iter().map(|line| line.trim_end().into()).collect()
}

/// A name without its middle, if it is too long: names that begin alike often differ at the end.
fn shortened(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= LONGEST {
        return name.into();
    }
    let half = LONGEST / 2;
    let (head, tail) = (&letters[..half], &letters[letters.len() - half + 1..]);
    head.iter().chain(&['…']).chain(tail).collect()
}

/// Draws in pixels.
struct Pen<'a, 'b> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    palette: &'b Palette,
}

impl Pen<'_, '_> {
    fn line(&self, points: &[At], colour: RGBColor, wide: f64) -> Drawn {
        let points: Vec<_> = points.iter().copied().map(fine).collect();
        self.area.draw(&PathElement::new(points, colour.stroke_width((wide * FINE) as u32)))
    }

    fn dashes(&self, points: &[At], look: Look) -> Drawn {
        let (dash, gap) = fine(DASHES[look.shape]);
        let points = points.iter().copied().map(fine);
        let style = look.colour.stroke_width((1.75 * FINE) as u32);
        self.area.draw(&DashedPathElement::new(points, dash, gap, style))
    }

    fn rectangle(&self, from: At, to: At, colour: RGBColor) -> Drawn {
        self.area.draw(&Rectangle::new([fine(from), fine(to)], colour.filled()))
    }

    fn mark(&self, (x, y): At, look: Look, size: f64, alpha: f64) -> Drawn {
        let (outline, style) = (MARKS[look.shape], look.colour.mix(alpha).filled());
        if outline.is_empty() {
            return self.area.draw(&Circle::new(fine((x, y)), (size * FINE) as i32, style));
        }
        let points: Vec<_> = outline.iter().map(|&(dx, dy)| fine((x + size * dx, y + size * dy))).collect();
        self.area.draw(&Polygon::new(points, style))
    }

    fn text(
        &self,
        text: &str,
        at: At,
        pos: (HPos, VPos),
        size: f64,
        colour: RGBColor,
        upright: bool,
    ) -> Drawn {
        // The backend divides by 1.24, its idea of the height of a line.
        let style = TextStyle::from(("system-ui, sans-serif", 1.24 * size * FINE).into_font())
            .color(&colour)
            .pos(Pos::new(pos.0, pos.1))
            .transform(if upright { FontTransform::Rotate270 } else { FontTransform::None });
        self.area.draw(&Text::new(text.to_string(), fine(at), style))
    }
}

/// A figure being drawn.
struct Plot<'a, 'b> {
    pen: Pen<'a, 'b>,
    figure: &'b Figure,
    frame: &'b Frame,
    /// Where something is that labels should not cover: two corners.
    taken: Vec<(At, At)>,
}

impl Plot<'_, '_> {
    fn axes(&self) -> Drawn {
        let (pen, figure, frame) = (&self.pen, self.figure, self.frame);
        let Palette { ink, faint, grid, .. } = pen.palette;
        let &Frame { left, right, top, bottom, .. } = frame;
        pen.text(&figure.y.label, (0.0, 0.0), (HPos::Left, VPos::Top), TEXT, *ink, false)?;
        for tick in &frame.y.ticks {
            let (_, y) = frame.place(0.0, tick.at);
            pen.line(&[(left, y), (right, y)], *grid, 1.0)?;
            pen.text(&tick.text, (left - 8.0, y), (HPos::Right, VPos::Center), TEXT, *faint, false)?;
        }
        let below = bottom + 8.0;
        for (i, tick) in frame.x.ticks.iter().enumerate() {
            let (x, _) = frame.place(tick.at, 0.0);
            match &frame.names {
                Names::Numbers => {
                    pen.line(&[(x, top), (x, bottom)], *grid, 1.0)?;
                    pen.text(&tick.text, (x, below), (HPos::Center, VPos::Top), TEXT, *faint, false)?;
                }
                Names::Lines(names) => {
                    for (line, text) in names[i].iter().enumerate() {
                        let at = (x, below + line as f64 * LEADING);
                        pen.text(text, at, (HPos::Center, VPos::Top), TEXT, *faint, false)?;
                    }
                }
                Names::Upright(names, every) if i % every == 0 => {
                    pen.text(&names[i], (x, below), (HPos::Right, VPos::Center), TEXT, *faint, true)?;
                }
                Names::Upright(..) => {}
            }
        }
        let base = if matches!(figure.y.scale, Scale::Log) { bottom } else { frame.place(0.0, 0.0).1 };
        pen.line(&[(left, base), (right, base)], *faint, 1.0)?;
        let middle = ((left + right) / 2.0, frame.height - 3.0);
        pen.text(&figure.x.label, middle, (HPos::Center, VPos::Bottom), TEXT, *ink, false)
    }

    /// Theories first, then lines, then marks, then labels where they cover nothing.
    fn points(&mut self) -> Drawn {
        let (pen, figure, frame) = (&self.pen, self.figure, self.frame);
        let looks = figure.looks(pen.palette);
        let all = || looks.iter().zip(&figure.series);
        for (&look, series) in all() {
            let path: Vec<At> = figure.shown(series).map(|point| frame.place(point.x, point.y)).collect();
            match series.style {
                Style::Dashed => pen.dashes(&path, look)?,
                Style::Line => pen.line(&path, look.colour, 2.0)?,
                Style::Marks => {}
            }
        }
        let many = figure.series.iter().map(|series| series.points.len()).sum::<usize>() > MANY;
        let (size, alpha) = if many { (3.2, 0.75) } else { (4.2, 1.0) };
        for (&look, series) in all().filter(|(look, _)| !look.dashed) {
            for point in figure.shown(series) {
                let at @ (x, y) = frame.place(point.x, point.y);
                whisker(pen, frame, point, x, look.colour)?;
                pen.mark(at, look, size, alpha)?;
                self.taken.push(((x - size, y - size), (x + size, y + size)));
            }
        }
        for series in &figure.series {
            for point in figure.shown(series) {
                if let Some(label) = &point.label {
                    self.label(label, self.frame.place(point.x, point.y))?;
                }
            }
        }
        Ok(())
    }

    /// Beside, above or below the place; nowhere if everything there is taken.
    fn label(&mut self, text: &str, (x, y): At) -> Drawn {
        let (wide, high, gap) = (width(text, SMALL), SMALL, 7.0);
        let corners = [
            (x + gap, y - high / 2.0),
            (x - gap - wide, y - high / 2.0),
            (x - wide / 2.0, y - gap - high),
            (x - wide / 2.0, y + gap),
        ];
        let free = |&(x, y): &At| {
            let clear = |&((x0, y0), (x1, y1)): &(At, At)| x + wide < x0 || x > x1 || y + high < y0 || y > y1;
            x >= self.frame.left && x + wide <= WIDTH && y >= 0.0 && self.taken.iter().all(clear)
        };
        let Some((x, y)) = corners.into_iter().find(free) else { return Ok(()) };
        self.taken.push(((x, y), (x + wide, y + high)));
        let at = (x, y + high / 2.0);
        self.pen.text(text, at, (HPos::Left, VPos::Center), SMALL, self.pen.palette.faint, false)
    }

    /// Bars, then theories as rules across them, then values if there is room for them.
    fn bars(&self) -> Drawn {
        let (pen, figure, frame) = (&self.pen, self.figure, self.frame);
        let stacked = figure.kind == Kind::StackedBars;
        let looks = figure.looks(pen.palette);
        let shown = looks.iter().zip(&figure.series).map(|(look, series)| {
            let points: Vec<&Point> = figure.shown(series).collect();
            (*look, points)
        });
        let (bars, rules): (Vec<_>, Vec<_>) =
            shown.filter(|(_, points)| !points.is_empty()).partition(|(look, _)| !look.dashed);

        let beside = if stacked { 1 } else { bars.len().max(1) } as f64;
        let slot = (frame.right - frame.left) / frame.x.ticks.len().max(1) as f64;
        let wide = (0.78 * slot / beside).min(72.0);
        let most =
            bars.iter().flat_map(|(_, points)| points).fold(0.0, |most: f64, point| most.max(point.y.abs()));
        // Of each category, how high its stack is.
        let mut stacks = vec![0.0; frame.x.ticks.len()];
        let mut values = vec![];
        for (nth, (look, points)) in bars.iter().enumerate() {
            let nth = if stacked { 0.0 } else { nth as f64 };
            for point in points {
                let (mut from, mut to) = (0.0, point.y);
                if stacked && let Some(stack) = stacks.get_mut(point.x.round() as usize) {
                    (from, to) = (*stack, *stack + point.y.max(0.0));
                    *stack = to;
                }
                let left = frame.place(point.x, 0.0).0 + (nth - beside / 2.0) * wide;
                let (low, high) = (frame.place(0.0, from).1, frame.place(0.0, to).1);
                let gap = if stacked && low - high > 2.0 { 1.0 } else { 0.0 };
                let corners = ((left + 0.5, high.min(low) + gap), (left + wide - 0.5, high.max(low)));
                pen.rectangle(corners.0, corners.1, look.colour)?;
                let middle = left + wide / 2.0;
                whisker(pen, frame, point, middle, pen.palette.ink)?;
                let of = if figure.y.scale == Scale::Log { point.y } else { most };
                let text = point.label.clone().unwrap_or_else(|| number(point.y, digits(of)));
                if !stacked {
                    let top = point.high.map_or(high, |most| high.min(frame.place(0.0, most).1));
                    values.push((text, (middle, top - 3.0 - SMALL / 2.0)));
                } else if low - high > SMALL + 4.0 {
                    values.push((text, (middle, (low + high) / 2.0)));
                }
            }
        }
        for (look, points) in &rules {
            for level in points.chunk_by(|a, b| a.y == b.y && b.x - a.x == 1.0) {
                let (first, last) = (level[0], level[level.len() - 1]);
                let (x0, y) = frame.place(first.x - 0.5, first.y);
                pen.dashes(&[(x0, y), (frame.place(last.x + 0.5, last.y).0, y)], *look)?;
            }
        }
        if values.iter().any(|(text, _)| width(text, SMALL) > wide + 6.0) {
            return Ok(());
        }
        values.iter().try_for_each(|(text, at)| {
            if !stacked {
                let (x, y) = (width(text, SMALL) / 2.0, SMALL / 2.0);
                pen.rectangle((at.0 - x, at.1 - y), (at.0 + x, at.1 + y), pen.palette.paper)?;
            }
            let colour = if stacked { pen.palette.paper } else { pen.palette.faint };
            pen.text(text, *at, (HPos::Center, VPos::Center), SMALL, colour, false)
        })
    }
}

/// A point's error bar.
fn whisker(pen: &Pen, frame: &Frame, point: &Point, x: f64, colour: RGBColor) -> Drawn {
    let (Some(low), Some(high)) = (point.low, point.high) else { return Ok(()) };
    if !low.is_finite() || !high.is_finite() {
        return Ok(());
    }
    let [low, high] = [low, high].map(|value| frame.place(0.0, value).1);
    if low - high < 1.0 {
        return Ok(());
    }
    pen.line(&[(x, low), (x, high)], colour, 1.25)?;
    [low, high].into_iter().try_for_each(|y| pen.line(&[(x - 3.0, y), (x + 3.0, y)], colour, 1.25))
}
