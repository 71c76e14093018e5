//! Tuning: measures candidate kernels of a network's layers and candidate schedules of its blocks.
//!
//! Candidates are timed in the real sequence with its barriers. Each plan gives every layer, or every block,
//! one of its candidates, so that one plan measures one candidate of each. Layers are measured first, with
//! one kernel per layer. Blocks follow; the layers that a schedule does not fuse already use the best
//! kernels. A candidate wins if it beats the cost model's choice by more than the measurement noise. The
//! winners are kept only if the whole network is not slower with them.

use std::{collections::BTreeMap, fmt::Display, ops::Add, time::Duration};

use web_time::Instant;

use crate::{
    Error, Result, Shape, Tensor,
    gpu::{Executor, Gpu, Pace},
    graph::Graph,
    plan::{CandidateSet, Fuse, Kernel, Machine, Options, Plan, Schedules, Step, Tuned},
    session::MAX_F16_ERROR,
    tensor::{Element, distance},
};

/// Candidates of each kind per block and per layer. With a budget below [`SHORT_BUDGET`], each block has only
/// one candidate of each kind: the one that the cost model predicts to be fastest.
const BLOCK_CANDIDATES: usize = 3;
const LAYER_CANDIDATES: usize = 2;
const SHORT_BUDGET: Duration = Duration::from_secs(20);

/// Runs per plan and round.
const RUNS: usize = 5;

/// The fraction by which a candidate must beat the cost model's choice; less is measurement noise.
const MARGIN: f64 = 0.03;

/// The fractions of the budget after which the measurements of layers, of layers with a gate, and of blocks
/// end. The rest compares whole networks.
const LAYERS: f64 = 0.35;
const GATED: f64 = 0.45;
const BLOCKS: f64 = 0.75;

/// Results of tuning.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Tuning {
    /// The candidates that beat the cost model's choice.
    pub winners: Tuned,
    /// The measurements of separate layers.
    pub layers: Tally,
    /// The measurements of blocks and heads.
    pub blocks: Tally,
    /// The time of every candidate, by layer and block, in the cost model's order.
    pub measured: Vec<Measured>,
    /// Milliseconds per run of the cost model's plan, the median of alternating runs.
    pub before_ms: f64,
    /// Milliseconds per run of the tuned plan.
    pub after_ms: f64,
    /// Relative error of the scores of the tuned plan: the norm of their difference from the f32 scores, over
    /// the norm of the f32 scores; 0 in f32.
    pub error: f64,
}

/// The measured time of a candidate.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Measured {
    /// The layer, or the first one of the block.
    pub layer: String,
    /// The kernel and its tile, or the schedule.
    pub candidate: String,
    /// Microseconds that the cost model predicts, including the launch.
    pub predicted_us: f64,
    /// Microseconds on the device, the minimum of all runs.
    pub us: f64,
}

/// Counts of measurements.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Tally {
    /// Layers or blocks with several candidates.
    pub sets: usize,
    /// Candidates of all of them.
    pub candidates: usize,
    /// Rounds in which every candidate was measured.
    pub rounds: usize,
}

/// [`tune_async`], blocking.
///
/// ```no_run
/// # fn main() -> goldcrest::Result<()> {
/// use goldcrest::{Options, gpu::Gpu, measure, session, tensor::Element, zoo::Network, Tensor};
///
/// let gpu = Gpu::new()?;
/// let network = Network::open("mobilenet_v2.safetensors")?;
/// let graph = network.graph_for(network.default_outputs())?;
/// let shape = Options::default().input_shape(&network);
/// let inputs = [Tensor::wave(shape, 0.37)]; // preprocessed pictures, to measure the error of f16
/// let budget = std::time::Duration::from_secs(20);
/// let tuning = measure::tune(&gpu, &graph, &network.graph, &inputs, Element::F32, budget, |_| {})?;
/// println!("{:.2} ms, was {:.2} ms", tuning.after_ms, tuning.before_ms);
///
/// // Stored for later sessions on this device:
/// let record = session::TuningRecord {
///     winners: tuning.winners,
///     ms: tuning.after_ms,
///     error: tuning.error,
///     weights: session::weights_checksum(&graph),
/// };
/// session::store_tuning(&gpu, &graph, shape, Element::F32, record);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`tune_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn tune(
    gpu: &Gpu,
    graph: &Graph,
    scores: &Graph,
    inputs: &[Tensor],
    element: Element,
    budget: Duration,
    mut progress: impl FnMut(f64),
) -> Result<Tuning> {
    // A program compiles one future for all its closures.
    let progress: &mut dyn FnMut(f64) = &mut progress;
    pollster::block_on(tune_async(gpu, graph, scores, inputs, element, budget, progress))
}

