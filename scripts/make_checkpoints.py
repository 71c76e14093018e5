#!/usr/bin/env python3
"""Make the checkpoint fixtures: checkpoints in the many formats that people use, and their networks' outputs.

    python3 -m venv .venv
    .venv/bin/pip install torch torchvision==0.29.* timm==1.0.31 \\
        "transformers>=5.23" safetensors
    .venv/bin/python scripts/make_checkpoints.py        # everything
    .venv/bin/python scripts/make_checkpoints.py --list # and print the cases

Nothing is downloaded beyond the packages, and it takes half a minute. Every run rewrites the folder
with identical bytes: all random numbers come from generators that are seeded with a name.

The networks have the published structure (blocks, strides, kernels, activations) and few
channels. Weights and batch-norm statistics are rounded to f16, so that files of all types hold the
same values, except in cases that test a type. Statistics are measured, so that values neither
vanish nor explode, and some variances are near 1e-4, so that a wrong epsilon changes the output.


tests/fixtures/checkpoints/cases.json
-------------------------------------
A list, one case per line. For a checkpoint that runs:

    name      unique
    path      file or folder to open, relative to tests/fixtures/checkpoints
    with      files to copy into a temporary copy of the folder `path`: several cases share their
              weights and differ in config.json
    arch      the required value of --arch, if any
    set       the required overrides of constants that the keys do not show, {name: value}
    input     a key of expected.safetensors, [N, channels, rows, columns], already normalised
    outputs   {name of the output tensor: key of expected.safetensors}
    features  true if the outputs are feature maps, named after the library's modules
    scores    "softmax", "sigmoid" or "none": the function from outputs to scores; default softmax
    taken     words that a note must contain, ignoring case: the state dict that was used
    why       a description

For a checkpoint that is refused, `name`, `path`, `why` and

    refused   words that the one-line message must contain, ignoring case; "a|b" means either

`output` is a classifier's [N, classes], a segmentation network's [N, classes, rows, columns] at
the input's size, and without a head the pooled features, [N, channels].

tests/fixtures/checkpoints/expected.safetensors
-----------------------------------------------
    input/KIND        F32  the network's input
    CASE/OUTPUT       F32  computed in f64 from the stored values; cases with equal outputs share
                           one key

Each output is checked with a second network, whose weights torch or safetensors read from the
written file.
"""

import argparse
import copy
import gzip
import io
import json
import os
import pickle
import shutil
import struct
import sys
import tarfile
import types
import warnings
import zipfile
import zlib
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any, Callable
from unittest import mock

import numpy as np
import timm
import torch
import torchvision
import transformers
from safetensors.torch import load_file, save_file
from timm.models._efficientnet_builder import round_channels
from timm.models._hub import save_config_for_hf  # what pushing to the hub uses
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.models import mobilenetv2, mobilenetv3, resnet
from torchvision.models.quantization import mobilenetv3 as quantizable_v3
from torchvision.models.quantization import resnet as quantizable_resnet

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests/fixtures/checkpoints"
MOST_BYTES = 4_000_000

State = dict[str, torch.Tensor]


def generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


# --- inputs -------------------------------------------------------------------


def pictures(name: str, *shape: int) -> torch.Tensor:
    """Noise plus a smooth random field, so that adjacent pixels are correlated."""
    g = generator(name)
    n, c, h, w = shape
    smooth = torch.randn(n, c, 5, 5, generator=g)
    smooth = nn.functional.interpolate(smooth, size=(h, w), mode="bicubic")
    return smooth + 0.5 * torch.randn(shape, generator=g)


# Wrong padding shows on odd sizes first.
INPUTS = {
    "rgb": (2, 3, 48, 48),
    "odd": (1, 3, 37, 45),
    "small": (2, 3, 32, 32),
    "grey": (1, 1, 48, 40),
    "rgba": (1, 4, 41, 32),
}


# --- weights ------------------------------------------------------------------

NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)


def uniform(g: torch.Generator, shape, low: float, high: float) -> torch.Tensor:
    return low + (high - low) * torch.rand(shape, generator=g)


def randomise(model: nn.Module, name: str) -> None:
    """Weights in the range of trained ones, chosen so that mistakes change the output."""
    g = generator(name)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            weight = torch.randn(module.weight.shape, generator=g) * (2 / fan_in) ** 0.5
            if isinstance(module, nn.Conv2d) and module.bias is None:
                # The following norm then has variances down to 1e-4, where epsilon matters.
                channels = (-1,) + (1,) * (weight.dim() - 1)
                weight *= 10 ** uniform(g, weight.shape[0], -1.7, 0).reshape(channels)
            module.weight.copy_(weight)
            if module.bias is not None:
                module.bias.copy_(uniform(g, module.bias.shape, -0.5, 0.5))
        elif isinstance(module, NORMS):
            module.weight.copy_(uniform(g, module.weight.shape, 0.5, 1.5))
            module.bias.copy_(uniform(g, module.bias.shape, -0.6, 1.2))
            # Some values above six, the limit of ReLU6.
            module.bias[::7] += 3.5


def settle(model: nn.Module, name: str, channels: int = 3) -> None:
    """Measure batch-norm statistics, and round everything to f16."""
    norms = [m for m in model.modules() if isinstance(m, NORMS)]
    round_to(model, torch.float16)
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    model(pictures(f"{name}/statistics", 8, channels, 64, 64))
    for norm in norms:
        norm.running_var.clamp_(1e-4, 6e4)
        norm.num_batches_tracked.fill_(1000)
        norm.momentum = 0.1
        norm.eval()
    round_to(model, torch.float16)


def round_to(model: nn.Module, dtype: torch.dtype) -> None:
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(dtype))


def trained(model: nn.Module, name: str, channels: int = 3) -> nn.Module:
    randomise(model, name)
    settle(model, name, channels)
    return model


def state(model: nn.Module, dtype: torch.dtype = torch.float16) -> State:
    """The state dict in another type. No tensors share memory."""
    return OrderedDict(
        (key, tensor.to(dtype, copy=True) if tensor.is_floating_point() else tensor.clone())
        for key, tensor in model.state_dict().items()
    )


def without_counters(tensors: State) -> State:
    return OrderedDict(
        (key, t) for key, t in tensors.items() if not key.endswith("num_batches_tracked")
    )


# --- small networks -----------------------------------------------------------


def shrink(model: nn.Module, channels: dict[int, int], classes: int) -> nn.Module:
    """The same modules with other numbers of channels."""
    for parent in model.modules():
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                groups = channels[child.in_channels] if child.groups > 1 else 1
                smaller = nn.Conv2d(
                    channels.get(child.in_channels, child.in_channels),
                    channels[child.out_channels],
                    child.kernel_size,
                    child.stride,
                    child.padding,
                    child.dilation,
                    min(groups, 2),
                    child.bias is not None,
                )
            elif isinstance(child, nn.BatchNorm2d):
                smaller = nn.BatchNorm2d(channels[child.num_features], child.eps)
            elif isinstance(child, nn.Linear):
                smaller = nn.Linear(channels[child.in_features], classes)
            else:
                continue
            setattr(parent, name, smaller)
    return model.eval()


BASIC = {64: 3, 128: 3, 256: 4, 512: 5}
BOTTLENECK = {64: 4, 128: 4, 256: 8, 512: 8, 1024: 8, 2048: 12}


def resnet18(name: str, classes: int = 3, channels: int = 3) -> nn.Module:
    model = shrink(resnet.ResNet(resnet.BasicBlock, [2, 2, 2, 2]), BASIC, classes)
    if channels != 3:
        model.conv1 = nn.Conv2d(channels, BASIC[64], 7, 2, 3, bias=False)
    return trained(model, name, channels)


def resnet50(dilate: tuple[bool, bool, bool] = (False, False, False)) -> nn.Module:
    """ResNet-50, with the same weights for every dilation."""
    blocks = dict(block=resnet.Bottleneck, layers=[3, 4, 6, 3])
    plain = trained(shrink(resnet.ResNet(**blocks), BOTTLENECK, 3), "resnet50")
    dilated = resnet.ResNet(**blocks, replace_stride_with_dilation=list(dilate))
    dilated = shrink(dilated, BOTTLENECK, 3)
    dilated.load_state_dict(plain.state_dict())
    return dilated


# torchvision's arguments: expansion, channels, repeats and stride of each stage, the last two as
# published. The last convolution has 1280 channels: no argument makes it narrower.
V2_STAGES = [
    [1, 32, 1, 1],
    [2, 32, 2, 2],
    [2, 64, 3, 2],
    [2, 64, 4, 2],
    [2, 96, 3, 1],
    [2, 96, 3, 2],
    [2, 32, 1, 1],
]
V2_WIDTH = dict(width_mult=0.0625, round_nearest=2, inverted_residual_setting=V2_STAGES)
V2_LAST = 1280


def torchvision_v2(name: str, head: nn.Module | None = None, **options) -> nn.Module:
    model = mobilenetv2.MobileNetV2(**(dict(num_classes=4) | V2_WIDTH | options))
    if head is not None:
        model.classifier = head
    return trained(model, name)


def v3_settings(arch: str, **options) -> list:
    """torchvision's blocks with few channels. Only blocks that expand in the published network expand here."""
    narrow = {16: 4, 24: 4, 40: 4, 48: 6, 80: 5, 96: 8, 112: 6, 160: 8}
    settings, _ = mobilenetv3._mobilenet_v3_conf(arch, **options)
    for block in settings:
        expands = block.expanded_channels != block.input_channels
        block.input_channels = narrow[block.input_channels]
        block.expanded_channels = block.input_channels * (2 if expands else 1)
        block.out_channels = narrow[block.out_channels]
    return settings


