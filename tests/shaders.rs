//! Every shader variant in use, with f32 and with f16 maps: naga validates it, its reflection matches the
//! host code, and it translates to SPIR-V, MSL, HLSL and, for the baseline in f32, GLSL. Chrome's compiler
//! accepts it, if the program `tint` is installed.

mod common;

use std::{collections::BTreeMap, process::Command, sync::Arc};

use goldcrest::{
    Shape, Tensor,
    graph::{Activation, Affine, Conv, Int8, MaxPool, Op, Padding, Select, Window},
    kernels::{
        self, Card, LAYERS, Launch, Layer, Machine, MatrixUnits, Shader, Subgroup, Tier, Tile, argmax, block,
        block_int8::BlockInt8,
        boxes, broadcast, copy, dense, depthwise, dequantise, exchange,
        gate::Gate,
        join_int8, mask, matrix, max_pool, multiply_add, paint,
        pointwise::{self, Extras},
        pointwise_pool, pointwise_split, pointwise_subgroup, pool, quantise, rank, reduce, resize,
        sample::{self, Colours, Filter, Grid, Planes, Sampling, Texels},
        scale, select, softmax, staged,
        suppress::{self, Suppression},
        translate::{Translation, Vulkan},
    },
    plan::{Fuse, Options, Plan},
    tensor::Element,
    zoo::synthetic,
};
use naga::{AddressSpace, ArraySize, StorageAccess, TypeInner};

/// The workgroup memory of every card with a preset, in bytes. The tiles for WebGPU's default limit are a
/// subset.
const WORKGROUP_MEMORY: u32 = 32_768;

/// Every filter on each of its grids, for every kind of texels and every input of networks: the samplings,
/// and their numbers of output channels.
fn samplings() -> impl Iterator<Item = (Sampling, usize)> {
    let planes = Planes {
        black: 0.06,
        gain: 1.16,
        grey: 0.5,
        red_of_v: 1.5,
        green_of_u: -0.2,
        green_of_v: -0.5,
        blue_of_u: 1.8,
        halved: [true; 2],
        swapped: false,
    };
    let filters = [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos, Filter::Linear];
    let points = [Filter::Nearest, Filter::Linear].into_iter();
    let points = points.flat_map(|filter| [Grid::Corners, Grid::TopLeft].map(|grid| (filter, grid)));
    let scalings = filters.map(|filter| (filter, Grid::Area)).into_iter().chain(points);
    let kinds = [Texels::Colours, Texels::Luminance, Texels::Planes(planes)];
    let inputs = [(Colours::Rgb, 3), (Colours::Bgr, 3), (Colours::Grey, 1)];
    scalings.flat_map(move |(filter, grid)| {
        kinds.into_iter().flat_map(move |texels| {
            inputs.map(|(colours, channels)| {
                let sampling = Sampling {
                    region: [0, 0, 30, 20],
                    mirrored: [false; 2],
                    rows_first: false,
                    texels,
                    encode: false,
                    scaled: [11, 12],
                    scale: [20.0 / 11.0, 30.0 / 12.0],
                    crop: [0, 0],
                    filter,
                    grid,
                    colours,
                    mean: [0.5; 3],
                    std: [0.5; 3],
                };
                (sampling, channels)
            })
        })
    })
}

