//! Logits to the likeliest classes.

use std::cmp::Ordering;

use crate::tasks::Labels;
use crate::{Error, Result};

/// A class and how likely it is.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Class {
    /// Its place in the network's output.
    pub index: usize,
    /// Its name, where one is known.
    pub label: Option<String>,
    /// Its softmax probability, in 0..=1.
    pub probability: f32,
}

/// The `k` likeliest classes of one picture, the likeliest first, equal ones by index; all of
/// them if there are fewer.
///
/// # Errors
/// [`Error::Output`] if there are no logits or one is not finite; as [`Labels::check`] if there
/// are labels for another number of classes.
pub fn top(logits: &[f32], k: usize, labels: &Labels) -> Result<Vec<Class>> {
    labels.check(logits.len())?;
    if let Some(index) = logits.iter().position(|v| !v.is_finite()) {
        return Err(Error::Output(format!("the logit of class {index} is {}", logits[index])));
    }
    let largest = logits.iter().copied().reduce(f32::max);
    let largest = f64::from(largest.ok_or_else(|| Error::Output("there are no logits".into()))?);
    // Never above exp(0), however large the logits are.
    let weight = |logit: f32| (f64::from(logit) - largest).exp();
    let total: f64 = logits.iter().map(|&v| weight(v)).sum();

    let mut order: Vec<usize> = (0..logits.len()).collect();
    // A stable sort: equal logits stay in the order of their indices.
    order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap_or(Ordering::Equal));
    let class = |index: usize| Class {
        index,
        label: labels.get(index).map(str::to_owned),
        probability: (weight(logits[index]) / total) as f32,
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
        let classes = top(&logits, 5, &Labels::default()).unwrap();
        assert_eq!(indices(&classes), [2, 1, 0]);
        for (class, expected) in classes.iter().zip([0.625, 0.25, 0.125]) {
            assert!((class.probability - expected).abs() < 1e-6, "{class:?}");
        }
        // The same, moved far enough that a plain exp() would overflow or vanish.
        for shift in [3e4, -3e4] {
            let moved = top(&logits.map(|v| v + shift), 3, &Labels::default()).unwrap();
            for (a, b) in moved.iter().zip(&classes) {
                assert!(a.index == b.index && (a.probability - b.probability).abs() < 2e-3, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn ties_go_by_index() {
        let classes = top(&[1.0, 3.0, 0.0, 3.0, -0.0, 1.0], 6, &Labels::default()).unwrap();
        assert_eq!(indices(&classes), [1, 3, 0, 5, 2, 4]);
        assert!(top(&[1.0, 2.0], 0, &Labels::default()).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_finite_is_never_ranked() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = top(&[0.5, bad], 1, &Labels::default()).unwrap_err().to_string();
            assert!(error.contains("class 1"), "{error}");
        }
        assert!(top(&[], 1, &Labels::default()).is_err());
    }

    #[test]
    fn labels_must_fit_and_are_serialised() {
        let mut logits = vec![0.0; 1001];
        logits[1] = 50.0;
        let labels = Labels::for_count(1001);
        let json = serde_json::to_value(top(&logits, 1, &labels).unwrap()).unwrap();
        assert_eq!(json, serde_json::json!([{ "index": 1, "label": "tench", "probability": 1.0 }]));
        assert!(top(&logits[1..], 1, &labels).is_err());
    }
}
