//! Kernels that fuse several layers of a block, compared with those layers.

mod common;

use std::sync::Arc;

use common::cases::{
    activation, dispatch, max_slope, noise, on_device, on_every_adapter, padding, relative_bound, rounded,
    rounded_weights, storage_error,
};
use goldcrest::{
    Shape, Tensor,
    graph::{Activation, Conv, Window},
    kernels::{
        self, block, depthwise,
        gate::{self, Gate},
        pointwise, pool, reduce,
    },
    tensor::{Element, layout},
};
use proptest::prelude::*;

/// The error of three layers of f32 sums in another order than the reference's f64. The tests propagate the
/// rounding of stored intermediate values through the layers separately.
const TOLERANCE: f64 = 4e-6;

/// The workgroup memory of every adapter, in `vec4`s.
const MEMORY: u32 = 1022;

/// A block, and its tile.
#[derive(Debug, Clone)]
struct Case {
    expand: Option<Conv>,
    depthwise: Conv,
    project: Conv,
    x: Shape,
    residual: bool,
    tile: block::Tile,
    element: Element,
    seed: u64,
}

fn blocks() -> impl Strategy<Value = Case> {
    let size = (1..3usize, 1..20usize, 1..40usize, 1..40usize, 1..20usize, 1..20usize);
    let form = (any::<bool>(), prop::sample::select(&[1usize, 3, 5][..]), 1..3usize, 1..3usize, padding());
    let tile = (
        prop::sample::select(&[[2u32, 4u32], [4, 4], [4, 8], [8, 8]][..]),
        prop::sample::select(&[1u32, 2, 4][..]),
        prop::sample::select(&[1u32, 2, 4][..]),
        prop::sample::select(&[64u32, 128, 256][..]),
        1..5u32,
        any::<bool>(),
    );
    let rest = ([activation(), activation(), activation()], any::<bool>(), any::<u64>());
    (size, form, tile, rest).prop_filter_map("does not fit", |(size, form, tile, rest)| {
        let (n, inputs, expanded, outputs, h, w) = size;
        let (expands, kernel, stride, dilation, padding) = form;
        let ([height, width], chunk, run, threads, splits, staged) = tile;
        let (activations, residual, seed) = rest;
        let expanded = if expands { expanded } else { inputs };
        let pointwise = |outputs: usize, inputs: usize, i: usize| Conv {
            weight: Arc::new(noise([outputs, inputs, 1, 1], seed ^ i as u64)),
            bias: Some(Arc::new(noise([outputs], seed ^ (10 + i as u64)))),
            stride: 1,
            dilation: 1,
            padding,
            groups: 1,
            activation: activations[i],
            linear: false,
        };
        let depthwise = Conv {
            weight: Arc::new(noise([expanded, 1, kernel, kernel], seed ^ 1)),
            stride,
            dilation,
            groups: expanded,
            ..pointwise(expanded, 1, 1)
        };
        let window = depthwise.window(h, w)?;
        let middle = Shape::new(n, expanded, window.height, window.width);
        let tile = block::Tile { height, width, chunk, run, threads, splits, staged }.trimmed(middle);
        let case = Case {
            expand: expands.then(|| pointwise(expanded, inputs, 0)),
            depthwise,
            project: pointwise(outputs, expanded, 2),
            x: Shape::new(n, inputs, h, w),
            residual,
            tile,
            element: Element::F32,
            seed,
        };
        let quads = |channels: usize| channels.div_ceil(4);
        (tile.memory_quads(case.convs(true), quads(inputs), quads(outputs)) <= MEMORY).then_some(case)
    })
}

/// The references' depthwise output, and the largest error of each value.
struct Front {
    middle: Shape,
    window: Window,
    filtered: Tensor,
    bound: Tensor,
}

/// Returns the largest error of each output of `conv`, computed by `run`, if its inputs are off by `error`.
fn propagated(conv: &Conv, error: &Tensor, run: impl Fn(&Conv, &Tensor) -> Tensor) -> Tensor {
    let weight = Tensor::from_fn(conv.weight.dims(), |i| conv.weight.data()[i].abs());
    let sums =
        Conv { weight: Arc::new(weight), bias: None, activation: Activation::Identity, ..conv.clone() };
    let sums = run(&sums, error);
    Tensor::from_fn(sums.dims(), |i| max_slope(conv.activation) * sums.data()[i])
}

impl Case {
    /// The case with its weights rounded to `element`, for a run in it.
    fn stored_as(&self, element: Element) -> Self {
        let round = |conv: &Conv| rounded_weights(conv, element);
        Self {
            expand: self.expand.as_ref().map(round),
            depthwise: round(&self.depthwise),
            project: round(&self.project),
            element,
            ..self.clone()
        }
    }

    fn convs(&self, projects: bool) -> block::Convs<'_> {
        block::Convs {
            expand: self.expand.as_ref(),
            depthwise: &self.depthwise,
            project: projects.then_some(&self.project),
        }
    }

    fn input(&self) -> Tensor {
        rounded(&noise(<[usize; 4]>::from(self.x), self.seed ^ 3), self.element)
    }

    fn front(&self) -> Front {
        let (x, input) = (self.x, self.input());
        let window = self.depthwise.window(x.h, x.w).unwrap();
        let middle = Shape::new(x.n, self.depthwise.outputs(), window.height, window.width);
        let expanded = self
            .expand
            .as_ref()
            .map(|c| pointwise::reference(c, &input, Shape { c: c.outputs(), ..x }, None));
        let run = |conv: &Conv, read: &Tensor| depthwise::reference(conv, read, middle, window, None);
        let filtered = run(&self.depthwise, expanded.as_ref().unwrap_or(&input));
        let error =
            expanded.map(|e| propagated(&self.depthwise, &storage_error(&e, None, self.element), run));
        let bound = storage_error(&filtered, error.as_ref(), self.element);
        Front { middle, window, filtered, bound }
    }

    /// The kernel's inputs.
    fn reads(&self, projects: bool, residual: &[f32]) -> [Vec<f32>; 5] {
        let products = block::pack_products(self.convs(projects));
        // For inputs that must not be read: the smallest valid buffer, full of NaN.
        let unread = || vec![f32::NAN; kernels::LEAST_BINDING as usize / 4];
        [
            on_device(&self.input()),
            depthwise::pack(&self.depthwise),
            if products.is_empty() { unread() } else { products },
            block::pack_bias(self.convs(projects)),
            residual.to_vec(),
        ]
    }
}

