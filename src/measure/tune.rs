//! The kernels of a network's layers and the schedules of its blocks, measured against one
//! another.
//!
//! Candidates are timed in the real sequence with its barriers: plan after plan gives each layer,
//! or each block, another of its candidates, so one plan measures one candidate of all of them.
//! First layers by themselves, then blocks, whose layers by themselves are by then the best there
//! are. What is quicker than the model's choice beyond noise wins, and all of it is kept only if
//! the whole network is no slower.

use std::{collections::BTreeMap, fmt::Display, ops::Add, time::Duration};

use web_time::Instant;

use crate::{
    Error, Result, Shape, Tensor,
    gpu::{Executor, Gpu, Pace, distance},
    graph::Graph,
    plan::{Contest, Fuse, Kernel, Machine, Options, Plan, Schedules, Step, Tuned},
    session::F16_BOUND,
    tensor::Element,
};

/// Candidates of each kind, of a block and of a layer; in less time than [`QUICK`] a block's best by the model alone.
const EACH: usize = 3;
const EACH_KERNEL: usize = 2;
const QUICK: Duration = Duration::from_secs(20);

/// Runs of a plan in a round.
const RUNS: usize = 5;

/// The share by which a candidate must beat the model's choice: less is noise.
const MARGIN: f64 = 0.03;

/// The shares of the budget after which layers are settled, those with a gate, and blocks; the rest compares the
/// whole network.
const LAYERS: f64 = 0.35;
const GATED: f64 = 0.45;
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
    /// Microseconds that the model gives it, a launch included.
    pub modelled_us: f64,
    /// Microseconds on the device, the least.
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

/// [`tune_async`], blocking.
///
/// # Errors
/// As [`tune_async`].
pub fn tune(
    gpu: &Gpu,
    graph: &Graph,
    scores: &Graph,
    inputs: &[Tensor],
    element: Element,
    budget: Duration,
    progress: impl FnMut(f64),
) -> Result<Tuning> {
    pollster::block_on(tune_async(gpu, graph, scores, inputs, element, budget, progress))
}

/// Measures `graph` for about `budget`, and a round longer if that is too short for one. `progress`
/// hears the share of the budget that is spent. `scores` is the same network with an answer that
/// tells how exact it is: label maps and lists of boxes do not. How exact f16 is depends on what a network sees:
/// the worst of the `inputs` counts, all of one shape, and times are of the first.
///
/// Steps are timed by the device's timestamps; without any, by the wall's clock, each repeated. It blocks where
/// anything may, and gives way between two measurements: dropping the future there stops it. Only in a browser is
/// there anything to wait for.
///
/// # Errors
/// As [`Plan::new`] and [`Executor::run`]; [`Error::Input`] if there is no input.
pub async fn tune_async(
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
    gpu.calibrate().await?;
    let machine = gpu.machine(element);
    let first = inputs.first().ok_or_else(|| Error::Input("there is none to measure with".into()))?;
    let input = first.shape()?;
    let bench = Bench { gpu, graph, scores, input, machine, inputs };
    let each = if budget < QUICK { 1 } else { EACH };

    let mut tuning = Tuning::default();
    let winners = &mut tuning.winners;
    let measured = &mut tuning.measured;
    let layers = Plan::layer_contests(graph, input, machine, EACH_KERNEL)?;
    (winners.kernels, tuning.layers) = bench
        .judge(
            &layers,
            measured,
            |kernels| (Fuse::None, Tuned { kernels, ..Tuned::default() }),
            |_, step| Some(step.name().to_string()),
            || within(LAYERS),
        )
        .await?;
    let gated = Plan::gated_contests(graph, input, machine, EACH_KERNEL)?;
    if !gated.is_empty() {
        let tally;
        (winners.gated, tally) = bench
            .judge(
                &gated,
                measured,
                // A schedule that has the gate in a kernel of its own.
                |gated| (Fuse::Pair, Tuned { gated, ..Tuned::default() }),
                |_, step| {
                    step.launch.constants.contains(&("GATED", 1)).then(|| step.layers.last().cloned())?
                },
                || within(GATED),
            )
            .await?;
        tuning.layers = tuning.layers + tally;
    }
    let known = Tuned { schedules: Schedules::new(), ..winners.clone() };
    let blocks = Plan::contests(graph, input, machine, &known, each)?;
    (winners.schedules, tuning.blocks) = bench
        .judge(
            &blocks,
            measured,
            |schedules| (Fuse::Auto, Tuned { schedules, ..known.clone() }),
            |plan, step| Some(plan.choices[step.block?].block.clone()),
            || within(BLOCKS),
        )
        .await?;
    let exact = bench.exact().await?;
    tuning.error = bench.drop_inexact(winners, &exact).await?;
    let plans = [Tuned::default(), winners.clone()].map(|tuned| bench.plan(Fuse::Auto, tuned));
    let [before, after] = bench.alternate(plans, || within(1.0)).await?;
    (tuning.before_ms, tuning.after_ms) = (before, after);
    if after > before {
        tuning.winners = Tuned::default();
        tuning.after_ms = before;
        tuning.error = bench.error(&tuning.winners, &exact).await?;
    }
    Ok(tuning)
}

