#!/usr/bin/env python3
"""Train the supernet of `goldcrest search` on the scenes that Goldcrest draws.

    python3 -m venv .venv
    .venv/bin/pip install torch torchvision==0.29.* safetensors ofa
    cargo build --release --example scenes
    .venv/bin/python scripts/train_supernet.py            # 45 minutes on two idle cores
    .venv/bin/python scripts/train_supernet.py --measure  # no training: measure the existing supernet

The supernet is `OFAMobileNetV3` of the package `ofa` (https://github.com/mit-han-lab/once-for-all,
arXiv 1908.09791): MobileNetV3's blocks with kernels of 3, 5 or 7, expansions of 3, 4 or 6 and stages of 2 to
4 blocks that share their weights. This script adds two dimensions that need no further weights: a width, which
uses the first channels of every stage, and squeeze-excite on or off in the stages that have it. `config.json`
lists the choices.

A step trains four networks on the same scenes (the sandwich rule, arXiv 1903.05134): the largest on the true
classes; the smallest and two random networks on the outputs of the largest. The first third of the steps trains
only the largest. A head that labels each pixel is trained with it and then discarded: a classifier alone learns
slowly.

Scenes are drawn at 224 pixels and scaled to the input size, like all pictures for the network. Seeds from 10^9 on
are only for measurement and search (`demo::HELD_OUT`, `demo::SEARCHED`). A run is seeded, but torch's
multithreaded sums are not deterministic. An interrupted run continues from `--state`.
"""

import argparse
import dataclasses
import json
import pathlib
import random
import time

import numpy as np
import torch
from ofa.imagenet_classification.elastic_nn.modules import dynamic_op
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from ofa.utils import make_divisible
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from train_demo import HELD_OUT, SHAPES, pictures, scenes

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "assets/supernet"
MULTIPLIER, BATCH, THREADS = 0.5, 64, 2
SPACE = {
    "kernels": [3, 5, 7],
    "expansions": [3, 4, 6],
    "depths": [2, 3, 4],
    "widths": [0.5, 0.75, 1.0],
    "squeeze": [False, True],
}


@dataclasses.dataclass
class Task:
    """The scenes to train on."""

    hard: bool
    # The height and width of drawn scenes (EASY: the same as in `search::Samples::scenes`), and the input sizes.
    drawn: int
    sizes: list

    def scenes(self, first, count, batch=BATCH):
        return scenes(self.drawn, first, count, batch, self.hard)

    def random_size(self, chance):
        """Draws an input size. Small sizes are faster, so they are drawn more often."""
        return chance.choices(self.sizes, [size**-2 for size in self.sizes])[0]


EASY = Task(hard=False, drawn=224, sizes=[96, 128, 160, 192, 224])
# For `compare_searched.py`: EASY scenes do not tell good networks apart.
HARD = Task(hard=True, drawn=128, sizes=[128])


class Squeeze(dynamic_op.DynamicSE):
    """Squeeze-excite that can be switched off."""

    def forward(self, x):
        return super().forward(x) if self.used else x


class Supernet(OFAMobileNetV3):
    """OFA's supernet with widths and optional squeeze-excite."""

    def __init__(self):
        elastic = dict(ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4])
        super().__init__(len(SHAPES), bn_param=(0.1, 1e-5), dropout_rate=0.1, width_mult=MULTIPLIER, **elastic)
        for block in self.blocks[1:]:
            if block.conv.use_se:
                block.conv.depth_conv.se.__class__ = Squeeze

    def channels(self):
        """The channels of the maps that the mask head reads, of strides 8 and 16."""
        return [self.stages()[i][0].active_out_channel for i in (1, 3)]

    def stages(self):
        return [[self.blocks[i].conv for i in stage] for stage in self.block_group_info]

    def choose(self, subnet):
        """Activates a subnet."""
        for i, stage in enumerate(self.stages()):
            self.runtime_depth[i] = subnet["depths"][i]
            for j, block in enumerate(stage):
                block.active_kernel_size = subnet["kernels"][i][j]
                block.active_expand_ratio = subnet["expansions"][i][j]
                block.active_out_channel = make_divisible(block.out_channels * subnet["width"], 8)
                if block.use_se:
                    block.depth_conv.se.used = subnet["squeeze"][i]

    def features(self, x):
        """The maps that the mask head reads, and the map of the final expansion."""
        maps = []
        x = self.blocks[0](self.first_conv(x))
        for stage, depth in zip(self.block_group_info, self.runtime_depth):
            for i in stage[:depth]:
                x = self.blocks[i](x)
            maps.append(x)
        last = self.final_expand_layer
        x = F.conv2d(x, last.conv.weight[:, : x.shape[1]])
        return [maps[1], maps[3]], last.act(last.bn(x))

    def classify(self, last):
        x = self.feature_mix_layer(last.mean((2, 3), keepdim=True))
        return self.classifier(x.flatten(1))

    def forward(self, x):
        return self.classify(self.features(x)[1])


