//! Subnets of once-for-all's supernets, compared with the package of its authors.
//! `scripts/make_supernet_fixtures.py` makes and documents the expected outputs.

mod common;

use std::{collections::BTreeMap, path::PathBuf};

use common::{distance, fixture::Fixture};
use goldcrest::{
    Device, Error, Options, Session, Shape, Tensor,
    checkpoint::Overrides,
    cpu::Cpu,
    graph::Cost,
    search::calibrate,
    tasks::Picture,
    zoo::{Network, Subnet, Supernet},
};
use safetensors::SafeTensors;
use tempfile::TempDir;

/// ||out - reference|| / ||reference|| in f32, the reference computed in f64.
const TOLERANCE: f64 = 3e-5;

/// A supernet's checkpoint in a temporary folder: one file, with its published name.
struct Written {
    fixture: Fixture,
    file: PathBuf,
    _folder: TempDir,
}

impl Written {
    /// Writes the supernet of a width, which is the end of the file's name.
    fn new(width: &str) -> Self {
        let mut fixtures = Fixture::all("supernets").into_iter();
        let fixture = fixtures.find(|fixture| fixture.name.ends_with(width)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // The name has a dot, and `with_extension` would replace what follows it.
        let file = folder.path().join(format!("{}.safetensors", fixture.name));
        fixture.write_weights(&file);
        Self { fixture, file, _folder: folder }
    }

    fn open(&self) -> Supernet {
        Supernet::open(&self.file).unwrap()
    }

    fn subnet(&self, case: usize) -> Subnet {
        self.text(case).parse().unwrap()
    }

    fn text(&self, case: usize) -> &str {
        self.fixture.recipe.cases[case].subnet.as_deref().unwrap()
    }

    /// The cases with the subnet's statistics, or those with the supernet's.
    fn cases(&self, calibrated: bool) -> impl Iterator<Item = usize> + '_ {
        let cases = &self.fixture.recipe.cases;
        (0..cases.len()).filter(move |&case| cases[case].calibrated == calibrated)
    }

    /// Returns the relative error of a network's logits in a case.
    fn error(&self, network: &Network, case: usize, device: &Device) -> f64 {
        let input = self.fixture.input(case);
        let &[n, _, h, w] = input.dims() else { panic!("not a batch of pictures") };
        let options = Options { batch: n, size: Some([h, w]), ..Options::default() };
        let logits = Session::new(device, network, options).unwrap().run(&input).unwrap();
        distance(&logits, &self.fixture.expected("out", case))
    }

    fn check(&self, network: &Network, case: usize, device: &Device) {
        let context = format!("{} case {case}, {}, on {device}", self.fixture.name, self.text(case));
        let error = self.error(network, case, device);
        println!("{context}: {error:.1e}");
        assert!(error <= TOLERANCE, "{context}: {error:e}");
    }
}

fn cpu() -> Cpu {
    Cpu::new(Some(2)).unwrap()
}

fn counts(network: &Network) -> (u64, u64) {
    let shapes = network.graph.shapes(Shape::new(1, 3, 224, 224)).unwrap();
    let total: Cost = network.graph.costs(&shapes).into_iter().sum();
    (total.parameters, total.macs)
}

#[test]
fn subnets_match_the_package() {
    let device = Device::Cpu(cpu());
    for (width, expected) in [("w1.0", 8), ("w1.2", 2)] {
        let written = Written::new(width);
        let supernet = written.open();
        for case in written.cases(false) {
            let subnet = written.subnet(case);
            assert_eq!(subnet.to_string(), written.text(case));
            let network = supernet.slice(&subnet).unwrap().network().unwrap();
            assert_eq!(network.input, [subnet.size; 2]);
            written.check(&network, case, &device);
        }
        assert_eq!(written.cases(false).count(), expected);
        let all: Vec<Subnet> = written.cases(false).map(|case| written.subnet(case)).collect();
        assert!(all.contains(&supernet.largest()), "{}", supernet.largest());
        // Only the narrower supernet has a case with the smallest subnet.
        assert!(width != "w1.0" || all.contains(&supernet.smallest()), "{}", supernet.smallest());
    }
}

#[test]
fn subnet_matches_the_package_on_all_devices() {
    let written = Written::new("w1.0");
    // The smallest picture, whose height and width are odd.
    let case = 2;
    let network = written.open().slice(&written.subnet(case)).unwrap().network().unwrap();
    for device in common::devices() {
        written.check(&network, case, &device);
    }
}

#[test]
fn slice_has_the_tensors_of_the_packages_plain_network() {
    let written = Written::new("w1.0");
    let bytes = written.open().slice(&written.subnet(0)).unwrap().encode().unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let found: BTreeMap<String, Vec<usize>> =
        tensors.iter().map(|(key, view)| (key.to_owned(), view.shape().to_vec())).collect();
    // A network has no counters of training.
    let is_counter = |key: &str| key.ends_with("num_batches_tracked");
    let plain = written.fixture.recipe.plain.iter().filter(|entry| !is_counter(&entry.key));
    let expected: BTreeMap<String, Vec<usize>> =
        plain.map(|entry| (entry.key.clone(), entry.shape.clone())).collect();
    assert!(expected.len() > 200);
    assert_eq!(found, expected);
}