/// The kernels of each layer that the model likes best, `each` of every kind, measured in so many rounds of plans that
/// give every layer a kernel of its own. It blocks where anything may.
///
/// # Errors
/// As [`tune_async`].
pub async fn layer_times(
    gpu: &Gpu,
    graph: &Graph,
    picture: &Tensor,
    element: Element,
    each: usize,
    rounds: usize,
) -> Result<Vec<Measured>> {
    let (machine, input) = (gpu.machine(element), picture.shape()?);
    let inputs = std::slice::from_ref(picture);
    let bench = Bench { gpu, graph, scores: graph, input, machine, inputs };
    let mut measured = Vec::new();
    let (mut done, layers) = (0, Plan::layer_contests(graph, input, machine, each)?);
    let alone = |kernels| (Fuse::None, Tuned { kernels, ..Tuned::default() });
    let name = |_: &Plan, step: &Step| Some(step.name().to_string());
    let more = || {
        done += 1;
        done < rounds * turns(&layers)
    };
    bench.judge(&layers, &mut measured, alone, name, more).await?;
    Ok(measured)
}

/// What tuning measures besides the model's own plans: of every layer and block each candidate, in as many
/// plans as that takes.
///
/// # Errors
/// As [`Plan::new`].
pub fn candidates(graph: &Graph, input: Shape, machine: Machine) -> Result<Vec<Plan>> {
    let plan = |fuse, tuned| Plan::new(graph, input, machine, &Options { fuse, tuned, ..Options::default() });
    let layers = Plan::layer_contests(graph, input, machine, EACH_KERNEL)?;
    let gated = Plan::gated_contests(graph, input, machine, EACH_KERNEL)?;
    let blocks = Plan::contests(graph, input, machine, &Tuned::default(), EACH)?;
    let layers = (0..turns(&layers))
        .map(|at| plan(Fuse::None, Tuned { kernels: turn(&layers, at), ..Tuned::default() }));
    let gated =
        (0..turns(&gated)).map(|at| plan(Fuse::Pair, Tuned { gated: turn(&gated, at), ..Tuned::default() }));
    let blocks = (0..turns(&blocks))
        .map(|at| plan(Fuse::Auto, Tuned { schedules: turn(&blocks, at), ..Tuned::default() }));
    layers.chain(gated).chain(blocks).collect()
}

/// Turns after which every candidate has had one.
fn turns<T>(contests: &[Contest<T>]) -> usize {
    contests.iter().map(|contest| contest.entered.len()).max().unwrap_or(0)
}

/// The candidate of each contest whose turn it is.
fn turn<T: Copy>(contests: &[Contest<T>], at: usize) -> BTreeMap<String, T> {
    contests.iter().map(|c| (c.layer.clone(), c.entered[at % c.entered.len()])).collect()
}

