"""Compares `goldcrest classify` with Pillow and ONNX Runtime in pictures per second, from files to classes.

    python -m venv venv
    venv/bin/pip install pillow numpy scikit-image onnxruntime onnx onnxscript torch torchvision safetensors
    cargo build --release
    venv/bin/python benches/pictures.py --out benches/runs/DATE-MACHINE-pictures.json

Makes JPEG files of 4000x3000 and of 640x480 pixels from scikit-image's photographs, and MobileNetV2 with seeded
weights. A round measures each program once over all files, from the first file to the last result, without the
program's start. The peer is the better of two programs: threads that each decode, prepare and run their pictures with
one thread of ONNX Runtime, or threads that decode ahead of one ONNX Runtime session with all threads.

The results are medians over rounds. `alone` is the time that one thread of Goldcrest takes for decoding, preparing
and running a picture; the number of threads divided by it is the upper bound of pictures per second.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime
import skimage
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"12 MP": (4000, 3000), "640x480": (640, 480)}
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def photographs(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Writes enlarged parts of photographs with added camera noise."""
    sources = [getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        source = Image.fromarray(sources[i % len(sources)])
        width = rng.integers(source.width // 2, source.width)
        height = min(source.height, width * 3 // 4)
        left, top = rng.integers(0, source.width - width + 1), rng.integers(0, source.height - height + 1)
        part = source.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
        noisy = np.asarray(part, np.int16) + rng.normal(0, 3, (size[1], size[0], 3)).astype(np.int16)
        paths.append(folder / f"{size[0]}-{i:03}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def network(folder: Path) -> tuple[Path, Path]:
    """Writes MobileNetV2 for both programs."""
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v2().eval()
    weights, onnx = folder / "mobilenet_v2.safetensors", folder / "mobilenet_v2.onnx"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, weights)
    torch.onnx.export(model, (torch.rand(1, 3, 224, 224),), onnx, dynamo=True, verbose=False)
    return weights, onnx


def prepared(path: Path) -> np.ndarray:
    """Prepares a picture as for torchvision's IMAGENET1K_V2 weights: shorter side 232, central crop of 224."""
    picture = Image.open(path).convert("RGB")
    scale = 232 / min(picture.size)
    picture = picture.resize([int(scale * side) for side in picture.size], Image.Resampling.BILINEAR)
    left, top = round((picture.width - 224) / 2), round((picture.height - 224) / 2)
    pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)
    return ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1)[None]


def peer(paths: list[Path], onnx: Path, threads: int, together: bool) -> float:
    """Measures Pillow and ONNX Runtime, in pictures per second."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads if together else 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(values: np.ndarray) -> np.ndarray:
        return session.run(None, {name: values})[0][0].argsort()[::-1][:5]

    run(prepared(paths[0]))
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        if together:
            results = [run(values) for values in pool.map(prepared, paths)]
        else:
            results = list(pool.map(lambda path: run(prepared(path)), paths))
    assert len(results) == len(paths)
    return len(paths) / (time.perf_counter() - start)


def goldcrest(paths: list[Path], weights: Path, *options) -> dict:
    """The timings that `goldcrest classify` reports."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as names:
        names.write("\n".join(map(str, paths)))
        names.flush()
        command = [
            target / "release/goldcrest", "classify", f"@{names.name}", "--weights", weights,
            "--arch", "torchvision/mobilenet_v2", "--json", *map(str, options),
        ]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    report = json.loads(output)
    assert report["succeeded"] == len(paths)
    return report["timings"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500, help="pictures per size")
    parser.add_argument("--files", type=int, default=50, help="files per size, each used several times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--gpu", action="store_true", help="also measure the graphics adapter, even a software one")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args()

    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights, onnx = network(folder)
        for label, size in SIZES.items():
            files = photographs(folder, size, args.files)
            paths = [files[i % len(files)] for i in range(args.count)]
            alone = goldcrest(paths[: args.files], weights, "--backend", "cpu", "--threads", 1)
            spent = {key: alone[f"{key}_ms"] / args.files for key in ("decode", "prepare", "infer")}
            best = 1e3 * args.threads / sum(spent.values())
            programs = {
                "goldcrest-cpu": lambda: goldcrest(paths, weights, "--backend", "cpu", "--threads", args.threads)["pictures_per_s"],
                "peer": lambda: peer(paths, onnx, args.threads, False),
                "peer-together": lambda: peer(paths, onnx, args.threads, True),
            }
            if args.gpu:
                programs["goldcrest-gpu"] = lambda: goldcrest(paths, weights, "--backend", "gpu")["pictures_per_s"]
            rounds = {name: [] for name in programs}
            for _ in range(args.rounds):
                for name, program in programs.items():
                    rounds[name].append(program())
            rates = {name: statistics.median(of_program) for name, of_program in rounds.items()}
            rival = max(rates["peer"], rates["peer-together"])
            print(f"{label}: {', '.join(f'{name} {rate:.1f}/s' for name, rate in rates.items())}")
            print(f"{label}: {rates['goldcrest-cpu'] / rival:.2f} times the peer, {rates['goldcrest-cpu'] / best:.2f} of "
                  f"the upper bound for these threads; alone {', '.join(f'{k} {v:.1f} ms' for k, v in spent.items())}")
            results.append({"pictures": label, "per_s": rates, "alone_ms": spent, "at_best_per_s": best, "turns": rounds})
    if args.out:
        report = {
            "date": date.today().isoformat(),
            "machine": {"cores": args.threads},
            "versions": {"onnxruntime": onnxruntime.__version__, "pillow": Image.__version__},
            "results": results,
        }
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
