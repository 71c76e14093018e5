"""MobileNets on any GPU and on the CPU: classification, segmentation, detection and embeddings.

>>> import goldcrest
>>> session = goldcrest.load("demo:classify", device="cpu")
>>> session.classify("scene.png", top=1)
[Classification(index=9, label='star', probability=0.95, value=7.9)]
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
