//! Every kernel compared with its reference on random shapes, on every adapter.

mod common;

use std::sync::Arc;

use common::cases::{
    Case, accumulation_error, check_argmax, convolution, dispatch, gate_on_device, noise, on_device,
    on_every_adapter, relative_bound, rounded, storage_error,
};
use goldcrest::{
    Shape, Tensor,
    cpu::{self, Cpu},
    gpu::Gpu,
    graph::{Activation, Anchors, Conv, Graph, MaxPool, NO_CLASS, Op, Padding, Select},
    kernels::{
        self, Launch, MatrixUnits, Subgroup, Tile, argmax, boxes, broadcast, copy, dense, depthwise,
        exchange, matrix, max_pool, multiply_add,
        pointwise::{self, Extras},
        pointwise_pool, pointwise_split, pointwise_subgroup, pool, resize, scale, select, softmax, staged,
    },
    tensor::{Element, Form, layout},
};
use proptest::prelude::*;

/// The error of f32 sums in another order than the reference's f64. [`storage_error`] adds the rounding of
/// stored values.
const TOLERANCE: f64 = 2e-6;

/// Picks one of the tiles.
fn pick<T: Copy>(tiles: impl Iterator<Item = T>, which: usize) -> T {
    let tiles: Vec<T> = tiles.collect();
    tiles[which % tiles.len()]
}

/// Runs a convolution's launch and compares it with `reference`.
fn compare(
    gpu: &Gpu,
    element: Element,
    case: &Case,
    packed: &[f32],
    launch: impl Fn(bool) -> Launch,
    reference: impl Fn(&Tensor, Option<&Tensor>) -> Tensor,
) -> Result<(), TestCaseError> {
    let (x, y) = (case.x, case.y());
    let input = rounded(&noise(<[usize; 4]>::from(x), case.seed ^ 3), element);
    let residual = case.residual.then(|| rounded(&noise(<[usize; 4]>::from(y), case.seed ^ 4), element));
    let expected = reference(&input, residual.as_ref());
    let device_x = on_device(&input);
    let device_residual = residual.as_ref().map_or(device_x.clone(), on_device);
    let launch = launch(case.residual);
    let mut reads = vec![&device_x[..], packed];
    let bias = kernels::pack_bias(&case.conv);
    reads.extend([&bias[..], &device_residual]);
    // A gate, if the shader has one, is bound but not read.
    reads.resize(launch.shader.reads.len(), &device_x);
    let out = dispatch(gpu, &launch, element, &reads, layout::len(y))?;
    let error = common::distance(&layout::from_device(y, &out), &expected);
    let sums = (launch.arithmetic != Element::F32)
        .then(|| accumulation_error(&case.conv, &input, y, launch.arithmetic));
    let bound = TOLERANCE + relative_bound(&storage_error(&expected, sums.as_ref(), element), &expected);
    prop_assert!(error <= bound, "{} {:?}: error {error:e}", launch.shader.name, launch.constants);
    Ok(())
}

/// [`compare`] for pointwise kernels.
fn compare_product(
    gpu: &Gpu,
    element: Element,
    case: &Case,
    packed: &[f32],
    launch: impl Fn(Extras) -> Launch,
) -> Result<(), TestCaseError> {
    let launch = |residual| launch(Extras { residual, gate: false });
    let reference =
        |x: &Tensor, residual: Option<&Tensor>| pointwise::reference(&case.conv, x, case.y(), residual);
    compare(gpu, element, case, packed, launch, reference)
}

#[test]
fn pointwise_matches_its_reference() {
    on_every_adapter(convolution(false, false), |gpu, element, case| {
        let case = &case.stored_as(element);
        let tile = with_depth(pick(pointwise::tiles(element), case.tile), case.seed);
        let (conv, x, y) = (&case.conv, case.x, case.y());
        compare_product(gpu, element, case, &pointwise::pack(conv), |extras| {
            pointwise::launch(conv, x, y, extras, tile)
        })
    });
}

