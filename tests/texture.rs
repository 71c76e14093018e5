//! Pictures from textures give a session the same input as pictures from memory.

mod common;

use common::textures::{
    identity_network, layered, picture, preprocessing, readable, run_source, run_texture, texture, upload,
};
use goldcrest::{
    Error, Options, Session, Shape, Tensor,
    gpu::{Gpu, Source},
    kernels::sample::{self, Planes, Sampling, Texels},
    session::{ColourEncoding, SourceOptions, Yuv, YuvMatrix, YuvRange},
    tasks::{Picture, preprocess},
    wgpu::{self, Features, TextureFormat, TextureUsages},
    zoo::{Colours, Filter, Grid, PerChannel, Preprocessing, Resize},
};

/// The largest difference, in levels of 8 bits.
fn levels(a: &Tensor, b: &Tensor, how: &Preprocessing) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let plane = a.data().len() / a.dims()[1];
    let apart = a.data().iter().zip(b.data()).enumerate();
    apart.map(|(i, (a, b))| 255.0 * (a - b).abs() * how.std.values()[i / plane]).fold(0.0, f32::max)
}

/// Compares a session's input from a texture with the CPU's from the same picture, within two levels.
#[track_caller]
fn check_texture(
    gpu: &Gpu,
    texture: &wgpu::Texture,
    options: SourceOptions,
    picture: &Picture,
    how: &Preprocessing,
) {
    check_source(gpu, picture, how, |session| session.source(texture, options).unwrap());
}

/// [`check_texture`] for any source; returns the largest difference in levels.
#[track_caller]
fn check_source(
    gpu: &Gpu,
    picture: &Picture,
    how: &Preprocessing,
    source: impl FnOnce(&Session) -> Source,
) -> f32 {
    let expected = preprocess(picture, how).unwrap();
    let &[_, _, h, w] = expected.dims() else { unreachable!("a picture has four dimensions") };
    let size = [picture.height(), picture.width()];
    let session =
        Session::for_pictures(gpu, &identity_network(*how, [h, w]), size, Options::default()).unwrap();
    let found = run_source(gpu, &session, &source(&session)).remove(0);
    let off = levels(&found, &expected, how);
    assert!(off <= 2.0, "{how:?}, {size:?} on {}: {off} levels", gpu.adapter());
    off
}

/// Preprocessing to grey, with one mean and one deviation.
fn grey(how: Preprocessing) -> Preprocessing {
    let one = |v| PerChannel::new(&[v]);
    Preprocessing { colours: Colours::Grey, mean: one(0.45), std: one(0.23), ..how }
}

/// The picture's red channel as a grey picture.
fn red(picture: &Picture) -> Picture {
    let pixels = picture.pixels().chunks_exact(3).flat_map(|rgb| [rgb[0]; 3]).collect();
    Picture::new(picture.width(), picture.height(), pixels).unwrap()
}

/// The part of a picture that options select.
fn part(whole: &Picture, options: SourceOptions) -> Picture {
    let all = [0, 0, whole.width() as u32, whole.height() as u32];
    let [left, top, width, height] = options.region.unwrap_or(all).map(|v| v as usize);
    let at = |x: usize, y: usize| {
        let x = left + if options.mirrored[0] { width - 1 - x } else { x };
        let y = top + if options.mirrored[1] { height - 1 - y } else { y };
        whole.pixels()[3 * (y * whole.width() + x)..][..3].to_vec()
    };
    Picture::new(width, height, (0..width * height).flat_map(|i| at(i % width, i / width)).collect()).unwrap()
}

const FILTERS: [Filter; 5] =
    [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos, Filter::Linear];

#[test]
fn input_from_a_texture_matches_the_cpu() {
    for gpu in common::gpus() {
        for filter in FILTERS {
            for (width, height) in [(53, 37), (150, 97), (7, 5), (40, 40)] {
                let picture = picture(width, height);
                let texture = readable(&gpu, &picture);
                for how in [
                    preprocessing(Resize::Exact([40, 40]), None, filter),
                    preprocessing(Resize::Short(33), Some([30, 28]), filter),
                    // A crop larger than the resized picture: black around it.
                    preprocessing(Resize::Exact([20, 24]), Some([31, 24]), filter),
                ] {
                    check_texture(&gpu, &texture, SourceOptions::default(), &picture, &how);
                }
            }
        }
    }
}

