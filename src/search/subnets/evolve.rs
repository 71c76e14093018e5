//! Evolution: of the best candidates so far some are changed at random and some are crossed, as once-for-all's search does
//! it. It knows nothing of devices and pictures.

use std::collections::HashSet;

use super::Failed;
use crate::{
    random::Random,
    zoo::{Cell, Stack, Subnet, Supernet},
};

/// How long to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The longest that a network may take.
    pub within_ms: f64,
    /// Candidates of a generation.
    pub population: usize,
    /// Generations, the first at random.
    pub generations: usize,
    /// What the random choices depend on.
    pub seed: u64,
}

/// A subnet that was judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Which it is.
    pub subnet: Subnet,
    /// Milliseconds that it is expected to take.
    pub predicted_ms: f64,
    /// The share of pictures that it has right.
    pub accuracy: f64,
}

/// A choice is made anew with this probability.
const MUTATED: f32 = 0.1;

/// Parents are the best so far: a generation has as many children for each.
const CHILDREN: usize = 2;

/// How often a random network is drawn before one is grown from the smallest.
const TRIES: usize = 50;

/// Searches `supernet` for the subnets that `judge` likes best among those for which `predict` gives no more milliseconds
/// than there are. Gives all that were judged, the best first, of equals the quickest. The same seed finds the same ones
/// if `predict` and `judge` answer the same.
///
/// # Errors
/// Those of `predict` and `judge`; [`Failed::Slow`] if even the smallest takes too long.
pub fn evolve<E>(
    supernet: &Supernet,
    settings: Settings,
    predict: impl Fn(&Subnet) -> f64,
    mut judge: impl FnMut(&Subnet, f64) -> Result<f64, E>,
) -> Result<Vec<Found>, Failed<E>> {
    let mut draw = Draw { supernet, random: Random::new(settings.seed) };
    let fits = |subnet: &Subnet| predict(subnet) <= settings.within_ms;
    let quickest = predict(&supernet.smallest());
    if quickest > settings.within_ms {
        return Err(Failed::Slow { quickest_ms: quickest });
    }
    let mut found: Vec<Found> = Vec::new();
    let mut known: HashSet<String> = HashSet::new();
    for generation in 0..settings.generations {
        let mut children: Vec<Subnet> = Vec::new();
        // A space may have fewer networks than a population.
        for _ in 0..TRIES * settings.population {
            if children.len() == settings.population {
                break;
            }
            let child = match generation {
                0 => draw.within(&fits),
                _ => {
                    let parents = settings.population.div_ceil(CHILDREN).min(found.len());
                    let child = draw.child(&found[..parents]);
                    if !fits(&child) {
                        continue;
                    }
                    child
                }
            };
            if known.insert(child.to_string()) {
                children.push(child);
            }
        }
        for subnet in children {
            let predicted_ms = predict(&subnet);
            let accuracy = judge(&subnet, predicted_ms).map_err(Failed::Judge)?;
            found.push(Found { subnet, predicted_ms, accuracy });
        }
        let order = |a: &Found, b: &Found| {
            b.accuracy.total_cmp(&a.accuracy).then(a.predicted_ms.total_cmp(&b.predicted_ms))
        };
        found.sort_by(order);
    }
    Ok(found)
}

/// Random subnets.
pub(super) struct Draw<'a> {
    pub supernet: &'a Supernet,
    pub random: Random,
}

impl Draw<'_> {
    /// Any.
    pub fn any(&mut self) -> Subnet {
        let stages = (0..self.supernet.stages()).map(|stage| self.stack(stage)).collect();
        let space = self.supernet.space();
        Subnet { size: self.random.of(&space.sizes), width: self.random.of(&space.widths), stages }
    }

    /// Any that `fits`: grown from the smallest where that is few.
    fn within(&mut self, fits: &impl Fn(&Subnet) -> bool) -> Subnet {
        for _ in 0..TRIES {
            let subnet = self.any();
            if fits(&subnet) {
                return subnet;
            }
        }
        let mut subnet = self.supernet.smallest();
        for _ in 0..TRIES {
            let grown = self.mutated(&subnet);
            if fits(&grown) {
                subnet = grown;
            }
        }
        subnet
    }

    /// A change of one parent, or a cross of two.
    fn child(&mut self, parents: &[Found]) -> Subnet {
        let parent = self.random.below(parents.len());
        let other = self.random.below(parents.len());
        match self.random.below(2) {
            0 => self.mutated(&parents[parent].subnet),
            _ => self.crossed(&parents[parent].subnet, &parents[other].subnet),
        }
    }

    fn mutated(&mut self, subnet: &Subnet) -> Subnet {
        let mut subnet = subnet.clone();
        let space = self.supernet.space();
        if self.happens() {
            subnet.size = self.random.of(&space.sizes);
        }
        if self.happens() {
            subnet.width = self.random.of(&space.widths);
        }
        for (i, stage) in subnet.stages.iter_mut().enumerate() {
            if self.happens() {
                stage.squeeze = self.squeeze(i);
            }
            if self.happens() {
                let depth = self.random.of(&space.depths);
                stage.cells.truncate(depth);
                while stage.cells.len() < depth {
                    stage.cells.push(self.cell());
                }
            }
            for cell in &mut stage.cells {
                if self.happens() {
                    cell.kernel = self.random.of(&space.kernels);
                }
                if self.happens() {
                    cell.expansion = self.random.of(&space.expansions);
                }
            }
        }
        subnet
    }

    fn crossed(&mut self, a: &Subnet, b: &Subnet) -> Subnet {
        let mut either = || self.random.below(2) == 0;
        let (size, width) =
            (if either() { a.size } else { b.size }, if either() { a.width } else { b.width });
        let stages =
            a.stages.iter().zip(&b.stages).map(|(a, b)| if either() { a.clone() } else { b.clone() });
        Subnet { stages: stages.collect(), size, width }
    }

    fn happens(&mut self) -> bool {
        self.random.unit() < MUTATED
    }

    fn squeeze(&mut self, stage: usize) -> bool {
        match (self.supernet.squeezes(stage), self.supernet.plain(stage)) {
            (true, true) => self.random.below(2) == 0,
            (squeezes, _) => squeezes,
        }
    }

    fn stack(&mut self, stage: usize) -> Stack {
        let squeeze = self.squeeze(stage);
        let depth = self.random.of(&self.supernet.space().depths);
        Stack { squeeze, cells: (0..depth).map(|_| self.cell()).collect() }
    }

    fn cell(&mut self) -> Cell {
        let space = self.supernet.space();
        Cell { kernel: self.random.of(&space.kernels), expansion: self.random.of(&space.expansions) }
    }
}
