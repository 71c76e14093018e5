//! The networks that E8 quantises.

use super::rounded::{Rounded, Scenes, scaled};
use crate::{
    Result,
    cpu::Cpu,
    demo,
    graph::{
        Activation::{self, HardSwish, Relu6, Swish},
        Graph, NodeId, Op,
    },
    measure::Spread,
    session::Device,
    study::lab::Lab,
    zoo::{
        Network,
        synthetic::{self, V3Options, v3_large, v3_small},
    },
};

/// The variants of a V3 with random weights: the activation and the network's name.
pub const SHAPE: [(Activation, &str); 3] =
    [(Relu6, "all ReLU6"), (HardSwish, "all h-swish"), (Swish, "all swish")];
/// The variants of the trained network.
pub const TRAINED: [(Activation, &str); 2] = [(HardSwish, "trained, h-swish"), (Swish, "trained, swish")];

/// The extent of the experiment.
pub struct Sizes {
    /// The structure of the networks in [`SHAPE`]: its name, its name in figures, and its builder.
    pub shape: (&'static str, &'static str, fn(&V3Options) -> Graph),
    /// The generations, with their names in figures.
    pub networks: [(&'static str, &'static str); 3],
    /// Draws of random weights.
    pub draws: u32,
    /// Scenes for ranges and for errors: for networks with random weights, and for the trained one.
    pub random: [u64; 2],
    pub trained: [u64; 2],
}

impl Sizes {
    pub fn new(quick: bool) -> Self {
        let [small, large] = [("mobilenet_v3_small", "V3-Small"), ("mobilenet_v3_large", "V3-Large")];
        let v3 = if quick { small } else { large };
        let make = if quick { v3_small } else { v3_large };
        let shape = (v3.0, v3.1, make as fn(&V3Options) -> Graph);
        let networks = [("mobilenet_v1", "V1"), ("mobilenet_v2", "V2"), v3];
        let (draws, random, trained) = if quick { (3, [3, 8], [8, 60]) } else { (5, [16, 32], [64, 500]) };
        Self { shape, networks, draws, random, trained }
    }
}

/// A group of networks that are compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Shape,
    Generations,
    Trained,
}

/// A network in f32 and in int8, with its name in tables.
pub struct Subject {
    pub name: &'static str,
    pub group: Group,
    pub rounded: Rounded,
    /// The relative errors of each draw of weights; the first draw is `rounded`.
    pub draws: Vec<Vec<f64>>,
}

impl Subject {
    /// The relative error over all draws and scenes.
    pub fn error(&self) -> Option<Spread> {
        Spread::of(self.draws.concat())
    }

    /// The median error of each draw.
    pub fn medians(&self) -> Vec<f64> {
        self.draws.iter().filter_map(|errors| Some(Spread::of(errors.clone())?.median)).collect()
    }
}

/// Quantises every network; one that fails is left out and recorded as a failure.
pub fn all(lab: &mut Lab, sizes: &Sizes) -> Result<Vec<Subject>> {
    let cpu = lab.benches.iter().find_map(|bench| match &bench.device {
        Device::Cpu(cpu) => Some(cpu.clone()),
        Device::Gpu(_) => None,
    });
    let cpu = cpu.map_or_else(|| Cpu::new(None), Ok)?;
    let mut subjects = Vec::new();
    let base = synthetic::network(sizes.shape.0)?;
    let scenes = Scenes::new(&base.preprocessing, base.input[0], sizes.random)?;
    for (activation, name) in SHAPE {
        let network = |draw| {
            let options = V3Options { activation: Some(activation), draw, ..V3Options::default() };
            Network { graph: (sizes.shape.2)(&options), ..base.clone() }
        };
        subjects.extend(subject(lab, &cpu, name, Group::Shape, (0..sizes.draws).map(network), &scenes));
    }
    for (network, name) in sizes.networks {
        let network = synthetic::network(network)?;
        subjects.extend(subject(lab, &cpu, name, Group::Generations, [network], &scenes));
    }
    let trained = demo::classifier()?;
    let scenes = Scenes::new(&trained.preprocessing, trained.input[0], sizes.trained)?;
    for (activation, name) in TRAINED {
        let network = Network { graph: with(&trained.graph, activation), ..trained.clone() };
        subjects.extend(subject(lab, &cpu, name, Group::Trained, [network], &scenes));
    }
    Ok(subjects)
}

/// Quantises a network with each draw of its weights.
fn subject(
    lab: &mut Lab,
    cpu: &Cpu,
    name: &'static str,
    group: Group,
    networks: impl IntoIterator<Item = Network>,
    scenes: &Scenes,
) -> Option<Subject> {
    let mut first = None;
    let mut draws = Vec::new();
    for network in networks {
        if lab.is_stopped() {
            break;
        }
        lab.announce_now(&format!("{name} in int8"));
        // The trained network keeps its batch norms.
        let network = if group == Group::Trained { Ok(network) } else { scaled(cpu, &network, scenes) };
        match network.and_then(|network| Rounded::new(cpu, &network, scenes)) {
            Ok(rounded) => {
                draws.push(rounded.errors.clone());
                first.get_or_insert(rounded);
            }
            Err(error) => lab.failures.push(format!("{name} in int8: {error}")),
        }
    }
    first.map(|rounded| Subject { name, group, rounded, draws })
}

/// Returns the graph with `activation` in place of h-swish.
fn with(graph: &Graph, activation: Activation) -> Graph {
    let mut graph = graph.clone();
    let ids: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    for id in ids {
        if let Op::Activation(found @ HardSwish) = &mut graph.node_mut(id).op {
            *found = activation;
        }
    }
    graph
}
