//! `segment`, and `run` with a segmentation network.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use goldcrest::Tensor;
use safetensors::tensor::Dtype;
use serde_json::Value;

use super::{
    CAT, COFFEE, DEEPLAB, LRASPP, ROCKET,
    common::{
        distance,
        fixture::{Fixture, subsample},
    },
    failure, goldcrest, json, make, names, on_cpu, only_picture, refused, success, unsaved,
};

/// The fraction of pixels on which two computations of the same label map must agree.
const AGREEMENT: f64 = 0.999;

/// `segment` with LR-ASPP on the CPU.
fn segment(picture: &str, more: &[&str]) -> Command {
    let mut command = on_cpu("segment", &make::golden(LRASPP), &[picture]);
    command.args(more);
    command
}

/// An indexed PNG: width, height, and the class of each pixel.
fn mask(path: &Path) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::BufReader::new(fs::File::open(path).unwrap()));
    // Read the indices, not the colours of the palette.
    reader.set_transformations(png::Transformations::IDENTITY);
    let mut reader = reader.read_info().unwrap();
    let (width, height) = (reader.info().width, reader.info().height);
    assert_eq!(reader.info().color_type, png::ColorType::Indexed);
    let mut classes = vec![0; (width * height) as usize];
    reader.next_frame(&mut classes).unwrap();
    (width, height, classes)
}

fn agreement(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64
}

/// The pixels per class in a JSON report; checks that they cover the picture.
#[track_caller]
fn pixels(report: &Value) -> BTreeMap<u64, u64> {
    let all = report["width"].as_u64().unwrap() * report["height"].as_u64().unwrap();
    let classes = report["classes"].as_array().unwrap();
    let of = |class: &Value| class["pixels"].as_u64().unwrap();
    assert!(classes.windows(2).all(|pair| of(&pair[0]) >= of(&pair[1])), "{classes:?}");
    assert_eq!(classes.iter().map(of).sum::<u64>(), all);
    let shares = classes.iter().map(|class| class["share"].as_f64().unwrap());
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-5, "{classes:?}");
    for class in classes {
        let keys: Vec<&str> = class.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["index", "label", "pixels", "share"]);
        let share = class["share"].as_f64().unwrap() * all as f64;
        assert!((share - of(class) as f64).abs() < 0.5, "{class}");
    }
    classes.iter().map(|class| (class["index"].as_u64().unwrap(), of(class))).collect()
}

fn count(classes: &[u8]) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    classes.iter().for_each(|class| *counts.entry(u64::from(*class)).or_default() += 1);
    counts
}

#[test]
fn json_mask_and_overlay_agree() {
    let folder = tempfile::tempdir().unwrap();
    let [out, map] = ["seen.JPEG", "classes.PNG"].map(|name| folder.path().join(name));
    let mut command = segment(COFFEE, &["--json", "--out"]);
    command.arg(&out).arg("--mask").arg(&map);
    let report = only_picture(command);
    assert_eq!(
        (&report["file"], &report["network"]),
        (&COFFEE.into(), &"torchvision/lraspp_mobilenet_v3_large".into())
    );
    assert_eq!((&report["width"], &report["height"]), (&257.into(), &193.into()));
    // The shorter side becomes 520 pixels; the longer one is rounded down, as in torchvision.
    assert_eq!(report["input"], serde_json::json!([1, 3, 520, 692]));
    assert_eq!((&report["device"]["backend"], &report["precision"]), (&"cpu".into(), &"f32".into()));
    assert_eq!((&report["overlay"], &report["mask"]), (&out.to_str().into(), &map.to_str().into()));
    let timings = &report["timings"];
    assert!(timings["wall_ms"].as_f64().unwrap() > 0.0 && timings["startup"].is_object(), "{report}");
    let voc: Vec<&str> = include_str!("../../assets/voc_classes.txt").lines().collect();
    for class in report["classes"].as_array().unwrap() {
        assert_eq!(class["label"], voc[class["index"].as_u64().unwrap() as usize]);
    }
    let (width, height, classes) = mask(&map);
    assert_eq!((width, height), (257, 193));
    assert_eq!(count(&classes), pixels(&report));
    let drawn = image::open(&out).unwrap();
    assert!(drawn.width() >= 257 && drawn.height() > 193, "{} x {}", drawn.width(), drawn.height());
    assert_eq!(image::ImageFormat::Jpeg, image::guess_format(&fs::read(&out).unwrap()).unwrap());
    assert_eq!(names(folder.path()), ["classes.PNG", "seen.JPEG"]);
}

