//! The figures and tables of E8.

use super::{Group, Subject, Times};
use crate::{
    measure::report::{Axis, Cell, Column, Figure, Kind, Point, Series, Style, Table},
    study::lab::{Lab, cell, factor, ratio},
};

pub fn figures(lab: &Lab, subjects: &[Subject], measured: &[Vec<Times>]) -> Vec<Figure> {
    if subjects.is_empty() {
        return Vec::new();
    }
    let names = || Axis::categories("", subjects.iter().map(|subject| subject.name));
    let errors = subjects.iter().enumerate().filter_map(|(i, subject)| {
        let error = subject.error()?.times(100.0);
        Some(Point::from((i as f64, error)))
    });
    let gains = measured.iter().enumerate().map(|(at, times)| {
        let gain = |(i, [float, int8]): (usize, &Times)| Some((i as f64, ratio(float, int8)?));
        let points: Vec<(f64, f64)> = times.iter().enumerate().filter_map(gain).collect();
        Series::new(lab.label(at), Style::Marks, points)
    });
    let same = (0..subjects.len()).map(|i| (i as f64, 1.0));
    vec![
        Figure {
            id: "errors".into(),
            title: "Errors of int8".into(),
            caption: "The relative error of int8 outputs: the median, and the range over all scenes and \
                      draws. Only the last two networks are trained."
                .into(),
            kind: Kind::Bars,
            x: names(),
            y: Axis::log("error, %"),
            series: vec![Series::new("int8", Style::Marks, errors)],
        },
        Figure {
            id: "times".into(),
            title: "Speed-up of int8".into(),
            caption: "Speed-up over f32. On the dashed line, int8 is as fast as f32.".into(),
            kind: Kind::Bars,
            x: names(),
            y: Axis::linear("speed-up"),
            series: std::iter::once(Series::new("f32", Style::Dashed, same)).chain(gains).collect(),
        },
    ]
}

/// `scenes` is the number of scenes that the trained network is evaluated on.
pub fn tables(lab: &Lab, subjects: &[Subject], measured: &[Vec<Times>], scenes: u64) -> Vec<Table> {
    let megabytes = |bytes: u64| Cell::Number(bytes as f64 / 1e6, 2);
    let count = |count: usize| Cell::Number(count as f64, 0);
    let errors = subjects.iter().map(|subject| {
        let [before, after] = subject.rounded.bytes;
        vec![
            subject.name.into(),
            subject.error().map_or_else(|| Cell::missing("not measured"), |error| error.times(100.0).into()),
            megabytes(before),
            megabytes(after),
            Cell::Number(100.0 * after as f64 / before as f64, 1),
        ]
    });
    let trained = subjects.iter().filter(|subject| subject.group == Group::Trained).map(|subject| {
        let [float, int8] = subject.rounded.correct;
        vec![subject.name.into(), count(float), count(int8), count(subject.rounded.changed)]
    });
    let mut tables = vec![
        Table {
            caption: "Errors of int8, and the size of weights and biases".into(),
            columns: vec![
                Column::new("network", ""),
                Column::new("error", "%"),
                Column::new("f32", "MB"),
                Column::new("int8", "MB"),
                Column::new("size", "% of f32"),
            ],
            rows: errors.collect(),
        },
        Table {
            caption: format!("The trained classifier's most likely class on {scenes} scenes"),
            columns: vec![
                Column::new("network", ""),
                Column::new("correct in f32", "scenes"),
                Column::new("correct in int8", "scenes"),
                Column::new("different in int8 and f32", "scenes"),
            ],
            rows: trained.collect(),
        },
    ];
    for (at, times) in measured.iter().enumerate() {
        let rows = subjects.iter().zip(times).map(|(subject, [float, int8])| {
            vec![subject.name.into(), cell(float), cell(int8), factor(ratio(float, int8))]
        });
        tables.push(Table {
            caption: format!("Times on the {}", lab.label(at)),
            columns: vec![
                Column::new("network", ""),
                Column::new("f32", "ms"),
                Column::new("int8", "ms"),
                Column::new("speed-up", ""),
            ],
            rows: rows.collect(),
        });
    }
    tables
}
