//! What is shown of networks in 8 bits.

use super::{Both, Group, Subject};
use crate::{
    measure::report::{Axis, Cell, Column, Figure, Kind, Point, Series, Style, Table},
    study::lab::{Lab, cell, factor, ratio},
};

pub fn figures(lab: &Lab, subjects: &[Subject], measured: &[Vec<Both>]) -> Vec<Figure> {
    if subjects.is_empty() {
        return Vec::new();
    }
    let names = || Axis::categories("", subjects.iter().map(|subject| subject.name));
    let errors = subjects.iter().enumerate().filter_map(|(i, subject)| {
        let error = subject.error()?.times(100.0);
        Some(Point::from((i as f64, error)))
    });
    let gains = measured.iter().enumerate().map(|(at, times)| {
        let gain = |(i, [float, eight]): (usize, &Both)| Some((i as f64, ratio(float, eight)?));
        let points: Vec<(f64, f64)> = times.iter().enumerate().filter_map(gain).collect();
        Series::new(lab.label(at), Style::Marks, points)
    });
    let same = (0..subjects.len()).map(|i| (i as f64, 1.0));
    vec![
        Figure {
            title: "What 8 bits cost".into(),
            caption: "The relative error of answers in 8 bits: the median, from the least to the most of \
                      all scenes and draws. Only the last two networks are trained."
                .into(),
            kind: Kind::Bars,
            x: names(),
            y: Axis::log("error, %"),
            series: vec![Series::new("8 bits", Style::Marks, errors)],
        },
        Figure {
            title: "What 8 bits gain".into(),
            caption: "How many times as quick as in f32; at the dashed rule, as quick.".into(),
            kind: Kind::Bars,
            x: names(),
            y: Axis::linear("times as quick"),
            series: std::iter::once(Series::new("f32", Style::Dashed, same)).chain(gains).collect(),
        },
    ]
}

/// `scenes` are those that the trained network is judged on.
pub fn tables(lab: &Lab, subjects: &[Subject], measured: &[Vec<Both>], scenes: u64) -> Vec<Table> {
    let megabytes = |bytes: u64| Cell::Number(bytes as f64 / 1e6, 2);
    let count = |count: usize| Cell::Number(count as f64, 0);
    let answers = subjects.iter().map(|subject| {
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
        let [float, eight] = subject.rounded.right;
        vec![subject.name.into(), count(float), count(eight), count(subject.rounded.changed)]
    });
    let mut tables = vec![
        Table {
            caption: "Errors in 8 bits, and the size of weights and biases".into(),
            columns: vec![
                Column::new("network", ""),
                Column::new("error", "%"),
                Column::new("f32", "MB"),
                Column::new("8 bits", "MB"),
                Column::new("size", "% of f32"),
            ],
            rows: answers.collect(),
        },
        Table {
            caption: format!("The trained classifier's best class on {scenes} scenes"),
            columns: vec![
                Column::new("network", ""),
                Column::new("right in f32", "scenes"),
                Column::new("right in 8 bits", "scenes"),
                Column::new("another in 8 bits than in f32", "scenes"),
            ],
            rows: trained.collect(),
        },
    ];
    for (at, times) in measured.iter().enumerate() {
        let rows = subjects.iter().zip(times).map(|(subject, [float, eight])| {
            vec![subject.name.into(), cell(float), cell(eight), factor(ratio(float, eight))]
        });
        tables.push(Table {
            caption: format!("Times on the {}", lab.label(at)),
            columns: vec![
                Column::new("network", ""),
                Column::new("f32", "ms"),
                Column::new("8 bits", "ms"),
                Column::new("quicker", "times"),
            ],
            rows: rows.collect(),
        });
    }
    tables
}
