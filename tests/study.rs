//! The study, as far as a CPU alone can carry it: a GPU's part is the same code, and minutes of
//! work for a software one.

use goldcrest::{
    cpu::Cpu,
    measure::{
        report::{Cell, page},
        study::{Mode, study},
    },
    session::Device,
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
    assert_eq!(ids, ["E1", "E2", "E3", "E4", "E5", "E6", "E7", "R"]);
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

    let facts: Vec<&str> = report.facts.iter().map(|(name, _)| name.as_str()).collect();
    for fact in ["CPU", "CPU at its best", "Graphics adapter", "Mode", "Goldcrest", "Date"] {
        assert!(facts.contains(&fact), "{fact} is not among {facts:?}");
    }
    let html = page::render(&report).unwrap();
    assert!(!html.contains("NaN") && !html.contains("inf "), "a number that is none");
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["sections"][0]["tables"][0]["rows"][0][1]["median"].is_number());
}