#[test]
fn the_mask_agrees_with_torchvision() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("mask.png");
    for name in [LRASPP, DEEPLAB] {
        let fixture = Fixture::network(name);
        for case in 0..fixture.recipe.cases.len() {
            let (dims, expected) = fixture.bytes_of(&format!("labels/{case}"));
            // The input has the size of the picture: like torchvision's, the result is not scaled.
            let size = format!("{}x{}", dims[0], dims[1]);
            let mut command = on_cpu("segment", &make::golden(name), &["--json", "--size", &size, "--mask"]);
            command.arg(&map).arg(fixture.picture_file(case));
            let report = only_picture(command);
            assert_eq!(report["input"], serde_json::json!([1, 3, dims[0], dims[1]]));
            let (width, height, classes) = mask(&map);
            assert_eq!([height as usize, width as usize], dims[..]);
            assert_eq!(count(&classes), pixels(&report));
            let fraction = agreement(&classes, &expected);
            assert!(fraction >= AGREEMENT, "{name} case {case}: {fraction}");
        }
    }
}

#[test]
fn an_adapter_and_the_cpu_agree() {
    let folder = tempfile::tempdir().unwrap();
    let masks = ["gpu", "cpu"].map(|backend| {
        let map = folder.path().join(backend).with_extension("png");
        let mut command = goldcrest(["segment", ROCKET, "--backend", backend, "--json", "--weights"]);
        command.arg(make::golden(LRASPP)).arg("--mask").arg(&map);
        let report = only_picture(command);
        assert_eq!(report["input"], serde_json::json!([1, 3, 520, 702]));
        let (width, height, classes) = mask(&map);
        assert_eq!((width, height), (131, 97));
        assert_eq!(count(&classes), pixels(&report));
        classes
    });
    let fraction = agreement(&masks[0], &masks[1]);
    assert!(fraction >= AGREEMENT, "{fraction}");
}

#[test]
fn text_lists_the_classes() {
    let text = success(segment(ROCKET, &["--size", "97x131"]));
    let lines: Vec<&str> = text.lines().collect();
    let (classes, last) = lines[1..].split_at(lines.len() - 2);
    assert!(lines[0] == ROCKET && !classes.is_empty(), "{text}");
    let mut least = f32::MAX;
    for line in classes {
        let (share, class) = line.trim_start().split_once("%  ").expect(line);
        let share: f32 = share.parse().unwrap();
        assert!(share <= least && class.ends_with(')') && class.contains(" ("), "{text}");
        least = share;
    }
    assert!(
        last[0].starts_with("torchvision/lraspp_mobilenet_v3_large on ") && last[0].contains("(cpu, "),
        "{text}"
    );
}

#[test]
fn any_size_of_picture_and_input() {
    let folder = tempfile::tempdir().unwrap();
    let [dot, slim] = [(1, 1), (3, 200)].map(|(w, h)| make::plain_picture(folder.path(), w, h));
    for (picture, [width, height], size, input) in [
        (Path::new(ROCKET), [131, 97], "97x131", [97, 131]),
        (Path::new(ROCKET), [131, 97], "200x33", [200, 33]),
        (Path::new(CAT), [451, 300], "65", [65, 65]),
        (&dot, [1, 1], "1", [1, 1]),
        (&slim, [3, 200], "40x8", [40, 8]),
        (&slim, [3, 200], "1x70", [1, 70]),
    ] {
        for name in [LRASPP, DEEPLAB] {
            let map = folder.path().join("mask.png");
            let out = folder.path().join("out.png");
            let mut command = on_cpu("segment", &make::golden(name), &["--json", "--size", size]);
            command.arg(picture).arg("--mask").arg(&map).arg("--out").arg(&out);
            let report = only_picture(command);
            assert_eq!(report["input"], serde_json::json!([1, 3, input[0], input[1]]));
            assert_eq!((&report["width"], &report["height"]), (&width.into(), &height.into()));
            let (w, h, classes) = mask(&map);
            assert_eq!([w, h], [width, height], "{picture:?}");
            assert_eq!(count(&classes), pixels(&report));
            let drawn = image::open(&out).unwrap();
            assert!(drawn.width() >= width && drawn.height() > height, "{picture:?}");
        }
    }
}

