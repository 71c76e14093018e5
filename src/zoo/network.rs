//! Builds a network from a checkpoint, its configuration and the user's overrides.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use super::{
    assemble, converted,
    fit::{self, Fitted},
    known::{Arch, Preset},
    library::Library,
    preprocessing::Preprocessing,
    preprocessing_settings, quantised, registry,
    rules::Rules,
    supernet,
    table::Family,
    task::{Detector, Feature, Outputs, ScoreKind, Task},
};
use crate::{
    Error, Result, Shape,
    checkpoint::{Checkpoint, Config, Origin, Origins, Overrides, Source, Sourced, TensorUse, Tensors},
    graph::{Graph, NodeId, too_many_classes},
};

/// A network, ready to be planned and run.
///
/// ```no_run
/// use goldcrest::zoo::{Network, Task};
///
/// let network = Network::open("mobilenet_v2-b0353104.pth")?;
/// assert_eq!((network.arch.as_str(), network.classes), ("torchvision/mobilenet_v2", 1000));
/// assert!(matches!(network.task, Task::Classify));
/// # Ok::<(), goldcrest::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Network {
    /// The source library and its name for the network: `torchvision/mobilenet_v2`.
    pub arch: String,
    /// The network's family, independent of its width.
    pub family: Family,
    /// The graph from the normalised picture to the task's post-processing. Nodes are named after the source
    /// library's modules; a node's value is the output of its module.
    pub graph: Graph,
    /// Number of classes, including a background class; 0 without a classifier.
    pub classes: usize,
    /// The meaning of the class scores.
    pub scores: ScoreKind,
    /// Channels of the input, usually 3.
    pub channels: usize,
    /// The preprocessing of pictures.
    pub preprocessing: Preprocessing,
    /// Rows and columns of a preprocessed picture.
    pub input: [usize; 2],
    /// The class names, if the configuration has them.
    pub labels: Option<Vec<String>>,
    /// The network's task.
    pub task: Task,
    /// The last feature map of each stride, for using the network as a backbone.
    pub features: Vec<Feature>,
    /// The embedding of a whole picture: the input of the classifier's dense layers, or the network's output
    /// without a classifier. None for segmenters and detectors.
    pub embedding: Option<NodeId>,
    /// The source of each setting of the graph and of the preprocessing.
    pub origins: Vec<Origin>,
    /// How each of the checkpoint's tensors is used.
    pub tensors: Vec<TensorUse>,
    /// Assumptions and ignored data, one sentence each.
    pub notes: Vec<String>,
    /// Doubtful assumptions, one sentence each.
    pub warnings: Vec<String>,
    /// The files that were read or looked for: weights, their index, and configuration. Some may not exist.
    pub files: Vec<PathBuf>,
}