/// Tunes `graph` for about `budget`, or for one round if that takes longer. `progress` is called with the
/// fraction of the budget that is spent. `scores` is the same network with outputs that show rounding errors,
/// which label maps and lists of boxes hide. The accuracy of f16 depends on the input: the largest error over
/// all `inputs` counts. The inputs must have one shape. Only the first one is timed.
///
/// Steps are timed with GPU timestamps or, without timestamps, with wall-clock time and repetitions. On
/// native targets the future blocks during each measurement and yields between measurements; dropping it at a
/// yield stops the tuning. Only in a browser does it wait asynchronously.
///
/// # Errors
/// As [`Plan::new`] and [`Executor::run`]; [`Error::Input`] if `inputs` is empty.
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
    let mut within = |fraction: f64| {
        let spent = start.elapsed().as_secs_f64() / budget.as_secs_f64().max(1e-3);
        progress(spent);
        spent < fraction
    };
    gpu.calibrate().await?;
    let machine = gpu.machine(element);
    let first = inputs.first().ok_or_else(|| Error::Input("tuning needs at least one input".into()))?;
    let input = first.shape()?;
    let bench = Bench { gpu, graph, scores, input, machine, inputs };
    let each = if budget < SHORT_BUDGET { 1 } else { BLOCK_CANDIDATES };

    let mut tuning = Tuning::default();
    let winners = &mut tuning.winners;
    let measured = &mut tuning.measured;
    let layers = Plan::layer_candidates(graph, input, machine, LAYER_CANDIDATES)?;
    (winners.kernels, tuning.layers) = bench
        .measure_candidates(
            &layers,
            measured,
            |kernels| (Fuse::None, Tuned { kernels, ..Tuned::default() }),
            |_, step| Some(step.name().to_string()),
            || within(LAYERS),
        )
        .await?;
    let gated = Plan::gated_candidates(graph, input, machine, LAYER_CANDIDATES)?;
    if !gated.is_empty() {
        let tally;
        (winners.gated, tally) = bench
            .measure_candidates(
                &gated,
                measured,
                // With this option the projection, which applies the gate, is a separate kernel.
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
    let blocks = Plan::block_candidates(graph, input, machine, &known, each)?;
    (winners.schedules, tuning.blocks) = bench
        .measure_candidates(
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

/// Measures the kernels of every layer that has a choice: of each kind of kernel, the candidates that the
/// cost model predicts to be fastest, at most `each` of them. Layers are not fused. Every round runs as many
/// plans as are needed to measure all candidates. On native targets the future blocks.
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
    let layers = Plan::layer_candidates(graph, input, machine, each)?;
    let alone = |kernels| (Fuse::None, Tuned { kernels, ..Tuned::default() });
    let name = |_: &Plan, step: &Step| Some(step.name().to_string());
    let mut plans = 0..rounds * plans_per_round(&layers);
    bench.measure_candidates(&layers, &mut measured, alone, name, || plans.next().is_some()).await?;
    Ok(measured)
}

/// Returns the plans that tuning measures besides the cost model's: together they have every candidate of
/// every layer and block.
///
/// # Errors
/// As [`Plan::new`].
pub fn candidates(graph: &Graph, input: Shape, machine: Machine) -> Result<Vec<Plan>> {
    let plan = |fuse, tuned| Plan::new(graph, input, machine, &Options { fuse, tuned, ..Options::default() });
    let layers = Plan::layer_candidates(graph, input, machine, LAYER_CANDIDATES)?;
    let gated = Plan::gated_candidates(graph, input, machine, LAYER_CANDIDATES)?;
    let blocks = Plan::block_candidates(graph, input, machine, &Tuned::default(), BLOCK_CANDIDATES)?;
    let layers = (0..plans_per_round(&layers))
        .map(|at| plan(Fuse::None, Tuned { kernels: candidates_of_plan(&layers, at), ..Tuned::default() }));
    let gated = (0..plans_per_round(&gated))
        .map(|at| plan(Fuse::Pair, Tuned { gated: candidates_of_plan(&gated, at), ..Tuned::default() }));
    let blocks = (0..plans_per_round(&blocks))
        .map(|at| plan(Fuse::Auto, Tuned { schedules: candidates_of_plan(&blocks, at), ..Tuned::default() }));
    layers.chain(gated).chain(blocks).collect()
}

/// Returns the number of plans that together have every candidate.
fn plans_per_round<T>(sets: &[CandidateSet<T>]) -> usize {
    sets.iter().map(|set| set.candidates.len()).max().unwrap_or(0)
}

/// Returns the candidate of each set in plan `at` of a round.
fn candidates_of_plan<T: Copy>(sets: &[CandidateSet<T>], at: usize) -> BTreeMap<String, T> {
    sets.iter().map(|c| (c.layer.clone(), c.candidates[at % c.candidates.len()])).collect()
}

impl Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            sets: self.sets + other.sets,
            candidates: self.candidates + other.candidates,
            rounds: self.rounds.min(other.rounds),
        }
    }
}

