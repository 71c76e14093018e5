//! A network in 8 bits: which integers stand for its weights and maps, found with nothing but some pictures.
//!
//! [`quantize`] takes a network and prepared pictures, and gives its graph with weights that are whole steps
//! ([`Node::steps`](crate::graph::Node::steps)) and with what the integers of maps stand for
//! ([`Node::map`](crate::graph::Node::map)); [`Quantized::encode`] makes a file of it that [`Network::open`] reads as
//! any other. The arithmetic is that of [`Affine`].
//!
//! 1. `equalise`: channels of very different size before depthwise layers made more alike.
//! 2. `ranges`: what values each map has, and the integers that lose least of them.
//! 3. `weights`: the steps of each output's weights that lose least.
//! 4. `draft`: biases without what the mean of each channel is off.
//! 5. Layers stay in floating point until the answers are as near as was asked for: first those that do most harm for
//!    what it costs to keep them.
//!
//! **How far off** answers are is their noise: the squares of what they are off over the squares of what they should be,
//! over all pictures, of the worst of a network's answers: logits, maps of scores, offsets of boxes. 0.5 %, the default,
//! is a signal of 23 dB, a relative error of 7 %: torchvision's V2 has 0.4 % with all layers in 8 bits. Of 100 parts of
//! photographs that it had not seen 94 kept their class so, and 98 with 0.05 %, for which 41 of its 53 layers stay in
//! floating point and little time is saved. It is not the share of pictures with another class, though
//! that is counted too: that share tells nothing where it is small and pictures are few, as of 100 pictures no bound
//! below 1 % can be held or missed by a little; noise is steady with a dozen of pictures, means the same for what
//! classifies, segments and detects, and grows with the square of the error as the loss of accuracy does.
//!
//! # The file
//!
//! Safetensors, under the names that the network's own library gives its modules:
//!
//! | tensor | of | |
//! |---|---|---|
//! | `MODULE.weight` | I8, in the library's shape | integers from -127 to 127, batch norms folded in |
//! | `MODULE.weight_scale` | F32, `[outputs]` | what a step of each output's weights is |
//! | `MODULE.weight` | F16 or F32 | of a layer that stays in floating point; it has no steps |
//! | `MODULE.bias` | F32, `[outputs]` | batch norms folded in: there are no tensors of theirs |
//!
//! The metadata's entry `goldcrest.int8` is JSON with `version`, 1; `architecture`, the library's name for the network, or
//! null; `values`, what else has to be known, as `--set` takes it; `labels`, the classes' names, or null; and `maps`, for
//! each module whose output is in 8 bits a `scale` and a `zero`: the integer q stands for `scale (q - zero)`.
//! `input` is the picture. So the file stands alone: no configuration beside it is read. Whoever knows nothing of 8 bits
//! takes a weight for its integers times their steps, and computes as before.

mod draft;
mod equalise;
mod file;
mod measure;
mod ranges;
mod report;
mod weights;

use crate::{
    Error, Result, Tensor,
    cpu::Cpu,
    graph::{Activation, Affine, Graph, Node, NodeId, Op, passes},
    tensor::Element,
    zoo::Network,
};

pub use report::{LayerReport, Precision, Report};

use draft::{Draft, extents, maps};
use equalise::{equalised, pairs};
use measure::{Noise, Watched, answers, changed, judged, noise};

/// Pictures that decide between possibilities; ranges, and the noise in the end, are measured on all.
const DECIDING: usize = 16;

/// Pictures on which the means of layers are measured: each of their pixels counts.
const AVERAGED: usize = 24;

/// Multiply-adds that take about as long as to convert a value.
const CONVERSION: f64 = 16.0;

/// The noise that is allowed where nothing else is said: 0.5 % of the answers' squares.
pub const WITHIN: f64 = 0.005;

/// A network in 8 bits.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// Of the network's own answer, after [`passes::prepared`].
    pub graph: Graph,
    /// What came of it.
    pub report: Report,
    /// What each layer that stays in floating point is stored as, and none of one in 8 bits, by node.
    stored: Vec<(NodeId, Option<Element>)>,
}

/// What is done just now, how much of it, and of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// For people: "ranges".
    pub stage: &'static str,
    /// How much of it.
    pub done: usize,
    /// Of how much.
    pub of: usize,
}

