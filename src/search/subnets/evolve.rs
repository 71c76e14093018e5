//! Evolutionary search, as in once-for-all: each generation mutates and crosses the best candidates so far.
//! It is independent of devices and pictures.

use std::collections::HashSet;

use super::Failed;
use crate::{
    random::Random,
    zoo::{BlockChoice, StageChoice, Subnet, Supernet},
};

/// The limit and the length of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The time limit of a network.
    pub within_ms: f64,
    /// Candidates per generation.
    pub population: usize,
    /// The number of generations; the first one is random.
    pub generations: usize,
    /// The seed of the random choices.
    pub seed: u64,
}

/// An evaluated subnet.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The subnet.
    pub subnet: Subnet,
    /// The predicted time in milliseconds.
    pub predicted_ms: f64,
    /// The accuracy on the search pictures, as a fraction.
    pub search_accuracy: f64,
}

/// The probability that a mutation redraws a choice.
const MUTATED: f32 = 0.1;

/// Children per parent; the parents of a generation are the best candidates so far.
const CHILDREN: usize = 2;

/// Attempts per candidate: to draw a network within the limit, to grow one, and to find a new one.
const TRIES: usize = 50;

/// Searches `supernet` for the subnets with the highest score from `judge` among those whose time from
/// `predict` is within the limit. Returns all evaluated subnets, the best first and, with equal scores, the
/// fastest first. The result depends only on the seed if `predict` and `judge` are deterministic.
///
/// # Errors
/// Those of `judge`; [`Failed::Slow`] if even the smallest subnet exceeds the limit.
pub fn evolve<E>(
    supernet: &Supernet,
    settings: Settings,
    predict: impl Fn(&Subnet) -> f64,
    mut judge: impl FnMut(&Subnet, f64) -> Result<f64, E>,
) -> Result<Vec<Found>, Failed<E>> {
    let mut draw = Draw { supernet, random: Random::new(settings.seed) };
    let fits = |subnet: &Subnet| predict(subnet) <= settings.within_ms;
    let smallest_ms = predict(&supernet.smallest());
    if smallest_ms > settings.within_ms {
        return Err(Failed::Slow { fastest_ms: smallest_ms });
    }
    let mut found: Vec<Found> = Vec::new();
    let mut known: HashSet<String> = HashSet::new();
    for generation in 0..settings.generations {
        let mut children: Vec<Subnet> = Vec::new();
        // Bounded, because a space may contain fewer networks than a population.
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
            let search_accuracy = judge(&subnet, predicted_ms).map_err(Failed::Judge)?;
            found.push(Found { subnet, predicted_ms, search_accuracy });
        }
        let order = |a: &Found, b: &Found| {
            b.search_accuracy.total_cmp(&a.search_accuracy).then(a.predicted_ms.total_cmp(&b.predicted_ms))
        };
        found.sort_by(order);
    }
    Ok(found)
}

/// Draws random subnets.
pub(super) struct Draw<'a> {
    pub supernet: &'a Supernet,
    pub random: Random,
}

impl Draw<'_> {
    /// Draws every choice of a subnet at random.
    pub fn any(&mut self) -> Subnet {
        let stages = (0..self.supernet.stages()).map(|stage| self.stage_choice(stage)).collect();
        let space = self.supernet.space();
        Subnet { size: self.random.of(&space.sizes), width: self.random.of(&space.widths), stages }
    }

    /// Draws a subnet that `fits`; if such subnets are rare, grows one from the smallest.
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

    /// Mutates one parent or crosses two.
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
                stage.blocks.truncate(depth);
                while stage.blocks.len() < depth {
                    stage.blocks.push(self.block_choice());
                }
            }
            for block in &mut stage.blocks {
                if self.happens() {
                    block.kernel = self.random.of(&space.kernels);
                }
                if self.happens() {
                    block.expansion = self.random.of(&space.expansions);
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

    fn stage_choice(&mut self, stage: usize) -> StageChoice {
        let squeeze = self.squeeze(stage);
        let depth = self.random.of(&self.supernet.space().depths);
        StageChoice { squeeze, blocks: (0..depth).map(|_| self.block_choice()).collect() }
    }

    fn block_choice(&mut self) -> BlockChoice {
        let space = self.supernet.space();
        BlockChoice { kernel: self.random.of(&space.kernels), expansion: self.random.of(&space.expansions) }
    }
}
