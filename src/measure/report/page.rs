//! Rendering a report as one self-contained HTML page, without scripts, fonts or network access.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Cell, Figure, Report, Section, Spread, Table, digits, number,
    pen::{DARK, Drawing, LIGHT, Palette},
    plot,
};
use crate::Error;

const STYLE: &str = include_str!("page.css");

/// Renders a report as an HTML page.
///
/// # Errors
/// [`Error::Figure`] if a figure could not be drawn.
pub fn render(report: &Report) -> Result<String, Error> {
    let mut count = 0;
    let sections: Result<Vec<Markup>, Error> =
        report.sections.iter().map(|section| self::section(section, &mut count)).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.title) }
                style { (PreEscaped(colours())) (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header {
                        h1 { (report.title) }
                        @if !report.lead.is_empty() {
                            ul.lead { @for verdict in &report.lead { li { (verdict) } } }
                        }
                        (facts(&report.facts))
                        (contents(report))
                    }
                    @for section in sections? { (section) }
                    @if !report.notes.is_empty() {
                        section #notes {
                            h2 { "Notes" }
                            ul { @for note in &report.notes { li { (note) } } }
                        }
                    }
                }
            }
        }
    };
    Ok(page.into_string())
}

/// Returns the colours of the palettes as CSS variables, each with a light and a dark value.
fn colours() -> String {
    let both = |name: &str, of: fn(&Palette) -> plotters::style::RGBColor| {
        let [light, dark] = [&LIGHT, &DARK].map(|palette| {
            let plotters::style::RGBColor(r, g, b) = of(palette);
            format!("#{r:02x}{g:02x}{b:02x}")
        });
        format!("--{name}: light-dark({light}, {dark}); ")
    };
    let colours = [
        both("paper", |palette| palette.paper),
        both("ink", |palette| palette.ink),
        both("faint", |palette| palette.faint),
        both("grid", |palette| palette.grid),
        both("accent", |palette| palette.series[0]),
        both("warning", |palette| palette.series[1]),
    ];
    format!(":root {{ {}}}\n", colours.concat())
}

fn facts(facts: &[(String, String)]) -> Markup {
    html! {
        @if !facts.is_empty() {
            div.scroll {
                table.facts {
                    tbody {
                        @for (name, value) in facts { tr { th scope="row" { (name) } td { (value) } } }
                    }
                }
            }
        }
    }
}

fn contents(report: &Report) -> Markup {
    html! {
        @if report.sections.len() > 1 {
            nav aria-label="Contents" {
                ol {
                    @for section in &report.sections {
                        li { a href={ "#" (anchor(section)) } { (heading(section)) } }
                    }
                    @if !report.notes.is_empty() { li { a href="#notes" { "Notes" } } }
                }
            }
        }
    }
}

/// Returns the anchor of a section for links.
fn anchor(section: &Section) -> String {
    section.id.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect()
}

fn heading(section: &Section) -> Markup {
    html! { span.id { (section.id) } " " (section.title) }
}

/// Renders a section; `count` is the number of figures so far.
fn section(section: &Section, count: &mut usize) -> Result<Markup, Error> {
    let mut figures = vec![];
    for figure in &section.figures {
        *count += 1;
        figures.push(self::figure(figure, *count)?);
    }
    Ok(html! {
        section id=(anchor(section)) {
            h2 { (heading(section)) }
            @if let Some(claim) = &section.claim {
                figure.claim {
                    blockquote { (paragraphs(&claim.text)) }
                    figcaption { (claim.source) }
                }
            }
            (part("Theory", &section.theory))
            (part("Method", &section.method))
            @for figure in figures { (figure) }
            @for table in &section.tables { (self::table(table)) }
            (list("Verdict", "verdict", &section.verdict))
            (list("Failures", "failures", &section.failures))
        }
    })
}

fn part(title: &str, text: &str) -> Markup {
    html! { @if !text.trim().is_empty() { h3 { (title) } (paragraphs(text)) } }
}

fn paragraphs(text: &str) -> Markup {
    html! { @for text in text.split("\n\n") { p { (text) } } }
}

fn list(title: &str, class: &str, items: &[String]) -> Markup {
    html! {
        @if !items.is_empty() {
            div class=(class) {
                h3 { (title) }
                @if let [item] = items { p { (item) } } @else { ul { @for item in items { li { (item) } } } }
            }
        }
    }
}

