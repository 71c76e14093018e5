//! `goldcrest inspect`

mod cpu;
mod shaders;

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use clap::{Args, builder::PossibleValuesParser};
use goldcrest::{
    Shape,
    checkpoint::{Origin, TensorUse, Use},
    cpu::{Cpu, Executor},
    gpu::Gpu,
    graph::{Cost, Graph, Op},
    kernels::translate::Vulkan,
    measure,
    plan::{Card, Choice, Machine, Operand, Plan, Rated, Step},
    quantize,
    session::{self, Device, Options},
    tensor::Element,
    text::visible,
    zoo::{Network, synthetic},
};
use serde::Serialize;
use serde_json::{Value, json};

use self::shaders::Shaders;
use super::common::{self, Engine, Weights, json, progress};

#[derive(Args)]
#[command(
    after_help = "With --backend auto, plans are for a graphics adapter, hardware or software, or for WebGPU's default \
    limits if there is none. --backend cpu and --threads show the steps on the CPU."
)]
pub struct Inspect {
    #[command(flatten)]
    weights: Weights,

    /// Name of a network to inspect without a checkpoint, such as mobilenet_v2 or
    /// torchvision/mobilenet_v3_large; with --shaders a list of names, or `all`
    #[arg(long, value_name = "LIST", value_delimiter = ',', group = "Source", conflicts_with_all = ["arch", "set"])]
    networks: Vec<String>,

    /// Plan with all layers in int8, without calibration (ranges do not affect the plan)
    #[arg(long)]
    int8: bool,

    /// Folder to write every distinct pipeline of the plan to, as WGSL, SPIR-V, HLSL and MSL, with tables of
    /// the pipelines and of the steps that use them
    #[arg(long, value_name = "DIR")]
    shaders: Option<PathBuf>,

    /// Also write the pipelines of every candidate that `goldcrest tune` would measure
    #[arg(long, requires = "shaders")]
    candidates: bool,

    /// Plan for WebGPU's default limits and the baseline shader feature tier (no subgroups, no matrix units), not
    /// for an adapter
    #[arg(long, conflicts_with = "machine")]
    baseline: bool,

    /// Card to plan for, which need not be installed
    #[arg(long, value_name = "CARD", value_parser = PossibleValuesParser::new(Card::ALL.map(Card::name)))]
    machine: Option<String>,

    /// Batch size
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,

    /// Rows and columns of the input [default: the network's own]
    #[arg(long, value_name = "HxW", value_parser = common::size)]
    size: Option<[usize; 2]>,

    #[command(flatten)]
    engine: Engine,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The device to plan for.
enum Target {
    Cpu(Cpu),
    Adapter(Box<Gpu>),
    /// A machine that need not be installed, and its name.
    Machine(Machine, String),
}

impl Target {
    fn plan(&self, graph: &Graph, input: Shape, options: Options) -> Result<Plan> {
        Ok(match self {
            Self::Cpu(cpu) => bail!("{} runs no kernels", cpu.info()),
            Self::Adapter(gpu) => session::plan(gpu, graph, input, options)?,
            Self::Machine(machine, _) => Plan::new(graph, input, *machine, &options.plan())?,
        })
    }

    /// The Vulkan features to use in SPIR-V: those of the adapter's driver, or of a desktop GPU's driver.
    fn vulkan(&self) -> Vulkan {
        match self {
            #[cfg(not(target_vendor = "apple"))]
            Self::Adapter(gpu) => gpu.vulkan().unwrap_or_default(),
            _ => Vulkan::default(),
        }
    }

    fn machine(&self, element: Element) -> Machine {
        match self {
            Self::Cpu(_) => Machine::default(),
            Self::Adapter(gpu) => gpu.machine(element),
            Self::Machine(machine, _) => *machine,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Cpu(cpu) => cpu.info().to_string(),
            Self::Adapter(gpu) => gpu.adapter().to_string(),
            Self::Machine(_, words) => words.clone(),
        }
    }
}

/// The plan, or the steps of the CPU.
enum Planned {
    Gpu(Plan),
    Cpu(Executor),
}

#[derive(Serialize)]
struct Layer<'a> {
    name: &'a str,
    op: String,
    shape: Shape,
    macs: u64,
    parameters: u64,
}

