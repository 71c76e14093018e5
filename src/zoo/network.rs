//! A network: what a checkpoint, its configuration and what was said add up to.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use super::{
    assemble, converted,
    fit::{self, Fitted},
    known::{Arch, Preset},
    library::Library,
    picturing,
    preprocessing::Preprocessing,
    quantised, registry,
    rules::Rules,
    supernet,
    table::Family,
    task::{Answer, Detector, Feature, Scores, Task},
};
use crate::{
    Error, Result, Shape,
    checkpoint::{Checkpoint, Config, Origin, Origins, Said, Source, Sourced, TensorUse, Tensors},
    graph::{Graph, NodeId, too_many_classes},
};

/// A network, ready to be planned and run.
#[derive(Debug, Clone)]
pub struct Network {
    /// The source library and its own name for the network: `torchvision/mobilenet_v2`.
    pub arch: String,
    /// What it is, apart from its width.
    pub family: Family,
    /// From the normalised picture to what the task makes of the answer. Nodes are named after the source library's
    /// modules, and a node's value is what a hook on its module sees.
    pub graph: Graph,
    /// Classes that it tells apart, the background included where there is one; none without a classifier.
    pub classes: usize,
    /// What its numbers for the classes are.
    pub scores: Scores,
    /// Channels of the input: 3, unless the checkpoint was made for something else.
    pub channels: usize,
    /// How the checkpoint wants its pictures.
    pub preprocessing: Preprocessing,
    /// Rows and columns of a picture after that.
    pub input: [usize; 2],
    /// The classes' names, where the configuration has them.
    pub labels: Option<Vec<String>>,
    /// What its answer is for.
    pub task: Task,
    /// The last map of every stride, for networks that are built on this one.
    pub features: Vec<Feature>,
    /// The vector of a whole picture: what the library's pooling and its layers before the classifier make. None of
    /// what segments or detects.
    pub embedding: Option<NodeId>,
    /// Where each value came from that the graph and the preprocessing are made by.
    pub origins: Vec<Origin>,
    /// What became of each of the checkpoint's tensors.
    pub tensors: Vec<TensorUse>,
    /// What was assumed because nothing said it, and what was left out, a sentence each.
    pub notes: Vec<String>,
    /// Assumptions that something speaks against, a sentence each.
    pub warnings: Vec<String>,
    /// The files that were looked for on disk: weights, their index, and configuration, which need not be there.
    pub files: Vec<PathBuf>,
}

