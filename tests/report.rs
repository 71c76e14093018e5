//! The page of a study: it is complete, marks what was not measured, and accepts any values.

use goldcrest::measure::{
    Spread,
    report::{
        Axis, Cell, Claim, Column, Figure, Kind, Outcome, Point, Report, Scale, Section, Series, Style,
        Table, page,
    },
};
use roxmltree::{Document, Node, ParsingOptions};
use serde_json::json;

/// Parses the page as XML, without the `meta` tags, which HTML does not close.
fn parsed(page: &str, check: impl FnOnce(Node)) {
    let mut xml = page.to_string();
    while let Some(at) = xml.find("<meta ") {
        let end = at + xml[at..].find('>').unwrap();
        xml.replace_range(at..=end, "");
    }
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    check(Document::parse_with_options(&xml, options).expect("well-formed").root_element());
}

fn nodes<'a, 'd>(root: Node<'a, 'd>, tag: &'static str) -> impl Iterator<Item = Node<'a, 'd>> {
    root.descendants().filter(move |node| node.tag_name().name() == tag)
}

fn text(node: Node) -> String {
    node.descendants().filter_map(|node| node.is_text().then(|| node.text())?).collect()
}

fn figure(kind: Kind, x: Axis, y: Axis, series: Vec<Series>) -> Figure {
    Figure {
        id: "figure".into(),
        title: "A figure".into(),
        caption: "What it shows.".into(),
        kind,
        x,
        y,
        series,
    }
}

fn report(figures: Vec<Figure>, tables: Vec<Table>) -> Report {
    let lead = figures.first().cloned();
    let section = Section {
        id: "E1".into(),
        title: "Ninefold?".into(),
        claim: Some(Claim::new("It is.", "A paper, http://example.org/?a=1&b=2")),
        theory: "One.\n\nTwo.".into(),
        figures,
        tables,
        verdict: vec!["It is not.".into()],
        failures: vec!["The device was lost.".into()],
        ..Section::default()
    };
    Report {
        title: "A study".into(),
        lead: vec!["Sixfold.".into()],
        figure: lead,
        facts: vec![("adapter".into(), "none <\"&\">".into())],
        sections: vec![section.clone(), section],
        notes: vec![],
    }
}

fn spread(median: f64) -> Spread {
    Spread { median, min: 0.9 * median, max: 1.2 * median }
}

#[test]
fn page_is_complete() {
    let names = ["V1 <\"&\">", "V2"];
    let bars = Series::new("GPU <\"&\">", Style::Marks, [(0.0, spread(3.0)), (1.0, spread(5.0))]);
    let theory = Series::new("theory", Style::Dashed, [(0.0, 9.0), (1.0, 9.0)]);
    let absent = Series::new("f16", Style::Marks, [(0.0, f64::NAN)]);
    let bars = figure(
        Kind::Bars,
        Axis::categories("network", names),
        Axis::linear("ms"),
        vec![bars, theory, absent],
    );
    let page = page::render(&report(vec![bars], vec![])).unwrap();

    parsed(&page, |root| {
        let drawn: Vec<Node> =
            nodes(root, "svg").filter(|svg| svg.attribute("aria-label") == Some("A figure")).collect();
        let sizes: Vec<_> = drawn.iter().filter_map(|svg| svg.attribute("class")).collect();
        assert_eq!(sizes, ["wide", "narrow", "wide", "narrow", "wide", "narrow"]);
        // Colours are those of the page, which are light or dark.
        for node in drawn.iter().flat_map(|svg| svg.descendants()) {
            for colour in ["fill", "stroke"].iter().filter_map(|name| node.attribute(*name)) {
                assert!(colour == "none" || colour.starts_with("var(--"), "{colour}");
            }
        }
        // The answer is before everything else.
        let order: Vec<_> = root
            .descendants()
            .filter(|node| {
                node.is_element() && ["p", "svg", "details", "section"].contains(&node.tag_name().name())
            })
            .map(|node| node.tag_name().name())
            .collect();
        assert_eq!(order[..2], ["p", "p"], "{order:?}");
        let place = |name| order.iter().position(|tag| *tag == name).unwrap();
        assert!(place("svg") < place("details") && place("details") < place("section"), "{order:?}");
        assert_ne!(text(drawn[0]), "", "labels are text");
        assert!(drawn.iter().all(|svg| text(*svg).contains("V1 <\"&\">")));
        let legend = nodes(root, "ul").find(|list| list.attribute("class") == Some("legend")).unwrap();
        let entries: Vec<_> = nodes(legend, "li").map(|entry| text(entry).trim().to_string()).collect();
        assert_eq!(entries, ["GPU <\"&\">", "theory", "f16 (not measured)"]);

        let anchors: Vec<_> = nodes(root, "section").filter_map(|section| section.attribute("id")).collect();
        for link in nodes(root, "a").filter_map(|link| link.attribute("href")) {
            assert!(anchors.contains(&link.trim_start_matches('#')), "{link} in {anchors:?}");
        }
        let all = text(root);
        for part in ["Sixfold.", "It is.", "b=2", "It is not.", "The device was lost.", "none <\"&\">"] {
            assert!(all.contains(part), "{part}");
        }
        for node in root.descendants() {
            let loads = ["src", "data", "srcset", "action"].iter().any(|name| node.has_attribute(*name));
            let scripted = ["script", "link", "img", "iframe", "object"].contains(&node.tag_name().name());
            assert!(!loads && !scripted, "{node:?}");
        }
    });
    assert!(!page.contains("@import") && !page.contains("url("));
}