impl Network {
    /// Opens a weights file or a folder; see [`Checkpoint::open`].
    ///
    /// ```
    /// # fn main() -> goldcrest::Result<()> {
    /// let network = goldcrest::zoo::Network::open("assets/demo/classify")?;
    /// println!("{} with {} classes", network.arch, network.classes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and [`Network::from_checkpoint`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Overrides::default())
    }

    /// Opens a checkpoint as the network named `arch`: `library/name`, or `library/name.tag` where published
    /// checkpoints differ in preprocessing. The name takes precedence over a `config.json` next to the
    /// weights.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and [`Network::from_checkpoint`].
    pub fn open_as(path: impl AsRef<Path>, arch: Option<&str>) -> Result<Self> {
        Self::open_with(path, &arch_override(arch))
    }

    /// Opens a checkpoint with overrides: a name, and settings that cannot be inferred from the tensors.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and [`Network::from_checkpoint`].
    pub fn open_with(path: impl AsRef<Path>, overrides: &Overrides) -> Result<Self> {
        // Reports a wrong name before any file is read.
        overrides.arch.as_deref().map(registry::arch).transpose()?;
        Self::from_checkpoint_with(&Checkpoint::open(path)?, overrides)
    }

    /// Builds the network in a checkpoint. `arch` is its name, if known.
    ///
    /// # Errors
    /// [`Error::UnknownNetwork`] if the name is unknown, or the keys fit no supported network, or fit several
    /// whose outputs differ; [`Error::File`] if the keys contradict the name, or if a configuration is not
    /// supported; [`Error::Checkpoint`] for the first tensor that is missing, unused or invalid.
    pub fn from_checkpoint(checkpoint: &Checkpoint, arch: Option<&str>) -> Result<Self> {
        Self::from_checkpoint_with(checkpoint, &arch_override(arch))
    }

    /// Like [`Network::from_checkpoint`], with overrides.
    ///
    /// # Errors
    /// As [`Network::from_checkpoint`]; [`Error::Input`] if an override is not valid.
    pub fn from_checkpoint_with(checkpoint: &Checkpoint, overrides: &Overrides) -> Result<Self> {
        if let Some((subnet, note)) = supernet::subnet_in(checkpoint, overrides)? {
            let network =
                Self::from_checkpoint_with(&subnet, &overrides.except(&["root", "ignore", "subnet"]))?;
            let notes = std::iter::once(note).chain(network.notes).collect();
            return Ok(Self { notes, files: checkpoint.read.clone(), ..network });
        }
        let record = checkpoint.record.as_deref();
        let overrides =
            &record.map_or_else(|| overrides.clone(), |record| overrides.over(record, checkpoint.path()));
        let mut tensors = Tensors::new(checkpoint, &registry::anchors(), overrides)?;
        let library = registry::library(&tensors)
            .ok_or_else(|| fit::unknown(&tensors, &fit::describe_keys(&tensors)))?;
        let mut naming = Naming::new(checkpoint, library, overrides)?;
        let skeleton = (library.skeleton)(&tensors).map_err(|reason| fit::unknown(&tensors, &reason))?;
        let Naming { named, preset, warnings } = &mut naming;
        let Fitted { table, repeats, arch } =
            fit::fit(&tensors, library, &skeleton, named.as_mut(), warnings)?;
        let arch = arch.map(|arch| match named {
            Some(named) if named.value.is(&arch) => named.clone(),
            _ => Sourced::new(arch, Source::Keys),
        });
        let preset = preset.clone().filter(|_| arch.as_ref().is_some_and(|arch| arch.from != Source::Keys));

        // The configuration is used only if it names this network or no network.
        let config = checkpoint.config.as_ref().filter(|config| match (&arch, config_arch(config)) {
            (Some(arch), Ok(Some(named))) => arch.value.is(&named),
            (_, Ok(None)) => true,
            _ => false,
        });
        let mut notes = std::mem::take(&mut tensors.notes);
        if config.is_none() && checkpoint.config.is_some() {
            notes.push("config.json next to the weights names another network: ignored".into());
        }
        let mut origins = Origins::default();
        let name = arch.as_ref().map_or("", |arch| arch.value.known.name);
        match &arch {
            Some(arch) => drop(origins.settle("architecture", arch.clone(), Arch::to_string)),
            None => drop(origins.settle(
                "architecture",
                Sourced::new(table.family, Source::Keys),
                Family::to_string,
            )),
        }
        let rules = (library.rules)(name, table, &tensors, config)?.overridden(overrides, config)?;
        rules.record_origins(library.name, table, &mut origins);
        let built = assemble::assemble(&mut tensors, &skeleton, table, &repeats, &rules)?;

        let scores = match built.classes {
            1 => Sourced::new(ScoreKind::Sigmoid, Source::Keys),
            _ => Sourced::new(ScoreKind::Softmax, Source::Default(library.name)),
        };
        let problem_type = config.map(|config| (library.scores)(config)).transpose()?.flatten();
        let problem_type = problem_type
            .map(|scores| Sourced::new(scores, Source::Config("config.json: problem_type".into())));
        let scores = scores.or(problem_type).or(overrides.get(config, "scores", ScoreKind::parse)?);
        let mut scores_of = |known| origins.settle("scores", known, ScoreKind::to_string);
        let scores = if built.classes > 0 { scores_of(scores) } else { ScoreKind::None };

        let preprocessor =
            checkpoint.preprocessor.as_ref().filter(|_| checkpoint.config.is_none() || config.is_some());
        // A configuration that names no network is used only for the settings in [`Overrides::SETTINGS`].
        let named_config = config.filter(|config| matches!(config_arch(config), Ok(Some(_))));
        let sources =
            preprocessing_settings::PreprocessingSources { overrides, config, named_config, preprocessor };
        let segments = matches!(built.task, Task::Segment { .. });
        let mut assumed = Vec::new();
        let preprocessing = preprocessing_settings::settle(
            library,
            (arch.as_ref().map(|arch| arch.value), preset),
            table,
            &sources,
            (built.channels, segments),
            &mut assumed,
            &mut origins,
        )?;
        // The record of an int8 file is complete, so nothing was assumed.
        notes.extend(assumed.into_iter().filter(|_| record.is_none()));
        if named_config.is_none() {
            // This `config.json` may have been written for another purpose.
            let from_config = |origin: &&Origin| origin.from.to_string().starts_with("config.json");
            let names: Vec<&str> = origins.0.iter().filter(from_config).map(|origin| origin.name).collect();
            if !names.is_empty() {
                notes.push(format!("config.json names no network, but sets {}", names.join(", ")));
            }
        }
        if built.channels != 3 {
            notes.push(match built.channels {
                1 => "the input has 1 channel: pictures are converted to grey".into(),
                n => format!("the input has {n} channels, but pictures have 3: only tensors can be run"),
            });
        }
        let input = preprocessing.size();
        let mut labels = match record {
            Some(record) => record.labels.clone(),
            None => config.map(|config| (library.labels)(config)).transpose()?.flatten(),
        };
        let binary = segments && built.classes == 1;
        if let Some(found) =
            labels.as_ref().map(Vec::len).filter(|n| *n != built.classes && !(binary && *n == 2))
        {
            let source = if record.is_some() { "the file" } else { "config.json" };
            notes.push(format!(
                "{source} has {found} class names, but the network has {} classes: the names are ignored",
                built.classes
            ));
            labels = None;
        }
        notes.extend(tensors.left_out());
        let mut warnings = naming.warnings;
        warnings.extend(checkpoint.warnings.iter().cloned());
        if !config.is_some_and(states_larger_pictures) {
            warnings.extend(stride_warning(&rules, built.classes, built.task));
        }
        let mut graph = built.graph;
        if let Some(record) = record {
            quantised::attach(&mut graph, record).map_err(|reason| Error::file(checkpoint.path(), reason))?;
        }
        converted::attach(&mut graph, &tensors)?;
        notes.extend(quantised::note(&graph));
        let mut network = Self {
            arch: arch
                .map_or_else(|| format!("{}/{}", library.name, table.family), |arch| arch.value.to_string()),
            family: table.family,
            graph,
            classes: built.classes,
            scores,
            channels: built.channels,
            preprocessing,
            input,
            labels,
            task: built.task,
            features: built.features,
            embedding: built.embedding,
            origins: origins.0,
            tensors: tensors.account(),
            notes,
            warnings,
            files: checkpoint.read.clone(),
        };
        if let Some(warning) = network.size_warning(network.input) {
            network.warnings.push(warning);
        }
        Ok(network)
    }

    /// The shape of a batch of `pictures` inputs.
    pub fn input_shape(&self, pictures: usize) -> Shape {
        Shape::new(pictures, self.channels, self.input[0], self.input[1])
    }

    /// The number of class names: one per class, but two (background and foreground) for a segmenter with a
    /// single class.
    pub fn label_count(&self) -> usize {
        match self.task {
            Task::Segment { .. } => self.classes.max(2),
            _ => self.classes,
        }
    }

    /// Warns if the last map of an input of this size, in rows and columns, has one pixel, and the network's
    /// strides are the library's defaults. No tensor shows the strides, so they may be wrong.
    pub fn size_warning(&self, [rows, columns]: [usize; 2]) -> Option<String> {
        let last = self.features.last()?.stride;
        let assumed = |name: &str| {
            let of = |origin: &&Origin| origin.name == name;
            self.origins.iter().find(of).is_some_and(|origin| matches!(origin.from, Source::Default(_)))
        };
        (rows.max(columns) <= last && assumed("stem_stride") && assumed("stage_strides")).then(|| {
            format!(
                "an input of {rows}x{columns} leaves a last map of 1x1: networks for small pictures have \
                 smaller strides, which no tensor shows: give them with --set stem_stride=... and \
                 stage_strides=..."
            )
        })
    }

    /// The default output for the task: scores, labels or boxes. A segmenter with more classes than a label
    /// map can store gives scores.
    pub fn default_outputs(&self) -> Outputs {
        match self.task {
            Task::Classify | Task::Embed => Outputs::Scores,
            Task::Segment { .. } if too_many_classes(self.classes).is_some() => Outputs::Scores,
            Task::Segment { .. } => Outputs::Labels(None),
            Task::Detect(_) => Outputs::Boxes,
        }
    }

    /// The graph that computes `outputs`.
    ///
    /// # Errors
    /// [`Error::Input`] if the network has no such output.
    pub fn graph_for(&self, outputs: Outputs) -> Result<Cow<'_, Graph>> {
        let one = |name: &str, node: NodeId| (name.to_owned(), node);
        let outputs = match (outputs, &self.task) {
            (Outputs::Scores, _) => return Ok(Cow::Borrowed(&self.graph)),
            (Outputs::Labels(size), Task::Segment { labels }) => {
                let graph = self.graph.with_outputs(vec![one("labels", *labels)]);
                return Ok(Cow::Owned(match size {
                    Some(size) => graph.scaled_to(*labels, size),
                    None => graph,
                }));
            }
            (Outputs::Boxes, Task::Detect(Detector { candidates, boxes, .. })) => {
                vec![one("candidates", *candidates), one("boxes", *boxes)]
            }
            (Outputs::Features, _) if !self.features.is_empty() => {
                self.features.iter().map(|feature| one(&feature.module, feature.node)).collect()
            }
            (Outputs::Embedding, _) => {
                let node = self.embedding.ok_or_else(|| self.cannot("embed pictures"))?;
                let mut graph = self.graph.with_outputs(vec![one("embedding", node)]);
                graph.flatten();
                return Ok(Cow::Owned(graph));
            }
            (Outputs::Labels(_), _) => return Err(self.cannot("label pixels")),
            (Outputs::Boxes, _) => return Err(self.cannot("find boxes")),
            (Outputs::Features, _) => return Err(self.cannot("give its features")),
        };
        Ok(Cow::Owned(self.graph.with_outputs(outputs)))
    }

    fn cannot(&self, what: &str) -> Error {
        Error::Input(format!("{} cannot {what}: it {}", self.arch, self.task))
    }
}

