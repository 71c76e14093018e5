#!/usr/bin/env python3
"""Make the golden fixtures: the outputs of torchvision, timm and transformers.

The Rust tests compare every network with its source library. This script runs
the libraries and writes their outputs to `tests/fixtures/`, so that the tests
need no Python. It also writes the small checkpoint `assets/seeded/` and the
photograph `assets/cat.jpg`.

    python3 -m venv .venv
    .venv/bin/pip install torch torchvision==0.29.* timm==1.0.31 \\
        "transformers>=5.23" safetensors pillow scikit-image
    .venv/bin/python scripts/make_fixtures.py              # everything
    .venv/bin/python scripts/make_fixtures.py mobilenet_v2 # names containing this

Nothing is downloaded beyond the packages, and it takes a minute. Another run
replaces the networks and keeps the pictures: delete a picture to create it
again.


Weights: a recipe instead of a file
-----------------------------------
Trained weights would be hundreds of megabytes, so each tensor is generated from
its key. For the element with flat index i of the tensor `key`:

    z = fnv1a_64(key as UTF-8) + (i + 1) * 0x9E3779B97F4A7C15    (wrapping u64)
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9                       (splitmix64)
    z = (z ^ z >> 27) * 0x94D049BB133111EB
    z =  z ^ z >> 31
    u = f32(z >> 40) / 2^23 - 1                  in [-1, 1), exact in f32
    value = f32(offset) + f32(scale) * u         two roundings, no fused multiply-add

As a check, `features.0.0.weight` has u(0) = 0.7406744956970215 and
u(1) = -0.5411293506622314.

Batch-norm statistics cannot be random: with wrong statistics, values vanish or
explode within a few layers. They are measured on crops of the fixture pictures,
rounded to f16, and stored. The outputs are computed after rounding.


tests/fixtures/networks/NAME.json
---------------------------------
    arch        "torchvision/mobilenet_v2": library and name
    files       the files next to the weights on the hub, by file name
    dtype       "F32", the type of the recipe
    tensors     in state_dict order, each with key, shape, and a fill:
                  "uniform"  the recipe above, with offset and scale; if it has lifts,
                             f32(by) is added in f32 to the elements first, first + every,
                             first + 2 * every and so on, one lift after the other
                  "stored"   `stat/KEY` in the safetensors file, F16
                  "int64"    zeros, as 64-bit integers
    parameters  sum over model.parameters(), so without statistics
    macs        multiply-adds of convolutions and linear layers, squeeze-excite
                included, of the model in eval mode for one input. For DeepLab they
                include the auxiliary head, which runs in eval mode too, and for
                transformers' segmentation conv_1x1, whose output the head ignores
    input       height and width of that input; absent if they are 224 and 224
    cases       each a picture in tests/fixtures/pictures, with mean and std
    taps        null, or the index of the tapped case and the modules with their
                output shapes, by their names in named_modules(); a module that
                runs again is also NAME_1 and so on; without outputs that are no
                tensors, and in large networks without redundant outputs
    features    for timm's networks with taps: the modules whose outputs are the
                feature maps of `features_only=True`, and their strides

tests/fixtures/networks/NAME.safetensors
----------------------------------------
    stat/KEY     F16  running_mean and running_var
    tap/MODULE   F32  the n values of a module's output if there are at most 64,
                      else those at flat NCHW indices
                      (j * 0x9E3779B97F4A7C15 wrapping at 2^64) mod n for j in 0..64
  and for the case with index CASE, of a classifier
    out/CASE     F32  logits [1, classes]
  of a segmentation network, whose logits are [1, 21, rows, columns]
    out/CASE     F32  4096 of the logits, chosen like the 64 values of a tap
    labels/CASE  U8   [rows, columns], the class with the largest logit
  of transformers' segmentation network, whose logits have the size of its last map:
  the same; before the labels are taken, the logits are scaled to the input's size (bilinear,
  align_corners=False)
  of a detector, for K detections
    cls_logits/CASE       F32  4096 of the [1, 3234, 91], before the softmax
    bbox_regression/CASE  F32  4096 of the [1, 3234, 4], before decoding
    boxes/CASE            F32  [K, 4]: left, top, right, bottom in the picture's pixels
    scores/CASE           F32  [K], descending
    classes/CASE          U8   [K]
    anchors               F32  [3234, 4]: left, top, right, bottom in pixels of the
                               320x320 input; in the fixture with taps only

The network's input is f32((pixel / 255 - mean) / std), with the inner part in f64,
without resizing. The input of a detector is pixel / 255 in f64: it normalises and
resizes to 320x320 itself. All further computations are in f64; results are written
as f32.

`tests/fixtures/counts/NAME.json` is the same without fill, cases and taps. These
files check shapes, parameters and MACs of further widths.
"""

