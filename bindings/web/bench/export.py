#!/usr/bin/env python3
"""Write torchvision's networks with seeded weights as ONNX files, for `compare.mjs`.

    venv/bin/pip install torch torchvision onnx onnxscript
    venv/bin/python bench/export.py FOLDER
"""

import pathlib
import sys

import torch
import torchvision

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name in ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"):
    torch.manual_seed(1)
    network = getattr(torchvision.models, name)().eval()
    picture = torch.zeros(1, 3, 224, 224)
    torch.onnx.export(network, (picture,), folder / f"{name}.onnx", input_names=["x"], output_names=["y"], dynamo=False)
