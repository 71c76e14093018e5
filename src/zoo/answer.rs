//! What a network's answer is for, and what is wanted of it.

use std::{borrow::Cow, fmt};

use super::network::Network;
use crate::{
    Error, Result,
    graph::{Graph, NodeId, too_many_classes},
};

/// What a network's answer is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Task {
    /// A class for the whole picture.
    Classify,
    /// A class for each pixel.
    Segment {
        /// The node that has the class of each pixel.
        labels: NodeId,
    },
    /// Boxes, each with a class.
    Detect(Detector),
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classify => "classifies pictures",
            Self::Segment { .. } => "labels pixels",
            Self::Detect(_) => "finds boxes",
        })
    }
}

/// What boxes are chosen by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detector {
    /// The node that has the best of every class; see [`Op::Select`](crate::graph::Op::Select).
    pub candidates: NodeId,
    /// The node that has the boxes; see [`Op::Boxes`](crate::graph::Op::Boxes).
    pub boxes: NodeId,
    /// A box that overlaps a better one of its class by more than this, as a share of both
    /// together, is dropped.
    pub overlap: f64,
    /// The most boxes of a picture.
    pub keep: usize,
}

/// One of a network's feature maps.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Feature {
    /// The source library's module whose output it is.
    pub module: String,
    /// Pixels of the picture between two of its own.
    pub stride: usize,
    /// Its node.
    #[serde(skip)]
    pub node: NodeId,
}

/// What is wanted of a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer {
    /// What it puts out itself: a classifier's logits, what segments a score a class and pixel, a
    /// detector the logits and offsets of all its boxes.
    #[default]
    Scores,
    /// Of what segments the best class of each pixel, at so many rows and columns, or the input's.
    Labels(Option<[usize; 2]>),
    /// Of a detector the boxes and the best of every class.
    Boxes,
    /// The last feature map of every stride, named after the source library's modules.
    Features,
}

impl Network {
    /// What programs want of it: scores, labels or boxes. Scores also of what segments into more classes
    /// than a label map has room for.
    pub fn answer(&self) -> Answer {
        match self.task {
            Task::Classify => Answer::Scores,
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
