from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import goldcrest

REPOSITORY = Path(__file__).resolve().parents[3]
SCENE = REPOSITORY / "assets/demo/scene.png"


@pytest.fixture(scope="session")
def classifier():
    return goldcrest.load("demo:classify", device="cpu")


@pytest.fixture(scope="session")
def segmenter():
    return goldcrest.load("demo:segment", device="cpu")


@pytest.fixture(scope="session")
def detector():
    return goldcrest.load("demo:detect", device="cpu")


@pytest.fixture(scope="session")
def scene():
    """The demo's scene: rows x columns x RGB."""
    return np.asarray(Image.open(SCENE).convert("RGB"))
