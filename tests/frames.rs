//! Inference recorded into a program's encoder: results on the device, and readback some frames later.

mod common;

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use common::{
    fixture::Fixture,
    textures::{
        identity_network, newest, picture, preprocessing, read_buffer, read_texels, readable, run_texture,
        texture,
    },
};
use goldcrest::{
    Error, Options, Session, Shape,
    demo::{self, Scene},
    gpu::{Gpu, Ring},
    kernels::{mask, rank::BoxInstance},
    session::SourceOptions,
    tasks::{Bounds, Picture, palette},
    wgpu::{self, TextureFormat, TextureUsages},
    zoo::{Filter, Network, Resize},
};

#[test]
fn sessions_share_an_encoder_and_match_results_from_pictures() {
    let scenes = [1_000_000_034, 1_000_000_011].map(|seed| Scene::new(seed).draw(240, 200).unwrap().picture);
    let size = [200, 240];
    for gpu in common::own_gpus() {
        let session = |network: goldcrest::Result<Network>| {
            Session::for_pictures(&gpu, &network.unwrap(), size, Options::default()).unwrap()
        };
        let (mut classify, mut segment, mut detect) =
            (session(demo::classifier()), session(demo::segmenter()), session(demo::detector()));
        let textures = scenes.each_ref().map(|scene| readable(&gpu, scene));
        let mut rings = [&classify, &segment, &detect].map(|session| session.ring(2).unwrap());
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        for (session, ring) in [&classify, &segment, &detect].into_iter().zip(&mut rings) {
            // The same session twice, the second time for the other scene.
            for (frame, texture) in (0..).zip(&textures) {
                let source = session.source(texture, SourceOptions::default()).unwrap();
                session.encode(&mut encoder, &source).unwrap();
                assert!(session.read_back(&mut encoder, ring, frame).unwrap());
            }
        }
        gpu.queue().submit([encoder.finish()]);
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let [classes, labels, boxes] = rings.each_mut().map(|ring| {
            let readback = ring.poll().unwrap().expect("the device is done");
            assert_eq!((readback.frame, ring.dropped()), (1, 1), "the newest readback is kept");
            assert!(ring.poll().unwrap().is_none());
            readback.outputs
        });
        let picture = &scenes[1];
        let [ours, theirs] =
            [classify.classes_of(&classes, 1).unwrap(), classify.classify(picture, 1).unwrap()];
        assert_eq!(ours[0].index, theirs[0].index);
        // The asynchronous forms give the same, while the program polls its device.
        let (classes, labels_now, boxes_now) = polled(&gpu, || {
            (
                pollster::block_on(classify.classify_async(picture, 1)).unwrap(),
                pollster::block_on(segment.segment_async(picture)).unwrap(),
                pollster::block_on(detect.detect_async(picture)).unwrap(),
            )
        });
        assert_eq!(classes, classify.classify(picture, 1).unwrap());
        assert_eq!(labels_now, segment.segment(picture).unwrap());
        assert_eq!(boxes_now, detect.detect(picture).unwrap());
        let [ours, theirs] =
            [segment.segmentation_of(&labels, size).unwrap(), segment.segment(picture).unwrap()];
        let different = ours.labels().iter().zip(theirs.labels()).filter(|(a, b)| a != b).count();
        assert!(different * 1000 <= ours.labels().len(), "{different} pixels on {}", gpu.adapter());
        let confident = |found: Vec<goldcrest::tasks::Detection>| {
            found.into_iter().filter(|found| found.score > 0.5).collect::<Vec<_>>()
        };
        let [ours, theirs] = [
            confident(detect.detections_of(&boxes, size).unwrap()),
            confident(detect.detect(picture).unwrap()),
        ];
        assert!(!ours.is_empty() && ours.len() == theirs.len(), "{ours:?}, {theirs:?}");
        for (a, b) in ours.iter().zip(&theirs) {
            assert!(a.index == b.index && a.bounds.iou(&b.bounds) > 0.98, "{a:?}, {b:?}");
        }
        assert!(
            classify.segmentation_of(&labels, size).is_err() && segment.detections_of(&labels, size).is_err()
        );
    }
}

