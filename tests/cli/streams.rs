//! Pictures and video through pipes: one result per frame.

use std::{
    fs,
    io::{Cursor, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

use image::{ImageFormat, RgbImage};
use serde_json::Value;

use super::{
    CAT, COFFEE, ROCKET, SEEDED, error_lines, goldcrest, json, make, on_cpu, only_picture, pictures_of, text,
};

const SEGMENT: &str = "assets/demo/segment";

/// Runs a command with these bytes on standard input.
pub fn run_with_stdin(mut command: Command, bytes: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The program may stop reading early.
            let _ = input.write_all(bytes);
        });
        child.wait_with_output().unwrap()
    })
}

/// The entries of the JSON report of `classify -` on a stream, the status and the error lines.
fn classified(stream: &[u8], more: &[&str]) -> (Vec<Value>, i32, Vec<String>) {
    let command = on_cpu("classify", Path::new(SEEDED), &[&["-", "--json"], more].concat());
    let output = run_with_stdin(command, stream);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    (pictures_of(&report).to_vec(), output.status.code().unwrap(), error_lines(&output))
}

/// A few pictures of one size.
fn frames(count: usize) -> Vec<RgbImage> {
    let cat = image::open(CAT).unwrap().to_rgb8();
    (0..count).map(|i| image::imageops::crop_imm(&cat, 7 * i as u32, 5, 160, 120).to_image()).collect()
}

fn encoded(frames: &[RgbImage], format: ImageFormat) -> Vec<u8> {
    let mut stream = Vec::new();
    for frame in frames {
        let mut bytes = Cursor::new(Vec::new());
        frame.write_to(&mut bytes, format).unwrap();
        stream.extend(bytes.into_inner());
    }
    stream
}

fn ppm(frames: &[RgbImage]) -> Vec<u8> {
    frames.iter().flat_map(|frame| [b"P6\n160 120\n255\n", &frame.as_raw()[..]].concat()).collect()
}

/// 4:4:4 video in BT.601's full range.
fn y4m(frames: &[RgbImage]) -> Vec<u8> {
    let mut stream = b"YUV4MPEG2 W160 H120 F25:1 Ip A1:1 C444 XCOLORRANGE=FULL\n".to_vec();
    for frame in frames {
        stream.extend(b"FRAME\n");
        for weights in [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]] {
            let middle = if weights[0] == 0.299 { 0.0 } else { 128.0 };
            stream.extend(frame.pixels().map(|pixel| {
                let sum: f64 =
                    weights.iter().zip(pixel.0).map(|(weight, level)| weight * f64::from(level)).sum();
                (sum + middle).round().clamp(0.0, 255.0) as u8
            }));
        }
    }
    stream
}

fn most_likely(picture: &Value) -> (u64, f64) {
    let first = &picture["classes"][0];
    (first["index"].as_u64().unwrap(), first["probability"].as_f64().unwrap())
}

#[test]
fn every_frame_is_classified_in_every_format() {
    let frames = frames(24);
    let expected: Vec<(u64, f64)> = {
        let folder = tempfile::tempdir().unwrap();
        for (at, frame) in frames.iter().enumerate() {
            frame.save(folder.path().join(format!("{at:03}.png"))).unwrap();
        }
        let report =
            json(on_cpu("classify", Path::new(SEEDED), &["--json", folder.path().to_str().unwrap()]));
        pictures_of(&report).iter().map(most_likely).collect()
    };
    assert_eq!(expected.len(), 24);
    let raw: Vec<u8> = frames.iter().flat_map(|frame| frame.as_raw().clone()).collect();
    // The last number is the tolerance: lossy formats may differ slightly.
    for (stream, more, bound) in [
        (encoded(&frames, ImageFormat::Png), &[][..], 0.0),
        (ppm(&frames), &[], 0.0),
        (raw, &["--raw", "160x120"], 0.0),
        (y4m(&frames), &[], 0.05),
        // Video describes its own format, so --raw does not apply.
        (y4m(&frames), &["--raw", "160x120"], 0.05),
        (encoded(&frames, ImageFormat::Qoi), &[], 0.0),
        (encoded(&frames, ImageFormat::Jpeg), &[], 0.2),
    ] {
        let (pictures, status, errors) = classified(&stream, more);
        assert_eq!((status, pictures.len()), (0, 24), "{errors:?}");
        for (at, (picture, expected)) in pictures.iter().zip(&expected).enumerate() {
            assert_eq!((&picture["file"], &picture["frame"]), (&"-".into(), &at.into()));
            assert_eq!((&picture["width"], &picture["height"]), (&160.into(), &120.into()));
            let classes = picture["classes"].as_array().unwrap();
            let same = classes.iter().find(|class| class["index"] == expected.0).expect("a likely class");
            let found = same["probability"].as_f64().unwrap();
            assert!((found - expected.1).abs() <= bound, "frame {at}: {found} {expected:?}");
        }
    }
}