#[test]
fn calibration_matches_the_statistics_of_training() {
    let written = Written::new("w1.0");
    let supernet = written.open();
    let device = Device::Cpu(cpu());
    let cat = Picture::open("tests/fixtures/pictures/cat_224.png").unwrap();
    assert_eq!(written.cases(true).count(), 2);
    for case in written.cases(true) {
        let batch = mirrored(&written.fixture.normalised(&cat, case));
        assert_eq!(batch.dims(), [4, 3, 224, 224]);
        let mut slice = supernet.slice(&written.subnet(case)).unwrap();
        // The supernet's statistics give another output.
        assert!(written.error(&slice.network().unwrap(), case, &device) > 1e-2);
        let network = calibrate(&cpu(), &mut slice, &[batch]).unwrap();
        written.check(&network, case, &device);
        written.check(&slice.network().unwrap(), case, &device);
    }
}

/// A picture, its left-right mirror, its upside-down mirror, and both.
fn mirrored(one: &Tensor) -> Tensor {
    let &[1, channels, rows, columns] = one.dims() else { panic!("not a picture") };
    Tensor::from_fn([4, channels, rows, columns], |at| {
        let (row, column) = (at / columns % rows, at % columns);
        let (plane, which) = (at / (rows * columns) % channels, at / one.data().len());
        let column = if which & 1 == 0 { column } else { columns - 1 - column };
        let row = if which & 2 == 0 { row } else { rows - 1 - row };
        one.data()[(plane * rows + row) * columns + column]
    })
}

#[test]
fn supernet_file_opens_as_its_largest_or_the_requested_subnet() {
    for width in ["w1.0", "w1.2"] {
        let written = Written::new(width);
        let device = Device::Cpu(cpu());
        let recipe = &written.fixture.recipe;
        let noted = |network: &Network, which: &str, text: &str| {
            let is = |note: &String| note.contains(which) && note.contains(text);
            assert!(network.notes.iter().any(is), "{:?}", network.notes);
        };

        let largest = written.open().largest().to_string();
        let network = Network::open(&written.file).unwrap();
        noted(&network, "the largest", &largest);
        assert_eq!(network.arch, recipe.arch);
        assert_eq!(counts(&network), (recipe.parameters, recipe.macs));
        let case = written.cases(false).find(|&case| written.text(case) == largest).unwrap();
        written.check(&network, case, &device);

        let text = written.text(0);
        assert_ne!(text, largest);
        let overrides = Overrides::default().set("subnet", text).unwrap();
        let network = Network::open_with(&written.file, &overrides).unwrap();
        noted(&network, "the requested", text);
        written.check(&network, 0, &device);
    }
}

#[test]
fn subnet_outside_the_space_is_an_error_that_lists_the_choices() {
    let written = Written::new("w1.2");
    let supernet = written.open();
    let smallest = supernet.smallest().to_string();
    let outside = [
        ("r128,", "r127,", "no size of 127: the choices are 128, 160, 192, 224"),
        (",w1,", ",w0.5,", "no width of 0.5: the choices are 1"),
        ("k3e3", "k9e3", "no kernel of 9: the choices are 3, 5, 7"),
        ("k3e3", "k3e5", "no expansion of 5: the choices are 3, 4, 6"),
        ("k3e3+k3e3", "k3e3", "no depth of 1: the choices are 2, 3, 4"),
        (",k3e3+k3e3,", ",k3e3+k3e3+se,", "stage 1 has no squeeze-excite"),
        (",k3e3+k3e3+se,", ",k3e3+k3e3,", "stage 2 has squeeze-excite"),
        (",k3e3+k3e3,", ",", "4 stages, not 5"),
    ];
    for (from, to, reason) in outside {
        let text = smallest.replacen(from, to, 1);
        assert_ne!(text, smallest, "{from}");
        let overrides = Overrides::default().set("subnet", text.as_str()).unwrap();
        let found = [
            supernet.slice(&text.parse().unwrap()).map(|_| ()),
            Network::open_with(&written.file, &overrides).map(|_| ()),
        ];
        for error in found.map(|found| found.expect_err(&text)) {
            assert!(matches!(error, Error::Input(_)), "{error:?}");
            let shown = error.to_string();
            assert!(shown.contains(reason) && shown.contains(&text), "{shown}");
        }
    }
    // The error for text that is no subnet shows the expected form.
    let overrides = Overrides::default().set("subnet", "the fastest").unwrap();
    let error = Network::open_with(&written.file, &overrides).expect_err("no subnet").to_string();
    assert!(error.contains("the fastest") && error.contains("r160,w1,"), "{error}");
}
