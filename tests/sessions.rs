//! A program's own pictures through the pipeline, with sessions that outlive a run.

mod common;

use std::{ops::ControlFlow, time::Duration};

use goldcrest::{
    Device, Error, Options, Result,
    cpu::Cpu,
    demo::{self, Scene},
    feed::{Content, Input, Inputs, Name, Pipeline, Prediction, RunStats, Sessions},
    session::Precision,
    tasks::{Labels, Picture, PictureLimits},
    zoo::{Network, Outputs},
};

struct Program {
    device: Device,
    network: Network,
    sessions: Sessions,
    pictures: Vec<Picture>,
}

impl Program {
    fn new(device: Device) -> Self {
        let scene = |seed| Scene::new(seed).draw(150, 130).unwrap().picture;
        let pictures = (100..109).map(scene).collect();
        Self { device, network: demo::classifier().unwrap(), sessions: Sessions::default(), pictures }
    }

    fn pipeline(&self, batch: usize, outputs: Outputs) -> Pipeline<'_> {
        Pipeline {
            device: self.device.clone(),
            network: &self.network,
            options: Options { batch, outputs, precision: Precision::F32, ..Options::default() },
            labels: if outputs == Outputs::Embedding { Labels::default() } else { Labels::of(&self.network) },
            top: 3,
            threads: 2,
            limits: PictureLimits::default(),
            pictures: false,
            background_tuning: None,
            compiling: &|_, _| {},
            sessions: Some(&self.sessions),
        }
    }

    /// Runs all pictures, with one in between that cannot be made.
    fn run(&self, batch: usize, outputs: Outputs) -> (Vec<Result<Prediction>>, RunStats) {
        let made = self.pictures.clone().into_iter().map(Ok);
        let mut pictures: Vec<Result<Picture>> = made.collect();
        pictures.insert(4, Err(Error::Input("no picture".into())));
        let inputs = Inputs::of(pictures.into_iter().map(|picture| {
            let name = Name { file: "picture".into(), frame: None, folder: None };
            Input { name, content: Content::Lazy(Box::new(|| picture)) }
        }));
        assert_eq!(inputs.known(), Some(10));
        let mut results = Vec::new();
        let each = |result| {
            results.push(result);
            Ok::<_, Error>(ControlFlow::Continue(()))
        };
        let spent = self.pipeline(batch, outputs).run(inputs, |_, result| result, each).unwrap();
        (results, spent)
    }
}

fn devices() -> Vec<Device> {
    let gpus = common::gpus().into_iter().map(Device::Gpu);
    gpus.chain([Device::Cpu(Cpu::new(Some(2)).unwrap())]).collect()
}

#[test]
fn later_runs_build_no_sessions() {
    for device in devices() {
        let program = Program::new(device);
        let (first, spent) = program.run(2, Outputs::Scores);
        assert!(spent.startup.plan > Duration::ZERO, "{}", program.device);
        for _ in 0..3 {
            let (again, spent) = program.run(2, Outputs::Scores);
            assert_eq!(spent.startup.plan, Duration::ZERO, "{}", program.device);
            assert_eq!(spent.pictures, 10);
            for (at, (ours, theirs)) in again.iter().zip(&first).enumerate() {
                match (ours, theirs) {
                    (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs),
                    (Err(error), Err(_)) => {
                        assert_eq!((at, error.to_string().as_str()), (4, "no picture"));
                    }
                    _ => panic!("picture {at} on {}", program.device),
                }
            }
        }
        // Other outputs, and another batch size on a GPU, need other sessions.
        let (vectors, spent) = program.run(2, Outputs::Embedding);
        assert!(spent.startup.plan > Duration::ZERO && matches!(vectors[0], Ok(Prediction::Vector(_))));
        let (_, spent) = program.run(2, Outputs::Scores);
        assert_eq!(spent.startup.plan, Duration::ZERO);
    }
}

#[test]
fn one_picture_has_the_same_classes_as_in_a_stream() {
    for device in devices() {
        let program = Program::new(device);
        let (stream, _) = program.run(3, Outputs::Scores);
        let stream = stream.into_iter().flatten();
        for (picture, streamed) in program.pictures.iter().zip(stream) {
            let one = program.pipeline(3, Outputs::Scores).run_one(picture.clone()).unwrap();
            let (Prediction::Classes(one), Prediction::Classes(streamed)) = (one, streamed) else {
                panic!("the network classifies")
            };
            for (ours, theirs) in one.iter().zip(&streamed) {
                assert_eq!(ours.index, theirs.index, "{}", program.device);
                assert!((ours.value - theirs.value).abs() <= 1e-4, "{}: {ours:?} {theirs:?}", program.device);
            }
        }
    }
}

#[test]
fn a_run_that_ends_early_leaves_usable_sessions() {
    for device in devices() {
        let program = Program::new(device);
        let (whole, _) = program.run(2, Outputs::Scores);
        for _ in 0..3 {
            let pictures = program.pictures.clone().into_iter().cycle().map(|picture| {
                let name = Name { file: "picture".into(), frame: None, folder: None };
                Input { name, content: Content::Lazy(Box::new(|| Ok(picture))) }
            });
            let first = |result: Result<Prediction>| {
                assert_eq!(result.unwrap(), *whole[0].as_ref().unwrap());
                Ok::<_, Error>(ControlFlow::Break(()))
            };
            let pipeline = program.pipeline(2, Outputs::Scores);
            pipeline.run(Inputs::of(pictures), |_, result| result, first).unwrap();
        }
        let (again, _) = program.run(2, Outputs::Scores);
        for (ours, theirs) in again.iter().flatten().zip(whole.iter().flatten()) {
            assert_eq!(ours, theirs, "{}", program.device);
        }
    }
}
