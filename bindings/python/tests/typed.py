"""A small program that mypy checks."""

from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import goldcrest

session: goldcrest.Session = goldcrest.load("demo:classify", device="cpu", overrides=None, threads=2)
other = goldcrest.load(Path("folder"), 0, arch="torchvision/mobilenet_v2", overrides={"size": 96, "mean": [0.5, 0.5, 0.5]})

picture: NDArray[np.uint8] = np.zeros((8, 8, 3), np.uint8)
classes: list[goldcrest.Classification] = session.classify(picture, top=2)
label: Optional[str] = session.classify("photo.jpg")[0].label
probability: Optional[float] = session.classify(Path("photo.jpg"))[0].probability
of_pillow: list[goldcrest.Classification] = session.classify(Image.new("RGB", (8, 8)))
several: list[list[goldcrest.Classification]] = session.classify(["a.jpg", picture, b"bytes"])
files: list[list[goldcrest.Classification]] = session.classify(Path("photos").glob("*.jpg"))

for result in session.classify_all(["a.jpg"], top=1):
    index: int = result[0].index
for answer in session.detect_all(picture for _ in range(3)):
    left, top, right, bottom = answer[0].box
for maybe in session.segment_all(["a.jpg"], on_error="return"):
    if not isinstance(maybe, Exception):
        labels: NDArray[np.uint8] = maybe.labels

overlay: NDArray[np.uint8] = session.segment(picture).overlay(picture)
boxes: NDArray[np.uint8] = goldcrest.draw_boxes(picture, session.detect(picture, min_score=0.3))
vectors: NDArray[np.float32] = session.embed([picture, picture], normalize=True)
maps: dict[str, NDArray[np.float32]] = session.features(np.zeros((1, 3, 64, 64), np.float32))
slowest: goldcrest.Step = max(session.profile().steps, key=lambda step: step.ms or 0)
names: list[Optional[str]] = session.classes
rows, columns = session.input_size
adapters: list[goldcrest.Adapter] = goldcrest.adapters()
try:
    session.classify(5)  # type: ignore[call-overload]
    goldcrest.load("demo:classify", colour="red")  # type: ignore[call-arg]
except goldcrest.DeviceLost as error:
    base: goldcrest.Error = error
