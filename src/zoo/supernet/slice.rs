//! Cuts a subnet's weights out of a supernet's.

use std::collections::BTreeMap;

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Map, Value, json};

use super::{BlockChoice, Subnet, Supernet};
use crate::{
    Error, Result, Tensor,
    zoo::{Checkpoint, Network, Resize, ofa, table::divisible},
};

/// The names of a batch norm's tensors.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// A subnet extracted from a supernet: a configuration, and tensors that are named as in once-for-all's
/// ordinary networks. Its batch norms have the supernet's statistics, which fit only the largest subnet.
/// [`crate::search::calibrate`] recomputes them for other subnets.
#[derive(Debug, Clone)]
pub struct Slice {
    /// The subnet's choices.
    pub subnet: Subnet,
    tensors: BTreeMap<String, Tensor>,
    config: Value,
}

impl Slice {
    /// The text of the subnet's `config.json`.
    pub fn config(&self) -> String {
        format!("{:#}\n", self.config)
    }

    /// Encodes the tensors as a safetensors file.
    ///
    /// # Errors
    /// [`Error::File`] if the file would be too large.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let too_large = |error: safetensors::SafeTensorError| Error::file("the subnet", error);
        let mut views = Vec::new();
        for (key, tensor) in &self.tensors {
            let bytes = bytemuck::cast_slice(tensor.data());
            views.push((key, TensorView::new(Dtype::F32, tensor.dims().to_vec(), bytes).map_err(too_large)?));
        }
        safetensors::serialize(views, None).map_err(too_large)
    }

    /// Makes a checkpoint in memory; `name` is for errors.
    ///
    /// # Errors
    /// As [`Slice::encode`].
    pub(in crate::zoo) fn checkpoint(&self, name: &std::path::Path) -> Result<Checkpoint> {
        Checkpoint::from_bytes(name, self.encode()?, Some(&self.config()), None)
    }

    /// Builds the network.
    ///
    /// # Errors
    /// Those of [`Network::from_checkpoint`].
    pub fn network(&self) -> Result<Network> {
        let name = format!("subnet {}", self.subnet);
        Network::from_checkpoint(&self.checkpoint(name.as_ref())?, None)
    }

    /// Replaces the statistics of the batch norm whose module is named `norm`.
    pub fn set_statistics(&mut self, norm: &str, mean: Tensor, variance: Tensor) {
        for (name, tensor) in [("running_mean", mean), ("running_var", variance)] {
            self.tensors.insert(format!("{norm}.{name}"), tensor);
        }
    }
}

/// Cuts `subnet` out of `supernet`, which contains it.
pub(super) fn slice(supernet: &Supernet, subnet: &Subnet) -> Result<Slice> {
    let mut cut = Cut { supernet, tensors: BTreeMap::new() };
    let stem = supernet.channels[0];
    for (module, tensor) in supernet.tensors.iter().filter(|(name, _)| is_shared(name)) {
        cut.tensors.insert(module.clone(), tensor.clone());
    }
    let (mut inputs, mut placed) = (stem, 1);
    for (stage, choice) in subnet.stages.iter().enumerate() {
        let outputs = supernet.outputs(stage, subnet.width);
        for (i, block) in choice.blocks.iter().enumerate() {
            let from = format!("blocks.{}.conv", 1 + stage * supernet.max_depth + i);
            let squeeze = choice.squeeze && supernet.squeezes(stage);
            cut.block(&from, &format!("blocks.{placed}.conv"), *block, squeeze, [inputs, outputs])?;
            (inputs, placed) = (outputs, placed + 1);
        }
    }
    let (last, norm) = ("final_expand_layer.conv.weight", "final_expand_layer.bn");
    cut.copy(last, last, &[None, Some(inputs)])?;
    cut.norm(norm, norm, None)?;
    Ok(Slice { subnet: subnet.clone(), tensors: cut.tensors, config: config(supernet, subnet) })
}

/// True for a tensor that all subnets share in full.
fn is_shared(name: &str) -> bool {
    ["first_conv.", "blocks.0.", "feature_mix_layer.", "classifier."]
        .iter()
        .any(|part| name.starts_with(part))
}

struct Cut<'a> {
    supernet: &'a Supernet,
    tensors: BTreeMap<String, Tensor>,
}