import argparse
import json
import math
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Callable

import numpy as np
import timm
import torch
import torchvision
import transformers
from PIL import Image, ImageOps
from safetensors.numpy import save_file
from timm.models._hub import save_config_for_hf  # what pushing to the hub uses
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "tests/fixtures/pictures"
NETWORKS = ROOT / "tests/fixtures/networks"
COUNTS = ROOT / "tests/fixtures/counts"
ASSETS = ROOT / "assets"

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
TAP_VALUES = 64
OUTPUT_VALUES = 4096  # the number of stored values of a large output

# 2^64 over the golden ratio, odd: its multiples visit all residues evenly.
SCATTER = 0x9E3779B97F4A7C15


# --- pictures ---------------------------------------------------------------

# File name: (photograph in scikit-image, crop box, size), all (width, height).
# One even size and two odd ones: wrong padding shows on odd sizes first.
CUTS = {
    "cat_224.png": ("chelsea.png", (60, 0, 360, 300), (224, 224)),
    "coffee_193x257.png": ("coffee.png", (34, 0, 567, 400), (257, 193)),
    "rocket_97x131.png": ("rocket.jpg", (32, 0, 608, 427), (131, 97)),
}
COFFEE, SMALL = "coffee_193x257.png", "rocket_97x131.png"


def photograph(name: str) -> Image.Image:
    import skimage  # only needed to create the pictures

    return Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")


def cut_pictures() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, (source, box, size) in CUTS.items():
        if not (PICTURES / name).exists():
            small = photograph(source).resize(size, Image.Resampling.LANCZOS, box=box)
            small.save(PICTURES / name, optimize=True)
    if not (ASSETS / "cat.jpg").exists():
        photograph("chelsea.png").save(ASSETS / "cat.jpg", quality=90, optimize=True)


def picture(name: str) -> Image.Image:
    return Image.open(PICTURES / name).convert("RGB")


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.float64) / 255


def network_input(image: Image.Image, mean: list[float], std: list[float]) -> torch.Tensor:
    values = (levels(image) - np.array(mean)) / np.array(std)
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None].contiguous()


# --- weights ----------------------------------------------------------------


def fnv1a_64(text: str) -> int:
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


def uniform(key: str, count: int) -> np.ndarray:
    """`count` values in [-1, 1) that depend only on the key."""
    index = np.arange(1, count + 1, dtype=np.uint64)
    z = index * np.uint64(SCATTER) + np.uint64(fnv1a_64(key))
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z = z ^ z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)


def shortest(value: float) -> float:
    """The shortest decimal with the same f32 value, to keep the JSON readable."""
    decimal = float(str(np.float32(value)))
    assert np.float32(decimal) == np.float32(value)
    return decimal


