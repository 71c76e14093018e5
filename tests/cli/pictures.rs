//! Unusual pictures (damaged, huge, tiny, grey, 16-bit, rotated, with unusual names) and lists of pictures.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    CAT, COFFEE, ROCKET, SEEDED, classify, error_lines, goldcrest, json, make, names, on_cpu, pictures_of,
    refused, success, text,
};

#[test]
fn files_that_are_no_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("diary.jpg");
    let refused = |contents: &[u8], words: &[&str]| {
        fs::write(&path, contents).unwrap();
        refused(classify(Path::new(SEEDED), &path), &[&["diary.jpg"], words].concat());
    };
    refused(b"Dear diary,\ntoday I became a .jpg", &["not a picture"]);
    refused(b"", &["empty"]);
    let cat = fs::read(CAT).unwrap();
    refused(&cat[..cat.len() / 2], &["cut short"]);
    refused(&make::png_header(20_000, 20_000), &["20000 x 20000", "limit"]);
    refused(&make::png_header(20, 20), &[]);
}

/// The classes of each picture.
fn classes(pictures: &[PathBuf], more: &[&str]) -> Vec<Value> {
    let mut command = goldcrest(["classify", "--weights", SEEDED, "--backend", "gpu", "--json"]);
    command.args(pictures).args(more);
    let report = json(command);
    let entries = pictures_of(&report);
    assert_eq!(entries.len(), pictures.len());
    for (entry, picture) in entries.iter().zip(pictures) {
        assert_eq!(entry["file"], picture.to_str().unwrap());
    }
    entries.iter().map(|entry| entry["classes"].clone()).collect()
}

#[test]
fn odd_pictures_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let cat = image::open(CAT).unwrap();
    let save = |name: &str, image: &image::DynamicImage| {
        let path = folder.path().join(name);
        image.save_with_format(&path, image::ImageFormat::Png).unwrap();
        path
    };
    let dot = image::DynamicImage::from(image::RgbImage::from_pixel(1, 1, image::Rgb([9, 99, 199])));
    let pictures = [
        save("dot.png", &dot),
        save("-", &cat),
        save("Kätzchen 猫.png", &cat),
        save("grey.png", &cat.to_luma8().into()),
        save("grey as colour.png", &image::DynamicImage::from(cat.to_luma8()).to_rgb8().into()),
        save("deep.jpg", &cat.to_rgb16().into()),
        save("see through.PNG", &cat.to_rgba8().into()),
    ];
    let found = classes(&pictures, &[]);
    assert_eq!(found[1], found[2]);
    assert_eq!(found[3], found[4]);
    assert_ne!(found[2], found[3]);
    assert_eq!(found[1], found[5]);
    assert_eq!(found[1], found[6]);
}

#[test]
fn the_exif_orientation_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let [rotated, tagged] = ["rotated.png", "tagged.jpg"].map(|name| folder.path().join(name));
    // Decoded by the program: the `image` crate decodes JPEG to slightly different levels.
    let upright = goldcrest::tasks::Picture::open(CAT).unwrap().png().unwrap();
    image::load_from_memory(&upright).unwrap().rotate180().save(&rotated).unwrap();
    // EXIF: a big-endian TIFF with one entry, orientation (0x112) = 3.
    let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
    let mut jpeg = vec![0xff, 0xd8, 0xff, 0xe1, 0, exif.len() as u8 + 2];
    jpeg.extend(exif);
    jpeg.extend(&fs::read(CAT).unwrap()[2..]);
    fs::write(&tagged, jpeg).unwrap();
    let found = classes(&[rotated, tagged, CAT.into()], &[]);
    assert_eq!(found[0], found[1]);
    assert_ne!(found[0], found[2]);
}