/// The network and the device to measure.
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
        // Warm-up: drivers defer work to the first run.
        executor.run_async(&self.inputs[0]).await?;
        Ok(executor)
    }

    /// Measures all candidates, and returns the winner of each set: the fastest candidate, if it beats the
    /// first one, the cost model's choice, by `MARGIN`. Appends all times to `measured`. `options_of`
    /// converts one candidate per set to the options of a plan; `layer_of` returns the layer by which a
    /// step's set is named. Calls `more` before each plan, and stops when it returns false, but not before
    /// the end of the first round.
    async fn measure_candidates<T: Copy + Display>(
        &self,
        sets: &[CandidateSet<T>],
        measured: &mut Vec<Measured>,
        options_of: impl Fn(BTreeMap<String, T>) -> (Fuse, Tuned),
        layer_of: impl Fn(&Plan, &Step) -> Option<String>,
        mut more: impl FnMut() -> bool,
    ) -> Result<(BTreeMap<String, T>, Tally)> {
        // Nanoseconds of every run, by set and candidate.
        let mut times: Vec<Vec<Vec<f64>>> =
            sets.iter().map(|c| vec![Vec::new(); c.candidates.len()]).collect();
        let index_by_layer: BTreeMap<&str, usize> =
            sets.iter().enumerate().map(|(i, c)| (c.layer.as_str(), i)).collect();
        let round = plans_per_round(sets);
        let mut done = 0;
        // `more` also reports the progress of the first round.
        while round > 0 && (more() || done < round) {
            let at = done % round;
            let (fuse, tuned) = options_of(candidates_of_plan(sets, at));
            let plan = self.plan(fuse, tuned)?;
            let set_of_step: Vec<Option<usize>> = plan
                .steps
                .iter()
                .map(|step| index_by_layer.get(layer_of(&plan, step)?.as_str()).copied())
                .collect();
            let mut executor = self.executor(&plan).await?;
            for _ in 0..RUNS {
                give_way().await;
                let mut spent = vec![0.0; sets.len()];
                for (index, time) in set_of_step.iter().zip(executor.step_times(&self.inputs[0]).await?) {
                    if let Some(set) = *index {
                        spent[set] += time;
                    }
                }
                for ((of_set, set), time) in times.iter_mut().zip(sets).zip(spent) {
                    // A plan without a step of this set does not measure it.
                    if time > 0.0 {
                        of_set[at % set.candidates.len()].push(time);
                    }
                }
            }
            done += 1;
        }
        let mut winners = BTreeMap::new();
        for (set, of_set) in sets.iter().zip(times) {
            // Other load on the machine only adds to a time: take the minimum.
            let least = |times: Vec<f64>| times.into_iter().fold(f64::INFINITY, f64::min);
            let times: Vec<f64> = of_set.into_iter().map(least).collect();
            let candidates = set.candidates.iter().zip(&set.predicted).zip(&times);
            let seen = candidates.filter(|(_, ns)| ns.is_finite());
            measured.extend(seen.map(|((candidate, cycles), ns)| Measured {
                layer: set.layer.clone(),
                candidate: candidate.to_string(),
                predicted_us: 1e6 * cycles / self.machine.rates.clock,
                us: ns / 1e3,
            }));
            let best = (0..times.len()).min_by(|&a, &b| times[a].total_cmp(&times[b]));
            if let Some(best) = best.filter(|&best| times[best] < (1.0 - MARGIN) * times[0]) {
                winners.insert(set.layer.clone(), set.candidates[best]);
            }
        }
        let candidates = sets.iter().map(|c| c.candidates.len()).sum();
        let rounds = done.checked_div(round).unwrap_or(0);
        Ok((winners, Tally { sets: sets.len(), candidates, rounds }))
    }

    /// Drops kernels with f16 accumulators if the scores' relative error with them exceeds [`MAX_F16_ERROR`].
    /// Returns the error of the remaining winners: without such kernels, only f16 storage of weights and maps
    /// limits the accuracy.
    async fn drop_inexact(&self, winners: &mut Tuned, exact: &[Vec<Tensor>]) -> Result<f64> {
        let half = |kernel: &Kernel| kernel.arithmetic() == Element::F16;
        let error = self.error(winners, exact).await?;
        if error <= MAX_F16_ERROR || !winners.kernels.values().chain(winners.gated.values()).any(half) {
            return Ok(error);
        }
        log::warn!("f16 accumulators are faster in some layers, but not accurate enough for this network");
        winners.kernels.retain(|_, kernel| !half(kernel));
        winners.gated.retain(|_, kernel| !half(kernel));
        self.error(winners, exact).await
    }

    /// Returns the scores' relative error against the `exact` ones, the worst of all inputs and outputs. NaN
    /// and overflow count as `f64::MAX`.
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

    /// Returns the scores of each input in f32; empty if tuning is in f32, which needs no comparison.
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

    /// Measures the median milliseconds per run of each plan, with at least five alternating runs.
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

/// Yields, so that a search can be stopped here.
async fn give_way() {
    Pace::Cooperative.yield_now().await;
}

/// Returns the median; infinity if there are no times.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::INFINITY)
}
