//! Every kernel against its plain reference on random shapes, on every adapter.

mod common;

use std::sync::Arc;

use common::cases::{
    Case, allowed, convolution, dispatch, gate_on_device, noise, on_device, on_every_adapter, rounded,
    stored, summed,
};
use goldcrest::{
    Shape, Tensor,
    gpu::Gpu,
    graph::{Activation, Conv, MaxPool, Padding},
    kernels::{
        self, Launch, copy, dense, depthwise, max_pool, multiply_add,
        pointwise::{self, Extras},
        pointwise_matrix, pointwise_pool, pointwise_split, pointwise_subgroup, pool, scale,
    },
    tensor::{Element, layout},
};
use proptest::prelude::*;

/// f32 sums in another order than the reference's f64. What is stored is rounded besides: see
/// [`stored`].
const TOLERANCE: f64 = 2e-6;

/// One of all tiles.
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
    // The gate, where there is one, is bound and not read.
    reads.resize(launch.shader.reads.len(), &device_x);
    let out = dispatch(gpu, &launch, element, &reads, layout::len(y))?;
    let error = common::distance(&layout::from_device(y, &out), &expected);
    let sums = (launch.arithmetic != Element::F32).then(|| summed(&case.conv, &input, y, launch.arithmetic));
    let bound = TOLERANCE + allowed(&stored(&expected, sums.as_ref(), element), &expected);
    prop_assert!(error <= bound, "{} {:?}: error {error:e}", launch.shader.name, launch.constants);
    Ok(())
}

/// [`compare`] for kernels that are a product of pixels by channels.
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
fn pointwise_is_its_reference() {
    on_every_adapter(convolution(false, false), |gpu, element, case| {
        let case = &case.stored_as(element);
        let tile = pick(pointwise::Tile::all(element), case.tile);
        let (conv, x, y) = (&case.conv, case.x, case.y());
        compare_product(gpu, element, case, &pointwise::pack(conv), |extras| {
            pointwise::launch(conv, x, y, extras, tile)
        })
    });
}