/// Probabilities sorted by class: classes with almost equal probabilities may change their order.
fn probabilities(classes: &Value) -> Vec<(u64, f64)> {
    let classes = classes.as_array().unwrap();
    let mut found: Vec<(u64, f64)> = classes
        .iter()
        .map(|class| (class["index"].as_u64().unwrap(), class["probability"].as_f64().unwrap()))
        .collect();
    found.sort_by_key(|(index, _)| *index);
    found
}

#[test]
fn batches_give_the_same_classes_as_single_pictures() {
    let pictures: Vec<PathBuf> = ["cat_224.png", "coffee_193x257.png", "rocket_97x131.png"]
        .iter()
        .map(|name| Path::new("tests/fixtures/pictures").join(name))
        .chain([CAT.into()])
        .collect();
    let alone: Vec<Value> =
        pictures.iter().flat_map(|p| classes(std::slice::from_ref(p), &["--top", "1001"])).collect();
    assert_ne!(alone[0], alone[1]);
    for batch in ["1", "3", "8"] {
        let together = classes(&pictures, &["--batch", batch, "--top", "1001"]);
        for (a, b) in alone.iter().zip(&together) {
            for (a, b) in probabilities(a).into_iter().zip(probabilities(b)) {
                assert!(a.0 == b.0 && (a.1 - b.1).abs() <= 1e-5 * a.1.max(1e-3), "{a:?} {b:?}");
            }
        }
    }
}

#[test]
fn a_configuration_with_absurd_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let weights = make::seeded(folder.path(), |_| {});
    let file = weights.join("preprocessor_config.json");
    let mut how: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (field, side, words) in [
        ("crop_size", 2_000_000_000u64, &["cat.jpg", "2000000000 x 2000000000", "cropping"][..]),
        ("crop_size", u64::MAX, &["cat.jpg", "cropping"]),
        ("size", 2_000_000_000, &["cat.jpg", "scaling"]),
    ] {
        how[field] = serde_json::json!({ "height": side, "width": side });
        fs::write(&file, how.to_string()).unwrap();
        refused(classify(&weights, Path::new(CAT)), words);
    }
}

/// Writes pictures at three depths of a folder, one of them damaged, and a file that is no picture.
fn album(folder: &Path) {
    for (name, from) in
        [("b.jpg", CAT), ("a/x.png", COFFEE), ("a/deep/y.PNG", ROCKET), ("a/.hidden.png", ROCKET)]
    {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::copy(from, folder.join(name)).unwrap();
    }
    fs::write(folder.join("a/broken.jpeg"), &fs::read(CAT).unwrap()[..999]).unwrap();
    fs::write(folder.join("notes.txt"), "no picture").unwrap();
}

/// The JSON report, the status and the error lines of `classify` with these arguments, run in a folder.
fn classified(arguments: &[&str], at: &Path) -> (Value, i32, Vec<String>) {
    let weights = fs::canonicalize(SEEDED).unwrap();
    let mut command = on_cpu("classify", &weights, &["--json"]);
    let output = command.args(arguments).current_dir(at).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).expect("JSON even after a failure");
    (report, output.status.code().unwrap(), error_lines(&output))
}

fn files(report: &Value) -> Vec<&str> {
    pictures_of(report).iter().map(|picture| picture["file"].as_str().unwrap()).collect()
}

#[test]
fn an_unreadable_picture_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    album(folder.path());
    let (report, status, errors) =
        classified(&["b.jpg", "absent.png", "a/broken.jpeg", "notes.txt", "b.jpg"], folder.path());
    assert_eq!((status, report["succeeded"].as_u64(), report["failed"].as_u64()), (1, Some(2), Some(3)));
    assert_eq!(files(&report), ["b.jpg", "absent.png", "a/broken.jpeg", "notes.txt", "b.jpg"]);
    let pictures = pictures_of(&report);
    assert!(pictures[0]["classes"].is_array() && pictures[0]["classes"] == pictures[4]["classes"]);
    for (picture, line) in pictures[1..4].iter().zip(&errors) {
        let (file, error) = (picture["file"].as_str().unwrap(), picture["error"].as_str().unwrap());
        assert!(error.starts_with(file) && *line == format!("error: {error}"), "{error} {line}");
    }
    assert_eq!(errors[3..], ["error: 3 of 5 pictures could not be processed"]);
}