/// Puts weights and maps of `network` in 8 bits. `inputs` are pictures as the network wants them, all of one shape
/// `[1, C, H, W]`: the more like those that it will see, the better. The noise in its answers is at most `within`, or
/// else layers stay in floating point. The same network and inputs give the same on the same machine.
///
/// # Errors
/// [`Error::Input`] if there is no input, if none shows anything, if they do not fit the network, if that is in 8 bits
/// already, or if no layer can be in 8 bits within that noise; [`Error::Overflow`] if a value inside the network is not
/// finite.
pub fn quantize(
    cpu: &Cpu,
    network: &Network,
    inputs: &[Tensor],
    within: f64,
    mut progress: impl FnMut(Progress),
) -> Result<Quantized> {
    let (exact, layers) = layers_of(network)?;
    let all: Vec<&Tensor> = inputs.iter().collect();
    let warnings = look_at(network, &all)?;
    let wanted = answers(cpu, &judged(&exact), &all)?;
    let work = Work { cpu, network, all, wanted };

    let (mut draft, equalised, whole) = work.draft(exact, &layers, &mut progress)?;
    let mut eight = vec![true; layers.len()];
    let mut alone = None;
    let mut share = whole;
    if whole > within {
        let harm = work.alone(&draft, &mut progress)?;
        let costs = work.costs(&draft)?;
        // Those first that do most harm for what it costs to keep them, and of equals the first.
        let mut order: Vec<usize> = (0..layers.len()).collect();
        let worth = |at: usize| harm[at] / costs[at];
        order.sort_by(|a, b| worth(*b).total_cmp(&worth(*a)).then(a.cmp(b)));
        let without = |count: usize| {
            let mut eight = vec![true; layers.len()];
            order[..count].iter().for_each(|at| eight[*at] = false);
            eight
        };
        // None is too few, and all are enough. Other means are off once other layers are in 8 bits.
        let (mut low, mut high) = (0, layers.len());
        while high - low > 1 {
            let middle = (low + high) / 2;
            let share = work.corrected_noise(&mut draft, &without(middle), "layers", &mut progress)?;
            *(if share <= within { &mut high } else { &mut low }) = middle;
        }
        eight = without(high);
        share = work.corrected_noise(&mut draft, &eight, "biases again", &mut progress)?;
        if eight.iter().all(|eight| !eight) {
            let worst: Vec<&str> =
                order.iter().take(3).map(|at| draft.exact.node(layers[*at]).name()).collect();
            return Err(Error::Input(format!(
                "no layer of {} can be in 8 bits with a noise within {}: all of them make {}, most of it {}; allow more, \
                 or have the weights alone in 8 bits",
                network.arch,
                report::percent(within),
                report::percent(whole),
                worst.join(", ")
            )));
        }
        alone = Some((harm, costs));
    }
    work.finish(&draft, &eight, Found { within, whole, share, alone, equalised, warnings })
}

/// Puts the weights of `network` alone in 8 bits, which takes no pictures: a quarter of the size, and computed in floating
/// point as before.
///
/// # Errors
/// [`Error::Input`] if it is in 8 bits already, or has no layers.
pub fn weights_only(network: &Network) -> Result<Quantized> {
    let (exact, layers) = layers_of(network)?;
    let nodes = exact.nodes().len();
    let draft = Draft::new(exact, &layers, vec![None; nodes]);
    let eight = vec![true; layers.len()];
    let report = Report::of(network, &draft, &eight);
    Ok(Quantized { graph: draft.graph(&eight), report, stored: stored(&draft, &eight) })
}

/// A graph of `network` with all layers in 8 bits, of ranges that nothing was measured for: how it is planned, and how long
/// it takes, as neither depends on values. What it answers means nothing.
///
/// # Errors
/// As [`weights_only`].
///
/// ```
/// let network = goldcrest::zoo::synthetic::network("mobilenet_v2@0.35")?;
/// let whole = network.answering(network.answer())?;
/// let graph = goldcrest::quantize::nominal(&network, &whole)?;
/// assert!(graph.nodes().any(|(id, _)| graph.int8(id).is_some()));
/// # Ok::<(), goldcrest::Error>(())
/// ```
pub fn nominal(network: &Network, graph: &Graph) -> Result<Graph> {
    layers_of(network)?;
    let exact = passes::prepared(graph, false);
    let layers = draft::layers(&exact, network);
    let range = |node: &Node| match &node.op {
        Op::Conv(conv) => match conv.activation {
            Activation::Relu | Activation::Relu6 => Affine::over(0.0, 6.0),
            Activation::HardSigmoid | Activation::Sigmoid => Affine::over(0.0, 1.0),
            _ => Affine::over(-6.0, 6.0),
        },
        _ => Affine::over(-6.0, 6.0),
    };
    let ranges = exact.nodes().map(|(_, node)| Some(range(node))).collect();
    Ok(Draft::new(exact, &layers, ranges).graph(&vec![true; layers.len()]))
}

