//! Measures how much inference delays the frames of a program that renders on the same device. Three cases alternate:
//! frames alone, an inference recorded in each frame's encoder, and inferences submitted by another
//! thread: `cargo bench --bench frames > frames.json`.
//!
//! `GOLDCREST_ADAPTER` selects an adapter.

#[path = "../examples/stage/mod.rs"]
mod stage;

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use goldcrest::{
    Options, Session, demo,
    gpu::{self, Gpu, Ring, Source},
    session::SourceOptions,
    wgpu,
};
use serde::Serialize;
use stage::Stage;

const SIDE: u32 = 384;
const ROUNDS: usize = 9;
const FRAMES: usize = 40;

/// Frames in flight, as a window's swap chain would allow.
const IN_FLIGHT: usize = 2;

/// Inferences next to rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Beside {
    Nothing,
    /// An inference in each frame's encoder, if the ring has room.
    Recorded,
    /// Inferences from another thread, whenever the ring has room.
    OtherThread,
}

/// Statistics of times, in milliseconds.
#[derive(Serialize)]
struct Spread {
    mean: f64,
    median: f64,
    p95: f64,
    max: f64,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |share: f64| 1e3 * times[((times.len() - 1) as f64 * share) as usize].as_secs_f64();
        let mean = 1e3 * times.iter().sum::<Duration>().as_secs_f64() / times.len() as f64;
        Self { mean, median: at(0.5), p95: at(0.95), max: at(1.0) }
    }
}

#[derive(Serialize)]
struct Row {
    beside: Beside,
    /// The CPU time of the renderer's thread for a frame: recording and submitting it.
    record_and_submit_ms: Spread,
    /// From one frame to the next.
    frame_ms: Spread,
    inferences_per_frame: f64,
    /// The increase of the mean frame time over frames without inferences, per inference.
    delay_per_inference_ms: f64,
}

#[derive(Serialize)]
struct Report {
    adapter: String,
    network: String,
    rounds: usize,
    frames_per_round: usize,
    /// An inference alone, from its submission to its end.
    inference_alone_ms: Spread,
    rows: Vec<Row>,
}

/// The measurements of one case.
#[derive(Default)]
struct Times {
    own: Vec<Duration>,
    frames: Vec<Duration>,
    inferences: u64,
}

struct Renderer {
    gpu: Gpu,
    stage: Stage,
    texture: wgpu::Texture,
    session: Session,
    source: Source,
}

impl Renderer {
    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device().create_command_encoder(&Default::default())
    }

    fn infer(&self, encoder: &mut wgpu::CommandEncoder, ring: &mut Ring, at: u64) {
        self.session.encode(encoder, &self.source).expect("it is recorded");
        assert!(self.session.read_back(encoder, ring, at).expect("it is read back"), "there is room");
    }

    /// Renders frames, with the inferences of `beside`.
    fn frames(&self, beside: Beside, times: &mut Times) {
        let done = AtomicBool::new(false);
        let inferences = std::thread::scope(|scope| {
            let other = (beside == Beside::OtherThread).then(|| scope.spawn(|| self.others(&done)));
            let own = self.render(beside, times);
            done.store(true, Relaxed);
            own + other.map_or(0, |other| other.join().expect("the other thread ends"))
        });
        times.inferences += inferences;
        self.gpu.device().poll(wgpu::PollType::wait_indefinitely()).expect("the device is there");
    }

    fn render(&self, beside: Beside, times: &mut Times) -> u64 {
        let mut ring = self.session.ring(IN_FLIGHT + 1).expect("it is on a GPU");
        let (mut in_flight, mut inferences) = (VecDeque::new(), 0);
        let mut last = Instant::now();
        for frame in 0..FRAMES {
            let begun = Instant::now();
            let mut encoder = self.encoder();
            self.stage.render(self.gpu.queue(), &mut encoder, &self.texture, frame as f32 / 30.0);
            if beside == Beside::Recorded && ring.has_room() {
                self.infer(&mut encoder, &mut ring, frame as u64);
                inferences += 1;
            }
            in_flight.push_back(self.gpu.queue().submit([encoder.finish()]));
            times.own.push(begun.elapsed());
            if in_flight.len() > IN_FLIGHT {
                let submission_index = in_flight.pop_front();
                let wait = wgpu::PollType::Wait { submission_index, timeout: None };
                self.gpu.device().poll(wait).expect("the device is there");
            }
            ring.poll().expect("the device is there");
            // The first frames have no earlier frame to wait for.
            if frame > IN_FLIGHT {
                times.frames.push(last.elapsed());
            }
            last = Instant::now();
        }
        inferences
    }

    /// Submits inferences until the frames are done.
    fn others(&self, done: &AtomicBool) -> u64 {
        let mut ring = self.session.ring(1).expect("it is on a GPU");
        let mut inferences = 0;
        while !done.load(Relaxed) {
            if ring.has_room() {
                let mut encoder = self.encoder();
                self.infer(&mut encoder, &mut ring, inferences);
                self.gpu.queue().submit([encoder.finish()]);
                inferences += 1;
            }
            std::thread::sleep(Duration::from_micros(500));
            ring.poll().expect("the device is there");
        }
        inferences
    }

    /// Times one inference alone.
    fn alone(&self, ring: &mut Ring, at: u64) -> Duration {
        let mut encoder = self.encoder();
        self.infer(&mut encoder, ring, at);
        let begun = Instant::now();
        self.gpu.queue().submit([encoder.finish()]);
        self.gpu.device().poll(wgpu::PollType::wait_indefinitely()).expect("the device is there");
        let took = begun.elapsed();
        ring.poll().expect("the device is there").expect("an answer");
        took
    }
}

