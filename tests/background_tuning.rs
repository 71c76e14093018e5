//! Streams of pictures whose session is tuned and replaced during the stream.

mod common;

use std::{
    fs,
    ops::ControlFlow,
    path::PathBuf,
    time::{Duration, Instant},
};

use common::distance;
use goldcrest::{
    Error, Options, Result, Tensor,
    feed::{Inputs, Pipeline, Prediction, Reading, RunStats, Subject, TuneOptions},
    gpu::Gpu,
    plan::Tuned,
    session::{self, TuningRecord},
    tasks::{Labels, PictureLimits},
    tensor::Element,
    zoo::{Network, Resize},
};
use tempfile::TempDir;

/// More pictures than any stream here processes.
const MANY: usize = 100_000;

const IMMEDIATELY: TuneOptions = TuneOptions { after: Duration::ZERO, budget: Duration::from_millis(300) };

/// A few pictures, repeated, and a small network that classifies them.
struct Stream {
    gpu: Gpu,
    network: Network,
    pictures: Vec<PathBuf>,
    folder: TempDir,
}

impl Stream {
    fn new(gpu: &Gpu) -> Self {
        let mut network = Network::open("assets/seeded").unwrap();
        network.input = [32, 32];
        network.preprocessing.resize = Resize::Exact(network.input);
        network.preprocessing.crop = None;
        let folder = tempfile::tempdir().unwrap();
        let picture = |at: usize| {
            let path = folder.path().join(format!("{at}.ppm"));
            let pixels = (0..3 * 40 * 30).map(|i| (i * (7 + 30 * at) % 251) as u8);
            let header = *b"P6 40 30 255\n";
            fs::write(&path, header.into_iter().chain(pixels).collect::<Vec<_>>()).unwrap();
            path
        };
        let pictures = (0..3).map(picture).collect();
        let gpu = gpu.clone().cache_in(Some(folder.path().join("cache")));
        Self { gpu, network, pictures, folder }
    }

    /// Classifies up to `count` pictures. `each` gets every picture's scores, and may end the stream.
    fn run(
        &self,
        batch: usize,
        background_tuning: Option<TuneOptions>,
        count: usize,
        mut each: impl FnMut(usize, Tensor) -> ControlFlow<()>,
    ) -> RunStats {
        let Self { gpu, network, pictures, .. } = self;
        let pipeline = Pipeline {
            device: gpu.into(),
            network,
            options: Options { batch, ..Options::default() },
            labels: Labels::of(network),
            top: network.classes,
            threads: 2,
            limits: PictureLimits::default(),
            pictures: false,
            background_tuning,
            compiling: &|_, _| {},
            sessions: None,
        };
        let names = (0..count).map(|at| pictures[at % pictures.len()].clone().into());
        let mut at = 0;
        let finish = |subject: Subject, result| (subject.name.file, result);
        let each = |(file, result): (PathBuf, Result<Prediction>)| {
            assert_eq!(file, pictures[at % pictures.len()], "picture {at}");
            let Prediction::Classes(mut classes) = result? else { panic!("the network classifies") };
            classes.sort_by_key(|class| class.index);
            let scores = Tensor::from_fn([classes.len()], |i| classes[i].value);
            at += 1;
            Ok::<_, Error>(each(at - 1, scores))
        };
        pipeline.run(Inputs::new(names, Reading::default()), finish, each).unwrap()
    }

    /// The stored tuning record of this network, batch size and device.
    fn record(&self, batch: usize) -> Option<TuningRecord> {
        let graph = self.network.graph_for(self.network.default_outputs()).unwrap();
        session::load_tuning(&self.gpu, &graph, self.network.input_shape(batch), Element::F32)
    }
}

#[test]
fn stream_switches_to_faster_kernels_with_the_same_scores() {
    for gpu in common::own_gpus() {
        let most = if common::is_repeated(&(&gpu).into()) { 1 } else { 2 };
        for batch in 1..=most {
            // During a stream, tuning finds nothing that is significantly faster about every second time.
            let replaced = (0..20).any(|_| is_replaced(&Stream::new(&gpu), batch));
            assert!(replaced, "{} in batches of {batch}", gpu.adapter());
        }
    }
}

/// Returns whether the session was replaced during the stream.
fn is_replaced(stream: &Stream, batch: usize) -> bool {
    let mut before = Vec::new();
    let plain = stream.run(batch, None, stream.pictures.len(), |_, scores| {
        before.push(scores);
        ControlFlow::Continue(())
    });
    assert_eq!(plain.tuned, 0);

    let mut found = None;
    let spent = stream.run(batch, Some(IMMEDIATELY), MANY, |at, scores| {
        let off = distance(&scores, &before[at % before.len()]);
        assert!(off <= 1e-4, "picture {at} is {off:.1e} off on {}", stream.gpu.adapter());
        if found.is_none() && at % 50 == 0 {
            found = stream.record(batch).map(|record| (Instant::now(), record.winners));
        }
        match &found {
            None => ControlFlow::Continue(()),
            // The faster session is not built yet.
            Some((at, winners)) if *winners != Tuned::default() && at.elapsed() < Duration::from_secs(2) => {
                ControlFlow::Continue(())
            }
            Some(_) => ControlFlow::Break(()),
        }
    });
    let (_, winners) = found.expect("the winners are stored");
    assert!(spent.tuned <= u64::from(winners != Tuned::default()), "{winners:?}");
    spent.tuned == 1
}

#[test]
fn short_stream_starts_no_tuning() {
    // When tuning starts does not depend on the adapter.
    for gpu in common::own_gpus().into_iter().take(1) {
        let stream = Stream::new(&gpu);
        let mut count = 0;
        let until_stored = |at, _| {
            count = at + 1;
            match at % 50 == 0 && stream.record(1).is_some() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        stream.run(1, Some(IMMEDIATELY), MANY, until_stored);
        // Twice as many pictures, which take less time than the delay of tuning.
        let (stream, later) =
            (Stream::new(&gpu), TuneOptions { after: Duration::from_secs(3600), ..IMMEDIATELY });
        let spent = stream.run(1, Some(later), 2 * count, |_, _| ControlFlow::Continue(()));
        assert_eq!((spent.pictures, spent.tuned), (2 * count as u64, 0));
        assert_eq!(stream.record(1), None, "{}", gpu.adapter());
    }
}

#[test]
fn tuning_ends_with_its_stream() {
    for gpu in common::own_gpus() {
        let stream = Stream::new(&gpu);
        let long = TuneOptions { after: Duration::ZERO, budget: Duration::from_secs(600) };
        let (start, mut ended) = (Instant::now(), None);
        stream.run(1, Some(long), MANY, |_, _| {
            if start.elapsed() < Duration::from_secs(3) {
                return ControlFlow::Continue(());
            }
            ended = Some(Instant::now());
            ControlFlow::Break(())
        });
        let took = ended.expect("it ran for long enough").elapsed();
        assert!(took < Duration::from_secs(5), "{took:?} on {}", gpu.adapter());
        assert_eq!(stream.record(1), None);
        let files = fs::read_dir(stream.folder.path().join("cache")).into_iter().flatten();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("tuned")), "{names:?}");
    }
}