/// The graph in floating point, and its layers.
fn layers_of(network: &Network) -> Result<(Graph, Vec<NodeId>)> {
    if network.graph.nodes().any(|(_, node)| node.steps.is_some() || node.map.is_some()) {
        let arch = &network.arch;
        return Err(Error::Input(format!(
            "{arch} is in 8 bits already: quantise the weights that it was made from"
        )));
    }
    let exact = passes::prepared(&network.graph, false);
    let layers = draft::layers(&exact, network);
    match layers.is_empty() {
        true => Err(Error::Input(format!("{} has no layers", network.arch))),
        false => Ok((exact, layers)),
    }
}

/// Refuses inputs that tell nothing, and gives what is to be said of others.
fn look_at(network: &Network, inputs: &[&Tensor]) -> Result<Vec<String>> {
    let Some(first) = inputs.first() else {
        return Err(Error::Input("there is no picture to measure ranges on".into()));
    };
    let shape = first.shape()?;
    for input in inputs {
        let found = input.shape()?;
        if found != shape || found.n != 1 || found.c != network.channels {
            let wanted = network.input_shape(1);
            return Err(Error::Input(format!(
                "the pictures' shapes are {shape} and {found}, expected {wanted}"
            )));
        }
        if input.data().iter().any(|value| !value.is_finite()) {
            return Err(Error::Input("a picture has a value that is not finite".into()));
        }
    }
    let plane = shape.h * shape.w;
    let plain = |input: &&&Tensor| {
        input.data().chunks_exact(plane).all(|plane| plane.iter().all(|value| *value == plane[0]))
    };
    let plain = inputs.iter().filter(plain).count();
    let mut warnings = Vec::new();
    match (plain, inputs.len()) {
        (plain, all) if plain == all => {
            return Err(Error::Input(format!(
                "every one of the {all} pictures is of one colour: ranges that are measured on them fit nothing else"
            )));
        }
        (1.., all) => warnings.push(format!("{plain} of {all} pictures are of one colour")),
        (0, 1) => warnings.push("the ranges are those of a single picture: others may be cut off".into()),
        (0, _) => {}
    }
    Ok(warnings)
}

/// Some of all, evenly chosen.
pub fn evenly<T: Copy>(all: &[T], most: usize) -> Vec<T> {
    let count = all.len().min(most);
    (0..count).map(|at| all[at * all.len() / count]).collect()
}

fn stored(draft: &Draft, eight: &[bool]) -> Vec<(NodeId, Option<Element>)> {
    let layers = draft.layers.iter().zip(eight);
    layers.map(|(layer, eight)| (layer.id, (!eight).then_some(layer.float.1))).collect()
}

/// What was found out on the way.
struct Found {
    within: f64,
    whole: f64,
    share: f64,
    /// Of each layer the noise alone, and what it costs in floating point.
    alone: Option<(Vec<f64>, Vec<f64>)>,
    equalised: usize,
    warnings: Vec<String>,
}

/// What measuring takes.
struct Work<'a> {
    cpu: &'a Cpu,
    network: &'a Network,
    all: Vec<&'a Tensor>,
    /// What the network answers to them.
    wanted: Vec<Vec<Tensor>>,
}

