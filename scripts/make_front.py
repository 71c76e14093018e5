#!/usr/bin/env python3
"""Draws the picture at the top of README.md from the program's output: a photograph with its classes, and the demo.

    python -m venv venv && venv/bin/pip install pillow scikit-image
    cargo build --release
    venv/bin/python scripts/make_front.py --weights mobilenet_v2-b0353104.pth    # torchvision's
"""

import argparse
import io
import json
import subprocess
import tempfile
from pathlib import Path

import skimage
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
WIDTH, GAP, PAPER, TEXT, BAR = 1200, 16, (24, 24, 27), (236, 236, 240), (250, 160, 70)


def goldcrest(*arguments) -> str:
    command = [ROOT / "target/release/goldcrest", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def with_classes(photograph: Image.Image, classes: list[dict], size: tuple[int, int]) -> Image.Image:
    """The middle of the photograph, with its most likely classes on a dark panel."""
    scale = max(to / of for to, of in zip(size, photograph.size))
    scaled = photograph.resize([round(scale * side) for side in photograph.size], Image.Resampling.LANCZOS)
    left, top = ((of - to) // 2 for to, of in zip(size, scaled.size))
    drawn = scaled.crop((left, top, left + size[0], top + size[1]))
    font, line, width = ImageFont.load_default(17), 27, 300
    box = (GAP, size[1] - GAP - line * len(classes) - 14, GAP + width, size[1] - GAP)
    panel = Image.new("RGB", (width, box[3] - box[1]), PAPER)
    drawn.paste(Image.blend(drawn.crop(box), panel, 0.85), box)
    pen = ImageDraw.Draw(drawn)
    for i, found in enumerate(classes):
        y = box[1] + 7 + line * i
        pen.text((box[0] + 12, y), found["label"], TEXT, font)
        pen.text((box[2] - 12, y), f"{100 * found['probability']:.1f}%", TEXT, font, anchor="ra")
        pen.rectangle((box[0] + 12, y + 22, box[0] + 12 + found["probability"] * (width - 24), y + 24), BAR)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="torchvision's weights of MobileNetV2")
    parser.add_argument("--out", type=Path, default=ROOT / "assets/front.jpg")
    arguments = parser.parse_args()
    photograph = Image.fromarray(skimage.data.coffee())
    with tempfile.TemporaryDirectory() as folder:
        picture, demo = Path(folder) / "coffee.png", Path(folder) / "demo.png"
        photograph.save(picture)
        found = goldcrest("classify", picture, "--weights", arguments.weights, "--top", 4, "--json")
        [report] = json.loads(found)["pictures"]
        goldcrest("demo", "--out", demo)
        demo = Image.open(io.BytesIO(demo.read_bytes())).convert("RGB")
    left = (WIDTH - demo.width - 3 * GAP, demo.height)
    front = Image.new("RGB", (WIDTH, demo.height + 2 * GAP), PAPER)
    front.paste(with_classes(photograph, report["classes"], left), (GAP, GAP))
    front.paste(demo, (left[0] + 2 * GAP, GAP))
    front.save(arguments.out, quality=88, optimize=True)


if __name__ == "__main__":
    main()
