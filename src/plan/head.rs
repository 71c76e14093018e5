//! The schedules of a head: a pointwise convolution and the mean of its output.

use super::{
    Options,
    blocks::{Head, conv},
    choose,
    draft::{DraftStep, MapId, Read},
    schedule::{Candidate, Fuse, Schedule},
};
use crate::{
    Shape,
    graph::{Graph, NodeId},
    kernels::{Machine, Work, pointwise, pointwise_pool},
};

/// The candidates: one kernel per layer, and both layers in one kernel, once per tile. They are sorted by
/// predicted time, fastest first.
pub fn candidates(
    graph: &Graph,
    shapes: &[Shape],
    head: Head,
    machine: &Machine,
    options: &Options,
) -> Result<Vec<Candidate>, (NodeId, String)> {
    let layers =
        [head.conv, head.pool].map(|id| choose::layer(graph, shapes, id, machine, options.kernels()));
    let separate = layers.into_iter().collect::<Result<_, _>>()?;
    let mut found = vec![Candidate::new(Schedule::Separate, separate)];
    let pooled = pointwise_pool::Tile::on(machine, shapes[graph.node(head.conv).inputs[0].index()].quads())
        .map(|tile| Candidate::new(Schedule::Pooled(tile), vec![step(graph, shapes, head, machine, tile)]));
    match options.fuse() {
        Fuse::None => {}
        Fuse::Auto => found.extend(pooled),
        Fuse::Pair | Fuse::Block => found = pooled.collect(),
    }
    found.sort_by(|a, b| a.time.total_cmp(&b.time));
    Ok(found)
}

fn step(
    graph: &Graph,
    shapes: &[Shape],
    head: Head,
    machine: &Machine,
    tile: pointwise_pool::Tile,
) -> DraftStep {
    let conv = conv(graph.node(head.conv)).expect("found as a convolution");
    let input = graph.node(head.conv).inputs[0];
    let (x, y, means) = (shapes[input.index()], shapes[head.conv.index()], shapes[head.pool.index()]);
    let launch = pointwise_pool::launch(conv, x, y, tile);
    let groups = launch.workgroup_count();
    let (effort, footprint) = pointwise_pool::effort(x, y, tile);
    let bytes = machine.bytes(x) + machine.bytes(means) + machine.weight_bytes(conv);
    let work = Work { bytes, macs: (y.pixels() * conv.weight.data().len()) as u64 };
    DraftStep {
        nodes: vec![head.conv, head.pool],
        launch,
        reads: vec![
            Read::Map(MapId::Node(input)),
            Read::Weights(vec![head.conv], pointwise::PACKING),
            Read::Biases(vec![head.conv]),
        ],
        writes: vec![(MapId::Node(head.pool), machine.bytes(means))],
        shape: means,
        workgroup_memory: 0,
        work,
        time: machine.time(effort, footprint, work),
        why: format!("{groups} workgroups; the map before the mean is never stored"),
        block: None,
    }
}