#[test]
fn every_format_gives_the_same_input() {
    let picture = picture(61, 43);
    let how = preprocessing(Resize::Short(32), Some([32, 32]), Filter::Bilinear);
    for gpu in common::gpus() {
        for (format, encoding) in [
            (TextureFormat::Rgba8Unorm, ColourEncoding::FromFormat),
            (TextureFormat::Bgra8Unorm, ColourEncoding::FromFormat),
            (TextureFormat::Rgba8UnormSrgb, ColourEncoding::FromFormat),
            (TextureFormat::Rgba16Float, ColourEncoding::FromFormat),
            (TextureFormat::Rgba32Float, ColourEncoding::FromFormat),
            (TextureFormat::Rgba8Unorm, ColourEncoding::Srgb),
            (TextureFormat::Rgba32Float, ColourEncoding::Linear),
        ] {
            let texture = texture(&gpu, &picture, format, TextureUsages::TEXTURE_BINDING);
            check_texture(
                &gpu,
                &texture,
                SourceOptions { encoding, ..SourceOptions::default() },
                &picture,
                &how,
            );
        }
    }
}

#[test]
fn mirrored_region_matches_that_picture() {
    let whole = picture(70, 50);
    let how = preprocessing(Resize::Exact([24, 20]), None, Filter::Bicubic);
    for gpu in common::gpus() {
        let texture = readable(&gpu, &whole);
        for mirrored in [[false, false], [true, false], [false, true], [true, true]] {
            let options =
                SourceOptions { region: Some([13, 9, 41, 37]), mirrored, ..SourceOptions::default() };
            check_texture(&gpu, &texture, options, &part(&whole, options), &how);
        }
    }
}

#[test]
fn grey_bgr_and_other_grids_match_the_cpu() {
    let (picture, options) = (picture(53, 37), SourceOptions::default());
    for gpu in common::gpus() {
        let texture = readable(&gpu, &picture);
        let mut worst = 0f32;
        let mut check = |how: Preprocessing| {
            let off =
                check_source(&gpu, &picture, &how, |session| session.source(&texture, options).unwrap());
            worst = worst.max(off);
        };
        for filter in FILTERS {
            let cropped = preprocessing(Resize::Short(33), Some([30, 36]), filter);
            check(grey(cropped));
            check(Preprocessing { colours: Colours::Bgr, ..cropped });
        }
        for grid in [Grid::Corners, Grid::TopLeft] {
            for filter in [Filter::Nearest, Filter::Linear] {
                for scaled in [[17, 60], [90, 11], [37, 53], [1, 41], [41, 41]] {
                    let how = Preprocessing { grid, ..preprocessing(Resize::Exact(scaled), None, filter) };
                    check(how);
                    check(Preprocessing { colours: Colours::Bgr, ..how });
                    check(grey(how));
                }
                check(Preprocessing { grid, ..preprocessing(Resize::Short(20), Some([31, 20]), filter) });
            }
        }
        println!("{}: {worst} levels at worst", gpu.adapter());
    }
}

#[test]
fn one_channel_is_luminance_and_a_second_is_alpha() {
    use TextureFormat as F;
    let picture = picture(61, 43);
    let shown = red(&picture);
    let how = preprocessing(Resize::Short(32), Some([32, 32]), Filter::Bilinear);
    for gpu in common::gpus_with(Features::TEXTURE_FORMAT_16BIT_NORM) {
        let has_16_bits = gpu.device().features().contains(Features::TEXTURE_FORMAT_16BIT_NORM);
        println!("{}: 16 bits {has_16_bits}", gpu.adapter());
        let bytes = [F::R8Unorm, F::Rg8Unorm];
        let floats = [F::R16Float, F::Rg16Float, F::R32Float, F::Rg32Float];
        let sixteen = [F::R16Unorm, F::Rg16Unorm].into_iter().filter(|_| has_16_bits);
        for format in bytes.into_iter().chain(floats).chain(sixteen) {
            let texture = texture(&gpu, &picture, format, TextureUsages::TEXTURE_BINDING);
            check_texture(&gpu, &texture, SourceOptions::default(), &shown, &how);
            check_texture(&gpu, &texture, SourceOptions::default(), &shown, &grey(how));
        }
    }
}

