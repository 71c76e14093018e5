//! The report of a study, as plain data: rendered by [`page`] for people, serialised to JSON for programs.
//!
//! Measuring code fills it in and knows nothing of pixels; drawing code computes no results. A value that
//! could not be measured is shown as missing, never left out.

mod axis;
mod frame;
mod json;
pub mod page;
mod pen;
mod plot;
#[cfg(feature = "image")]
mod raster;
mod sheet;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Spread;

/// The report of a study.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The title.
    pub title: String,
    /// The answer, in a few sentences.
    pub lead: Vec<String>,
    /// The figure that shows the answer.
    pub figure: Option<Figure>,
    /// Names and values that describe the setup: date, adapter, driver, threads, versions.
    pub facts: Vec<(String, String)>,
    /// The experiments.
    pub sections: Vec<Section>,
    /// Notes on all experiments.
    pub notes: Vec<String>,
}

/// An experiment. In its texts, an empty line begins a paragraph.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// The identifier, such as `E1`.
    pub id: String,
    /// The question.
    pub title: String,
    /// The claim to test.
    pub claim: Option<Claim>,
    /// The prediction from arithmetic alone.
    pub theory: String,
    /// The method of measurement.
    pub method: String,
    /// The results as figures.
    pub figures: Vec<Figure>,
    /// The results as tables.
    pub tables: Vec<Table>,
    /// The conclusions, one sentence each.
    pub verdict: Vec<String>,
    /// Failed measurements and the reasons.
    pub failures: Vec<String>,
}

/// A claim, its source, and the outcome of testing it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The claim.
    pub text: String,
    /// Its source.
    pub source: String,
    /// The outcome of testing it.
    pub outcome: Outcome,
}

/// The outcome of testing a claim on one machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The measurements agree with it.
    Agrees,
    /// It holds for some of its parts, networks or machines, but not for all.
    Partly,
    /// The measurements contradict it.
    Contradicts,
    /// The measurements do not decide it.
    Undecided,
    /// It was not tested.
    #[default]
    Untested,
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The caption.
    pub caption: String,
    /// The headers. The first column names the rows.
    pub columns: Vec<Column>,
    /// Rows with one cell per column.
    pub rows: Vec<Vec<Cell>>,
}

/// The header of a column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// The title.
    pub title: String,
    /// The unit of the numbers; empty if there is none.
    pub unit: String,
}

/// A cell of a table. In JSON, a number is a number, a text a string, a spread an object with its three
/// numbers, and a missing value an object with its reason: `{"missing": "no f16"}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// A text.
    Text(String),
    /// A number, and the decimal places to show.
    #[serde(serialize_with = "json::value")]
    Number(f64, usize),
    /// A number that was measured repeatedly.
    Spread(Spread),
    /// A missing value.
    Missing {
        /// The reason.
        missing: String,
    },
}

/// A plot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Identifies it among the figures of its section, in the reports of all machines.
    pub id: String,
    /// The title.
    pub title: String,
    /// The caption.
    pub caption: String,
    /// The kind of plot.
    pub kind: Kind,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The series, in the order of the legend.
    pub series: Vec<Series>,
}

/// The kind of a figure's plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Marks and lines, depending on each series' style.
    Points,
    /// Bars side by side in each category. A dashed series is a horizontal line across them.
    Bars,
    /// Stacked bars in each category. A dashed series is a horizontal line across them.
    StackedBars,
}

/// A figure's axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// The quantity and its unit.
    pub label: String,
    /// The scale.
    pub scale: Scale,
}

/// The scale of an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// A linear scale.
    Linear,
    /// A logarithmic scale, which shows positive values only.
    Log,
    /// Named categories, for the x axis only. A value is the index of its category.
    Categories(Vec<String>),
}

/// A series of values in a figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its style. In bar charts, all series except dashed ones are bars.
    pub style: Style,
    /// Its values. Values that are not finite are left out of the figure, and are null in JSON.
    pub points: Vec<Point>,
}

