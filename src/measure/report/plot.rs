//! Drawing a figure.
//!
//! Lengths are in pixels of a figure of size [`WIDE`] or [`NARROW`]; the page scales it. Solid series differ in
//! colour and in the shape of their marks, dashed series in their dash lengths, so that colour is never
//! needed to tell series apart.

use plotters::{
    coord::Shift,
    drawing::DrawingArea,
    style::{
        RGBColor,
        text_anchor::{HPos, VPos},
    },
};

use super::{
    Figure, Kind, Point, Scale, Series, Style, digits,
    frame::{Frame, LEADING, NARROW, Names, WIDE},
    number,
    pen::{
        At, Canvas, DASHES, Drawing, Drawn, Failure, LIGHT, Look, MARKS, Palette, Pen, SMALL, TEXT, drawing,
        width,
    },
};
use crate::Error;

/// The size of a swatch in the legend.
pub(super) const SWATCH: At = (28.0, 14.0);

/// With more points than this, marks are smaller and translucent.
const MANY: usize = 120;

impl Figure {
    /// Returns the points of a series that the axes can show.
    pub(super) fn shown<'a>(&'a self, series: &'a Series) -> impl Iterator<Item = &'a Point> {
        series.points.iter().filter(|point| self.x.scale.holds(point.x) && self.y.scale.holds(point.y))
    }

    pub(super) fn looks(&self, palette: &Palette) -> Vec<Look> {
        let (mut solid, mut dashed_series) = (0.., 0..);
        let look = |series: &Series| {
            let dashed = series.style == Style::Dashed;
            let nth: usize = if dashed { &mut dashed_series } else { &mut solid }.next().unwrap_or(0);
            let shapes = if dashed { DASHES.len() } else { MARKS.len() };
            let colour = if dashed { palette.ink } else { palette.series[nth % palette.series.len()] };
            Look { dashed, colour, shape: nth % shapes }
        };
        self.series.iter().map(look).collect()
    }
}

/// Draws a figure for wide and for narrow pages.
///
/// # Errors
/// [`Error::Figure`], with its title.
pub(super) fn figure(figure: &Figure) -> Result<[Drawing; 2], Error> {
    let draw = |size| {
        let frame = Frame::new(figure, size);
        drawing((frame.width, frame.height), |area| plot(area, figure, &frame, &LIGHT))
            .map_err(|cause| failed(figure, cause))
    };
    Ok([draw(WIDE)?, draw(NARROW)?])
}

/// Draws axes and values.
pub(super) fn plot<C: Canvas>(
    area: DrawingArea<C, Shift>,
    figure: &Figure,
    frame: &Frame,
    palette: &Palette,
) -> Drawn {
    let mut plot = Plot { pen: Pen { area, palette }, figure, frame, taken: Vec::new(), lines: Vec::new() };
    plot.axes()?;
    match figure.kind {
        Kind::Points => plot.points(),
        Kind::Bars | Kind::StackedBars => plot.bars(),
    }
}

/// Draws the swatch of each series in the legend.
///
/// # Errors
/// [`Error::Figure`], with its title.
pub(super) fn legend(figure: &Figure) -> Result<Vec<Drawing>, Error> {
    let looks = figure.looks(&LIGHT);
    let swatch = |(look, series): (Look, &Series)| {
        drawing(SWATCH, |area| swatch(&Pen { area, palette: &LIGHT }, look, series.style, figure.kind))
    };
    let swatches: Result<_, _> = looks.into_iter().zip(&figure.series).map(swatch).collect();
    swatches.map_err(|cause| failed(figure, cause))
}

/// Draws the swatch of a series.
pub(super) fn swatch<C: Canvas>(pen: &Pen<C>, look: Look, style: Style, kind: Kind) -> Drawn {
    if look.dashed {
        return pen.dashes(&[(1.0, 7.0), (27.0, 7.0)], look);
    }
    if kind != Kind::Points {
        return pen.rectangle((2.0, 2.0), (26.0, 12.0), look.colour);
    }
    if style == Style::Line {
        pen.line(&[(1.0, 7.0), (27.0, 7.0)], look.colour, 2.0)?;
    }
    pen.mark((14.0, 7.0), look, 4.0, 1.0)
}