#[test]
fn pointwise_subgroup_matches_its_reference() {
    on_every_adapter(convolution(false, false), |gpu, element, case| {
        let Some(subgroup) = gpu.subgroup() else { return Ok(()) };
        let case = &case.stored_as(element);
        let tile = pick(pointwise_subgroup::tiles(), case.tile);
        let (conv, x, y) = (&case.conv, case.x, case.y());
        compare_product(gpu, element, case, &pointwise::pack(conv), |extras| {
            pointwise_subgroup::launch(conv, x, y, extras, tile, subgroup)
        })
    });
}

#[test]
fn matrix_matches_its_reference() {
    for windowed in [false, true] {
        on_every_adapter(convolution(windowed, false), |gpu, element, case| {
            let Some(units) = gpu.matrix_units(element) else { return Ok(()) };
            let case = &case.stored_as(element);
            let tile = pick(matrix::TILES.into_iter(), case.tile);
            let (conv, x, y, window) = (&case.conv, case.x, case.y(), case.window());
            let packed = matrix::pack(conv, units.side);
            // As many subgroups as subtiles, half as many, one, and more.
            let Subgroup { least, most } = units.subgroup;
            for (least, most) in [(least, most), (most / 2, most), (most / 4, most), (least, 8 * most)] {
                let units = MatrixUnits { subgroup: Subgroup { least, most }, ..units };
                compare(
                    gpu,
                    element,
                    case,
                    &packed,
                    |residual| {
                        let extras = Extras { residual, gate: false };
                        matrix::launch(conv, x, y, window, extras, units, tile)
                    },
                    |x, residual| dense::reference(conv, x, y, window, residual),
                )?;
            }
            Ok(())
        });
    }
}

#[test]
fn pointwise_pool_matches_its_reference() {
    on_every_adapter(convolution(false, false), |gpu, element, case| {
        let case = &case.stored_as(element);
        let depth = 1 << (case.seed % 3);
        let tile = pointwise_pool::Tile { depth, ..pick(pointwise_pool::Tile::all(), case.tile) };
        let (conv, x, y) = (&case.conv, case.x, case.y());
        let input = rounded(&noise(<[usize; 4]>::from(x), case.seed ^ 3), element);
        let expected = pointwise_pool::reference(conv, &input, y);
        let launch = pointwise_pool::launch(conv, x, y, tile);
        let reads = [&on_device(&input)[..], &pointwise::pack(conv), &kernels::pack_bias(conv)];
        let means = Shape { h: 1, w: 1, ..y };
        let out = dispatch(gpu, &launch, element, &reads, layout::len(means))?;
        let error = common::distance(&layout::from_device(means, &out), &expected);
        // A mean may be far smaller than the values.
        let largest = pool::reference(&magnitudes(&pointwise::reference(conv, &input, y, None)));
        let rounding = TOLERANCE * norm(&largest) / norm(&expected).max(f64::MIN_POSITIVE);
        let bound =
            TOLERANCE + rounding + relative_bound(&storage_error(&expected, None, element), &expected);
        prop_assert!(error <= bound, "{:?}: error {error:e}", launch.constants);
        Ok(())
    });
}

