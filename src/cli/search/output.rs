//! The output of `search`: text, JSON and a plot.

use std::{
    fmt::{self, Write},
    path::Path,
};

use anyhow::Result;
use goldcrest::{
    Device,
    measure::{
        Spread,
        report::{Axis, Cell, Column, Figure, Kind, Point, Report, Section, Series, Style, Table},
    },
    search::{Checked, Finalist, Found, short as number},
    zoo::Supernet,
};
use serde_json::{Value, json as value};

use super::{Search, Searched};
use crate::cli::{common, plot};

pub struct Output<'a> {
    pub search: &'a Search,
    pub supernet: &'a Supernet,
    pub within_ms: f64,
    pub searches: &'a [Searched],
    /// Index of a winner's device, index of another device, milliseconds of the winner on the latter.
    pub crossed: Vec<(usize, usize, f64)>,
}

impl Output<'_> {
    pub fn json(&self) -> Result<String> {
        let [only] = self.searches else {
            let mut object = value!({});
            for searched in self.searches {
                object[searched.device.backend()] = self.one(searched);
            }
            let backend = |at: usize| self.searches[at].device.backend();
            let crossed = self.crossed.iter().map(
                |(of, on, ms)| value!({ "winner_of": backend(*of), "on": backend(*on), "measured_ms": ms }),
            );
            object["winners_on_other_devices"] = crossed.collect();
            return common::json(&object);
        };
        common::json(&self.one(only))
    }

    /// The result of one search as JSON.
    pub fn one(&self, searched: &Searched) -> Value {
        let Searched { device, out, outcome, checked } = searched;
        let mut object = match searched.winner() {
            Some(winner) => finalist(winner),
            None => value!({}),
        };
        let (weights, seed) = (self.supernet.path().display().to_string(), self.search.seed);
        object["supernet"] = value!(weights);
        object["backend"] = value!(device.backend());
        object["device"] = value!(device.to_string());
        object["precision"] = value!(self.search.precision.name());
        object["within_ms"] = value!(self.within_ms);
        object["seed"] = value!(seed);
        object["out"] = value!(out.display().to_string());
        object["evaluated"] = value!(outcome.found.len());
        object["finalists"] = outcome.finalists.iter().map(finalist).collect();
        let of_front = |found: &&Found| {
            value!({
                "subnet": found.subnet.to_string(),
                "predicted_ms": found.predicted_ms,
                "accuracy": found.search_accuracy,
            })
        };
        object["front"] = front(&outcome.found).iter().map(of_front).collect();
        if !checked.is_empty() {
            object["prediction"] = value!({
                "networks": checked.len(),
                "median_error": median_error(checked),
                "checked": checked,
            });
        }
        object
    }

    pub fn words(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        for (at, searched) in self.searches.iter().enumerate() {
            let Searched { device, out, outcome, checked } = searched;
            if at > 0 {
                writeln!(text)?;
            }
            writeln!(
                text,
                "{device}: {} candidates within {} ms",
                outcome.found.len(),
                number(self.within_ms)
            )?;
            if !checked.is_empty() {
                let (count, error) = (checked.len(), 100.0 * median_error(checked));
                writeln!(text, "predicted times of {count} random networks: median error {error:.1} %")?;
            }
            if outcome.finalists.is_empty() {
                writeln!(
                    text,
                    "no timed candidate stayed within the limit: the fastest took {:.3} ms",
                    outcome.fastest_ms
                )?;
                continue;
            }
            writeln!(
                text,
                "\n{:>8} {:>10} {:>9} {:>8} {:>9}  network",
                "accuracy", "predicted", "ms", "MMACs", "weights"
            )?;
            for finalist in &outcome.finalists {
                writeln!(
                    text,
                    "{:>6.1} % {:>10.3} {:>9.3} {:>8.1} {:>8.2}M  {}",
                    100.0 * finalist.held_out_accuracy,
                    finalist.predicted_ms,
                    finalist.measured_ms.median,
                    finalist.macs as f64 / 1e6,
                    finalist.weights as f64 / 1e6,
                    finalist.subnet,
                )?;
            }
            let mut flags = self.search.devices.flags(device.backend());
            // As it was measured: the CPU computes in f32 for any `--precision`.
            if let (Device::Gpu(_), Some(element)) = (device, self.search.precision.precision().element()) {
                flags += &format!(" --precision {element}");
            }
            let out = common::file(out);
            writeln!(text, "\nthe winner is in {out}: goldcrest classify IMAGE --weights {out} {flags}")?;
        }
        for (of, on, ms) in &self.crossed {
            let (of, on) = (&self.searches[*of].device, &self.searches[*on].device);
            writeln!(
                text,
                "the network found for the {} takes {ms:.3} ms on the {}",
                of.backend(),
                on.backend()
            )?;
        }
        Ok(text)
    }

    /// Renders a figure file.
    pub fn draw(&self, path: &Path) -> Result<Vec<u8>> {
        plot::draw(path, self.figure(), |figure| self.report(figure))
    }

    fn figure(&self) -> Figure {
        let mut series = Vec::new();
        let percent = |found: &Found| (found.predicted_ms, 100.0 * found.search_accuracy);
        for Searched { device, outcome, .. } in self.searches {
            let best = front(&outcome.found);
            let line: Vec<(f64, f64)> = best.iter().map(|found| percent(found)).collect();
            series.push(Series::new(format!("front on {device}, predicted"), Style::Line, line));
            let others: Vec<(f64, f64)> =
                outcome.found.iter().filter(|found| !best.contains(found)).map(percent).collect();
            series.push(Series::new(format!("other candidates on {device}"), Style::Marks, others));
            let timed = |f: &Finalist| Point::from((f.measured_ms.median, 100.0 * f.held_out_accuracy));
            let timed: Vec<Point> = outcome.finalists.iter().map(timed).collect();
            series.push(Series::new(
                format!("measured on {device}, with held-out pictures"),
                Style::Marks,
                timed,
            ));
        }
        Figure {
            id: "search".into(),
            title: "Networks of a supernet on this machine".into(),
            caption: format!("Within {} ms.", number(self.within_ms)),
            kind: Kind::Points,
            x: Axis::log("ms, from input tensor to output"),
            y: Axis::linear("accuracy, %"),
            series,
        }
    }

    fn report(&self, figure: Figure) -> Report {
        let columns = [
            ("device", ""),
            ("network", ""),
            ("accuracy", "%"),
            ("predicted", "ms"),
            ("", "ms"),
            ("", "MMACs"),
        ];
        let rows = self.searches.iter().flat_map(|searched| {
            searched.outcome.finalists.iter().map(|finalist| {
                vec![
                    searched.device.to_string().into(),
                    finalist.subnet.to_string().into(),
                    Cell::Number(100.0 * finalist.held_out_accuracy, 1),
                    Cell::Number(finalist.predicted_ms, 3),
                    finalist.measured_ms.into(),
                    Cell::Number(finalist.macs as f64 / 1e6, 1),
                ]
            })
        });
        let table = Table {
            caption: "The best candidates, as measured".into(),
            columns: columns.map(|(title, unit)| Column::new(title, unit)).to_vec(),
            rows: rows.collect(),
        };
        let section = Section {
            id: "S".into(),
            title: "Accuracy against time".into(),
            figures: vec![figure],
            tables: vec![table],
            ..Section::default()
        };
        let title = "Search of a supernet".into();
        Report { title, sections: vec![section], ..Report::default() }
    }
}