impl Cut<'_> {
    /// Cuts a block with these input and output channels.
    fn block(
        &mut self,
        from: &str,
        to: &str,
        choice: BlockChoice,
        squeeze: bool,
        [inputs, outputs]: [usize; 2],
    ) -> Result<()> {
        let expanded = divisible((inputs * choice.expansion) as f64, 8);
        let [module, under] = [from, to].map(|block| format!("{block}.inverted_bottleneck"));
        self.conv(&module, &under, &[Some(expanded), Some(inputs)])?;
        let [module, under] = [from, to].map(|block| format!("{block}.depth_conv"));
        self.depthwise(&module, &under, expanded, choice.kernel)?;
        self.norm(&format!("{module}.bn.bn"), &format!("{under}.bn"), Some(expanded))?;
        if squeeze {
            let squeezed = divisible((expanded / 4) as f64, 8);
            for (layer, [outputs, inputs]) in
                [("reduce", [squeezed, expanded]), ("expand", [expanded, squeezed])]
            {
                let [module, under] = [&module, &under].map(|module| format!("{module}.se.fc.{layer}"));
                self.copy(
                    &format!("{module}.weight"),
                    &format!("{under}.weight"),
                    &[Some(outputs), Some(inputs)],
                )?;
                self.copy(&format!("{module}.bias"), &format!("{under}.bias"), &[Some(outputs)])?;
            }
        }
        let [module, under] = [from, to].map(|block| format!("{block}.point_linear"));
        self.conv(&module, &under, &[Some(outputs), Some(expanded)])
    }

    /// Cuts a pointwise convolution and its batch norm.
    fn conv(&mut self, from: &str, to: &str, channels: &[Option<usize>]) -> Result<()> {
        self.copy(&format!("{from}.conv.conv.weight"), &format!("{to}.conv.weight"), channels)?;
        self.norm(&format!("{from}.bn.bn"), &format!("{to}.bn"), channels[0])
    }

    fn norm(&mut self, from: &str, to: &str, channels: Option<usize>) -> Result<()> {
        NORM.iter()
            .try_for_each(|name| self.copy(&format!("{from}.{name}"), &format!("{to}.{name}"), &[channels]))
    }

    /// Copies the first `dims[i]` elements of each dimension `i`; all of them where `dims` has no number.
    fn copy(&mut self, from: &str, to: &str, dims: &[Option<usize>]) -> Result<()> {
        let tensor = prefix(self.supernet.tensor(from)?, dims);
        let tensor = tensor.map_err(|reason| self.supernet.error(from, reason))?;
        self.tensors.insert(to.into(), tensor);
        Ok(())
    }

    /// Cuts depthwise kernels of size `side`, from the largest size down: the kernel of the next smaller size
    /// is the centre of the current one, multiplied by the supernet's matrix.
    fn depthwise(&mut self, from: &str, to: &str, channels: usize, side: usize) -> Result<()> {
        let key = format!("{from}.conv.conv.weight");
        let whole = prefix(self.supernet.tensor(&key)?, &[Some(channels)]);
        let mut kernels = whole.map_err(|reason| self.supernet.error(&key, reason))?.into_data();
        let mut sides = self.supernet.trained_kernels.iter().copied();
        let mut larger = sides.next().unwrap_or(side);
        for smaller in sides.take_while(|smaller| *smaller >= side) {
            let key = format!("{from}.conv.{larger}to{smaller}_matrix");
            let matrix = self.supernet.tensor(&key)?;
            let area = smaller * smaller;
            if matrix.dims() != [area, area] {
                let found = matrix.dims();
                return Err(self.supernet.error(&key, format!("expected {area}x{area}, found {found:?}")));
            }
            kernels = transformed(&kernels, larger, smaller, matrix.data());
            larger = smaller;
        }
        let kernels = Tensor::new([channels, 1, side, side], kernels);
        self.tensors.insert(format!("{to}.conv.weight"), kernels?);
        Ok(())
    }
}

/// The `smaller` x `smaller` centre of each `larger` x `larger` kernel, multiplied by a `smaller`² x
/// `smaller`² matrix.
fn transformed(kernels: &[f32], larger: usize, smaller: usize, matrix: &[f32]) -> Vec<f32> {
    let (edge, area) = ((larger - smaller) / 2, smaller * smaller);
    let central = |kernel: &[f32], at: usize| kernel[(edge + at / smaller) * larger + edge + at % smaller];
    let each = kernels.chunks_exact(larger * larger).flat_map(|kernel| {
        let centre: Vec<f64> = (0..area).map(|at| f64::from(central(kernel, at))).collect();
        let row =
            move |row: &[f32]| row.iter().zip(&centre).map(|(m, w)| f64::from(*m) * w).sum::<f64>() as f32;
        matrix.chunks_exact(area).map(row)
    });
    each.collect()
}

/// The first `dims[i]` elements of each dimension `i` of a tensor; all of them where `dims` has no number.
fn prefix(tensor: &Tensor, dims: &[Option<usize>]) -> Result<Tensor, String> {
    let whole = tensor.dims();
    let wanted: Vec<usize> =
        whole.iter().enumerate().map(|(i, &n)| dims.get(i).copied().flatten().unwrap_or(n)).collect();
    if whole.len() < dims.len() || wanted.iter().zip(whole).any(|(wanted, there)| wanted > there) {
        return Err(format!("has the shape {whole:?}, but the subnet needs at least {wanted:?}"));
    }
    let inner: usize = whole.iter().skip(2).product();
    let (row, kept) = (whole.get(1).map_or(1, |n| n * inner), wanted.get(1).map_or(1, |n| n * inner));
    let rows = tensor.data().chunks_exact(row.max(1)).take(wanted[0]);
    let data = rows.flat_map(|row| row[..kept].iter().copied()).collect();
    Tensor::new(wanted, data).map_err(|error| error.to_string())
}

/// The subnet's `config.json`: the supernet's, adapted to this subnet.
fn config(supernet: &Supernet, subnet: &Subnet) -> Value {
    let mut fields: Map<String, Value> = supernet
        .config()
        .iter()
        .flat_map(|config| config.fields())
        .map(|(k, v)| (k.into(), v.clone()))
        .collect();
    fields.remove("supernet");
    let depths: Vec<usize> =
        std::iter::once(1).chain(subnet.stages.iter().map(|stage| stage.blocks.len())).collect();
    fields.insert("architecture".into(), json!("ofa/mobilenet_v3"));
    fields.insert("subnet".into(), json!(subnet.to_string()));
    fields.insert("depths".into(), json!(depths));
    let input = json!([3, subnet.size, subnet.size]);
    if let Some(pictures) = fields.get_mut("pretrained_cfg").and_then(Value::as_object_mut) {
        pictures.insert("input_size".into(), input);
    } else if fields.contains_key("input_size") {
        // Older files have this field at the top level.
        fields.insert("input_size".into(), input);
    } else {
        fields.insert("size".into(), json!(subnet.size));
        if let Resize::Short(short) = ofa::for_size(subnet.size).resize {
            fields.insert("resize".into(), json!(short));
        }
    }
    Value::Object(fields)
}
