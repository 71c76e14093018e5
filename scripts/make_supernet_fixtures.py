#!/usr/bin/env python3
"""Make the fixtures of supernets: the outputs of the package `ofa` for their subnets.

`tests/supernet.rs` compares the networks that `zoo::Supernet` extracts from a once-for-all supernet
with the package of its authors. This script runs the package and writes its outputs to
`tests/fixtures/supernets/`. Needs the packages of `make_fixtures.py`, and:

    .venv/bin/pip install ofa
    .venv/bin/python scripts/make_supernet_fixtures.py       # both
    .venv/bin/python scripts/make_supernet_fixtures.py w1.2  # names containing this

Nothing is downloaded, and it takes a minute.

The names are those of the published files; Goldcrest reads the supernet's choices from the name.
`ofa_mbv3_d234_e346_k357_w1.0` has 1000 classes and the current tensor names.
`ofa_mbv3_d234_e346_k357_w1.2` has 20 classes, to keep it small, and the tensor names of older
files, with `mobile_inverted_conv` in place of a block's `conv`.


Weights
-------
Weights follow the recipe in `make_fixtures.py`, with the keys in the JSON. Three kinds of tensors
are filled differently:

    kernel transforms          the identity plus noise: with the package's initial values, a wrong
                               transform would have no effect
    7x7 depthwise kernels      noise, plus 1 in the centre, where trained kernels are largest too:
                               the central 3x3 then has similar outputs, and the statistics of the
                               largest subnet fit it
    biases of the gates        a wide range, so that some gates are closed and some open

Batch-norm statistics are those of the largest subnet, measured as in `make_fixtures.py`.


tests/fixtures/supernets/NAME.json
----------------------------------
Like `tests/fixtures/networks/NAME.json`, with these differences:

    tensors     the tensors of the whole supernet
    parameters  of the largest subnet as a separate network
    macs        the same
    cases       each has two more fields:
                  "subnet"      text for `zoo::Subnet`: "r160,w1,k3e4+k5e6,..." is the size of the
                                picture, the width, and the blocks of each of the five stages, with
                                the suffix +se for a stage with squeeze-excite; the picture is not
                                scaled to that size
                  "calibrated"  true if the batch norms have the statistics of the subnet
    plain       key and shape of each tensor of the first case's subnet as a separate network, in
                state_dict order; only for w1.0

The statistics of a subnet come from one batch in training mode: each batch norm gets the mean and
the biased variance of its input, after all preceding batch norms got theirs. The batch is
cat_224.png, its left-right mirror, its upside-down mirror and the picture mirrored both ways, in
this order, normalised with the case's mean and std.

tests/fixtures/supernets/NAME.safetensors
-----------------------------------------
    stat/KEY   F16  running_mean and running_var of the supernet
    out/CASE   F32  logits [1, classes] of the case with index CASE, computed in f64
"""

import argparse
import copy
import random
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import numpy as np
import torch
from make_fixtures import (
    CUTS,
    IMAGENET,
    ROOT,
    Source,
    calibrate,
    count_macs,
    distance,
    fill_uniform,
    network_input,
    offset_and_scale,
    picture,
    shortest,
    write_json,
)
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from PIL import ImageOps
from safetensors.numpy import save_file
from torch import nn

SUPERNETS = ROOT / "tests/fixtures/supernets"

KERNELS, EXPANSIONS, DEPTHS = [3, 5, 7], [3, 4, 6], [2, 3, 4]
SIZES = [128, 160, 192, 224]
STAGES = 5
SQUEEZED = (1, 3, 4)  # indices of the stages with squeeze-excite


# --- subnets ----------------------------------------------------------------


@dataclass(frozen=True)
class Subnet:
    size: int
    # Kernel and expansion of each block, by stage.
    stages: tuple[tuple[tuple[int, int], ...], ...]

    def __str__(self) -> str:
        text = f"r{self.size},w1"
        for i, blocks in enumerate(self.stages):
            text += "," + "+".join(f"k{kernel}e{expansion}" for kernel, expansion in blocks)
            text += "+se" if i in SQUEEZED else ""
        return text

    def activate(self, supernet: OFAMobileNetV3) -> None:
        """Activate this subnet in the supernet."""
        unused = (max(KERNELS), max(EXPANSIONS))
        blocks = []
        for stage in self.stages:
            blocks += [*stage, *[unused] * (max(DEPTHS) - len(stage))]
        kernels, expansions = zip(*blocks)
        depths = [len(stage) for stage in self.stages]
        supernet.set_active_subnet(ks=list(kernels), e=list(expansions), d=depths)


def alike(size: int, kernel: int, expansion: int, depth: int) -> Subnet:
    return Subnet(size, (((kernel, expansion),) * depth,) * STAGES)


LARGEST = alike(max(SIZES), max(KERNELS), max(EXPANSIONS), max(DEPTHS))
SMALLEST = alike(min(SIZES), min(KERNELS), min(EXPANSIONS), min(DEPTHS))


