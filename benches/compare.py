"""Compares Goldcrest with other inference engines on one machine, in alternating rounds.

    python -m venv venv
    venv/bin/pip install torch torchvision timm safetensors ncnn pnnx onnxruntime openvino onnx onnxscript
    cargo build --release
    cargo build --release --manifest-path benches/burn/Cargo.toml
    venv/bin/python benches/compare.py --rounds 5 --out benches/runs/DATE-MACHINE.json

On a machine with CUDA, all GPU measurements in one command:

    venv/bin/python benches/compare.py --batches 1 8 64 256 --tune 60 --out benches/runs/DATE-GPU.json

Without a graphics adapter, the CPU engine against ONNX Runtime and OpenVINO, with equal numbers of threads:

    venv/bin/python benches/compare.py --cpu-only --threads 1 2 --out benches/runs/DATE-CPU.json

Builds torchvision's networks, and timm's V1, with seeded weights, and gives every engine the same
weights in its format; only burn has other weights. A round measures every program once, some
inferences each, so that disturbances of the machine affect all of them. The results are the median
over rounds of each program's median, and the ratios of these medians. Pictures of 224x224, from a
tensor in memory to logits in memory. Goldcrest, burn's wgpu backend and ncnn use the same Vulkan
adapter, ncnn only with one picture per run. Goldcrest's CPU engine, ONNX Runtime and OpenVINO use
equal numbers of threads. With CUDA, PyTorch runs too: eager and compiled with CUDA graphs, in f32 and
f16, channels last; its input and output are in CPU memory for wall time and on the device for GPU
time.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import ncnn
import numpy as np
import onnxruntime
import openvino
import timm
import torch
import torchvision
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
# The library of each network; torchvision has no V1.
NETWORKS = {
    "mobilenet_v1": "timm/mobilenetv1_100",
    "mobilenet_v2": "torchvision/mobilenet_v2",
    "mobilenet_v3_large": "torchvision/mobilenet_v3_large",
    "mobilenet_v3_small": "torchvision/mobilenet_v3_small",
    "resnet50": "torchvision/resnet50",
}
DEFAULT_NETWORKS = [name for name in NETWORKS if name.startswith("mobilenet")]
SHAPE = (1, 3, 224, 224)


def build(name: str) -> torch.nn.Module:
    """Builds the network with seeded weights."""
    torch.manual_seed(0)
    library, arch = NETWORKS[name].split("/")
    model = timm.create_model(arch) if library == "timm" else torchvision.models.get_model(arch)
    return model.eval()


def prepare(name: str, folder: Path, cpu_only: bool, threads: list[int]) -> None:
    """Writes the network's weights as safetensors, as ONNX for the CPU engines, and as ncnn's param and bin
    unless they exist."""
    model = build(name)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / f"{name}.safetensors")
    if threads:
        # Two pictures: with one, the exporter would make the batch a constant.
        batch = {0: torch.export.Dim("batch")}
        torch.onnx.export(
            model, (torch.rand(2, *SHAPE[1:]),), folder / f"{name}.onnx",
            dynamo=True, verbose=False, dynamic_shapes=(batch,),
        )
    if cpu_only or (folder / f"{name}.ncnn.bin").exists():
        return
    torch.jit.trace(model, torch.rand(SHAPE)).save(folder / f"{name}.pt")
    pnnx = Path(sys.executable).with_name("pnnx")
    shape = "inputshape=" + str(list(SHAPE)).replace(" ", "")
    subprocess.run([pnnx, f"{name}.pt", shape, "fp16=0"], cwd=folder, check=True, capture_output=True)


def timed(run, runs: int) -> float:
    """Measures the median of `runs` runs, in milliseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def first(make, run) -> float:
    """Measures loading and the first inference, compilation included, in milliseconds."""
    start = time.perf_counter()
    make()
    run()
    return 1e3 * (time.perf_counter() - start)


class Program:
    """A program that runs once per round and prints JSON. Its start, compilation and first run are not counted."""

    def __init__(self, crate: Path, path: str, *arguments):
        target = Path(os.environ.get("CARGO_TARGET_DIR", crate / "target"))
        self.command = [target / "release" / path, *map(str, arguments)]
        self.report = {}

    def measure(self, runs: int) -> dict:
        command = [*self.command, "--runs", str(runs)]
        output = subprocess.run(command, check=True, capture_output=True, text=True)
        # Keep the start of the first round: there, the program's cache is still empty.
        first = self.report.get("first_ms")
        self.report = self.row(json.loads(output.stdout))
        self.report["first_ms"] = first or self.report["first_ms"]
        times = {"wall": self.report["wall_ms"]["median"]}
        if self.report.get("gpu_ms"):
            times["gpu"] = self.report["gpu_ms"]["median"]
        return times

    def row(self, report: dict) -> dict:
        """The part of the printed report that describes this network."""
        return report


