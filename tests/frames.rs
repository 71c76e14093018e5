//! Recorded into a program's encoder: what stays on the device, and what comes back some frames later.

mod common;

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use common::{
    fixture::Fixture,
    textures::{answer, copied, how, mirror, picture, readable, texels, texture},
};
use goldcrest::{
    Error, Options, Session, Shape,
    demo::{self, Scene},
    gpu::{Gpu, Ring},
    kernels::{mask, rank::Found},
    session::Framing,
    tasks::{Bounds, Picture, palette},
    wgpu::{self, TextureFormat, TextureUsages},
    zoo::{Filter, Network, Resize},
};

#[test]
fn sessions_share_an_encoder_and_answer_as_from_pictures() {
    let scenes = [1_000_000_034, 1_000_000_011].map(|seed| Scene::new(seed).draw(240, 200).unwrap().picture);
    let size = [200, 240];
    for gpu in common::gpus() {
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
                let source = session.source(texture, Framing::default()).unwrap();
                session.encode(&mut encoder, &source).unwrap();
                assert!(session.read_back(&mut encoder, ring, frame).unwrap());
            }
        }
        gpu.queue().submit([encoder.finish()]);
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let [classes, labels, boxes] = rings.each_mut().map(|ring| {
            let answer = ring.poll().unwrap().expect("the device is done");
            assert_eq!((answer.frame, ring.dropped()), (1, 1), "the newest wins");
            assert!(ring.poll().unwrap().is_none());
            answer.parts
        });
        let picture = &scenes[1];
        let [ours, theirs] =
            [classify.classes_of(&classes, 1).unwrap(), classify.classify(picture, 1).unwrap()];
        assert_eq!(ours[0].index, theirs[0].index);
        let [ours, theirs] = [segment.segmentation_of(&labels).unwrap(), segment.segment(picture).unwrap()];
        let other = ours.labels().iter().zip(theirs.labels()).filter(|(a, b)| a != b).count();
        assert!(other * 1000 <= ours.labels().len(), "{other} pixels on {}", gpu.adapter());
        let sure = |found: Vec<goldcrest::tasks::Detection>| {
            found.into_iter().filter(|found| found.score > 0.5).collect::<Vec<_>>()
        };
        let [ours, theirs] =
            [sure(detect.detections_of(&boxes).unwrap()), sure(detect.detect(picture).unwrap())];
        assert!(!ours.is_empty() && ours.len() == theirs.len(), "{ours:?}, {theirs:?}");
        for (a, b) in ours.iter().zip(&theirs) {
            assert!(a.index == b.index && a.bounds.iou(&b.bounds) > 0.98, "{a:?}, {b:?}");
        }
        assert!(classify.segmentation_of(&labels).is_err() && segment.detections_of(&labels).is_err());
    }
}

#[test]
fn labels_are_on_textures_at_their_sizes() {
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
        let source = session.source(&readable(&gpu, &scene), Framing::default()).unwrap();
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
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let answers = ring.poll().unwrap().unwrap().parts;
        let labels = session.segmentation_of(&answers).unwrap();
        let expected = mask::reference(labels.labels(), Shape::new(1, 1, 80, 96), [height, width]);
        let painted = texels(&gpu, &target, 4);
        for (i, (texel, class)) in painted.chunks_exact(4).zip(expected).enumerate() {
            assert_eq!(texel, colours[usize::from(class)], "texel {i} on {}", gpu.adapter());
        }
        let expected = mask::reference(labels.labels(), Shape::new(1, 1, 80, 96), [high, wide]);
        for mask in &masks {
            assert!(texels(&gpu, mask, 1) == expected, "{:?} on {}", mask.format(), gpu.adapter());
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
fn a_ring_drops_what_it_has_no_place_for() {
    let how = how(Resize::Exact([8, 8]), None, Filter::Bilinear);
    let picture = picture(8, 8);
    for gpu in common::gpus() {
        let session = Session::for_pictures(&gpu, &mirror(how, [8, 8]), [8, 8], Options::default()).unwrap();
        let source = session.source(&readable(&gpu, &picture), Framing::default()).unwrap();
        let mut ring = session.ring(2).unwrap();
        let record = |ring: &mut _, frame| {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            session.encode(&mut encoder, &source).unwrap();
            let taken = session.read_back(&mut encoder, ring, frame).unwrap();
            (encoder, taken)
        };
        let frames: Vec<_> = (0..5).map(|frame| record(&mut ring, frame)).collect();
        assert_eq!(
            frames.iter().map(|(_, taken)| *taken).collect::<Vec<_>>(),
            [true, true, false, false, false]
        );
        assert!(ring.poll().unwrap().is_none(), "nothing was submitted");
        gpu.queue().submit(frames.into_iter().map(|(encoder, _)| encoder.finish()));
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        assert_eq!(ring.poll().unwrap().map(|answer| answer.frame), Some(1));
        assert_eq!(ring.dropped(), 4);

        // Encoders that are thrown away leave their places.
        for frame in 5..9 {
            assert!(record(&mut ring, frame).1);
        }
        let (encoder, taken) = record(&mut ring, 9);
        assert!(taken);
        gpu.queue().submit([encoder.finish()]);
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        assert_eq!(ring.poll().unwrap().map(|answer| answer.frame), Some(9));
        assert_eq!(ring.dropped(), 8);
    }
}

#[test]
fn an_inference_in_parts_is_the_same() {
    fn is_send<T: Send>(_: &T) {}
    let scene = Scene::new(5).draw(96, 96).unwrap().picture;
    let network = demo::segmenter().unwrap();
    for gpu in common::gpus() {
        let mut session = Session::for_pictures(&gpu, &network, [96, 96], Options::default()).unwrap();
        // So that another thread may build it while frames go on.
        is_send(&session);
        let texture = readable(&gpu, &scene);
        let expected = answer(&gpu, &session, &texture, Framing::default());
        let source = session.source(&texture, Framing::default()).unwrap();
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
            gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
            let answers = ring.poll().unwrap().unwrap().parts;
            assert_eq!(answers[0].data(), expected[0].data(), "{budget:?} on {}", gpu.adapter());
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            assert!(session.encode_part(&mut encoder, &source, &parts, parts.count()).is_err());
        }
        // Where nothing may block, something else polls the device.
        let steps = session.steps().len();
        let done = AtomicBool::new(false);
        let counts = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    gpu.device().poll(wgpu::PollType::Poll).unwrap();
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
            let counts =
                [Duration::ZERO, Duration::MAX].map(|budget| pollster::block_on(session.parts_async(budget)));
            done.store(true, Relaxed);
            counts.map(|parts| parts.unwrap().count())
        });
        assert_eq!(counts, [steps, 1], "on {}", gpu.adapter());
    }
}

