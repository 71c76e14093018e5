//! From what is wanted to a plan: all of a session that needs no device yet.

use std::{borrow::Cow, time::Duration};

use web_time::Instant;

use super::{Device, Engine, F16_BOUND, Options, Session, Startup, pictures::Reading, recall};
use crate::{
    Error, Result, Shape, cpu,
    gpu::{self, Gpu, Pace},
    graph::Graph,
    plan::{Machine, Plan},
    tensor::Element,
    zoo::Network,
};

/// The plan that a session on `gpu` runs, with what [`tune`](crate::measure::tune) found if it was
/// kept. The batch and the size are the `input`'s.
///
/// # Errors
/// As [`Plan::new`].
pub fn plan(gpu: &Gpu, graph: &Graph, input: Shape, options: Options) -> Result<Plan> {
    let mut wanted = options.plan();
    let recalled = |element| recall(gpu, graph, input, element);
    let (element, kept) = match options.precision.element() {
        Some(element) => (element, options.takes_tuned().then(|| recalled(element)).flatten()),
        // The file may be from another device of this adapter, one that had f16.
        None => match (recalled(Element::F32), recalled(Element::F16).filter(|_| gpu.has_f16())) {
            (Some(whole), Some(half)) if half.ms < whole.ms && half.error <= F16_BOUND => {
                (Element::F16, Some(half))
            }
            (whole, _) => (Element::F32, whole),
        },
    };
    gpu.supports(element)?;
    if options.takes_tuned() {
        wanted.tuned = kept.map(|kept| kept.winners).unwrap_or_default();
    }
    let mut machine = gpu.machine(element);
    if options.baseline {
        machine = Machine { subgroup: None, matrices: None, ..machine };
    }
    Plan::new(graph, input, machine, &wanted)
}

/// A plan for the whole batch, or for the largest share of it that the device's limits admit.
fn plan_within_limits(gpu: &Gpu, graph: &Graph, input: Shape, options: Options) -> Result<Plan> {
    let mut share = input.n;
    loop {
        match plan(gpu, graph, Shape { n: share, ..input }, options) {
            // Taps are of one run.
            Err(Error::Limit { what, .. }) if share > 1 && !options.taps => {
                share = share.div_ceil(2);
                log::debug!("{what} is too large for a batch of {}: trying shares of {share}", input.n);
            }
            planned => return planned,
        }
    }
}

/// What a session is to be of.
pub(super) struct Order<'a> {
    pub device: Device,
    pub graph: Cow<'a, Graph>,
    /// The batch and the size of the options are this one's.
    pub input: Shape,
    pub options: Options,
    pub reading: Option<Reading>,
}

impl<'a> Order<'a> {
    pub fn of_network(device: impl Into<Device>, network: &'a Network, options: Options) -> Result<Self> {
        let graph = network.answering(options.answer)?;
        let input = options.input_shape(network);
        Ok(Self { device: device.into(), graph, input, options, reading: None })
    }

    /// One that needs no network any more; the weights are shared.
    pub fn owned(self) -> Order<'static> {
        let Self { device, graph, input, options, reading } = self;
        Order { device, graph: Cow::Owned(graph.into_owned()), input, options, reading }
    }

    /// [`Order::draft`], and what building it would have to wait for on a disk.
    pub fn draft_warm(self) -> Result<Draft> {
        let draft = self.draft()?;
        if let Drafted::Gpu(gpu, _) = &draft.engine {
            gpu.open_cache();
        }
        Ok(draft)
    }

    /// Plans it, and packs the weights.
    pub fn draft(self) -> Result<Draft> {
        let Self { device, graph, input, options, reading } = self;
        if input.is_empty() {
            return Err(Error::Input(format!("the shape {input} holds no value")));
        }
        device.supports(options.precision.element().unwrap_or_default())?;
        let begun = Instant::now();
        let shapes = graph.shapes(input)?;
        let outputs = graph.answers().into_iter();
        let outputs = outputs.map(|(name, id)| (name.into(), graph.answer_dims(id, shapes[id.index()])));
        let outputs = outputs.collect();
        let engine = match device {
            Device::Gpu(gpu) => {
                let plan = plan_within_limits(&gpu, &graph, input, options)?;
                Drafted::Gpu(Box::new(gpu), Box::new(plan))
            }
            Device::Cpu(cpu) => {
                Drafted::Cpu(Box::new(cpu::Executor::new(&cpu, &graph, input, options.taps)?))
            }
        };
        Ok(Draft { engine, input, outputs, reading, took: begun.elapsed() })
    }
}

/// A session of which nothing is on the device yet.
pub(super) struct Draft {
    engine: Drafted,
    input: Shape,
    outputs: Vec<(String, Vec<usize>)>,
    reading: Option<Reading>,
    /// How long it took to make.
    took: Duration,
}

enum Drafted {
    Gpu(Box<Gpu>, Box<Plan>),
    Cpu(Box<cpu::Executor>),
}

impl Draft {
    pub async fn build(self, pace: Pace, progress: impl FnMut(usize, usize)) -> Result<Session> {
        let Self { engine, input, outputs, reading, took } = self;
        let (engine, startup) = match engine {
            Drafted::Gpu(gpu, mut plan) => {
                let executor = gpu::Executor::build(&gpu, &plan, pace, progress).await?;
                let startup = executor.startup();
                // The device has them now.
                plan.weights = Vec::new();
                (Engine::Gpu { plan, executor: Box::new(executor) }, startup)
            }
            Drafted::Cpu(executor) => (Engine::Cpu(executor), Startup::default()),
        };
        Ok(Session { engine, input, outputs, reading, startup: Startup { plan: took, ..startup } })
    }
}