#[test]
fn labels_are_painted_at_the_size_of_each_texture() {
    let scene = Scene::new(1_000_000_034).draw(96, 80).unwrap().picture;
    let colours = palette().map(|[r, g, b]| [r, g, b, 128]);
    for gpu in common::gpus() {
        let network = demo::segmenter().unwrap();
        let session = Session::for_pictures(&gpu, &network, [80, 96], Options::default()).unwrap();
        let (width, height) = (128, 50);
        let blank = Picture::new(width, height, vec![0; width * height * 3]).unwrap();
        let usage = TextureUsages::STORAGE_BINDING | TextureUsages::COPY_SRC;
        let target = texture(&gpu, &blank, TextureFormat::Rgba8Unorm, usage);
        let painting = session.painting(&target, &colours).unwrap();
        let source = session.source(&readable(&gpu, &scene), SourceOptions::default()).unwrap();
        let (wide, high) = (333, 91);
        let blank = Picture::new(wide, high, vec![77; wide * high * 3]).unwrap();
        let masks = [TextureFormat::R8Uint, TextureFormat::R8Unorm]
            .map(|format| texture(&gpu, &blank, format, TextureUsages::COPY_SRC));
        let filled = masks.each_ref().map(|mask| session.mask(mask).unwrap());
        let mut ring = session.ring(1).unwrap();
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        session.encode(&mut encoder, &source).unwrap();
        for painting in [&painting].into_iter().chain(&filled) {
            session.encode_painting(&mut encoder, painting).unwrap();
        }
        session.read_back(&mut encoder, &mut ring, 0).unwrap();
        gpu.queue().submit([encoder.finish()]);
        let outputs = newest(&gpu, &mut ring).unwrap().outputs;
        let labels = session.segmentation_of(&outputs, [80, 96]).unwrap();
        let expected = mask::reference(labels.labels(), Shape::new(1, 1, 80, 96), [height, width]);
        let painted = read_texels(&gpu, &target, 4);
        for (i, (texel, class)) in painted.chunks_exact(4).zip(expected).enumerate() {
            assert_eq!(texel, colours[usize::from(class)], "texel {i} on {}", gpu.adapter());
        }
        let expected = mask::reference(labels.labels(), Shape::new(1, 1, 80, 96), [high, wide]);
        for mask in &masks {
            assert!(read_texels(&gpu, mask, 1) == expected, "{:?} on {}", mask.format(), gpu.adapter());
        }
        let error = session.mask(&target).err().unwrap();
        assert!(error.to_string().contains("R8Unorm or R8Uint"), "{error}");
        let unfit = [
            (TextureFormat::Rgba8UnormSrgb, TextureUsages::TEXTURE_BINDING, "Rgba8Unorm"),
            (TextureFormat::Rgba8Unorm, TextureUsages::TEXTURE_BINDING, "STORAGE_BINDING"),
        ];
        for (format, usage, word) in unfit {
            let error = session.painting(&texture(&gpu, &blank, format, usage), &colours).err().unwrap();
            assert!(matches!(&error, Error::Input(reason) if reason.contains(word)), "{error}");
        }
    }
}

