//! Pictures as people have them: damaged, huge, tiny, grey, deep, turned, oddly named.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{CAT, SEEDED, classify, goldcrest, json, make, refused};

#[test]
fn what_is_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("diary.jpg");
    let refused = |contents: &[u8], words: &[&str]| {
        fs::write(&path, contents).unwrap();
        refused(classify(Path::new(SEEDED), &path), &[&["diary.jpg"], words].concat());
    };
    refused(b"Dear diary,\ntoday I became a .jpg", &["not a JPEG or PNG"]);
    refused(b"", &["empty"]);
    let cat = fs::read(CAT).unwrap();
    refused(&cat[..cat.len() / 2], &["cut short"]);
    refused(&make::png_header(20_000, 20_000), &["20000 x 20000", "limit"]);
    refused(&make::png_header(20, 20), &[]);
}

#[test]
fn a_missing_picture_is_told_before_the_others_are_run() {
    let command = goldcrest(["classify", CAT, "absent.png", "--weights", SEEDED]);
    refused(command, &["absent.png", "No such file"]);
    refused(classify(Path::new(SEEDED), Path::new("assets")), &["assets"]);
}

/// The classes of each picture.
fn classes(pictures: &[PathBuf], more: &[&str]) -> Vec<Value> {
    let mut command = goldcrest(["classify", "--weights", SEEDED, "--backend", "gpu", "--json"]);
    command.args(pictures).args(more);
    let Value::Array(answers) = json(command) else { panic!("expected a list") };
    assert_eq!(answers.len(), pictures.len());
    for (answer, picture) in answers.iter().zip(pictures) {
        assert_eq!(answer["file"], picture.to_str().unwrap());
    }
    answers.iter().map(|answer| answer["classes"].clone()).collect()
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
fn a_camera_held_upside_down() {
    let folder = tempfile::tempdir().unwrap();
    let [turned, noted] = ["turned.png", "noted.jpg"].map(|name| folder.path().join(name));
    image::open(CAT).unwrap().rotate180().save(&turned).unwrap();
    // EXIF: a big-endian TIFF whose one entry, orientation (0x112), says 3.
    let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
    let mut jpeg = vec![0xff, 0xd8, 0xff, 0xe1, 0, exif.len() as u8 + 2];
    jpeg.extend(exif);
    jpeg.extend(&fs::read(CAT).unwrap()[2..]);
    fs::write(&noted, jpeg).unwrap();
    let found = classes(&[turned, noted, CAT.into()], &[]);
    assert_eq!(found[0], found[1]);
    assert_ne!(found[0], found[2]);
}

/// Probabilities by class, as equal classes may change places in the last digit.
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
fn a_batch_gives_what_each_gives_alone() {
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
fn a_configuration_that_asks_for_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let weights = make::seeded(folder.path(), |_| {});
    let file = weights.join("preprocessor_config.json");
    let mut how: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (field, side, words) in [
        ("crop_size", 2_000_000_000u64, &["cat.jpg", "2000000000 x 2000000000", "cropped"][..]),
        ("crop_size", u64::MAX, &["cat.jpg", "cropped"]),
        ("size", 2_000_000_000, &["cat.jpg", "scaled"]),
    ] {
        how[field] = serde_json::json!({ "height": side, "width": side });
        fs::write(&file, how.to_string()).unwrap();
        refused(classify(&weights, Path::new(CAT)), words);
    }
}
