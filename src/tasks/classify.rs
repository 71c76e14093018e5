//! Finds the most likely classes from scores.

use std::cmp::Ordering;

use crate::tasks::Labels;
use crate::zoo::ScoreKind;
use crate::{Error, Result};

/// A class and its probability.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Class {
    /// Its index in the network's output.
    pub index: usize,
    /// Its name, if known.
    pub label: Option<String>,
    /// Its probability in 0..=1: the softmax for mutually exclusive classes, the sigmoid for others. `None`
    /// if the outputs are plain values, as in a regression.
    pub probability: Option<f32>,
    /// The network's output for the class.
    pub value: f32,
}

/// Returns the `k` classes of one picture with the largest logits, sorted by descending logit and then by
/// index, or all classes if there are fewer. `scores` is the meaning of the logits.
///
/// # Errors
/// [`Error::Output`] if there are no logits or one is not finite; as [`Labels::check`] if the number of
/// labels does not match.
pub fn top(logits: &[f32], k: usize, labels: &Labels, scores: ScoreKind) -> Result<Vec<Class>> {
    labels.check(logits.len())?;
    if let Some(index) = logits.iter().position(|v| !v.is_finite()) {
        return Err(Error::Output(format!(
            "the logit of class {index} is {}, not a finite number",
            logits[index]
        )));
    }
    let largest = logits.iter().copied().reduce(f32::max);
    let largest = f64::from(largest.ok_or_else(|| Error::Output("there are no logits".into()))?);
    // At most exp(0), so that large logits do not overflow.
    let weight = |logit: f32| (f64::from(logit) - largest).exp();
    let total: f64 = logits.iter().map(|&v| weight(v)).sum();

    let mut order: Vec<usize> = (0..logits.len()).collect();
    // A stable sort keeps equal logits in index order.
    order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap_or(Ordering::Equal));
    let probability = |logit: f32| match scores {
        ScoreKind::Softmax => Some((weight(logit) / total) as f32),
        ScoreKind::Sigmoid => Some((1.0 / (1.0 + (-f64::from(logit)).exp())) as f32),
        ScoreKind::None => None,
    };
    let class = |index: usize| Class {
        index,
        label: labels.get(index).map(str::to_owned),
        probability: probability(logits[index]),
        value: logits[index],
    };
    Ok(order.into_iter().take(k).map(class).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(classes: &[Class]) -> Vec<usize> {
        classes.iter().map(|c| c.index).collect()
    }

    #[test]
    fn probabilities_are_a_softmax() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        let classes = top(&logits, 5, &Labels::default(), ScoreKind::Softmax).unwrap();
        assert_eq!(indices(&classes), [2, 1, 0]);
        for (class, expected) in classes.iter().zip([0.625, 0.25, 0.125]) {
            assert!((class.probability.unwrap() - expected).abs() < 1e-6, "{class:?}");
        }
        // The same, moved far enough that a plain exp() would overflow or underflow.
        for shift in [3e4, -3e4] {
            let moved = top(&logits.map(|v| v + shift), 3, &Labels::default(), ScoreKind::Softmax).unwrap();
            for (a, b) in moved.iter().zip(&classes) {
                assert!(
                    a.index == b.index && (a.probability.unwrap() - b.probability.unwrap()).abs() < 2e-3,
                    "{a:?} {b:?}"
                );
            }
        }
    }

    #[test]
    fn scores_are_sigmoids_or_values() {
        let sigmoid = top(&[-1.5, 1.5, 800.0], 3, &Labels::default(), ScoreKind::Sigmoid).unwrap();
        assert_eq!(indices(&sigmoid), [2, 1, 0]);
        for (class, expected) in sigmoid.iter().zip([1.0, 0.817_574_5, 0.182_425_53]) {
            assert!((class.probability.unwrap() - expected).abs() < 1e-6, "{class:?}");
        }
        let values = top(&[-1.5, 1.5], 2, &Labels::default(), ScoreKind::None).unwrap();
        assert_eq!(
            values.iter().map(|c| (c.value, c.probability)).collect::<Vec<_>>(),
            [(1.5, None), (-1.5, None)]
        );
    }

    #[test]
    fn ties_are_sorted_by_index() {
        let classes =
            top(&[1.0, 3.0, 0.0, 3.0, -0.0, 1.0], 6, &Labels::default(), ScoreKind::Softmax).unwrap();
        assert_eq!(indices(&classes), [1, 3, 0, 5, 2, 4]);
        assert!(top(&[1.0, 2.0], 0, &Labels::default(), ScoreKind::Softmax).unwrap().is_empty());
    }

    #[test]
    fn logits_must_be_finite() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = top(&[0.5, bad], 1, &Labels::default(), ScoreKind::Softmax).unwrap_err().to_string();
            assert!(error.contains("class 1"), "{error}");
        }
        assert!(top(&[], 1, &Labels::default(), ScoreKind::Softmax).is_err());
    }

    #[test]
    fn labels_are_checked_and_serialised() {
        let mut logits = vec![0.0; 1001];
        logits[1] = 50.0;
        let labels = Labels::for_count(1001);
        let json = serde_json::to_value(top(&logits, 1, &labels, ScoreKind::Softmax).unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{ "index": 1, "label": "tench", "probability": 1.0, "value": 50.0 }])
        );
        assert!(top(&logits[1..], 1, &labels, ScoreKind::Softmax).is_err());
    }
}