#[test]
fn folders_patterns_and_lists() {
    let folder = tempfile::tempdir().unwrap();
    album(folder.path());
    let all = ["./a/broken.jpeg", "./a/deep/y.PNG", "./a/x.png", "./b.jpg"];
    let (found, status, _) = classified(&["."], folder.path());
    assert_eq!((files(&found), status), (all.to_vec(), 1));
    for (arguments, expected) in [
        (&["a", "--ext", "png,.bmp"][..], &["a/deep/y.PNG", "a/x.png"][..]),
        (&["*.jpg", "a/*.png"], &["b.jpg", "a/x.png"]),
        (&["**/y.*"], &["a/deep/y.PNG"]),
        (&["a/deep", "b.jpg", "a/deep"], &["a/deep/y.PNG", "b.jpg", "a/deep/y.PNG"]),
        (&["a/*/*"], &["a/deep/y.PNG"]),
        (&["./a/[w-z].png"], &["./a/x.png"]),
        (&["a/.h*"], &["a/.hidden.png"]),
        (&["**/d*"], &["a/deep/y.PNG"]),
        (&["a/**/[dy]*"], &["a/deep/y.PNG"]),
        (&["@list", "b.jpg"], &["b.jpg", "a/deep/y.PNG", "a/x.png", "b.jpg"]),
        #[cfg(windows)]
        (&["A\\*.PNG"], &["a/x.png"]),
    ] {
        fs::write(folder.path().join("list"), "\u{feff}b.jpg\r\n\na/deep\na/x.png").unwrap();
        let (found, status, errors) = classified(arguments, folder.path());
        assert_eq!((files(&found), status), (expected.to_vec(), 0), "{errors:?}");
    }
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::write(folder.path().join("blank"), "\n \n").unwrap();
    for (argument, word) in [
        ("empty", "no file that ends in"),
        ("*.tif", "no file matches this pattern"),
        ("@none", "No such"),
        ("@blank", "contains no picture names"),
    ] {
        let (found, status, errors) = classified(&[argument, "b.jpg"], folder.path());
        assert_eq!((status, pictures_of(&found).len(), &found["succeeded"]), (1, 2, &1.into()));
        assert!(errors[0].contains(word), "{errors:?}");
    }
    // An existing file wins over the special meaning of its name.
    for name in ["@at.png", "[x]*.png"] {
        fs::copy(ROCKET, folder.path().join(name)).unwrap();
        assert_eq!(files(&classified(&[name], folder.path()).0), [name]);
    }
}

#[test]
fn json_lines_and_csv() {
    let folder = tempfile::tempdir().unwrap();
    album(folder.path());
    let run = |more: &[&str]| {
        let mut command = on_cpu("classify", Path::new(SEEDED), more);
        command
            .arg(folder.path().join("b.jpg"))
            .arg(folder.path().join("a/broken.jpeg"))
            .arg(folder.path().join("a/x.png"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output.stdout)
    };
    let lines = run(&["--jsonl"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["classes"].is_array()).collect::<Vec<_>>(), [true, false, true]);
    let table = run(&["--csv", "--top", "2"]);
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    assert_eq!(
        reader.headers().unwrap(),
        vec!["file", "frame", "rank", "index", "label", "probability", "value", "error"]
    );
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.iter().map(|row| &row[2]).collect::<Vec<_>>(), ["1", "2", "", "1", "2"]);
    assert_eq!(rows[0][3], lines[0]["classes"][0]["index"].to_string());
    assert!(rows[2][7].contains("broken.jpeg") && rows[2][3].is_empty());
    let words = run(&[]);
    assert!(words.lines().last().unwrap().contains("2 pictures in"), "{words}");
}

