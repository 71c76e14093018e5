//! Which kernel, with which tile, for one operation: a small model of what a thread costs.
//!
//! A thread's time is its multiply-adds plus its loads, weighed; the machine runs as many
//! threads at once as fill it. So a large tile saves loads until there are too few threads,
//! and where even the smallest leaves units idle, the inputs are split over threads as well.

use crate::{
    Shape,
    graph::{Conv, ConvKind, Op},
    kernels::{self, Launch, dense, depthwise, pointwise, pointwise_split, pool, scale},
    plan::Machine,
};

/// What a `vec4` load costs, in `vec4` multiply-adds.
const LOAD: f64 = 4.0;

/// What meeting in workgroup memory costs a thread, in `vec4` multiply-adds.
const MEETING: f64 = 100.0;

/// Registers, as `vec4`s, that a row of a depthwise window may take.
const ROW_REGISTERS: usize = 16;

/// A kernel for an operation.
pub struct Choice {
    /// The kernel, specialised.
    pub launch: Launch,
    /// What it reads after its first map, packed.
    pub weights: Vec<Vec<f32>>,
    /// The reason, in words.
    pub why: String,
}

/// Chooses for `op`, which makes `y` of `reads`.
pub fn kernel(op: &Op, reads: &[Shape], y: Shape, machine: Machine) -> Result<Choice, String> {
    let x = reads[0];
    match op {
        Op::Conv(conv) => convolution(conv, x, y, reads.len() > 1, machine),
        Op::GlobalPool => Ok(Choice {
            launch: pool::launch(x),
            weights: Vec::new(),
            why: format!("{} pixels to one", x.h * x.w),
        }),
        Op::Scale => Ok(Choice {
            launch: scale::launch(x),
            weights: Vec::new(),
            why: "squeeze-excite's gate, applied by itself".into(),
        }),
        Op::Input(_) | Op::BatchNorm(_) | Op::Activation(_) | Op::Add => {
            Err(format!("{} stands alone: no convolution before it could take it in", op.name(None)))
        }
    }
}

fn convolution(conv: &Conv, x: Shape, y: Shape, residual: bool, machine: Machine) -> Result<Choice, String> {
    let kind = conv.kind().ok_or_else(|| {
        format!("{} groups of {} channels: only 1 or all are supported", conv.groups, conv.inputs())
    })?;
    let window = conv.window(x.h, x.w).ok_or("its window does not fit")?;
    let (launch, packed, why) = match kind {
        ConvKind::Pointwise => {
            let (launch, why) = matrix_product(conv, x, y, residual, machine);
            (launch, pointwise::pack(conv), why)
        }
        ConvKind::Dense => {
            let taps = (conv.kernel() * conv.kernel() * x.quads()) as f64;
            let (tile, _) = cheapest(dense::Tile::ALL.map(|tile| {
                let (columns, quads) = (f64::from(tile.columns), f64::from(tile.quads));
                let thread = taps * register_tile(columns, quads);
                (tile, time(thread, tile.threads(y), machine))
            }));
            let launch = dense::launch(conv, x, y, window, residual, tile);
            (launch, dense::pack(conv), filled(tile.threads(y), machine))
        }
        ConvKind::Depthwise => {
            let fits = depthwise::COLUMNS.map(|columns| {
                // What does not fit the registers is as good as impossible.
                let span = depthwise::span(conv, columns);
                let kernel = conv.kernel() as f64;
                let row = LOAD * (span as f64 + kernel) + kernel * f64::from(columns);
                let spill = if span > ROW_REGISTERS && columns > 1 { f64::INFINITY } else { 1.0 };
                (columns, spill * time(kernel * row, depthwise::threads(y, columns), machine))
            });
            let (columns, _) = cheapest(fits);
            let launch = depthwise::launch(conv, x, y, window, residual, columns);
            (launch, depthwise::pack(conv), filled(depthwise::threads(y, columns), machine))
        }
    };
    Ok(Choice { launch, weights: vec![packed, kernels::pack_bias(conv)], why })
}

/// A pointwise convolution: tiled over registers, or split over its inputs.
fn matrix_product(conv: &Conv, x: Shape, y: Shape, residual: bool, machine: Machine) -> (Launch, String) {
    let inputs = x.quads() as f64;
    let (tile, tiled) = cheapest(pointwise::Tile::ALL.map(|tile| {
        let thread = inputs * register_tile(f64::from(tile.pixels), f64::from(tile.quads));
        (tile, time(thread, tile.threads(y.pixels(), y.quads()), machine))
    }));
    let launch = pointwise_split::launch(conv, x, y, residual);
    let pixels = y.pixels().min(4) as f64;
    let threads = launch.workgroups.iter().product::<u32>() as usize * kernels::LANES as usize;
    let share = (inputs * 4.0 / f64::from(kernels::LANES)).ceil();
    let split = time(share * register_tile(pixels, 1.0) + MEETING, threads, machine);
    if split < tiled {
        let alone = tile.threads(y.pixels(), y.quads());
        let why = format!("{alone} threads would leave units idle; split: {}", filled(threads, machine));
        return (launch, why);
    }
    let why = filled(tile.threads(y.pixels(), y.quads()), machine);
    (pointwise::launch(conv, x, y, residual, tile), why)
}

/// What a thread that keeps `pixels` x `quads` sums spends on four inputs.
fn register_tile(pixels: f64, quads: f64) -> f64 {
    4.0 * pixels * quads + LOAD * (pixels + 4.0 * quads)
}

/// The time of `threads` threads: whole rounds of the machine would be too coarse, idle
/// units too dear to ignore.
fn time(thread: f64, threads: usize, machine: Machine) -> f64 {
    thread * (threads as f64 / machine.threads as f64).max(1.0)
}

fn cheapest<T: Copy, const N: usize>(candidates: [(T, f64); N]) -> (T, f64) {
    // The first of equals: candidates come largest tile first.
    candidates
        .into_iter()
        .reduce(|best, other| if other.1 < best.1 { other } else { best })
        .expect("not empty")
}

fn filled(threads: usize, machine: Machine) -> String {
    let share = 100.0 * threads as f64 / machine.threads as f64;
    if share < 100.0 {
        format!("{threads} threads, {share:.0}% of what fills the device")
    } else {
        format!("{threads} threads")
    }
}