impl Inspect {
    pub fn run(&self) -> Result<String> {
        let target = self.target()?;
        match (&self.shaders, &target) {
            (Some(_), Target::Cpu(_)) => bail!("--shaders: the CPU runs no shaders"),
            (Some(folder), _) => return self.write_shaders(folder, &target),
            (None, _) => {}
        }
        let network = match &self.networks[..] {
            [] => self.weights.open()?,
            [name] if name != "all" => synthetic::network(name)?,
            _ => bail!("--networks: several networks are allowed only with --shaders"),
        };
        let options = self.options(&network);
        let input = options.input_shape(&network);
        let graph = self.graph(&network, options)?;
        let shapes = network.graph.shapes(input)?;
        let planned = match &target {
            Target::Cpu(cpu) => Planned::Cpu(Executor::new(cpu, &graph, input, false)?),
            _ => Planned::Gpu(target.plan(&graph, input, options)?),
        };
        // After planning, which rejects shapes whose costs would overflow.
        let layers = layers(&network, &shapes);
        let total: Cost = network.graph.costs(&shapes).into_iter().sum();
        let planned_for = target.words();
        if self.json {
            let mut object = json!({
                "network": network.arch,
                "parameters": total.parameters,
                "macs": total.macs,
                "int8_layers": int8_layers(&network),
                "input": input,
                "classes": network.classes,
                "preprocessing": network.preprocessing,
                "scores": network.scores,
                "origins": network.origins,
                "tensors": network.tensors,
                "notes": network.notes,
                "warnings": network.warnings,
                "planned_for": planned_for,
                "layers": layers,
            });
            let steps = match &planned {
                Planned::Gpu(plan) => plan_json(plan),
                Planned::Cpu(executor) => cpu::json(executor),
            };
            if let (Value::Object(fields), Value::Object(mut steps)) = (&mut object, steps) {
                fields.append(&mut steps);
            }
            return json(&object);
        }

        let mut text = String::new();
        writeln!(
            text,
            "{}: {} parameters, {:.3} M multiply-adds for {input}",
            network.arch,
            total.parameters,
            total.macs as f64 / 1e6
        )?;
        if let Some(layers) = int8_layers(&network) {
            writeln!(text, "{layers} layers have int8 weights")?;
        }
        text += &values(&network);
        let wide = layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
        writeln!(
            text,
            "\n{:<wide$}  {:<15} {:>16} {:>12} {:>10}",
            "layer", "op", "shape", "MACs", "parameters"
        )?;
        for layer in &layers {
            writeln!(
                text,
                "{:<wide$}  {:<15} {:>16} {:>12} {:>10}",
                layer.name,
                layer.op,
                layer.shape.to_string(),
                layer.macs,
                layer.parameters
            )?;
        }
        match &planned {
            Planned::Gpu(plan) => plan_words(plan, &planned_for, &mut text)?,
            Planned::Cpu(executor) => cpu::words(executor, &planned_for, &mut text)?,
        }
        Ok(text)
    }

    fn options(&self, network: &Network) -> Options {
        Options {
            batch: self.batch as usize,
            size: self.size,
            outputs: network.default_outputs(),
            ..self.engine.options()
        }
    }

    /// The graph to plan, quantised with --int8.
    fn graph(&self, network: &Network, options: Options) -> Result<Graph> {
        let graph = network.graph_for(options.outputs)?;
        if self.int8 { Ok(quantize::nominal(network, &graph)?) } else { Ok(graph.into_owned()) }
    }

