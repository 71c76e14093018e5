//! The accuracy of subnets on pictures.

use std::{collections::HashMap, sync::Arc};

use super::calibrate;
use crate::{
    Error, Result, Shape, Tensor,
    cpu::{Cpu, Executor},
    tasks::{Picture, preprocess},
    zoo::{Network, Slice, Subnet, Supernet},
};

/// Pictures per batch, to calibrate and to evaluate.
const BATCH: usize = 32;

/// Pictures with their classes.
pub type Labelled = Vec<(Picture, usize)>;

/// The pictures of a search: three sets that must be disjoint.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// For calibrating batch norms.
    pub calibration: Vec<Picture>,
    /// For comparing candidates.
    pub search: Labelled,
    /// Held out, for the finalists' accuracy: the accuracy on `search` is biased, because the search
    /// maximises it.
    pub held_out: Labelled,
}

impl Samples {
    /// Generates the demo's scenes. The supernet was not trained on those of `search` and `held_out`.
    ///
    /// # Errors
    /// Only if this crate has a bug.
    #[cfg(feature = "demo")]
    pub fn scenes(search: usize, held_out: usize) -> Result<Self> {
        use rayon::prelude::*;

        use crate::demo::{Drawing, HELD_OUT, SEARCHED, Scene};
        /// The size of the scenes that the supernet was trained on.
        const SIDE: usize = 224;
        let draw = |seed: u64| Scene::new(seed).draw(SIDE, SIDE);
        let picture = |seed: u64| draw(seed).map(|drawing| drawing.picture);
        let labelled = |seed: u64| {
            let Drawing { picture, subject, .. } = draw(seed)?;
            // Class 0 of pixels is the background; the classes of pictures start with the first shape.
            Ok((picture, subject.class() - 1))
        };
        let several = |first: u64, count: usize| (first..first + count as u64).into_par_iter();
        Ok(Self {
            calibration: several(0, 4 * BATCH).map(picture).collect::<Result<_>>()?,
            search: several(SEARCHED, search).map(labelled).collect::<Result<_>>()?,
            held_out: several(HELD_OUT, held_out).map(labelled).collect::<Result<_>>()?,
        })
    }
}

/// Evaluates subnets on pictures. It runs on the CPU, because accuracy does not depend on the device.
pub struct Trial<'a> {
    supernet: &'a Supernet,
    cpu: Cpu,
    samples: Samples,
    /// The calibration and search pictures as network inputs, by input size.
    prepared: HashMap<usize, Arc<Prepared>>,
    /// The accuracies of subnets on the search pictures, by the subnets' text.
    known: HashMap<String, f64>,
}

#[derive(Debug)]
struct Prepared {
    calibration: Vec<Tensor>,
    search: Vec<Tensor>,
}

impl<'a> Trial<'a> {
    /// Creates a trial of subnets of `supernet`.
    ///
    /// # Errors
    /// [`Error::Input`] if a set of pictures is empty, or the supernet lacks the class of a picture.
    pub fn new(supernet: &'a Supernet, cpu: Cpu, samples: Samples) -> Result<Self> {
        let classes = supernet.slice(&supernet.smallest())?.network()?.classes;
        let labels = samples.search.iter().chain(&samples.held_out).map(|(_, class)| *class);
        if let Some(class) = labels.clone().find(|class| *class >= classes) {
            return Err(Error::Input(format!(
                "a picture has class {class}, but the supernet has {classes} classes"
            )));
        }
        let counts = [samples.calibration.len(), samples.search.len(), samples.held_out.len()];
        if counts.contains(&0) {
            let [calibration, search, held_out] = counts;
            return Err(Error::Input(format!(
                "too few pictures: {calibration} for calibration, {search} for the search and {held_out} held out"
            )));
        }
        Ok(Self { supernet, cpu, samples, prepared: HashMap::new(), known: HashMap::new() })
    }

