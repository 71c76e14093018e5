//! Sessions on pictures: preprocessing, inference, and conversion of the outputs to results.

use super::{Device, Options, Session, planning::SessionSpec};
use crate::{
    Error, Result, Tensor,
    gpu::Pace,
    tasks::{self, Class, Detection, Labels, Picture, Segmentation},
    zoo::{Network, Outputs, Preprocessing, Resize, ScoreKind, Task},
};

/// Everything that a session needs to convert pictures to inputs, and outputs to results.
pub(super) struct PictureSetup {
    pub preprocessing: Preprocessing,
    pub task: Task,
    pub labels: Labels,
    /// The number of classes that have names.
    pub classes: usize,
    /// The meaning of the class scores.
    pub scores: ScoreKind,
    /// Rows and columns of the pictures.
    pub size: [usize; 2],
}

impl Session {
    /// Builds a session for pictures of `[rows, columns]`, to be run by [`Session::classify`],
    /// [`Session::segment`], [`Session::detect`] or, if built with [`Outputs::Embedding`] or for a network
    /// without a classifier, [`Session::embed`]. Whatever the options say, the network's preprocessing
    /// determines the size of the input, and its task determines which outputs there are, with two
    /// exceptions: a set [`Options::size`] is used, for example to segment faster, and [`Outputs::Embedding`]
    /// is kept.
    ///
    /// # Errors
    /// As [`Session::new`]; [`Error::Input`] if pictures of that size cannot be scaled for the network, if its
    /// input is not a picture, or if a size is set for a network that crops its pictures.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn for_pictures(
        device: impl Into<Device>,
        network: &Network,
        picture: [usize; 2],
        options: Options,
    ) -> Result<Self> {
        fn new(device: Device, network: &Network, picture: [usize; 2], options: Options) -> Result<Session> {
            pollster::block_on(Session::for_pictures_async(device, network, picture, options, |_, _| {}))
        }
        new(device.into(), network, picture, options)
    }

    /// [`Session::for_pictures`] for browsers, where nothing may block, and for callers that show progress;
    /// see [`Session::new_async`].
    ///
    /// # Errors
    /// As [`Session::for_pictures`].
    pub async fn for_pictures_async(
        device: impl Into<Device>,
        network: &Network,
        picture: [usize; 2],
        options: Options,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let device = device.into();
        device.calibrate().await?;
        SessionSpec::of_pictures(device, network, picture, options)?
            .plan()?
            .build(Pace::Blocking, progress)
            .await
    }

    /// Returns the `top` most likely classes of a picture.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures) and for a network that
    /// classifies, or if preprocessing gives an input of another size than the session's; [`Error::Output`] if a
    /// logit is not finite; as [`Session::run`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn classify(&mut self, picture: &Picture, top: usize) -> Result<Vec<Class>> {
        let input = self.input_of(picture, is_classify)?;
        let outputs = self.run_all(&input)?;
        self.classes_of(&outputs, top)
    }

    /// [`Session::classify`] for callers that must not block. On native targets the future completes
    /// only while the program submits to the queue or calls `wgpu::Device::poll`. Preprocessing and the CPU engine
    /// are synchronous.
    ///
    /// # Errors
    /// As [`Session::classify`].
    pub async fn classify_async(&mut self, picture: &Picture, top: usize) -> Result<Vec<Class>> {
        let input = self.input_of(picture, is_classify)?;
        let outputs = self.run_all_async(&input).await?;
        self.classes_of(&outputs, top)
    }

    /// Returns the class of each pixel of a picture.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures) of this size and for a
    /// network that segments; [`Error::Output`] if a score is not finite; as
    /// [`Session::run`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn segment(&mut self, picture: &Picture) -> Result<Segmentation> {
        let size = self.check_size(picture)?;
        let input = self.input_of(picture, is_segment)?;
        let outputs = self.run_all(&input)?;
        self.segmentation_of(&outputs, size)
    }

    /// [`Session::segment`] for callers that must not block. On native targets the future completes
    /// only while the program submits to the queue or calls `wgpu::Device::poll`. Preprocessing and the CPU engine
    /// are synchronous.
    ///
    /// # Errors
    /// As [`Session::segment`].
    pub async fn segment_async(&mut self, picture: &Picture) -> Result<Segmentation> {
        let size = self.check_size(picture)?;
        let input = self.input_of(picture, is_segment)?;
        let outputs = self.run_all_async(&input).await?;
        self.segmentation_of(&outputs, size)
    }

    /// Returns the objects in a picture with their boxes in pixels of the picture, highest score first. The
    /// list includes up to a few hundred boxes with very low scores; most programs keep scores of 0.5 or more.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures) and for a network that
    /// detects; [`Error::Output`] if a box is not finite; as [`Session::run`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn detect(&mut self, picture: &Picture) -> Result<Vec<Detection>> {
        let input = self.input_of(picture, is_detect)?;
        let outputs = self.run_all(&input)?;
        self.detections_of(&outputs, size_of(picture))
    }

    /// [`Session::detect`] for callers that must not block. On native targets the future completes
    /// only while the program submits to the queue or calls `wgpu::Device::poll`. Preprocessing and the CPU engine
    /// are synchronous.
    ///
    /// # Errors
    /// As [`Session::detect`].
    pub async fn detect_async(&mut self, picture: &Picture) -> Result<Vec<Detection>> {
        let input = self.input_of(picture, is_detect)?;
        let outputs = self.run_all_async(&input).await?;
        self.detections_of(&outputs, size_of(picture))
    }

    /// Returns the embedding vector of a picture; see [`Network::embedding`].
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures), either with [`Outputs::Embedding`] or for
    /// a network without a classifier; [`Error::Output`] if a value is not finite; as [`Session::run`].
    ///
    /// # Example
    /// ```no_run
    /// # fn main() -> goldcrest::Result<()> {
    /// use goldcrest::{Device, Options, Session, tasks::Picture, zoo::{Outputs, Network}};
    ///
    /// let network = Network::open("mobilenet_v2.safetensors")?;
    /// let picture = Picture::open("photo.jpg")?;
    /// let options = Options { outputs: Outputs::Embedding, ..Options::default() };
    /// let size = [picture.height(), picture.width()];
    /// let mut session = Session::for_pictures(Device::best()?, &network, size, options)?;
    /// let vector = session.embed(&picture)?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn embed(&mut self, picture: &Picture) -> Result<Vec<f32>> {
        let input = self.input_of(picture, is_embed)?;
        let outputs = self.run_all(&input)?;
        self.embedding_of(&outputs)
    }

    /// [`Session::embed`] for callers that must not block. On native targets the future completes
    /// only while the program submits to the queue or calls `wgpu::Device::poll`. Preprocessing and the CPU engine
    /// are synchronous.
    ///
    /// # Errors
    /// As [`Session::embed`].
    pub async fn embed_async(&mut self, picture: &Picture) -> Result<Vec<f32>> {
        let input = self.input_of(picture, is_embed)?;
        let outputs = self.run_all_async(&input).await?;
        self.embedding_of(&outputs)
    }

    /// Preprocesses a picture to an input `[1, C, H, W]`, to be run later or in a batch.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures); as [`tasks::preprocess`].
    pub fn prepare(&self, picture: &Picture) -> Result<Tensor> {
        tasks::preprocess(picture, &self.picture_setup()?.preprocessing)
    }

    /// Replaces the names of the classes.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures); as [`Labels::check`].
    pub fn set_labels(&mut self, labels: Labels) -> Result<()> {
        let picture_setup = self.picture_setup.as_mut().ok_or_else(not_for_pictures)?;
        labels.check(picture_setup.classes)?;
        picture_setup.labels = labels;
        Ok(())
    }

    /// Returns the task that the session performs on pictures.
    ///
    /// # Errors
    /// [`Error::Input`] unless built [for pictures](Session::for_pictures).
    pub fn task(&self) -> Result<Task> {
        Ok(self.picture_setup()?.task)
    }

    /// Returns the names of the classes, if the session was built [for pictures](Session::for_pictures).
    pub fn labels(&self) -> Option<&Labels> {
        self.picture_setup.as_ref().map(|picture_setup| &picture_setup.labels)
    }

    /// Preprocesses a picture, if the session's task fits.
    fn input_of(&self, picture: &Picture, fits: impl Fn(&Task) -> bool) -> Result<Tensor> {
        self.picture_setup_for(fits)?;
        self.prepare(picture)
    }

    /// Checks that a picture has the size that the session was built for, and returns it.
    fn check_size(&self, picture: &Picture) -> Result<[usize; 2]> {
        let size = self.picture_setup()?.size;
        if size != size_of(picture) {
            return Err(Error::Input(format!(
                "the picture has {} x {} pixels, the session was built for {} x {}",
                picture.width(),
                picture.height(),
                size[1],
                size[0]
            )));
        }
        Ok(size)
    }

    /// Returns the picture setup, if the session's task fits.
    pub(super) fn picture_setup_for(&self, fits: impl Fn(&Task) -> bool) -> Result<&PictureSetup> {
        let picture_setup = self.picture_setup()?;
        if fits(&picture_setup.task) { Ok(picture_setup) } else { Err(self.wrong_task()) }
    }

    pub(super) fn picture_setup(&self) -> Result<&PictureSetup> {
        self.picture_setup.as_ref().ok_or_else(not_for_pictures)
    }

    pub(super) fn wrong_task(&self) -> Error {
        match &self.picture_setup {
            Some(picture_setup) => {
                let task = picture_setup.task;
                Error::Input(format!("the session's network {task}: use `{}`", task.method()))
            }
            None => not_for_pictures(),
        }
    }
}

