#!/usr/bin/env python3
"""Make `tests/fixtures/published.tsv`: parameters and multiply-adds of the libraries' networks.

`zoo::synthetic` builds every network that the zoo knows by name from the zoo's
tables, and `tests/synthetic.rs` compares each with this file. Needs the packages
of `make_fixtures.py` and the package `ofa`, and takes a minute:

    .venv/bin/python scripts/make_published.py

One line per network, with columns split by tabs:

    name        the name for `zoo::synthetic::network`: library/name, and /variant
                if several structures have the same name
    parameters  sum over model.parameters(), so without statistics
    macs        multiply-adds of convolutions and linear layers for one input, as
                counted by `make_fixtures.py`
    size        height and width of that input, from the library's preset
    classes     outputs per picture, pixel or box, including the background
"""

from typing import Callable, Iterator

import torch
import transformers
from make_fixtures import (
    DETECTION,
    IMAGENET,
    ROOT,
    SEGMENTATION,
    Source,
    count_macs,
    from_detection,
    from_segmentation,
    from_timm,
    from_torchvision,
    from_transformers,
)
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from torchvision.models import mobilenet_v3_small
from torchvision.models.detection import _utils as detection
from torchvision.models.detection import ssdlite
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.segmentation.lraspp import _lraspp_mobilenetv3
from torch import nn

OUTPUT = ROOT / "tests/fixtures/published.tsv"

# Classifiers of torchvision and timm.
TORCHVISION = [
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    *[f"resnet{depth}" for depth in (18, 34, 50, 101, 152)],
]
TIMM = [
    *[f"mobilenetv1_{width}" for width in ("100", "100h", "125")],
    *[f"mobilenetv2_{width}" for width in ("035", "050", "075", "100", "110d", "120d", "140")],
    "mobilenetv3_rw",
    *[f"mobilenetv3_large_{width}" for width in ("075", "100", "150d")],
    *[f"mobilenetv3_small_{width}" for width in ("050", "075", "100")],
    *[f"tf_mobilenetv3_large_{width}" for width in ("075", "100", "minimal_100")],
    *[f"tf_mobilenetv3_small_{width}" for width in ("075", "100", "minimal_100")],
    *[f"mobilenetv4_conv_{size}" for size in ("small_035", "small_050", "small", "medium")],
    *[f"mobilenetv4_conv_{size}" for size in ("blur_medium", "aa_medium", "large", "aa_large")],
]
# The configuration of google/deeplabv3_mobilenet_v2_1.0_513.
GOOGLE = dict(num_labels=21, output_stride=8, finegrained_output=False)
# transformers' option for a first block that expands its channels like all other blocks.
EXPANDED = dict(first_layer_is_expansion=False)


def small_lraspp() -> Source:
    """LR-ASPP with V3-Small. torchvision has no name for it, but all its parts."""
    model = _lraspp_mobilenetv3(mobilenet_v3_small(dilated=True), num_classes=21)
    return Source(model.eval(), *IMAGENET, files={}, task=SEGMENTATION)


def small_ssdlite() -> Source:
    """SSDLite with V3-Small, also without a name in torchvision."""
    norm = lambda channels: nn.BatchNorm2d(channels, eps=0.001, momentum=0.03)
    backbone = mobilenet_v3_small(reduced_tail=True, norm_layer=norm)
    backbone = ssdlite._mobilenet_extractor(backbone, 6, norm)
    boxes = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    channels = detection.retrieve_out_channels(backbone, (320, 320))
    head = ssdlite.SSDLiteHead(channels, boxes.num_anchors_per_location(), 91, norm)
    model = SSD(backbone, boxes, (320, 320), 91, head=head)
    return Source(model.eval(), *IMAGENET, files={}, task=DETECTION)


def largest_of_supernet() -> Source:
    """The largest subnet of once-for-all's supernet of width 1, as a separate network."""
    lists = dict(ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4])
    supernet = OFAMobileNetV3(n_classes=1000, dropout_rate=0, **lists)
    supernet.set_max_net()
    return Source(supernet.get_active_subnet().eval(), *IMAGENET, files={})


def sources() -> Iterator[tuple[str, int, int, Callable[[], Source]]]:
    """Yields name, input size, number of classes, and constructor of each network."""
    for name in TORCHVISION:
        yield f"torchvision/{name}", 224, 1000, lambda: from_torchvision(name)
    small, large = "mobilenet_v3_small", "mobilenet_v3_large"
    yield f"torchvision/lraspp_{large}", 520, 21, lambda: from_segmentation(f"lraspp_{large}")
    yield f"torchvision/lraspp_{small}", 520, 21, small_lraspp
    # With the auxiliary head, like the published checkpoint.
    deeplab = lambda: from_segmentation(f"deeplabv3_{large}", aux_loss=True)
    yield f"torchvision/deeplabv3_{large}", 520, 21, deeplab
    yield f"torchvision/ssdlite320_{large}", 320, 91, lambda: from_detection(f"ssdlite320_{large}")
    yield f"torchvision/ssdlite_{small}", 320, 91, small_ssdlite
    for name in TIMM:
        source = from_timm(name)
        config = source.files["config.json"]["pretrained_cfg"]
        yield f"timm/{name}", config["input_size"][1], config["num_classes"], lambda: source
    yield "transformers/mobilenet_v1", 224, 1001, lambda: from_transformers(1)
    yield "transformers/mobilenet_v2", 224, 1001, lambda: from_transformers(2)
    expanded = lambda: from_transformers(2, **EXPANDED)
    yield "transformers/mobilenet_v2/expanded", 224, 1001, expanded
    for variant, options in [("segmentation", GOOGLE), ("expanded_segmentation", GOOGLE | EXPANDED)]:
        make = lambda: from_transformers(2, 513, "SemanticSegmentation", **options)
        yield f"transformers/mobilenet_v2/{variant}", 513, 21, make
    yield "ofa/mobilenet_v3", 224, 1000, largest_of_supernet


def main() -> None:
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    lines = ["name\tparameters\tmacs\tsize\tclasses"]
    for name, side, classes, make in sources():
        source = make()
        parameters = sum(p.numel() for p in source.model.parameters())
        macs = count_macs(source, (side, side))
        lines.append(f"{name}\t{parameters}\t{macs}\t{side}\t{classes}")
        print(lines[-1], flush=True)
    OUTPUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