#[test]
fn labels_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("birds.txt");
    let labels = |count: usize| (0..count).map(|i| format!("bird {i}\n")).collect::<String>();
    fs::write(&file, labels(21)).unwrap();
    let small = || {
        let mut command = segment(ROCKET, &["--size", "33", "--json", "--labels"]);
        command.arg(&file);
        command
    };
    for class in only_picture(small())["classes"].as_array().unwrap() {
        assert_eq!(class["label"], format!("bird {}", class["index"]));
    }
    fs::write(&file, labels(20)).unwrap();
    refused(small(), &["birds.txt", "20 labels", "21 classes"]);
}

#[test]
fn classes_without_labels_are_numbered() {
    let folder = tempfile::tempdir().unwrap();
    let weights = make::changed(folder.path(), LRASPP, |tensors| {
        for part in ["low", "high"] {
            for kind in ["weight", "bias"] {
                let tensor = tensors.get_mut(&format!("classifier.{part}_classifier.{kind}")).unwrap();
                let each = tensor.2.len() / 21;
                tensor.1[0] = 7;
                tensor.2.truncate(7 * each);
            }
        }
    });
    let small = |more: &[&str]| {
        let mut command = on_cpu("segment", &weights, &["--size", "33", ROCKET]);
        command.args(more);
        command
    };
    let report = only_picture(small(&["--json"]));
    let classes = report["classes"].as_array().unwrap();
    assert!(classes.iter().all(|c| c["label"].is_null() && c["index"].as_u64().unwrap() < 7), "{report}");
    assert!(success(small(&[])).contains("%  class "));
}

#[test]
fn unwritable_outputs_are_errors_and_leave_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [kept, other] = ["kept.png", "other.png"].map(|name| at.join(name));
    fs::write(&kept, "mine").unwrap();
    let small = |arguments: &[&std::ffi::OsStr]| {
        let mut command = segment(ROCKET, &["--size", "33"]);
        command.args(arguments);
        command
    };
    let before = names(at);
    for option in ["--out", "--mask"] {
        let write = |path: &Path| small(&[option.as_ref(), path.as_ref()]);
        // JPEG would change a mask's classes.
        let wrong = if option == "--out" { "x.webp" } else { "x.jpg" };
        let line = failure(write(Path::new(wrong)), 2);
        assert!(line.contains(option) && line.contains(wrong) && line.contains(".png"), "{line}");
        failure(write(Path::new("png")), 2);
        refused(write(&at.join("none/x.png")), &["none/x.png", "not found"]);
        refused(write(&kept.join("x.png")), &["kept.png/x.png"]);
    }
    // --out and --mask with the same file: the second would overwrite the first.
    let detour = at.join("..").join(at.file_name().unwrap()).join("kept.png");
    let other_detour = at.join(".").join("other.png");
    for (out, mask) in [(&kept, &kept), (&kept, &detour), (&detour, &kept), (&other, &other_detour)] {
        let command = small(&["--out".as_ref(), out.as_ref(), "--mask".as_ref(), mask.as_ref()]);
        refused(command, &["--out", "--mask", "the same file"]);
    }
    assert_eq!(fs::read(&kept).unwrap(), b"mine");
    assert_eq!(names(at), before);

    let mut permissions = fs::metadata(&kept).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&kept, permissions).unwrap();
    for option in ["--out", "--mask"] {
        refused(small(&[option.as_ref(), kept.as_ref()]), &["kept.png", "read-only"]);
    }
    assert_eq!(fs::read(&kept).unwrap(), b"mine");
    assert_eq!(names(at), before);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_and_a_link() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let [full, kept, link] = ["full.png", "kept.png", "link.png"].map(|name| folder.path().join(name));
    symlink("/dev/full", &full).unwrap();
    symlink("kept.png", &link).unwrap();
    fs::write(&kept, "mine").unwrap();
    let small = |options: [(&str, &Path); 2]| {
        let mut command = segment(ROCKET, &["--size", "33"]);
        for (option, path) in options {
            command.arg(option).arg(path);
        }
        command
    };
    refused(small([("--out", &link), ("--mask", &kept)]), &["--out", "--mask", "the same file"]);
    unsaved(small([("--out", &full), ("--mask", &kept)]), &["full.png", "No space"]);
    assert_eq!(fs::read(&kept).unwrap(), b"mine");
    // The file that was written first is complete.
    unsaved(small([("--mask", &full), ("--out", &link)]), &["full.png", "No space"]);
    assert!(image::open(&kept).unwrap().height() > 97 && fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names(folder.path()), ["full.png", "kept.png", "link.png"]);
}