/// The Pareto front: candidates that no other beats in both time and accuracy, the fastest first.
fn front(found: &[Found]) -> Vec<&Found> {
    let mut sorted: Vec<&Found> = found.iter().collect();
    sorted.sort_by(|a, b| {
        a.predicted_ms.total_cmp(&b.predicted_ms).then(b.search_accuracy.total_cmp(&a.search_accuracy))
    });
    let mut best = f64::NEG_INFINITY;
    sorted.retain(|found| {
        let better = found.search_accuracy > best;
        best = best.max(found.search_accuracy);
        better
    });
    sorted
}

fn median_error(checked: &[Checked]) -> f64 {
    let errors = Spread::of(checked.iter().map(Checked::error).collect());
    errors.map_or(f64::NAN, |errors| errors.median)
}

/// A finalist as JSON.
fn finalist(finalist: &Finalist) -> Value {
    value!({
        "subnet": finalist.subnet.to_string(),
        "size": finalist.subnet.size,
        "predicted_ms": finalist.predicted_ms,
        "measured_ms": finalist.measured_ms.median,
        "measured_min_ms": finalist.measured_ms.min,
        "measured_max_ms": finalist.measured_ms.max,
        "gpu_ms": finalist.gpu_ms,
        "accuracy": finalist.held_out_accuracy,
        "searched_accuracy": finalist.search_accuracy,
        "macs": finalist.macs,
        "weights": finalist.weights,
    })
}
