//! The study, as far as a CPU alone can carry it: a GPU's part is the same code, and minutes of
//! work for a software one.

use goldcrest::{
    cpu::Cpu,
    measure::report::{Cell, Section, Table, page},
    session::Device,
    study::{Mode, study},
};

#[test]
fn every_experiment_says_what_it_measured() {
    let cpu = Device::Cpu(Cpu::new(Some(1)).unwrap());
    let heard = std::cell::RefCell::new(Vec::new());
    let report = study(&[cpu], Mode::Quick, |done, of, what| {
        assert!(done < of);
        heard.borrow_mut().push(what.to_string());
    })
    .unwrap();
    assert!(heard.borrow().iter().any(|what| what.contains("mobilenet_v2")));
    let ids: Vec<&str> = report.sections.iter().map(|section| section.id.as_str()).collect();
    assert_eq!(ids, ["E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "R"]);
    for section in &report.sections {
        assert!(!section.verdict.is_empty(), "{}", section.id);
        assert!(!section.theory.is_empty() && !section.method.is_empty(), "{}", section.id);
        for table in &section.tables {
            assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{}", table.caption);
        }
    }
    // What has nothing to do with time is what the papers count.
    let generations = &report.sections[2].tables[0];
    let of = |name: &str, column: usize| {
        let row = generations.rows.iter().find(|row| row[0] == Cell::from(name)).unwrap();
        match row[column] {
            Cell::Number(number, _) => number,
            _ => panic!("{name} has no number"),
        }
    };
    assert_eq!(of("V2", 1), 300.774272);
    assert_eq!(of("ResNet-50", 2), 25.557032);
    assert!(of("V2", 4) > 0.0 && report.sections[6].verdict[0].contains("nothing to fuse"));
    has_the_figures_of_8_bits(&report.sections[7]);

    let facts: Vec<&str> = report.facts.iter().map(|(name, _)| name.as_str()).collect();
    for fact in ["CPU", "CPU peaks", "Graphics adapter", "Mode", "Goldcrest", "Date"] {
        assert!(facts.contains(&fact), "{fact} is not among {facts:?}");
    }
    let html = page::render(&report).unwrap();
    assert!(!html.contains("NaN") && !html.contains("inf "), "a number that is none");
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["sections"][0]["tables"][0]["rows"][0][1]["median"].is_number());
}

/// E8 has an error, sizes and times of every network, and says of the trained one how often it is right.
#[track_caller]
fn has_the_figures_of_8_bits(section: &Section) {
    assert!(section.failures.iter().all(|failure| failure.contains("too noisy")), "{:?}", section.failures);
    let [errors, right, times] = &section.tables[..] else { panic!("{} tables", section.tables.len()) };
    let number = |cell: &Cell| match cell {
        Cell::Number(number, _) => *number,
        Cell::Spread(spread) => spread.median,
        other => panic!("{other:?} is no number"),
    };
    let named = |table: &Table| {
        let name =
            |row: &Vec<Cell>| if let Cell::Text(name) = &row[0] { name.clone() } else { String::new() };
        table.rows.iter().map(name).collect::<Vec<_>>()
    };
    let shape = ["all ReLU6", "all h-swish", "all swish"];
    let all = [&shape[..], &["V1", "V2", "V3-Small", "trained, h-swish", "trained, swish"]].concat();
    assert_eq!((named(errors), named(times)), (all.iter().map(ToString::to_string).collect(), named(errors)));
    for row in &errors.rows {
        let [error, before, after, size] = [1, 2, 3, 4].map(|column| number(&row[column]));
        assert!(error > 0.1 && error < 150.0 && after < 0.35 * before && size < 35.0, "{row:?}");
    }
    // All of one shape have the same weights in number.
    assert!(errors.rows[..3].iter().all(|row| row[2..] == errors.rows[0][2..]));
    let trained = &right.rows[0];
    assert!(
        number(&trained[1]) >= 55.0 && number(&trained[2]) >= 55.0 && number(&trained[3]) <= 5.0,
        "{trained:?}"
    );
    for row in &times.rows {
        let [float, eight, quicker] = [1, 2, 3].map(|column| number(&row[column]));
        assert!((float / eight - quicker).abs() < 1e-9 && quicker > 0.0, "{row:?}");
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