#[test]
fn invalid_sizes() {
    let folder = tempfile::tempdir().unwrap();
    for size in ["0x5", "5x0", "0", "-3", "3x", "3x3x3", "1e3"] {
        let line = failure(segment(ROCKET, &[&format!("--size={size}")]), 2);
        assert!(line.contains("--size") && line.contains("rows x columns"), "{line}");
    }
    refused(segment(ROCKET, &["--size", "100000x100000"]), &["rocket_97x131.png", "100000 x 100000"]);
    let largest = usize::MAX.to_string();
    refused(segment(ROCKET, &["--size", &largest]), &["rocket_97x131.png", "scaling"]);
    // The shorter side would become 520 pixels: refused before anything is allocated.
    for (width, height, words) in [(1, 60_000, "520 x 31200000"), (60_000, 1, "31200000 x 520")] {
        let picture = make::plain_picture(folder.path(), width, height);
        for backend in ["cpu", "gpu"] {
            let mut command = goldcrest(["segment", "--backend", backend, "--weights"]);
            command.arg(make::golden(LRASPP)).arg(&picture);
            refused(command, &[picture.to_str().unwrap(), words]);
        }
    }
}

#[test]
fn run_writes_the_scores_of_every_pixel() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    for name in [LRASPP, DEEPLAB] {
        let fixture = Fixture::network(name);
        let case = fixture.recipe.cases.len() - 1;
        let one = fixture.input(case);
        let &[1, 3, h, w] = one.dims() else { panic!("not a picture") };
        let run = |input: &Tensor| {
            let mut command = on_cpu("run", &make::golden(name), &["--json", "--input"]);
            command.arg(make::input_of(folder.path(), input)).arg("--output").arg(&output);
            let report = json(command);
            let mut tensors = make::read(&output);
            let found = tensors.remove("output").unwrap();
            assert!(tensors.is_empty() && found.0 == Dtype::F32);
            assert_eq!(report["output"], serde_json::json!(found.1));
            assert_eq!(report["outputs"], serde_json::json!([{ "name": "output", "shape": found.1 }]));
            Tensor::new(found.1.clone(), make::floats(&found)).unwrap()
        };
        let other = Tensor::from_fn(one.dims(), |i| -0.5 * one.data()[i]);
        let both = Tensor::new([2, 3, h, w], [one.data(), other.data()].concat()).unwrap();
        let together = run(&both);
        assert_eq!(together.dims(), [2, 21, h, w]);
        let half = together.data().len() / 2;
        let [first, second] = [&together.data()[..half], &together.data()[half..]]
            .map(|values| Tensor::new([1, 21, h, w], values.to_vec()).unwrap());
        let error = distance(&subsample(&first, 4096), &fixture.expected("out", case));
        assert!(error <= 3e-5, "{name}: {error:e}");
        assert!(distance(&second, &run(&other)) <= 1e-6, "{name}");
        assert!(distance(&second, &first) > 1e-2, "{name}: two pictures have the same output");
    }
}
