"""MobileNets on any GPU and on the CPU: classification, segmentation, detection and embeddings.

>>> import goldcrest
>>> session = goldcrest.load("demo:classify", device="cpu")
>>> session.classify("assets/demo/scene.png", top=1)
[Classification(index=5, label='star', probability=0.9508740305900574, value=4.672290802001953)]
"""

from ._goldcrest import DeviceLost, Error, Results, Session, __version__, adapters, draw_boxes, load
from .results import Adapter, Classification, ClassArea, Detection, Profile, Segmentation, Step

__all__ = [
    "Adapter",
    "ClassArea",
    "Classification",
    "Detection",
    "DeviceLost",
    "Error",
    "Profile",
    "Results",
    "Segmentation",
    "Session",
    "Step",
    "__version__",
    "adapters",
    "draw_boxes",
    "load",
]
