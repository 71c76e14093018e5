//! The weights of a subnet, cut from a supernet's.

use std::collections::BTreeMap;

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Map, Value, json};

use super::{Cell, Subnet, Supernet};
use crate::{
    Error, Result, Tensor,
    zoo::{Checkpoint, Network, Resize, ofa, table::divisible},
};

/// What the tensors of a batch norm are called.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// A subnet by itself: tensors under the names of once-for-all's plain networks, and the configuration that belongs to
/// them. Its batch norms have the supernet's statistics, which are those of the largest: of others they have to be
/// found anew, as [`crate::search::calibrate`] does.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Which subnet it is.
    pub subnet: Subnet,
    tensors: BTreeMap<String, Tensor>,
    config: Value,
}

impl Slice {
    /// The text of its `config.json`.
    pub fn config(&self) -> String {
        format!("{:#}\n", self.config)
    }

    /// The bytes of its file, in safetensors.
    ///
    /// # Errors
    /// [`Error::File`] if they are too many to be counted.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let wrong = |error: safetensors::SafeTensorError| Error::file("the subnet", error);
        let mut views = Vec::new();
        for (key, tensor) in &self.tensors {
            let bytes = bytemuck::cast_slice(tensor.data());
            views.push((key, TensorView::new(Dtype::F32, tensor.dims().to_vec(), bytes).map_err(wrong)?));
        }
        safetensors::serialize(views, None).map_err(wrong)
    }

    /// As a checkpoint in memory, under a name for errors.
    ///
    /// # Errors
    /// As [`Slice::encode`].
    pub(in crate::zoo) fn checkpoint(&self, name: &std::path::Path) -> Result<Checkpoint> {
        Checkpoint::from_bytes(name, self.encode()?, Some(&self.config()), None)
    }

    /// As a network.
    ///
    /// # Errors
    /// Those of [`Network::from_checkpoint`].
    pub fn network(&self) -> Result<Network> {
        let name = format!("subnet {}", self.subnet);
        Network::from_checkpoint(&self.checkpoint(name.as_ref())?, None)
    }

    /// Gives a batch norm, by its module's name, other statistics.
    pub fn set_statistics(&mut self, norm: &str, mean: Tensor, variance: Tensor) {
        for (name, tensor) in [("running_mean", mean), ("running_var", variance)] {
            self.tensors.insert(format!("{norm}.{name}"), tensor);
        }
    }
}

/// Cuts `subnet` from `supernet`, which contains it.
pub(super) fn slice(supernet: &Supernet, subnet: &Subnet) -> Result<Slice> {
    let mut cut = Cut { supernet, tensors: BTreeMap::new() };
    let stem = supernet.channels[0];
    for (module, tensor) in supernet.tensors.iter().filter(|(name, _)| is_whole(name)) {
        cut.tensors.insert(module.clone(), tensor.clone());
    }
    let (mut inputs, mut placed) = (stem, 1);
    for (stage, stack) in subnet.stages.iter().enumerate() {
        let outputs = supernet.outputs(stage, subnet.width);
        for (i, cell) in stack.cells.iter().enumerate() {
            let from = format!("blocks.{}.conv", 1 + stage * supernet.deepest + i);
            let squeeze = stack.squeeze && supernet.squeezes(stage);
            cut.block(&from, &format!("blocks.{placed}.conv"), *cell, squeeze, [inputs, outputs])?;
            (inputs, placed) = (outputs, placed + 1);
        }
    }
    let (last, norm) = ("final_expand_layer.conv.weight", "final_expand_layer.bn");
    cut.copy(last, last, &[None, Some(inputs)])?;
    cut.norm(norm, norm, None)?;
    Ok(Slice { subnet: subnet.clone(), tensors: cut.tensors, config: config(supernet, subnet) })
}

/// Whether every subnet has all of a tensor.
fn is_whole(name: &str) -> bool {
    ["first_conv.", "blocks.0.", "feature_mix_layer.", "classifier."]
        .iter()
        .any(|part| name.starts_with(part))
}

struct Cut<'a> {
    supernet: &'a Supernet,
    tensors: BTreeMap<String, Tensor>,
}

