//! A network in f32 and in int8, and the errors of its int8 outputs.

use std::{ops::Range, sync::Arc};

use crate::{
    Options, Result, Session, Shape, Tensor,
    cpu::Cpu,
    demo::{self, Scene},
    graph::{BatchNorm, Graph, NodeId, Op},
    quantize,
    tasks::preprocess,
    zoo::{Network, Preprocessing},
};

/// The first scene for comparing outputs. The demo's networks were not trained on scenes from here on.
const COMPARED: u64 = 1_000_000_000;

/// The first scene for measuring ranges.
const RANGES: u64 = 1_001_000_000;

/// Scenes as inputs of a network.
pub struct Scenes {
    /// For measuring ranges and means.
    ranges: Vec<Tensor>,
    /// For comparing outputs.
    compared: Vec<Tensor>,
    /// The classes of the compared scenes, as indices of the demo's classifier.
    classes: Vec<usize>,
}

impl Scenes {
    /// Draws `ranges` scenes for measuring ranges, and `compared` scenes for comparing outputs.
    pub fn new(how: &Preprocessing, side: usize, [ranges, compared]: [u64; 2]) -> Result<Self> {
        let drawn = |seeds: Range<u64>| -> Result<Vec<(Tensor, usize)>> {
            let one = |seed| {
                let drawing = Scene::new(seed).draw(side, side)?;
                let class = demo::Shape::ALL.iter().position(|shape| *shape == drawing.subject);
                Ok((preprocess(&drawing.picture, how)?, class.unwrap_or_default()))
            };
            seeds.map(one).collect()
        };
        let (compared, classes) = drawn(COMPARED..COMPARED + compared)?.into_iter().unzip();
        let (ranges, _): (_, Vec<usize>) = drawn(RANGES..RANGES + ranges)?.into_iter().unzip();
        Ok(Self { ranges, compared, classes })
    }
}

/// A network in f32 and with all its layers in int8.
pub struct Rounded {
    pub float: Graph,
    pub int8: Graph,
    pub input: Shape,
    /// Bytes of weights and biases, in f32 and in int8.
    pub bytes: [u64; 2],
    /// The relative error of the int8 output, for each scene.
    pub errors: Vec<f64>,
    /// Scenes whose most likely class is correct, in f32 and in int8.
    pub correct: [usize; 2],
    /// Scenes whose most likely class differs between int8 and f32.
    pub changed: usize,
}

impl Rounded {
    /// Quantises the network without a limit on the noise, and runs both versions.
    pub fn new(cpu: &Cpu, network: &Network, scenes: &Scenes) -> Result<Self> {
        let quantized = quantize::quantize(cpu, network, &scenes.ranges, f64::INFINITY, |_| {})?;
        let report = &quantized.report;
        let input = network.input_shape(1);
        let session = |graph| Session::of_graph(cpu, graph, input, Options::default());
        let (mut float, mut int8) = (session(&network.graph)?, session(&quantized.graph)?);
        let (mut errors, mut correct, mut changed) = (Vec::new(), [0; 2], 0);
        for (scene, class) in scenes.compared.iter().zip(&scenes.classes) {
            let outputs = [float.run(scene)?, int8.run(scene)?];
            let best = outputs.each_ref().map(best);
            correct = [0, 1].map(|way| correct[way] + usize::from(best[way] == *class));
            changed += usize::from(best[0] != best[1]);
            errors.push(relative_error(&outputs[1], &outputs[0]));
        }
        Ok(Self {
            input,
            bytes: [report.bytes_before, report.bytes_after],
            float: network.graph.clone(),
            int8: quantized.graph,
            errors,
            correct,
            changed,
        })
    }
}

/// Scales the network's batch norms, layer by layer, so that the mean square of each one's output on a scene
/// is about 1. Otherwise random weights make values shrink or grow from layer to layer, unlike trained ones.
/// Activations would then not be compared: near zero swish is about x/2, and for large values about ReLU.
pub fn scaled(cpu: &Cpu, network: &Network, scenes: &Scenes) -> Result<Network> {
    let mut network = network.clone();
    let ids: Vec<NodeId> = network.graph.nodes().map(|(id, _)| id).collect();
    for id in ids {
        let node = network.graph.node(id);
        let (Op::BatchNorm(norm), Some(scene)) = (&node.op, scenes.ranges.first()) else { continue };
        let prefix = network.graph.with_outputs(vec![("before".into(), node.inputs[0])]);
        let map = Session::of_graph(cpu, &prefix, network.input_shape(1), Options::default())?.run(scene)?;
        let squares = map.data().iter().map(|value| f64::from(*value).powi(2));
        let square = squares.sum::<f64>() / map.data().len().max(1) as f64;
        let variance = Arc::new(Tensor::from_fn(norm.variance.dims(), |_| square as f32));
        let norm = BatchNorm { variance, ..norm.clone() };
        network.graph.node_mut(id).op = Op::BatchNorm(norm);
    }
    Ok(network)
}

/// The class with the highest score.
fn best(scores: &Tensor) -> usize {
    let scores = scores.data();
    (1..scores.len()).fold(0, |best, class| if scores[class] > scores[best] { class } else { best })
}

/// The norm of the error of `found`, divided by the norm of `expected`.
fn relative_error(found: &Tensor, expected: &Tensor) -> f64 {
    let square = |value: f64| value * value;
    let pairs = found.data().iter().zip(expected.data());
    let error: f64 = pairs.map(|(found, expected)| square(f64::from(*found) - f64::from(*expected))).sum();
    let norm: f64 = expected.data().iter().map(|value| square(f64::from(*value))).sum();
    if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
}
