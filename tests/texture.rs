//! Inside a program that renders: its device, its textures, its encoder, and answers that come later.

mod common;

use std::time::Duration;

use goldcrest::{
    Error, Options, Session, Shape, Tensor,
    demo::{self, Scene},
    gpu::Gpu,
    graph::{Extent, Graph, Op},
    kernels::{
        paint,
        sample::{self, Sampling},
    },
    session::{Framing, Values},
    tasks::{Picture, palette, preprocess},
    wgpu::{self, TextureFormat, TextureUsages},
    zoo::{Centre, Filter, Network, Preprocessing, Resize, synthetic},
};

/// A picture with edges, gradients and noise.
fn picture(width: usize, height: usize) -> Picture {
    let pixels = (0..width * height).flat_map(|i| {
        let (x, y) = (i % width, i / width);
        [x * 255 / width, if (x / 3 + y / 5) % 2 == 0 { 250 } else { 7 }, (i * 7919) % 256].map(|v| v as u8)
    });
    Picture::new(width, height, pixels.collect()).unwrap()
}

/// The picture as a texture that shows it.
fn texture(gpu: &Gpu, picture: &Picture, format: TextureFormat, usage: TextureUsages) -> wgpu::Texture {
    let size = wgpu::Extent3d {
        width: picture.width() as u32,
        height: picture.height() as u32,
        depth_or_array_layers: 1,
    };
    let texture = gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: None,
        size,
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format,
        usage: usage | TextureUsages::COPY_DST,
        view_formats: &[],
    });
    let light = |v: u8| {
        let v = f64::from(v) / 255.0;
        (if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }) as f32
    };
    let bytes: Vec<u8> = picture
        .pixels()
        .chunks_exact(3)
        .flat_map(|rgb| match format {
            TextureFormat::Bgra8Unorm => vec![rgb[2], rgb[1], rgb[0], 255],
            TextureFormat::Rgba16Float => [light(rgb[0]), light(rgb[1]), light(rgb[2]), 1.0]
                .iter()
                .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
                .collect(),
            TextureFormat::Rgba32Float => [light(rgb[0]), light(rgb[1]), light(rgb[2]), 1.0]
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
            _ => vec![rgb[0], rgb[1], rgb[2], 255],
        })
        .collect();
    let layout = wgpu::TexelCopyBufferLayout {
        offset: 0,
        bytes_per_row: Some(bytes.len() as u32 / size.height),
        rows_per_image: None,
    };
    gpu.queue().write_texture(texture.as_image_copy(), &bytes, layout, size);
    texture
}

fn readable(gpu: &Gpu, picture: &Picture) -> wgpu::Texture {
    texture(gpu, picture, TextureFormat::Rgba8Unorm, TextureUsages::TEXTURE_BINDING)
}

/// A network whose answer is what it sees.
fn mirror(preprocessing: Preprocessing, input: [usize; 2]) -> Network {
    let mut graph = Graph::default();
    let x = graph.push("input", Op::Input(3), &[]);
    graph.push("same", Op::Resize(Extent::Exact(input)), &[x]);
    Network { graph, preprocessing, input, ..synthetic::network("mobilenet_v1@0.25").unwrap() }
}

/// Records an inference of a texture, and waits for its answer.
fn answer(gpu: &Gpu, session: &Session, texture: &wgpu::Texture, framing: Framing) -> Vec<Tensor> {
    let source = session.source(texture, framing).unwrap();
    let mut ring = session.ring(1).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    session.encode(&mut encoder, &source).unwrap();
    assert!(session.read_back(&mut encoder, &mut ring, 7).unwrap());
    gpu.queue().submit([encoder.finish()]);
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let (frame, answers) = ring.poll().unwrap().expect("the device is done");
    assert_eq!((frame, ring.dropped()), (7, 0));
    answers
}

/// The largest difference, in levels of 255.
fn levels(a: &Tensor, b: &Tensor, how: &Preprocessing) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let plane = a.data().len() / 3;
    let apart = a.data().iter().zip(b.data()).enumerate();
    apart.map(|(i, (a, b))| 255.0 * (a - b).abs() * how.std[i / plane]).fold(0.0, f32::max)
}

