//! From a picture to its answer: the input, the session that runs it, and what the network's numbers say.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{
    clocks::Clocks,
    open::Opened,
    pipeline::{Answer, Pipeline, Subject},
};
use crate::{
    Device, Error, Options, Result, Session, Tensor,
    measure::Search,
    session::Precision,
    tasks::{self, Labels, Picture},
    zoo::{Network, Preprocessing, Task},
};

/// Sessions that a thread keeps at once, where pictures need different ones.
const SESSIONS: usize = 4;

/// What all threads share.
pub struct Common<'a> {
    pub pipeline: &'a Pipeline<'a>,
    pub preprocessing: Preprocessing,
    pub clocks: &'a Clocks,
}

/// A picture as the network wants it, or why there is none.
pub type Prepared = (Subject, Result<Ready>);

/// An input, to be run.
pub struct Ready {
    /// Which session runs it: by the input's rows and columns, or where pixels are labelled by the picture's.
    pub key: [usize; 2],
    /// The picture's rows and columns.
    pub size: [usize; 2],
    pub input: Tensor,
}

impl Common<'_> {
    pub fn prepare(&self, opened: Opened) -> Prepared {
        let Opened { name, picture, video } = opened;
        let mut subject = Subject { name, size: None, input: None, picture: None, video };
        let ready = picture.and_then(|picture| {
            subject.size = Some([picture.height(), picture.width()]);
            let ready = self.clocks.prepare.time(|| self.ready(&picture))?;
            subject.input = Some(ready.input.shape()?);
            subject.picture = self.pipeline.pictures.then_some(picture);
            Ok(ready)
        });
        (subject, ready)
    }

    fn ready(&self, picture: &Picture) -> Result<Ready> {
        let size = [picture.height(), picture.width()];
        let labels = matches!(self.pipeline.network.task, Task::Segment { .. });
        if labels {
            // The pixels, and a label for each as it is computed and as it is kept.
            let admitted = self.pipeline.limits.admits(size[1] as u64, size[0] as u64, 3 + 4 + 1);
            admitted.map_err(Error::Input)?;
        }
        let input = tasks::preprocess(picture, &self.preprocessing)?;
        let shape = input.shape()?;
        Ok(Ready { key: if labels { size } else { [shape.h, shape.w] }, size, input })
    }
}

/// The sessions of a thread.
pub struct Runner<'a> {
    pub common: &'a Common<'a>,
    device: Device,
    pub batch: usize,
    /// The latest used first.
    sessions: Vec<Own>,
    /// What looks for better kernels, and the key of the session that they are for.
    search: Option<([usize; 2], Search)>,
}

/// A session of a thread.
struct Own {
    key: [usize; 2],
    session: Session,
    /// How long it was waited for.
    took: Duration,
    /// Whether it was seen to that it gets quicker.
    improved: bool,
}

impl<'a> Runner<'a> {
    pub fn new(common: &'a Common<'a>, device: Device, batch: usize) -> Self {
        Self { common, device, batch, sessions: Vec::new(), search: None }
    }

