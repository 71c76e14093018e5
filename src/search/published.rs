//! The published networks and their accuracies: the lists in `assets/accuracy`.

use std::fmt;

use serde::Serialize;

use crate::{
    Error, Result,
    zoo::{self, synthetic},
};

const TIMM: &str = include_str!("../../assets/accuracy/timm.csv");
const OTHERS: &str = include_str!("../../assets/accuracy/others.csv");

/// The metric of an accuracy in percent. Accuracies of different metrics are not comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Top-1 accuracy on ImageNet-1k's validation set.
    Top1,
    /// Mean intersection over union on the pictures of COCO val2017, with VOC's classes.
    CocoVocMiou,
    /// Mean intersection over union on VOC 2012's validation set.
    VocMiou,
    /// Mean average precision of boxes on COCO val2017.
    CocoMap,
}

impl Metric {
    /// The program's command for networks of this metric: `classify`, `segment` or `detect`.
    pub fn task(self) -> &'static str {
        match self {
            Self::Top1 => "classify",
            Self::CocoVocMiou | Self::VocMiou => "segment",
            Self::CocoMap => "detect",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "top1" => Some(Self::Top1),
            "coco_voc_miou" => Some(Self::CocoVocMiou),
            "voc_miou" => Some(Self::VocMiou),
            "coco_map" => Some(Self::CocoMap),
            _ => None,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Top1 => "ImageNet top-1",
            Self::CocoVocMiou => "mIoU on COCO",
            Self::VocMiou => "mIoU on VOC 2012",
            Self::CocoMap => "mAP on COCO",
        })
    }
}

/// A network with published weights, at an input size with a published accuracy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Published {
    /// The name in its library or on the hub: `timm/mobilenetv3_large_100`.
    pub network: String,
    /// The name of the training, if several are published; otherwise empty.
    pub weights: String,
    /// Height and width of its input.
    pub size: usize,
    /// The length to which a picture's shorter side is scaled before the centre crop; none if `size` and this
    /// length are those of the checkpoint's configuration.
    pub resize: Option<usize>,
    /// The metric of `accuracy`.
    pub metric: Metric,
    /// The published accuracy of f32, in percent.
    pub accuracy: f64,
    /// The number of parameters.
    pub parameters: u64,
    /// The size of the checkpoint's file or, if unknown, four bytes per parameter.
    pub download_bytes: u64,
    /// The file on download.pytorch.org, if it is published there.
    pub file: Option<String>,
    /// The publisher of the accuracy.
    pub source: String,
    /// The date of the source.
    pub date: String,
    /// The name of the structure, which is timed with seeded weights; see [`synthetic::network`].
    pub structure: String,
}

impl Published {
    /// The shell commands that run it on a picture. They download the weights first if the program does not
    /// fetch them.
    ///
    /// ```
    /// let networks = goldcrest::search::Catalogue::new()?.networks;
    /// let found = networks.iter().find(|n| n.to_string() == "timm/mobilenetv3_large_100.ra_in1k").expect("is published");
    /// assert_eq!(found.command(), "goldcrest classify IMAGE --model timm/mobilenetv3_large_100.ra_in1k");
    /// # Ok::<(), goldcrest::Error>(())
    /// ```
    pub fn command(&self) -> String {
        let (fetch, weights) = self.weights_flags();
        format!("{fetch}goldcrest {} IMAGE {weights}", self.metric.task())
    }

    /// The command that fetches the weights, if the program does not, and the flags that name them.
    pub(super) fn weights_flags(&self) -> (String, String) {
        let (fetch, mut weights) = match &self.file {
            Some(file) => (
                format!("curl -LO https://download.pytorch.org/models/{file} && "),
                format!("--weights {file}"),
            ),
            None => (String::new(), format!("--model {self}")),
        };
        if let Some(resize) = self.resize {
            weights += &format!(" --set size={} --set resize={resize}", self.size);
        }
        (fetch, weights)
    }
}

impl fmt::Display for Published {
    /// The name and the training: `timm/mobilenetv3_large_100.ra_in1k`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weights.as_str() {
            "" => f.pad(&self.network),
            weights => f.pad(&format!("{}.{weights}", self.network)),
        }
    }
}

/// The published networks of all lists.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    /// The networks that this crate can run.
    pub networks: Vec<Published>,
    /// Names and sizes of the other networks, each with the reason why this crate cannot run it.
    pub left_out: Vec<(String, String)>,
}