impl Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            contests: self.contests + other.contests,
            entered: self.entered + other.entered,
            rounds: self.rounds.min(other.rounds),
        }
    }
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

    async fn executor(&self, plan: &Plan) -> Result<Executor> {
        let mut executor = Executor::new(self.gpu, plan, |_, _| {}).await?;
        give_way().await;
        // The first run pays for what drivers put off.
        executor.run_async(&self.inputs[0]).await?;
        Ok(executor)
    }

    /// The winner of each contest: who is faster than the first who entered.
    /// All times go to `measured`. `enter` makes a plan of one candidate of each, `of` names a step's contest, and it goes on
    /// as long as there is `more` time, once round at least.
    async fn judge<T: Copy + Display>(
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
        'rounds: while !contests.is_empty() && (rounds == 0 || more()) {
            for at in 0..turns(contests) {
                if !more() && rounds > 0 {
                    break 'rounds;
                }
                let (fuse, tuned) = enter(turn(contests, at));
                let plan = self.plan(fuse, tuned)?;
                let place: Vec<Option<usize>> =
                    plan.steps.iter().map(|step| places.get(of(&plan, step)?.as_str()).copied()).collect();
                let mut executor = self.executor(&plan).await?;
                for _ in 0..RUNS {
                    give_way().await;
                    let mut spent = vec![0.0; contests.len()];
                    for (place, time) in place.iter().zip(executor.step_times(&self.inputs[0]).await?) {
                        if let Some(contest) = *place {
                            spent[contest] += time;
                        }
                    }
                    for ((of_contest, contest), time) in times.iter_mut().zip(contests).zip(spent) {
                        // A plan that has no step of it says nothing of it.
                        if time > 0.0 {
                            of_contest[at % contest.entered.len()].push(time);
                        }
                    }
                }
            }
            rounds += 1;
        }
        let mut winners = BTreeMap::new();
        for (contest, of_contest) in contests.iter().zip(times) {
            // Whatever else runs on the machine only adds to a time.
            let least = |times: Vec<f64>| times.into_iter().fold(f64::INFINITY, f64::min);
            let times: Vec<f64> = of_contest.into_iter().map(least).collect();
            let candidates = contest.entered.iter().zip(&contest.modelled).zip(&times);
            let seen = candidates.filter(|(_, ns)| ns.is_finite());
            measured.extend(seen.map(|((candidate, cycles), ns)| Measured {
                layer: contest.layer.clone(),
                candidate: candidate.to_string(),

                modelled_us: 1e6 * cycles / self.machine.rates.clock,
                us: ns / 1e3,
            }));
            let best = (0..times.len()).min_by(|&a, &b| times[a].total_cmp(&times[b]));
            if let Some(best) = best.filter(|&best| times[best] < (1.0 - MARGIN) * times[0]) {
                winners.insert(contest.layer.clone(), contest.entered[best]);
            }
        }
        let entered = contests.iter().map(|c| c.entered.len()).sum();
        Ok((winners, Tally { contests: contests.len(), entered, rounds }))
    }

    /// Drops kernels with f16 sums if with them the scores are further from those in f32 than f16
    /// may be: they are as accurate as weights and maps let them be. How far they are then.
    async fn drop_inexact(&self, winners: &mut Tuned, exact: &[Vec<Tensor>]) -> Result<f64> {
        let half = |kernel: &Kernel| kernel.arithmetic() == Element::F16;
        let error = self.error(winners, exact).await?;
        if error <= F16_BOUND || !winners.kernels.values().chain(winners.gated.values()).any(half) {
            return Ok(error);
        }
        log::warn!("f16 sums would be quicker in some layers, and are too inexact for this network");
        winners.kernels.retain(|_, kernel| !half(kernel));
        winners.gated.retain(|_, kernel| !half(kernel));
        self.error(winners, exact).await
    }

    /// How far the scores are from the `exact` ones, over their norm: the worst of the inputs and of the answer's
    /// parts. What is no number, or overflows, is as far as can be.
    async fn error(&self, tuned: &Tuned, exact: &[Vec<Tensor>]) -> Result<f64> {
        if self.machine.element == Element::F32 {
            return Ok(0.0);
        }
        let scores = match self.scores(self.machine, tuned.clone()).await {
            Err(Error::Overflow { .. }) => return Ok(f64::MAX),
            scores => scores?,
        };
        let errors = scores.iter().flatten().zip(exact.iter().flatten()).map(|(a, b)| distance(a, b));
        Ok(errors.map(|error| if error.is_finite() { error } else { f64::MAX }).fold(0.0, f64::max))
    }

    /// The scores of each input in f32; none where they would only be compared with themselves.
    async fn exact(&self) -> Result<Vec<Vec<Tensor>>> {
        match self.machine.element {
            Element::F32 => Ok(Vec::new()),
            Element::F16 => self.scores(self.gpu.machine(Element::F32), Tuned::default()).await,
        }
    }

    async fn scores(&self, machine: Machine, tuned: Tuned) -> Result<Vec<Vec<Tensor>>> {
        let options = Options { tuned, ..Options::default() };
        let mut executor = self.executor(&Plan::new(self.scores, self.input, machine, &options)?).await?;
        let mut scores = Vec::with_capacity(self.inputs.len());
        for input in self.inputs {
            give_way().await;
            scores.push(executor.run_async(input).await?);
        }
        Ok(scores)
    }

    /// The median milliseconds of a run of each plan, runs alternating, five at least.
    async fn alternate<const N: usize>(
        &self,
        plans: [Result<Plan>; N],
        mut more: impl FnMut() -> bool,
    ) -> Result<[f64; N]> {
        let mut executors = Vec::with_capacity(N);
        for plan in plans {
            executors.push(self.executor(&plan?).await?);
        }
        let mut times: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
        while times.iter().any(|of_plan| of_plan.len() < 5) || more() {
            for (executor, of_plan) in executors.iter_mut().zip(&mut times) {
                give_way().await;
                let start = Instant::now();
                executor.run_async(&self.inputs[0]).await?;
                of_plan.push(1e3 * start.elapsed().as_secs_f64());
            }
        }
        Ok(times.map(median))
    }
}

/// Where a search may be stopped.
async fn give_way() {
    Pace::Piecewise.breathe().await;
}

/// Infinite of nothing.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::INFINITY)
}