fn arch_override(arch: Option<&str>) -> Overrides {
    arch.map_or_else(Overrides::default, |arch| Overrides::default().arch(arch))
}

/// A network's name and preset, with their sources.
struct Naming {
    named: Option<Sourced<Arch>>,
    /// The published checkpoint, if the name identifies it.
    preset: Option<Sourced<&'static Preset>>,
    warnings: Vec<String>,
}

impl Naming {
    /// Determines the name. By precedence: the override, the configuration, the record in the weights file,
    /// and the file's name.
    fn new(checkpoint: &Checkpoint, library: &'static Library, overrides: &Overrides) -> Result<Self> {
        let given = overrides.arch.as_deref().map(registry::arch).transpose()?;
        let configured = match &checkpoint.config {
            // With a name override, an unknown name in the configuration is not an error.
            Some(config) => {
                config_arch(config).or_else(|e| if given.is_some() { Ok(None) } else { Err(e) })?
            }
            None => None,
        };
        let of_file = checkpoint.stem().and_then(|stem| registry::in_file_name(library.name, stem));
        let recorded = checkpoint.record.as_deref().and_then(|record| record.architecture.as_deref());
        let recorded = recorded.map(registry::arch).transpose();
        let recorded = recorded.map_err(|error| Error::file(checkpoint.path(), error))?;
        let trained = checkpoint.arch.as_deref().and_then(|name| {
            let parsed =
                if name.contains('/') { registry::arch(name) } else { registry::arch_of(library.name, name) };
            parsed.ok()
        });
        let named = [
            given.map(|arch| Sourced::new(arch, Source::Arch)),
            configured.map(|arch| Sourced::new(arch, Source::Config("config.json".into()))),
            recorded.or(trained).map(|arch| Sourced::new(arch, Source::File("own record"))),
            of_file.map(|arch| Sourced::new(arch, Source::File("name"))),
        ];
        let named = named.into_iter().flatten().next();
        if let Some(arch) = named.as_ref().filter(|arch| arch.value.known.library != library.name) {
            return Err(Error::file(
                checkpoint.path(),
                format!("opened as {}, but its tensors are named as in {}", arch.value, library.name),
            ));
        }
        let mut warnings = Vec::new();
        let mut preset =
            named.as_ref().and_then(|named| Some(Sourced::new(named.value.preset?, named.from.clone())));
        if let (Some(named), Some(of_file)) = (&named, of_file) {
            match (&preset, of_file.preset) {
                _ if !named.value.is(&of_file) => {
                    warnings.push(format!("the file's name says {of_file}, not {}", named.value));
                }
                // The hash in a published file's name identifies the checkpoint.
                (None, Some(published)) => preset = Some(Sourced::new(published, Source::File("name"))),
                (Some(chosen), Some(published)) if chosen.value.tag != published.tag => {
                    warnings.push(format!(
                        "the file's name is that of {of_file}.{}, whose preprocessing differs from {}'s",
                        published.tag, chosen.value.tag
                    ))
                }
                _ => {}
            }
        }
        Ok(Self { named, preset, warnings })
    }
}