/// Returns whether single layers can be read: on GL, wgpu has no view of one.
fn has_layers(gpu: &Gpu) -> bool {
    gpu.adapter().backend != "gl"
}

#[test]
fn layer_can_be_selected() {
    let pictures = [
        picture(40, 30),
        red(&picture(40, 30)),
        part(&picture(80, 30), SourceOptions { region: Some([20, 0, 40, 30]), ..SourceOptions::default() }),
    ];
    let how = preprocessing(Resize::Exact([24, 28]), None, Filter::Bilinear);
    for gpu in common::gpus() {
        let usage = TextureUsages::TEXTURE_BINDING;
        let texture = layered(&gpu, &pictures.each_ref(), TextureFormat::Rgba8Unorm, usage);
        let network = identity_network(how, [24, 28]);
        let session = Session::for_pictures(&gpu, &network, [30, 40], Options::default()).unwrap();
        for (layer, picture) in (0..).zip(&pictures) {
            let options = SourceOptions { layer, ..SourceOptions::default() };
            if has_layers(&gpu) {
                check_texture(&gpu, &texture, options, picture, &how);
            } else {
                let error = session.source(&texture, options).err().unwrap();
                assert!(matches!(&error, Error::Input(reason) if reason.contains("GL")), "{error}");
            }
        }
        for layer in [3, u32::MAX] {
            let error =
                session.source(&texture, SourceOptions { layer, ..SourceOptions::default() }).err().unwrap();
            assert!(matches!(&error, Error::Input(reason) if reason.contains("no layer")), "{error}");
        }
    }
}

#[test]
fn sample_matches_its_reference() {
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
        for (filter, cpu_filter) in filters {
            for (scaled, encoding) in [([17, 60], ColourEncoding::Srgb), ([90, 11], ColourEncoding::Linear)] {
                let how = preprocessing(Resize::Exact(scaled), None, cpu_filter);
                let network = identity_network(how, scaled);
                let session = Session::for_pictures(&gpu, &network, [45, 31], Options::default()).unwrap();
                let found = run_texture(
                    &gpu,
                    &session,
                    &texture,
                    SourceOptions { encoding, ..SourceOptions::default() },
                );
                let sampling = Sampling {
                    region: [0, 0, 31, 45],
                    mirrored: [false; 2],
                    rows_first: scaled[0] < scaled[1],
                    texels: Texels::Colours,
                    encode: encoding == ColourEncoding::Linear,
                    scaled,
                    scale: [45.0 / scaled[0] as f32, 31.0 / scaled[1] as f32],
                    crop: [0, 0],
                    filter,
                    grid: sample::Grid::Area,
                    colours: sample::Colours::Rgb,
                    mean: how.mean.values().try_into().unwrap(),
                    std: how.std.values().try_into().unwrap(),
                };
                let expected = sample::reference(&sampling, Shape::new(1, 3, scaled[0], scaled[1]), texel);
                let off = levels(&found[0], &expected, &how);
                // Off by one only if a level is half-way between two and is rounded differently.
                assert!(off <= 1.01, "{filter:?}, {scaled:?} on {}: {off}", gpu.adapter());
                let apart = found[0].data().iter().zip(expected.data());
                let different = apart.filter(|(a, b)| (*a - *b).abs() > 1e-3).count() as f64;
                let fraction = different / expected.data().len() as f64;
                println!(
                    "{filter:?}, {scaled:?} on {}: {:.1}% rounded differently",
                    gpu.adapter(),
                    100.0 * fraction
                );
                assert!(fraction <= 0.05, "{filter:?}, {scaled:?} on {}: {fraction}", gpu.adapter());
            }
        }
    }
}