#[test]
fn tables_align_numbers_right() {
    let table = Table {
        caption: "Times".into(),
        columns: vec![Column::new("network", ""), Column::new("run", "ms"), Column::new("weights", "")],
        rows: vec![
            vec!["V1".into(), spread(0.5).into(), Cell::Number(4_231_976.0, 0)],
            vec!["V2".into(), Cell::missing("no <f16>"), Cell::Number(f64::NAN, 2)],
            vec!["ragged".into()],
        ],
    };
    let page = page::render(&report(vec![], vec![table])).unwrap();
    parsed(&page, |root| {
        let table = nodes(root, "table").find(|table| nodes(*table, "caption").count() == 1).unwrap();
        let cells = |row: Node| -> Vec<String> {
            row.children().filter(Node::is_element).map(|cell| text(cell).trim().to_string()).collect()
        };
        let rows: Vec<_> = nodes(table, "tr").map(cells).collect();
        assert_eq!(rows[0], ["network", "run ms", "weights"]);
        assert_eq!(rows[1], ["V1", "0.500 (0.450 to 0.600)", "4\u{202f}231\u{202f}976"]);
        assert_eq!(rows[2], ["V2", "no <f16>", "not measured"]);
        assert_eq!(rows[3], ["ragged"]);
        let numbers = nodes(table, "td").filter(|cell| cell.attribute("class") == Some("number")).count();
        assert_eq!(numbers, 4);
        assert!(nodes(table, "th").all(|head| head.has_attribute("scope")));
    });
}

#[test]
fn json_contains_numbers_as_numbers() {
    let table = Table {
        caption: String::new(),
        columns: vec![Column::new("ms", "")],
        rows: vec![vec!["V1".into(), Cell::Number(0.1, 1), spread(10.0).into(), Cell::missing("no f16")]],
    };
    let point = Point::from((2.0, f64::INFINITY)).labelled("here");
    let figure = figure(
        Kind::StackedBars,
        Axis::categories("n", ["a"]),
        Axis::log("y"),
        vec![Series::new("s", Style::Line, [point])],
    );
    let json = serde_json::to_value(report(vec![figure], vec![table])).unwrap();
    let section = &json["sections"][0];
    let cells = json!(["V1", 0.1, { "median": 10.0, "min": 9.0, "max": 12.0 }, { "missing": "no f16" }]);
    assert_eq!(section["tables"][0]["rows"][0], cells);
    let figure = &section["figures"][0];
    assert_eq!(figure["kind"], "stacked_bars");
    assert_eq!(
        (&figure["x"]["scale"], &figure["y"]["scale"]),
        (&json!({ "categories": ["a"] }), &json!("log"))
    );
    let point = json!({ "x": 2.0, "y": null, "low": null, "high": null, "label": "here" });
    assert_eq!(figure["series"][0]["points"][0], point);
}

#[test]
fn any_figure_can_be_drawn() {
    let long = "a name of sixty letters that nobody would give to a network ".repeat(2);
    let values = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e-300, 0.5, 3.0, 1e300];
    let hostile =
        |x: f64, y: f64| Point { x, y, low: Some(-y), high: Some(1.0 / y), label: Some(long.clone()) };
    let cases: Vec<Vec<Point>> = vec![
        vec![],
        vec![(f64::NAN, 1.0).into()],
        vec![(0.0, 3.0).into()],
        vec![(0.0, -3.0).into(), (1.0, 0.0).into()],
        values.iter().flat_map(|&x| values.map(|y| hostile(x, y))).collect(),
    ];
    let axes: Vec<Axis> = [
        Scale::Linear,
        Scale::Log,
        Scale::Categories(vec![]),
        Scale::Categories(vec![String::new()]),
        Scale::Categories(vec![long.clone(); 3]),
        Scale::Categories(vec![long.clone(); 300]),
    ]
    .map(|scale| Axis { label: long.clone(), scale })
    .into();
    for kind in [Kind::Points, Kind::Bars, Kind::StackedBars] {
        for x in &axes {
            for y in &axes {
                let figures = cases.iter().map(|points| {
                    let series = [Style::Marks, Style::Line, Style::Dashed]
                        .map(|style| Series::new(long.clone(), style, points.clone()));
                    figure(kind, x.clone(), y.clone(), series.into())
                });
                let none = figure(kind, x.clone(), y.clone(), vec![]);
                let page = page::render(&report(figures.chain([none]).collect(), vec![])).unwrap();
                assert!(!page.contains("NaN") && !page.contains("inf"), "{kind:?} {x:?} {y:?}");
                parsed(&page, |root| {
                    let empty = nodes(root, "p").filter(|p| text(*p) == "not measured").count();
                    assert!(
                        empty >= 6,
                        "{empty} empty figures: without points, without finite points, and without series"
                    );
                });
            }
        }
    }
    assert!(page::render(&Report::default()).is_ok());
}

#[test]
fn outcomes_are_combined() {
    use Outcome::{Agrees, Contradicts, Partly, Undecided, Untested};
    assert_eq!(
        [(3, 4), (1, 4), (2, 4), (0, 0)].map(|(a, b)| Outcome::of(a, b)),
        [Agrees, Contradicts, Undecided, Untested]
    );
    for (outcomes, all) in [
        (vec![], Untested),
        (vec![Agrees, Untested], Agrees),
        (vec![Contradicts, Contradicts], Contradicts),
        (vec![Agrees, Contradicts], Partly),
        (vec![Contradicts, Partly], Partly),
        (vec![Undecided, Contradicts], Undecided),
    ] {
        assert_eq!(outcomes.iter().copied().collect::<Outcome>(), all, "{outcomes:?}");
    }
}