#[test]
fn truncated_and_damaged_frames_are_reported() {
    let frames = frames(3);
    for (stream, more) in
        [(y4m(&frames), &[][..]), (ppm(&frames), &[]), (encoded(&frames, ImageFormat::Png), &[])]
    {
        let (pictures, status, errors) = classified(&stream[..stream.len() - 40], more);
        assert_eq!((status, pictures.len()), (1, 3));
        assert!(
            pictures[1]["classes"].is_array() && pictures[2]["error"].as_str().unwrap().contains("cut short")
        );
        assert!(errors[0].starts_with("error: -#2: "), "{errors:?}");
        assert!(errors[1].contains("1 of 3"), "{errors:?}");
    }
    // A damaged frame of known length: the frames after it are read.
    let mut stream = encoded(&frames, ImageFormat::Png);
    let second = encoded(&frames[..1], ImageFormat::Png).len();
    stream[second + 60] ^= 0x55;
    let (pictures, status, _) = classified(&stream, &[]);
    let has_classes: Vec<bool> = pictures.iter().map(|picture| picture["classes"].is_array()).collect();
    assert_eq!((status, has_classes), (1, vec![true, false, true]));

    for (stream, more, word) in [
        (&b""[..], &[][..], "is empty"),
        (b"", &["--raw", "2x2"], "is empty"),
        (b"Dear diary", &[], "not a picture"),
        (b"YUV4MPEG2 W99999999 H99999999\nFRAME\n", &[], "limit"),
        (b"123", &["--raw", "2x2"], "cut short"),
        (b"YUV4MPEG2 W4 H4 C420\n", &[], "is empty"),
        (b"\n\n", &[], "not a picture"),
    ] {
        let (pictures, status, errors) = classified(stream, more);
        assert!(status == 1 && pictures.len() == 1 && errors[0].contains(word), "{errors:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn pipes_by_name_and_devices() {
    let stream = ppm(&frames(5));
    let output = run_with_stdin(on_cpu("classify", Path::new(SEEDED), &["/dev/stdin", "--jsonl"]), &stream);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(0), 5));
    let command = on_cpu("classify", Path::new(SEEDED), &["/dev/zero", CAT, "--max-memory", "64"]);
    let output = run_with_stdin(command, b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(error_lines(&output)[0].contains("/dev/zero"), "{:?}", error_lines(&output));
    assert!(text(&output.stdout).starts_with(CAT));
}

#[test]
fn a_result_does_not_wait_for_the_next_frame() {
    use std::io::{BufRead, BufReader};
    let frames = frames(4);
    for backend in ["cpu", "gpu"] {
        let mut command = goldcrest(["classify", "-", "--jsonl", "--backend", backend, "--weights", SEEDED]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for (at, frame) in frames.iter().enumerate() {
            let one = std::slice::from_ref(frame);
            let picture = match at {
                0 => encoded(one, ImageFormat::Png),
                1 => fs::read("tests/fixtures/formats/rgb.tif").unwrap(),
                2 => fs::read("tests/fixtures/formats/plain.ppm").unwrap(),
                _ => encoded(one, ImageFormat::Jpeg),
            };
            input.write_all(&picture).unwrap();
            input.flush().unwrap();
            let entry: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(entry["frame"], at, "{backend}");
        }
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn video_is_written_with_the_results_drawn() {
    let frames = frames(6);
    for stream in [y4m(&frames), ppm(&frames)] {
        let output = run_with_stdin(on_cpu("segment", Path::new(SEGMENT), &["-", "--out", "-"]), &stream);
        assert!(output.status.success(), "{output:?}");
        let drawn = &output.stdout;
        let line = drawn.split(|byte| *byte == b'\n').next().unwrap();
        if stream.starts_with(b"YUV") {
            assert_eq!(line, b"YUV4MPEG2 W160 H120 F25:1 Ip A1:1 C444 XCOLORRANGE=FULL");
            assert_eq!(drawn.len(), line.len() + 1 + 6 * (6 + 3 * 160 * 120));
        } else {
            assert_eq!(drawn.len(), 6 * (15 + 3 * 160 * 120));
        }
        assert_ne!(*drawn, stream);
        assert!(text(&output.stderr).contains("6 pictures in"), "{}", text(&output.stderr));
        // The output is valid input.
        assert_eq!(classified(drawn, &[]).0.len(), 6);
    }
    let output = run_with_stdin(
        on_cpu("detect", Path::new("assets/demo/detect"), &["-", "--out", "-", "--score", "0.1"]),
        &ppm(&frames),
    );
    assert!(output.status.success() && output.stdout.len() == 6 * (15 + 3 * 160 * 120));
}

#[test]
fn animations_are_classified_frame_by_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("moving.gif");
    let mut encoder = gif::Encoder::new(fs::File::create(&path).unwrap(), 160, 120, &[]).unwrap();
    let greys: Vec<u8> = (0..=255).flat_map(|level| [level; 3]).collect();
    for frame in frames(5) {
        let pixels = image::DynamicImage::from(frame).into_luma8().into_raw();
        encoder.write_frame(&gif::Frame::from_palette_pixels(160, 120, pixels, &greys[..], None)).unwrap();
    }
    drop(encoder);
    let report = json(on_cpu("classify", Path::new(SEEDED), &["--json", path.to_str().unwrap(), CAT]));
    let frames: Vec<&Value> = pictures_of(&report).iter().map(|picture| &picture["frame"]).collect();
    assert_eq!(frames, [&0.into(), &1.into(), &2.into(), &3.into(), &4.into(), &Value::Null]);
    let one = only_picture(on_cpu("classify", Path::new(SEEDED), &["--json", CAT]));
    assert_eq!(pictures_of(&report)[5]["classes"], one["classes"]);
}

#[test]
fn frames_that_do_not_fit_in_one_video_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("video.y4m"), y4m(&frames(2))).unwrap();
    let smaller: Vec<RgbImage> =
        frames(2).iter().map(|f| image::imageops::crop_imm(f, 0, 0, 80, 60).to_image()).collect();
    let header = text(&y4m(&frames(0))).replace("W160 H120", "W80 H60");
    fs::write(at("smaller.y4m"), [header.as_bytes(), &y4m(&smaller)[header.len() + 2..]].concat()).unwrap();
    let [video, smaller] = [at("video.y4m"), at("smaller.y4m")];
    for (inputs, failed, start) in [
        ([&*video, &*smaller], "2 of 4", &b"YUV4"[..]),
        ([&*video, CAT], "1 of 3", b"YUV4"),
        ([CAT, &*video], "2 of 3", b"P6\n"),
        // A missing picture does not set the format of the video.
        (["absent.png", &*video], "1 of 3", b"YUV4"),
    ] {
        let output =
            on_cpu("segment", Path::new(SEGMENT), &[inputs[0], inputs[1], "--out", "-"]).output().unwrap();
        let errors = error_lines(&output).join("\n");
        assert!(output.status.code() == Some(1) && errors.contains(failed), "{inputs:?}: {errors}");
        assert!(output.stdout.starts_with(start), "{inputs:?}");
    }
    // Frame numbers of an animation would collide with those of the pictures after it.
    let animation = fs::read("tests/fixtures/formats/dispose1.gif").unwrap();
    let still = fs::read("tests/fixtures/formats/rgb.png").unwrap();
    for stream in [[&*animation, &*still], [&still, &animation], [&animation, &animation]] {
        let (_, status, errors) = classified(&stream.concat(), &[]);
        assert!(status == 1 && errors[0].contains("an animation and other pictures"), "{errors:?}");
    }
}

#[test]
fn a_closed_output_pipe_is_no_error() {
    let stream = ppm(&frames(40));
    let mut command = on_cpu("classify", Path::new(SEEDED), &["-", "--jsonl"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    let _ = input.write_all(&stream);
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && error_lines(&output).is_empty(), "{output:?}");
}

/// Files are written even if nobody reads standard output any more.
#[test]
fn a_closed_output_pipe_does_not_end_the_writing_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let closed = |mut command: Command| {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && error_lines(&output).is_empty(), "{output:?}");
    };
    for format in ["--jsonl", "--json", "--csv"] {
        let vectors = out("v.npy");
        closed(on_cpu("embed", Path::new(SEEDED), &[CAT, COFFEE, ROCKET, format, "--out", &vectors]));
        assert!(fs::read(&vectors).unwrap().starts_with(b"\x93NUMPY"));
        fs::remove_file(vectors).unwrap();
    }
    let masks = out("masks/");
    closed(on_cpu("segment", Path::new(SEGMENT), &[CAT, COFFEE, ROCKET, "--jsonl", "--mask", &masks]));
    assert_eq!(fs::read_dir(masks).unwrap().count(), 3);
}