#[test]
fn invalid_textures_and_framings_are_errors() {
    let how = preprocessing(Resize::Short(16), None, Filter::Bilinear);
    let picture = picture(20, 16);
    for gpu in common::gpus() {
        let new =
            || Session::for_pictures(&gpu, &identity_network(how, [16, 20]), [16, 20], Options::default());
        let (session, other) = (new().unwrap(), new().unwrap());
        let refused = |texture: &wgpu::Texture, options, word: &str| {
            let error = session.source(texture, options).err().expect("it is refused");
            assert!(matches!(&error, Error::Input(reason) if reason.contains(word)), "{error}");
        };
        let plain = readable(&gpu, &picture);
        let unbindable = texture(&gpu, &picture, TextureFormat::Rgba8Unorm, TextureUsages::COPY_SRC);
        refused(&unbindable, SourceOptions::default(), "TEXTURE_BINDING");
        let integers = texture(&gpu, &picture, TextureFormat::Rgba8Uint, TextureUsages::TEXTURE_BINDING);
        refused(&integers, SourceOptions::default(), "Rgba8Uint");
        for format in [TextureFormat::Depth32Float, TextureFormat::Rgba8Snorm, TextureFormat::R32Uint] {
            let other = gpu.device().create_texture(&wgpu::TextureDescriptor {
                label: None,
                size: wgpu::Extent3d { width: 20, height: 16, depth_or_array_layers: 1 },
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format,
                usage: TextureUsages::TEXTURE_BINDING,
                view_formats: &[],
            });
            refused(&other, SourceOptions::default(), &format!("{format:?}"));
        }
        for region in [[0, 0, 21, 16], [20, 0, 1, 1], [0, 0, 0, 3], [u32::MAX, 0, 2, 2]] {
            refused(&plain, SourceOptions { region: Some(region), ..SourceOptions::default() }, "region");
        }
        let narrow = SourceOptions { region: Some([0, 0, 10, 16]), ..SourceOptions::default() };
        refused(&plain, narrow, "the session takes 20 x 16");

        let source = session.source(&plain, SourceOptions::default()).unwrap();
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        assert!(matches!(other.encode(&mut encoder, &source), Err(Error::Input(_))));
        let mut ring = other.ring(1).unwrap();
        assert!(matches!(session.read_back(&mut encoder, &mut ring, 0), Err(Error::Input(_))));
        let tensors = Session::new(&gpu, &identity_network(how, [16, 20]), Options::default()).unwrap();
        assert!(tensors.source(&plain, SourceOptions::default()).is_err());
        let cpu = goldcrest::cpu::Cpu::new(Some(1)).unwrap();
        let on_cpu =
            Session::for_pictures(&cpu, &identity_network(how, [16, 20]), [16, 20], Options::default());
        let error = on_cpu.unwrap().source(&plain, SourceOptions::default()).err().unwrap();
        assert!(error.to_string().contains("CPU"), "{error}");
    }
}

/// A video frame: a plane of luma, and one of interleaved U and V, with codes of 8 bits, or of 10 bits in the
/// high bits of 16.
struct Frame {
    size: [usize; 2],
    chroma: [usize; 2],
    luma: Vec<u16>,
    uv: Vec<[u16; 2]>,
    ten_bit: bool,
}

impl Frame {
    /// Encodes a picture by the definitions of the standards, in f64. Halved chroma is that of the nearest
    /// pixel: tests compare with the decoded planes, not with the picture.
    fn new(picture: &Picture, yuv: Yuv, halved: [bool; 2], ten_bit: bool) -> Self {
        let size = [picture.width(), picture.height()];
        let chroma = [0, 1].map(|i| if halved[i] { size[i].div_ceil(2) } else { size[i] });
        let [red, blue] = coefficients(yuv.matrix);
        let [black, white, span] = codes(yuv.range, ten_bit);
        let grey = if ten_bit { 512.0 } else { 128.0 };
        let store = |code: f64| {
            let most = if ten_bit { 1023.0 } else { 255.0 };
            (code.round().clamp(0.0, most) as u16) << if ten_bit { 6 } else { 0 }
        };
        let of = |x: usize, y: usize| {
            let rgb = [0, 1, 2].map(|i| f64::from(picture.pixels()[3 * (y * size[0] + x) + i]) / 255.0);
            let luma = red * rgb[0] + (1.0 - red - blue) * rgb[1] + blue * rgb[2];
            let [u, v] = [(rgb[2] - luma) / (2.0 * (1.0 - blue)), (rgb[0] - luma) / (2.0 * (1.0 - red))];
            [store(black + luma * (white - black)), store(grey + u * span), store(grey + v * span)]
        };
        let luma = (0..size[0] * size[1]).map(|i| of(i % size[0], i / size[0])[0]).collect();
        let step = halved.map(|halved| 1 + usize::from(halved));
        let uv = (0..chroma[0] * chroma[1]).map(|i| {
            let [_, u, v] = of(i % chroma[0] * step[0], i / chroma[0] * step[1]);
            if yuv.swapped { [v, u] } else { [u, v] }
        });
        Self { size, chroma, luma, uv: uv.collect(), ten_bit }
    }

