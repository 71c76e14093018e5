//! The layout of a figure: its axes, and the names of categories below them.

use std::collections::BTreeMap;

use super::{
    Figure, Kind, Scale, Style,
    axis::Ruler,
    pen::{At, LETTER, TEXT, width},
};

/// A figure's size, and its size on a page as narrow as a phone. Names of categories may increase the height.
pub(super) const WIDE: At = (660.0, 380.0);
pub(super) const NARROW: At = (350.0, 320.0);

/// The distance between lines of text.
pub(super) const LEADING: f64 = 15.0;

/// The maximum number of letters of a vertical category name.
const LONGEST: usize = 30;

/// The layout of the axes.
pub(super) struct Frame {
    pub width: f64,
    pub height: f64,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    pub x: Ruler,
    pub y: Ruler,
    pub names: Names,
}

/// The names of categories below the axis.
pub(super) enum Names {
    /// No names: the axis is numeric.
    Numbers,
    /// Horizontal names, each broken into lines.
    Lines(Vec<Vec<String>>),
    /// Vertical names, of which every n-th is drawn.
    Vertical(Vec<String>, usize),
}

impl Frame {
    pub fn new(figure: &Figure, (wide, high): At) -> Self {
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
            // Stacked lengths add up on a linear scale only.
            scale = Scale::Linear;
            let bars = figure.series.iter().filter(|series| series.style != Style::Dashed);
            let mut sums = BTreeMap::new();
            for point in bars.flat_map(|series| figure.shown(series)) {
                *sums.entry(point.x.round() as i64).or_insert(0.0) += point.y.max(0.0);
            }
            values.extend(sums.into_values());
        }
        let y = Ruler::new(&scale, values.into_iter());
        let ticks = y.ticks.iter().map(|tick| width(&tick.text, TEXT)).fold(0.0, f64::max);
        let (left, right, top) = (ticks + 14.0, wide - 14.0, 32.0);
        let (names, below) = match &figure.x.scale {
            Scale::Categories(names) => Names::new(names, right - left),
            _ => (Names::Numbers, LEADING),
        };
        let label = if figure.x.label.is_empty() { 4.0 } else { LEADING + 10.0 };
        let bottom = high - 2.0 * LEADING - 18.0;
        Self { width: wide, height: bottom + 8.0 + below + label, left, right, top, bottom, x, y, names }
    }

    pub fn position(&self, x: f64, y: f64) -> At {
        (
            self.left + self.x.position(x) * (self.right - self.left),
            self.bottom - self.y.position(y) * (self.bottom - self.top),
        )
    }
}

impl Names {
    /// Returns the names of categories in a row of width `room`, and their height.
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
        (Self::Vertical(names, every.max(1)), high)
    }
}

/// Breaks a name into lines of at most `letters` letters: between words, and within words that are too long.
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

/// Cuts the middle out of a name that is too long: names that begin alike often differ at the end.
fn shortened(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= LONGEST {
        return name.into();
    }
    let half = LONGEST / 2;
    let (head, tail) = (&letters[..half], &letters[letters.len() - half + 1..]);
    head.iter().chain(&['…']).chain(tail).collect()
}