def torchvision_v3(
    name: str, arch: str = "mobilenet_v3_small", classes: int = 3, channels: int = 3
):
    model = mobilenetv3.MobileNetV3(v3_settings(arch), last_channel=16, num_classes=classes)
    if channels != 3:
        model.features[0][0] = nn.Conv2d(channels, 4, 3, 2, 1, bias=False)
    return trained(model, name, channels)


def lraspp(name: str, classes: int) -> nn.Module:
    settings = v3_settings("mobilenet_v3_large", dilated=True)
    backbone = mobilenetv3.MobileNetV3(settings, last_channel=16).features
    returned = {"4": "low", "16": "high"}
    backbone = torchvision.models._utils.IntermediateLayerGetter(backbone, returned)
    low, high = settings[3].out_channels, 6 * settings[-1].out_channels
    build = torchvision.models.segmentation.LRASPP
    return trained(build(backbone, low, high, classes, inter_channels=8), name)


def timm_small(
    name: str, variant: str, width: float = 0.05, last: int = 12, **options
) -> nn.Module:
    """A timm network of an unnamed width, with fewer channels after the blocks."""
    module = timm.models.efficientnet if variant[10] in "12" else timm.models.mobilenetv3
    create = "_create_effnet" if variant[10] in "12" else "_create_mnv3"
    original = getattr(module, create)

    def narrower(variant, pretrained=False, **arguments):
        if arguments.get("num_features"):
            arguments["num_features"] = last
        arguments["round_chs_fn"] = partial(round_channels, multiplier=width, divisor=2)
        return original(variant, pretrained, **arguments)

    build = getattr(module, f"_gen_mobilenet_v{variant[10]}")
    with mock.patch.object(module, create, narrower):
        return trained(build(variant, width, **options), name)


def transformers_small(
    version: int, name: str, head: str | None = "ForImageClassification", **options
):
    """A transformers network. `name` seeds it, so that networks with other options can have the same weights."""
    narrow = dict(depth_multiplier=0.03, min_depth=4, num_labels=3)
    if version == 2:
        narrow |= dict(depth_divisible_by=4, expand_ratio=2.0, finegrained_output=False)
    family = f"MobileNetV{version}"
    config = getattr(transformers, f"{family}Config")(**(narrow | options))
    model = getattr(transformers, family + (head or "Model"))(config)
    return trained(model.eval(), name)


def save_config(model: nn.Module, folder: str) -> None:
    """Writes the configuration, like save_pretrained."""
    model.config.architectures = [type(model).__name__]
    (FOLDER / folder).mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(FOLDER / folder)


def with_other_options(model: nn.Module, **options) -> nn.Module:
    """The same weights with another configuration."""
    config = type(model.config)(**(model.config.to_dict() | options))
    other = type(model)(config).eval()
    other.load_state_dict(model.state_dict())
    return other


# --- cases --------------------------------------------------------------------


def outputs_of(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    out = model(x)
    if isinstance(out, torch.Tensor):
        return [out]
    if isinstance(out, dict) and "out" in out:
        return [out["out"]]
    for field in ("logits", "pooler_output"):
        if getattr(out, field, None) is not None:
            return [getattr(out, field)]
    return list(out)


def distance(values: torch.Tensor, exact: torch.Tensor) -> float:
    return ((values - exact).norm() / exact.norm()).item()


def read(path: Path) -> Any:
    """Reads a file, or the weights in a folder, with torch or safetensors."""
    if path.is_dir():
        for index in path.glob("*.index.json"):
            shards = set(json.loads(index.read_text())["weight_map"].values())
            return {k: v for shard in sorted(shards) for k, v in read(path / shard).items()}
        [path] = [p for p in path.iterdir() if p.suffix in (".bin", ".safetensors")]
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, weights_only=False)


def plain(loaded: Any) -> State:
    return loaded.state_dict() if isinstance(loaded, nn.Module) else loaded


def without_prefix(prefix: str) -> Callable[[Any], State]:
    """A reader of the tensors with this prefix, which it removes."""
    return lambda loaded: {
        key.removeprefix(prefix): value
        for key, value in plain(loaded).items()
        if key.startswith(prefix)
    }


class Cases:
    def __init__(self):
        self.list: list[dict] = []
        self.tensors: State = {}
        self.inputs = {kind: pictures(kind, *shape) for kind, shape in INPUTS.items()}
        self.worst = 0.0

    def file(self, path: str) -> Path:
        """The full path of a file to write; creates its folder."""
        full = FOLDER / path
        full.parent.mkdir(parents=True, exist_ok=True)
        return full

    def bytes(self, path: str, data: bytes | str) -> None:
        self.file(path).write_bytes(data.encode() if isinstance(data, str) else data)

    def runs(
        self,
        name: str,
        path: str,
        model: nn.Module,
        why: str,
        *,
        input: str = "rgb",
        back: Callable[[Any], State] | None = plain,
        weights: str | None = None,
        names: list[str] | None = None,
        unlike: nn.Module | None = None,
        **fields,
    ) -> None:
        """Adds a case with the outputs of `model`. `back` turns the content of `weights` or `path` into the
        model's state dict. `unlike` is a similar network whose outputs must differ."""
        x = self.inputs[input]
        in_f32 = outputs_of(copy.deepcopy(model).float(), x)
        exact = outputs_of(copy.deepcopy(model).double(), x.double())
        for a, b in zip(in_f32, exact):
            assert torch.isfinite(b).all() and 1e-2 < b.std() < 1e3, (name, b.std())
            self.worst = max(self.worst, distance(a, b))
            assert distance(a, b) < 1e-5, (name, distance(a, b))
        if unlike is not None:
            others = outputs_of(copy.deepcopy(unlike).double(), x.double())
            same = others[0].shape == exact[0].shape
            assert not same or distance(others[0], exact[0]) > 1e-2, f"{name} does not change the output"
        if back is not None:
            twin = copy.deepcopy(model).double()
            for tensor in twin.state_dict().values():
                tensor.fill_(torch.nan if tensor.is_floating_point() else 0)
            twin.load_state_dict(back(read(FOLDER / (weights or path))))
            for a, b in zip(outputs_of(twin, x.double()), exact):
                assert distance(a, b) < 1e-9, f"{name}: the file gives other outputs"
        names = names or ["output"]
        outputs = {}
        for output, value in zip(names, exact, strict=True):
            outputs[output] = self.keep(f"{name}/{output}", value.float().contiguous())
        case = {"name": name, "path": path} | fields
        self.list.append(case | {"input": f"input/{input}", "outputs": outputs, "why": why})

    def keep(self, key: str, value: torch.Tensor) -> str:
        """Stores an expected output, or returns the key of an equal one."""
        for other, stored in self.tensors.items():
            if stored.shape == value.shape and torch.equal(stored, value):
                return other
        self.tensors[key] = value
        return key

    def refused(self, name: str, path: str, words: str, why: str) -> None:
        self.list.append({"name": name, "path": path, "refused": words.split(), "why": why})

    def write(self) -> None:
        names = [case["name"] for case in self.list]
        assert len(set(names)) == len(names), "two cases with the same name"
        for case in self.list:
            for path in [case["path"], *case.get("with", [])]:
                assert (FOLDER / path).exists(), path
        used = {case["input"] for case in self.list if "input" in case}
        tensors = {f"input/{kind}": x for kind, x in self.inputs.items() if f"input/{kind}" in used}
        save_file(tensors | self.tensors, FOLDER / "expected.safetensors")
        text = ",\n".join(json.dumps(case, ensure_ascii=False) for case in self.list)
        (FOLDER / "cases.json").write_text(f"[\n{text}\n]\n")


# --- containers ---------------------------------------------------------------


def save_tar(tensors: State, path: Path) -> None:
    """Writes the format of PyTorch before 0.1.10. torch.serialization only has the reader."""

    class Persistent:
        def __init__(self, key: int):
            self.key = key

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return str(value.key) if isinstance(value, Persistent) else None

    classes = {
        torch.float32: (torch.FloatStorage, torch.FloatTensor),
        torch.int64: (torch.LongStorage, torch.LongTensor),
    }

    def dumps(value) -> bytes:
        return pickle.dumps(value, protocol=2)

    storages, table, saved = io.BytesIO(), io.BytesIO(), OrderedDict()
    storages.write(dumps(len(tensors)))
    table.write(dumps(len(tensors)))
    for i, (name, tensor) in enumerate(tensors.items()):
        storage_class, tensor_class = classes[tensor.dtype]
        # Like the memory addresses in such files.
        storage, key = 94_000_000_000_000 + 64 * i, 94_500_000_000_000 + 64 * i
        storages.write(dumps((storage, "cpu", storage_class)))
        storages.write(struct.pack("<q", tensor.numel()) + tensor.contiguous().numpy().tobytes())
        table.write(dumps((key, storage, tensor_class)) + struct.pack("<ii", tensor.dim(), 0))
        table.write(struct.pack(f"<{2 * tensor.dim() + 1}q", *tensor.shape, *tensor.stride(), 0))
        saved[name] = Persistent(key)
    storages.write(dumps([]))  # no views
    pickled = io.BytesIO()
    Pickler(pickled, protocol=2).dump(saved)
    sizes = {"short": 2, "int": 4, "long": 8}
    system = {"protocol_version": 1000, "little_endian": True, "type_sizes": sizes}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        entries = [dumps(system), pickled.getvalue(), table.getvalue(), storages.getvalue()]
        for name, data in zip(["sys_info", "pickle", "tensors", "storages"], entries, strict=True):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def viewed(tensors: State) -> State:
    """The same values as views of one storage: transposed, with gaps, channels last, and so on."""
    views, storage = (
        OrderedDict(),
        torch.zeros(2 * sum(t.numel() + 1 for t in tensors.values()) + 5),
    )
    at = 5
    for i, (key, tensor) in enumerate(tensors.items()):
        if not tensor.is_floating_point():
            views[key] = tensor
            continue
        shape, kind = tensor.shape, i % 3
        if tensor.dim() == 4 and kind == 0:
            o, c, h, w = shape
            strides = (h * w * c, 1, w * c, c)  # channels last
        elif tensor.dim() == 4 and kind == 1:
            o, c, h, w = shape
            strides = (1, o * h * w, o * w, o)  # output channels innermost
        elif tensor.dim() == 2:
            strides = (1, shape[0])  # transposed
        else:
            strides = tuple(2 * s for s in tensor.stride())  # every second value
        view = storage.as_strided(shape, strides, at)
        view.copy_(tensor)
        views[key] = view
        at += 2 * tensor.numel() + 1
    return views