fn how(resize: Resize, crop: Option<[usize; 2]>, filter: Filter) -> Preprocessing {
    Preprocessing { resize, crop, filter, centre: Centre::HalfToEven, ..Preprocessing::default() }
}

/// The whole way: as the CPU prepares the same picture, within two levels.
#[track_caller]
fn sees(gpu: &Gpu, texture: &wgpu::Texture, framing: Framing, picture: &Picture, how: &Preprocessing) {
    let expected = preprocess(picture, how).unwrap();
    let &[_, _, h, w] = expected.dims() else { unreachable!("a picture has four dimensions") };
    let size = [picture.height(), picture.width()];
    let session = Session::for_pictures(gpu, &mirror(how.clone(), [h, w]), size, Options::default()).unwrap();
    let seen = answer(gpu, &session, texture, framing).remove(0);
    let off = levels(&seen, &expected, how);
    assert!(off <= 2.0, "{how:?}, {size:?} on {}: {off} levels", gpu.adapter());
}

const FILTERS: [Filter; 5] =
    [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos, Filter::Linear];

#[test]
fn a_texture_is_seen_as_the_cpu_sees_the_picture() {
    for gpu in common::gpus() {
        for filter in FILTERS {
            for (width, height) in [(53, 37), (150, 97), (7, 5), (40, 40)] {
                let picture = picture(width, height);
                let texture = readable(&gpu, &picture);
                for how in [
                    how(Resize::Exact([40, 40]), None, filter),
                    how(Resize::Short(33), Some([30, 28]), filter),
                    // Wider than the picture: black round it.
                    how(Resize::Exact([20, 24]), Some([31, 24]), filter),
                ] {
                    sees(&gpu, &texture, Framing::default(), &picture, &how);
                }
            }
        }
    }
}

#[test]
fn every_format_shows_the_same() {
    let picture = picture(61, 43);
    let how = how(Resize::Short(32), Some([32, 32]), Filter::Bilinear);
    for gpu in common::gpus() {
        for (format, values) in [
            (TextureFormat::Rgba8Unorm, Values::OfFormat),
            (TextureFormat::Bgra8Unorm, Values::OfFormat),
            (TextureFormat::Rgba8UnormSrgb, Values::OfFormat),
            (TextureFormat::Rgba16Float, Values::OfFormat),
            (TextureFormat::Rgba32Float, Values::OfFormat),
            (TextureFormat::Rgba8Unorm, Values::Encoded),
            (TextureFormat::Rgba32Float, Values::Linear),
        ] {
            let texture = texture(&gpu, &picture, format, TextureUsages::TEXTURE_BINDING);
            sees(&gpu, &texture, Framing { values, ..Framing::default() }, &picture, &how);
        }
    }
}

#[test]
fn a_region_mirrored_is_that_picture() {
    let whole = picture(70, 50);
    let [left, top, width, height] = [13, 9, 41, 37];
    let how = how(Resize::Exact([24, 20]), None, Filter::Bicubic);
    for gpu in common::gpus() {
        let texture = readable(&gpu, &whole);
        for mirrored in [[false, false], [true, false], [false, true], [true, true]] {
            let at = |x: usize, y: usize| {
                let x = left + if mirrored[0] { width - 1 - x } else { x };
                let y = top + if mirrored[1] { height - 1 - y } else { y };
                whole.pixels()[3 * (y * 70 + x)..][..3].to_vec()
            };
            let pixels = (0..width * height).flat_map(|i| at(i % width, i / width)).collect();
            let part = Picture::new(width, height, pixels).unwrap();
            let region = Some([left, top, width, height].map(|v| v as u32));
            sees(&gpu, &texture, Framing { region, mirrored, values: Values::OfFormat }, &part, &how);
        }
    }
}

