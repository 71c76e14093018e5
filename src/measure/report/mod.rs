//! What a study found, as plain data: [`page`] is for people, its JSON for programs.
//!
//! Whoever measures fills this in and knows nothing of pixels; whoever draws computes nothing that
//! was not measured. What could not be measured is said in its place, never left out.

mod axis;
mod frame;
pub mod page;
mod pen;
mod plot;
#[cfg(feature = "image")]
mod raster;
mod sheet;

use serde::{Serialize, Serializer};

use super::Spread;

/// A study.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// What it is of.
    pub title: String,
    /// The verdicts that matter, a sentence each.
    pub lead: Vec<String>,
    /// What it ran on and when, each with its name: adapter, driver, threads, versions.
    pub facts: Vec<(String, String)>,
    /// The experiments.
    pub sections: Vec<Section>,
    /// What a reader should know of all of them.
    pub notes: Vec<String>,
}

/// An experiment. In its texts an empty line begins a paragraph.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Section {
    /// What others call it: `E1`.
    pub id: String,
    /// The question.
    pub title: String,
    /// The sentence that is tested.
    pub claim: Option<Claim>,
    /// What arithmetic alone would have.
    pub theory: String,
    /// What was measured, and how.
    pub method: String,
    /// What was found, drawn.
    pub figures: Vec<Figure>,
    /// What was found, in numbers.
    pub tables: Vec<Table>,
    /// What follows from it, a sentence each.
    pub verdict: Vec<String>,
    /// Measurements that failed, and why.
    pub failures: Vec<String>,
}

/// A sentence and who said it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claim {
    /// The sentence.
    pub text: String,
    /// Where it stands.
    pub source: String,
}

/// Rows of cells below columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// Its head. The first column names the rows.
    pub columns: Vec<Column>,
    /// A cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// The head of a column.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Column {
    /// What is in it.
    pub title: String,
    /// What numbers are counted in; empty if in nothing.
    pub unit: String,
}

/// What a table says in one place. In JSON a number is a number, a text a string, a spread has
/// its three numbers, and what is missing has its reason: `{"missing": "no f16"}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// A name.
    Text(String),
    /// A number, shown with so many digits behind the point.
    #[serde(serialize_with = "value")]
    Number(f64, usize),
    /// A number measured many times.
    Spread(Spread),
    /// No number, and why.
    Missing {
        /// Why.
        missing: String,
    },
}

/// A plot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is of.
    pub title: String,
    /// What to see in it.
    pub caption: String,
    /// How values are drawn.
    pub kind: Kind,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// What is drawn, in the order of the legend.
    pub series: Vec<Series>,
}

/// How a figure's values are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Marks and lines, as each series' style says.
    Points,
    /// Bars side by side in each category. A dashed series is a rule across them.
    Bars,
    /// Bars on top of one another in each category. A dashed series is a rule across them.
    StackedBars,
}

/// A figure's axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Axis {
    /// What it counts, with its unit.
    pub label: String,
    /// Where values lie on it.
    pub scale: Scale,
}

/// Where values lie on an axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Equal steps add the same.
    Linear,
    /// Equal steps multiply by the same: what is not positive has no place.
    Log,
    /// In the middle of the name that they are the index of; for x alone.
    Categories(Vec<String>),
}

/// What belongs together in a figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// How it is drawn; bars are bars, unless dashed.
    pub style: Style,
    /// Its values. What is not finite is left out of the figure, and null in JSON.
    pub points: Vec<Point>,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// A mark for each measurement.
    Marks,
    /// Marks joined by a line, in the order given.
    Line,
    /// A dashed line without marks: theory.
    Dashed,
}

/// A value in a figure.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Point {
    /// How far to the right, or the index of a category.
    pub x: f64,
    /// How far up.
    pub y: f64,
    /// Where its error bar begins.
    pub low: Option<f64>,
    /// Where its error bar ends.
    pub high: Option<f64>,
    /// What is written beside it.
    pub label: Option<String>,
}

impl Claim {
    /// What `source` says.
    pub fn new(text: impl Into<String>, source: impl Into<String>) -> Self {
        Self { text: text.into(), source: source.into() }
    }
}

impl Column {
    /// A column of numbers in `unit`, or of anything if that is empty.
    pub fn new(title: impl Into<String>, unit: impl Into<String>) -> Self {
        Self { title: title.into(), unit: unit.into() }
    }
}

impl Cell {
    /// No number, and why.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self::Missing { missing: reason.into() }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

impl From<Spread> for Cell {
    fn from(spread: Spread) -> Self {
        Self::Spread(spread)
    }
}

impl Axis {
    /// Equal steps add the same.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear }
    }

    /// Equal steps multiply by the same.
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Log }
    }

    /// A place for each name.
    pub fn categories<T: Into<String>>(label: impl Into<String>, names: impl IntoIterator<Item = T>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self { label: label.into(), scale: Scale::Categories(names) }
    }
}

impl Series {
    /// A series.
    pub fn new(
        name: impl Into<String>,
        style: Style,
        points: impl IntoIterator<Item = impl Into<Point>>,
    ) -> Self {
        Self { name: name.into(), style, points: points.into_iter().map(Into::into).collect() }
    }
}

impl Point {
    /// This point with something written beside it.
    pub fn labelled(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }
}

impl From<(f64, f64)> for Point {
    fn from((x, y): (f64, f64)) -> Self {
        Self { x, y, ..Self::default() }
    }
}

impl From<(f64, Spread)> for Point {
    fn from((x, y): (f64, Spread)) -> Self {
        Self { x, y: y.median, low: Some(y.min), high: Some(y.max), label: None }
    }
}

/// A [`Cell::Number`] without its digits.
fn value<S: Serializer>(value: &f64, _digits: &usize, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(*value)
}

/// A number with so many digits behind the point, and thin spaces between thousands.
fn number(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let minus = value < 0.0 && text.contains(|c: char| ('1'..='9').contains(&c));
    let mut shown = String::from(if minus { "−" } else { "" });
    for (i, digit) in whole.char_indices() {
        if i > 0 && whole.len() > 4 && (whole.len() - i).is_multiple_of(3) {
            shown.push('\u{202f}');
        }
        shown.push(digit);
    }
    shown + fraction
}

/// The digits behind the point that show three of `value`, or a whole number.
fn digits(value: f64) -> usize {
    if value == 0.0 || !value.is_finite() {
        0
    } else {
        (2.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize
    }
}
