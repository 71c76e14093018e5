//! `--truth`: accuracy on labelled pictures.

use std::{fs, path::Path};

use goldcrest::tasks::Segmentation;
use serde_json::{Value, json as value};

use super::{
    CAT, COFFEE, ROCKET, SEEDED, error_lines, goldcrest, json, make, on_cpu, only_picture, pictures_of,
    success,
};

const PICTURES: [&str; 3] = [CAT, COFFEE, ROCKET];

/// The most likely classes of each picture: index and label.
fn most_likely() -> Vec<Vec<(u64, String)>> {
    let report = json(on_cpu("classify", Path::new(SEEDED), &[&["--json"], &PICTURES[..]].concat()));
    let class =
        |class: &Value| (class["index"].as_u64().unwrap(), class["label"].as_str().unwrap().to_owned());
    pictures_of(&report)
        .iter()
        .map(|p| p["classes"].as_array().unwrap().iter().map(class).collect())
        .collect()
}

#[test]
fn classes_of_a_list_and_of_folders() {
    let folder = tempfile::tempdir().unwrap();
    let found = most_likely();
    // The true classes: the first prediction, the third, and none of the predictions.
    let wrong = (0..1001).find(|index| found[2].iter().all(|(class, _)| class != index)).unwrap();
    let true_classes = [found[0][0].1.clone(), found[1][2].0.to_string(), wrong.to_string()];
    let list = folder.path().join("truth.csv");
    let rows: Vec<String> =
        PICTURES.iter().zip(&true_classes).map(|(file, class)| format!("{file},\"{class}\"")).collect();
    fs::write(&list, format!("file,class\n{}\n", rows.join("\n"))).unwrap();
    let tree = folder.path().join("tree");
    for (picture, class) in PICTURES.iter().zip(&true_classes) {
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
        let report = json(command);
        let truth = &report["truth"];
        assert_eq!((&truth["pictures"], &truth["without_truth"]), (&3.into(), &0.into()));
        assert!((truth["top1"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9);
        assert!((truth["top5"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
        let confused = truth["confused"].as_array().unwrap();
        assert_eq!(confused.len(), 2);
        let of = |index: u64| confused.iter().find(|class| class["index"] == index).unwrap();
        assert_eq!(of(wrong)["taken_for"][0]["index"], found[2][0].0);
        assert_eq!((&of(found[1][2].0)["right"], &of(found[1][2].0)["top5"]), (&0.into(), &1.into()));
        // --top limits the output, not the number of classes that count for the accuracy.
        assert!(pictures_of(&report).iter().all(|picture| picture["classes"].as_array().unwrap().len() == 1));
    }
    let words = success(on_cpu(
        "classify",
        Path::new(SEEDED),
        &[&["--truth", list.to_str().unwrap()], &PICTURES[..]].concat(),
    ));
    assert!(
        words.contains("top-1 33.33 % (1 of 3), top-5 66.67 % (2)") && words.contains("predicted as"),
        "{words}"
    );

    for (text, word) in [
        ("a.jpg,999999\nb.jpg,1\n", "line 1"),
        ("a.jpg,1\nb.jpg,unicorn\n", "no class"),
        ("a.jpg,1\na.jpg,1\na.jpg,2\n", "line 3"),
        ("a.jpg,unicorn\nb.jpg,1\n", "line 1"),
        ("\n\na.jpg,1\n\nb.jpg,unicorn\n", "line 5"),
        ("a.jpg|1\n", "semicolon"),
        ("elsewhere.jpg,1\n", "elsewhere.jpg"),
        ("x", ""),
    ] {
        fs::write(&list, text).unwrap();
        let output = on_cpu("classify", Path::new(SEEDED), &["--truth", list.to_str().unwrap(), CAT])
            .output()
            .unwrap();
        let errors = error_lines(&output);
        assert!(
            output.status.code() == Some(1) && errors[0].contains("truth.csv") && errors[0].contains(word),
            "{errors:?}"
        );
    }
}

/// Entries of a list match pictures by path. Each case: the list, the arguments, and either the number of
/// pictures with a true class, the top-1 accuracy and the number of pictures without one, or the error.
#[test]
fn entries_match_pictures_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // The first picture's class is its first prediction, the second picture's is its second.
    let predictions = most_likely();
    let [x, y] = [predictions[0][0].0, predictions[1][1].0];
    for name in ["a/1.jpg", "b/1.jpg", "c/2.jpg"] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::copy(PICTURES[usize::from(!name.starts_with('a'))], at(name)).unwrap();
    }
    // Labels that are the indices of other classes.
    let labels: Vec<String> = (0..1001).map(|index| (1000 - index).to_string()).collect();
    fs::write(at("labels.txt"), labels.join("\n")).unwrap();
    fs::write(at("same.txt"), "cat\nCat\n".to_owned() + &labels[2..].join(" cat\n")).unwrap();
    let whole = fs::canonicalize(at("b/1.jpg")).unwrap();
    for (list, arguments, expected) in [
        (format!("./a/1.jpg,{x}\n{},{y}\n", whole.display()), &["a/1.jpg", "./b/1.jpg"][..], Ok((2, 0.5, 0))),
        (format!("c/../a/1.jpg;{x}\nb/1.jpg;{y}\n"), &["a", "b", "c"], Ok((2, 0.5, 1))),
        (format!("\u{feff}picture\tclass\na/1.jpg\t{x}\n"), &["b/1.jpg", "a/1.jpg"], Ok((1, 1.0, 1))),
        (format!("1.jpg,{x}\n"), &["a/1.jpg", "a/1.jpg"], Ok((2, 1.0, 0))),
        (format!("1.jpg,{x}\n"), &["a/1.jpg", "b/1.jpg"], Err("which is already matched with a/1.jpg")),
        (format!("old/1.jpg,{x}\n"), &["a/1.jpg"], Ok((1, 1.0, 0))),
        (
            format!("old/1.jpg,{x}\nolder/1.jpg,{y}\n"),
            &["a/1.jpg"],
            Err("lists none of the pictures: an entry is old"),
        ),
        (format!("a/1.jpg,{}\n", 1000 - x), &["a/1.jpg", "--labels", "labels.txt"], Ok((1, 1.0, 0))),
        ("a/1.jpg,CAT\n".into(), &["a/1.jpg", "--labels", "same.txt"], Err("0 and 1: give the index")),
    ] {
        fs::write(at("list.csv"), &list).unwrap();
        let mut command =
            on_cpu("classify", &fs::canonicalize(SEEDED).unwrap(), &["--json", "--truth", "list.csv"]);
        let output = command.args(arguments).current_dir(folder.path()).output().unwrap();
        match expected {
            Ok((pictures, top1, without)) => {
                let report: Value = serde_json::from_slice(&output.stdout).unwrap();
                let truth = &report["truth"];
                let found = (&truth["pictures"], &truth["top1"], &truth["without_truth"]);
                assert_eq!(found, (&pictures.into(), &top1.into(), &without.into()), "{list}{output:?}");
            }
            Err(word) => {
                let errors = error_lines(&output).join("\n");
                assert!(output.status.code() == Some(1) && errors.contains(word), "{list}{errors}");
            }
        }
    }

    // Folders of links to pictures, and links to folders.
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        let [x, y] = [x.to_string(), y.to_string()];
        fs::create_dir_all(at("tree").join(&x)).unwrap();
        symlink(at("a/1.jpg"), at("tree").join(&x).join("1.jpg")).unwrap();
        symlink(at("b"), at("tree").join(&y)).unwrap();
        let tree = at("tree").to_str().unwrap().to_owned();
        let truth =
            &json(on_cpu("classify", Path::new(SEEDED), &["--json", "--truth", &tree, &tree]))["truth"];
        assert_eq!((&truth["pictures"], &truth["top1"]), (&2.into(), &0.5.into()), "{truth}");
        assert_eq!(&truth["confused"][0]["index"].to_string(), &y);
        // A path through `..` still has the class of its last folder.
        let mut command = on_cpu("classify", &fs::canonicalize(SEEDED).unwrap(), &["--json", "--truth", "."]);
        command.arg(format!("{x}/../{x}")).current_dir(at("tree"));
        assert_eq!(json(command)["truth"]["top1"], 1.0);
    }
    let one = Path::new("tests/fixtures/checkpoints/one-logit");
    let list = at("list.csv");
    super::refused(on_cpu("classify", one, &[CAT, "--truth", list.to_str().unwrap()]), &["one class"]);
}

#[test]
fn masks_without_labels_and_mismatched_masks() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["masks", "p/a", "p/b"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["p/a/one.png", "p/b/one.png"] {
        fs::copy("assets/demo/scene.png", at(name)).unwrap();
    }
    let segment = |arguments: &[&str]| {
        let weights = fs::canonicalize("assets/demo/segment").unwrap();
        let mut command = on_cpu("segment", &weights, &["--json", "--truth", "masks"]);
        let output = command.args(arguments).current_dir(folder.path()).output().unwrap();
        (serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(), error_lines(&output).join("\n"))
    };
    let size = image::image_dimensions("assets/demo/scene.png").unwrap();
    let write = |width: u32, height: u32| {
        let mask = image::GrayImage::from_pixel(width, height, image::Luma([255]));
        mask.save(at("masks/one.png")).unwrap();
    };
    write(size.0, size.1);
    let (nothing, _) = segment(&["p/a/one.png"]);
    assert_eq!((&nothing["truth"]["mean_iou"], &nothing["truth"]["pictures"]), (&Value::Null, &1.into()));
    assert!(segment(&["p/a/one.png", "p/b/one.png"]).1.contains("is already the mask of p/a/one.png"));
    assert!(segment(&["p"]).1.contains("has no mask for any"));
    let before = fs::read(at("masks/one.png")).unwrap();
    for more in [
        ["--mask", "masks"],
        ["--out", "masks/"],
        ["--mask", "masks/one.png"],
        ["--out", "masks/x{stem}.png"],
    ] {
        let (_, errors) = segment(&[&["p/a/one.png"], &more[..]].concat());
        assert!(errors.contains("is also an input (masks"), "{errors}");
    }
    // Through a link too.
    #[cfg(unix)]
    {
        fs::create_dir(at("real")).unwrap();
        fs::rename(at("masks/one.png"), at("real/one.png")).unwrap();
        std::os::unix::fs::symlink(at("real/one.png"), at("masks/one.png")).unwrap();
        let (_, errors) = segment(&["p/a/one.png", "--mask", "real/"]);
        assert!(errors.contains("is also an input"), "{errors}");
    }
    assert!(before == fs::read(at("masks/one.png")).unwrap() && super::names(&at("masks")).len() == 1);
    fs::remove_file(at("masks/one.png")).unwrap();
    write(size.0 + 1, size.1);
    assert!(segment(&["p/a/one.png"]).1.contains("the picture has"));
}

#[test]
fn mean_iou_and_pixel_accuracy() {
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
    let report = json(segment(&["--json", "--mask", &format!("{m}/")]));
    // The network's own masks as ground truth: every pixel is correct.
    let truth = json(segment(&["--json", "--truth", m]))["truth"].clone();
    assert_eq!(
        (&truth["pictures"], &truth["mean_iou"], &truth["pixel_accuracy"]),
        (&2.into(), &1.0.into(), &1.0.into())
    );

    // Ground truth without labels in the lower half, and with class 6 of the upper half changed to 4.
    let picture = &pictures_of(&report)[0];
    let [width, height] = ["width", "height"].map(|side| picture[side].as_u64().unwrap() as usize);
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(fs::File::open(masks.join("one.png")).unwrap()));
    reader.set_transformations(png::Transformations::IDENTITY);
    let mut reader = reader.read_info().unwrap();
    let mut found = vec![0; width * height];
    reader.next_frame(&mut found).unwrap();
    let truth_map: Vec<u8> = found
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
    let mask = Segmentation::new(width, height, truth_map.clone()).unwrap();
    fs::write(masks.join("one.png"), mask.png().unwrap()).unwrap();
    fs::remove_file(masks.join("two.png")).unwrap();
    let truth = json(segment(&["--json", "--truth", m]))["truth"].clone();
    assert_eq!((&truth["pictures"], &truth["without_truth"]), (&1.into(), &1.into()));
    let counted: Vec<(u8, u8)> =
        found.into_iter().zip(truth_map).filter(|(_, class)| *class != 255).collect();
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
    assert!(success(segment(&["--truth", m])).contains("mean IoU"));
}

#[test]
fn boxes_from_coco_annotations() {
    let folder = tempfile::tempdir().unwrap();
    let scene = "assets/demo/scene.png";
    let detect =
        |more: &[&str]| on_cpu("detect", Path::new("assets/demo/detect"), &[&[scene], more].concat());
    let report = only_picture(detect(&["--json", "--score", "0.5"]));
    let found = report["detections"].as_array().unwrap();
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
            { "id": 7, "file_name": "val/scene.png", "width": report["width"], "height": report["height"] },
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
    // A box that is moved by a quarter of its width has an IoU of 3/5.
    let moved = truth(annotations(found, 0.25));
    assert!(moved["map50"].as_f64().unwrap() > 0.99 && moved["map75"].as_f64().unwrap() < 0.01, "{moved}");
    let nowhere = truth(annotations(found, 3.0));
    assert!(nowhere["map50"].as_f64().unwrap() < 0.01, "{nowhere}");
    assert!(success(detect(&["--truth", path.to_str().unwrap()])).contains("mAP"));
    // Annotations need no ids. Other inconsistencies are errors.
    let without_ids = annotations(found, 0.0).into_iter().map(|mut box_| {
        box_.as_object_mut().unwrap().remove("id");
        box_
    });
    assert_eq!(truth(without_ids.collect()), all);
    let whole = fs::read_to_string(&path).unwrap();
    for (from, to, word) in [
        ("\"id\":8", "\"id\":7", "two pictures with the id 7"),
        ("val/other.png", "val/scene.png", "a different entry already"),
        ("\"name\"", "\"name\":\"star\",\"other\"", "two categories called"),
        ("\"bbox\":[", "\"bbox\":[0,0,-1,1],\"other\":[", "has an invalid box"),
        (&format!("\"width\":{}", report["width"]), "\"width\":17", "lists the picture as 17"),
    ] {
        fs::write(&path, whole.replace(from, to)).unwrap();
        let output = detect(&["--truth", path.to_str().unwrap()]).output().unwrap();
        let errors = error_lines(&output).join("\n");
        assert!(
            output.status.code() == Some(1) && errors.contains(word) && errors.contains("truth.json"),
            "{errors}"
        );
    }
    // A picture matches an entry by its file name, but only one picture per entry.
    fs::write(&path, &whole).unwrap();
    fs::create_dir_all(folder.path().join("elsewhere")).unwrap();
    let copy = folder.path().join("elsewhere/scene.png");
    fs::copy(scene, &copy).unwrap();
    let output = detect(&[copy.to_str().unwrap(), "--truth", path.to_str().unwrap()]).output().unwrap();
    assert!(error_lines(&output).join("\n").contains("which is already matched with"), "{output:?}");
    fs::write(&path, "{\"images\": [").unwrap();
    let output = detect(&["--truth", path.to_str().unwrap()]).output().unwrap();
    assert!(output.status.code() == Some(1) && error_lines(&output)[0].contains("truth.json"), "{output:?}");
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