class Goldcrest(Program):
    """A row of `goldcrest bench`."""

    def __init__(self, name: str, folder: Path, batch: int, backend: str, *options):
        network = [*checkpoint(name, folder), "--batches", batch, "--backend", backend]
        super().__init__(ROOT, "goldcrest", "bench", "--json", "--seconds", 0, *network, *options)

    def row(self, report: dict) -> dict:
        [row] = report["results"]
        return row


def checkpoint(name: str, folder: Path) -> list:
    return ["--weights", folder / f"{name}.safetensors", "--arch", NETWORKS[name]]


def tune(name: str, folder: Path, batch: int, seconds: int, precision: str) -> None:
    """Tunes Goldcrest, which saves the results in its cache."""
    options = ["--batch", batch, "--budget", seconds, "--precision", precision, "--backend", "gpu"]
    tuner = Program(ROOT, "goldcrest", "tune", *checkpoint(name, folder), *options)
    subprocess.run(tuner.command, check=True, capture_output=True)


class Burn(Program):
    """burn's wgpu backend. It keeps its autotuning results for the following rounds."""

    def __init__(self, name: str, batch: int):
        super().__init__(ROOT / "benches/burn", "burn-peer", name, "--batch", batch)


class Ncnn:
    """ncnn's Vulkan backend."""

    def __init__(self, name: str, folder: Path, half: bool = False):
        self.input = ncnn.Mat(np.random.default_rng(0).random(SHAPE[1:], dtype=np.float32))
        self.report = {"first_ms": first(lambda: self.load(name, folder, half), self.run)}
        timed(self.run, 2)

    def load(self, name: str, folder: Path, half: bool):
        self.net = ncnn.Net()
        self.net.opt.use_vulkan_compute = True
        self.net.opt.use_fp16_packed = self.net.opt.use_fp16_storage = half
        self.net.opt.use_fp16_arithmetic = half
        self.net.load_param(str(folder / f"{name}.ncnn.param"))
        self.net.load_model(str(folder / f"{name}.ncnn.bin"))

    def run(self):
        extractor = self.net.create_extractor()
        extractor.input("in0", self.input)
        code, output = extractor.extract("out0")
        assert code == 0
        return np.array(output)

    def measure(self, runs: int) -> dict:
        return {"wall": timed(self.run, runs)}


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    def __init__(self, name: str, folder: Path, batch: int, threads: int):
        self.input = np.random.default_rng(0).random((batch, *SHAPE[1:]), dtype=np.float32)
        self.report = {"first_ms": first(lambda: self.load(folder / f"{name}.onnx", threads), self.run)}
        timed(self.run, 2)

    def load(self, path: Path, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self):
        return self.session.run(None, {self.session.get_inputs()[0].name: self.input})

    def measure(self, runs: int) -> dict:
        return {"wall": timed(self.run, runs)}


class OpenVino(OnnxRuntime):
    """OpenVINO on the CPU, in f32 even if the processor supports shorter floats."""

    def load(self, path: Path, threads: int):
        core = openvino.Core()
        model = core.read_model(path)
        model.reshape(self.input.shape)
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.request = core.compile_model(model, "CPU", options).create_infer_request()

    def run(self):
        return self.request.infer([self.input])