/// Returns the preprocessing of a session for pictures: the network's, with the size of the options.
///
/// # Errors
/// [`Error::Input`] if the network does not take the channels of pictures, or if the options set a size for a
/// network that crops its pictures.
pub(crate) fn preprocessing(network: &Network, options: Options) -> Result<Preprocessing> {
    let how = network.preprocessing;
    let gives = how.colours.channels();
    if network.channels != gives {
        return Err(Error::Input(format!(
            "{} takes {} channels, a picture gives {gives}: build a session for tensors instead",
            network.arch, network.channels
        )));
    }
    // A crop fixes the size of the input.
    match (options.size, how.crop) {
        (None, _) => Ok(how),
        (Some(size), None) => Ok(Preprocessing { resize: Resize::Exact(size), ..how }),
        (Some(_), Some(_)) => {
            Err(Error::Input("this network crops its pictures: leave the size unset".into()))
        }
    }
}

impl<'a> SessionSpec<'a> {
    /// Specifies a session for pictures of `[rows, columns]`.
    pub(super) fn of_pictures(
        device: impl Into<Device>,
        network: &'a Network,
        picture: [usize; 2],
        options: Options,
    ) -> Result<Self> {
        let preprocessing = preprocessing(network, options)?;
        let size = tasks::input_size(picture, &preprocessing)?;
        let (outputs, task) = match network.task {
            _ if options.outputs == Outputs::Embedding => (Outputs::Embedding, Task::Embed),
            task @ Task::Segment { .. } => (Outputs::Labels(Some(picture)), task),
            task => (network.default_outputs(), task),
        };
        let options = Options { size: Some(size), outputs, ..options };
        let (labels, classes, scores) = (Labels::of(network), network.label_count(), network.scores);
        let picture_setup = PictureSetup { preprocessing, task, labels, classes, scores, size: picture };
        Ok(Self { picture_setup: Some(picture_setup), ..Self::of_network(device, network, options)? })
    }
}

pub(super) fn is_classify(task: &Task) -> bool {
    matches!(task, Task::Classify)
}

pub(super) fn is_segment(task: &Task) -> bool {
    matches!(task, Task::Segment { .. })
}

pub(super) fn is_detect(task: &Task) -> bool {
    matches!(task, Task::Detect(_))
}

pub(super) fn is_embed(task: &Task) -> bool {
    matches!(task, Task::Embed)
}

/// Rows and columns of a picture.
fn size_of(picture: &Picture) -> [usize; 2] {
    [picture.height(), picture.width()]
}

fn not_for_pictures() -> Error {
    Error::Input("the session was built for tensors: Session::for_pictures builds one for pictures".into())
}