#[test]
fn full_ring_drops_readbacks() {
    let how = preprocessing(Resize::Exact([8, 8]), None, Filter::Bilinear);
    let picture = picture(8, 8);
    for gpu in common::own_gpus() {
        let session =
            Session::for_pictures(&gpu, &identity_network(how, [8, 8]), [8, 8], Options::default()).unwrap();
        let source = session.source(&readable(&gpu, &picture), SourceOptions::default()).unwrap();
        let mut ring = session.ring(2).unwrap();
        let record = |ring: &mut _, frame| {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            session.encode(&mut encoder, &source).unwrap();
            let accepted = session.read_back(&mut encoder, ring, frame).unwrap();
            (encoder, accepted)
        };
        let frames: Vec<_> = (0..5).map(|frame| record(&mut ring, frame)).collect();
        assert_eq!(
            frames.iter().map(|(_, accepted)| *accepted).collect::<Vec<_>>(),
            [true, true, false, false, false]
        );
        assert!(ring.poll().unwrap().is_none(), "nothing was submitted");
        gpu.queue().submit(frames.into_iter().map(|(encoder, _)| encoder.finish()));
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        assert_eq!(ring.poll().unwrap().map(|readback| readback.frame), Some(1));
        assert_eq!(ring.dropped(), 4);

        // Encoders that are dropped free their slots in the ring.
        for frame in 5..9 {
            assert!(record(&mut ring, frame).1);
        }
        let (encoder, accepted) = record(&mut ring, 9);
        assert!(accepted);
        gpu.queue().submit([encoder.finish()]);
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        assert_eq!(ring.poll().unwrap().map(|readback| readback.frame), Some(9));
        assert_eq!(ring.dropped(), 8);
    }
}

#[test]
fn inference_in_parts_matches_the_whole() {
    fn is_send<T: Send>(_: &T) {}
    let scene = Scene::new(5).draw(96, 96).unwrap().picture;
    let network = demo::segmenter().unwrap();
    for gpu in common::gpus() {
        let mut session = Session::for_pictures(&gpu, &network, [96, 96], Options::default()).unwrap();
        // So that another thread can build it while frames are rendered.
        is_send(&session);
        let texture = readable(&gpu, &scene);
        let expected = run_texture(&gpu, &session, &texture, SourceOptions::default());
        let source = session.source(&texture, SourceOptions::default()).unwrap();
        for (budget, most) in
            [(Duration::ZERO, usize::MAX), (Duration::from_micros(300), 1000), (Duration::MAX, 1)]
        {
            let parts = session.parts(budget).unwrap();
            assert!((1..=most).contains(&parts.count()), "{budget:?}: {}", parts.count());
            let mut ring = session.ring(1).unwrap();
            for at in 0..parts.count() {
                let mut encoder = gpu.device().create_command_encoder(&Default::default());
                session.encode_part(&mut encoder, &source, &parts, at).unwrap();
                if at + 1 == parts.count() {
                    session.read_back(&mut encoder, &mut ring, 1).unwrap();
                }
                gpu.queue().submit([encoder.finish()]);
            }
            let outputs = newest(&gpu, &mut ring).unwrap().outputs;
            assert_eq!(outputs[0].data(), expected[0].data(), "{budget:?} on {}", gpu.adapter());
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            assert!(session.encode_part(&mut encoder, &source, &parts, parts.count()).is_err());
        }
        // The async variant does not block, and so another thread polls the device.
        let steps = session.steps().len();
        let part_counts = polled(&gpu, || {
            [Duration::ZERO, Duration::MAX]
                .map(|budget| pollster::block_on(session.parts_async(budget)).unwrap().count())
        });
        assert_eq!(part_counts, [steps, 1], "on {}", gpu.adapter());
    }
}

