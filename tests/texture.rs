//! Pictures from textures: a session sees them as it sees the same from memory.

mod common;

use common::textures::{answer, how, mirror, picture, readable, texture};
use goldcrest::{
    Error, Options, Session, Shape, Tensor,
    gpu::Gpu,
    kernels::sample::{self, Sampling},
    session::{Framing, Values},
    tasks::{Picture, preprocess},
    wgpu::{self, TextureFormat, TextureUsages},
    zoo::{Filter, Preprocessing, Resize},
};

/// The largest difference, in levels of 255.
fn levels(a: &Tensor, b: &Tensor, how: &Preprocessing) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let plane = a.data().len() / 3;
    let apart = a.data().iter().zip(b.data()).enumerate();
    apart.map(|(i, (a, b))| 255.0 * (a - b).abs() * how.std.values()[i / plane]).fold(0.0, f32::max)
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
                    mean: how.mean.values().try_into().unwrap(),
                    std: how.std.values().try_into().unwrap(),
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
