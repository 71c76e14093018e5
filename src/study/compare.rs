//! Studies of several machines, side by side.

use super::file::{COMPARISON, written};
use crate::{
    Error, Result,
    measure::report::{
        Axis, Cell, Column, Figure, Kind, Outcome, Point, Report, Scale, Section, Series, Style, Table,
    },
};

/// The maximum number of solid series in a figure, which have different colours and marks.
const SERIES: usize = 7;

/// The study of a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// The machine's name in the comparison.
    pub name: String,
    /// Its report.
    pub report: Report,
}

/// Compares the studies of several machines: every experiment that at least two of them have, with the figures
/// of all, the verdicts of each, and a sentence on whether the paper's claim holds on all.
///
/// # Errors
/// [`Error::Input`] if no two studies have an experiment in common.
pub fn compare(studies: &[Study]) -> Result<Report> {
    let ids = distinct(studies.iter().flat_map(|study| &study.report.sections).map(|section| &*section.id));
    let of = |id: &str| -> Vec<Of<Section>> {
        let found = studies.iter().filter_map(|study| {
            let section = study.report.sections.iter().find(|section| section.id == id)?;
            Some(Of { machine: &study.name, it: section })
        });
        found.collect()
    };
    let sections: Vec<Section> =
        ids.into_iter().map(of).filter(|all| all.len() > 1).map(|all| section(&all)).collect();
    if sections.is_empty() {
        let each = studies.iter().map(|Study { name, report }| {
            let ids: Vec<&str> = report.sections.iter().map(|section| section.id.as_str()).collect();
            format!("{name} has {}", if ids.is_empty() { "none".into() } else { ids.join(", ") })
        });
        let each: Vec<String> = each.collect();
        return Err(Error::Input(format!("the studies have no experiment in common: {}", each.join("; "))));
    }
    let mut lead: Vec<String> = Vec::new();
    for Study { name, report } in studies {
        lead.extend(report.lead.first().map(|answer| format!("{name}: {answer}")));
    }
    let verdicts = sections.iter().filter(|section| section.claim.is_some());
    lead.extend(verdicts.filter_map(|section| Some(format!("{}: {}", section.id, section.verdict.first()?))));
    let answers: Vec<Of<Figure>> = studies
        .iter()
        .filter_map(|study| Some(Of { machine: &study.name, it: study.report.figure.as_ref()? }))
        .collect();
    let facts = studies.iter().map(|Study { name, report }| {
        let wanted = ["Graphics adapter", "CPU", "Mode", "Date"];
        let found = report.facts.iter().filter(|(fact, _)| wanted.contains(&fact.as_str()));
        (name.clone(), found.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join("; "))
    });
    Ok(Report {
        title: "Do separable convolutions save time? Machines side by side".into(),
        lead,
        figure: merged(&answers).into_iter().next(),
        facts: facts.collect(),
        sections: sections.into_iter().chain([machines(studies)]).collect(),
        notes: studies.first().map_or_else(Vec::new, |study| study.report.notes.clone()),
    })
}

/// Returns the JSON of a comparison.
///
/// # Errors
/// None are expected: every report can be written.
pub fn comparison_json(report: &Report) -> Result<String> {
    written(COMPARISON, report)
}

/// The items without repetitions, in the order of their first appearance.
fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

/// A part of the report of one machine.
struct Of<'a, T> {
    machine: &'a str,
    it: &'a T,
}

/// An experiment on all machines that have it.
fn section(all: &[Of<Section>]) -> Section {
    let first = all[0].it;
    let of_each = |texts: fn(&Section) -> &[String]| {
        let each =
            all.iter().flat_map(|of| texts(of.it).iter().map(|text| format!("{}: {text}", of.machine)));
        each.collect::<Vec<String>>()
    };
    let mut claim = first.claim.clone();
    if let Some(claim) = &mut claim {
        claim.outcome = all.iter().filter_map(|of| Some(of.it.claim.as_ref()?.outcome)).collect();
    }
    let mut figures = Vec::new();
    for id in distinct(all.iter().flat_map(|of| &of.it.figures).map(|figure| &figure.id)) {
        let each = all.iter().flat_map(|of| {
            let found = of.it.figures.iter().filter(|figure| figure.id == *id);
            found.map(|figure| Of { machine: of.machine, it: figure })
        });
        figures.extend(merged(&each.collect::<Vec<_>>()));
    }
    let outcomes =
        all.iter().map(|of| (of.machine, of.it.claim.as_ref().map_or(Outcome::Untested, |c| c.outcome)));
    let mut verdict = Vec::new();
    if claim.is_some() {
        verdict.push(agreement(&outcomes.collect::<Vec<_>>()));
    }
    verdict.extend(of_each(|section| &section.verdict));
    Section {
        id: first.id.clone(),
        title: first.title.clone(),
        claim,
        theory: first.theory.clone(),
        method: first.method.clone(),
        figures,
        tables: Vec::new(),
        verdict,
        failures: of_each(|section| &section.failures),
    }
}