impl Cut<'_> {
    /// A block with so many input and output channels.
    fn block(
        &mut self,
        from: &str,
        to: &str,
        cell: Cell,
        squeeze: bool,
        [inputs, outputs]: [usize; 2],
    ) -> Result<()> {
        let expanded = divisible((inputs * cell.expansion) as f64, 8);
        let [module, under] = [from, to].map(|block| format!("{block}.inverted_bottleneck"));
        self.conv(&module, &under, &[Some(expanded), Some(inputs)])?;
        let [module, under] = [from, to].map(|block| format!("{block}.depth_conv"));
        self.window(&module, &under, expanded, cell.kernel)?;
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

    /// A pointwise convolution and its batch norm.
    fn conv(&mut self, from: &str, to: &str, channels: &[Option<usize>]) -> Result<()> {
        self.copy(&format!("{from}.conv.conv.weight"), &format!("{to}.conv.weight"), channels)?;
        self.norm(&format!("{from}.bn.bn"), &format!("{to}.bn"), channels[0])
    }

    fn norm(&mut self, from: &str, to: &str, channels: Option<usize>) -> Result<()> {
        NORM.iter()
            .try_for_each(|name| self.copy(&format!("{from}.{name}"), &format!("{to}.{name}"), &[channels]))
    }

    /// The first of a tensor's dimensions, as many as `dims` says of each; of others all.
    fn copy(&mut self, from: &str, to: &str, dims: &[Option<usize>]) -> Result<()> {
        let tensor = prefix(self.supernet.tensor(from)?, dims);
        let tensor = tensor.map_err(|reason| self.supernet.error(from, reason))?;
        self.tensors.insert(to.into(), tensor);
        Ok(())
    }

    /// Depthwise windows of a side: the middle of the next larger ones, by their transform, beginning with the largest.
    fn window(&mut self, from: &str, to: &str, channels: usize, side: usize) -> Result<()> {
        let key = format!("{from}.conv.conv.weight");
        let whole = prefix(self.supernet.tensor(&key)?, &[Some(channels)]);
        let mut windows = whole.map_err(|reason| self.supernet.error(&key, reason))?.into_data();
        let mut sides = self.supernet.sides.iter().copied();
        let mut larger = sides.next().unwrap_or(side);
        for smaller in sides.take_while(|smaller| *smaller >= side) {
            let key = format!("{from}.conv.{larger}to{smaller}_matrix");
            let matrix = self.supernet.tensor(&key)?;
            let area = smaller * smaller;
            if matrix.dims() != [area, area] {
                let found = matrix.dims();
                return Err(self.supernet.error(&key, format!("expected {area}x{area}, found {found:?}")));
            }
            windows = transformed(&windows, larger, smaller, matrix.data());
            larger = smaller;
        }
        let windows = Tensor::new([channels, 1, side, side], windows);
        self.tensors.insert(format!("{to}.conv.weight"), windows?);
        Ok(())
    }
}

/// The middle of each window of the side `larger`, multiplied by a matrix of `smaller`² x `smaller`².
fn transformed(windows: &[f32], larger: usize, smaller: usize, matrix: &[f32]) -> Vec<f32> {
    let (edge, area) = ((larger - smaller) / 2, smaller * smaller);
    let middle = |window: &[f32], at: usize| window[(edge + at / smaller) * larger + edge + at % smaller];
    let each = windows.chunks_exact(larger * larger).flat_map(|window| {
        let middle: Vec<f64> = (0..area).map(|at| f64::from(middle(window, at))).collect();
        let row =
            move |row: &[f32]| row.iter().zip(&middle).map(|(m, w)| f64::from(*m) * w).sum::<f64>() as f32;
        matrix.chunks_exact(area).map(row)
    });
    each.collect()
}

/// The first of each of a tensor's dimensions.
fn prefix(tensor: &Tensor, dims: &[Option<usize>]) -> Result<Tensor, String> {
    let whole = tensor.dims();
    let wanted: Vec<usize> =
        whole.iter().enumerate().map(|(i, &n)| dims.get(i).copied().flatten().unwrap_or(n)).collect();
    if whole.len() < dims.len() || wanted.iter().zip(whole).any(|(wanted, there)| wanted > there) {
        return Err(format!("has the shape {whole:?}, of which a subnet needs the first {wanted:?}"));
    }
    let inner: usize = whole.iter().skip(2).product();
    let (row, kept) = (whole.get(1).map_or(1, |n| n * inner), wanted.get(1).map_or(1, |n| n * inner));
    let rows = tensor.data().chunks_exact(row.max(1)).take(wanted[0]);
    let data = rows.flat_map(|row| row[..kept].iter().copied()).collect();
    Tensor::new(wanted, data).map_err(|error| error.to_string())
}

/// What a network's own `config.json` says: that of the supernet, for this subnet.
fn config(supernet: &Supernet, subnet: &Subnet) -> Value {
    let mut fields: Map<String, Value> = supernet
        .config()
        .iter()
        .flat_map(|config| config.fields())
        .map(|(k, v)| (k.into(), v.clone()))
        .collect();
    fields.remove("supernet");
    let depths: Vec<usize> =
        std::iter::once(1).chain(subnet.stages.iter().map(|stage| stage.cells.len())).collect();
    fields.insert("architecture".into(), json!("ofa/mobilenet_v3"));
    fields.insert("subnet".into(), json!(subnet.to_string()));
    fields.insert("depths".into(), json!(depths));
    let input = json!([3, subnet.size, subnet.size]);
    if let Some(pictures) = fields.get_mut("pretrained_cfg").and_then(Value::as_object_mut) {
        pictures.insert("input_size".into(), input);
    } else if fields.contains_key("input_size") {
        // As older files have it.
        fields.insert("input_size".into(), input);
    } else {
        fields.insert("size".into(), json!(subnet.size));
        if let Resize::Short(short) = ofa::for_size(subnet.size).resize {
            fields.insert("resize".into(), json!(short));
        }
    }
    Value::Object(fields)
}