#[test]
fn the_kernel_is_its_reference() {
    let picture = picture(31, 45);
    let texel = |x: u32, y: u32| {
        let at = 3 * (y as usize * 31 + x as usize);
        [0, 1, 2].map(|i| f32::from(picture.pixels()[at + i]) / 255.0)
    };
    let filters = [
        (sample::Filter::Nearest, Filter::Nearest),
        (sample::Filter::Bilinear, Filter::Bilinear),
        (sample::Filter::Bicubic, Filter::Bicubic),
        (sample::Filter::Lanczos, Filter::Lanczos),
        (sample::Filter::Linear, Filter::Linear),
    ];
    for gpu in common::gpus() {
        let texture = readable(&gpu, &picture);
        for (filter, same) in filters {
            for (scaled, values) in [([17, 60], Values::Encoded), ([90, 11], Values::Linear)] {
                let how = how(Resize::Exact(scaled), None, same);
                let network = mirror(how.clone(), scaled);
                let session = Session::for_pictures(&gpu, &network, [45, 31], Options::default()).unwrap();
                let seen = answer(&gpu, &session, &texture, Framing { values, ..Framing::default() });
                let sampling = Sampling {
                    region: [0, 0, 31, 45],
                    mirrored: [false; 2],
                    rows_first: scaled[0] < scaled[1],
                    encode: values == Values::Linear,
                    scaled,
                    crop: [0, 0],
                    filter,
                    mean: how.mean,
                    std: how.std,
                };
                let expected = sample::reference(&sampling, Shape::new(1, 3, scaled[0], scaled[1]), texel);
                let off = levels(&seen[0], &expected, &how);
                // Off by one where a level lay half-way and was rounded the other way, and nowhere else.
                assert!(off <= 1.01, "{filter:?}, {scaled:?} on {}: {off}", gpu.adapter());
                let apart = seen[0].data().iter().zip(expected.data());
                let other = apart.filter(|(a, b)| (*a - *b).abs() > 1e-3).count() as f64;
                let share = other / expected.data().len() as f64;
                println!(
                    "{filter:?}, {scaled:?} on {}: {:.1}% rounded otherwise",
                    gpu.adapter(),
                    100.0 * share
                );
                assert!(share <= 0.05, "{filter:?}, {scaled:?} on {}: {share}", gpu.adapter());
            }
        }
    }
}

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
            let (frame, answers) = ring.poll().unwrap().expect("the device is done");
            assert_eq!((frame, ring.dropped()), (1, 1), "the newest wins");
            assert!(ring.poll().unwrap().is_none());
            answers
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
fn a_mask_is_painted_at_the_targets_size() {
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
        let mut ring = session.ring(1).unwrap();
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        session.encode(&mut encoder, &source).unwrap();
        session.encode_painting(&mut encoder, &painting).unwrap();
        session.read_back(&mut encoder, &mut ring, 0).unwrap();
        // Rows of a copy are whole multiples of 256 bytes, and so are 128 texels.
        let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: (4 * width * height) as u64,
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let layout = wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(4 * width as u32),
            rows_per_image: None,
        };
        let copy = wgpu::TexelCopyBufferInfo { buffer: &buffer, layout };
        encoder.copy_texture_to_buffer(target.as_image_copy(), copy, target.size());
        encoder.map_buffer_on_submit(&buffer, wgpu::MapMode::Read, .., |_| {});
        gpu.queue().submit([encoder.finish()]);
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let (_, answers) = ring.poll().unwrap().unwrap();
        let labels = session.segmentation_of(&answers).unwrap();
        let expected = paint::reference(labels.labels(), Shape::new(1, 1, 80, 96), [height, width]);
        let painted = buffer.get_mapped_range(..).unwrap();
        for (i, (texel, class)) in painted.chunks_exact(4).zip(expected).enumerate() {
            assert_eq!(texel, colours[usize::from(class)], "texel {i} on {}", gpu.adapter());
        }
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
        let session =
            Session::for_pictures(&gpu, &mirror(how.clone(), [8, 8]), [8, 8], Options::default()).unwrap();
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
        assert_eq!(ring.poll().unwrap().map(|(frame, _)| frame), Some(1));
        assert_eq!(ring.dropped(), 4);

        // Encoders that are thrown away leave their places.
        for frame in 5..9 {
            assert!(record(&mut ring, frame).1);
        }
        let (encoder, taken) = record(&mut ring, 9);
        assert!(taken);
        gpu.queue().submit([encoder.finish()]);
        gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        assert_eq!(ring.poll().unwrap().map(|(frame, _)| frame), Some(9));
        assert_eq!(ring.dropped(), 8);
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    let how = how(Resize::Short(16), None, Filter::Bilinear);
    let picture = picture(20, 16);
    for gpu in common::gpus() {
        let new =
            || Session::for_pictures(&gpu, &mirror(how.clone(), [16, 20]), [16, 20], Options::default());
        let (session, other) = (new().unwrap(), new().unwrap());
        let refused = |texture: &wgpu::Texture, framing, word: &str| {
            let error = session.source(texture, framing).err().expect("it is refused");
            assert!(matches!(&error, Error::Input(reason) if reason.contains(word)), "{error}");
        };
        let plain = readable(&gpu, &picture);
        let blind = texture(&gpu, &picture, TextureFormat::Rgba8Unorm, TextureUsages::COPY_SRC);
        refused(&blind, Framing::default(), "TEXTURE_BINDING");
        let whole = texture(&gpu, &picture, TextureFormat::Rgba8Uint, TextureUsages::TEXTURE_BINDING);
        refused(&whole, Framing::default(), "Rgba8Uint");
        for region in [[0, 0, 21, 16], [20, 0, 1, 1], [0, 0, 0, 3], [u32::MAX, 0, 2, 2]] {
            refused(&plain, Framing { region: Some(region), ..Framing::default() }, "region");
        }
        let narrow = Framing { region: Some([0, 0, 10, 16]), ..Framing::default() };
        refused(&plain, narrow, "planned were 20 x 16");

        let source = session.source(&plain, Framing::default()).unwrap();
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        assert!(matches!(other.encode(&mut encoder, &source), Err(Error::Input(_))));
        let mut ring = other.ring(1).unwrap();
        assert!(matches!(session.read_back(&mut encoder, &mut ring, 0), Err(Error::Input(_))));
        let tensors = Session::new(&gpu, &mirror(how.clone(), [16, 20]), Options::default()).unwrap();
        assert!(tensors.source(&plain, Framing::default()).is_err());
        let cpu = goldcrest::cpu::Cpu::new(Some(1)).unwrap();
        let on_cpu =
            Session::for_pictures(&cpu, &mirror(how.clone(), [16, 20]), [16, 20], Options::default());
        let error = on_cpu.unwrap().source(&plain, Framing::default()).err().unwrap();
        assert!(error.to_string().contains("CPU"), "{error}");
    }
}

