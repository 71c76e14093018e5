//! How long one inference takes, from a tensor in memory to logits in memory:
//! `cargo run --release --example latency -- CHECKPOINT [ARCH] [RUNS] [auto|none|pair|block] [f32|f16]`
//!
//! Prints one line of JSON; `benches/compare.py` reads it.

use std::time::Instant;

use goldcrest::{Options, Session, Tensor, gpu::Gpu, plan::Fuse, session::Precision, zoo::Network};

fn main() -> goldcrest::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("usage: latency CHECKPOINT [ARCH] [RUNS]");
    let arch = args.next().filter(|arch| !arch.is_empty());
    let runs = args.next().map_or(20, |runs| runs.parse().expect("RUNS is a number"));

    let fuse = match args.next().as_deref() {
        None | Some("auto") => Fuse::Auto,
        Some("none") => Fuse::None,
        Some("pair") => Fuse::Pair,
        Some("block") => Fuse::Block,
        Some(other) => panic!("{other} is not a way to fuse"),
    };

    let precision = match args.next().as_deref() {
        None | Some("f32") => Precision::F32,
        Some("f16") => Precision::F16,
        Some(other) => panic!("{other} is not a precision"),
    };

    let network = Network::open_as(path, arch.as_deref())?;
    let gpu = Gpu::open(std::env::var("GOLDCREST_ADAPTER").ok().as_deref())?;
    let start = Instant::now();
    let mut session = Session::new(&gpu, &network, Options { fuse, precision, ..Options::default() })?;
    let shape = session.input_shape();
    let input = Tensor::from_fn(<[usize; 4]>::from(shape), |i| (i as f32 * 0.37).sin());
    session.run(&input)?;
    let first = start.elapsed();

    let startup = session.startup();
    let ms = |time: std::time::Duration| 1e3 * time.as_secs_f64();
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        session.run(&input)?;
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let answer = serde_json::json!({
        "network": network.arch,
        "adapter": gpu.adapter().to_string(),
        "precision": precision.element(),
        "steps": session.plan().steps.len(),
        "first_ms": ms(first),
        "startup": {
            "plan_ms": ms(startup.plan),
            "upload_ms": ms(startup.upload),
            "compile_ms": ms(startup.compile),
            "pipelines": startup.pipelines,
            "cached": startup.cached,
        },
        "wall_ms": { "median": times[times.len() / 2], "min": times[0], "max": times[times.len() - 1] },
    });
    println!("{answer}");
    Ok(())
}