impl Catalogue {
    /// Reads the lists that are part of the crate.
    ///
    /// # Errors
    /// [`Error::File`] if a list is damaged, which the tests rule out.
    pub fn new() -> Result<Self> {
        let networks = rows(OTHERS, "others.csv", other)?;
        let torchvision = |network: &str, weights: &str| {
            networks.iter().find(|n| n.network == network && n.weights == weights).cloned()
        };
        let mut all = rows(TIMM, "timm.csv", |fields| timm(fields, torchvision))?;
        all.extend(networks);
        let known = synthetic::names();
        // A width multiplier follows an `@`.
        let base = |n: &Published| n.structure.split('@').next().unwrap_or_default().to_owned();
        let (networks, left_out) = all.into_iter().partition(|n: &Published| known.contains(&base(n)));
        let reason = |n: Published| {
            let (name, why) = (n.network.rsplit('/').next().unwrap_or_default(), "is not supported");
            (format!("{n} at {}", n.size), zoo::outside(name).unwrap_or(why).to_owned())
        };
        let left_out: Vec<Published> = left_out;
        Ok(Self { networks, left_out: left_out.into_iter().map(reason).collect() })
    }

    /// Returns the most accurate training for each structure, size and metric, among the networks that
    /// `wanted` accepts. All trainings of a structure take the same time.
    pub fn best(&self, wanted: impl Fn(&Published) -> bool) -> Vec<&Published> {
        let mut best: Vec<&Published> = Vec::new();
        for network in self.networks.iter().filter(|network| wanted(network)) {
            let same = |other: &&mut &Published| {
                (&other.structure, other.size, other.metric)
                    == (&network.structure, network.size, network.metric)
            };
            match best.iter_mut().find(same) {
                Some(other) if other.accuracy < network.accuracy => *other = network,
                Some(_) => {}
                None => best.push(network),
            }
        }
        best
    }
}

/// Parses the rows below the header of a list.
fn rows(text: &str, name: &str, row: impl Fn(&[&str]) -> Option<Published>) -> Result<Vec<Published>> {
    let lines = text.lines().enumerate().skip(1);
    let parsed = lines.map(|(i, line)| {
        let fields: Vec<&str> = line.split(',').collect();
        row(&fields).ok_or_else(|| {
            Error::file(format!("assets/accuracy/{name}"), format!("line {} cannot be parsed", i + 1))
        })
    });
    parsed.collect()
}

/// Parses a row of `others.csv`.
fn other(fields: &[&str]) -> Option<Published> {
    let &[network, weights, structure, metric, size, accuracy, parameters, bytes, file, source, date] =
        fields
    else {
        return None;
    };
    let parameters: u64 = parameters.parse().ok()?;
    Some(Published {
        network: network.into(),
        weights: weights.into(),
        size: size.parse().ok()?,
        resize: None,
        metric: Metric::parse(metric)?,
        accuracy: accuracy.parse().ok()?,
        parameters,
        download_bytes: if bytes.is_empty() { 4 * parameters } else { bytes.parse().ok()? },
        file: (!file.is_empty()).then(|| file.into()),
        source: source.into(),
        date: date.into(),
        structure: structure.into(),
    })
}