/// The style of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// A mark for each measurement.
    Marks,
    /// Marks joined by a line, in the order given.
    Line,
    /// A dashed line without marks, for theoretical values.
    Dashed,
}

/// A value in a figure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The value on the x axis, or the index of a category.
    #[serde(deserialize_with = "json::nullable")]
    pub x: f64,
    /// The value on the y axis.
    #[serde(deserialize_with = "json::nullable")]
    pub y: f64,
    /// The lower end of its error bar.
    pub low: Option<f64>,
    /// The upper end of its error bar.
    pub high: Option<f64>,
    /// A text next to it.
    pub label: Option<String>,
}

impl Claim {
    /// Creates a claim made by `source`, not yet tested.
    pub fn new(text: impl Into<String>, source: impl Into<String>) -> Self {
        Self { text: text.into(), source: source.into(), outcome: Outcome::Untested }
    }
}

impl Section {
    /// Records the outcome of testing the claim.
    pub(crate) fn conclude(&mut self, outcome: Outcome) {
        if let Some(claim) = &mut self.claim {
            claim.outcome = outcome;
        }
    }
}

impl Outcome {
    /// The outcome if `for_it` of `all` cases agree with the claim: [`Agrees`](Self::Agrees) from three quarters up,
    /// [`Contradicts`](Self::Contradicts) up to one quarter, [`Undecided`](Self::Undecided) in between,
    /// [`Untested`](Self::Untested) without cases.
    pub fn of(for_it: usize, all: usize) -> Self {
        match (4 * for_it, all) {
            (_, 0) => Self::Untested,
            (least, all) if least >= 3 * all => Self::Agrees,
            (most, all) if most <= all => Self::Contradicts,
            _ => Self::Undecided,
        }
    }
}

/// Combines the outcomes of a claim's parts, or of several machines. Those that were not tested do not count.
impl FromIterator<Outcome> for Outcome {
    fn from_iter<I: IntoIterator<Item = Self>>(outcomes: I) -> Self {
        let mut tested = outcomes.into_iter().filter(|outcome| *outcome != Self::Untested);
        let Some(first) = tested.next() else { return Self::Untested };
        tested.fold(first, |all, next| match (all, next) {
            (all, next) if all == next => all,
            (Self::Agrees | Self::Partly, _) | (_, Self::Agrees | Self::Partly) => Self::Partly,
            _ => Self::Undecided,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Agrees => "this agrees with the paper",
            Self::Partly => "this agrees with the paper in part",
            Self::Contradicts => "this contradicts the paper",
            Self::Undecided => "inconclusive",
            Self::Untested => "not tested here",
        })
    }
}

impl Column {
    /// Creates a column of numbers in `unit`, or of any cells if `unit` is empty.
    pub fn new(title: impl Into<String>, unit: impl Into<String>) -> Self {
        Self { title: title.into(), unit: unit.into() }
    }
}

impl Cell {
    /// Creates a missing value with its reason.
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
    /// Creates a linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear }
    }

    /// Creates a logarithmic axis.
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Log }
    }

    /// Creates an axis with one category per name.
    pub fn categories<T: Into<String>>(label: impl Into<String>, names: impl IntoIterator<Item = T>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self { label: label.into(), scale: Scale::Categories(names) }
    }
}

impl Series {
    /// Creates a series.
    pub fn new(
        name: impl Into<String>,
        style: Style,
        points: impl IntoIterator<Item = impl Into<Point>>,
    ) -> Self {
        Self { name: name.into(), style, points: points.into_iter().map(Into::into).collect() }
    }
}

impl Point {
    /// Returns this point with a text next to it.
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

/// Formats a number with `digits` decimal places, and thin spaces between thousands.
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

/// Returns the decimal places that show three significant digits of `value`, from 0 to 6.
fn digits(value: f64) -> usize {
    if value == 0.0 || !value.is_finite() {
        0
    } else {
        (2.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize
    }
}