/// How many boxes of each picture are surer than `least`, on the device as in what comes back. One
/// session and its boxes serve all: nothing of an earlier picture may be left.
fn boxes_of(gpu: &Gpu, network: &Network, pictures: &[Picture], least: f32) -> Vec<usize> {
    let [width, height] = [pictures[0].width(), pictures[0].height()];
    let session = Session::for_pictures(gpu, network, [height, width], Options::default()).unwrap();
    let boxes = session.boxes(least, 4).unwrap();
    let mut ring = session.ring(1).unwrap();
    let count = |(frame, picture): (u64, &Picture)| {
        let source = session.source(&readable(gpu, picture), Framing::default()).unwrap();
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        session.encode(&mut encoder, &source).unwrap();
        session.encode_boxes(&mut encoder, &boxes).unwrap();
        session.read_back(&mut encoder, &mut ring, frame).unwrap();
        gpu.queue().submit([encoder.finish()]);
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();

        let answer = ring.poll().unwrap().unwrap();
        let mut expected = session.detections_of(&answer.parts).unwrap();
        expected.retain(|found| found.score > least);
        let found: Vec<Found> = bytemuck::pod_collect_to_vec(&copied(gpu, boxes.instances()));
        let draw: Vec<u32> = bytemuck::pod_collect_to_vec(&copied(gpu, boxes.draw()));
        assert_eq!(draw, [4, expected.len() as u32, 0, 0], "{}", gpu.adapter());
        for (ours, theirs) in found.iter().zip(&expected) {
            assert_eq!((ours.class as usize, ours.score), (theirs.index, theirs.score));
            let [left, top, right, bottom] = ours.bounds;
            let bounds = Bounds { left, top, right, bottom }.scaled(width as f32, height as f32);
            let apart = [
                bounds.left - theirs.bounds.left,
                bounds.top - theirs.bounds.top,
                bounds.right - theirs.bounds.right,
                bounds.bottom - theirs.bounds.bottom,
            ];
            assert!(apart.iter().all(|side| side.abs() < 1e-3), "{ours:?}, {theirs:?}");
        }
        assert!(found[expected.len()..].iter().all(|left| *left == Found::default()));
        expected.len()
    };
    (0..).zip(pictures).map(count).collect()
}

#[test]
fn boxes_on_the_device_are_those_that_come_back() {
    let seeds = [1_000_000_034, 1_000_000_011, 1_000_000_007];
    let scenes = seeds.map(|seed| Scene::new(seed).draw(240, 200).unwrap().picture);
    let network = demo::detector().unwrap();
    // Ninety classes, each with as many candidates as there may be.
    let fixture = Fixture::network("torchvision-ssdlite320_mobilenet_v3_large");
    let many = fixture.open_network();
    let pictures: Vec<_> = (0..fixture.recipe.cases.len()).map(|case| fixture.picture(case)).collect();
    for gpu in common::gpus() {
        let counts = boxes_of(&gpu, &network, &scenes, 0.3);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        let crowds = boxes_of(&gpu, &many, &pictures, 0.0);
        println!("{counts:?} and {crowds:?} boxes on {}", gpu.adapter());
        assert!(crowds.iter().any(|count| *count > 0), "{crowds:?}");
    }
}