def same(choice):
    """Builds a subnet by applying `choice` to each list of values: max, min, or a random choice."""
    each = lambda name: [[choice(SPACE[name]) for _ in range(4)] for _ in range(5)]
    return {
        "kernels": each("kernels"),
        "expansions": each("expansions"),
        "depths": [choice(SPACE["depths"]) for _ in range(5)],
        "squeeze": [choice(SPACE["squeeze"]) for _ in range(5)],
        "width": choice(SPACE["widths"]),
    }


class Masks(nn.Module):
    """The mask head, which labels each pixel with its shape."""

    def __init__(self, low, high):
        super().__init__()
        classes = 1 + len(SHAPES)
        self.low, self.high = nn.Conv2d(low, classes, 1), nn.Conv2d(high, 64, 1, bias=False)
        self.norm, self.out = nn.BatchNorm2d(64), nn.Conv2d(64, classes, 1)

    def loss(self, low, high, mask):
        high = self.out(F.relu(self.norm(self.high(high))))
        scores = self.low(low) + F.interpolate(high, size=low.shape[-2:], mode="bilinear")
        # One label per pixel of the map, by subsampling the mask.
        step = mask.shape[-1] // scores.shape[-1]
        mask = mask[:, step // 2 :: step, step // 2 :: step][:, : scores.shape[-2], : scores.shape[-1]]
        weights = torch.ones(scores.shape[1])
        weights[0] = 0.3
        return F.cross_entropy(scores, mask, weight=weights)


def scaled(x, size):
    """Scales pictures like the network's preprocessing."""
    if size == x.shape[-1]:
        return x
    x = F.interpolate(x.float(), size=(size, size), mode="bilinear", antialias=True)
    return x.contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------- training


class Run:
    """A training run with the state that is needed to resume it."""

    def __init__(self, task, net, images, state, seed=1, many=True):
        self.task, self.net = task, net.to(memory_format=torch.channels_last).train()
        # True: train several subnets of a supernet per step. False: train one fixed network.
        self.many = many
        self.random, self.first = random.Random(seed), (seed - 1) * 50_000_000
        self.masks = Masks(*net.channels())
        parameters = [*self.net.parameters(), *self.masks.parameters()]
        vectors = [p for p in parameters if p.ndim == 1]
        # Kernel transforms start as identity matrices; weight decay would pull them to zero.
        matrices = [p for name, p in self.net.named_parameters() if name.endswith("_matrix")]
        plain = {id(p) for p in vectors + matrices}
        others = [p for p in parameters if id(p) not in plain]
        groups = [{"params": vectors + matrices, "weight_decay": 0.0}, {"params": others, "weight_decay": 0.02}]
        self.steps, self.step, self.spent, self.path = images // BATCH, 0, 0.0, state
        self.optimiser = torch.optim.AdamW(groups)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, 3e-3, total_steps=self.steps, pct_start=0.15, cycle_momentum=False
        )
        if state.exists():
            self.load(torch.load(state, weights_only=False))

    def parts(self):
        return {"net": self.net, "masks": self.masks, "optimiser": self.optimiser, "schedule": self.schedule}

    def save(self):
        state = {name: part.state_dict() for name, part in self.parts().items()}
        state |= {"step": self.step, "steps": self.steps, "spent": self.spent}
        state |= {"random": self.random.getstate(), "torch": torch.get_rng_state()}
        beside = self.path.with_suffix(".new")
        torch.save(state, beside)
        beside.replace(self.path)

    def load(self, state):
        assert state["steps"] == self.steps, f"{self.path} is of a run of {state['steps'] * BATCH} scenes"
        for name, part in self.parts().items():
            nn.Module.load_state_dict(part, state[name]) if name == "net" else part.load_state_dict(state[name])
        self.step, self.spent = state["step"], state["spent"]
        self.random.setstate(state["random"])
        torch.set_rng_state(state["torch"])

    def all(self):
        begun, mean, right = time.time() - self.spent, None, 0.0
        for scene in self.task.scenes(self.first + self.step * BATCH, (self.steps - self.step) * BATCH):
            loss, share = self.one(scene)
            self.step += 1
            mean = loss if mean is None else mean + 0.02 * (loss - mean)
            right += 0.02 * (share - right)
            self.spent = time.time() - begun
            if self.step % 50 == 0:
                done = f"{self.step}/{self.steps}, loss {mean:.4f}, right {right:.3f}, {self.spent:.0f} s"
                print(done, flush=True)
            if self.step % 200 == 0 or self.step == self.steps:
                self.save()

    def one(self, scene):
        """Trains one step. Returns the loss and the accuracy of the (largest) network."""
        x = scaled(pictures(scene), self.task.random_size(self.random))
        subject = torch.from_numpy(scene["subject"].astype(np.int64))
        mask = torch.from_numpy(scene["mask"].astype(np.int64))
        self.optimiser.zero_grad()
        if self.many:
            self.net.choose(same(max))
        maps, last = self.net.features(x)
        scores = self.net.classify(last)
        loss = F.cross_entropy(scores, subject, label_smoothing=0.05)
        (loss + self.masks.loss(*maps, mask)).backward()
        if self.many and self.step * 3 >= self.steps:
            soft = scores.detach().softmax(1)
            for choice in [min, self.random.choice, self.random.choice]:
                self.net.choose(same(choice))
                F.cross_entropy(self.net(x), soft).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        self.schedule.step()
        return loss.item(), scores.argmax(1).eq(subject).float().mean().item()