/// Calls `wait` while another thread polls the device, as a renderer's frames do.
fn polled<T>(gpu: &Gpu, wait: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                gpu.device().poll(wgpu::PollType::Poll).unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        // Also ends the thread if `wait` panics.
        let _ended = Ended(&done);
        wait()
    })
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Compares the boxes on the device with the readback, and returns the number of boxes of each picture with a
/// score of at least `min_score`. All pictures share one session, so that leftovers of an earlier picture would show.
fn count_boxes(gpu: &Gpu, network: &Network, pictures: &[Picture], min_score: f32) -> Vec<usize> {
    let size = [pictures[0].height(), pictures[0].width()];
    let session = Session::for_pictures(gpu, network, size, Options::default()).unwrap();
    let boxes = session.boxes(min_score, 4).unwrap();
    let mut ring = session.ring(1).unwrap();
    let count = |(frame, picture): (u64, &Picture)| {
        let source = session.source(&readable(gpu, picture), SourceOptions::default()).unwrap();
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        session.encode(&mut encoder, &source).unwrap();
        session.encode_boxes(&mut encoder, &boxes).unwrap();
        session.read_back(&mut encoder, &mut ring, frame).unwrap();
        gpu.queue().submit([encoder.finish()]);
        let readback = newest(gpu, &mut ring).unwrap();
        let mut expected = session.detections_of(&readback.outputs, readback.picture).unwrap();
        expected.retain(|found| found.score >= min_score);
        let found: Vec<BoxInstance> = bytemuck::pod_collect_to_vec(&read_buffer(gpu, boxes.instances()));
        let draw: Vec<u32> = bytemuck::pod_collect_to_vec(&read_buffer(gpu, boxes.draw()));
        assert_eq!(draw, [4, expected.len() as u32, 0, 0], "{}", gpu.adapter());
        for (ours, theirs) in found.iter().zip(&expected) {
            assert_eq!((ours.class as usize, ours.score), (theirs.index, theirs.score));
            let [left, top, right, bottom] = ours.bounds;
            let bounds =
                Bounds { left, top, right, bottom }.scaled(picture.width() as f32, picture.height() as f32);
            let errors = [
                bounds.left - theirs.bounds.left,
                bounds.top - theirs.bounds.top,
                bounds.right - theirs.bounds.right,
                bounds.bottom - theirs.bounds.bottom,
            ];
            assert!(errors.iter().all(|error| error.abs() < 1e-3), "{ours:?}, {theirs:?}");
        }
        assert!(found[expected.len()..].iter().all(|unused| *unused == BoxInstance::default()));
        expected.len()
    };
    (0..).zip(pictures).map(count).collect()
}

#[test]
fn boxes_on_the_device_match_the_readback() {
    let seeds = [1_000_000_034, 1_000_000_011, 1_000_000_007];
    let scenes = seeds.map(|seed| Scene::new(seed).draw(240, 200).unwrap().picture);
    let network = demo::detector().unwrap();
    // Ninety classes, each with the largest number of candidates.
    let fixture = Fixture::network("torchvision-ssdlite320_mobilenet_v3_large");
    let many = fixture.open_network();
    let pictures: Vec<_> = (0..fixture.recipe.cases.len()).map(|case| fixture.picture(case)).collect();
    for gpu in common::gpus() {
        let counts = count_boxes(&gpu, &network, &scenes, 0.3);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        let many_counts = count_boxes(&gpu, &many, &pictures, 0.0);
        println!("{counts:?} and {many_counts:?} boxes on {}", gpu.adapter());
        assert!(many_counts.iter().any(|count| *count > 0), "{many_counts:?}");
    }
}

#[test]
fn only_detectors_have_boxes() {
    for gpu in common::gpus() {
        let session = |network: goldcrest::Result<Network>| {
            Session::for_pictures(&gpu, &network.unwrap(), [96, 96], Options::default()).unwrap()
        };
        let (detector, segmenter) = (session(demo::detector()), session(demo::segmenter()));
        assert!(matches!(segmenter.boxes(0.5, 4), Err(Error::Input(_))));
        let boxes = detector.boxes(0.5, 4).unwrap();
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        assert!(matches!(segmenter.encode_boxes(&mut encoder, &boxes), Err(Error::Input(_))));
    }
}