#[test]
fn pointwise_with_shared_weights_is_pointwise() {
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
fn pointwise_on_matrix_units_is_pointwise() {
    on_every_adapter(convolution(false, false), |gpu, element, case| {
        let Some(units) = gpu.matrix_units(element) else { return Ok(()) };
        let case = &case.stored_as(element);
        let tile = pick(pointwise_matrix::Tile::ALL.into_iter(), case.tile);
        let (conv, x, y) = (&case.conv, case.x, case.y());
        compare_product(gpu, element, case, &pointwise_matrix::pack(conv, units.side), |extras| {
            pointwise_matrix::launch(conv, x, y, extras, units, tile)
        })
    });
}

#[test]
fn pointwise_with_its_mean_is_both() {
    on_every_adapter(convolution(false, false), |gpu, element, case| {
        let case = &case.stored_as(element);
        let tile = pick(pointwise_pool::Tile::all(), case.tile);
        let (conv, x, y) = (&case.conv, case.x, case.y());
        let input = rounded(&noise(<[usize; 4]>::from(x), case.seed ^ 3), element);
        let expected = pointwise_pool::reference(conv, &input, y);
        let launch = pointwise_pool::launch(conv, x, y, tile);
        let reads = [&on_device(&input)[..], &pointwise::pack(conv), &kernels::pack_bias(conv)];
        let means = Shape { h: 1, w: 1, ..y };
        let out = dispatch(gpu, &launch, element, &reads, layout::len(means))?;
        let error = common::distance(&layout::from_device(means, &out), &expected);
        // A mean may be far smaller than what it is of.
        let largest = pool::reference(&magnitudes(&pointwise::reference(conv, &input, y, None)));
        let rounding = TOLERANCE * norm(&largest) / norm(&expected).max(f64::MIN_POSITIVE);
        let bound = TOLERANCE + rounding + allowed(&stored(&expected, None, element), &expected);
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
fn pointwise_split_is_pointwise() {
    on_every_adapter(convolution(false, false), |gpu, element, case| {
        let case = &case.stored_as(element);
        let (conv, x, y) = (&case.conv, case.x, case.y());
        compare(
            gpu,
            element,
            case,
            &pointwise::pack(conv),
            |residual| pointwise_split::launch(conv, x, y, residual),
            |x, residual| pointwise::reference(conv, x, y, residual),
        )
    });
}

#[test]
fn depthwise_is_its_reference() {
    on_every_adapter(convolution(true, true), |gpu, element, case| {
        let case = &case.stored_as(element);
        let columns = pick(depthwise::COLUMNS.into_iter(), case.tile);
        let (conv, x, y, window) = (&case.conv, case.x, case.y(), case.window());
        compare(
            gpu,
            element,
            case,
            &depthwise::pack(conv),
            |residual| depthwise::launch(conv, x, y, window, residual, columns),
            |x, residual| depthwise::reference(conv, x, y, window, residual),
        )
    });
}

#[test]
fn dense_is_its_reference() {
    on_every_adapter(convolution(true, false), |gpu, element, case| {
        let case = &case.stored_as(element);
        let tile = pick(dense::Tile::all(), case.tile);
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

fn map() -> impl Strategy<Value = (Shape, u64)> {
    (1..4usize, 1..70usize, 1..20usize, 1..20usize, any::<u64>())
        .prop_map(|(n, c, h, w, seed)| (Shape::new(n, c, h, w), seed))
}

/// One of the kernels without weights.
fn plain(
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
    let bound = TOLERANCE + allowed(&stored(expected, None, element), expected);
    prop_assert!(error <= bound, "{}: error {error:e}", launch.shader.name);
    Ok(())
}

#[test]
fn pool_is_its_reference() {
    on_every_adapter(map(), |gpu, element, &(x, seed)| {
        let input = rounded(&noise(<[usize; 4]>::from(x), seed), element);
        plain(gpu, element, &pool::launch(x), &[&input], &pool::reference(&input))
    });
}

#[test]
fn max_pool_is_its_reference() {
    on_every_adapter((map(), 1..6usize, 1..4usize), |gpu, element, &((x, seed), kernel, stride)| {
        let pool = MaxPool { kernel, stride };
        let Some(window) = pool.window(x.h, x.w) else { return Ok(()) };
        let y = Shape { h: window.height, w: window.width, ..x };
        // All below zero: a pixel beyond the edge must not count as one.
        let noise = noise(<[usize; 4]>::from(x), seed);
        let below = Tensor::from_fn(noise.dims(), |i| noise.data()[i] - 2.0);
        let input = rounded(&below, element);
        let expected = max_pool::reference(pool, &input, y, window);
        plain(gpu, element, &max_pool::launch(pool, x, y, window), &[&input], &expected)
    });
}

#[test]
fn scale_is_its_reference() {
    on_every_adapter(map(), |gpu, element, &(x, seed)| {
        let input = rounded(&noise(<[usize; 4]>::from(x), seed), element);
        let gate = rounded(&noise([x.n, x.c, 1, 1], seed ^ 1), element);
        plain(gpu, element, &scale::launch(x), &[&input, &gate], &scale::reference(&input, &gate))
    });
}

#[test]
fn probes_are_their_references() {
    on_every_adapter(map(), |gpu, element, &(x, seed)| {
        let input = rounded(&noise(<[usize; 4]>::from(x), seed), element);
        plain(gpu, element, &copy::launch(x), &[&input], &copy::reference(&input))?;
        let rounds = (seed % 20) as u32;
        let launch = multiply_add::launch(x, rounds, Element::F32);
        plain(gpu, element, &launch, &[&input], &multiply_add::reference(&input, rounds))
    });
}

#[test]
fn workgroups_beyond_one_dimension_reach_every_value() {
    // More than 65,535 workgroups of 64 threads.
    let x = Shape::new(1, 4, 2100, 2050);
    let input = noise(<[usize; 4]>::from(x), 7);
    let gate = noise([1, 4, 1, 1], 8);
    assert!(scale::launch(x).workgroups[1] > 1);
    for gpu in common::gpus() {
        for element in gpu.elements() {
            let (input, gate) = (rounded(&input, element), rounded(&gate, element));
            let expected = scale::reference(&input, &gate);
            plain(&gpu, element, &scale::launch(x), &[&input, &gate], &expected).unwrap();
        }
    }
}

#[test]
fn workgroups_beyond_the_last_picture_write_nothing() {
    // One more than fits a row of workgroups, which makes two rows, one too long.
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
    let tile = pointwise_pool::Tile { pixels: 1, lanes: 1 };
    let both = pointwise_pool::launch(&conv, x, x, tile);
    for launch in [&pool::launch(x), &both] {
        assert!(launch.workgroups[0] * launch.workgroups[1] > 65_537, "{}", launch.shader.name);
    }
    for gpu in common::gpus() {
        plain(&gpu, Element::F32, &pool::launch(x), &[&input], &pool::reference(&input)).unwrap();
        let reads = [&on_device(&input)[..], &pointwise::pack(&conv), &kernels::pack_bias(&conv)];
        let out = dispatch(&gpu, &both, Element::F32, &reads, layout::len(x)).unwrap();
        let expected = pointwise_pool::reference(&conv, &input, x);
        assert!(common::distance(&layout::from_device(x, &out), &expected) <= TOLERANCE, "{}", gpu.adapter());
    }
}

#[test]
fn a_gated_pointwise_is_a_scale_and_a_pointwise() {
    on_every_adapter(convolution(false, false), |gpu, element, case| {
        let case = &case.stored_as(element);
        let tile = pick(pointwise::Tile::all(element), case.tile);
        let (conv, x, y) = (&case.conv, case.x, case.y());
        let input = rounded(&noise(<[usize; 4]>::from(x), case.seed ^ 3), element);
        let gate = rounded(&noise([x.n, x.c, 1, 1], case.seed ^ 5), element);
        let scaled = scale::reference(&input, &gate);
        let expected = pointwise::reference(conv, &scaled, y, None);
        let extras = Extras { residual: false, gate: true };
        let mut kernels = vec![(pointwise::launch(conv, x, y, extras, tile), pointwise::pack(conv))];
        if let Some(subgroup) = gpu.subgroup() {
            let tile = pick(pointwise_subgroup::tiles(), case.tile);
            let launch = pointwise_subgroup::launch(conv, x, y, extras, tile, subgroup);
            kernels.push((launch, pointwise::pack(conv)));
        }
        if let Some(units) = gpu.matrix_units(element) {
            let tile = pick(pointwise_matrix::Tile::ALL.into_iter(), case.tile);
            let launch = pointwise_matrix::launch(conv, x, y, extras, units, tile);
            kernels.push((launch, pointwise_matrix::pack(conv, units.side)));
        }
        let (x, gate) = (on_device(&input), gate_on_device(&gate));
        for (launch, packed) in kernels {
            let sums = summed(conv, &scaled, y, launch.arithmetic);
            let bound = TOLERANCE + allowed(&stored(&expected, Some(&sums), element), &expected);
            let reads = [&x[..], &packed, &kernels::pack_bias(conv), &x, &gate];
            let out = dispatch(gpu, &launch, element, &reads, layout::len(y))?;
            let error = common::distance(&layout::from_device(y, &out), &expected);
            prop_assert!(error <= bound, "{} {:?}: error {error:e}", launch.shader.name, launch.constants);
        }
        Ok(())
    });
}