/// Renders legend and drawing in both palettes; the stylesheet shows one of them.
fn figure(figure: &Figure, number: usize) -> Result<Markup, Error> {
    let measured = |series| figure.shown(series).next().is_some();
    let any = figure.series.iter().any(measured);
    let [light, dark] = [&LIGHT, &DARK]
        .map(|palette| Ok((palette, plot::legend(figure, palette)?, plot::figure(figure, palette)?)));
    let drawn = [light?, dark?];
    Ok(html! {
        figure {
            p.title { (figure.title) }
            @if any {
                ul.legend {
                    @for (i, series) in figure.series.iter().enumerate() {
                        li {
                            @for (palette, legend, _) in &drawn { (svg(&legend[i], palette, None)) }
                            (series.name)
                            @if !measured(series) { " " em { "(not measured)" } }
                        }
                    }
                }
                div.scroll {
                    @for (palette, _, drawing) in &drawn { (svg(drawing, palette, Some(&figure.title))) }
                }
            } @else {
                p.nothing { "not measured" }
            }
            figcaption { b { "Figure " (number) "." } " " (figure.caption) }
        }
    })
}

/// Renders a drawing as an image with this accessible name or, without a name, as decoration.
fn svg(drawing: &Drawing, palette: &Palette, name: Option<&str>) -> Markup {
    let (width, height) = drawing.size;
    html! {
        svg .(palette.name) viewBox={ "0 0 " (width) " " (height) } xmlns="http://www.w3.org/2000/svg"
            role=[name.map(|_| "img")] aria-label=[name] aria-hidden=[name.is_none().then_some("true")] {
            (PreEscaped(&drawing.svg))
        }
    }
}

fn table(table: &Table) -> Markup {
    let columns: Vec<Numbers> = (0..table.columns.len())
        .map(|at| Numbers::of(table.rows.iter().filter_map(|row| row.get(at))))
        .collect();
    let class = |at: usize| columns.get(at).and_then(|numbers| numbers.any.then_some("number"));
    html! {
        div.scroll {
            table {
                caption { span { (table.caption) } }
                thead {
                    tr {
                        @for (at, column) in table.columns.iter().enumerate() {
                            th scope="col" class=[class(at)] {
                                (column.title)
                                @if !column.unit.is_empty() { " " span.unit { (column.unit) } }
                            }
                        }
                    }
                }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (at, cell) in row.iter().enumerate() {
                                @match cell {
                                    Cell::Text(name) if at == 0 => th scope="row" { (name) },
                                    cell => td class=[class(at)] { (self::cell(cell, columns.get(at))) },
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The number format of a column.
#[derive(Default)]
struct Numbers {
    /// True if the column has numbers.
    any: bool,
    /// Decimal places for all spreads, if their magnitudes are close enough.
    digits: Option<usize>,
}

impl Numbers {
    fn of<'a>(cells: impl Iterator<Item = &'a Cell>) -> Self {
        let (mut any, mut fewest, mut most) = (false, usize::MAX, 0);
        for cell in cells {
            any |= matches!(cell, Cell::Number(..) | Cell::Spread(_));
            if let Cell::Spread(Spread { median, .. }) = cell {
                (fewest, most) = (fewest.min(digits(*median)), most.max(digits(*median)));
            }
        }
        Self { any, digits: (most <= fewest.saturating_add(1)).then_some(fewest) }
    }
}

fn cell(cell: &Cell, column: Option<&Numbers>) -> Markup {
    match cell {
        Cell::Text(text) => html! { (text) },
        Cell::Number(value, digits) if value.is_finite() => html! { (number(*value, *digits)) },
        &Cell::Spread(Spread { median, min, max }) if (median + min + max).is_finite() => {
            let digits = column.and_then(|column| column.digits).unwrap_or_else(|| digits(median));
            let [median, min, max] = [median, min, max].map(|value| number(value, digits));
            html! { (median) " " span.range { "(" (min) " to " (max) ")" } }
        }
        Cell::Missing { missing } if !missing.is_empty() => html! { em { (missing) } },
        _ => html! { em { "not measured" } },
    }
}