#[test]
fn outputs_are_named_after_their_pictures_and_never_overwrite_another() {
    let folder = tempfile::tempdir().unwrap();
    album(folder.path());
    let weights = fs::canonicalize("assets/demo/segment").unwrap();
    let run = |more: &[&str]| {
        let mut command = on_cpu("segment", &weights, &["--jsonl"]);
        let output = command.args(more).current_dir(folder.path()).output().unwrap();
        (text(&output.stdout), output.status.code().unwrap(), error_lines(&output))
    };
    let (lines, status, _) = run(&["a", "--out", "out/", "--mask", "masks/{folder}/{stem}-{frame}.png"]);
    // One of the pictures is damaged.
    assert_eq!((status, lines.lines().count()), (1, 3));
    assert!(lines.contains("\"overlay\":\"out/deep/y.png\""), "{lines}");
    for file in ["out/x.png", "out/deep/y.png", "masks/x-000000.png", "masks/deep/y-000000.png"] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
    let before = fs::read(folder.path().join("a/x.png")).unwrap();
    for (arguments, word) in [
        (&["a/x.png", "--out", "a"][..], "own folder"),
        (&["a/x.png", "--mask", "{folder}a/{stem}.png"], "is also an input"),
        (&["a/x.png", "a/deep/y.PNG", "--out", "one.png"], "was written for another picture"),
        (&["a/x.png", "--out", "o/", "--mask", "o/"], "--out and --mask are the same destination"),
        (&["a/x.png", "--out", "{what}.png"], "{stem}, {name}"),
        (&["a/x.png", "--out", "frames/{stem}/"], "such as {stem}.png"),
        (&["a/x.png", "--out", "-"], "cannot both go to standard output"),
    ] {
        let (_, status, errors) = run(arguments);
        assert!(status != 0 && errors.iter().any(|line| line.contains(word)), "{arguments:?}: {errors:?}");
    }
    assert_eq!(fs::read(folder.path().join("a/x.png")).unwrap(), before);
    assert_eq!(names(&folder.path().join("a")), [".hidden.png", "broken.jpeg", "deep", "x.png"]);
}

