//! A lower bound on a network's time on a device, computed without running it.

use crate::{
    Result, Shape,
    cpu::Winograd,
    graph::{Cost, Graph, Op, passes},
    measure::Peaks,
    quantize::{self, StoredType},
    session::{self, Device, Options},
    tensor::Element,
    zoo::Network,
};

/// A step's minimum time, as a fraction of the measured launch time: launches of real steps overlap a little.
const LAUNCH: f64 = 0.8;

/// The maximum speedup of int8 products over f32 products.
const INT8: f64 = 4.0;

/// The peak rates of a device in one precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Multiply-adds per second.
    pub macs: f64,
    /// The minimum seconds per step.
    launch: f64,
}

/// The minimum work of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Multiply-adds, as papers count them.
    pub macs: u64,
    /// Those that are computed at least: fewer if the CPU may use Winograd's algorithm.
    pub least_macs: u64,
    /// Launches on a GPU; 0 on the CPU.
    steps: usize,
    /// Bytes of its weights: a lower bound on its memory.
    pub weight_bytes: u64,
}

impl Rate {
    /// Measures the device's peak rates.
    pub fn measure(device: &Device, precision: StoredType) -> Result<Self> {
        let element = if precision == StoredType::F16 { Element::F16 } else { Element::F32 };
        let Peaks { macs, launch, .. } = Peaks::measure(device, element)?;
        let speedup = if precision == StoredType::Int8 { INT8 } else { 1.0 };
        Ok(Self { macs: speedup * macs, launch: LAUNCH * launch })
    }

    /// A lower bound on the network's time, in milliseconds.
    pub fn floor_ms(&self, demand: Demand) -> f64 {
        1e3 * (demand.least_macs as f64 / self.macs).max(demand.steps as f64 * self.launch)
    }
}

impl Demand {
    /// Counts the work of a graph on a device. Launches are those of the device's plan.
    pub fn of(device: &Device, graph: &Graph, input: Shape, precision: StoredType) -> Result<Self> {
        // In floating point the CPU engine uses F(2x2, 3x3) for some dense layers.
        let winograd = matches!(device, Device::Cpu(_)) && precision == StoredType::F32;
        let counted = Self::count(graph, input, precision, winograd)?;
        Ok(match device {
            Device::Gpu(gpu) => {
                Self { steps: session::plan(gpu, graph, input, options(precision))?.steps.len(), ..counted }
            }
            Device::Cpu(_) => counted,
        })
    }

    fn count(graph: &Graph, input: Shape, precision: StoredType, winograd: bool) -> Result<Self> {
        let graph = passes::prepared(graph, false);
        let costs = graph.costs(&graph.shapes(input)?);
        let least_macs = graph.nodes().zip(&costs).map(|((_, node), cost)| match &node.op {
            // 16 instead of 36 for four outputs.
            Op::Conv(conv) if winograd && Winograd::applies(conv) => cost.macs * 16 / 36,
            _ => cost.macs,
        });
        let least_macs = least_macs.sum();
        let cost: Cost = costs.into_iter().sum();
        let size = match precision {
            StoredType::F32 => 4,
            StoredType::F16 => 2,
            StoredType::Int8 => 1,
        };
        Ok(Self { macs: cost.macs, least_macs, steps: 0, weight_bytes: size * cost.parameters })
    }
}

/// Returns the graph with the network's default outputs (scores, labels or boxes), in a precision.
pub fn graph(network: &Network, precision: StoredType) -> Result<Graph> {
    let graph = network.graph_for(network.default_outputs())?;
    match precision {
        StoredType::Int8 => quantize::nominal(network, &graph),
        StoredType::F16 | StoredType::F32 => Ok(graph.into_owned()),
    }
}

/// The session options for a network. They allow kernels from the tuning cache.
pub fn options(precision: StoredType) -> Options {
    let stored = match precision {
        StoredType::F16 => session::Precision::F16,
        StoredType::F32 | StoredType::Int8 => session::Precision::F32,
    };
    Options { precision: stored, ..Options::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        cpu::Cpu,
        measure::{Case, Sampling, time},
        zoo::synthetic,
    };

    #[test]
    fn floors_grow_with_work_and_with_steps() {
        let rate = Rate { macs: 1e9, launch: 1e-5 };
        let of = |macs, steps| rate.floor_ms(Demand { macs, least_macs: macs, steps, weight_bytes: 0 });
        assert!((of(1_000_000, 0) - 1.0).abs() < 1e-9);
        assert!((of(1_000_000, 500) - 5.0).abs() < 1e-9);
    }

    /// Checks that the bound holds: no measured time is below it.
    #[test]
    fn no_network_on_the_cpu_is_faster_than_its_floor() {
        let cpu: Device = Device::Cpu(Cpu::new(Some(1)).unwrap());
        for precision in [StoredType::F32, StoredType::Int8] {
            let rate = Rate::measure(&cpu, precision).unwrap();
            for name in
                ["mobilenet_v1@0.5", "mobilenet_v2@0.35", "mobilenet_v3_small", "torchvision/resnet18"]
            {
                let network = synthetic::network(name).unwrap();
                let graph = graph(&network, precision).unwrap();
                let input = network.input_shape(1);
                let demand = Demand::of(&cpu, &graph, input, precision).unwrap();
                let case = Case { graph: &graph, input, options: options(precision) };
                let sampling = Sampling { warmup: 1, runs: 5, time: Duration::ZERO };
                let took = time(&cpu, case, sampling).unwrap();
                let floor = rate.floor_ms(demand);
                assert!(
                    floor < took.wall_ms.median,
                    "{name} {precision}: {floor} ms, took {:?}",
                    took.wall_ms
                );
                assert!(demand.weight_bytes <= took.peak_bytes, "{name} {precision}: {demand:?}");
                assert!(demand.macs > 0, "{name}");
            }
        }
    }
}