    /// The device to plan for. Without an adapter, it has WebGPU's default limits, unless one was requested.
    fn target(&self) -> Result<Target> {
        let element = self.engine.precision().element().unwrap_or_default();
        let of = |machine: Machine, words: String| Target::Machine(Machine { element, ..machine }, words);
        let named = self.engine.is_named() || self.engine.is_cpu();
        if named && (self.baseline || self.machine.is_some()) {
            bail!(
                "--baseline and --machine plan for no device, but --adapter, --backend or --threads names one"
            );
        }
        if let Some(card) = self.machine.as_deref().and_then(Card::named) {
            let machine = Machine { matrices: card.matrices(element), ..card.machine() };
            return Ok(of(machine, card.to_string()));
        }
        if self.engine.is_cpu() {
            let device = self.engine.open()?;
            self.engine.precision().element().map(|element| device.supports(element)).transpose()?;
            return Ok(match device {
                Device::Cpu(cpu) => Target::Cpu(cpu),
                Device::Gpu(gpu) => Target::Adapter(Box::new(gpu)),
            });
        }
        if self.baseline {
            return Ok(of(Machine::default(), "WebGPU's default limits".into()));
        }
        match self.engine.gpu() {
            Err(e) if self.engine.is_named() => Err(e),
            Err(e) => Ok(of(Machine::default(), format!("WebGPU's default limits ({e:#})"))),
            Ok(gpu) => Ok(Target::Adapter(Box::new(gpu))),
        }
    }

    fn write_shaders(&self, folder: &Path, target: &Target) -> Result<String> {
        let names: Vec<String> = match &self.networks[..] {
            [all] if all == "all" => synthetic::names(),
            names => names.to_vec(),
        };
        let bar = progress("translating");
        bar.set_length(names.len().max(1) as u64);
        let mut shaders = Shaders::new(folder, target.vulkan())?;
        let mut add = |network: &Network| -> Result<()> {
            let options = self.options(network);
            let (input, graph) = (options.input_shape(network), self.graph(network, options)?);
            let plan = target.plan(&graph, input, options)?;
            let bits = if self.int8 { " in int8" } else { "" };
            shaders.plan(&format!("{}{bits}", network.arch), &self.engine.fuse_name(), &plan)?;
            if self.candidates {
                let machine = target.machine(plan.element);
                for plan in measure::candidates(&graph, input, machine)? {
                    shaders.candidate(&plan)?;
                }
            }
            bar.inc(1);
            Ok(())
        };
        if names.is_empty() {
            add(&self.weights.open()?)?;
        }
        for name in &names {
            add(&synthetic::network(name)?)?;
        }
        let pipelines = shaders.finish()?;
        drop(bar);
        if self.json {
            let folder = folder.display().to_string();
            return json(&json!({ "pipelines": pipelines, "folder": folder, "planned_for": target.words() }));
        }
        Ok(format!("{pipelines} pipelines for {} in {}\n", target.words(), common::file(folder)))
    }
}

/// The number of layers with int8 weights, if there are any.
fn int8_layers(network: &Network) -> Option<usize> {
    Some(network.graph.nodes().filter(|(_, node)| node.weight_scales.is_some()).count())
        .filter(|count| *count > 0)
}

/// Tables of the origin of each setting, and of the uses of the tensors.
fn values(network: &Network) -> String {
    let mut text = String::new();
    let widest = |of: &dyn Fn(&Origin) -> usize| network.origins.iter().map(of).max().unwrap_or(0);
    let (name, value) = (widest(&|origin| origin.name.len()), widest(&|origin| origin.value.len()));
    let _ = writeln!(text, "\n{:<name$}  {:<value$}  origin", "setting", "value");
    for origin in &network.origins {
        let (is, from) = (visible(&origin.value), origin.from.to_string());
        let _ = writeln!(text, "{:<name$}  {is:<value$}  {}", origin.name, visible(&from));
    }
    let mut counts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for TensorUse { key, usage } in &network.tensors {
        let usage = match usage {
            Use::Used => "used".into(),
            Use::Folded => "folded into the preceding convolution".into(),
            Use::Ignored(why) => format!("ignored: {why}"),
        };
        counts.entry(usage).or_default().push(key);
    }
    let _ = writeln!(text, "\n{} tensors", network.tensors.len());
    for (usage, keys) in counts.iter().rev() {
        let first = keys[0].escape_debug();
        let more = if keys.len() > 1 { ", ..." } else { "" };
        let _ = writeln!(text, "{:>6} {usage} ({first}{more})", keys.len());
    }
    text
}

