//! The kernels of a network's layers and the schedules of its blocks, measured against one
//! another.
//!
//! Candidates are timed in the real sequence with its barriers: plan after plan gives each layer,
//! or each block, another of its candidates, so one plan measures one candidate of all of them.
//! First layers by themselves, then blocks, whose layers by themselves are by then the best there
//! are. What is quicker than the model's choice beyond noise wins, and all of it is kept only if
//! the whole network is no slower.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use web_time::Instant;

use crate::{
    Error, Result, Shape, Tensor,
    gpu::{Executor, Gpu, distance},
    graph::Graph,
    plan::{Contest, Fuse, Kernel, Kernels, Machine, Options, Plan, Schedules, Step, Tuned},
    session::F16_BOUND,
    tensor::Element,
};

/// Candidates of each kind, of a block and of a layer.
const EACH: usize = 3;
const EACH_KERNEL: usize = 2;

/// Runs of a plan in a round.
const RUNS: usize = 3;

/// The share by which a candidate must beat the model's choice: less is noise.
const MARGIN: f64 = 0.03;

/// The share of the budget after which layers are settled, and after which blocks are; the rest
/// compares the whole network.
const LAYERS: f64 = 0.35;
const BLOCKS: f64 = 0.75;

/// What came of tuning.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Tuning {
    /// What beat the model's choice.
    pub winners: Tuned,
    /// What was measured of layers by themselves.
    pub layers: Tally,
    /// What was measured of blocks and heads.
    pub blocks: Tally,
    /// Every candidate's time, of each layer and block in the model's order.
    pub measured: Vec<Measured>,
    /// Milliseconds of a run as the model plans it, the median of alternating runs.
    pub before_ms: f64,
    /// Milliseconds of a run as tuned.
    pub after_ms: f64,
    /// How far the scores as tuned are from those in f32, over their norm; 0 in f32.
    pub error: f64,
}

/// What a candidate was measured to take.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Measured {
    /// The layer, or the first one of the block.
    pub layer: String,
    /// The kernel and its tile, or the schedule.
    pub candidate: String,
    /// Microseconds on the device, the median.
    pub us: f64,
}

/// How much was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Tally {
    /// Layers or blocks that had a choice.
    pub contests: usize,
    /// Candidates, over all of them.
    pub entered: usize,
    /// Times that all of them were measured.
    pub rounds: usize,
}

/// Measures `graph` for about `budget`, and a round longer if that is too short for one. `progress`
/// hears the share of the budget that is spent. `scores` is the same network with an answer that
/// tells how exact it is: label maps and lists of boxes do not. How exact f16 is depends on what a network sees:
/// the worst of the `inputs` counts, all of one shape, and times are of the first.
///
/// # Errors
/// As [`Plan::new`] and [`Executor::run`]; [`Error::Input`] if there is no input.
pub fn tune(
    gpu: &Gpu,
    graph: &Graph,
    scores: &Graph,
    inputs: &[Tensor],
    element: Element,
    budget: Duration,
    mut progress: impl FnMut(f64),
) -> Result<Tuning> {
    let start = Instant::now();
    let mut within = |share: f64| {
        let spent = start.elapsed().as_secs_f64() / budget.as_secs_f64().max(1e-3);
        progress(spent);
        spent < share
    };
    let machine = gpu.machine(element);
    let first = inputs.first().ok_or_else(|| Error::Input("there is none to measure with".into()))?;
    let input = first.shape()?;
    let bench = Bench { gpu, graph, scores, input, machine, inputs };

    let mut tuning = Tuning::default();
    let winners = &mut tuning.winners;
    if gpu.has_timestamps() {
        let layers = Plan::layer_contests(graph, input, machine, EACH_KERNEL)?;
        let measured = &mut tuning.measured;
        (winners.kernels, tuning.layers) = bench.judge(
            &layers,
            measured,
            |kernels| (Fuse::None, Tuned { kernels, ..Tuned::default() }),
            |_, step| Some(step.name().to_string()),
            || within(LAYERS),
        )?;
        let kernels = winners.kernels.clone();
        let blocks = Plan::contests(graph, input, machine, &kernels, EACH)?;
        (winners.schedules, tuning.blocks) = bench.judge(
            &blocks,
            measured,
            |schedules| (Fuse::Auto, Tuned { schedules, kernels: kernels.clone() }),
            |plan, step| Some(plan.choices[step.block?].block.clone()),
            || within(BLOCKS),
        )?;
    } else {
        (winners.schedules, tuning.blocks) = bench.by_network(|| within(BLOCKS))?;
    }
    let exact = bench.exact()?;
    tuning.error = bench.drop_inexact(winners, &exact)?;
    let plans = [Tuned::default(), winners.clone()].map(|tuned| bench.plan(Fuse::Auto, tuned));
    let [before, after] = bench.alternate(plans, || within(1.0))?;
    (tuning.before_ms, tuning.after_ms) = (before, after);
    if after > before {
        tuning.winners = Tuned::default();
        tuning.after_ms = before;
        tuning.error = bench.error(&tuning.winners, &exact)?;
    }
    Ok(tuning)
}

