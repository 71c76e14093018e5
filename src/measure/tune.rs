//! The schedules of a network's blocks, measured against one another.
//!
//! Every block's candidates are timed in the real sequence with its barriers: plan after plan
//! gives each block another of its candidates, so one plan measures one candidate of every
//! block. What wins a block is kept if it is quicker than the model's choice beyond noise, and
//! all of it only if the whole network is no slower.

use std::time::{Duration, Instant};

use crate::{
    Result, Shape, Tensor,
    gpu::{Executor, Gpu},
    graph::Graph,
    plan::{Contest, Fuse, Machine, Options, Plan, Schedules},
    tensor::Element,
};

/// Candidates of each kind of schedule.
const EACH: usize = 3;

/// Runs of a plan in a round.
const RUNS: usize = 3;

/// The share by which a candidate must beat the model's choice: less is noise.
const MARGIN: f64 = 0.03;

/// The share of the budget that goes to candidates; the rest compares the whole network.
const CONTEST: f64 = 0.75;

/// What came of tuning.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Tuning {
    /// The schedules that beat the model's choice.
    pub schedules: Schedules,
    /// Blocks that had a choice.
    pub blocks: usize,
    /// Candidates measured, over all blocks.
    pub candidates: usize,
    /// Times that all of them were measured.
    pub rounds: usize,
    /// Milliseconds of a run as the model plans it, the median of alternating runs.
    pub before_ms: f64,
    /// Milliseconds of a run as tuned.
    pub after_ms: f64,
}

/// Measures for about `budget`, and a round longer if that is too short for one. `progress`
/// hears the share of the budget that is spent.
///
/// # Errors
/// As [`Plan::new`] and [`Executor::run`].
pub fn tune(
    gpu: &Gpu,
    graph: &Graph,
    input: Shape,
    element: Element,
    budget: Duration,
    mut progress: impl FnMut(f64),
) -> Result<Tuning> {
    let start = Instant::now();
    let spent = || start.elapsed().as_secs_f64() / budget.as_secs_f64().max(1e-3);
    let picture = Tensor::from_fn(<[usize; 4]>::from(input), |i| (i as f32 * 0.37).sin());
    let machine = gpu.machine(element);
    let bench = Bench { gpu, graph, input, machine, picture };

    let contests = Plan::contests(graph, input, machine, EACH)?;
    let (schedules, rounds) = if gpu.has_timestamps() {
        bench.by_block(&contests, || {
            progress(spent());
            spent() < CONTEST
        })?
    } else {
        bench.by_network(|| {
            progress(spent());
            spent() < CONTEST
        })?
    };
    let mut tuning = Tuning {
        blocks: contests.len(),
        candidates: contests.iter().map(|c| c.schedules.len()).sum(),
        rounds,
        schedules,
        before_ms: 0.0,
        after_ms: 0.0,
    };
    let plans =
        [Schedules::new(), tuning.schedules.clone()].map(|schedules| bench.plan(Fuse::Auto, schedules));
    let [before, after] = bench.alternate(plans, || {
        progress(spent());
        spent() < 1.0
    })?;
    (tuning.before_ms, tuning.after_ms) = (before, after);
    if after > before {
        tuning.schedules.clear();
        tuning.after_ms = before;
    }
    Ok(tuning)
}

/// What is measured.
struct Bench<'a> {
    gpu: &'a Gpu,
    graph: &'a Graph,
    input: Shape,
    machine: Machine,
    picture: Tensor,
}

impl Bench<'_> {
    fn plan(&self, fuse: Fuse, schedules: Schedules) -> Result<Plan> {
        let options = Options { fuse, schedules, ..Options::default() };
        Plan::new(self.graph, self.input, self.machine, &options)
    }

    fn executor(&self, plan: &Plan) -> Result<Executor> {
        let mut executor = pollster::block_on(Executor::new(self.gpu, plan, |_, _| {}))?;
        // The first run pays for what drivers put off.
        executor.run(&self.picture)?;
        Ok(executor)
    }

    /// The winner of each block by timestamps, and the rounds that it took.
    fn by_block(&self, contests: &[Contest], mut more: impl FnMut() -> bool) -> Result<(Schedules, usize)> {
        let most = contests.iter().map(|c| c.schedules.len()).max().unwrap_or(0);
        // Of each block, of each candidate, the nanoseconds of every run.
        let mut times: Vec<Vec<Vec<f64>>> =
            contests.iter().map(|c| vec![Vec::new(); c.schedules.len()]).collect();
        let mut rounds = 0;
        'rounds: while rounds == 0 || more() {
            for turn in 0..most {
                if rounds > 0 && !more() {
                    break 'rounds;
                }
                more();
                let entered =
                    contests.iter().map(|c| (c.block.clone(), c.schedules[turn % c.schedules.len()]));
                let plan = self.plan(Fuse::Auto, entered.collect())?;
                let mut executor = self.executor(&plan)?;
                for _ in 0..RUNS {
                    let steps = executor.profile(&self.picture)?;
                    let mut blocks = vec![0.0; contests.len()];
                    for (step, time) in plan.steps.iter().zip(steps) {
                        if let Some(block) = step.block {
                            blocks[block] += time;
                        }
                    }
                    for ((of_block, contest), time) in times.iter_mut().zip(contests).zip(blocks) {
                        of_block[turn % contest.schedules.len()].push(time);
                    }
                }
            }
            rounds += 1;
        }
        let mut winners = Schedules::new();
        for (contest, of_block) in contests.iter().zip(times) {
            let medians: Vec<f64> = of_block.into_iter().map(median).collect();
            let best = (0..medians.len()).min_by(|&a, &b| medians[a].total_cmp(&medians[b]));
            if let Some(best) = best.filter(|&best| medians[best] < (1.0 - MARGIN) * medians[0]) {
                winners.insert(contest.block.clone(), contest.schedules[best]);
            }
        }
        Ok((winners, rounds))
    }

    /// Without timestamps: the schedules of whichever way to fuse the whole network is quickest.
    fn by_network(&self, more: impl FnMut() -> bool) -> Result<(Schedules, usize)> {
        let ways = [Fuse::Auto, Fuse::None, Fuse::Pair, Fuse::Block];
        let plans = ways.map(|fuse| self.plan(fuse, Schedules::new()));
        let choices: Vec<Schedules> = plans
            .iter()
            .flatten()
            .map(|plan| plan.choices.iter().map(|c| (c.block.clone(), c.schedule)).collect())
            .collect();
        let times = self.alternate(plans, more)?;
        let best = (0..ways.len()).min_by(|&a, &b| times[a].total_cmp(&times[b])).unwrap_or(0);
        let won = times[best] < (1.0 - MARGIN) * times[0];
        Ok((if won { choices[best].clone() } else { Schedules::new() }, 1))
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
                executor.run(&self.picture)?;
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
