//! How long one inference takes, from a tensor in memory to logits in memory:
//! `cargo run --release --example latency -- CHECKPOINT --arch torchvision/mobilenet_v2`
//!
//! Prints one line of JSON; `benches/compare.py` reads it.

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use goldcrest::{Options, Session, Tensor, gpu::Gpu, measure, plan::Fuse, session::Precision, zoo::Network};
use serde_json::{Value, json};

#[derive(Parser)]
struct Args {
    /// The checkpoint
    weights: PathBuf,
    /// The network by its library's name
    #[arg(long)]
    arch: Option<String>,
    /// Part of the adapter's name
    #[arg(long)]
    adapter: Option<String>,
    /// Runs that are timed
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Pictures in a run
    #[arg(long, default_value_t = 1)]
    batch: usize,
    #[arg(long, value_enum, default_value_t = Fusion::Auto)]
    fuse: Fusion,
    /// Store maps and weights as f16
    #[arg(long)]
    f16: bool,
    /// Seconds to tune for first
    #[arg(long)]
    tune: Option<u64>,
    /// Inferences in flight for the throughput
    #[arg(long, default_value_t = 2)]
    in_flight: usize,
    /// One line a step as well
    #[arg(long)]
    steps: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fusion {
    Auto,
    None,
    Pair,
    Block,
}

fn main() -> anyhow::Result<()> {
    env_logger::init();
    let args = Args::parse();
    let begun = Instant::now();
    let network = Network::open_as(&args.weights, args.arch.as_deref())?;
    let gpu = Gpu::open(args.adapter.as_deref())?;
    let opened = begun.elapsed();
    let options = Options {
        batch: args.batch,
        fuse: match args.fuse {
            Fusion::Auto => Fuse::Auto,
            Fusion::None => Fuse::None,
            Fusion::Pair => Fuse::Pair,
            Fusion::Block => Fuse::Block,
        },
        precision: if args.f16 { Precision::F16 } else { Precision::F32 },
        ..Options::default()
    };
    let shape = options.input_shape(&network);
    let tuned = match args.tune {
        None => Value::Null,
        Some(seconds) => {
            let element = options.precision.element().unwrap_or_default();
            let budget = Duration::from_secs(seconds);
            let tuning = measure::tune(&gpu, &network.graph, shape, element, budget, |_| {})?;
            measure::keep(&gpu, &network.graph, shape, element, &tuning);
            json!(tuning)
        }
    };

    let start = Instant::now();
    let mut session = Session::new(&gpu, &network, options)?;
    let input = Tensor::from_fn(<[usize; 4]>::from(shape), |i| (i as f32 * 0.37).sin());
    session.run(&input)?;
    let first = opened + start.elapsed();

    // As warm as peers are that stay between turns.
    for _ in 0..5 {
        session.run(&input)?;
    }
    let mut walls = Vec::new();
    for _ in 0..args.runs {
        let start = Instant::now();
        session.run(&input)?;
        walls.push(1e3 * start.elapsed().as_secs_f64());
    }
    let stream = stream(&mut session, &input, args.runs, args.in_flight)?;
    let mut totals = Vec::new();
    let mut steps = vec![Vec::new(); session.plan().steps.len()];
    for _ in 0..if gpu.has_timestamps() { args.runs } else { 0 } {
        let times = session.profile(&input)?;
        totals.push(times.iter().sum::<f64>() / 1e6);
        steps.iter_mut().zip(times).for_each(|(of_step, time)| of_step.push(time / 1e6));
    }
    if args.steps {
        for (step, times) in session.plan().steps.iter().zip(&mut steps) {
            let (kernel, tile) = (step.launch.shader.name, &step.launch.tile);
            let ms = spread(times)["median"].as_f64().unwrap_or_default();
            eprintln!("{ms:9.4} ms  {kernel:<16} {:<16} {:<40} {tile}", step.shape, step.name());
        }
    }
    let answer = json!({
        "network": network.arch,
        "adapter": gpu.adapter().to_string(),
        "batch": args.batch,
        "precision": session.plan().element.to_string(),
        "steps": session.plan().steps.len(),
        "peak_bytes": session.plan().peak_bytes(),
        "first_ms": 1e3 * first.as_secs_f64(),
        "startup": session.startup().to_string(),
        "tuned": tuned,
        "wall_ms": spread(&mut walls),
        "gpu_ms": spread(&mut totals),
        "in_flight": args.in_flight,
        "stream_ms": stream,
    });
    println!("{answer}");
    Ok(())
}

/// Milliseconds an inference takes with `depth` of them in flight.
fn stream(session: &mut Session, input: &Tensor, runs: usize, depth: usize) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut flying = VecDeque::new();
    for _ in 0..runs {
        if flying.len() >= depth.max(1)
            && let Some(oldest) = flying.pop_front()
        {
            session.collect(oldest)?;
        }
        flying.push_back(session.submit(input)?);
    }
    for pending in flying {
        session.collect(pending)?;
    }
    Ok(1e3 * start.elapsed().as_secs_f64() / runs as f64)
}

/// Median, least and most; null of nothing.
fn spread(times: &mut [f64]) -> Value {
    times.sort_by(f64::total_cmp);
    match (times.first(), times.get(times.len() / 2), times.last()) {
        (Some(min), Some(median), Some(max)) => json!({ "median": median, "min": min, "max": max }),
        _ => Value::Null,
    }
}