/// Every tile of every kernel, every activation, and every switch, on and off.
fn variants() -> Vec<Launch> {
    let x = Shape::new(1, 24, 9, 11);
    let conv = |groups: usize, kernel, stride, dilation, activation| Conv {
        weight: Arc::new(Tensor::from_fn([24, 24 / groups, kernel, kernel], |_| 0.0)),
        bias: None,
        stride,
        dilation,
        padding: Padding::Same,
        groups,
        activation,
        linear: false,
    };
    let mut launches = vec![copy::launch(x), pool::launch(x), scale::launch(x)];
    launches.extend(Element::ALL.map(|element| multiply_add::launch(x, 3, element)));
    launches.extend([exchange::launch(x, 3), broadcast::launch(x, 3)]);
    let window = Window { top: 1, left: 1, height: 5, width: 6 };
    let pool = MaxPool { kernel: 3, stride: 2 };
    launches.push(max_pool::launch(pool, x, Shape { h: 5, w: 6, ..x }, window));
    let larger = Shape { h: 20, w: 21, ..x };
    launches.extend([resize::launch(x, larger), argmax::launch(x, Shape { c: 1, ..larger })]);
    let anchors = x.h * x.w * 6;
    let scores = Shape::new(1, anchors, 1, 4);
    launches.push(softmax::launch(x, scores));
    launches.push(boxes::launch(x, Shape::new(1, 4, 1, anchors), [90, 110]));
    launches.push(select::launch(scores, Select { threshold: 0.1, most: 20 }));
    let labels = Shape { c: 1, ..x };
    launches.extend([paint::launch(labels, [20, 30]), mask::launch(labels, [20, 30])]);
    let candidates = Shape::new(1, 4, 3, 10);
    let suppression = Suppression { min_score: 0.5, overlap: 0.5, most: 20 };
    launches.push(suppress::launch(candidates, anchors, suppression));
    launches.push(rank::launch(candidates, [90, 110], 20, 4));
    launches.extend(samplings().map(|(sampling, c)| sample::launch(&sampling, Shape { c, ..x })));
    // Activations alternate over tiles and switches: all pairs would be thousands.
    let mut activations = Activation::ALL.into_iter().cycle();
    let mut next = || activations.next().expect("a cycle does not end");
    for (residual, gate) in [(false, false), (true, false), (false, true), (true, true)] {
        for tile in pointwise::tiles(Element::F16) {
            let c = conv(1, 1, 1, 1, next());
            let extras = Extras { residual, gate };
            for depth in [1, 2, 4] {
                launches.push(pointwise::launch(&c, x, x, extras, Tile { depth, ..tile }));
            }
            for (least, most) in [(4, 4), (8, 8), (8, 32), (32, 32), (4, 64)] {
                let subgroup = Subgroup { least, most };
                launches.push(pointwise_subgroup::launch(&c, x, x, extras, tile, subgroup));
            }
        }
        for tile in pointwise_pool::Tile::all() {
            let depth = if gate { 4 } else { 1 };
            let c = conv(1, 1, 1, 1, next());
            launches.push(pointwise_pool::launch(&c, x, x, pointwise_pool::Tile { depth, ..tile }));
        }
        for tile in pointwise_split::tiles() {
            let (c, extras) = (conv(1, 1, 1, 1, next()), Extras { residual, gate });
            launches.extend(
                [1, 2, 4].map(|depth| pointwise_split::launch(&c, x, x, extras, Tile { depth, ..tile })),
            );
        }
        for activation in Activation::ALL {
            let c = conv(1, 1, 1, 1, activation);
            launches.push(reduce::launch(&c, x, 3, residual));
            let squeeze = conv(1, 1, 1, 1, Activation::Relu);
            let widen = gate.then_some(&c);
            launches.push(Gate { squeeze: &squeeze, widen, map: x, tiles: 4 }.launch(&Machine::default()));
        }
        for (kernel, stride, dilation) in [(1, 1, 1), (1, 2, 1), (3, 2, 1), (5, 1, 2)] {
            let c = conv(1, kernel, stride, dilation, next());
            let window = c.window(x.h, x.w).unwrap();
            let y = Shape::new(1, 24, window.height, window.width);
            let extras = Extras { residual, gate };
            let tiles =
                staged::tiles().filter(|tile| staged::memory(*tile, y, Element::F32) <= WORKGROUP_MEMORY);
            launches.extend(tiles.map(|tile| staged::launch(&c, x, y, window, extras, tile)));
            for tile in matrix::TILES {
                // Lavapipe's, NVIDIA's, AMD's, Intel's, and Apple's as wgpu reports them.
                for (side, least, most) in [(8, 8, 8), (16, 32, 32), (16, 32, 64), (16, 8, 32), (8, 4, 64)] {
                    let units = MatrixUnits { side, subgroup: Subgroup { least, most } };
                    launches.push(matrix::launch(&c, x, y, window, extras, units, tile));
                }
            }
        }
        for (kernel, stride, dilation) in [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (5, 1, 2)] {
            let c = conv(24, kernel, stride, dilation, next());
            let window = c.window(x.h, x.w).unwrap();
            let y = Shape::new(1, 24, window.height, window.width);
            launches
                .extend(depthwise::tiles().map(|tile| depthwise::launch(&c, x, y, window, residual, tile)));
            let filter = conv(1, kernel, stride, dilation, next());
            launches.extend(dense::tiles().map(|tile| dense::launch(&filter, x, y, window, residual, tile)));
            let product = conv(1, 1, 1, 1, next());
            let shapes = block::Shapes { x, middle: y, y, window };
            for (expand, project) in [(true, true), (true, false), (false, true), (false, false)] {
                let convs = block::Convs {
                    expand: expand.then_some(&product),
                    depthwise: &c,
                    project: project.then_some(&product),
                };
                for (height, chunk, run, splits) in [(2, 2, 1, 1), (4, 4, 2, 1), (4, 2, 4, 3)] {
                    let tile =
                        block::Tile { height, width: 4, chunk, run, threads: 64, splits, staged: !residual };
                    if 16 * tile.memory_quads(convs, x.quads(), y.quads()) <= WORKGROUP_MEMORY {
                        launches.push(block::launch(convs, shapes, residual, gate, tile));
                    }
                }
            }
        }
    }
    let accepts_int8 =
        |launch: &&Launch| launch.shader.reads.iter().any(|name| launch.shader.accepts_int8_weights(name));
    let int8_weight_variants: Vec<Launch> = launches
        .iter()
        .filter(accepts_int8)
        .step_by(7)
        .map(|launch| launch.clone().with_int8_weights())
        .collect();
    launches.extend(int8_weight_variants);
    launches.extend(int8_variants(x, conv));
    launches.extend(int8_blocks(x, conv));
    launches
}