def activated_norms(source: "Source") -> set[str]:
    """The batch norms with an activation directly after them, found by running the model."""
    activations = (nn.ReLU, nn.ReLU6, nn.Hardswish)
    order, hooks = [], []
    for name, module in source.model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, *activations)):
            # Recorded before it runs: timm's batch norms call their activation themselves.
            note = lambda module, _, name=name: order.append((name, module))
            hooks.append(module.register_forward_pre_hook(note))
    source.forward(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    return {
        name
        for (name, module), (_, after) in zip(order, order[1:])
        if isinstance(module, nn.BatchNorm2d) and isinstance(after, activations)
    }


def offset_and_scale(
    module_name: str, module: nn.Module, parameter: str, activated: bool, linear_bias: float
) -> tuple[float, float]:
    """The offset and the scale of a parameter's random values."""
    if isinstance(module, nn.BatchNorm2d):
        if activated:
            # Mean 2, spread 2 to 3: about a fifth of the values are below zero and a few
            # percent above six. With mean zero, the activation would clip half of them, and
            # each layer would amplify the rounding errors of the previous one: a correct
            # network would then have an error of 1e-5 in f32, and of 3e-2 in f16.
            return (2.0, 0.5) if parameter == "weight" else (2.0, 2.0)
        return (1.0, 0.25) if parameter == "weight" else (0.0, 0.25)
    if parameter == "bias":
        # The last layer before a gate: 4 saturates some hard sigmoids at 0 and some at 1.
        if module_name.endswith((".fc2", ".conv_expand")):
            return 0.0, 4.0
        return 0.0, linear_bias if isinstance(module, nn.Linear) else 0.1
    fan_in = module.weight[0].numel()
    scale = math.sqrt(6 / fan_in)
    # These factors give a detector's logits a spread of 3, and boxes near their anchors.
    if module_name.startswith("head.classification_head") and module.bias is not None:
        scale *= 0.75
    if module_name.startswith("head.regression_head") and module.bias is not None:
        scale *= 0.3
    return 0.0, scale


def fill_uniform(key: str, tensor: torch.Tensor, fill: dict) -> None:
    values = np.float32(fill["offset"]) + np.float32(fill["scale"]) * uniform(key, tensor.numel())
    for lift in fill.get("lifts", []):
        values[lift["first"] :: lift["every"]] += np.float32(lift["by"])
    tensor.copy_(torch.from_numpy(values.reshape(tensor.shape)))


def seed_weights(
    source: "Source", linear_bias: float = 0.1, fills: dict[str, dict] | None = None
) -> list[dict]:
    """Fill the model by the recipe. Returns the recipe of each tensor.

    `fills` adds or replaces fields of the recipe, by patterns of keys."""
    modules = dict(source.model.named_modules())
    activated = activated_norms(source)
    tensors = []
    for key, tensor in source.model.state_dict().items():
        module_name, _, leaf = key.rpartition(".")
        entry = {"key": key, "shape": list(tensor.shape)}
        if leaf == "num_batches_tracked":
            entry |= {"fill": "int64"}
        elif leaf in ("running_mean", "running_var"):
            entry |= {"fill": "stored"}
        else:
            offset, scale = offset_and_scale(
                module_name,
                modules[module_name],
                leaf,
                activated=module_name in activated,
                linear_bias=linear_bias,
            )
            fill = {"offset": shortest(offset), "scale": shortest(scale)}
            for pattern, others in (fills or {}).items():
                if fnmatch(key, pattern):
                    fill |= others
            fill_uniform(key, tensor, fill)
            entry |= {"fill": "uniform"} | fill
        tensors.append(entry)
    return tensors


def calibrate(source: "Source") -> None:
    """Measure batch-norm statistics on crops of the pictures, and round them to f16."""
    norms = [m for m in source.model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()  # only the norms: dropout stays off
    for width, height in source.task.crop_sizes:
        crops = []
        for name in CUTS:
            whole = picture(name)
            w, h = whole.size
            for box in [(0, 0, w, h), (0, 0, w // 2, h // 2), (w // 2, h // 2, w, h)]:
                crops.append(whole.resize((width, height), Image.Resampling.BILINEAR, box=box))
            crops.append(ImageOps.mirror(crops[-3]))
        inputs = [network_input(crop, source.mean, source.std) for crop in crops]
        source.forward(torch.cat(inputs))
    for norm in norms:
        norm.running_mean.copy_(norm.running_mean.half())
        # f16 loses precision below 6e-5; real variances are larger than this lower bound.
        norm.running_var.copy_(norm.running_var.clamp(1e-3, 6e4).half())
        norm.num_batches_tracked.zero_()
        norm.eval()


# --- outputs of the library --------------------------------------------------


def count_macs(source: "Source", size: tuple[int, int]) -> int:
    total = 0

    def count(module, _, output):
        nonlocal total
        # Each output value of a convolution or linear layer takes one filter's multiply-adds.
        total += output.numel() * module.weight[0].numel()

    counted = [m for m in source.model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [m.register_forward_hook(count) for m in counted]
    source.forward(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return total


def tap_modules(source: "Source", x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs of all modules that are tensors, by name. Repeated runs of a module are
    `name_1` and so on, as in torchvision's feature extraction."""
    taps, runs = {}, Counter()

    def keep(name):
        def hook(_module, _inputs, output):
            if isinstance(output, torch.Tensor):
                again = f"_{runs[name]}" if runs[name] else ""
                runs[name] += 1
                # Copied immediately: an in-place activation would overwrite it.
                taps[name + again] = output.clone()

        return hook

    modules = source.model.named_modules()
    hooks = [m.register_forward_hook(keep(name)) for name, m in modules if name]
    source.outputs(x)
    for hook in hooks:
        hook.remove()
    return taps


def feature_modules(
    source: "Source", x: torch.Tensor, outputs: dict[str, torch.Tensor]
) -> list[dict]:
    """The modules whose outputs are timm's features, identified by name and checked by value."""
    architecture = source.files["config.json"]["architecture"]
    backbone = timm.create_model(architecture, pretrained=False, features_only=True)
    backbone.eval().double()
    # Without strict, because the backbone lacks the classifier's head.
    backbone.load_state_dict(source.model.state_dict(), strict=False)
    names, strides = backbone.feature_info.module_name(), backbone.feature_info.reduction()
    for name, features in zip(names, backbone(x), strict=True):
        assert torch.equal(features, outputs[name]), f"{name} is not timm's feature map"
    return [{"module": name, "stride": stride} for name, stride in zip(names, strides)]


def sample(values: torch.Tensor, most: int = TAP_VALUES) -> np.ndarray:
    # Multiples of 2^64 over the golden ratio spread over rows, columns and channels. With equal
    # steps and a round number of channels, all samples would come from a few pixels.
    flat = values.reshape(-1)
    index = range(flat.numel())
    if flat.numel() > most:
        index = [(j * SCATTER % 2**64) % flat.numel() for j in range(most)]
    return flat[list(index)].float().numpy()


# --- tasks ------------------------------------------------------------------


class Classification:
    """How networks of a task are run, and which outputs are stored."""

    # The sizes of the crops for the statistics, (width, height).
    crop_sizes = [(224, 224), (192, 160), (131, 97)]

    def input(self, image: Image.Image, mean: list[float], std: list[float]) -> torch.Tensor:
        return network_input(image, mean, std)

    def forward(self, model: nn.Module, batch: torch.Tensor):
        """Runs the network on a normalised batch, without postprocessing."""
        output = model(batch)
        return output if isinstance(output, torch.Tensor) else output.logits

    def outputs(self, model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """All outputs of the library for one case's input."""
        return {"out": self.forward(model, x)}

    def stored(self, outputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """The values that are stored for a case."""
        return {"out": outputs["out"].float().numpy()}

    def check(self, model: nn.Module, in_f64: list[dict], in_f32: list[dict]) -> None:
        """Print key figures, and refuse outputs that a wrong network could produce too."""
        logits = [outputs["out"] for outputs in in_f64]
        best = [values[0].topk(6) for values in logits]
        spread = [values.std().item() for values in logits]
        # The smallest gap between the best six logits, and the error of f32.
        gap = min((-b.values.diff()).min().item() / s for b, s in zip(best, spread))
        error = max(distance(a["out"], b) for a, b in zip(in_f32, logits))
        print(
            f"    logits std {', '.join(f'{s:.2f}' for s in spread)}; "
            f"smallest gap in the top 6: {gap:.1e} std; f32 error {error:.1e}\n"
            f"    top 5 {' '.join(str(b.indices[:5].tolist()) for b in best)}"
        )
        assert all(0.5 < s < 20 for s in spread), "badly scaled logits"
        assert gap > 5e-4, "nearly a tie: choose another linear_bias"
        if len(best) > 1:
            top = {tuple(b.indices[:5].tolist()) for b in best}
            assert len(top) > 1, "the output does not depend on the picture"


class Segmentation(Classification):
    def forward(self, model, batch):
        return model(batch)["out"]

    def stored(self, outputs):
        out = outputs["out"]
        labels = out[0].argmax(0).numpy().astype(np.uint8)
        return {"out": sample(out, OUTPUT_VALUES), "labels": labels}

    def check(self, model, in_f64, in_f32):
        for exact, plain in zip(in_f64, in_f32):
            out = exact["out"][0]
            labels = out.argmax(0)
            best = out.topk(2, dim=0).values
            fractions = labels.flatten().bincount().sort(descending=True).values / labels.numel()
            # The fraction of adjacent pixels with different labels: large if labels are noise.
            borders = (labels[:, 1:] != labels[:, :-1]).double().mean()
            flips = (plain["out"][0].argmax(0) != labels).sum()
            print(
                f"    {(fractions > 0).sum()} labels, {fractions[0]:.0%} the most common, "
                f"{borders:.1%} borders; logits std {out.std():.2f}; "
                f"f32 error {distance(plain['out'], exact['out']):.1e}, with {flips} other labels; "
                f"smallest gap {(best[0] - best[1]).min():.1e}"
            )
            assert (fractions > 0.01).sum() >= 4 and fractions[0] < 0.7, "too few labels"
            assert borders < 0.2, "the labels are noise"
            assert flips == 0, "a tie"


class SmallSegmentation(Segmentation):
    """Segmentation in transformers, which scales the logits outside the network."""

    def forward(self, model, batch):
        return model(batch).logits

    def outputs(self, model, x):
        out = self.forward(model, x)
        size = x.shape[-2:]
        scaled = nn.functional.interpolate(out, size=size, mode="bilinear", align_corners=False)
        return {"out": out, "scaled": scaled}

    def stored(self, outputs):
        labels = super().stored({"out": outputs["scaled"]})["labels"]
        return {"out": sample(outputs["out"], OUTPUT_VALUES), "labels": labels}

    def check(self, model, in_f64, in_f32):
        super().check(model, *[[{"out": a["scaled"]} for a in each] for each in (in_f64, in_f32)])


class Detection(Classification):
    crop_sizes = [(320, 320)]

    def input(self, image, mean, std):
        # The model normalises and resizes its input itself.
        return torch.from_numpy(levels(image)).permute(2, 0, 1).contiguous()

    def forward(self, model, batch):
        return model.head(list(model.backbone(batch).values()))

    def outputs(self, model, x):
        inside = {}
        keep_head = lambda _module, _inputs, output: inside.update(output)
        keep_anchors = lambda _module, _inputs, output: inside.update(anchors=output[0])
        hooks = [
            model.head.register_forward_hook(keep_head),
            model.anchor_generator.register_forward_hook(keep_anchors),
        ]
        found = model([x])[0]
        for hook in hooks:
            hook.remove()
        return inside | found

    def stored(self, outputs):
        return {
            "cls_logits": sample(outputs["cls_logits"], OUTPUT_VALUES),
            "bbox_regression": sample(outputs["bbox_regression"], OUTPUT_VALUES),
            "boxes": outputs["boxes"].float().numpy(),
            "scores": outputs["scores"].float().numpy(),
            "classes": outputs["labels"].numpy().astype(np.uint8),
        }

    def check(self, model, in_f64, in_f32):
        for exact, plain in zip(in_f64, in_f32):
            scores, labels = exact["scores"], exact["labels"]
            probabilities = exact["cls_logits"][0].softmax(-1)[:, 1:]
            passed = (probabilities > model.score_thresh).sum(0)
            uncut, _ = self.under(model, exact, detections_per_img=10**6)
            _, all_tried = self.under(model, exact, topk_candidates=10**6)
            common = [dict(Counter(each.tolist()).most_common(3)) for each in (labels, all_tried)]
            # Including the first dropped detection: its order must be stable too.
            gap = min((-uncut[: len(scores) + 1].diff()).tolist(), default=1)
            margin = (probabilities / model.score_thresh - 1).abs().min()
            ends = ", ".join(f"{score:.3g}" for score in (*scores[:1], *scores[-1:]))
            print(
                f"    {passed.sum()} candidates, {passed.max()} of one class; {len(uncut)} after "
                f"suppression; {len(scores)} kept, scores {ends}\n"
                f"        most common {common[0]}, without a limit on candidates {common[1]}\n"
                f"        smallest gap {gap:.1e}; smallest distance to the score threshold {margin:.1e} "
                f"of it, to the overlap threshold {self.nearest_overlap(model, exact):.1e}; "
                f"f32 error {distance(plain['cls_logits'], exact['cls_logits']):.1e}"
            )
            assert torch.equal(plain["labels"], labels), "f32 finds other objects"
            assert torch.allclose(plain["boxes"].double(), exact["boxes"], atol=0.01)
            assert gap > 1e-6, "nearly a tie: choose other lifts"

    def under(self, model, outputs, **limits) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and labels of the detections with other limits than the model's."""
        own = {name: getattr(model, name) for name in limits}
        vars(model).update(limits)
        head = {key: outputs[key] for key in ("cls_logits", "bbox_regression")}
        found = model.postprocess_detections(head, [outputs["anchors"]], [(320, 320)])[0]
        vars(model).update(own)
        return found["scores"], found["labels"]

    def nearest_overlap(self, model, outputs) -> float:
        """The smallest distance from the overlap threshold, over detections and lower-scored candidates."""
        boxes = model.box_coder.decode_single(outputs["bbox_regression"][0], outputs["anchors"])
        boxes = torchvision.ops.clip_boxes_to_image(boxes, (320, 320))
        probabilities = outputs["cls_logits"][0].softmax(-1)
        scores, labels = outputs["scores"], outputs["labels"]
        # Candidates below the last detection are dropped in any case.
        least = scores[-1] if len(scores) == model.detections_per_img else model.score_thresh
        nearest = 1.0
        for score, label in zip(scores, labels):
            of_class = probabilities[:, label]
            candidates = of_class.topk(model.topk_candidates)
            lesser = candidates.indices[(candidates.values < score) & (candidates.values > least)]
            itself = (of_class == score).nonzero()[0]
            overlaps = torchvision.ops.box_iou(boxes[itself], boxes[lesser]).flatten()
            nearest = min([nearest, *(overlaps - model.nms_thresh).abs().tolist()])
        return nearest


CLASSIFICATION, SEGMENTATION, DETECTION = Classification(), Segmentation(), Detection()
SMALL_SEGMENTATION = SmallSegmentation()


def distance(values: torch.Tensor, exact: torch.Tensor) -> float:
    return ((values - exact).norm() / exact.norm()).item()


# --- the networks -----------------------------------------------------------


@dataclass
class Source:
    """A network from its library, with the library's initial weights."""

    model: nn.Module
    mean: list[float]
    std: list[float]
    files: dict[str, dict]
    task: Classification = CLASSIFICATION

    def forward(self, batch: torch.Tensor):
        return self.task.forward(self.model, batch)

    def outputs(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.task.outputs(self.model, x)


def from_torchvision(name: str, **options) -> Source:
    model = getattr(torchvision.models, name)(weights=None, **options)
    return Source(model.eval(), *IMAGENET, files={})


def from_segmentation(name: str, **options) -> Source:
    build = getattr(torchvision.models.segmentation, name)
    model = build(weights=None, weights_backbone=None, num_classes=21, **options)
    return Source(model.eval(), *IMAGENET, files={}, task=SEGMENTATION)


def from_detection(name: str) -> Source:
    build = getattr(torchvision.models.detection, name)
    model = build(weights=None, weights_backbone=None, num_classes=91).eval()
    transform = model.transform
    return Source(model, transform.image_mean, transform.image_std, files={}, task=DETECTION)


def from_timm(name: str) -> Source:
    model = timm.create_model(name, pretrained=False).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        save_config_for_hf(model, str(path))
        config = json.loads(path.read_text())
    preprocessing = config["pretrained_cfg"]
    return Source(model, preprocessing["mean"], preprocessing["std"], {"config.json": config})


def from_transformers(
    version: int, image_size: int = 224, head: str = "ImageClassification", **options
) -> Source:
    family = f"MobileNetV{version}"
    # 1001 because the published checkpoints have a background class with index 0.
    options = {"num_labels": 1001} | options
    config = getattr(transformers, f"{family}Config")(image_size=image_size, **options)
    model = getattr(transformers, f"{family}For{head}")(config).eval()
    # Shorter side 32 above the crop, like the library's conversion of the checkpoints.
    processor = getattr(transformers, f"{family}ImageProcessor")(
        size={"shortest_edge": image_size + 32},
        crop_size={"height": image_size, "width": image_size},
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        names = ["config.json", "preprocessor_config.json"]
        files = {name: json.loads((Path(folder) / name).read_text()) for name in names}
    task = SMALL_SEGMENTATION if head == "SemanticSegmentation" else CLASSIFICATION
    return Source(model, list(processor.image_mean), list(processor.image_std), files, task)


@dataclass
class Network:
    arch: str
    build: Callable[[], Source]
    suffix: str = ""
    pictures: tuple[str, ...] = tuple(CUTS)
    taps: bool = True
    # Modules without a tap, by patterns of names: their outputs are redundant.
    untapped: tuple[str, ...] = ()
    # Set to another value if two of the best six logits are nearly equal.
    linear_bias: float = 0.1
    # Changed fields of the recipe, by patterns of keys.
    fills: dict[str, dict] = field(default_factory=dict)
    # Height and width of the input for counting multiply-adds.
    size: tuple[int, int] = (224, 224)

    @property
    def name(self) -> str:
        return self.arch.replace("/", "-") + self.suffix


def torchvision_network(name: str, **fields) -> Network:
    return Network(f"torchvision/{name}", lambda: from_torchvision(name), **fields)


def segmentation_network(name: str, options: dict | None = None, **fields) -> Network:
    build = lambda: from_segmentation(name, **(options or {}))
    return Network(f"torchvision/{name}", build, size=(520, 520), **fields)


def detector(suffix: str = "", *, background: float, crowd: float, **fields) -> Network:
    """An SSDLite with lifted biases: a higher `background` (class 0) gives fewer detections, a higher
    `crowd` gives more detections of class 17."""
    name = "ssdlite320_mobilenet_v3_large"
    lifts = [
        {"first": 0, "every": 91, "by": background},
        {"first": 17, "every": 91, "by": crowd},
    ]
    fills = {"head.classification_head.module_list.[0-5].1.bias": {"lifts": lifts}}
    build = lambda: from_detection(name)
    return Network(f"torchvision/{name}", build, suffix, size=(320, 320), fills=fills, **fields)


def timm_network(name: str, **fields) -> Network:
    return Network(f"timm/{name}", lambda: from_timm(name), **fields)


def transformers_network(version: int) -> Network:
    return Network(f"transformers/mobilenet_v{version}", lambda: from_transformers(version))


def transformers_segmentation(**fields) -> Network:
    """Like google/deeplabv3_mobilenet_v2_1.0_513, with a smaller width."""
    options = dict(num_labels=21, output_stride=8, finegrained_output=False, depth_multiplier=0.35)
    # The pooled branch is constant over the picture: with larger values, most pixels would get one label.
    fills = {"segmentation_head.conv_pool.normalization.*": {"offset": 0.05, "scale": 0.05}}
    build = lambda: from_transformers(2, 513, "SemanticSegmentation", **options)
    fields |= dict(size=(513, 513), fills=fills)
    return Network("transformers/mobilenet_v2", build, "_segmentation", **fields)


def torchvision_width(width: float) -> Network:
    build = lambda: from_torchvision("mobilenet_v2", width_mult=width)
    return Network("torchvision/mobilenet_v2", build, suffix=f"-w{width}")


def transformers_width(version: int, width: float) -> Network:
    build = lambda: from_transformers(version, depth_multiplier=width)
    return Network(f"transformers/mobilenet_v{version}", build, suffix=f"-w{width}")


ONE_CASE = dict(pictures=(SMALL,), taps=False)
SMOOTHED = dict(
    pictures=("cat_224.png", SMALL),
    untapped=("*.conv", "*.drop", "*.drop_path", "*.act", "*.se", "*.layer_scale", "*.dw_end"),
)

GOLDEN = [
    torchvision_network("mobilenet_v2"),
    torchvision_network("mobilenet_v3_large"),
    torchvision_network("mobilenet_v3_small"),
    timm_network("mobilenetv1_100"),
    timm_network("mobilenetv2_050"),
    timm_network("mobilenetv2_140"),
    timm_network("mobilenetv3_large_100", linear_bias=0.2),
    timm_network("mobilenetv3_small_050"),
    timm_network("tf_mobilenetv3_large_100"),
    timm_network("tf_mobilenetv3_small_minimal_100"),
    transformers_network(1),
    transformers_network(2),
    timm_network("tf_mobilenetv3_large_minimal_100", **ONE_CASE),
    timm_network("mobilenetv2_110d", **ONE_CASE),
    timm_network("mobilenetv1_100h", **ONE_CASE),
    torchvision_network("resnet18", pictures=(SMALL,)),
    torchvision_network("resnet50", pictures=(SMALL,)),
    timm_network("mobilenetv4_conv_small"),
    timm_network("mobilenetv4_conv_small_050", **ONE_CASE),
    timm_network("mobilenetv4_conv_medium", size=(256, 256), **ONE_CASE),
    timm_network("mobilenetv4_conv_large", size=(384, 384), **ONE_CASE),
    timm_network("mobilenetv4_conv_aa_medium", size=(256, 256), **SMOOTHED),
    timm_network("mobilenetv4_conv_blur_medium", size=(224, 224), **SMOOTHED),
    segmentation_network("lraspp_mobilenet_v3_large"),
    # With the auxiliary head, like the published checkpoint.
    segmentation_network(
        "deeplabv3_mobilenet_v3_large", {"aux_loss": True}, pictures=(COFFEE, SMALL)
    ),
    transformers_segmentation(pictures=(COFFEE, SMALL)),
    # One class exceeds the limit of 300 candidates, and all together exceed 300 detections.
    detector(background=15.5, crowd=7.5, pictures=(COFFEE, SMALL)),
    detector("-quiet", background=23, crowd=5, taps=False),
    detector("-silent", background=32, crowd=0, **ONE_CASE),
]

COUNTED = [
    *[torchvision_width(width) for width in (0.35, 0.5, 0.75, 1.4)],
    timm_network("mobilenetv3_rw"),
    timm_network("mobilenetv1_125"),
    timm_network("mobilenetv3_large_150d"),
    timm_network("mobilenetv4_conv_aa_large", size=(384, 384)),
    timm_network("tf_mobilenetv3_small_075"),
    transformers_width(1, 0.25),
    transformers_width(1, 0.75),
    transformers_width(2, 0.35),
    transformers_width(2, 1.4),
]


# --- writing ----------------------------------------------------------------


def compact(value) -> str:
    return json.dumps(value, separators=(",", ":"))


def lines(entries: list) -> str:
    """A JSON list with one entry per line, for readable diffs."""
    return "[\n" + ",\n".join("  " + compact(entry) for entry in entries) + "\n]"


def write_json(path: Path, fields: dict) -> None:
    parts = []
    for key, value in fields.items():
        if key in ("tensors", "cases", "features", "plain") and value:
            text = lines(value)
        elif key == "taps" and value:
            text = f'{{"case":{value["case"]},"modules":{lines(value["modules"])}}}'
        else:
            text = compact(value)
        parts.append(f'"{key}":{text}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def write_golden(network: Network) -> None:
    source = network.build()
    model, task = source.model, source.task
    macs = count_macs(source, network.size)
    parameters = sum(p.numel() for p in model.parameters())
    tensors = seed_weights(source, network.linear_bias, network.fills)
    calibrate(source)
    stored = {}
    for key, tensor in model.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            stored[f"stat/{key}"] = tensor.numpy().astype(np.float16)

    mean, std = source.mean, source.std
    inputs = [task.input(picture(name), mean, std) for name in network.pictures]
    in_f32 = [source.outputs(x.float()) for x in inputs]
    model.double()
    in_f64 = [source.outputs(x.double()) for x in inputs]
    for case, found in enumerate(in_f64):
        stored |= {f"{name}/{case}": values for name, values in task.stored(found).items()}
    if task is DETECTION and network.taps:
        stored["anchors"] = in_f64[0]["anchors"].float().numpy()

    taps = None
    if network.taps:
        case = network.pictures.index(SMALL)
        outputs = tap_modules(source, inputs[case].double())
        for pattern in network.untapped:
            outputs = {n: value for n, value in outputs.items() if not fnmatch(n, pattern)}
        modules = [{"name": name, "shape": list(v.shape)} for name, v in outputs.items()]
        taps = {"case": case, "modules": modules}
        stored |= {f"tap/{name}": sample(value) for name, value in outputs.items()}

    fields = {
        "arch": network.arch,
        "files": source.files,
        "dtype": "F32",
        "tensors": tensors,
        "parameters": parameters,
        "macs": macs,
    }
    if network.size != (224, 224):
        fields["input"] = network.size
    fields["cases"] = [{"picture": name, "mean": mean, "std": std} for name in network.pictures]
    fields["taps"] = taps
    if network.taps and network.arch.startswith("timm/"):
        fields["features"] = feature_modules(source, inputs[taps["case"]].double(), outputs)

    NETWORKS.mkdir(parents=True, exist_ok=True)
    save_file(stored, NETWORKS / f"{network.name}.safetensors")
    write_json(NETWORKS / f"{network.name}.json", fields)
    report(network.name, parameters, macs, stored)
    task.check(model, in_f64, in_f32)


def report(name: str, parameters: int, macs: int, stored: dict[str, np.ndarray]) -> None:
    variances = np.concatenate([v for k, v in stored.items() if k.endswith("running_var")])
    taps = sum(key.startswith("tap/") for key in stored)
    size = (NETWORKS / f"{name}.safetensors").stat().st_size
    print(
        f"{name}: {parameters:,} parameters, {macs / 1e6:.3f} M MACs, {size:,} bytes\n"
        f"    variances {variances.min():.3g} to {variances.max():.3g}; {taps} taps"
    )
    assert all(np.isfinite(value).all() for value in stored.values()), "not finite"


def write_counts(network: Network) -> None:
    source = network.build()
    parameters = sum(p.numel() for p in source.model.parameters())
    macs = count_macs(source, network.size)
    state = source.model.state_dict()
    write_json(
        COUNTS / f"{network.name}.json",
        {
            "arch": network.arch,
            "files": source.files,
            "dtype": "F32",
            "tensors": [{"key": key, "shape": list(t.shape)} for key, t in state.items()],
            "parameters": parameters,
            "macs": macs,
            "cases": [],
            "taps": None,
        },
    )
    print(f"{network.name}: {parameters:,} parameters, {macs / 1e6:.3f} M MACs")


def write_seeded_checkpoint() -> None:
    """An untrained checkpoint in the hub's layout, for first commands without a download."""
    source = from_transformers(1, image_size=128, depth_multiplier=0.25)
    seed_weights(source)
    # Rounded first: the statistics must match the rounded weights in the file.
    source.model.half().float()
    calibrate(source)
    folder = ASSETS / "seeded"
    source.model.half().save_pretrained(folder)
    text = json.dumps(source.files["preprocessor_config.json"], indent=2)
    (folder / "preprocessor_config.json").write_text(text + "\n")
    print(f"assets/seeded: {sum(f.stat().st_size for f in folder.iterdir()):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="?", default="", help="make only names that contain this")
    only = parser.parse_args().only

    torch.set_num_threads(1)  # deterministic sums
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    cut_pictures()
    for networks, write in [(GOLDEN, write_golden), (COUNTED, write_counts)]:
        for network in networks:
            if only in network.name:
                write(network)
    if only in "seeded":
        write_seeded_checkpoint()


if __name__ == "__main__":
    main()