    /// Decodes the planes, in f64: chroma lies on even columns and between rows.
    fn picture(&self, yuv: Yuv) -> Picture {
        let [red, blue] = coefficients(yuv.matrix);
        let [black, white, span] = codes(yuv.range, self.ten_bit);
        let grey = if self.ten_bit { 512.0 } else { 128.0 };
        let shift = if self.ten_bit { 64.0 } else { 1.0 };
        let code = |v: u16| f64::from(v) / shift;
        let pixels = (0..self.size[0] * self.size[1]).flat_map(|i| {
            let [x, y] = [i % self.size[0], i / self.size[0]];
            let [columns, rows] = [x, y].map(|v| v as f64);
            let position = [
                if self.chroma[0] == self.size[0] { columns } else { columns / 2.0 },
                if self.chroma[1] == self.size[1] { rows } else { (rows - 0.5) / 2.0 },
            ];
            // Linear interpolation with clamped edges, computed differently than in the kernel.
            let taps = |axis: usize| {
                let last = self.chroma[axis] as isize - 1;
                let base = position[axis].floor() as isize;
                [base, base + 1]
                    .map(|at| (at.clamp(0, last) as usize, 1.0 - (position[axis] - at as f64).abs()))
            };
            let mut uv = [0.0; 2];
            for (row, down) in taps(1) {
                for (column, across) in taps(0) {
                    let found = self.uv[row * self.chroma[0] + column];
                    (0..2).for_each(|i| uv[i] += down * across * (code(found[i]) - grey) / span);
                }
            }
            let [u, v] = if yuv.swapped { [uv[1], uv[0]] } else { uv };
            let luma = (code(self.luma[i]) - black) / (white - black);
            let r = luma + 2.0 * (1.0 - red) * v;
            let b = luma + 2.0 * (1.0 - blue) * u;
            // Green is the rest of luma.
            let g = (luma - red * r - blue * b) / (1.0 - red - blue);
            [r, g, b].map(|v| (255.0 * v.clamp(0.0, 1.0)).round() as u8)
        });
        Picture::new(self.size[0], self.size[1], pixels.collect()).unwrap()
    }

    fn bytes(&self) -> [Vec<u8>; 2] {
        let store =
            |v: &u16| if self.ten_bit { v.to_le_bytes().to_vec() } else { vec![u8::try_from(*v).unwrap()] };
        [self.luma.iter().flat_map(store).collect(), self.uv.as_flattened().iter().flat_map(store).collect()]
    }

    /// Creates textures of the planes, as the last of `layers` layers.
    fn textures(&self, gpu: &Gpu, layers: usize) -> [wgpu::Texture; 2] {
        use TextureFormat as F;
        let formats = if self.ten_bit { [F::R16Unorm, F::Rg16Unorm] } else { [F::R8Unorm, F::Rg8Unorm] };
        let [luma, uv] = self.bytes();
        let plane = |size, format, bytes: &[u8]| {
            let empty = vec![0; bytes.len()];
            let mut all = vec![&empty[..]; layers];
            all[layers - 1] = bytes;
            upload(gpu, size, format, TextureUsages::TEXTURE_BINDING, &all)
        };
        [plane(self.size, formats[0], &luma), plane(self.chroma, formats[1], &uv)]
    }
}

