"""Goldcrest beside its peers on one machine, in alternating rounds.

    python -m venv venv
    venv/bin/pip install torch torchvision safetensors ncnn pnnx onnxruntime onnx onnxscript
    cargo build --release --example latency
    venv/bin/python benches/compare.py --rounds 5 --out benches/runs/DATE-MACHINE.json

Makes torchvision's networks with seeded weights, gives each peer the same weights in its own
format, and lets them take turns: a round times every program once, some inferences each, so
that what slows the machine slows all of them. Quoted are the median over rounds of each
program's median, and the ratio of those. Batch 1, 224x224, f32, from a tensor in memory to
logits in memory. Goldcrest and ncnn use the same Vulkan adapter; ONNX Runtime uses the CPU.
"""

import argparse
import json
import os
import platform
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
import torch
import torchvision
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]
SHAPE = (1, 3, 224, 224)


def prepare(name: str, folder: Path) -> None:
    """The network's weights as safetensors, ncnn's param and bin, and ONNX."""
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None).eval()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / f"{name}.safetensors")
    picture = torch.rand(SHAPE)
    torch.onnx.export(model, (picture,), folder / f"{name}.onnx", dynamo=True, verbose=False)
    torch.jit.trace(model, picture).save(folder / f"{name}.pt")
    pnnx = Path(sys.executable).with_name("pnnx")
    shape = "inputshape=" + str(list(SHAPE)).replace(" ", "")
    subprocess.run([pnnx, f"{name}.pt", shape, "fp16=0"], cwd=folder, check=True, capture_output=True)


def timed(run, runs: int) -> float:
    """The median of `runs` runs, in milliseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


class Goldcrest:
    """A process a turn: its start, compilation and first run are not counted."""

    def __init__(self, name: str, folder: Path):
        program = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/examples/latency"
        self.command = [program, folder / f"{name}.safetensors", f"torchvision/{name}"]
        self.steps = None

    def turn(self, runs: int) -> float:
        output = subprocess.run([*self.command, str(runs)], check=True, capture_output=True, text=True)
        answer = json.loads(output.stdout)
        self.steps, self.adapter = answer["steps"], answer["adapter"]
        return answer["wall_ms"]["median"]


class Ncnn:
    """ncnn's Vulkan backend in f32."""

    def __init__(self, name: str, folder: Path):
        self.net = ncnn.Net()
        self.net.opt.use_vulkan_compute = True
        self.net.opt.use_fp16_packed = self.net.opt.use_fp16_storage = self.net.opt.use_fp16_arithmetic = False
        self.net.load_param(str(folder / f"{name}.ncnn.param"))
        self.net.load_model(str(folder / f"{name}.ncnn.bin"))
        self.input = ncnn.Mat(np.random.default_rng(0).random(SHAPE[1:], dtype=np.float32))
        timed(self.run, 2)

    def run(self):
        extractor = self.net.create_extractor()
        extractor.input("in0", self.input)
        code, output = extractor.extract("out0")
        assert code == 0
        return np.array(output)

    def turn(self, runs: int) -> float:
        return timed(self.run, runs)


class OnnxRuntime:
    """ONNX Runtime on the CPU with its default threads."""

    def __init__(self, name: str, folder: Path):
        self.session = onnxruntime.InferenceSession(
            folder / f"{name}.onnx", providers=["CPUExecutionProvider"]
        )
        self.feed = {self.session.get_inputs()[0].name: np.random.default_rng(0).random(SHAPE, dtype=np.float32)}
        timed(self.run, 2)

    def run(self):
        return self.session.run(None, self.feed)

    def turn(self, runs: int) -> float:
        return timed(self.run, runs)


PEERS = {"goldcrest": Goldcrest, "ncnn-vulkan": Ncnn, "onnxruntime-cpu": OnnxRuntime}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=10, help="inferences a turn")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--out", type=Path, help="where to keep the figures")
    args = parser.parse_args()

    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in args.networks:
            prepare(name, folder)
            peers = {peer: make(name, folder) for peer, make in PEERS.items()}
            turns = {peer: [] for peer in peers}
            for _ in range(args.rounds):
                for peer, program in peers.items():
                    turns[peer].append(program.turn(args.runs))
            median = {peer: statistics.median(times) for peer, times in turns.items()}
            ratio = median["goldcrest"] / median["ncnn-vulkan"]
            results.append(
                {
                    "network": name,
                    "steps": peers["goldcrest"].steps,
                    "adapter": peers["goldcrest"].adapter,
                    "wall_ms": median,
                    "turns_ms": turns,
                    "goldcrest_over_ncnn": ratio,
                }
            )
            figures = ", ".join(f"{peer} {ms:.1f} ms" for peer, ms in median.items())
            print(f"{name}: {figures}; goldcrest / ncnn {ratio:.2f}", flush=True)

    if args.out:
        report = {
            "date": date.today().isoformat(),
            "machine": {"processor": platform.processor() or platform.machine(), "cores": torch.get_num_threads()},
            "versions": {
                "ncnn": ncnn.__version__,
                "onnxruntime": onnxruntime.__version__,
                "torchvision": torchvision.__version__,
            },
            "rounds": args.rounds,
            "runs_a_turn": args.runs,
            "results": results,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
