//! A network's task and its outputs.

use std::fmt;

use crate::graph::NodeId;

/// A network's task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Task {
    /// Classes for the whole picture.
    Classify,
    /// A vector for the whole picture, from a network without a classifier.
    Embed,
    /// A class for each pixel.
    Segment {
        /// The node of the label map.
        labels: NodeId,
    },
    /// Boxes, each with a class.
    Detect(Detector),
}

impl Task {
    /// Returns the name of the method of a session that performs it, such as `classify`.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Embed => "embed",
            Self::Segment { .. } => "segment",
            Self::Detect(_) => "detect",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classify => "classifies pictures",
            Self::Embed => "computes embeddings and has no classifier",
            Self::Segment { .. } => "labels pixels",
            Self::Detect(_) => "finds boxes",
        })
    }
}

/// The meaning of a network's class scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreKind {
    /// Logits of mutually exclusive classes: the softmax gives the probabilities.
    #[default]
    Softmax,
    /// Logits of independent classes: the sigmoid of each gives its probability.
    Sigmoid,
    /// Plain values, such as those of a regression.
    None,
}

impl ScoreKind {
    /// Parses a name, as [`fmt::Display`] writes it.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Softmax, Self::Sigmoid, Self::None].into_iter().find(|scores| scores.to_string() == name)
    }
}

impl fmt::Display for ScoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Softmax => "softmax",
            Self::Sigmoid => "sigmoid",
            Self::None => "none",
        })
    }
}

/// The nodes and thresholds for choosing boxes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detector {
    /// The node with the best boxes of each class; see [`Op::Select`](crate::graph::Op::Select).
    pub candidates: NodeId,
    /// The node with the boxes; see [`Op::Boxes`](crate::graph::Op::Boxes).
    pub boxes: NodeId,
    /// The IoU threshold of non-maximum suppression: a box is dropped if its IoU with a better box of its
    /// class exceeds it.
    pub iou_threshold: f64,
    /// The maximum number of boxes per picture.
    pub max_boxes: usize,
}

/// One of a network's feature maps.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Feature {
    /// The source library's module with this output.
    pub module: String,
    /// The step between adjacent pixels of the map, in input pixels.
    pub stride: usize,
    /// The node of the map.
    #[serde(skip)]
    pub node: NodeId,
}

/// The requested outputs of a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outputs {
    /// The network's raw outputs: a classifier's logits `[N, classes]`, the features if there is no classifier, a
    /// segmenter's scores `[N, classes, H, W]`, or the logits and offsets of all of a detector's boxes.
    #[default]
    Scores,
    /// A segmenter's best class per pixel, `[N, 1, H, W]`, at the given rows and columns, or at the input's.
    Labels(Option<[usize; 2]>),
    /// A detector's outputs `candidates`, the best boxes of each class, and `boxes`, all boxes;
    /// [`tasks::decode_boxes`](crate::tasks::decode_boxes) converts them.
    Boxes,
    /// The last feature map of each stride, named after the source library's modules.
    Features,
    /// The embedding of a whole picture, `[N, C]`; see [`Network::embedding`](super::Network::embedding).
    Embedding,
}
