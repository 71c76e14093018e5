//! Post-training quantisation of weights and feature maps to int8, calibrated on a few pictures without
//! labels.
//!
//! [`quantize`] takes a network and preprocessed pictures. It returns the network's graph with weights that
//! are integer multiples of the weight scale of their output channel
//! ([`Node::weight_scales`](crate::graph::Node::weight_scales)), and with the quantisation of each map
//! ([`Node::quantisation`](crate::graph::Node::quantisation)). [`Quantized::encode`] encodes it as a file that
//! [`Network::open`] reads like any other. [`Affine`] defines the arithmetic.
//!
//! 1. `equalise`: evens out channels of very different magnitude in front of depthwise layers. Outputs and
//!    feature maps keep their values; taps of other layers are scaled by channel.
//! 2. `ranges`: measures each map's values and chooses the quantisation with the least error.
//! 3. `weights`: chooses the scale with the least error for each output's weights.
//! 4. `draft`: subtracts the mean error of each channel from the biases.
//! 5. Layers return to floating point until the outputs are accurate enough, starting with the largest error
//!    per cost.
//!
//! **Noise** measures the error of an output: the sum of squared errors divided by the sum of squared f32
//! values, over all pictures. If a network has several outputs, such as score maps and box offsets, its noise
//! is that of the worst one. The default limit, 0.5 %, is a signal-to-noise ratio of 23 dB, or a relative
//! error of 7 %. torchvision's V2 has 0.4 % with all layers in int8. Of 100 crops of photographs not used for
//! calibration, 94 then keep their class. With a limit of 0.05 %, 98 do, but 41 of the 53 layers stay in
//! floating point and little time is saved. The fraction of pictures whose class changes is reported too, but
//! is not the criterion: with 100 pictures it cannot resolve less than 1 %. Noise is stable with a dozen
//! pictures, means the same for classification, segmentation and detection, and grows with the square of the
//! error, as the loss of accuracy does.
//!
//! # The file
//!
//! Safetensors, with the module names of the network's own library:
//!
//! | tensor | type | contents |
//! |---|---|---|
//! | `MODULE.weight` | I8, in the library's shape | integers from -127 to 127, batch norms folded in |
//! | `MODULE.weight_scale` | F32, `[outputs]` | the scale of each output's weights |
//! | `MODULE.weight` | F16 or F32 | of a layer that stays in floating point, without `weight_scale` |
//! | `MODULE.bias` | F32, `[outputs]` | batch norms folded in; they have no tensors |
//!
//! The metadata entry `goldcrest.int8` is JSON with `version`, 1; `architecture`, the library's name for the
//! network, or null; `values`, other settings in the form of `--set`; `labels`, the names of classes, or
//! null; and `maps`, a `scale` and a `zero` for each module whose output is int8: the integer q represents
//! `scale (q - zero)`. The module `input` is the picture. The file is self-contained: no configuration next
//! to it is read. A reader without int8 support multiplies integers by their scales and computes in floating
//! point.

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

pub use report::{LayerReport, Report, StoredType};

use draft::{Draft, extents, maps};
use equalise::{equalised, pairs};
use measure::{Noise, Watched, changed, compared, noise, outputs};

/// Pictures on which layers are compared. Ranges and the final noise are measured on all.
const DECIDING: usize = 16;

/// Pictures on which the means of layers are measured. A few suffice, because every pixel is a sample.
const AVERAGED: usize = 24;

/// The approximate cost of converting one value, in multiply-adds.
const CONVERSION: f64 = 16.0;

/// The default limit on noise: 0.5 %, as a fraction.
pub const DEFAULT_MAX_NOISE: f64 = 0.005;

/// A quantised network.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The graph with the network's own outputs, after [`passes::prepared`].
    pub graph: Graph,
    /// Precision, size and noise by layer.
    pub report: Report,
    /// The stored type of each layer that stays in floating point, None for an int8 layer, by node.
    stored: Vec<(NodeId, Option<Element>)>,
}

/// The progress of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The stage's name for display, such as "ranges".
    pub stage: &'static str,
    /// The number of finished items.
    pub done: usize,
    /// The number of items.
    pub of: usize,
}