def save_script(script: torch.jit.ScriptModule, path: Path) -> None:
    """torch.jit.save without debug records, which contain this machine's paths."""
    torch.jit.save(script, path)
    old = torch._C.PyTorchFileReader(str(path))
    records = {name: old.get_record(name) for name in old.get_all_records()}
    new = torch._C.PyTorchFileWriter(str(path))
    new.set_min_version(int(records.pop("version")))
    for name, data in records.items():
        own = name in ("byteorder", ".data/serialization_id")
        if not own and not name.endswith(".debug_pkl"):
            new.write_record(name, data, len(data))
    new.write_end_of_file()


def save_legacy(value: Any, path: Path) -> None:
    """torch.save before 1.6, made deterministic: torch names storages by memory addresses, and stores the
    source text of module classes with this machine's paths."""
    numbers: dict[int, str] = {}

    def address(cdata: int) -> str:
        return numbers.setdefault(cdata, f"{94_000_000_000_000 + 64 * len(numbers)}")

    def source(kind: type) -> tuple[list[str], int, str]:
        return [f"class {kind.__name__}(nn.Module):\n"], 1, f"models/{kind.__name__}.py"

    with (
        mock.patch("torch.serialization.str", address, create=True),
        mock.patch("torch.serialization.get_source_lines_and_file", source),
        path.open("wb") as file,
    ):
        torch.serialization._legacy_save(value, file, pickle, 2)


def containers(cases: Cases) -> None:
    model = resnet18("containers")
    tensors = state(model)
    short = without_counters(tensors)

    torch.save(tensors, cases.file("zip/resnet18.pth"))
    cases.runs("zip", "zip/resnet18.pth", model, "torch.save of a state dict, since PyTorch 1.6")
    cases.runs(
        "zip-odd",
        "zip/resnet18.pth",
        model,
        "the same on a picture with odd sides",
        input="odd",
    )
    save_legacy(short, cases.file("legacy/resnet18.pth"))
    back = lambda loaded: tensors | loaded
    cases.runs("legacy", "legacy/resnet18.pth", model, "torch.save before PyTorch 1.6", back=back)
    save_tar(without_counters(state(model, torch.float32)), cases.file("tar/resnet18.pth"))
    cases.runs("tar", "tar/resnet18.pth", model, "torch.save before PyTorch 0.1.10", back=back)
    torch.save(short, cases.file("pickle-protocol-4/model.pt"), pickle_protocol=4)
    cases.runs(
        "pickle-protocol-4", "pickle-protocol-4/model.pt", model, "frames and memoize", back=back
    )
    precise = copy.deepcopy(model).double()
    for parameter in precise.parameters():
        g = generator(f"f64/{parameter.shape}")
        parameter *= 1 + 1e-6 * torch.randn(parameter.shape, generator=g, dtype=torch.float64)
    short_f64 = without_counters(state(precise, torch.float64))
    path = cases.file("f64/resnet18.pth")
    save_legacy(short_f64, path)
    save_file(short_f64, cases.file("f64/model.safetensors"))
    for name, path in [("f64", "f64/resnet18.pth"), ("f64-safetensors", "f64/model.safetensors")]:
        cases.runs(name, path, precise, "values in f64", back=back)
    coarse = copy.deepcopy(model)
    round_to(coarse, torch.bfloat16)
    torch.save(without_counters(state(coarse, torch.bfloat16)), cases.file("bf16/resnet18.pth"))
    cases.runs("bf16", "bf16/resnet18.pth", coarse, "values in bf16", back=back)

    torch.save(viewed(state(model, torch.float32)), cases.file("views/resnet18.pth"))
    cases.runs(
        "views",
        "views/resnet18.pth",
        model,
        "tensors that are transposed, channels last, strided and offset views of one storage",
    )
    torch.save(copy.deepcopy(model).half(), cases.file("whole-module/resnet18.pt"))
    cases.runs("whole-module", "whole-module/resnet18.pt", model, "torch.save of the module itself")
    save_legacy(copy.deepcopy(model).half(), cases.file("legacy-whole-module/resnet18.pth"))
    cases.runs(
        "legacy-whole-module",
        "legacy-whole-module/resnet18.pth",
        model,
        "the same before PyTorch 1.6: the classes' source text lies among the tensors",
    )
    parallel = nn.DataParallel(copy.deepcopy(model).half())
    save_legacy(parallel, cases.file("whole-data-parallel/resnet18.pt"))
    cases.runs(
        "whole-data-parallel",
        "whole-data-parallel/resnet18.pt",
        model,
        "torch.save of a module in DataParallel, before PyTorch 1.6",
        back=without_prefix("module."),
    )

    jit = dict(back=lambda loaded: loaded.state_dict())
    save_script(torch.jit.trace(model, cases.inputs["rgb"]), cases.file("jit-trace/resnet18.pt"))
    cases.runs("jit-trace", "jit-trace/resnet18.pt", model, "torch.jit.trace", **jit)
    save_script(torch.jit.script(model), cases.file("jit-script/resnet18.pt"))
    cases.runs("jit-script", "jit-script/resnet18.pt", model, "torch.jit.script", **jit)
    frozen = torch.jit.freeze(torch.jit.trace(model, cases.inputs["rgb"]))
    save_script(frozen, cases.file("jit-frozen/resnet18.pt"))
    cases.refused(
        "jit-frozen",
        "jit-frozen/resnet18.pt",
        "TorchScript",
        "torch.jit.freeze makes nameless constants of the weights",
    )

    hub = transformers_small(1, "pytorch-model-bin")
    save_config(hub, "pytorch-model-bin")
    torch.save(without_counters(state(hub)), cases.file("pytorch-model-bin/pytorch_model.bin"))
    counters = lambda loaded: state(hub) | loaded
    cases.runs(
        "pytorch-model-bin",
        "pytorch-model-bin",
        hub,
        "transformers before it wrote safetensors",
        back=counters,
    )
    tensors = state(hub)
    save_config(hub, "pytorch-shards")
    shards, weight_map = [OrderedDict(), OrderedDict()], {}
    for i, (key, tensor) in enumerate(without_counters(tensors).items()):
        shard = int(2 * i >= len(tensors) // 2)
        shards[shard][key] = tensor
        weight_map[key] = f"pytorch_model-0000{shard + 1}-of-00002.bin"
    for i, shard in enumerate(shards):
        torch.save(shard, cases.file(f"pytorch-shards/pytorch_model-0000{i + 1}-of-00002.bin"))
    size = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    cases.bytes("pytorch-shards/pytorch_model.bin.index.json", json.dumps(index, indent=1))
    cases.runs("pytorch-shards", "pytorch-shards", hub, "the same in several files", back=counters)


# --- wrappers -----------------------------------------------------------------


def ema_of(model: nn.Module, name: str) -> nn.Module:
    """Other weights of the same shapes, in place of averaged weights."""
    other = copy.deepcopy(model)
    g = generator(f"{name}/ema")
    for key, tensor in other.state_dict().items():
        if tensor.is_floating_point():
            tensor *= uniform(g, tensor.shape, 0.7, 1.3)
    round_to(other, torch.float16)
    return other


def foreign(path: str) -> type:
    """A class of a library that a reader may not have installed."""
    module_name, _, name = path.rpartition(".")
    parts = module_name.split(".")
    for i in range(len(parts)):
        sys.modules.setdefault(".".join(parts[: i + 1]), types.ModuleType(parts[i]))
    made = type(name, (dict,), {"__module__": module_name})
    setattr(sys.modules[module_name], name, made)
    return made


def optimizer_of(model: nn.Module) -> dict:
    """SGD's state after a step of only the classifier, to keep it small."""
    model = copy.deepcopy(model)
    classifier = [p for n, p in model.named_parameters() if n.startswith(("fc.", "classifier."))]
    optimizer = torch.optim.SGD(classifier, lr=0.1, momentum=0.9, weight_decay=1e-4)
    for parameter in classifier:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def wrappers(cases: Cases) -> None:
    model = resnet18("wrappers")
    tensors = without_counters(state(model))
    ema_model = ema_of(model, "wrappers")
    ema = without_counters(state(ema_model))
    optimizer = optimizer_of(model)
    full = lambda part: state(model) | part
    args = argparse.Namespace(arch="resnet18", lr=0.1, data="/data/imagenet", resume=None, gpu=0)

    def wrapper(name, file, saved, expected, why, key, prefix="", zipped=True, **fields):
        save = torch.save if zipped else save_legacy
        save(saved, cases.file(f"{name}/{file}"))

        def back(loaded):
            for part in key.split("/"):
                loaded = loaded[part]
            return full(without_prefix(prefix)(loaded))

        cases.runs(name, f"{name}/{file}", expected, why, back=back, **fields)

    wrapper(
        "wrapper-state-dict",
        "checkpoint.pth.tar",
        {
            "epoch": 90,
            "arch": "resnet18",
            "state_dict": tensors,
            "best_acc1": torch.tensor(69.5),
            "optimizer": optimizer,
            "args": args,
        },
        model,
        "PyTorch's ImageNet example: state_dict beside an optimizer and an argparse.Namespace",
        "state_dict",
        zipped=False,
    )
    wrapper(
        "wrapper-timm-ema",
        "model_best.pth.tar",
        {
            "epoch": 299,
            "arch": "resnet18",
            "state_dict": tensors,
            "optimizer": optimizer,
            "version": 2,
            "args": args,
            "amp_scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 7},
            "state_dict_ema": ema,
            "metric": 71.3,
        },
        ema_model,
        "timm's train.py with --model-ema: the averaged weights are the ones to use",
        "state_dict_ema",
        taken=["ema"],
    )
    scheduler = {"T_max": 600, "eta_min": 0.0, "base_lrs": [0.5], "last_epoch": 599}
    averaged = OrderedDict(n_averaged=torch.tensor(5000))
    averaged |= {f"module.{key}": value for key, value in ema.items()}
    wrapper(
        "wrapper-torchvision-ema",
        "model_599.pth",
        {
            "model": tensors,
            "optimizer": optimizer,
            "lr_scheduler": scheduler,
            "epoch": 599,
            "args": args,
            "model_ema": averaged,
            "scaler": {"scale": 65536.0},
        },
        ema_model,
        "torchvision's references with --model-ema: an AveragedModel beside the model",
        "model_ema",
        "module.",
        taken=["ema"],
    )
    wrapper(
        "wrapper-model-state",
        "ckpt.pth",
        {"model_state": tensors, "optimizer_state": optimizer, "step": 10_000},
        model,
        "another name for the state dict",
        "model_state",
    )
    wrapper(
        "wrapper-net",
        "ckpt.pth",
        {"net": {f"module.{k}": v for k, v in tensors.items()}, "acc": 95.1, "epoch": 199},
        model,
        "pytorch-cifar: net, from DataParallel, beside an accuracy and an epoch",
        "net",
        "module.",
        zipped=False,
    )
    wrapper(
        "wrapper-nested",
        "latest.pt",
        {"model": {"state_dict": tensors, "num_classes": 3}, "config": {"lr": 0.1}},
        model,
        "a state dict two levels deep",
        "model/state_dict",
    )
    wrapper(
        "wrapper-ema-state-dict",
        "last.pth",
        {"model": tensors, "ema": {"decay": 0.9999, "updates": 5000, "module": ema}},
        ema_model,
        "averaged weights two levels deep",
        "ema/module",
        zipped=False,
        taken=["ema"],
    )
    saved = {
        "epoch": 120,
        "best_fitness": np.float64(0.61),
        "model": tensors,
        "ema": copy.deepcopy(ema_model).half(),
        "updates": 14_000,
        "optimizer": None,
        "date": "2024-05-01T10:00:00",
    }
    save_legacy(saved, cases.file("wrapper-ema-module/best.pt"))
    cases.runs(
        "wrapper-ema-module",
        "wrapper-ema-module/best.pt",
        ema_model,
        "a whole module inside a dictionary, averaged, beside the state dict that it was made of",
        back=lambda loaded: loaded["ema"].state_dict(),
        taken=["ema"],
    )
    attributes = foreign("lightning.fabric.utilities.data.AttributeDict")
    metric = {"tp": torch.tensor([5, 6, 7]), "fp": torch.tensor([1, 0, 2])}
    saved = {
        "epoch": 9,
        "global_step": 1000,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{k}": v for k, v in tensors.items()}
        | {f"train_acc.{k}": v for k, v in metric.items()}
        | {"criterion.weight": torch.tensor([1.0, 2.0, 0.5])},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 10}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val_loss', 'mode': 'min'}": {
                "monitor": "val_loss",
                "best_model_score": torch.tensor(0.25),
                "best_k_models": {"/runs/epoch=9.ckpt": torch.tensor(0.25)},
            }
        },
        "optimizer_states": [optimizer],
        "lr_schedulers": [scheduler],
        "hparams_name": "kwargs",
        "hyper_parameters": attributes(lr=0.1, arch="resnet18", num_classes=3),
    }
    wrapper(
        "wrapper-lightning",
        "epoch=9-step=1000.ckpt",
        saved,
        model,
        "Lightning: model. before each key, a metric's state and a loss's weight among them",
        "state_dict",
        "model.",
    )


