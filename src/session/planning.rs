//! Planning a session: all that can be done before work on the device starts.

use std::{borrow::Cow, time::Duration};

use web_time::Instant;

use super::{Device, Engine, MAX_F16_ERROR, Options, Session, Startup, load_tuning, pictures::PictureSetup};
use crate::{
    Error, Result, Shape, cpu,
    gpu::{self, Gpu, Pace},
    graph::Graph,
    plan::Plan,
    tensor::Element,
    zoo::Network,
};

/// Plans a session on `gpu` with the stored results of [`tune`](crate::measure::tune), if there are any.
/// Batch and size are those of `input`; those in `options` are ignored.
///
/// # Errors
/// As [`Plan::new`].
pub fn plan(gpu: &Gpu, graph: &Graph, input: Shape, options: Options) -> Result<Plan> {
    let mut wanted = options.plan();
    let recalled = |element| load_tuning(gpu, graph, input, element);
    let (element, kept) = match options.precision.element() {
        Some(element) => (element, options.takes_tuned().then(|| recalled(element)).flatten()),
        // The file may come from another device on this adapter, one opened with f16.
        None => match (
            recalled(Element::F32),
            recalled(Element::F16).filter(|_| gpu.has_f16() && !options.baseline),
        ) {
            (Some(whole), Some(half)) if half.ms < whole.ms && half.error <= MAX_F16_ERROR => {
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
        machine = machine.baseline();
    }
    Plan::new(graph, input, machine, &wanted)
}

/// Plans the whole batch, or halves it until a sub-batch is within the device's limits.
fn plan_within_limits(gpu: &Gpu, graph: &Graph, input: Shape, options: Options) -> Result<Plan> {
    let mut sub_batch = input.n;
    loop {
        match plan(gpu, graph, Shape { n: sub_batch, ..input }, options) {
            // Taps hold the outputs of a single run, so a batch with taps cannot be split.
            Err(Error::Limit { what, .. }) if sub_batch > 1 && !options.taps => {
                sub_batch = sub_batch.div_ceil(2);
                log::debug!("{what} is too large for a batch of {}: trying {sub_batch} at a time", input.n);
            }
            planned => return planned,
        }
    }
}

/// The specification of a session: everything needed to plan and build it.
pub(super) struct SessionSpec<'a> {
    pub device: Device,
    pub graph: Cow<'a, Graph>,
    /// The input's shape; the batch and size in `options` are ignored.
    pub input: Shape,
    pub options: Options,
    pub picture_setup: Option<PictureSetup>,
}

impl<'a> SessionSpec<'a> {
    pub fn of_network(device: impl Into<Device>, network: &'a Network, options: Options) -> Result<Self> {
        let graph = network.graph_for(options.outputs)?;
        let input = options.input_shape(network);
        Ok(Self { device: device.into(), graph, input, options, picture_setup: None })
    }

    /// Returns a specification that does not borrow the network; the weights are shared.
    pub fn owned(self) -> SessionSpec<'static> {
        let Self { device, graph, input, options, picture_setup } = self;
        SessionSpec { device, graph: Cow::Owned(graph.into_owned()), input, options, picture_setup }
    }

    /// [`SessionSpec::plan`], and reads the driver's cache too, so that building does not wait for a disk.
    pub fn plan_warm(self) -> Result<PlannedSession> {
        let planned = self.plan()?;
        if let Planned::Gpu(gpu, _) = &planned.engine {
            gpu.open_cache();
        }
        Ok(planned)
    }

    /// Plans the session and packs its weights.
    pub fn plan(self) -> Result<PlannedSession> {
        let Self { device, graph, input, options, picture_setup } = self;
        if input.is_empty() {
            return Err(Error::Input(format!("the shape {input} is empty")));
        }
        device.supports(options.precision.element().unwrap_or_default())?;
        let begun = Instant::now();
        let shapes = graph.shapes(input)?;
        let outputs = graph.outputs().into_iter();
        let outputs = outputs.map(|(name, id)| (name.into(), graph.output_dims(id, shapes[id.index()])));
        let outputs = outputs.collect();
        let engine = match device {
            Device::Gpu(gpu) => {
                let plan = plan_within_limits(&gpu, &graph, input, options)?;
                Planned::Gpu(Box::new(gpu), Box::new(plan))
            }
            Device::Cpu(cpu) => {
                Planned::Cpu(Box::new(cpu::Executor::new(&cpu, &graph, input, options.taps)?))
            }
        };
        Ok(PlannedSession { engine, input, outputs, picture_setup, took: begun.elapsed() })
    }
}

/// A planned session, before anything is on the device.
pub(super) struct PlannedSession {
    engine: Planned,
    input: Shape,
    outputs: Vec<(String, Vec<usize>)>,
    picture_setup: Option<PictureSetup>,
    /// The time that planning took.
    took: Duration,
}

enum Planned {
    Gpu(Box<Gpu>, Box<Plan>),
    Cpu(Box<cpu::Executor>),
}

impl PlannedSession {
    pub async fn build(self, pace: Pace, progress: impl FnMut(usize, usize)) -> Result<Session> {
        let Self { engine, input, outputs, picture_setup, took } = self;
        let (engine, startup) = match engine {
            Planned::Gpu(gpu, mut plan) => {
                let executor = gpu::Executor::build(&gpu, &plan, pace, progress).await?;
                let startup = executor.startup();
                // The device has its own copy now.
                plan.weights = Vec::new();
                (Engine::Gpu { plan, executor: Box::new(executor) }, startup)
            }
            Planned::Cpu(executor) => (Engine::Cpu(executor), Startup::default()),
        };
        Ok(Session { engine, input, outputs, picture_setup, startup: Startup { plan: took, ..startup } })
    }
}
