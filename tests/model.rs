//! The cost model compared with measurements: within a layer it has to rank candidates like the measurements,
//! and to pick one that is about as fast as the best.

mod common;

use std::collections::BTreeMap;

use goldcrest::{Shape, Tensor, gpu::Gpu, measure, tensor::Element, zoo::synthetic};

/// The lower bound of the rank correlation's median over all layers.
const MIN_CORRELATION: f64 = 0.7;

/// The bound of the time of the model's pick, relative to the best, and the fraction of layers that have to
/// meet it.
const MAX_SLOWDOWN: f64 = 1.15;
const MIN_FRACTION: f64 = 0.9;

/// Ranks of values in ascending order; ties get their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |v: &f64| {
        let below = values.iter().filter(|other| *other < v).count();
        let equal = values.iter().filter(|other| *other == v).count();
        below as f64 + (equal as f64 - 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

/// Spearman's rank correlation.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let product =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(x, y)| (x - mean) * (y - mean)).sum() };
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt().max(f64::MIN_POSITIVE)
}

/// Predicted and measured times of the candidates of each layer that has several.
fn measured(gpu: &Gpu) -> BTreeMap<String, [Vec<f64>; 2]> {
    let network = synthetic::network("mobilenet_v2").unwrap();
    let picture = Tensor::wave(Shape::new(1, 3, 128, 128), 0.37);
    let found = measure::layer_times(gpu, &network.graph, &picture, Element::F32, 2, 2);
    let mut layers: BTreeMap<String, [Vec<f64>; 2]> = BTreeMap::new();
    for found in pollster::block_on(found).unwrap() {
        let [predicted, seen] = layers.entry(found.layer).or_default();
        predicted.push(found.predicted_us);
        seen.push(found.us);
    }
    layers
}

/// The median correlation, and the fraction of layers whose pick is about as fast as the best.
fn evaluated(layers: &BTreeMap<String, [Vec<f64>; 2]>) -> (f64, f64) {
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let near = layers.values().filter(|[predicted, seen]| {
        let pick = predicted.iter().position(|m| *m == least(predicted)).unwrap();
        seen[pick] <= MAX_SLOWDOWN * least(seen)
    });
    let fraction = near.count() as f64 / layers.len() as f64;
    let several = layers.values().filter(|[predicted, _]| predicted.len() > 2);
    let mut correlations: Vec<f64> = several.map(|[a, b]| correlation(a, b)).collect();
    assert!(correlations.len() > 20, "{}", correlations.len());
    correlations.sort_by(f64::total_cmp);
    for (layer, [predicted, seen]) in layers {
        println!("{layer}: predicted {predicted:.0?}, measured {seen:.0?}");
    }
    (correlations[correlations.len() / 2], fraction)
}

#[test]
fn model_ranks_candidates_as_measured() {
    assert_eq!(correlation(&[1.0, 2.0, 3.0], &[10.0, 30.0, 20.0]), 0.5);
    // Without timestamps, measurement noise exceeds the differences between candidates.
    for gpu in common::own_gpus().into_iter().filter(Gpu::has_timestamps) {
        // A busy machine may disturb one measurement, but hardly two.
        let enough = |&(median, fraction): &(f64, f64)| median >= MIN_CORRELATION && fraction >= MIN_FRACTION;
        let mut found = Vec::new();
        while found.len() < 2 && !found.iter().any(enough) {
            found.push(evaluated(&measured(&gpu)));
            println!("{}: correlation, fraction near the best: {found:.2?}", gpu.adapter());
        }
        assert!(found.iter().any(enough), "{}: {found:?}", gpu.adapter());
    }
}
