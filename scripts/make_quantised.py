#!/usr/bin/env python3
"""Make the fixtures of torch's int8 networks: checkpoints from `torch.ao.quantization.convert`, and
torch's outputs with them.

    python3 -m venv .venv
    .venv/bin/pip install torch torchvision==0.29.* safetensors
    .venv/bin/python scripts/make_quantised.py

Nothing is downloaded beyond the packages, and it takes seconds. The networks are torchvision's, with
few channels. Their weights are random, seeded with a name, and their statistics are measured, so that
values neither vanish nor explode. The rounding of torch's kernels depends on the processor: on another
machine, outputs may differ by one quantisation step.

tests/fixtures/quantised/expected.safetensors
---------------------------------------------
    input           F32  [N, 3, rows, columns], already normalised
    NAME/int8       F32  torch's output with NAME's file, multiples of the quantisation step
    NAME/float      F32  the output of the network before conversion
    NAME/stem       F32  the output of its first module, multiples of the quantisation step
"""

import copy
import pickle
import shutil
import warnings
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.ao import quantization
from torchvision.models import mobilenetv3
from torchvision.models.quantization import mobilenetv2 as v2
from torchvision.models.quantization import mobilenetv3 as v3
from torchvision.models.quantization import resnet

FOLDER = Path(__file__).resolve().parent.parent / "tests/fixtures/quantised"
MOST_BYTES = 800_000


def generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def pictures(name: str, count: int, side: int = 48) -> torch.Tensor:
    """Noise plus a smooth random field, so that adjacent pixels are correlated."""
    g = generator(name)
    smooth = torch.randn(count, 3, 5, 5, generator=g)
    smooth = nn.functional.interpolate(smooth, size=(side, side), mode="bicubic")
    return smooth + 0.3 * torch.randn(count, 3, side, side, generator=g)


def trained(model: nn.Module, name: str) -> nn.Module:
    """Fills a model with random weights and measures the batch-norm statistics."""
    g = generator(name)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            module.weight.copy_(torch.randn(module.weight.shape, generator=g) * (2 / fan_in) ** 0.5)
            if module.bias is not None:
                module.bias.copy_(0.5 * torch.randn(module.bias.shape, generator=g))
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.copy_(0.5 + torch.rand(module.weight.shape, generator=g))
            # Mostly above 0, so that no channel dies in a ReLU.
            module.bias.copy_(0.5 + 0.5 * torch.randn(module.bias.shape, generator=g))
            module.momentum = None  # a plain average over the batches
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    model(pictures(f"{name}/statistics", 64, 64))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.clamp_(min=1e-2)
    return model.eval()


def mobilenet_v2() -> nn.Module:
    block = v2.QuantizableInvertedResidual
    small = dict(width_mult=0.0625, round_nearest=4)
    model = v2.QuantizableMobileNetV2(num_classes=5, block=block, **small)
    v2._replace_relu(model)
    return model


def mobilenet_v3_large() -> nn.Module:
    narrow = {16: 4, 24: 4, 40: 8, 80: 8, 112: 8, 160: 12}
    settings, _ = mobilenetv3._mobilenet_v3_conf("mobilenet_v3_large")
    for block in settings:
        expands = block.expanded_channels != block.input_channels
        block.input_channels = narrow[block.input_channels]
        block.expanded_channels = block.input_channels * (3 if expands else 1)
        block.out_channels = narrow[block.out_channels]
    block = v3.QuantizableInvertedResidual
    model = v3.QuantizableMobileNetV3(settings, last_channel=32, num_classes=5, block=block)
    v3._replace_relu(model)
    return model


def resnet18() -> nn.Module:
    model = resnet.QuantizableResNet(resnet.QuantizableBasicBlock, [2, 2, 2, 2], num_classes=5)
    narrow = {64: 4, 128: 6, 256: 8, 512: 12}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                sizes = [narrow.get(n, n) for n in (child.in_channels, child.out_channels)]
                shape = child.kernel_size, child.stride, child.padding
                setattr(parent, name, nn.Conv2d(*sizes, *shape, bias=False))
            elif isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.BatchNorm2d(narrow[child.num_features]))
    model.fc = nn.Linear(narrow[512], 5)
    return model


def converted(model: nn.Module, engine: str, name: str) -> nn.Module:
    torch.backends.quantized.engine = engine
    model = copy.deepcopy(model)
    model.fuse_model(is_qat=False)
    model.qconfig = quantization.get_default_qconfig(engine)
    quantization.prepare(model, inplace=True)
    model(pictures(f"{name}/calibration", 16))
    return quantization.convert(model, inplace=True)


def save_legacy(value, path: Path) -> None:
    """torch.save before 1.6, but with numbered storages: torch names them by memory address."""
    numbers: dict[int, str] = {}
    torch.serialization.str = lambda data: numbers.setdefault(data, f"{9000 + len(numbers)}")
    with path.open("wb") as file:
        torch.serialization._legacy_save(value, file, pickle, 2)
    del torch.serialization.str


def main() -> None:
    torch.set_num_threads(1)  # deterministic sums
    torch.set_grad_enabled(False)
    warnings.simplefilter("ignore")  # eager quantization is deprecated
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)

    x = pictures("input", 4)
    expected = {"input": x}
    for name, build, engine, save in [
        ("mobilenet_v2", mobilenet_v2, "fbgemm", torch.save),
        # One quantisation step for all weights of a layer, as qnnpack requires.
        (
            "mobilenet_v2-qnnpack",
            mobilenet_v2,
            "qnnpack",
            lambda state, path: save_legacy({"state_dict": state, "epoch": 3}, path),
        ),
        (
            "mobilenet_v3_large",
            mobilenet_v3_large,
            "fbgemm",
            lambda state, path: torch.save({"model": state}, path, pickle_protocol=4),
        ),
        ("resnet18", resnet18, "fbgemm", torch.save),
    ]:
        model = trained(build(), name.split("-")[0])
        int8 = converted(model, engine, name)
        stem = []
        first = int8.conv1 if engine == "fbgemm" and hasattr(int8, "conv1") else int8.features[0][0]
        first.register_forward_hook(lambda _, __, y: stem.append(y.dequantize().contiguous()))
        outputs = {"int8": int8(x), "float": model(x), "stem": stem[0][:1]}
        expected |= {f"{name}/{what}": value.contiguous() for what, value in outputs.items()}
        save(int8.state_dict(), FOLDER / f"{name}.pth")
        off = (outputs["int8"] - outputs["float"]).norm() / outputs["float"].norm()
        print(f"{name}: torch's int8 output has a relative error of {off:.3f}")

    # Only the weights of dense layers are int8.
    model = trained(resnet18(), "resnet18")
    dynamic = quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    torch.save(dynamic.state_dict(), FOLDER / "dynamic.pth")
    expected |= {"dynamic/int8": dynamic(x), "dynamic/float": model(x)}

    save_file(expected, FOLDER / "expected.safetensors")
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"{size:,} bytes")
    assert size < MOST_BYTES


if __name__ == "__main__":
    main()