/// Quantises the weights and maps of `network` to int8. `inputs` are preprocessed pictures, all of one shape
/// `[1, C, H, W]`. They should resemble those that the network will see. `max_noise` is the limit on the
/// noise of the outputs, a fraction such as [`DEFAULT_MAX_NOISE`]; layers stay in floating point where this
/// limit requires it. The same network and inputs give the same result on the same machine.
///
/// ```no_run
/// # #[cfg(feature = "image")]
/// # fn main() -> goldcrest::Result<()> {
/// use goldcrest::{cpu::Cpu, quantize, tasks::{Picture, preprocess}, zoo::Network};
///
/// let network = Network::open("mobilenet_v2-b0353104.pth")?;
/// let photos = ["a.jpg", "b.jpg", "c.jpg"]; // better a hundred
/// let inputs = photos.map(|photo| preprocess(&Picture::open(photo)?, &network.preprocessing));
/// let inputs = inputs.into_iter().collect::<goldcrest::Result<Vec<_>>>()?;
/// let int8 = quantize::quantize(&Cpu::new(None)?, &network, &inputs, quantize::DEFAULT_MAX_NOISE, |_| {})?;
/// goldcrest::files::write_whole("mobilenet_v2-int8.safetensors".as_ref(), &int8.encode(&network)?)
///     .map_err(goldcrest::Error::io("mobilenet_v2-int8.safetensors"))?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "image"))]
/// # fn main() {}
/// ```
///
/// # Errors
/// [`Error::Input`] if there is no input, if every input is uniform, if inputs do not fit the network, if the
/// network is already int8, or if no layer can be int8 within that noise; [`Error::Overflow`] if a value
/// inside the network is not finite.
pub fn quantize(
    cpu: &Cpu,
    network: &Network,
    inputs: &[Tensor],
    max_noise: f64,
    mut progress: impl FnMut(Progress),
) -> Result<Quantized> {
    if max_noise.is_nan() {
        return Err(Error::Input("the maximum noise is not a number".into()));
    }
    let (exact, layers) = layers_of(network)?;
    let all: Vec<&Tensor> = inputs.iter().collect();
    let warnings = check_inputs(network, &all)?;
    let wanted = outputs(cpu, &compared(&exact), &all)?;
    let calibration = Calibration { cpu, network, all, wanted };

    let (mut draft, equalised, noise_of_all) = calibration.draft(exact, &layers, &mut progress)?;
    let mut int8 = vec![true; layers.len()];
    let mut alone = None;
    let mut final_noise = noise_of_all;
    if noise_of_all > max_noise {
        let harm = calibration.single_layer_noise(&draft, &mut progress)?;
        let costs = calibration.costs(&draft)?;
        // Sorted by noise per cost, the highest first, and then by layer.
        let mut order: Vec<usize> = (0..layers.len()).collect();
        let worth = |at: usize| harm[at] / costs[at];
        order.sort_by(|a, b| worth(*b).total_cmp(&worth(*a)).then(a.cmp(b)));
        let without = |count: usize| {
            let mut int8 = vec![true; layers.len()];
            order[..count].iter().for_each(|at| int8[*at] = false);
            int8
        };
        // Bisection over the number of layers in floating point: 0 is too few, all are enough. Biases are
        // corrected for each number.
        let (mut low, mut high) = (0, layers.len());
        while high - low > 1 {
            let middle = (low + high) / 2;
            let noise = calibration.corrected_noise(&mut draft, &without(middle), "layers", &mut progress)?;
            *(if noise <= max_noise { &mut high } else { &mut low }) = middle;
        }
        int8 = without(high);
        final_noise = calibration.corrected_noise(&mut draft, &int8, "biases again", &mut progress)?;
        if int8.iter().all(|int8| !int8) {
            let worst: Vec<&str> =
                order.iter().take(3).map(|at| draft.exact.node(layers[*at]).name()).collect();
            return Err(Error::Input(format!(
                "no layer of {} can be int8 with noise of at most {}: with all layers in int8 the noise is {}, \
                 mostly from {}; allow more noise, or quantise only the weights",
                network.arch,
                report::percent(max_noise),
                report::percent(noise_of_all),
                worst.join(", ")
            )));
        }
        alone = Some((harm, costs));
    }
    calibration.finish(
        &draft,
        &int8,
        Found { max_noise, noise_of_all, noise: final_noise, alone, equalised, warnings },
    )
}