/// Every combination of fused int8 layers, with every kind of epilogue, for machines with and without packed dot
/// products.
fn int8_blocks(x: Shape, conv: impl Fn(usize, usize, usize, usize, Activation) -> Conv) -> Vec<Launch> {
    let map = Affine { scale: 0.02, zero: -3 };
    let mut launches = Vec::new();
    let machines = [Card::Ada, Card::M1, Card::Lavapipe].map(Card::machine);
    let mut activations = Activation::ALL.into_iter().cycle();
    let mut next = || activations.next().expect("a cycle does not end");
    for (kernel, stride, dilation) in [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (5, 1, 2)] {
        for (residual, scale) in [(false, 0.01), (true, 0.01), (true, 1e-7)] {
            // Some weights are 1, so that sums are large.
            let mut conv = |groups, kernel, stride, dilation| {
                let conv = conv(groups, kernel, stride, dilation, next());
                let weight = Tensor::from_fn(conv.weight.dims(), |at| (at % 2) as f32);
                Conv { weight: Arc::new(weight), ..conv }
            };
            let (expand, project) = (conv(1, 1, 1, 1), conv(1, 1, 1, 1));
            let depthwise = conv(24, kernel, stride, dilation);
            let window = depthwise.window(x.h, x.w).unwrap();
            let y = Shape::new(1, 24, window.height, window.width);
            let shapes = block::Shapes { x, middle: y, y, window };
            let int8 = |inputs: usize| Int8 {
                inputs: vec![map; inputs],
                output: Some(map),
                weight_scales: Some([scale; 24].into()),
            };
            for (expands, projects) in [(true, true), (true, false), (false, true)] {
                let fused = BlockInt8 {
                    convs: block::Convs {
                        expand: expands.then_some(&expand),
                        depthwise: &depthwise,
                        project: projects.then_some(&project),
                    },
                    expand: expands.then(|| int8(1)),
                    depthwise: int8(1),
                    project: projects.then(|| int8(1 + usize::from(residual))),
                };
                for machine in &machines {
                    let fits = |tile: &block::Tile| fused.fit(shapes, machine, *tile);
                    let tiles = block::tiles(y).into_iter().filter(fits).step_by(9);
                    launches.extend(tiles.map(|tile| fused.launch(shapes, machine, tile).0));
                }
            }
        }
    }
    launches
}

