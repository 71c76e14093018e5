//! From a picture to its answer: the input, the session that runs it, and what the network's numbers say.

use std::sync::Arc;

use super::{
    asking::{Answer, Answered, Asking},
    clocks::Clocks,
    inputs::Name,
    open::Opened,
    y4m::Header,
};
use crate::{
    Device, Error, Options, Result, Session, Shape, Tensor,
    tasks::{self, Picture},
    zoo::{Preprocessing, Task},
};

/// Sessions that a thread keeps at once, where pictures need different ones.
const SESSIONS: usize = 4;

/// What all threads share.
pub struct Runs<'a> {
    pub asking: &'a Asking<'a>,
    pub preprocessing: Preprocessing,
    pub clocks: &'a Clocks,
}

/// A picture as the network wants it, or why there is none.
pub struct Prepared {
    name: Name,
    pub size: Option<[usize; 2]>,
    shape: Option<Shape>,
    picture: Option<Picture>,
    video: Option<Arc<Header>>,
    /// Which session runs it: by the input's size, or where pixels are labelled by the picture's.
    input: Result<([usize; 2], Tensor)>,
}

impl Prepared {
    /// Takes the input out, to be run.
    pub fn take(&mut self) -> Result<([usize; 2], Tensor)> {
        std::mem::replace(&mut self.input, Err(Error::Input("was run already".into())))
    }

    /// Puts it back, to be run later.
    pub fn put(&mut self, input: Result<([usize; 2], Tensor)>) {
        self.input = input;
    }

    pub fn answered(self, answer: Result<Answer>) -> Answered {
        let Self { name, size, shape, picture, video, .. } = self;
        Answered { name, size, answer, input: shape, picture, video }
    }
}

impl Runs<'_> {
    pub fn prepare(&self, opened: Opened) -> Prepared {
        let Opened { name, picture, video } = opened;
        let picture = match picture {
            Ok(picture) => picture,
            Err(error) => {
                return Prepared { name, size: None, shape: None, picture: None, video, input: Err(error) };
            }
        };
        let size = [picture.height(), picture.width()];
        let input = self.clocks.prepare.time(|| self.input(&picture, size));
        let picture = self.asking.pictures.then_some(picture);
        let shape = input.as_ref().ok().and_then(|(_, input)| input.shape().ok());
        Prepared { name, size: Some(size), shape, picture, video, input }
    }

    fn input(&self, picture: &Picture, size: [usize; 2]) -> Result<([usize; 2], Tensor)> {
        let labels = matches!(self.asking.network.task, Task::Segment { .. });
        if labels {
            // A label a pixel as it is computed, and as it is kept.
            let admitted = self.asking.limits.admits(size[1] as u64, size[0] as u64, 3 + 4 + 1);
            admitted.map_err(Error::Input)?;
        }
        let input = tasks::preprocess(picture, &self.preprocessing)?;
        let shape = input.shape()?;
        Ok((if labels { size } else { [shape.h, shape.w] }, input))
    }
}

/// The sessions of a thread.
pub struct Runner<'a> {
    pub runs: &'a Runs<'a>,
    device: Device,
    pub batch: usize,
    /// By what they are for, the latest used first.
    sessions: Vec<([usize; 2], Session)>,
}

impl<'a> Runner<'a> {
    pub fn new(runs: &'a Runs<'a>, device: Device, batch: usize) -> Self {
        Self { runs, device, batch, sessions: Vec::new() }
    }

    pub fn session(&mut self, key: [usize; 2], size: [usize; 2]) -> Result<&mut Session> {
        if let Some(at) = self.sessions.iter().position(|(of, _)| *of == key) {
            self.sessions[..=at].rotate_right(1);
        } else {
            let Asking { network, options, labels, compiling, .. } = self.runs.asking;
            let options = Options { batch: self.batch, ..*options };
            // Before it is built: its memory may be needed.
            self.sessions.truncate(SESSIONS - 1);
            let build = Session::build_for_pictures(&self.device, network, size, options, compiling);
            let mut session = pollster::block_on(build)?;
            session.set_labels(labels.clone())?;
            self.runs.clocks.started(session.startup(), session.element());
            self.sessions.insert(0, (key, session));
        }
        Ok(&mut self.sessions[0].1)
    }

    /// Runs one picture.
    pub fn answer(&mut self, mut prepared: Prepared) -> Answered {
        let answer =
            prepared.take().and_then(|(key, input)| self.run(key, prepared.size.unwrap_or(key), &input));
        prepared.answered(answer)
    }

    /// Runs one picture's input, in a batch with nothing else.
    pub fn run(&mut self, key: [usize; 2], size: [usize; 2], input: &Tensor) -> Result<Answer> {
        let (top, clocks) = (self.runs.asking.top, self.runs.clocks);
        let batch = self.batch;
        let session = self.session(key, size)?;
        clocks.infer.time(|| {
            let answers = session.run_all(&together(&[input], batch)?)?;
            answer(session, &of_picture(&answers, 0, batch)?, size, top)
        })
    }
}

/// Inputs of one shape as a batch of `n`, the rest of it zeros.
pub fn together(inputs: &[&Tensor], n: usize) -> Result<Tensor> {
    let shape = inputs[0].shape()?;
    let mut values = Vec::with_capacity(n * shape.len());
    inputs.iter().for_each(|input| values.extend_from_slice(input.data()));
    values.resize(n * shape.len(), 0.0);
    Tensor::new([n, shape.c, shape.h, shape.w], values)
}

/// The part of a batch's answers that belongs to one picture.
pub fn of_picture(answers: &[Tensor], at: usize, batch: usize) -> Result<Vec<Tensor>> {
    let part = |tensor: &Tensor| {
        let length = tensor.data().len() / batch;
        let mut dims = tensor.dims().to_vec();
        dims[0] /= batch;
        Tensor::new(dims, tensor.data()[at * length..(at + 1) * length].to_vec())
    };
    answers.iter().map(part).collect()
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
