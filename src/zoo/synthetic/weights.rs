//! The tensors of modules: their shapes and the seeds of their values.

use std::borrow::Cow;

use safetensors::{Dtype, tensor::View};

use super::builder::{random_tensor, spread};
use crate::zoo::skeleton::Layer;

/// Names, shapes and seeds of tensors.
#[derive(Default)]
pub(super) struct Weights(Vec<(String, Weight)>);

impl Weights {
    /// Adds a convolution and its batch norm, which is close to the identity. `inputs` counts the inputs of
    /// one group.
    pub fn layer(&mut self, layer: &Layer, [outputs, inputs]: [usize; 2], kernel: usize, gain: f32) {
        let spread = spread(inputs * kernel * kernel, gain);
        self.push(format!("{}.weight", layer.conv), &[outputs, inputs, kernel, kernel], 0.0, spread);
        let Some(norm) = &layer.norm else { return };
        for (name, centre) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
            self.push(format!("{norm}.{name}"), &[outputs], centre, 0.1);
        }
    }

    /// Adds a fully connected layer or a pointwise convolution, with weights of shape `dims`, without batch
    /// norm.
    pub fn dense(&mut self, module: &str, dims: &[usize], bias: bool, gain: f32) {
        self.push(format!("{module}.weight"), dims, 0.0, spread(dims[1], gain));
        if bias {
            self.push(format!("{module}.bias"), &dims[..1], 0.0, 0.1);
        }
    }

    fn push(&mut self, name: String, dims: &[usize], centre: f32, spread: f32) {
        let weight = Weight { seed: name.clone(), dims: dims.into(), centre, spread };
        self.0.push((name, weight));
    }

    /// Encodes the tensors as a safetensors file.
    pub fn into_bytes(self) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        safetensors::serialize(self.0, None)
    }
}

/// A tensor whose values are generated when it is serialised.
struct Weight {
    seed: String,
    dims: Vec<usize>,
    centre: f32,
    spread: f32,
}

impl View for Weight {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.dims
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = random_tensor(&self.seed, &self.dims[..], self.centre, self.spread);
        Cow::Owned(values.data().iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        4 * self.dims.iter().product::<usize>()
    }
}