#[test]
fn only_what_detects_has_boxes() {
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
fn a_grey_scene_in_a_texture_of_luminance_is_classified_as_the_grey_picture() {
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
            let answers = answer(&gpu, &session, &texture, Framing::default());
            let class = session.classes_of(&answers, 1).unwrap().remove(0);
            let percent = 100.0 * class.probability.unwrap();
            println!("{format:?} on {}: {:?} {percent:.2} %", gpu.adapter(), class.label);
            assert_eq!((class.index, class.label.as_deref()), (expected.index, Some("star")));
            assert!(
                (percent - 100.0 * expected.probability.unwrap()).abs() < 0.01,
                "{percent}, {expected:?}"
            );
            // 86.64 with Pillow's luminance: another rounding of a few pixels moves the second digit.
            assert!((percent - 86.62).abs() < 0.05, "{percent}");
        }
    }
}

#[test]
fn a_session_is_built_between_frames() {
    let scene = Scene::new(1_000_000_034).draw(96, 96).unwrap();
    let network = demo::classifier().unwrap();
    for gpu in common::gpus() {
        let building = || Session::building(&gpu, &network, [96, 96], Options::default()).unwrap();
        let mut pieces = building();
        let (mut frames, mut told) = (0, Vec::new());
        let session = loop {
            // A program's own scope, opened and closed while the session is half built.
            let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
            let session = pieces.advance(Duration::ZERO).unwrap();
            assert!(pollster::block_on(scope.pop()).is_none());
            frames += 1;
            told.push(pieces.progress());
            if let Some(session) = session {
                break session;
            }
        };
        assert!(matches!(pieces.advance(Duration::ZERO), Err(Error::Input(_))));
        let pipelines = session.startup().pipelines;
        assert!(pipelines > 3 && frames > pipelines, "{frames} frames, {pipelines} pipelines");
        assert!(told.is_sorted() && told.last() == Some(&[pipelines, pipelines]), "{told:?}");
        let answers = answer(&gpu, &session, &readable(&gpu, &scene.picture), Framing::default());
        let class = &session.classes_of(&answers, 1).unwrap()[0];
        assert_eq!(class.label.as_deref(), Some(scene.subject.name()));

        // With time enough, in one go once it is planned; and on the CPU.
        let cpu = goldcrest::cpu::Cpu::new(Some(1)).unwrap();
        let on_cpu = Session::building(&cpu, &network, [96, 96], Options::default()).unwrap();
        // A device that knows no pipeline any more.
        let fresh = gpu.clone().cache_in(None);
        let anew = Session::building(&fresh, &network, [96, 96], Options::default()).unwrap();
        for mut whole in [anew, on_cpu] {
            let mut told = Vec::new();
            while whole.advance(Duration::MAX).unwrap().is_none() {
                told.push(whole.progress());
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(told.iter().all(|progress| *progress == [0, 0]), "{told:?}");
        }
    }
}

#[test]
fn an_answer_says_how_long_the_device_took() {
    let network = demo::classifier().unwrap();
    let scene = Scene::new(3).draw(224, 224).unwrap().picture;
    for gpu in common::gpus() {
        let session = Session::for_pictures(&gpu, &network, [224, 224], Options::default()).unwrap();
        let source = session.source(&readable(&gpu, &scene), Framing::default()).unwrap();
        let mut ring = session.ring(1).unwrap();
        let ask = |ring: &mut Ring, encode: bool| {
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
        // Timestamps that nothing has written may be waited for in vain: there are some from the start.
        assert!(ask(&mut ring, false).0.is_some());
        let mut ring = session.ring(1).unwrap();
        let (answer, waited) = ask(&mut ring, true);
        let took = answer.unwrap().took;
        assert_eq!(took.is_some(), gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY));
        assert!(took.is_none_or(|took| !took.is_zero() && took <= waited), "{took:?} of {waited:?}");
    }
}

#[test]
fn an_answer_of_an_odd_number_of_words_comes_back() {
    // 35 rows of 9 words: what lies behind them does not begin where a mapping may.
    let scene = Scene::new(3).draw(35, 35).unwrap().picture;
    let network = demo::segmenter().unwrap();
    for gpu in common::gpus() {
        let session = Session::for_pictures(&gpu, &network, [35, 35], Options::default()).unwrap();
        let answers = answer(&gpu, &session, &readable(&gpu, &scene), Framing::default());
        assert_eq!(session.segmentation_of(&answers).unwrap().labels().len(), 35 * 35);
    }
}
