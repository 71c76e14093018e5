//! Quantised tensors of torch's: integers, and what a step of each of their outputs is.

use std::collections::BTreeMap;

use pytorch_reader::{DType, Tensor};

use super::{
    pickle::{QUANTISED, Scheme},
    scale_of,
};

/// What a name stands for.
pub(super) enum Content {
    Stored(Tensor),
    /// The steps of a quantised tensor's outputs, under the name that [`scale_of`] gives.
    Steps(Vec<f32>),
}

/// What helps where weights are not symmetric.
const SYMMETRIC: &str = "weights are read where their integers are qint8 and stand for 0 by 0: calibrate and convert the \
                         network with torch.per_channel_symmetric or torch.per_tensor_symmetric";

/// The tensors of a pickle, of the quantised ones the integers under their name and their steps beside them.
///
/// # Errors
/// What is wrong with one.
pub(super) fn plain(
    tensors: BTreeMap<String, Tensor>,
    schemes: &[Scheme],
) -> Result<BTreeMap<String, Content>, String> {
    let mut plain = BTreeMap::new();
    let mut quantised: BTreeMap<(String, usize), BTreeMap<String, Tensor>> = BTreeMap::new();
    for (key, tensor) in tensors {
        match part(&key) {
            Some((name, number, part)) => {
                drop(quantised.entry((name.into(), number)).or_default().insert(part.into(), tensor))
            }
            None => drop(plain.insert(key, Content::Stored(tensor))),
        }
    }
    for ((name, number), mut parts) in quantised {
        let wrong = |reason: String| format!("its tensor {} {reason}", name.escape_debug());
        let integers = parts.remove("0").ok_or_else(|| wrong("has no integers".into()))?;
        let scheme = schemes.get(number).copied().unwrap_or(Scheme::Unknown);
        let steps = steps(&integers, scheme, &parts).map_err(wrong)?;
        for (key, content) in
            [(scale_of(&name), Content::Steps(steps)), (name.clone(), Content::Stored(integers))]
        {
            if plain.insert(key, content).is_some() {
                return Err(wrong("is there twice".into()));
            }
        }
    }
    Ok(plain)
}

/// A quantised tensor's name, its number, and which part of it a key names.
fn part(key: &str) -> Option<(&str, usize, &str)> {
    let [before, behind] = QUANTISED;
    let (name, rest) = key.rsplit_once(before)?;
    let (number, part) = rest.split_once(behind)?;
    Some((name.strip_suffix('.').unwrap_or(name), number.parse().ok()?, part.strip_prefix('.')?))
}

/// What a step is, for each of the first dimension of `integers`.
fn steps(integers: &Tensor, scheme: Scheme, parts: &BTreeMap<String, Tensor>) -> Result<Vec<f32>, String> {
    if integers.dtype() != DType::I8 {
        return Err(format!("is of quint8, unsigned integers: {SYMMETRIC}"));
    }
    // A shape may have a dimension of any size beside one of 0.
    let outputs = integers.shape().first().copied().unwrap_or(1).min(integers.num_elements());
    // Of the call's arguments the fifth.
    let vector = |at: usize, what: &str| {
        let tensor = parts.get(&format!("1.4.{at}")).ok_or_else(|| format!("has no {what}"))?;
        match numbers(tensor)? {
            numbers if numbers.len() == outputs => Ok(numbers),
            numbers => Err(format!("has {} {what}, and {outputs} outputs", numbers.len())),
        }
    };
    let (scales, zeros) = match scheme {
        Scheme::PerTensor { scale, zero } => (vec![scale; outputs], vec![zero; outputs]),
        Scheme::PerChannel { axis: 0.0 } => (vector(1, "scales")?, vector(2, "zero points")?),
        Scheme::PerChannel { axis } => {
            return Err(format!(
                "has scales along dimension {axis}: they are read along the first, the outputs'"
            ));
        }
        Scheme::Unknown => {
            return Err(
                "is neither per_tensor_affine nor per_channel_affine, the quantised tensors that are read"
                    .into(),
            );
        }
    };
    if let Some((output, zero)) = zeros.iter().enumerate().find(|(_, zero)| **zero != 0.0) {
        return Err(format!("has the zero point {zero} for output {output}: {SYMMETRIC}"));
    }
    let scales: Vec<f32> = scales.iter().map(|scale| *scale as f32).collect();
    match scales.iter().enumerate().find(|(_, scale)| !(f32::MIN_POSITIVE..=f32::MAX).contains(scale)) {
        Some((output, scale)) => {
            Err(format!("has the scale {scale} for output {output}: expected a finite number above 0"))
        }
        None => Ok(scales),
    }
}

/// Scales and zero points, as torch stores them.
fn numbers(tensor: &Tensor) -> Result<Vec<f64>, String> {
    let bytes = tensor.read().map_err(|error| format!("is damaged: {error}"))?;
    Ok(match tensor.dtype() {
        DType::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_ne_bytes(*b)).collect(),
        DType::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b).into()).collect(),
        DType::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_ne_bytes(*b) as f64).collect(),
        DType::I32 => bytes.as_chunks().0.iter().map(|b| i32::from_ne_bytes(*b).into()).collect(),
        other => return Err(format!("has scales or zero points of {other:?}")),
    })
}