    /// Does some work with the session for such an input; gives the session too.
    pub fn infer<T>(
        &mut self,
        ready: &Ready,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<(&Session, T)> {
        self.replace();
        self.make_first(ready)?;
        let own = &mut self.sessions[0];
        let (done, took) = self.common.clocks.infer.timed(|| work(&mut own.session));
        own.took += took;
        self.improve_first(ready.size);
        Ok((&self.sessions[0].session, done?))
    }

    /// Moves the session for such an input to the front, and builds it if there is none.
    fn make_first(&mut self, ready: &Ready) -> Result<()> {
        if let Some(at) = self.sessions.iter().position(|own| own.key == ready.key) {
            self.sessions[..=at].rotate_right(1);
            return Ok(());
        }
        let Pipeline { network, labels, compiling, .. } = self.common.pipeline;
        // Before it is built: its memory may be needed.
        self.sessions.truncate(SESSIONS - 1);
        let session = build(&self.device, network, ready.size, self.options(), labels.clone(), compiling)?;
        self.common.clocks.started(session.startup(), session.element());
        let own = Own { key: ready.key, session, took: Duration::ZERO, improved: false };
        self.sessions.insert(0, own);
        Ok(())
    }

    fn options(&self) -> Options {
        Options { batch: self.batch, ..self.common.pipeline.options }
    }

    /// Whether the search for better kernels is over, so that a session can be replaced once it is idle.
    pub fn has_better(&self) -> bool {
        self.search.as_ref().is_some_and(|(_, search)| search.is_over())
    }

    /// Replaces the session for which better kernels were found, unless it has work in flight.
    fn replace(&mut self) {
        let Some((key, search)) = self.search.take_if(|(_, search)| search.is_over()) else { return };
        match self.sessions.iter_mut().find(|own| own.key == key) {
            Some(own) if !own.session.is_idle() => self.search = Some((key, search)),
            Some(own) => {
                if let Some(better) = search.better() {
                    own.session = better;
                    self.common.clocks.improved.fetch_add(1, Relaxed);
                }
            }
            // It had to make room for others; the next of its kind is built with what was found.
            None => {}
        }
    }

    /// Looks for better kernels for the first session, which takes pictures of `[rows, columns]`, if it is worth it.
    fn improve_first(&mut self, size: [usize; 2]) {
        let Pipeline { network, labels, improve, .. } = self.common.pipeline;
        // Only f32 is improved, and answers shall not change.
        let options = Options { precision: Precision::F32, ..self.options() };
        let (Some(improve), Device::Gpu(gpu), Some(own)) = (improve, &self.device, self.sessions.first_mut())
        else {
            return;
        };
        let is_due = own.took >= improve.after && !own.improved && self.search.is_none();
        if !is_due || !options.takes_tuned() {
            return;
        }
        own.improved = true;
        // The weights are shared.
        let (network, labels) = (Arc::new(Network::clone(network)), labels.clone());
        let (device, shared) = (self.device.clone(), network.clone());
        let build = move || build(&device, &shared, size, options, labels, |_, _| {});
        let search = Search::start(gpu, network, &own.session, improve.budget, build);
        self.search = search.map(|search| (own.key, search));
    }

    /// Runs one picture.
    pub fn answer(&mut self, (subject, ready): Prepared) -> (Subject, Result<Answer>) {
        (subject, ready.and_then(|ready| self.run(&ready)))
    }

    /// Runs one input, in a batch with nothing else.
    pub fn run(&mut self, ready: &Ready) -> Result<Answer> {
        let (top, batch) = (self.common.pipeline.top, self.batch);
        let (_, answer) = self.infer(ready, |session| {
            let answers = session.run_all(&*together(&[&ready.input], batch)?)?;
            answer(session, &of_picture(&answers, 0, batch)?, ready.size, top)
        })?;
        Ok(answer)
    }
}

/// A session for pictures of `[rows, columns]` that calls classes by these names.
fn build(
    device: &Device,
    network: &Network,
    size: [usize; 2],
    options: Options,
    labels: Labels,
    compiling: impl FnMut(usize, usize),
) -> Result<Session> {
    let mut session =
        pollster::block_on(Session::build_for_pictures(device, network, size, options, compiling))?;
    session.set_labels(labels)?;
    Ok(session)
}

/// Inputs of one shape as a batch of `n`, the rest of it zeros.
pub fn together<'a>(inputs: &[&'a Tensor], n: usize) -> Result<Cow<'a, Tensor>> {
    if let ([input], 1) = (inputs, n) {
        return Ok(Cow::Borrowed(input));
    }
    let shape = inputs[0].shape()?;
    let mut values = Vec::with_capacity(n * shape.len());
    inputs.iter().for_each(|input| values.extend_from_slice(input.data()));
    values.resize(n * shape.len(), 0.0);
    Ok(Cow::Owned(Tensor::new([n, shape.c, shape.h, shape.w], values)?))
}

/// The part of a batch's answers that belongs to one picture.
pub fn of_picture(answers: &[Tensor], at: usize, batch: usize) -> Result<Cow<'_, [Tensor]>> {
    if batch == 1 {
        return Ok(answers.into());
    }
    let part = |tensor: &Tensor| {
        let length = tensor.data().len() / batch;
        let mut dims = tensor.dims().to_vec();
        dims[0] /= batch;
        Tensor::new(dims, tensor.data()[at * length..(at + 1) * length].to_vec())
    };
    answers.iter().map(part).collect::<Result<Vec<_>>>().map(Cow::Owned)
}

/// What the answers to one picture of `[rows, columns]` say.
pub fn answer(session: &Session, answers: &[Tensor], size: [usize; 2], top: usize) -> Result<Answer> {
    Ok(match session.task()? {
        Task::Classify => Answer::Classes(session.classes_of(answers, top)?),
        Task::Segment { .. } => Answer::Pixels(session.segmentation_of(answers)?),
        Task::Detect(_) => Answer::Boxes(session.found(answers, size)?),
        Task::Embed => Answer::Vector(session.embedding_of(answers)?),
    })
}
