"""The native module. Its names are imported by the package."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Generic, Literal, Protocol, TypeVar, Union, final, overload

import numpy as np
from numpy.typing import NDArray

from .results import Adapter, Classification, Detection, Profile, Segmentation

__all__ = [
    "DeviceLost",
    "Error",
    "Results",
    "Session",
    "__version__",
    "adapters",
    "draw_boxes",
    "load",
    "overlay",
]

__version__: str

_Result = TypeVar("_Result", covariant=True)
_Setting = Union[str, int, float, bool, Sequence[Union[str, int, float]]]

class _Shared(Protocol):
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

class _PillowImage(Protocol):
    @property
    def mode(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def tobytes(self, *args: Any, **kwargs: Any) -> bytes: ...

_Image = Union[NDArray[np.uint8], _PillowImage, str, PathLike[str], bytes, bytearray, _Shared]
_Tensor = Union[NDArray[np.float32], _Shared]

class Error(RuntimeError):
    """An error with a checkpoint, a picture or a device."""

class DeviceLost(Error):
    """The device was lost: load the network again."""

def load(
    model: str | PathLike[str],
    device: str | int = "auto",
    *,
    arch: str | None = None,
    overrides: Mapping[str, _Setting] | None = None,
    labels: str | PathLike[str] | Sequence[str] | None = None,
    precision: str = "auto",
    batch: int = 1,
    threads: int | None = None,
    size: tuple[int, int] | None = None,
    max_pixels: int | None = None,
    max_memory: int | None = None,
) -> Session:
    """Opens a network.

    `model` is a checkpoint of safetensors or PyTorch, a folder with one, a model of the Hugging Face
    hub such as `timm/mobilenetv3_large_100.ra_in1k`, or `demo:classify`, `demo:segment` or
    `demo:detect`. A name of the form `owner/name` is looked up on the hub if no such file or folder exists.

    - `device`: `auto` (the best hardware graphics adapter, else the CPU), `gpu`, `cpu`, or an adapter's
      index or part of its name.
    - `arch`: the network's name in its library, such as `torchvision/mobilenet_v2`, if the checkpoint
      does not show it.
    - `overrides`: settings that tensors do not show, as the program's `--set`: `{"stem_stride": 1}`.
    - `labels`: the names of the classes, or a file with them.
    - `precision`: `f32`, `f16`, or `auto`: f16 if `goldcrest tune` found it faster and accurate enough.
    - `batch`: pictures per run on a GPU. On the CPU each thread runs one picture.
    - `threads`: threads that decode, preprocess and, on the CPU, run pictures; one per core by default.
    - `size`: rows and columns of a segmenter's input.
    - `max_pixels`: the most pixels that a picture file may have. `max_memory`: the most bytes of memory for
      decoding it.
    """

def adapters() -> list[Adapter]:
    """The machine's graphics adapters."""

def overlay(
    image: _Image, labels: NDArray[np.uint8], names: Sequence[tuple[int, str | None]], legend: bool
) -> NDArray[np.uint8]: ...
def draw_boxes(image: _Image, detections: Sequence[Detection]) -> NDArray[np.uint8]:
    """Draws the boxes, labels and scores of detections over their picture."""

@final
class Results(Generic[_Result]):
    """An iterator over results, in the order of the pictures. One thread at a time may use it."""

    def __iter__(self) -> Iterator[_Result]: ...
    def __next__(self) -> _Result: ...

