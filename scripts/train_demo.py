#!/usr/bin/env python3
"""Train the demo's three networks on the scenes that Goldcrest draws.

    python3 -m venv .venv
    .venv/bin/pip install torch torchvision==0.29.* safetensors
    cargo build --release --example scenes
    .venv/bin/python scripts/train_demo.py            # all three networks: an hour or more on two cores
    .venv/bin/python scripts/train_demo.py detect     # one network, starting from the existing segmenter
    .venv/bin/python scripts/train_demo.py --measure  # no training: measure the existing networks

The code that draws scenes exists once, in Rust (`src/demo`). This script reads
the scenes through a pipe, so training, demo and measurement use the same kind of
pictures. Each scene is drawn at the network's input size and used once. Seeds
from HELD_OUT on are only for measurement. A run is seeded, but torch's
multithreaded sums are not deterministic, so two runs differ slightly.

The networks are torchvision modules with V3-Small at a width of 0.75:
`mobilenet_v3_small`, `LRASPP` and `SSD` with `SSDLiteHead`. The segmenter is
trained first: it gets the most information per picture, and its features
initialise the other two networks, because a classifier from scratch learns
slowly. (The classifier and the detector in assets/demo started from the
segmenter after its first phase.)

The script writes to assets/demo/NAME/: `model.safetensors` (matrices and kernels
in f16, vectors in f32), `config.json` (preprocessing and classes, in timm's
fields) and `quality.json`: the results of torch with these rounded weights on
held-out scenes, with which `tests/demo.rs` compares Goldcrest.
"""

import argparse
import functools
import json
import pathlib
import queue
import subprocess
import threading
import time
import typing

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v3_small
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead
from torchvision.models.segmentation.lraspp import LRASPP
from torchvision.ops import box_iou

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPES = "circle triangle square pentagon hexagon star ring cross heart crescent".split()
WIDTH = 0.75
HELD_OUT = 1_000_000_000
MEASURED = 1000
NORM = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.05)


# ---------------------------------------------------------------- scenes


def record(size, hard):
    """The record that `examples/scenes.rs` writes per scene."""
    picture = [("picture", "u1", (size, size, 3)), ("mask", "u1", (size, size)), ("subject", "u1")]
    return np.dtype(picture if hard else [*picture, ("classes", "u1", 5), ("boxes", "<f4", (5, 4))])


def scenes(size, first, count, batch, hard=False):
    """Yields `count` scenes from the seed `first` on, in batches, read ahead."""
    program = ROOT / "target/release/examples/scenes"
    command = [program, "--size", size, "--first", first, "--count", count, *["--hard"] * hard]
    drawing = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE)
    ahead = queue.Queue(4)

    def read():
        dtype = record(size, hard)
        for start in range(0, count, batch):
            wanted = min(batch, count - start) * dtype.itemsize
            data = drawing.stdout.read(wanted)
            assert len(data) == wanted, "the scenes ended early"
            ahead.put(np.frombuffer(data, dtype))
        ahead.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (scene := ahead.get()) is not None:
        yield scene