# --- prefixes, and tensors from training ----------------------------------------


def save_prefixed(cases: Cases, path: str, tensors: State, prefix: str) -> None:
    save_file({prefix + key: value for key, value in tensors.items()}, cases.file(path))


def prefixes(cases: Cases) -> None:
    small = torchvision_v3("prefixes")
    residual = resnet18("prefixes")
    timms = timm_small("prefixes", "mobilenetv3_small_050", num_classes=3)
    for name, prefix, model, why in [
        ("prefix-module", "module.", residual, "DataParallel and DistributedDataParallel"),
        ("prefix-orig-mod", "_orig_mod.", residual, "torch.compile"),
        ("prefix-model", "model.", timms, "Lightning and many classes of one's own"),
        ("prefix-backbone", "backbone.", small, "not LR-ASPP's backbone, nor SSDLite's"),
        ("prefix-three", "model._orig_mod.module.", residual, "one within another"),
    ]:
        path = f"{name}/model.safetensors"
        save_prefixed(cases, path, without_counters(state(model)), prefix)
        back = lambda loaded: state(model) | without_prefix(prefix)(loaded)
        cases.runs(name, path, model, why, back=back)
    inside = OrderedDict(
        (key.replace("features.", "features.module.", 1), value)
        for key, value in without_counters(state(small)).items()
    )
    save_file(inside, cases.file("prefix-inside/model.safetensors"))
    cases.runs(
        "prefix-inside",
        "prefix-inside/model.safetensors",
        small,
        "DataParallel around the features alone, as torchvision's VGG had it",
        back=lambda loaded: (
            state(small)
            | {key.replace("features.module.", "features."): v for key, v in loaded.items()}
        ),
    )


def leftovers(cases: Cases) -> None:
    model = resnet18("leftovers")
    tensors = state(model)
    modules = [name for name, _ in model.named_modules()]
    counts = OrderedDict()
    for name in modules:
        for count in ("total_ops", "total_params"):
            counts[f"{name}.{count}".lstrip(".")] = torch.tensor([17.0], dtype=torch.float64)
    # One storage for all, to keep the file small.
    storage = torch.full((len(counts),), 17.0, dtype=torch.float64)
    counts = OrderedDict((key, storage[i : i + 1]) for i, key in enumerate(counts))
    extra = {
        "criterion.weight": torch.tensor([1.0, 2.0, 0.5]),
        "loss_fn.pos_weight": torch.tensor([4.0]),
    }
    path = cases.file("thop/resnet18.pth")
    save_legacy(without_counters(tensors) | counts, path)
    own = lambda loaded: tensors | {key: v for key, v in loaded.items() if key in tensors}
    cases.runs(
        "thop",
        "thop/resnet18.pth",
        model,
        "thop's total_ops and total_params of every module, the whole among them",
        back=own,
    )
    save_file(tensors | extra, cases.file("loss-weight/model.safetensors"))
    cases.runs(
        "loss-weight",
        "loss-weight/model.safetensors",
        model,
        "a loss's class weights beside the network, and counters of batches",
        back=own,
    )


# --- heads --------------------------------------------------------------------