/// Whether the paper's claim holds on the machines, in a sentence.
fn agreement(outcomes: &[(&str, Outcome)]) -> String {
    if outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Untested) {
        return "The paper's claim was not tested on any of these machines.".into();
    }
    let group = |wanted: Outcome| {
        let found = outcomes.iter().filter(|(_, outcome)| *outcome == wanted);
        found.map(|(machine, _)| *machine).collect::<Vec<_>>()
    };
    let kinds = [
        (Outcome::Agrees, "holds"),
        (Outcome::Partly, "holds in part"),
        (Outcome::Contradicts, "does not hold"),
        (Outcome::Undecided, "is undecided"),
        (Outcome::Untested, "was not tested"),
    ];
    let groups: Vec<(Vec<&str>, &str)> = kinds
        .into_iter()
        .map(|(kind, words)| (group(kind), words))
        .filter(|(who, _)| !who.is_empty())
        .collect();
    match &groups[..] {
        [(all, words)] => {
            let everywhere = if all.len() == 2 { "both machines" } else { "all machines" };
            format!("The paper's claim {words} on {everywhere}: {}.", super::listed(all))
        }
        groups => {
            let each = groups.iter().map(|(who, words)| format!("{words} on {}", super::listed(who)));
            format!("The paper's claim {}.", each.collect::<Vec<_>>().join("; it "))
        }
    }
}

/// One figure with the series of all machines or, if that is too much for one, a figure per machine.
fn merged(all: &[Of<Figure>]) -> Vec<Figure> {
    let Some(Of { it: first, .. }) = all.first() else { return Vec::new() };
    let same_axis = |a: &Axis, b: &Axis| {
        a.label == b.label && std::mem::discriminant(&a.scale) == std::mem::discriminant(&b.scale)
    };
    let fits = |figure: &Figure| {
        figure.kind == first.kind && same_axis(&figure.x, &first.x) && same_axis(&figure.y, &first.y)
    };
    let solid =
        all.iter().flat_map(|of| &of.it.series).filter(|series| series.style != Style::Dashed).count();
    if first.kind == Kind::StackedBars || solid > SERIES || !all.iter().all(|of| fits(of.it)) {
        return all
            .iter()
            .map(|of| Figure { title: format!("{}: {}", of.machine, of.it.title), ..of.it.clone() })
            .collect();
    }
    let titles = distinct(all.iter().map(|of| &*of.it.title));
    let categories = distinct(all.iter().flat_map(|of| names(of.it)).cloned());
    let mut each: Vec<Of<Series>> = Vec::new();
    let moved: Vec<(&str, Vec<Series>)> =
        all.iter().map(|of| (of.machine, placed(of.it, &categories))).collect();
    for (machine, series) in &moved {
        each.extend(series.iter().map(|it| Of { machine, it }));
    }
    let mut figure =
        Figure { title: titles.join(" / "), series: together(&each, first.kind), ..(*first).clone() };
    if let Scale::Categories(names) = &mut figure.x.scale {
        *names = categories;
    }
    vec![figure]
}

/// The categories of a figure's x axis.
fn names(figure: &Figure) -> &[String] {
    if let Scale::Categories(names) = &figure.x.scale { names } else { &[] }
}

/// A figure's series, with the indices of its categories among those of the merged figure.
fn placed(figure: &Figure, categories: &[String]) -> Vec<Series> {
    let place = |x: f64| match names(figure).get(x.round() as usize) {
        Some(name) => categories.iter().position(|known| known == name).map_or(x, |at| at as f64),
        None => x,
    };
    let moved = |series: &Series| {
        let points = series.points.iter().map(|point| Point { x: place(point.x), ..point.clone() });
        Series { points: points.collect(), ..series.clone() }
    };
    figure.series.iter().map(moved).collect()
}

/// The series of all machines, each with its machine's name. A theory on which the machines agree is there once.
fn together(each: &[Of<Series>], kind: Kind) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for (at, Of { machine, it }) in each.iter().enumerate() {
        let same =
            |of: &&Of<Series>| it.style == Style::Dashed && of.it.style == it.style && of.it.name == it.name;
        let theories: Vec<&Series> = each.iter().filter(same).map(|of| of.it).collect();
        if theories.len() < 2 || !theories.iter().all(|theory| agree(theories[0], theory, kind)) {
            series.push(Series { name: format!("{machine}: {}", it.name), ..(*it).clone() });
        } else if !each[..at].iter().any(|of| same(&of)) {
            let mut points: Vec<Point> = Vec::new();
            for point in theories.iter().flat_map(|theory| &theory.points) {
                if points.iter().all(|known| known.x != point.x) {
                    points.push(point.clone());
                }
            }
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            series.push(Series { points, ..(*it).clone() });
        }
    }
    series
}

/// Whether two theoretical series agree. Of bars, only the categories that both series have are compared.
fn agree(one: &Series, other: &Series, kind: Kind) -> bool {
    match kind {
        Kind::Points => one.points == other.points,
        _ => one.points.iter().all(|a| other.points.iter().all(|b| a.x != b.x || a.y == b.y)),
    }
}

/// The facts of all machines.
fn machines(studies: &[Study]) -> Section {
    let names = distinct(studies.iter().flat_map(|study| &study.report.facts).map(|(name, _)| &**name));
    let value = |study: &Study, name: &str| {
        let values = study.report.facts.iter().filter(|(fact, _)| fact == name);
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        if values.is_empty() { Cell::missing("not in this report") } else { values.join("; ").into() }
    };
    let rows = names.iter().map(|name| {
        let values = studies.iter().map(|study| value(study, name));
        [Cell::from(*name)].into_iter().chain(values).collect()
    });
    let columns =
        [Column::new("", "")].into_iter().chain(studies.iter().map(|study| Column::new(&study.name, "")));
    Section {
        id: "M".into(),
        title: "The machines".into(),
        tables: vec![Table {
            caption: "As each report describes its machine".into(),
            columns: columns.collect(),
            rows: rows.collect(),
        }],
        ..Section::default()
    }
}