/// Every tile of every kernel for int8 layers, each with every kind of epilogue.
fn int8_variants(x: Shape, conv: impl Fn(usize, usize, usize, usize, Activation) -> Conv) -> Vec<Launch> {
    let map = Affine { scale: 0.02, zero: -3 };
    let mut launches =
        vec![quantise::launch(x, map), dequantise::launch(x, map), join_int8::launch(x, map, map)];
    let machines = [Card::Ada, Card::M1, Card::Lavapipe].map(Card::machine);
    let mut machine_cycle = machines.iter().cycle();
    let pool = MaxPool { kernel: 3, stride: 2 };
    let mut ops = vec![(Op::GlobalPool, Shape { h: 1, w: 1, ..x }), (Op::Scale, x)];
    ops.push((Op::MaxPool(pool), Shape { h: 5, w: 6, ..x }));
    for (groups, kernel, stride, dilation) in
        [(1, 1, 1, 1), (1, 3, 2, 1), (1, 5, 1, 2), (24, 3, 1, 1), (24, 5, 2, 1), (24, 3, 1, 2)]
    {
        for activation in [Activation::Identity, Activation::Relu6, Activation::HardSwish] {
            let conv = conv(groups, kernel, stride, dilation, activation);
            let window = conv.window(x.h, x.w).unwrap();
            ops.push((Op::Conv(conv), Shape::new(1, 24, window.height, window.width)));
        }
    }
    for (op, y) in &ops {
        for residual in [false, true] {
            // Scales that leave room to shift the sums, or do not, and floating-point outputs.
            for (scale, output) in [(0.01, Some(map)), (1e7, Some(map)), (0.01, None)] {
                let int8 = Int8 {
                    inputs: vec![map; 2][..1 + usize::from(residual)].to_vec(),
                    output,
                    weight_scales: Some([scale; 24].into()),
                };
                let inputs = [x, *y][..1 + usize::from(residual)].to_vec();
                let picture = [x.h, x.w];
                let layer = Layer { op, inputs, y: *y, picture, gated: false, int8: Some(int8) };
                let valid =
                    matches!(op, Op::Conv(_)) || output.is_some() && residual == matches!(op, Op::Scale);
                // Machines alternate: all combinations would be thousands.
                let machine = machine_cycle.next().expect("a cycle does not end");
                for kernel in LAYERS.into_iter().filter(|_| valid) {
                    let tiles = kernel.tiles(&layer, machine).into_iter();
                    launches.extend(tiles.map(|tile| kernel.launch(&layer, machine, tile)));
                }
            }
        }
    }
    launches
}

/// One variant per distinct source text, with the element type of its maps.
fn texts() -> BTreeMap<String, (Launch, Element)> {
    let each = |launch: Launch| {
        let elements = [Element::F32, Element::F16].into_iter();
        // f16 sums need f16 maps.
        let elements = elements.filter(|element| launch.arithmetic <= *element);
        elements.map(|element| (launch.wgsl(element), (launch.clone(), element))).collect::<Vec<_>>()
    };
    variants().into_iter().flat_map(each).collect()
}

fn translated(launch: &Launch, element: Element) -> Translation {
    Translation::of(launch, element).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_shader_file_has_a_host_file_and_a_variant_here() {
    let used: Vec<&str> = variants().iter().map(|launch| launch.shader.name).collect();
    for entry in std::fs::read_dir("shaders").unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if ![
            "activation",
            "bounded_offset",
            "bytes",
            "completion",
            "epilogue",
            "output_params",
            "placement",
            "prologue",
            "region",
            "requantise",
            "taps",
            "weights",
            "weights_int8",
            "window",
        ]
        .contains(&stem)
        {
            assert!(
                std::path::Path::new(&format!("src/kernels/{stem}.rs")).exists(),
                "no host file for {stem}"
            );
            assert!(kernels::shaders().any(|shader| shader.name == stem), "{stem} is in no list of kernels");
            assert!(used.contains(&stem), "no variant of {stem} is tested");
        }
    }
}

