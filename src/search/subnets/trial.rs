//! How many pictures subnets get right.

use std::{collections::HashMap, sync::Arc};

use super::calibrate;
use crate::{
    Error, Result, Shape, Tensor,
    cpu::{Cpu, Executor},
    tasks::{Picture, preprocess},
    zoo::{Network, Slice, Subnet, Supernet},
};

/// Pictures that networks are calibrated on together.
const BATCH: usize = 32;

/// Pictures with their classes.
pub type Labelled = Vec<(Picture, usize)>;

/// Pictures to calibrate, to search and to judge by: none may be in two of them.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// What batch norms are calibrated on.
    pub calibration: Vec<Picture>,
    /// What candidates are compared by.
    pub search: Labelled,
    /// What the winner is judged by: a search makes the most of the pictures that it compares by.
    pub check: Labelled,
}

impl Samples {
    /// The demo's scenes: none that the supernet was trained on is in `search` or `check`.
    ///
    /// # Errors
    /// None that would not be a mistake of this crate's.
    #[cfg(feature = "demo")]
    pub fn scenes(search: usize, check: usize) -> Result<Self> {
        use rayon::prelude::*;

        use crate::demo::{Drawing, HELD_OUT, SEARCHED, Scene};
        /// As the supernet's were drawn for training.
        const SIDE: usize = 224;
        let draw = |seed: u64| Scene::new(seed).draw(SIDE, SIDE);
        let picture = |seed: u64| draw(seed).map(|drawing| drawing.picture);
        let labelled = |seed: u64| {
            let Drawing { picture, subject, .. } = draw(seed)?;
            // Classes of pixels have the background before the shapes.
            Ok((picture, subject.class() - 1))
        };
        let several = |first: u64, count: usize| (first..first + count as u64).into_par_iter();
        Ok(Self {
            calibration: several(0, 4 * BATCH).map(picture).collect::<Result<_>>()?,
            search: several(SEARCHED, search).map(labelled).collect::<Result<_>>()?,
            check: several(HELD_OUT, check).map(labelled).collect::<Result<_>>()?,
        })
    }
}

/// Judges subnets on some pictures, on the CPU: what is right does not depend on the device.
pub struct Trial<'a> {
    supernet: &'a Supernet,
    cpu: Cpu,
    samples: Samples,
    /// Those to calibrate and to search by, as networks of a size want them.
    prepared: HashMap<usize, Arc<Prepared>>,
    /// What subnets had right, by their text.
    known: HashMap<String, f64>,
}

#[derive(Debug)]
struct Prepared {
    calibration: Vec<Tensor>,
    search: Vec<Tensor>,
}

impl<'a> Trial<'a> {
    /// A trial of subnets of `supernet`.
    ///
    /// # Errors
    /// [`Error::Input`] if some pictures are missing, or a class is none of the supernet's.
    pub fn new(supernet: &'a Supernet, cpu: Cpu, samples: Samples) -> Result<Self> {
        let classes = supernet.slice(&supernet.smallest())?.network()?.classes;
        let labels = samples.search.iter().chain(&samples.check).map(|(_, class)| *class);
        if let Some(class) = labels.clone().find(|class| *class >= classes) {
            return Err(Error::Input(format!("a picture is of class {class}: the supernet has {classes}")));
        }
        let counts = [samples.calibration.len(), samples.search.len(), samples.check.len()];
        if counts.contains(&0) {
            let [calibration, search, check] = counts;
            return Err(Error::Input(format!(
                "too few pictures: {calibration} to calibrate, {search} to search and {check} to judge by"
            )));
        }
        Ok(Self { supernet, cpu, samples, prepared: HashMap::new(), known: HashMap::new() })
    }

