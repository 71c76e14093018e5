//! An overflow inside a network is an error that names the layer, on every device, in every kernel and with
//! every fusion. The largest finite values are no error.

mod common;

use std::sync::Arc;

use common::textures::{newest, picture, readable};
use goldcrest::{
    Device, Error, Options, Session, Shape, Tensor,
    gpu::{Executor, Gpu},
    graph::{
        Activation::{self, Identity, Relu, Relu6},
        Conv, Graph, NodeId, Op, Padding,
    },
    kernels::{LAYERS, Layer, Machine, gate::Gate, pack_bias, pointwise, pointwise_pool, reduce},
    plan::{Fuse, Options as PlanOptions, Plan},
    session::{Precision, SourceOptions},
    tensor::Element,
    wgpu,
    zoo::{Network, synthetic},
};

const CHANNELS: usize = 8;
const INPUT: Shape = Shape { n: 1, c: CHANNELS, h: 6, w: 6 };

/// A convolution whose every weight is `weight`.
fn conv(kernel: usize, groups: usize, weight: f32, activation: Activation) -> Conv {
    Conv {
        weight: Arc::new(Tensor::from_fn([CHANNELS, CHANNELS / groups, kernel, kernel], |_| weight)),
        bias: None,
        stride: 1,
        dilation: 1,
        padding: Padding::Symmetric,
        groups,
        activation,
        linear: false,
    }
}

/// A block whose first layer maps ones to 8 x `weight`, and whose last layer has a clamp.
fn block(weight: f32, activation: Activation) -> Graph {
    let mut graph = Graph::default();
    let push = |graph: &mut Graph, name: &str, conv, x: NodeId| graph.push(name, Op::Conv(conv), &[x]);
    let x = graph.push("input", Op::Input(CHANNELS), &[]);
    let x = push(&mut graph, "expand", conv(1, 1, weight, activation), x);
    let x = push(&mut graph, "depthwise", conv(3, CHANNELS, 1e-3, Relu6), x);
    push(&mut graph, "project", conv(1, 1, 1e-3, Relu6), x);
    graph
}

fn constant(value: f32) -> Tensor {
    Tensor::from_fn(<[usize; 4]>::from(INPUT), |_| value)
}