/// Quantises only the weights of `network` to int8, which needs no pictures. The file has a quarter of the
/// size, and computation stays in floating point.
///
/// # Errors
/// [`Error::Input`] if it is already int8, or has no layers.
pub fn weights_only(network: &Network) -> Result<Quantized> {
    let (exact, layers) = layers_of(network)?;
    let nodes = exact.nodes().len();
    let draft = Draft::new(None, exact, &layers, vec![None; nodes]);
    let int8 = vec![true; layers.len()];
    let report = Report::of(network, &draft, &int8);
    Ok(Quantized { graph: draft.graph(&int8), report, stored: stored(&draft, &int8) })
}

/// Returns `graph`, a graph of `network`, with all layers in int8 and nominal ranges. It is for planning and
/// timing, which do not depend on values; its outputs are meaningless.
///
/// # Errors
/// As [`weights_only`].
///
/// ```
/// let network = goldcrest::zoo::synthetic::network("mobilenet_v2@0.35")?;
/// let whole = network.graph_for(network.default_outputs())?;
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
    Ok(Draft::new(None, exact, &layers, ranges).graph(&vec![true; layers.len()]))
}

/// Returns the f32 graph and its layers.
fn layers_of(network: &Network) -> Result<(Graph, Vec<NodeId>)> {
    if network.graph.nodes().any(|(_, node)| node.weight_scales.is_some() || node.quantisation.is_some()) {
        let arch = &network.arch;
        return Err(Error::Input(format!("{arch} is already int8: quantise the original weights instead")));
    }
    let exact = passes::prepared(&network.graph, false);
    let layers = draft::layers(&exact, network);
    match layers.is_empty() {
        true => Err(Error::Input(format!("{} has no layers", network.arch))),
        false => Ok((exact, layers)),
    }
}

/// Rejects unusable inputs, and returns warnings about doubtful ones.
fn check_inputs(network: &Network, inputs: &[&Tensor]) -> Result<Vec<String>> {
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
                "all {all} pictures are uniform, of a single colour: ranges measured on them fit no other picture"
            )));
        }
        (1.., all) => warnings.push(format!("{plain} of {all} pictures are uniform, of a single colour")),
        (0, 1) => warnings.push("the ranges are those of a single picture: others may be clipped".into()),
        (0, _) => {}
    }
    Ok(warnings)
}

/// Chooses at most `most` items, evenly spaced.
pub fn evenly<T: Copy>(all: &[T], most: usize) -> Vec<T> {
    let count = all.len().min(most);
    (0..count).map(|at| all[at * all.len() / count]).collect()
}

fn stored(draft: &Draft, int8: &[bool]) -> Vec<(NodeId, Option<Element>)> {
    let layers = draft.layers.iter().zip(int8);
    layers.map(|(layer, int8)| (layer.id, (!int8).then_some(layer.float.1))).collect()
}

/// Results for the report.
struct Found {
    max_noise: f64,
    /// With all layers in int8.
    noise_of_all: f64,
    noise: f64,
    /// Per layer: the noise if only it is int8, and its cost in floating point.
    alone: Option<(Vec<f64>, Vec<f64>)>,
    equalised: usize,
    warnings: Vec<String>,
}

/// Inputs and reference outputs, shared by all measurements.
struct Calibration<'a> {
    cpu: &'a Cpu,
    network: &'a Network,
    all: Vec<&'a Tensor>,
    /// The f32 network's outputs for each input.
    wanted: Vec<Vec<Tensor>>,
}