fn main() {
    let adapters = pollster::block_on(gpu::adapters());
    let wanted = std::env::var("GOLDCREST_ADAPTER").ok();
    let adapter = gpu::pick(&adapters, wanted.as_deref()).expect("an adapter");
    let gpu = pollster::block_on(Gpu::from_adapter(adapter)).expect("a device");
    let usage = wgpu::TextureUsages::RENDER_ATTACHMENT;
    let texture = stage::texture(gpu.device(), SIDE, wgpu::TextureFormat::Rgba8UnormSrgb, usage);
    let network = demo::segmenter().expect("the built-in network");
    let session =
        Session::for_pictures(&gpu, &network, [SIDE as usize; 2], Options::default()).expect("a session");
    let source = session.source(&texture, SourceOptions::default()).expect("a source");
    let stage = Stage::new(gpu.device(), texture.format());
    let renderer = Renderer { gpu, stage, texture, session, source };

    let ways = [Beside::Nothing, Beside::Recorded, Beside::OtherThread];
    let mut times = ways.map(|_| Times::default());
    let mut alone = Vec::new();
    let mut ring = renderer.session.ring(1).expect("it is on a GPU");
    for round in 0..=ROUNDS {
        for (way, times) in ways.into_iter().zip(&mut times) {
            renderer.frames(way, times);
        }
        alone.extend((0..10).map(|i| renderer.alone(&mut ring, (10 * round + i) as u64)));
        if round == 0 {
            // The first round is a warm-up.
            times = ways.map(|_| Times::default());
            alone.clear();
        }
    }

    let mut rows: Vec<Row> = Vec::new();
    for (beside, times) in ways.into_iter().zip(times) {
        let frame_ms = Spread::of(times.frames);
        let inferences_per_frame = times.inferences as f64 / (ROUNDS * FRAMES) as f64;
        let delay = frame_ms.mean - rows.first().map_or(frame_ms.mean, |row| row.frame_ms.mean);
        let record_and_submit_ms = Spread::of(times.own);
        let delay_per_inference_ms =
            if inferences_per_frame > 0.0 { delay / inferences_per_frame } else { 0.0 };
        rows.push(Row {
            beside,
            record_and_submit_ms,
            frame_ms,
            inferences_per_frame,
            delay_per_inference_ms,
        });
    }
    let report = Report {
        adapter: renderer.gpu.adapter().to_string(),
        network: network.arch,
        rounds: ROUNDS,
        frames_per_round: FRAMES,
        inference_alone_ms: Spread::of(alone),
        rows,
    };
    println!("{}", serde_json::to_string_pretty(&report).expect("it is plain data"));
}
