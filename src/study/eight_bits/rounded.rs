//! A network in f32 and in 8 bits, and how far apart its answers are.

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

/// The first scene that answers are compared on: the demo's networks were trained on none from here on.
const COMPARED: u64 = 1_000_000_000;

/// The first scene that ranges are measured on.
const RANGES: u64 = 1_001_000_000;

/// Scenes as a network takes them.
pub struct Scenes {
    /// Ranges and means are measured on these.
    ranges: Vec<Tensor>,
    /// Answers are compared on these.
    compared: Vec<Tensor>,
    /// The classes of those that are compared, as the demo's classifier has them.
    classes: Vec<usize>,
}

impl Scenes {
    /// So many scenes for ranges, and so many to compare answers on.
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

/// A network in f32 and with all its layers in 8 bits.
pub struct Rounded {
    pub float: Graph,
    pub eight: Graph,
    pub input: Shape,
    /// Of weights and biases, in f32 and in 8 bits.
    pub bytes: [u64; 2],
    /// The relative error of the answer in 8 bits, for each scene.
    pub errors: Vec<f64>,
    /// Scenes whose best class is the right one, in f32 and in 8 bits.
    pub right: [usize; 2],
    /// Scenes whose best class in 8 bits is another than in f32.
    pub changed: usize,
}

impl Rounded {
    /// Quantises the network, whatever noise that makes, and runs it both ways.
    pub fn new(cpu: &Cpu, network: &Network, scenes: &Scenes) -> Result<Self> {
        let quantized = quantize::quantize(cpu, network, &scenes.ranges, f64::INFINITY, |_| {})?;
        let report = &quantized.report;
        let input = network.input_shape(1);
        let session = |graph| Session::of_graph(cpu, graph, input, Options::default());
        let (mut float, mut eight) = (session(&network.graph)?, session(&quantized.graph)?);
        let (mut errors, mut right, mut changed) = (Vec::new(), [0; 2], 0);
        for (scene, class) in scenes.compared.iter().zip(&scenes.classes) {
            let answers = [float.run(scene)?, eight.run(scene)?];
            let best = answers.each_ref().map(best);
            right = [0, 1].map(|way| right[way] + usize::from(best[way] == *class));
            changed += usize::from(best[0] != best[1]);
            errors.push(relative_error(&answers[1], &answers[0]));
        }
        Ok(Self {
            input,
            bytes: [report.bytes_before, report.bytes_after],
            float: network.graph.clone(),
            eight: quantized.graph,
            errors,
            right,
            changed,
        })
    }
}

/// The network with its batch norms scaled, layer by layer, so that the mean square of what each makes of a scene is
/// about 1. Else values of random weights shrink or grow from layer to layer, as no trained network's do. To small ones
/// swish is half of them, to large ones a ReLU: what is to be compared would not be measured.
pub fn scaled(cpu: &Cpu, network: &Network, scenes: &Scenes) -> Result<Network> {
    let mut network = network.clone();
    let ids: Vec<NodeId> = network.graph.nodes().map(|(id, _)| id).collect();
    for id in ids {
        let node = network.graph.node(id);
        let (Op::BatchNorm(norm), Some(scene)) = (&node.op, scenes.ranges.first()) else { continue };
        let before = network.graph.answering(vec![("before".into(), node.inputs[0])]);
        let map = Session::of_graph(cpu, &before, network.input_shape(1), Options::default())?.run(scene)?;
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

/// The length of what `found` is off, over the length of what it should be.
fn relative_error(found: &Tensor, wanted: &Tensor) -> f64 {
    let square = |value: f64| value * value;
    let pairs = found.data().iter().zip(wanted.data());
    let off: f64 = pairs.map(|(found, wanted)| square(f64::from(*found) - f64::from(*wanted))).sum();
    let whole: f64 = wanted.data().iter().map(|value| square(f64::from(*value))).sum();
    if off == 0.0 { 0.0 } else { (off / whole).sqrt() }
}
