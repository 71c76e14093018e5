//! The study on a CPU only: the code for GPUs is the same, and takes minutes on a software one.

use goldcrest::{
    cpu::Cpu,
    measure::report::{
        Axis, Cell, Claim, Figure, Kind, Outcome, Report, Section, Series, Style, Table, page,
    },
    session::Device,
    study::{self, Experiment, Mode, Settings, Study, compare, study},
};

#[test]
fn every_experiment_has_a_verdict() {
    let cpu = Device::Cpu(Cpu::new(Some(1)).unwrap());
    let reported = std::cell::RefCell::new(Vec::new());
    let report = study(&[cpu], &Settings::new(Mode::Quick), |done, of, what| {
        assert!(done < of);
        reported.borrow_mut().push(what.to_string());
    })
    .unwrap();
    assert!(reported.borrow().iter().any(|what| what.contains("mobilenet_v2")));
    let ids: Vec<&str> = report.sections.iter().map(|section| section.id.as_str()).collect();
    assert_eq!(ids, ["E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "R"]);
    for section in &report.sections {
        assert!(!section.verdict.is_empty(), "{}", section.id);
        assert!(!section.theory.is_empty() && !section.method.is_empty(), "{}", section.id);
        for table in &section.tables {
            assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{}", table.caption);
        }
    }
    // The counts match the papers'.
    let generations = &report.sections[2].tables[0];
    let number_in = |name: &str, column: usize| {
        let row = generations.rows.iter().find(|row| row[0] == Cell::from(name)).unwrap();
        match row[column] {
            Cell::Number(number, _) => number,
            _ => panic!("{name} has no number"),
        }
    };
    assert_eq!(number_in("V2", 1), 300.774272);
    assert_eq!(number_in("ResNet-50", 2), 25.557032);
    assert!(number_in("V2", 4) > 0.0 && report.sections[6].verdict[0].contains("nothing to fuse"));
    check_int8_section(&report.sections[7]);

    let facts: Vec<&str> = report.facts.iter().map(|(name, _)| name.as_str()).collect();
    for fact in ["CPU", "CPU peaks", "Graphics adapter", "Mode", "Goldcrest", "Date"] {
        assert!(facts.contains(&fact), "{fact} is not among {facts:?}");
    }
    // The answer: a sentence on the network, one on single layers, and one on the comparison with a GPU.
    assert_eq!(report.lead.len(), 3, "{:?}", report.lead);
    assert!(report.lead[0].contains("times as fast on the CPU"), "{:?}", report.lead);
    assert!(report.lead[2].contains("a graphics adapter"), "{:?}", report.lead);
    let figure = report.figure.as_ref().unwrap();
    assert_eq!(figure.series.iter().map(|series| series.points.len()).collect::<Vec<_>>(), [2, 2]);
    let outcome = |at: usize| report.sections[at].claim.as_ref().unwrap().outcome;
    assert_eq!((outcome(0), outcome(3)), (Outcome::Untested, Outcome::Untested), "without a GPU");
    assert_ne!(outcome(1), Outcome::Untested);
    let html = page::render(&report).unwrap();
    assert!(!html.contains("NaN") && !html.contains("inf "), "a number is not finite");
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["sections"][0]["tables"][0]["rows"][0][1]["median"].is_number());
}

/// Checks that E8 has an error, sizes and times of every network, and the accuracy of the trained one.
#[track_caller]
fn check_int8_section(section: &Section) {
    assert!(section.failures.iter().all(|failure| failure.contains("too noisy")), "{:?}", section.failures);
    let [errors, accuracies, times] = &section.tables[..] else { panic!("{} tables", section.tables.len()) };
    let number = |cell: &Cell| match cell {
        Cell::Number(number, _) => *number,
        Cell::Spread(spread) => spread.median,
        other => panic!("{other:?} is no number"),
    };
    let names = |table: &Table| {
        let name =
            |row: &Vec<Cell>| if let Cell::Text(name) = &row[0] { name.clone() } else { String::new() };
        table.rows.iter().map(name).collect::<Vec<_>>()
    };
    let shape = ["all ReLU6", "all h-swish", "all swish"];
    let all = [&shape[..], &["V1", "V2", "V3-Small", "trained, h-swish", "trained, swish"]].concat();
    assert_eq!((names(errors), names(times)), (all.iter().map(ToString::to_string).collect(), names(errors)));
    for row in &errors.rows {
        let [error, before, after, size] = [1, 2, 3, 4].map(|column| number(&row[column]));
        assert!(error > 0.1 && error < 150.0 && after < 0.35 * before && size < 35.0, "{row:?}");
    }
    // All networks of one shape have the same number of weights.
    assert!(errors.rows[..3].iter().all(|row| row[2..] == errors.rows[0][2..]));
    let trained = &accuracies.rows[0];
    assert!(
        number(&trained[1]) >= 55.0 && number(&trained[2]) >= 55.0 && number(&trained[3]) <= 5.0,
        "{trained:?}"
    );
    for row in &times.rows {
        let [float, int8, speed_up] = [1, 2, 3].map(|column| number(&row[column]));
        assert!((float / int8 - speed_up).abs() < 1e-9 && speed_up > 0.0, "{row:?}");
    }
    let [cost, gain] = &section.figures[..] else { panic!("{} figures", section.figures.len()) };
    assert_eq!((cost.series[0].points.len(), gain.series[1].points.len()), (8, 8));
    for words in [
        "swish's errors are",
        "trained V3-Small's",
        "Speed-up of int8 over f32 on the CPU",
        "relative to f32",
    ] {
        assert!(
            section.verdict.iter().any(|verdict| verdict.contains(words)),
            "{words}: {:?}",
            section.verdict
        );
    }
}

/// A report with these experiments, as a machine with a GPU that reaches `gain` times the speed would write it.
fn report_of(ids: &[&str], gain: f64, outcome: Outcome) -> Report {
    let figure = Figure {
        id: "layers".into(),
        title: "Speed-up".into(),
        caption: String::new(),
        kind: Kind::Bars,
        x: Axis::categories("", if gain > 2.0 { vec!["wide", "narrow"] } else { vec!["narrow", "deep"] }),
        y: Axis::linear("times as fast"),
        series: vec![
            Series::new("ratio of MACs", Style::Dashed, [(0.0, 8.0), (1.0, 8.0)]),
            Series::new("GPU", Style::Marks, [(0.0, gain), (1.0, f64::NAN)]),
        ],
    };
    let section = |id: &&str| Section {
        id: (*id).into(),
        title: format!("Experiment {id}"),
        claim: Some(Claim { outcome, ..Claim::new("It is faster.", "a paper") }),
        figures: vec![figure.clone()],
        verdict: vec![format!("{gain} times as fast.")],
        ..Section::default()
    };
    Report {
        title: "A study".into(),
        lead: vec![format!("It is {gain} times as fast.")],
        figure: Some(figure.clone()),
        facts: vec![("Date".into(), "today".into()), ("CPU".into(), format!("a CPU, {gain}"))],
        sections: ids.iter().map(section).collect(),
        notes: vec![],
    }
}

fn studies(all: [(&str, Report); 2]) -> [Study; 2] {
    all.map(|(name, report)| Study { name: name.into(), report })
}

#[test]
fn machines_are_compared_experiment_by_experiment() {
    let both = studies([
        ("desk", report_of(&["E1", "E2"], 3.0, Outcome::Agrees)),
        ("phone", report_of(&["E2", "E4"], 1.5, Outcome::Contradicts)),
    ]);
    let report = compare(&both).unwrap();
    let ids: Vec<&str> = report.sections.iter().map(|section| section.id.as_str()).collect();
    assert_eq!(ids, ["E2", "M"]);
    let section = &report.sections[0];
    assert_eq!(section.claim.as_ref().unwrap().outcome, Outcome::Partly);
    assert_eq!(
        section.verdict,
        [
            "The paper's claim holds on desk; it does not hold on phone.",
            "desk: 3 times as fast.",
            "phone: 1.5 times as fast."
        ]
    );
    let [figure] = &section.figures[..] else { panic!("{} figures", section.figures.len()) };
    assert_eq!(figure.x, Axis::categories("", ["wide", "narrow", "deep"]));
    let names: Vec<&str> = figure.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(names, ["ratio of MACs", "desk: GPU", "phone: GPU"]);
    let values = |at: usize| -> Vec<(f64, f64)> {
        let shown = figure.series[at].points.iter().filter(|point| point.y.is_finite());
        shown.map(|point| (point.x, point.y)).collect()
    };
    assert_eq!(values(0), [(0.0, 8.0), (1.0, 8.0), (2.0, 8.0)]);
    assert_eq!((values(1), values(2)), (vec![(0.0, 3.0)], vec![(1.0, 1.5)]));
    assert_eq!(report.lead.len(), 3);
    assert!(
        report.lead[0].starts_with("desk: It is 3") && report.lead[2].starts_with("E2: The paper's claim")
    );
    assert_eq!(report.sections[1].tables[0].rows[1][2], Cell::from("a CPU, 1.5"));
    let html = page::render(&report).unwrap();
    assert!(html.contains("phone: GPU") && !html.contains("NaN"));

    let same = studies([
        ("a", report_of(&["E1"], 3.0, Outcome::Agrees)),
        ("b", report_of(&["E1"], 4.0, Outcome::Agrees)),
    ]);
    let verdict = &compare(&same).unwrap().sections[0].verdict[0];
    assert_eq!(verdict, "The paper's claim holds on both machines: a and b.");

    let apart = studies([
        ("a", report_of(&["E1"], 3.0, Outcome::Agrees)),
        ("b", report_of(&["E2"], 4.0, Outcome::Agrees)),
    ]);
    let error = compare(&apart).unwrap_err().to_string();
    assert!(error.contains("no experiment in common: a has E1; b has E2"), "{error}");
}

#[test]
fn series_that_do_not_fit_one_figure_stay_with_their_machine() {
    let mut both = studies([
        ("a", report_of(&["E7"], 3.0, Outcome::Untested)),
        ("b", report_of(&["E7"], 4.0, Outcome::Untested)),
    ]);
    for Study { report, .. } in &mut both {
        let figure = &mut report.sections[0].figures[0];
        let way = |i: i32| Series::new(format!("way {i}"), Style::Marks, [(0.0, f64::from(i))]);
        figure.series = (0..5).map(way).collect();
    }
    let report = compare(&both).unwrap();
    let titles: Vec<&str> = report.sections[0].figures.iter().map(|figure| figure.title.as_str()).collect();
    assert_eq!(titles, ["a: Speed-up", "b: Speed-up"]);
}

#[test]
fn only_studies_of_this_version_are_read() {
    let report = report_of(&["E1", "E4"], 3.0, Outcome::Agrees);
    let text = study::json(&report).unwrap();
    let read = study::read("a.json", text.as_bytes()).unwrap();
    // NaN is null in JSON, and is read as NaN.
    assert_eq!(format!("{read:?}"), format!("{report:?}"));
    let older = serde_json::to_string(&report).unwrap();
    let comparison = study::comparison_json(&report).unwrap();
    for (text, reason) in [
        ("", "is not JSON"),
        ("{\"a\": ", "is not JSON"),
        ("[1, 2]", "not a report of `goldcrest study`"),
        ("{\"version\": 2, \"layers\": []}", "not a report of `goldcrest study`"),
        (&older, "an older version: run `goldcrest study` again"),
        (&text.replace("\"version\": 2", "\"version\": 1"), "an older version"),
        (&text.replace("\"version\": 2", "\"version\": 3"), "version 3, and this program reads version 2"),
        (&comparison, "is a comparison"),
        (&text.replace("\"sections\"", "\"parts\""), "is a damaged report"),
        (&text.replace("\"bars\"", "\"pies\""), "is a damaged report"),
    ] {
        let error = study::read("folder/a.json", text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("folder/a.json: ") && error.contains(reason), "{error}");
    }
}

#[test]
fn experiments_are_chosen_by_their_names() {
    assert_eq!("e4".parse::<Experiment>().unwrap(), Experiment::E4);
    let error = "E12".parse::<Experiment>().unwrap_err().to_string();
    assert!(error.contains("\"E12\"") && error.contains("E8, E9 and R"), "{error}");
}