def pictures(scene):
    """The network's input for a batch: channels first, pixels in [-1, 1]."""
    x = torch.from_numpy(scene["picture"].copy()).permute(0, 3, 1, 2).float()
    return (x / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def targets(scene):
    """Boxes and classes per picture, in the format of torchvision's detectors."""
    answers = []
    for classes, boxes in zip(scene["classes"], scene["boxes"]):
        there = classes > 0
        answers.append(
            {
                "labels": torch.from_numpy(classes[there].astype(np.int64)),
                "boxes": torch.from_numpy(boxes[there].copy()),
            }
        )
    return answers


# ---------------------------------------------------------------- networks


class Phase(typing.NamedTuple):
    """A phase of training, with its own learning-rate schedule."""

    size: int
    images: int
    rate: float
    # Loss weight of the pixels of objects other than the subject, which are small.
    small: float = 1.0


class Classifier:
    """V3-Small: the shape of the subject."""

    arch, size, batch = "mobilenet_v3_small", 128, 64
    phases = [Phase(128, 80_000, 1.5e-3)]
    labels = SHAPES

    def __init__(self):
        self.net = mobilenet_v3_small(num_classes=len(self.labels), width_mult=WIDTH, norm_layer=NORM, dropout=0.1)

    def begin(self, features):
        """Initialises with the segmenter's features. They are dilated there, but have the same shapes."""
        self.net.features.load_state_dict(features, strict=False)

    def loss(self, scene, phase):
        subject = torch.from_numpy(scene["subject"].astype(np.int64))
        return F.cross_entropy(self.net(pictures(scene)), subject, label_smoothing=0.05)

    def scores(self, x):
        return self.net(x)

    def measure(self, batches):
        right = count = 0
        for scene in batches:
            right += (self.net(pictures(scene)).argmax(1).numpy() == scene["subject"]).sum()
            count += len(scene)
        return {"top1": float(right / count)}


class Segmenter:
    """LR-ASPP over V3-Small: the shape at each pixel."""

    arch, size, batch = "lraspp_mobilenet_v3_small", 256, 32
    phases = [Phase(192, 96_000, 2.5e-3), Phase(256, 48_000, 1.5e-3, small=2.5)]
    labels = ["background", *SHAPES]
    # Loss weight of background pixels, which are the majority.
    background = 0.5

    def __init__(self):
        features = mobilenet_v3_small(width_mult=WIDTH, dilated=True, norm_layer=NORM).features
        low, high = features[2].out_channels, features[-1].out_channels
        backbone = IntermediateLayerGetter(features, {"2": "low", str(len(features) - 1): "high"})
        self.net = LRASPP(backbone, low, high, num_classes=len(self.labels))

    def loss(self, scene, phase):
        scores = self.net.classifier(self.net.backbone(pictures(scene)))
        # Use every second row and column, with a random offset per step: cheaper, and all pixels count over time.
        size = scene["mask"].shape[-1]
        scores = F.interpolate(scores, size=size // 2, mode="bilinear", align_corners=False)
        row, column = np.random.randint(2, size=2)
        mask = scene["mask"][:, row::2, column::2].astype(np.int64)
        subject = 1 + scene["subject"].astype(np.int64)[:, None, None]
        weights = np.select([mask == 0, mask == subject], [self.background, 1.0], phase.small)
        losses = F.cross_entropy(scores, torch.from_numpy(mask), reduction="none")
        weights = torch.from_numpy(weights.astype(np.float32))
        return (losses * weights).sum() / weights.sum()

    def scores(self, x):
        return self.net(x)["out"]

    def measure(self, batches):
        classes = len(self.labels)
        confusion = np.zeros((classes, classes), np.int64)
        for scene in batches:
            found = self.net(pictures(scene))["out"].argmax(1).numpy()
            pairs = scene["mask"].astype(np.int64) * classes + found
            confusion += np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)
        both = np.diag(confusion)
        iou = both / (confusion.sum(0) + confusion.sum(1) - both)
        return {"mean_iou": float(iou.mean()), "iou": dict(zip(self.labels, iou.tolist()))}


class Detector:
    """SSDLite over V3-Small: shapes in boxes."""

    arch, size, batch = "ssdlite_mobilenet_v3_small", 192, 32
    phases = [Phase(192, 96_000, 2e-3)]
    labels = ["background", *SHAPES]

    def __init__(self):
        features = mobilenet_v3_small(width_mult=WIDTH, reduced_tail=True, norm_layer=NORM).features
        wide = max(i for i, block in enumerate(features) if getattr(block, "_is_cn", False))
        backbone = SSDLiteFeatureExtractorMobileNet(features, wide, NORM, width_mult=0.5)
        anchors = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
        size = (self.size, self.size)
        with torch.no_grad():
            widths = [m.shape[1] for m in backbone.eval()(torch.zeros(1, 3, *size)).values()]
        head = SSDLiteHead(widths, anchors.num_anchors_per_location(), len(self.labels), NORM)
        half = [0.5] * 3
        # The thresholds of torchvision's ssdlite320_mobilenet_v3_large.
        chosen = dict(score_thresh=0.001, nms_thresh=0.55, detections_per_img=300, topk_candidates=300)
        self.net = SSD(backbone, anchors, size, len(self.labels), image_mean=half, image_std=half, head=head, **chosen)
        self.wide = wide

    def begin(self, features):
        """Initialises with the segmenter's features of the same shape."""
        mine = self.net.backbone.features.state_dict()
        # SSDLite splits the features after the first convolution of the wide block and renumbers them.
        for key, value in features.items():
            index, _, rest = key.partition(".")
            index = int(index)
            key = f"0.{key}" if index < self.wide else f"1.{index - self.wide}.{rest}"
            if index == self.wide:
                part, _, rest = rest.removeprefix("block.").partition(".")
                key = f"0.{index}.{rest}" if part == "0" else f"1.0.{part}.{rest}"
            if key in mine and mine[key].shape == value.shape:
                mine[key].copy_(value)

    def loss(self, scene, phase):
        x, wanted = pictures(scene), targets(scene)
        maps = list(self.net.backbone(x).values())
        found = self.net.head(maps)
        anchors = self.net.anchor_generator(ImageList(x, [(self.size, self.size)] * len(x)), maps)
        matches = [self.net.proposal_matcher(box_iou(t["boxes"], a)) for t, a in zip(wanted, anchors)]
        losses = self.net.compute_loss(wanted, found, anchors, matches)
        return losses["classification"] + losses["bbox_regression"]

    def scores(self, x):
        return self.net.head(list(self.net.backbone(x).values()))["cls_logits"]

    def measure(self, batches):
        found, wanted = [], []
        for scene in batches:
            # The detector does its own normalisation, of pixels in [0, 1].
            x = (pictures(scene) + 1) / 2
            found += self.net(list(x))
            wanted += targets(scene)
        ap = {name: average_precision(found, wanted, i) for i, name in enumerate(self.labels) if i}
        return {"map50": float(np.mean(list(ap.values()))), "ap50": ap}


def average_precision(found, wanted, label):
    """The area under the monotonic precision-recall curve. A box is correct if its IoU with a true box that no
    higher-scored box has taken is at least 0.5."""
    ranked, count = [], 0
    for picture, (f, w) in enumerate(zip(found, wanted)):
        ranked += [(float(s), picture, b) for s, b, c in zip(f["scores"], f["boxes"], f["labels"]) if c == label]
        count += int((w["labels"] == label).sum())
    ranked.sort(key=lambda entry: -entry[0])
    taken, right = set(), []
    for _, picture, box in ranked:
        mine = torch.nonzero(wanted[picture]["labels"] == label).flatten().tolist()
        free = [i for i in mine if (picture, i) not in taken]
        overlaps = box_iou(box[None], wanted[picture]["boxes"][free])[0] if free else torch.zeros(0)
        hit = len(free) > 0 and bool(overlaps.max() >= 0.5)
        if hit:
            taken.add((picture, free[int(overlaps.argmax())]))
        right.append(hit)
    right = np.cumsum(right)
    precision = right / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    gained = np.diff(right, prepend=0)
    return float((precision * gained).sum() / count)


KINDS = {"segment": Segmenter, "classify": Classifier, "detect": Detector}


# ---------------------------------------------------------------- training


def train(kind, images):
    torch.manual_seed(1)
    np.random.seed(1)
    task = kind()
    if hasattr(task, "begin"):
        state, prefix = load_file(folder("segment") / "model.safetensors"), "backbone."
        task.begin({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    task.net.to(memory_format=torch.channels_last).train()
    seed = 0
    for phase in kind.phases:
        seed = work_through(task, phase, seed, images or phase.images)
    return task


def work_through(task, phase, seed, images):
    """Trains a phase on the scenes from `seed` on, and returns the next seed."""
    net, kind = task.net, type(task)
    vectors = [p for p in net.parameters() if p.ndim == 1]
    others = [p for p in net.parameters() if p.ndim > 1]
    groups = [{"params": vectors, "weight_decay": 0.0}, {"params": others, "weight_decay": 0.02}]
    optimiser = torch.optim.AdamW(groups)
    steps = images // kind.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, phase.rate, total_steps=steps, pct_start=0.1, cycle_momentum=False
    )
    begun, mean = time.time(), None
    for step, scene in enumerate(scenes(phase.size, seed, steps * kind.batch, kind.batch), 1):
        loss = task.loss(scene, phase)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        mean = loss.item() if mean is None else mean + 0.02 * (loss.item() - mean)
        if step % 100 == 0 or step == steps:
            print(f"{kind.arch}: {step}/{steps}, loss {mean:.4f}, {time.time() - begun:.0f} s", flush=True)
    return seed + steps * kind.batch


def folder(name):
    return ROOT / "assets/demo" / name


def save(name, task):
    """Rounds the weights and writes the checkpoint."""
    path = folder(name)
    path.mkdir(parents=True, exist_ok=True)
    state = {}
    for key, value in task.net.state_dict().items():
        # The number of batches is only needed to continue training.
        if key.endswith("num_batches_tracked"):
            continue
        state[key] = (value.half() if value.ndim > 1 else value).contiguous()
    save_file(state, path / "model.safetensors")
    config = {
        "architecture": f"torchvision/{task.arch}",
        "num_classes": len(task.labels),
        "label_names": task.labels,
        "pretrained_cfg": {
            "input_size": [3, task.size, task.size],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
        },
    }
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def measure(name, kind):
    task = kind()
    missing = task.net.load_state_dict(load_file(folder(name) / "model.safetensors"), strict=False).missing_keys
    assert all(key.endswith("num_batches_tracked") for key in missing), missing
    task.net.eval()
    with torch.no_grad():
        found = task.measure(scenes(kind.size, HELD_OUT, MEASURED, 50))
    # Checksums of the scenes, to detect a change of the drawing code.
    first = next(scenes(kind.size, HELD_OUT, 50, 50))
    sums = {part: int(first[part].sum(dtype=np.int64)) for part in ("picture", "mask")}
    # The network's output for the first scene: 64 evenly spaced values, computed in f64.
    task.net.double()
    with torch.no_grad():
        scores = task.scores(pictures(first[:1]).double()).flatten()
    places = [i * len(scores) // 64 for i in range(64)]
    quality = {
        "seeds": [HELD_OUT, HELD_OUT + MEASURED],
        "size": kind.size,
        "sums_of_50": sums,
        "scores_of_first": [float(scores[at]) for at in places],
        **found,
    }
    (folder(name) / "quality.json").write_text(json.dumps(quality, indent=2) + "\n")
    print(name, {k: round(v, 4) for k, v in found.items() if isinstance(v, float)}, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="segment, classify, detect (default: all)")
    parser.add_argument("--measure", action="store_true", help="do not train, only measure")
    parser.add_argument("--images", type=int, help="scenes per phase, instead of the default numbers")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in KINDS]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(KINDS)}")
    for name in arguments.names or KINDS:
        kind = KINDS[name]
        if not arguments.measure:
            save(name, train(kind, arguments.images))
        measure(name, kind)


if __name__ == "__main__":
    main()