def heads(cases: Cases) -> None:
    def head(name: str, model: nn.Module, why: str, **fields) -> None:
        path = f"{name}/model.safetensors"
        save_file(without_counters(state(model)), cases.file(path))
        back = lambda loaded: state(model) | loaded
        cases.runs(name, path, model, why, **(dict(back=back) | fields))

    for name, classifier, why in [
        ("head-linear", nn.Linear(V2_LAST, 4), "classifier.weight"),
        (
            "head-dropout-linear",
            nn.Sequential(nn.Dropout(0.2), nn.Sequential(nn.Dropout(), nn.Linear(V2_LAST, 4))),
            "classifier.1.1.weight: the last module replaced by another list",
        ),
        (
            "head-hidden",
            nn.Sequential(nn.Linear(V2_LAST, 3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 4)),
            "classifier.0 and .3 as in V3, but ReLU between them",
        ),
        (
            "head-batch-norm",
            nn.Sequential(
                *[nn.Linear(V2_LAST, 3), nn.BatchNorm1d(3), nn.ReLU()],
                *[nn.Dropout(), nn.Linear(3, 4)],
            ),
            "a batch norm over vectors",
        ),
    ]:
        head(name, torchvision_v2(name, head=classifier), why)
    layers = [nn.Dropout(), nn.Linear(V2_LAST, 3), nn.ReLU()]
    layers += [nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4)]
    model = torchvision_v2("head-three-layers", head=nn.Sequential(*layers))
    head("head-three-layers", model, "classifier.1, .3 and .5 with ReLU between them")
    model = torchvision_v3("head-v3")
    model.classifier[3] = nn.Sequential(nn.Dropout(), nn.Linear(16, 5))
    head("head-v3-last", trained(model, "head-v3"), "classifier.3.1.weight, hard-swish before it")
    model = timm_small("head-timm", "mobilenetv3_small_050", num_classes=3)
    model.classifier = nn.Sequential(nn.Dropout(), nn.Linear(12, 5))
    head("head-timm-list", trained(model, "head-timm"), "timm's classifier replaced by a list")
    model = resnet18("head-resnet")
    model.fc = nn.Sequential(nn.Dropout(0.2), nn.Linear(BASIC[512], 3))
    head("head-resnet-list", trained(model, "head-resnet"), "fc.1.weight")
    head(
        "one-logit",
        resnet18("one-logit", classes=1),
        "num_classes=1, trained with BCEWithLogitsLoss: softmax would always say 1",
        scores="sigmoid",
    )

    # Networks without a head.
    model = torchvision_v2("no-head-v2")
    model.classifier = nn.Identity()
    head("no-head-v2", model, "classifier = Identity: 1280 pooled features", input="odd")
    model = torchvision_v3("no-head-v3")
    model.classifier = nn.Identity()
    head("no-head-v3", model, "classifier = Identity: the pooled features, without classifier.0")
    model = resnet18("no-head-resnet")
    model.fc = nn.Identity()
    head("no-head-resnet", model, "fc = Identity")
    for variant in [
        "mobilenetv1_100",
        "mobilenetv2_035",
        "mobilenetv3_small_050",
        "mobilenetv4_conv_small_035",
    ]:
        short = f"timm-v{variant[10]}"
        where = "after conv_head and its activation" if variant[10] in "34" else "as pooled"
        model = timm_small(f"no-head-{short}", variant, num_classes=0)
        head(f"no-head-{short}", model, f"num_classes=0: an embedding {where}")
    for variant in ["mobilenetv2_035", "mobilenetv3_small_050", "mobilenetv4_conv_small_035"]:
        name = f"features-timm-v{variant[10]}"
        model = timm_small(name, variant, features_only=True)
        modules = model.feature_info.module_name()
        fields = dict(features=True, names=modules, input="odd")
        head(name, model, "features_only=True: neither conv_head nor classifier", **fields)
    for version in (1, 2):
        name = f"no-head-transformers-v{version}"
        model = transformers_small(version, name, head=None)
        save_config(model, name)
        tensors = without_counters(state(model))
        save_file(tensors, cases.file(f"{name}/model.safetensors"))
        cases.runs(
            name,
            name,
            model,
            f"MobileNetV{version}Model: no mobilenet_v{version}. before its keys; pooler_output",
            back=lambda loaded: state(model) | loaded,
        )


# --- folded, pruned, quantized, reparametrized ----------------------------------


def folded_norms(model: nn.Module, x: torch.Tensor) -> tuple[nn.Module, set[str]]:
    """Folds batch norms into the preceding convolutions. The norms stay as identities; returns their names."""
    model = copy.deepcopy(model)
    order, hooks = [], []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            note = lambda module, _, name=name: order.append((name, module))
            hooks.append(module.register_forward_pre_hook(note))
    model(x)
    for hook in hooks:
        hook.remove()
    folded = set()
    for (_, conv), (name, norm) in zip(order, order[1:]):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            together = nn.utils.fuse_conv_bn_eval(conv, norm)
            conv.weight, conv.bias = together.weight, together.bias
            for tensor, value in [
                (norm.weight, 1),
                (norm.bias, 0),
                (norm.running_mean, 0),
                (norm.running_var, 1 - norm.eps),
            ]:
                tensor.fill_(value)
            folded.add(name)
    return model, folded


def fold(cases: Cases) -> None:
    def fused(name: str, model: nn.Module, why: str) -> None:
        randomise(model, name)
        settle(model, name)
        model.fuse_model(is_qat=False)
        round_to(model, torch.float16)
        save_file(state(model), cases.file(f"{name}/model.safetensors"))
        cases.runs(name, f"{name}/model.safetensors", model, why)

    v2 = quantizable_v2.QuantizableMobileNetV2(
        num_classes=4, block=quantizable_v2.QuantizableInvertedResidual, **V2_WIDTH
    )
    quantizable_v2._replace_relu(v2)
    fused(
        "fused-v2",
        v2.eval(),
        "fuse_model of torchvision's quantizable V2: features.0.0.0.weight, and ReLU for ReLU6",
    )
    v3 = quantizable_v3.QuantizableMobileNetV3(
        v3_settings("mobilenet_v3_large"),
        last_channel=16,
        num_classes=3,
        block=quantizable_v3.QuantizableInvertedResidual,
    )
    quantizable_v3._replace_relu(v3)
    fused(
        "fused-v3",
        v3.eval(),
        "fuse_model of torchvision's quantizable V3-Large: block.0.0.0.weight where ReLU follows, "
        "block.0.0.weight where hard-swish or nothing does, and fc1.0.weight",
    )
    block = quantizable_resnet.QuantizableBasicBlock
    residual = shrink(quantizable_resnet.QuantizableResNet(block, [2, 2, 2, 2]), BASIC, 3)
    fused(
        "fused-resnet", residual, "fuse_model of torchvision's quantizable ResNet: conv1.0.weight"
    )

    for name, model, folder in [
        ("folded-v2", torchvision_v2("folded-v2"), False),
        (
            "folded-timm-v3",
            timm_small("folded-timm", "mobilenetv3_small_050", num_classes=3),
            False,
        ),
        (
            "folded-timm-v4",
            timm_small("folded-v4", "mobilenetv4_conv_small_035", num_classes=3),
            False,
        ),
        ("folded-transformers-v1", transformers_small(1, "folded-v1"), True),
        ("folded-transformers-v2", transformers_small(2, "folded-v2"), True),
    ]:
        model, norms = folded_norms(model, cases.inputs["rgb"])
        # Only the convolutions are stored. The identity norms need exact values.
        tensors = state(model)
        own = {k: v for k, v in tensors.items() if k.rpartition(".")[0] not in norms}
        for key, value in model.state_dict().items():
            if key in own and value.is_floating_point():
                value.copy_(own[key])
        if folder:
            save_config(model, name)
        save_file(own, cases.file(f"{name}/model.safetensors"))
        exact = copy.deepcopy(model).double()
        for key, module in exact.named_modules():
            if key in norms:
                module.running_var.fill_(1 - module.eps)
        cases.runs(
            name,
            name if folder else f"{name}/model.safetensors",
            exact,
            "batch norms folded into convolutions of the same names, and their keys dropped",
            back=lambda loaded: exact.state_dict() | loaded,
            input="odd",
        )


def reparametrized(cases: Cases) -> None:
    model = resnet18("pruned")
    for module, parameter, amount in [
        (model.conv1, "weight", 0.3),
        (model.layer1[0].conv1, "weight", 0.5),
        (model.layer2[0].conv2, "weight", 0.5),
        (model.layer4[1].conv2, "weight", 0.9),
        (model.fc, "weight", 0.4),
        (model.fc, "bias", 0.34),
    ]:
        prune.l1_unstructured(module, parameter, amount)
    torch.save(state(model), cases.file("pruned/resnet18.pth"))
    cases.runs(
        "pruned",
        "pruned/resnet18.pth",
        model,
        "torch.nn.utils.prune: weight_orig times weight_mask, a bias as well",
        unlike=resnet18("pruned"),
    )
    model = torchvision_v3("pruned")
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    prune.global_unstructured([(m, "weight") for m in convs], prune.L1Unstructured, amount=0.5)
    prune.random_structured(model.classifier[3], "weight", amount=0.5, dim=1)
    # Replace the random choice of channels by a fixed one.
    mask = torch.tensor([1.0, 0.0]).repeat(8).expand(3, 16)
    model.classifier[3].weight_mask.copy_(mask)
    save_file(without_counters(state(model)), cases.file("pruned-v3/model.safetensors"))
    cases.runs(
        "pruned-v3",
        "pruned-v3/model.safetensors",
        model,
        "every convolution pruned, squeeze-excite's among them",
        back=lambda loaded: state(model) | loaded,
        unlike=torchvision_v3("pruned"),
    )

    for name, words, change in [
        ("weight-norm", "weight_norm|weight-norm", parametrizations.weight_norm),
        ("weight-norm-old", "weight_norm|weight-norm", nn.utils.weight_norm),
        (
            "spectral-norm",
            "spectral_norm|spectral-norm|parametrization",
            parametrizations.spectral_norm,
        ),
        ("spectral-norm-old", "spectral_norm|spectral-norm", nn.utils.spectral_norm),
    ]:
        torch.manual_seed(zlib.crc32(name.encode()))
        model = resnet18(name)
        for module in (model.layer1[0].conv1, model.layer4[1].conv2):
            change(module)
        save_file(without_counters(state(model)), cases.file(f"{name}/model.safetensors"))
        why = "a weight that is computed from other tensors"
        cases.refused(name, f"{name}/model.safetensors", words, why)


# --- stems with other numbers of input channels ---------------------------------


def stems(cases: Cases) -> None:
    for name, model, kind, why in [
        ("stem-grey", resnet18("stem-grey", channels=1), "grey", "one input channel"),
        ("stem-rgba", torchvision_v3("stem-rgba", channels=4), "rgba", "four input channels"),
    ]:
        save_file(without_counters(state(model)), cases.file(f"{name}/model.safetensors"))
        back = lambda loaded: state(model) | loaded
        cases.runs(name, f"{name}/model.safetensors", model, why, input=kind, back=back)


# --- constants that the keys do not show ------------------------------------------