def any_subnet(source: random.Random) -> Subnet:
    block = lambda: (source.choice(KERNELS), source.choice(EXPANSIONS))
    stage = lambda: tuple(block() for _ in range(source.choice(DEPTHS)))
    return Subnet(source.choice(SIZES), tuple(stage() for _ in range(STAGES)))


@dataclass(frozen=True)
class Case:
    subnet: Subnet
    picture: str
    calibrated: bool = False


@dataclass
class Supernet:
    width: float
    classes: int
    # Use the tensor names of older files.
    older: bool
    cases: list[Case]
    # List the tensors of the first case's subnet.
    plain: bool

    @property
    def name(self) -> str:
        return f"ofa_mbv3_d234_e346_k357_w{self.width}"

    def build(self) -> OFAMobileNetV3:
        return OFAMobileNetV3(
            n_classes=self.classes,
            dropout_rate=0,
            width_mult=self.width,
            ks_list=list(KERNELS),
            expand_ratio_list=list(EXPANSIONS),
            depth_list=list(DEPTHS),
        ).eval()

    def key(self, name: str) -> str:
        """A tensor's name in the file."""
        if self.older and name.startswith("blocks."):
            return name.replace(".conv.", ".mobile_inverted_conv.", 1)
        return name


def supernets() -> list[Supernet]:
    source = random.Random(1908_09791)  # once-for-all's number in arXiv
    pictures = list(CUTS)
    some = [any_subnet(source) for _ in range(6)]
    cases = [Case(subnet, pictures[i % 3]) for i, subnet in enumerate(some)]
    cases += [Case(SMALLEST, pictures[0]), Case(LARGEST, pictures[1])]
    own = [(some[0], pictures[1]), (some[4], pictures[2])]
    cases += [Case(subnet, name, calibrated=True) for subnet, name in own]
    few = [Case(any_subnet(source), pictures[0]), Case(LARGEST, pictures[2])]
    return [Supernet(1.0, 1000, False, cases, True), Supernet(1.2, 20, True, few, False)]


# --- weights ----------------------------------------------------------------