impl Calibration<'_> {
    /// Quantises all layers. Returns the draft, the number of equalised pairs of layers, and the noise.
    fn draft(
        &self,
        exact: Graph,
        layers: &[NodeId],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Draft, usize, f64)> {
        let of = self.all.len();
        let mut extents_of = |graph: &Graph, stage| {
            extents(self.cpu, &compared(graph), &self.all, |done| progress(Progress { stage, done, of }))
        };
        let features: Vec<&str> =
            self.network.features.iter().map(|of| self.network.graph.node(of.node).output_name()).collect();
        let pairs = pairs(&exact, layers, &features);
        let extents = extents_of(&exact, "ranges")?;
        let exact = equalised(&exact, &pairs, &extents);
        let extents = if pairs.is_empty() { extents } else { extents_of(&exact, "equalising")? };
        let maps = maps(self.cpu, &compared(&exact), &extents, &self.all, |done| {
            progress(Progress { stage: "integers", done, of });
        })?;
        let mut draft = Draft::new(Some(self.cpu), exact, layers, maps);
        let int8 = vec![true; layers.len()];
        let noise = self.corrected_noise(&mut draft, &int8, "biases", progress)?;
        Ok((draft, pairs.len(), noise))
    }

    /// The noise in every node's value, including that of all preceding layers.
    fn noises(&self, draft: &Draft, int8: &[bool]) -> Result<Vec<Noise>> {
        let (exact, graph) = (compared(&draft.exact), compared(&draft.graph(int8)));
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

    /// Returns the outputs for `pictures` pictures, and their noise.
    fn evaluate(&self, graph: &Graph, pictures: usize) -> Result<(Vec<Vec<Tensor>>, f64)> {
        let found = outputs(self.cpu, &compared(graph), &evenly(&self.all, pictures))?;
        let wanted: Vec<&[Tensor]> = self.wanted.iter().map(Vec::as_slice).collect();
        let noise = noise(&found, &evenly(&wanted, pictures));
        Ok((found, noise))
    }

    /// The noise in the outputs for [`DECIDING`] pictures.
    fn noise(&self, draft: &Draft, int8: &[bool]) -> Result<f64> {
        Ok(self.evaluate(&draft.graph(int8), DECIDING)?.1)
    }

    /// Corrects the biases. Returns the noise in the outputs for all pictures.
    fn corrected_noise(
        &self,
        draft: &mut Draft,
        int8: &[bool],
        stage: &'static str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<f64> {
        let of = draft.layers.len();
        let averaged = evenly(&self.all, AVERAGED);
        draft.correct(self.cpu, int8, &averaged, |done| progress(Progress { stage, done, of }))?;
        Ok(self.evaluate(&draft.graph(int8), self.all.len())?.1)
    }

    /// The noise that each layer adds if only it is int8. Layers in f16 have noise too, which is subtracted.
    fn single_layer_noise(&self, draft: &Draft, progress: &mut dyn FnMut(Progress)) -> Result<Vec<f64>> {
        let (mut draft, of) = (draft.uncorrected(), draft.layers.len());
        let averaged = evenly(&self.all, AVERAGED);
        let none = self.noise(&draft, &vec![false; of])?;
        let only = |at: usize| {
            progress(Progress { stage: "each layer", done: at, of });
            let int8: Vec<bool> = (0..of).map(|other| other == at).collect();
            draft.correct(self.cpu, &int8, &averaged, |_| {})?;
            Ok((self.noise(&draft, &int8)? - none).max(0.0))
        };
        (0..of).map(only).collect()
    }

    /// The approximate cost of each layer in floating point: its multiply-adds, and the conversion of its
    /// maps to f32 and back.
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

    fn finish(&self, draft: &Draft, int8: &[bool], found: Found) -> Result<Quantized> {
        let graph = draft.graph(int8);
        let mut report = Report::of(self.network, draft, int8);
        let noises = self.noises(draft, int8)?;
        for (at, layer) in report.layers.iter_mut().enumerate() {
            layer.noise = Some(noises[draft.layers[at].id.index()].ratio());
            layer.alone = found.alone.as_ref().map(|(alone, _)| alone[at]);
            layer.cost = found.alone.as_ref().map(|(_, costs)| costs[at]);
        }
        if self.network.classes > 0 {
            let (found, _) = self.evaluate(&graph, self.all.len())?;
            let wanted: Vec<&[Tensor]> = self.wanted.iter().map(Vec::as_slice).collect();
            report.changed = Some(changed(&found, &wanted, self.network.classes));
        }
        report.pictures = self.all.len();
        report.max_noise = Some(found.max_noise);
        report.noise = Some(found.noise);
        report.noise_of_all = Some(found.noise_of_all);
        report.equalised = found.equalised;
        report.warnings = found.warnings;
        Ok(Quantized { graph, report, stored: stored(draft, int8) })
    }
}