#[test]
fn luminance_texture_is_classified_like_the_grey_picture() {
    let scene = Scene::new(1_000_000_034).draw(384, 384).unwrap().picture;
    let grey = |rgb: &[u8]| {
        let [r, g, b] = [0, 1, 2].map(|i| u32::from(rgb[i]));
        [((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8; 3]
    };
    let grey = scene.pixels().chunks_exact(3).flat_map(grey).collect();
    let grey = Picture::new(384, 384, grey).unwrap();
    let network = demo::classifier().unwrap();
    for gpu in common::gpus() {
        let mut session = Session::for_pictures(&gpu, &network, [384, 384], Options::default()).unwrap();
        let expected = session.classify(&grey, 1).unwrap().remove(0);
        for format in [TextureFormat::R8Unorm, TextureFormat::Rg8Unorm] {
            let texture = texture(&gpu, &grey, format, TextureUsages::TEXTURE_BINDING);
            let outputs = run_texture(&gpu, &session, &texture, SourceOptions::default());
            let class = session.classes_of(&outputs, 1).unwrap().remove(0);
            let percent = 100.0 * class.probability.unwrap();
            println!("{format:?} on {}: {:?} {percent:.2} %", gpu.adapter(), class.label);
            assert_eq!((class.index, class.label.as_deref()), (expected.index, Some("star")));
            assert!(
                (percent - 100.0 * expected.probability.unwrap()).abs() < 0.01,
                "{percent}, {expected:?}"
            );
            // 86.64 with Pillow's luminance: a few pixels rounded differently change the second decimal.
            assert!((percent - 86.62).abs() < 0.05, "{percent}");
        }
    }
}

#[test]
fn session_is_built_between_frames() {
    let scene = Scene::new(1_000_000_034).draw(96, 96).unwrap();
    let network = demo::classifier().unwrap();
    for gpu in common::own_gpus() {
        let building = || Session::building(&gpu, &network, [96, 96], Options::default()).unwrap();
        let mut pieces = building();
        let (mut frames, mut reported) = (0, Vec::new());
        let session = loop {
            // A program's error scope, opened and closed while the session is half built.
            let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
            let session = pieces.advance(Duration::ZERO).unwrap();
            assert!(pollster::block_on(scope.pop()).is_none());
            frames += 1;
            reported.push(pieces.progress());
            if let Some(session) = session {
                break session;
            }
        };
        assert!(matches!(pieces.advance(Duration::ZERO), Err(Error::Input(_))));
        let pipelines = session.startup().pipelines;
        assert!(pipelines > 3 && frames > pipelines, "{frames} frames, {pipelines} pipelines");
        assert!(reported.is_sorted() && reported.last() == Some(&[pipelines, pipelines]), "{reported:?}");
        let outputs = run_texture(&gpu, &session, &readable(&gpu, &scene.picture), SourceOptions::default());
        let class = &session.classes_of(&outputs, 1).unwrap()[0];
        assert_eq!(class.label.as_deref(), Some(scene.subject.name()));

        // With an unlimited budget, one step builds everything after planning; also on the CPU.
        let cpu = goldcrest::cpu::Cpu::new(Some(1)).unwrap();
        let on_cpu = Session::building(&cpu, &network, [96, 96], Options::default()).unwrap();
        // A device without compiled pipelines.
        let fresh = gpu.clone().cache_in(None);
        let on_gpu = Session::building(&fresh, &network, [96, 96], Options::default()).unwrap();
        for mut building in [on_gpu, on_cpu] {
            let mut reported = Vec::new();
            while building.advance(Duration::MAX).unwrap().is_none() {
                reported.push(building.progress());
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(reported.iter().all(|progress| *progress == [0, 0]), "{reported:?}");
        }
    }
}

#[test]
fn readback_contains_the_device_time() {
    let network = demo::classifier().unwrap();
    let scene = Scene::new(3).draw(224, 224).unwrap().picture;
    for gpu in common::own_gpus() {
        let session = Session::for_pictures(&gpu, &network, [224, 224], Options::default()).unwrap();
        let source = session.source(&readable(&gpu, &scene), SourceOptions::default()).unwrap();
        let mut ring = session.ring(1).unwrap();
        let record = |ring: &mut Ring, encode: bool| {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            if encode {
                session.encode(&mut encoder, &source).unwrap();
            }
            session.read_back(&mut encoder, ring, 0).unwrap();
            let begun = Instant::now();
            gpu.queue().submit([encoder.finish()]);
            gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
            (ring.poll().unwrap(), begun.elapsed())
        };
        // Drivers may wait indefinitely for timestamps that were never written, so there are some from the
        // start.
        assert!(record(&mut ring, false).0.is_some());
        let mut ring = session.ring(1).unwrap();
        let (readback, waited) = record(&mut ring, true);
        let device_time = readback.unwrap().device_time;
        assert_eq!(device_time.is_some(), gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY));
        assert!(
            device_time.is_none_or(|device_time| !device_time.is_zero() && device_time <= waited),
            "{device_time:?} of {waited:?}"
        );
    }
}

#[test]
fn output_with_an_odd_number_of_words_is_read_back() {
    // 35 rows of 9 words: the data after them is not aligned for a mapping.
    let scene = Scene::new(3).draw(35, 35).unwrap().picture;
    let network = demo::segmenter().unwrap();
    for gpu in common::gpus() {
        let session = Session::for_pictures(&gpu, &network, [35, 35], Options::default()).unwrap();
        let outputs = run_texture(&gpu, &session, &readable(&gpu, &scene), SourceOptions::default());
        assert_eq!(session.segmentation_of(&outputs, [35; 2]).unwrap().labels().len(), 35 * 35);
    }
}

#[test]
fn results_are_in_pixels_of_the_source() {
    // The session is built for one size; the texture has another.
    let (size, [rows, columns]) = ([120, 160], [90, 120]);
    let scene = Scene::new(1_000_000_034).draw(columns, rows).unwrap().picture;
    for gpu in common::gpus() {
        let session = |network: goldcrest::Result<Network>| {
            Session::for_pictures(&gpu, &network.unwrap(), size, Options::default()).unwrap()
        };
        let (segment, detect) = (session(demo::segmenter()), session(demo::detector()));
        let read = |session: &Session| {
            let mut ring = session.ring(1).unwrap();
            let source = session.source(&readable(&gpu, &scene), SourceOptions::default()).unwrap();
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            session.encode(&mut encoder, &source).unwrap();
            assert!(session.read_back(&mut encoder, &mut ring, 0).unwrap());
            gpu.queue().submit([encoder.finish()]);
            newest(&gpu, &mut ring).unwrap()
        };
        let (labels, boxes) = (read(&segment), read(&detect));
        assert_eq!((labels.picture, boxes.picture), ([rows, columns], [rows, columns]));
        let whole = segment.segmentation_of(&labels.outputs, size).unwrap();
        let labels = segment.segmentation_of(&labels.outputs, labels.picture).unwrap();
        assert_eq!((labels.width(), labels.height()), (columns, rows));
        assert_eq!(labels.at(columns / 2, rows / 2), whole.at(size[1] / 2, size[0] / 2));
        let ours = detect.detections_of(&boxes.outputs, boxes.picture).unwrap();
        let theirs = detect.detections_of(&boxes.outputs, size).unwrap();
        for (a, b) in ours.iter().zip(&theirs).take(3) {
            assert!((a.bounds.right / b.bounds.right - 0.75).abs() < 1e-4, "{a:?}, {b:?}");
        }
        assert!(segment.ring(0).err().unwrap().to_string().contains("at least one"));
    }
}

#[test]
fn a_texture_of_another_device_is_named() {
    let picture = picture(48, 48);
    let colours = palette().map(|[r, g, b]| [r, g, b, 128]);
    let network = demo::segmenter().unwrap();
    // Both devices belong to one instance of wgpu.
    for adapter in pollster::block_on(goldcrest::gpu::adapters()) {
        let open = || pollster::block_on(Gpu::from_adapter(&adapter)).unwrap().cache_in(None);
        let [gpu, other] = [open(), open()];
        let session = Session::for_pictures(&gpu, &network, [48, 48], Options::default()).unwrap();
        let usage = TextureUsages::STORAGE_BINDING;
        let errors = [
            session.source(&readable(&other, &picture), SourceOptions::default()).err(),
            session.painting(&texture(&other, &picture, TextureFormat::Rgba8Unorm, usage), &colours).err(),
            session.mask(&texture(&other, &picture, TextureFormat::R8Uint, TextureUsages::COPY_SRC)).err(),
        ];
        for error in errors {
            let error = error.expect("the texture is not the session's");
            assert!(matches!(&error, Error::Input(text) if text.contains("another device")), "{error}");
        }
        // The session is not affected.
        session.source(&readable(&gpu, &picture), SourceOptions::default()).unwrap();
    }
}