fn slices(reads: &[Vec<f32>]) -> Vec<&[f32]> {
    reads.iter().map(Vec::as_slice).collect()
}

#[test]
fn whole_block_matches_its_layers() {
    on_every_adapter(blocks(), |gpu, element, case| {
        let case = &case.stored_as(element);
        let Front { middle, window, filtered, bound } = case.front();
        let y = Shape { c: case.project.outputs(), ..middle };
        let residual = case.residual.then(|| rounded(&noise(<[usize; 4]>::from(y), case.seed ^ 4), element));
        let expected = pointwise::reference(&case.project, &filtered, y, residual.as_ref());
        let error = propagated(&case.project, &bound, |conv, x| pointwise::reference(conv, x, y, None));
        let bound = TOLERANCE + relative_bound(&storage_error(&expected, Some(&error), element), &expected);

        let shapes = block::Shapes { x: case.x, middle, y, window };
        let launch = block::launch(case.convs(true), shapes, case.residual, false, case.tile);
        let added = residual.as_ref().map_or(vec![0.0; 4], on_device);
        let splits = case.tile.splits as usize;
        let reads = case.reads(true, &added);
        let values = if splits > 1 { [4, splits * layout::len(y)] } else { [layout::len(y), 4] };
        let out = gpu.dispatch(&launch, element, &slices(&reads), &values);
        let mut out = out.map_err(|e| TestCaseError::fail(e.to_string()))?.swap_remove((splits > 1).into());
        if splits > 1 {
            let launch = reduce::launch(&case.project, y, splits, case.residual);
            let reads = [&out[..], &kernels::pack_bias(&case.project), &added];
            out = dispatch(gpu, &launch, element, &reads, layout::len(y))?;
        }
        let error = common::distance(&layout::from_device(y, &out), &expected);
        prop_assert!(error <= bound, "{:?}: error {error:e}", launch.constants);
        Ok(())
    });
}

#[test]
fn front_of_a_block_matches_its_layers_and_writes_sums_for_the_gate() {
    on_every_adapter(blocks(), |gpu, element, case| {
        let case = &case.stored_as(element);
        let Front { middle, window, filtered, bound } = case.front();
        let shapes = block::Shapes { x: case.x, middle, y: middle, window };
        let launch = block::launch(case.convs(false), shapes, false, true, case.tile);
        let tiles = case.tile.tiles(middle);
        let lens = [layout::len(middle), middle.n * tiles * middle.quads() * 4];
        let reads = case.reads(false, &[0.0; 4]);
        let out = gpu.dispatch(&launch, element, &slices(&reads), &lens);
        let out = out.map_err(|e| TestCaseError::fail(e.to_string()))?;
        let error = common::distance(&layout::from_device(middle, &out[0]), &filtered);
        let front_bound = TOLERANCE + relative_bound(&bound, &filtered);
        prop_assert!(error <= front_bound, "{:?}: error {error:e}", launch.constants);

        let (c, narrow) = (middle.c, 1 + case.project.outputs() / 3);
        let layer = |outputs: usize, inputs: usize, activation| Conv {
            weight: Arc::new(rounded(&noise([outputs, inputs, 1, 1], case.seed ^ 6), element)),
            bias: Some(Arc::new(noise([outputs], case.seed ^ 7))),
            activation,
            ..case.project.clone()
        };
        let squeeze = layer(narrow, c, Activation::Relu);
        let widen = layer(c, narrow, Activation::HardSigmoid);
        // Both layers in one workgroup; then only the first, over several workgroups.
        for widen in [Some(&widen), None] {
            let launch = Gate { squeeze: &squeeze, widen, map: middle, tiles }.launch(&gpu.machine(element));
            let reads = [
                out[1].clone(),
                pointwise::pack(&squeeze),
                widen.map_or(vec![f32::NAN; 16], pointwise::pack),
                [Some(&squeeze), widen].into_iter().flatten().flat_map(kernels::pack_bias).collect(),
            ];
            let y = Shape { c: widen.unwrap_or(&squeeze).outputs(), h: 1, w: 1, ..middle };
            let out = dispatch(gpu, &launch, element, &slices(&reads), layout::len(y))?;
            let expected = gate::reference(&squeeze, widen, &filtered);
            let error = common::distance(&layout::from_device(y, &out), &expected);
            let through = |conv: &Conv, error: &Tensor| {
                let y = Shape { c: conv.outputs(), ..y };
                propagated(conv, error, |conv, x| pointwise::reference(conv, x, y, None))
            };
            let squeezed = through(&squeeze, &pool::reference(&bound));
            let gate_error = widen.map_or(squeezed.clone(), |widen| through(widen, &squeezed));
            let bound =
                TOLERANCE + relative_bound(&storage_error(&expected, Some(&gate_error), element), &expected);
            prop_assert!(error <= bound, "gate: error {error:e}");
        }
        Ok(())
    });
}