fn magnitudes(tensor: &Tensor) -> Tensor {
    Tensor::from_fn(tensor.dims(), |i| tensor.data()[i].abs())
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.data().iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn pointwise_split_matches_its_reference() {
    on_every_adapter(convolution(false, false), |gpu, element, case| {
        let case = &case.stored_as(element);
        let (conv, x, y) = (&case.conv, case.x, case.y());
        compare(
            gpu,
            element,
            case,
            &pointwise::pack(conv),
            |residual| {
                let tile = with_depth(pick(pointwise_split::tiles(), case.tile), case.seed);
                pointwise_split::launch(conv, x, y, Extras { residual, gate: false }, tile)
            },
            |x, residual| pointwise::reference(conv, x, y, residual),
        )
    });
}

/// The tile with the loads of one to four loop iterations in flight together.
fn with_depth(tile: Tile, seed: u64) -> Tile {
    Tile { depth: 1 + (seed % 4) as u32, ..tile }
}

/// Picks one of the staged kernel's tiles that fit the device's workgroup memory.
fn staged_tile(gpu: &Gpu, element: Element, y: Shape, which: usize) -> Tile {
    let memory = gpu.machine(element).workgroup_memory;
    pick(staged::tiles().filter(|tile| staged::memory(*tile, y, element) <= memory), which)
}

#[test]
fn staged_matches_its_reference() {
    for windowed in [false, true] {
        on_every_adapter(convolution(windowed, false), |gpu, element, case| {
            let case = &case.stored_as(element);
            let (conv, x, y, window) = (&case.conv, case.x, case.y(), case.window());
            let tile = staged_tile(gpu, element, y, case.tile);
            compare(
                gpu,
                element,
                case,
                &dense::pack(conv),
                |residual| staged::launch(conv, x, y, window, Extras { residual, gate: false }, tile),
                |x, residual| dense::reference(conv, x, y, window, residual),
            )
        });
    }
}

#[test]
fn depthwise_matches_its_reference() {
    on_every_adapter(convolution(true, true), |gpu, element, case| {
        let case = &case.stored_as(element);
        let tile = pick(depthwise::tiles(), case.tile);
        let (conv, x, y, window) = (&case.conv, case.x, case.y(), case.window());
        compare(
            gpu,
            element,
            case,
            &depthwise::pack(conv),
            |residual| depthwise::launch(conv, x, y, window, residual, tile),
            |x, residual| depthwise::reference(conv, x, y, window, residual),
        )
    });
}

#[test]
fn dense_matches_its_reference() {
    on_every_adapter(convolution(true, false), |gpu, element, case| {
        let case = &case.stored_as(element);
        let tile = pick(dense::tiles(), case.tile);
        let (conv, x, y, window) = (&case.conv, case.x, case.y(), case.window());
        compare(
            gpu,
            element,
            case,
            &dense::pack(conv),
            |residual| dense::launch(conv, x, y, window, residual, tile),
            |x, residual| dense::reference(conv, x, y, window, residual),
        )
    });
}

fn shapes() -> impl Strategy<Value = (Shape, u64)> {
    (1..4usize, 1..70usize, 1..20usize, 1..20usize, any::<u64>())
        .prop_map(|(n, c, h, w, seed)| (Shape::new(n, c, h, w), seed))
}

/// Compares a kernel without weights with its expected output.
fn compare_plain(
    gpu: &Gpu,
    element: Element,
    launch: &Launch,
    reads: &[&Tensor],
    expected: &Tensor,
) -> Result<(), TestCaseError> {
    let reads: Vec<Vec<f32>> = reads.iter().map(|t| on_device(t)).collect();
    let reads: Vec<&[f32]> = reads.iter().map(Vec::as_slice).collect();
    let y = expected.shape().unwrap();
    let out = dispatch(gpu, launch, element, &reads, layout::len(y))?;
    let error = common::distance(&layout::from_device(y, &out), expected);
    let bound = TOLERANCE + relative_bound(&storage_error(expected, None, element), expected);
    prop_assert!(error <= bound, "{}: error {error:e}", launch.shader.name);
    Ok(())
}

#[test]
fn pool_matches_its_reference() {
    on_every_adapter(shapes(), |gpu, element, &(x, seed)| {
        let input = rounded(&noise(<[usize; 4]>::from(x), seed), element);
        compare_plain(gpu, element, &pool::launch(x), &[&input], &pool::reference(&input))
    });
}

#[test]
fn max_pool_matches_its_reference() {
    on_every_adapter((shapes(), 1..6usize, 1..4usize), |gpu, element, &((x, seed), kernel, stride)| {
        let pool = MaxPool { kernel, stride };
        let Some(window) = pool.window(x.h, x.w) else { return Ok(()) };
        let y = Shape { h: window.height, w: window.width, ..x };
        // All negative: zeros beyond the edge would win.
        let noise = noise(<[usize; 4]>::from(x), seed);
        let below = Tensor::from_fn(noise.dims(), |i| noise.data()[i] - 2.0);
        let input = rounded(&below, element);
        let expected = max_pool::reference(pool, &input, y, window);
        compare_plain(gpu, element, &max_pool::launch(pool, x, y, window), &[&input], &expected)
    });
}

#[test]
fn scale_matches_its_reference() {
    on_every_adapter(shapes(), |gpu, element, &(x, seed)| {
        let input = rounded(&noise(<[usize; 4]>::from(x), seed), element);
        let gate = rounded(&noise([x.n, x.c, 1, 1], seed ^ 1), element);
        compare_plain(gpu, element, &scale::launch(x), &[&input, &gate], &scale::reference(&input, &gate))
    });
}

#[test]
fn resize_matches_its_reference() {
    on_every_adapter((shapes(), 1..40usize, 1..40usize), |gpu, element, &((x, seed), h, w)| {
        let input = rounded(&noise(<[usize; 4]>::from(x), seed), element);
        let y = Shape { h, w, ..x };
        compare_plain(gpu, element, &resize::launch(x, y), &[&input], &resize::reference(&input, y))?;
        let same = dispatch(gpu, &resize::launch(x, x), element, &[&on_device(&input)], layout::len(x))?;
        prop_assert_eq!(layout::from_device(x, &same), input);
        Ok(())
    });
}

/// Runs the argmax kernel, and returns the labels.
fn run_argmax(gpu: &Gpu, element: Element, input: &Tensor, y: Shape) -> Result<Tensor, TestCaseError> {
    let launch = argmax::launch(input.shape().unwrap(), y);
    let words = dispatch(gpu, &launch, element, &[&on_device(input)], argmax::words(y))?;
    let words: Vec<u32> = words.into_iter().map(f32::to_bits).collect();
    Ok(Form::Labels.tensor(y, bytemuck::cast_slice(&words)))
}

#[test]
fn argmax_matches_its_reference() {
    on_every_adapter((shapes(), 1..40usize, 1..40usize), |gpu, element, &((x, seed), h, w)| {
        let noise = rounded(&noise(<[usize; 4]>::from(x), seed), element);
        // Every second channel equals the preceding one, which must win.
        let plane = x.h * x.w;
        let input = Tensor::from_fn(noise.dims(), |i| noise.data()[i - i / plane % x.c % 2 * plane]);
        let y = Shape { c: 1, h, w, ..x };
        for found in [run_argmax(gpu, element, &input, y)?, argmax::reference(&input, y)] {
            check_argmax(&found, &input, y)?;
            prop_assert!(found.data().iter().all(|channel| channel % 2.0 == 0.0));
        }
        Ok(())
    });
}

#[test]
fn argmax_returns_the_first_of_ties() {
    // Few distinct values, and sizes for which interpolation is exact.
    let size = || prop::sample::select(&[1usize, 2, 4, 8, 16][..]);
    let channels = prop_oneof![1..30usize, 250..=usize::from(NO_CLASS)];
    let sizes = (1..4usize, channels, [size(), size()], [size(), size()], any::<u64>());
    on_every_adapter(sizes, |gpu, element, &(n, c, [h, w], [out_h, out_w], seed)| {
        let noise = noise([n, c, h, w], seed);
        let input = Tensor::from_fn(noise.dims(), |i| (noise.data()[i] * 3.0).round() - 4.0);
        let y = Shape::new(n, 1, out_h, out_w);
        prop_assert_eq!(run_argmax(gpu, element, &input, y)?, argmax::reference(&input, y));
        Ok(())
    });
}

#[test]
fn softmax_matches_its_reference() {
    let sizes = (shapes(), 1..7usize, 1..30usize);
    on_every_adapter(sizes, |gpu, element, &((x, seed), each, classes)| {
        let x = Shape { c: each * classes, ..x };
        let y = Shape::new(x.n, x.h * x.w * each, 1, classes);
        // The exponentials of these values overflow.
        let noise = noise(<[usize; 4]>::from(x), seed);
        let spread = Tensor::from_fn(noise.dims(), |i| noise.data()[i] * 5.0 + 500.0);
        let input = rounded(&spread, element);
        let launch = softmax::launch(x, y);
        let out = dispatch(gpu, &launch, element, &[&on_device(&input)], layout::len(y))?;
        // The output is always f32.
        let error = common::distance(&layout::from_device(y, &out), &softmax::reference(&input, classes));
        prop_assert!(error <= TOLERANCE, "error {error:e}");
        let mut padding = out.chunks(4 * y.quads()).flat_map(|anchors| &anchors[y.c..]);
        prop_assert!(padding.all(|v| *v == 0.0));
        Ok(())
    });
}

#[test]
fn boxes_match_their_reference() {
    let levels = prop::collection::vec((1..6usize, 1..6usize).prop_map(|(h, w)| [h, w]), 1..4);
    let sizes = (1..4usize, levels, 0..3usize, [1..400usize, 1..400usize], any::<u64>());
    on_every_adapter(sizes, |gpu, element, (n, levels, ratios, picture, seed)| {
        let scales = (0..=levels.len()).map(|level| 0.01 + 0.01 * level as f64).collect();
        let anchors = Anchors { scales, ratios: vec![2.0, 3.0][..*ratios].to_vec() };
        let pixels = levels.iter().map(|[h, w]| h * w).sum();
        let x = Shape::new(*n, 4 * anchors.each(), 1, pixels);
        let y = Shape::new(*n, 4, 1, pixels * anchors.each());
        let anchors = anchors.over(levels, *picture);
        // Small boxes, some of which grow to the limit of their size, and some of which leave the picture.
        let noise = noise(<[usize; 4]>::from(x), *seed);
        let input = rounded(&Tensor::from_fn(noise.dims(), |i| noise.data()[i] * 25.0), element);
        let reads = [&on_device(&input)[..], anchors.as_flattened()];
        let out = dispatch(gpu, &boxes::launch(x, y, *picture), element, &reads, layout::len(y))?;
        let expected = boxes::reference(&input, &anchors, *picture);
        let error = common::distance(&layout::from_device(y, &out), &expected);
        prop_assert!(error <= TOLERANCE, "error {error:e}");
        Ok(())
    });
}

#[test]
fn select_matches_its_reference() {
    let sizes = (1..3usize, prop_oneof![1..40usize, 200..2000usize], 2..5usize, any::<u64>());
    let select = (0..20usize, 1..90usize)
        .prop_map(|(sixteenths, most)| Select { threshold: sixteenths as f32 / 16.0, most });
    let ties = any::<bool>();
    on_every_adapter((sizes, select, ties), |gpu, element, &((n, anchors, classes, seed), select, ties)| {
        let x = Shape::new(n, anchors, 1, classes);
        let noise = noise(<[usize; 4]>::from(x), seed);
        // All values distinct, or few distinct values, some of them not finite.
        let scores = Tensor::from_fn(noise.dims(), |i| match (ties, (noise.data()[i] * 16.0).round()) {
            (false, _) => noise.data()[i].abs(),
            (true, -16.0) => f32::NAN,
            (true, -15.0) => f32::INFINITY,
            (true, -14.0) => f32::NEG_INFINITY,
            (true, sixteenths) => sixteenths / 16.0,
        });
        let expected = select::reference(&scores, select);
        let y = expected.shape().unwrap();
        let launch = select::launch(x, select);
        let out = dispatch(gpu, &launch, element, &[&on_device(&scores)], layout::len(y))?;
        prop_assert_eq!(comparable(&layout::from_device(y, &out)), comparable(&expected));
        Ok(())
    });
}

#[test]
fn pixel_with_a_non_finite_score_has_no_class() {
    let x = Shape::new(1, 6, 2, 5);
    // Four pixels: in the first channel, in two middle ones, and in the last.
    let non_finite = |at: usize| match (at / 10, at % 10) {
        (0, 1) | (3, 4) => Some(f32::NAN),
        (5, 7) => Some(f32::INFINITY),
        (2, 8) => Some(f32::NEG_INFINITY),
        _ => None,
    };
    let input = Tensor::from_fn(<[usize; 4]>::from(x), |at| non_finite(at).unwrap_or((at * 7 % 13) as f32));
    let expected = argmax::reference(&input, Shape { c: 1, ..x });
    let unlabelled = |pixel: usize| expected.data()[pixel] == f32::from(NO_CLASS);
    // Neighbours have the weight 0 here, but 0 times a non-finite value is NaN.
    assert!([1, 4, 7, 8].into_iter().all(unlabelled) && ![5, 9].into_iter().any(unlabelled));
    for gpu in common::gpus() {
        for element in gpu.elements() {
            assert_eq!(run_argmax(&gpu, element, &input, Shape { c: 1, ..x }).unwrap(), expected);
        }
    }
}

/// NaN as -1, so that results can be compared.
fn comparable(kept: &Tensor) -> Tensor {
    Tensor::from_fn(kept.dims(), |i| if kept.data()[i].is_nan() { -1.0 } else { kept.data()[i] })
}

#[test]
fn dense_with_large_dilations_matches_its_reference() {
    // Wide enough for DeepLabV3's outermost taps to lie on the map.
    let x = Shape::new(1, 4, 41, 79);
    let input = noise(<[usize; 4]>::from(x), 3);
    for dilation in [12, 24, 36] {
        let conv = Conv {
            weight: Arc::new(noise([8, 4, 3, 3], 5)),
            bias: None,
            stride: 1,
            dilation,
            padding: Padding::Symmetric,
            groups: 1,
            activation: Activation::Relu,
            linear: false,
        };
        let (window, y) = (conv.window(x.h, x.w).unwrap(), Shape { c: 8, ..x });
        let expected = dense::reference(&conv, &input, y, window, None);
        for gpu in common::gpus() {
            for tile in [Tile::new(7, 2), Tile::ONE] {
                let launch = dense::launch(&conv, x, y, window, false, tile);
                let reads =
                    [&on_device(&input)[..], &dense::pack(&conv), &kernels::pack_bias(&conv), &[0.0; 16]];
                let out = dispatch(&gpu, &launch, Element::F32, &reads, layout::len(y)).unwrap();
                assert!(
                    common::distance(&layout::from_device(y, &out), &expected) <= TOLERANCE,
                    "{dilation}"
                );
            }
        }
        let mut graph = Graph::default();
        let picture = graph.push("input", Op::Input(x.c), &[]);
        graph.push("conv", Op::Conv(conv), &[picture]);
        let cpu = Cpu::new(Some(2)).unwrap();
        let outputs = cpu::Executor::new(&cpu, &graph, x, false).unwrap().run(&input).unwrap();
        assert!(common::distance(&outputs[0], &expected) <= TOLERANCE, "{dilation} on the CPU");
    }
}

#[test]
fn probes_match_their_references() {
    on_every_adapter(shapes(), |gpu, element, &(x, seed)| {
        let input = rounded(&noise(<[usize; 4]>::from(x), seed), element);
        compare_plain(gpu, element, &copy::launch(x), &[&input], &copy::reference(&input))?;
        let rounds = (seed % 20) as u32;
        let launch = multiply_add::launch(x, rounds, Element::F32);
        compare_plain(gpu, element, &launch, &[&input], &multiply_add::reference(&input, rounds))?;
        let x = Shape { c: 4, ..x };
        let input = rounded(&noise(<[usize; 4]>::from(x), seed), element);
        let expected = exchange::reference(&input, rounds);
        compare_plain(gpu, element, &exchange::launch(x, rounds), &[&input], &expected)?;
        if gpu.subgroup().is_some() {
            let channels: Vec<f32> = input.data().iter().copied().step_by(x.h * x.w).take(4).collect();
            let uniform = Tensor::from_fn(input.dims(), |at| channels[at / (x.h * x.w) % 4]);
            let expected = broadcast::reference(&uniform, rounds);
            compare_plain(gpu, element, &broadcast::launch(x, rounds), &[&uniform], &expected)?;
        }
        Ok(())
    });
}

#[test]
fn workgroups_beyond_one_dimension_cover_every_value() {
    // More than 65,535 workgroups of 64 invocations.
    let x = Shape::new(1, 4, 2100, 2050);
    let input = noise(<[usize; 4]>::from(x), 7);
    let gate = noise([1, 4, 1, 1], 8);
    assert!(scale::launch(x).workgroups[1] > 1);
    for gpu in common::gpus() {
        for element in gpu.elements() {
            let (input, gate) = (rounded(&input, element), rounded(&gate, element));
            let expected = scale::reference(&input, &gate);
            compare_plain(&gpu, element, &scale::launch(x), &[&input, &gate], &expected).unwrap();
        }
    }
}

#[test]
fn workgroups_past_the_last_picture_write_nothing() {
    // More than fit a row of workgroups: two rows, with one workgroup too many.
    let x = Shape::new(65_537, 4, 1, 1);
    let input = noise(<[usize; 4]>::from(x), 7);
    let conv = Conv {
        weight: Arc::new(noise([4, 4, 1, 1], 9)),
        bias: None,
        stride: 1,
        dilation: 1,
        padding: Padding::Symmetric,
        groups: 1,
        activation: Activation::Relu,
        linear: false,
    };
    let tile = pointwise_pool::Tile { pixels: 1, workgroup_o: 1, depth: 1 };
    let both = pointwise_pool::launch(&conv, x, x, tile);
    let (scores, best) = (Shape { c: 4, w: 2, ..x }, Select { threshold: 0.5, most: 2 });
    for launch in [&pool::launch(x), &both, &select::launch(scores, best)] {
        assert!(launch.workgroups[0] * launch.workgroups[1] > 65_537, "{}", launch.shader.name);
    }
    // Each class keeps its last two.
    let candidates = Tensor::from_fn(<[usize; 4]>::from(scores), |i| (1 + i % 8) as f32 / 8.0);
    for gpu in common::gpus() {
        let kept = select::reference(&candidates, best);
        compare_plain(&gpu, Element::F32, &select::launch(scores, best), &[&candidates], &kept).unwrap();
        compare_plain(&gpu, Element::F32, &pool::launch(x), &[&input], &pool::reference(&input)).unwrap();
        let reads = [&on_device(&input)[..], &pointwise::pack(&conv), &kernels::pack_bias(&conv)];
        let out = dispatch(&gpu, &both, Element::F32, &reads, layout::len(x)).unwrap();
        let expected = pointwise_pool::reference(&conv, &input, x);
        assert!(common::distance(&layout::from_device(x, &out), &expected) <= TOLERANCE, "{}", gpu.adapter());
    }
}

#[test]
fn gated_pointwise_matches_scale_and_pointwise() {
    on_every_adapter(convolution(false, false), |gpu, element, case| {
        let case = &case.stored_as(element);
        let tile = with_depth(pick(pointwise::tiles(element), case.tile), case.seed);
        let (conv, x, y) = (&case.conv, case.x, case.y());
        let input = rounded(&noise(<[usize; 4]>::from(x), case.seed ^ 3), element);
        let gate = rounded(&noise([x.n, x.c, 1, 1], case.seed ^ 5), element);
        let scaled = scale::reference(&input, &gate);
        let expected = pointwise::reference(conv, &scaled, y, None);
        let extras = Extras { residual: false, gate: true };
        let split = with_depth(pick(pointwise_split::tiles(), case.tile), case.seed);
        let launches = [
            pointwise::launch(conv, x, y, extras, tile),
            pointwise_split::launch(conv, x, y, extras, split),
            staged::launch(conv, x, y, case.window(), extras, staged_tile(gpu, element, y, case.tile)),
        ];
        let mut kernels = launches.map(|launch| (launch, pointwise::pack(conv))).to_vec();
        if let Some(subgroup) = gpu.subgroup() {
            let tile = pick(pointwise_subgroup::tiles(), case.tile);
            let launch = pointwise_subgroup::launch(conv, x, y, extras, tile, subgroup);
            kernels.push((launch, pointwise::pack(conv)));
        }
        if let Some(units) = gpu.matrix_units(element) {
            let tile = pick(matrix::TILES.into_iter(), case.tile);
            let launch = matrix::launch(conv, x, y, case.window(), extras, units, tile);
            kernels.push((launch, matrix::pack(conv, units.side)));
        }
        let (x, gate) = (on_device(&input), gate_on_device(&gate));
        for (launch, packed) in kernels {
            let sums = accumulation_error(conv, &scaled, y, launch.arithmetic);
            let bound =
                TOLERANCE + relative_bound(&storage_error(&expected, Some(&sums), element), &expected);
            let reads = [&x[..], &packed, &kernels::pack_bias(conv), &x, &gate];
            let out = dispatch(gpu, &launch, element, &reads, layout::len(y))?;
            let error = common::distance(&layout::from_device(y, &out), &expected);
            prop_assert!(error <= bound, "{} {:?}: error {error:e}", launch.shader.name, launch.constants);
        }
        Ok(())
    });
}