/// The luma coefficients of red and blue.
fn coefficients(matrix: YuvMatrix) -> [f64; 2] {
    match matrix {
        YuvMatrix::Bt601 => [0.299, 0.114],
        YuvMatrix::Bt709 => [0.2126, 0.0722],
        YuvMatrix::Bt2020 => [0.2627, 0.0593],
    }
}

/// The codes of black and white, and the range of chroma, in 8 or 10 bits.
fn codes(range: YuvRange, ten_bit: bool) -> [f64; 3] {
    match (range, ten_bit) {
        (YuvRange::Limited, false) => [16.0, 235.0, 224.0],
        (YuvRange::Limited, true) => [64.0, 940.0, 896.0],
        (YuvRange::Full, false) => [0.0, 255.0, 255.0],
        (YuvRange::Full, true) => [0.0, 1023.0, 1023.0],
    }
}

const SUBSAMPLED: [[bool; 2]; 3] = [[true, true], [true, false], [false, false]];
const MATRICES: [YuvMatrix; 3] = [YuvMatrix::Bt601, YuvMatrix::Bt709, YuvMatrix::Bt2020];

#[test]
fn encoded_planes_decode_to_the_picture() {
    // Encoding and decoding in this file lose only rounding, without subsampling.
    let picture = picture(23, 17);
    for matrix in MATRICES {
        for range in [YuvRange::Limited, YuvRange::Full] {
            for (ten_bit, swapped, most) in [(false, false, 3), (false, true, 3), (true, false, 1)] {
                let yuv = Yuv { matrix, range, swapped };
                let back = Frame::new(&picture, yuv, [false; 2], ten_bit).picture(yuv);
                let apart = back.pixels().iter().zip(picture.pixels()).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(apart.unwrap() <= most, "{yuv:?}, 10 bits: {ten_bit}: {apart:?}");
            }
        }
    }
}

#[test]
fn planes_match_the_decoded_picture_on_the_cpu() {
    let scaled = preprocessing(Resize::Exact([20, 24]), None, Filter::Bilinear);
    for gpu in common::gpus_with(Features::TEXTURE_FORMAT_16BIT_NORM) {
        let sixteen = gpu.device().features().contains(Features::TEXTURE_FORMAT_16BIT_NORM);
        let mut worst = 0f32;
        for (width, height) in [(37, 29), (36, 28), (1, 5), (5, 1)] {
            let picture = picture(width, height);
            // Every texel separately.
            let nearest = preprocessing(Resize::Exact([height, width]), None, Filter::Nearest);
            for matrix in MATRICES {
                for range in [YuvRange::Limited, YuvRange::Full] {
                    for halved in SUBSAMPLED {
                        for (ten_bit, swapped) in [(false, false), (false, true), (true, false)] {
                            if ten_bit && !sixteen {
                                continue;
                            }
                            let yuv = Yuv { matrix, range, swapped };
                            let frame = Frame::new(&picture, yuv, halved, ten_bit);
                            let shown = frame.picture(yuv);
                            let [luma, chroma] = frame.textures(&gpu, 1);
                            for how in [nearest, scaled] {
                                let source = |session: &Session| {
                                    session.source_yuv(&luma, &chroma, SourceOptions::default(), yuv).unwrap()
                                };
                                worst = worst.max(check_source(&gpu, &shown, &how, source));
                            }
                        }
                    }
                }
            }
        }
        println!("{}: {worst} levels at worst, 16 bits: {sixteen}", gpu.adapter());
    }
}

#[test]
fn mirrored_region_of_a_layer_of_planes_matches_that_picture() {
    let (yuv, whole) = (Yuv::default(), picture(61, 47));
    for gpu in common::gpus() {
        for halved in SUBSAMPLED {
            let frame = Frame::new(&whole, yuv, halved, false);
            let shown = frame.picture(yuv);
            let layers = if has_layers(&gpu) { 3 } else { 1 };
            let [luma, chroma] = frame.textures(&gpu, layers);
            let layer = layers as u32 - 1;
            for region @ [_, _, width, height] in [[13, 9, 31, 29], [6, 4, 30, 28], [0, 11, 61, 36]] {
                for mirrored in [[false, false], [true, false], [true, true]] {
                    let options =
                        SourceOptions { region: Some(region), layer, mirrored, ..SourceOptions::default() };
                    let part = part(&shown, options);
                    for how in [
                        preprocessing(
                            Resize::Exact([height as usize, width as usize]),
                            None,
                            Filter::Nearest,
                        ),
                        grey(preprocessing(Resize::Exact([24, 20]), None, Filter::Linear)),
                        Preprocessing {
                            colours: Colours::Bgr,
                            ..preprocessing(Resize::Exact([24, 20]), None, Filter::Bicubic)
                        },
                    ] {
                        let source =
                            |session: &Session| session.source_yuv(&luma, &chroma, options, yuv).unwrap();
                        check_source(&gpu, &part, &how, source);
                    }
                }
            }
        }
    }
}