impl Network {
    /// Opens a file of weights or a folder; see [`Checkpoint::open`].
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
        Self::open_with(path, &Said::default())
    }

    /// Opens a checkpoint as the network of this name: `library/name`, or `library/name.tag` for
    /// one of several published checkpoints that want different pictures. The name counts more
    /// than a `config.json` beside the weights.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and [`Network::from_checkpoint`].
    pub fn open_as(path: impl AsRef<Path>, arch: Option<&str>) -> Result<Self> {
        Self::open_with(path, &said_arch(arch))
    }

    /// Opens a checkpoint with what is known of it beside its files: its name, and values that no key shows.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and [`Network::from_checkpoint`].
    pub fn open_with(path: impl AsRef<Path>, said: &Said) -> Result<Self> {
        // A wrong name is told before anything is read.
        said.arch.as_deref().map(registry::arch).transpose()?;
        Self::from_checkpoint_with(&Checkpoint::open(path)?, said)
    }

    /// The network that a checkpoint holds, by its name if it is known.
    ///
    /// # Errors
    /// [`Error::UnknownNetwork`] if the name is unknown, the keys are those of no network here, or those of
    /// several whose answers differ; [`Error::File`] if the keys contradict the name or a configuration cannot be
    /// honoured; [`Error::Checkpoint`] for the first tensor that is missing, superfluous or not as it
    /// should be.
    pub fn from_checkpoint(checkpoint: &Checkpoint, arch: Option<&str>) -> Result<Self> {
        Self::from_checkpoint_with(checkpoint, &said_arch(arch))
    }

    /// [`Network::from_checkpoint`], with what else is known of it.
    ///
    /// # Errors
    /// As [`Network::from_checkpoint`]; [`Error::Input`] if what was said is not understood.
    pub fn from_checkpoint_with(checkpoint: &Checkpoint, said: &Said) -> Result<Self> {
        if let Some((subnet, note)) = supernet::subnet_in(checkpoint, said)? {
            let network = Self::from_checkpoint_with(&subnet, &said.except(&["root", "ignore", "subnet"]))?;
            let notes = std::iter::once(note).chain(network.notes).collect();
            return Ok(Self { notes, files: checkpoint.read.clone(), ..network });
        }
        let record = checkpoint.record.as_deref();
        let said = &record.map_or_else(|| said.clone(), |record| said.over(record, checkpoint.path()));
        let mut tensors = Tensors::new(checkpoint, &registry::anchors(), said)?;
        let library =
            registry::library(&tensors).ok_or_else(|| fit::unknown(&tensors, &fit::seen(&tensors)))?;
        let mut naming = Naming::new(checkpoint, library, said)?;
        let skeleton = (library.skeleton)(&tensors).map_err(|reason| fit::unknown(&tensors, &reason))?;
        let Naming { named, preset, warnings } = &mut naming;
        let Fitted { table, repeats, arch } =
            fit::fit(&tensors, library, &skeleton, named.as_mut(), warnings)?;
        let arch = arch.map(|arch| match named {
            Some(named) if named.value.is(&arch) => named.clone(),
            _ => Sourced::new(arch, Source::Keys),
        });
        let preset = preset.clone().filter(|_| arch.as_ref().is_some_and(|arch| arch.from != Source::Keys));

        // A configuration speaks of this network only if it names it.
        let config = checkpoint.config.as_ref().filter(|config| match (&arch, configured(config)) {
            (Some(arch), Ok(Some(named))) => arch.value.is(&named),
            // It names nothing, and so contradicts nothing.
            (_, Ok(None)) => true,
            _ => false,
        });
        let mut notes = std::mem::take(&mut tensors.notes);
        if config.is_none() && checkpoint.config.is_some() {
            notes.push("config.json beside the weights names another network: not used".into());
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
        let rules = (library.rules)(name, table, &tensors, config)?.said(said, config)?;
        rules.tell(library.name, table, &mut origins);
        let built = assemble::assemble(&mut tensors, &skeleton, table, &repeats, &rules)?;

        let scores = match built.classes {
            1 => Sourced::new(Scores::Sigmoid, Source::Keys),
            _ => Sourced::new(Scores::Softmax, Source::Default(library.name)),
        };
        let problem = config.map(|config| (library.scores)(config)).transpose()?.flatten();
        let problem =
            problem.map(|scores| Sourced::new(scores, Source::Config("config.json: problem_type".into())));
        let scores = scores.or(problem).or(said.get(config, "scores", Scores::parse)?);
        let mut scores_of = |known| origins.settle("scores", known, Scores::to_string);
        let scores = if built.classes > 0 { scores_of(scores) } else { Scores::None };

        let preprocessor =
            checkpoint.preprocessor.as_ref().filter(|_| checkpoint.config.is_none() || config.is_some());
        // Of one that names no network only what can be said too is read.
        let of_library = config.filter(|config| matches!(configured(config), Ok(Some(_))));
        let given = picturing::Given { said, config, of_library, preprocessor };
        let segments = matches!(built.task, Task::Segment { .. });
        let mut assumed = Vec::new();
        let preprocessing = picturing::settle(
            library,
            (arch.as_ref().map(|arch| arch.value), preset),
            table,
            &given,
            (built.channels, segments),
            &mut assumed,
            &mut origins,
        )?;
        // A record says what nothing says elsewhere.
        notes.extend(assumed.into_iter().filter(|_| record.is_none()));
        if of_library.is_none() {
            // Somebody's own file, which may have been written for something else.
            let said = |origin: &&Origin| origin.from.to_string().starts_with("config.json");
            let names: Vec<&str> = origins.0.iter().filter(said).map(|origin| origin.name).collect();
            if !names.is_empty() {
                notes.push(format!("config.json names no network, and says {}", names.join(", ")));
            }
        }
        if built.channels != 3 {
            notes.push(match built.channels {
                1 => "the input has 1 channels: pictures are taken in grey".into(),
                n => format!("the input has {n} channels: pictures have 3, only tensors can be run"),
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
            let who = if record.is_some() { "the file" } else { "config.json" };
            notes.push(format!("{who} names {found} classes of {}: names left out", built.classes));
            labels = None;
        }
        notes.extend(tensors.left_out());
        let mut warnings = naming.warnings;
        warnings.extend(checkpoint.warnings.iter().cloned());
        warnings.extend(misgivings(&rules, built.classes, built.task));
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
        if let Some(misgiving) = network.misgiving(network.input) {
            network.warnings.push(misgiving);
        }
        Ok(network)
    }

    /// The shape of a batch of `pictures` inputs.
    pub fn input_shape(&self, pictures: usize) -> Shape {
        Shape::new(pictures, self.channels, self.input[0], self.input[1])
    }

    /// How many classes have a name: as many as the network has scores for, but two of a segmenter with
    /// one, which is there or is not.
    pub fn label_count(&self) -> usize {
        match self.task {
            Task::Segment { .. } => self.classes.max(2),
            _ => self.classes,
        }
    }

    /// What speaks against inputs of so many rows and columns, if something does.
    pub fn misgiving(&self, [rows, columns]: [usize; 2]) -> Option<String> {
        let last = self.features.last()?.stride;
        let assumed = |name: &str| {
            let of = |origin: &&Origin| origin.name == name;
            self.origins.iter().find(of).is_some_and(|origin| matches!(origin.from, Source::Default(_)))
        };
        (rows.max(columns) <= last && assumed("stem_stride") && assumed("stage_strides")).then(|| {
            format!(
                "an input of {rows}x{columns} leaves a last map of 1x1: a network that was made for small pictures has \
                 smaller strides, which no key shows: see --set stem_stride=... and stage_strides=..."
            )
        })
    }

    /// What programs want of it: scores, labels or boxes. Scores also of what segments into more classes
    /// than a label map has room for.
    pub fn answer(&self) -> Answer {
        match self.task {
            Task::Classify | Task::Embed => Answer::Scores,
            Task::Segment { .. } if too_many_classes(self.classes).is_some() => Answer::Scores,
            Task::Segment { .. } => Answer::Labels(None),
            Task::Detect(_) => Answer::Boxes,
        }
    }

    /// The graph that gives `answer`.
    ///
    /// # Errors
    /// [`Error::Input`] if the network is for something else.
    pub fn answering(&self, answer: Answer) -> Result<Cow<'_, Graph>> {
        let one = |name: &str, node: NodeId| (name.to_owned(), node);
        let answers = match (answer, &self.task) {
            (Answer::Scores, _) => return Ok(Cow::Borrowed(&self.graph)),
            (Answer::Labels(size), Task::Segment { labels }) => {
                let graph = self.graph.answering(vec![one("labels", *labels)]);
                return Ok(Cow::Owned(match size {
                    Some(size) => graph.scaled_to(*labels, size),
                    None => graph,
                }));
            }
            (Answer::Boxes, Task::Detect(Detector { candidates, boxes, .. })) => {
                vec![one("candidates", *candidates), one("boxes", *boxes)]
            }
            (Answer::Features, _) if !self.features.is_empty() => {
                self.features.iter().map(|feature| one(&feature.module, feature.node)).collect()
            }
            (Answer::Embedding, _) => {
                let node = self.embedding.ok_or_else(|| self.cannot("embed pictures"))?;
                let mut graph = self.graph.answering(vec![one("embedding", node)]);
                graph.flatten();
                return Ok(Cow::Owned(graph));
            }
            (Answer::Labels(_), _) => return Err(self.cannot("label pixels")),
            (Answer::Boxes, _) => return Err(self.cannot("find boxes")),
            (Answer::Features, _) => return Err(self.cannot("give its features")),
        };
        Ok(Cow::Owned(self.graph.answering(answers)))
    }

    fn cannot(&self, what: &str) -> Error {
        Error::Input(format!("{} cannot {what}: it {}", self.arch, self.task))
    }
}

fn said_arch(arch: Option<&str>) -> Said {
    arch.map_or_else(Said::default, |arch| Said::default().arch(arch))
}

/// What a network is called, and who calls it so.
struct Naming {
    named: Option<Sourced<Arch>>,
    /// Which of its published trainings it is.
    preset: Option<Sourced<&'static Preset>>,
    warnings: Vec<String>,
}

impl Naming {
    /// What was said counts more than the configuration, that more than what training wrote into the file, and
    /// that more than the file's name.
    fn new(checkpoint: &Checkpoint, library: &'static Library, said: &Said) -> Result<Self> {
        let said = said.arch.as_deref().map(registry::arch).transpose()?;
        let configured = match &checkpoint.config {
            // A name that was said may be the remedy for a configuration that is not understood.
            Some(config) => configured(config).or_else(|e| if said.is_some() { Ok(None) } else { Err(e) })?,
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
            said.map(|arch| Sourced::new(arch, Source::Arch)),
            configured.map(|arch| Sourced::new(arch, Source::Config("config.json".into()))),
            recorded.or(trained).map(|arch| Sourced::new(arch, Source::File("own record"))),
            of_file.map(|arch| Sourced::new(arch, Source::File("name"))),
        ];
        let named = named.into_iter().flatten().next();
        if let Some(arch) = named.as_ref().filter(|arch| arch.value.known.library != library.name) {
            return Err(Error::file(
                checkpoint.path(),
                format!("said to be {}, but its tensors are named as {} does", arch.value, library.name),
            ));
        }
        let mut warnings = Vec::new();
        let mut preset =
            named.as_ref().and_then(|named| Some(Sourced::new(named.value.preset?, named.from.clone())));
        if let (Some(named), Some(of_file)) = (&named, of_file) {
            match (&preset, of_file.preset) {
                _ if !named.value.is(&of_file) => {
                    warnings.push(format!("the file's name speaks of {of_file}, not of {}", named.value));
                }
                // A published file's name tells which of its trainings it is.
                (None, Some(published)) => preset = Some(Sourced::new(published, Source::File("name"))),
                (Some(said), Some(published)) if said.value.tag != published.tag => warnings.push(format!(
                    "the file's name is that of {of_file}.{}, whose pictures are prepared otherwise than {}'s",
                    published.tag, said.value.tag
                )),
                _ => {}
            }
        }
        Ok(Self { named, preset, warnings })
    }
}

/// The network that a `config.json` names, if it names one: timm's by its name alone.
fn configured(config: &Config) -> Result<Option<Arch>> {
    if let Some(name) = config.text("architecture")? {
        let timm = registry::LIBRARIES[1].name;
        let arch = if name.contains('/') { registry::arch(name) } else { registry::arch_of(timm, name) };
        return arch.map(Some);
    }
    let transformers = registry::LIBRARIES[2].name;
    config.text("model_type")?.map(|name| registry::arch_of(transformers, name)).transpose()
}

/// What speaks against how a network is assumed to shrink its maps.
fn misgivings(rules: &Rules, classes: usize, task: Task) -> Option<String> {
    let small = task == Task::Classify && [10, 100].contains(&classes);
    (small && rules.strides_assumed()).then(|| {
        format!(
            "{classes} classes, as CIFAR-{classes} has, and ImageNet's strides: if it was made for 32x32 pictures, \
             --set stem_stride=1 and stage_strides=... say how"
        )
    })
}
