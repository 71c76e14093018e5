//! Torch's quantised tensors: integers, and one scale per output.

use std::collections::BTreeMap;

use pytorch_reader::{DType, Tensor};

use super::{
    super::scale_of,
    Stored,
    pickle::{QUANTISED, Scheme},
};

/// The content of a named tensor.
pub(in crate::checkpoint) enum Content {
    Stored(Stored),
    /// The scales of a quantised tensor's outputs, under the name from [`scale_of`].
    Scales(Vec<f32>),
}

/// Advice for weights that are not symmetric.
const SYMMETRIC: &str = "only qint8 weights with zero point 0 are supported: calibrate and convert the \
                         network with torch.per_channel_symmetric or torch.per_tensor_symmetric";

/// Splits each quantised tensor of a pickle into its integers, which keep its name, and its scales. Other
/// tensors are unchanged.
///
/// # Errors
/// A message if a quantised tensor is invalid or not supported.
pub(super) fn split(
    tensors: BTreeMap<String, Tensor>,
    schemes: &[Scheme],
) -> Result<BTreeMap<String, Content>, String> {
    let mut contents = BTreeMap::new();
    let mut quantised: BTreeMap<(String, usize), BTreeMap<String, Tensor>> = BTreeMap::new();
    for (key, tensor) in tensors {
        match part(&key) {
            Some((name, number, part)) => {
                drop(quantised.entry((name.into(), number)).or_default().insert(part.into(), tensor))
            }
            None => drop(contents.insert(key, Content::Stored(Stored(tensor)))),
        }
    }
    for ((name, number), mut parts) in quantised {
        let wrong = |reason: String| format!("its tensor {} {reason}", name.escape_debug());
        let integers = parts.remove("0").ok_or_else(|| wrong("has no integers".into()))?;
        let scheme = schemes.get(number).copied().unwrap_or(Scheme::Unknown);
        let scales = scales(&integers, scheme, &parts).map_err(wrong)?;
        for (key, content) in
            [(scale_of(&name), Content::Scales(scales)), (name.clone(), Content::Stored(Stored(integers)))]
        {
            if contents.insert(key, content).is_some() {
                return Err(wrong("exists twice".into()));
            }
        }
    }
    Ok(contents)
}

/// Splits a key into a quantised tensor's name, its number and the name of one of its parts.
fn part(key: &str) -> Option<(&str, usize, &str)> {
    let [prefix, suffix] = QUANTISED;
    let (name, rest) = key.rsplit_once(prefix)?;
    let (number, part) = rest.split_once(suffix)?;
    Some((name.strip_suffix('.').unwrap_or(name), number.parse().ok()?, part.strip_prefix('.')?))
}

/// The scales of `integers`, one per index of the first dimension.
fn scales(integers: &Tensor, scheme: Scheme, parts: &BTreeMap<String, Tensor>) -> Result<Vec<f32>, String> {
    if integers.dtype() != DType::I8 {
        return Err(format!("is quint8, unsigned: {SYMMETRIC}"));
    }
    // If another dimension is 0, the first may be arbitrarily large.
    let outputs = integers.shape().first().copied().unwrap_or(1).min(integers.num_elements());
    // The scheme is the fifth argument of the call.
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
                "has scales along dimension {axis}: only dimension 0, that of the outputs, is supported"
            ));
        }
        Scheme::Unknown => {
            return Err(
                "is neither per_tensor_affine nor per_channel_affine: no other quantised tensors are supported"
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

/// Reads scales or zero points, of any type that torch uses for them.
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