/// What tuning measures besides the model's own plans: of every layer and block each candidate, in as many
/// plans as that takes.
///
/// # Errors
/// As [`Plan::new`].
pub fn candidates(graph: &Graph, input: Shape, machine: Machine) -> Result<Vec<Plan>> {
    let plan = |fuse, tuned| Plan::new(graph, input, machine, &Options { fuse, tuned, ..Options::default() });
    let layers = Plan::layer_contests(graph, input, machine, EACH_KERNEL)?;
    let blocks = Plan::contests(graph, input, machine, &Kernels::new(), EACH)?;
    let layers = (0..turns(&layers))
        .map(|at| plan(Fuse::None, Tuned { kernels: turn(&layers, at), ..Tuned::default() }));
    let blocks = (0..turns(&blocks))
        .map(|at| plan(Fuse::Auto, Tuned { schedules: turn(&blocks, at), ..Tuned::default() }));
    layers.chain(blocks).collect()
}

/// Turns after which every candidate has had one.
fn turns<T>(contests: &[Contest<T>]) -> usize {
    contests.iter().map(|contest| contest.entered.len()).max().unwrap_or(0)
}

/// The candidate of each contest whose turn it is.
fn turn<T: Copy>(contests: &[Contest<T>], at: usize) -> BTreeMap<String, T> {
    contests.iter().map(|c| (c.layer.clone(), c.entered[at % c.entered.len()])).collect()
}

/// What is measured.
struct Bench<'a> {
    gpu: &'a Gpu,
    graph: &'a Graph,
    scores: &'a Graph,
    input: Shape,
    machine: Machine,
    inputs: &'a [Tensor],
}