#[test]
fn reflection_agrees_with_the_host() {
    for (text, (launch, element)) in texts() {
        let translation = translated(&launch, element);
        let module = translation.module();
        bindings_agree(module, launch.shader);
        elements_agree(module, &launch, element);
        params_agree(module, &launch);
        let [entry] = &module.entry_points[..] else { panic!("{}: one entry point", launch.shader.name) };
        assert_eq!(entry.name, "main");
        let [size, 1, 1] = entry.workgroup_size else {
            panic!("{}: not a one-dimensional workgroup", launch.shader.name)
        };
        // The range that every adapter of the tier supports.
        let least = if launch.shader.tier == Tier::Baseline { 64 } else { 4 };
        assert!(size.is_power_of_two() && (least..=256).contains(&size), "{}", launch.shader.name);
        assert!(workgroup_memory(module) <= WORKGROUP_MEMORY, "{}", launch.shader.name);
        assert!(launch.workgroups.iter().all(|&w| (1..=65_535).contains(&w)));
        // A constant that the text does not use would be a dead switch.
        for (name, _) in launch.constants.iter().filter(|(name, _)| !name.contains(' ')) {
            assert!(text.matches(name).count() > 1, "{}: {name} is not used", launch.shader.name);
        }
    }
}

/// Checks group 0: the parameters, and the host's inputs and outputs, with the correct access.
fn bindings_agree(module: &naga::Module, shader: &Shader) {
    let mut found = BTreeMap::new();
    for (_, global) in module.global_variables.iter() {
        if let Some(binding) = &global.binding {
            assert_eq!(binding.group, 0);
            found.insert(binding.binding, (global.name.as_deref().unwrap(), global.space));
        }
    }
    let read = AddressSpace::Storage { access: StorageAccess::LOAD };
    let write = AddressSpace::Storage { access: StorageAccess::LOAD | StorageAccess::STORE };
    let mut expected = vec![("params", AddressSpace::Uniform)];
    expected.extend(shader.reads.iter().map(|name| (*name, read)));
    expected.extend(shader.writes.iter().map(|name| (*name, write)));
    expected.extend(shader.flag().map(|_| ("flag", write)));
    expected.extend(shader.textures.iter().map(|(name, _)| (*name, AddressSpace::Handle)));
    assert_eq!(found.into_values().collect::<Vec<_>>(), expected, "{}", shader.name);
}

/// Checks that every array in a buffer has the host's element type.
fn elements_agree(module: &naga::Module, launch: &Launch, element: Element) {
    let shader = launch.shader;
    for (_, global) in module.global_variables.iter() {
        let name = global.name.as_deref().unwrap();
        if let (AddressSpace::Storage { .. }, TypeInner::Array { base, .. }) =
            (global.space, &module.types[global.ty].inner)
        {
            let parts = match &module.types[*base].inner {
                TypeInner::Struct { members, .. } => members.iter().map(|member| member.ty).collect(),
                _ => vec![*base],
            };
            // Four of them per word.
            let int8_weights = launch.has_int8_weights() && shader.accepts_int8_weights(name);
            let bytes = if int8_weights { 4 } else { shader.stored(name, element).bytes() };
            for part in parts {
                let (TypeInner::Scalar(scalar)
                | TypeInner::Vector { scalar, .. }
                | TypeInner::Matrix { scalar, .. }) = module.types[part].inner
                else {
                    panic!("{}: {name} is not of numbers, vectors or matrices", shader.name)
                };
                assert_eq!(usize::from(scalar.width), bytes, "{}: {name} with {element}", shader.name);
            }
        }
    }
}

/// Checks that `Params` has the host's parameters, all u32, in the host's order, and the host's size.
fn params_agree(module: &naga::Module, launch: &Launch) {
    let (_, params) = module
        .global_variables
        .iter()
        .find(|(_, global)| global.space == AddressSpace::Uniform)
        .expect("a kernel has parameters");
    let TypeInner::Struct { members, span } = &module.types[params.ty].inner else { panic!("not a struct") };
    let names: Vec<&str> = members.iter().map(|m| m.name.as_deref().unwrap()).collect();
    let expected: Vec<&str> = launch.params.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, expected, "{}", launch.shader.name);
    assert_eq!(*span as usize, launch.params_bytes().len(), "{}", launch.shader.name);
    let u32s = members.iter().all(|m| module.types[m.ty].inner == TypeInner::Scalar(naga::Scalar::U32));
    assert!(u32s, "{}", launch.shader.name);
}