impl Work<'_> {
    /// The network in 8 bits, with the pairs of layers whose channels were made alike, and the noise with all layers in 8
    /// bits.
    fn draft(
        &self,
        exact: Graph,
        layers: &[NodeId],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Draft, usize, f64)> {
        let of = self.all.len();
        let mut extents_of = |graph: &Graph, stage| {
            extents(self.cpu, &judged(graph), &self.all, |done| progress(Progress { stage, done, of }))
        };
        let pairs = pairs(&exact, layers);
        let extents = extents_of(&exact, "ranges")?;
        let exact = equalised(&exact, &pairs, &extents);
        let extents = if pairs.is_empty() { extents } else { extents_of(&exact, "equalising")? };
        let maps = maps(self.cpu, &judged(&exact), &extents, &self.all, |done| {
            progress(Progress { stage: "integers", done, of });
        })?;
        let mut draft = Draft::new(exact, layers, maps);
        let eight = vec![true; layers.len()];
        let noise = self.corrected_noise(&mut draft, &eight, "biases", progress)?;
        Ok((draft, pairs.len(), noise))
    }

    /// The noise in what every node makes, of all layers before it.
    fn noises(&self, draft: &Draft, eight: &[bool]) -> Result<Vec<Noise>> {
        let (exact, graph) = (judged(&draft.exact), judged(&draft.graph(eight)));
        let mut exact = Watched::new(self.cpu, &exact, self.all[0])?;
        let mut rounded = Watched::new(self.cpu, &graph, self.all[0])?;
        let mut noises = vec![Noise::default(); graph.nodes().len()];
        for input in evenly(&self.all, DECIDING) {
            let wanted = exact.values(input)?;
            for ((id, found), (_, wanted)) in rounded.values(input)?.iter().zip(&wanted) {
                noises[id.index()].add(found.data(), wanted.data());
            }
        }
        Ok(noises)
    }

    /// The answers to as many pictures, and the noise in them.
    fn answered(&self, graph: &Graph, pictures: usize) -> Result<(Vec<Vec<Tensor>>, f64)> {
        let found = answers(self.cpu, &judged(graph), &evenly(&self.all, pictures))?;
        let wanted: Vec<&[Tensor]> = self.wanted.iter().map(Vec::as_slice).collect();
        let noise = noise(&found, &evenly(&wanted, pictures));
        Ok((found, noise))
    }

    /// The noise in the answers to the pictures that decide.
    fn noise(&self, draft: &Draft, eight: &[bool]) -> Result<f64> {
        Ok(self.answered(&draft.graph(eight), DECIDING)?.1)
    }

    /// Puts the biases right, and gives the noise in the answers to all pictures.
    fn corrected_noise(
        &self,
        draft: &mut Draft,
        eight: &[bool],
        stage: &'static str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<f64> {
        let of = draft.layers.len();
        let averaged = evenly(&self.all, AVERAGED);
        draft.correct(self.cpu, eight, &averaged, |done| progress(Progress { stage, done, of }))?;
        Ok(self.answered(&draft.graph(eight), self.all.len())?.1)
    }

    /// The noise that each layer adds if it is the only one in 8 bits: those in 16 have some of their own.
    fn alone(&self, draft: &Draft, progress: &mut dyn FnMut(Progress)) -> Result<Vec<f64>> {
        let (mut draft, of) = (draft.uncorrected(), draft.layers.len());
        let averaged = evenly(&self.all, AVERAGED);
        let none = self.noise(&draft, &vec![false; of])?;
        let only = |at: usize| {
            progress(Progress { stage: "each layer", done: at, of });
            let eight: Vec<bool> = (0..of).map(|other| other == at).collect();
            draft.correct(self.cpu, &eight, &averaged, |_| {})?;
            Ok((self.noise(&draft, &eight)? - none).max(0.0))
        };
        (0..of).map(only).collect()
    }

    /// About what each layer costs in floating point: its multiply-adds, and maps that become floating point and integers
    /// again.
    fn costs(&self, draft: &Draft) -> Result<Vec<f64>> {
        let shapes = draft.exact.shapes(self.all[0].shape()?)?;
        let size = |id: NodeId| shapes[id.index()].len() as f64;
        let cost = |layer: &draft::Layer| {
            let conv = draft::conv(&draft.exact, layer.id);
            let each = conv.weight.data().len() / conv.outputs();
            let (read, made) = (size(draft.exact.node(layer.id).inputs[0]), size(layer.id));
            made * each as f64 + CONVERSION * (read + made)
        };
        Ok(draft.layers.iter().map(cost).collect())
    }

    fn finish(&self, draft: &Draft, eight: &[bool], found: Found) -> Result<Quantized> {
        let graph = draft.graph(eight);
        let mut report = Report::of(self.network, draft, eight);
        let noises = self.noises(draft, eight)?;
        for (at, layer) in report.layers.iter_mut().enumerate() {
            layer.noise = Some(noises[draft.layers[at].id.index()].share());
            layer.alone = found.alone.as_ref().map(|(alone, _)| alone[at]);
            layer.cost = found.alone.as_ref().map(|(_, costs)| costs[at]);
        }
        if self.network.classes > 0 {
            let (found, _) = self.answered(&graph, self.all.len())?;
            let wanted: Vec<&[Tensor]> = self.wanted.iter().map(Vec::as_slice).collect();
            report.changed = Some(changed(&found, &wanted, self.network.classes));
        }
        report.pictures = self.all.len();
        report.within = Some(found.within);
        report.noise = Some(found.share);
        report.noise_of_all = Some(found.whole);
        report.equalised = found.equalised;
        report.warnings = found.warnings;
        Ok(Quantized { graph, report, stored: stored(draft, eight) })
    }
}