impl Bench<'_> {
    fn plan(&self, fuse: Fuse, tuned: Tuned) -> Result<Plan> {
        let options = Options { fuse, tuned, ..Options::default() };
        Plan::new(self.graph, self.input, self.machine, &options)
    }

    fn executor(&self, plan: &Plan) -> Result<Executor> {
        let mut executor = pollster::block_on(Executor::new(self.gpu, plan, |_, _| {}))?;
        // The first run pays for what drivers put off.
        executor.run(&self.inputs[0])?;
        Ok(executor)
    }

    /// The winner of each contest by timestamps: who is faster than the first who entered.
    /// `enter` makes a plan of one candidate of each, `of` names a step's contest, and it goes on
    /// as long as there is `more` time, once round at least.
    fn judge<T: Copy + Display>(
        &self,
        contests: &[Contest<T>],
        measured: &mut Vec<Measured>,
        enter: impl Fn(BTreeMap<String, T>) -> (Fuse, Tuned),
        of: impl Fn(&Plan, &Step) -> Option<String>,
        mut more: impl FnMut() -> bool,
    ) -> Result<(BTreeMap<String, T>, Tally)> {
        // Of each contest, of each candidate, the nanoseconds of every run.
        let mut times: Vec<Vec<Vec<f64>>> =
            contests.iter().map(|c| vec![Vec::new(); c.entered.len()]).collect();
        let places: BTreeMap<&str, usize> =
            contests.iter().enumerate().map(|(i, c)| (c.layer.as_str(), i)).collect();
        let mut rounds = 0;
        'rounds: while rounds == 0 || more() {
            for at in 0..turns(contests) {
                if !more() && rounds > 0 {
                    break 'rounds;
                }
                let (fuse, tuned) = enter(turn(contests, at));
                let plan = self.plan(fuse, tuned)?;
                let place: Vec<Option<usize>> =
                    plan.steps.iter().map(|step| places.get(of(&plan, step)?.as_str()).copied()).collect();
                let mut executor = self.executor(&plan)?;
                for _ in 0..RUNS {
                    let mut spent = vec![0.0; contests.len()];
                    for (place, time) in place.iter().zip(executor.profile(&self.inputs[0])?) {
                        if let Some(contest) = *place {
                            spent[contest] += time;
                        }
                    }
                    for ((of_contest, contest), time) in times.iter_mut().zip(contests).zip(spent) {
                        of_contest[at % contest.entered.len()].push(time);
                    }
                }
            }
            rounds += 1;
        }
        let mut winners = BTreeMap::new();
        for (contest, of_contest) in contests.iter().zip(times) {
            let medians: Vec<f64> = of_contest.into_iter().map(median).collect();
            measured.extend(contest.entered.iter().zip(&medians).map(|(candidate, ns)| Measured {
                layer: contest.layer.clone(),
                candidate: candidate.to_string(),
                us: ns / 1e3,
            }));
            let best = (0..medians.len()).min_by(|&a, &b| medians[a].total_cmp(&medians[b]));
            if let Some(best) = best.filter(|&best| medians[best] < (1.0 - MARGIN) * medians[0]) {
                winners.insert(contest.layer.clone(), contest.entered[best]);
            }
        }
        let entered = contests.iter().map(|c| c.entered.len()).sum();
        Ok((winners, Tally { contests: contests.len(), entered, rounds }))
    }

    /// Drops kernels with f16 sums if with them the scores are further from those in f32 than f16
    /// may be: they are as accurate as weights and maps let them be. How far they are then.
    fn drop_inexact(&self, winners: &mut Tuned, exact: &[Vec<Tensor>]) -> Result<f64> {
        let half = |kernel: &Kernel| kernel.arithmetic() == Element::F16;
        let error = self.error(winners, exact)?;
        if error <= F16_BOUND || !winners.kernels.values().any(half) {
            return Ok(error);
        }
        log::warn!("f16 sums would be quicker in some layers, and are too inexact for this network");
        winners.kernels.retain(|_, kernel| !half(kernel));
        self.error(winners, exact)
    }

    /// How far the scores are from the `exact` ones, over their norm: the worst of the inputs and of the answer's
    /// parts. What is no number, or overflows, is as far as can be.
    fn error(&self, tuned: &Tuned, exact: &[Vec<Tensor>]) -> Result<f64> {
        if self.machine.element == Element::F32 {
            return Ok(0.0);
        }
        let scores = match self.scores(self.machine, tuned.clone()) {
            Err(Error::Overflow { .. }) => return Ok(f64::MAX),
            scores => scores?,
        };
        let errors = scores.iter().flatten().zip(exact.iter().flatten()).map(|(a, b)| distance(a, b));
        Ok(errors.map(|error| if error.is_finite() { error } else { f64::MAX }).fold(0.0, f64::max))
    }

    /// The scores of each input in f32; none where they would only be compared with themselves.
    fn exact(&self) -> Result<Vec<Vec<Tensor>>> {
        match self.machine.element {
            Element::F32 => Ok(Vec::new()),
            Element::F16 => self.scores(self.gpu.machine(Element::F32), Tuned::default()),
        }
    }

    fn scores(&self, machine: Machine, tuned: Tuned) -> Result<Vec<Vec<Tensor>>> {
        let options = Options { tuned, ..Options::default() };
        let mut executor = self.executor(&Plan::new(self.scores, self.input, machine, &options)?)?;
        self.inputs.iter().map(|input| executor.run(input)).collect()
    }

    /// Without timestamps: the schedules of whichever way to fuse the whole network is quickest.
    fn by_network(&self, more: impl FnMut() -> bool) -> Result<(Schedules, Tally)> {
        let ways = [Fuse::Auto, Fuse::None, Fuse::Pair, Fuse::Block];
        let plans = ways.map(|fuse| self.plan(fuse, Tuned::default()));
        let choices: Vec<Schedules> = plans
            .iter()
            .flatten()
            .map(|plan| plan.choices.iter().map(|c| (c.block.clone(), c.schedule)).collect())
            .collect();
        let times = self.alternate(plans, more)?;
        let best = (0..ways.len()).min_by(|&a, &b| times[a].total_cmp(&times[b])).unwrap_or(0);
        let won = times[best] < (1.0 - MARGIN) * times[0];
        let tally = Tally { contests: choices[0].len(), entered: ways.len() * choices[0].len(), rounds: 1 };
        Ok((if won { choices[best].clone() } else { Schedules::new() }, tally))
    }

    /// The median milliseconds of a run of each plan, runs alternating, five at least.
    fn alternate<const N: usize>(
        &self,
        plans: [Result<Plan>; N],
        mut more: impl FnMut() -> bool,
    ) -> Result<[f64; N]> {
        let mut executors = Vec::with_capacity(N);
        for plan in plans {
            executors.push(self.executor(&plan?)?);
        }
        let mut times: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
        while times.iter().any(|of_plan| of_plan.len() < 5) || more() {
            for (executor, of_plan) in executors.iter_mut().zip(&mut times) {
                let start = Instant::now();
                executor.run(&self.inputs[0])?;
                of_plan.push(1e3 * start.elapsed().as_secs_f64());
            }
        }
        Ok(times.map(median))
    }
}

/// Infinite of nothing.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::INFINITY)
}