/// A device such as a program makes for itself.
fn host(adapter: &wgpu::Adapter, features: wgpu::Features, limits: wgpu::Limits) -> Gpu {
    let descriptor =
        wgpu::DeviceDescriptor { required_features: features, required_limits: limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    Gpu::from_device(adapter, device, queue).cache_in(None)
}

#[test]
fn a_lost_device_is_told_and_another_goes_on() {
    let scene = Scene::new(3).draw(64, 64).unwrap().picture;
    let network = demo::classifier().unwrap();
    for adapter in pollster::block_on(goldcrest::gpu::adapters()) {
        let new = || host(&adapter, Gpu::wanted_features(&adapter), Gpu::wanted_limits(&adapter));
        let gpu = new();
        let session = Session::for_pictures(&gpu, &network, [64, 64], Options::default()).unwrap();
        let source = session.source(&readable(&gpu, &scene), Framing::default()).unwrap();
        let mut ring = session.ring(2).unwrap();
        let expected = answer(&gpu, &session, &readable(&gpu, &scene), Framing::default());
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        session.encode(&mut encoder, &source).unwrap();
        session.read_back(&mut encoder, &mut ring, 0).unwrap();
        gpu.device().destroy();
        gpu.queue().submit([encoder.finish()]);
        // What was under way never comes as an answer.
        let told = (0..100).find_map(|_| match ring.poll() {
            Ok(None) => None,
            Ok(Some(_)) => panic!("an answer of a lost device"),
            Err(error) => Some(error),
        });
        let error = told.expect("the loss is told");
        assert!(matches!(error, Error::Lost(_)), "{error}");

        let gpu = new();
        let session = Session::for_pictures(&gpu, &network, [64, 64], Options::default()).unwrap();
        let again = answer(&gpu, &session, &readable(&gpu, &scene), Framing::default());
        assert_eq!(again[0].data(), expected[0].data());
    }
}

#[test]
fn hosts_with_little_and_with_everything_get_right_answers() {
    let scene = Scene::new(1_000_000_034).draw(96, 96).unwrap();
    let network = demo::classifier().unwrap();
    for adapter in pollster::block_on(goldcrest::gpu::adapters()) {
        let little =
            (wgpu::Features::empty(), wgpu::Limits::default().or_worse_values_from(&adapter.limits()));
        let all = adapter.features() & !wgpu::Features::all_experimental_mask();
        for (features, limits) in
            [little, (all, adapter.limits()), (Gpu::wanted_features(&adapter), Gpu::wanted_limits(&adapter))]
        {
            let gpu = host(&adapter, features, limits);
            let session = Session::for_pictures(&gpu, &network, [96, 96], Options::default()).unwrap();
            let answers = answer(&gpu, &session, &readable(&gpu, &scene.picture), Framing::default());
            let class = &session.classes_of(&answers, 1).unwrap()[0];
            assert_eq!(class.label.as_deref(), Some(scene.subject.name()), "{}", gpu.adapter());
        }
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
            let (_, answers) = ring.poll().unwrap().unwrap();
            assert_eq!(answers[0].data(), expected[0].data(), "{budget:?} on {}", gpu.adapter());
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            assert!(session.encode_part(&mut encoder, &source, &parts, parts.count()).is_err());
        }
    }
}

