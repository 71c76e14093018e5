//! The study on a CPU only: the code for GPUs is the same, and takes minutes on a software one.

use goldcrest::{
    cpu::Cpu,
    measure::report::{Cell, Outcome, Section, Table, page},
    session::Device,
    study::{Mode, study},
};

#[test]
fn every_experiment_has_a_verdict() {
    let cpu = Device::Cpu(Cpu::new(Some(1)).unwrap());
    let reported = std::cell::RefCell::new(Vec::new());
    let report = study(&[cpu], Mode::Quick, |done, of, what| {
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