#[test]
fn sample_of_planes_matches_its_reference() {
    // The tabulated coefficients of BT.601's limited range.
    let (high, low) = (255.0 / 224.0, 255.0 / 219.0);
    let planes = |halved, swapped| Planes {
        black: 16.0 / 255.0,
        gain: low,
        grey: 128.0 / 255.0,
        red_of_v: 1.402 * high,
        green_of_u: -0.344_136 * high,
        green_of_v: -0.714_136 * high,
        blue_of_u: 1.772 * high,
        halved,
        swapped,
    };
    for gpu in common::gpus() {
        for (halved, swapped) in SUBSAMPLED.into_iter().zip([false, true, false]) {
            let yuv = Yuv { matrix: YuvMatrix::Bt601, range: YuvRange::Limited, swapped };
            let frame = Frame::new(&picture(31, 45), yuv, halved, false);
            let [luma, chroma] = frame.textures(&gpu, 1);
            let how = preprocessing(Resize::Exact([45, 31]), None, Filter::Nearest);
            let network = identity_network(how, [45, 31]);
            let session = Session::for_pictures(&gpu, &network, [45, 31], Options::default()).unwrap();
            let source = session.source_yuv(&luma, &chroma, SourceOptions::default(), yuv).unwrap();
            let found = run_source(&gpu, &session, &source).remove(0);
            let planes = planes(halved, swapped);
            let sampling = Sampling {
                region: [0, 0, 31, 45],
                mirrored: [false; 2],
                rows_first: false,
                texels: Texels::Planes(planes),
                encode: false,
                scaled: [45, 31],
                scale: [1.0; 2],
                crop: [0, 0],
                filter: sample::Filter::Nearest,
                grid: sample::Grid::Area,
                colours: sample::Colours::Rgb,
                mean: how.mean.values().try_into().unwrap(),
                std: how.std.values().try_into().unwrap(),
            };
            let level = |v: u16| f32::from(v) / 255.0;
            let shown = sample::colours(
                &planes,
                frame.chroma.map(|side| side as u32),
                |x, y| level(frame.luma[y as usize * 31 + x as usize]),
                |x, y| frame.uv[y as usize * frame.chroma[0] + x as usize].map(level),
            );
            let expected = sample::reference(&sampling, Shape::new(1, 3, 45, 31), shown);
            let off = levels(&found, &expected, &how);
            assert!(off <= 1.01, "{halved:?} on {}: {off}", gpu.adapter());
        }
    }
}

