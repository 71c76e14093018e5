use goldcrest::*;
fn main() {
    let mut args = std::env::args().skip(1);
    let network = zoo::Network::open_as(args.next().unwrap(), args.next().as_deref()).unwrap();
    let secs: f64 = args.next().unwrap().parse().unwrap();
    let gpu = gpu::Gpu::new().unwrap();
    let t = measure::tune(
        &gpu,
        &network.graph,
        network.input_shape(1),
        std::time::Duration::from_secs_f64(secs),
        |_| {},
    )
    .unwrap();
    println!(
        "{} blocks {} candidates {} rounds, before {:.1} after {:.1}",
        t.blocks, t.candidates, t.rounds, t.before_ms, t.after_ms
    );
    for (b, s) in &t.schedules {
        println!("  {b}: {s}");
    }
    // profile
    let plan = plan::Plan::new(
        &network.graph,
        network.input_shape(1),
        gpu.machine(),
        &plan::Options { schedules: t.schedules.clone(), ..Default::default() },
    )
    .unwrap();
    let mut ex = pollster::block_on(gpu::Executor::new(&gpu, &plan, |_, _| {})).unwrap();
    let x = Tensor::from_fn(<[usize; 4]>::from(network.input_shape(1)), |i| (i as f32 * 0.37).sin());
    let mut all: Vec<Vec<f64>> = vec![vec![]; plan.steps.len()];
    for _ in 0..15 {
        for (a, t) in all.iter_mut().zip(ex.profile(&x).unwrap()) {
            a.push(t);
        }
    }
    let mut kinds = std::collections::BTreeMap::<&str, f64>::new();
    for (s, a) in plan.steps.iter().zip(&mut all) {
        a.sort_by(f64::total_cmp);
        let m = a[a.len() / 2] / 1e6;
        *kinds.entry(s.launch.shader.name).or_default() += m;
        println!(
            "{:7.3} ms {:16} {:18} {} {}",
            m,
            s.launch.shader.name,
            s.shape.to_string(),
            s.launch.tile,
            s.name()
        );
    }
    println!("{kinds:?}");
}
