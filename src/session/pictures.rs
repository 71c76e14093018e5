//! From a picture to what a network makes of it.

use super::{Device, Options, Session, draft::Order};
use crate::{
    Error, Result, Tensor,
    gpu::Pace,
    tasks::{self, Class, Detection, Labels, Picture, Segmentation},
    zoo::{Answer, Network, Preprocessing, Resize, Scores, Task},
};

/// What a session has to know to take pictures and to name what is on them.
pub(super) struct Reading {
    pub preprocessing: Preprocessing,
    pub task: Task,
    pub labels: Labels,
    /// Classes that have names.
    pub classes: usize,
    /// What the numbers of classes are.
    pub scores: Scores,
    /// Rows and columns of a picture.
    pub size: [usize; 2],
}

impl Session {
    /// A session that takes pictures of `[rows, columns]` and says what is on them, by
    /// [`Session::classify`], [`Session::segment`], [`Session::detect`] or, if built with [`Answer::Embedding`],
    /// [`Session::embed`]. It decides on the size and the answer among the options itself, but that a size which is
    /// given is kept, as a smaller one segments in less time, and that an embedding may be wanted instead.
    ///
    /// # Errors
    /// As [`Session::new`]; [`Error::Input`] if pictures of that size cannot be scaled for the network.
    pub fn for_pictures(
        device: impl Into<Device>,
        network: &Network,
        picture: [usize; 2],
        options: Options,
    ) -> Result<Self> {
        pollster::block_on(Self::build_for_pictures(device, network, picture, options, |_, _| {}))
    }

    /// [`Session::for_pictures`] for where nothing may block, or where somebody wants to see
    /// progress; see [`Session::build`].
    ///
    /// # Errors
    /// As [`Session::for_pictures`].
    pub async fn build_for_pictures(
        device: impl Into<Device>,
        network: &Network,
        picture: [usize; 2],
        options: Options,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let device = device.into();
        device.calibrate().await?;
        Order::of_pictures(device, network, picture, options)?.draft()?.build(Pace::AtOnce, progress).await
    }

    /// The `top` likeliest classes of a picture.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures) and for a network that
    /// classifies, or if the picture becomes another size than planned; [`Error::Output`] if a
    /// logit is not finite; as [`Session::run`].
    pub fn classify(&mut self, picture: &Picture, top: usize) -> Result<Vec<Class>> {
        let answers = self.look(picture, |task| matches!(task, Task::Classify))?;
        self.classes_of(&answers, top)
    }

    /// The class of each pixel of a picture.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures) of this size and for a
    /// network that segments; [`Error::Output`] if a score is not finite; as
    /// [`Session::run`].
    pub fn segment(&mut self, picture: &Picture) -> Result<Segmentation> {
        let size = self.reading()?.size;
        if size != [picture.height(), picture.width()] {
            return Err(Error::Input(format!(
                "a picture of {} x {} pixels, planned were {} x {}",
                picture.width(),
                picture.height(),
                size[1],
                size[0]
            )));
        }
        let answers = self.look(picture, |task| matches!(task, Task::Segment { .. }))?;
        self.segmentation_of(&answers)
    }

    /// What is in a picture and where, the surest first, in pixels of the picture. Every network
    /// has a few hundred guesses of next to no score: most want those of a half or more.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures) and for a network that
    /// detects; [`Error::Output`] if a box is not finite; as [`Session::run`].
    pub fn detect(&mut self, picture: &Picture) -> Result<Vec<Detection>> {
        let answers = self.look(picture, |task| matches!(task, Task::Detect(_)))?;
        self.found(&answers, [picture.height(), picture.width()])
    }