#[test]
fn a_renderer_on_another_thread_goes_on() {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
    let scene = Scene::new(1_000_000_034).draw(96, 96).unwrap();
    let network = demo::classifier().unwrap();
    for gpu in common::gpus() {
        let session = Session::for_pictures(&gpu, &network, [96, 96], Options::default()).unwrap();
        let source = session.source(&readable(&gpu, &scene.picture), Framing::default()).unwrap();
        let usage = TextureUsages::RENDER_ATTACHMENT;
        let target = texture(&gpu, &scene.picture, TextureFormat::Rgba8Unorm, usage);
        let (done, rendered) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let view = target.create_view(&Default::default());
                while !done.load(Relaxed) {
                    let mut encoder = gpu.device().create_command_encoder(&Default::default());
                    let attachment = wgpu::RenderPassColorAttachment {
                        view: &view,
                        depth_slice: None,
                        resolve_target: None,
                        ops: Default::default(),
                    };
                    drop(encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
                        color_attachments: &[Some(attachment)],
                        ..Default::default()
                    }));
                    gpu.queue().submit([encoder.finish()]);
                    rendered.fetch_add(1, Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let mut ring = session.ring(3).unwrap();
            let mut came = 0;
            for frame in 0..40 {
                let mut encoder = gpu.device().create_command_encoder(&Default::default());
                session.encode(&mut encoder, &source).unwrap();
                session.read_back(&mut encoder, &mut ring, frame).unwrap();
                gpu.queue().submit([encoder.finish()]);
                std::thread::sleep(Duration::from_millis(3));
                if let Some((_, answers)) = ring.poll().unwrap() {
                    let class = &session.classes_of(&answers, 1).unwrap()[0];
                    assert_eq!(class.label.as_deref(), Some(scene.subject.name()), "{}", gpu.adapter());
                    came += 1;
                }
            }
            done.store(true, Relaxed);
            assert!(came > 0 && rendered.load(Relaxed) > 10, "{came} answers, {rendered:?} frames");
        });
    }
}