# ---------------------------------------------------------------- output


def calibrate(task, net, size, first=0, count=1024):
    """Recomputes the batch-norm statistics of the active subnet on training scenes."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    net.classifier.eval()
    with torch.no_grad():
        for scene in task.scenes(first, count):
            net(scaled(pictures(scene), size))
    net.eval()


def right(task, net, size, count):
    """The accuracy of a network on `count` held-out scenes."""
    found = 0
    with torch.no_grad():
        for scene in task.scenes(HELD_OUT, count, 50):
            found += int((net(scaled(pictures(scene), size)).argmax(1).numpy() == scene["subject"]).sum())
    return found / count


def save(net):
    """Writes the checkpoint: matrices and kernels in f16, vectors in f32, batch norms of the largest subnet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    net.choose(same(max))
    calibrate(EASY, net, max(EASY.sizes))
    state = {}
    for key, value in net.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            state[key] = (value.half() if value.ndim > 1 else value).contiguous()
    save_file(state, FOLDER / "model.safetensors")
    config = {
        "architecture": "ofa/mobilenet_v3",
        "num_classes": len(SHAPES),
        "label_names": SHAPES,
        "pretrained_cfg": {
            "input_size": [3, EASY.drawn, EASY.drawn],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
        },
        "supernet": SPACE | {"sizes": EASY.sizes},
    }
    (FOLDER / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def measure():
    """Measures the accuracy of subnets on held-out scenes, with recalibrated batch norms."""
    net = Supernet()
    state = net.state_dict() | {k: v.float() for k, v in load_file(FOLDER / "model.safetensors").items()}
    chance = random.Random(7)
    found = []
    for choice in [max, min, *[chance.choice] * 6]:
        subnet = same(choice)
        for size in [96, 128, 160, 224] if choice in (max, min) else [chance.choice(EASY.sizes)]:
            nn.Module.load_state_dict(net, state)
            net.choose(subnet)
            calibrate(EASY, net, size)
            top1 = right(EASY, net, size, 1000)
            found.append({**subnet, "size": size, "top1": top1})
            print(size, subnet["width"], subnet["depths"], top1, flush=True)
    quality = {"seeds": [HELD_OUT, HELD_OUT + 1000], "drawn": EASY.drawn, "subnets": found}
    (FOLDER / "quality.json").write_text(json.dumps(quality) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="do not train, only measure")
    parser.add_argument("--images", type=int, default=75_000, help="scenes to train on")
    parser.add_argument("--state", type=pathlib.Path, default=ROOT / "target/supernet.pt", help="file with the training state")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if not arguments.measure:
        torch.manual_seed(1)
        run = Run(EASY, Supernet(), arguments.images, arguments.state)
        run.all()
        save(run.net)
    measure()


if __name__ == "__main__":
    main()