fn workgroup_memory(module: &naga::Module) -> u32 {
    let globals = module.global_variables.iter().filter(|(_, g)| g.space == AddressSpace::WorkGroup);
    globals
        .map(|(_, global)| match module.types[global.ty].inner {
            TypeInner::Array { size: ArraySize::Constant(count), stride, .. } => count.get() * stride,
            TypeInner::Vector { size, scalar } => u32::from(size as u8) * u32::from(scalar.width),
            TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => u32::from(scalar.width),
            ref other => panic!("unknown size of workgroup memory: {other:?}"),
        })
        .sum()
}

#[test]
fn every_variant_is_translated_for_every_driver() {
    let drivers =
        [Vulkan::default(), Vulkan { version: (1, 0), robust_buffers: false, robust_images: false }];
    for (launch, element) in texts().into_values() {
        let translation = translated(&launch, element);
        let shader = launch.shader;
        for driver in drivers {
            assert!(translation.spirv(driver).unwrap().len() > 400, "{}", shader.name);
        }
        assert!(translation.msl().unwrap().contains("kernel void"), "{}", shader.name);
        let direct3d = translation.hlsl().unwrap();
        assert_eq!(direct3d.is_some(), shader.tier != Tier::Matrices, "{}", shader.name);
        assert!(direct3d.is_none_or(|text| text.contains("numthreads")), "{}", shader.name);
        let gl = translation.glsl().unwrap();
        assert_eq!(gl.is_some(), shader.tier == Tier::Baseline && element == Element::F32, "{}", shader.name);
        assert!(gl.is_none_or(|text| text.contains("local_size_x")), "{}", shader.name);
    }
}

#[test]
fn tint_accepts_every_variant_if_installed() {
    if Command::new("tint").arg("--help").output().is_err() {
        println!("tint is not installed: naga alone has checked the shaders");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let texts = texts();
    // SwiftShader has no f16.
    let f32s = texts.iter().filter(|(_, (_, element))| *element == Element::F32);
    let unrolled = f32s.map(|(text, (launch, _))| (launch.unrolled(text).into_owned(), launch));
    let every: BTreeMap<String, &Launch> =
        texts.iter().map(|(text, (launch, _))| (text.clone(), launch)).chain(unrolled).collect();
    common::for_each(every.into_iter().enumerate().collect(), |(i, (mut text, launch))| {
        match launch.shader.tier {
            Tier::Baseline => {}
            // Standard WGSL requires this directive; naga rejects it.
            Tier::Subgroups => text.insert_str(0, "enable subgroups;\n"),
            // A wgpu extension.
            Tier::Matrices => return,
        }
        let path = folder.path().join(format!("{}-{i}.wgsl", launch.shader.name));
        std::fs::write(&path, text).unwrap();
        let output =
            Command::new("tint").args(["--format", "wgsl", "-o", "/dev/null"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{:?}: {}", path, String::from_utf8_lossy(&output.stderr));
    });
}

#[test]
fn plans_respect_small_workgroup_limits() {
    for name in ["mobilenet_v3_large", "torchvision/ssdlite320_mobilenet_v3_large"] {
        let network = synthetic::network(name).unwrap();
        for max_workgroup_size in [64, 128] {
            for fuse in [Fuse::Auto, Fuse::Pair, Fuse::Block] {
                let machine =
                    Machine { max_workgroup_size, workgroup_memory: 16 << 10, ..Machine::default() };
                let options = Options { fuse, ..Options::default() };
                let plan = Plan::new(&network.graph, network.input_shape(1), machine, &options).unwrap();
                for step in &plan.steps {
                    let translation = translated(&step.launch, plan.element);
                    let [size, ..] = translation.module().entry_points[0].workgroup_size;
                    assert!(size <= max_workgroup_size, "{name}, {}: workgroup size {size}", step.name());
                    assert!(workgroup_memory(translation.module()) <= 16 << 10, "{name}, {}", step.name());
                }
            }
        }
    }
}
