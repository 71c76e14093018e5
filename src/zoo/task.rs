//! What a network's answer is for, and what is wanted of it.

use std::fmt;

use crate::graph::NodeId;

/// What a network's answer is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Task {
    /// Classes for the whole picture.
    Classify,
    /// A vector for the whole picture: the network has no classifier.
    Embed,
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
            Self::Embed => "gives a picture's features, without a classifier",
            Self::Segment { .. } => "labels pixels",
            Self::Detect(_) => "finds boxes",
        })
    }
}

/// What the numbers are that a network puts out for its classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scores {
    /// Logits of classes that exclude one another: their softmax is how likely each is.
    #[default]
    Softmax,
    /// Logits of classes of which none or several may hold: the sigmoid of each is how likely it is.
    Sigmoid,
    /// Values, as of a regression.
    None,
}

impl Scores {
    /// By its name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Softmax, Self::Sigmoid, Self::None].into_iter().find(|scores| scores.to_string() == name)
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Softmax => "softmax",
            Self::Sigmoid => "sigmoid",
            Self::None => "none",
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
    /// What it puts out itself: a classifier's logits, without a classifier the features, what segments a
    /// score a class and pixel, a detector the logits and offsets of all its boxes.
    #[default]
    Scores,
    /// Of what segments the best class of each pixel, at so many rows and columns, or the input's.
    Labels(Option<[usize; 2]>),
    /// Of a detector the boxes and the best of every class.
    Boxes,
    /// The last feature map of every stride, named after the source library's modules.
    Features,
    /// The vector of a whole picture; see [`Network::embedding`](super::Network::embedding).
    Embedding,
}