/// The network named in a `config.json`, if any. A name without a library is a timm name.
fn config_arch(config: &Config) -> Result<Option<Arch>> {
    if let Some(name) = config.text("architecture")? {
        let timm = registry::LIBRARIES[1].name;
        let arch = if name.contains('/') { registry::arch(name) } else { registry::arch_of(timm, name) };
        return arch.map(Some);
    }
    let transformers = registry::LIBRARIES[2].name;
    config.text("model_type")?.map(|name| registry::arch_of(transformers, name)).transpose()
}

/// True if a `config.json` says that the network was made for pictures larger than CIFAR's.
fn states_larger_pictures(config: &Config) -> bool {
    let section = config.section("pretrained_cfg").ok().flatten();
    let size = section.as_ref().unwrap_or(config).counts::<3>("input_size").ok().flatten();
    size.is_some_and(|[_, rows, columns]| rows.min(columns) > 64)
}

/// Warns if strides for ImageNet are assumed for a network that seems to be made for CIFAR.
fn stride_warning(rules: &Rules, classes: usize, task: Task) -> Option<String> {
    let small = task == Task::Classify && [10, 100].contains(&classes);
    (small && rules.strides_assumed()).then(|| {
        format!(
            "{classes} classes, as in CIFAR-{classes}, but ImageNet's strides: if the network was made for \
             32x32 pictures, give its strides with --set stem_stride=1 and stage_strides=..."
        )
    })
}