/// No input is overwritten, however it was found, and no output is read as an input.
#[test]
fn inputs_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["a.png", "b.png", "xa.png", "sub/a.png"] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::copy("assets/demo/scene.png", at(name)).unwrap();
    }
    fs::write(at("list"), "a.png\n").unwrap();
    fs::copy(at("list"), at("list.png")).unwrap();
    fs::copy(at("list"), at("list.npy")).unwrap();
    let kept = |name: &str| fs::read(at(name)).unwrap();
    let before =
        ["a.png", "b.png", "xa.png", "sub/a.png", "list.png", "list.npy"].map(|name| (name, kept(name)));
    let run = |subcommand: &str, more: &[&str], input: &[u8]| {
        let weights = if subcommand == "segment" { "assets/demo/segment" } else { SEEDED };
        let mut command = on_cpu(subcommand, &fs::canonicalize(weights).unwrap(), more);
        command.current_dir(folder.path());
        let output = super::streams::run_with_stdin(command, input);
        (output.status.code().unwrap(), error_lines(&output).join("\n"))
    };
    for (arguments, word) in [
        (&["segment", ".", "--mask", "{folder}/x{stem}.png"][..], "is also an input"),
        (&["segment", ".", "--mask", "b.png"], "is also an input"),
        (&["segment", "?.png", "--out", "b.png"], "is also an input"),
        (&["segment", "a.png", "b.png", "--mask", "sub/../b.png"], "is also an input"),
        (&["segment", "@list.png", "--mask", "list.png"], "is also an input"),
        (&["segment", "@list", "--mask", "a.png"], "is also an input"),
        (&["segment", "a.png", ".", "--mask", "sub/"], "is also an input"),
        (&["embed", "@list.npy", "--out", "list.npy"], "is also an input"),
        (&["embed", ".", "--ext", "png,npy", "--out", "list.npy"], "is also an input"),
        // The list from the pipe may still name this file.
        (&["segment", "@-", "--mask", "x{stem}.png"], "exists already"),
    ] {
        let (status, errors) = run(arguments[0], &arguments[1..], b"a.png\nb.png\n");
        assert!(status == 1 && errors.contains(word), "{arguments:?}: {errors}");
        before.iter().for_each(|(name, bytes)| assert!(*bytes == kept(name), "{arguments:?}: {name}"));
    }
    // Masks written to the folder of pictures are not read as pictures.
    fs::create_dir(at("fresh")).unwrap();
    fs::copy(at("a.png"), at("fresh/a.png")).unwrap();
    fs::copy(at("a.png"), at("fresh/z.png")).unwrap();
    let (status, errors) = run("segment", &["fresh", "--mask", "fresh/{stem}-mask.png", "--jsonl"], b"");
    let all = ["a-mask.png", "a.png", "z-mask.png", "z.png"];
    assert_eq!((status, names(&at("fresh"))), (0, all.map(str::to_owned).to_vec()), "{errors}");
    // A second run may overwrite the outputs of the first.
    for _ in 0..2 {
        let (status, errors) = run("segment", &["a.png", "--mask", "other/masks/"], b"");
        assert_eq!((status, names(&at("other/masks"))), (0, vec!["a.png".into()]), "{errors}");
        let (status, errors) = run("segment", &["@-", "--mask", "masks/"], b"a.png\nb.png\nfresh/z.png\n");
        assert_eq!((status, names(&at("masks")).len()), (0, 3), "{errors}");
    }
    let (status, errors) = run("segment", &["@-", "--mask", "masks/{stem}1.png"], b"a.png\nmasks/a1.png\n");
    // The second error: the mask was looked up before it was written.
    assert!(
        status == 1
            && ["was overwritten with a result before it was read", "No such file"]
                .iter()
                .any(|word| errors.contains(word)),
        "{errors}"
    );
    // Standard input may be a file.
    #[cfg(target_os = "linux")]
    {
        let weights = fs::canonicalize("assets/demo/segment").unwrap();
        let mut command = on_cpu("segment", &weights, &["-", "--out", "a.png"]);
        command.current_dir(folder.path()).stdin(fs::File::open(at("a.png")).unwrap());
        refused(command, &["is also an input"]);
        assert!(before[0].1 == kept("a.png"));
        std::os::unix::fs::symlink("nowhere", at("fresh/note")).unwrap();
        let (status, errors) = run("segment", &["fresh/a*", "--mask", "o/"], b"");
        assert_eq!(status, 0, "{errors}");
    }
}

#[test]
fn limits_on_pixels_and_memory() {
    let command = |more: &[&str]| {
        let mut command = on_cpu("classify", Path::new(SEEDED), more);
        command.arg(CAT);
        command
    };
    refused(command(&["--max-pixels", "1000"]), &["cat.jpg", "451 x 300", "--max-pixels"]);
    success(command(&["--max-pixels", "135300", "--max-memory", "16"]));
    let folder = tempfile::tempdir().unwrap();
    let bomb = folder.path().join("bomb.png");
    fs::write(&bomb, make::png_header(13_000, 13_000)).unwrap();
    refused(
        on_cpu("classify", Path::new(SEEDED), &["--max-memory", "64", bomb.to_str().unwrap()]),
        &["bomb.png", "--max-memory"],
    );
    // Labels need more memory than pixels: the memory of the result counts too.
    let plain = make::plain_picture(folder.path(), 3000, 3000);
    let segment = |limit: &str| {
        on_cpu("segment", Path::new("assets/demo/segment"), &["--max-memory", limit, plain.to_str().unwrap()])
    };
    refused(segment("60"), &["3000 x 3000", "--max-memory"]);
    success(segment("80"));
}