    /// The vector of a picture; see [`Network::embedding`].
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures) and with [`Answer::Embedding`], or for a
    /// network without a classifier; [`Error::Output`] if a value is not finite; as [`Session::run`].
    ///
    /// # Example
    /// ```no_run
    /// # fn main() -> goldcrest::Result<()> {
    /// use goldcrest::{Device, Options, Session, tasks::Picture, zoo::{Answer, Network}};
    ///
    /// let network = Network::open("mobilenet_v2.safetensors")?;
    /// let picture = Picture::open("photo.jpg")?;
    /// let options = Options { answer: Answer::Embedding, ..Options::default() };
    /// let size = [picture.height(), picture.width()];
    /// let mut session = Session::for_pictures(Device::best()?, &network, size, options)?;
    /// let vector = session.embed(&picture)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn embed(&mut self, picture: &Picture) -> Result<Vec<f32>> {
        let answers = self.look(picture, |task| matches!(task, Task::Embed))?;
        self.embedding_of(&answers)
    }

    /// A picture as the network wants it, `[1, C, H, W]`, to be run later and with others.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures); as [`tasks::preprocess`].
    pub fn prepare(&self, picture: &Picture) -> Result<Tensor> {
        tasks::preprocess(picture, &self.reading()?.preprocessing)
    }

    /// Other names for the classes.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures); as [`Labels::check`].
    pub fn set_labels(&mut self, labels: Labels) -> Result<()> {
        let reading = self.reading.as_mut().ok_or_else(unread)?;
        labels.check(reading.classes)?;
        reading.labels = labels;
        Ok(())
    }

    /// What it makes of pictures.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures).
    pub fn task(&self) -> Result<Task> {
        Ok(self.reading()?.task)
    }

    /// The boxes of an answer, in pixels of a picture of `[rows, columns]`.
    pub(crate) fn found(&self, answers: &[Tensor], picture: [usize; 2]) -> Result<Vec<Detection>> {
        let reading = self.reading()?;
        let ([candidates, boxes], Task::Detect(detector)) = (answers, reading.task) else {
            return Err(self.unfit());
        };
        let (x, y) = (picture[1] as f32 / self.input.w as f32, picture[0] as f32 / self.input.h as f32);
        let found = tasks::boxes(candidates, boxes, &detector)?;
        let found = found.into_iter().flatten().map(|candidate| {
            let detection = candidate.named(&reading.labels);
            Detection { bounds: detection.bounds.scaled(x, y), ..detection }
        });
        Ok(found.collect())
    }

    /// The names of the classes, if the session was built [for pictures](Session::for_pictures)
    /// and any are known.
    pub fn labels(&self) -> Option<&Labels> {
        self.reading.as_ref().map(|reading| &reading.labels)
    }

    /// Runs on a picture, if the session is for such a task.
    fn look(&mut self, picture: &Picture, fits: impl Fn(&Task) -> bool) -> Result<Vec<Tensor>> {
        self.reading_for(fits)?;
        let input = self.prepare(picture)?;
        self.run_all(&input)
    }

    /// How it takes pictures, if its network is for such a task.
    pub(super) fn reading_for(&self, fits: impl Fn(&Task) -> bool) -> Result<&Reading> {
        let reading = self.reading()?;
        if fits(&reading.task) { Ok(reading) } else { Err(self.unfit()) }
    }

    pub(super) fn reading(&self) -> Result<&Reading> {
        self.reading.as_ref().ok_or_else(unread)
    }

    fn unfit(&self) -> Error {
        match &self.reading {
            Some(reading) => Error::Input(format!("the session is for a network that {}", reading.task)),
            None => unread(),
        }
    }
}

/// How a session for pictures prepares them: as the network wants it, in the size that the options ask for.
///
/// # Errors
/// [`Error::Input`] if the network takes other channels than pictures have, or a size is asked of what classifies.
pub(crate) fn preprocessing(network: &Network, options: Options) -> Result<Preprocessing> {
    let how = network.preprocessing;
    let gives = how.colours.channels();
    if network.channels != gives {
        return Err(Error::Input(format!(
            "{} takes {} channels, a picture gives {gives}: a session for tensors takes any number",
            network.arch, network.channels
        )));
    }
    // What is cut to its size is cut from as much of the picture as before.
    match (options.size, how.crop) {
        (None, _) => Ok(how),
        (Some(size), None) => Ok(Preprocessing { resize: Resize::Exact(size), ..how }),
        (Some(_), Some(_)) => Err(Error::Input("a classifier's pictures have one size".into())),
    }
}

impl<'a> Order<'a> {
    /// Of a session that takes pictures of `[rows, columns]`.
    pub(super) fn of_pictures(
        device: impl Into<Device>,
        network: &'a Network,
        picture: [usize; 2],
        options: Options,
    ) -> Result<Self> {
        let preprocessing = preprocessing(network, options)?;
        let size = tasks::input_size(picture, &preprocessing)?;
        let (answer, task) = match network.task {
            _ if options.answer == Answer::Embedding => (Answer::Embedding, Task::Embed),
            task @ Task::Segment { .. } => (Answer::Labels(Some(picture)), task),
            task => (network.answer(), task),
        };
        let options = Options { size: Some(size), answer, ..options };
        let (labels, classes, scores) = (Labels::of(network), network.label_count(), network.scores);
        let reading = Reading { preprocessing, task, labels, classes, scores, size: picture };
        Ok(Self { reading: Some(reading), ..Self::of_network(device, network, options)? })
    }
}

fn unread() -> Error {
    Error::Input("the session was built for tensors: Session::for_pictures builds one for pictures".into())
}
