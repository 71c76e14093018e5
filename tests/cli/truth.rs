//! `--truth`: how many of the answers were right.

use std::{fs, path::Path};

use goldcrest::tasks::Segmentation;
use serde_json::{Value, json as value};

use super::{
    CAT, COFFEE, ROCKET, SEEDED, answer, complaints, goldcrest, json, make, on_cpu, pictures_of, seen,
};

const PICTURES: [&str; 3] = [CAT, COFFEE, ROCKET];

/// The likeliest classes of each of the pictures, and their labels.
fn likeliest() -> Vec<Vec<(u64, String)>> {
    let told = json(on_cpu("classify", Path::new(SEEDED), &[&["--json"], &PICTURES[..]].concat()));
    let class =
        |class: &Value| (class["index"].as_u64().unwrap(), class["label"].as_str().unwrap().to_owned());
    pictures_of(&told).iter().map(|p| p["classes"].as_array().unwrap().iter().map(class).collect()).collect()
}

#[test]
fn classes_of_a_list_and_of_folders() {
    let folder = tempfile::tempdir().unwrap();
    let found = likeliest();
    // Right at once, right as the third, and not at all.
    let wrong = (0..1001).find(|index| found[2].iter().all(|(class, _)| class != index)).unwrap();
    let right = [found[0][0].1.clone(), found[1][2].0.to_string(), wrong.to_string()];
    let list = folder.path().join("truth.csv");
    let rows: Vec<String> =
        PICTURES.iter().zip(&right).map(|(file, class)| format!("{file},\"{class}\"")).collect();
    fs::write(&list, format!("file,class\n{}\n", rows.join("\n"))).unwrap();
    let tree = folder.path().join("tree");
    for (picture, class) in PICTURES.iter().zip(&right) {
        let class = tree.join(class.to_uppercase().replace(' ', "_"));
        fs::create_dir_all(&class).unwrap();
        fs::copy(picture, class.join(Path::new(picture).file_name().unwrap())).unwrap();
    }
    let listed = on_cpu(
        "classify",
        Path::new(SEEDED),
        &[&["--json", "--top", "1", "--truth", list.to_str().unwrap()], &PICTURES[..]].concat(),
    );
    let tree = tree.to_str().unwrap();
    let folders = on_cpu("classify", Path::new(SEEDED), &["--json", "--top", "1", "--truth", tree, tree]);
    for command in [listed, folders] {
        let told = json(command);
        let truth = &told["truth"];
        assert_eq!((&truth["pictures"], &truth["without_truth"]), (&3.into(), &0.into()));
        assert!((truth["top1"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9);
        assert!((truth["top5"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
        let confused = truth["confused"].as_array().unwrap();
        assert_eq!(confused.len(), 2);
        let of = |index: u64| confused.iter().find(|class| class["index"] == index).unwrap();
        assert_eq!(of(wrong)["taken_for"][0]["index"], found[2][0].0);
        assert_eq!((&of(found[1][2].0)["right"], &of(found[1][2].0)["top5"]), (&0.into(), &1.into()));
        // As many as were asked for are shown, however many were looked at.
        assert!(pictures_of(&told).iter().all(|picture| picture["classes"].as_array().unwrap().len() == 1));
    }
    let words = answer(on_cpu(
        "classify",
        Path::new(SEEDED),
        &[&["--truth", list.to_str().unwrap()], &PICTURES[..]].concat(),
    ));
    assert!(
        words.contains("top-1 33.33 % (1 of 3), top-5 66.67 % (2)") && words.contains("taken for"),
        "{words}"
    );

    for (text, word) in [
        ("a.jpg,999999\nb.jpg,1\n", "line 1"),
        ("a.jpg,1\nb.jpg,unicorn\n", "no class"),
        ("a.jpg,1\na.jpg,1\na.jpg,2\n", "line 3"),
        ("x", ""),
    ] {
        fs::write(&list, text).unwrap();
        let output = on_cpu("classify", Path::new(SEEDED), &["--truth", list.to_str().unwrap(), CAT])
            .output()
            .unwrap();
        let said = complaints(&output);
        assert!(
            output.status.code() == Some(1) && said[0].contains("truth.csv") && said[0].contains(word),
            "{said:?}"
        );
    }
}

#[test]
fn masks_and_what_they_have_in_common() {
    let folder = tempfile::tempdir().unwrap();
    let [masks, scenes] = ["masks", "scenes"].map(|name| folder.path().join(name));
    fs::create_dir_all(&scenes).unwrap();
    fs::copy("assets/demo/scene.png", scenes.join("one.png")).unwrap();
    fs::copy(CAT, scenes.join("two.jpg")).unwrap();
    let segment = |more: &[&str]| {
        let mut command = on_cpu("segment", Path::new("assets/demo/segment"), more);
        command.arg(&scenes);
        command
    };
    let m = masks.to_str().unwrap();
    let told = json(segment(&["--json", "--mask", &format!("{m}/")]));
    // What it says itself is all right.
    let truth = json(segment(&["--json", "--truth", m]))["truth"].clone();
    assert_eq!(
        (&truth["pictures"], &truth["mean_iou"], &truth["pixel_accuracy"]),
        (&2.into(), &1.0.into(), &1.0.into())
    );

    // With the background of the lower half in doubt, and a class of the upper half for another.
    let picture = &pictures_of(&told)[0];
    let [width, height] = ["width", "height"].map(|side| picture[side].as_u64().unwrap() as usize);
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(fs::File::open(masks.join("one.png")).unwrap()));
    reader.set_transformations(png::Transformations::IDENTITY);
    let mut reader = reader.read_info().unwrap();
    let mut found = vec![0; width * height];
    reader.next_frame(&mut found).unwrap();
    let right: Vec<u8> = found
        .iter()
        .enumerate()
        .map(|(at, class)| {
            if at >= width * height / 2 {
                255
            } else if *class == 6 {
                4
            } else {
                *class
            }
        })
        .collect();
    fs::write(masks.join("one.png"), Segmentation::new(width, height, right.clone()).unwrap().png().unwrap())
        .unwrap();
    fs::remove_file(masks.join("two.png")).unwrap();
    let truth = json(segment(&["--json", "--truth", m]))["truth"].clone();
    assert_eq!((&truth["pictures"], &truth["without_truth"]), (&1.into(), &1.into()));
    let counted: Vec<(u8, u8)> = found.into_iter().zip(right).filter(|(_, right)| *right != 255).collect();
    let iou = |class: u8| {
        let both = counted.iter().filter(|(a, b)| *a == class && *b == class).count();
        let either = counted.iter().filter(|(a, b)| *a == class || *b == class).count();
        (either > 0).then(|| both as f64 / either as f64)
    };
    let each: Vec<f64> = (0..=20).filter_map(iou).collect();
    let mean = each.iter().sum::<f64>() / each.len() as f64;
    assert!((truth["mean_iou"].as_f64().unwrap() - mean).abs() < 1e-9, "{truth} {mean}");
    let accuracy = counted.iter().filter(|(a, b)| a == b).count() as f64 / counted.len() as f64;
    assert!((truth["pixel_accuracy"].as_f64().unwrap() - accuracy).abs() < 1e-9);
    assert!(answer(segment(&["--truth", m])).contains("mean IoU"));
}

#[test]
fn boxes_by_coco() {
    let folder = tempfile::tempdir().unwrap();
    let scene = "assets/demo/scene.png";
    let detect =
        |more: &[&str]| on_cpu("detect", Path::new("assets/demo/detect"), &[&[scene], more].concat());
    let told = seen(detect(&["--json", "--score", "0.5"]));
    let found = told["detections"].as_array().unwrap();
    assert!(found.len() > 1);
    let side = |thing: &Value, side: &str| thing["bounds"][side].as_f64().unwrap();
    let mut names: Vec<&str> = found.iter().map(|thing| thing["label"].as_str().unwrap()).collect();
    names.sort();
    names.dedup();
    let annotations = |things: &[Value], moved: f64| -> Vec<Value> {
        let annotation = |(id, thing): (usize, &Value)| {
            let [left, top] = [side(thing, "left"), side(thing, "top")];
            let [width, height] = [side(thing, "right") - left, side(thing, "bottom") - top];
            let name = thing["label"].as_str().unwrap();
            let category = 10 + names.iter().position(|known| *known == name).unwrap();
            value!({
                "id": id + 1, "image_id": 7, "category_id": category, "iscrowd": 0, "area": width * height,
                "bbox": [left + moved * width, top, width, height],
            })
        };
        things.iter().enumerate().map(annotation).collect()
    };
    let path = folder.path().join("truth.json");
    let truth = |annotations: Vec<Value>| {
        let categories: Vec<Value> =
            names.iter().zip(10..).map(|(name, id)| value!({ "id": id, "name": name })).collect();
        let images = value!([
            { "id": 7, "file_name": "val/scene.png", "width": told["width"], "height": told["height"] },
            { "id": 8, "file_name": "val/other.png", "width": 5, "height": 5 },
        ]);
        fs::write(
            &path,
            value!({ "images": images, "annotations": annotations, "categories": categories }).to_string(),
        )
        .unwrap();
        json(detect(&["--json", "--truth", path.to_str().unwrap()]))["truth"].clone()
    };
    let all = truth(annotations(found, 0.0));
    assert_eq!((&all["pictures"], &all["without_truth"]), (&1.into(), &0.into()));
    assert!(all["map"].as_f64().unwrap() > 0.99, "{all}");
    let twice = json(detect(&[scene, "--json", "--truth", path.to_str().unwrap()]))["truth"].clone();
    assert_eq!(twice, all);
    // Moved by a quarter, a box has three fifths in common with what was found.
    let moved = truth(annotations(found, 0.25));
    assert!(moved["map50"].as_f64().unwrap() > 0.99 && moved["map75"].as_f64().unwrap() < 0.01, "{moved}");
    let nowhere = truth(annotations(found, 3.0));
    assert!(nowhere["map50"].as_f64().unwrap() < 0.01, "{nowhere}");
    assert!(answer(detect(&["--truth", path.to_str().unwrap()])).contains("mAP"));
    fs::write(&path, "{\"images\": [").unwrap();
    let output = detect(&["--truth", path.to_str().unwrap()]).output().unwrap();
    assert!(output.status.code() == Some(1) && complaints(&output)[0].contains("truth.json"), "{output:?}");
    let mut none = goldcrest([
        "classify",
        CAT,
        "--weights",
        SEEDED,
        "--truth",
        make::plain_picture(folder.path(), 2, 2).to_str().unwrap(),
    ]);
    assert_eq!(none.output().unwrap().status.code(), Some(1));
}