class Same(nn.Module):
    """A convolution with TensorFlow's padding."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        sizes = zip(x.shape[-2:], self.conv.kernel_size, self.conv.stride, self.conv.dilation)
        pads = [max((-(n // -s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in sizes]
        rows, columns = pads
        x = nn.functional.pad(
            x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        )
        conv = self.conv
        return nn.functional.conv2d(
            x, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups
        )


def padded_same(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child.kernel_size != (1, 1):
                setattr(parent, name, Same(child))
    return model


def with_epsilon(model: nn.Module, epsilon: float) -> nn.Module:
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = epsilon
    return model


def constants(cases: Cases) -> None:
    base = torchvision_v2("constants")
    path = "constants-v2/model.safetensors"
    save_file(without_counters(state(base)), cases.file(path))
    own = lambda loaded: state(base) | loaded

    def v2(name, model, why, *, unlike=base, back=own, **fields):
        cases.runs(name, path, model, why, unlike=unlike, back=back, **fields)

    v2("constants-v2", base, "nothing said: torchvision's own", unlike=None, input="odd")
    stages = copy.deepcopy(V2_STAGES)
    stages[1][3] = 1
    cifar = mobilenetv2.MobileNetV2(4, **(V2_WIDTH | {"inverted_residual_setting": stages})).eval()
    cifar.features[0][0].stride = (1, 1)
    cifar.load_state_dict(base.state_dict())
    v2(
        "cifar-v2",
        cifar,
        "strides for pictures of 32 x 32",
        input="small",
        set={"stem_stride": "1", "stage_strides": "1,1,2,2,1,2,1"},
    )
    v2(
        "epsilon-v2",
        with_epsilon(base, 1e-3),
        "ported from Keras",
        input="odd",
        set={"epsilon": "1e-3"},
    )
    v2(
        "padding-v2",
        padded_same(base),
        "TensorFlow's padding",
        input="rgb",
        set={"padding": "same"},
        back=None,
    )
    v2(
        "padding-v2-odd",
        padded_same(base),
        "TensorFlow's padding on odd sides",
        input="odd",
        set={"padding": "same"},
        back=None,
    )
    relu = copy.deepcopy(base)
    for parent in list(relu.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU6):
                setattr(parent, name, nn.ReLU())
    v2("activation-v2", relu, "ReLU in place of ReLU6", input="odd", set={"activation": "relu"})
    both = padded_same(with_epsilon(relu, 1e-3))
    v2(
        "all-v2",
        both,
        "three constants at once",
        input="odd",
        set={"activation": "relu", "epsilon": "1e-3", "padding": "same"},
        back=None,
    )

    model = shrink(resnet.ResNet(resnet.BasicBlock, [2, 2, 2, 2]), BASIC, 3)
    model.conv1, model.maxpool = nn.Conv2d(3, BASIC[64], 3, 1, 1, bias=False), nn.Identity()
    trained(model, "cifar-resnet")
    save_file(without_counters(state(model)), cases.file("cifar-resnet/model.safetensors"))
    cases.runs(
        "cifar-resnet",
        "cifar-resnet/model.safetensors",
        model,
        "a 3x3 stem, which keys show, with stride 1 and without the pool behind it",
        input="small",
        set={"stem_stride": "1", "stem_pool": "false"},
        back=lambda loaded: state(model) | loaded,
    )

    plain50 = resnet50()
    path50 = "dilated-resnet50/model.safetensors"
    save_file(without_counters(state(plain50)), cases.file(path50))
    for stride, dilate in [
        (32, (False,) * 3),
        (16, (False, False, True)),
        (8, (False, True, True)),
    ]:
        overrides = {} if stride == 32 else {"set": {"output_stride": str(stride)}}
        cases.runs(
            f"dilated-resnet50-{stride}",
            path50,
            resnet50(dilate),
            f"replace_stride_with_dilation={list(dilate)}",
            input="odd",
            unlike=None if stride == 32 else plain50,
            back=lambda loaded: state(plain50) | loaded,
            **overrides,
        )

    # A timm network of an unnamed width: the name gives no constants, only the overrides do.
    narrow = partial(timm_small, "constants-timm-v2", "mobilenetv2_035", 0.07, num_classes=3)
    timm_v2 = narrow()
    path_timm = "constants-timm-v2/model.safetensors"
    save_file(without_counters(state(timm_v2)), cases.file(path_timm))
    for name, options, overrides in [
        ("timm-v2-stride-16", {"output_stride": 16}, {"output_stride": "16"}),
        ("timm-v2-stride-8", {"output_stride": 8}, {"output_stride": "8"}),
        (
            "timm-v2-tf",
            {"pad_type": "same", "bn_eps": 1e-3},
            {"padding": "same", "epsilon": "1e-3"},
        ),
        ("timm-v2-relu", {"act_layer": "relu"}, {"activation": "relu"}),
    ]:
        other = narrow(**options)
        other.load_state_dict(timm_v2.state_dict())
        cases.runs(
            name,
            path_timm,
            other,
            f"timm's {options}, without a config.json",
            input="odd",
            unlike=timm_v2,
            set=overrides,
            back=lambda loaded: state(timm_v2) | loaded,
        )


# --- constants in config.json -----------------------------------------------------


def shared_pool(model: nn.Module, name: str) -> State:
    """A state dict whose tensors are mostly overlapping views of five storages: a network of published width in
    a small file. Statistics are measured, and have a separate storage."""
    g = generator(name)
    weights = (0.15 * torch.randn(4096, generator=g)).half()
    scales, offsets = uniform(g, 2048, 0.5, 1.5).half(), uniform(g, 2048, -0.6, 1.2).half()
    offsets[::7] += 3.5
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    views = OrderedDict()
    for i, (key, tensor) in enumerate(model.state_dict().items()):
        module, _, leaf = key.rpartition(".")
        if leaf in ("running_mean", "running_var", "num_batches_tracked"):
            continue
        if leaf == "bias" or module in norms:
            pool = scales if leaf == "weight" else offsets
            at = 97 * i % (len(pool) - tensor.numel())
            views[key] = pool[at : at + tensor.numel()]
            continue
        # Overlapping rows: each starts a few values after the previous one.
        o, row = tensor.shape[0], tensor[0]
        steps = [1]
        for n in reversed(row.shape[1:]):
            steps.insert(0, steps[0] * n)
        reach = sum(step * (n - 1) for step, n in zip(steps, row.shape))
        step = min(7, (len(weights) - reach - 65) // o)
        assert step > 0, key
        views[key] = weights.as_strided(tensor.shape, (step, *steps), 13 * i % 64)
        assert len(torch.unique(views[key].flatten(1), dim=0)) == o
    model.load_state_dict(model.state_dict() | views)
    settle(model, name)
    counts, statistics, at = torch.tensor([1000]), [], 0
    tensors = model.state_dict()
    for key, tensor in tensors.items():
        if key.endswith(("running_mean", "running_var")):
            statistics.append(tensor.half())
    statistics = torch.cat(statistics)
    for key, tensor in tensors.items():
        if key.endswith(("running_mean", "running_var")):
            views[key] = statistics[at : at + tensor.numel()]
            at += tensor.numel()
        elif key.endswith("num_batches_tracked"):
            views[key] = counts[0]
    return OrderedDict((key, views[key]) for key in tensors)


def configurations(cases: Cases) -> None:
    """Networks from timm.create_model(architecture, **model_args), which have published widths."""
    hub = timm.create_model("mobilenetv2_035", num_classes=2).eval()
    tensors = shared_pool(hub, "timm-hub-v2")
    weights = "timm-hub/pytorch_model.bin"
    torch.save(tensors, cases.file(weights))
    save_config_for_hf(hub, str(cases.file("timm-hub/config.json")))
    back = lambda loaded: loaded
    cases.runs("timm-hub", "timm-hub", hub, "pytorch_model.bin as timm pushes it", back=back)
    for name, options in [
        ("timm-stride-16", {"output_stride": 16}),
        ("timm-stride-8", {"output_stride": 8}),
        ("timm-relu", {"act_layer": "relu"}),
        ("timm-hard-swish", {"act_layer": "hard_swish"}),
        ("timm-bn-eps", {"bn_eps": 0.001}),
        ("timm-pad-same", {"pad_type": "same"}),
    ]:
        other = timm.create_model("mobilenetv2_035", num_classes=2, **options).eval()
        other.load_state_dict(hub.state_dict())
        save_config_for_hf(other, str(cases.file(f"{name}/config.json")), model_args=options)
        saved = json.loads((FOLDER / name / "config.json").read_text())["model_args"]
        assert options.items() <= saved.items()
        # Check that timm builds the same network from the file.
        again = timm.create_model("mobilenetv2_035", **saved).eval()
        again.load_state_dict(hub.state_dict())
        x = cases.inputs["odd"]
        assert torch.equal(outputs_of(again, x)[0], outputs_of(other, x)[0])
        cases.runs(
            name,
            name,
            other,
            f"model_args of config.json: {options}",
            input="rgb" if "hard_swish" in options.values() else "odd",
            unlike=hub,
            weights=weights,
            back=back,
            **{"with": [weights]},
        )

    name = "tf_mobilenetv3_small_minimal_100"
    ported = timm.create_model(name, num_classes=2).eval()
    tensors = shared_pool(ported, "timm-tf")
    torch.save(tensors, cases.file(f"timm-tf/{name}.pth"))
    cases.runs(
        "timm-tf",
        f"timm-tf/{name}.pth",
        ported,
        "a tf_ network: its padding and epsilon follow from its name alone",
        input="odd",
        unlike=with_epsilon(ported, 1e-5),
        arch=f"timm/{name}",
        back=back,
    )

    wrapped = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
    tensors = shared_pool(wrapped, "timm-wrapper")
    prefixed = OrderedDict((f"timm_model.{key}", value) for key, value in tensors.items())
    torch.save(prefixed, cases.file("timm-wrapper/pytorch_model.bin"))
    config = transformers.TimmWrapperConfig(
        architecture="mobilenetv3_small_050", num_labels=3, label_names=["ant", "bee", "cow"]
    )
    config.architectures = ["TimmWrapperForImageClassification"]
    config.save_pretrained(FOLDER / "timm-wrapper")
    cases.runs(
        "timm-wrapper",
        "timm-wrapper",
        wrapped,
        "transformers' TimmWrapperForImageClassification: timm_model. before each key",
        back=without_prefix("timm_model."),
    )
    options = dict(act_layer="relu6", bn_eps=0.001, pad_type="same")
    other = timm.create_model("mobilenetv3_small_050", num_classes=3, **options).eval()
    other.load_state_dict(wrapped.state_dict())
    config.model_args = options
    config.save_pretrained(FOLDER / "timm-wrapper-args")
    cases.runs(
        "timm-wrapper-args",
        "timm-wrapper-args",
        other,
        f"the same with model_args {options}",
        input="odd",
        unlike=wrapped,
        weights="timm-wrapper/pytorch_model.bin",
        back=without_prefix("timm_model."),
        **{"with": ["timm-wrapper/pytorch_model.bin"]},
    )

    bases = {}
    for version in (1, 2):
        model = transformers_small(version, f"transformers-v{version}")
        weights = f"transformers-v{version}/model.safetensors"
        save_file(without_counters(state(model)), cases.file(weights))
        save_config(model, f"transformers-v{version}")
        back = lambda loaded: state(bases[1]) | loaded
        bases[version] = model
        cases.runs(
            f"transformers-v{version}",
            f"transformers-v{version}",
            model,
            "the library's own constants",
            input="odd",
            back=lambda loaded: state(model) | loaded,
        )
    for version, name, options, scores in [
        (2, "stride-16", {"output_stride": 16}, None),
        (2, "stride-8", {"output_stride": 8}, None),
        (2, "relu", {"hidden_act": "relu"}, None),
        (2, "hardswish", {"hidden_act": "hardswish"}, None),
        (2, "symmetric", {"tf_padding": False}, None),
        (2, "eps", {"layer_norm_eps": 1e-5}, None),
        (1, "relu", {"hidden_act": "relu"}, None),
        (1, "symmetric-eps", {"tf_padding": False, "layer_norm_eps": 1e-5}, None),
        (1, "multi-label", {"problem_type": "multi_label_classification"}, "sigmoid"),
        (1, "regression", {"problem_type": "regression"}, "none"),
        (1, "single-label", {"problem_type": "single_label_classification"}, "softmax"),
    ]:
        base = bases[version]
        other = with_other_options(base, **options)
        name = f"transformers-v{version}-{name}"
        save_config(other, name)
        weights = f"transformers-v{version}/model.safetensors"
        fields = {"with": [weights]}
        if scores:
            fields["scores"] = scores
        cases.runs(
            name,
            name,
            other,
            f"config.json: {options}",
            input="odd",
            unlike=None if scores else base,
            weights=weights,
            back=lambda loaded: state(base) | loaded,
            **fields,
        )
    first = transformers_small(2, "first-layer", first_layer_is_expansion=False)
    save_config(first, "transformers-v2-first-layer")
    path = "transformers-v2-first-layer/model.safetensors"
    save_file(without_counters(state(first)), cases.file(path))
    cases.runs(
        "transformers-v2-first-layer",
        "transformers-v2-first-layer",
        first,
        "first_layer_is_expansion=false: conv_stem.expand_1x1",
        input="odd",
        back=lambda loaded: state(first) | loaded,
    )

    model = lraspp("one-class", classes=1)
    save_file(without_counters(state(model)), cases.file("lraspp-one-class/model.safetensors"))
    cases.runs(
        "lraspp-one-class",
        "lraspp-one-class/model.safetensors",
        model,
        "one channel, trained with BCEWithLogitsLoss: a mask",
        input="odd",
        scores="sigmoid",
        back=lambda loaded: state(model) | loaded,
    )


# --- files of other networks, and files that are no checkpoints -----------------------


def varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes(data + bytes([value]))


def protobuf(*fields: tuple[int, int | bytes | str]) -> bytes:
    """A protobuf message of integers and texts."""
    data = b""
    for number, value in fields:
        if isinstance(value, int):
            data += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            data += varint(number << 3 | 2) + varint(len(value)) + value
    return data


def archive(entries: dict[str, bytes | str], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in entries.items():
            # A fixed date, to get identical bytes.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = method
            file.writestr(entry, data)
    return out.getvalue()


def floats(name: str, *shape: int) -> np.ndarray:
    return torch.randn(shape, generator=generator(name)).numpy()


def msgpack(value) -> bytes:
    """MessagePack as in flax.serialization: arrays are extensions of type 1."""
    if isinstance(value, dict):
        parts = [msgpack(key) + msgpack(item) for key, item in value.items()]
        return bytes([0x80 | len(parts)]) + b"".join(parts)
    if isinstance(value, str):
        return bytes([0xA0 | len(value)]) + value.encode()
    shape = b"".join(bytes([n]) for n in value.shape)
    inner = bytes([0x93, 0x90 | len(shape)]) + shape + msgpack("float32")
    inner += b"\xc5" + struct.pack(">H", value.nbytes) + value.tobytes()
    return b"\xc8" + struct.pack(">H", len(inner)) + b"\x01" + inner


HDF5 = (
    b"\x89HDF\r\n\x1a\n"
    + bytes([0, 0, 0, 0, 0, 8, 8, 0])
    + struct.pack("<HHI", 4, 16, 0)
    + struct.pack("<QQQQ", 0, 2**64 - 1, 2048, 2**64 - 1)
    + struct.pack("<QQII", 0, 96, 1, 0)
    + struct.pack("<QQ", 136, 680)
    + bytes(8)
    + b"TREE\x00\x00\x01\x00"
    + bytes(600)
)


def foreign_files(cases: Cases) -> None:
    def file(name: str, path: str, data: bytes | str, words: str, why: str) -> None:
        cases.bytes(f"{name}/{path}", data)
        cases.refused(name, f"{name}/{path}", words, why)

    weight = floats("onnx", 3, 3, 3, 3)
    tensor = [(1, n) for n in weight.shape]
    graph = protobuf(
        (
            1,
            protobuf(
                (1, "input"), (1, "features.0.0.weight"), (2, "/features/0/Conv"), (4, "Conv")
            ),
        ),
        (2, "main_graph"),
        (5, protobuf(*tensor, (2, 1), (8, "features.0.0.weight"), (9, weight.tobytes()))),
        (11, protobuf((1, "input"))),
        (12, protobuf((1, "output"))),
    )
    opset = protobuf((1, ""), (2, 17))
    onnx = protobuf((1, 8), (2, "pytorch"), (3, "2.5.1"), (7, graph), (8, opset))
    file("onnx", "mobilenet_v2.onnx", onnx, "ONNX", "torch.onnx.export")
    file("onnx-renamed", "model.safetensors", onnx, "ONNX", "the same under another ending")
    flatbuffer = struct.pack("<I", 28) + b"TFL3" + bytes(20) + struct.pack("<iI", 12, 3)
    flatbuffer += b"\x04\x00MOBILENET_V2" + bytes(128)
    file("tflite", "mobilenet_v2.tflite", flatbuffer, "TFLite|TensorFlow", "a flatbuffer")
    file("hdf5", "mobilenet_v2.h5", HDF5, "HDF5|Keras", "Keras' weights")
    keras = {
        "metadata.json": '{"keras_version": "3.5.0"}',
        "config.json": '{"class_name": "Functional", "config": {"name": "mobilenetv2_1.00_224"}}',
        "model.weights.h5": HDF5,
    }
    file("keras", "model.keras", archive(keras), "Keras", "a zip archive that is not PyTorch's")
    meta = protobuf((1, protobuf((1, ""), (4, "serve"))), (2, protobuf((1, b""))))
    cases.bytes("saved-model/saved_model.pb", protobuf((1, 1), (2, meta)))
    cases.bytes("saved-model/variables/variables.index", b"\x00\x00\x02\x08\x01" + bytes(60))
    cases.bytes("saved-model/variables/variables.data-00000-of-00001", weight.tobytes())
    cases.refused("saved-model", "saved-model", "SavedModel|TensorFlow", "TensorFlow's folder")
    cases.refused(
        "saved-model-file", "saved-model/saved_model.pb", "SavedModel|TensorFlow", "its graph alone"
    )
    node = lambda name, op: (1, protobuf((1, name), (2, op)))
    frozen = protobuf(
        node("input", "Placeholder"),
        node("MobilenetV2/Conv/weights", "Const"),
        node("MobilenetV2/Conv/Conv2D", "Conv2D"),
    )
    file("frozen-graph", "frozen_graph.pb", frozen, "TensorFlow", "a GraphDef")
    manifest = [{"name": "Conv1/kernel", "shape": [3, 3, 3, 3], "dtype": "float32"}]
    manifest = [{"paths": ["group1-shard1of1.bin"], "weights": manifest}]
    topology = {"format": "layers-model", "modelTopology": {}, "weightsManifest": manifest}
    cases.bytes("tfjs/model.json", json.dumps(topology))
    cases.bytes("tfjs/group1-shard1of1.bin", weight.tobytes())
    cases.refused("tfjs", "tfjs", "TensorFlow.js", "a folder for browsers")
    cases.refused("tfjs-file", "tfjs/model.json", "TensorFlow.js", "its description")
    gguf = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    gguf += struct.pack("<Q", 20) + b"general.architecture" + struct.pack("<IQ", 8, 5) + b"llama"
    file("gguf", "model.gguf", gguf + bytes(64), "GGUF", "llama.cpp's")
    arrays = io.BytesIO()
    np.savez(arrays, **{"Conv/weights": weight})
    file("npz", "weights.npz", arrays.getvalue(), "NumPy|npz", "a zip archive of arrays")
    wheel = {
        "goldfish/__init__.py": "",
        "goldfish-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: goldfish\nVersion: 1.0\n",
        "goldfish-1.0.dist-info/RECORD": "goldfish/__init__.py,,\n",
    }
    file("wheel", "goldfish-1.0-py3-none-any.whl", archive(wheel), "zip", "a zip archive of code")
    page = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Log in</body></html>\n"
    file("html", "model.safetensors", page, "HTML|page", "a login page that was saved as the file")
    denied = '{"error":"Invalid username or password."}'
    file("json-error", "model.safetensors", denied, "JSON", "a hub's refusal that was saved")
    denied = "Repository not found"
    file("text-error", "model.safetensors", denied, "text", "the same in words")
    digest = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 14249204\n"
    file("git-lfs", "model.safetensors", pointer, "LFS", "a clone without git lfs")
    file("git-lfs-pth", "resnet18.pth", pointer, "LFS", "the same of a PyTorch file")

    packed = gzip.compress((FOLDER / "legacy/resnet18.pth").read_bytes()[:3000], mtime=0)
    file("gzip", "resnet18.pth.gz", packed, "gzip", "a checkpoint that has to be unpacked first")
    file("empty", "model.safetensors", b"", "empty", "a download that never began")
    file("empty-pth", "resnet18.pth", b"", "empty", "the same of a PyTorch file")
    whole = (FOLDER / "loss-weight/model.safetensors").read_bytes()
    file("truncated", "model.safetensors", whole[:15_000], "truncated", "in the tensors")
    file("truncated-header", "model.safetensors", whole[:900], "truncated", "in the header")
    whole = (FOLDER / "zip/resnet18.pth").read_bytes()
    file("truncated-zip", "resnet18.pth", whole[:9_000], "truncated", "no central directory")
    whole = (FOLDER / "legacy/resnet18.pth").read_bytes()
    file("truncated-legacy", "resnet18.pth", whole[:-900], "truncated", "in the last storages")

    bomb = {"archive/data.pkl": b"\x80\x02" + b"N" * 50_000_000 + b".", "archive/version": "3\n"}
    file(
        "bomb",
        "model.pth",
        archive(bomb, zipfile.ZIP_DEFLATED),
        "pickle",
        "fifty million objects on the pickle's stack, in as many bytes deflated to few",
    )

    class Command:
        def __reduce__(self):
            return os.system, ("true",)

    file(
        "os-system",
        "model.pt",
        pickle.dumps(Command(), protocol=2),
        "system",
        "a pickle that runs a command when Python reads it: nothing here may",
    )
    numpy_arrays = {"features.0.0.weight": weight, "features.0.1.bias": floats("bias", 3)}
    file(
        "numpy-pickle",
        "weights.pkl",
        pickle.dumps(numpy_arrays, protocol=4),
        "NumPy|numpy",
        "a pickle of arrays that no tensor library wrote",
    )
    file(
        "paddle",
        "MobileNetV2_pretrained.pdparams",
        pickle.dumps(numpy_arrays | {"StructuredToParameterName@@": {}}, protocol=2),
        "Paddle|NumPy|numpy",
        "PaddlePaddle's parameters, a pickle of arrays too",
    )
    description = protobuf((1, protobuf((1, "image"))), (10, protobuf((1, "classLabelProbs"))))
    layer = protobuf((1, "conv1"), (2, "image"), (3, "conv1_out"))
    coreml = protobuf((1, 4), (2, description), (500, protobuf((1, layer))))
    file("coreml", "MobileNetV2.mlmodel", coreml, "CoreML|Core|protobuf", "a protobuf message")
    package = "mlpackage/MobileNetV2.mlpackage"
    items = {"A": {"path": "com.apple.CoreML/model.mlmodel", "name": "model.mlmodel"}}
    items = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": "A"}
    cases.bytes(f"{package}/Manifest.json", json.dumps(items))
    cases.bytes(f"{package}/Data/com.apple.CoreML/model.mlmodel", coreml)
    cases.bytes(f"{package}/Data/com.apple.CoreML/weights/weight.bin", weight.tobytes())
    cases.refused("mlpackage", package, "CoreML|Core", "Core ML's folder")
    xml = '<?xml version="1.0"?>\n<net name="main_graph" version="11">\n<layers></layers>\n</net>\n'
    cases.bytes("openvino/mobilenet_v2.xml", xml)
    cases.bytes("openvino/mobilenet_v2.bin", weight.tobytes())
    cases.refused("openvino", "openvino", "OpenVINO", "a folder whose .bin is not PyTorch's")
    cases.refused("openvino-file", "openvino/mobilenet_v2.xml", "OpenVINO|XML", "its description")
    cases.refused(
        "openvino-bin", "openvino/mobilenet_v2.bin", "not|unknown", "numbers without names"
    )
    text = "7767517\n2 2\nInput data 0 1 data\nConvolution conv1 1 1 data conv1 0=3 1=3\n"
    cases.bytes("ncnn/mobilenet_v2.param", text)
    cases.bytes("ncnn/mobilenet_v2.bin", bytes(4) + weight.tobytes())
    cases.refused("ncnn", "ncnn", "ncnn", "a folder whose .bin is not PyTorch's")
    cases.refused("ncnn-file", "ncnn/mobilenet_v2.param", "ncnn|text", "its description")
    flax = msgpack({"params": {"Conv_0": {"kernel": weight}}})
    file("flax", "flax_model.msgpack", flax, "msgpack|MessagePack|Flax", "JAX's parameters")
    engine = b"ftrt" + struct.pack("<II", 0xB7, 412) + bytes(range(200))
    file("tensorrt", "mobilenet_v2.engine", engine, "TensorRT", "a serialized engine")
    code = "import torch\n\nmodel = torch.nn.Linear(1, 1)\n"
    file("python", "model.py", code, "text|Python", "source text")
    file("jpeg", "cat.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(300), "JPEG", "a picture")

    # A call next to a state dict is harmless if the reader makes no calls.
    model = resnet18("containers")
    saved = {"state_dict": without_counters(state(model)), "hook": Command()}
    save_legacy(saved, cases.file("os-system-beside/checkpoint.pth"))
    cases.runs(
        "os-system-beside",
        "os-system-beside/checkpoint.pth",
        model,
        "a state dict beside a call that Python would make, and nothing else may",
        back=None,
    )


def strangers(cases: Cases) -> None:
    """Networks of other families: real keys, few channels, zeros as values."""

    def timm_model(name: str) -> nn.Module:
        return timm.create_model(name)

    def torchvision_model(name: str) -> nn.Module:
        return getattr(torchvision.models, name)()

    def resnext(name: str) -> nn.Module:
        """Two groups of two channels."""
        grouped = dict(groups=32, width_per_group=4)
        model = resnet.ResNet(resnet.Bottleneck, [3, 4, 6, 3], **grouped)
        return shrink(model, dict.fromkeys(BOTTLENECK, 4), 2)

    for build, name, words in [
        (timm_model, "mobilenetv4_hybrid_medium", "hybrid|attention"),
        (timm_model, "mobilenet_edgetpu_v2_s", "EdgeTPU"),
        (timm_model, "efficientnet_b0", "EfficientNet|MobileNet"),
        (timm_model, "efficientnet_lite0", "EfficientNet|MobileNet"),
        (timm_model, "mnasnet_100", "MNASNet|MobileNet"),
        (torchvision_model, "mnasnet1_0", "MNASNet|unknown"),
        (timm_model, "ghostnet_100", "GhostNet|MobileNet"),
        (timm_model, "vit_tiny_patch16_224", "ViT|transformer|unknown"),
        (resnext, "resnext50_32x4d", "ResNeXt|groups|grouped"),
        (timm_model, "convnext_atto", "ConvNeXt|unknown"),
        (timm_model, "resnet18d", "resnet18d|unknown|stem"),
    ]:
        with torch.device("meta"):
            model = build(name)
        zeros = OrderedDict()
        for key, tensor in without_counters(model.state_dict()).items():
            window = tensor.shape[2:] if tensor.dim() == 4 else ()
            outer = [min(n, 2) for n in tensor.shape[: tensor.dim() - len(window)]]
            if build is resnext:
                outer, window = tensor.shape, ()
            zeros[key] = torch.zeros(*outer, *window, dtype=torch.float16)
        path = f"stranger-{name}/model.safetensors"
        save_file(zeros, cases.file(path))
        assert cases.file(path).stat().st_size < 60_000, (name, cases.file(path).stat().st_size)
        cases.refused(f"stranger-{name}", path, words, "keys like those of a network that runs")


PARTS = [
    containers,
    wrappers,
    prefixes,
    leftovers,
    heads,
    fold,
    reparametrized,
    stems,
    constants,
    configurations,
    foreign_files,
    strangers,
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the cases too")
    listed = parser.parse_args().list

    if os.environ.get("PYTHONHASHSEED") != "0":
        # TorchScript writes some sets in hash order.
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)

    torch.set_num_threads(1)  # deterministic sums
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")  # TorchScript and eager quantization are deprecated

    shutil.rmtree(FOLDER, ignore_errors=True)
    cases = Cases()
    for part in PARTS:
        part(cases)
    cases.write()
    if listed:
        for case in cases.list:
            what = "refused" if "refused" in case else " ".join(case["outputs"])
            print(f"{case['name']}: {what}; {case['why']}")
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(
        f"{len(cases.list)} cases, {len(files)} files, {size:,} bytes; "
        f"largest f32 error {cases.worst:.1e}"
    )
    assert size < MOST_BYTES


if __name__ == "__main__":
    main()