#[test]
fn texture_of_two_planes_serves_as_luma_and_chroma() {
    let (yuv, picture) = (Yuv::default(), picture(38, 30));
    let how = preprocessing(Resize::Exact([20, 24]), None, Filter::Bilinear);
    let planar = [
        (Features::TEXTURE_FORMAT_NV12, TextureFormat::NV12, false),
        (Features::TEXTURE_FORMAT_P010 | Features::TEXTURE_FORMAT_16BIT_NORM, TextureFormat::P010, true),
    ];
    for gpu in common::gpus_with(planar[0].0 | planar[1].0) {
        for (features, format, ten_bit) in planar {
            let has = gpu.device().features().contains(features);
            println!("{}: {format:?} {has}", gpu.adapter());
            if !has {
                continue;
            }
            let frame = Frame::new(&picture, yuv, [true; 2], ten_bit);
            let size = wgpu::Extent3d { width: 38, height: 30, depth_or_array_layers: 1 };
            let texture = gpu.device().create_texture(&wgpu::TextureDescriptor {
                label: None,
                size,
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format,
                usage: TextureUsages::TEXTURE_BINDING | TextureUsages::COPY_DST,
                view_formats: &[],
            });
            let planes = [(wgpu::TextureAspect::Plane0, 1), (wgpu::TextureAspect::Plane1, 2)];
            for ((aspect, step), bytes) in planes.into_iter().zip(frame.bytes()) {
                let size = wgpu::Extent3d { width: 38 / step, height: 30 / step, ..size };
                let to = wgpu::TexelCopyTextureInfo { aspect, ..texture.as_image_copy() };
                let layout = wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(bytes.len() as u32 / size.height),
                    rows_per_image: None,
                };
                gpu.queue().write_texture(to, &bytes, layout, size);
            }
            let source = |session: &Session| {
                session.source_yuv(&texture, &texture, SourceOptions::default(), yuv).unwrap()
            };
            check_source(&gpu, &frame.picture(yuv), &how, source);
            let session =
                Session::for_pictures(&gpu, &identity_network(how, [20, 24]), [30, 38], Options::default());
            let error =
                session.unwrap().source(&texture, SourceOptions::default()).err().unwrap().to_string();
            assert!(error.contains("source_yuv") && error.contains(&format!("{format:?}")), "{error}");
        }
    }
}

#[test]
fn mismatched_planes_are_errors() {
    let how = preprocessing(Resize::Short(16), None, Filter::Bilinear);
    for gpu in common::gpus() {
        let network = identity_network(how, [16, 20]);
        let session = Session::for_pictures(&gpu, &network, [16, 20], Options::default()).unwrap();
        let plane = |size: [usize; 2], format: TextureFormat| {
            let bytes = vec![128; size[0] * size[1] * format.block_copy_size(None).unwrap() as usize];
            upload(&gpu, size, format, TextureUsages::TEXTURE_BINDING, &[&bytes])
        };
        let refused = |luma: &wgpu::Texture, chroma: &wgpu::Texture, options, word: &str| {
            let error =
                session.source_yuv(luma, chroma, options, Yuv::default()).err().expect("it is refused");
            let found = matches!(&error, Error::Input(reason) if reason.contains(word));
            assert!(found && error.to_string().lines().count() == 1, "{error}");
        };
        use TextureFormat as F;
        let (luma, chroma) = (plane([20, 16], F::R8Unorm), plane([10, 8], F::Rg8Unorm));
        let all = SourceOptions::default();
        assert!(session.source_yuv(&luma, &chroma, all, Yuv::default()).is_ok());
        refused(&chroma, &luma, all, "luma of Rg8Unorm and chroma of R8Unorm");
        refused(&luma, &luma, all, "chroma of R8Unorm");
        refused(&plane([20, 16], F::Rgba8Unorm), &chroma, all, "luma of Rgba8Unorm");
        for size in [[5, 4], [20, 8], [9, 8], [11, 8], [10, 7]] {
            refused(&luma, &plane(size, F::Rg8Unorm), all, &format!("chroma of {} x {}", size[0], size[1]));
        }
        refused(&luma, &chroma, SourceOptions { layer: 1, ..all }, "no layer 1");
        refused(&luma, &chroma, SourceOptions { region: Some([1, 0, 20, 16]), ..all }, "region");
    }
}

#[test]
fn channel_mismatch_is_an_error() {
    let how = preprocessing(Resize::Exact([8, 8]), None, Filter::Bilinear);
    for device in common::devices() {
        for (preprocessing, takes) in [(how, 4), (how, 1), (grey(how), 3)] {
            let network = goldcrest::zoo::Network { preprocessing, ..identity_network(how, [8, 8]) };
            let network = goldcrest::zoo::Network { channels: takes, ..network };
            let gives = preprocessing.colours.channels();
            let error = Session::for_pictures(device.clone(), &network, [8, 8], Options::default());
            let error = error.err().expect("it is refused").to_string();
            let words = format!("takes {takes} channels, a picture gives {gives}");
            assert!(error.contains(&words) && error.lines().count() == 1, "{error}");
        }
    }
}