class Torch:
    """PyTorch on CUDA, channels last."""

    def __init__(self, name: str, batch: int, half: bool, compiled: bool):
        self.dtype = torch.float16 if half else torch.float32
        self.host = torch.rand(batch, *SHAPE[1:]).pin_memory()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        start = first(lambda: self.load(name, compiled), self.run)
        self.report = {"first_ms": start, "peak_bytes": torch.cuda.max_memory_allocated() - before}
        self.input = self.on_device()
        timed(self.run, 5)

    def load(self, name: str, compiled: bool):
        model = build(name).cuda().to(self.dtype).to(memory_format=torch.channels_last)
        self.model = torch.compile(model, mode="max-autotune") if compiled else model

    def on_device(self):
        return self.host.cuda(non_blocking=True).to(self.dtype, memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(self):
        return self.model(self.on_device()).float().cpu()

    @torch.inference_mode()
    def measure(self, runs: int) -> dict:
        wall = timed(self.run, runs)
        times = []
        for _ in range(runs):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            self.model(self.input)
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        return {"wall": wall, "gpu": statistics.median(times)}


def on_gpu(name: str, folder: Path, batch: int, f16: bool) -> dict:
    """The constructors of the programs that run on a graphics adapter."""
    def goldcrest(*options):
        return lambda: Goldcrest(name, folder, batch, "gpu", *options)

    wanted = {
        "goldcrest": goldcrest(),
        "goldcrest-none": goldcrest("--fuse", "none"),
        "goldcrest-block": goldcrest("--fuse", "block"),
        "burn-wgpu": lambda: Burn(name, batch),
    }
    if f16:
        wanted["goldcrest-f16"] = goldcrest("--precisions", "f16")
        wanted["goldcrest-block-f16"] = goldcrest("--precisions", "f16", "--fuse", "block")
    if batch == 1:
        wanted["ncnn-vulkan"] = lambda: Ncnn(name, folder)
        if f16:
            wanted["ncnn-vulkan-f16"] = lambda: Ncnn(name, folder, half=True)
    if torch.cuda.is_available():
        for half in (False, True):
            for compiled in (False, True):
                label = "torch" + ("-compiled" if compiled else "") + ("-f16" if half else "")
                wanted[label] = lambda half=half, compiled=compiled: Torch(name, batch, half, compiled)
    return wanted


def on_cpu(name: str, folder: Path, batch: int, threads: int) -> dict:
    """The constructors of the programs that run on the CPU with this number of threads."""
    return {
        f"goldcrest-cpu-{threads}": lambda: Goldcrest(name, folder, batch, "cpu", "--threads", threads),
        f"onnxruntime-cpu-{threads}": lambda: OnnxRuntime(name, folder, batch, threads),
        f"openvino-cpu-{threads}": lambda: OpenVino(name, folder, batch, threads),
    }


def peers(name: str, folder: Path, batch: int, args: argparse.Namespace) -> dict:
    """Starts all programs. A program that fails is skipped with a message."""
    wanted = {} if args.cpu_only else on_gpu(name, folder, batch, args.f16)
    for threads in args.threads:
        wanted |= on_cpu(name, folder, batch, threads)
    made = {}
    for label, make in wanted.items():
        try:
            made[label] = make()
            made[label].measure(1)
        except Exception as error:  # one failed program must not stop the others
            made.pop(label, None)
            print(f"{name}, batch {batch}: {label} is skipped: {str(error).splitlines()[:1]}", flush=True)
    return made


def ratios(median: dict) -> dict:
    """Goldcrest's wall time divided by each program's; on the CPU, with the same number of threads."""
    found = {}
    for label, of_peer in median.items():
        _, cpu, threads = label.partition("-cpu-")
        if ours := median.get(f"goldcrest{cpu}{threads}"):
            found[label] = ours["wall"] / of_peer["wall"]
    return found


def compare(name: str, folder: Path, batch: int, args: argparse.Namespace) -> dict:
    """Measures all programs in rounds; returns the times and their medians."""
    if args.tune and not args.cpu_only:
        for precision in ["f32", "f16"] if args.f16 else ["f32"]:
            tune(name, folder, batch, args.tune, precision)
    programs = peers(name, folder, batch, args)
    rounds = {label: [] for label in programs}
    for _ in range(args.rounds):
        for label, program in programs.items():
            rounds[label].append(program.measure(args.runs))
    median = {
        label: {clock: statistics.median(t[clock] for t in of_peer) for clock in of_peer[0]}
        for label, of_peer in rounds.items()
    }
    ratio = ratios(median)
    figures = ", ".join(
        f"{label} " + " / ".join(f"{clock} {ms:.3f}" for clock, ms in of_peer.items())
        for label, of_peer in median.items()
    )
    print(f"{name}, batch {batch}, ms: {figures}", flush=True)
    others = (f"{label} {r:.2f}" for label, r in ratio.items() if not label.startswith("goldcrest"))
    print(f"{name}, batch {batch}, Goldcrest's wall time divided by that of: {', '.join(others)}", flush=True)
    return {
        "network": name,
        "batch": batch,
        "ms": median,
        "wall_ratio": ratio,
        "turns_ms": rounds,
        "said": {label: program.report for label, program in programs.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=10, help="inferences per program and round")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=DEFAULT_NETWORKS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2], help="numbers of threads on the CPU")
    parser.add_argument("--cpu-only", action="store_true", help="skip the programs that run on graphics adapters")
    parser.add_argument("--f16", action="store_true", help="also measure f16 (always with CUDA)")
    parser.add_argument("--tune", type=int, default=0, help="seconds to tune each network first")
    parser.add_argument("--ncnn", type=Path, help="folder with ncnn's .param and .bin files, if pnnx is not installed")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    args.f16 |= torch.cuda.is_available()

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # A temporary cache, so that tuning results are not kept.
        os.environ["GOLDCREST_CACHE_DIR"] = str(folder / "cache")
        for file in args.ncnn.glob("*.ncnn.*") if args.ncnn else ():
            shutil.copy(file, folder)
        for name in args.networks:
            prepare(name, folder, args.cpu_only, args.threads)
        results = [compare(name, folder, batch, args) for name in args.networks for batch in args.batches]

    if args.out:
        report = {
            "date": date.today().isoformat(),
            "machine": {
                "processor": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            },
            "versions": {
                "ncnn": ncnn.__version__,
                "onnxruntime": onnxruntime.__version__,
                "openvino": openvino.__version__,
                "torch": torch.__version__,
            },
            "rounds": args.rounds,
            "runs_a_turn": args.runs,
            "results": results,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
