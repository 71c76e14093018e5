//! Rendering a report as one self-contained HTML page, without scripts, fonts or network access.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use plotters::style::RGBColor;

use super::{
    Cell, Figure, Outcome, Report, Section, Spread, Table, digits, number,
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
    let mut figures = Figures::default();
    let lead = report.figure.as_ref().map(|figure| figures.next(figure)).transpose()?;
    // The details of a single experiment are shown. Those of several are folded: they would hide the results.
    let folded = report.sections.len() > 1;
    let sections = report.sections.iter().map(|section| self::section(section, &mut figures, folded));
    let sections = sections.collect::<Result<Vec<Markup>, Error>>()?;
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
                            div.lead { @for sentence in &report.lead { p { (sentence) } } }
                        }
                        @if let Some(figure) = lead { (figure) }
                        (details(folded, "This machine", !report.facts.is_empty(), facts(&report.facts)))
                        (contents(report))
                    }
                    @for section in sections { (section) }
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

/// The colours of a palette, with the names of their CSS variables.
fn named(palette: &Palette) -> Vec<(String, RGBColor)> {
    let plain =
        [("paper", palette.paper), ("ink", palette.ink), ("faint", palette.faint), ("grid", palette.grid)];
    let plain = plain.into_iter().map(|(name, colour)| (name.to_owned(), colour));
    let series = palette.series.into_iter().enumerate();
    plain.chain(series.map(|(i, colour)| (format!("series-{i}"), colour))).collect()
}

/// A colour as plotters writes it.
fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Returns the colours of the palettes as CSS variables, each with a light and a dark value.
fn colours() -> String {
    let both = named(&LIGHT).into_iter().zip(named(&DARK));
    let colours: String = both
        .map(|((name, light), (_, dark))| format!("--{name}: light-dark({}, {}); ", hex(light), hex(dark)))
        .collect();
    format!(":root {{ {colours}--accent: var(--series-0); --warning: var(--series-1); }}\n")
}

/// A drawing in the colours of the page, which are light or dark.
fn themed(svg: &str) -> String {
    named(&LIGHT).into_iter().fold(svg.to_owned(), |svg, (name, colour)| {
        svg.replace(&format!("\"{}\"", hex(colour)), &format!("\"var(--{name})\""))
    })
}

/// Content that opens on demand if it is `folded`, otherwise under a heading; nothing if there is none.
fn details(folded: bool, title: &str, any: bool, content: Markup) -> Markup {
    html! {
        @if any && folded {
            details { summary { (title) } (content) }
        } @else if any {
            (content)
        }
    }
}

fn facts(facts: &[(String, String)]) -> Markup {
    html! {
        div.scroll {
            table.facts {
                tbody {
                    @for (name, value) in facts { tr { th scope="row" { (name) } td { (value) } } }
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

/// Renders a section: claim, verdict and figures, then the details.
fn section(section: &Section, figures: &mut Figures, folded: bool) -> Result<Markup, Error> {
    let drawn = section.figures.iter().map(|figure| figures.next(figure)).collect::<Result<Vec<_>, _>>()?;
    let Section { theory, method, tables, failures, .. } = section;
    let texts = [theory, method].iter().any(|text| !text.trim().is_empty());
    let texts_of = html! { (part("Theory", theory)) (part("Method", method)) };
    // Without a figure, the tables are the results.
    let tables_folded = folded && !section.figures.is_empty();
    let tables_of = html! { @for table in tables { (self::table(table)) } };
    let count = match failures.len() {
        1 => "1 failed or disturbed measurement".to_owned(),
        n => format!("{n} failed or disturbed measurements"),
    };
    Ok(html! {
        section id=(anchor(section)) {
            h2 { (heading(section)) }
            @if let Some(claim) = &section.claim {
                figure.claim {
                    blockquote { (paragraphs(&claim.text)) }
                    figcaption { (claim.source) }
                }
            }
            (verdict(section))
            @for figure in drawn { (figure) }
            (details(tables_folded, "Measured values", !tables.is_empty(), tables_of))
            (details(folded, "Theory and method", texts, texts_of))
            (details(folded, &count, !failures.is_empty(), list("Failures", "failures", failures)))
        }
    })
}

/// The verdicts, after the outcome of the claim if it was tested.
fn verdict(section: &Section) -> Markup {
    let tested = section.claim.as_ref().map(|claim| claim.outcome);
    let title = match tested.filter(|outcome| *outcome != Outcome::Untested) {
        Some(outcome) => format!("Verdict: {outcome}"),
        None => "Verdict".into(),
    };
    list(&title, "verdict", &section.verdict)
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

/// The figures of a page, which are numbered.
#[derive(Default)]
struct Figures {
    count: usize,
}

impl Figures {
    /// Renders the next figure: legend, and drawings for wide and for narrow pages, of which the stylesheet
    /// shows one.
    fn next(&mut self, figure: &Figure) -> Result<Markup, Error> {
        self.count += 1;
        let measured = |series| figure.shown(series).next().is_some();
        let any = figure.series.iter().any(measured);
        let (legend, [wide, narrow]) = (plot::legend(figure)?, plot::figure(figure)?);
        Ok(html! {
            figure {
                p.title { (figure.title) }
                @if any {
                    ul.legend {
                        @for (swatch, series) in legend.iter().zip(&figure.series) {
                            li {
                                (svg(swatch, "swatch", None))
                                (series.name)
                                @if !measured(series) { " " em { "(not measured)" } }
                            }
                        }
                    }
                    (svg(&wide, "wide", Some(&figure.title)))
                    (svg(&narrow, "narrow", Some(&figure.title)))
                } @else {
                    p.nothing { "not measured" }
                }
                figcaption { b { "Figure " (self.count) "." } " " (figure.caption) }
            }
        })
    }
}

/// Renders a drawing as an image with this accessible name or, without a name, as decoration.
fn svg(drawing: &Drawing, class: &str, name: Option<&str>) -> Markup {
    let (width, height) = drawing.size;
    html! {
        svg .(class) viewBox={ "0 0 " (width) " " (height) } xmlns="http://www.w3.org/2000/svg"
            role=[name.map(|_| "img")] aria-label=[name] aria-hidden=[name.is_none().then_some("true")] {
            (PreEscaped(themed(&drawing.svg)))
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