@final
class Session:
    """A network, ready to run on a device. `load` creates it.

    Threads may share a session: calls run one after another, without the interpreter's lock. The
    iterators of the methods `..._all` run concurrently.
    """

    @property
    def network(self) -> str:
        """The network's name in its library, such as `torchvision/mobilenet_v2`."""
    @property
    def task(self) -> Literal["classify", "segment", "detect", "embed"]:
        """The network's task: `classify`, `segment`, `detect` or `embed`."""
    @property
    def device(self) -> str:
        """A description of the device."""
    @property
    def backend(self) -> Literal["gpu", "cpu"]:
        """The kind of the device: `gpu` or `cpu`."""
    @property
    def threads(self) -> int:
        """The number of threads that decode, preprocess and, on the CPU, run pictures."""
    @property
    def classes(self) -> list[str | None]:
        """The names of the classes, by index; None for those without a name."""
    @property
    def input_size(self) -> tuple[int, int]:
        """Rows and columns of the network's input."""
    @property
    def notes(self) -> list[str]:
        """What was assumed about the checkpoint, or ignored in it."""
    @property
    def warnings(self) -> list[str]:
        """Doubtful assumptions about the checkpoint."""
    # A string is also an iterable of strings, and an array with a batch dimension gives a list, which types do not
    # show: `classify_all` takes it too.
    @overload
    def classify(self, images: _Image, top: int = 5) -> list[Classification]:  # type: ignore[overload-overlap]
        """The `top` most likely classes of a picture, the most likely first; a list of such lists for several
        pictures.

        A picture is an array of uint8, rows x columns, or with 1, 3 (RGB) or 4 channels last, a Pillow
        image, a path, the bytes of a picture's file, or an object with `__dlpack__` or `__array__`. Alpha
        is ignored. Several pictures are a list or another iterable, or an array with a batch dimension
        first; they are decoded and preprocessed on all cores during inference.
        """
    @overload
    def classify(self, images: Iterable[_Image], top: int = 5) -> list[list[Classification]]: ...
    @overload
    def classify_all(
        self, images: Iterable[_Image], top: int = 5, *, on_error: Literal["raise"] = "raise"
    ) -> Results[list[Classification]]:
        """An iterator over the results of `classify` for the pictures of an iterable.

        It reads a few pictures ahead, in the thread that calls it. With `on_error="return"`, the exception
        of a picture that cannot be read takes the place of its result; by default it is raised, and the
        iterator can go on.
        """
    @overload
    def classify_all(
        self, images: Iterable[_Image], top: int = 5, *, on_error: Literal["return"]
    ) -> Results[list[Classification] | Exception]: ...
    @overload
    def segment(self, images: _Image) -> Segmentation:  # type: ignore[overload-overlap]
        """The class of each pixel of a picture, or of each of several; see `classify`."""
    @overload
    def segment(self, images: Iterable[_Image]) -> list[Segmentation]: ...
    @overload
    def segment_all(self, images: Iterable[_Image], *, on_error: Literal["raise"] = "raise") -> Results[Segmentation]:
        """An iterator over the results of `segment`; see `classify_all`."""
    @overload
    def segment_all(
        self, images: Iterable[_Image], *, on_error: Literal["return"]
    ) -> Results[Segmentation | Exception]: ...
    @overload
    def detect(self, images: _Image, min_score: float = 0.5) -> list[Detection]:  # type: ignore[overload-overlap]
        """The objects in a picture with a score of at least `min_score`, the highest first, or in each of
        several; see `classify`.
        """
    @overload
    def detect(self, images: Iterable[_Image], min_score: float = 0.5) -> list[list[Detection]]: ...
    @overload
    def detect_all(
        self, images: Iterable[_Image], min_score: float = 0.5, *, on_error: Literal["raise"] = "raise"
    ) -> Results[list[Detection]]:
        """An iterator over the results of `detect`; see `classify_all`."""
    @overload
    def detect_all(
        self, images: Iterable[_Image], min_score: float = 0.5, *, on_error: Literal["return"]
    ) -> Results[list[Detection] | Exception]: ...
    def embed(self, images: _Image | Iterable[_Image], normalize: bool = False) -> NDArray[np.float32]:
        """The embedding of a picture: the vector that enters the classifier. For several pictures, an array with
        one row for each; see `classify`.

        `normalize` scales vectors to unit length.
        """
    @overload
    def embed_all(
        self, images: Iterable[_Image], normalize: bool = False, *, on_error: Literal["raise"] = "raise"
    ) -> Results[NDArray[np.float32]]:
        """An iterator over the results of `embed`; see `classify_all`."""
    @overload
    def embed_all(
        self, images: Iterable[_Image], normalize: bool = False, *, on_error: Literal["return"]
    ) -> Results[NDArray[np.float32] | Exception]: ...
    def run(self, tensor: _Tensor) -> Any:
        """The network's output for a normalised tensor of float32, `[pictures, channels, rows, columns]`.

        It is `[pictures, classes]` for a classifier and `[pictures, classes, rows, columns]` for a
        segmenter. A detector gives a dict of `boxes`, `scores`, `labels` and `pictures`, in pixels of the
        input. Objects with `__dlpack__` in the CPU's memory, such as PyTorch's tensors, are copied once, into
        the library's input; no NumPy array is made first.
        """
    def features(self, tensor: _Tensor) -> dict[str, NDArray[np.float32]]:
        """The last feature map of each stride for a normalised tensor, by the name of its module; see `run`."""
    def profile(self, batch: int | None = None, seconds: float = 1.0) -> Profile:
        """Measures the network and each of its steps, each for at least `seconds`."""