pub(super) fn failed(figure: &Figure, cause: Failure) -> Error {
    Error::Figure { figure: figure.title.clone(), reason: cause.to_string() }
}

/// A figure being drawn.
struct Plot<'b, C: Canvas> {
    pen: Pen<'b, C>,
    figure: &'b Figure,
    frame: &'b Frame,
    /// Areas that labels must not cover, by two corners.
    taken: Vec<(At, At)>,
    /// Line segments that labels must not cover.
    lines: Vec<(At, At)>,
}

impl<C: Canvas> Plot<'_, C> {
    fn axes(&self) -> Drawn {
        let (pen, figure, frame) = (&self.pen, self.figure, self.frame);
        let Palette { ink, faint, grid, .. } = pen.palette;
        let &Frame { left, right, top, bottom, .. } = frame;
        pen.text(&figure.y.label, (0.0, 0.0), (HPos::Left, VPos::Top), TEXT, *ink, false)?;
        for tick in &frame.y.ticks {
            let (_, y) = frame.position(0.0, tick.at);
            pen.line(&[(left, y), (right, y)], *grid, 1.0)?;
            pen.text(&tick.text, (left - 8.0, y), (HPos::Right, VPos::Center), TEXT, *faint, false)?;
        }
        let below = bottom + 8.0;
        for (i, tick) in frame.x.ticks.iter().enumerate() {
            let (x, _) = frame.position(tick.at, 0.0);
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
                Names::Vertical(names, every) if i % every == 0 => {
                    pen.text(&names[i], (x, below), (HPos::Right, VPos::Center), TEXT, *faint, true)?;
                }
                Names::Vertical(..) => {}
            }
        }
        let base = if matches!(figure.y.scale, Scale::Log) { bottom } else { frame.position(0.0, 0.0).1 };
        pen.line(&[(left, base), (right, base)], *faint, 1.0)?;
        let middle = ((left + right) / 2.0, frame.height - 3.0);
        pen.text(&figure.x.label, middle, (HPos::Center, VPos::Bottom), TEXT, *ink, false)
    }

    /// Draws dashed and solid lines, then marks, then labels where they cover nothing.
    fn points(&mut self) -> Drawn {
        let (pen, figure, frame) = (&self.pen, self.figure, self.frame);
        let looks = figure.looks(pen.palette);
        let all = || looks.iter().zip(&figure.series);
        for (&look, series) in all() {
            let path: Vec<At> = figure.shown(series).map(|point| frame.position(point.x, point.y)).collect();
            match series.style {
                Style::Dashed => pen.dashes(&path, look)?,
                Style::Line => pen.line(&path, look.colour, 2.0)?,
                Style::Marks => continue,
            }
            self.lines.extend(path.windows(2).map(|ends| (ends[0], ends[1])));
        }
        let many = figure.series.iter().map(|series| series.points.len()).sum::<usize>() > MANY;
        let (size, alpha) = if many { (3.2, 0.75) } else { (4.2, 1.0) };
        for (&look, series) in all().filter(|(look, _)| !look.dashed) {
            for point in figure.shown(series) {
                let at @ (x, y) = frame.position(point.x, point.y);
                whisker(pen, frame, point, x, look.colour)?;
                pen.mark(at, look, size, alpha)?;
                self.taken.push(((x - size, y - size), (x + size, y + size)));
                if let (Some(low), Some(high)) = (point.low, point.high) {
                    let [low, high] = [low, high].map(|value| frame.position(0.0, value).1);
                    self.lines.push(((x, low), (x, high)));
                }
            }
        }
        for series in &figure.series {
            for point in figure.shown(series) {
                if let Some(label) = &point.label {
                    self.label(label, self.frame.position(point.x, point.y))?;
                }
            }
        }
        Ok(())
    }

    /// Writes a label near a position, where it covers no mark, line or label, if there is room.
    fn label(&mut self, text: &str, (x, y): At) -> Drawn {
        let (wide, high, frame) = (width(text, SMALL), SMALL, self.frame);
        let corners = [7.0, 14.0].into_iter().flat_map(|gap| {
            let (left, right) = (x - gap - wide, x + gap);
            let (above, below) = (y - gap - high, y + gap);
            [
                (right, y - high / 2.0),
                (left, y - high / 2.0),
                (x - wide / 2.0, above),
                (x - wide / 2.0, below),
                (right, above),
                (left, above),
                (right, below),
                (left, below),
            ]
        });
        let free = |&(x, y): &At| {
            let clear = |&((x0, y0), (x1, y1)): &(At, At)| x + wide < x0 || x > x1 || y + high < y0 || y > y1;
            let inside =
                x >= frame.left && x + wide <= frame.width && y >= frame.top && y + high <= frame.bottom;
            let around = ((x - 2.0, y - 1.0), (x + wide + 2.0, y + high + 1.0));
            inside && self.taken.iter().all(clear) && !self.lines.iter().any(|line| crosses(*line, around))
        };
        let Some((x, y)) = { corners }.find(free) else { return Ok(()) };
        self.taken.push(((x, y), (x + wide, y + high)));
        let at = (x, y + high / 2.0);
        self.pen.text(text, at, (HPos::Left, VPos::Center), SMALL, self.pen.palette.faint, false)
    }

    /// Draws bars, then dashed lines across them, then values if there is room for all of them.
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

        let per_slot = if stacked { 1 } else { bars.len().max(1) } as f64;
        let slot = (frame.right - frame.left) / frame.x.ticks.len().max(1) as f64;
        let wide = (0.78 * slot / per_slot).min(72.0);
        let most =
            bars.iter().flat_map(|(_, points)| points).fold(0.0, |most: f64, point| most.max(point.y.abs()));
        // The height of each category's stack.
        let mut stacks = vec![0.0; frame.x.ticks.len()];
        let mut levels: Vec<(Look, At, At)> = vec![];
        for (look, points) in &rules {
            for level in points.chunk_by(|a, b| a.y == b.y && b.x - a.x == 1.0) {
                let (first, last) = (level[0], level[level.len() - 1]);
                let (x0, y) = frame.position(first.x - 0.5, first.y);
                levels.push((*look, (x0, y), (frame.position(last.x + 0.5, last.y).0, y)));
            }
        }
        // From the lowest line up, so that a value that moves above one line moves above the next one too.
        levels.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        let crossing = |text: &str, (x, y): At| {
            let (half, high) = (width(text, SMALL) / 2.0, SMALL / 2.0 + 2.0);
            let around = ((x - half, y - high), (x + half, y + high));
            levels
                .iter()
                .find(|(_, from, to)| crosses((*from, *to), around))
                .map(|(_, from, _)| from.1 - high)
        };
        let mut values: Vec<Value> = vec![];
        for (nth, (look, points)) in bars.iter().enumerate() {
            let nth = if stacked { 0.0 } else { nth as f64 };
            for point in points {
                let (mut from, mut to) = (0.0, point.y);
                if stacked && let Some(stack) = stacks.get_mut(point.x.round() as usize) {
                    (from, to) = (*stack, *stack + point.y.max(0.0));
                    *stack = to;
                }
                let left = frame.position(point.x, 0.0).0 + (nth - per_slot / 2.0) * wide;
                let (low, high) = (frame.position(0.0, from).1, frame.position(0.0, to).1);
                let gap = if stacked && low - high > 2.0 { 1.0 } else { 0.0 };
                let corners = ((left + 0.5, high.min(low) + gap), (left + wide - 0.5, high.max(low)));
                pen.rectangle(corners.0, corners.1, look.colour)?;
                let middle = left + wide / 2.0;
                whisker(pen, frame, point, middle, pen.palette.ink)?;
                let of = if figure.y.scale == Scale::Log { point.y } else { most };
                let text = point.label.clone().unwrap_or_else(|| number(point.y, digits(of)));
                if stacked {
                    if low - high > SMALL + 4.0 {
                        values.push(Value { text, at: (middle, (low + high) / 2.0), inside: true });
                    }
                    continue;
                }
                let end = high.min(low);
                let top = point.high.map_or(end, |most| end.min(frame.position(0.0, most).1));
                // Next to the end of a long error bar, the number would be read as that end's value. So it is written
                // at the foot of the bar.
                let foot = (middle, low - 4.0 - SMALL / 2.0);
                if end - top > SMALL && low - high > 3.0 * SMALL && crossing(&text, foot).is_none() {
                    values.push(Value { text, at: foot, inside: true });
                    continue;
                }
                let mut at = (middle, top - 3.0 - SMALL / 2.0);
                while let Some(y) = crossing(&text, at) {
                    at.1 = y - 0.5;
                }
                values.push(Value { text, at, inside: false });
            }
        }
        for &(look, from, to) in &levels {
            pen.dashes(&[from, to], look)?;
        }
        if values.iter().any(|value| width(&value.text, SMALL) > wide + 6.0) {
            return Ok(());
        }
        values.iter().try_for_each(|Value { text, at, inside }| {
            if !inside {
                let (x, y) = (width(text, SMALL) / 2.0, SMALL / 2.0);
                pen.rectangle((at.0 - x, at.1 - y), (at.0 + x, at.1 + y), pen.palette.paper)?;
            }
            let colour = if *inside { pen.palette.paper } else { pen.palette.faint };
            pen.text(text, *at, (HPos::Center, VPos::Center), SMALL, colour, false)
        })
    }
}

