"""The types of results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from . import _goldcrest


@dataclass(frozen=True)
class Classification:
    """A class and its probability."""

    index: int
    """Its index in the network's output."""
    label: Optional[str]
    """Its name, if known."""
    probability: Optional[float]
    """Its probability, 0 to 1: a softmax, or a sigmoid for independent classes. None if the network's outputs are
    plain values, as in a regression."""
    value: float
    """The network's output for the class."""


@dataclass(frozen=True)
class Detection:
    """An object in a picture."""

    index: int
    """The index of its class in the network's output."""
    label: Optional[str]
    """The name of its class, if known."""
    score: float
    """The network's confidence, 0 to 1."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom, in pixels of the picture."""


@dataclass(frozen=True)
class ClassArea:
    """A class and the part of a picture that it covers."""

    index: int
    """Its index in the network's output."""
    label: Optional[str]
    """Its name, if known."""
    pixels: int
    """The number of pixels."""
    share: float
    """Its share of all pixels, 0 to 1."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of each pixel of a picture."""

    labels: NDArray[np.uint8]
    """The index of each pixel's class: rows x columns of the picture."""
    classes: list[ClassArea]
    """The classes that occur, the largest first."""

    def overlay(self, image: Any, legend: bool = True) -> NDArray[np.uint8]:
        """Draws the classes over the picture, given as for `Session.segment`. A legend below it lists the classes."""
        named = [(area.index, area.label) for area in self.classes]
        return _goldcrest.overlay(image, self.labels, named, legend)

    def __repr__(self) -> str:
        rows, columns = self.labels.shape
        found = ", ".join(f"{area.label or area.index}: {area.share:.1%}" for area in self.classes)
        return f"Segmentation({columns} x {rows}, {found})"


@dataclass(frozen=True)
class Adapter:
    """A graphics adapter."""

    index: int
    """Its index, for `load(device=...)`."""
    name: str
    """Its name; a part of it also selects it."""
    backend: str
    """`vulkan`, `metal`, `dx12` or `gl`."""
    driver: str
    """The driver and its version."""
    kind: str
    """`discrete`, `integrated`, `virtual`, `cpu` or `other`."""
    software: bool
    """True if it computes on the CPU."""


@dataclass(frozen=True)
class Step:
    """A step of a network: one kernel, which computes one or more layers."""

    name: str
    """The first of its layers."""
    layers: list[str]
    """Its layers, named after the source library's modules."""
    kernel: str
    """The kernel."""
    shape: tuple[int, int, int, int]
    """The shape of its output: pictures, channels, rows, columns."""
    macs: int
    """Multiply-adds."""
    bytes: int
    """The bytes of its inputs, outputs and weights."""
    ms: Optional[float]
    """The median of its milliseconds; None if steps cannot be measured."""


@dataclass(frozen=True)
class Profile:
    """The time of a network on a device, and of its steps."""

    ms: float
    """The median of the milliseconds of an inference, from the input tensor to the output tensor."""
    gpu_ms: Optional[float]
    """The median of the milliseconds on the GPU, by its timestamps; None on the CPU or without timestamps."""
    steps: list[Step]
    """The steps, in the order in which they run."""