def fill(modules: dict[str, nn.Module], name: str) -> dict:
    """The offset, scale and lifts of a parameter."""
    module_name, _, leaf = name.rpartition(".")
    module = modules[module_name]
    if leaf.endswith("_matrix"):
        side = getattr(module, leaf).shape[0]
        lifts = [{"first": 0, "every": side + 1, "by": 1.0}]
        return {"offset": 0.0, "scale": 0.1, "lifts": lifts}
    if module_name.endswith(".depth_conv.conv.conv"):
        area = max(KERNELS) ** 2
        lifts = [{"first": area // 2, "every": area, "by": 1.0}]
        return {"offset": 0.0, "scale": 0.15, "lifts": lifts}
    if name.endswith(".se.fc.expand.bias"):
        return {"offset": 0.0, "scale": 4.0}
    # The activation is in the module of the batch norm, or in the package's module around it.
    outer = modules[module_name.removesuffix(".bn").removesuffix(".bn")]
    activated = getattr(outer, "act", None) is not None
    offset, scale = offset_and_scale(module_name, module, leaf, activated, linear_bias=0.1)
    return {"offset": shortest(offset), "scale": shortest(scale)}


def seed_weights(supernet: Supernet, model: nn.Module) -> list[dict]:
    """Fill the model by the recipe. Returns the recipe of each tensor."""
    modules = dict(model.named_modules())
    tensors = []
    for name, tensor in model.state_dict().items():
        key = supernet.key(name)
        entry = {"key": key, "shape": list(tensor.shape)}
        if name.endswith("num_batches_tracked"):
            entry |= {"fill": "int64"}
        elif name.endswith(("running_mean", "running_var")):
            entry |= {"fill": "stored"}
        else:
            how = fill(modules, name)
            fill_uniform(key, tensor, how)
            entry |= {"fill": "uniform"} | how
        tensors.append(entry)
    return tensors


# --- outputs of the package ---------------------------------------------------


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Create new networks in this dtype: the package creates a new network for a subnet and copies into it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


def separate(model: OFAMobileNetV3, subnet: Subnet) -> nn.Module:
    """A subnet as a separate network."""
    subnet.activate(model)
    with default_dtype(next(model.parameters()).dtype):
        return model.get_active_subnet().eval()


def mirrored() -> torch.Tensor:
    """The batch for the statistics of a subnet."""
    whole = picture("cat_224.png")
    both = ImageOps.flip(ImageOps.mirror(whole))
    images = [whole, ImageOps.mirror(whole), ImageOps.flip(whole), both]
    return torch.cat([network_input(image, *IMAGENET) for image in images])


def set_statistics(network: nn.Module) -> float:
    """Measure and set the statistics of a separate network. Returns the smallest variance."""
    least = []

    def measure(norm, inputs):
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        least.append(variance.min().item())

    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    network(mirrored().to(next(network.parameters()).dtype))
    for hook in hooks:
        hook.remove()
    return min(least)


def logits_of(model: OFAMobileNetV3, case: Case) -> torch.Tensor:
    """The logits of a case, in the model's precision."""
    x = network_input(picture(case.picture), *IMAGENET).to(next(model.parameters()).dtype)
    network = separate(model, case.subnet)
    if case.calibrated:
        least = set_statistics(network)
        print(f"    statistics of the subnet in {x.dtype}: variances from {least:.1e}")
        return network(x)
    logits = model(x)
    if x.dtype == torch.float64:
        error = distance(network(x), logits)
        assert error < 1e-9, f"the separate subnet has an error of {error:.1e}"
    return logits


def check(supernet: Supernet, model: OFAMobileNetV3, outputs: list[tuple]) -> None:
    """Print key figures, and refuse outputs that a wrong network could produce too."""
    for i, (case, (plain, exact)) in enumerate(zip(supernet.cases, outputs)):
        best = exact[0].topk(5).indices.tolist()
        print(
            f"    {i} {case.picture.split('_')[0]:6} std {exact.std():6.2f}, "
            f"f32 error {distance(plain, exact):.1e}, top 5 {best}"
            f"{', statistics of the subnet' if case.calibrated else ''}\n      {case.subnet}"
        )
        assert 0.2 < exact.std() < 50, "badly scaled logits"
        assert distance(plain, exact) < 1e-5, "the f32 error is too large"
    for subnet in {case.subnet: None for case in supernet.cases}:
        logits = [logits_of(model, Case(subnet, name)) for name in CUTS]
        best = {tuple(values[0].topk(5).indices.tolist()) for values in logits}
        assert len(best) > 1, f"the output does not depend on the picture: {subnet}"
    exact = [values for _, values in outputs]
    distances = [distance(b, a) for i, a in enumerate(exact) for b in exact[:i]]
    print(f"    smallest distance between two cases: {min(distances):.2f}")
    assert min(distances) > 1e-2, "two cases have nearly the same output"


# --- writing ----------------------------------------------------------------


def write(supernet: Supernet) -> None:
    model = supernet.build()
    tensors = seed_weights(supernet, model)
    LARGEST.activate(model)
    calibrate(Source(model, *IMAGENET, files={}))
    stored = {}
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            stored[f"stat/{supernet.key(name)}"] = tensor.numpy().astype(np.float16)

    # Check that the package can load these names.
    state, again = model.state_dict(), supernet.build()
    again.load_state_dict({supernet.key(name): tensor for name, tensor in state.items()})
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())

    largest = separate(model, LARGEST)
    parameters = sum(p.numel() for p in largest.parameters())
    macs = count_macs(Source(largest, *IMAGENET, files={}), (224, 224))

    in_f32 = [logits_of(model, case) for case in supernet.cases]
    model.double()
    in_f64 = [logits_of(model, case) for case in supernet.cases]
    for i, logits in enumerate(in_f64):
        stored[f"out/{i}"] = logits.float().numpy()
    assert all(np.isfinite(values).all() for values in stored.values()), "not finite"

    mean, std = IMAGENET
    fields = {
        "arch": "ofa/mobilenet_v3",
        "files": {},
        "dtype": "F32",
        "tensors": tensors,
        "parameters": parameters,
        "macs": macs,
        "cases": [
            {
                "picture": case.picture,
                "mean": mean,
                "std": std,
                "subnet": str(case.subnet),
                "calibrated": case.calibrated,
            }
            for case in supernet.cases
        ],
        "taps": None,
    }
    if supernet.plain:
        state = separate(model, supernet.cases[0].subnet).state_dict()
        fields["plain"] = [{"key": key, "shape": list(t.shape)} for key, t in state.items()]

    SUPERNETS.mkdir(parents=True, exist_ok=True)
    paths = [SUPERNETS / f"{supernet.name}.{extension}" for extension in ("safetensors", "json")]
    save_file(stored, paths[0])
    write_json(paths[1], fields)
    sizes = ", ".join(f"{path.stat().st_size:,}" for path in paths)
    variances = np.concatenate([v for k, v in stored.items() if k.endswith("running_var")])
    print(
        f"{supernet.name}: {parameters:,} parameters, {macs / 1e6:.3f} M MACs of the largest; "
        f"{sizes} bytes\n    variances {variances.min():.3g} to {variances.max():.3g}"
    )
    check(supernet, model, list(zip(in_f32, in_f64)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="?", default="", help="make only names that contain this")
    only = parser.parse_args().only

    torch.set_num_threads(1)  # deterministic sums
    torch.set_grad_enabled(False)
    for supernet in supernets():
        if only in supernet.name:
            write(supernet)


if __name__ == "__main__":
    main()
