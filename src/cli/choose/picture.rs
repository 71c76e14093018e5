//! The plot of accuracy against time.

use std::path::Path;

use anyhow::Result;
use goldcrest::{
    measure::report::{Axis, Cell, Column, Figure, Kind, Point, Report, Section, Series, Style, Table},
    quantize::StoredType,
    search::{Choice, Limits, Measured, Standing, short as number},
};

use crate::cli::plot;

/// Renders the plot's file.
pub fn draw(path: &Path, choice: &Choice, limits: &Limits) -> Result<Vec<u8>> {
    plot::draw(path, figure(choice, limits), |figure| report(figure, choice, limits))
}

/// For each group of comparable networks, the front as a line and the others as marks.
fn figure(choice: &Choice, limits: &Limits) -> Figure {
    let mut groups: Vec<&Measured> = Vec::new();
    for (row, _) in choice.front.rows() {
        if !groups.iter().any(|group| group.is_comparable(row)) {
            groups.push(row);
        }
    }
    let mut series = Vec::new();
    for group in groups {
        let of = |row: &&Measured| group.is_comparable(row);
        let bits = if group.precision == StoredType::Int8 { " in int8" } else { "" };
        let of_what = format!("{}{bits} on {}", group.published.metric, group.device);
        let point = |row: &Measured| Point::from((row.ms.median, row.published.accuracy));
        let front = choice.front.best().filter(of);
        let front = front.map(|row| point(row).labelled(short(row)));
        series.push(Series::new(format!("front: {of_what}"), Style::Line, front.collect::<Vec<_>>()));
        let others = choice.front.rows().filter(|(row, standing)| *standing != Standing::Front && of(row));
        let others: Vec<Point> = others.map(|(row, _)| point(row)).collect();
        if !others.is_empty() {
            series.push(Series::new(format!("not on the front: {of_what}"), Style::Marks, others));
        }
    }
    if let Some(most) = limits.within_ms {
        let accuracies = || choice.front.rows().map(|(row, _)| row.published.accuracy);
        let ends = [accuracies().fold(f64::MAX, f64::min), accuracies().fold(0.0, f64::max)];
        series.push(Series::new(
            format!("{} ms", number(most)),
            Style::Dashed,
            ends.map(|accuracy| (most, accuracy)),
        ));
    }
    Figure {
        id: "front".into(),
        title: "Published networks on this machine".into(),
        caption: format!("Published accuracy of f32 against the median time per picture. {}.", choice.counts),
        kind: Kind::Points,
        x: Axis::log("ms, from input tensor to output"),
        y: Axis::linear("%"),
        series,
    }
}

/// A network's name without its library, and its input size.
fn short(row: &Measured) -> String {
    let network = row.published.network.as_str();
    let bare = network.split_once('/').map_or(network, |(_, bare)| bare);
    let bare = bare.replace("mobilenetv", "V").replace("mobilenet_v", "V");
    let precision = match row.precision {
        StoredType::F32 => String::new(),
        precision => format!(" {precision}"),
    };
    format!("{bare} {}{precision}", row.published.size)
}

fn report(figure: Figure, choice: &Choice, limits: &Limits) -> Report {
    let columns = [
        ("network", ""),
        ("size", ""),
        ("precision", ""),
        ("accuracy", "%"),
        ("", "ms"),
        ("memory", "MB"),
        ("device", ""),
        ("source", ""),
    ];
    let rows = choice.front.rows().map(|(row, standing)| {
        let published = &row.published;
        vec![
            format!("{}{published}", if standing == Standing::Front { "* " } else { "" }).into(),
            Cell::Number(published.size as f64, 0),
            row.precision.to_string().into(),
            Cell::Number(published.accuracy, 2),
            row.ms.into(),
            Cell::Number(row.memory_bytes as f64 / 1e6, 1),
            row.device.as_str().into(),
            format!("{}, {} ({})", published.source, published.date, published.metric).into(),
        ]
    });
    let table = Table {
        caption: "*: on the Pareto front of its device".into(),
        columns: columns.map(|(title, unit)| Column::new(title, unit)).to_vec(),
        rows: rows.collect(),
    };
    let verdict = match choice.recommended(limits) {
        Some((row, rule)) => format!("{rule} {limits}: {} at {}", row.published, row.published.size),
        None if limits.is_empty() => "No network is recommended, because the front has no knee.".into(),
        None => format!("No network is recommended {limits}."),
    };
    let section = Section {
        id: "C".into(),
        title: "Accuracy against time".into(),
        method: choice.counts.to_string(),
        figures: vec![figure],
        tables: vec![table],
        verdict: vec![verdict],
        failures: choice
            .failures
            .iter()
            .map(|failure| format!("{}: {}", failure.what, failure.reason))
            .collect(),
        ..Section::default()
    };
    Report { title: "Choice of a published network".into(), sections: vec![section], ..Report::default() }
}
