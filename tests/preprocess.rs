//! `tasks::preprocess` compared with Pillow, torchvision, timm, transformers and TensorFlow 1.
//! `scripts/make_preprocess_fixtures.py` makes the fixtures.

#![cfg(feature = "image")]

use std::collections::BTreeMap;
use std::path::Path;

use goldcrest::tasks::{Picture, preprocess};
use goldcrest::zoo::{Centre, Colours, Filter, Grid, PerChannel, Preprocessing, Resize};
use safetensors::SafeTensors;
use serde_json::Value;

/// One level of a picture, plus the rounding of f32.
const LEVEL: f64 = 1.0 / 255.0 + 1e-6;
/// The tolerance in levels on grids of points, where intermediate values are not rounded.
const POINT_LEVELS: f64 = 1e-3;

fn numbers<T: TryFrom<u64>>(value: &Value) -> Vec<T> {
    let number = |v: &Value| v.as_u64().and_then(|n| n.try_into().ok()).expect("a number");
    value.as_array().expect("a list").iter().map(number).collect()
}

fn pair(value: &Value) -> [usize; 2] {
    numbers(value).try_into().expect("two numbers")
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn per_channel(value: &Value) -> PerChannel {
    PerChannel::new(&floats(value).iter().map(|v| *v as f32).collect::<Vec<_>>())
}

fn preprocessing(value: &Value) -> Preprocessing {
    Preprocessing {
        resize: match value["resize"]["short"].as_u64() {
            Some(short) => Resize::Short(short as usize),
            None => Resize::Exact(pair(&value["resize"]["exact"])),
        },
        filter: match value["filter"].as_str().expect("a filter") {
            "nearest" => Filter::Nearest,
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            "lanczos" => Filter::Lanczos,
            "linear" => Filter::Linear,
            other => panic!("no such filter: {other}"),
        },
        crop: (!value["crop"].is_null()).then(|| pair(&value["crop"])),
        centre: match value["centre"].as_str().expect("a centre") {
            "half_to_even" => Centre::HalfToEven,
            "down" => Centre::Down,
            other => panic!("no such centre: {other}"),
        },
        grid: match value["grid"].as_str().unwrap_or("area") {
            "area" => Grid::Area,
            "corners" => Grid::Corners,
            "top_left" => Grid::TopLeft,
            other => panic!("no such grid: {other}"),
        },
        colours: match value["colours"].as_str().unwrap_or("rgb") {
            "rgb" => Colours::Rgb,
            "bgr" => Colours::Bgr,
            "grey" => Colours::Grey,
            other => panic!("no such colours: {other}"),
        },
        mean: per_channel(&value["mean"]),
        std: per_channel(&value["std"]),
    }
}

#[test]
fn preprocessing_matches_the_libraries() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/preprocess");
    let cases = std::fs::read_to_string(folder.join("cases.json")).expect("the cases");
    let cases: Vec<Value> = serde_json::from_str(&cases).expect("the cases as JSON");
    let expected = std::fs::read(folder.join("expected.safetensors")).expect("the expected values");
    let expected = SafeTensors::deserialize(&expected).expect("the expected values as safetensors");
    assert!(cases.len() > 100 && cases.len() == expected.len());

    let mut worst = BTreeMap::new();
    let mut failed = Vec::new();
    for case in &cases {
        let name = case["case"].as_str().expect("a name");
        let picture = folder.join("pictures").join(case["picture"].as_str().expect("a file"));
        let picture = Picture::open(picture).unwrap_or_else(|e| panic!("{name}: {e}"));
        let how = preprocessing(&case["preprocessing"]);
        let tensor = preprocess(&picture, &how).unwrap_or_else(|e| panic!("{name}: {e}"));
        let [height, width] = pair(&case["size"]);
        let channels = how.colours.channels();
        assert_eq!(tensor.dims(), [1, channels, height, width], "{name}");

        let (rows, columns) = (numbers::<usize>(&case["rows"]), numbers::<usize>(&case["columns"]));
        let view = expected.tensor(name).expect("the expected values of the case");
        assert_eq!(view.shape(), [channels, rows.len(), columns.len()], "{name}");
        let mut reference = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let (means, mut error, mut drift) = (floats(&case["means"]), 0f64, 0f64);
        for (channel, plane) in tensor.data().chunks_exact(height * width).enumerate() {
            let std = f64::from(how.std.values()[channel]);
            for row in &rows {
                for column in &columns {
                    let difference = plane[row * width + column] - reference.next().expect("a value");
                    error = error.max(f64::from(difference.abs()) * std);
                }
            }
            let mean = plane.iter().map(|&v| f64::from(v)).sum::<f64>() / plane.len() as f64;
            drift = drift.max((mean - means[channel]).abs() * std);
        }
        let (transform, _) = name.split_once('/').expect("transform/picture");
        let jpeg = name.ends_with(".jpg");
        let entry = worst.entry((transform, jpeg)).or_insert((0f64, 0f64));
        *entry = (entry.0.max(error), entry.1.max(drift));
        let limit = if how.grid == Grid::Area { LEVEL } else { POINT_LEVELS / 255.0 };
        // The bound of a channel's mean is tighter, because rounding errors cancel.
        if !(error <= limit && drift <= limit / 6.0) {
            failed.push(format!("{name}: {:.3} levels, mean {:.3}", error * 255.0, drift * 255.0));
        }
    }
    for ((transform, jpeg), (error, drift)) in worst {
        let kind = if jpeg { "JPEG" } else { "PNG" };
        println!(
            "{transform}, {kind}: {:.3} levels at worst, {:.3} in the mean",
            error * 255.0,
            drift * 255.0
        );
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