    /// What its subnets are cut from.
    pub fn supernet(&self) -> &'a Supernet {
        self.supernet
    }

    /// Takes the share that a subnet, as text, had right in an earlier trial on the same pictures.
    pub fn recall(&mut self, subnet: String, right: f64) {
        self.known.insert(subnet, right);
    }

    /// The share of the pictures to search by that a subnet has right, found once.
    ///
    /// # Errors
    /// Those of [`Supernet::slice`], [`calibrate`](super::calibrate()) and [`Executor::run`].
    pub fn search(&mut self, subnet: &Subnet) -> Result<f64> {
        if let Some(known) = self.known.get(&subnet.to_string()) {
            return Ok(*known);
        }
        let mut slice = self.supernet.slice(subnet)?;
        let prepared = self.prepared(&slice)?;
        // One batch tells nearly as much as four, for a quarter of the time.
        let network = calibrate(&self.cpu, &mut slice, &prepared.calibration[..1])?;
        let classes: Vec<usize> = self.samples.search.iter().map(|(_, class)| *class).collect();
        let right = right(&self.cpu, &network, &prepared.search, &classes)?;
        let right = right as f64 / classes.len() as f64;
        self.known.insert(subnet.to_string(), right);
        Ok(right)
    }

    /// A subnet that is calibrated on all of the pictures for that, its network, and the share that it has right of those
    /// to judge by.
    ///
    /// # Errors
    /// As [`Trial::search`].
    pub fn finish(&mut self, subnet: &Subnet) -> Result<(Slice, Network, f64)> {
        let mut slice = self.supernet.slice(subnet)?;
        let prepared = self.prepared(&slice)?;
        let network = calibrate(&self.cpu, &mut slice, &prepared.calibration)?;
        let mut count = 0;
        for some in self.samples.check.chunks(BATCH) {
            let (pictures, classes): (Vec<&Picture>, Vec<usize>) =
                some.iter().map(|(picture, class)| (picture, *class)).unzip();
            count += right(&self.cpu, &network, &[batch(&network, &pictures)?], &classes)?;
        }
        Ok((slice, network, count as f64 / self.samples.check.len() as f64))
    }

    /// The pictures as networks of the slice's size want them.
    fn prepared(&mut self, slice: &Slice) -> Result<Arc<Prepared>> {
        let size = slice.subnet.size;
        if let Some(prepared) = self.prepared.get(&size) {
            return Ok(prepared.clone());
        }
        let network = &slice.network()?;
        let batches = |pictures: Vec<&Picture>| -> Result<Vec<Tensor>> {
            pictures.chunks(BATCH).map(|some| batch(network, some)).collect()
        };
        let prepared = Arc::new(Prepared {
            calibration: batches(self.samples.calibration.iter().collect())?,
            search: batches(self.samples.search.iter().map(|(picture, _)| picture).collect())?,
        });
        self.prepared.insert(size, prepared.clone());
        Ok(prepared)
    }
}

/// Pictures as a network wants them, in one batch.
fn batch(network: &Network, pictures: &[&Picture]) -> Result<Tensor> {
    use rayon::prelude::*;

    let inputs = pictures.par_iter().map(|picture| preprocess(picture, &network.preprocessing));
    let inputs: Vec<Tensor> = inputs.collect::<Result<_>>()?;
    let shape = Shape { n: inputs.len(), ..network.input_shape(1) };
    let values = inputs.iter().flat_map(|input| input.data()).copied().collect();
    Tensor::new(<[usize; 4]>::from(shape), values)
}

/// How many of the pictures in `batches` are of the class that a network finds the likeliest.
fn right(cpu: &Cpu, network: &Network, batches: &[Tensor], classes: &[usize]) -> Result<usize> {
    let mut executor: Option<(Shape, Executor)> = None;
    let (mut right, mut classes) = (0, classes.iter());
    for batch in batches {
        let shape = batch.shape()?;
        if executor.as_ref().is_none_or(|(of, _)| *of != shape) {
            executor = Some((shape, Executor::new(cpu, &network.graph, shape, false)?));
        }
        let Some((_, executor)) = &mut executor else { continue };
        let answers = executor.run(batch)?;
        for (scores, class) in answers[0].data().chunks_exact(network.classes).zip(&mut classes) {
            let best = scores.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
            right += usize::from(best.is_some_and(|(best, _)| best == *class));
        }
    }
    Ok(right)
}