/// Returns the layer that overflows, if any.
fn overflows(outcome: goldcrest::Result<Vec<Tensor>>, element: Element) -> Option<String> {
    match outcome {
        Ok(outputs) => {
            assert!(outputs.iter().all(|output| output.data().iter().all(|v| v.is_finite())));
            None
        }
        Err(Error::Overflow { layer, element: stored }) if stored == element => Some(layer),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn overflow_names_its_layer_with_every_fusion() {
    for gpu in common::gpus() {
        for element in gpu.elements() {
            // ReLU6 clamps infinity to 6. ReLU keeps values that overflow f16, and a later clamp hides them.
            let (graph, small, large) = match element {
                Element::F32 => (block(2.0, Relu6), 1.0, 3e38),
                Element::F16 => (block(125.0, Relu), 1.0, 100.0),
            };
            for fuse in [Fuse::Auto, Fuse::None, Fuse::Pair, Fuse::Block] {
                let options = PlanOptions { fuse, ..PlanOptions::default() };
                let plan = Plan::new(&graph, INPUT, gpu.machine(element), &options).unwrap();
                let mut executor = pollster::block_on(Executor::new(&gpu, &plan, |_, _| {})).unwrap();
                for (value, expected) in [(small, None), (large, Some("expand")), (small, None)] {
                    let found = overflows(executor.run(&constant(value)), element);
                    assert_eq!(found.as_deref(), expected, "{fuse:?} in {element} on {}", gpu.adapter());
                }
            }
        }
    }
}

#[test]
fn representable_values_are_no_overflow() {
    for gpu in common::gpus() {
        for element in gpu.elements() {
            for (graph, layer) in [
                // 65504 is the largest f16; a larger sum is correct if it is clamped.
                (block(8188.0, Relu), None),
                (block(20_000.0, Relu6), None),
                (block(8192.0, Relu), Some("expand")),
                (block(-8192.0, Identity), Some("expand")),
            ] {
                let expected = layer.filter(|_| element == Element::F16);
                let plan = Plan::new(&graph, INPUT, gpu.machine(element), &PlanOptions::default()).unwrap();
                let mut executor = pollster::block_on(Executor::new(&gpu, &plan, |_, _| {})).unwrap();
                let found = overflows(executor.run(&constant(1.0)), element);
                assert_eq!(found.as_deref(), expected, "in {element} on {}", gpu.adapter());
            }
        }
    }
}

#[test]
fn cpu_reports_overflow() {
    for device in common::devices().into_iter().filter(|device| matches!(device, Device::Cpu(_))) {
        for (graph, input) in [(block(2.0, Relu6), INPUT), (block(2.0, Relu6), Shape { h: 1, w: 1, ..INPUT })]
        {
            let network =
                Network { graph, channels: CHANNELS, ..synthetic::network("mobilenet_v2").unwrap() };
            let options = Options { size: Some([input.h, input.w]), ..Options::default() };
            let mut session = Session::new(&device, &network, options).unwrap();
            let run = |session: &mut Session, value: f32| {
                session.run_all(&Tensor::from_fn(<[usize; 4]>::from(input), |_| value))
            };
            for value in [3e38, -3e38, f32::INFINITY, f32::NAN] {
                assert_eq!(overflows(run(&mut session, value), Element::F32).as_deref(), Some("expand"));
            }
            assert_eq!(overflows(run(&mut session, 1.0), Element::F32), None);
        }
    }
}

/// Returns whether a launch over `reads` reports an overflow.
fn reports_overflow(gpu: &Gpu, launch: &goldcrest::kernels::Launch, reads: &[&[f32]], len: usize) -> bool {
    let lens = vec![len; launch.shader.writes.len()];
    match gpu.dispatch(launch, Element::F32, reads, &lens) {
        Ok(_) => false,
        Err(Error::Overflow { layer, .. }) => layer == launch.shader.name,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn every_kernel_with_sums_reports_overflow() {
    let len = INPUT.h * INPUT.w * CHANNELS;
    for gpu in common::gpus() {
        let machine: Machine = gpu.machine(Element::F32);
        let kinds = [conv(1, 1, 2.0, Relu6), conv(3, CHANNELS, 2.0, Relu6), conv(3, 1, 2.0, Relu6)];
        for (kernel, conv) in LAYERS.iter().flat_map(|kernel| kinds.iter().map(move |conv| (kernel, conv))) {
            let op = Op::Conv(conv.clone());
            let layer =
                Layer { op: &op, inputs: vec![INPUT], y: INPUT, picture: [6, 6], gated: false, int8: None };
            for tile in kernel.tiles(&layer, &machine) {
                let launch = kernel.launch(&layer, &machine, tile);
                let weights = kernel.packing(&machine).unwrap().of(conv);
                for (value, expected) in [(1.0, false), (3e38, true)] {
                    let (x, bias) = (vec![value; len], pack_bias(conv));
                    let mut reads = vec![&x[..], &weights, &bias];
                    reads.resize(launch.shader.reads.len(), &x);
                    let found = reports_overflow(&gpu, &launch, &reads, len);
                    assert_eq!(found, expected, "{} {tile} on {}", launch.shader.name, gpu.adapter());
                }
            }
        }
        let c = conv(1, 1, 2.0, Relu6);
        let (weights, bias) = (pointwise::pack(&c), pack_bias(&c));
        let biases = [pack_bias(&c), pack_bias(&c)].concat();
        for (value, expected) in [(1.0, false), (3e38, true)] {
            let x = vec![value; 2 * len];
            let pooled = pointwise_pool::launch(
                &c,
                INPUT,
                INPUT,
                pointwise_pool::Tile { pixels: 4, workgroup_o: 2, depth: 1 },
            );
            assert_eq!(reports_overflow(&gpu, &pooled, &[&x[..len], &weights, &bias], CHANNELS), expected);
            let reduced = reduce::launch(&c, INPUT, 2, false);
            assert_eq!(reports_overflow(&gpu, &reduced, &[&x, &bias, &x], len), expected);
            let gated = Gate { squeeze: &c, widen: Some(&c), map: Shape { h: 1, w: 1, ..INPUT }, tiles: 1 }
                .launch(&machine);
            assert_eq!(
                reports_overflow(&gpu, &gated, &[&x[..CHANNELS], &weights, &weights, &biases], CHANNELS),
                expected
            );
        }
    }
}

#[test]
fn rings_and_the_overflow_buffer_report_it() {
    let picture = picture(48, 48);
    for gpu in common::gpus().into_iter().filter(Gpu::has_f16) {
        let finite = synthetic::network("mobilenet_v2@0.35").unwrap();
        // The sum of all scores, times 60,000: f16 overflows.
        let mut graph = finite.graph.clone();
        let (last, _) = graph.nodes().last().unwrap();
        let weight = Tensor::from_fn([finite.classes, finite.classes, 1, 1], |_| 6e4);
        let loud = Conv { weight: Arc::new(weight), linear: true, ..conv(1, 1, 0.0, Identity) };
        graph.push("loud", Op::Conv(loud), &[last]);
        let options = Options { precision: Precision::F16, ..Options::default() };
        let mut flags = Vec::new();
        for network in [finite.clone(), Network { graph, ..finite }] {
            let session = Session::for_pictures(&gpu, &network, [48, 48], options).unwrap();
            let texture = readable(&gpu, &picture);
            let source = session.source(&texture, SourceOptions::default()).unwrap();
            let mut ring = session.ring(2).unwrap();
            let staging = gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 4,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            session.encode(&mut encoder, &source).unwrap();
            session.read_back(&mut encoder, &mut ring, 0).unwrap();
            encoder.copy_buffer_to_buffer(session.overflow_flag().unwrap(), 0, &staging, 0, 4);
            gpu.queue().submit([encoder.finish()]);
            staging.map_async(wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
            let outcome = newest(&gpu, &mut ring).map(|readback| readback.outputs);
            let word = staging.get_mapped_range(..).unwrap()[0];
            flags.push((word != 0, overflows(outcome, Element::F16)));
        }
        assert_eq!(flags, [(false, None), (true, Some("loud".to_string()))], "{}", gpu.adapter());
    }
}