    /// The supernet of the subnets.
    pub fn supernet(&self) -> &'a Supernet {
        self.supernet
    }

    /// Adds the accuracy of a subnet, given as text, from an earlier trial on the same search pictures.
    pub fn recall(&mut self, subnet: String, accuracy: f64) {
        self.known.insert(subnet, accuracy);
    }

    /// Evaluates a subnet on the search pictures and returns its accuracy as a fraction; repeated calls
    /// return the stored value.
    ///
    /// # Errors
    /// Those of [`Supernet::slice`], [`calibrate`](super::calibrate()) and [`Executor::run`].
    pub fn evaluate(&mut self, subnet: &Subnet) -> Result<f64> {
        if let Some(known) = self.known.get(&subnet.to_string()) {
            return Ok(*known);
        }
        let mut slice = self.supernet.slice(subnet)?;
        let prepared = self.prepared(&slice)?;
        // One batch is nearly as good as four, in a quarter of the time.
        let network = calibrate(&self.cpu, &mut slice, &prepared.calibration[..1])?;
        let classes: Vec<usize> = self.samples.search.iter().map(|(_, class)| *class).collect();
        let correct = count_correct(&self.cpu, &network, &prepared.search, &classes)?;
        let accuracy = correct as f64 / classes.len() as f64;
        self.known.insert(subnet.to_string(), accuracy);
        Ok(accuracy)
    }

    /// Calibrates a subnet on all calibration pictures. Returns its slice, its network, and its accuracy on
    /// the held-out pictures.
    ///
    /// # Errors
    /// As [`Trial::evaluate`].
    pub fn finish(&mut self, subnet: &Subnet) -> Result<(Slice, Network, f64)> {
        let mut slice = self.supernet.slice(subnet)?;
        let prepared = self.prepared(&slice)?;
        let network = calibrate(&self.cpu, &mut slice, &prepared.calibration)?;
        let mut count = 0;
        for some in self.samples.held_out.chunks(BATCH) {
            let (pictures, classes): (Vec<&Picture>, Vec<usize>) =
                some.iter().map(|(picture, class)| (picture, *class)).unzip();
            count += count_correct(&self.cpu, &network, &[batch(&network, &pictures)?], &classes)?;
        }
        Ok((slice, network, count as f64 / self.samples.held_out.len() as f64))
    }

    /// The pictures as inputs of the slice's size.
    fn prepared(&mut self, slice: &Slice) -> Result<Arc<Prepared>> {
        let size = slice.subnet.size;
        if let Some(prepared) = self.prepared.get(&size) {
            return Ok(prepared.clone());
        }
        let network = &slice.network()?;
        // Pictures are often sorted by class, and statistics are averaged over batches: each batch is a
        // cross-section of the pictures, and all have about the same size.
        let calibration = &self.samples.calibration;
        let count = calibration.len().div_ceil(BATCH);
        let section =
            |at: usize| batch(network, &calibration.iter().skip(at).step_by(count).collect::<Vec<_>>());
        let search: Vec<&Picture> = self.samples.search.iter().map(|(picture, _)| picture).collect();
        let prepared = Arc::new(Prepared {
            calibration: (0..count).map(section).collect::<Result<_>>()?,
            search: search.chunks(BATCH).map(|some| batch(network, some)).collect::<Result<_>>()?,
        });
        self.prepared.insert(size, prepared.clone());
        Ok(prepared)
    }
}

/// Preprocesses pictures into one batch.
fn batch(network: &Network, pictures: &[&Picture]) -> Result<Tensor> {
    use rayon::prelude::*;

    let inputs = pictures.par_iter().map(|picture| preprocess(picture, &network.preprocessing));
    let inputs: Vec<Tensor> = inputs.collect::<Result<_>>()?;
    let shape = Shape { n: inputs.len(), ..network.input_shape(1) };
    let values = inputs.iter().flat_map(|input| input.data()).copied().collect();
    Tensor::new(<[usize; 4]>::from(shape), values)
}

/// Counts the pictures in `batches` for which the network's most likely class is correct.
fn count_correct(cpu: &Cpu, network: &Network, batches: &[Tensor], classes: &[usize]) -> Result<usize> {
    let mut executor: Option<(Shape, Executor)> = None;
    let (mut correct, mut classes) = (0, classes.iter());
    for batch in batches {
        let shape = batch.shape()?;
        if executor.as_ref().is_none_or(|(of, _)| *of != shape) {
            executor = Some((shape, Executor::new(cpu, &network.graph, shape, false)?));
        }
        let Some((_, executor)) = &mut executor else { continue };
        let outputs = executor.run(batch)?;
        for (scores, class) in outputs[0].data().chunks_exact(network.classes).zip(&mut classes) {
            let best = scores.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
            correct += usize::from(best.is_some_and(|(best, _)| best == *class));
        }
    }
    Ok(correct)
}