/// The value of a bar, in or above it.
struct Value {
    text: String,
    at: At,
    inside: bool,
}

/// Returns true if a line segment crosses a rectangle.
fn crosses(((x0, y0), (x1, y1)): (At, At), ((left, top), (right, bottom)): (At, At)) -> bool {
    // The part of the segment, as fractions of its length, that is between each pair of sides.
    let between = |from: f64, to: f64, low: f64, high: f64| {
        if from == to {
            return if from >= low && from <= high { (0.0, 1.0) } else { (1.0, 0.0) };
        }
        let (a, b) = ((low - from) / (to - from), (high - from) / (to - from));
        (a.min(b), a.max(b))
    };
    let ((a, b), (c, d)) = (between(x0, x1, left, right), between(y0, y1, top, bottom));
    a.max(c).max(0.0) <= b.min(d).min(1.0)
}

/// Draws a point's error bar.
fn whisker<C: Canvas>(pen: &Pen<C>, frame: &Frame, point: &Point, x: f64, colour: RGBColor) -> Drawn {
    let (Some(low), Some(high)) = (point.low, point.high) else { return Ok(()) };
    if !low.is_finite() || !high.is_finite() {
        return Ok(());
    }
    let [low, high] = [low, high].map(|value| frame.position(0.0, value).1);
    if low - high < 1.0 {
        return Ok(());
    }
    pen.line(&[(x, low), (x, high)], colour, 1.25)?;
    [low, high].into_iter().try_for_each(|y| pen.line(&[(x - 3.0, y), (x + 3.0, y)], colour, 1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_knows_the_lines_that_cross_it() {
        let label = ((10.0, 10.0), (50.0, 20.0));
        for line in [((0.0, 0.0), (60.0, 30.0)), ((0.0, 15.0), (100.0, 15.0)), ((30.0, 0.0), (30.0, 12.0))] {
            assert!(crosses(line, label), "{line:?}");
        }
        for line in [
            ((0.0, 0.0), (60.0, 5.0)),
            ((0.0, 25.0), (100.0, 25.0)),
            ((30.0, 0.0), (30.0, 8.0)),
            ((0.0, 15.0), (8.0, 15.0)),
        ] {
            assert!(!crosses(line, label), "{line:?}");
        }
    }
}
