//! The cost model against the clock: within a layer it is to order candidates as they are measured, and to pick one
//! that is about as quick as the best.

mod common;

use std::collections::BTreeMap;

use goldcrest::{Shape, Tensor, gpu::Gpu, measure, tensor::Element, zoo::synthetic};

/// The least that the median over all layers of the rank correlation may be.
const CORRELATION: f64 = 0.7;

/// How much longer than the best the model's pick may take, and in what share of layers.
const SLOWER: f64 = 1.15;
const SHARE: f64 = 0.9;

/// Ranks of values, from the least; equals share theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |v: &f64| {
        let below = values.iter().filter(|other| *other < v).count();
        let alike = values.iter().filter(|other| *other == v).count();
        below as f64 + (alike as f64 - 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

/// Spearman's: the correlation of the ranks.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let product =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(x, y)| (x - mean) * (y - mean)).sum() };
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt().max(f64::MIN_POSITIVE)
}

/// Modelled and measured times of each layer's candidates, of those that have a kernel to choose.
fn measured(gpu: &Gpu) -> BTreeMap<String, [Vec<f64>; 2]> {
    let network = synthetic::network("mobilenet_v2").unwrap();
    let picture = Tensor::wave(Shape::new(1, 3, 128, 128), 0.37);
    let found = measure::layer_times(gpu, &network.graph, &picture, Element::F32, 2, 2);
    let mut layers: BTreeMap<String, [Vec<f64>; 2]> = BTreeMap::new();
    for found in pollster::block_on(found).unwrap() {
        let [modelled, seen] = layers.entry(found.layer).or_default();
        modelled.push(found.modelled_us);
        seen.push(found.us);
    }
    layers
}

/// The median correlation, and the share of layers whose pick is about as quick as the best.
fn rated(layers: &BTreeMap<String, [Vec<f64>; 2]>) -> (f64, f64) {
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let near = layers.values().filter(|[modelled, seen]| {
        let pick = modelled.iter().position(|m| *m == least(modelled)).unwrap();
        seen[pick] <= SLOWER * least(seen)
    });
    let share = near.count() as f64 / layers.len() as f64;
    let several = layers.values().filter(|[modelled, _]| modelled.len() > 2);
    let mut correlations: Vec<f64> = several.map(|[a, b]| correlation(a, b)).collect();
    assert!(correlations.len() > 20, "{}", correlations.len());
    correlations.sort_by(f64::total_cmp);
    for (layer, [modelled, seen]) in layers {
        println!("{layer}: modelled {modelled:.0?}, measured {seen:.0?}");
    }
    (correlations[correlations.len() / 2], share)
}

#[test]
fn candidates_are_ordered_as_they_are_measured() {
    assert_eq!(correlation(&[1.0, 2.0, 3.0], &[10.0, 30.0, 20.0]), 0.5);
    // Without timestamps noise is larger than what tells candidates apart.
    for gpu in common::gpus().into_iter().filter(Gpu::has_timestamps) {
        // A busy machine may spoil one measurement, and not two.
        let enough = |&(median, share): &(f64, f64)| median >= CORRELATION && share >= SHARE;
        let mut found = Vec::new();
        while found.len() < 2 && !found.iter().any(enough) {
            found.push(rated(&measured(&gpu)));
            println!("{}: correlation, share near the best: {found:.2?}", gpu.adapter());
        }
        assert!(found.iter().any(enough), "{}: {found:?}", gpu.adapter());
    }
}