#[test]
fn embeddings_are_written_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let embed =
        |more: &[&str]| on_cpu("embed", Path::new(SEEDED), &[&[CAT, COFFEE, ROCKET, CAT], more].concat());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let report = json(embed(&["--json", "--nearest", "2", "--out", &path("v.safetensors")]));
    let vectors: Vec<Vec<f64>> = pictures_of(&report)
        .iter()
        .map(|picture| picture["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect())
        .collect();
    assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [256; 4]);
    assert!(vectors[0] == vectors[3] && vectors[0] != vectors[1]);
    let file = make::read(Path::new(&path("v.safetensors")));
    assert_eq!(file["embeddings"].1, [4, 256]);
    let bytes: Vec<u8> = vectors.iter().flatten().flat_map(|v| (*v as f32).to_le_bytes()).collect();
    assert_eq!(file["embeddings"].2, bytes);

    // The nearest neighbours: the identical picture comes first.
    let near = &report["vectors"]["nearest"];
    assert_eq!(
        (&near[0]["nearest"][0]["file"], near[0]["nearest"].as_array().unwrap().len()),
        (&CAT.into(), 2)
    );
    let cosine = near[0]["nearest"][1]["cosine"].as_f64().unwrap();
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let best = [1, 2]
        .map(|other| {
            product(&vectors[0], &vectors[other])
                / (product(&vectors[0], &vectors[0]) * product(&vectors[other], &vectors[other])).sqrt()
        })
        .into_iter()
        .fold(0.0, f64::max);
    assert!((cosine - best).abs() < 1e-5, "{cosine} {best}");

    let output = embed(&["--normalize", "--out", &path("v.npy")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let npy = fs::read(path("v.npy")).unwrap();
    let (header, values) = npy.split_at(npy.len() - 4 * 4 * 256);
    assert!(header.starts_with(b"\x93NUMPY") && String::from_utf8_lossy(header).contains("(4, 256)"));
    for (row, vector) in values.chunks_exact(4 * 256).zip(&vectors) {
        let row: Vec<f64> =
            row.chunks_exact(4).map(|v| f64::from(f32::from_le_bytes(v.try_into().unwrap()))).collect();
        assert!((product(&row, &row) - 1.0).abs() < 1e-5);
        assert!((product(&row, vector) - product(vector, vector).sqrt()).abs() < 1e-3);
    }
    // A picture that cannot be read has no row.
    let output = embed(&["absent.png", "--out", &path("v.jsonl")]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(path("v.jsonl")).unwrap().lines().count(), 4);
    assert_eq!(embed(&["--out", "v.txt"]).output().unwrap().status.code(), Some(2));
    let mut segmenter = on_cpu("embed", Path::new(SEGMENT), &[CAT]);
    assert!(error_lines(&segmenter.output().unwrap())[0].contains("embed needs"));
}