/// Parses a row of `timm.csv`. Its ResNets with torchvision's weights become torchvision's networks.
fn timm(fields: &[&str], torchvision: impl Fn(&str, &str) -> Option<Published>) -> Option<Published> {
    let &[model, size, top1, _top5, parameters, crop, _interpolation] = fields else { return None };
    let (name, tag) = model.split_once('.')?;
    let size: usize = size.parse().ok()?;
    let crop: f64 = crop.parse().ok()?;
    let trained_size = tag.split('_').find_map(|part| part.strip_prefix('r')?.parse().ok()).unwrap_or(224);
    let parameters = (1e6 * parameters.parse::<f64>().ok()?).round() as u64;
    let published = match tag {
        "tv_in1k" => torchvision(&format!("torchvision/{name}"), "IMAGENET1K_V1")?,
        "tv2_in1k" => torchvision(&format!("torchvision/{name}"), "IMAGENET1K_V2")?,
        _ => Published {
            network: format!("timm/{name}"),
            weights: tag.into(),
            size,
            resize: None,
            metric: Metric::Top1,
            accuracy: 0.0,
            parameters,
            download_bytes: 4 * parameters,
            file: None,
            source: String::new(),
            date: String::new(),
            structure: format!("timm/{name}"),
        },
    };
    Some(Published {
        size,
        resize: (size != trained_size).then_some((size as f64 / crop).floor() as usize),
        accuracy: top1.parse().ok()?,
        source: "timm".into(),
        date: "August 2026".into(),
        ..published
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_attention_and_edgetpu_are_left_out() {
        let Catalogue { networks, left_out } = Catalogue::new().unwrap();
        let lines = (TIMM.lines().count() - 1) + (OTHERS.lines().count() - 1);
        assert_eq!(networks.len() + left_out.len(), lines);
        for (name, why) in &left_out {
            let expected =
                [("timm/mobilenetv4_hybrid_", "attention"), ("timm/mobilenet_edgetpu_", "EdgeTPU")];
            assert!(
                expected.iter().any(|(start, word)| name.starts_with(start) && why.contains(word)),
                "{name}: {why}"
            );
        }
        let hybrids = TIMM.lines().filter(|line| line.starts_with("mobilenetv4_hybrid_")).count();
        let edge = TIMM.lines().filter(|line| line.starts_with("mobilenet_edgetpu_")).count();
        assert_eq!((left_out.len(), hybrids, edge), (hybrids + edge, 12, 2));
    }

    #[test]
    fn every_source_is_there() {
        let networks = Catalogue::new().unwrap().networks;
        let count = |start: &str| networks.iter().filter(|n| n.source.starts_with(start)).count();
        let counts = ["timm", "torchvision", "TensorFlow's slim", "TensorFlow's DeepLab"].map(count);
        assert_eq!(counts, [TIMM.lines().count() - 1 - 14, 16, 6, 1]);
    }

    #[test]
    fn structures_have_the_published_parameters() {
        for network in Catalogue::new().unwrap().best(|_| true) {
            // Large networks take long to build and only repeat the structures of small ones.
            if network.parameters > 6_000_000 || network.structure.contains("segmentation") {
                continue;
            }
            let graph = synthetic::network(&network.structure).unwrap().graph;
            let shapes = graph.shapes(crate::Shape::new(1, 3, network.size, network.size)).unwrap();
            let found = graph.costs(&shapes).iter().map(|cost| cost.parameters).sum::<u64>() as f64;
            let off = found / network.parameters as f64 - 1.0;
            assert!(off.abs() < 0.015, "{network}: {found} parameters, published are {}", network.parameters);
        }
    }

    #[test]
    fn the_best_training_is_kept_and_each_size_once() {
        let catalogue = Catalogue::new().unwrap();
        let best = catalogue.best(|_| true);
        let of = |structure: &str| -> Vec<String> {
            let of = best.iter().filter(|n| n.structure == structure);
            of.map(|n| format!("{n} {} {}", n.size, n.accuracy)).collect()
        };
        assert_eq!(
            of("timm/mobilenetv3_large_100"),
            [
                "timm/mobilenetv3_large_100.miil_in21k_ft_in1k 224 77.92",
                "timm/mobilenetv3_large_100.ra4_e3600_r224_in1k 256 77.182"
            ]
        );
        // timm and torchvision evaluated the same file.
        assert_eq!(
            of("torchvision/resnet50"),
            [
                "torchvision/resnet50.IMAGENET1K_V2 224 80.858",
                "torchvision/resnet50.IMAGENET1K_V2 176 79.434"
            ]
        );
        for network in &catalogue.networks {
            let better = best.iter().find(|n| {
                n.structure == network.structure && n.size == network.size && n.metric == network.metric
            });
            assert!(better.expect("is there").accuracy >= network.accuracy, "{network}");
        }
    }

    #[test]
    fn commands_set_sizes_that_differ_from_the_checkpoint() {
        let catalogue = Catalogue::new().unwrap();
        let command = |name: &str, size: usize| {
            let found = catalogue.networks.iter().find(|n| n.to_string() == name && n.size == size);
            found.expect("is published").command()
        };
        let v4 = "timm/mobilenetv4_conv_medium.e500_r256_in1k";
        assert_eq!(command(v4, 256), format!("goldcrest classify IMAGE --model {v4}"));
        assert_eq!(
            command(v4, 320),
            format!("goldcrest classify IMAGE --model {v4} --set size=320 --set resize=320")
        );
        let ssdlite = command("torchvision/ssdlite320_mobilenet_v3_large.COCO_V1", 320);
        assert!(
            ssdlite.ends_with(
                "goldcrest detect IMAGE --weights ssdlite320_mobilenet_v3_large_coco-a79551df.pth"
            )
        );
        assert!(
            command("torchvision/resnet50.IMAGENET1K_V2", 176).ends_with("--set size=176 --set resize=201")
        );
    }

    #[test]
    fn a_damaged_list_is_an_error_that_names_the_line() {
        let found = rows("head\nnonsense,1", "x.csv", other).unwrap_err().to_string();
        assert!(found.contains("x.csv") && found.contains("line 2"), "{found}");
    }
}
