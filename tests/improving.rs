//! Streams of pictures, and sessions that get quicker beside them.

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
    feed::{Answer, Improve, Inputs, Pipeline, Reading, Spent, Subject},
    gpu::Gpu,
    plan::Tuned,
    session::{self, Kept},
    tasks::{Labels, PictureLimits},
    tensor::Element,
    zoo::{Network, Resize},
};
use tempfile::TempDir;

/// More pictures than any stream here takes.
const MANY: usize = 100_000;

const AT_ONCE: Improve = Improve { after: Duration::ZERO, budget: Duration::from_millis(300) };

/// A few pictures, over and over, and a small network that answers them.
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

    /// Answers `count` pictures, or as many as `each` wants that hears every picture's scores.
    fn run(
        &self,
        batch: usize,
        improve: Option<Improve>,
        count: usize,
        mut each: impl FnMut(usize, Tensor) -> ControlFlow<()>,
    ) -> Spent {
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
            improve,
            compiling: &|_, _| {},
        };
        let names = (0..count).map(|at| pictures[at % pictures.len()].clone().into());
        let mut at = 0;
        let finish = |subject: Subject, answer| (subject.name.file, answer);
        let each = |(file, answer): (PathBuf, Result<Answer>)| {
            assert_eq!(file, pictures[at % pictures.len()], "picture {at}");
            let Answer::Classes(mut classes) = answer? else { panic!("it classifies") };
            classes.sort_by_key(|class| class.index);
            let scores = Tensor::from_fn([classes.len()], |i| classes[i].value);
            at += 1;
            Ok::<_, Error>(each(at - 1, scores))
        };
        pipeline.run(Inputs::new(names, Reading::default()), finish, each).unwrap()
    }

    /// What was kept for this network, batch and device.
    fn kept(&self, batch: usize) -> Option<Kept> {
        let graph = self.network.answering(self.network.answer()).unwrap();
        session::recall(&self.gpu, &graph, self.network.input_shape(batch), Element::F32)
    }
}

#[test]
fn a_stream_goes_on_with_better_kernels_and_the_same_answers() {
    for gpu in common::gpus() {
        for batch in [1, 2] {
            // Beside a stream every other search or so finds nothing that is quicker for certain.
            let replaced = (0..20).any(|_| is_replaced(&Stream::new(&gpu), batch));
            assert!(replaced, "{} in batches of {batch}", gpu.adapter());
        }
    }
}

/// Whether a session was replaced in mid-stream.
fn is_replaced(stream: &Stream, batch: usize) -> bool {
    let mut before = Vec::new();
    let plain = stream.run(batch, None, stream.pictures.len(), |_, scores| {
        before.push(scores);
        ControlFlow::Continue(())
    });
    assert_eq!(plain.improved, 0);

    let mut kept = None;
    let spent = stream.run(batch, Some(AT_ONCE), MANY, |at, scores| {
        let off = distance(&scores, &before[at % before.len()]);
        assert!(off <= 1e-4, "picture {at} is {off:.1e} off on {}", stream.gpu.adapter());
        if kept.is_none() && at % 50 == 0 {
            kept = stream.kept(batch).map(|kept| (Instant::now(), kept.winners));
        }
        match &kept {
            None => ControlFlow::Continue(()),
            // The better session is yet to be built.
            Some((at, winners)) if *winners != Tuned::default() && at.elapsed() < Duration::from_secs(2) => {
                ControlFlow::Continue(())
            }
            Some(_) => ControlFlow::Break(()),
        }
    });
    let (_, winners) = kept.expect("what was found is kept");
    assert!(spent.improved <= u64::from(winners != Tuned::default()), "{winners:?}");
    spent.improved == 1
}

#[test]
fn a_stream_that_is_soon_over_begins_no_search() {
    for gpu in common::gpus() {
        let stream = Stream::new(&gpu);
        let mut count = 0;
        let until_kept = |at, _| {
            count = at + 1;
            match at % 50 == 0 && stream.kept(1).is_some() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        stream.run(1, Some(AT_ONCE), MANY, until_kept);
        // As many pictures, which do not take so long.
        let (stream, later) = (Stream::new(&gpu), Improve { after: Duration::from_secs(3600), ..AT_ONCE });
        let spent = stream.run(1, Some(later), 2 * count, |_, _| ControlFlow::Continue(()));
        assert_eq!((spent.pictures, spent.improved), (2 * count as u64, 0));
        assert_eq!(stream.kept(1), None, "{}", gpu.adapter());
    }
}

#[test]
fn a_stream_that_ends_ends_its_search() {
    for gpu in common::gpus() {
        let stream = Stream::new(&gpu);
        let improve = Improve { after: Duration::ZERO, budget: Duration::from_secs(600) };
        let (start, mut ended) = (Instant::now(), None);
        stream.run(1, Some(improve), MANY, |_, _| {
            if start.elapsed() < Duration::from_secs(3) {
                return ControlFlow::Continue(());
            }
            ended = Some(Instant::now());
            ControlFlow::Break(())
        });
        let took = ended.expect("it ran for long enough").elapsed();
        assert!(took < Duration::from_secs(5), "{took:?} on {}", gpu.adapter());
        assert_eq!(stream.kept(1), None);
        let files = fs::read_dir(stream.folder.path().join("cache")).into_iter().flatten();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("tuned")), "{names:?}");
    }
}
