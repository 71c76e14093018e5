"""The golden fixtures: checkpoints made from a recipe, and the outputs of torchvision and timm in f64.

`scripts/make_fixtures.py` in the repository describes and writes them.
"""

import json
import math
import struct
from pathlib import Path

import numpy as np
from PIL import Image

FIXTURES = Path(__file__).resolve().parents[3] / "tests/fixtures"
SCATTER = 0x9E3779B97F4A7C15
TYPES = {"F32": np.float32, "F16": np.float16, "U8": np.uint8, "I64": np.int64}


def read(path):
    """Reads the tensors of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + at for at in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[start:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def write(path, tensors):
    """Writes tensors of float32 and int64 as a safetensors file."""
    header, at = {}, 0
    for name, tensor in tensors.items():
        kind = "F32" if tensor.dtype == np.float32 else "I64"
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.tobytes())


def uniform(key, count):
    """Values in [-1, 1) from a key."""
    with np.errstate(over="ignore"):
        seed = np.uint64(0xCBF29CE484222325)
        for byte in key.encode():
            seed = (seed ^ np.uint64(byte)) * np.uint64(0x100000001B3)
        z = seed + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(SCATTER)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)


class Fixture:
    """A network, and its library's outputs."""

    def __init__(self, name):
        self.stored = read(FIXTURES / f"networks/{name}.safetensors")
        self.recipe = json.loads((FIXTURES / f"networks/{name}.json").read_text())

    def checkpoint(self, folder):
        """Writes the checkpoint to a folder, and returns its path."""
        tensors = {}
        for entry in self.recipe["tensors"]:
            key, shape = entry["key"], entry["shape"]
            if entry["fill"] == "uniform":
                values = np.float32(entry["offset"]) + np.float32(entry["scale"]) * uniform(key, math.prod(shape))
                for lift in entry.get("lifts", []):
                    values[lift["first"] :: lift["every"]] += np.float32(lift["by"])
                tensors[key] = values.reshape(shape)
            elif entry["fill"] == "stored":
                tensors[key] = self.stored[f"stat/{key}"].astype(np.float32)
            else:
                tensors[key] = np.zeros(shape, np.int64)
        write(folder / "model.safetensors", tensors)
        for name, content in self.recipe["files"].items():
            (folder / name).write_text(json.dumps(content))
        return folder / "model.safetensors"

    def picture(self, case):
        return FIXTURES / "pictures" / self.recipe["cases"][case]["picture"]

    def input(self, case):
        """The normalised picture, as a batch of one."""
        pixels = np.asarray(Image.open(self.picture(case)).convert("RGB"), np.float64)
        mean, std = (np.array(self.recipe["cases"][case][key]) for key in ("mean", "std"))
        return np.moveaxis((pixels / 255 - mean) / std, -1, 0)[None].astype(np.float32)

    def expected(self, name, case):
        return self.stored[f"{name}/{case}"]


def sample(values, count=4096):
    """The values at the positions that large outputs are stored for."""
    flat = values.reshape(-1)
    at = [(j * SCATTER) % 2**64 % flat.size for j in range(count)]
    return flat[at]


def error(found, expected):
    """||found - expected|| / ||expected||."""
    found, expected = (np.asarray(values, np.float64).reshape(-1) for values in (found, expected))
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)