/// The source library's layers, one per operation, before fusion.
fn layers<'a>(network: &'a Network, shapes: &[Shape]) -> Vec<Layer<'a>> {
    let costs = network.graph.costs(shapes);
    network
        .graph
        .nodes()
        .filter(|(_, node)| !matches!(node.op, Op::Input(_)))
        .map(|(id, node)| Layer {
            name: node.name(),
            op: node.op.name(node.inputs.first().map(|id| shapes[id.index()])),
            shape: shapes[id.index()],
            macs: costs[id.index()].macs,
            parameters: costs[id.index()].parameters,
        })
        .collect()
}

/// A plan as JSON.
fn plan_json(plan: &Plan) -> Value {
    json!({
        "precision": plan.element,
        "steps": plan.steps.iter().map(step_json).collect::<Vec<_>>(),
        "blocks": plan.choices,
        "slots": plan.slots,
        "slot_bytes": plan.slot_bytes(),
        "weight_bytes": plan.weight_bytes(),
        "peak_bytes": plan.peak_bytes(),
    })
}

/// A plan as text.
fn plan_words(plan: &Plan, planned_for: &str, text: &mut String) -> Result<(), std::fmt::Error> {
    let wide = plan.steps.iter().map(|step| step.name().len()).max().unwrap_or(0);
    writeln!(text, "\nplan for {planned_for} in {}: {} steps", plan.element, plan.steps.len())?;
    writeln!(
        text,
        "     {:<wide$}  {:<16} {:>10} {:>7}  tile; why",
        "step", "kernel", "workgroups", "buffers"
    )?;
    for (i, step) in plan.steps.iter().enumerate() {
        let [x, y, z] = step.launch.workgroups;
        let slots = |slots: Vec<usize>| slots.iter().map(usize::to_string).collect::<Vec<_>>().join("+");
        let writes = step.writes.iter().map(|slot| slot.index()).collect();
        writeln!(
            text,
            "{i:>3}  {:<wide$}  {:<16} {:>10} {:>7}  {}; {}",
            step.name(),
            step.launch.shader.name,
            x * y * z,
            format!("{}>{}", slots(slots_read(step)), slots(writes)),
            step.launch.tile,
            step.why
        )?;
    }
    if !plan.choices.is_empty() {
        writeln!(text, "\n     {:<32} schedule", "block")?;
    }
    for choice in &plan.choices {
        writeln!(text, "     {:<32} {}", choice.block, why(choice))?;
    }
    let (slots, weights) = (plan.slots.iter().copied(), plan.weight_bytes());
    writeln!(text, "\n{}", memory(slots, plan.slot_bytes(), weights, plan.peak_bytes()))
}

/// The memory of feature maps and weights, as text.
fn memory(slots: impl Iterator<Item = u64>, all: u64, weights: u64, peak: u64) -> String {
    let slots: Vec<String> = slots.map(mebibytes).collect();
    let (all, weights, peak) = (mebibytes(all), mebibytes(weights), mebibytes(peak));
    format!("memory: buffers for maps {} = {all}, weights {weights}, peak {peak}", slots.join(" + "))
}

fn step_json(step: &Step) -> serde_json::Value {
    json!({
        "name": step.name(),
        "kernel": step.launch.shader.name,
        "workgroups": step.launch.workgroups,
        "reads": slots_read(step),
        "writes": step.writes,
        "layers": step.layers,
        "shape": step.shape,
        "tile": step.launch.tile,
        "bytes": step.work.bytes,
        "macs": step.work.macs,
        "why": step.why,
    })
}

/// The slots that a step reads, each once.
fn slots_read(step: &Step) -> Vec<usize> {
    let mut slots: Vec<usize> = Vec::new();
    for read in &step.reads {
        if let Operand::Slot(slot) = read
            && !slots.contains(&slot.index())
        {
            slots.push(slot.index());
        }
    }
    slots
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A block's schedule, why it was chosen, and the next best of another kind.
fn why(choice: &Choice) -> String {
    let reason = if choice.measured { "fastest measured" } else { "fastest by the cost model" };
    let next = choice.runner_up().map_or_else(String::new, |Rated { schedule, ratio, .. }| {
        format!("; next best: {schedule}, predicted to take {ratio:.2} times as long")
    });
    format!("{}: {reason}{next}", choice.schedule)
}
