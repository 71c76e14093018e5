#!/usr/bin/env python3
"""Train fixed networks on hard scenes: MobileNetV3-Small, and the results of `goldcrest search`.

    .venv/bin/pip install torch torchvision==0.29.* safetensors ofa
    cargo build --release --example scenes
    goldcrest bench --weights assets/demo/classify --backend cpu    # MobileNetV3-Small of ten classes: the time to search for
    goldcrest search --within 0.5ms --sizes 128 --backend cpu --out target/found
    .venv/bin/python scripts/compare_searched.py mobilenet_v3_small target/found --seeds 1,2,3

Every network is trained from scratch with the recipe of `train_supernet.py`: the same scenes, budget, optimiser and
mask head, without distillation. Scenes are scaled to a searched network's input size, if that is smaller. A seed changes the initial weights and the scenes. Prints one JSON line per training
run, with the accuracy on held-out scenes.
"""

import argparse
import dataclasses
import json
import pathlib

import torch
from torch import nn
from torchvision.models import mobilenet_v3_small

from train_demo import SHAPES
from train_supernet import HARD, ROOT, THREADS, Run, Supernet, calibrate, right


class Small(nn.Module):
    """torchvision's MobileNetV3-Small, split into the parts that training uses."""

    # The last blocks at their resolution.
    LOW, HIGH = 3, 8

    def __init__(self):
        super().__init__()
        whole = mobilenet_v3_small(num_classes=len(SHAPES), dropout=0.1)
        self.layers, self.pool, self.classifier = whole.features, whole.avgpool, whole.classifier

    def channels(self):
        return [self.layers[i].out_channels for i in (self.LOW, self.HIGH)]

    def features(self, x):
        maps = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in (self.LOW, self.HIGH):
                maps.append(x)
        return maps, x

    def classify(self, last):
        return self.classifier(self.pool(last).flatten(1))

    def forward(self, x):
        return self.classify(self.features(x)[1])


def parsed(text):
    """Parses a subnet in the notation of `goldcrest search`: r160,w1,k3e4+k5e6+se,..."""
    size, width, *stages = text.split(",")
    subnet = {"size": int(size[1:]), "width": float(width[1:])}
    subnet |= {"kernels": [], "expansions": [], "depths": [], "squeeze": []}
    for stage in stages:
        cells = stage.split("+")
        subnet["squeeze"].append(cells[-1] == "se")
        cells = [cell[1:].split("e") for cell in cells if cell != "se"]
        subnet["depths"].append(len(cells))
        # Skipped blocks need values too.
        cells += [(3, 3)] * (4 - len(cells))
        subnet["kernels"].append([int(kernel) for kernel, _ in cells])
        subnet["expansions"].append([int(expansion) for _, expansion in cells])
    return subnet


def network(name):
    """A network, its input size, and an identifier: the subnet's text, because another search may write to the folder."""
    if name == "mobilenet_v3_small":
        return Small(), HARD.drawn, name
    text = json.loads((pathlib.Path(name) / "search.json").read_text())["finalists"][0]["subnet"]
    subnet = parsed(text)
    if subnet["size"] > HARD.drawn:
        raise SystemExit(f"{name}: is for {subnet['size']} pixels: search with --sizes {HARD.drawn} or less")
    net = Supernet()
    net.choose(subnet)
    return net, subnet["size"], text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="mobilenet_v3_small, or an output folder of `goldcrest search`")
    parser.add_argument("--seeds", default="1,2,3", help="one training run per seed")
    parser.add_argument("--images", type=int, default=75_000, help="scenes to train on")
    parser.add_argument("--held-out", type=int, default=4000, help="scenes to measure on")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    for seed in map(int, arguments.seeds.split(",")):
        for name in arguments.networks:
            torch.manual_seed(seed)
            net, size, identity = network(name)
            task = dataclasses.replace(HARD, sizes=[size])
            state = ROOT / f"target/compare-{identity}-{seed}.pt"
            run = Run(task, net, arguments.images, state, seed, many=False)
            run.all()
            calibrate(task, run.net, size)
            top1 = right(task, run.net, size, arguments.held_out)
            print(json.dumps({"network": name, "seed": seed, "seconds": round(run.spent), "top1": top1}), flush=True)


if __name__ == "__main__":
    main()
